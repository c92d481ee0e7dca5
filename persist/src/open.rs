//! Opening a data directory: its manifest is read or made, every log recovered, and a store stands on each.

use std::sync::Arc;

use crate::config::{Options, SyncMode};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::index::logs::ShardLog;
use crate::index::{Feed, Logs, TruthOfShard};
use crate::limits::SPARE_COUNT;
use crate::log::catalog::Catalog;
use crate::log::recovery::{LogRead, Mend, read_log};
use crate::log::segment::{Blank, LogId, epoch_folder};
use crate::log::supply::Supply;
use crate::log::{Beginning, Log};
use crate::manifest::Manifest;
use crate::record::decode::View;
use crate::record::{MessageId, Record, Session, SessionNo};
use crate::rehome::rehome;
use crate::report::{Damage, Phase, Progress, Recovered, Report};
use crate::state::{Closing, State};
use crate::store::Store;
use crate::sync::{Backstage, DiskSide};

/// Opens a data directory: recovers all logs, re-homes them if the number of shards has changed, and makes a store for each
/// shard. Blocks for as long as it takes.
///
/// # Errors
/// See [`OpenError`]. Torn ends and damage are no errors; [`Report`] has them.
///
/// # Panics
/// For no shards.
pub fn open(
    disk: Arc<dyn Disk>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Opened, OpenError> {
    assert!(options.shard_count > 0, "a process has at least one shard");
    let mut report = Report::default();
    let manifest = match Manifest::read(&*disk)? {
        Some(manifest) => manifest,
        None => begin_epoch(&*disk, 1, options.shard_count)?,
    };
    remove_other_epochs(&*disk, &manifest)?;
    let manifest = if manifest.shard_count == options.shard_count {
        manifest
    } else {
        report.rehomed_from = Some(manifest.shard_count);
        rehome(&disk, &manifest, options, &mut report, progress)?
    };
    let logs: Vec<_> =
        (0..manifest.shard_count).map(|shard| LogId::new(manifest.epoch, manifest.key, shard)).collect();
    for log in &logs {
        report.damaged.extend(make_missing_folder(&*disk, log)?);
    }
    let reads = read_logs(&*disk, &logs, options.sync_mode, progress)?;
    let sides = Sides::start(options.sync_mode)?;
    let mut opened = Opening { options, stores: Vec::new(), recovered: Vec::new(), report, logs: Vec::new() };
    for (log, read) in logs.into_iter().zip(reads) {
        let backstage = sides.backstage(DiskSide::new(Arc::clone(&disk), log))?;
        opened.add(backstage, read)?;
    }
    opened.drop_taken_of_ended();
    let Opening { stores, recovered, report, logs, .. } = opened;
    Ok(Opened { stores, recovered, report, logs: Logs::new(disk, manifest, logs) })
}

/// Writes all logs anew, without what nobody needs any more, for as many shards as they are for. Needs room for the new ones beside
/// the old; a crash leaves the one or the other. `None` in a directory that was never used. Blocks for as long as it takes.
///
/// # Errors
/// See [`OpenError`]; the directory is then as it was.
pub fn compact(
    disk: &Arc<dyn Disk>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Report>, OpenError> {
    let Some(manifest) = Manifest::read(&**disk)? else { return Ok(None) };
    remove_other_epochs(&**disk, &manifest)?;
    let options = Options { shard_count: manifest.shard_count, ..options.clone() };
    let mut report = Report::default();
    rehome(disk, &manifest, &options, &mut report, progress)?;
    Ok(Some(report))
}

/// An open data directory, one entry per shard, in the order of shards.
#[derive(Debug)]
pub struct Opened {
    /// The stores, each for its shard's thread.
    pub stores: Vec<Store>,
    /// What each shard begins with.
    pub recovered: Vec<Recovered>,
    /// What was found.
    pub report: Report,
    /// The logs as they were read, for an index to be compared with.
    pub logs: Logs,
}

/// A data directory while it is opened.
struct Opening<'a> {
    options: &'a Options,
    stores: Vec<Store>,
    recovered: Vec<Recovered>,
    report: Report,
    logs: Vec<ShardLog>,
}

/// What one log says.
pub(crate) struct ShardRead {
    /// Its records, added up.
    pub state: State,
    /// Its segments and the places of its messages, without holders.
    pub catalog: Catalog,
    /// The rest.
    pub read: LogRead,
}

impl ShardRead {
    /// Reads a log. `step` hears of bytes as they are read.
    pub(crate) fn of(disk: &dyn Disk, log: &LogId, step: &mut dyn FnMut(u64)) -> Result<Self, OpenError> {
        let mut state = State::default();
        let mut catalog = Catalog::default();
        let mut segment = 0;
        let read = read_log(disk, log, Mend::Yes, &mut |at, view| {
            if at.segment != segment {
                segment = at.segment;
                catalog.begin(segment, 0);
            }
            let bytes = u64::try_from(at.header.frame_bytes()).unwrap_or(u64::MAX);
            step(bytes);
            match &view {
                View::Published(published) => catalog.add_published(published.id(), at.offset, bytes, 0),
                View::Other(record) if is_state(record) => catalog.add_state(bytes),
                View::Other(_) => {}
            }
            state.apply(view);
        })?;
        catalog.note_files(&read.segments);
        Ok(Self { state, catalog, read })
    }

    /// Counts who needs which message.
    pub(crate) fn count_holders(&mut self, sessions: &[Box<Session>]) {
        for session in sessions {
            let sent = session.outgoing.iter().filter_map(|out| out.message);
            for id in sent.chain(session.queue.iter().copied()) {
                // One whose record was lost to damage has no place; the session is told when it asks.
                self.catalog.hold(id);
            }
        }
        self.catalog.prune();
    }

    /// The log as the index will be compared with it. Before sessions are taken out.
    fn as_log(&self, shard: u16) -> ShardLog {
        let read = &self.read;
        let truth = TruthOfShard { shard, first: read.first_seq, last: read.last_seq, sum: self.state.sum() };
        ShardLog { truth, oldest: read.segments.first().map(|segment| segment.number) }
    }

    /// The highest count in any session number that was ever given.
    pub(crate) fn session_max(&self) -> u64 {
        self.state.session_max.max(self.read.next_session.saturating_sub(1)) + self.lost_records()
    }

    /// The highest message name that was ever given.
    pub(crate) fn message_max(&self) -> u64 {
        self.state.message_max.max(self.read.next_message.saturating_sub(1)) + self.lost_records()
    }

    /// Each record that is lost to damage may have given a name that others still use.
    fn lost_records(&self) -> u64 {
        self.read.damaged.iter().map(|damage| damage.lost_records).sum()
    }
}

impl Report {
    /// Adds what reading a log has found.
    pub(crate) fn add_read(&mut self, read: &mut LogRead) {
        self.segments += u64::try_from(read.segments.len()).unwrap_or(u64::MAX);
        self.bytes += read.bytes;
        self.records += read.records;
        self.torn.extend(read.torn.take());
        self.damaged.append(&mut read.damaged);
    }
}

impl Opening<'_> {
    fn add(&mut self, backstage: Backstage, mut shard: ShardRead) -> Result<(), OpenError> {
        let options = self.options;
        let index = backstage.side().log.shard;
        self.logs.push(shard.as_log(index));
        let closing = shard.state.close(options.now_ms);
        let sessions = shard.state.take_sessions();
        let retained = shard.state.take_retained();
        let taken = shard.state.take_taken();
        let namesakes = std::mem::take(&mut shard.state.namesakes);
        shard.count_holders(&sessions);
        let (session_max, message_max) = (shard.session_max(), shard.message_max());
        self.report.add_read(&mut shard.read);
        self.add_counts(&sessions, &closing);
        self.report.retained += u64::try_from(retained.len()).unwrap_or(u64::MAX);
        self.report.messages += shard.catalog.message_count();
        let log = begin_log(backstage, shard, session_max, message_max, options)?;
        let mut store = Store::new(log, options.fetch_cache_bytes);
        end_sessions(&mut store, closing.expired.iter().chain(&namesakes))?;
        end_connections(&mut store, &sessions, &closing, options)?;
        store.count_from_here();
        self.stores.push(store);
        self.recovered.push(Recovered {
            sessions,
            retained,
            taken,
            next_session: SessionNo::of_shard(index, session_max + 1),
            next_message: MessageId(message_max + 1),
        });
        Ok(())
    }

    /// A session that has ended sends nothing again. Its shard told the others so, but they may have gone down before they wrote
    /// that.
    fn drop_taken_of_ended(&mut self) {
        let mut all: Vec<_> =
            self.recovered.iter_mut().map(|shard| std::mem::take(&mut shard.taken)).collect();
        for taken in &mut all {
            taken.retain(|(session, _)| self.recovered.iter().any(|shard| shard.has_session(*session)));
        }
        for (shard, taken) in self.recovered.iter_mut().zip(all) {
            shard.taken = taken;
        }
    }

    fn add_counts(&mut self, sessions: &[Box<Session>], closing: &Closing) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.report.sessions += count(sessions.len());
        self.report.queued += sessions.iter().map(|session| count(session.queue.len())).sum::<u64>();
        self.report.cut_off_sessions += count(closing.cut_off.len());
        self.report.expired_sessions += count(closing.expired.len());
    }
}

/// Makes the folders of a new epoch and a manifest that says so.
fn begin_epoch(disk: &dyn Disk, epoch: u64, shard_count: u16) -> Result<Manifest, OpenError> {
    let manifest = new_epoch(disk, epoch, shard_count)?;
    manifest.write(disk)?;
    Ok(manifest)
}

/// Makes the folders of a new epoch. It does not hold before its manifest is written.
pub(crate) fn new_epoch(disk: &dyn Disk, epoch: u64, shard_count: u16) -> Result<Manifest, OpenError> {
    let key = disk.random().map_err(OpenError::io("draw a key for", "manifest"))?;
    let folder = epoch_folder(epoch);
    disk.remove(&folder).map_err(OpenError::io("remove", &folder))?;
    for shard in 0..shard_count {
        let log = LogId::new(epoch, key, shard);
        disk.make_folder(&log.folder).map_err(OpenError::io("make the folder", &log.folder))?;
    }
    disk.sync_folder(&folder).map_err(OpenError::io("sync the folder", &folder))?;
    disk.sync_folder("").map_err(OpenError::io("sync the folder", "."))?;
    Ok(Manifest { epoch, key, shard_count })
}

/// A log's folder was durable before the manifest named its epoch: one that is missing was lost, with all that was in it.
fn make_missing_folder(disk: &dyn Disk, log: &LogId) -> Result<Option<Damage>, OpenError> {
    let (epoch, name) = log.folder.rsplit_once('/').expect("a log's folder is in that of its epoch");
    let entries = disk.list(epoch).map_err(OpenError::io("list", epoch))?;
    if entries.iter().any(|entry| entry.is_folder && entry.name == name) {
        return Ok(None);
    }
    disk.make_folder(&log.folder).map_err(OpenError::io("make the folder", &log.folder))?;
    for folder in [epoch, ""] {
        disk.sync_folder(folder).map_err(OpenError::io("sync the folder", folder))?;
    }
    Ok(Some(Damage { path: log.folder.clone(), offset: 0, bytes: 0, lost_records: 0, kept_as: None }))
}

/// Removes what an unfinished or finished re-homing has left.
fn remove_other_epochs(disk: &dyn Disk, manifest: &Manifest) -> Result<(), OpenError> {
    let current = epoch_folder(manifest.epoch);
    for entry in disk.list("").map_err(OpenError::io("list", "."))? {
        if entry.is_folder && entry.name.starts_with("epoch-") && entry.name != current {
            disk.remove(&entry.name).map_err(OpenError::io("remove", &entry.name))?;
        }
    }
    Ok(())
}

/// A log upon what was read of it, with its first segment made.
pub(crate) fn begin_log(
    backstage: Backstage,
    shard: ShardRead,
    session_max: u64,
    message_max: u64,
    options: &Options,
) -> Result<Log, OpenError> {
    let ShardRead { mut catalog, read, .. } = shard;
    let segment_bytes = options.segment_bytes;
    let number = read.segment_max + 1;
    let (mut leftovers, foreign): (Vec<_>, Vec<_>) =
        read.blanks.into_iter().partition(|(_, bytes)| *bytes == segment_bytes);
    let DiskSide { disk, log, .. } = backstage.side();
    let reused = leftovers.pop();
    let blank = match reused {
        Some((old, _)) => Blank::recycle(&**disk, log, old, number),
        None => Blank::make(&**disk, log, number, segment_bytes),
    };
    let blank = blank.map_err(|error| no_room(&**disk, log, segment_bytes, error))?;
    let surplus = leftovers.split_off(leftovers.len().min(SPARE_COUNT));
    let unused = foreign.into_iter().chain(surplus).map(|(number, _)| number);
    for number in unused.chain(catalog.take_unread()) {
        let path = log.path(number);
        disk.remove(&path).map_err(OpenError::io("remove", &path))?;
    }
    let feed = options.index.clone().map(|line| Feed::new(log.shard, line));
    let quota_bytes = options.quota_bytes.map(|quota| quota / u64::from(options.shard_count));
    Ok(Log::begin(Beginning {
        catalog,
        blank,
        supply: Supply::new(number + 1, segment_bytes, quota_bytes),
        last_seq: read.last_seq,
        session_max,
        message_max,
        segment_bytes,
        leftovers: leftovers.into_iter().map(|(number, _)| number).collect(),
        feed,
        backstage,
    }))
}

fn no_room(disk: &dyn Disk, log: &LogId, needed_bytes: u64, error: std::io::Error) -> OpenError {
    use std::io::ErrorKind;
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return OpenError::NoRoom { needed_bytes, free_bytes: disk.free_bytes().unwrap_or(0) };
    }
    OpenError::io("make a segment in", &log.folder)(error)
}

/// Records that sessions which this start drops have ended, so that neither a clock that goes back nor an index finds them again.
fn end_sessions<'a>(
    store: &mut Store,
    sessions: impl Iterator<Item = &'a SessionNo>,
) -> Result<(), OpenError> {
    for session in sessions {
        let record = Record::SessionEnded { session: *session };
        store.write(&record).map_err(|error| OpenError::Append { source: error })?;
    }
    Ok(())
}

/// Records that the connections which the last run left open have ended: a second crash does not make their sessions younger.
fn end_connections(
    store: &mut Store,
    sessions: &[Box<Session>],
    closing: &Closing,
    options: &Options,
) -> Result<(), OpenError> {
    for session in sessions {
        if closing.cut_off.binary_search(&session.session).is_err() {
            continue;
        }
        let record = Record::Detached {
            session: session.session,
            at_ms: options.now_ms,
            expiry_seconds: session.expiry_seconds,
            keeps_will: session.will.is_some(),
        };
        store.write(&record).map_err(|error| OpenError::Append { source: error })?;
    }
    Ok(())
}

const fn is_state(record: &Record) -> bool {
    matches!(
        record,
        Record::Session(_)
            | Record::Attached(_)
            | Record::Detached { .. }
            | Record::Subscribed { .. }
            | Record::Sent { .. }
            | Record::Received { .. }
            | Record::Arrived { .. }
            | Record::Retained(_)
    )
}

/// Reads all logs, side by side where there are threads for it.
pub(crate) fn read_logs(
    disk: &dyn Disk,
    logs: &[LogId],
    sync_mode: SyncMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<ShardRead>, OpenError> {
    let mut total_bytes = 0;
    for log in logs {
        let files = disk.list(&log.folder).map_err(OpenError::io("list", &log.folder))?;
        total_bytes += files.iter().map(|file| file.bytes).sum::<u64>();
    }
    let mut done_bytes = 0;
    let mut told_bytes = 0;
    let mut step = |bytes: u64| {
        done_bytes += bytes;
        if done_bytes - told_bytes >= PROGRESS_BYTES {
            told_bytes = done_bytes;
            progress(Progress { phase: Phase::Reading, done_bytes, total_bytes });
        }
    };
    match sync_mode {
        SyncMode::Manual => logs.iter().map(|log| ShardRead::of(disk, log, &mut step)).collect(),
        #[cfg(feature = "files")]
        SyncMode::Threads => crate::sync::threads::read_side_by_side(disk, logs, &mut step),
    }
}

/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 16 << 20;

/// Makes the other side of each store.
struct Sides {
    #[cfg(feature = "files")]
    threads: Option<crate::sync::threads::Threads>,
}

impl Sides {
    #[cfg(feature = "files")]
    fn start(sync_mode: SyncMode) -> Result<Self, OpenError> {
        let threads = match sync_mode {
            SyncMode::Manual => None,
            SyncMode::Threads => {
                let io = OpenError::io("start the threads of", "the disk");
                Some(crate::sync::threads::Threads::start().map_err(io)?)
            }
        };
        Ok(Self { threads })
    }

    #[cfg(not(feature = "files"))]
    #[expect(clippy::unnecessary_wraps, reason = "with threads, starting them can fail")]
    fn start(_: SyncMode) -> Result<Self, OpenError> {
        Ok(Self {})
    }

    #[cfg_attr(
        not(feature = "files"),
        expect(clippy::unnecessary_wraps, reason = "with threads, starting them can fail")
    )]
    fn backstage(&self, side: DiskSide) -> Result<Backstage, OpenError> {
        #[cfg(feature = "files")]
        if let Some(threads) = &self.threads {
            let io = OpenError::io("start the threads of", "the disk");
            return Ok(Backstage::Threads(threads.line(side).map_err(io)?));
        }
        Ok(Backstage::manual(side))
    }
}

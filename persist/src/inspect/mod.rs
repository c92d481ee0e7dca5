//! Looks at a data directory and changes nothing, also while a broker uses it.
//!
//! The logs are read by the code that boots a broker, so what is found here is what a boot would find. Beside a running broker
//! the files change while they are read: what is found is then of no single moment, and a segment that is freed meanwhile is
//! met again where cleaning moved what of it still held.

mod client;

pub use self::client::{Client, Hint, client};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::index::logs::header_of;
use crate::index::{Header, Place, TruthOfShard};
use crate::log::recovery::{LogRead, Mend, read_log};
use crate::log::segment::LogId;
use crate::manifest::Manifest;
use crate::record::decode::View;
use crate::record::{MessageId, Record, Session};
use crate::report::{Damage, Torn};
use crate::state::State;

/// A data directory as it was found.
#[derive(Debug)]
pub struct Directory {
    /// Which generation of logs holds; it goes up when all of them are written anew.
    pub epoch: u64,
    /// The logs, by shard.
    pub logs: Vec<Log>,
    /// What an index of them begins with.
    pub header: Header,
}

/// A segment of a shard's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number in its shard.
    pub segment: u64,
    /// Bytes that are used.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
    /// Number of its first frame.
    pub first: u64,
    /// Number of its last frame.
    pub last: u64,
}

/// One shard's log as it was found.
#[derive(Debug)]
pub struct Log {
    /// Whose.
    pub shard: u16,
    /// Its folder, relative to the data directory.
    pub folder: String,
    /// Segments that hold records, oldest first.
    pub segments: Vec<Segment>,
    /// Bytes of the files of all segments, those that wait for use included.
    pub disk_bytes: u64,
    /// Segments that wait for use.
    pub spare_segments: u64,
    /// Records that can be read.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What an index that has followed it says.
    pub truth: TruthOfShard,
    /// The unfinished end, which a boot would cut.
    pub torn: Option<Torn>,
    /// Damaged stretches.
    pub damaged: Vec<Damage>,
    /// Sessions, by number, as a boot would hand them on; without those whose time is over.
    pub sessions: Vec<Session>,
    /// Sessions that the log leaves connected: the broker runs, or did not end them.
    pub connected: u64,
    /// Sessions whose time is over.
    pub expired: u64,
    /// Retained messages and the bytes of their payloads.
    pub retained: (u64, u64),
    /// Messages that some session waits for, each counted once.
    pub messages: u64,
    /// Messages that some session waits for and that are in no record: they are lost.
    pub missing: u64,
}

/// A record where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// In whose log.
    pub shard: u16,
    /// Where.
    pub at: Place,
    /// Bytes of its frame.
    pub bytes: u64,
    /// Whether it was said before and moved here by cleaning.
    pub was_moved: bool,
    /// What it says.
    pub record: Record,
}

/// Reads all logs and adds them up. `None` in a directory that was never used. Calls `progress` with the logs read so far and
/// their number.
///
/// # Errors
/// See [`OpenError`]. Torn ends and damage are no errors.
pub fn read(
    disk: &dyn Disk,
    now_ms: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Directory>, OpenError> {
    let Some(manifest) = Manifest::read(disk)? else { return Ok(None) };
    let mut directory = Directory { epoch: manifest.epoch, logs: Vec::new(), header: header_of(&manifest) };
    let files = sizes(disk, &manifest)?;
    let total: u64 = files.iter().sum();
    let mut before = 0;
    for (shard, bytes) in (0..manifest.shard_count).zip(files) {
        let log =
            read_one(disk, &manifest, shard, now_ms, &mut |done| progress(before + done.min(bytes), total));
        directory.logs.push(log?);
        before += bytes;
        progress(before, total);
    }
    Ok(Some(directory))
}

/// The number of shards that a directory was last used with; `None` if it never was.
///
/// # Errors
/// See [`OpenError`].
pub fn shard_count(disk: &dyn Disk) -> Result<Option<u16>, OpenError> {
    Ok(Manifest::read(disk)?.map(|manifest| manifest.shard_count))
}

/// Bytes of the files of all logs.
///
/// # Errors
/// See [`OpenError`].
pub fn disk_bytes(disk: &dyn Disk) -> Result<u64, OpenError> {
    Manifest::read(disk)?.map_or(Ok(0), |manifest| Ok(sizes(disk, &manifest)?.iter().sum()))
}

/// Shows each record of these shards' logs, in the order of each log; all shards if none is named. `None` in a directory that
/// was never used, else the number of shards.
///
/// # Errors
/// See [`OpenError`].
pub fn records(
    disk: &dyn Disk,
    shard: Option<u16>,
    each: &mut dyn FnMut(Standing),
) -> Result<Option<u16>, OpenError> {
    let Some(manifest) = Manifest::read(disk)? else { return Ok(None) };
    for number in (0..manifest.shard_count).filter(|number| shard.is_none_or(|wanted| wanted == *number)) {
        let log = log_of(&manifest, number);
        read_log(disk, &log, Mend::No, &mut |at, view| {
            each(Standing {
                shard: number,
                at: Place { segment: at.segment, offset: at.offset, sequence: at.header.seq },
                bytes: at.header.frame_bytes().try_into().unwrap_or(u64::MAX),
                was_moved: at.header.flags & crate::log::frame::FLAG_MOVED != 0,
                record: view.into_record(),
            });
        })?;
    }
    Ok(Some(manifest.shard_count))
}

fn log_of(manifest: &Manifest, shard: u16) -> LogId {
    LogId::new(manifest.epoch, manifest.key, shard)
}

/// Bytes of each log's files.
fn sizes(disk: &dyn Disk, manifest: &Manifest) -> Result<Vec<u64>, OpenError> {
    let mut sizes = Vec::new();
    for shard in 0..manifest.shard_count {
        let folder = log_of(manifest, shard).folder;
        let entries = disk.list(&folder).map_err(OpenError::io("list", &folder))?;
        sizes.push(entries.iter().map(|entry| entry.bytes).sum());
    }
    Ok(sizes)
}

/// What is gathered while a log is read.
#[derive(Default)]
struct Gathering {
    state: State,
    /// Names of the messages that were read.
    known: Vec<MessageId>,
}

impl Gathering {
    fn take(&mut self, view: View<'_>) {
        if let View::Published(published) = &view {
            self.known.push(published.id());
        }
        self.state.apply(view);
    }
}

fn read_one(
    disk: &dyn Disk,
    manifest: &Manifest,
    shard: u16,
    now_ms: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Log, OpenError> {
    let id = log_of(manifest, shard);
    let mut gathering = Gathering::default();
    let mut done = 0;
    let read = read_log(disk, &id, Mend::No, &mut |at, view| {
        done += u64::try_from(at.header.frame_bytes()).unwrap_or(0);
        progress(done);
        gathering.take(view);
    })?;
    Ok(summed(shard, id.folder, read, gathering, now_ms))
}

fn summed(shard: u16, folder: String, read: LogRead, mut gathering: Gathering, now_ms: u64) -> Log {
    let truth =
        TruthOfShard { shard, first: read.first_seq, last: read.last_seq, sum: gathering.state.sum() };
    let closing = gathering.state.close(now_ms);
    let sessions: Vec<Session> =
        gathering.state.take_sessions().into_iter().map(|session| *session).collect();
    let retained = gathering.state.take_retained();
    gathering.known.sort_unstable();
    gathering.known.dedup();
    let mut wanted: Vec<MessageId> = sessions
        .iter()
        .flat_map(|one| one.outgoing.iter().filter_map(|sent| sent.message).chain(one.queue.iter().copied()))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let missing = wanted.iter().filter(|id| gathering.known.binary_search(id).is_err()).count();
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Log {
        shard,
        folder,
        disk_bytes: read.segments.iter().map(|segment| segment.disk_bytes).sum::<u64>()
            + read.blanks.iter().map(|(_, bytes)| bytes).sum::<u64>(),
        spare_segments: count(read.blanks.len()),
        segments: segments(&read),
        records: read.records,
        bytes: read.bytes,
        truth,
        torn: read.torn,
        damaged: read.damaged,
        connected: count(closing.cut_off.len()),
        expired: count(closing.expired.len()),
        retained: (count(retained.len()), retained.iter().map(|message| count(message.payload.len())).sum()),
        messages: count(wanted.len()),
        missing: count(missing),
        sessions,
    }
}

fn segments(read: &LogRead) -> Vec<Segment> {
    let mut first = read.first_seq;
    let mut segments = Vec::new();
    for segment in &read.segments {
        segments.push(Segment {
            segment: segment.number,
            bytes: segment.used_bytes,
            records: (segment.last_seq + 1).saturating_sub(first),
            first,
            last: segment.last_seq,
        });
        first = segment.last_seq + 1;
    }
    segments
}

//! The process's disk, and each shard's log as its edge drives it.

use std::collections::VecDeque;
use std::sync::Arc;

use dunlin_persist::fault::{Crash, FaultDisk, Faults, SyncFault};
use dunlin_persist::{
    Disk, MessageId, OpenError, Opened, Options, Record, SessionNo, Store, StoreState, SyncMode, Told,
};
use dunlin_shard::home::{shard_of_client, shard_of_topic};
use dunlin_shard::{Actions, Durability, Event};

use super::{Input, Item, NS_PER_MS, Process, World};
use crate::log::Moment;
use crate::rng::Rng;
use crate::storage_plan::{StoragePlan, Trouble};

/// One data directory; outlives the process.
pub(super) struct Storage {
    pub(super) plan: StoragePlan,
    pub(super) disk: FaultDisk,
    pub(super) rng: Rng,
    /// Bits have rotted, or syncs have lied: what is missing must be reported.
    pub(super) is_damaged: bool,
    /// Syncs of earlier incarnations of the disk that lied.
    lost_syncs: u64,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage {{ plan: {:?} }}", self.plan)
    }
}

/// One shard's log, and what its edge keeps beside it.
#[derive(Debug)]
pub(super) struct ShardLog {
    store: Store,
    told: Vec<Told>,
    /// Appends that the disk may not have yet, and when they were made.
    unsynced: VecDeque<(u64, Moment)>,
    disk_planned: bool,
    commit_planned: bool,
}

impl ShardLog {
    pub(super) const fn new(store: Store) -> Self {
        Self {
            store,
            told: Vec::new(),
            unsynced: VecDeque::new(),
            disk_planned: false,
            commit_planned: false,
        }
    }

    /// When the first append was made that the disk may not have.
    pub(super) fn unsynced_since(&self) -> Option<Moment> {
        self.unsynced.front().map(|(_, at)| *at)
    }

    pub(super) fn lost_messages(&self) -> u64 {
        self.store.metrics().lost_messages
    }

    fn is_open(&self) -> bool {
        self.store.state() == StoreState::Open
    }

    pub(super) fn has_failed(&self) -> bool {
        self.store.state() == StoreState::Failed
    }

    /// The graceful end.
    pub(super) fn close(self) -> Result<(), String> {
        self.store.close().map_err(|error| error.to_string())
    }
}

impl Storage {
    pub(super) fn new(seed: u64, plan: StoragePlan) -> Self {
        let mut rng = Rng::new(seed, "disk");
        let disk = FaultDisk::new(rng.draw());
        let storage = Self { plan, disk, rng, is_damaged: false, lost_syncs: 0 };
        storage.set_capacity(CAPACITY_BYTES);
        storage
    }

    /// Whether anything is written at all.
    pub(super) fn is_used(&self) -> bool {
        self.plan.level != Durability::Memory
    }

    pub(super) fn set_capacity(&self, capacity_bytes: u64) {
        let lost_syncs = self.plan.lost_syncs;
        self.disk.set_faults(Faults { capacity_bytes, lost_syncs, ..Faults::default() });
    }

    /// Whether its syncs lie: then what is lost cannot be reported, and a damaged manifest is a reason not to start.
    pub(super) fn is_lying(&self) -> bool {
        self.lost_syncs > 0
    }

    pub(super) fn lose_all(&mut self) {
        self.disk = FaultDisk::new(self.rng.draw());
        self.set_capacity(CAPACITY_BYTES);
    }

    /// Bytes of all files.
    pub(super) fn used_bytes(&self) -> u64 {
        self.disk.files().iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// The power goes: what a reboot finds takes the disk's place.
    pub(super) fn cut_power(&mut self) {
        let crash = if self.rng.chance(20) { Crash::PowerCut } else { Crash::Torn { seed: self.rng.draw() } };
        self.replace(&self.disk.clone(), crash);
    }

    /// The power goes while a boot is at work: at any of its operations.
    pub(super) fn cut_power_in_boot(&mut self, options: &Options) {
        self.disk.record();
        let opened = dunlin_persist::open(Arc::new(self.disk.clone()), options, &mut |_| {});
        drop(opened);
        let cut = self.rng.index(self.disk.recorded() + 1);
        let crash = Crash::Torn { seed: self.rng.draw() };
        if let Some(disk) = self.disk.cuts().nth(cut) {
            self.replace(&disk, crash);
        }
    }

    fn replace(&mut self, disk: &FaultDisk, crash: Crash) {
        self.lost_syncs += self.disk.counts().lost_syncs;
        self.disk = disk.crash(crash);
        self.is_damaged |= self.lost_syncs > 0;
        self.set_capacity(CAPACITY_BYTES);
    }

    pub(super) fn options(&self, shard_count: u16, now_ms: u64) -> Options {
        Options {
            now_ms,
            segment_bytes: self.plan.segment_bytes,
            sync_mode: SyncMode::Manual,
            ..Options::new(
                shard_count,
                |client_id, shard_count| shard_of_client(client_id, shard_count).0,
                |topic, shard_count| shard_of_topic(topic, shard_count).0,
            )
        }
    }

    pub(super) fn open(&self, options: &Options) -> Result<Opened, OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        dunlin_persist::open(disk, options, &mut |_| {})
    }

    /// Turns a bit of a segment over behind which there is a later one that was written to. Tells where.
    pub(super) fn rot(&mut self) -> Option<String> {
        let files: Vec<(String, Vec<u8>)> =
            self.disk.files().into_iter().filter(|(path, _)| path.ends_with(".log")).collect();
        let is_written = |bytes: &[u8]| bytes.iter().take(HEADER_BYTES).any(|byte| *byte != 0);
        let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let sealed: Vec<usize> = (0..files.len().saturating_sub(1))
            .filter(|index| {
                let (this, next) = (&files[*index], &files[*index + 1]);
                folder(&this.0) == folder(&next.0) && is_written(&this.1) && is_written(&next.1)
            })
            .collect();
        if sealed.is_empty() {
            return None;
        }
        let (path, bytes) = &files[sealed[self.rng.index(sealed.len())]];
        let used = bytes.iter().rposition(|byte| *byte != 0)?;
        let offset = self.rng.index(used + 1);
        let bits = 1 << self.rng.below(8);
        self.disk.rot(path, offset as u64, bits);
        self.is_damaged = true;
        Some(format!("{path} byte {offset} of {used}"))
    }
}

impl World {
    /// Puts the run's troubles on the agenda.
    pub(super) fn plan_troubles(&mut self) {
        let troubles = self.storage.as_ref().map(|storage| storage.plan.troubles.clone());
        for (at_ms, trouble) in troubles.unwrap_or_default() {
            self.plan_at(at_ms * NS_PER_MS, Item::Trouble(trouble));
        }
    }

    pub(super) fn append(&mut self, index: usize, seq: u64, record: &Record) {
        let at = self.log.latest();
        self.log.note(format!("{} shard {index} appends {seq} {record:?}", self.now));
        let Some(log) = &mut self.shards[index].log else {
            self.log.violation(format!("shard {index} records {record:?} with nothing to record to"));
            return;
        };
        let damaged = self.canary.damaged(record);
        let appended = log.store.append(seq, damaged.as_ref().unwrap_or(record));
        log.unsynced.push_back((seq, at));
        if appended.is_err() && log.store.state() == StoreState::Open {
            self.log
                .violation(format!("shard {index}: an open store did not take record {seq}: {appended:?}"));
        }
    }

    pub(super) fn fetch(&mut self, index: usize, session: SessionNo, messages: &[MessageId]) {
        self.log.note(format!("{} shard {index} fetches {messages:?} for {session:?}", self.now));
        if let Some(log) = &mut self.shards[index].log {
            log.store.fetch(session, messages);
        }
    }

    /// Tells the core what its log has done.
    pub(super) fn hear_log(&mut self, index: usize) {
        let now = self.clocks();
        let Some(log) = &mut self.shards[index].log else { return };
        let mut told = std::mem::take(&mut log.told);
        log.store.poll(&mut told);
        for news in told {
            self.log.note(format!("{} shard {index} hears {}", self.now, describe(&news)));
            let Some(log) = &mut self.shards[index].log else { return };
            let event = match news {
                Told::Stored { seq } => {
                    while log.unsynced.front().is_some_and(|(one, _)| *one <= seq) {
                        log.unsynced.pop_front();
                    }
                    Event::Stored { seq }
                }
                Told::State(state) => {
                    self.refusing_at = Some(self.now);
                    if state == StoreState::Failed {
                        self.plan_operator();
                    }
                    Event::StoreState(state)
                }
                Told::Fetched { session, messages } => Event::Fetched { session, messages },
            };
            let mut actions = Actions::default();
            self.shards[index].core.handle(event, now, &mut actions);
            self.act(index, actions, &[]);
        }
        self.note_losses(index);
    }

    /// Whether a log takes nothing new, or did not a moment ago, so that what waited for room may still be on its way.
    pub(super) fn is_refusing(&self) -> bool {
        let was_a_moment_ago = self.refusing_at.is_some_and(|at| self.now < at + REFUSAL_MS * NS_PER_MS);
        was_a_moment_ago
            || self.shards.iter().filter_map(|shard| shard.log.as_ref()).any(|log| !log.is_open())
    }

    /// Frees the oldest part of the log in small steps.
    pub(super) fn clean_log(&mut self, index: usize) {
        let now = self.clocks();
        for _ in 0..CLEANING_RECORDS_PER_TICK {
            let Some(log) = &mut self.shards[index].log else { return };
            let Some(record) = log.store.next_reclaimable() else { return };
            self.log.note(format!("{} shard {index} reclaims {record:?}", self.now));
            let mut actions = Actions::default();
            self.shards[index].core.handle(Event::Reclaim(Box::new(record)), now, &mut actions);
            self.act(index, actions, &[]);
        }
        self.push(index, Input::Wake);
    }

    /// The end of a tick: what was appended goes to the disk, at once or when the interval is over.
    pub(super) fn commit(&mut self, index: usize) {
        let Some(storage) = &self.storage else { return };
        let interval_ms = storage.plan.interval_ms;
        let commits = storage.plan.level == Durability::Commit;
        let Some(log) = &mut self.shards[index].log else { return };
        if commits {
            log.store.commit();
        } else if !log.unsynced.is_empty() && !log.commit_planned {
            log.commit_planned = true;
            self.plan_at(self.now + interval_ms * NS_PER_MS, Item::Commit(index));
        }
        self.lie_about_storing(index);
        self.plan_disk(index);
    }

    /// A planted bug: the core hears that its records are on the disk before they are.
    fn lie_about_storing(&mut self, index: usize) {
        let Some(log) = &self.shards[index].log else { return };
        let Some(&(seq, _)) = log.unsynced.back() else { return };
        if self.canary.stores_early() {
            let now = self.clocks();
            let mut actions = Actions::default();
            self.shards[index].core.handle(Event::Stored { seq }, now, &mut actions);
            self.act(index, actions, &[]);
        }
    }

    pub(super) fn commit_due(&mut self, index: usize) {
        if let Some(log) = &mut self.shards[index].log {
            log.commit_planned = false;
            log.store.commit();
            self.plan_disk(index);
        }
    }

    fn plan_disk(&mut self, index: usize) {
        let (Some(storage), Some(log)) = (&mut self.storage, &mut self.shards[index].log) else { return };
        if log.disk_planned {
            return;
        }
        log.disk_planned = true;
        let most = if self.healed { 1_000 } else { storage.plan.disk_us_max };
        let at = self.now + storage.rng.between(1, most) * 1_000;
        self.plan_at(at, Item::Disk(index));
    }

    /// The disk does one thing of what a shard's log waits for.
    pub(super) fn disk_works(&mut self, index: usize) {
        let Some(log) = &mut self.shards[index].log else { return };
        log.disk_planned = false;
        let worked = log.store.disk_step();
        log.store.poll(&mut log.told);
        let has_news = !log.told.is_empty();
        if worked {
            self.plan_disk(index);
        }
        if has_news {
            self.push(index, Input::Wake);
        }
    }

    /// Something befalls the process or its disk.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        self.log.note(format!("{} {trouble:?} befalls the process", self.now));
        match trouble {
            Trouble::PowerCut => self.cut_power(),
            Trouble::Kill => self.kill(),
            Trouble::Restart => self.restart(),
            Trouble::FailSync | Trouble::Fill | Trouble::Rot => self.disk_trouble(trouble),
        }
    }

    fn disk_trouble(&mut self, trouble: Trouble) {
        let Some(storage) = &mut self.storage else { return };
        match trouble {
            Trouble::FailSync => storage.disk.next_syncs(&[SyncFault::Failed]),
            Trouble::Fill => {
                let room = storage.rng.below(3 * storage.plan.segment_bytes);
                storage.set_capacity(storage.used_bytes() + room);
                let at = self.now + storage.rng.between(500, 5_000) * NS_PER_MS;
                self.plan_at(at, Item::RoomAgain);
            }
            Trouble::Rot => {
                if let Some(place) = storage.rot() {
                    self.log.note(format!("rot in {place}"));
                }
            }
            Trouble::PowerCut | Trouble::Kill | Trouble::Restart => {}
        }
    }

    /// The operator has freed space.
    pub(super) fn room_again(&mut self) {
        if let Some(storage) = &mut self.storage {
            storage.set_capacity(CAPACITY_BYTES);
            for index in 0..self.shards.len() {
                self.push(index, Input::Wake);
            }
        }
    }

    /// A log has failed: the operator sees that and starts the process anew.
    fn plan_operator(&mut self) {
        if let Some(storage) = &mut self.storage {
            let at = self.now + storage.rng.between(50, 2_000) * NS_PER_MS;
            self.plan_at(at, Item::Trouble(Trouble::Kill));
        }
    }

    /// What is lost must have been counted; from then on less is expected.
    pub(super) fn note_losses(&mut self, index: usize) {
        let lost = self.shards[index].log.as_ref().map_or(0, ShardLog::lost_messages);
        if lost == 0 || self.log.reported_loss {
            return;
        }
        if self.storage.as_ref().is_some_and(|storage| storage.is_damaged) {
            self.log.reported_loss = true;
        } else {
            self.log.violation(format!("shard {index} reports {lost} lost messages of a sound disk"));
        }
    }

    /// No more troubles; what has failed is started anew.
    pub(super) fn end_troubles(&mut self) {
        self.agenda.retain(|_, item| !matches!(item, Item::Trouble(_)));
        let Some(storage) = &mut self.storage else { return };
        storage.plan.boot_cut_percent = 0;
        storage.plan.lost_syncs = 0;
        storage.disk.next_syncs(&[]);
        self.room_again();
        let has_failed = self.shards.iter().any(|shard| shard.log.as_ref().is_some_and(ShardLog::has_failed));
        if has_failed && self.process == Process::Up {
            self.kill();
        }
    }
}

fn describe(news: &Told) -> String {
    match news {
        Told::Fetched { session, messages } => {
            let ids: Vec<_> = messages.iter().map(dunlin_persist::FetchedMessage::id).collect();
            format!("Fetched {session:?} {ids:?}")
        }
        Told::Stored { .. } | Told::State(_) => format!("{news:?}"),
    }
}

/// Records of the oldest part of a log that one tick looks at, as in the runtime.
const CLEANING_RECORDS_PER_TICK: usize = 64;
/// Time in which Wills that waited for room are published and stored.
const REFUSAL_MS: u64 = 1_000;
/// A disk that does not become full by itself.
const CAPACITY_BYTES: u64 = 1 << 40;
/// The beginning of a segment: all zeros before it is used.
const HEADER_BYTES: usize = 64;

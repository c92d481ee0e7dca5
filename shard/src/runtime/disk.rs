//! A shard's log as its edge drives it: records are appended as the core asks, one sync covers all of a tick, and what the disk
//! has to tell wakes the shard and becomes events.
//!
//! A sync is asked for as soon as the core waits for a record. What nobody waits for goes with the next one, or with one of its own
//! after [`UNAWAITED_SYNC_MS`]: a delivery's acknowledgement is recorded after the message, and a second sync for
//! it would stand in the way of the next message's.
//!
//! Nothing here blocks: [`Store`] copies records into memory, and threads of its own speak to the disk.

use std::sync::Arc;

use crossbeam_channel::Sender;
use dunlin_persist::record::Record;
use dunlin_persist::{MessageId, Recovered, SessionNo, Store, StoreMetrics, StoreState, Told, Waker};

use super::inbox::Doorbell;
use crate::event::Event;
use crate::ids::ShardId;
use crate::time::{Mono, NS_PER_MS};

/// A shard's log and what was read from it, for [`super::start`].
#[derive(Debug)]
pub struct ShardLog {
    /// Takes the shard's records.
    pub store: Store,
    /// What the shard begins with.
    pub recovered: Recovered,
}

/// A log became full, or has room again, or has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNotice {
    /// Whose.
    pub shard: ShardId,
    /// What it takes from now on.
    pub state: StoreState,
    /// Why it is full or has failed, in words; empty otherwise.
    pub failure: String,
}

/// The log of one shard. Lives on the shard's core.
#[derive(Debug)]
pub(super) struct Disk {
    store: Store,
    shard: ShardId,
    /// What the store has told and the core has not heard.
    told: Vec<Told>,
    /// Nanoseconds after which a record that nobody waits for is synced.
    sync_every_ns: u64,
    /// When what was appended is synced; `None`: nothing waits for that.
    sync_at: Option<Mono>,
    appended_seq: u64,
    /// The last record that a sync was asked for.
    asked_seq: u64,
    /// The oldest part may have more records to be looked at.
    is_cleaning: bool,
    /// When the log is asked whether there is something to clean, if nothing is appended until then.
    rest_at: Option<Mono>,
    /// The log is full: when it looks for room again.
    look_at: Option<Mono>,
    notices: Sender<LogNotice>,
}

impl Disk {
    /// A log that is synced so often and wakes its shard through the doorbell. 0: as soon as somebody waits for that.
    pub(super) fn new(
        mut store: Store,
        shard: ShardId,
        sync_every_ms: u64,
        doorbell: Arc<Doorbell>,
        notices: Sender<LogNotice>,
    ) -> Self {
        store.attach(Waker::new(move || {
            doorbell.ring();
        }));
        let state = store.state();
        let told = if state == StoreState::Open { Vec::new() } else { vec![Told::State(state)] };
        let unawaited_ms = if sync_every_ms == 0 { UNAWAITED_SYNC_MS } else { sync_every_ms };
        let sync_every_ns = unawaited_ms.saturating_mul(NS_PER_MS);
        Self {
            store,
            shard,
            told,
            sync_every_ns,
            sync_at: None,
            appended_seq: 0,
            asked_seq: 0,
            is_cleaning: false,
            rest_at: None,
            look_at: None,
            notices,
        }
    }

    /// Writes a record behind all others. A log that has failed takes none, which the core hears as a state.
    pub(super) fn append(&mut self, seq: u64, record: &Record, now: Mono) {
        self.appended_seq = seq;
        if self.store.append(seq, record).is_ok() {
            self.rest_at = Some(Mono(now.0.saturating_add(REST_AFTER_MS * NS_PER_MS)));
            self.sync_later(now);
        }
    }

    /// There is something to sync.
    fn sync_later(&mut self, now: Mono) {
        let at = Mono(now.0.saturating_add(self.sync_every_ns));
        self.sync_at = self.sync_at.or(Some(at));
    }

    /// Asks for messages; the answer comes as news.
    pub(super) fn fetch(&mut self, session: SessionNo, messages: &[MessageId]) {
        self.store.fetch(session, messages);
    }

    /// Lets the disk take what was appended, if somebody waits for a record that no sync was asked for, or if it is time for that.
    pub(super) fn commit(&mut self, now: Mono, awaited_seq: u64) {
        if awaited_seq > self.asked_seq || self.sync_at.is_some_and(|at| at <= now) {
            self.sync_at = None;
            self.asked_seq = self.appended_seq;
            self.store.commit();
        }
        if self.rest_at.is_some_and(|at| at <= now) {
            let has_more = self.store.rest();
            self.rest_at = has_more.then(|| Mono(now.0.saturating_add(REST_STEP_MS * NS_PER_MS)));
            self.is_cleaning |= has_more;
        }
    }

    /// When the shard must be awake for its log.
    pub(super) fn due(&self) -> Option<Mono> {
        self.sync_at.into_iter().chain(self.look_at).chain(self.rest_at).min()
    }

    /// Whether there is something that the core should hear.
    pub(super) fn has_news(&mut self) -> bool {
        self.store.poll(&mut self.told);
        !self.told.is_empty()
    }

    /// What the core should hear, in order. Give the list back to [`Disk::put_back`].
    pub(super) fn take_news(&mut self, now: Mono) -> Vec<Told> {
        self.store.poll(&mut self.told);
        let told = std::mem::take(&mut self.told);
        for news in &told {
            if let Told::State(state) = news {
                self.notify(*state);
            }
        }
        // More came while a sync was under way.
        if self.store.stored_seq() < self.appended_seq && self.store.state() != StoreState::Failed {
            self.sync_later(now);
        }
        // A full log looks for room as it is polled, and nobody tells it when somebody else has made some.
        let is_full = self.store.state() == StoreState::Full;
        self.look_at = is_full.then(|| Mono(now.0.saturating_add(FULL_LOOK_MS * NS_PER_MS)));
        told
    }

    /// Keeps the memory of a list that was told.
    pub(super) fn put_back(&mut self, told: Vec<Told>) {
        if self.told.is_empty() {
            self.told = told;
        }
    }

    /// The next record of the oldest part of the log that may still hold.
    pub(super) fn next_reclaimable(&mut self) -> Option<Record> {
        let record = self.store.next_reclaimable();
        self.is_cleaning = record.is_some();
        record
    }

    /// Whether the last look at the oldest part stopped before its end.
    pub(super) const fn is_cleaning(&self) -> bool {
        self.is_cleaning
    }

    /// Counters and sizes now.
    pub(super) fn metrics(&self) -> StoreMetrics {
        self.store.metrics()
    }

    /// Lets the disk take what is left, and waits for it: at the end of a shard, when nobody else waits for its core.
    ///
    /// # Errors
    /// What the operator should hear.
    pub(super) fn close(self) -> Result<(), String> {
        let failure = self.store.failure().map(str::to_owned);
        self.store.close().map_err(|error| {
            let why = failure.unwrap_or_else(|| error.to_string());
            format!(
                "its log did not take the last records ({why}); what was acknowledged before is on the disk"
            )
        })
    }

    /// Tells the control plane. What it does not take is told by the state's counters.
    fn notify(&self, state: StoreState) {
        let failure = self.store.failure().unwrap_or_default().to_owned();
        let _taken = self.notices.try_send(LogNotice { shard: self.shard, state, failure });
    }
}

/// What the core hears of the disk's news.
pub(super) fn event_of(told: Told) -> Event<'static> {
    match told {
        Told::Stored { seq } => Event::Stored { seq },
        Told::State(state) => Event::StoreState(state),
        Told::Fetched { session, messages } => Event::Fetched { session, messages },
    }
}

/// Records of the oldest part that one tick looks at: a fraction of a millisecond when they are small, and packets are not
/// kept waiting when they are large.
pub(super) const CLEANING_RECORDS_PER_TICK: usize = 64;

/// How soon at level `commit` a record is synced that nobody waits for. Long beside a sync, so that such records hardly cost one while
/// messages come; short, because after a power cut what was acknowledged in it is delivered once more.
const UNAWAITED_SYNC_MS: u64 = 10;

/// How long nothing is appended before a log that is too long is cleaned without that, and how often that then goes on: 25 MB a second
/// where nothing has to be said again, a tenth of it where much has.
const REST_AFTER_MS: u64 = 100;
const REST_STEP_MS: u64 = 10;

/// How soon a full log is polled again when nothing else happens; it tries to make a segment at every 64th poll.
const FULL_LOOK_MS: u64 = 10;

/// Notices that may wait for the control plane.
pub(super) const NOTICES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};
    use dunlin_persist::fault::{FaultDisk, SyncFault};
    use dunlin_persist::{Options, open};

    use super::*;
    use crate::runtime::config::Park;
    use crate::runtime::inbox::inbox;

    /// A log on a disk in memory that does nothing until it is told, synced so often.
    fn log(faulty: &FaultDisk, sync_every_ms: u64) -> (Disk, Arc<Doorbell>, Receiver<LogNotice>) {
        let options = Options { now_ms: 1, ..Options::new(1, |_, _| 0, |_, _| 0) };
        let mut opened = open(Arc::new(faulty.clone()), &options, &mut |_| {}).unwrap();
        let doorbell = inbox(ShardId(0), Park::Ring).unwrap().1.doorbell;
        let (notice, notices) = bounded(NOTICES_MAX);
        let store = opened.stores.remove(0);
        (Disk::new(store, ShardId(0), sync_every_ms, Arc::clone(&doorbell), notice), doorbell, notices)
    }

    fn step(disk: &mut Disk) {
        while disk.store.disk_step() {}
    }

    fn record() -> Record {
        Record::SessionEnded { session: SessionNo(1) }
    }

    fn ms(ms: u64) -> Mono {
        Mono(ms * NS_PER_MS)
    }

    /// The last record that is known to be stored.
    fn stored(disk: &mut Disk, now: Mono) -> Option<u64> {
        let told = disk.take_news(now);
        told.iter().rev().find_map(|news| if let Told::Stored { seq } = news { Some(*seq) } else { None })
    }

    #[test]
    fn one_sync_covers_all_of_a_tick_and_what_comes_before_it_begins() {
        let (mut disk, _, _) = log(&FaultDisk::new(1), 0);
        step(&mut disk);
        let _before = disk.take_news(ms(0));
        let before = disk.metrics().syncs;
        for seq in 1..=3 {
            disk.append(seq, &record(), ms(1));
        }
        disk.commit(ms(1), 2);
        assert_eq!(disk.sync_at, None);
        disk.append(4, &record(), ms(1));
        disk.commit(ms(1), 4);
        assert!(stored(&mut disk, ms(2)).is_none(), "the disk has done nothing yet");
        assert!(disk.store.disk_step());
        assert!(disk.has_news());
        assert_eq!(stored(&mut disk, ms(2)), Some(4));
        disk.append(5, &record(), ms(2));
        disk.commit(ms(2), 5);
        step(&mut disk);
        assert_eq!(stored(&mut disk, ms(3)), Some(5));
        assert_eq!(disk.metrics().syncs - before, 2);
    }

    #[test]
    fn a_record_that_nobody_waits_for_goes_with_the_next_or_alone_after_a_while() {
        let (mut disk, _, _) = log(&FaultDisk::new(1), 0);
        step(&mut disk);
        let _before = disk.take_news(ms(0));
        let before = disk.metrics().syncs;
        disk.append(1, &record(), ms(1));
        disk.commit(ms(1), 0);
        assert!(!disk.store.disk_step(), "nobody waits");
        disk.append(2, &record(), ms(5));
        disk.commit(ms(5), 2);
        step(&mut disk);
        assert_eq!(stored(&mut disk, ms(6)), Some(2), "one sync for both");
        disk.append(3, &record(), ms(7));
        disk.commit(ms(7), 2);
        assert_eq!(disk.due(), Some(ms(7 + UNAWAITED_SYNC_MS)));
        disk.commit(ms(6 + UNAWAITED_SYNC_MS), 2);
        assert!(!disk.store.disk_step(), "not yet");
        disk.commit(ms(7 + UNAWAITED_SYNC_MS), 2);
        step(&mut disk);
        assert_eq!(stored(&mut disk, ms(20)), Some(3));
        assert_eq!((disk.metrics().syncs - before, disk.sync_at), (2, None));
        assert_eq!(disk.due(), Some(ms(7 + REST_AFTER_MS)), "is there something to clean?");
        disk.commit(ms(7 + REST_AFTER_MS), 2);
        assert_eq!(disk.due(), None, "there is not, and the shard sleeps");
    }

    #[test]
    fn an_interval_gathers_what_comes_within_it() {
        let (mut disk, _, _) = log(&FaultDisk::new(1), 100);
        step(&mut disk);
        disk.append(1, &record(), ms(10));
        disk.commit(ms(109), 0);
        step(&mut disk);
        assert_eq!(stored(&mut disk, ms(109)), None);
        disk.append(2, &record(), ms(109));
        assert_eq!(disk.due(), Some(ms(110)));
        disk.commit(ms(110), 0);
        step(&mut disk);
        assert_eq!(stored(&mut disk, ms(111)), Some(2));
        assert_eq!(disk.sync_at, None);
    }

    #[test]
    fn a_disk_that_fails_is_told_to_the_core_and_to_the_control_plane() {
        let faulty = FaultDisk::new(1);
        let (mut disk, _, notices) = log(&faulty, 0);
        step(&mut disk);
        disk.append(1, &record(), ms(1));
        faulty.next_syncs(&[SyncFault::Failed]);
        disk.commit(ms(1), 1);
        step(&mut disk);
        let told = disk.take_news(ms(2));
        assert!(told.contains(&Told::State(StoreState::Failed)), "{told:?}");
        assert!(!told.iter().any(|news| matches!(news, Told::Stored { .. })));
        let notice = notices.try_recv().unwrap();
        assert_eq!((notice.shard, notice.state), (ShardId(0), StoreState::Failed));
        assert!(!notice.failure.is_empty());
        disk.append(2, &record(), ms(3));
        assert!(disk.close().unwrap_err().contains("did not take the last records"));
    }
}

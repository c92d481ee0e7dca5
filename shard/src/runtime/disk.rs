//! A shard's log as its edge drives it: records are appended as the core asks, one sync covers all of a tick, and what the disk
//! has to tell wakes the shard and becomes events.
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
    /// Why it failed, in words; empty otherwise.
    pub failure: String,
}

/// The log of one shard. Lives on the shard's core.
#[derive(Debug)]
pub(super) struct Disk {
    store: Store,
    shard: ShardId,
    /// What the store has told and the core has not heard.
    told: Vec<Told>,
    /// Nanoseconds between syncs; 0: each tick.
    sync_every_ns: u64,
    /// When what was appended is synced; `None`: nothing waits for that.
    sync_at: Option<Mono>,
    appended_seq: u64,
    /// The oldest part may have more records to be looked at.
    is_cleaning: bool,
    notices: Sender<LogNotice>,
}

impl Disk {
    /// A log that is synced so often and wakes its shard through the doorbell.
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
        let sync_every_ns = sync_every_ms.saturating_mul(NS_PER_MS);
        let (sync_at, appended_seq, is_cleaning) = (None, 0, false);
        Self { store, shard, told, sync_every_ns, sync_at, appended_seq, is_cleaning, notices }
    }

    /// Writes a record behind all others. A log that has failed takes none, which the core hears as a state.
    pub(super) fn append(&mut self, seq: u64, record: &Record, now: Mono) {
        self.appended_seq = seq;
        if self.store.append(seq, record).is_ok() {
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

    /// Lets the disk take what was appended, if it is time for that.
    pub(super) fn commit(&mut self, now: Mono) {
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync_at = None;
            self.store.commit();
        }
    }

    /// When [`Disk::commit`] is due.
    pub(super) const fn sync_due(&self) -> Option<Mono> {
        self.sync_at
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
            match news {
                // More came while the sync was under way.
                Told::Stored { seq } if *seq < self.appended_seq => self.sync_later(now),
                Told::State(state) => self.notify(*state),
                Told::Stored { .. } | Told::Fetched { .. } => {}
            }
        }
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

/// Notices that may wait for the control plane.
pub(super) const NOTICES_MAX: usize = 256;

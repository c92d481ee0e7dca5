//! The facade that a shard owns: append records, learn when they are on the disk, fetch messages, clean the oldest segment.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::Waker;
use crate::error::AppendError;
use crate::fetch::{Body, Cache};
use crate::log::Log;
use crate::log::catalog::Place;
use crate::metrics::StoreMetrics;
use crate::record::encode::Encoder;
use crate::record::{MessageId, Record, SessionNo};
use crate::sync::{Job, Outcome};
use crate::told::{FetchedMessage, StoreState, Told};

/// One shard's log and what is known of it. Owned by the shard, on its thread; nothing here waits for the disk, but for a roll that
/// outruns it.
pub struct Store {
    log: Log,
    encoder: Encoder,
    told: VecDeque<Told>,
    cache: Cache,
    /// Questions that the disk has not answered, in the order asked.
    asked: VecDeque<Vec<Slot>>,
}

/// One message of a question.
enum Slot {
    Here(MessageId, Arc<Body>),
    /// To be read, from there.
    Asked(MessageId, Option<Place>),
}

impl Store {
    /// A store upon a log, with so much memory for fetched messages.
    pub(crate) fn new(log: Log, cache_bytes: usize) -> Self {
        Self {
            log,
            encoder: Encoder::default(),
            told: VecDeque::new(),
            cache: Cache::new(cache_bytes),
            asked: VecDeque::new(),
        }
    }

    /// Sets what a disk thread calls when [`poll`](Self::poll) has something to tell. Before the first
    /// [`commit`](Self::commit) and [`fetch`](Self::fetch).
    pub fn attach(&mut self, waker: Waker) {
        self.log.waker = Some(waker);
    }

    /// Appends a record: a copy into the mapped segment and a checksum, no system call. It counts as stored when
    /// [`Told::Stored`] has reached `seq`.
    ///
    /// While the store is [`StoreState::Full`], records are still taken, at the cost of the reserve.
    ///
    /// # Errors
    /// See [`AppendError`]; the store has failed then, which is told as well.
    ///
    /// # Panics
    /// Unless `seq` counts up by one from 1.
    pub fn append(&mut self, seq: u64, record: &Record) -> Result<(), AppendError> {
        if self.log.state() == StoreState::Failed {
            return Err(AppendError::Failed);
        }
        assert_eq!(seq, self.log.appended() + 1, "the core numbers its records without gaps");
        self.write(record)
    }

    /// Asks for a sync of what was appended, unless one is under way; then another follows it. Once per tick; costs a comparison
    /// when there is nothing to do. At level `interval`: once per interval instead.
    pub fn commit(&mut self) {
        self.log.commit();
    }

    /// Asks for messages of a session; [`Told::Fetched`] answers, sooner for those that are in memory.
    pub fn fetch(&mut self, session: SessionNo, messages: &[MessageId]) {
        let slots: Vec<_> = messages
            .iter()
            .map(|id| match self.cache.get(*id) {
                Some(body) => Slot::Here(*id, Arc::clone(body)),
                None => Slot::Asked(*id, self.log.place(*id)),
            })
            .collect();
        let here = slots.iter().filter(|slot| matches!(slot, Slot::Here(..))).count();
        self.log.metrics.fetched_messages += u64::try_from(slots.len()).unwrap_or(u64::MAX);
        self.log.metrics.fetched_from_cache += u64::try_from(here).unwrap_or(u64::MAX);
        self.ask_or_tell(session, slots);
    }

    /// Moves what there is to tell to the end of `out`. Once per tick.
    pub fn poll(&mut self, out: &mut Vec<Told>) {
        self.take_outcomes();
        out.extend(self.told.drain(..));
    }

    /// The next record of the oldest segment that may still hold, if cleaning is due. The caller appends what of it holds before it
    /// asks for the next: the asking says that the last one has been answered, and its place may be freed. Called a few times per
    /// tick until `None`; the store sets the pace. Tombstones, and messages that nobody waits for, are not offered.
    ///
    /// What to answer, so that a replay without the old record comes to the same:
    /// * [`Record::Published`]: the message under its name, for those who still need it.
    /// * [`Record::Retained`]: itself, if it is still what its topic retains.
    /// * Any record of a session that lives: **the session's whole image of this moment**, a [`Record::Session`] with its queue; once
    ///   is enough for all of its records in the segment. Never the record itself: one that said again that a session is attached, or has
    ///   subscribed, would stand behind messages that wait for it, and a replay, which meets those first, would not know for whom.
    /// * [`Record::Arrived`] of a session that lives on another shard: itself, while the identifier waits.
    /// * Anything else: nothing.
    pub fn next_reclaimable(&mut self) -> Option<Record> {
        self.log.next_reclaimable()
    }

    /// Nothing is appended for a while: lets cleaning go on, which else lives on what is appended. Called now and then while it tells that
    /// there is more to do; [`next_reclaimable`](Self::next_reclaimable) has it.
    pub fn rest(&mut self) -> bool {
        self.log.note_rest()
    }

    /// Does one thing that waits for the disk, with [`crate::SyncMode::Manual`]: the driver decides when. Tells whether there was
    /// one. What came of it is told by the next [`poll`](Self::poll).
    pub fn disk_step(&mut self) -> bool {
        self.log.backstage.step()
    }

    /// Whether the store takes what is new, as of the last [`poll`](Self::poll).
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.log.state()
    }

    /// Why it is full or failed, in words for the operator.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.log.failure()
    }

    /// The number of the last append that is on the disk.
    #[must_use]
    pub fn stored_seq(&self) -> u64 {
        self.log.stored()
    }

    /// Counters and gauges as of now. Cost: a walk over the segments.
    #[must_use]
    pub fn metrics(&self) -> StoreMetrics {
        self.log.metrics()
    }

    /// Syncs what was appended and returns when it is on the disk: for the end of a shard, where blocking harms nobody.
    ///
    /// # Errors
    /// [`AppendError::Failed`] if the disk did not take it.
    pub fn close(mut self) -> Result<(), AppendError> {
        self.sync_now()
    }

    /// Appends and waits, for a boot.
    pub(crate) fn sync_now(&mut self) -> Result<(), AppendError> {
        while self.log.stored() < self.log.appended() || self.log.is_syncing() {
            if self.log.state() == StoreState::Failed {
                return Err(AppendError::Failed);
            }
            self.log.commit();
            let Some(outcome) = self.log.backstage.wait() else { return Err(AppendError::Failed) };
            self.take_outcome(outcome);
        }
        match self.log.state() {
            StoreState::Failed => Err(AppendError::Failed),
            StoreState::Open | StoreState::Full => Ok(()),
        }
    }

    /// Appends a record of the log's own.
    pub(crate) fn write(&mut self, record: &Record) -> Result<(), AppendError> {
        if let Record::Published(published) = record {
            self.cache.forget(published.id);
        }
        let encoded = self.encoder.encode(record);
        self.log.append(record, &encoded, &mut self.told)
    }

    /// From now on the core counts.
    pub(crate) fn count_from_here(&mut self) {
        self.log.count_from_here();
    }

    fn take_outcomes(&mut self) {
        while let Some(outcome) = self.log.fetched.pop_front().or_else(|| self.log.backstage.take()) {
            self.take_outcome(outcome);
        }
        self.log.note_poll(&mut self.told);
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        if let Some(Outcome::Fetched { session, bodies }) = self.log.take_outcome(outcome, &mut self.told) {
            let Some(mut slots) = self.asked.pop_front() else { return };
            let mut read = bodies.into_iter();
            for slot in &mut slots {
                let Slot::Asked(id, place @ Some(_)) = slot else { continue };
                match read.next() {
                    Some((read_id, Some(body))) => {
                        assert_eq!(*id, read_id, "questions are answered in the order asked");
                        self.cache.keep(read_id, &body);
                        *slot = Slot::Here(read_id, body);
                    }
                    // Cleaning may have moved the message, and the file be another one by now: then it is asked for again.
                    _ => *place = self.log.place(*id).filter(|now| Some(*now) != *place),
                }
            }
            self.ask_or_tell(session, slots);
        }
    }

    /// Asks for what has a place and is not here; if there is nothing, the question is answered.
    fn ask_or_tell(&mut self, session: SessionNo, slots: Vec<Slot>) {
        let wanted: Vec<_> = slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Asked(id, Some(place)) => Some((*id, *place)),
                Slot::Asked(_, None) | Slot::Here(..) => None,
            })
            .collect();
        if wanted.is_empty() {
            self.tell_fetched(session, slots);
            return;
        }
        self.asked.push_back(slots);
        self.log.backstage.ask(Job::Fetch { session, wanted }, self.log.waker.as_ref());
    }

    fn tell_fetched(&mut self, session: SessionNo, slots: Vec<Slot>) {
        let mut lost = 0;
        let messages = slots
            .into_iter()
            .map(|slot| match slot {
                Slot::Here(id, body) => FetchedMessage::Found(body.for_session(id, session)),
                Slot::Asked(id, _) => {
                    lost += 1;
                    FetchedMessage::Lost(id)
                }
            })
            .collect();
        self.log.metrics.lost_messages += lost;
        self.told.push_back(Told::Fetched { session, messages });
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("log", &self.log).finish_non_exhaustive()
    }
}

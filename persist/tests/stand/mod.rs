//! A data directory in memory, a driver for its stores, and short ways to say records.
#![allow(dead_code, reason = "each test binary uses its part")]
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test stand fails by panicking")]

use std::sync::Arc;

use dunlin_persist::fault::FaultDisk;
use dunlin_persist::record::{Attached, Message, Published, Receiver, Session};
use dunlin_persist::{
    Disk, FetchedMessage, MessageId, OpenError, Opened, Options, Record, Report, SessionNo, Store,
    StoreState, Told, open,
};

/// Segments as short as can be, so that tests roll.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

/// One shard's store and what it has told.
pub(crate) struct Stand {
    pub(crate) disk: FaultDisk,
    pub(crate) store: Store,
    pub(crate) report: Report,
    pub(crate) sessions: Vec<Session>,
    pub(crate) retained: Vec<Message>,
    pub(crate) told: Vec<Told>,
    pub(crate) stored: u64,
    pub(crate) state: StoreState,
    seq: u64,
}

pub(crate) fn options(shard_count: u16) -> Options {
    let mut options = Options::new(shard_count, home, home);
    options.segment_bytes = SEGMENT_BYTES;
    options.now_ms = 1_000_000;
    options
}

/// By the last byte, so that tests can choose.
pub(crate) fn home(name: &str, shard_count: u16) -> u16 {
    u16::from(name.bytes().last().unwrap_or(0)) % shard_count
}

pub(crate) fn open_all(disk: &FaultDisk, options: &Options) -> Result<Opened, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    open(disk, options, &mut |_| {})
}

impl Stand {
    pub(crate) fn new(disk: FaultDisk) -> Self {
        Self::with(disk, &options(1))
    }

    pub(crate) fn with(disk: FaultDisk, options: &Options) -> Self {
        let mut opened = open_all(&disk, options).unwrap();
        assert_eq!(opened.stores.len(), 1);
        let recovered = opened.recovered.remove(0);
        Self {
            disk,
            store: opened.stores.remove(0),
            report: opened.report,
            sessions: recovered.sessions.into_iter().map(|session| *session).collect(),
            retained: recovered.retained,
            told: Vec::new(),
            stored: 0,
            state: StoreState::Open,
            seq: 0,
        }
    }

    /// The same disk after the process was killed: nothing that was written is lost.
    pub(crate) fn reopen(self) -> Self {
        let Self { disk, store, .. } = self;
        drop(store);
        Self::new(disk)
    }

    pub(crate) fn append(&mut self, record: &Record) -> u64 {
        self.seq += 1;
        self.store.append(self.seq, record).unwrap();
        self.seq
    }

    pub(crate) fn append_all(&mut self, records: &[Record]) {
        records.iter().for_each(|record| {
            self.append(record);
        });
    }

    /// Commits, and does all that waits for the disk.
    pub(crate) fn settle(&mut self) {
        self.store.commit();
        loop {
            let has_stepped = self.store.disk_step();
            self.poll();
            if !has_stepped {
                break;
            }
        }
    }

    pub(crate) fn poll(&mut self) {
        let mut told = Vec::new();
        self.store.poll(&mut told);
        for one in told {
            match one {
                Told::Stored { seq } => {
                    assert!(seq > self.stored, "what is stored only grows");
                    self.stored = seq;
                }
                Told::State(state) => self.state = state,
                fetched @ Told::Fetched { .. } => self.told.push(fetched),
            }
        }
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Asks for messages and waits for them.
    pub(crate) fn fetch(&mut self, session: u64, ids: &[u64]) -> Vec<FetchedMessage> {
        let ids: Vec<_> = ids.iter().map(|id| MessageId(*id)).collect();
        self.store.fetch(SessionNo(session), &ids);
        self.settle();
        match self.told.remove(0) {
            Told::Fetched { session: answered, messages } => {
                assert_eq!(answered, SessionNo(session));
                messages
            }
            other => panic!("{other:?}"),
        }
    }

    /// The payloads of messages.
    pub(crate) fn payloads(&mut self, session: u64, ids: &[u64]) -> Vec<Vec<u8>> {
        let found = |message| match message {
            FetchedMessage::Found(found) => found.message.payload.to_vec(),
            FetchedMessage::Lost(id) => panic!("{id:?} is lost"),
        };
        self.fetch(session, ids).into_iter().map(found).collect()
    }
}

pub(crate) fn attached(session: u64, client_id: &str) -> Record {
    Record::Attached(Box::new(Attached {
        session: SessionNo(session),
        client_id: client_id.into(),
        user_name: None,
        expiry_seconds: u32::MAX,
        will: None,
    }))
}

pub(crate) fn message(payload: &[u8]) -> Message {
    Message {
        topic: "a/b".into(),
        publisher: "p".into(),
        payload: payload.into(),
        qos: 1,
        ..Message::default()
    }
}

pub(crate) fn published(id: u64, payload: &[u8], sessions: &[u64]) -> Record {
    let receiver =
        |session: &u64| Receiver { session: SessionNo(*session), packet_id: 0, qos: 1, retain: false };
    Record::Published(Box::new(Published {
        id: MessageId(id),
        message: message(payload),
        receivers: sessions.iter().map(receiver).collect(),
        subscription_ids: Vec::new(),
        groups: Vec::new(),
        arrived: None,
    }))
}

pub(crate) fn done(session: u64, ids: &[u64]) -> Record {
    Record::Done { session: SessionNo(session), messages: ids.iter().map(|id| MessageId(*id)).collect() }
}

pub(crate) fn queue(session: &Session) -> Vec<u64> {
    session.queue.iter().map(|id| id.0).collect()
}

//! A store on real files with the threads of its data directory.
#![cfg(feature = "files")]
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod stand;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use dunlin_persist::record::Session;
use dunlin_persist::{
    FetchedMessage, MessageId, OpenError, Opened, Options, RealDisk, Record, SessionNo, Store, SyncMode,
    Told, Waker, open,
};
use stand::{attached, done, published, queue};

fn folder(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("dunlin-threads-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&root));
    root
}

fn open_threads(root: &Path, shard_count: u16) -> Result<Opened, OpenError> {
    open_with(root, stand::options(shard_count))
}

fn open_with(root: &Path, mut options: Options) -> Result<Opened, OpenError> {
    options.sync_mode = SyncMode::Threads;
    open(Arc::new(RealDisk::open(root)?), &options, &mut |_| {})
}

/// A store and the wakes of its threads.
struct Shard {
    store: Store,
    wakes: Receiver<()>,
    seq: u64,
    stored: u64,
    fetched: Vec<FetchedMessage>,
}

impl Shard {
    fn new(mut store: Store) -> Self {
        let (sender, wakes) = channel();
        store.attach(Waker::new(move || sender.send(()).unwrap_or(())));
        Self { store, wakes, seq: 0, stored: 0, fetched: Vec::new() }
    }

    fn append(&mut self, record: &Record) {
        self.seq += 1;
        self.store.append(self.seq, record).unwrap();
    }

    fn poll(&mut self) {
        let mut told = Vec::new();
        self.store.poll(&mut told);
        for one in told {
            match one {
                Told::Stored { seq } => self.stored = seq,
                Told::Fetched { messages, .. } => self.fetched = messages,
                Told::State(state) => panic!("{state:?}"),
            }
        }
    }

    /// Waits until all that was appended is stored.
    fn settle(&mut self) {
        self.store.commit();
        while self.stored < self.seq {
            self.wakes.recv().unwrap();
            self.poll();
            self.store.commit();
        }
    }
}

/// Killed with records in the file that nobody had been told are safe, more of them than are read at once: the start that cuts the file and
/// writes those records again must not take its last page for unreadable and write zeros there.
#[test]
fn what_was_not_yet_synced_at_a_kill_is_there_at_the_second_start_too() {
    const COUNT: u64 = 9_000;
    let root = folder("unproven");
    let start = || open_with(&root, Options { segment_bytes: 8 << 20, ..stand::options(1) }).unwrap();
    let mut shard = Shard::new(start().stores.into_iter().next().unwrap());
    let session = SessionNo::of_shard(0, 1).0;
    shard.append(&attached(session, "client"));
    shard.settle();
    for id in 1..=COUNT {
        shard.append(&published(id, &[7; 300], &[session]));
    }
    drop(shard);
    for number in 1..=3 {
        let opened = start();
        assert_eq!(opened.report.damaged, [], "start {number}");
        assert_eq!(opened.recovered[0].sessions[0].queue.len() as u64, COUNT, "start {number}");
    }
    std::fs::remove_dir_all(&root).unwrap();
}

/// The session as it stands when message `id` was the last one: ten wait.
fn image(session: u64, client_id: &str, id: u64) -> Record {
    Record::Session(Box::new(Session {
        session: SessionNo(session),
        client_id: client_id.into(),
        expiry_seconds: u32::MAX,
        queue: (id.saturating_sub(9).max(1)..=id).map(MessageId).collect(),
        ..Session::default()
    }))
}

#[test]
fn four_shards_share_the_threads_and_a_restart_finds_everything() {
    let root = folder("shards");
    let opened = open_threads(&root, 4).unwrap();
    drop(opened.logs);
    std::thread::scope(|scope| {
        for (index, store) in opened.stores.into_iter().enumerate() {
            scope.spawn(move || {
                let mut shard = Shard::new(store);
                let session = SessionNo::of_shard(u16::try_from(index).unwrap(), 1).0;
                shard.append(&attached(session, &format!("client-{index}")));
                for id in 1..=2_000 {
                    shard.append(&published(id, &[u8::try_from(index).unwrap(); 300], &[session]));
                    if id > 10 {
                        shard.append(&done(session, &[id - 10]));
                    }
                    if id % 100 == 0 {
                        shard.settle();
                    }
                    while let Some(record) = shard.store.next_reclaimable() {
                        match &record {
                            Record::Published(published) if published.id.0 + 10 <= id => {}
                            Record::Published(_) => shard.append(&record),
                            // Said as it was, it would stand behind messages that wait, and a replay would not know for whom.
                            _ => shard.append(&image(session, &format!("client-{index}"), id)),
                        }
                    }
                }
                shard.settle();
                shard.store.close().unwrap();
            });
        }
    });
    for shard_count in [4, 2] {
        let opened = open_threads(&root, shard_count).unwrap();
        assert_eq!((opened.report.sessions, opened.report.queued), (4, 40), "{:?}", opened.report);
        for (recovered, store) in opened.recovered.into_iter().zip(opened.stores) {
            let mut shard = Shard::new(store);
            for session in recovered.sessions {
                assert_eq!(queue(&session).len(), 10);
                shard.store.fetch(session.session, &session.queue);
                while shard.fetched.is_empty() {
                    shard.wakes.recv().unwrap();
                    shard.poll();
                }
                let index = session.client_id.bytes().last().unwrap() - b'0';
                for message in shard.fetched.drain(..) {
                    let FetchedMessage::Found(found) = message else { panic!("{message:?}") };
                    assert_eq!(*found.message.payload, [index; 300]);
                }
            }
        }
    }
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_directory_that_is_open_is_not_opened_twice() {
    let root = folder("twice");
    let opened = open_threads(&root, 1).unwrap();
    assert!(matches!(open_threads(&root, 1), Err(OpenError::InUse { .. })));
    drop(opened);
    open_threads(&root, 1).unwrap();
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_file_that_was_shortened_or_overwritten_is_met_with_a_report() {
    let root = folder("damage");
    let mut shard = Shard::new(open_threads(&root, 1).unwrap().stores.remove(0));
    shard.append(&attached(1, "a"));
    for id in 1..=1_000 {
        shard.append(&published(id, &[1; 300], &[1]));
        if id % 10 == 0 {
            shard.settle();
        }
    }
    shard.settle();
    drop(shard);
    let logs = root.join("epoch-00000001/shard-0000");
    let mut names: Vec<_> = std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    // The first of many is cut in the middle: everything behind is kept.
    let cut = std::fs::OpenOptions::new().write(true).open(&names[0]).unwrap();
    cut.set_len(10_000).unwrap();
    let mut opened = open_threads(&root, 1).unwrap();
    assert_eq!(opened.report.damaged.len(), 1, "{:?}", opened.report);
    let lost = opened.report.damaged[0].lost_records;
    assert!(lost > 50 && lost < 400, "{:?}", opened.report.damaged);
    assert_eq!(opened.report.sessions, 1);
    assert_eq!(opened.report.queued, 1_000 - lost);
    assert!(opened.report.torn.is_empty());
    let mut shard = Shard::new(opened.stores.remove(0));
    shard.store.fetch(SessionNo(1), &[MessageId(1), MessageId(1_000)]);
    while shard.fetched.is_empty() {
        shard.wakes.recv().unwrap();
        shard.poll();
    }
    assert!(
        shard.fetched.iter().all(|message| matches!(message, FetchedMessage::Found(_))),
        "{:?}",
        shard.fetched
    );
    drop(shard);
    std::fs::remove_dir_all(root).unwrap();
}

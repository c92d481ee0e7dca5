//! A boot: so many sessions, each with messages that wait, from real files.
//!
//! Expected before it was measured: a million sessions with ten messages each are 12 million records in about 3 GB of log. A record costs its
//! checksum (60 ns), its validation (60 ns) and its application (a hash lookup and a push, 150 ns): 3 s of processor time, shared by as
//! many threads as there are shards; and as much again where the log is not in the page cache.
//!
//! `cargo bench -p dunlin-persist --features files --bench recover -- [sessions] [messages each] [shards] [folder]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use dunlin_persist::record::{Attached, Message, Published, Receiver, Subscription};
use dunlin_persist::{MessageId, Opened, Options, RealDisk, Record, SessionNo, Store, SyncMode, Told, open};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mut number = |usual| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (sessions, each, shards) = (number(1_000_000_u64), number(10_u64), number(2_u64));
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let root = folder.join(format!("dunlin-bench-{}", std::process::id()));
    let shard_count = u16::try_from(shards).unwrap();
    write(&root, shard_count, sessions / shards, each);
    println!("{sessions} sessions, {each} messages of 128 B each, {shards} shards");
    for _ in 0..2 {
        let before = resident_bytes();
        let began = Instant::now();
        let opened = open_all(&root, shard_count);
        let seconds = began.elapsed().as_secs_f64();
        let report = &opened.report;
        println!(
            "read {:.0} MB, {} records in {seconds:.2} s: {:.0} MB/s; {} sessions, {} messages wait; {:.0} MB of memory, {} B a session",
            report.bytes as f64 / 1e6,
            report.records,
            report.bytes as f64 / 1e6 / seconds,
            report.sessions,
            report.queued,
            (resident_bytes() - before) as f64 / 1e6,
            (resident_bytes() - before) / sessions,
        );
        assert_eq!((report.sessions, report.queued), (sessions, sessions * each));
        drop(opened);
    }
    std::fs::remove_dir_all(root).unwrap();
}

fn open_all(root: &Path, shard_count: u16) -> Opened {
    let mut options = Options::new(shard_count, |_, _| 0, |_, _| 0);
    options.sync_mode = SyncMode::Threads;
    options.now_ms = 1_000_000;
    open(Arc::new(RealDisk::open(root).unwrap()), &options, &mut |_| {}).unwrap()
}

fn write(root: &Path, shard_count: u16, sessions: u64, each: u64) {
    let opened = open_all(root, shard_count);
    std::thread::scope(|scope| {
        for (shard, store) in opened.stores.into_iter().enumerate() {
            let shard = u16::try_from(shard).unwrap();
            scope.spawn(move || write_shard(store, shard, sessions, each));
        }
    });
}

fn write_shard(mut store: Store, shard: u16, sessions: u64, each: u64) {
    let mut writer = |seq: &mut u64, record: &Record| {
        *seq += 1;
        store.append(*seq, record).unwrap();
        if seq.is_multiple_of(10_000) {
            store.commit();
            store.poll(&mut Vec::<Told>::new());
        }
    };
    let mut seq = 0;
    for count in 1..=sessions {
        let session = SessionNo::of_shard(shard, count);
        writer(&mut seq, &attached(session));
        writer(&mut seq, &subscribed(session, count));
        let record =
            Record::Detached { session, at_ms: 1_000_000, expiry_seconds: u32::MAX, keeps_will: false };
        writer(&mut seq, &record);
    }
    for message in 1..=sessions * each {
        let session = SessionNo::of_shard(shard, (message - 1) % sessions + 1);
        writer(&mut seq, &published(message, session));
    }
    store.close().unwrap();
}

fn attached(session: SessionNo) -> Record {
    Record::Attached(Box::new(Attached {
        session,
        client_id: format!("sensor-{:016x}", session.0).into(),
        user_name: None,
        expiry_seconds: u32::MAX,
        will: None,
    }))
}

fn subscribed(session: SessionNo, count: u64) -> Record {
    let filter = format!("plant/7/sensor/{count}/command").into();
    Record::Subscribed { session, subscription: Subscription { filter, options: 1, identifier: 0 } }
}

fn published(message: u64, session: SessionNo) -> Record {
    Record::Published(Box::new(Published {
        id: MessageId(message),
        message: Message {
            topic: "plant/7/sensor/1234567/command".into(),
            publisher: "controller".into(),
            payload: vec![7; 128].into(),
            received_at_ms: 1_700_000_000_000,
            qos: 1,
            ..Message::default()
        },
        receivers: vec![Receiver { session, packet_id: 0, qos: 1, retain: false }],
        subscription_ids: Vec::new(),
        groups: Vec::new(),
        arrived: None,
    }))
}

/// Resident memory of this process, without pages of files.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

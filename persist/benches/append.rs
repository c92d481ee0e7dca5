//! Appending to a log on real files: what a shard's thread pays, and what a group commit gives.
//!
//! Expected before it was measured: a message of 128 B for one receiver is an archive (100 ns), a checksum over 330 B (40 ns), two
//! copies into the map (20 ns), an entry in the catalog (10 ns), and a minor fault for every twelve records (1.8 µs / 12): about 300 ns.
//! 16 KiB add a copy and a checksum, 3 µs each at 5 GB/s, and four faults. 10,000 receivers are 160 KB of archive: 150 µs.
//!
//! `cargo bench -p dunlin-persist --features files --bench append -- [records] [folder] [index]`; with the word `index`, an index in
//! memory follows the log.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Wakes, channel};
use std::time::{Duration, Instant};

use dunlin_persist::index::{Following, Index, MemoryTable, Writer, line};
use dunlin_persist::record::{Message, Published, Receiver};
use dunlin_persist::{MessageId, Options, RealDisk, Record, SessionNo, Store, SyncMode, Told, Waker, open};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(500_000_u64);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let place = Place { folder, has_index: arguments.next().is_some_and(|word| word == "index") };
    println!("{:<44} {:>10} {:>12} {:>12}", "append, no sync", "ns/record", "bytes/record", "waited rolls");
    row(&place, "message of 128 B, 1 receiver", &published(128, 1), count);
    row(&place, "message of 1 KiB, 1 receiver", &published(1 << 10, 1), count / 2);
    row(&place, "message of 16 KiB, 1 receiver", &published(16 << 10, 1), count / 20);
    row(&place, "message of 128 B, 100 receivers", &published(128, 100), count / 5);
    row(&place, "message of 128 B, 10,000 receivers", &published(128, 10_000), count / 500);
    row(&place, "acknowledgement of one message", &done(), count);
    println!();
    println!(
        "{:<28} {:>12} {:>9} {:>12} {:>12} {:>12} {:>10}",
        "128 B, synced in groups",
        "records/s",
        "syncs/s",
        "group, mean",
        "sync p50 µs",
        "sync p99 µs",
        "CPU ns"
    );
    for at_once in [1, 10, 100, 1_000] {
        commit_row(&place, at_once);
    }
}

fn row(place: &Place, name: &str, record: &Record, count: u64) {
    let count = count.max(1);
    let mut bench = Bench::new(place);
    let mut spent = Duration::ZERO;
    for seq in 1..=count {
        let record = numbered(record, seq);
        let began = Instant::now();
        bench.store.append(seq, &record).unwrap();
        spent += began.elapsed();
        if seq.is_multiple_of(4_096) {
            // A segment ahead is what a shard has as well: making it is the disk threads' cost.
            bench.settle(seq);
        }
    }
    let metrics = bench.store.metrics();
    let empty = clock_cost();
    let mean = spent.as_nanos() as f64 / count as f64 - empty;
    let length = metrics.appended_bytes as f64 / metrics.appended_records as f64;
    println!("{name:<44} {mean:>10.0} {length:>12.0} {:>12}", metrics.waited_rolls);
    bench.end();
}

/// `at_once` records in flight, as that many publishers with one unacknowledged message each make them.
fn commit_row(place: &Place, at_once: u64) {
    let mut bench = Bench::new(place);
    let (began, cpu) = (Instant::now(), thread_cpu());
    let mut seq = 0;
    let mut stored = 0;
    while began.elapsed() < Duration::from_secs(2) {
        while seq < stored + at_once {
            seq += 1;
            bench.store.append(seq, &numbered(&published(128, 1), seq)).unwrap();
        }
        bench.store.commit();
        stored = stored.max(bench.wait());
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (thread_cpu() - cpu).as_nanos() as f64 / stored as f64;
    let metrics = bench.store.metrics();
    println!(
        "{:<28} {:>12.0} {:>9.0} {:>12.1} {:>12} {:>12} {:>10.0}",
        format!("{at_once} in flight"),
        stored as f64 / seconds,
        metrics.syncs as f64 / seconds,
        metrics.group_records.sum as f64 / metrics.syncs as f64,
        quantile(&metrics.sync_us.buckets, 50),
        quantile(&metrics.sync_us.buckets, 99),
        cpu,
    );
    bench.end();
}

/// The upper end of the bucket that the quantile falls into.
fn quantile(buckets: &[u64; 32], percent: u64) -> u64 {
    let total: u64 = buckets.iter().sum();
    let mut left = (total * percent).div_ceil(100);
    for (index, count) in buckets.iter().enumerate() {
        if *count >= left {
            return 1 << index;
        }
        left -= count;
    }
    u64::MAX
}

/// Where the log is, and whether an index follows it.
struct Place {
    folder: PathBuf,
    has_index: bool,
}

struct Bench {
    store: Store,
    index: Option<Writer>,
    wakes: Wakes<()>,
    root: PathBuf,
    stored: u64,
}

impl Bench {
    fn new(place: &Place) -> Self {
        let root = place.folder.join(format!("dunlin-bench-{}", std::process::id()));
        let mut options = Options::new(1, |_, _| 0, |_, _| 0);
        options.sync_mode = SyncMode::Threads;
        let index = place.has_index.then(|| {
            let (line, end) = line(1);
            options.index = Some(line.clone());
            let table = || Some(Index::new(Box::new(MemoryTable::default())));
            Writer::start((line, end), move |_| table(), |_| {}).unwrap()
        });
        let mut opened = open(Arc::new(RealDisk::open(&root).unwrap()), &options, &mut |_| {}).unwrap();
        let mut store = opened.stores.remove(0);
        let (sender, wakes) = channel();
        store.attach(Waker::new(move || sender.send(()).unwrap_or(())));
        let mut bench = Self { store, index, wakes, root, stored: 0 };
        while bench.store.metrics().spare_segments < 2 {
            bench.poll();
            std::thread::yield_now();
        }
        bench
    }

    fn poll(&mut self) -> u64 {
        let mut told = Vec::new();
        self.store.poll(&mut told);
        for one in told {
            if let Told::Stored { seq } = one {
                self.stored = seq;
            }
        }
        self.stored
    }

    /// Waits until something more is stored.
    fn wait(&mut self) -> u64 {
        let before = self.stored;
        while self.poll() == before {
            self.wakes.recv().unwrap();
        }
        self.stored
    }

    /// Waits until everything is stored, and cleans: nobody holds anything.
    fn settle(&mut self, seq: u64) {
        self.store.commit();
        while self.poll() < seq {
            self.wakes.recv().unwrap();
        }
        while self.store.next_reclaimable().is_some() {}
        while self.store.metrics().spare_segments < 2 {
            self.poll();
            std::thread::yield_now();
        }
    }

    fn end(self) {
        drop(self.store);
        if let Some(index) = self.index {
            assert_eq!(index.following(), Following::Yes);
            index.stop(Duration::from_secs(5));
        }
        std::fs::remove_dir_all(self.root).unwrap();
    }
}

fn published(payload_bytes: usize, receiver_count: u64) -> Record {
    let receiver = |session| Receiver { session: SessionNo(session), packet_id: 0, qos: 1, retain: false };
    Record::Published(Box::new(Published {
        id: MessageId(0),
        message: Message {
            topic: "plant/7/line/3/sensor/42/temperature".into(),
            publisher: "sensor-42".into(),
            payload: vec![7; payload_bytes].into(),
            received_at_ms: 1_700_000_000_000,
            qos: 1,
            ..Message::default()
        },
        receivers: (1..=receiver_count).map(receiver).collect(),
        subscription_ids: Vec::new(),
        groups: Vec::new(),
        arrived: None,
    }))
}

fn done() -> Record {
    Record::Done { session: SessionNo(1), messages: vec![MessageId(1)] }
}

fn numbered(record: &Record, seq: u64) -> Record {
    let mut record = record.clone();
    if let Record::Published(published) = &mut record {
        published.id = MessageId(seq);
    }
    record
}

/// What reading the clock twice costs, nanoseconds.
fn clock_cost() -> f64 {
    let began = Instant::now();
    for _ in 0..10_000 {
        std::hint::black_box(Instant::now().elapsed());
    }
    began.elapsed().as_nanos() as f64 / 20_000.0
}

/// Processor time of this thread so far, from the kernel's own account.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

//! Building the index for many sessions and looking one up: time, memory of the process, bytes on the disk.
//!
//! Expected before it was measured: two pairs of about 60 B per session, 2 million insertions for a million sessions at some hundred
//! thousand a second: 10 s on one core, while the broker serves. Memory: the cache (16 MiB), what is dirty between two syncs (16,384
//! changes), and sled's table of pages.
//!
//! Measured on two busy cores: 43 s of CPU to build a million, 116 MiB resident, 595 MiB on the disk; 1 s of CPU to open; 36 µs for a look-up. So
//! sled takes 600 B on the disk and 100 B in memory for a session, and building is a matter of a minute in the background.
//!
//! `cargo bench -p dunlin-persist --features files,sled --bench index -- [sessions] [folder]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use dunlin_persist::SessionNo;
use dunlin_persist::index::writer::Opening;
use dunlin_persist::index::{
    Change, Header, Index, IndexError, Notice, Place, Sum, Truth, TruthOfShard, open_beside,
};

/// A log in which each frame begins a session.
struct Log {
    sessions: u64,
}

impl Log {
    fn name(number: u64) -> String {
        format!("meter-{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

impl Truth for Log {
    fn header(&self) -> Header {
        Header { epoch: 1, shard_count: 1, logs: 7 }
    }

    fn shards(&self) -> Vec<TruthOfShard> {
        let mut sum = Sum::default();
        (1..=self.sessions).for_each(|number| sum.add(&Self::name(number), SessionNo(number)));
        vec![TruthOfShard { shard: 0, first: 1, last: self.sessions, sum }]
    }

    fn changes(
        &self,
        _: u16,
        after: u64,
        each: &mut dyn FnMut(u64, Change) -> bool,
    ) -> Result<(), IndexError> {
        for number in after + 1..=self.sessions {
            let at = Place { segment: number >> 16, offset: 64 + (number & 0xFFFF) * 160, sequence: number };
            let client_id = Self::name(number).into();
            if !each(number, Change::Begun { client_id, session: SessionNo(number), at }) {
                break;
            }
        }
        Ok(())
    }

    fn has_moved_on(&self, _: u16) -> bool {
        false
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let sessions = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1_000_000_u64);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let root = folder.join(format!("dunlin-bench-index-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    println!("{:<28} {:>9} {:>9} {:>9} {:>10}", "", "seconds", "CPU s", "RSS MiB", "disk MiB");
    let log = Log { sessions };
    for what in ["build", "open, nothing to do"] {
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let index = open(&root, &log);
        row(what, began, cpu, &root);
        if what != "build" {
            look_up(&index, sessions);
        }
    }
    std::fs::remove_dir_all(root).unwrap();
}

fn open(root: &Path, log: &Log) -> Index {
    let mut tell = |notice: Notice| println!("{notice}");
    open_beside(root, log, Opening { is_stopping: &|| false, tell: &mut tell }).unwrap()
}

fn look_up(index: &Index, sessions: u64) {
    let began = Instant::now();
    for number in 1..=10_000 {
        let number = number * 7_919 % sessions + 1;
        let found = index.session(&Log::name(number)).unwrap().unwrap();
        assert_eq!(found.session, SessionNo(number));
    }
    println!("{:<28} {:>9.1} µs", "look one up", began.elapsed().as_secs_f64() * 1e6 / 10_000.0);
}

fn row(what: &str, began: Instant, cpu: f64, root: &Path) {
    let seconds = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    let cpu = cpu_seconds() - cpu;
    println!(
        "{what:<28} {seconds:>9.1} {cpu:>9.1} {:>9.0} {:>10.0}",
        kib / 1024.0,
        disk_bytes(root) / 1048576.0
    );
}

/// Of the whole process: sled works on threads of its own.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn disk_bytes(folder: &Path) -> f64 {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        #[expect(clippy::cast_precision_loss, reason = "shown in MiB")]
        let own = entry.metadata().unwrap().len() as f64;
        bytes += if path.is_dir() { disk_bytes(&path) } else { own };
    }
    bytes
}

//! The disk below a folder: what one fdatasync costs there, and how much a folder takes.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::error::Error;

/// Options of `dunlin-perf fsync`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Folder on the disk in question.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// How often it is measured.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Bytes written before each fdatasync.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub(crate) bytes: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Times of one fdatasync, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct SyncTimes {
    pub(crate) count: u32,
    pub(crate) bytes: u32,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    pub(crate) per_second: f64,
}

impl SyncTimes {
    /// Writes `bytes` into a preallocated file and syncs them, `count` times, one place after the other: what a log does. The
    /// file's blocks are written once before, so that no sync has to record new ones.
    ///
    /// # Errors
    /// When the folder can't be written.
    #[expect(clippy::disallowed_methods, reason = "the tool's edge to the clock")]
    pub(crate) fn measure(folder: &Path, count: u32, bytes: u32) -> Result<Self, Error> {
        let path = folder.join(format!("dunlin-perf-fsync-{}", std::process::id()));
        let host = |source| Error::host(format!("syncing {}", path.display()), source);
        let size = u64::from(bytes) * u64::from(count.min(PLACES));
        let mut file = prepared(&path, size).map_err(host)?;
        let data = vec![0x5A; usize::try_from(bytes).unwrap_or(usize::MAX)];
        let mut times: Vec<f64> = Vec::new();
        let began = Instant::now();
        for number in 0..count {
            let place = u64::from(number % PLACES) * u64::from(bytes);
            file.seek(SeekFrom::Start(place)).and_then(|_| file.write_all(&data)).map_err(host)?;
            let start = Instant::now();
            file.sync_data().map_err(host)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        let seconds = began.elapsed().as_secs_f64();
        drop(std::fs::remove_file(&path));
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get((times.len() - 1) * share / 100).copied().unwrap_or(0.0);
        Ok(Self {
            count,
            bytes,
            p50_us: at(50),
            p90_us: at(90),
            p99_us: at(99),
            max_us: at(100),
            per_second: f64::from(count) / seconds,
        })
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        format!(
            "one fdatasync after {} bytes: p50 {:.0}  p90 {:.0}  p99 {:.0}  max {:.0} us; {:.0} a second one after the other",
            self.bytes, self.p50_us, self.p90_us, self.p99_us, self.max_us, self.per_second
        )
    }
}

fn prepared(path: &Path, size: u64) -> std::io::Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all(&zeros[..part])?;
        left -= u64::try_from(part).unwrap_or(left);
    }
    file.sync_all()?;
    Ok(file)
}

/// Bytes on the disk below a folder, as `du` counts them.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| {
        let Ok(facts) = entry.metadata() else { return 0 };
        if facts.is_dir() { folder_bytes(&entry.path()) } else { facts.blocks() * BLOCK_BYTES }
    };
    entries.filter_map(Result::ok).map(of).sum()
}

/// Places that are written to in turn.
const PLACES: u32 = 1_024;
/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_and_nothing_is_left() {
        let folder = std::env::temp_dir().join(format!("dunlin-perf-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let times = SyncTimes::measure(&folder, 5, 100).unwrap();
        assert!(times.p50_us > 0.0 && times.p50_us <= times.max_us, "{times:?}");
        assert_eq!(folder_bytes(&folder), 0);
        crate::files::write(&folder.join("a/b"), &"x".repeat(10_000)).unwrap();
        assert!((10_000..20_000).contains(&folder_bytes(&folder)));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

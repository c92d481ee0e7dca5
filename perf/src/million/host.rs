//! The host's memory: whether it suffices, and how much is in use.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::error::Error;
use crate::files;

/// Memory that new programs and sockets can have, in bytes: `MemAvailable` of /proc/meminfo.
pub(super) fn available_bytes() -> u64 {
    let text = files::read(Path::new("/proc/meminfo")).unwrap_or_default();
    available(&text).unwrap_or(0)
}

fn available(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1_024)
}

/// Says no before the kernel begins to kill.
pub(super) fn refuse_if_too_small(connections: u32) -> Result<(), Error> {
    let needed = u64::from(connections) * BYTES_PER_CONNECTION + BYTES_FIXED;
    let there = available_bytes();
    if needed <= there {
        return Ok(());
    }
    let affordable = there.saturating_sub(BYTES_FIXED) / BYTES_PER_CONNECTION;
    Err(Error::Advice(format!(
        "{connections} connections need some {} MiB (kernel, broker and generator together), and {} MiB are free; close \
         what else runs, or try --connections {affordable}",
        needed >> 20,
        there >> 20
    )))
}

/// One line that says how long it has taken and how much memory is in use; redrawn on a terminal, rarer elsewhere.
pub(super) fn progress(elapsed: Duration, used: u64) {
    let mut stderr = std::io::stderr();
    let seconds = elapsed.as_secs();
    let line = format!("{seconds:>5} s  {:>6} MiB more than before", used >> 20);
    if stderr.is_terminal() {
        drop(write!(stderr, "\r{line}"));
    } else if seconds.is_multiple_of(10) {
        drop(writeln!(stderr, "{line}"));
    }
}

/// Measured with 2,000,000 on Linux 6.18: 7.3 KB in all, both ends of each connection, with some room.
const BYTES_PER_CONNECTION: u64 = 8_200;
/// Rings and buffers of both programs.
const BYTES_FIXED: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    1024 kB\n"), Some(1 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn more_than_the_host_has_is_refused_with_what_it_could_hold() {
        let error = refuse_if_too_small(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("--connections "), "{error}");
        assert!(refuse_if_too_small(1).is_ok());
    }
}

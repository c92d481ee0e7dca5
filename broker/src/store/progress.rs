//! How far long work is, on standard error.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::clock;

/// How often a line is written: often enough for a person, rarely enough for a log.
const EVERY: Duration = Duration::from_secs(1);

/// Writes a line a second, none in the first.
pub(crate) struct ProgressLine {
    begun: Instant,
    last: Instant,
    is_terminal: bool,
    is_shown: bool,
}

impl ProgressLine {
    pub(crate) fn new() -> Self {
        let now = clock::now();
        Self { begun: now, last: now, is_terminal: std::io::stderr().is_terminal(), is_shown: false }
    }

    /// So much of so much is done.
    pub(crate) fn at(&mut self, what: &str, done: u64, total: u64) {
        let now = clock::now();
        if now.duration_since(self.last) < EVERY {
            return;
        }
        self.last = now;
        self.is_shown = true;
        let line = line(what, done, total, now.duration_since(self.begun));
        let end = if self.is_terminal { "\x1b[K\r" } else { "\n" };
        drop(write!(std::io::stderr().lock(), "{line}{end}"));
    }

    /// Clears the line of a terminal.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) && self.is_terminal {
            drop(write!(std::io::stderr().lock(), "\x1b[K"));
        }
    }
}

fn line(what: &str, done: u64, total: u64, since: Duration) -> String {
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    let left = match done {
        0 => String::new(),
        _ => {
            let whole = since.as_secs_f64() * total_by_done(done, total);
            format!(", about {:.0} s left", (whole - since.as_secs_f64()).max(0.0))
        }
    };
    format!("dunlin: {what}: {percent} % of {}{left}", size(total))
}

#[expect(clippy::cast_precision_loss, reason = "a guess for people")]
fn total_by_done(done: u64, total: u64) -> f64 {
    total as f64 / done.max(1) as f64
}

/// Bytes as people read them: 1.5 GiB.
#[expect(clippy::cast_precision_loss, reason = "rounded for people")]
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < units.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_and_how_long() {
        let text = line("reading", 1 << 30, 4 << 30, Duration::from_secs(3));
        assert_eq!(text, "dunlin: reading: 25 % of 4.0 GiB, about 9 s left");
        assert_eq!(line("reading", 0, 0, Duration::ZERO), "dunlin: reading: 100 % of 0 B");
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(
            [size(0), size(1_023), size(1_536), size(1 << 40)],
            ["0 B", "1023 B", "1.5 KiB", "1.0 TiB"]
        );
    }
}

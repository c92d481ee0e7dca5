//! The only reader of the clock on the data plane: once per tick.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Mono, NS_PER_MS, NS_PER_SECOND, Now, WallMs};

/// Reads monotonic time each tick and wall time once a second; between, the wall follows the monotonic clock. One per
/// shard; all shards of a process count from one origin.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    wall_at: Now,
}

impl Clock {
    /// A clock that counts from the process's origin: the first clock ever made.
    pub(super) fn new() -> Self {
        let origin = *ORIGIN.get_or_init(read_instant);
        let mono = since(origin);
        Self { origin, wall_at: Now { mono, wall: read_wall() } }
    }

    /// The time, both clocks. About 25 ns.
    pub(super) fn now(&mut self) -> Now {
        let mono = since(self.origin);
        let age = mono.since(self.wall_at.mono);
        if age >= NS_PER_SECOND {
            self.wall_at = Now { mono, wall: read_wall() };
            return self.wall_at;
        }
        Now { mono, wall: WallMs(self.wall_at.wall.0 + age / NS_PER_MS) }
    }
}

static ORIGIN: OnceLock<Instant> = OnceLock::new();

fn since(origin: Instant) -> Mono {
    Mono(u64::try_from(read_instant().duration_since(origin).as_nanos()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "this file is where the data plane reads the clock")]
fn read_instant() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this file is where the data plane reads the clock")]
fn read_wall() -> WallMs {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_the_wall_follows() {
        let mut clock = Clock::new();
        let first = clock.now();
        let mut last = first;
        while last.mono.since(first.mono) < 20 * NS_PER_MS {
            let next = clock.now();
            assert!(next.mono >= last.mono);
            last = next;
        }
        let wall_ms = last.wall.0 - first.wall.0;
        assert!((15..2_000).contains(&wall_ms), "the wall moved by {wall_ms} ms");
    }

    #[test]
    fn two_clocks_count_from_one_origin() {
        let (mut a, mut b) = (Clock::new(), Clock::new());
        let (first, second) = (a.now().mono, b.now().mono);
        assert!(second >= first && second.since(first) < NS_PER_SECOND);
    }
}

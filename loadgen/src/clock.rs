//! The one clock of the generator: nanoseconds since it started.

use std::time::{Instant, SystemTime};

/// Nanoseconds since the start of the program, from the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    /// This time plus `nanoseconds`.
    pub(crate) const fn after(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }

    /// Nanoseconds from `earlier` until this time; zero if it is not earlier.
    pub(crate) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Reads the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the generator's edge to the clock")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time now. Costs about 30 ns.
    pub(crate) fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.start.elapsed().as_nanos()).expect("584 years of nanoseconds fit"))
    }
}

/// Milliseconds since 1970, from the clock of the host.
#[expect(clippy::disallowed_methods, reason = "this is the generator's edge to the clock")]
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds of the command line, which allows 0 to 10^6, in nanoseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the command line allows 0 to 10^6"
)]
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND_NS as f64) as u64
}

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub(crate) const MILLISECOND_NS: u64 = 1_000_000;

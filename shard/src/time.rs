//! Time as values: the core is told the time, it never asks.

/// Monotonic time, nanoseconds since an origin that is the same for all shards of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// This time and `seconds` more; saturates.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(NS_PER_SECOND)))
    }

    /// This time and `milliseconds` more; saturates.
    #[must_use]
    pub const fn plus_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds.saturating_mul(NS_PER_MS)))
    }

    /// Nanoseconds from `earlier` to this time, 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Wall-clock time, milliseconds since 1970-01-01 UTC. For expiry that outlives a process and for texts; never for order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMs(pub u64);

/// A time that may lie before the origin of [`Mono`]: when something happened, perhaps in an earlier process. Nanoseconds from
/// that origin, which may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Past(pub i64);

impl Past {
    /// Now.
    #[must_use]
    pub const fn of(at: Mono) -> Self {
        Self(if at.0 > i64::MAX as u64 { i64::MAX } else { at.0.cast_signed() })
    }

    /// A wall-clock time, as both clocks stand now. A time in the future counts as now: a clock that was set back does not make
    /// anything last longer than it was asked to.
    #[must_use]
    pub const fn of_wall(at: WallMs, now: Now) -> Self {
        let ago_ms = now.wall.0.saturating_sub(at.0);
        let ago_ns = ago_ms.saturating_mul(NS_PER_MS);
        let ago = if ago_ns > i64::MAX as u64 { i64::MAX } else { ago_ns.cast_signed() };
        Self(Self::of(now.mono).0.saturating_sub(ago))
    }

    /// On the wall clock, as both clocks stand now.
    #[must_use]
    pub const fn to_wall(self, now: Now) -> WallMs {
        let ago_ns = Self::of(now.mono).0.saturating_sub(self.0);
        let ago_ms = if ago_ns > 0 { ago_ns.cast_unsigned() / NS_PER_MS } else { 0 };
        WallMs(now.wall.0.saturating_sub(ago_ms))
    }

    /// This time and `seconds` more; the origin if that is before it.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> Mono {
        let ns = seconds.saturating_mul(NS_PER_SECOND);
        if self.0 >= 0 {
            Mono(self.0.cast_unsigned().saturating_add(ns))
        } else {
            Mono(ns.saturating_sub(self.0.unsigned_abs()))
        }
    }
}

/// The time of one tick, both clocks read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and intervals.
    pub mono: Mono,
    /// For message expiry and texts.
    pub wall: WallMs,
}

/// Nanoseconds in a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_before_the_process_keeps_its_distance() {
        let now = Now { mono: Mono(5 * NS_PER_SECOND), wall: WallMs(1_700_000_000_000) };
        let past = Past::of_wall(WallMs(now.wall.0 - 60_000), now);
        assert_eq!(past, Past(-55_000_000_000));
        assert_eq!(past.to_wall(now), WallMs(now.wall.0 - 60_000));
        assert_eq!(past.plus_seconds(100), Mono(45 * NS_PER_SECOND));
        assert_eq!(past.plus_seconds(10), Mono(0), "long over");
        assert_eq!(Past::of_wall(WallMs(now.wall.0 + 9), now), Past::of(now.mono), "the clock was set back");
        assert_eq!(Past::of(now.mono).plus_seconds(1), Mono(6 * NS_PER_SECOND));
    }
}

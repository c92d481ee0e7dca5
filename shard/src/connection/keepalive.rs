//! Keep Alive: closes a connection that has been silent for too long (§MQTT5 3.1.2.10, §MQTT311 3.1.2.10).
//!
//! Pure: the caller hands in the time and performs the result. A packet only notes the time; the timer is armed once per
//! silence, not once per packet.

use std::num::NonZeroU16;

use crate::time::{Mono, NS_PER_SECOND};

/// The silence watch of one connection, on its home core. 16 B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    heard_at: Mono,
    silence_ns_max: u64,
}

/// What the connection should do after a timer fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Close as if the network had failed: the Will is published.
    Expire,
    /// Ask again at this time.
    Recheck {
        /// When the silence would become too long.
        at: Mono,
    },
}

impl KeepAlive {
    /// Watches a connection whose Keep Alive is `seconds`. `multiplier_percent` is `mqtt.keepalive_multiplier` (150 = one
    /// and a half times, what the standard says). A Keep Alive of 0 has no watch `[MQTT5-3.1.2-22]`.
    #[must_use]
    pub const fn new(seconds: NonZeroU16, multiplier_percent: u32, now: Mono) -> Self {
        let percent_seconds = seconds.get() as u64 * multiplier_percent as u64;
        let silence_ns_max = percent_seconds.saturating_mul(NS_PER_SECOND / 100);
        Self { heard_at: now, silence_ns_max }
    }

    /// Notes that a packet came. A PINGREQ counts like any other packet, QoS 0 messages to the client do not.
    #[inline]
    pub const fn heard(&mut self, now: Mono) {
        self.heard_at = now;
    }

    /// When the last packet came.
    #[must_use]
    pub const fn heard_at(&self) -> Mono {
        self.heard_at
    }

    /// When the silence becomes too long.
    #[must_use]
    pub const fn expires_at(&self) -> Mono {
        Mono(self.heard_at.0.saturating_add(self.silence_ns_max))
    }

    /// Decides whether the client has been silent for too long.
    ///
    /// [MQTT311-3.1.2-24] [MQTT5-3.1.2-22]: no packet within one and a half times the Keep Alive means the connection MUST
    /// be closed.
    #[must_use]
    pub fn check(&self, now: Mono) -> Verdict {
        let expires_at = self.expires_at();
        if now < expires_at { Verdict::Recheck { at: expires_at } } else { Verdict::Expire }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::default().plus_seconds(seconds)
    }

    #[test]
    fn silence_of_one_and_a_half_keep_alives_closes() {
        // [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]
        let mut watch = KeepAlive::new(NonZeroU16::new(10).unwrap(), 150, at(0));
        assert_eq!(watch.check(at(14)), Verdict::Recheck { at: at(15) });
        assert_eq!(watch.check(at(15)), Verdict::Expire);
        watch.heard(at(14));
        assert_eq!(watch.check(at(15)), Verdict::Recheck { at: at(29) });
        assert_eq!(watch.check(at(29)), Verdict::Expire);
    }

    #[test]
    fn the_longest_keep_alive_does_not_overflow() {
        let watch = KeepAlive::new(NonZeroU16::MAX, u32::MAX, Mono(u64::MAX - 5));
        assert_eq!(watch.expires_at(), Mono(u64::MAX));
    }
}

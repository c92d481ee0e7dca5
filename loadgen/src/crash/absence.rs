//! How long a client has been away, as far as it can tell: a Will's delay and a session's end count from a moment that only
//! the broker knows.
//!
//! The connection ended at the earliest when the client let go of it or the broker was killed. The broker counts at the latest
//! from the moment when it is told, which after a kill is the next start: it can't know when it died. From then on it goes
//! on counting, over further restarts as well.

use crate::clock::{MILLISECOND_NS, Nanos, SECOND_NS};

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// Connected, or never was.
    None,
    /// Away.
    Since {
        /// Its connection did not end before this.
        earliest: Nanos,
        /// The broker counts from here at the latest; `None` until it is started again.
        latest: Option<Nanos>,
    },
    /// It has sent a CONNECT that had no answer: nobody knows what the broker made of it.
    Unclear,
}

/// Whether a span of time had passed when the client came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    No,
    Perhaps,
    Yes,
}

impl Absence {
    /// The broker was killed at `moment`: what it was told immediately before it may not have noticed.
    pub(crate) fn broker_gone(&mut self, moment: Nanos) {
        if let Self::Since { latest, .. } = self
            && latest.is_some_and(|latest| moment.since(latest) < NOTICE_NS)
        {
            *latest = None;
        }
    }

    /// The broker serves clients again.
    pub(crate) fn broker_back(&mut self, now: Nanos) {
        if let Self::Since { latest, .. } = self {
            latest.get_or_insert(now);
        }
    }

    /// Whether `seconds` had passed before a CONNECT that was sent at `sent` and answered at `answered`.
    pub(crate) fn passed(self, seconds: u32, sent: Nanos, answered: Nanos) -> Passed {
        let span_ns = u64::from(seconds).saturating_mul(SECOND_NS);
        match self {
            Self::None => Passed::No,
            Self::Unclear => Passed::Perhaps,
            Self::Since { earliest, .. } if answered.since(earliest).saturating_add(EARLY_NS) < span_ns => {
                Passed::No
            }
            Self::Since { latest, .. } => {
                let surely =
                    latest.is_some_and(|latest| sent.since(latest) >= span_ns.saturating_add(LATE_NS));
                if surely { Passed::Yes } else { Passed::Perhaps }
            }
        }
    }
}

/// A broker that lives on for so long has noticed the end of a connection, and written it down.
const NOTICE_NS: u64 = 200 * MILLISECOND_NS;
/// A broker's clock may be ahead by so much.
const EARLY_NS: u64 = 20 * MILLISECOND_NS;
/// And it may be late by so much with what is due.
const LATE_NS: u64 = 700 * MILLISECOND_NS;

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Nanos {
        Nanos(ms * MILLISECOND_NS)
    }

    #[test]
    fn a_span_has_passed_or_not_or_nobody_knows() {
        let away = Absence::Since { earliest: ms(1_000), latest: Some(ms(1_000)) };
        assert_eq!(away.passed(1, ms(1_900), ms(1_950)), Passed::No);
        assert_eq!(away.passed(1, ms(1_900), ms(2_050)), Passed::Perhaps);
        assert_eq!(away.passed(1, ms(2_600), ms(2_610)), Passed::Perhaps);
        assert_eq!(away.passed(1, ms(2_700), ms(2_710)), Passed::Yes);
        assert_eq!(Absence::Unclear.passed(1, ms(9_000), ms(9_000)), Passed::Perhaps);
        assert_eq!(Absence::None.passed(1, ms(9_000), ms(9_000)), Passed::No);
    }

    #[test]
    fn what_was_told_immediately_before_a_kill_counts_from_the_next_start_and_other_things_go_on_counting() {
        let mut away = Absence::Since { earliest: ms(1_000), latest: Some(ms(1_000)) };
        away.broker_gone(ms(1_100));
        assert_eq!(away.passed(1, ms(5_000), ms(5_000)), Passed::Perhaps);
        away.broker_back(ms(2_000));
        away.broker_gone(ms(2_300));
        away.broker_back(ms(3_600));
        assert_eq!(away, Absence::Since { earliest: ms(1_000), latest: Some(ms(2_000)) });
        assert_eq!(away.passed(1, ms(3_800), ms(3_800)), Passed::Yes);
    }
}

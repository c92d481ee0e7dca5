//! Whether the generator was the limit: then the figures are its own and not the broker's.

use serde::{Deserialize, Serialize};

/// What the generator knows of its own performance in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GeneratorSigns {
    /// Share of a core that its busiest load thread used.
    pub(crate) busy: f64,
    /// Whether that thread polls instead of sleeping and so fills its core by design.
    pub(crate) polls: bool,
    /// Messages sent on a schedule.
    pub(crate) sent_count: u64,
    /// Of those, sent more than a millisecond after their time through the generator's own fault.
    pub(crate) late_count: u64,
    /// Completions that found the ring's queue full: the kernel had to keep them aside.
    pub(crate) overflow_count: u64,
    /// Share of a core that the broker's busiest thread used, if the broker was observed.
    pub(crate) broker_busy: Option<f64>,
}

/// A reason to doubt that the figures are the broker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Doubt {
    /// In a whole sentence, with what to do.
    pub(crate) text: String,
    /// Whether the run must not be certified.
    pub(crate) disqualifies: bool,
}

impl GeneratorSigns {
    /// The reasons to doubt a run, worst first; none if the generator had room left.
    ///
    /// * A load thread that fills its core while no thread of the broker does: the rate is the generator's. When the broker's
    ///   busiest thread is full too, both are at their limit and the run counts, with a note. When the broker was not observed
    ///   there is no telling, and the run is not certified.
    /// * More than one message in a hundred sent late: the upper percentiles are the generator's.
    /// * Overflows of the completion queue delay what has arrived; they are noted.
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if self.is_late() {
            let text = format!(
                "{} of {} messages were sent more than a millisecond late: the latencies are the generator's; lower the rate or \
                 give the generator a core of its own",
                self.late_count, self.sent_count
            );
            doubts.push(Doubt { text, disqualifies: true });
        }
        if !self.polls && self.busy >= FULL_CORE {
            doubts.push(self.full());
        }
        if self.overflow_count > 0 {
            let text = format!(
                "{} completions overflowed the generator's queue: it read them late",
                self.overflow_count
            );
            doubts.push(Doubt { text, disqualifies: false });
        }
        doubts
    }

    /// Whether more than [`LATE_SHARE_MAX`] of the messages were late.
    #[expect(clippy::cast_precision_loss, reason = "a share; 53 bits are plenty")]
    fn is_late(&self) -> bool {
        self.late_count as f64 > self.sent_count as f64 * LATE_SHARE_MAX
    }

    fn full(&self) -> Doubt {
        let percent = self.busy * 100.0;
        let (rest, disqualifies) = match self.broker_busy {
            Some(broker) if broker >= FULL_CORE => {
                ("; the broker's busiest thread was full as well".to_owned(), false)
            }
            Some(broker) => {
                let rest = format!(
                    " while the broker's busiest thread used {:.0} %: the rate is the generator's; use more generators or \
                     fewer messages",
                    broker * 100.0
                );
                (rest, true)
            }
            None => {
                let rest = " and the broker was not observed (--broker-pid): the rate may be the generator's";
                (rest.to_owned(), true)
            }
        };
        Doubt {
            text: format!("the generator's busiest thread used {percent:.0} % of its core{rest}"),
            disqualifies,
        }
    }
}

/// A thread this busy is full.
pub(crate) const FULL_CORE: f64 = 0.97;
/// A run with a larger share of late messages is not certified.
pub(crate) const LATE_SHARE_MAX: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    fn disqualified(signs: GeneratorSigns) -> bool {
        signs.doubts().iter().any(|doubt| doubt.disqualifies)
    }

    #[test]
    fn a_full_generator_disqualifies_unless_the_broker_is_full_too_or_it_polls() {
        let signs =
            |busy, broker_busy, polls| GeneratorSigns { busy, broker_busy, polls, ..Default::default() };
        assert!(disqualified(signs(0.99, Some(0.5), false)));
        assert!(disqualified(signs(0.99, None, false)));
        assert!(!disqualified(signs(0.99, Some(0.98), false)));
        assert_eq!(signs(0.99, Some(0.98), false).doubts().len(), 1);
        assert!(signs(1.0, Some(0.5), true).doubts().is_empty());
        assert!(signs(0.6, Some(0.5), false).doubts().is_empty());
    }

    #[test]
    fn one_late_message_in_a_hundred_is_the_limit() {
        let signs = |late_count| GeneratorSigns { sent_count: 1_000, late_count, ..Default::default() };
        assert!(!disqualified(signs(10)));
        assert!(disqualified(signs(11)));
        assert!(signs(0).doubts().is_empty());
    }

    #[test]
    fn an_overflow_is_noted_and_no_more() {
        let signs = GeneratorSigns { overflow_count: 1, ..Default::default() };
        assert_eq!(signs.doubts().len(), 1);
        assert!(!disqualified(signs));
    }
}

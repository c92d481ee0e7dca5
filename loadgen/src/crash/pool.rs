//! What one publisher sent to a shared group at one QoS, as the group sees it.
//!
//! Each message must reach one of its members, whichever. In what order, and whether a member that leaves takes messages
//! with it that the next one then gets, is the broker's affair; with QoS 2 no two of them may get the same one.

use std::collections::BTreeSet;

use super::stream::Arrival;

/// One route of a group.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) group: usize,
    /// Sent while the group had a member, and not here yet.
    awaited: BTreeSet<u32>,
    /// May come or not: refused, in doubt, or given up.
    excused: BTreeSet<u32>,
    /// Whether a second arrival is a violation.
    exactly_once: bool,
}

impl Pool {
    /// Nothing has been sent.
    pub(crate) const fn new(group: usize, exactly_once: bool) -> Self {
        Self { group, awaited: BTreeSet::new(), excused: BTreeSet::new(), exactly_once }
    }

    /// A message goes out; it is owed if the group `has_members`.
    pub(crate) fn send(&mut self, number: u32, has_members: bool) {
        let to = if has_members { &mut self.awaited } else { &mut self.excused };
        to.insert(number);
    }

    /// A message has come to one of the members.
    pub(crate) fn arrive(&mut self, number: u32) -> Arrival {
        match (self.awaited.remove(&number) | self.excused.remove(&number), self.exactly_once) {
            (true, _) => Arrival::First,
            (false, true) => Arrival::Twice,
            (false, false) => Arrival::Again,
        }
    }

    /// The broker has refused this message, or it is in doubt for good.
    pub(crate) fn excuse(&mut self, number: u32) {
        if self.awaited.remove(&number) {
            self.excused.insert(number);
        }
    }

    /// Messages that have reached nobody.
    pub(crate) fn pending(&self) -> usize {
        self.awaited.len()
    }

    /// All that could come has come: gives what is lost.
    pub(crate) fn settle(&mut self) -> Vec<u32> {
        let lost: Vec<u32> = std::mem::take(&mut self.awaited).into_iter().collect();
        self.excused.extend(&lost);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_comes_once_in_any_order_or_is_lost() {
        let mut pool = Pool::new(0, true);
        (0..4).for_each(|number| pool.send(number, number > 0));
        assert_eq!(pool.pending(), 3);
        assert_eq!(
            [2, 1, 2].map(|number| pool.arrive(number)),
            [Arrival::First, Arrival::First, Arrival::Twice]
        );
        assert_eq!(pool.settle(), [3]);
        assert_eq!((pool.arrive(3), pool.arrive(0)), (Arrival::First, Arrival::First));
    }

    #[test]
    fn with_qos_1_a_second_time_is_allowed_and_what_was_refused_is_not_missed() {
        let mut pool = Pool::new(0, false);
        pool.send(0, true);
        pool.send(1, true);
        assert_eq!([pool.arrive(0), pool.arrive(0)], [Arrival::First, Arrival::Again]);
        pool.excuse(1);
        pool.excuse(0);
        assert_eq!((pool.pending(), pool.settle(), pool.arrive(0)), (0, vec![], Arrival::Again));
    }
}

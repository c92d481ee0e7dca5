//! What one publisher sent to one topic at one QoS, as one subscriber sees it.
//!
//! Messages are numbered. Those from [`Stream::owed_from`] on must come; some may come (those that were under way
//! while a subscription came or went); some must not (those of the time without a subscription or of a session that
//! has ended). A first arrival must not be preceded by that of a later message.

use std::collections::BTreeSet;

/// One stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// All before have arrived, or stand in one of the sets.
    next: u32,
    /// Messages from here on are owed, if any.
    owed_from: Option<u32>,
    /// Owed, passed over by a later one, and not here yet.
    missing: BTreeSet<u32>,
    /// Passed over, and may come or not.
    possible: BTreeSet<u32>,
    /// Refused by the broker, or in doubt since the publisher's session was lost: may come or not.
    excused: BTreeSet<u32>,
    /// Must not come: from the first number up to, not including, the second.
    barred: Vec<(u32, u32)>,
    /// Must not come, one by one.
    forbidden: BTreeSet<u32>,
    /// Since the broker confirmed the end of the subscription: nothing from here on.
    barred_from: Option<u32>,
    /// Whether a second arrival is a violation.
    exactly_once: bool,
}

/// What an arrival means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// For the first time, and in order.
    First,
    /// For the first time, after a later one.
    OutOfOrder,
    /// Again, which QoS 1 allows.
    Again,
    /// Again, which QoS 2 forbids.
    Twice,
    /// It was not for this subscriber.
    Barred,
}

impl Stream {
    /// An empty stream that nothing is owed to.
    pub(crate) fn new(exactly_once: bool) -> Self {
        Self { exactly_once, ..Self::default() }
    }

    /// A message has come.
    pub(crate) fn arrive(&mut self, number: u32) -> Arrival {
        if self.is_barred(number) {
            return Arrival::Barred;
        }
        if number >= self.next {
            for passed in self.next..number {
                self.pass(passed);
            }
            self.excused.remove(&number);
            self.next = number + 1;
            return Arrival::First;
        }
        if self.missing.remove(&number) {
            return Arrival::OutOfOrder;
        }
        if self.possible.remove(&number) {
            return Arrival::First;
        }
        if self.exactly_once { Arrival::Twice } else { Arrival::Again }
    }

    fn pass(&mut self, number: u32) {
        let is_owed = self.owed_from.is_some_and(|from| number >= from);
        if is_owed && !self.excused.remove(&number) {
            self.missing.insert(number);
        } else {
            self.possible.insert(number);
        }
    }

    fn is_barred(&self, number: u32) -> bool {
        self.barred_from.is_some_and(|from| number >= from)
            || self.barred.iter().any(|(from, until)| (*from..*until).contains(&number))
            || self.forbidden.contains(&number)
    }

    /// The subscription is confirmed: everything from `from` on is owed.
    pub(crate) fn owe(&mut self, from: u32) {
        if self.owed_from.is_none() {
            self.owed_from = Some(from);
        }
    }

    /// The subscription is about to end: what has not come may stay away.
    pub(crate) fn release(&mut self) {
        self.owed_from = None;
        self.possible.append(&mut self.missing);
    }

    /// The end of the subscription is confirmed: nothing from `from` on may come.
    pub(crate) fn bar_from(&mut self, from: u32) {
        self.barred_from = Some(from);
    }

    /// A new subscription is asked for: what is from `until` on may come again.
    pub(crate) fn unbar(&mut self, until: u32) {
        if let Some(from) = self.barred_from.take()
            && from < until
        {
            self.barred.push((from, until));
        }
    }

    /// The session has ended: nothing before `until` may come any more.
    pub(crate) fn bar_before(&mut self, until: u32) {
        self.barred.clear();
        self.barred.push((0, until));
    }

    /// The broker has refused this message, or it is in doubt for good.
    pub(crate) fn excuse(&mut self, number: u32) {
        if self.missing.remove(&number) {
            self.possible.insert(number);
        } else if number >= self.next {
            self.excused.insert(number);
        }
    }

    /// An excused message must come after all.
    pub(crate) fn demand(&mut self, number: u32) {
        self.excused.remove(&number);
        let is_owed = self.owed_from.is_some_and(|from| number >= from);
        if is_owed && self.possible.remove(&number) {
            self.missing.insert(number);
        }
    }

    /// An excused message must not come any more; whether it has come already.
    pub(crate) fn forbid(&mut self, number: u32) -> bool {
        let is_open = self.excused.remove(&number) | self.possible.remove(&number) || number >= self.next;
        // From here on it is not missed either.
        if number >= self.next {
            self.excused.insert(number);
        }
        self.forbidden.insert(number);
        !is_open
    }

    /// Owed messages that have not come, when `sent` were sent.
    pub(crate) fn pending(&self, sent: u32) -> usize {
        let Some(from) = self.owed_from else { return 0 };
        let first = from.max(self.next);
        let excused = self.excused.range(first..).count();
        let ahead = usize::try_from(sent.saturating_sub(first)).unwrap_or(usize::MAX);
        self.missing.len() + ahead.saturating_sub(excused)
    }

    /// All before `bound` that could come has come: gives what is lost, and begins a new page.
    pub(crate) fn settle(&mut self, bound: u32) -> Vec<u32> {
        if let Some(from) = self.owed_from {
            let passed = (from.max(self.next)..bound).filter(|number| !self.excused.contains(number));
            self.missing.extend(passed);
        }
        self.next = self.next.max(bound);
        self.excused = self.excused.split_off(&bound);
        let lost: Vec<u32> = std::mem::take(&mut self.missing).into_iter().collect();
        // If one of them comes after all it is late, not there twice.
        self.possible = lost.iter().copied().collect();
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(exactly_once: bool) -> Stream {
        let mut stream = Stream::new(exactly_once);
        stream.owe(0);
        stream
    }

    #[test]
    fn what_comes_in_order_is_fine_and_nothing_is_pending() {
        let mut stream = owed(true);
        assert_eq!([0, 1, 2].map(|number| stream.arrive(number)), [Arrival::First; 3]);
        assert_eq!((stream.pending(3), stream.pending(5)), (0, 2));
        assert!(stream.settle(3).is_empty());
    }

    #[test]
    fn a_gap_is_missing_and_then_lost() {
        let mut stream = owed(false);
        stream.arrive(0);
        stream.arrive(3);
        assert_eq!(stream.pending(5), 3);
        assert_eq!(stream.settle(5), [1, 2, 4]);
        assert_eq!((stream.pending(5), stream.settle(5)), (0, vec![]));
    }

    #[test]
    fn a_gap_that_is_filled_later_is_out_of_order() {
        let mut stream = owed(true);
        stream.arrive(1);
        assert_eq!(stream.arrive(0), Arrival::OutOfOrder);
        assert_eq!(stream.arrive(0), Arrival::Twice);
        assert!(stream.settle(2).is_empty());
    }

    #[test]
    fn only_exactly_once_forbids_a_second_time() {
        for (exactly_once, expected) in [(true, Arrival::Twice), (false, Arrival::Again)] {
            let mut stream = owed(exactly_once);
            stream.arrive(0);
            stream.arrive(1);
            assert_eq!([stream.arrive(0), stream.arrive(1)], [expected; 2]);
        }
    }

    #[test]
    fn what_was_under_way_while_subscribing_may_come_once_at_any_time() {
        let mut stream = Stream::new(true);
        stream.arrive(6);
        stream.owe(7);
        assert_eq!(stream.pending(7), 0);
        assert_eq!([stream.arrive(5), stream.arrive(5)], [Arrival::First, Arrival::Twice]);
        assert_eq!(stream.settle(8), [7]);
    }

    #[test]
    fn after_unsubscribing_nothing_new_may_come_until_subscribing_again() {
        let mut stream = owed(false);
        stream.arrive(0);
        stream.release();
        assert_eq!(stream.pending(5), 0);
        stream.bar_from(5);
        assert_eq!([stream.arrive(4), stream.arrive(5)], [Arrival::First, Arrival::Barred]);
        stream.unbar(9);
        stream.owe(10);
        assert_eq!(
            [8, 9, 10].map(|number| stream.arrive(number)),
            [Arrival::Barred, Arrival::First, Arrival::First]
        );
        assert!(stream.settle(11).is_empty());
    }

    #[test]
    fn nothing_of_an_ended_session_may_come() {
        let mut stream = owed(true);
        stream.arrive(0);
        stream.release();
        stream.bar_before(3);
        stream.owe(4);
        assert_eq!(
            [2, 3, 4].map(|number| stream.arrive(number)),
            [Arrival::Barred, Arrival::First, Arrival::First]
        );
    }

    #[test]
    fn what_is_open_over_a_page_may_come_and_may_then_be_demanded_or_forbidden() {
        for (demands, expected) in [(true, Arrival::First), (false, Arrival::Barred)] {
            let mut stream = owed(true);
            stream.arrive(0);
            stream.excuse(1);
            assert!(stream.settle(1).is_empty());
            if demands {
                stream.demand(1);
                assert_eq!(stream.pending(2), 1);
            } else {
                assert!(!stream.forbid(1), "it has not come yet");
            }
            assert_eq!(stream.arrive(1), expected);
        }
        let mut stream = owed(true);
        stream.excuse(0);
        stream.arrive(0);
        assert!(stream.forbid(0), "it has come");
        stream.excuse(1);
        stream.demand(1);
        assert_eq!(stream.settle(2), [1]);
    }

    #[test]
    fn what_is_forbidden_is_not_missed() {
        let mut stream = owed(true);
        stream.excuse(0);
        assert!(!stream.forbid(0));
        assert_eq!((stream.pending(1), stream.settle(1)), (0, vec![]));
        assert_eq!(stream.arrive(0), Arrival::Barred);
    }

    #[test]
    fn what_was_refused_is_not_missed() {
        let mut stream = owed(true);
        stream.excuse(1);
        assert_eq!(stream.pending(2), 1);
        stream.arrive(0);
        stream.arrive(3);
        stream.excuse(2);
        assert!(stream.settle(4).is_empty());
    }
}

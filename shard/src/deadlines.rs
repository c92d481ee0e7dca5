//! What becomes due, and when: the deadlines of a shard and what they are for.

use crate::time::Mono;
use crate::timer::{TimerId, TimerKey, TimerWheel};

/// What is due. Names indices without generations: whoever holds a deadline takes it back before its index is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A connection: its CONNECT, or a packet after too long a silence. By slot.
    Connection(u32),
    /// A session without a connection: its Will, or its end. By index.
    Session(u32),
    /// The messages of a session: releases that are awaited, resends. By index.
    Traffic(u32),
    /// The next step of stopping.
    Stop,
    /// The next step of asking for subscriptions again.
    Review,
    /// The next step of publishing Wills that waited for room.
    Wills,
}

/// Names one armed deadline, to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadlineKey(TimerId);

/// All armed deadlines of one shard. 16 B each.
#[derive(Debug)]
pub(crate) struct Deadlines(TimerWheel);

impl Deadlines {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(TimerWheel::new())
    }

    /// Arms a deadline. It may come early when it is more than 103 days ahead: the receiver looks at the time. O(1).
    pub(crate) fn arm(&mut self, at: Mono, due: Due) -> DeadlineKey {
        DeadlineKey(self.0.arm(due.key(), at))
    }

    /// Takes a deadline back. The key must be of one that has not come. O(1).
    pub(crate) fn cancel(&mut self, key: DeadlineKey, due: Due) {
        let was_armed = self.0.cancel(key.0, due.key());
        debug_assert!(was_armed, "{due:?} was not armed");
    }

    /// The next deadline that has come by `now`.
    pub(crate) fn poll(&mut self, now: Mono) -> Option<Due> {
        self.0.poll(now).and_then(Due::of_key)
    }

    /// When there is something to do next.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.0.next_deadline()
    }
}

impl Due {
    const fn key(self) -> TimerKey {
        match self {
            Self::Connection(slot) => TimerKey::new(0, slot),
            Self::Session(index) => TimerKey::new(1, index),
            Self::Traffic(index) => TimerKey::new(2, index),
            Self::Stop => TimerKey::new(3, 0),
            Self::Review => TimerKey::new(4, 0),
            Self::Wills => TimerKey::new(5, 0),
        }
    }

    const fn of_key(key: TimerKey) -> Option<Self> {
        match key.kind() {
            0 => Some(Self::Connection(key.index())),
            1 => Some(Self::Session(key.index())),
            2 => Some(Self::Traffic(key.index())),
            3 => Some(Self::Stop),
            4 => Some(Self::Review),
            5 => Some(Self::Wills),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_armed_comes_back() {
        let all = [
            Due::Connection(7),
            Due::Session(0),
            Due::Traffic((1 << 28) - 1),
            Due::Stop,
            Due::Review,
            Due::Wills,
        ];
        let mut deadlines = Deadlines::new();
        for due in all {
            deadlines.arm(Mono(1), due);
        }
        let taken_back = deadlines.arm(Mono(1), Due::Connection(8));
        deadlines.cancel(taken_back, Due::Connection(8));
        let come: Vec<_> = std::iter::from_fn(|| deadlines.poll(Mono(u64::MAX / 2))).collect();
        assert_eq!(come, all);
        assert_eq!(deadlines.next(), None);
    }
}

//! What single clients have before them: leaving, coming back, falling silent. One heap, 24 bytes per entry, and
//! nothing for clients without plans.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cast::MemberId;
use super::timetable::NEVER;
use crate::clock::Nanos;

/// What a client is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Errand {
    /// Connect (again); the intended time counts for the reconnect leg.
    Connect,
    /// Leave as the group's lifecycle says.
    Leave,
    /// Lose the connection, as a storm wants it.
    Fall,
    /// Read nothing and send nothing from now on.
    FallSilent,
    /// A slow reader may read again.
    ReadOn,
    /// Give up waiting for the broker to close, or for its answer.
    GiveUp,
}

/// An entry: whose life it belongs to, so that it is void when that life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) at: Nanos,
    pub(crate) member: MemberId,
    /// The number of the client's connection at the time when the entry was made.
    pub(crate) life: u32,
    pub(crate) errand: Errand,
}

/// All entries, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
}

impl Agenda {
    /// Adds an entry.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.heap.push(Reverse(entry));
    }

    /// When the next entry is due.
    pub(crate) fn due_at(&self) -> Nanos {
        self.heap.peek().map_or(NEVER, |Reverse(entry)| entry.at)
    }

    /// Takes the next entry that is due by `now`.
    pub(crate) fn take_due(&mut self, now: Nanos) -> Option<Entry> {
        if self.due_at() > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether anybody has planned to connect. Looks at every entry.
    pub(crate) fn has_comings(&self) -> bool {
        self.heap.iter().any(|Reverse(entry)| entry.errand == Errand::Connect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_order_of_time_and_not_before() {
        let mut agenda = Agenda::default();
        for (at, member) in [(30, 1), (10, 2), (20, 3)] {
            agenda.add(Entry { at: Nanos(at), member: MemberId(member), life: 0, errand: Errand::Leave });
        }
        assert_eq!(agenda.take_due(Nanos(9)), None);
        let order: Vec<u32> =
            std::iter::from_fn(|| agenda.take_due(Nanos(25))).map(|entry| entry.member.0).collect();
        assert_eq!(order, [2, 3]);
        assert_eq!(agenda.due_at(), Nanos(30));
    }
}

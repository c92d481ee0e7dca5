//! The messages that wait on the disk for one session: their names in order, and what they count towards
//! `mqtt.max_mqueue_bytes`.

use std::collections::VecDeque;

use dunlin_persist::MessageId;

/// Names of messages, the oldest first: 12 B each, 8 B each of those that waited before the process started.
///
/// What a message counts is known from the moment that it was accepted. No record says it, so after a start what already waited
/// counts nothing.
#[derive(Debug, Default)]
pub(crate) struct Line {
    names: VecDeque<MessageId>,
    /// What the last of them count.
    sizes: VecDeque<u32>,
    /// What all of them count.
    bytes: u64,
}

impl Line {
    /// What a start found.
    pub(super) fn restored(names: Vec<MessageId>) -> Self {
        Self { names: names.into(), sizes: VecDeque::new(), bytes: 0 }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What they count.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Their names, in order.
    pub(super) fn names(&self) -> &VecDeque<MessageId> {
        &self.names
    }

    /// Whether a message waits. O(log messages).
    pub(super) fn holds(&self, name: MessageId) -> bool {
        self.names.binary_search(&name).is_ok()
    }

    /// One more waits behind all others.
    pub(super) fn push(&mut self, name: MessageId, bytes: u32) {
        self.names.push_back(name);
        self.sizes.push_back(bytes);
        self.bytes += u64::from(bytes);
    }

    /// The oldest waits no longer.
    pub(super) fn pop(&mut self) -> Option<MessageId> {
        if self.sizes.len() == self.names.len()
            && let Some(bytes) = self.sizes.pop_front()
        {
            self.bytes -= u64::from(bytes);
        }
        self.names.pop_front()
    }

    /// Earlier ones, in order, wait before all others.
    pub(super) fn put_before(&mut self, earlier: &[(MessageId, u32)]) {
        if earlier.is_empty() {
            return;
        }
        let unknown = self.names.len() - self.sizes.len();
        for _ in 0..unknown {
            self.sizes.push_front(0);
        }
        for (name, bytes) in earlier.iter().rev() {
            self.names.push_front(*name);
            self.sizes.push_front(*bytes);
            self.bytes += u64::from(*bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_counted_whatever_the_order_of_coming() {
        let mut line = Line::restored(vec![MessageId(4), MessageId(6)]);
        line.push(MessageId(7), 100);
        assert_eq!((line.len(), line.bytes()), (3, 100));
        line.put_before(&[(MessageId(1), 10), (MessageId(2), 20)]);
        assert_eq!((line.len(), line.bytes()), (5, 130));
        assert!(line.holds(MessageId(6)) && !line.holds(MessageId(5)));
        let left: Vec<(u64, u64)> =
            std::iter::from_fn(|| line.pop().map(|name| (name.0, line.bytes()))).collect();
        assert_eq!(left, [(1, 120), (2, 100), (4, 100), (6, 100), (7, 0)]);
        assert!(line.is_empty() && line.pop().is_none());
    }

    #[test]
    fn what_a_start_found_counts_nothing() {
        let mut line = Line::restored(vec![MessageId(1), MessageId(2)]);
        line.put_before(&[]);
        line.push(MessageId(3), 7);
        line.pop();
        line.pop();
        assert_eq!((line.names().front(), line.bytes()), (Some(&MessageId(3)), 7));
    }
}

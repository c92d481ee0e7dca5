//! A route as a shared subscription sees it: exactly one member gets each message, in no particular order.

use std::collections::VecDeque;

use dunlin_wire::QoS;

use super::interests::ShareId;

/// Which messages of a route some member has got.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) share: ShareId,
    pub(crate) route: u32,
    /// Another route of the same share.
    pub(crate) next: Option<u32>,
    /// All sequences below have come or are excused.
    base: u32,
    /// Bit n of word m: sequence `base + 64·m + n` has come.
    seen: VecDeque<u64>,
    /// Messages from here on are owed; [`NOT_OWED`]: none.
    owed_from: u32,
    /// Below, a member was lost: what it had may have gone to another one.
    torn_until: u32,
}

const NOT_OWED: u32 = u32::MAX;
/// Bits in a word.
const WORD: u32 = 64;

impl Shared {
    /// A route that has not sent anything.
    pub(crate) const fn new(share: ShareId, route: u32, owed: bool, next: Option<u32>) -> Self {
        let owed_from = if owed { 0 } else { NOT_OWED };
        Self { share, route, next, base: 0, seen: VecDeque::new(), owed_from, torn_until: 0 }
    }

    /// Notes a message; whether it is the first time.
    pub(crate) fn arrived(&mut self, sequence: u32) -> bool {
        let Some(offset) = sequence.checked_sub(self.base) else { return false };
        let (word, bit) = ((offset / WORD) as usize, 1 << (offset % WORD));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        while self.seen.front() == Some(&u64::MAX) {
            self.seen.pop_front();
            self.base += WORD;
        }
        fresh
    }

    /// Whether a message may come again: it was unacknowledged with a member that is gone.
    pub(crate) fn may_repeat(&self, sequence: u32, qos: QoS) -> bool {
        qos != QoS::AtMostOnce && sequence < self.torn_until
    }

    /// Whether messages are owed.
    pub(crate) const fn is_owed(&self) -> bool {
        self.owed_from != NOT_OWED
    }

    /// A member came or went after `sent` messages.
    pub(crate) const fn change(&mut self, sent: u32, owed: bool) {
        self.torn_until = sent;
        self.owed_from = if owed { sent } else { NOT_OWED };
    }

    /// What was sent before `sent` may be lost.
    pub(crate) fn excuse(&mut self, sent: u32) {
        self.torn_until = self.torn_until.max(sent);
        if self.is_owed() {
            self.owed_from = self.owed_from.max(sent);
        }
    }

    /// The first message that is owed and has not come, and how many there are, of `sent`.
    pub(crate) fn missing(&self, sent: u32) -> (u32, u32) {
        let from = self.base.max(self.owed_from);
        if from >= sent {
            return (0, 0);
        }
        let has_come = |sequence: u32| {
            let offset = sequence - self.base;
            let word = self.seen.get((offset / WORD) as usize).copied().unwrap_or(0);
            word >> (offset % WORD) & 1 == 1
        };
        let mut first = None;
        let mut count = 0;
        for sequence in (from..sent).filter(|sequence| !has_come(*sequence)) {
            first = first.or(Some(sequence));
            count += 1;
        }
        (first.unwrap_or(0), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_is_right_once() {
        let mut shared = Shared::new(ShareId(0), 0, true, None);
        for sequence in (0..200).rev() {
            assert!(shared.arrived(sequence));
        }
        assert_eq!(shared.missing(200), (0, 0));
        assert!(!shared.arrived(7) && !shared.arrived(199));
        assert!(!shared.may_repeat(7, QoS::AtLeastOnce));
    }

    #[test]
    fn what_nobody_got_is_missing_from_when_it_was_owed() {
        let mut shared = Shared::new(ShareId(0), 0, false, None);
        assert_eq!(shared.missing(10), (0, 0));
        shared.change(10, true);
        for sequence in [3, 10, 12] {
            assert!(shared.arrived(sequence));
        }
        assert_eq!(shared.missing(14), (11, 2));
        assert!(shared.may_repeat(3, QoS::AtLeastOnce) && !shared.may_repeat(12, QoS::AtLeastOnce));
        assert!(!shared.may_repeat(3, QoS::AtMostOnce));
        shared.excuse(14);
        assert_eq!(shared.missing(14), (0, 0));
    }
}

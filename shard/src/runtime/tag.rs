//! What an operation was: 64 bits that go into the ring with it and come back with its completion.
//!
//! `kind` in the top 8 bits, a slot of the ring in the next 24, a generation in the low 32. The generation is what makes a
//! late completion of an earlier use of a slot recognisable.

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Accept; `slot` is the listener's index, `generation` which of its accepts.
    Accept = 1,
    /// Question for the peer's name; `generation` is the index of the name's cell.
    Name,
    /// Receive once, waiting for data if need be.
    ReceiveOnce,
    /// Receive until told otherwise.
    ReceiveMany,
    /// Receive what is there now, after a poll said so.
    ReceiveNow,
    /// Watch for data until told otherwise.
    Poll,
    /// A send that does not wait; only failures complete.
    Send,
    /// A send that waits for room.
    SendLater,
    /// A cancellation.
    Cancel,
    /// A close of a slot.
    Close,
    /// The doorbell's eventfd was written.
    Doorbell,
    /// A connection was put into another shard's ring.
    HandoffOut,
    /// A connection was put into this ring by another shard; `slot` is that shard, `generation` its ticket.
    HandoffIn,
    /// A socket option.
    Tune,
}

/// An operation's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    /// A slot of the ring, or what `kind` says. Below 2^24.
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Tag {
    pub(super) const fn new(kind: Kind, slot: u32, generation: u32) -> Self {
        debug_assert!(slot <= SLOT_MASK);
        Self { kind, slot, generation }
    }

    /// As the ring carries it.
    pub(super) const fn pack(self) -> u64 {
        (self.kind as u64) << 56 | (self.slot as u64) << 32 | self.generation as u64
    }

    /// From what came back; `None` for what this program never packed.
    #[expect(clippy::cast_possible_truncation, reason = "the masks keep each part in its width")]
    pub(super) const fn unpack(packed: u64) -> Option<Self> {
        let kind = match packed >> 56 {
            1 => Kind::Accept,
            2 => Kind::Name,
            3 => Kind::ReceiveOnce,
            4 => Kind::ReceiveMany,
            5 => Kind::ReceiveNow,
            6 => Kind::Poll,
            7 => Kind::Send,
            8 => Kind::SendLater,
            9 => Kind::Cancel,
            10 => Kind::Close,
            11 => Kind::Doorbell,
            12 => Kind::HandoffOut,
            13 => Kind::HandoffIn,
            14 => Kind::Tune,
            _ => return None,
        };
        Some(Self { kind, slot: (packed >> 32) as u32 & SLOT_MASK, generation: packed as u32 })
    }
}

/// The widest slot: 2^24 − 1. The kernel's tables end at 2^20.
const SLOT_MASK: u32 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_as_it_went() {
        for packed_kind in 1..=14_u64 {
            let packed = packed_kind << 56 | 0xAB_CDEF << 32 | 0x1234_5678;
            let tag = Tag::unpack(packed).unwrap();
            assert_eq!((tag.slot, tag.generation), (0xAB_CDEF, 0x1234_5678));
            assert_eq!(tag.pack(), packed);
        }
        assert_eq!(Tag::unpack(0), None);
        assert_eq!(Tag::unpack(15 << 56), None);
    }
}

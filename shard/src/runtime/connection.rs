//! What the edge keeps per connection, and the table of all connections of a shard.

use crate::action::Arrival;
use crate::ids::{ConnId, ListenerId, ShardId};
use crate::time::Mono;

/// One connection as the edge sees it: 32 B while nothing waits. One per slot of the shard's tables, on its core.
#[derive(Debug, Default)]
pub(super) struct Conn {
    /// Grows with each use of the slot.
    pub(super) generation: u32,
    /// 1 + the index of this connection's output of the tick; 0: it has none.
    pub(super) output: u32,
    /// Where it came in.
    pub(super) listener: u16,
    /// Where it is in its life.
    pub(super) life: Life,
    /// What receives for it now.
    pub(super) armed: Reader,
    /// What should.
    pub(super) wanted: Reader,
    /// The core does not want to read.
    pub(super) paused: bool,
    /// `armed` was told to end.
    pub(super) cancelling: bool,
    /// A receive that does not wait is under way.
    pub(super) receiving_now: bool,
    /// A poll spoke while it was: receive once more after it.
    pub(super) again: bool,
    /// Data came since the last sweep.
    pub(super) active: bool,
    /// The period of `wakes`.
    pub(super) epoch: u8,
    /// Times that data came in this period, as far as it counts.
    pub(super) wakes: u8,
    /// The stream's end has been read: there is no input to discard.
    pub(super) ended: bool,
    /// Times that its TCP acknowledgements were delayed.
    pub(super) ack_delays: u8,
    /// What few connections need.
    pub(super) rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Conn>() == 32);

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Life {
    /// The slot is free.
    #[default]
    Free,
    /// The slot is taken, the core does not know yet: its name or its arrival is to come.
    Unknown,
    /// The core knows it.
    Open,
    /// The core sent it to its home and has forgotten it.
    Leaving,
    /// The core closed it and has forgotten it; bytes are still to leave.
    Closing,
}

/// How a connection receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reader {
    /// Not at all.
    #[default]
    Off,
    /// Once: for the first bytes, which most often decide where it goes on.
    Once,
    /// By a poll that tells of data: quiet connections.
    Poll,
    /// By a receive that stays armed: busy connections.
    Many,
}

/// What only connections in unusual states carry.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Bytes that follow the waiting send.
    pub(super) backlog: Vec<u8>,
    /// Bytes of the waiting send that have left.
    pub(super) sent: usize,
    /// A waiting send is under way.
    pub(super) sending: bool,
    /// Bytes of this tick's output that the socket did not take.
    pub(super) unsent: u32,
    /// The send of this tick failed.
    pub(super) failed: bool,
    /// On its way to its home.
    pub(super) leaving: Option<Leaving>,
}

/// A connection on its way to its home shard.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) to: ShardId,
    /// What its home needs to know, until that is told.
    pub(super) arrival: Option<Box<Arrival>>,
    pub(super) ticket: u32,
    pub(super) attempts: u8,
    /// The socket is being put into the other shard's ring, or will be offered again.
    pub(super) moving: bool,
}

impl Conn {
    /// Whether bytes of it wait for the socket, so that new ones must queue behind them.
    pub(super) fn is_backlogged(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.sending)
    }

    /// What few connections need, made when it is missing.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// All connections of a shard by [`ConnId::slot`]: ring by ring, slot by slot. Grows with the highest slot in use.
#[derive(Debug)]
pub(super) struct Connections {
    conns: Vec<Conn>,
    table_entries: u32,
}

impl Connections {
    /// An empty table over rings of `table_entries` slots.
    pub(super) fn new(table_entries: u32) -> Self {
        Self { conns: Vec::new(), table_entries: table_entries.max(1) }
    }

    /// The name in this table of a slot of a ring.
    pub(super) fn index(&self, ring: usize, slot: u32) -> u32 {
        u32::try_from(ring).unwrap_or(u32::MAX).saturating_mul(self.table_entries).saturating_add(slot)
    }

    /// The ring and its slot that an index names.
    pub(super) fn place(&self, index: u32) -> (usize, u32) {
        ((index / self.table_entries) as usize, index % self.table_entries)
    }

    /// Begins a new use of a slot and gives it a name.
    pub(super) fn take(&mut self, index: u32, listener: ListenerId) -> ConnId {
        let at = index as usize;
        if at >= self.conns.len() {
            self.conns.resize_with(at + 1, Conn::default);
        }
        let conn = &mut self.conns[at];
        let generation = conn.generation.wrapping_add(1);
        *conn = Conn { generation, listener: listener.0, life: Life::Unknown, ..Conn::default() };
        ConnId { slot: index, generation }
    }

    /// Ends the use of a slot; what comes late finds another generation.
    pub(super) fn free(&mut self, id: ConnId) {
        if let Some(conn) = self.of(id) {
            *conn = Conn { generation: conn.generation.wrapping_add(1), ..Conn::default() };
        }
    }

    /// The connection of that name, unless it is another use of the slot.
    pub(super) fn of(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns
            .get_mut(id.slot as usize)
            .filter(|conn| conn.generation == id.generation && conn.life != Life::Free)
    }

    /// The names of all connections in use. Cost: the whole table.
    pub(super) fn all(&self) -> Vec<ConnId> {
        let named = self.conns.iter().zip(0_u32..).filter(|(conn, _)| conn.life != Life::Free);
        named.map(|(conn, slot)| ConnId { slot, generation: conn.generation }).collect()
    }
}

/// What the edge calls a connection whose bytes must have left by a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlushDeadline {
    pub(super) at: Mono,
    pub(super) conn: ConnId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_name_of_an_earlier_use_finds_nothing() {
        let mut table = Connections::new(8);
        let first = table.take(3, ListenerId(1));
        assert!(table.of(first).is_some());
        table.free(first);
        assert!(table.of(first).is_none());
        let second = table.take(3, ListenerId(1));
        assert_ne!(first.generation, second.generation);
        assert!(table.of(first).is_none() && table.of(second).is_some());
        assert_eq!(table.all(), vec![second]);
    }

    #[test]
    fn slots_of_many_rings_have_one_dense_name_each() {
        let table = Connections::new(100);
        for ring in 0..4 {
            for slot in [0, 1, 99] {
                assert_eq!(table.place(table.index(ring, slot)), (ring, slot));
            }
        }
        assert_eq!(table.index(1, 0), table.index(0, 99) + 1);
    }
}

//! Actions: all that a core can ask for.

use std::ops::Range;

use dunlin_persist::{MessageId, Record, SessionNo};

use crate::control::Answered;
use crate::ids::{ConnId, ListenerId, ShardId, Token};
use crate::mesh::MeshMessage;
use crate::message::Message;
use crate::peer::Peer;
use crate::time::Mono;

/// One thing that the core wants done. Performed by the edge at the end of the tick, in order per connection and per
/// shard spoken to.
#[derive(Debug)]
pub enum Action {
    /// Send bytes to a peer: `arena[head]`, then, if there is one, the payload of `payload`.
    ///
    /// Adjacent ranges of one connection leave as one piece: the same encoded packet may be named by many
    /// connections, and what follows it directly in the arena extends it without a copy.
    Send {
        /// To whom.
        conn: ConnId,
        /// Which bytes of [`Actions::arena`].
        head: Range<u32>,
        /// A payload too large to be worth copying into the arena, sent after the head.
        payload: Option<Message>,
    },
    /// Close the connection: after what was sent has left (bounded in time by the edge), or at once. The core has already
    /// forgotten it: no further event may name it, and no [`crate::Event::Closed`] follows.
    Close {
        /// Which connection.
        conn: ConnId,
        /// Whether bytes that wait are sent first.
        flush: bool,
    },
    /// Read no more from this connection until [`Action::ResumeRead`]. Bytes that were already received may still be
    /// delivered once.
    PauseRead {
        /// Which connection.
        conn: ConnId,
    },
    /// Read again.
    ResumeRead {
        /// Which connection.
        conn: ConnId,
    },
    /// Move the connection to its home shard. The core has already forgotten it. Bytes that arrive later are added to
    /// `arrival.unread` by the edge before it is delivered.
    Handoff {
        /// Which connection.
        conn: ConnId,
        /// Its home.
        to: ShardId,
        /// What the home needs to know.
        arrival: Box<Arrival>,
    },
    /// Say something to another shard. In order per pair of shards; never lost while the process lives.
    Mesh {
        /// To whom.
        to: ShardId,
        /// What.
        message: MeshMessage,
    },
    /// Write a record behind all others of this shard's log. What the core must not say before the record is safe, it says when
    /// [`crate::Event::Stored`] has come.
    Append {
        /// Counts the records of this core, from 1.
        seq: u64,
        /// What.
        record: Box<Record>,
    },
    /// Read messages back from the log; answered by [`crate::Event::Fetched`]. One question at a time per session.
    Fetch {
        /// Whose: which of the receivers of a message is meant.
        session: SessionNo,
        /// Which, in the order in which they are wanted.
        messages: Box<[MessageId]>,
    },
    /// The answer to a question of the control plane.
    Answer {
        /// The question.
        token: Token,
        /// The answer.
        answer: Box<Answered>,
    },
    /// The core has ended all its connections after [`crate::Control::Stop`]; the shard may end.
    Stopped,
}

impl Action {
    /// The connection that it names.
    #[must_use]
    pub const fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Send { conn, .. }
            | Self::Close { conn, .. }
            | Self::PauseRead { conn }
            | Self::ResumeRead { conn }
            | Self::Handoff { conn, .. } => Some(*conn),
            Self::Mesh { .. }
            | Self::Append { .. }
            | Self::Fetch { .. }
            | Self::Answer { .. }
            | Self::Stopped => None,
        }
    }
}

/// What a shard tells a connection's home about it. About 100 B and the CONNECT packet; lives for one hop.
#[derive(Debug)]
pub struct Arrival {
    /// The other end.
    pub peer: Peer,
    /// Where it came in.
    pub listener: ListenerId,
    /// When it was accepted.
    pub opened_at: Mono,
    /// All bytes received so far, the whole CONNECT packet first.
    pub unread: Vec<u8>,
}

/// What the core wants done after one or more events: a list, and the bytes that it speaks of.
///
/// One per shard, reused from tick to tick; the arena is valid until the edge clears it at the end of a tick.
#[derive(Debug, Default)]
pub struct Actions {
    /// Encoded bytes that [`Action::Send`] names by range. At most 4 GiB; the edge performs early above
    /// [`crate::limits::TICK_ARENA_BYTES`].
    pub arena: Vec<u8>,
    /// What to do, in order.
    pub list: Vec<Action>,
}

impl Actions {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.list.clear();
    }

    /// Where the next byte of the arena goes.
    ///
    /// # Panics
    /// When the arena passed 4 GiB: the edge performs long before ([`crate::limits::TICK_ARENA_BYTES`]).
    #[must_use]
    pub fn mark(&self) -> u32 {
        u32::try_from(self.arena.len()).expect("the edge performs before the arena reaches 4 GiB")
    }

    /// Sends all that was written to the arena since `start` to one connection.
    pub fn send_from(&mut self, conn: ConnId, start: u32) {
        let head = start..self.mark();
        self.list.push(Action::Send { conn, head, payload: None });
    }
}

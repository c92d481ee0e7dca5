//! Events: all that can happen to a core.

use dunlin_persist::{FetchedMessage, Record, SessionNo, StoreState};

use crate::action::Arrival;
use crate::control::Control;
use crate::hooks::HookOutcome;
use crate::ids::{ConnId, ListenerId, ShardId, Token};
use crate::mesh::MeshMessage;
use crate::peer::Peer;

/// All that can happen to a core. Lives for one call of [`crate::ShardCore::handle`].
#[derive(Debug)]
pub enum Event<'a> {
    /// A socket was accepted here. The core answers nothing until its bytes come.
    Opened {
        /// The new connection; its slot was free.
        conn: ConnId,
        /// Its other end.
        peer: Peer,
        /// Where it came in.
        listener: ListenerId,
    },
    /// A connection that was opened on another shard arrives at its home: this one.
    Arrived {
        /// The connection under its new name.
        conn: ConnId,
        /// What the other shard knew of it.
        arrival: Box<Arrival>,
    },
    /// Bytes came from the peer. Any chunking; the slice is only valid during the call.
    Bytes {
        /// From whom.
        conn: ConnId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// The socket took bytes that the core had sent. Once per connection and tick.
    Sent {
        /// Which connection.
        conn: ConnId,
        /// How many bytes, 1 or more.
        bytes: u32,
    },
    /// The peer or the network ended the connection (end of stream, reset, failed send). The core must not name `conn`
    /// again. Not sent for closes that the core asked for.
    Closed {
        /// Which connection.
        conn: ConnId,
    },
    /// Another shard says something. In order per sender.
    Mesh {
        /// Who.
        from: ShardId,
        /// What.
        message: MeshMessage,
    },
    /// A hook that had answered `Pending` has decided.
    HookDone {
        /// The question.
        token: Token,
        /// The answer.
        outcome: HookOutcome,
    },
    /// Records are on the disk.
    Stored {
        /// The number of the last [`crate::Action::Append`] among them: it and all before it are safe.
        seq: u64,
    },
    /// The log takes records, or takes only what frees room, or takes none any more.
    StoreState(StoreState),
    /// Messages that [`crate::Action::Fetch`] asked for.
    Fetched {
        /// Whose.
        session: SessionNo,
        /// In the order in which they were asked for.
        messages: Vec<FetchedMessage>,
    },
    /// A record of the oldest part of the log, which is about to be freed: what of it still holds is appended again before
    /// `handle` returns.
    Reclaim(Box<Record>),
    /// The control plane wants something.
    Control(Control),
    /// Time has passed; at or after [`crate::ShardCore::next_deadline`]. Calling it more often does no harm.
    Timer,
}

//! Counters of the edge: plain numbers of one shard, read by whoever asks through its inbox.

use dunlin_persist::StoreMetrics;

/// Counters since the start of one shard, and two sizes. One per shard, on its core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeMetrics {
    /// Connections that are open now.
    pub connections: u64,
    /// Rings that are in use now.
    pub rings: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Accepted and closed at once because the process has [`super::EdgeConfig::connection_count_max`] open.
    pub refused_limit: u64,
    /// Accepts that failed for want of descriptors or memory; accepting rests for a while after each.
    pub accept_exhausted: u64,
    /// Accepts that failed because the peer had gone.
    pub accept_failed: u64,
    /// Accepting moved to another ring because a table was nearly full.
    pub accept_moved: u64,
    /// Connections closed, by either end.
    pub closed: u64,
    /// Times the shard entered the kernel through its rings.
    pub enters: u64,
    /// Ticks that did something.
    pub ticks: u64,
    /// Completions taken.
    pub completions: u64,
    /// Completions of an earlier use of a slot, ignored.
    pub completions_stale: u64,
    /// Times the kernel had to keep completions because the completion queue was full.
    pub completions_overflowed: u64,
    /// Entries into the kernel for deferred work that was no longer there.
    pub hints_empty: u64,
    /// Times that the receive of a connection ended for want of a buffer.
    pub buffers_exhausted: u64,
    /// Receives that ended although the connection goes on, and were armed again.
    pub receive_rearmed: u64,
    /// Connections moved from poll to an armed receive because they became busy.
    pub receive_promoted: u64,
    /// Connections moved from an armed receive to poll because they became quiet.
    pub receive_parked: u64,
    /// Times that TCP was told to acknowledge every second segment of a connection instead of each.
    pub acks_delayed: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that sockets took.
    pub bytes_out: u64,
    /// Sends, one per connection and tick that has output.
    pub sends: u64,
    /// Sends that the socket took only a part of; the rest waits in the connection's own buffer.
    pub sends_short: u64,
    /// Sends that failed; the connection ends.
    pub sends_failed: u64,
    /// Sends of more than one piece.
    pub sends_vectored: u64,
    /// Bytes copied to join the pieces of one send.
    pub bytes_joined: u64,
    /// Connections sent to their home shard.
    pub handoffs_out: u64,
    /// Connections that came to this shard as their home.
    pub handoffs_in: u64,
    /// Connections closed because their home had no place for them.
    pub handoffs_refused: u64,
    /// Mesh messages sent.
    pub mesh_out: u64,
    /// Mesh messages received.
    pub mesh_in: u64,
    /// Times a lane was full at the end of a tick; its batch waits for the next.
    pub lanes_full: u64,
    /// Wakes sent to other shards.
    pub wakes_out: u64,
    /// Times the shard went to sleep.
    pub sleeps: u64,
    /// Panics of the core that were contained to one event.
    pub panics_contained: u64,
    /// Answers to the control plane that were dropped because nobody took earlier ones.
    pub answers_dropped: u64,
    /// Connections closed because their last bytes did not leave in time.
    pub flushes_expired: u64,
    /// The shard's log, if it has one.
    pub log: Option<StoreMetrics>,
}

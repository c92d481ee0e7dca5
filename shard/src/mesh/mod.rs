//! The mesh: everything one core may say to another.

/// One message from shard to shard. The edge moves it unread, in order per pair of shards.
#[derive(Debug)]
pub enum MeshMessage {
    /// The receiver has handled this many messages of the lane: the sender may send as many more.
    Credit {
        /// Messages handled since the last credit.
        count: u32,
    },
}

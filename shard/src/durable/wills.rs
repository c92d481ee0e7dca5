//! Wills that wait for room. A Will is promised with CONNACK and nobody sends it a second time, so while a disk is full it is kept
//! and not refused as a client's message is.
//!
//! It waits as a whole if a shard is full to which it would go, so that nobody gets it twice: shards tell each other how their
//! logs are. That of a durable session stays in the log as well until it is published (`owed.rs`); that of another session is in
//! memory only.

use std::collections::{BTreeMap, VecDeque};

use dunlin_persist::StoreState;

use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::home;
use crate::ids::ShardId;
use crate::mesh::MeshMessage;
use crate::session::will::{DueWill, Will};
use crate::time::Mono;

/// What a shard knows of room on the disks, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// How the logs of shards are, as far as they have said so.
    states: BTreeMap<ShardId, StoreState>,
    /// Wills that wait, in order. About 100 B and the message for each; at most one for each end of a connection that has one.
    wills: VecDeque<DueWill>,
    /// Whether the next step of publishing them is on its way.
    is_armed: bool,
}

impl Room {
    fn is_any(&self, state: StoreState) -> bool {
        self.states.values().any(|known| *known == state)
    }
}

impl super::Durable {
    /// Whether a shard's disk is full: what would have to be stored is refused there, and passes later.
    pub(crate) fn is_full_somewhere(&self) -> bool {
        self.state == StoreState::Full || self.room.is_any(StoreState::Full)
    }

    /// Whether the disk of a shard has failed: what would have to be stored there is refused until the next start.
    pub(super) fn has_failed_somewhere(&self) -> bool {
        self.has_failed() || self.room.is_any(StoreState::Failed)
    }

    /// Wills that wait for room.
    #[cfg(test)]
    pub(super) fn waiting_wills(&self) -> usize {
        self.room.wills.len()
    }
}

impl ShardCore {
    /// Whether a Will would go to a shard whose disk is full.
    pub(crate) fn finds_no_room(&self, will: &Will) -> bool {
        if !self.durable.is_full_somewhere() || !will.needs_room() {
            return false;
        }
        let message = will.message.view();
        let home = home::shard_of_topic(message.topic, self.shard_count);
        let mut is_wanted = message.retain && home == self.shard;
        self.routing.index.for_each_match(message.topic, |_, _| is_wanted = true);
        let mut others = self.wanted_by(message.topic);
        if message.retain {
            others.insert(home);
        }
        let state_of = |shard| self.durable.room.states.get(&shard);
        (is_wanted && self.durable.state == StoreState::Full)
            || others.iter().any(|shard| state_of(shard) == Some(&StoreState::Full))
    }

    /// A Will whose time has come waits until there is room for it.
    pub(crate) fn wait_for_room(&mut self, due: DueWill) {
        self.durable.room.wills.push_back(due);
    }

    /// A Will was published, and a shard had no room by then.
    pub(super) fn on_will_refused(&mut self, due: DueWill) {
        // A log that has failed has no room before the next start, where the Will is found again.
        if !self.durable.has_failed_somewhere() {
            self.wait_for_room(due);
            self.release_waiting_wills();
        }
    }

    /// Tells the other shards how this one's log is.
    pub(super) fn tell_store_state(&self, state: StoreState, actions: &mut Actions) {
        for to in self.other_shards() {
            actions.list.push(Action::Mesh { to, message: MeshMessage::StoreState(state) });
        }
    }

    /// Another shard says how its log is.
    pub(crate) fn on_shard_store_state(&mut self, from: ShardId, state: StoreState) {
        self.durable.room.states.insert(from, state);
        self.release_waiting_wills();
    }

    /// If no disk is full, and all shards have been restored, the Wills that wait are published from the next event on.
    pub(super) fn release_waiting_wills(&mut self) {
        let room = &self.durable.room;
        let is_time = !self.durable.is_full_somewhere() && !self.is_restoring();
        if !room.wills.is_empty() && !room.is_armed && is_time {
            self.durable.room.is_armed = true;
            self.deadlines.arm(Mono(self.now.mono.0 + 1), Due::Wills);
        }
    }

    /// Publishes some of the Wills that waited for room.
    pub(crate) fn on_wills_due(&mut self) {
        self.durable.room.is_armed = false;
        for _ in 0..WILL_STEP_COUNT {
            if self.durable.is_full_somewhere() {
                return;
            }
            let Some(due) = self.durable.room.wills.pop_front() else { return };
            self.due_wills.push_back(due);
        }
        self.release_waiting_wills();
    }
}

/// Wills that are published in one step: less than a millisecond of them.
const WILL_STEP_COUNT: usize = 64;

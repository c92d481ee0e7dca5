//! The gate between shards: a shard says when it has stored what another one sent it.
//!
//! Messages that take part are counted on both ends of a lane, per kind, and confirmed cumulatively. A kind waits only for
//! the kinds below it: what goes to a member of a group waits for nobody, what is delivered may wait for members, what is
//! retained or comes back may wait for deliveries. So no two shards wait for each other.

use std::collections::VecDeque;

use super::gate::Promise;
use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::ids::ShardId;
use crate::mesh::MeshMessage;
use dunlin_wire::types::QoS;

/// A kind of message whose storing is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Asked {
    /// A message for a chosen member of a group.
    Member,
    /// A message for the receiver's subscribers.
    Delivery,
    /// A retained message for its home, or one that comes back to its group.
    Home,
}

impl Asked {
    const COUNT: usize = 3;

    /// What the sender of a message waits for. Both ends of a lane must agree on it.
    pub(crate) fn of(message: &MeshMessage) -> Option<Self> {
        let is_acknowledged = |qos: QoS| qos != QoS::AtMostOnce;
        match message {
            MeshMessage::Deliver(message) => is_acknowledged(message.view().qos).then_some(Self::Delivery),
            MeshMessage::DeliverTo(delivery) => {
                is_acknowledged(delivery.message.view().qos).then_some(Self::Member)
            }
            MeshMessage::DeliverOnce(_) => Some(Self::Delivery),
            MeshMessage::Retain(_) | MeshMessage::GroupReturn(_) | MeshMessage::Forget { .. } => {
                Some(Self::Home)
            }
            // The home adds what it asks of the next member to what waits for the first one.
            MeshMessage::DeliverBack(_)
            | MeshMessage::Credit { .. }
            | MeshMessage::Stored { .. }
            | MeshMessage::Taken { .. }
            | MeshMessage::StoreState(_)
            | MeshMessage::Restored { .. }
            | MeshMessage::Interest(_)
            | MeshMessage::InterestSeen { .. }
            | MeshMessage::GroupJoin(_)
            | MeshMessage::GroupJoined { .. }
            | MeshMessage::GroupLeave(_)
            | MeshMessage::GroupPresence(_)
            | MeshMessage::ExclusiveClaim(_)
            | MeshMessage::ExclusiveAnswer { .. }
            | MeshMessage::ExclusiveRelease(_)
            | MeshMessage::RetainedAsk(_)
            | MeshMessage::RetainedPage(_) => None,
        }
    }
}

/// One message that was sent to another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(super) shard: ShardId,
    pub(super) kind: Asked,
    /// Which of its kind on the lane, from 1.
    pub(super) count: u64,
}

/// Both directions between this shard and one other.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// Sent to it, by kind.
    asked: [u64; Asked::COUNT],
    /// Confirmed by it.
    confirmed: [u64; Asked::COUNT],
    /// Received from it.
    heard: [u64; Asked::COUNT],
    /// Received from it and not confirmed yet, in order.
    replies: [VecDeque<Reply>; Asked::COUNT],
}

/// A confirmation that waits.
#[derive(Debug)]
struct Reply {
    count: u64,
    promise: Promise,
}

#[cfg(test)]
impl Confirmations {
    pub(super) fn is_idle(&self) -> bool {
        self.replies.iter().all(VecDeque::is_empty)
    }
}

impl ShardCore {
    /// Notes a message to another shard, if what it causes there is part of a promise. The name under which it is confirmed.
    pub(crate) fn note_asked(&mut self, to: ShardId, message: &MeshMessage) -> Option<Ask> {
        let kind = Asked::of(message)?;
        let lane = self.durable.confirmations.get_mut(usize::from(to.0))?;
        let asked = &mut lane.asked[kind as usize];
        *asked += 1;
        let ask = Ask { shard: to, kind, count: *asked };
        self.durable.promise.asks.push(ask);
        Some(ask)
    }

    /// Whether another shard has confirmed, or refused, what it was sent.
    pub(super) fn has_confirmed(&self, ask: Ask) -> bool {
        let lane = self.durable.confirmations.get(usize::from(ask.shard.0));
        lane.is_some_and(|lane| lane.confirmed[ask.kind as usize] >= ask.count)
    }

    /// A message of another shard is worked in: confirms it now, or when all that it caused is safe.
    pub(crate) fn confirm(&mut self, from: ShardId, kind: Asked, promise: Promise, actions: &mut Actions) {
        self.durable.await_record(promise.seq);
        let Some(lane) = self.durable.confirmations.get_mut(usize::from(from.0)) else { return };
        lane.heard[kind as usize] += 1;
        let count = lane.heard[kind as usize];
        lane.replies[kind as usize].push_back(Reply { count, promise });
        if lane.replies[kind as usize].len() == 1 {
            self.confirm_kept(usize::from(from.0), kind as usize, actions);
        }
    }

    /// Another shard has stored what it was sent, or could not.
    pub(crate) fn on_confirmed(
        &mut self,
        from: ShardId,
        kind: Asked,
        count: u64,
        is_refused: bool,
        actions: &mut Actions,
    ) {
        let Some(lane) = self.durable.confirmations.get_mut(usize::from(from.0)) else { return };
        let confirmed = &mut lane.confirmed[kind as usize];
        *confirmed = (*confirmed).max(count);
        if is_refused {
            let refused = Ask { shard: from, kind, count };
            self.refuse_asked(refused);
        }
        self.open_gate(actions);
    }

    /// A message that a member was sent comes back: what waited for that member waits for the next one as well.
    pub(crate) fn extend_promises(&mut self, first: Ask, more: &Promise) {
        self.durable.await_record(more.seq);
        self.for_each_promise(|promise| {
            if promise.asks.contains(&first) {
                promise.seq = promise.seq.max(more.seq);
                promise.asks.extend_from_slice(&more.asks);
                promise.is_refused |= more.is_refused;
            }
        });
    }

    fn refuse_asked(&mut self, refused: Ask) {
        self.for_each_promise(|promise| promise.is_refused |= promise.asks.contains(&refused));
    }

    /// All promises that wait. Rare; O(what waits).
    fn for_each_promise(&mut self, mut with: impl FnMut(&mut Promise)) {
        for promise in self.durable.gate.promises_mut() {
            with(promise);
        }
        for lane in &mut self.durable.confirmations {
            for reply in lane.replies.iter_mut().flatten() {
                with(&mut reply.promise);
            }
        }
    }

    /// Confirms to other shards what is safe by now.
    pub(super) fn confirm_what_is_kept(&mut self, actions: &mut Actions) {
        if self.shard_count <= 1 {
            return;
        }
        // From the lowest kind up: a kind waits only for those below it.
        for kind in 0..Asked::COUNT {
            for shard in 0..self.durable.confirmations.len() {
                if !self.durable.confirmations[shard].replies[kind].is_empty() {
                    self.confirm_kept(shard, kind, actions);
                }
            }
        }
    }

    fn confirm_kept(&mut self, shard: usize, kind: usize, actions: &mut Actions) {
        let mut kept = None;
        while let Some(first) = self.durable.confirmations[shard].replies[kind].front() {
            let is_lost = self.durable.has_failed() && first.promise.seq > self.durable.stored;
            if !is_lost && !self.is_promise_kept(&first.promise) {
                break;
            }
            let Some(reply) = self.durable.confirmations[shard].replies[kind].pop_front() else { break };
            if is_lost || reply.promise.is_refused {
                // What came before it was not refused.
                if let Some(count) = kept.take() {
                    confirm_to(shard, kind, count, false, actions);
                }
                confirm_to(shard, kind, reply.count, true, actions);
            } else {
                kept = Some(reply.count);
            }
        }
        if let Some(count) = kept {
            confirm_to(shard, kind, count, false, actions);
        }
    }

    /// The disk has failed: what waits for it is refused to those who asked.
    pub(super) fn refuse_replies(&mut self, actions: &mut Actions) {
        for shard in 0..self.durable.confirmations.len() {
            for kind in 0..Asked::COUNT {
                let replies = std::mem::take(&mut self.durable.confirmations[shard].replies[kind]);
                for reply in replies {
                    confirm_to(shard, kind, reply.count, true, actions);
                }
            }
        }
    }
}

fn confirm_to(shard: usize, kind: usize, count: u64, is_refused: bool, actions: &mut Actions) {
    let kind = [Asked::Member, Asked::Delivery, Asked::Home][kind];
    let to = ShardId(u16::try_from(shard).expect("as many lanes as shards, whose count is a u16"));
    actions.list.push(Action::Mesh { to, message: MeshMessage::Stored { kind, count, is_refused } });
}

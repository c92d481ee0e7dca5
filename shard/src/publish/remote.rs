//! What other shards say, and what is asked of them.

use super::matches::Publisher;
use super::publication::Publication;
use super::route::Takers;
use crate::action::{Action, Actions};
use crate::connection::Hold;
use crate::core::ShardCore;
use crate::ids::{ConnId, SessionId, ShardId, Token};
use crate::mesh::{Asked, InterestChange, MeshMessage, Wanted};
use crate::message::Message;
use crate::topics::MemberId;

/// A question to another shard.
#[derive(Debug)]
pub(super) enum Question {
    /// May a session have an exclusive topic?
    Claim {
        /// Whose SUBSCRIBE waits.
        conn: ConnId,
        /// Who wants it.
        session: SessionId,
        /// What.
        topic: Box<str>,
    },
    /// Is a session in a group, as far as all shards are concerned?
    Join {
        /// The SUBSCRIBE that waits for it, once it is kept.
        subscribing: Option<Token>,
    },
    /// Which retained messages are there?
    Retained {
        /// Whose subscription asks.
        conn: ConnId,
    },
}

/// What waits until all shards have seen this shard's interest.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A SUBACK.
    SubAck(Token),
    /// The answer to a join.
    Join {
        /// Who asked.
        from: ShardId,
        /// Its question.
        token: Token,
    },
}

impl ShardCore {
    /// Another shard says something.
    pub(crate) fn on_mesh(&mut self, from: ShardId, message: MeshMessage, actions: &mut Actions) {
        if from == self.shard || from.0 >= self.shard_count {
            return;
        }
        let is_weighed = message.is_weighed();
        let asked = if self.durable.asks_shards() { Asked::of(&message) } else { None };
        if let Some(kind) = asked {
            self.begin_promise();
            self.take_mesh(from, message, actions);
            let promise = self.take_promise();
            self.confirm(from, kind, promise, actions);
        } else {
            self.take_mesh(from, message, actions);
        }
        if is_weighed && let Some(count) = self.routing.lanes[usize::from(from.0)].received() {
            actions.list.push(Action::Mesh { to: from, message: MeshMessage::Credit { count } });
        }
    }

    fn take_mesh(&mut self, from: ShardId, message: MeshMessage, actions: &mut Actions) {
        match message {
            MeshMessage::Credit { count } => self.on_credit(from, count),
            MeshMessage::Stored { kind, count, is_refused } => {
                self.on_confirmed(from, kind, count, is_refused, actions);
            }
            MeshMessage::StoreState(state) => self.on_shard_store_state(from, state),
            MeshMessage::Restored { round } => self.on_restored(round, actions),
            MeshMessage::Deliver(message) => self.on_deliver(from, &message, actions),
            MeshMessage::DeliverOnce(once) => self.on_deliver_once(from, &once, actions),
            MeshMessage::Taken { session, packet_id } => self.on_taken(from, session, packet_id),
            MeshMessage::Forget { session, packet_id } => {
                self.on_forget(session, packet_id, actions);
            }
            MeshMessage::DeliverTo(delivery) => {
                let message = delivery.message.clone();
                let mut publication = Publication::of_message(&message, self.now.wall);
                self.deliver_to_member(from, *delivery, &mut publication, actions);
                if self.durable.is_on() {
                    self.finish_taking(publication.view(), actions);
                }
            }
            MeshMessage::DeliverBack(back) => self.on_deliver_back(from, &back, actions),
            MeshMessage::Retain(update) => self.on_retain(from, *update, actions),
            MeshMessage::Interest(change) => self.on_interest(from, &change, actions),
            MeshMessage::InterestSeen { version } => {
                self.routing.announcements.confirm(from, version);
                self.release_waiters(actions);
            }
            MeshMessage::GroupJoin(join) => self.on_group_join(from, &join, actions),
            MeshMessage::GroupJoined { token } => {
                if let Some(Question::Join { subscribing: Some(parked) }) = self.routing.questions.take(token)
                {
                    self.count_down_subscribe(parked, actions);
                }
            }
            MeshMessage::GroupLeave(leave) => {
                let member = MemberId { shard: from, session: leave.session };
                self.leave_here(&leave.group, &leave.filter, member);
                self.announce(actions);
            }
            MeshMessage::GroupPresence(presence) => {
                let member = MemberId { shard: from, session: presence.session };
                self.set_presence(&presence.group, &presence.filter, member, presence.is_connected);
            }
            MeshMessage::GroupReturn(returned) => {
                let member = MemberId { shard: from, session: returned.session };
                self.redeliver(&returned.group, &returned.filter, member, &returned.message, actions);
            }
            MeshMessage::ExclusiveClaim(claim) => {
                let member = MemberId { shard: from, session: claim.session };
                let granted = self.routing.claims.claim(&claim.topic, member);
                let message = MeshMessage::ExclusiveAnswer { token: claim.token, granted };
                actions.list.push(Action::Mesh { to: from, message });
            }
            MeshMessage::ExclusiveAnswer { token, granted } => {
                self.on_exclusive_answer(token, granted, actions)
            }
            MeshMessage::ExclusiveRelease(release) => {
                let member = MemberId { shard: from, session: release.session };
                self.routing.claims.release(&release.topic, member);
            }
            MeshMessage::RetainedAsk(ask) => self.on_retained_ask(from, *ask, actions),
            MeshMessage::RetainedPage(page) => self.on_retained_page(*page, actions),
        }
    }

    /// A publication that this shard wanted.
    fn on_deliver(&mut self, from: ShardId, message: &Message, actions: &mut Actions) {
        if self.refuses_from_elsewhere(&message.view()) {
            return;
        }
        let mut publication = Publication::of_message(message, self.now.wall);
        // No Local concerns the publisher's own session, which is on its shard, where it published.
        self.deliver_here(&mut publication, Publisher::default(), (from, Takers::All), actions);
    }

    /// The lane to a shard has drained a little: publishers that paused for it may go on.
    fn on_credit(&mut self, from: ShardId, count: u32) {
        for conn in self.routing.lanes[usize::from(from.0)].credited(count) {
            self.release(conn, Hold::Lane);
        }
    }

    /// Another shard wants other topics.
    fn on_interest(&mut self, from: ShardId, change: &InterestChange, actions: &mut Actions) {
        for (filter, wanted) in &change.changes {
            match wanted {
                Wanted::Yes => {
                    self.routing.interest.add(from, filter);
                }
                Wanted::No => {
                    self.routing.interest.remove(from, filter);
                }
            }
        }
        let message = MeshMessage::InterestSeen { version: change.version };
        actions.list.push(Action::Mesh { to: from, message });
    }

    /// Lets go what waited for the other shards to see this one's interest.
    fn release_waiters(&mut self, actions: &mut Actions) {
        while let Some(waiter) = self.routing.announcements.pop_ready() {
            match waiter {
                Waiter::SubAck(parked) => self.count_down_subscribe(parked, actions),
                Waiter::Join { from, token } => {
                    let message = MeshMessage::GroupJoined { token };
                    actions.list.push(Action::Mesh { to: from, message });
                }
            }
        }
    }
}

//! What a shard begins with after a restart: sessions without connections, retained messages, numbers that go on counting.
//!
//! Connections and deadlines wait until every shard knows what the others want: in a first round the shards tell each other the
//! filters of their sessions and join the groups, in a second the filters of the groups. So no message is accepted that would
//! miss a restored subscription.

use std::net::SocketAddr;

use dunlin_persist::record;
use dunlin_persist::{MessageId, Record, SessionNo};
use dunlin_wire::topic::FilterKind;
use dunlin_wire::types::{PacketId, QoS, SubscriptionOptions};

use super::line::Line;
use super::owed::Ghost;
use super::{Away, Stored};
use crate::action::{Action, Actions};
use crate::connection::Hold;
use crate::core::ShardCore;
use crate::home;
use crate::ids::{ConnId, SessionId, Token};
use crate::mesh::{ExclusiveClaim, MeshMessage, Wanted};
use crate::message::{Message, MessageView};
use crate::metrics::Counter;
use crate::peer::Peer;
use crate::publish::Special;
use crate::session::Session;
use crate::session::will::Will;
use crate::time::{Now, Past, WallMs};
use crate::topics::Subscriber;

/// How far the shards are after a restart.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// Whether connections wait.
    is_waiting: bool,
    /// Shards whose first and second round have come.
    heard: [u16; 2],
    /// What restored sessions want of other shards, said when all are restored.
    wishes: Vec<Action>,
    /// Connections that came too early.
    early: Vec<ConnId>,
    /// Whether messages of members that have ended wait until the members of all groups are known.
    estates_wait: bool,
}

impl Restoring {
    pub(super) const fn estates_wait(&self) -> bool {
        self.estates_wait
    }
}

impl ShardCore {
    /// Says which numbers are free. Before all other restoring.
    pub fn restore_ids(&mut self, next_session: SessionNo, next_message: MessageId) {
        self.durable.next_session = next_session;
        self.durable.next_message = next_message;
        self.durable.restoring.estates_wait = true;
    }

    /// Takes a session back whose home is this shard. Its client is away; its messages stay in the log until it comes back. Of two
    /// with one client id the older comes first: its end was not recorded any more, and its messages of shared subscriptions go to
    /// other members.
    pub fn restore_session(&mut self, session: record::Session, now: Now) {
        self.now = now;
        if let Some(ghost) = Ghost::of(&session) {
            self.restore_ghost(ghost);
            return;
        }
        let mut actions = Actions::default();
        if let Some(older) = self.sessions.find(&session.client_id) {
            // Never of one store: it takes them back in order.
            if self.number_of(older.index) > Some(session.session) {
                self.record(Record::SessionEnded { session: session.session }, &mut actions);
                self.durable.restoring.wishes.append(&mut actions.list);
                return;
            }
            self.end_session(older, &mut actions);
        }
        let id = self.sessions.insert(Session::new(&session.client_id));
        self.durable.numbers.insert(session.session, id.index);
        let mut stored = Stored::new(session.session);
        let away = Away {
            outgoing: session.outgoing.into(),
            queue: Line::restored(session.queue),
            ..Away::default()
        };
        self.durable.away_count += away.queue.len() as u64;
        stored.away = (!away.is_empty()).then(|| Box::new(away));
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.expiry_seconds = session.expiry_seconds;
            let detached_at = session.detached_at_ms.map_or(now.wall, WallMs);
            entry.detached_at = Past::of_wall(detached_at, now);
            let rare = entry.rare.get_or_insert_default();
            rare.will = session.will.as_ref().map(will_of);
            rare.user_name = session.user_name;
            rare.stored = Some(stored);
        }
        if session.detached_at_ms.is_none() {
            self.record_count_begun(id, session.session, &mut actions);
        }
        for packet_id in session.incoming.iter().filter_map(|id| PacketId::new(*id)) {
            self.await_release_of(id.index, packet_id);
            self.restore_sent(session.session, packet_id.get());
        }
        for subscription in &session.subscriptions {
            self.restore_subscription(id, subscription, &mut actions);
        }
        self.durable.restoring.wishes.append(&mut actions.list);
    }

    /// Nobody knows when a connection ended that was there when the broker did. What counts from its end counts from this start,
    /// and goes on counting over the next one.
    fn record_count_begun(&mut self, id: SessionId, number: SessionNo, actions: &mut Actions) {
        let Some(session) = self.sessions.get(id) else { return };
        let will = session.will();
        let counts = session.expires_at().is_some() || will.is_some_and(|will| will.delay_seconds > 0);
        if counts {
            let (expiry_seconds, keeps_will) = (session.expiry_seconds, will.is_some());
            let at_ms = session.detached_at.to_wall(self.now).0;
            self.record(Record::Detached { session: number, at_ms, expiry_seconds, keeps_will }, actions);
        }
    }

    /// Takes a retained message back whose topic has its home here.
    pub fn restore_retained(&mut self, message: &record::Message) {
        let kept = message_of(message);
        let bytes = u32::try_from(kept.bytes()).unwrap_or(u32::MAX);
        self.routing.retained.set(&message.topic, kept, bytes);
    }

    /// All is restored: other shards are told what this one wants. Clients are taken when every shard has said so; the edge
    /// may accept them before, they wait. Before the first event.
    pub fn finish_restore(&mut self, now: Now, actions: &mut Actions) {
        self.now = now;
        actions.list.append(&mut self.durable.restoring.wishes);
        self.tell_taken(actions);
        if self.durable.is_on() && self.shard_count > 1 {
            self.durable.restoring.is_waiting = true;
            self.say_restored(1, actions);
            self.check_restored(actions);
        } else {
            self.announce(actions);
            self.begin_deadlines(actions);
        }
    }

    /// Whether connections and deadlines wait for other shards.
    pub(crate) const fn is_restoring(&self) -> bool {
        self.durable.restoring.is_waiting
    }

    /// A connection came before all shards were ready.
    pub(crate) fn hold_early(&mut self, conn: ConnId, actions: &mut Actions) {
        self.durable.restoring.early.push(conn);
        self.hold(conn, Hold::Store, actions);
    }

    /// Another shard has said all that it wants, of its sessions or of its groups.
    pub(crate) fn on_restored(&mut self, round: u8, actions: &mut Actions) {
        if let Some(heard) = self.durable.restoring.heard.get_mut(usize::from(round).wrapping_sub(1)) {
            *heard += 1;
        }
        self.check_restored(actions);
    }

    fn check_restored(&mut self, actions: &mut Actions) {
        let restoring = &mut self.durable.restoring;
        let others = self.shard_count - 1;
        if !restoring.is_waiting {
            return;
        }
        if restoring.heard[0] == others {
            // Once.
            restoring.heard[0] += 1;
            self.say_restored(2, actions);
        }
        if self.durable.restoring.heard[1] == others && self.durable.restoring.heard[0] > others {
            self.durable.restoring.is_waiting = false;
            for conn in std::mem::take(&mut self.durable.restoring.early) {
                self.release(conn, Hold::Store);
            }
            self.begin_deadlines(actions);
        }
    }

    fn say_restored(&mut self, round: u8, actions: &mut Actions) {
        self.announce(actions);
        for to in self.other_shards() {
            actions.list.push(Action::Mesh { to, message: MeshMessage::Restored { round } });
        }
    }

    /// Wills and ends of restored sessions go on counting; what is overdue comes with the first [`crate::Event::Timer`].
    fn begin_deadlines(&mut self, actions: &mut Actions) {
        self.durable.restoring.estates_wait = false;
        self.fetch_estates(actions);
        self.release_waiting_wills();
        for index in 0..self.sessions.index_end() {
            if let Some(id) = self.sessions.id_at(index)
                && self.sessions.get(id).is_some_and(|entry| entry.deadline.is_none() && entry.is_durable())
            {
                self.arm_session(id);
            }
        }
    }

    fn restore_subscription(
        &mut self,
        id: SessionId,
        subscription: &record::Subscription,
        actions: &mut Actions,
    ) {
        let written = &*subscription.filter;
        let (Ok(kind), Some(options)) =
            (FilterKind::parse(written), SubscriptionOptions::from_u8(subscription.options))
        else {
            self.metrics.count(Counter::SubscribeError);
            return;
        };
        match kind {
            FilterKind::Plain => {
                self.restore_filter(id, written, options, subscription.identifier, true);
            }
            FilterKind::Shared { group, filter } => {
                let terms = (options, subscription.identifier, false);
                self.join_group_as(id, (group, filter), written, terms, actions);
            }
            FilterKind::Exclusive { topic } => {
                self.restore_filter(id, topic, options, subscription.identifier, false);
                let special = Special::Exclusive { qos: options.qos };
                self.routing.specials.insert(id.index, written, special);
                let home = home::shard_of_topic(topic, self.shard_count);
                if home == self.shard {
                    let member = self.member(id);
                    self.routing.claims.claim(topic, member);
                } else {
                    // Granted, for nobody else has asked yet; the answer is of no use.
                    let claim = ExclusiveClaim { token: NOBODY, topic: topic.into(), session: id };
                    let message = MeshMessage::ExclusiveClaim(Box::new(claim));
                    actions.list.push(Action::Mesh { to: home, message });
                }
            }
        }
    }

    fn restore_filter(
        &mut self,
        id: SessionId,
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
        is_plain: bool,
    ) {
        let subscriber = Subscriber::session(id.index, options, identifier);
        let done = self.routing.index.subscribe(filter, subscriber);
        if let Some(entry) = self.sessions.get_mut(id).filter(|_| is_plain) {
            entry.traffic.subscriptions.insert(done.filter);
        }
        if done.first_of_filter {
            self.note_interest(filter, Wanted::Yes);
        }
    }
}

/// A recorded message as it is kept in memory.
pub(super) fn message_of(message: &record::Message) -> Message {
    MessageView {
        topic: &message.topic,
        qos: QoS::from_u8(message.qos).unwrap_or_default(),
        retain: message.retain,
        received_at: WallMs(message.received_at_ms),
        expiry_seconds: message.expiry_seconds,
        publisher: &message.publisher,
        properties: &message.properties,
        payload: &message.payload,
    }
    .to_message()
}

pub(super) fn will_of(will: &record::Will) -> Will {
    let peer = will.peer.parse().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    Will::restored(message_of(&will.message), will.delay_seconds, Peer::from(peer))
}

/// A question that nobody keeps.
const NOBODY: Token = Token(u64::MAX);

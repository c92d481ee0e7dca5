//! Publishing, subscribing and delivering: what connected clients do.

use dunlin_wire::packet::{Ack, Publish, Subscribe, Unsubscribe};

use crate::action::Actions;
use crate::core::ShardCore;
use crate::hooks::PublishVerdict;
use crate::ids::{ConnId, SessionId, ShardId, Token};
use crate::mesh::MeshMessage;
use crate::message::Message;

/// What a shard keeps for routing: the topic index, interest, groups, retained messages. One per shard.
#[derive(Debug, Default)]
pub(crate) struct Routing {}

/// What a session keeps for its messages: subscriptions, inflight windows, queue.
#[derive(Debug, Default)]
pub(crate) struct Traffic {}

/// What a connection keeps for its messages: aliases, retained replay, waiting packets. Only while there is any.
#[derive(Debug, Default)]
pub(crate) struct Flow {}

impl Flow {
    /// Whether nothing is kept.
    pub(crate) const fn is_empty(&self) -> bool {
        true
    }
}

/// Border to the connection and session rules. Packets come from connections that are Connected.
impl ShardCore {
    /// A client publishes.
    pub(crate) fn on_publish(&mut self, conn: ConnId, publish: &Publish<'_>, actions: &mut Actions) {
        let _ = (&self.routing, conn, publish, actions);
    }

    /// A client acknowledges a QoS 1 message.
    pub(crate) fn on_puback(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let _ = (&self.routing, conn, ack, actions);
    }

    /// A client has taken over a QoS 2 message.
    pub(crate) fn on_pubrec(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let _ = (&self.routing, conn, ack, actions);
    }

    /// A client releases a QoS 2 message.
    pub(crate) fn on_pubrel(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let _ = (&self.routing, conn, ack, actions);
    }

    /// A client ends a QoS 2 exchange.
    pub(crate) fn on_pubcomp(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let _ = (&self.routing, conn, ack, actions);
    }

    /// A client subscribes.
    pub(crate) fn on_subscribe(&mut self, conn: ConnId, subscribe: &Subscribe<'_>, actions: &mut Actions) {
        let _ = (&self.routing, conn, subscribe, actions);
    }

    /// A client gives subscriptions up.
    pub(crate) fn on_unsubscribe(
        &mut self,
        conn: ConnId,
        unsubscribe: &Unsubscribe<'_>,
        actions: &mut Actions,
    ) {
        let _ = (&self.routing, conn, unsubscribe, actions);
    }

    /// The socket took bytes; the `unsent_bytes` of the session's link are already smaller.
    pub(crate) fn on_sent(&mut self, conn: ConnId, session: SessionId, actions: &mut Actions) {
        let _ = (&self.routing, conn, session, actions);
    }

    /// CONNACK was sent for a session that was kept: resend, then go on with the queue.
    pub(crate) fn on_session_resumed(&mut self, session: SessionId, actions: &mut Actions) {
        let _ = (&self.routing, session, actions);
    }

    /// The connection of a session is gone; the session may live on. Its link is already empty.
    pub(crate) fn on_session_detached(&mut self, session: SessionId, actions: &mut Actions) {
        let _ = (&self.routing, session, actions);
    }

    /// A session ends now: all that it holds elsewhere goes. Its entry is removed after this.
    pub(crate) fn on_session_ended(&mut self, session: SessionId, actions: &mut Actions) {
        let _ = (&self.routing, session, actions);
    }

    /// Publishes a message of the broker's own, or a Will.
    pub(crate) fn publish_internal(&mut self, message: Message, actions: &mut Actions) {
        let _ = (&self.routing, message, actions);
    }

    /// Another shard says something.
    pub(crate) fn on_mesh(&mut self, from: ShardId, message: MeshMessage, actions: &mut Actions) {
        let _ = (&self.routing, from, message, actions);
    }

    /// A message hook has decided late.
    pub(crate) fn on_hook_publish(&mut self, token: Token, verdict: PublishVerdict, actions: &mut Actions) {
        let _ = (&self.routing, token, verdict, actions);
    }

    /// The authorizer has decided late about a packet (not about a Will).
    pub(crate) fn on_hook_access(&mut self, token: Token, allowed: bool, actions: &mut Actions) {
        let _ = (&self.routing, token, allowed, actions);
    }

    /// A deadline that the messages of a session armed has come ([`crate::deadlines::Due::Traffic`]).
    pub(crate) fn on_traffic_due(&mut self, session: SessionId, actions: &mut Actions) {
        let _ = (&self.routing, session, actions);
    }
}

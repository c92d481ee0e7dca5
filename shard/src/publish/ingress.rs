//! The steps of one incoming PUBLISH, in order: alias, quota, what is available, the authorizer, the message hook, then it
//! is accepted, routed and acknowledged.

use dunlin_persist::Record;
use dunlin_wire::packet::{Ack, Packet, Publish};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{PacketId, QoS, Version};

use super::matches::Publisher;
use super::publication::Publication;
use crate::action::Actions;
use crate::connection::{AliasError, Hold, Refusal};
use crate::core::{Asker, ShardCore};
use crate::deadlines::Due;
use crate::durable::{AckKind, Promise};
use crate::hooks::{Access, AccessRequest, Answer, PublishVerdict};
use crate::ids::{ConnId, Token};
use crate::message::{Message, MessageView};
use crate::metrics::Counter;
use crate::session::Arrival;

/// A PUBLISH that waits in its place for a hook.
#[derive(Debug)]
pub(super) struct PendingPublish {
    message: Message,
    came: Came,
    token: Token,
}

/// How a PUBLISH came: what its answer needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    pub(crate) conn: ConnId,
    /// Index of the session.
    pub(crate) session: u32,
    version: Version,
    /// Present if the QoS is above 0.
    pub(crate) packet_id: Option<PacketId>,
    /// Whether it may have been sent before. [MQTT5-3.3.1-1]; not all 3.x clients say so.
    pub(crate) is_repeat: bool,
}

/// Which question comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// May the client publish this?
    Access,
    /// What do rules make of it?
    Hook,
}

impl ShardCore {
    /// A client publishes.
    pub(crate) fn on_publish(&mut self, conn: ConnId, publish: &Publish<'_>, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else { return };
        let came = Came {
            conn,
            session: connection.session,
            version: connection.version,
            packet_id: publish.packet_id,
            is_repeat: publish.dup || !connection.version.is_v5(),
        };
        if let Err(reason) =
            self.check_quota(conn, publish).and_then(|()| self.check_available(conn, publish))
        {
            self.metrics.count(Counter::PublishError);
            self.refuse(conn, Refusal::Protocol(reason), actions);
            return;
        }
        let mut scratch = std::mem::take(&mut self.routing.packet_scratch);
        match self.topic_of(conn, publish, &mut scratch.topic) {
            Ok(topic) => {
                scratch.publisher.clear();
                if let Some(session) = self.sessions.at(came.session) {
                    scratch.publisher.push_str(&session.client_id);
                }
                scratch.properties.clear();
                publish.properties.write_forwardable(&mut scratch.properties);
                let view = MessageView {
                    topic,
                    qos: publish.qos,
                    retain: publish.retain,
                    received_at: self.now.wall,
                    expiry_seconds: publish
                        .properties
                        .message_expiry_interval
                        .or_else(|| self.configs.current().message_expiry_interval),
                    publisher: &scratch.publisher,
                    properties: &scratch.properties,
                    payload: publish.payload,
                };
                self.count_received_message(publish.qos);
                if let Some(reason) = self.check_repeat(&came, publish) {
                    self.answer_repeat(&came, publish.qos, reason, actions);
                } else {
                    self.take_publish(&came, &view, Step::Access, actions);
                }
            }
            Err(reason) => {
                self.metrics.count(Counter::PublishError);
                self.refuse(conn, Refusal::Protocol(reason), actions);
            }
        }
        self.routing.packet_scratch = scratch;
    }

    /// The client's own quota. 3.x has none; `max_awaiting_rel` bounds what it may leave open.
    ///
    /// [MQTT5-3.3.4-7]: more unacknowledged messages than the Receive Maximum of CONNACK end the connection.
    fn check_quota(&mut self, conn: ConnId, publish: &Publish<'_>) -> Result<(), ReasonCode> {
        let Some(connection) = self.connections.get_mut(conn) else { return Ok(()) };
        if publish.qos == QoS::AtMostOnce || !connection.version.is_v5() {
            return Ok(());
        }
        match connection.receive_quota.checked_sub(1) {
            Some(left) => {
                connection.receive_quota = left;
                Ok(())
            }
            None => {
                self.metrics.count(Counter::PublishQuotaExceeded);
                Err(ReasonCode::ReceiveMaximumExceeded)
            }
        }
    }

    /// What CONNACK said is not available ends the connection.
    fn check_available(&self, conn: ConnId, publish: &Publish<'_>) -> Result<(), ReasonCode> {
        let Some(connection) = self.connections.get(conn) else { return Ok(()) };
        let mqtt = self.configs.mqtt(connection.config_epoch);
        // [MQTT5-3.2.2-11]
        if publish.qos > mqtt.max_qos_allowed {
            return Err(ReasonCode::QoSNotSupported);
        }
        // [MQTT5-3.2.2-14]; 3.x clients could not know: what they publish is passed on and not kept.
        if publish.retain && !mqtt.retain_available && connection.version.is_v5() {
            return Err(ReasonCode::RetainNotSupported);
        }
        Ok(())
    }

    /// The topic, from the packet or from its alias.
    fn topic_of<'a>(
        &mut self,
        conn: ConnId,
        publish: &Publish<'a>,
        kept: &'a mut String,
    ) -> Result<&'a str, ReasonCode> {
        let Some(alias) = publish.properties.topic_alias else { return Ok(publish.topic) };
        let Some(connection) = self.connections.get_mut(conn) else { return Ok(publish.topic) };
        // [MQTT5-3.3.2-12]; kept with the connection, so they end with it: [MQTT5-3.3.2-7].
        let alias_max = self.configs.mqtt(connection.config_epoch).max_topic_alias;
        let aliases = &mut connection.rare_mut().flow.aliases.get_or_insert_default().incoming;
        match aliases.resolve(alias.get(), publish.topic, alias_max) {
            Ok(_) if !publish.topic.is_empty() => Ok(publish.topic),
            Ok(topic) => {
                // Copied, for the alias may go with the connection while the message is handed out.
                kept.clear();
                kept.push_str(topic);
                Ok(kept)
            }
            // [MQTT5-3.3.2-8] [MQTT5-3.3.2-9]
            Err(AliasError::OutOfRange) => Err(ReasonCode::TopicAliasInvalid),
            Err(AliasError::Unknown) => Err(ReasonCode::ProtocolError),
            Err(AliasError::TooLarge) => Err(ReasonCode::QuotaExceeded),
        }
    }

    /// Whether this is a repeat of a QoS 2 message that was taken, or may not be taken now: the reason to answer with.
    fn check_repeat(&mut self, came: &Came, publish: &Publish<'_>) -> Option<ReasonCode> {
        let id = publish.packet_id?;
        let windows = self.sessions.at(came.session)?.traffic.windows.as_deref();
        let waiting = windows.is_some_and(|windows| windows.incoming.contains(id));
        match publish.qos {
            // [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]: not delivered again.
            QoS::ExactlyOnce if waiting && (publish.dup || !came.version.is_v5()) => {
                Some(ReasonCode::Success)
            }
            // Another message under an identifier that is in use.
            QoS::AtLeastOnce | QoS::ExactlyOnce if waiting && came.version.is_v5() => {
                self.metrics.count(Counter::PublishInuse);
                Some(ReasonCode::PacketIdentifierInUse)
            }
            QoS::ExactlyOnce => {
                let count = windows.map_or(0, |windows| windows.incoming.len());
                let is_full = count >= usize::from(self.configs.current().max_awaiting_rel);
                if is_full {
                    self.metrics.count(Counter::MessagesDroppedReceiveMaximum);
                    return Some(ReasonCode::QuotaExceeded);
                }
                self.check_store()
            }
            QoS::AtLeastOnce => self.check_store(),
            QoS::AtMostOnce => None,
        }
    }

    /// Answers what is not taken. That a message was taken before is true when all that was recorded is stored, and if it still
    /// waits for its other takers, its answer comes with theirs.
    fn answer_repeat(&mut self, came: &Came, qos: QoS, reason: ReasonCode, actions: &mut Actions) {
        let mut promise = Promise::NONE;
        if self.durable.is_on() && reason == ReasonCode::Success {
            if came.packet_id.is_some_and(|packet_id| self.is_postponed(came.conn, packet_id)) {
                return;
            }
            promise = Promise::of(self.durable.appended());
        }
        self.acknowledge(came, qos, reason, promise, actions);
    }

    /// What cannot be stored is refused before anything happens to it.
    fn check_store(&mut self) -> Option<ReasonCode> {
        if !self.durable.is_on() || self.durable.takes_new() {
            return None;
        }
        self.metrics.count(Counter::MessagesDroppedStoreFull);
        Some(ReasonCode::QuotaExceeded)
    }

    /// Goes through the questions from `step` on, then accepts.
    fn take_publish(&mut self, came: &Came, view: &MessageView<'_>, step: Step, actions: &mut Actions) {
        let token = self.draw_token();
        if step == Step::Access {
            match self.ask_access(token, came, view) {
                Answer::Now(true) => {}
                Answer::Now(false) => return self.deny_publish(came, view.qos, actions),
                Answer::Pending => return self.wait_for_hook(token, came, view, actions),
            }
        }
        let token = self.draw_token();
        if let Some(hook) = &mut self.hooks.message {
            return match hook.publish(token, view) {
                Answer::Now(verdict) => self.follow_verdict(came, view, verdict, actions),
                Answer::Pending => self.wait_for_hook(token, came, view, actions),
            };
        }
        self.accept_as(came, view.qos, view, actions);
    }

    /// Asks the authorizer. Without one everything is allowed but the broker's own topics.
    fn ask_access(&mut self, token: Token, came: &Came, view: &MessageView<'_>) -> Answer<bool> {
        if view.topic.starts_with(SYS_PREFIX) {
            return Answer::Now(false);
        }
        if self.hooks.authorizer.is_none() {
            return Answer::Now(true);
        }
        let (Some(connection), Some(session), Some(authorizer)) =
            (self.connections.get(came.conn), self.sessions.at(came.session), &mut self.hooks.authorizer)
        else {
            return Answer::Now(false);
        };
        if connection.superuser {
            self.metrics.count(Counter::AuthorizationSuperuser);
            return Answer::Now(true);
        }
        self.metrics.count(Counter::ClientAuthorize);
        authorizer.check(&AccessRequest {
            token,
            client_id: view.publisher,
            username: session.user_name(),
            peer: connection.peer,
            access: Access::Publish { qos: view.qos, retain: view.retain },
            topic: view.topic,
        })
    }

    /// Keeps the packet until the hook that was asked last answers; packets behind it wait too.
    fn wait_for_hook(&mut self, token: Token, came: &Came, view: &MessageView<'_>, actions: &mut Actions) {
        let pending = PendingPublish { message: view.to_message(), came: *came, token };
        if let Some(connection) = self.connections.get_mut(came.conn) {
            connection.rare_mut().flow.publish = Some(Box::new(pending));
            self.questions.insert(token, Asker::Packet(came.conn));
            self.hold(came.conn, Hold::Hook, actions);
        }
    }

    /// Takes the PUBLISH that waits for this answer.
    fn pending_publish(&mut self, conn: ConnId, token: Token) -> Option<Box<PendingPublish>> {
        let flow = &mut self.connections.get_mut(conn)?.rare.as_mut()?.flow;
        let pending = flow.publish.take_if(|pending| pending.token == token)?;
        self.release(conn, Hold::Hook);
        Some(pending)
    }

    /// The authorizer has decided late about a PUBLISH. Whether it was one.
    pub(super) fn on_publish_access(
        &mut self,
        conn: ConnId,
        token: Token,
        allowed: bool,
        actions: &mut Actions,
    ) -> bool {
        let Some(pending) = self.pending_publish(conn, token) else { return false };
        let view = pending.message.view();
        if allowed {
            self.take_publish(&pending.came, &view, Step::Hook, actions);
        } else {
            self.deny_publish(&pending.came, view.qos, actions);
        }
        true
    }

    /// A message hook has decided late.
    pub(crate) fn on_hook_publish(
        &mut self,
        conn: ConnId,
        token: Token,
        verdict: PublishVerdict,
        actions: &mut Actions,
    ) {
        if let Some(pending) = self.pending_publish(conn, token) {
            self.follow_verdict(&pending.came, &pending.message.view(), verdict, actions);
        }
    }

    fn follow_verdict(
        &mut self,
        came: &Came,
        view: &MessageView<'_>,
        verdict: PublishVerdict,
        actions: &mut Actions,
    ) {
        match verdict {
            PublishVerdict::Continue => self.accept_as(came, view.qos, view, actions),
            PublishVerdict::Replace(message) => {
                // The answer follows the QoS with which it came, whatever the hook made of it.
                self.accept_as(came, view.qos, &message.view(), actions);
            }
            PublishVerdict::Drop(reason) => {
                self.metrics.count(Counter::MessagesDroppedHook);
                self.acknowledge(came, view.qos, reason, Promise::NONE, actions);
            }
        }
    }

    /// The client may not publish this: 5.0 hears so; 3.x has no word for it and gets the usual answer, which
    /// [MQTT311-3.3.5-2] allows.
    fn deny_publish(&mut self, came: &Came, qos: QoS, actions: &mut Actions) {
        self.metrics.count(Counter::PublishAuthError);
        self.metrics.count(Counter::AuthorizationDeny);
        self.acknowledge(came, qos, ReasonCode::NotAuthorized, Promise::NONE, actions);
    }

    /// Routes a message and answers its PUBLISH, which came with `qos`. [MQTT5-3.3.4-1] [MQTT311-3.3.4-1]
    fn accept_as(&mut self, came: &Came, qos: QoS, view: &MessageView<'_>, actions: &mut Actions) {
        self.metrics.count(Counter::MessagesPublish);
        if qos == QoS::ExactlyOnce {
            self.await_release(came);
        }
        let publisher = Publisher {
            session: Some(came.session),
            ignore_loop: self.configs.current().ignore_loop_deliver && !came.version.is_v5(),
        };
        if self.durable.is_on() {
            return self.accept_durably(came, qos, view, publisher, actions);
        }
        let mut publication = Publication::new(*view, self.now.wall);
        let routed = self.route(&mut publication, publisher, actions);
        self.acknowledge(came, qos, routed.reason(), Promise::NONE, actions);
        self.pause_if_lanes_are_high(came.conn, actions);
    }

    /// Remembers a QoS 2 identifier until its PUBREL comes. [MQTT5-4.3.3-8] [MQTT311-4.3.3-2]
    fn await_release(&mut self, came: &Came) {
        if let Some(id) = came.packet_id {
            // `check_repeat` has seen that it is new and that there is room.
            self.await_release_of(came.session, id);
        }
    }

    /// Remembers an identifier of a session until its PUBREL comes.
    pub(crate) fn await_release_of(&mut self, index: u32, id: PacketId) {
        let mqtt = self.configs.current();
        let deadline = self.now.mono.plus_ms(mqtt.await_rel_timeout_ms);
        let count_max = mqtt.max_awaiting_rel;
        let Some(session) = self.sessions.at_mut(index) else { return };
        let windows = session.traffic.windows_mut();
        let is_new = windows.incoming.arrive(id, deadline, count_max) == Arrival::New;
        if is_new && windows.release_deadline.is_none() {
            let key = self.deadlines.arm(deadline, Due::Traffic(index));
            windows.release_deadline = Some((deadline, key));
        }
    }

    /// Answers a PUBLISH. [MQTT5-4.3.2-4] [MQTT5-4.3.3-8] [MQTT311-4.3.2-2] [MQTT311-4.3.3-2]
    pub(crate) fn acknowledge(
        &mut self,
        came: &Came,
        qos: QoS,
        reason: ReasonCode,
        promise: Promise,
        actions: &mut Actions,
    ) {
        let Some(packet_id) = came.packet_id else { return };
        let is_v5 = came.version.is_v5();
        // [MQTT311-3.3.5-2]: 3.x cannot be told; what was dropped for want of room is not acknowledged.
        if !is_v5 && reason == ReasonCode::QuotaExceeded {
            self.refuse(came.conn, Refusal::Protocol(reason), actions);
            return;
        }
        let code = if is_v5 { reason } else { ReasonCode::Success };
        let kind = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => AckKind::Ack,
            QoS::ExactlyOnce => AckKind::Rec,
        };
        if self.durable.is_on() {
            self.answer_ack(came.conn, kind, (packet_id, code), promise, actions);
        } else {
            self.say_ack(came.conn, kind, Ack::with_code(packet_id, code), actions);
        }
    }

    /// A client releases a QoS 2 message; its identifier is free then. [MQTT5-4.3.3-11] [MQTT5-4.3.3-12] [MQTT311-4.3.3-2]
    pub(crate) fn on_pubrel(&mut self, conn: ConnId, ack: &Ack<'_>, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else { return };
        let (index, is_v5) = (connection.session, connection.version.is_v5());
        if self.durable.is_on()
            && let Some(id) = self.sessions.id_at(index)
            && self.release_elsewhere(conn, id, ack.packet_id, actions)
        {
            return;
        }
        let Some(session) = self.sessions.at_mut(index) else { return };
        let windows = session.traffic.windows.as_mut();
        let known = windows.is_some_and(|windows| windows.incoming.release(ack.packet_id));
        let mut promise = Promise::NONE;
        if known {
            self.return_quota(conn);
            if self.durable.is_on()
                && let Some(session) = self.number_of(index)
            {
                self.record(Record::Released { session, packet_id: ack.packet_id.get() }, actions);
                promise = Promise::of(self.durable.appended());
            }
        } else {
            self.metrics.count(Counter::PubrelMissed);
        }
        let code = if known || !is_v5 { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        if self.durable.is_on() {
            self.answer_ack(conn, AckKind::Comp, (ack.packet_id, code), promise, actions);
        } else {
            self.send_packet(conn, &Packet::PubComp(Ack::with_code(ack.packet_id, code)), actions);
        }
    }

    /// The client may send one more; never more than it was promised at first (§MQTT5 4.9).
    pub(crate) fn return_quota(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let promised = self.configs.mqtt(connection.config_epoch).receive_maximum;
        connection.receive_quota = connection.receive_quota.saturating_add(1).min(promised);
    }

    fn count_received_message(&mut self, qos: QoS) {
        self.metrics.count(Counter::MessagesReceived);
        self.metrics.count(match qos {
            QoS::AtMostOnce => Counter::MessagesQos0Received,
            QoS::AtLeastOnce => Counter::MessagesQos1Received,
            QoS::ExactlyOnce => Counter::MessagesQos2Received,
        });
    }

    /// Publishes a message of the broker's own, or a Will.
    pub(crate) fn publish_internal(&mut self, message: &Message, actions: &mut Actions) {
        let view = message.view();
        // No Local also concerns a Will: it comes from the client that has gone.
        let session = self.sessions.find(view.publisher).map(|id| id.index);
        let publisher = Publisher { session, ignore_loop: false };
        let mut publication = Publication::of_message(message, self.now.wall);
        self.route(&mut publication, publisher, actions);
    }
}

/// Topics of the broker's own.
pub(super) const SYS_PREFIX: &str = "$SYS/";

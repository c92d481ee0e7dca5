//! What clients publish and acknowledge, as far as the disk is concerned.

use dunlin_persist::Record;
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{PacketId, QoS};

use super::gate::{AckKind, Failure, Owed, Promise};
use super::once::Origin;
use super::taking::message_record;
use crate::action::Actions;
use crate::core::ShardCore;
use crate::ids::{ConnId, SessionId};
use crate::message::{Message, MessageView};
use crate::publish::{Came, Publication, Publisher, Receiver, Routed, Takers};

/// A QoS 2 message of a durable session that other shards were sent. It is handed out on this shard, and its identifier recorded,
/// when they have it: after a crash before that the client sends it again, and nobody lacks it.
#[derive(Debug)]
pub(crate) struct Postponed {
    came: Came,
    message: Message,
    publisher: Publisher,
    /// Its session and identifier.
    origin: Origin,
}

impl Postponed {
    /// Whether it is what came on a connection under an identifier.
    pub(super) fn is(&self, conn: ConnId, packet_id: PacketId) -> bool {
        self.came.conn == conn && self.came.packet_id == Some(packet_id)
    }

    pub(super) const fn conn(&self) -> ConnId {
        self.came.conn
    }

    /// Its session and identifier.
    pub(super) const fn origin(&self) -> Origin {
        self.origin
    }
}

impl ShardCore {
    /// Routes a message and answers its PUBLISH when all that the answer promises is safe.
    pub(crate) fn accept_durably(
        &mut self,
        came: &Came,
        qos: QoS,
        view: &MessageView<'_>,
        publisher: Publisher,
        actions: &mut Actions,
    ) {
        self.begin_promise();
        let mut publication = Publication::new(*view, self.now.wall);
        let arrived = came.packet_id.filter(|_| qos == QoS::ExactlyOnce).map(PacketId::get);
        let arrived = self.number_of(came.session).zip(arrived);
        let mut takers = Takers::All;
        let mut elsewhere = Routed::ToNobody;
        if self.shard_count > 1 {
            // Where nothing waits for the disk, PUBCOMP does not either: what another shard took to be known would not be sure.
            let origin = arrived.filter(|_| self.durable.asks_shards());
            self.durable.set_origin(origin.map(|origin| (origin, came.is_repeat)));
            elsewhere = self.route_elsewhere(&mut publication, actions);
            self.durable.set_origin(None);
            if let Some(origin) = arrived {
                let shards = self.forwarded_to();
                self.note_sent_once(origin, shards);
                // Members of groups may be on other shards.
                takers = Takers::Sessions;
                let groups =
                    self.deliver_here(&mut publication, publisher, (self.shard, Takers::Groups), actions);
                elsewhere = if groups == Routed::ToSome { groups } else { elsewhere };
            }
        }
        if let Some(origin) = arrived.filter(|_| !self.durable.promise.asks.is_empty()) {
            let message = publication.keep();
            let postponed = Postponed { came: *came, message, publisher, origin };
            self.durable.note_postponed(origin);
            let promise = self.take_promise();
            self.answer(Owed::Postponed(Box::new(postponed)), promise, actions);
        } else {
            self.durable.taking.arrived = arrived;
            let routed = self.route_here(&mut publication, publisher, (elsewhere, takers), actions);
            self.record_arrival(actions);
            let promise = self.take_promise();
            self.acknowledge(came, qos, routed.reason(), promise, actions);
        }
        self.pause_if_lanes_are_high(came.conn, actions);
        self.pause_if_gate_is_high(came.conn, actions);
    }

    /// The other shards have a message: it is handed out here, and answered. If there is no room any more it is refused before
    /// anything happens to it here: its identifier must not be recorded without it.
    pub(super) fn route_postponed(&mut self, postponed: Postponed, actions: &mut Actions) {
        if !self.durable.takes_new() {
            self.answer_badly(Owed::Postponed(Box::new(postponed)), Failure::Full, actions);
            return;
        }
        let Postponed { came, message, publisher, origin } = postponed;
        self.durable.note_not_postponed(origin);
        self.begin_promise();
        // Its session may have ended meanwhile, and its index may be another's.
        let lives = self.number_of(came.session) == Some(origin.0);
        self.durable.taking.arrived = Some(origin).filter(|_| lives);
        let mut publication = Publication::of_message(&message, self.now.wall);
        let takers = (Routed::ToSome, Takers::Sessions);
        self.route_here(&mut publication, publisher, takers, actions);
        self.record_arrival(actions);
        let promise = self.take_promise();
        self.acknowledge(&came, QoS::ExactlyOnce, ReasonCode::Success, promise, actions);
    }

    /// The PUBREC that a postponed message's client waits for; none if its session has ended.
    pub(super) fn answer_to(&self, postponed: &Postponed) -> Option<Owed> {
        let Postponed { came, origin, .. } = postponed;
        let (session, packet_id) = self.sessions.id_at(came.session).zip(came.packet_id)?;
        let code = ReasonCode::Success;
        let lives = self.number_of(came.session) == Some(origin.0);
        lives.then_some(Owed::Ack { conn: came.conn, session, kind: AckKind::Rec, packet_id, code })
    }

    /// Records the identifier of a QoS 2 message that was recorded for nobody on this shard.
    fn record_arrival(&mut self, actions: &mut Actions) {
        if let Some((session, packet_id)) = self.durable.taking.arrived.take() {
            self.record(Record::Arrived { session, packet_id }, actions);
        }
    }

    /// Whether a QoS 2 message waits for its other takers: its PUBREC comes after that.
    pub(crate) fn is_postponed(&self, conn: ConnId, packet_id: PacketId) -> bool {
        self.has_gated(conn) && self.durable.gate.has_postponed(conn, packet_id)
    }

    /// A QoS 2 message was refused after all: its identifier is free. To 5.0 that is the end of the message; 3.x hears nothing and
    /// sends it again, so the shards that have it go on knowing it.
    pub(super) fn forget_arrival(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        is_v5: bool,
        actions: &mut Actions,
    ) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let number = entry.number();
        let windows = entry.traffic.windows.as_deref_mut();
        let was_there = windows.is_some_and(|windows| windows.incoming.release(packet_id));
        if let Some(session) = number.filter(|_| was_there) {
            if is_v5 {
                self.forget_elsewhere(session, packet_id.get(), actions);
            }
            self.record(Record::Released { session, packet_id: packet_id.get() }, actions);
        }
    }

    /// A PUBLISH to a client whose identifier is on the disk now.
    pub(super) fn transfer_first(
        &mut self,
        conn: ConnId,
        session: u32,
        packet_id: PacketId,
        actions: &mut Actions,
    ) {
        let Some(entry) = self.sessions.at(session) else { return };
        let link = entry.link;
        if link.conn() != Some(conn) {
            return;
        }
        let Some(windows) = entry.traffic.windows.as_deref() else { return };
        let Some(delivery) = windows.outgoing.get(packet_id).cloned() else { return };
        let to = Receiver { session, conn, link };
        let message = delivery.message.clone();
        let mut publication = Publication::of_message(&message, self.now.wall);
        let sent = delivery
            .with_terms(|terms| self.transmit(&to, terms, Some(packet_id), &mut publication, actions));
        if !sent {
            self.forget_transfer(session, packet_id, actions);
        }
    }

    /// PUBREL, or PUBCOMP, when what it says is on the disk.
    pub(crate) fn answer_ack(
        &mut self,
        conn: ConnId,
        kind: AckKind,
        (packet_id, code): (PacketId, ReasonCode),
        promise: Promise,
        actions: &mut Actions,
    ) {
        let session = self.connections.get(conn).and_then(|known| self.sessions.id_at(known.session));
        let Some(session) = session else { return };
        self.answer(Owed::Ack { conn, session, kind, packet_id, code }, promise, actions);
    }

    /// Part of what the answer at hand would promise cannot be stored.
    pub(crate) const fn refuse_promise(&mut self) {
        self.durable.promise.is_refused = true;
    }

    /// Records a retained message whose topic has its home here.
    pub(crate) fn record_retained(&mut self, message: &Message, actions: &mut Actions) {
        let retained = message_record(&message.view());
        self.record(Record::Retained(Box::new(retained)), actions);
    }

    /// Records that a topic has no retained message any more.
    pub(crate) fn record_retained_cleared(&mut self, topic: &str, actions: &mut Actions) {
        self.record(Record::RetainedCleared { topic: topic.into() }, actions);
    }
}

//! How one session gets a message: at once, later from its queue, or not at all, which is counted with the reason.

use dunlin_wire::packet::{Ack, Packet};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{PacketId, QoS, Version};

use super::delivery::{Delivery, Terms};
use super::publication::{Publication, TooLarge, Transfer};
use super::{Queued, queue_limits};
use crate::action::Actions;
use crate::config::Mqtt;
use crate::connection::{AliasesOut, OutTopic};
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::durable::{AckKind, Promise};
use crate::ids::ConnId;
use crate::metrics::Counter;
use crate::session::{DropReason, Link, QueueLimits, Resend, Waiting};

/// Settings that each delivery looks at, read once per message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliveryRules {
    unsent_bytes_high: u32,
    inflight_max: u16,
    upgrade_qos: bool,
    queue: QueueLimits,
    /// QoS 0 transfers that are counted when the message is through.
    pub(super) tally: Tally,
}

/// QoS 0 transfers of one message, counted together: the inner loop of a fan-out touches no counter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    qos0_count: u64,
    bytes: u64,
}

impl DeliveryRules {
    fn of(mqtt: &Mqtt) -> Self {
        Self {
            unsent_bytes_high: mqtt.outbound_bytes_high,
            inflight_max: mqtt.max_inflight.max(1),
            upgrade_qos: mqtt.upgrade_qos,
            queue: queue_limits(mqtt),
            tally: Tally::default(),
        }
    }

    /// QoS of a delivery. [MQTT5-3.8.4-8] [MQTT311-3.8.4-6]: the smaller of the two, unless the operator wants the
    /// subscription's to rule (`upgrade_qos`).
    pub(super) fn qos(&self, published: QoS, granted: QoS) -> QoS {
        if self.upgrade_qos { published.max(granted) } else { published.min(granted) }
    }

    /// QoS 1 and 2 messages that may be under way to a client. [MQTT5-3.3.4-9] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2]: a full
    /// window holds up nothing else [MQTT5-3.3.4-10] [MQTT5-4.9.0-3].
    pub(crate) fn window(&self, link: &Link) -> u16 {
        self.inflight_max.min(link.receive_maximum)
    }

    /// Whether a client takes messages now, as far as its socket is concerned.
    pub(crate) const fn is_clear(&self, link: &Link) -> bool {
        link.unsent_bytes <= self.unsent_bytes_high && !link.is_withheld
    }
}

/// A session with a connection that takes messages now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver {
    pub(crate) session: u32,
    pub(crate) conn: ConnId,
    pub(crate) link: Link,
}

impl Receiver {
    /// The transfer of a message on these terms, for the first time.
    #[inline]
    fn transfer<'a>(&self, terms: &Terms<'a>, packet_id: Option<PacketId>) -> Transfer<'a> {
        Transfer {
            version: self.link.version,
            qos: terms.qos,
            retain: terms.retain,
            dup: false,
            packet_id,
            ids: terms.ids,
            packet_bytes_max: self.link.packet_bytes_max,
        }
    }
}

impl ShardCore {
    /// The settings for deliveries.
    pub(crate) fn delivery_rules(&self) -> DeliveryRules {
        DeliveryRules::of(self.configs.current())
    }

    /// Gives a message to one session.
    ///
    /// [MQTT5-4.6.0-5] [MQTT5-4.6.0-6] [MQTT311-4.6.0-5] [MQTT311-4.6.0-6]: what waits goes before what comes, so each
    /// subscriber gets the messages of one publisher, topic and QoS in their order.
    // Called from one loop; as a call of its own a copy to a QoS 0 subscriber costs 31 instructions more, of 427 (`cargo perf icount`).
    #[inline(always)]
    pub(super) fn deliver(
        &mut self,
        session: u32,
        terms: &Terms<'_>,
        publication: &mut Publication<'_>,
        rules: &mut DeliveryRules,
        actions: &mut Actions,
    ) {
        let Some(entry) = self.sessions.at_mut(session) else { return };
        if let Some(hook) = &mut self.hooks.message
            && !hook.deliver(&entry.client_id, publication.view())
        {
            self.metrics.count(Counter::DeliveryDroppedHook);
            return;
        }
        if terms.qos != QoS::AtMostOnce && self.durable.is_on() && entry.is_durable() {
            self.deliver_stored(session, terms, publication, rules, actions);
            return;
        }
        let link = entry.link;
        if let Some(conn) = link.conn()
            && rules.is_clear(&link)
        {
            let to = Receiver { session, conn, link };
            let windows = entry.traffic.windows.as_deref();
            if windows.is_none_or(|windows| windows.queue.is_empty()) {
                if terms.qos == QoS::AtMostOnce && link.topic_alias_maximum == 0 {
                    match publication.send(conn, &to.transfer(terms, None), actions) {
                        Ok(bytes) => {
                            entry.link.unsent_bytes = link.unsent_bytes.saturating_add(bytes);
                            rules.tally.qos0_count += 1;
                            rules.tally.bytes += u64::from(bytes);
                        }
                        Err(TooLarge) => self.count_too_large(),
                    }
                    return;
                }
                if terms.qos == QoS::AtMostOnce {
                    self.transmit(&to, terms, None, publication, actions);
                    return;
                }
                if windows.is_none_or(|windows| windows.outgoing.has_room(rules.window(&link))) {
                    let delivery = Delivery::new(publication.keep(), terms);
                    self.begin(&to, delivery, terms, publication, actions);
                    return;
                }
            } else if terms.qos == QoS::AtMostOnce && windows.is_some_and(|windows| !windows.queue.has_qos0())
            {
                // Order is per QoS: QoS 0 need not wait behind a full window. [MQTT5-4.6.0-5]
                self.transmit(&to, terms, None, publication, actions);
                return;
            }
        }
        self.enqueue(session, Delivery::new(publication.keep(), terms), rules, actions);
    }

    /// Sends a QoS 1 or 2 message for the first time, on these terms, and keeps it until it is acknowledged.
    ///
    /// [MQTT5-4.3.2-1] [MQTT5-4.3.2-2] [MQTT5-4.3.2-3] [MQTT5-4.3.3-1] [MQTT5-4.3.3-2] [MQTT5-4.3.3-3]
    /// [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]
    pub(crate) fn begin(
        &mut self,
        to: &Receiver,
        delivery: Delivery,
        terms: &Terms<'_>,
        publication: &mut Publication<'_>,
        actions: &mut Actions,
    ) {
        let Some(entry) = self.sessions.at_mut(to.session) else { return };
        let windows = entry.traffic.windows_mut();
        let stored_as = delivery.id();
        let Some(packet_id) = windows.outgoing.push(terms.qos, delivery) else { return };
        if to.link.retries() && windows.retry_deadline.is_none() {
            self.arm_retry(to.session);
        }
        if let Some(message) = stored_as
            && !self.note_begun(to, message, terms.qos, packet_id)
        {
            // It goes when its identifier is on the disk.
            return;
        }
        if !self.transmit(to, terms, Some(packet_id), publication, actions) {
            self.forget_transfer(to.session, packet_id, actions);
        }
    }

    /// A message is too large for its client: as if it had been delivered. [MQTT5-3.1.2-25]
    pub(crate) fn forget_transfer(&mut self, session: u32, packet_id: PacketId, actions: &mut Actions) {
        let Some(entry) = self.sessions.at_mut(session) else { return };
        let forgotten = entry.traffic.windows_mut().outgoing.forget(packet_id);
        if let Some(message) = forgotten.and_then(|delivery| delivery.id()) {
            self.note_gone(session, Some(message), actions);
        }
    }

    /// Writes one PUBLISH for the first time; whether the client takes packets of its size. [MQTT5-3.1.2-25]
    #[inline]
    pub(crate) fn transmit(
        &mut self,
        to: &Receiver,
        terms: &Terms<'_>,
        packet_id: Option<PacketId>,
        publication: &mut Publication<'_>,
        actions: &mut Actions,
    ) -> bool {
        let transfer = to.transfer(terms, packet_id);
        let sent = if to.link.topic_alias_maximum == 0 {
            publication.send(to.conn, &transfer, actions)
        } else {
            self.transmit_aliased(to, &transfer, publication, actions)
        };
        self.account_delivery(to.session, terms.qos, sent)
    }

    /// Counts what came of a transfer.
    #[inline]
    fn account_delivery(&mut self, session: u32, qos: QoS, sent: Result<u32, TooLarge>) -> bool {
        let Ok(bytes) = sent else {
            self.count_too_large();
            return false;
        };
        if let Some(entry) = self.sessions.at_mut(session) {
            entry.link.unsent_bytes = entry.link.unsent_bytes.saturating_add(bytes);
        }
        self.metrics.add(Counter::BytesSent, u64::from(bytes));
        self.metrics.count(Counter::PacketsSent);
        self.metrics.count(Counter::PublishSent);
        self.metrics.count(Counter::MessagesSent);
        self.metrics.count(match qos {
            QoS::AtMostOnce => Counter::MessagesQos0Sent,
            QoS::AtLeastOnce => Counter::MessagesQos1Sent,
            QoS::ExactlyOnce => Counter::MessagesQos2Sent,
        });
        true
    }

    fn count_too_large(&mut self) {
        self.metrics.count(Counter::DeliveryDropped);
        self.metrics.count(Counter::DeliveryDroppedTooLarge);
    }

    /// Counts what was tallied while one message was handed out.
    pub(super) fn count_tally(&mut self, tally: Tally) {
        self.metrics.add(Counter::BytesSent, tally.bytes);
        for counter in
            [Counter::PacketsSent, Counter::PublishSent, Counter::MessagesSent, Counter::MessagesQos0Sent]
        {
            self.metrics.add(counter, tally.qos0_count);
        }
    }

    /// As [`Publication::send`], with a number for the topic where that saves bytes.
    ///
    /// [MQTT5-3.1.2-26] [MQTT5-3.1.2-27] [MQTT5-3.3.2-8] [MQTT5-3.3.2-11]
    fn transmit_aliased(
        &mut self,
        to: &Receiver,
        transfer: &Transfer<'_>,
        publication: &mut Publication<'_>,
        actions: &mut Actions,
    ) -> Result<u32, TooLarge> {
        // With the topic in full it may be too large to send, and then the client would not learn the alias.
        if !publication.fits(transfer) {
            return Err(TooLarge);
        }
        let key = self.routing.key;
        let conn = to.conn;
        let Some(connection) = self.connections.get_mut(conn) else { return Err(TooLarge) };
        let aliases = connection.rare_mut().flow.aliases.get_or_insert_default();
        let outgoing = aliases.outgoing.get_or_insert_with(|| Box::new(AliasesOut::new(key)));
        match outgoing.assign(publication.view().topic, to.link.topic_alias_maximum) {
            OutTopic::Named => publication.send(conn, transfer, actions),
            alias @ (OutTopic::Introduced(_) | OutTopic::Aliased(_)) => {
                publication.send_aliased(conn, transfer, alias, actions)
            }
        }
    }

    /// Puts a message into a session's queue; what makes room for it is dropped and counted.
    pub(crate) fn enqueue(
        &mut self,
        session: u32,
        delivery: Delivery,
        rules: &DeliveryRules,
        actions: &mut Actions,
    ) {
        let view = delivery.message.view();
        let priority = self.routing.priorities.of(view.topic);
        let waiting = Waiting {
            qos: delivery.qos,
            bytes: u32::try_from(delivery.message.bytes()).unwrap_or(u32::MAX),
            expires_at: view.expires_at(),
            message: delivery,
        };
        let Some(entry) = self.sessions.at_mut(session) else { return };
        let metrics = &mut self.metrics;
        let windows = entry.traffic.windows_mut();
        let before = Queued::of(&windows.queue);
        let mut gone = Vec::new();
        windows.queue.push(waiting, priority, &rules.queue, |reason, victim| {
            metrics.count(Counter::DeliveryDropped);
            metrics.count(drop_counter(reason));
            gone.extend(victim.message.id());
        });
        self.routing.queued.change(before, Queued::of(&windows.queue));
        for message in gone {
            self.note_gone(session, Some(message), actions);
        }
    }

    /// Sends what waits for a session while its window and its socket have room, then goes on with retained messages.
    pub(crate) fn pump(&mut self, session: u32, actions: &mut Actions) {
        let rules = self.delivery_rules();
        while let Some((to, delivery)) = self.next_waiting(session, &rules, actions) {
            let message = delivery.message.clone();
            let mut publication = Publication::of_message(&message, self.now.wall);
            delivery.with_terms(|terms| {
                if terms.qos == QoS::AtMostOnce {
                    self.transmit(&to, terms, None, &mut publication, actions);
                } else {
                    self.begin(&to, delivery.clone(), terms, &mut publication, actions);
                }
            });
        }
        if self.durable.is_on() {
            self.flush_sent(actions);
            self.continue_waking(session, actions);
        }
        self.continue_replay(session, actions);
    }

    /// The next message that waits, if it may go now.
    fn next_waiting(
        &mut self,
        session: u32,
        rules: &DeliveryRules,
        actions: &mut Actions,
    ) -> Option<(Receiver, Delivery)> {
        let entry = self.sessions.at_mut(session)?;
        let link = entry.link;
        let conn = link.conn()?;
        if entry.has_away_outgoing() {
            // What was sent on an earlier connection goes first.
            return None;
        }
        let windows = entry.traffic.windows.as_mut()?;
        if !rules.is_clear(&link) || windows.queue.is_empty() {
            return None;
        }
        let has_room = windows.outgoing.has_room(rules.window(&link));
        let metrics = &mut self.metrics;
        let mut gone = Vec::new();
        let mut dropped = |reason, victim: Waiting<Delivery>| {
            metrics.count(Counter::DeliveryDropped);
            metrics.count(drop_counter(reason));
            gone.extend(victim.message.id());
        };
        let before = Queued::of(&windows.queue);
        // [MQTT5-3.3.2-5]: what expired on the way out of the queue is dropped.
        let waiting = if has_room {
            windows.queue.pop(self.now.wall, &mut dropped)
        } else {
            windows.queue.pop_qos0(self.now.wall, &mut dropped)
        };
        self.routing.queued.change(before, Queued::of(&windows.queue));
        for message in gone {
            self.note_done(session, Some(message), actions);
        }
        Some((Receiver { session, conn, link }, waiting?.message))
    }

    /// Sends again what the client has not acknowledged, in the original order and as far as its window allows; then what
    /// waits. [MQTT5-4.4.0-1] [MQTT5-3.3.1-1] [MQTT311-4.4.0-1] [MQTT311-3.3.1-1] [MQTT311-4.6.0-1]
    pub(crate) fn resend(&mut self, session: u32, actions: &mut Actions) {
        let rules = self.delivery_rules();
        if self.durable.is_on() {
            self.restore_releases(session);
        }
        loop {
            let Some(entry) = self.sessions.at_mut(session) else { return };
            let link = entry.link;
            if link.is_withheld {
                return;
            }
            let (Some(conn), Some(windows)) = (link.conn(), entry.traffic.windows.as_mut()) else { break };
            let again = match windows.outgoing.next_resend(rules.window(&link)) {
                None => break,
                Some(Resend::Publish { id, message, .. }) => (id, Some(message.clone())),
                Some(Resend::PubRel { id }) => (id, None),
            };
            self.send_again(&Receiver { session, conn, link }, again, actions);
        }
        self.pump(session, actions);
    }

    /// Sends one unacknowledged packet again, with DUP if it is a PUBLISH; after PUBREC only PUBREL [MQTT5-4.3.3-6]. What
    /// was sent once goes on whatever its age [MQTT5-4.3.3-7] [MQTT5-4.3.3-13]. Topic and payload go in full: aliases ended with
    /// the connection.
    pub(super) fn send_again(
        &mut self,
        to: &Receiver,
        (id, delivery): (PacketId, Option<Delivery>),
        actions: &mut Actions,
    ) {
        let Receiver { session, conn, link } = *to;
        let Some(delivery) = delivery else {
            if self.durable.is_on() {
                // What it says may have been recorded just now.
                let promise = Promise::of(self.durable.appended());
                let what = (id, ReasonCode::Success);
                self.answer_ack(conn, AckKind::Rel, what, promise, actions);
            } else {
                self.send_packet(conn, &Packet::PubRel(Ack::success(id)), actions);
            }
            return;
        };
        let message = &delivery.message;
        let mut publication = Publication::of_message(message, self.now.wall);
        let sent = delivery.with_terms(|terms| {
            let transfer = Transfer {
                version: link.version,
                qos: terms.qos,
                retain: terms.retain,
                dup: true,
                packet_id: Some(id),
                ids: terms.ids,
                packet_bytes_max: link.packet_bytes_max,
            };
            publication.send(conn, &transfer, actions)
        });
        if !self.account_delivery(session, delivery.qos, sent) {
            // The client takes smaller packets than on its last connection. [MQTT5-3.1.2-25]
            self.forget_transfer(session, id, actions);
        }
    }

    /// Arms the deadline after which unacknowledged messages go to a 3.x client again (`retry_interval`).
    pub(super) fn arm_retry(&mut self, session: u32) {
        let Some(interval_ms) = self.configs.current().retry_interval_ms else { return };
        let at = self.now.mono.plus_ms(interval_ms);
        if let Some(entry) = self.sessions.at_mut(session) {
            let windows = entry.traffic.windows_mut();
            windows.acknowledged = false;
            windows.retry_deadline = Some((at, self.deadlines.arm(at, Due::Traffic(session))));
        }
    }
}

impl Link {
    /// Whether unacknowledged messages may be repeated on a live connection: [MQTT5-4.4.0-1] forbids it in 5.0.
    pub(super) const fn retries(&self) -> bool {
        matches!(self.version, Version::V31 | Version::V311)
    }
}

/// Where a dropped message is counted.
const fn drop_counter(reason: DropReason) -> Counter {
    match reason {
        DropReason::Qos0NotStored => Counter::DeliveryDroppedQos0Msg,
        DropReason::QueueFull | DropReason::QueueBytes => Counter::DeliveryDroppedQueueFull,
        DropReason::Expired => Counter::DeliveryDroppedExpired,
    }
}

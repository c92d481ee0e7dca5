//! A session's messages when its connection comes, goes, takes bytes, or the session ends.

use dunlin_persist::Record;
use dunlin_wire::types::{PacketId, QoS};

use super::Queued;
use super::deliver::Receiver;
use super::delivery::Delivery;
use super::special::Special;
use crate::action::Actions;
use crate::core::ShardCore;
use crate::deadlines::{DeadlineKey, Due};
use crate::ids::{ConnId, SessionId};
use crate::mesh::Wanted;
use crate::metrics::Counter;
use crate::session::Resend;
use crate::time::Mono;
use crate::topics::{FilterId, MemberId, Target};

impl ShardCore {
    /// The socket took bytes; the `unsent_bytes` of the session's link are already smaller.
    pub(crate) fn on_sent(&mut self, conn: ConnId, session: SessionId, actions: &mut Actions) {
        let Some(entry) = self.sessions.get(session) else { return };
        let waits = entry.traffic.windows.as_ref().is_some_and(|windows| !windows.queue.is_empty())
            || (self.durable.is_on() && entry.has_away());
        let replays = || {
            let rare = self.connections.get(conn).and_then(|connection| connection.rare.as_ref());
            rare.is_some_and(|rare| rare.flow.replay.is_some())
        };
        // Below half of the mark, so that a slow client does not cost a look at its queue for each byte.
        if (waits || replays()) && entry.link.unsent_bytes <= self.configs.current().outbound_bytes_high / 2 {
            self.pump(session.index, actions);
        }
    }

    /// CONNACK was sent for a session that was kept: resend, then go on with the queue.
    pub(crate) fn on_session_resumed(&mut self, session: SessionId, actions: &mut Actions) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let mut has_unacknowledged = false;
        if let Some(windows) = &mut entry.traffic.windows {
            windows.outgoing.begin_resend();
            has_unacknowledged = !windows.outgoing.is_empty();
        }
        let is_armed = entry.traffic.windows.as_ref().is_some_and(|windows| windows.retry_deadline.is_some());
        if has_unacknowledged && entry.link.retries() && !is_armed {
            self.arm_retry(session.index);
        }
        if self.durable.is_on() {
            self.begin_waking(session, actions);
        }
        self.tell_presence(session, true, actions);
        if !self.review_resumed(session, actions) {
            self.resend(session.index, actions);
        }
    }

    /// The connection of a session is gone; the session may live on. Its link is already empty.
    ///
    /// Messages of shared subscriptions that were not sent yet go back to their groups: members with a connection come
    /// first. What was sent stays, to be completed with this member. [MQTT5-4.8.2-4]
    pub(crate) fn on_session_detached(&mut self, session: SessionId, actions: &mut Actions) {
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.traffic.shed();
        }
        if self.routing.specials.count_of(session.index) > 0 {
            self.tell_presence(session, false, actions);
            let waiting = self.take_queue(session);
            let rules = self.delivery_rules();
            // When the broker stops, the others leave too: what is on the disk stays its own.
            let is_stopping = self.stopping.is_some();
            for delivery in waiting {
                if delivery.group().is_some() && !(is_stopping && delivery.id().is_some()) {
                    self.return_to_group(session, &delivery, actions);
                } else {
                    self.enqueue(session.index, delivery, &rules, actions);
                }
            }
        }
        if self.durable.is_on() {
            self.put_away(session);
        }
    }

    /// A session ends now: all that it holds elsewhere goes. Its entry is removed after this.
    ///
    /// Unacknowledged QoS 1 messages of shared subscriptions, and those of any QoS that were not sent, go to other members.
    /// [MQTT5-4.8.2-5]: QoS 2 messages that were sent go to nobody.
    pub(crate) fn on_session_ended(&mut self, session: SessionId, actions: &mut Actions) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let is_durable = entry.is_durable();
        let plain = std::mem::take(&mut entry.traffic.subscriptions);
        let unacknowledged: Vec<Delivery> = entry
            .traffic
            .windows
            .as_mut()
            .map_or_else(Vec::new, |windows| windows.outgoing.drain().collect());
        let waiting = self.take_queue(session);
        self.disarm_traffic(session);
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.traffic.windows = None;
        }
        for filter in plain.sorted() {
            self.drop_plain(session.index, filter);
        }
        let specials = self.routing.specials.remove_all(session.index);
        let redeliver = |delivery: &Delivery| delivery.group().is_some() && delivery.qos != QoS::ExactlyOnce;
        let sent_once = unacknowledged.into_iter().filter(redeliver);
        let memberships = specials
            .iter()
            .filter(|(_, special)| matches!(special, Special::Shared { .. }))
            .map(|(written, _)| written.clone());
        let memberships: Vec<Box<str>> = if is_durable { memberships.collect() } else { Vec::new() };
        let returned: Vec<Delivery> =
            sent_once.chain(waiting.into_iter().filter(|delivery| delivery.group().is_some())).collect();
        for (written, special) in &specials {
            self.leave_special(session, written, special, actions);
        }
        if is_durable {
            self.begin_promise();
        }
        for delivery in &returned {
            let written = specials.iter().find(|(_, special)| special.is_member_of(delivery.group()));
            if let Some((written, _)) = written {
                self.metrics.count(Counter::DeliveryRedispatched);
                self.return_message(session, written, delivery.message.clone(), actions);
            } else {
                self.metrics.count(Counter::DeliveryDroppedSessionEnded);
            }
        }
        if is_durable {
            let promise = self.take_promise();
            let returned = returned.iter().filter_map(Delivery::id).collect();
            self.end_stored(session, memberships, (returned, promise), actions);
        }
        self.announce(actions);
    }

    /// Takes all out of a session's queue, in order.
    pub(super) fn take_queue(&mut self, session: SessionId) -> Vec<Delivery> {
        let Some(entry) = self.sessions.get_mut(session) else { return Vec::new() };
        let Some(windows) = &mut entry.traffic.windows else { return Vec::new() };
        self.routing.queued.change(Queued::of(&windows.queue), Queued::default());
        windows.queue.drain().map(|(_, waiting)| waiting.message).collect()
    }

    /// Ends a plain subscription in the index; other shards hear of it if it was the filter's last.
    pub(super) fn drop_plain(&mut self, session: u32, filter: FilterId) -> bool {
        let text: Option<Box<str>> =
            (self.shard_count > 1).then(|| self.routing.index.filter_text(filter).into());
        let Some(gone) = self.routing.index.unsubscribe(filter, Target::Session(session)) else {
            return false;
        };
        if gone.last_of_filter
            && let Some(text) = text
        {
            self.note_interest(&text, Wanted::No);
        }
        true
    }

    /// A deadline that the messages of a session armed has come.
    pub(crate) fn on_traffic_due(&mut self, session: u32, actions: &mut Actions) {
        let now = self.now.mono;
        let Some(entry) = self.sessions.at_mut(session) else { return };
        let Some(windows) = &mut entry.traffic.windows else { return };
        let is_due = |deadline: &mut (Mono, DeadlineKey)| deadline.0 <= now;
        let release_due = windows.release_deadline.take_if(is_due).is_some();
        let retry_due = windows.retry_deadline.take_if(is_due).is_some();
        if release_due {
            let mut given_up = Vec::new();
            windows.incoming.expire(now, |id| given_up.push(id.get()));
            self.metrics.add(Counter::MessagesDroppedAwaitPubrelTimeout, given_up.len() as u64);
            let next = windows.incoming.next_deadline();
            if let Some(at) = next {
                windows.release_deadline = Some((at, self.deadlines.arm(at, Due::Traffic(session))));
            }
            if let Some(number) = self.number_of(session) {
                for packet_id in given_up {
                    self.forget_elsewhere(number, packet_id, actions);
                    self.record(Record::Released { session: number, packet_id }, actions);
                }
            }
        }
        if retry_due {
            self.retry(session, actions);
        }
        if let Some(entry) = self.sessions.at_mut(session)
            && entry.conn().is_none()
        {
            entry.traffic.shed();
        }
    }

    /// Takes the deadlines of a session's messages back: its index will be free.
    fn disarm_traffic(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let Some(windows) = &mut entry.traffic.windows else { return };
        for (_, key) in windows.release_deadline.take().into_iter().chain(windows.retry_deadline.take()) {
            self.deadlines.cancel(key, Due::Traffic(session.index));
        }
    }

    /// Sends all unacknowledged messages again to a 3.x client that has acknowledged nothing since the last time.
    fn retry(&mut self, session: u32, actions: &mut Actions) {
        let Some(entry) = self.sessions.at(session) else { return };
        let link = entry.link;
        let (Some(conn), Some(windows)) = (link.conn(), &entry.traffic.windows) else { return };
        if windows.outgoing.is_empty() || !link.retries() {
            return;
        }
        // What waits for the disk must not go out before it; it is no repeat then.
        if !windows.acknowledged && !link.is_withheld && !self.has_gated(conn) {
            let again: Vec<(PacketId, Option<Delivery>)> = windows
                .outgoing
                .iter()
                .map(|resend| match resend {
                    Resend::Publish { id, message, .. } => (id, Some(message.clone())),
                    Resend::PubRel { id } => (id, None),
                })
                .collect();
            for packet in again {
                self.send_again(&Receiver { session, conn, link }, packet, actions);
            }
        }
        self.arm_retry(session);
    }

    /// Names a session for other shards.
    pub(crate) const fn member(&self, session: SessionId) -> MemberId {
        MemberId { shard: self.shard, session }
    }

    /// Gives up what a special subscription holds at its home.
    pub(super) fn leave_special(
        &mut self,
        session: SessionId,
        written: &str,
        special: &Special,
        actions: &mut Actions,
    ) {
        match special {
            Special::Shared { .. } => self.leave_group(session, written, actions),
            Special::Exclusive { .. } => self.release_claim(session, written, actions),
        }
    }
}

//! QoS 2 once between shards: a message that a shard has taken is not taken again when the publisher's shard sends it anew.
//!
//! The publisher's shard records the identifier only when the others have the message, so after a crash in between the client
//! sends it again and all shards are asked again. Those that have it know its origin, the session and identifier under which it
//! was published, from their own record of it. They forget it when PUBREL has come; only when that is on their disks, the
//! identifier is free, on the publisher's shard and then for the client. So at every moment of a crash
//!
//! * the publisher's shard does not know the identifier: the client has no PUBREC and sends the message again, with DUP; who has
//!   it confirms and does nothing, who does not takes it;
//! * it knows the identifier: PUBREC was perhaps sent, a repeat is answered with it, and PUBREL makes the others forget, again
//!   if need be;
//! * it has freed the identifier: nobody else knows it any more.
//!
//! A client that has lost its memory sends another message under an identifier that others know: it has no DUP, and is taken.
//!
//! What is left of this when the client never repeats ends with its session: a shard that restarts tells the others what it
//! knows, and only the session's home keeps that. Of sessions that ended while a shard was down, the boot drops it.
//!
//! Only sessions that subscribed for themselves are covered. After a crash in between, a shared group may choose another member,
//! or the same one again, for a message that a member has; no message is lost by that. The same is true of a subscription that
//! is made on the way of a retained message to its home. Under another number of shards nothing is known of what others took:
//! what was sent and not acknowledged before may come twice.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_persist::{Record, SessionNo};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::PacketId;

use super::gate::{AckKind, Owed, Promise};
use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::ids::{ConnId, SessionId, ShardId};
use crate::mesh::{MeshMessage, Once};
use crate::publish::{Publication, Publisher, Takers};

/// A session and its packet identifier.
pub(super) type Origin = (SessionNo, u16);

/// What a shard knows of QoS 2 messages between shards. About 40 B each; bounded by `mqtt.max_awaiting_rel` per session.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// That of the message at hand, and whether it may have been sent before.
    current: Option<(Origin, bool)>,
    /// This shard's: which others were sent the message.
    sent: BTreeMap<Origin, Vec<ShardId>>,
    /// Other shards': the sessions of this one that subscribed for themselves have the message.
    taken: BTreeSet<Origin>,
    /// This shard's: the message waits for its other takers, and is not handed out or recorded here.
    postponed: BTreeSet<Origin>,
}

#[cfg(test)]
impl Origins {
    /// How many exchanges are known, here or as known elsewhere.
    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.taken.len() + self.postponed.len()
    }
}

impl super::Durable {
    /// The origin of the message at hand, if other shards must not take it twice, and whether it may have been sent before.
    pub(crate) const fn origin(&self) -> Option<((SessionNo, u16), bool)> {
        self.origins.current
    }

    pub(super) const fn set_origin(&mut self, origin: Option<(Origin, bool)>) {
        self.origins.current = origin;
    }

    /// A message waits for its other takers.
    pub(super) fn note_postponed(&mut self, origin: Origin) {
        self.origins.postponed.insert(origin);
    }

    /// It waits no more.
    pub(super) fn note_not_postponed(&mut self, origin: Origin) {
        self.origins.postponed.remove(&origin);
    }

    /// Whether a message waits for its other takers: its identifier is not to be recorded.
    pub(super) fn has_postponed(&self, origin: Origin) -> bool {
        self.origins.postponed.contains(&origin)
    }

    pub(super) fn has_taken(&self, origin: Origin) -> bool {
        self.origins.taken.contains(&origin)
    }
}

impl ShardCore {
    /// Says that another shard's QoS 2 message, of this origin, is on the disk here. Before the first event.
    pub fn restore_taken(&mut self, session: SessionNo, packet_id: u16) {
        self.durable.origins.taken.insert((session, packet_id));
    }

    /// A restored session waits for the release of an identifier: whom the message was sent to is not known any more.
    pub(super) fn restore_sent(&mut self, session: SessionNo, packet_id: u16) {
        if self.shard_count > 1 {
            let others = self.other_shards();
            self.durable.origins.sent.insert((session, packet_id), others);
        }
    }

    /// Notes which shards were sent the message at hand, besides those that know its origin already.
    pub(super) fn note_sent_once(&mut self, origin: Origin, mut shards: Vec<ShardId>) {
        if shards.is_empty() {
            return;
        }
        let known = self.durable.origins.sent.entry(origin).or_default();
        shards.retain(|shard| !known.contains(shard));
        known.append(&mut shards);
    }

    /// Tells the other shards what this one knows of their sessions after a restart. Before they take clients.
    pub(super) fn tell_taken(&self, actions: &mut Actions) {
        for (session, packet_id) in self.durable.origins.taken.iter().copied() {
            for to in self.other_shards() {
                let message = MeshMessage::Taken { session, packet_id };
                actions.list.push(Action::Mesh { to, message });
            }
        }
    }

    /// Another shard has restarted and knows of a message. Whose session is elsewhere, or has ended, has nothing to forget.
    pub(crate) fn on_taken(&mut self, from: ShardId, session: SessionNo, packet_id: u16) {
        if self.session_numbered(session).is_some() {
            self.note_sent_once((session, packet_id), vec![from]);
        }
    }

    /// Another shard's QoS 2 message, perhaps not for the first time.
    pub(crate) fn on_deliver_once(&mut self, from: ShardId, once: &Once, actions: &mut Actions) {
        let (session, packet_id) = once.origin;
        if !once.is_repeat {
            // What was taken under the identifier is an older message, whose client has forgotten it.
            self.on_forget(session, packet_id, actions);
        }
        let is_known = self.durable.origins.taken.contains(&once.origin);
        if !is_known && self.refuses_from_elsewhere(&once.message.view()) {
            return;
        }
        let mut publication = Publication::of_message(&once.message, self.now.wall);
        let takers = if is_known { Takers::Groups } else { Takers::All };
        self.durable.taking.origin = Some(once.origin).filter(|_| !is_known);
        self.deliver_here(&mut publication, Publisher::default(), (from, takers), actions);
        // Taken out if it was recorded with the message.
        if !is_known && self.durable.taking.origin.take().is_none() {
            self.durable.origins.taken.insert(once.origin);
        }
        if is_known {
            self.durable.promise.seq = self.durable.appended;
        }
    }

    /// The identifier of another shard's message is free.
    pub(crate) fn on_forget(&mut self, session: SessionNo, packet_id: u16, actions: &mut Actions) {
        if self.durable.origins.taken.remove(&(session, packet_id)) {
            self.record(Record::Released { session, packet_id }, actions);
        }
    }

    /// PUBREL came: other shards forget the message before its identifier is free. Whether there are any; the answer is given then.
    pub(crate) fn release_elsewhere(
        &mut self,
        conn: ConnId,
        session: SessionId,
        packet_id: PacketId,
        actions: &mut Actions,
    ) -> bool {
        let Some(number) = self.number_of(session.index) else { return false };
        let Some(shards) = self.durable.origins.sent.get(&(number, packet_id.get())).cloned() else {
            return false;
        };
        self.begin_promise();
        self.tell_to_forget((number, packet_id.get()), &shards, actions);
        let promise = self.take_promise();
        self.answer(Owed::Release { conn, session, packet_id }, promise, actions);
        true
    }

    /// All shards have forgotten the message: its identifier is free.
    pub(super) fn say_released(
        &mut self,
        conn: ConnId,
        session: SessionId,
        packet_id: PacketId,
        actions: &mut Actions,
    ) {
        let number = self.number_of(session.index);
        let Some(entry) = self.sessions.get_mut(session) else { return };
        let Some(number) = number else { return };
        let windows = entry.traffic.windows.as_deref_mut();
        let was_there = windows.is_some_and(|windows| windows.incoming.release(packet_id));
        self.durable.origins.sent.remove(&(number, packet_id.get()));
        if was_there {
            self.return_quota(conn);
            self.record(Record::Released { session: number, packet_id: packet_id.get() }, actions);
        }
        let promise = Promise::of(self.durable.appended());
        self.answer_ack(conn, AckKind::Comp, (packet_id, ReasonCode::Success), promise, actions);
    }

    /// An identifier is given up without PUBREL: nobody waits for the others to forget.
    pub(crate) fn forget_elsewhere(&mut self, session: SessionNo, packet_id: u16, actions: &mut Actions) {
        let origin = (session, packet_id);
        if let Some(shards) = self.durable.origins.sent.remove(&origin) {
            self.tell_to_forget(origin, &shards, actions);
        }
    }

    /// A session ends with all its identifiers.
    pub(super) fn forget_all_elsewhere(&mut self, session: SessionNo, actions: &mut Actions) {
        let range = (session, 0)..=(session, u16::MAX);
        let all: Vec<u16> = self.durable.origins.sent.range(range).map(|((_, id), _)| *id).collect();
        for packet_id in all {
            self.forget_elsewhere(session, packet_id, actions);
        }
    }

    fn tell_to_forget(&mut self, (session, packet_id): Origin, shards: &[ShardId], actions: &mut Actions) {
        for to in shards {
            let message = MeshMessage::Forget { session, packet_id };
            if self.durable.asks_shards() {
                self.note_asked(*to, &message);
            }
            actions.list.push(Action::Mesh { to: *to, message });
        }
    }
}

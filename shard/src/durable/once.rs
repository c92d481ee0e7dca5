//! QoS 2 once between shards: a message that a shard has taken is not taken again when the publisher's shard sends it anew.
//!
//! The publisher's shard records the identifier only when the others have the message, so after a crash in between the client
//! sends it again and all shards are asked again. Those that have it know its origin, the session and identifier under which it
//! was published, from their own record of it. They forget it when PUBREL has come; only when they have, the identifier is free.
//!
//! Shared groups are not covered: a member on another shard than the group's home may get such a message twice after a crash.

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
    /// That of the message at hand.
    current: Option<Origin>,
    /// This shard's: which others were sent the message.
    sent: BTreeMap<Origin, Vec<ShardId>>,
    /// Other shards': the message is on the disk here.
    taken: BTreeSet<Origin>,
}

impl super::Durable {
    /// The origin of the message at hand, if other shards must not take it twice.
    pub(crate) const fn origin(&self) -> Option<(SessionNo, u16)> {
        self.origins.current
    }

    pub(super) const fn set_origin(&mut self, origin: Option<Origin>) {
        self.origins.current = origin;
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

    /// Notes which shards were sent the message at hand.
    pub(super) fn note_sent_once(&mut self, origin: Origin, shards: Vec<ShardId>) {
        if !shards.is_empty() {
            self.durable.origins.sent.insert(origin, shards);
        }
    }

    /// Another shard's QoS 2 message, perhaps not for the first time.
    pub(crate) fn on_deliver_once(&mut self, from: ShardId, once: &Once, actions: &mut Actions) {
        let mut publication = Publication::of_message(&once.message, self.now.wall);
        let is_known = self.durable.origins.taken.contains(&once.origin);
        let takers = if is_known { Takers::Groups } else { Takers::All };
        if !is_known {
            self.durable.taking.arrived = Some(once.origin);
        }
        self.deliver_here(&mut publication, Publisher::default(), (from, takers), actions);
        // Taken out if it was recorded with the message.
        let is_recorded = !is_known && self.durable.taking.arrived.take().is_none();
        if is_recorded {
            self.durable.origins.taken.insert(once.origin);
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
        if let Some(windows) = entry.traffic.windows.as_deref_mut()
            && windows.incoming.release(packet_id)
        {
            self.durable.origins.sent.remove(&(number, packet_id.get()));
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

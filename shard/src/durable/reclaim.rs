//! Cleaning: the log frees its oldest part and offers each record of it; what still holds is said again at the end.
//!
//! A message is said again for those that still need it. All else that is known of a session is one image of it, written when
//! the first of its older records goes, and not again while an image is in what is left of the log. Records that only take
//! something away need nothing: what they took away stood before them and is gone, or was said again without it.

use dunlin_persist::record::Published;
use dunlin_persist::{Record, SessionNo};

use super::taking::message_record;
use crate::action::Actions;
use crate::core::ShardCore;
use crate::metrics::Counter;
use crate::session::Session;

impl ShardCore {
    /// A record of the oldest part of the log, in order.
    pub(crate) fn on_reclaim(&mut self, record: Record, actions: &mut Actions) {
        // What was noted speaks of records that may go now.
        self.flush_notes(actions);
        match record {
            Record::Published(published) => self.reclaim_published(*published, actions),
            Record::Session(image) if self.durable.is_ghost(image.session) => {
                self.metrics.count(Counter::StoreReclaimed);
                self.record(Record::Session(image), actions);
            }
            Record::Session(image) => {
                let stored = self
                    .session_numbered(image.session)
                    .and_then(|id| self.sessions.get_mut(id))
                    .and_then(Session::stored_mut);
                if let Some(stored) = stored {
                    stored.image_count = stored.image_count.saturating_sub(1);
                }
                self.forget_estate_image(image.session);
                self.reclaim_session(image.session, actions);
            }
            Record::Attached(attached) => self.reclaim_session(attached.session, actions),
            Record::Detached { session, .. }
            | Record::WillGone { session }
            | Record::Subscribed { session, .. }
            | Record::Unsubscribed { session, .. }
            | Record::Received { session, .. } => self.reclaim_session(session, actions),
            Record::Arrived { session, packet_id } => self.reclaim_arrival((session, packet_id), actions),
            Record::Retained(message) => {
                let kept = self.routing.retained.get(&message.topic);
                if kept.is_some_and(|kept| message_record(&kept.view()) == *message) {
                    self.metrics.count(Counter::StoreReclaimed);
                    self.record(Record::Retained(message), actions);
                }
            }
            Record::SessionEnded { .. }
            | Record::Sent { .. }
            | Record::Done { .. }
            | Record::Completed { .. }
            | Record::Released { .. }
            | Record::RetainedCleared { .. } => {}
        }
    }

    /// A message: again under its name, for those that still need it.
    fn reclaim_published(&mut self, mut published: Published, actions: &mut Actions) {
        if let Some(arrived) = published.arrived.take() {
            self.reclaim_arrival(arrived, actions);
        }
        let id = published.id;
        let mut kept = Vec::new();
        for (receiver, index) in published.receivers.iter().zip(0_u32..) {
            let packet_id =
                self.holds(receiver.session, id).or_else(|| self.estate_holds(receiver.session, id));
            if let Some(packet_id) = packet_id {
                let mut receiver = *receiver;
                receiver.packet_id = packet_id;
                kept.push((index, receiver));
            }
        }
        if kept.is_empty() {
            return;
        }
        let new_index =
            |old: u32| kept.iter().zip(0_u32..).find(|((was, _), _)| *was == old).map(|(_, is)| is);
        if kept.len() < published.receivers.len() {
            published.subscription_ids = published
                .subscription_ids
                .iter()
                .filter_map(|(old, id)| Some((new_index(*old)?, *id)))
                .collect();
            published.groups = published
                .groups
                .into_iter()
                .filter_map(|(old, group)| Some((new_index(old)?, group)))
                .collect();
        }
        published.receivers = kept.into_iter().map(|(_, receiver)| receiver).collect();
        self.metrics.count(Counter::StoreReclaimed);
        self.record(Record::Published(Box::new(published)), actions);
    }

    /// A QoS 2 identifier: part of the image of its session, or of another shard's.
    fn reclaim_arrival(&mut self, (session, packet_id): (SessionNo, u16), actions: &mut Actions) {
        if self.durable.has_taken((session, packet_id)) {
            self.record(Record::Arrived { session, packet_id }, actions);
        } else {
            self.reclaim_session(session, actions);
        }
    }

    /// Something of a session: an image of it, unless one is in what is left of the log.
    fn reclaim_session(&mut self, session: SessionNo, actions: &mut Actions) {
        let Some(id) = self.session_numbered(session) else { return self.reclaim_estate(session, actions) };
        let Some(stored) = self.sessions.get_mut(id).and_then(Session::stored_mut) else { return };
        if stored.image_count > 0 {
            return;
        }
        stored.image_count += 1;
        if let Some(image) = self.image_of(id) {
            self.metrics.count(Counter::StoreReclaimed);
            self.record(Record::Session(Box::new(image)), actions);
        }
    }
}

//! A durable session whose client is away: names of messages, and no bodies.

use std::collections::VecDeque;

use dunlin_persist::record::Outgoing;
use dunlin_persist::{MessageId, SessionNo};

use super::line::Line;
use crate::action::Actions;
use crate::core::ShardCore;
use crate::ids::SessionId;
use crate::metrics::Counter;
use crate::publish::Queued;
use crate::session::{Queue, QueueLimits, Resend, Session};

/// What a durable session has on the disk: 32 B, and a box while messages wait there.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Its name in the log.
    number: SessionNo,
    /// Messages that wait on the disk; none of a connected session whose messages are all in memory.
    pub(super) away: Option<Box<Away>>,
    /// Images of the session that are in the log and were not reclaimed yet, at least.
    pub(super) image_count: u32,
    /// Whether messages were asked for and have not come.
    pub(super) is_fetching: bool,
}

/// Messages that wait on the disk: some 12 B each.
#[derive(Debug, Default)]
pub(crate) struct Away {
    /// QoS 1 and 2 to the client that were sent, in order; without a message once PUBREC has come.
    pub(super) outgoing: VecDeque<Outgoing>,
    /// What waits, in order.
    pub(super) queue: Line,
    /// Subscriptions that were taken away from the client when it came back: what waits only because of them is dropped.
    pub(super) refused: Vec<Box<str>>,
}

impl Stored {
    /// A session that begins.
    pub(crate) const fn new(number: SessionNo) -> Self {
        Self { number, away: None, image_count: 0, is_fetching: false }
    }

    /// Its name in the log.
    pub(crate) const fn number(&self) -> SessionNo {
        self.number
    }
}

impl Away {
    /// Puts what came earlier before what waits.
    fn put_before(&mut self, outgoing: Vec<Outgoing>, queue: &[(MessageId, u32)]) {
        let later = std::mem::replace(&mut self.outgoing, outgoing.into());
        self.outgoing.extend(later);
        self.queue.put_before(queue);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outgoing.is_empty() && self.queue.is_empty()
    }
}

impl Session {
    /// What it has on the disk, if it is durable.
    pub(crate) fn stored(&self) -> Option<&Stored> {
        self.rare.as_ref()?.stored.as_ref()
    }

    /// What it has on the disk, for changing.
    pub(crate) fn stored_mut(&mut self) -> Option<&mut Stored> {
        self.rare.as_mut()?.stored.as_mut()
    }

    /// Its name in the log, if it is durable.
    pub(crate) fn number(&self) -> Option<SessionNo> {
        Some(self.stored()?.number)
    }

    /// Whether messages wait for it on the disk.
    pub(crate) fn has_away(&self) -> bool {
        self.stored().is_some_and(|stored| stored.away.is_some())
    }

    /// Whether messages that were sent on an earlier connection are still to be read from the disk.
    pub(crate) fn has_away_outgoing(&self) -> bool {
        let away = self.stored().and_then(|stored| stored.away.as_ref());
        away.is_some_and(|away| !away.outgoing.is_empty())
    }

    /// Gives the box back when nothing waits in it.
    pub(super) fn shed_away(&mut self) {
        if let Some(stored) = self.stored_mut()
            && stored.away.as_ref().is_some_and(|away| away.is_empty())
        {
            stored.away = None;
        }
    }
}

impl ShardCore {
    /// The connection of a durable session is gone: what it had in memory is given back, all but QoS 0 messages, which are on no
    /// disk.
    pub(crate) fn put_away(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.get_mut(id) else { return };
        let Some(windows) = entry.traffic.windows.as_deref_mut() else { return };
        if entry.rare.as_ref().is_none_or(|rare| rare.stored.is_none()) {
            return;
        }
        let before = Queued::of(&windows.queue);
        let window = std::mem::take(&mut windows.outgoing);
        let mut waiting = Vec::new();
        let mut rest = Queue::new();
        for (priority, delivery) in windows.queue.drain() {
            match delivery.message.id() {
                Some(message) => waiting.push((message, delivery.bytes)),
                // It fits, for it comes from a queue with the same bounds.
                None => rest.push(delivery, priority, &QueueLimits::NONE, |_, _| {}),
            }
        }
        windows.queue = rest;
        self.routing.queued.change(before, Queued::of(&windows.queue));
        let sent = window.iter().filter_map(|resend| match resend {
            Resend::Publish { id, message, .. } => {
                message.id().map(|message| Outgoing { packet_id: id.get(), message: Some(message) })
            }
            Resend::PubRel { id } => Some(Outgoing { packet_id: id.get(), message: None }),
        });
        let sent: Vec<Outgoing> = sent.collect();
        // Lines of several priorities come out one after the other.
        waiting.sort_unstable();
        self.durable.away_count += waiting.len() as u64;
        if let Some(stored) = entry.stored_mut()
            && !(sent.is_empty() && waiting.is_empty())
        {
            stored.away.get_or_insert_default().put_before(sent, &waiting);
        }
        entry.traffic.shed();
    }

    /// A message of so many bytes waits on the disk for a session that is away; the oldest go when there are too many, or too many
    /// bytes. Whether it waits.
    pub(super) fn wait_away(
        &mut self,
        session: u32,
        (message, bytes): (MessageId, u32),
        actions: &mut Actions,
    ) -> bool {
        let mqtt = self.configs.current();
        let count_max = mqtt.max_mqueue_len.map_or(usize::MAX, |max| max as usize);
        let bytes_max = mqtt.max_mqueue_bytes.unwrap_or(u64::MAX);
        let Some(stored) = self.sessions.at_mut(session).and_then(Session::stored_mut) else { return false };
        if count_max == 0 || u64::from(bytes) > bytes_max {
            self.metrics.count(Counter::DeliveryDroppedQueueFull);
            return false;
        }
        let away = stored.away.get_or_insert_default();
        away.queue.push(message, bytes);
        self.durable.away_count += 1;
        while let Some(oldest) = self.pop_excess(session, count_max, bytes_max) {
            self.durable.away_count -= 1;
            self.metrics.count(Counter::DeliveryDroppedQueueFull);
            self.note_done(session, Some(oldest), actions);
        }
        true
    }

    /// The oldest message that waits on the disk for a session, if that is over its bounds.
    fn pop_excess(&mut self, session: u32, count_max: usize, bytes_max: u64) -> Option<MessageId> {
        let away = self.sessions.at_mut(session)?.stored_mut()?.away.as_mut()?;
        (away.queue.len() > count_max || away.queue.bytes() > bytes_max).then(|| away.queue.pop())?
    }

    /// What waits on the disk for a session that ends.
    pub(crate) fn take_away(&mut self, id: SessionId) -> Option<Box<Away>> {
        let away = self.sessions.get_mut(id)?.stored_mut()?.away.take()?;
        self.durable.away_count -= away.queue.len() as u64;
        Some(away)
    }
}

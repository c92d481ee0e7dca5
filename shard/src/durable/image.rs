//! The image of a session: all that is recorded of it, in one record.

use dunlin_persist::record::{self, Outgoing, Subscription};
use dunlin_persist::{MessageId, SessionNo};
use dunlin_wire::types::PacketId;

use super::taking::message_record;
use crate::core::ShardCore;
use crate::ids::SessionId;
use crate::publish::Special;
use crate::session::will::Will;
use crate::session::{Resend, Session};
use crate::topics::Target;

impl ShardCore {
    /// All that holds of a durable session now.
    pub(super) fn image_of(&self, id: SessionId) -> Option<record::Session> {
        let entry = self.sessions.get(id)?;
        let number = entry.number()?;
        let (outgoing, queue) = messages_of(entry);
        let is_away = entry.link.conn().is_none();
        let will = entry.will().or_else(|| self.durable.owed_will(number));
        // What waits for its other takers is not recorded yet: after a crash its client sends it again.
        let is_recorded = |packet_id: &u16| !self.durable.has_postponed((number, *packet_id));
        let incoming = entry.traffic.windows.iter().flat_map(|windows| windows.incoming.iter());
        let incoming = incoming.map(PacketId::get).filter(is_recorded).collect();
        Some(record::Session {
            session: number,
            client_id: entry.client_id.clone(),
            user_name: entry.user_name().map(Into::into),
            expiry_seconds: entry.expiry_seconds,
            detached_at_ms: is_away.then(|| entry.detached_at.to_wall(self.now).0),
            will: will.map(will_record),
            subscriptions: self.subscriptions_of(id),
            incoming,
            outgoing,
            queue,
        })
    }

    /// Its subscriptions, in order of their filters.
    fn subscriptions_of(&self, id: SessionId) -> Vec<Subscription> {
        let Some(entry) = self.sessions.get(id) else { return Vec::new() };
        let index = &self.routing.index;
        let held = |filter| index.subscription(filter, Target::Session(id.index));
        let mut all: Vec<Subscription> = entry
            .traffic
            .subscriptions
            .sorted()
            .into_iter()
            .filter_map(|filter| {
                let held = held(filter)?;
                let options = held.options().as_u8();
                Some(Subscription {
                    filter: index.filter_text(filter).into(),
                    options,
                    identifier: held.subscription_id(),
                })
            })
            .collect();
        for (written, special) in self.routing.specials.of(id.index) {
            let (options, identifier) = match special {
                Special::Shared { options, subscription_id, .. } => (options.as_u8(), *subscription_id),
                Special::Exclusive { .. } => {
                    let topic = written.strip_prefix("$exclusive/").unwrap_or(written);
                    let held = index.lookup(topic).and_then(held);
                    held.map_or((0, 0), |held| (held.options().as_u8(), held.subscription_id()))
                }
            };
            all.push(Subscription { filter: written.into(), options, identifier });
        }
        all.sort_by(|one, other| one.filter.cmp(&other.filter));
        all
    }

    /// Whether a session still needs a message, and under which identifier it was sent; 0 if it waits.
    pub(super) fn holds(&self, number: SessionNo, message: MessageId) -> Option<u16> {
        let id = self.session_numbered(number)?;
        let entry = self.sessions.get(id)?;
        if let Some(windows) = entry.traffic.windows.as_deref() {
            let sent = windows.outgoing.iter().find_map(|resend| match resend {
                Resend::Publish { id, message: held, .. } if held.id() == Some(message) => Some(id.get()),
                Resend::Publish { .. } | Resend::PubRel { .. } => None,
            });
            if sent.is_some() {
                return sent;
            }
            if windows.queue.has_sorted_by(|held| held.id().map(|held| held.cmp(&message))) {
                return Some(0);
            }
        }
        let away = entry.stored()?.away.as_ref()?;
        let sent = away.outgoing.iter().find(|sent| sent.message == Some(message));
        if let Some(sent) = sent {
            return Some(sent.packet_id);
        }
        away.queue.holds(message).then_some(0)
    }
}

/// What is on its way to a client and what waits, stored messages only.
fn messages_of(entry: &Session) -> (Vec<Outgoing>, Vec<MessageId>) {
    let (mut outgoing, mut queue) = (Vec::new(), Vec::new());
    if let Some(windows) = entry.traffic.windows.as_deref() {
        outgoing.extend(windows.outgoing.iter().filter_map(|resend| match resend {
            Resend::Publish { id, message, .. } => {
                message.id().map(|message| Outgoing { packet_id: id.get(), message: Some(message) })
            }
            Resend::PubRel { id } => Some(Outgoing { packet_id: id.get(), message: None }),
        }));
        queue.extend(windows.queue.iter().filter_map(|(_, _, delivery)| delivery.id()));
        queue.sort_unstable();
    }
    if let Some(away) = entry.stored().and_then(|stored| stored.away.as_deref()) {
        outgoing.extend(&away.outgoing);
        queue.extend(away.queue.names());
    }
    (outgoing, queue)
}

/// A Will as it is recorded.
pub(crate) fn will_record(will: &Will) -> record::Will {
    record::Will {
        message: message_record(&will.message.view()),
        delay_seconds: will.delay_seconds,
        peer: will.peer().to_string().into(),
    }
}

//! Where a message goes: the retained store, subscribers of this shard, other shards.

use std::sync::Arc;

use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::QoS;

use super::delivery::Terms;
use super::ingress::SYS_PREFIX;
use super::matches::{Matches, Next, Publisher};
use super::publication::Publication;
use crate::action::{Action, Actions};
use crate::connection::Hold;
use crate::core::ShardCore;
use crate::home;
use crate::ids::{ConnId, ShardId};
use crate::mesh::{InterestChange, MeshMessage, Once, RetainUpdate, Wanted};
use crate::message::{Message, MessageView};
use crate::metrics::Counter;
use crate::session::Session;
use crate::topics::{Page, ShardSet, Subscriber, Target};

/// Who of a shard's subscribers is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takers {
    /// All.
    All,
    /// Only sessions with subscriptions of their own.
    Sessions,
    /// Only shared groups.
    Groups,
}

/// Whether anybody wanted a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// At least one subscriber here, or another shard that may have one.
    ToSome,
    /// Nobody.
    ToNobody,
}

impl Routed {
    /// What the publisher hears.
    pub(crate) const fn reason(self) -> ReasonCode {
        match self {
            Self::ToNobody => ReasonCode::NoMatchingSubscribers,
            Self::ToSome => ReasonCode::Success,
        }
    }
}

impl ShardCore {
    /// Hands a message to all that want it, and keeps it if it is to be retained. [MQTT5-4.5.0-1] [MQTT311-4.5.0-1]
    pub(super) fn route(
        &mut self,
        publication: &mut Publication<'_>,
        publisher: Publisher,
        actions: &mut Actions,
    ) -> Routed {
        let elsewhere =
            if self.shard_count > 1 { self.route_elsewhere(publication, actions) } else { Routed::ToNobody };
        self.route_here(publication, publisher, (elsewhere, Takers::All), actions)
    }

    /// Hands a message to the other shards that want it, and to the home of its topic if it is to be retained.
    pub(crate) fn route_elsewhere(
        &mut self,
        publication: &mut Publication<'_>,
        actions: &mut Actions,
    ) -> Routed {
        let elsewhere = self.forward(publication, actions);
        if self.is_retained(publication) {
            self.retain_elsewhere(publication, actions);
        }
        elsewhere
    }

    /// Hands a message to this shard's subscribers, and keeps it if it is to be retained and its topic's home is here. Whether
    /// anybody wanted it, here or `elsewhere`.
    pub(crate) fn route_here(
        &mut self,
        publication: &mut Publication<'_>,
        publisher: Publisher,
        (elsewhere, takers): (Routed, Takers),
        actions: &mut Actions,
    ) -> Routed {
        let here = self.deliver_here(publication, publisher, (self.shard, takers), actions);
        if self.is_retained(publication)
            && home::shard_of_topic(publication.view().topic, self.shard_count) == self.shard
        {
            self.keep_retained(publication.keep(), actions);
        }
        if here == Routed::ToSome || elsewhere == Routed::ToSome {
            return Routed::ToSome;
        }
        // A report of the broker's own that nobody watches is no loss; as EMQX counts.
        if !publication.view().topic.starts_with(SYS_PREFIX) {
            self.metrics.count(Counter::MessagesDroppedNoSubscribers);
        }
        Routed::ToNobody
    }

    /// Hands a message to this shard's subscribers. `from` is where it was published.
    pub(crate) fn deliver_here(
        &mut self,
        publication: &mut Publication<'_>,
        publisher: Publisher,
        (from, takers): (ShardId, Takers),
        actions: &mut Actions,
    ) -> Routed {
        let mut matches = std::mem::take(&mut self.routing.matches);
        matches.find(&self.routing.index, publication.view().topic, publisher);
        let routed = if matches.is_empty() { Routed::ToNobody } else { Routed::ToSome };
        self.hand_out(&mut matches, publication, (from, takers), actions);
        let not_local = matches.take_not_local();
        if not_local > 0 && takers != Takers::Groups {
            self.metrics.add(Counter::DeliveryDroppedNoLocal, not_local);
        }
        self.routing.matches = matches;
        if self.durable.is_on() {
            self.finish_taking(publication.view(), actions);
        }
        routed
    }

    /// Whether a message of another shard is refused because there is no room for it here: before anybody has it, for its publisher
    /// may send it again. Where publishers do not hear of other shards it is handed out as far as possible.
    pub(crate) fn refuses_from_elsewhere(&mut self, view: &MessageView<'_>) -> bool {
        if self.durable.takes_new() || !self.durable.asks_shards() || view.qos == QoS::AtMostOnce {
            return false;
        }
        let mut lacking = 0;
        self.routing.index.for_each_match(view.topic, |_, subscribers| {
            let needs_room = |subscriber: &&Subscriber| match subscriber.target() {
                Target::Session(session) => {
                    let is_durable = self.sessions.at(session).is_some_and(Session::is_durable);
                    is_durable && subscriber.options().qos > QoS::AtMostOnce
                }
                // Whom the group will choose is not known.
                Target::Group(_) => true,
            };
            lacking += subscribers.iter().filter(needs_room).count() as u64;
        });
        if lacking > 0 {
            self.metrics.add(Counter::DeliveryDroppedStoreFull, lacking);
            self.refuse_promise();
        }
        lacking > 0
    }

    /// Whether a message is kept for later subscribers.
    ///
    /// [MQTT5-3.3.1-5] [MQTT5-3.3.1-8] [MQTT311-3.3.1-5] [MQTT311-3.3.1-7] [MQTT311-3.3.1-12]
    fn is_retained(&self, publication: &Publication<'_>) -> bool {
        publication.view().retain && self.configs.current().retain_available
    }

    fn hand_out(
        &mut self,
        matches: &mut Matches,
        publication: &mut Publication<'_>,
        (from, takers): (ShardId, Takers),
        actions: &mut Actions,
    ) {
        let mut rules = self.delivery_rules();
        let (published, retain) = (publication.view().qos, publication.view().retain);
        let mut at = 0;
        while let Some(next) = matches.next(&mut at) {
            match next {
                Next::Session(_) if takers == Takers::Groups => {}
                Next::Group(_) if takers == Takers::Sessions => {}
                Next::Session(to) => {
                    if retain {
                        self.note_live_retained(to.session, publication.view());
                    }
                    let terms = Terms {
                        // [MQTT5-3.8.4-8] [MQTT311-3.8.4-6]
                        qos: rules.qos(published, to.qos),
                        // [MQTT5-3.3.1-12] [MQTT5-3.3.1-13] [MQTT311-3.3.1-9]
                        retain: retain && to.retain_as_published,
                        ids: to.ids,
                        group: None,
                    };
                    self.deliver(to.session, &terms, publication, &mut rules, actions);
                }
                Next::Group(group) => self.deliver_to_group(group, publication, from, &[], actions),
            }
        }
        self.count_tally(rules.tally);
    }

    /// Sends a message to the other shards that want it.
    fn forward(&mut self, publication: &mut Publication<'_>, actions: &mut Actions) -> Routed {
        let mut wanted = std::mem::take(&mut self.routing.wanted);
        wanted.clear();
        self.routing.interest.wants(publication.view().topic, &mut wanted);
        wanted.remove(self.shard);
        let mut routed = Routed::ToNobody;
        for shard in wanted.iter() {
            routed = Routed::ToSome;
            self.metrics.count(Counter::MessagesForward);
            let (qos, origin) = (publication.view().qos, self.durable.origin());
            let message = || match origin {
                None => MeshMessage::Deliver(publication.keep()),
                Some((origin, is_repeat)) => {
                    let message = publication.keep();
                    MeshMessage::DeliverOnce(Box::new(Once { origin, is_repeat, message }))
                }
            };
            self.send_weighed(shard, qos, message, actions);
        }
        self.routing.wanted = wanted;
        routed
    }

    /// Sends what counts against the lane's credits. Above the hard mark QoS 0 is dropped and counted.
    pub(super) fn send_weighed(
        &mut self,
        to: ShardId,
        qos: QoS,
        message: impl FnOnce() -> MeshMessage,
        actions: &mut Actions,
    ) {
        let Some(lane) = self.routing.lanes.get_mut(usize::from(to.0)) else { return };
        if qos == QoS::AtMostOnce && lane.is_hard() {
            self.metrics.count(Counter::MessagesDroppedLaneFull);
            return;
        }
        lane.sent();
        let mut message = message();
        if self.durable.asks_shards()
            && let Some(ask) = self.note_asked(to, &message)
            && let MeshMessage::DeliverTo(delivery) = &mut message
        {
            delivery.asked = Some(ask);
        }
        actions.list.push(Action::Mesh { to, message });
    }

    /// Stops reading from a publisher that feeds a full lane; it goes on when the lane has drained.
    ///
    /// Looks at the lanes of the last message that was forwarded.
    pub(crate) fn pause_if_lanes_are_high(&mut self, conn: ConnId, actions: &mut Actions) {
        if self.shard_count <= 1 {
            return;
        }
        let full =
            self.routing.wanted.iter().find(|shard| self.routing.lanes[usize::from(shard.0)].is_high());
        self.routing.wanted.clear();
        if let Some(shard) = full {
            self.routing.lanes[usize::from(shard.0)].pause(conn);
            self.hold(conn, Hold::Lane, actions);
        }
    }

    /// Brings a retained message to the home of its topic, if that is another shard.
    fn retain_elsewhere(&mut self, publication: &mut Publication<'_>, actions: &mut Actions) {
        let view = *publication.view();
        let home = home::shard_of_topic(view.topic, self.shard_count);
        if home == self.shard {
            return;
        }
        let covered = self.routing.wanted.iter().collect();
        let message = publication.keep();
        let update = || MeshMessage::Retain(Box::new(RetainUpdate { message, covered }));
        // Never dropped: a lost update would leave an old message for ever.
        self.send_weighed(home, QoS::AtLeastOnce, update, actions);
    }

    /// Keeps a retained message whose topic has its home here, or forgets the one that is kept.
    pub(super) fn keep_retained(&mut self, message: Message, actions: &mut Actions) {
        let view = message.view();
        if view.payload.len() as u64 > u64::from(self.configs.current().max_retained_payload_size) {
            self.metrics.count(Counter::MessagesDroppedRetainedFull);
            return;
        }
        // The broker's own reports are made anew after a restart.
        let is_recorded = self.durable.is_on() && !view.topic.starts_with(SYS_PREFIX);
        let routing = &mut self.routing;
        // [MQTT5-3.3.1-6] [MQTT5-3.3.1-7] [MQTT311-3.3.1-10] [MQTT311-3.3.1-11]
        if view.payload.is_empty() {
            if routing.retained.clear(view.topic).is_some() && is_recorded {
                self.record_retained_cleared(view.topic, actions);
            }
            return;
        }
        if is_recorded && !self.durable.takes_new() {
            self.metrics.count(Counter::MessagesDroppedStoreFull);
            self.refuse_promise();
            return;
        }
        let now = self.now.wall;
        let swept: Page =
            routing.retained.sweep(RETAINED_SWEEP_STEPS, |kept| kept.view().is_expired(now), drop);
        debug_assert!(matches!(swept, Page::More | Page::Done));
        let count_max = self
            .configs
            .current()
            .max_retained_messages
            .map_or(u64::MAX, |max| max.div_ceil(u64::from(self.shard_count)));
        if routing.retained.len() as u64 >= count_max && routing.retained.get(view.topic).is_none() {
            self.metrics.count(Counter::MessagesDroppedRetainedFull);
            return;
        }
        let bytes = u32::try_from(message.bytes()).unwrap_or(u32::MAX);
        let topic: Box<str> = view.topic.into();
        routing.retained.set(&topic, message.clone(), bytes);
        self.metrics.count(Counter::MessagesRetained);
        if is_recorded {
            self.record_retained(&message, actions);
        }
    }

    /// A retained publication arrives at the home of its topic.
    pub(super) fn on_retain(&mut self, from: ShardId, update: RetainUpdate, actions: &mut Actions) {
        let RetainUpdate { message, covered } = update;
        self.keep_retained(message.clone(), actions);
        // Who asked for the topic after the publisher's shard looked hears of it from here.
        let mut publication = Publication::of_message(&message, self.now.wall);
        if !covered.contains(&self.shard) {
            self.deliver_here(&mut publication, Publisher::default(), (from, Takers::All), actions);
        }
        let mut wanted = std::mem::take(&mut self.routing.wanted);
        wanted.clear();
        self.routing.interest.wants(publication.view().topic, &mut wanted);
        for shard in wanted.iter().filter(|shard| *shard != from && !covered.contains(shard)) {
            self.send_weighed(shard, QoS::AtLeastOnce, || MeshMessage::Deliver(message.clone()), actions);
        }
        wanted.clear();
        self.routing.wanted = wanted;
    }

    /// Notes that this shard wants a filter now, or does not any more; announced before the event is over.
    pub(crate) fn note_interest(&mut self, filter: &str, wanted: Wanted) {
        if self.shard_count > 1 {
            self.routing.unannounced.changes.push((filter.into(), wanted));
        }
    }

    /// Tells the other shards what was noted.
    pub(crate) fn announce(&mut self, actions: &mut Actions) {
        let routing = &mut self.routing;
        if routing.unannounced.changes.is_empty() {
            return;
        }
        let version = routing.announcements.next_version();
        let changes = std::mem::take(&mut routing.unannounced.changes);
        let change = Arc::new(InterestChange { version, changes });
        for to in routing.announcements.others() {
            actions.list.push(Action::Mesh { to, message: MeshMessage::Interest(Arc::clone(&change)) });
        }
    }
}

/// Retained messages looked at for expiry each time one is kept: the store is swept as fast as it grows.
const RETAINED_SWEEP_STEPS: usize = 2;

impl ShardCore {
    /// The shards to which the last message was forwarded.
    pub(crate) fn forwarded_to(&self) -> Vec<ShardId> {
        self.routing.wanted.iter().collect()
    }

    /// The shards that want a topic.
    pub(crate) fn wanted_by(&self, topic: &str) -> ShardSet {
        let mut shards = ShardSet::new();
        self.routing.interest.wants(topic, &mut shards);
        shards
    }

    /// All shards but this one.
    pub(crate) fn other_shards(&self) -> Vec<ShardId> {
        self.routing.announcements.others().collect()
    }
}

//! Publishing, subscribing and delivering: what connected clients do.
//!
//! A PUBLISH goes through `ingress.rs` (may it?), `route.rs` (who wants it, here and on other shards), `deliver.rs` (how each
//! session gets it), `acknowledge.rs` (both roles of QoS 1 and 2). `subscribe.rs` and `unsubscribe.rs` change who wants what,
//! `shared.rs` keeps the groups, `replay.rs` hands retained messages out page by page, `resume.rs` carries a session over
//! connections, `remote.rs` takes what other shards say.

use crate::config::Mqtt;
use crate::connection::{AliasesIn, AliasesOut};
use crate::core::Setup;
use crate::deadlines::DeadlineKey;
use crate::mesh::InterestChange;
use crate::mesh::announce::Announcements;
use crate::mesh::gather::Questions;
use crate::mesh::lane::Lane;
use crate::message::Message;
use crate::metrics::Gauges;
use crate::session::{InflightIn, InflightOut, Priorities, Queue, QueueLimits};
use crate::time::Mono;
use crate::topics::{FilterIndex, HashKey, InterestTable, RetainedStore, ShardSet, SharedGroups};

mod acknowledge;
mod deliver;
mod delivery;
mod ingress;
mod matches;
mod publication;
mod remote;
mod replay;
mod resume;
mod review;
mod route;
mod shared;
mod special;
mod subscribe;
mod unsubscribe;

pub(crate) use self::deliver::{DeliveryRules, Receiver};
pub(crate) use self::delivery::{Delivery, Terms};
pub(crate) use self::ingress::Came;
use self::ingress::PendingPublish;
use self::matches::Matches;
pub(crate) use self::matches::Publisher;
pub(crate) use self::publication::Publication;
use self::remote::{Question, Waiter};
use self::replay::Replay;
use self::review::Review;
pub(crate) use self::review::{Fate, Reviews};
pub(crate) use self::route::{Routed, Takers};
pub(crate) use self::special::Special;
use self::special::{Claims, Specials};
pub(crate) use self::subscribe::Subscribing;
use crate::session::subscriptions::Subscriptions;

/// What a shard keeps for routing. One per shard, on its core.
#[derive(Debug)]
pub(crate) struct Routing {
    /// Filters of this shard's sessions, and of the groups that have their home here.
    pub(crate) index: FilterIndex,
    /// What other shards want.
    interest: InterestTable,
    /// Shared groups whose home is this shard.
    pub(crate) groups: SharedGroups,
    /// Retained messages whose topic has its home here.
    pub(crate) retained: RetainedStore<Message>,
    /// Exclusive topics whose home is this shard.
    pub(crate) claims: Claims,
    /// Shared and exclusive subscriptions of this shard's sessions.
    pub(crate) specials: Specials,
    /// Paths to other shards, by shard; the own entry is not used.
    lanes: Vec<Lane>,
    announcements: Announcements<Waiter>,
    /// Changes of interest that are announced before the event is over.
    unannounced: InterestChange,
    /// Asked of other shards.
    questions: Questions<Question>,
    /// SUBSCRIBE packets whose SUBACK waits.
    subscribing: Questions<Subscribing>,
    /// Names groups; the same for all shards of a process.
    key: HashKey,
    /// Which topics go before others in queues.
    priorities: Priorities,
    /// What waits in all queues.
    pub(crate) queued: Queued,
    packet_scratch: PacketScratch,
    matches: Matches,
    wanted: ShardSet,
}

/// Sizes of all queues together, kept up with each change of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queued {
    count: u64,
    bytes: u64,
}

impl Queued {
    /// The size of one queue.
    pub(crate) fn of(queue: &Queue<Delivery>) -> Self {
        Self { count: u64::from(queue.len()), bytes: queue.bytes() }
    }

    /// A queue that had this size `before` has this size `now`.
    pub(crate) const fn change(&mut self, before: Self, now: Self) {
        self.count = self.count + now.count - before.count;
        self.bytes = self.bytes + now.bytes - before.bytes;
    }
}

/// Memory that is used again for each PUBLISH, so that passing one on allocates nothing.
#[derive(Debug, Default)]
struct PacketScratch {
    topic: String,
    publisher: String,
    properties: Vec<u8>,
}

impl Routing {
    /// Nothing subscribed, nothing retained.
    pub(crate) fn new(setup: &Setup) -> Self {
        let Setup { shard, shard_count, seed, .. } = *setup;
        Self {
            index: FilterIndex::new(seed),
            interest: InterestTable::new(shard_count, seed),
            groups: SharedGroups::new(seed),
            retained: RetainedStore::new(),
            claims: Claims::default(),
            specials: Specials::default(),
            lanes: (0..shard_count).map(|_| Lane::default()).collect(),
            announcements: Announcements::new(shard, shard_count),
            unannounced: InterestChange { version: 0, changes: Vec::new() },
            questions: Questions::new(),
            subscribing: Questions::new(),
            key: HashKey::new(seed),
            priorities: priorities(&setup.config.mqtt),
            queued: Queued::default(),
            packet_scratch: PacketScratch::default(),
            matches: Matches::default(),
            wanted: ShardSet::new(),
        }
    }

    /// Sizes of what is kept for routing. Counts that are at hand; the index is not walked.
    pub(crate) fn gauges(&self) -> Gauges {
        let count = |count: usize| count as u64;
        Gauges {
            // A group stands in the index once, at its home; its members are counted where their sessions are.
            subscriptions: count(
                self.index.subscription_count() - self.groups.len() + self.specials.shared_count(),
            ),
            subscriptions_shared: count(self.specials.shared_count()),
            topics: count(self.index.filter_count()),
            retained: count(self.retained.len()),
            retained_bytes: self.retained.bytes(),
            queued: self.queued.count,
            queued_bytes: self.queued.bytes,
            ..Gauges::default()
        }
    }

    /// Takes other settings.
    pub(crate) fn reconfigure(&mut self, mqtt: &Mqtt) {
        self.priorities = priorities(mqtt);
    }
}

/// What a session keeps for its messages: 24 B, and a box while messages are under way.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Its plain subscriptions; shared ones are in [`Specials`].
    pub(crate) subscriptions: Subscriptions,
    pub(crate) windows: Option<Box<Windows>>,
}

/// Messages of one session that are under way or wait: 128 B and what they hold.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    /// QoS 1 and 2 to the client.
    pub(crate) outgoing: InflightOut<Delivery>,
    /// QoS 2 from the client.
    pub(crate) incoming: InflightIn,
    /// Waiting for the client.
    pub(crate) queue: Queue<Delivery>,
    /// When the first of the releases is given up; armed.
    release_deadline: Option<(Mono, DeadlineKey)>,
    /// When what is unacknowledged is sent again; armed.
    retry_deadline: Option<(Mono, DeadlineKey)>,
    /// Acknowledgements since the deadline was armed: a client that makes progress gets no repeats.
    acknowledged: bool,
}

impl Traffic {
    /// Whether something waits to be sent, or to be sent again.
    fn waits(&self) -> bool {
        self.windows
            .as_deref()
            .is_some_and(|windows| windows.outgoing.has_resend() || !windows.queue.is_empty())
    }

    /// The windows, made if there are none.
    pub(crate) fn windows_mut(&mut self) -> &mut Windows {
        self.windows.get_or_insert_default()
    }

    /// Gives the box back if nothing is in it. Only of a session without connection: identifiers go round in a circle
    /// while a connection lives, so that a late acknowledgement does not hit a new message.
    pub(crate) fn shed(&mut self) {
        if self.windows.as_ref().is_some_and(|windows| windows.is_idle()) {
            self.windows = None;
        }
    }
}

impl Windows {
    fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
            && self.incoming.is_empty()
            && self.queue.is_empty()
            && self.release_deadline.is_none()
            && self.retry_deadline.is_none()
    }
}

/// What a connection keeps for its messages: 40 B. Only while there is any.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Topic aliases, both ways.
    aliases: Option<Box<Aliases>>,
    /// Retained messages that are being handed out.
    replay: Option<Box<Replay>>,
    /// A PUBLISH that waits for a hook.
    publish: Option<Box<PendingPublish>>,
    /// A SUBSCRIBE that waits for a hook or a claim.
    subscribe: Option<Box<Subscribing>>,
    /// Subscriptions that the authorizer is asked for again.
    review: Option<Box<Review>>,
}

impl Flow {
    /// Whether nothing is kept.
    pub(crate) const fn is_empty(&self) -> bool {
        self.aliases.is_none()
            && self.replay.is_none()
            && self.publish.is_none()
            && self.subscribe.is_none()
            && self.review.is_none()
    }
}

/// Topic aliases of one connection.
#[derive(Debug, Default)]
struct Aliases {
    /// Set by the client.
    incoming: AliasesIn,
    /// Set by the broker; made when the client takes any.
    outgoing: Option<Box<AliasesOut>>,
}

fn priorities(mqtt: &Mqtt) -> Priorities {
    Priorities::new(&mqtt.mqueue_priorities, mqtt.mqueue_default_priority_highest)
}

/// Bounds of the queues under these settings.
fn queue_limits(mqtt: &Mqtt) -> QueueLimits {
    QueueLimits {
        count_max: mqtt.max_mqueue_len,
        bytes_max: mqtt.max_mqueue_bytes,
        stores_qos0: mqtt.mqueue_store_qos0,
    }
}

const _: () = assert!(size_of::<Traffic>() == 24, "part of what an idle session costs");

#[cfg(test)]
pub(crate) mod tests;

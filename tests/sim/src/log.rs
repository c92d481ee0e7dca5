//! What happened in a run, as the clients saw it: the ground on which the invariants are judged.

use std::collections::BTreeMap;

use dunlin_wire::types::{QoS, SubscriptionOptions};

/// A moment: grows by one with each record, so that two moments are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// A message that a client published or left as its Will.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Index of the client.
    pub publisher: usize,
    /// Topic name.
    pub topic: String,
    /// QoS of the publish.
    pub qos: QoS,
    /// Its RETAIN flag.
    pub retain: bool,
    /// When it was first sent (a Will: when its CONNECT was sent).
    pub sent_at: Moment,
    /// Whether it was sent again on a later connection.
    pub is_repeated: bool,
    /// Whether it was sent again in a session that the operator had discarded, which its client had not heard: the broker cannot know
    /// it again.
    pub is_repeated_anew: bool,
    /// When PUBACK or PUBCOMP with success came.
    pub acked_at: Option<Moment>,
    /// Bytes of its payload.
    pub payload_bytes: usize,
    /// A Will: what the connection's end demands.
    pub will: Option<WillFate>,
}

/// How often a Will must have been published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WillFate {
    /// The connection still stands, or its CONNACK was never seen.
    Unknown,
    /// The connection broke: once.
    Due,
    /// DISCONNECT with normal disconnection: never.
    Removed,
}

/// A session from the client's side: from its first CONNECT without state to its end.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Index of the client.
    pub client: usize,
    /// Whether it outlives connections.
    pub persistent: bool,
    /// Whether its subscriptions have identifiers.
    pub is_v5: bool,
    /// When it was first asked for.
    pub asked_at: Moment,
    /// When CONNACK first promised it.
    pub begun_at: Option<Moment>,
    /// Whether it ended (clean start, or the connection of a session without expiry broke).
    pub ended: bool,
    /// Largest packet that the client takes.
    pub packet_bytes_max: usize,
}

/// A subscription of one epoch.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// Index into [`Log::epochs`].
    pub epoch: usize,
    /// The whole filter as sent, `$share/…` included.
    pub filter: String,
    /// Maximum QoS granted.
    pub qos: QoS,
    /// Options asked for.
    pub options: SubscriptionOptions,
    /// When SUBSCRIBE was sent.
    pub sent_at: Moment,
    /// When SUBACK granted it.
    pub acked_at: Option<Moment>,
    /// When UNSUBSCRIBE (or a replacing SUBSCRIBE) was sent.
    pub given_up_at: Option<Moment>,
    /// When UNSUBACK came.
    pub gone_at: Option<Moment>,
}

/// A message that a client received and took (a QoS 2 resend of a message that it already has does not count).
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Index into [`Log::epochs`].
    pub epoch: usize,
    /// Index into [`Log::publications`].
    pub publication: usize,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN flag of the delivery.
    pub retain: bool,
    /// DUP flag of the delivery.
    pub dup: bool,
    /// Subscription Identifiers of the delivery: places in [`Log::subscriptions`], counted from 1.
    pub subscription_ids: Vec<u32>,
    /// When.
    pub at: Moment,
}

/// One run's records.
#[derive(Debug, Default)]
pub struct Log {
    /// Messages; a payload carries the index.
    pub publications: Vec<Publication>,
    /// Sessions.
    pub epochs: Vec<Epoch>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscribed>,
    /// Deliveries in the order in which they were seen.
    pub receipts: Vec<Receipt>,
    /// Retained publishes per topic in order: `None` clears.
    pub retained: BTreeMap<String, Vec<(Option<usize>, usize)>>,
    /// What broke the rules while the run went on.
    pub violations: Vec<String>,
    /// The last happenings, for the report of a failure.
    pub recent: std::collections::VecDeque<String>,
    /// Keep all happenings, not only the recent ones.
    pub keep_all: bool,
    /// Damage was reported: what is missing since then is not lost in silence.
    pub reported_loss: bool,
    /// Level `interval`: spans of which the end of a process may have lost what was acknowledged.
    pub losses: Vec<(Moment, Moment)>,
    /// When processes ended.
    pub falls: Vec<Moment>,
    /// Hash of all happenings: the same seed gives the same.
    pub trace: u64,
    clock: u64,
}

impl Log {
    /// The next moment.
    pub fn moment(&mut self) -> Moment {
        self.clock += 1;
        Moment(self.clock)
    }

    /// The last moment that was given.
    #[must_use]
    pub const fn latest(&self) -> Moment {
        Moment(self.clock)
    }

    /// Whether what was asked at one moment and promised at another may have been lost, as the level of durability says. The
    /// answer may have been on its way when the process ended.
    #[must_use]
    pub fn may_be_lost(&self, asked_at: Moment, promised_at: Moment) -> bool {
        self.losses.iter().any(|(since, until)| *since <= promised_at && asked_at <= *until)
    }

    /// Whether something promised was lost as announced: sessions may then stand where they stood before.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.reported_loss || !self.losses.is_empty()
    }

    /// Notes a broken rule, unless something was lost as announced.
    pub fn complaint(&mut self, text: String) {
        if self.is_weak() {
            self.note(text);
        } else {
            self.violation(text);
        }
    }

    /// Notes a happening: into the trace hash, and among the recent ones.
    pub fn note(&mut self, text: String) {
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.recent.len() == RECENT_COUNT && !self.keep_all {
            self.recent.pop_front();
        }
        self.recent.push_back(text);
    }

    /// Notes a broken rule.
    pub fn violation(&mut self, text: String) {
        self.note(format!("VIOLATION {text}"));
        if self.violations.len() < VIOLATION_COUNT_MAX {
            self.violations.push(text);
        }
    }
}

/// Happenings kept for a report.
const RECENT_COUNT: usize = 60;
/// Violations kept: the first ones tell the story.
const VIOLATION_COUNT_MAX: usize = 20;

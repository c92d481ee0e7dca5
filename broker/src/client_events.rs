//! Clients' events for `$SYS/brokers/NAME/clients/…`: from the shards' hooks to the telemetry thread, as values.
//!
//! A shard copies an event only while it is switched on *and* some client subscribes to such topics; otherwise an event
//! costs the shard a call and two loads. It never waits: what the channel does not take is dropped and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use dunlin_shard::hooks::{LastWords, SessionEvent, SessionHook};
use dunlin_shard::{ListenerId, Peer, WallMs};
use dunlin_wire::packet::ConnectProperties;
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{SubscriptionOptions, Version};

use crate::clock;
use crate::config::SysEventMessages;

/// Something that a client did, with copies of its texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientEvent {
    /// Who.
    pub(crate) client_id: Box<str>,
    /// When the shard saw it.
    pub(crate) at: WallMs,
    /// What.
    pub(crate) what: What,
}

/// What happened to a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// CONNACK with success was sent.
    Connected {
        /// As sent.
        username: Option<Box<str>>,
        /// The connection.
        link: Link,
        /// Clean Start.
        clean_start: bool,
        /// In force.
        keep_alive_seconds: u16,
        /// As granted.
        expiry_seconds: u32,
        /// The client's.
        receive_maximum: u16,
        /// What the CONNECT said, but for Authentication Data.
        properties: Properties,
    },
    /// The connection ended.
    Disconnected {
        /// The connection.
        link: Link,
        /// Why.
        reason: ReasonCode,
        /// What the client's DISCONNECT said.
        properties: Properties,
    },
    /// A subscription was made or replaced.
    Subscribed {
        /// As written.
        filter: Box<str>,
        /// As granted.
        options: SubscriptionOptions,
    },
    /// A subscription was given up.
    Unsubscribed {
        /// As written.
        filter: Box<str>,
    },
}

/// Properties of a packet, by EMQX's names.
pub(crate) type Properties = Vec<(&'static str, Property)>;

/// The value of a property.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Property {
    /// A whole number.
    Number(u32),
    /// Yes or no.
    Flag(bool),
    /// A text.
    Text(Box<str>),
    /// User Properties, in order.
    Pairs(Vec<(Box<str>, Box<str>)>),
}

/// The properties of a CONNECT, but for Authentication Data, which may be a secret.
fn of_connect(properties: &ConnectProperties<'_>) -> Properties {
    let number = |value: Option<u32>| value.map(Property::Number);
    let pairs: Vec<_> =
        properties.user_properties.iter().map(|(key, value)| (key.into(), value.into())).collect();
    let all = [
        ("Session-Expiry-Interval", number(properties.session_expiry_interval)),
        ("Receive-Maximum", number(properties.receive_maximum.map(|value| value.get().into()))),
        ("Maximum-Packet-Size", number(properties.maximum_packet_size.map(NonZeroU32::get))),
        ("Topic-Alias-Maximum", number(properties.topic_alias_maximum.map(u32::from))),
        ("Request-Response-Information", properties.request_response_information.map(Property::Flag)),
        ("Request-Problem-Information", properties.request_problem_information.map(Property::Flag)),
        ("Authentication-Method", properties.authentication_method.map(|text| Property::Text(text.into()))),
        ("User-Property", (!pairs.is_empty()).then_some(Property::Pairs(pairs))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The properties of a DISCONNECT.
fn of_disconnect(words: &LastWords) -> Properties {
    let pairs = &words.user_properties;
    let all = [
        ("Session-Expiry-Interval", words.session_expiry_interval.map(Property::Number)),
        ("Reason-String", words.reason_string.clone().map(Property::Text)),
        ("User-Property", (!pairs.is_empty()).then(|| Property::Pairs(pairs.clone()))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A network connection, for presence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Link {
    /// The other end.
    pub(crate) peer: Peer,
    /// Where it came in.
    pub(crate) listener: ListenerId,
    /// Protocol version.
    pub(crate) version: Version,
}

impl ClientEvent {
    /// Copies an event; `None` for those that `$SYS` does not tell.
    fn of(event: &SessionEvent<'_>) -> Option<Self> {
        let (client_id, what) = match *event {
            SessionEvent::Connected {
                client_id,
                username,
                peer,
                listener,
                version,
                clean_start,
                keep_alive_seconds,
                expiry_seconds,
                receive_maximum,
                properties,
            } => {
                let (username, link) = (username.map(Into::into), Link { peer, listener, version });
                let what = What::Connected {
                    username,
                    link,
                    clean_start,
                    keep_alive_seconds,
                    expiry_seconds,
                    receive_maximum,
                    properties: of_connect(properties),
                };
                (client_id, what)
            }
            SessionEvent::Disconnected { client_id, peer, listener, version, reason, last_words } => {
                let properties = last_words.map_or_else(Vec::new, of_disconnect);
                (client_id, What::Disconnected { link: Link { peer, listener, version }, reason, properties })
            }
            SessionEvent::Subscribed { client_id, filter, options } => {
                (client_id, What::Subscribed { filter: filter.into(), options })
            }
            SessionEvent::Unsubscribed { client_id, filter } => {
                (client_id, What::Unsubscribed { filter: filter.into() })
            }
            SessionEvent::Ended { .. } => return None,
        };
        Some(Self { client_id: client_id.into(), at: clock::wall(), what })
    }
}

/// What all shards and the telemetry thread share: a few numbers, written rarely.
#[derive(Debug, Default)]
struct Gate {
    /// Bits of the kinds that are switched on.
    kinds: AtomicU8,
    /// Subscriptions to topics of clients' events, over all shards.
    watchers: AtomicUsize,
    /// Events that were lost for want of room.
    dropped: AtomicU64,
}

/// The telemetry thread's end.
#[derive(Debug)]
pub(crate) struct ClientEvents {
    gate: Arc<Gate>,
    sender: Sender<ClientEvent>,
    waiting: Receiver<ClientEvent>,
    /// Rings when the first watcher comes, so that the thread need not look while there is none.
    bell: (Sender<()>, Receiver<()>),
}

impl ClientEvents {
    /// Nobody watches yet.
    pub(crate) fn new(kinds: &SysEventMessages) -> Self {
        let (sender, waiting) = bounded(EVENTS_MAX);
        let events = Self { gate: Arc::default(), sender, waiting, bell: bounded(1) };
        events.switch(kinds);
        events
    }

    /// Switches kinds of events on and off.
    pub(crate) fn switch(&self, kinds: &SysEventMessages) {
        let switches = [
            (kinds.client_connected, CONNECTED),
            (kinds.client_disconnected, DISCONNECTED),
            (kinds.client_subscribed, SUBSCRIBED),
            (kinds.client_unsubscribed, UNSUBSCRIBED),
        ];
        let bits = switches.into_iter().filter(|(on, _)| *on).fold(0, |bits, (_, bit)| bits | bit);
        self.gate.kinds.store(bits, Ordering::Relaxed);
    }

    /// The hook of one shard.
    pub(crate) fn observer(&self) -> Observer {
        let (gate, events) = (Arc::clone(&self.gate), self.sender.clone());
        Observer { gate, events, bell: self.bell.0.clone(), watching: BTreeMap::new() }
    }

    /// Hears when the first watcher has come.
    pub(crate) const fn bell(&self) -> &Receiver<()> {
        &self.bell.1
    }

    /// Whether events may come.
    pub(crate) fn is_watched(&self) -> bool {
        self.gate.watchers.load(Ordering::Relaxed) > 0 || !self.waiting.is_empty()
    }

    /// Takes at most `count` events, in the order of each client.
    pub(crate) fn take(&self, count: usize) -> impl Iterator<Item = ClientEvent> + '_ {
        self.waiting.try_iter().take(count)
    }

    /// Counts events that were lost behind the channel.
    pub(crate) fn count_dropped(&self, count: u64) {
        self.gate.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Events lost since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.gate.dropped.load(Ordering::Relaxed)
    }
}

/// One shard's hook. On the shard's core; never waits and formats nothing.
#[derive(Debug)]
pub(crate) struct Observer {
    gate: Arc<Gate>,
    events: Sender<ClientEvent>,
    bell: Sender<()>,
    /// Subscriptions of this shard's sessions to topics of clients' events, by client id and filter as written. Usually
    /// none; about 100 B each.
    watching: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
}

impl SessionHook for Observer {
    fn observe(&mut self, event: &SessionEvent<'_>) {
        let bit = match *event {
            SessionEvent::Connected { .. } => CONNECTED,
            SessionEvent::Disconnected { .. } => DISCONNECTED,
            SessionEvent::Subscribed { client_id, filter, .. } => {
                if may_watch(filter) {
                    self.begin_watch(client_id, filter);
                }
                SUBSCRIBED
            }
            SessionEvent::Unsubscribed { client_id, filter } => {
                if may_watch(filter) {
                    self.end_watch(client_id, filter);
                }
                UNSUBSCRIBED
            }
            SessionEvent::Ended { client_id } => return self.end_watches(client_id),
        };
        if self.gate.watchers.load(Ordering::Relaxed) == 0
            || self.gate.kinds.load(Ordering::Relaxed) & bit == 0
        {
            return;
        }
        if let Some(event) = ClientEvent::of(event)
            && self.events.try_send(event).is_err()
        {
            self.gate.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer {
    fn begin_watch(&mut self, client_id: &str, filter: &str) {
        if !self.watching.entry(client_id.into()).or_default().insert(filter.into()) {
            return;
        }
        if self.gate.watchers.fetch_add(1, Ordering::Relaxed) == 0 {
            // Full means that it rings already.
            let _rings = self.bell.try_send(());
        }
    }

    fn end_watch(&mut self, client_id: &str, filter: &str) {
        let Some(filters) = self.watching.get_mut(client_id) else { return };
        if filters.remove(filter) {
            self.gate.watchers.fetch_sub(1, Ordering::Relaxed);
        }
        if filters.is_empty() {
            self.watching.remove(client_id);
        }
    }

    fn end_watches(&mut self, client_id: &str) {
        if self.watching.is_empty() {
            return;
        }
        if let Some(filters) = self.watching.remove(client_id) {
            self.gate.watchers.fetch_sub(filters.len(), Ordering::Relaxed);
        }
    }
}

/// Whether a subscription may get messages of `$SYS/brokers/NAME/clients/…`, whatever NAME is. Cheap for all others.
fn may_watch(written: &str) -> bool {
    if !written.starts_with('$') {
        // Wildcards at the first level do not reach topics that begin with `$` [MQTT5 §4.7.2].
        return false;
    }
    let filter = match written.split_once('/') {
        Some(("$share", rest)) => rest.split_once('/').map_or("", |(_group, filter)| filter),
        Some(("$queue" | "$exclusive", rest)) => rest,
        _ => written,
    };
    if !filter.starts_with("$SYS/") {
        return false;
    }
    for (level, wanted) in filter.split('/').zip(["$SYS", "brokers", "+", "clients"]) {
        if level == "#" {
            return true;
        }
        if level != wanted && level != "+" && wanted != "+" {
            return false;
        }
    }
    filter.split('/').nth(4).is_some()
}

const CONNECTED: u8 = 1;
const DISCONNECTED: u8 = 2;
const SUBSCRIBED: u8 = 4;
const UNSUBSCRIBED: u8 = 8;

/// Events that may wait for the telemetry thread, which looks every few milliseconds: 100,000 connections a second.
const EVENTS_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use dunlin_wire::packet::UserProperties;
    use dunlin_wire::types::QoS;

    use super::*;

    const ALL: SysEventMessages = SysEventMessages {
        client_connected: true,
        client_disconnected: true,
        client_subscribed: true,
        client_unsubscribed: true,
    };

    static NO_PROPERTIES: ConnectProperties<'static> = ConnectProperties {
        session_expiry_interval: None,
        receive_maximum: None,
        maximum_packet_size: None,
        topic_alias_maximum: None,
        request_response_information: None,
        request_problem_information: None,
        authentication_method: None,
        authentication_data: None,
        user_properties: UserProperties::NONE,
    };

    #[test]
    fn properties_are_copied_but_for_secrets() {
        let properties = ConnectProperties {
            session_expiry_interval: Some(9),
            request_problem_information: Some(false),
            authentication_method: Some("m"),
            authentication_data: Some(b"secret"),
            user_properties: UserProperties::from_pairs(&[("a", "1"), ("a", "2")]),
            ..NO_PROPERTIES
        };
        let pairs = vec![("a".into(), "1".into()), ("a".into(), "2".into())];
        let expected = [
            ("Session-Expiry-Interval", Property::Number(9)),
            ("Request-Problem-Information", Property::Flag(false)),
            ("Authentication-Method", Property::Text("m".into())),
            ("User-Property", Property::Pairs(pairs)),
        ];
        assert_eq!(of_connect(&properties), expected);
        let words = LastWords { reason_string: Some("tired".into()), ..LastWords::default() };
        assert_eq!(of_disconnect(&words), [("Reason-String", Property::Text("tired".into()))]);
    }

    fn connected(client_id: &str) -> SessionEvent<'_> {
        SessionEvent::Connected {
            client_id,
            username: Some("u"),
            peer: SocketAddr::from(([127, 0, 0, 1], 40_001)).into(),
            listener: ListenerId(0),
            version: Version::V5,
            clean_start: true,
            keep_alive_seconds: 60,
            expiry_seconds: 0,
            receive_maximum: 65_535,
            properties: &NO_PROPERTIES,
        }
    }

    fn subscribed<'a>(client_id: &'a str, filter: &'a str) -> SessionEvent<'a> {
        SessionEvent::Subscribed {
            client_id,
            filter,
            options: SubscriptionOptions::with_qos(QoS::AtMostOnce),
        }
    }

    fn taken(events: &ClientEvents) -> Vec<String> {
        events.take(usize::MAX).map(|event| event.client_id.into_string()).collect()
    }

    #[test]
    fn filters_that_reach_clients_events_are_known() {
        for (filter, reaches) in [
            ("$SYS/brokers/+/clients/#", true),
            ("$SYS/brokers/n1/clients/c1/connected", true),
            ("$SYS/brokers/+/+/+/connected", true),
            ("$SYS/#", true),
            ("$SYS/brokers/#", true),
            ("$SYS/+/+/clients/#", true),
            ("$share/g/$SYS/brokers/+/clients/#", true),
            ("$queue/$SYS/#", true),
            ("$exclusive/$SYS/brokers/n1/clients/c1/connected", true),
            ("$SYS/brokers/+/clients", false),
            ("$SYS/brokers/+/stats/#", false),
            ("$SYS/brokers", false),
            ("$SYS", false),
            ("$share/g/#", false),
            ("$share/g", false),
            ("#", false),
            ("+/brokers/+/clients/#", false),
        ] {
            assert_eq!(may_watch(filter), reaches, "{filter}");
        }
    }

    #[test]
    fn events_are_copied_only_while_somebody_watches() {
        let events = ClientEvents::new(&ALL);
        let (mut one, mut other) = (events.observer(), events.observer());
        one.observe(&connected("a"));
        assert!(!events.is_watched() && events.bell().is_empty());
        other.observe(&subscribed("w", "$SYS/brokers/+/clients/#"));
        assert!(events.is_watched() && events.bell().try_recv().is_ok());
        other.observe(&subscribed("w", "$SYS/brokers/+/clients/#"));
        one.observe(&connected("b"));
        assert_eq!(taken(&events), ["w", "w", "b"]);
        other.observe(&SessionEvent::Unsubscribed { client_id: "w", filter: "$SYS/brokers/+/clients/#" });
        one.observe(&connected("c"));
        assert_eq!(taken(&events), Vec::<String>::new());
        assert!(!events.is_watched());
    }

    #[test]
    fn the_end_of_a_session_ends_its_watch() {
        let events = ClientEvents::new(&ALL);
        let mut observer = events.observer();
        observer.observe(&subscribed("w", "$SYS/#"));
        observer.observe(&subscribed("w", "$share/g/$SYS/#"));
        observer.observe(&subscribed("v", "$SYS/#"));
        observer.observe(&SessionEvent::Ended { client_id: "w" });
        observer.observe(&SessionEvent::Ended { client_id: "nobody" });
        assert_eq!(events.gate.watchers.load(Ordering::Relaxed), 1);
        observer.observe(&SessionEvent::Ended { client_id: "v" });
        taken(&events);
        assert!(!events.is_watched() && observer.watching.is_empty());
    }

    #[test]
    fn kinds_are_switched_one_by_one() {
        let events = ClientEvents::new(&SysEventMessages::default());
        let mut observer = events.observer();
        observer.observe(&subscribed("w", "$SYS/#"));
        observer.observe(&connected("a"));
        assert_eq!(taken(&events), ["a"], "subscriptions are off by default");
        events.switch(&SysEventMessages { client_connected: false, ..ALL });
        observer.observe(&connected("a"));
        observer.observe(&subscribed("b", "t"));
        assert_eq!(taken(&events), ["b"]);
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let events = ClientEvents::new(&ALL);
        let mut observer = events.observer();
        observer.observe(&subscribed("w", "$SYS/#"));
        for _ in 0..EVENTS_MAX + 4 {
            observer.observe(&connected("a"));
        }
        assert_eq!((taken(&events).len(), events.dropped()), (EVENTS_MAX, 5));
    }
}

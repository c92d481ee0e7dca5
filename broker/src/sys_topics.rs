//! `$SYS` topics: what the broker tells of itself. Pure: numbers in, messages out.
//!
//! Names and forms are EMQX's, so that what watches `$SYS/brokers/…` there works here. Counters and gauges are sums over
//! the shards of this process.

use std::collections::BTreeMap;

use dunlin_shard::{ListenerId, Message, MessageView, WallMs};
use dunlin_wire::types::{QoS, SubscriptionOptions};
use serde_json::{Value, json};

use crate::client_events::{ClientEvent, Link, Property, What};
use crate::clock;

/// Makes the messages of one node. One per node, on the telemetry thread.
#[derive(Debug)]
pub(crate) struct SysTopics {
    node: String,
    /// The port of each listener, by its id.
    ports: Vec<u16>,
    /// The highest value that each gauge has had since the start.
    highest: BTreeMap<&'static str, u64>,
}

/// A published name and its value.
pub(crate) type Entry = (&'static str, u64);

impl SysTopics {
    /// For the node of this name, whose listeners have these ports.
    pub(crate) const fn new(node: String, ports: Vec<u16>) -> Self {
        Self { node, ports, highest: BTreeMap::new() }
    }

    /// Uptime in milliseconds and the date.
    pub(crate) fn heartbeat(&self, uptime_ms: u64, now: WallMs) -> Vec<Message> {
        vec![
            self.of_node("uptime", &uptime_ms.to_string(), false, now),
            self.of_node("datetime", &clock::rfc3339(now), false, now),
        ]
    }

    /// Who is here and what it is: retained, so that a new subscriber sees it at once.
    pub(crate) fn identity(&self, now: WallMs) -> Vec<Message> {
        vec![
            message("$SYS/brokers", &self.node, true, now),
            self.of_node("version", env!("CARGO_PKG_VERSION"), true, now),
            self.of_node("sysdescr", DESCRIPTION, true, now),
        ]
    }

    /// Gauges (each `.count` with the highest it has been, as `.max`) and counters.
    pub(crate) fn report(&mut self, gauges: &[Entry], counters: &[Entry], now: WallMs) -> Vec<Message> {
        let mut messages = Vec::new();
        for (name, value) in gauges {
            messages.push(self.number("stats", name, *value, now));
            if let Some(stem) = name.strip_suffix(".count") {
                let highest = self.highest.entry(name).or_default();
                *highest = (*highest).max(*value);
                let highest = *highest;
                messages.push(self.number("stats", &format!("{stem}.max"), highest, now));
            }
        }
        messages.extend(counters.iter().map(|(name, value)| self.number("metrics", name, *value, now)));
        messages
    }

    /// What a client did, as JSON; `None` if its id is so long that it makes no topic.
    pub(crate) fn client_event(&self, event: &ClientEvent) -> Option<Message> {
        let ClientEvent { client_id, at, what } = event;
        let (kind, mut body) = match what {
            What::Connected {
                username,
                link,
                clean_start,
                keep_alive_seconds,
                expiry_seconds,
                receive_maximum,
                properties,
            } => {
                let mut body = self.link(link);
                body["username"] = json!(username);
                body["clean_start"] = json!(clean_start);
                body["keepalive"] = json!(keep_alive_seconds);
                body["expiry_interval"] = json!(expiry_seconds);
                body["receive_maximum"] = json!(receive_maximum);
                body["conn_props"] = props(properties);
                body["client_attrs"] = json!({});
                body["connected_at"] = json!(at.0);
                body["connack"] = json!(0);
                ("connected", body)
            }
            What::Disconnected { link, reason, properties } => {
                let mut body = self.link(link);
                body["reason"] = json!(reason.name());
                body["disconnected_at"] = json!(at.0);
                body["disconn_props"] = props(properties);
                body["client_attrs"] = json!({});
                ("disconnected", body)
            }
            What::Subscribed { filter, options } => {
                let body = json!({ "protocol": "mqtt", "topic": filter, "subopts": subopts(*options) });
                ("subscribed", body)
            }
            What::Unsubscribed { filter } => ("unsubscribed", json!({ "protocol": "mqtt", "topic": filter })),
        };
        body["clientid"] = json!(client_id);
        body["ts"] = json!(at.0);
        let topic = format!("$SYS/brokers/{}/clients/{}/{kind}", self.node, escaped(client_id));
        (topic.len() <= TOPIC_BYTES_MAX).then(|| message(&topic, &body.to_string(), false, *at))
    }

    fn link(&self, link: &Link) -> Value {
        let ListenerId(listener) = link.listener;
        json!({
            "ipaddress": link.peer.ip().to_string(),
            "sockport": self.ports.get(usize::from(listener)),
            "proto_name": link.version.protocol_name(),
            "proto_ver": link.version.level(),
        })
    }

    fn number(&self, kind: &str, name: &str, value: u64, now: WallMs) -> Message {
        self.of_node(&format!("{kind}/{}", name.replace('.', "/")), &value.to_string(), false, now)
    }

    fn of_node(&self, topic: &str, payload: &str, retain: bool, now: WallMs) -> Message {
        message(&format!("$SYS/brokers/{}/{topic}", self.node), payload, retain, now)
    }
}

/// A client id as one level of a topic: `/`, `+`, `#` would make levels or wildcards of it, and become `%2F`, `%2B`, `%23`;
/// so does `%`, so that no two ids become one.
fn escaped(client_id: &str) -> String {
    let mut level = String::with_capacity(client_id.len());
    for letter in client_id.chars() {
        match letter {
            '/' => level.push_str("%2F"),
            '+' => level.push_str("%2B"),
            '#' => level.push_str("%23"),
            '%' => level.push_str("%25"),
            _ => level.push(letter),
        }
    }
    level
}

/// Subscription Options under EMQX's names.
fn subopts(options: SubscriptionOptions) -> Value {
    json!({
        "qos": options.qos as u8,
        "nl": u8::from(options.no_local),
        "rap": u8::from(options.retain_as_published),
        "rh": options.retain_handling as u8,
    })
}

fn message(topic: &str, payload: &str, retain: bool, now: WallMs) -> Message {
    let view = MessageView {
        topic,
        qos: QoS::AtMostOnce,
        retain,
        received_at: now,
        expiry_seconds: None,
        publisher: "",
        properties: &[],
        payload: payload.as_bytes(),
    };
    view.to_message()
}

/// Longest topic name [MQTT5 §1.5.4].
const TOPIC_BYTES_MAX: usize = 65_535;

const DESCRIPTION: &str = "Dunlin MQTT broker";

/// Properties as EMQX shows them: flags as 0 and 1, User Properties as a map (the last of a name) and as pairs.
fn props(properties: &[(&'static str, Property)]) -> Value {
    let mut shown = json!({});
    for (name, value) in properties {
        shown[*name] = match value {
            Property::Number(number) => json!(number),
            Property::Flag(flag) => json!(u8::from(*flag)),
            Property::Text(text) => json!(text),
            Property::Pairs(pairs) => {
                let list: Vec<Value> =
                    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
                shown["User-Property-Pairs"] = json!(list);
                pairs.iter().map(|(key, value)| (key.to_string(), json!(value))).collect()
            }
        };
    }
    shown
}

#[cfg(test)]
mod tests {
    use dunlin_wire::reason::ReasonCode;
    use dunlin_wire::types::Version;

    use super::*;

    /// Topic, payload and RETAIN of each message.
    fn shown(messages: &[Message]) -> Vec<(String, String, bool)> {
        let show = |message: &Message| {
            let view = message.view();
            let payload = String::from_utf8(view.payload.to_vec()).expect("text");
            (view.topic.to_owned(), payload, view.retain)
        };
        messages.iter().map(show).collect()
    }

    fn row(topic: &str, payload: &str, retain: bool) -> (String, String, bool) {
        (topic.to_owned(), payload.to_owned(), retain)
    }

    #[test]
    fn a_node_says_who_it_is_in_retained_messages() {
        let topics = SysTopics::new("n1".to_owned(), vec![1883]);
        let expected = [
            row("$SYS/brokers", "n1", true),
            row("$SYS/brokers/n1/version", env!("CARGO_PKG_VERSION"), true),
            row("$SYS/brokers/n1/sysdescr", "Dunlin MQTT broker", true),
        ];
        assert_eq!(shown(&topics.identity(WallMs(0))), expected);
    }

    #[test]
    fn a_heartbeat_has_the_uptime_and_the_date() {
        let topics = SysTopics::new("n1".to_owned(), vec![1883]);
        let expected = [
            row("$SYS/brokers/n1/uptime", "1500", false),
            row("$SYS/brokers/n1/datetime", "1970-01-01T00:00:00.000Z", false),
        ];
        assert_eq!(shown(&topics.heartbeat(1_500, WallMs(0))), expected);
    }

    fn told(client_id: &str, what: What) -> Option<(String, Value)> {
        let event = ClientEvent { client_id: client_id.into(), at: WallMs(1_500), what };
        let message = SysTopics::new("n1".to_owned(), vec![1883]).client_event(&event)?;
        let view = message.view();
        assert!(!view.retain);
        Some((view.topic.to_owned(), serde_json::from_slice(view.payload).expect("JSON")))
    }

    fn link() -> Link {
        let peer = std::net::SocketAddr::from(([192, 0, 2, 7], 40_001)).into();
        Link { peer, listener: ListenerId(0), version: Version::V5 }
    }

    #[test]
    fn a_clients_coming_and_going_has_emqxs_fields() {
        let what = What::Connected {
            username: Some("u".into()),
            link: link(),
            clean_start: true,
            keep_alive_seconds: 60,
            expiry_seconds: 7_200,
            receive_maximum: 65_535,
            properties: vec![
                ("Session-Expiry-Interval", Property::Number(7_200)),
                ("Request-Problem-Information", Property::Flag(false)),
                ("User-Property", Property::Pairs(vec![("k".into(), "1".into()), ("k".into(), "2".into())])),
            ],
        };
        let (topic, body) = told("c1", what).expect("a topic");
        assert_eq!(topic, "$SYS/brokers/n1/clients/c1/connected");
        let expected = json!({
            "clientid": "c1", "username": "u", "ipaddress": "192.0.2.7", "sockport": 1883, "proto_name": "MQTT",
            "proto_ver": 5, "connected_at": 1_500, "keepalive": 60, "clean_start": true, "expiry_interval": 7_200,
            "receive_maximum": 65_535, "connack": 0, "ts": 1_500, "client_attrs": {},
            "conn_props": {
                "Session-Expiry-Interval": 7_200, "Request-Problem-Information": 0, "User-Property": { "k": "2" },
                "User-Property-Pairs": [{ "key": "k", "value": "1" }, { "key": "k", "value": "2" }],
            },
        });
        assert_eq!(body, expected);
        let properties = vec![("Reason-String", Property::Text("tired".into()))];
        let gone = What::Disconnected { link: link(), reason: ReasonCode::KeepAliveTimeout, properties };
        let (topic, body) = told("c1", gone).expect("a topic");
        assert_eq!(topic, "$SYS/brokers/n1/clients/c1/disconnected");
        let expected = json!({
            "clientid": "c1", "ipaddress": "192.0.2.7", "sockport": 1883, "proto_name": "MQTT", "proto_ver": 5,
            "reason": "keep_alive_timeout", "disconnected_at": 1_500, "ts": 1_500, "client_attrs": {},
            "disconn_props": { "Reason-String": "tired" },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn subscriptions_have_their_options() {
        let options =
            SubscriptionOptions { no_local: true, ..SubscriptionOptions::with_qos(QoS::ExactlyOnce) };
        let (topic, body) =
            told("c1", What::Subscribed { filter: "a/\"b\"/#".into(), options }).expect("a topic");
        assert_eq!(topic, "$SYS/brokers/n1/clients/c1/subscribed");
        let subopts = json!({ "qos": 2, "nl": 1, "rap": 0, "rh": 0 });
        let expected = json!({
            "clientid": "c1", "protocol": "mqtt", "topic": "a/\"b\"/#", "subopts": subopts, "ts": 1_500,
        });
        assert_eq!(body, expected);
        let (topic, body) = told("c1", What::Unsubscribed { filter: "a".into() }).expect("a topic");
        assert_eq!(topic, "$SYS/brokers/n1/clients/c1/unsubscribed");
        assert_eq!(body, json!({ "clientid": "c1", "protocol": "mqtt", "topic": "a", "ts": 1_500 }));
    }

    #[test]
    fn a_client_id_is_one_level_whatever_is_in_it() {
        let what = || What::Unsubscribed { filter: "t".into() };
        let (topic, body) = told("../+/#%2F", what()).expect("a topic");
        assert_eq!(topic, "$SYS/brokers/n1/clients/..%2F%2B%2F%23%252F/unsubscribed");
        assert_eq!(body["clientid"], "../+/#%2F");
        assert_eq!(told(&"/".repeat(65_535), what()), None, "three times as long as a topic may be");
    }

    #[test]
    fn gauges_remember_their_highest() {
        let mut topics = SysTopics::new("n1".to_owned(), vec![1883]);
        topics.report(&[("subscriptions.shared.count", 9)], &[], WallMs(0));
        let report = topics.report(
            &[("subscriptions.shared.count", 4)],
            &[("packets.publish.received", 7)],
            WallMs(0),
        );
        let expected = [
            row("$SYS/brokers/n1/stats/subscriptions/shared/count", "4", false),
            row("$SYS/brokers/n1/stats/subscriptions/shared/max", "9", false),
            row("$SYS/brokers/n1/metrics/packets/publish/received", "7", false),
        ];
        assert_eq!(shown(&report), expected);
    }
}

//! `$SYS` topics: what the broker tells of itself. Pure: numbers in, messages out.
//!
//! Names and forms are EMQX's, so that what watches `$SYS/brokers/…` there works here. Counters and gauges are sums over
//! the shards of this process.

use std::collections::BTreeMap;

use dunlin_shard::{Message, MessageView, WallMs};
use dunlin_wire::types::QoS;

use crate::clock;

/// Makes the messages of one node. One per node, on the telemetry thread.
#[derive(Debug)]
pub(crate) struct SysTopics {
    node: String,
    /// The highest value that each gauge has had since the start.
    highest: BTreeMap<&'static str, u64>,
}

/// A published name and its value.
pub(crate) type Entry = (&'static str, u64);

impl SysTopics {
    /// For the node of this name.
    pub(crate) const fn new(node: String) -> Self {
        Self { node, highest: BTreeMap::new() }
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

    fn number(&self, kind: &str, name: &str, value: u64, now: WallMs) -> Message {
        self.of_node(&format!("{kind}/{}", name.replace('.', "/")), &value.to_string(), false, now)
    }

    fn of_node(&self, topic: &str, payload: &str, retain: bool, now: WallMs) -> Message {
        message(&format!("$SYS/brokers/{}/{topic}", self.node), payload, retain, now)
    }
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

const DESCRIPTION: &str = "Dunlin MQTT broker";

#[cfg(test)]
mod tests {
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
        let topics = SysTopics::new("n1".to_owned());
        let expected = [
            row("$SYS/brokers", "n1", true),
            row("$SYS/brokers/n1/version", env!("CARGO_PKG_VERSION"), true),
            row("$SYS/brokers/n1/sysdescr", "Dunlin MQTT broker", true),
        ];
        assert_eq!(shown(&topics.identity(WallMs(0))), expected);
    }

    #[test]
    fn a_heartbeat_has_the_uptime_and_the_date() {
        let topics = SysTopics::new("n1".to_owned());
        let expected = [
            row("$SYS/brokers/n1/uptime", "1500", false),
            row("$SYS/brokers/n1/datetime", "1970-01-01T00:00:00.000Z", false),
        ];
        assert_eq!(shown(&topics.heartbeat(1_500, WallMs(0))), expected);
    }

    #[test]
    fn gauges_remember_their_highest() {
        let mut topics = SysTopics::new("n1".to_owned());
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

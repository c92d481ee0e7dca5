//! The scenarios of the record sheet, with the bars that Dunlin is held to.

use serde::{Deserialize, Serialize};

use super::Kind;

/// One row of the record sheet.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Arguments of dunlin-loadgen.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) bars: &'static [Bar],
    /// Whether the floor tool has a counterpart.
    pub(crate) has_floor: bool,
    /// Whether `--seconds` applies; otherwise the scenario ends by itself.
    pub(crate) timed: bool,
    /// What is added to the arguments: the rate, as half of what the contender has reached in this scenario.
    pub(crate) half_of: Option<&'static str>,
    pub(crate) shards: Shards,
    /// Which figure the row is about.
    pub(crate) measure: Measure,
    pub(crate) list: List,
}

/// How many shards Dunlin has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shards {
    /// What was asked for, else one; the others take part.
    Asked,
    /// This many on the contender's core, and nobody else takes part: a shard's file table, like any process, holds
    /// at most RLIMIT_NOFILE sockets.
    Tables(u16),
    /// Two shards, on the contender's and on the generator's core, and nobody else takes part.
    TwoCores,
}

/// The figure that a row is about, per contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Measure {
    /// Processor time of the contender per unit.
    Cpu,
    /// Latency.
    Latency,
    /// User memory of the contender per connection or subscription.
    Memory,
}

/// Which commands run a scenario unless it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// `compare` and `sheet`.
    Both,
    /// `compare` only.
    Compare,
    /// `sheet` only.
    Sheet,
}

/// What Dunlin is held to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// Processor time per unit at most this many times mosquitto's.
    OfMosquitto(f64),
    /// Processor time per unit at most this many times the floor's.
    OfFloor(f64),
    /// Processor time per unit at most this many times that of Dunlin in another scenario.
    OfScenario(&'static str, f64),
    /// p50 and p99 at most mosquitto's.
    LatencyOfMosquitto,
    /// User memory of the broker per item, in bytes.
    BytesPerItem(f64),
    /// User memory of the broker per item at most mosquitto's.
    MemoryOfMosquitto,
    /// User memory of the broker grows at most by this many MiB: while connections are held, or from the first
    /// round of connections to the last.
    Growth(f64),
}

impl Scenario {
    /// Whether a contender takes part.
    pub(crate) fn suits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Dunlin => true,
            Kind::Floor => self.has_floor && self.shards == Shards::Asked,
            Kind::Mosquitto | Kind::Rumqttd | Kind::Rmqttd | Kind::Aedes => self.shards == Shards::Asked,
        }
    }

    /// The scenario of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }
}

/// Most rows are like this one: messages for `--seconds`, with a counterpart of the floor.
const TRAFFIC: Scenario = Scenario {
    name: "",
    what: "",
    arguments: &[],
    bars: &[],
    has_floor: true,
    timed: true,
    half_of: None,
    shards: Shards::Asked,
    measure: Measure::Cpu,
    list: List::Both,
};

/// All scenarios, in the order in which they run.
pub(crate) static ALL: &[Scenario] = &[
    Scenario {
        name: "p2p0",
        what: "point to point QoS 0, 1,000 pairs, one message under way in each",
        arguments: &["p2p"],
        bars: &[Bar::OfMosquitto(0.65), Bar::OfFloor(1.5)],
        ..TRAFFIC
    },
    Scenario {
        name: "p2p1",
        what: "point to point QoS 1, 1,000 pairs, one message under way in each",
        arguments: &["p2p", "--qos", "1"],
        bars: &[Bar::OfMosquitto(0.60), Bar::OfFloor(1.5)],
        ..TRAFFIC
    },
    Scenario {
        name: "p2p2",
        what: "point to point QoS 2, 1,000 pairs, one message under way in each",
        arguments: &["p2p", "--qos", "2"],
        bars: &[Bar::OfMosquitto(0.60), Bar::OfFloor(1.5)],
        ..TRAFFIC
    },
    Scenario {
        name: "fanin0",
        what: "1,000 publishers to one subscriber, QoS 0",
        arguments: &["fanin"],
        bars: &[Bar::OfMosquitto(0.38)],
        ..TRAFFIC
    },
    Scenario {
        name: "fanin1",
        what: "1,000 publishers to one subscriber, QoS 1",
        arguments: &["fanin", "--qos", "1"],
        bars: &[Bar::OfMosquitto(0.48)],
        ..TRAFFIC
    },
    // In the fan-out rows the generator polls. Asleep, it is woken by the first segments of a burst, and how often depends on how the
    // contender spaces its sends: 144,000 wake-ups in two seconds beside Dunlin, 12,000 beside the floor, each paid for by
    // the sender. Polling takes that out for all contenders alike; without it Dunlin is at 1.3 to 1.6 of the floor.
    Scenario {
        name: "fanout0",
        what: "one publisher, eight messages under way, to 1,000 subscribers, QoS 0",
        arguments: &["fanout", "--window", "8", "--spin"],
        bars: &[Bar::OfMosquitto(0.16), Bar::OfFloor(1.25)],
        ..TRAFFIC
    },
    Scenario {
        name: "fanout1",
        what: "one publisher, eight messages under way, to 1,000 subscribers, QoS 1",
        arguments: &["fanout", "--window", "8", "--qos", "1", "--spin"],
        bars: &[Bar::OfMosquitto(0.19), Bar::OfFloor(1.25)],
        ..TRAFFIC
    },
    Scenario {
        name: "fan0w1",
        what: "one publisher, one message under way, to 1,000 subscribers, QoS 0",
        arguments: &["fanout", "--window", "1", "--spin"],
        bars: &[Bar::OfMosquitto(0.55), Bar::OfFloor(1.25)],
        ..TRAFFIC
    },
    Scenario {
        name: "shared",
        what: "1,000 publishers to 50 members of one shared subscription, QoS 1",
        arguments: &["shared", "--qos", "1"],
        has_floor: false,
        list: List::Sheet,
        ..TRAFFIC
    },
    Scenario {
        name: "wild0",
        what: "300 wildcard filters, one match each (the control of wild)",
        arguments: &["wild", "--filters", "3"],
        has_floor: false,
        list: List::Compare,
        ..TRAFFIC
    },
    Scenario {
        name: "wild",
        what: "100,000 wildcard filters, one match each",
        arguments: &["wild", "--filters", "1000"],
        bars: &[Bar::OfMosquitto(0.60), Bar::OfScenario("wild0", 1.05)],
        has_floor: false,
        ..TRAFFIC
    },
    Scenario {
        name: "retain",
        what: "20,000 retained messages stored on 10,000 topics, QoS 1",
        arguments: &["retained", "--measure", "store", "--topics", "1000", "--subscribers", "1"],
        has_floor: false,
        timed: false,
        list: List::Sheet,
        ..TRAFFIC
    },
    Scenario {
        name: "replay",
        what: "1,000 retained messages handed out to each of 50 new subscribers, QoS 1",
        arguments: &["retained", "--measure", "replay", "--qos", "1"],
        has_floor: false,
        timed: false,
        list: List::Sheet,
        ..TRAFFIC
    },
    Scenario {
        name: "connect",
        what: "connect, CONNACK, close",
        arguments: &["connect", "--source", "127.99.0.0/20"],
        bars: &[Bar::OfMosquitto(0.60)],
        ..TRAFFIC
    },
    Scenario {
        name: "subscribe",
        what: "200 clients subscribe to 1,000 distinct literal filters each",
        arguments: &["subscribe"],
        bars: &[Bar::OfMosquitto(0.80)],
        has_floor: false,
        timed: false,
        ..TRAFFIC
    },
    Scenario {
        name: "half0",
        what: "500 pairs at half of the messages per second that the contender has reached in p2p0, QoS 0",
        arguments: &["lat"],
        half_of: Some("p2p0"),
        measure: Measure::Latency,
        list: List::Sheet,
        ..TRAFFIC
    },
    Scenario {
        name: "lat0",
        what: "5,000 messages per second over 500 pairs, QoS 0",
        arguments: &["lat"],
        bars: &[Bar::LatencyOfMosquitto],
        measure: Measure::Latency,
        ..TRAFFIC
    },
    Scenario {
        name: "lat1",
        what: "5,000 messages per second over 500 pairs, QoS 1",
        arguments: &["lat", "--qos", "1"],
        bars: &[Bar::LatencyOfMosquitto],
        measure: Measure::Latency,
        list: List::Compare,
        ..TRAFFIC
    },
    Scenario {
        name: "idle",
        what: "15,000 idle connections with a session and a subscription each",
        arguments: &["idle", "--connections", "15000", "--source", "127.98.0.0/24", "--keep-alive", "60"],
        bars: &[Bar::MemoryOfMosquitto],
        has_floor: false,
        timed: false,
        measure: Measure::Memory,
        ..TRAFFIC
    },
    Scenario {
        name: "p2p0x2",
        what: "p2p0 with two shards on two cores, which the generator shares",
        arguments: &["p2p"],
        has_floor: false,
        shards: Shards::TwoCores,
        list: List::Sheet,
        ..TRAFFIC
    },
    Scenario {
        name: "fanout0x2",
        what: "fanout0 with two shards on two cores, which the generator shares",
        arguments: &["fanout", "--window", "8"],
        has_floor: false,
        shards: Shards::TwoCores,
        list: List::Sheet,
        ..TRAFFIC
    },
    Scenario {
        name: "connect2",
        what: "connect with two shards on two cores, which the generator shares",
        arguments: &["connect", "--source", "127.99.0.0/20"],
        has_floor: false,
        shards: Shards::TwoCores,
        list: List::Sheet,
        ..TRAFFIC
    },
    Scenario {
        name: "subs1m",
        what: "1,000,000 subscriptions: 1,000 clients to 1,000 distinct literal filters each",
        arguments: &["subscribe", "--clients", "1000"],
        bars: &[Bar::BytesPerItem(250.0)],
        has_floor: false,
        timed: false,
        measure: Measure::Memory,
        list: List::Compare,
        ..TRAFFIC
    },
    Scenario {
        name: "idle200k",
        what: "200,000 idle MQTT 5 connections with a session and a subscription each, on four shards",
        arguments: &[
            "idle",
            "--connections",
            "200000",
            "--mqtt",
            "5",
            "--source",
            "127.96.0.0/20",
            "--keep-alive",
            "60",
            "--concurrency",
            "256",
        ],
        bars: &[Bar::BytesPerItem(600.0)],
        has_floor: false,
        timed: false,
        shards: Shards::Tables(4),
        measure: Measure::Memory,
        list: List::Compare,
        ..TRAFFIC
    },
    Scenario {
        name: "keepalive",
        what: "15,000 idle connections that ping every 0.67 s for a minute: 90 keep-alives each",
        arguments: &[
            "idle",
            "--connections",
            "15000",
            "--source",
            "127.98.0.0/24",
            "--keep-alive",
            "1",
            "--seconds",
            "60",
        ],
        bars: &[Bar::Growth(1.0)],
        has_floor: false,
        timed: false,
        measure: Measure::Memory,
        list: List::Compare,
        ..TRAFFIC
    },
    Scenario {
        name: "cycle",
        what: "100,000 connections opened, subscribed and closed, ten times over, on two shards",
        arguments: &[
            "cycle",
            "--connections",
            "100000",
            "--source",
            "127.97.0.0/20",
            "--concurrency",
            "256",
            "--patience",
            "30",
        ],
        bars: &[Bar::Growth(4.0)],
        has_floor: false,
        timed: false,
        shards: Shards::Tables(2),
        measure: Measure::Memory,
        list: List::Compare,
        ..TRAFFIC
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_controls_run_before_what_they_control() {
        for (index, scenario) in ALL.iter().enumerate() {
            let before = &ALL[..index];
            assert!(before.iter().all(|other| other.name != scenario.name), "{}", scenario.name);
            for bar in scenario.bars {
                if let Bar::OfScenario(control, _) = bar {
                    assert!(before.iter().any(|other| other.name == *control), "{control}");
                }
            }
            if let Some(fastest) = scenario.half_of {
                assert!(before.iter().any(|other| other.name == fastest), "{fastest}");
            }
        }
    }

    #[test]
    fn a_bar_against_somebody_needs_him_to_take_part() {
        for scenario in ALL {
            for bar in scenario.bars {
                let needed = match bar {
                    Bar::OfMosquitto(_) | Bar::LatencyOfMosquitto | Bar::MemoryOfMosquitto => Kind::Mosquitto,
                    Bar::OfFloor(_) => Kind::Floor,
                    Bar::OfScenario(..) | Bar::BytesPerItem(_) | Bar::Growth(_) => Kind::Dunlin,
                };
                assert!(scenario.suits(needed), "{} {bar:?}", scenario.name);
            }
        }
    }
}

//! Who takes part, what they subscribe to, and what a message of a route looks like. All of it follows from the options.

use dunlin_wire::{QoS, Version};

use super::arguments::CrashArgs;
use crate::stamp::{STAMP_BYTES, Stamp};

/// A client by number: publishers, then subscribers, then the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartyId(pub(crate) usize);

/// What one publisher sends to one topic at one QoS, by number; it travels in every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteId(pub(crate) usize);

/// How a client spends its cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Stays.
    Steady,
    /// Loses its connection, or is taken over by a new one.
    Mover,
    /// Leaves for several cycles.
    Wanderer,
    /// Subscribes and unsubscribes.
    Fickle,
    /// Leaves for several cycles, and ends its session with a clean start when it returns.
    Renewer,
    /// Reads the retained messages with a session of its own, which ends with its connection.
    Reader,
}

/// A filter and the topics that it matches.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) text: String,
    pub(crate) qos: QoS,
    /// Indices of topics.
    pub(crate) topics: Vec<usize>,
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) client_id: String,
    pub(crate) version: Version,
    pub(crate) habit: Habit,
    /// Empty for publishers. No two of one client match the same topic: a broker may send a copy for each.
    pub(crate) filters: Vec<Filter>,
    /// Routes that it publishes: one list for messages, one for retained ones.
    pub(crate) routes: Vec<RouteId>,
    pub(crate) kept_routes: Vec<RouteId>,
    /// Receive Maximum, which bounds what a broker has under way to it (MQTT 5).
    pub(crate) receive_maximum: Option<u16>,
}

/// A route as it is planned.
#[derive(Clone, Debug)]
pub(crate) struct RoutePlan {
    pub(crate) publisher: PartyId,
    pub(crate) topic: String,
    /// Its index; `None` for retained messages, which nobody has a durable subscription to.
    pub(crate) shared_topic: Option<usize>,
    pub(crate) qos: QoS,
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) roles: Vec<Role>,
    pub(crate) routes: Vec<RoutePlan>,
    run: u32,
    payload_bytes_max: usize,
}

impl Cast {
    /// The clients that the options ask for; `run` tells this run from others.
    pub(crate) fn new(arguments: &CrashArgs, run: u32) -> Self {
        let payload_bytes_max = usize::try_from(arguments.payload).unwrap_or(STAMP_BYTES).max(STAMP_BYTES);
        let mut cast = Self { roles: Vec::new(), routes: Vec::new(), run, payload_bytes_max };
        for number in 0..usize::from(arguments.publishers) {
            cast.add_publisher(number, usize::from(arguments.topics));
        }
        for number in 0..usize::from(arguments.subscribers) {
            cast.add_subscriber(number, usize::from(arguments.topics));
        }
        cast.roles.push(Role {
            client_id: format!("crash-reader-{run:08x}"),
            version: Version::V5,
            habit: Habit::Reader,
            filters: vec![Filter { text: "keep/#".to_owned(), qos: QoS::AtLeastOnce, topics: Vec::new() }],
            routes: Vec::new(),
            kept_routes: Vec::new(),
            receive_maximum: None,
        });
        cast
    }

    fn add_publisher(&mut self, number: usize, topics: usize) {
        let publisher = PartyId(self.roles.len());
        let mut add = |topic: String, shared_topic, qos| {
            self.routes.push(RoutePlan { publisher, topic, shared_topic, qos });
            RouteId(self.routes.len() - 1)
        };
        let mut routes = Vec::new();
        for topic in 0..topics {
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                routes.push(add(topic_name(topic), Some(topic), qos));
            }
        }
        let kept_routes = (0..KEPT_TOPICS)
            .map(|kept| {
                let qos = if kept.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                add(format!("keep/{number}/{kept}"), None, qos)
            })
            .collect();
        self.roles.push(Role {
            client_id: format!("crash-pub-{number}-{:08x}", self.run),
            version: mixed(number),
            habit: if number % 4 < 2 { Habit::Steady } else { Habit::Mover },
            filters: Vec::new(),
            routes,
            kept_routes,
            receive_maximum: None,
        });
    }

    fn add_subscriber(&mut self, number: usize, topics: usize) {
        let habits = [Habit::Steady, Habit::Wanderer, Habit::Mover, Habit::Fickle, Habit::Renewer];
        // Five habits against two versions and three kinds of filters: all combinations are met.
        let wildcard = number.is_multiple_of(3);
        let qos = if number % 4 == 3 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let filters = if wildcard {
            vec![Filter { text: "crash/+/data".to_owned(), qos, topics: (0..topics).collect() }]
        } else {
            let chosen = (0..3).map(|step| (number + step) % topics);
            chosen.map(|topic| Filter { text: topic_name(topic), qos, topics: vec![topic] }).collect()
        };
        self.roles.push(Role {
            client_id: format!("crash-sub-{number}-{:08x}", self.run),
            version: mixed(number),
            habit: habits[number % habits.len()],
            filters,
            routes: Vec::new(),
            kept_routes: Vec::new(),
            receive_maximum: (number % 4 == 2).then_some(7),
        });
    }

    /// The reader's number.
    pub(crate) const fn reader(&self) -> PartyId {
        PartyId(self.roles.len() - 1)
    }

    /// The payload of a message: the same each time, so that it can be sent again.
    pub(crate) fn payload(&self, route: RouteId, number: u32) -> Vec<u8> {
        if self.is_removal(route, number) {
            return Vec::new();
        }
        let mut payload = vec![0; self.payload_bytes(route, number)];
        self.stamp(route, number).write(&mut payload);
        payload
    }

    /// What a payload says of itself, if it is one that this run has sent.
    pub(crate) fn recognise(&self, payload: &[u8]) -> Option<(RouteId, u32)> {
        let stamp = Stamp::read(payload)?;
        let route = RouteId(usize::try_from(stamp.flow).ok().filter(|route| *route < self.routes.len())?);
        let fits = stamp == self.stamp(route, stamp.sequence)
            && payload.len() == self.payload_bytes(route, stamp.sequence);
        fits.then_some((route, stamp.sequence))
    }

    /// Whether a retained message removes the one before it.
    pub(crate) fn is_removal(&self, route: RouteId, number: u32) -> bool {
        self.routes[route.0].shared_topic.is_none() && hash(route, number).is_multiple_of(7)
    }

    fn stamp(&self, route: RouteId, number: u32) -> Stamp {
        Stamp {
            run: self.run,
            flow: u32::try_from(route.0).unwrap_or(u32::MAX),
            target: 0,
            sequence: number,
            ticket: 0,
            intended_ns: hash(route, number),
        }
    }

    /// Mostly small, and some of each size up to the largest.
    fn payload_bytes(&self, route: RouteId, number: u32) -> usize {
        let chance = usize::try_from(hash(route, number) >> 40).unwrap_or(0);
        let most = if chance.is_multiple_of(8) { self.payload_bytes_max } else { self.payload_bytes_max / 8 };
        STAMP_BYTES + (chance / 8) % (most.saturating_sub(STAMP_BYTES) + 1)
    }
}

/// Every second client speaks MQTT 3.1.1.
const fn mixed(number: usize) -> Version {
    if number.is_multiple_of(2) { Version::V5 } else { Version::V311 }
}

fn topic_name(topic: usize) -> String {
    format!("crash/{topic}/data")
}

/// Mixes route and number (the finaliser of SplitMix64).
fn hash(route: RouteId, number: u32) -> u64 {
    let mut mixed = (u64::try_from(route.0).unwrap_or(0) << 32 | u64::from(number))
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Retained topics of each publisher.
const KEPT_TOPICS: usize = 4;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The cast of a run with the defaults.
    pub(crate) fn cast() -> Cast {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            crash: CrashArgs,
        }
        Cast::new(&Line::parse_from(["crash", "--", "broker"]).crash, 7)
    }

    #[test]
    fn a_payload_is_recognised_and_nothing_else_is() {
        let cast = cast();
        for number in 0..500 {
            let route = RouteId(number % 3);
            let number = u32::try_from(number).unwrap();
            let mut payload = cast.payload(route, number);
            assert!((32..=1024).contains(&payload.len()));
            assert_eq!(cast.recognise(&payload), Some((route, number)));
            payload.push(0);
            assert_eq!(cast.recognise(&payload), None);
            payload.pop();
            payload[4] ^= 1;
            assert_eq!(cast.recognise(&payload), None);
        }
    }

    #[test]
    fn no_client_has_two_filters_for_one_topic_and_all_habits_are_there_in_both_versions() {
        let cast = cast();
        let mut met = Vec::new();
        for role in &cast.roles {
            let mut topics: Vec<usize> =
                role.filters.iter().flat_map(|filter| filter.topics.clone()).collect();
            let count = topics.len();
            topics.sort_unstable();
            topics.dedup();
            assert_eq!(topics.len(), count, "{role:?}");
            met.push((role.habit, role.version));
        }
        for habit in [Habit::Steady, Habit::Mover, Habit::Wanderer, Habit::Fickle, Habit::Renewer] {
            for version in [Version::V5, Version::V311] {
                assert!(met.contains(&(habit, version)), "{habit:?} {version:?}");
            }
        }
    }

    #[test]
    fn only_retained_messages_are_removed_and_some_are() {
        let cast = cast();
        let kept = cast.roles[0].kept_routes[0];
        assert!((0..100).any(|number| cast.payload(kept, number).is_empty()));
        assert!((0..100).any(|number| !cast.payload(kept, number).is_empty()));
        assert!((0..1000).all(|number| !cast.payload(RouteId(0), number).is_empty()));
    }
}

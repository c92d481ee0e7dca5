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
    /// Has a Will, and leaves in all the ways that decide about it.
    Testator,
    /// Has a session that ends soon after its connection, and stays away for longer or shorter than that.
    Mortal,
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
    /// It is a shared subscription, of this group.
    pub(crate) group: Option<usize>,
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
    /// How long its session outlives its connections (MQTT 5; in 3.1.1 without an end).
    pub(crate) expiry_seconds: u32,
    pub(crate) will: Option<WillPlan>,
}

/// The Will that a client has on each connection; each is a message of its route with a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WillPlan {
    pub(crate) route: RouteId,
    pub(crate) delay_seconds: u32,
}

/// What a route carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// Messages for all who subscribe to the topic.
    Message,
    /// Retained messages, which nobody has a durable subscription to.
    Kept,
    /// Messages of which a shared group, this one, gets one copy.
    Pool(usize),
    /// Wills.
    Will,
}

/// A route as it is planned.
#[derive(Clone, Debug)]
pub(crate) struct RoutePlan {
    pub(crate) publisher: PartyId,
    pub(crate) topic: String,
    /// Its index, by which filters name it; `None` for retained messages.
    pub(crate) topic_index: Option<usize>,
    pub(crate) qos: QoS,
    pub(crate) kind: RouteKind,
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
        let topics = usize::from(arguments.topics);
        let wills = usize::from(arguments.wills);
        for number in 0..usize::from(arguments.publishers) {
            cast.add_publisher(number, topics);
        }
        for number in 0..usize::from(arguments.subscribers) {
            cast.add_subscriber(number, topics, wills);
        }
        for number in 0..wills {
            cast.add_testator(number, topics);
        }
        for number in 0..usize::from(arguments.mortals) {
            cast.add_mortal(number, topics);
        }
        for group in 0..GROUPS {
            for number in 0..usize::from(arguments.members) {
                cast.add_member(group, number, topics);
            }
        }
        let filters =
            vec![Filter { text: "keep/#".to_owned(), topics: Vec::new(), ..Filter::of(0, QoS::AtLeastOnce) }];
        let reader = cast.role("reader", 0, Habit::Reader, Version::V5);
        cast.roles.push(Role { filters, ..reader });
        cast
    }

    /// A client that neither subscribes nor publishes yet.
    fn role(&self, kind: &str, number: usize, habit: Habit, version: Version) -> Role {
        Role {
            client_id: format!("crash-{kind}-{number}-{:08x}", self.run),
            version,
            habit,
            filters: Vec::new(),
            routes: Vec::new(),
            kept_routes: Vec::new(),
            receive_maximum: None,
            expiry_seconds: DAY_SECONDS,
            will: None,
        }
    }

    fn add_publisher(&mut self, number: usize, topics: usize) {
        let publisher = PartyId(self.roles.len());
        let mut add = |topic: String, topic_index, qos, kind| {
            self.routes.push(RoutePlan { publisher, topic, topic_index, qos, kind });
            RouteId(self.routes.len() - 1)
        };
        let mut routes = Vec::new();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for topic in 0..topics {
                routes.push(add(topic_name(topic), Some(topic), qos, RouteKind::Message));
            }
            for group in 0..GROUPS {
                routes.push(add(pool_name(group), Some(topics + group), qos, RouteKind::Pool(group)));
            }
        }
        let kept_routes = (0..KEPT_TOPICS)
            .map(|kept| {
                let qos = if kept.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                add(format!("keep/{number}/{kept}"), None, qos, RouteKind::Kept)
            })
            .collect();
        let habit = if number % 4 < 2 { Habit::Steady } else { Habit::Mover };
        let role = self.role("pub", number, habit, mixed(number));
        self.roles.push(Role { routes, kept_routes, ..role });
    }

    fn add_subscriber(&mut self, number: usize, topics: usize, wills: usize) {
        let habits = [Habit::Steady, Habit::Wanderer, Habit::Mover, Habit::Fickle, Habit::Renewer];
        let habit = habits[number % habits.len()];
        // Five habits against two versions and three kinds of filters: all combinations are met.
        let wildcard = number.is_multiple_of(3);
        let qos = if number % 4 == 3 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let mut filters = if wildcard {
            let text = "crash/+/data".to_owned();
            vec![Filter { text, topics: (0..topics).collect(), ..Filter::of(0, qos) }]
        } else {
            (0..3).map(|step| Filter::of((number + step) % topics, qos)).collect()
        };
        // Wills come at moments that nobody acknowledges: only those who are always subscribed can tell what is missing.
        if wills > 0 && !matches!(habit, Habit::Fickle | Habit::Renewer) {
            let topics = (0..wills).map(|number| topics + GROUPS + number).collect();
            filters.push(Filter { text: "will/#".to_owned(), topics, ..Filter::of(0, qos) });
        }
        let receive_maximum = (number % 4 == 2).then_some(7);
        let role = self.role("sub", number, habit, mixed(number));
        self.roles.push(Role { filters, receive_maximum, ..role });
    }

    /// One with a Will at once in 3.1.1, one with a delay, one at once in 5.0, one whose session ends before the delay; again.
    fn add_testator(&mut self, number: usize, topics: usize) {
        let (version, delay_seconds, expiry_seconds) = match number % 4 {
            0 => (Version::V311, 0, DAY_SECONDS),
            1 => (Version::V5, SHORT_SECONDS, DAY_SECONDS),
            2 => (Version::V5, 0, DAY_SECONDS),
            _ => (Version::V5, DAY_SECONDS, SHORT_SECONDS),
        };
        let qos = if number.is_multiple_of(3) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let topic_index = Some(topics + GROUPS + number);
        let publisher = PartyId(self.roles.len());
        let topic = format!("will/{number}");
        self.routes.push(RoutePlan { publisher, topic, topic_index, qos, kind: RouteKind::Will });
        let will = Some(WillPlan { route: RouteId(self.routes.len() - 1), delay_seconds });
        let role = self.role("will", number, Habit::Testator, version);
        self.roles.push(Role { expiry_seconds, will, ..role });
    }

    fn add_mortal(&mut self, number: usize, topics: usize) {
        let qos = if number % 2 == 1 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let filters = (0..2).map(|step| Filter::of((number + step) % topics, qos)).collect();
        let role = self.role("mortal", number, Habit::Mortal, Version::V5);
        self.roles.push(Role { filters, expiry_seconds: SHORT_SECONDS, ..role });
    }

    /// The first of a group stays. In the group at QoS 1 others end their sessions, and their messages go on to the rest;
    /// at QoS 2 messages on their way would have to end with the session [MQTT5-4.8.2-5], so there nobody does.
    fn add_member(&mut self, group: usize, number: usize, topics: usize) {
        let (qos, second) = match group % 2 {
            0 => (QoS::AtLeastOnce, Habit::Renewer),
            _ => (QoS::ExactlyOnce, Habit::Mover),
        };
        let habit = match number % 3 {
            _ if number == 0 => Habit::Steady,
            1 => second,
            _ => Habit::Wanderer,
        };
        let text = format!("$share/group{group}/{}", pool_name(group));
        let filters = vec![Filter { text, group: Some(group), ..Filter::of(topics + group, qos) }];
        let role = self.role(&format!("member{group}"), number, habit, mixed(number));
        self.roles.push(Role { filters, ..role });
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
        self.routes[route.0].kind == RouteKind::Kept && hash(route, number).is_multiple_of(7)
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
        let is_will = self.routes[route.0].kind == RouteKind::Will;
        let largest =
            if is_will { self.payload_bytes_max.min(WILL_BYTES_MAX) } else { self.payload_bytes_max };
        let most = if chance.is_multiple_of(8) { largest } else { largest / 8 };
        STAMP_BYTES + (chance / 8) % (most.saturating_sub(STAMP_BYTES) + 1)
    }
}

impl Filter {
    /// The filter that matches one of the topics that all publishers write to.
    fn of(topic: usize, qos: QoS) -> Self {
        Self { text: topic_name(topic), qos, topics: vec![topic], group: None }
    }
}

/// Every second client speaks MQTT 3.1.1.
const fn mixed(number: usize) -> Version {
    if number.is_multiple_of(2) { Version::V5 } else { Version::V311 }
}

fn topic_name(topic: usize) -> String {
    format!("crash/{topic}/data")
}

fn pool_name(group: usize) -> String {
    format!("pool/{group}")
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
/// Shared groups: one at QoS 1, one at QoS 2.
pub(crate) const GROUPS: usize = 2;
/// Longer than a run.
const DAY_SECONDS: u32 = 86_400;
/// A delay of a Will, and the life of a session without connection, that passes during some cycles.
const SHORT_SECONDS: u32 = 1;
/// A Will is part of CONNECT, for which brokers grant less room.
const WILL_BYTES_MAX: usize = 1_024;

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

//! The schema: each key with its default, what it takes, whether a reload applies it, and what it means.
//!
//! This table is the only place that knows the keys: the file, the environment, the flags, `--print-config`, the reload and
//! the reference in `broker/README.md` all walk it.

use dunlin_persist::limits::SEGMENT_BYTES_MIN;
use dunlin_shard::config::{Durability, SharedStrategy};
use dunlin_shard::limits::SHARD_COUNT_MAX;

use super::codec::{
    Bytes, Choice, Codec as _, Cores, Flag, Folder, Hundredths, Interval, Line, Listeners, Millis, Or,
    Priorities, QosLevel, Seconds, SecondsOrForever, Whole,
};
use super::value::Raw;
use super::{LogFormat, Settings};
use crate::log::Level;

/// One key of the configuration.
pub(crate) struct Setting {
    /// `section.key`.
    pub(crate) name: &'static str,
    /// The flag that sets it too, if there is one.
    pub(crate) flag: Option<&'static str>,
    /// What a reload does with it.
    pub(crate) reload: Reload,
    /// What it means, for the reference.
    pub(crate) meaning: &'static str,
    /// What values it takes, in words.
    pub(crate) takes: fn() -> String,
    /// Reads a value into the settings.
    pub(crate) apply: fn(&mut Settings, &Raw) -> Result<(), String>,
    /// The value in TOML.
    pub(crate) show: fn(&Settings) -> String,
    /// Copies the value from one set of settings to another.
    pub(crate) copy: fn(&Settings, &mut Settings),
}

/// What a reload does with a changed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Acts at once; a connection keeps what its CONNACK promised.
    Live,
    /// Takes effect at the next start; the reload says so.
    Restart,
}

impl Setting {
    /// The section that the key stands in.
    pub(crate) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The key inside its section.
    pub(crate) fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }

    /// The environment variable that sets it.
    pub(crate) fn env_name(&self) -> String {
        format!("DUNLIN_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }
}

/// The key with this name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Whether this is the name of a section, or of a table inside one.
pub(crate) fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// Keys that an EMQX configuration may have and this version does not know, with what to do instead.
pub(crate) fn known_elsewhere(name: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(key, _)| *key == name).map(|(_, advice)| *advice)
}

/// Pairs a key with the field that holds it and the codec that reads it.
macro_rules! setting {
    ($name:literal, $($field:ident).+, $codec:expr, $reload:ident, $meaning:literal $(, $flag:literal)?) => {
        Setting {
            name: $name,
            flag: setting!(@flag $($flag)?),
            reload: Reload::$reload,
            meaning: $meaning,
            takes: || {
                // Names the codec's value type, which some codecs have more than one of.
                fn takes<T>(codec: &impl super::codec::Codec<T>, _of: fn(&Settings) -> &T) -> String {
                    codec.takes()
                }
                takes(&$codec, |settings| &settings.$($field).+)
            },
            apply: |settings, raw| {
                settings.$($field).+ = $codec.parse(raw)?;
                Ok(())
            },
            show: |settings| $codec.print(&settings.$($field).+),
            copy: |from, to| to.$($field).+.clone_from(&from.$($field).+),
        }
    };
    (@flag $flag:literal) => { Some($flag) };
    (@flag) => { None };
}

/// All keys, in the order in which they are printed; the keys of a section stand together.
pub(crate) static SETTINGS: &[Setting] = &[
    setting!(
        "server.listen",
        server.listen,
        Listeners,
        Restart,
        "Where clients connect. Other hosts can reach anything but loopback addresses, so that needs authentication or `auth.allow_anonymous`.",
        "--listen"
    ),
    setting!(
        "server.shards",
        server.shards,
        Or("auto", Whole(1..=SHARD_COUNT_MAX as u64)),
        Restart,
        "Shards, each with its own sessions and ring; `auto` is one per core. More shards than cores hold more connections where the open-file limit is low.",
        "--shards"
    ),
    setting!("server.cores", server.cores, Cores, Restart, "CPUs that shards are pinned to.", "--cores"),
    setting!(
        "server.max_connections",
        server.max_connections,
        Or("auto", Whole(1..=CONNECTIONS_MAX)),
        Restart,
        "Connections of all listeners together; more are closed as soon as they are accepted. `auto` is four times the open-file limit for each shard (a shard takes another ring where one is full), at most 1048576.",
        "--max-connections"
    ),
    setting!(
        "server.max_conn_rate_per_address",
        mqtt.max_conn_rate_per_address,
        Or("infinity", Whole(1..=1_000_000)),
        Live,
        "Connections that one address (for IPv6 a network of 64 bits) may begin per second; more are closed as soon as they are accepted and counted as `refused.connect_rate`. Each shard keeps its part of the budget."
    ),
    setting!(
        "server.max_conn_burst_per_address",
        mqtt.max_conn_burst_per_address,
        Whole(1..=10_000_000),
        Live,
        "How many of them may come at once."
    ),
    setting!(
        "server.max_greeting_connections",
        mqtt.max_greeting_connections,
        Whole(1..=u32::MAX as u64),
        Live,
        "Connections of one shard whose CONNECT is not accepted yet; when there are more, the oldest of them is closed and counted as `refused.greeting_count`."
    ),
    setting!(
        "node.name",
        node.name,
        Line { bytes_max: 255, refused: &['/', '+', '#'], may_be_empty: false },
        Restart,
        "Name of this broker in `$SYS/brokers/NAME/…`."
    ),
    setting!(
        "auth.allow_anonymous",
        auth.allow_anonymous,
        Flag,
        Restart,
        "Serve clients that no authentication has checked on listeners that other hosts can reach.",
        "--allow-anonymous"
    ),
    setting!(
        "storage.data_dir",
        storage.data_dir,
        Folder,
        Restart,
        "Folder for sessions and messages that outlive the process; only one broker at a time may use it. `auto` is `$STATE_DIRECTORY` where a service manager gives one, else `/var/lib/dunlin/data` for root and `$XDG_STATE_HOME/dunlin` or `~/.local/state/dunlin` for other users.",
        "--data-dir"
    ),
    setting!(
        "storage.memory_only",
        storage.memory_only,
        Flag,
        Restart,
        "Keep sessions and messages in memory only, whatever `durability.level` says, and touch no folder.",
        "--memory-only"
    ),
    setting!(
        "storage.max_size",
        storage.max_bytes,
        Or("infinity", Bytes(1 << 20..=1 << 50)),
        Restart,
        "Most disk space that the logs of all shards take together. When they have it, or the disk is full, publishers of QoS 1 and 2 get 0x97 (Quota exceeded) until there is room again; `infinity` is what the disk has."
    ),
    setting!(
        "storage.segment_size",
        storage.segment_bytes,
        Or("auto", Bytes(SEGMENT_BYTES_MIN..=1 << 30)),
        Restart,
        "The logs grow, and are freed, in pieces of this size. `auto` is 16MB, and less where many shards would take gigabytes."
    ),
    setting!(
        "durability.level",
        durability.level,
        Choice(&[
            ("commit", Durability::Commit),
            ("interval", Durability::Interval),
            ("memory", Durability::Memory)
        ]),
        Restart,
        "What an acknowledgement promises of sessions that outlive their connection, of their messages and of retained messages. `commit`: it is on the disk. `interval`: it is on the disk `durability.interval` later; a power cut before may lose it. `memory`: it ends with the process.",
        "--durability"
    ),
    setting!(
        "durability.interval",
        durability.interval_ms,
        Millis(1..=HOUR_MS),
        Restart,
        "How often the disk is written at level `interval`."
    ),
    setting!(
        "log.level",
        log.level,
        Choice(&[
            ("error", Level::Error),
            ("warn", Level::Warn),
            ("info", Level::Info),
            ("debug", Level::Debug)
        ]),
        Live,
        "Lowest level of event that is logged.",
        "--log-level"
    ),
    setting!(
        "log.format",
        log.format,
        Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        Restart,
        "One event per line, as text or as a JSON object, on standard error.",
        "--log-format"
    ),
    setting!(
        "shutdown.timeout",
        shutdown.timeout_ms,
        Millis(100..=HOUR_MS),
        Restart,
        "Longest time that a stop may take to say goodbye to clients."
    ),
    setting!(
        "sys_topics.sys_msg_interval",
        sys_topics.sys_msg_interval_ms,
        Interval(1_000..=DAY_MS),
        Live,
        "How often `$SYS` brokers, version, stats and metrics are published."
    ),
    setting!(
        "sys_topics.sys_heartbeat_interval",
        sys_topics.sys_heartbeat_interval_ms,
        Interval(1_000..=DAY_MS),
        Live,
        "How often `$SYS` uptime and datetime are published."
    ),
    setting!(
        "sys_topics.sys_event_messages.client_connected",
        sys_topics.sys_event_messages.client_connected,
        Flag,
        Live,
        "Tell in `$SYS/brokers/NAME/clients/ID/connected` that a client has connected, while anybody subscribes to such topics."
    ),
    setting!(
        "sys_topics.sys_event_messages.client_disconnected",
        sys_topics.sys_event_messages.client_disconnected,
        Flag,
        Live,
        "Tell in `$SYS/brokers/NAME/clients/ID/disconnected` that a connection has ended, while anybody subscribes to such topics."
    ),
    setting!(
        "sys_topics.sys_event_messages.client_subscribed",
        sys_topics.sys_event_messages.client_subscribed,
        Flag,
        Live,
        "Tell in `$SYS/brokers/NAME/clients/ID/subscribed` that a subscription was made or replaced, while anybody subscribes to such topics."
    ),
    setting!(
        "sys_topics.sys_event_messages.client_unsubscribed",
        sys_topics.sys_event_messages.client_unsubscribed,
        Flag,
        Live,
        "Tell in `$SYS/brokers/NAME/clients/ID/unsubscribed` that a subscription was given up, while anybody subscribes to such topics."
    ),
    setting!(
        "sys_topics.remote",
        mqtt.sys_topics_remote,
        Flag,
        Live,
        "Let clients on other hosts subscribe to `$SYS/#`. Clients on this host always may."
    ),
    setting!(
        "retainer.max_retained_messages",
        mqtt.max_retained_messages,
        Or("infinity", Whole(1..=u64::MAX)),
        Live,
        "Retained messages kept in all; a further topic is refused its retained message."
    ),
    setting!(
        "retainer.max_payload_size",
        mqtt.max_retained_payload_size,
        Bytes(1..=PACKET_BYTES_MAX),
        Live,
        "Largest payload that is retained."
    ),
    setting!(
        "mqtt.idle_timeout",
        mqtt.idle_timeout_ms,
        Millis(100..=HOUR_MS),
        Live,
        "How long a connection may wait before its CONNECT."
    ),
    setting!(
        "mqtt.max_packet_size",
        mqtt.max_packet_size,
        Bytes(128..=PACKET_BYTES_MAX),
        Live,
        "Largest packet taken; told to 5.0 clients as Maximum Packet Size."
    ),
    setting!(
        "mqtt.max_clientid_len",
        mqtt.max_clientid_len,
        Whole(23..=65_535),
        Live,
        "Longest client id taken, bytes."
    ),
    setting!(
        "mqtt.max_topic_levels",
        mqtt.max_topic_levels,
        Whole(1..=65_535),
        Live,
        "Most levels of a topic name or filter."
    ),
    setting!(
        "mqtt.max_topic_alias",
        mqtt.max_topic_alias,
        Whole(0..=65_535),
        Live,
        "Topic aliases per connection, both ways; 0 turns them off."
    ),
    setting!(
        "mqtt.max_user_properties",
        mqtt.max_user_properties,
        Whole(0..=65_535),
        Live,
        "Most User Properties of one packet."
    ),
    setting!(
        "mqtt.max_qos_allowed",
        mqtt.max_qos_allowed,
        QosLevel,
        Live,
        "Highest QoS taken from publishers and granted to subscribers."
    ),
    setting!(
        "mqtt.retain_available",
        mqtt.retain_available,
        Flag,
        Live,
        "Whether retained messages are kept."
    ),
    setting!(
        "mqtt.wildcard_subscription",
        mqtt.wildcard_subscription,
        Flag,
        Live,
        "Whether filters may hold `+` and `#`."
    ),
    setting!(
        "mqtt.shared_subscription",
        mqtt.shared_subscription,
        Flag,
        Live,
        "Whether `$share/GROUP/FILTER` and `$queue/FILTER` are taken."
    ),
    setting!(
        "mqtt.shared_subscription_strategy",
        mqtt.shared_subscription_strategy,
        Choice(&[
            ("random", SharedStrategy::Random),
            ("round_robin", SharedStrategy::RoundRobin),
            ("round_robin_per_group", SharedStrategy::RoundRobinPerGroup),
            ("sticky", SharedStrategy::Sticky),
            ("local", SharedStrategy::Local),
            ("hash_clientid", SharedStrategy::HashClientId),
            ("hash_topic", SharedStrategy::HashTopic)
        ]),
        Live,
        "Which member of a shared subscription gets a message."
    ),
    setting!(
        "mqtt.exclusive_subscription",
        mqtt.exclusive_subscription,
        Flag,
        Live,
        "Whether `$exclusive/TOPIC` is taken: one subscriber at a time."
    ),
    setting!(
        "mqtt.ignore_loop_deliver",
        mqtt.ignore_loop_deliver,
        Flag,
        Live,
        "Do not send a 3.x client what it published itself, as No Local does for 5.0."
    ),
    setting!(
        "mqtt.strict_mode",
        mqtt.strict_mode,
        Flag,
        Live,
        "Refuse packets that break a rule without doing harm, such as control characters in texts."
    ),
    setting!(
        "mqtt.response_information",
        mqtt.response_information,
        Line { bytes_max: 1024, refused: &['+', '#'], may_be_empty: true },
        Live,
        "Prefix of response topics told to 5.0 clients that ask; empty: none."
    ),
    setting!(
        "mqtt.server_keepalive",
        mqtt.server_keepalive,
        Or("disabled", Whole(1..=65_535)),
        Live,
        "Keep Alive in seconds imposed on 5.0 clients."
    ),
    setting!(
        "mqtt.keepalive_multiplier",
        mqtt.keepalive_multiplier_percent,
        Hundredths(100..=10_000),
        Live,
        "A client that is silent for Keep Alive times this is gone; the standard says 1.5."
    ),
    setting!(
        "mqtt.retry_interval",
        mqtt.retry_interval_ms,
        Or("infinity", Millis(1_000..=DAY_MS)),
        Live,
        "Resend unacknowledged messages to connected 3.x clients after this; `infinity` resends on reconnect only. 5.0 forbids it on a live connection."
    ),
    setting!(
        "mqtt.session_expiry_interval",
        mqtt.session_expiry_interval,
        SecondsOrForever,
        Live,
        "How long the session of a 3.x client with Clean Session 0 outlives its connection."
    ),
    setting!(
        "mqtt.max_session_expiry_interval",
        mqtt.max_session_expiry_interval,
        Or("infinity", Seconds(0..=FOREVER_SECONDS - 1)),
        Live,
        "Longest Session Expiry Interval given to a 5.0 client."
    ),
    setting!(
        "mqtt.message_expiry_interval",
        mqtt.message_expiry_interval,
        Or("infinity", Seconds(1..=FOREVER_SECONDS)),
        Live,
        "Message Expiry Interval of messages that come without one."
    ),
    setting!(
        "mqtt.receive_maximum",
        mqtt.receive_maximum,
        Whole(1..=65_535),
        Live,
        "QoS 1 and 2 messages that a 5.0 client may have on the way to the broker."
    ),
    setting!(
        "mqtt.max_awaiting_rel",
        mqtt.max_awaiting_rel,
        Whole(1..=65_535),
        Live,
        "QoS 2 messages of one client that wait for its PUBREL."
    ),
    setting!(
        "mqtt.await_rel_timeout",
        mqtt.await_rel_timeout_ms,
        Millis(1_000..=DAY_MS),
        Live,
        "How long they may wait."
    ),
    setting!(
        "mqtt.max_inflight",
        mqtt.max_inflight,
        Whole(1..=65_535),
        Live,
        "QoS 1 and 2 messages on the way to one client; its Receive Maximum counts if it is smaller."
    ),
    setting!(
        "mqtt.max_mqueue_len",
        mqtt.max_mqueue_len,
        Or("infinity", Whole(1..=u32::MAX as u64)),
        Live,
        "Messages that wait for one client."
    ),
    setting!(
        "mqtt.max_mqueue_bytes",
        mqtt.max_mqueue_bytes,
        Or("infinity", Bytes(1 << 10..=1 << 40)),
        Live,
        "Bytes of messages that wait for one client, in memory or on the disk while it is away; the oldest go first."
    ),
    setting!(
        "mqtt.mqueue_priorities",
        mqtt.mqueue_priorities,
        Priorities,
        Live,
        "Topics whose waiting messages go first, the highest priority before the others."
    ),
    setting!(
        "mqtt.mqueue_default_priority",
        mqtt.mqueue_default_priority_highest,
        Choice(&[("highest", true), ("lowest", false)]),
        Live,
        "Where topics without a priority stand."
    ),
    setting!(
        "mqtt.mqueue_store_qos0",
        mqtt.mqueue_store_qos0,
        Flag,
        Live,
        "Whether QoS 0 messages wait for a client that is away or slow; otherwise they are dropped and counted."
    ),
    setting!(
        "mqtt.max_subscriptions",
        mqtt.max_subscriptions,
        Or("infinity", Whole(1..=u32::MAX as u64)),
        Live,
        "Subscriptions of one client."
    ),
    setting!(
        "mqtt.upgrade_qos",
        mqtt.upgrade_qos,
        Flag,
        Live,
        "Deliver with the subscription's QoS even where the message came with a lower one."
    ),
    setting!(
        "mqtt.outbound_bytes_high",
        mqtt.outbound_bytes_high,
        Bytes(4 << 10..=1 << 30),
        Live,
        "Bytes that may wait in one connection's socket before it counts as slow and its messages wait in the queue."
    ),
];

/// EMQX keys that have no counterpart here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("mqtt.use_username_as_clientid", "it needs authentication, which this version does not have"),
    ("mqtt.peer_cert_as_username", "it needs TLS, which this version does not have"),
    ("mqtt.peer_cert_as_clientid", "it needs TLS, which this version does not have"),
    ("mqtt.client_attrs_init", "it needs authentication, which this version does not have"),
    ("mqtt.clientid_override", "it needs authentication, which this version does not have"),
    ("mqtt.keepalive_check_interval", "each connection is watched to the millisecond; remove the key"),
    (
        "mqtt.shared_subscription_initial_sticky_pick",
        "sticky groups begin with a random member; remove the key",
    ),
    ("mqtt.subscription_max_qos_rules", "use mqtt.max_qos_allowed, which holds for all topics"),
    ("node.cookie", "nodes do not form a cluster in this version; remove the key"),
    ("node.data_dir", "write storage.data_dir"),
    ("retainer.enable", "write mqtt.retain_available"),
];

/// 256 MB, as in EMQX; the format itself ends 4 bytes later [MQTT5 §2.1.4].
const PACKET_BYTES_MAX: u64 = 256 << 20;

/// Connections of one process: 1,024 shards with a million fixed files each is far beyond any host.
const CONNECTIONS_MAX: u64 = 1 << 30;

/// The largest Session Expiry Interval and Message Expiry Interval [MQTT5 §3.1.2.11.2].
const FOREVER_SECONDS: u64 = u32::MAX as u64;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_default_prints_and_reads_back_as_itself() {
        let defaults = Settings::default();
        for setting in SETTINGS {
            let shown = (setting.show)(&defaults);
            let raw =
                Raw::from_toml_text(&shown).unwrap_or_else(|problem| panic!("{}: {problem}", setting.name));
            let mut copy = Settings::default();
            (setting.apply)(&mut copy, &raw).unwrap_or_else(|problem| panic!("{}: {problem}", setting.name));
            assert_eq!(copy, defaults, "{}", setting.name);
        }
    }

    proptest! {
        /// No text makes a codec panic, and what a key takes it prints so that it reads back as the same value.
        #[test]
        fn whatever_a_key_takes_it_prints_and_reads_back(
            at in 0..SETTINGS.len(),
            text in prop_oneof![
                any::<String>(),
                "[0-9]{1,20}(ms|s|m|h|d|B|KB|MB|GB|\\.[0-9]{1,3})?",
                "\\{ *'[^'\n]{0,8}' *= *[0-9]{1,3} *\\}",
                "mqtt://(127\\.0\\.0\\.1|\\[::1\\]|localhost)(:[0-9]{1,5})?",
                "[0-9]{1,3}(-[0-9]{1,3})?(,[0-9]{1,3})*",
                "auto|infinity|disabled|true|false|highest|json|debug|sticky",
            ],
        ) {
            let setting = &SETTINGS[at];
            let mut first = Settings::default();
            if (setting.apply)(&mut first, &Raw::Text(text)).is_ok() {
                let shown = (setting.show)(&first);
                let raw = Raw::from_toml_text(&shown).map_err(|problem| TestCaseError::fail(format!("{shown}: {problem}")))?;
                let mut second = Settings::default();
                prop_assert_eq!((setting.apply)(&mut second, &raw), Ok(()), "{}", shown);
                prop_assert_eq!(first, second, "{}", shown);
            }
        }
    }

    #[test]
    fn names_are_unique_and_sections_stand_together() {
        let mut sections: Vec<&str> = SETTINGS.iter().map(Setting::section).collect();
        sections.dedup();
        let count = sections.len();
        sections.sort_unstable();
        sections.dedup();
        assert_eq!(sections.len(), count);
        let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(ELSEWHERE.iter().all(|(name, _)| find(name).is_none()));
    }

    #[test]
    fn what_would_let_nothing_through_is_refused() {
        for name in [
            "mqtt.receive_maximum",
            "mqtt.max_inflight",
            "mqtt.max_awaiting_rel",
            "mqtt.max_mqueue_len",
            "mqtt.max_topic_levels",
            "server.max_greeting_connections",
            "server.max_conn_rate_per_address",
        ] {
            let setting = find(name).expect("a key");
            let mut settings = Settings::default();
            let none = Raw::Text("0".to_owned());
            assert!((setting.apply)(&mut settings, &none).is_err(), "{name}");
            assert_eq!(settings, Settings::default(), "{name}");
            let one = Raw::Text("1".to_owned());
            assert_eq!((setting.apply)(&mut settings, &one), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_key_has_an_environment_variable() {
        let setting = find("mqtt.max_packet_size").expect("a key");
        assert_eq!(setting.env_name(), "DUNLIN_MQTT__MAX_PACKET_SIZE");
        assert_eq!((setting.section(), setting.key()), ("mqtt", "max_packet_size"));
    }
}

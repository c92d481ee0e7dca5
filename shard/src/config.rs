//! Settings of the MQTT protocol as plain values. Names and defaults follow EMQX's `mqtt.*` where they make sense, so that
//! an operator finds the same words.

use dunlin_wire::types::QoS;

/// Settings of a shard. A copy per core, replaced by a configuration reload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Protocol settings.
    pub mqtt: Mqtt,
    /// What is recorded, and what waits for it. Read when a core is made; a reload does not change it.
    pub durability: Durability,
}

/// What is recorded of sessions that outlive their connection and of retained messages, and what an acknowledgement waits for
/// (ADR 0020).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// All is recorded. PUBACK, PUBREC, PUBCOMP, PUBREL, SUBACK, UNSUBACK and CONNACK leave when what they promise is on the
    /// disk.
    Commit,
    /// All is recorded, and nothing waits for the disk: what was said within the edge's interval before a power cut can be lost.
    Interval,
    /// Nothing is recorded: sessions end with the process.
    #[default]
    Memory,
}

/// How the load of a shared subscription is spread (`mqtt.shared_subscription_strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedStrategy {
    /// Any member.
    Random,
    /// Members in turn, one turn per publisher.
    #[default]
    RoundRobin,
    /// Members in turn, one turn per group.
    RoundRobinPerGroup,
    /// The same member as long as it is there.
    Sticky,
    /// A member of the publisher's own shard if there is one, else any.
    Local,
    /// By the publisher's client id.
    HashClientId,
    /// By the topic.
    HashTopic,
}

/// `mqtt.*`. `None` means "no limit" or "off" where a field is an option.
#[derive(Clone, Debug, PartialEq)]
pub struct Mqtt {
    /// Largest packet taken, bytes on the wire (announced as Maximum Packet Size).
    pub max_packet_size: u32,
    /// Longest client id taken, bytes.
    pub max_clientid_len: u16,
    /// Most levels of a topic name or filter.
    pub max_topic_levels: u16,
    /// Highest QoS taken from publishers (announced as Maximum QoS).
    pub max_qos_allowed: QoS,
    /// Topic aliases taken per connection, and used towards clients that allow them.
    pub max_topic_alias: u16,
    /// Most user properties of one packet.
    pub max_user_properties: u16,
    /// Whether retained messages are kept.
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcard_subscription: bool,
    /// Whether `$share/…` and `$queue/…` are taken.
    pub shared_subscription: bool,
    /// How they spread the load.
    pub shared_subscription_strategy: SharedStrategy,
    /// Whether `$exclusive/…` is taken.
    pub exclusive_subscription: bool,
    /// Drop a 3.x client's own messages on the way back to it (No Local for old clients).
    pub ignore_loop_deliver: bool,
    /// Check what a lenient broker lets pass: control characters, flags of 3.x packets.
    pub strict_mode: bool,
    /// Prefix for Response Information; empty: none is given.
    pub response_information: String,
    /// Keep Alive imposed on 5.0 clients, seconds.
    pub server_keepalive: Option<u16>,
    /// A client is silent for too long after Keep Alive times this, in percent (150 = one and a half times).
    pub keepalive_multiplier_percent: u32,
    /// Resend unacknowledged messages on a live connection after this many milliseconds. Off: only on reconnect, as
    /// 5.0 demands ([MQTT5-4.4.0-1] forbids it, so it acts on 3.x connections only).
    pub retry_interval_ms: Option<u64>,
    /// How long the session of a 3.x client with Clean Session 0 lives, seconds.
    pub session_expiry_interval: u32,
    /// Cap on what a 5.0 client may ask for, seconds.
    pub max_session_expiry_interval: Option<u32>,
    /// Message Expiry Interval given to messages without one, seconds.
    pub message_expiry_interval: Option<u32>,
    /// QoS 2 messages of one client that wait for PUBREL.
    pub max_awaiting_rel: u16,
    /// How long they may wait, milliseconds.
    pub await_rel_timeout_ms: u64,
    /// QoS 1 and 2 messages on the way to one client; the smaller of this and its Receive Maximum counts.
    pub max_inflight: u16,
    /// Messages that wait for one client; `None`: no limit.
    pub max_mqueue_len: Option<u32>,
    /// Bytes of messages that wait for one client; `None`: no limit.
    pub max_mqueue_bytes: Option<u64>,
    /// Topic → priority 1–255 of waiting messages; empty: one queue.
    pub mqueue_priorities: Vec<(String, u8)>,
    /// Priority of topics that are not listed: true = above all, false = below all.
    pub mqueue_default_priority_highest: bool,
    /// Whether QoS 0 messages wait for a client that is away or slow.
    pub mqueue_store_qos0: bool,
    /// Subscriptions of one client; `None`: no limit.
    pub max_subscriptions: Option<u32>,
    /// Deliver with the subscription's QoS even if the message was published with a lower one.
    pub upgrade_qos: bool,
    /// How long a connection may wait before its CONNECT, milliseconds.
    pub idle_timeout_ms: u64,
    /// Connections that one address (an IPv6 network of 64 bits) may begin per second, over all shards; `None`: no limit.
    pub max_conn_rate_per_address: Option<u32>,
    /// How many of them may come at once.
    pub max_conn_burst_per_address: u32,
    /// Connections of one shard whose CONNECT is not accepted yet; beyond, the oldest of them is closed.
    pub max_greeting_connections: u32,
    /// Receive Maximum announced to 5.0 clients.
    pub receive_maximum: u16,
    /// Retained messages kept in all; `None`: no limit.
    pub max_retained_messages: Option<u64>,
    /// Largest payload that is retained, bytes.
    pub max_retained_payload_size: u32,
    /// Bytes that may wait in one connection's socket path before it counts as slow.
    pub outbound_bytes_high: u32,
    /// Whether clients from other hosts may subscribe to `$SYS/#` when no authorizer decides.
    pub sys_topics_remote: bool,
}

/// [MQTT311-7.0.0-2]: no default asks of a client what the standards do not define.
impl Default for Mqtt {
    fn default() -> Self {
        Self {
            max_packet_size: 1 << 20,
            max_clientid_len: u16::MAX,
            max_topic_levels: 128,
            max_qos_allowed: QoS::ExactlyOnce,
            max_topic_alias: u16::MAX,
            max_user_properties: 128,
            retain_available: true,
            wildcard_subscription: true,
            shared_subscription: true,
            shared_subscription_strategy: SharedStrategy::RoundRobin,
            exclusive_subscription: false,
            ignore_loop_deliver: false,
            strict_mode: true,
            response_information: String::new(),
            server_keepalive: None,
            keepalive_multiplier_percent: 150,
            retry_interval_ms: None,
            session_expiry_interval: 7_200,
            max_session_expiry_interval: None,
            message_expiry_interval: None,
            max_awaiting_rel: 100,
            await_rel_timeout_ms: 300_000,
            max_inflight: 32,
            max_mqueue_len: Some(1_000),
            max_mqueue_bytes: Some(64 << 20),
            mqueue_priorities: Vec::new(),
            mqueue_default_priority_highest: false,
            mqueue_store_qos0: true,
            max_subscriptions: None,
            upgrade_qos: false,
            idle_timeout_ms: 15_000,
            max_conn_rate_per_address: None,
            max_conn_burst_per_address: 1_000,
            max_greeting_connections: 1 << 18,
            receive_maximum: 100,
            max_retained_messages: None,
            max_retained_payload_size: 1 << 20,
            outbound_bytes_high: 1 << 20,
            sys_topics_remote: false,
        }
    }
}

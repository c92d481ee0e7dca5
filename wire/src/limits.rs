//! Bounds on what a peer may send. The decoder checks each before it looks further.

/// The largest Remaining Length that four bytes can say: 268,435,455.
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// The largest packet: the longest fixed header (1 + 4 bytes) and [`REMAINING_LENGTH_MAX`].
pub const PACKET_BYTES_MAX: u32 = REMAINING_LENGTH_MAX + 5;

/// The longest string or binary field: its length is sent in two bytes.
pub const FIELD_BYTES_MAX: usize = 65_535;

/// The largest Subscription Identifier (§MQTT5 3.8.2.1.2).
pub const SUBSCRIPTION_ID_MAX: u32 = REMAINING_LENGTH_MAX;

/// The longest client identifier that every 3.1 server must take.
pub const V31_CLIENTID_BYTES_MAX: usize = 23;

/// Which end of the connection sent the bytes that are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    /// A client: this decoder runs in a server.
    #[default]
    Client,
    /// A server: this decoder runs in a client, a bridge or the load generator.
    Server,
    /// Not known: every packet type is taken and rules that differ by sender are not checked.
    Either,
}

/// What a decoder accepts. A copy per connection or per listener; 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest whole packet in bytes, fixed header included (§MQTT5 3.1.2.11.4).
    pub packet_bytes_max: u32,
    /// The longest client identifier in bytes. EMQX's `max_clientid_len`.
    pub clientid_bytes_max: u16,
    /// The most levels that a topic name may have. EMQX's `max_topic_levels`. Filters are decoded whatever their levels: a
    /// SUBACK has a code for each.
    pub topic_levels_max: u16,
    /// The most user properties in one packet: each costs the receivers time and memory.
    pub user_properties_max: u16,
    /// The most filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_max: u16,
    /// Who sent the bytes.
    pub sender: Sender,
    /// Also refuse what the standard only advises against: control characters and non-characters
    /// in strings (§MQTT5 1.5.4), a 3.1 client id of 0 or more than 23 bytes, a payload that is not
    /// the UTF-8 that its Payload Format Indicator promises.
    pub strict: bool,
}

impl Limits {
    /// What a server takes from clients: 1 MiB, as EMQX's defaults.
    pub const SERVER: Self = Self {
        packet_bytes_max: 1_048_576,
        clientid_bytes_max: 65_535,
        topic_levels_max: 128,
        user_properties_max: 256,
        filters_max: 65_535,
        sender: Sender::Client,
        strict: false,
    };

    /// What a client takes from a server: all that the protocol can carry.
    pub const CLIENT: Self = Self {
        packet_bytes_max: PACKET_BYTES_MAX,
        topic_levels_max: u16::MAX,
        user_properties_max: u16::MAX,
        sender: Sender::Server,
        ..Self::SERVER
    };

    /// No bound but the protocol's own, from either end.
    pub const UNBOUNDED: Self = Self { sender: Sender::Either, ..Self::CLIENT };
}

impl Default for Limits {
    fn default() -> Self {
        Self::SERVER
    }
}

const _: () = assert!(PACKET_BYTES_MAX > REMAINING_LENGTH_MAX, "a packet is longer than its body");

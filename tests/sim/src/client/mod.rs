//! A client model: speaks MQTT as a correct client does, records what it sees, and complains when the broker breaks the
//! protocol. It decides nothing by itself; [`crate::workload`] tells it what to do.
//!
//! `request.rs` is what it sends for the workload, `exchange.rs` what becomes of its messages, `hearing.rs` what the broker says,
//! `delivery.rs` the messages that come, `session.rs` what outlives a connection.

mod delivery;
mod exchange;
mod hearing;
mod request;
mod session;

use std::collections::{BTreeMap, BTreeSet};

use dunlin_wire::packet::Packet;
use dunlin_wire::{PacketId, QoS, Version};

use crate::log::Log;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No connection.
    Down,
    /// CONNECT was sent.
    Connecting,
    /// CONNACK with success came.
    Up,
}

/// A message on its way to the broker.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    packet_id: PacketId,
    publication: usize,
    /// PUBREC came; PUBREL was sent.
    released: bool,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) id: String,
    pub(crate) version: Version,
    /// Keeps its session over connections.
    pub(crate) persistent: bool,
    /// Receive Maximum that it announces (5.0).
    pub(crate) receive_maximum: u16,
    /// Maximum Packet Size that it announces (5.0).
    pub(crate) packet_bytes_max: Option<u32>,
    /// Topic Alias Maximum that it announces (5.0).
    pub(crate) alias_max: u16,
    pub(crate) state: State,
    pub(crate) link: Option<usize>,
    /// The link of its last CONNECT.
    pub(crate) last_link: Option<usize>,
    /// The session, if the client has one.
    pub(crate) epoch: Option<usize>,
    /// Filter → index into the log's subscriptions.
    pub(crate) filters: BTreeMap<String, usize>,
    /// Acknowledgements that it holds back for now.
    pub(crate) held: Vec<(QoS, PacketId)>,
    /// Requests may be refused, because the broker's disk may be full or fail.
    pub(crate) may_be_refused: bool,
    /// The broker's process has ended and kept nothing: the session ends with the connection.
    session_is_gone: bool,
    /// The last CONNECT asked for a clean session, and no CONNACK has answered it.
    asked_clean: bool,
    will: Option<usize>,
    /// That of the last CONNECT, its connection over or not: the one that the broker has recorded with the session.
    last_will: Option<usize>,
    buffer: Vec<u8>,
    out: Vec<Outgoing>,
    next_id: PacketId,
    subscribing: BTreeMap<PacketId, usize>,
    unsubscribing: BTreeMap<PacketId, usize>,
    /// QoS 1 and 2 messages received and not yet answered to the end: id → (publication, QoS).
    inbound: BTreeMap<PacketId, (usize, QoS)>,
    /// QoS 2 messages taken, waiting for PUBREL: over connections.
    taken: BTreeSet<PacketId>,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: BTreeMap<String, u16>,
    broker_receive_maximum: u16,
    broker_alias_max: u16,
    broker_qos_max: QoS,
}

impl Client {
    /// A client that has never connected.
    pub(crate) fn new(index: usize, id: String, version: Version, persistent: bool) -> Self {
        Self {
            index,
            id,
            version,
            persistent,
            receive_maximum: u16::MAX,
            packet_bytes_max: None,
            alias_max: 0,
            state: State::Down,
            link: None,
            last_link: None,
            epoch: None,
            filters: BTreeMap::new(),
            held: Vec::new(),
            may_be_refused: false,
            session_is_gone: false,
            asked_clean: false,
            will: None,
            last_will: None,
            buffer: Vec::new(),
            out: Vec::new(),
            next_id: PacketId::FIRST,
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            inbound: BTreeMap::new(),
            taken: BTreeSet::new(),
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            broker_receive_maximum: u16::MAX,
            broker_alias_max: 0,
            broker_qos_max: QoS::ExactlyOnce,
        }
    }

    /// Whether all that it sent is acknowledged and all that it received is answered. A weak broker may have forgotten what
    /// it sent.
    pub(crate) fn is_quiet(&self, is_weak: bool) -> bool {
        self.out.is_empty()
            && self.subscribing.is_empty()
            && self.unsubscribing.is_empty()
            && (is_weak || self.inbound.is_empty())
    }

    /// Whether a filter was asked for and granted.
    pub(crate) fn has_filter(&self, filter: &str, log: &Log) -> bool {
        self.filters.get(filter).is_some_and(|index| log.subscriptions[*index].acked_at.is_some())
    }

    /// Whether it may publish at this QoS now.
    pub(crate) fn may_publish(&self, qos: QoS) -> bool {
        let room = self.out.len() < usize::from(self.broker_receive_maximum.min(50));
        self.state == State::Up && qos <= self.broker_qos_max && (qos == QoS::AtMostOnce || room)
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            let id = self.next_id;
            self.next_id = id.next();
            let used = self.out.iter().any(|outgoing| outgoing.packet_id == id)
                || self.subscribing.contains_key(&id)
                || self.unsubscribing.contains_key(&id);
            if !used {
                return id;
            }
        }
    }
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// A retained message with an empty payload.
    pub(crate) clear: bool,
    /// Use a topic alias if the broker takes one.
    pub(crate) alias: bool,
    /// Bytes beyond the index.
    pub(crate) padding: usize,
}

/// The packet's bytes.
fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("the model builds only packets that its version has");
    bytes
}

/// Keep Alive of all clients.
pub(crate) const KEEP_ALIVE_SECONDS: u16 = 20;

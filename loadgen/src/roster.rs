//! All clients of a run: greets the server on each connection and turns its bytes into notices.

use dunlin_wire::{QoS, ReasonCode, Version};

use crate::client::{Client, Fault, Notice};
use crate::engine::{ConnId, Outbox};
use crate::floor::{self, Hello};

/// What is spoken on the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// MQTT to a broker.
    Mqtt(Version),
    /// The floor tool's greeting, then 3.1.1 PUBLISH packets that it forwards blindly.
    Floor,
}

impl Protocol {
    /// The version that packets are written in.
    pub(crate) const fn version(self) -> Version {
        match self {
            Self::Mqtt(version) => version,
            Self::Floor => Version::V311,
        }
    }

    /// The name for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mqtt(Version::V31) => "MQTT 3.1",
            Self::Mqtt(Version::V311) => "MQTT 3.1.1",
            Self::Mqtt(Version::V5) => "MQTT 5.0",
            Self::Floor => "floor",
        }
    }
}

/// The clients, by connection.
#[derive(Debug)]
pub(crate) struct Roster {
    clients: Vec<Client>,
    protocol: Protocol,
    keep_alive_seconds: u16,
    run: u32,
    is_durable: bool,
}

impl Roster {
    /// `count` clients that have not connected; `run` makes their client ids differ from other runs'.
    pub(crate) fn new(count: u32, protocol: Protocol, keep_alive_seconds: u16, run: u32) -> Self {
        let version = protocol.version();
        let clients = (0..count).map(|_| Client::new(version)).collect();
        Self { clients, protocol, keep_alive_seconds, run, is_durable: false }
    }

    /// The same clients, with sessions that outlive their connections if so.
    pub(crate) fn durable(self, is_durable: bool) -> Self {
        Self { is_durable, ..self }
    }

    /// Writes the first packet of a fresh connection.
    pub(crate) fn greet(&mut self, conn: ConnId, hello: &dyn Fn() -> Hello, outbox: &mut Outbox) {
        let out = outbox.buffer(conn);
        let version = self.protocol.version();
        let client = &mut self.clients[conn.index()];
        match self.protocol {
            Protocol::Mqtt(_) => {
                *client = Client::new(version);
                let client_id = format!("dl{:08x}-{}", self.run, conn.0);
                client.connect(&client_id, self.keep_alive_seconds, self.is_durable, out);
            }
            Protocol::Floor => {
                *client = Client::of_the_floor(version);
                hello().write(out);
            }
        }
    }

    /// Takes one packet off `bytes`, writes the answer that the protocol asks for, and says what it means and
    /// how many bytes it had; `None` if it is not whole yet.
    ///
    /// # Errors
    /// When the server breaks the protocol.
    pub(crate) fn take<'bytes>(
        &mut self,
        conn: ConnId,
        bytes: &'bytes [u8],
        outbox: &mut Outbox,
    ) -> Result<Option<(Notice<'bytes>, usize)>, Fault> {
        let client = &mut self.clients[conn.index()];
        if client.awaits_floor() {
            return Self::take_floor_answer(client, bytes);
        }
        client.take(bytes, || outbox.buffer(conn))
    }

    /// Writes SUBSCRIBE packets for `filters`, `per_packet` filters in each.
    pub(crate) fn subscribe(
        &mut self,
        conn: ConnId,
        filters: &[String],
        per_packet: usize,
        qos: QoS,
        outbox: &mut Outbox,
    ) {
        let client = &mut self.clients[conn.index()];
        for filters in filters.chunks(per_packet.max(1)) {
            client.subscribe(filters, qos, outbox.buffer(conn));
        }
    }

    /// The client on a connection.
    pub(crate) fn client(&mut self, conn: ConnId) -> &mut Client {
        &mut self.clients[conn.index()]
    }

    fn take_floor_answer<'bytes>(
        client: &mut Client,
        bytes: &[u8],
    ) -> Result<Option<(Notice<'bytes>, usize)>, Fault> {
        let Some(answer) = bytes.first_chunk::<4>() else { return Ok(None) };
        if answer != floor::ANSWER {
            return Err(Fault::NotTheFloor);
        }
        client.floor_answered();
        Ok(Some((Notice::Connected { code: ReasonCode::Success, session_present: false }, answer.len())))
    }
}

//! One network connection: Greeting → Authenticating ⇄ Exchanging → Connected → Closing. Dies with the socket.
//!
//! [`rule`] is the table of which packet is taken in which state; [`ShardCore::take_packet`] carries it out.

use dunlin_wire::packet::Packet;
use dunlin_wire::types::{PacketType, Version};

use self::decode::Received;
use crate::action::Actions;
use crate::core::ShardCore;
use crate::deadlines::DeadlineKey;
use crate::ids::{ConnId, ListenerId};
use crate::peer::Peer;
use crate::time::Mono;

pub(crate) mod admission;
pub mod alias;
pub(crate) mod authentication;
mod decode;
mod handshake;
mod held;
pub mod keepalive;
mod outbound;
pub mod quota;
mod rare;
mod refusal;
mod silence;
mod table;

pub(crate) use self::alias::{AliasError, AliasesIn, AliasesOut, OutTopic};
pub(crate) use self::held::Hold;
pub(crate) use self::outbound::Ending;
pub(crate) use self::rare::Rare;
pub(crate) use self::refusal::Refusal;
pub(crate) use self::table::Connections;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Nothing was understood yet; only CONNECT is taken.
    Greeting,
    /// CONNECT was taken and a hook thinks: all packets wait in their place.
    Authenticating,
    /// An AUTH was sent and the client's AUTH is awaited.
    Exchanging,
    /// CONNACK with success was sent.
    Connected,
    /// This side has said its last word; nothing is taken any more.
    Closing,
}

impl State {
    /// All states in the order of a connection's life.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] =
        [Self::Greeting, Self::Authenticating, Self::Exchanging, Self::Connected, Self::Closing];
}

/// A network connection: 72 B, and a box of rare things while a connection has any of them.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Tells two uses of the slot apart.
    pub(crate) generation: u32,
    /// Index of its session from the moment it is attached until the connection is gone; [`NO_SESSION`] before.
    pub(crate) session: u32,
    /// When it was accepted, then when a packet last came.
    pub(crate) heard_at: Mono,
    /// When it is looked at next: CONNECT in time, then silence.
    deadline: Option<DeadlineKey>,
    /// What few connections need at one moment.
    pub(crate) rare: Option<Box<Rare>>,
    /// Keep Alive in force, seconds; 0: none.
    pub(crate) keep_alive_seconds: u16,
    /// Where it came in.
    pub(crate) listener: ListenerId,
    /// Which settings were promised to it: index into [`crate::config_epochs::ConfigEpochs`].
    pub(crate) config_epoch: u16,
    /// QoS 1 and 2 messages that the client may still send (§MQTT5 4.9).
    pub(crate) receive_quota: u16,
    /// The other end.
    pub(crate) peer: Peer,
    /// Where it is in its life.
    pub(crate) state: State,
    /// What it speaks; 3.1.1 until CONNECT says.
    pub(crate) version: Version,
    /// Reason String and User Properties are welcome everywhere (Request Problem Information).
    pub(crate) problem_information: bool,
    /// Skips the authorizer.
    pub(crate) superuser: bool,
    /// The edge has said that it is closed: no action names it any more.
    is_gone: bool,
}

/// `Connection::session` before a session is attached.
pub(crate) const NO_SESSION: u32 = u32::MAX;

impl Connection {
    /// A connection that has said nothing yet.
    pub(crate) const fn new(
        conn: ConnId,
        peer: Peer,
        listener: ListenerId,
        opened_at: Mono,
        config_epoch: u16,
    ) -> Self {
        Self {
            generation: conn.generation,
            session: NO_SESSION,
            heard_at: opened_at,
            deadline: None,
            rare: None,
            keep_alive_seconds: 0,
            listener,
            config_epoch,
            receive_quota: 0,
            peer,
            state: State::Greeting,
            version: Version::V311,
            problem_information: true,
            superuser: false,
            is_gone: false,
        }
    }

    /// The box of rare things, made if there is none.
    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives the box back if nothing is in it.
    pub(crate) fn shed_rare(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    /// Whether packets wait in their place.
    pub(crate) fn is_on_hold(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.holds.any())
    }
}

/// What becomes of a packet in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is processed.
    Take,
    /// It stays where it is until the state changes.
    Wait,
    /// It is dropped: the connection is over.
    Ignore,
    /// The connection ends.
    Refuse(Refusal),
}

/// The table: which packet is taken in which state. A server's packets and, before 5.0, AUTH are taken in none.
#[expect(clippy::too_many_lines, reason = "a table is read as a whole")]
pub(crate) const fn rule(state: State, packet: PacketType, version: Version) -> Rule {
    match (state, packet) {
        (State::Greeting, PacketType::Connect)
        | (State::Exchanging, PacketType::Disconnect)
        | (
            State::Connected,
            PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PingReq
            | PacketType::Disconnect,
        ) => Rule::Take,
        (State::Exchanging | State::Connected, PacketType::Auth) => match version {
            Version::V5 => Rule::Take,
            Version::V31 | Version::V311 => Rule::Refuse(Refusal::NotTaken(packet)),
        },
        // [MQTT5-3.1.0-1] [MQTT311-3.1.0-1]
        (
            State::Greeting,
            PacketType::ConnAck
            | PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingReq
            | PacketType::PingResp
            | PacketType::Disconnect
            | PacketType::Auth,
        ) => Rule::Refuse(Refusal::NotConnect),
        // [MQTT5-3.1.0-2] [MQTT311-3.1.0-2]
        (State::Exchanging | State::Connected, PacketType::Connect) => Rule::Refuse(Refusal::SecondConnect),
        // [MQTT5-3.1.2-30]
        (
            State::Exchanging,
            PacketType::ConnAck
            | PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingReq
            | PacketType::PingResp,
        )
        | (
            State::Connected,
            PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp,
        ) => Rule::Refuse(Refusal::NotTaken(packet)),
        (
            State::Authenticating,
            PacketType::Connect
            | PacketType::ConnAck
            | PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingReq
            | PacketType::PingResp
            | PacketType::Disconnect
            | PacketType::Auth,
        ) => Rule::Wait,
        // [MQTT5-3.1.4-6] [MQTT311-3.1.4-5]
        (
            State::Closing,
            PacketType::Connect
            | PacketType::ConnAck
            | PacketType::Publish
            | PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck
            | PacketType::PingReq
            | PacketType::PingResp
            | PacketType::Disconnect
            | PacketType::Auth,
        ) => Rule::Ignore,
    }
}

impl ShardCore {
    /// Does what a packet asks for that its state takes.
    ///
    /// `received` holds its bytes and what follows them, for a CONNECT that has to wait or to move to its home.
    fn take_packet(
        &mut self,
        conn: ConnId,
        packet: &Packet<'_>,
        received: Received<'_>,
        actions: &mut Actions,
    ) {
        match packet {
            Packet::Connect(connect) => self.on_connect(conn, connect, received, actions),
            Packet::Publish(publish) => self.on_publish(conn, publish, actions),
            Packet::PubAck(ack) => self.on_puback(conn, ack, actions),
            Packet::PubRec(ack) => self.on_pubrec(conn, ack, actions),
            Packet::PubRel(ack) => self.on_pubrel(conn, ack, actions),
            Packet::PubComp(ack) => self.on_pubcomp(conn, ack, actions),
            Packet::Subscribe(subscribe) => self.on_subscribe(conn, subscribe, actions),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(conn, unsubscribe, actions),
            // [MQTT5-3.12.4-1] [MQTT311-3.12.4-1]
            Packet::PingReq => self.on_ping(conn, actions),
            Packet::Disconnect(disconnect) => self.on_disconnect(conn, disconnect, actions),
            Packet::Auth(auth) => self.on_auth(conn, auth, actions),
            // Refused by `rule` in every state.
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.refuse(conn, Refusal::NotTaken(packet.packet_type()), actions);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write as _;
    use std::net::SocketAddr;

    use super::*;

    /// A connection that has said nothing.
    pub(crate) fn greeting(generation: u32) -> Connection {
        let peer = Peer::from(SocketAddr::from(([127, 0, 0, 1], 1000)));
        Connection::new(ConnId { slot: 0, generation }, peer, ListenerId(0), Mono(0), 0)
    }

    #[test]
    fn a_connection_is_small() {
        assert_eq!(size_of::<Connection>(), 64);
        assert_eq!(size_of::<Option<Connection>>(), 64, "an empty slot costs no tag");
    }

    #[test]
    fn the_table_is_as_written() {
        // [MQTT5-3.1.0-1] [MQTT5-3.1.0-2] [MQTT5-3.1.2-30] [MQTT5-3.1.4-6] [MQTT5-4.12.0-7] [MQTT5-4.13.1-1]
        // [MQTT311-3.1.0-1] [MQTT311-3.1.0-2] [MQTT311-3.1.4-5] [MQTT311-4.8.0-1]
        let written = include_str!("../../tests/tables/state_packet.snap");
        assert_eq!(table(), written, "\n{}", table());
    }

    /// The whole table as text.
    fn table() -> String {
        let mut text = String::new();
        for version in Version::ALL {
            writeln!(text, "{version:?}").unwrap();
            write!(text, "{:12}", "").unwrap();
            for state in State::ALL {
                write!(text, " {:17}", format!("{state:?}")).unwrap();
            }
            writeln!(text).unwrap();
            for packet in PacketType::ALL {
                write!(text, "{:12}", packet.name()).unwrap();
                for state in State::ALL {
                    write!(text, " {:17}", word(rule(state, packet, version))).unwrap();
                }
                writeln!(text).unwrap();
            }
            writeln!(text).unwrap();
        }
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn word(rule: Rule) -> String {
        match rule {
            Rule::Take => "take".into(),
            Rule::Wait => "wait".into(),
            Rule::Ignore => "ignore".into(),
            Rule::Refuse(refusal) => refusal.counter().name().replace("refused.", "!"),
        }
    }
}

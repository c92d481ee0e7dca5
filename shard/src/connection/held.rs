//! Bytes that were received and cannot be processed yet, and the reasons why a connection's packets wait.
//!
//! Bounds: a packet that is not whole takes what has arrived of it, never what it announced. Before CONNECT is accepted a
//! connection holds [`GREETING_BYTES`] of its own and draws on a pool of the shard beyond. On hold it takes what was on its
//! way when reading was paused.

use super::{Refusal, State};
use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::ids::ConnId;
use crate::limits::{GREETING_BYTES, GREETING_POOL_BYTES, HELD_BYTES};

/// Received bytes that could not be processed yet.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The bytes; the first is the first of a packet.
    pub(crate) bytes: Vec<u8>,
    /// How many of them are drawn from the pool of clients that are not connected.
    pooled_bytes: usize,
}

/// Why packets of a connection wait in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Hold {
    /// A hook decides about the CONNECT.
    Authentication = 1,
    /// A hook decides about a packet.
    Hook = 2,
    /// A lane that the client's messages go to is full.
    Lane = 4,
    /// The client does not read the answers to what it sends.
    Outbound = 8,
    /// The disk, or after a restart another shard, has to be waited for.
    Store = 16,
}

/// The set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holds(u8);

impl Holds {
    /// Whether there is any.
    pub(crate) const fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether this one is among them.
    pub(crate) const fn has(self, hold: Hold) -> bool {
        self.0 & hold as u8 != 0
    }

    /// Adds one.
    const fn add(&mut self, hold: Hold) {
        self.0 |= hold as u8;
    }

    /// Takes one away.
    const fn remove(&mut self, hold: Hold) {
        self.0 &= !(hold as u8);
    }
}

impl ShardCore {
    /// Lets the packets of a connection wait, from the next one on.
    pub(crate) fn hold(&mut self, conn: ConnId, hold: Hold, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let rare = connection.rare_mut();
        rare.holds.add(hold);
        if !std::mem::replace(&mut rare.read_paused, true) {
            actions.list.push(Action::PauseRead { conn });
        }
    }

    /// Takes a reason to wait away. With the last one, the packets go on before the event is over.
    pub(crate) fn release(&mut self, conn: ConnId, hold: Hold) {
        let Some(rare) = self.connections.get_mut(conn).and_then(|connection| connection.rare.as_mut())
        else {
            return;
        };
        let was_on_hold = rare.holds.any();
        rare.holds.remove(hold);
        if was_on_hold && !rare.holds.any() {
            self.released.push_back(conn);
        }
    }

    /// Lets packets go on that wait for room only; `false` if a hook is asked.
    pub(super) fn lift_room_holds(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get_mut(conn) else {
            return false;
        };
        let Some(rare) = &mut connection.rare else {
            return true;
        };
        rare.holds.remove(Hold::Lane);
        rare.holds.remove(Hold::Outbound);
        rare.holds.remove(Hold::Store);
        !rare.holds.any()
    }

    /// Has the edge read again, if it was told not to.
    pub(super) fn resume_read(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if let Some(rare) = &mut connection.rare
            && std::mem::take(&mut rare.read_paused)
        {
            actions.list.push(Action::ResumeRead { conn });
            connection.shed_rare();
        }
    }

    /// Adds bytes to those that are held; ends the connection instead and says `false` if they are too many.
    /// `[MQTT311-4.8.0-2]`
    pub(super) fn keep_aside(&mut self, conn: ConnId, bytes: &[u8], actions: &mut Actions) -> bool {
        if bytes.is_empty() {
            return true;
        }
        match self.check_room(conn, bytes.len()) {
            Ok(pooled_bytes) => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    let held = &mut connection.rare_mut().held;
                    self.held_bytes += bytes.len();
                    self.greeting_pool_bytes += pooled_bytes - held.pooled_bytes;
                    held.pooled_bytes = pooled_bytes;
                    held.bytes.extend_from_slice(bytes);
                }
                true
            }
            Err(refusal) => {
                self.refuse(conn, refusal, actions);
                false
            }
        }
    }

    /// How many bytes are drawn from the pool when `more_bytes` are added to what a connection holds.
    fn check_room(&self, conn: ConnId, more_bytes: usize) -> Result<usize, Refusal> {
        let Some(connection) = self.connections.get(conn) else {
            return Ok(0);
        };
        let (held_bytes, pooled_bytes) =
            connection.rare.as_ref().map_or((0, 0), |rare| (rare.held.bytes.len(), rare.held.pooled_bytes));
        let total_bytes = held_bytes + more_bytes;
        if connection.state == State::Connected {
            let packet_bytes_max = self.configs.limits(connection.config_epoch).packet_bytes_max as usize;
            return if total_bytes > packet_bytes_max.saturating_add(HELD_BYTES) {
                Err(Refusal::HeldBytes)
            } else {
                Ok(0)
            };
        }
        let drawn_bytes = total_bytes.saturating_sub(GREETING_BYTES);
        if self.greeting_pool_bytes - pooled_bytes + drawn_bytes > GREETING_POOL_BYTES {
            return Err(Refusal::ConnectMemory);
        }
        Ok(drawn_bytes)
    }

    /// Takes all held bytes out.
    pub(super) fn take_held(&mut self, conn: ConnId) -> Vec<u8> {
        let Some(connection) = self.connections.get_mut(conn) else {
            return Vec::new();
        };
        let Some(rare) = &mut connection.rare else {
            return Vec::new();
        };
        let held = std::mem::take(&mut rare.held);
        self.held_bytes -= held.bytes.len();
        self.greeting_pool_bytes -= held.pooled_bytes;
        connection.shed_rare();
        held.bytes
    }

    /// Puts bytes back that were taken out and are not processed.
    pub(super) fn put_back_held(&mut self, conn: ConnId, bytes: Vec<u8>, actions: &mut Actions) {
        if bytes.is_empty() {
            return;
        }
        match self.check_room(conn, bytes.len()) {
            Ok(pooled_bytes) => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    self.held_bytes += bytes.len();
                    self.greeting_pool_bytes += pooled_bytes;
                    connection.rare_mut().held = Held { bytes, pooled_bytes };
                }
            }
            Err(refusal) => self.refuse(conn, refusal, actions),
        }
    }

    /// What a connection holds no longer counts against the pool: it is connected.
    pub(super) fn leave_pool(&mut self, conn: ConnId) {
        if let Some(rare) = self.connections.get_mut(conn).and_then(|connection| connection.rare.as_mut()) {
            self.greeting_pool_bytes -= std::mem::take(&mut rare.held.pooled_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use dunlin_wire::packet::{Connect, Packet, Will};
    use dunlin_wire::types::Version;

    use super::*;
    use crate::hooks::{Accepted, Answer, AuthOutcome, HookOutcome};
    use crate::limits::CONNECT_BYTES_MAX;
    use crate::metrics::Counter;
    use crate::testing::mechanism::Script;
    use crate::testing::{World, connect};

    fn encoded(packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes).unwrap();
        bytes
    }

    fn large_connect(payload: &[u8]) -> Vec<u8> {
        let will = Will { topic: "w", payload, ..Will::default() };
        encoded(&Packet::Connect(Connect { will: Some(will), ..connect(Version::V5, "c") }))
    }

    #[test]
    fn the_same_packets_come_out_of_any_chunks() {
        let mut bytes = large_connect(&[b'x'; 300]);
        for _ in 0..3 {
            bytes.extend(encoded(&Packet::PingReq));
        }
        for chunk in [1, 2, 3, 7, 100, 299, bytes.len()] {
            let mut world = World::new();
            let client = world.open();
            for part in bytes.chunks(chunk) {
                world.raw(client, part);
            }
            let mut heard = world.heard(client);
            heard.read_as(Version::V5);
            assert_eq!(heard.packets().len(), 4, "chunks of {chunk}");
            assert_eq!(world.core().held_bytes, 0);
            let connection = world.conn(client);
            assert!(world.core().connections.get(connection).unwrap().rare.is_none(), "nothing rare is left");
        }
    }

    #[test]
    fn only_what_arrived_is_held() {
        // A CONNECT that announces 300 KB and sends 9 bytes.
        let mut world = World::new();
        let client = world.open();
        world.raw(client, b"\x10\x80\xA0\x12\x00\x04MQT");
        assert!(!world.is_closed(client));
        let conn = world.conn(client);
        let held = &world.core().connections.get(conn).unwrap().rare.as_ref().unwrap().held;
        assert_eq!(held.bytes.len(), 9);
        assert!(held.bytes.capacity() <= 64);
        assert_eq!(world.core().gauges().held_bytes, 9);
        world.drop_client(client);
        assert_eq!(world.core().gauges().held_bytes, 0);
    }

    #[test]
    fn a_connect_above_the_limit_is_refused_before_it_is_waited_for() {
        let mut world = World::new();
        let client = world.open();
        let too_long = CONNECT_BYTES_MAX;
        let length = [too_long & 0x7F | 0x80, too_long >> 7 & 0x7F | 0x80, too_long >> 14];
        let mut bytes = vec![0x10];
        bytes.extend(length.map(|byte| u8::try_from(byte).unwrap()));
        world.raw(client, &bytes);
        assert!(world.is_closed(client));
        assert_eq!(world.core().metrics().get(Counter::RefusedMalformed), 1);
    }

    #[test]
    fn large_connects_share_a_pool() {
        // [MQTT311-4.8.0-2]
        let bytes = large_connect(&[b'x'; 60_000]);
        let part = &bytes[..bytes.len() - 1];
        let mut world = World::new();
        let fit = GREETING_POOL_BYTES / (part.len() - GREETING_BYTES);
        let clients: Vec<_> = (0..=fit).map(|_| world.open()).collect();
        for client in &clients {
            world.raw(*client, part);
        }
        assert_eq!(clients.iter().filter(|client| world.is_closed(**client)).count(), 1);
        assert_eq!(world.core().metrics().get(Counter::RefusedConnectMemory), 1);
        // Those that fit go on, and what they held is given back.
        world.raw(clients[0], &bytes[bytes.len() - 1..]);
        let mut heard = world.heard(clients[0]);
        heard.read_as(Version::V5);
        assert!(!heard.connack().code.is_error());
        for client in clients {
            world.drop_client(client);
        }
        assert_eq!((world.core().greeting_pool_bytes, world.core().held_bytes), (0, 0));
    }

    #[test]
    fn packets_wait_in_order_while_a_hook_thinks() {
        let (script, hooks) = Script::new(false);
        script.auth(Answer::Pending);
        let mut world = World::with_hooks(crate::config::Mqtt::default(), hooks);
        let client = world.open();
        let mut bytes = encoded(&Packet::Connect(connect(Version::V5, "c")));
        bytes.extend(encoded(&Packet::PingReq));
        bytes.push(0xC0);
        world.raw(client, &bytes);
        assert!(world.is_paused(client) && world.heard(client).is_empty());
        world.raw(client, &[0x00, 0xC0, 0x00, 0xC0]);
        assert!(world.heard(client).is_empty());
        world.hook_done(script.token(), HookOutcome::Auth(AuthOutcome::Accept(Accepted::default())));
        let mut heard = world.heard(client);
        heard.read_as(Version::V5);
        let packets = heard.packets();
        assert!(matches!(packets[0], Packet::ConnAck(_)));
        assert_eq!(packets[1..], [Packet::PingResp; 3]);
        assert!(!world.is_paused(client));
        world.raw(client, &[0x00]);
        assert_eq!(world.heard(client).bytes(), [0xD0, 0x00]);
        assert_eq!(world.core().held_bytes, 0);
    }

    #[test]
    fn a_flood_while_packets_wait_ends_the_connection() {
        let mut world = World::with(crate::config::Mqtt { max_packet_size: 1_000, ..Default::default() });
        let client = world.join(Version::V5, "c");
        let conn = world.conn(client);
        let mut actions = Actions::default();
        world.core().hold(conn, Hold::Lane, &mut actions);
        assert!(matches!(actions.list[..], [Action::PauseRead { .. }]));
        let room = 1_000 + HELD_BYTES;
        world.raw(client, &vec![0xC0; room]);
        assert!(!world.is_closed(client));
        world.raw(client, &[0x00]);
        assert!(world.is_closed(client));
        assert_eq!(world.core().metrics().get(Counter::RefusedHeldBytes), 1);
        assert_eq!(world.core().held_bytes, 0);
    }

    #[test]
    fn reasons_to_wait_add_up() {
        let mut world = World::new();
        let client = world.join(Version::V311, "c");
        let conn = world.conn(client);
        let mut actions = Actions::default();
        world.core().hold(conn, Hold::Lane, &mut actions);
        world.core().hold(conn, Hold::Hook, &mut actions);
        assert_eq!(actions.list.len(), 1, "reading is paused once");
        world.core().release(conn, Hold::Lane);
        assert!(world.core().released.is_empty());
        world.core().release(conn, Hold::Hook);
        world.core().release(conn, Hold::Hook);
        assert_eq!(world.core().released.len(), 1);
    }

    #[test]
    fn a_client_that_reads_no_answers_is_not_read_either() {
        let mut world = World::with(crate::config::Mqtt { outbound_bytes_high: 1_000, ..Default::default() });
        let mut waiting = connect(Version::V5, "c");
        waiting.keep_alive_seconds = 10;
        let (client, _) = world.connect(&waiting);
        world.clog(client, true);
        for _ in 0..1_001 {
            world.send(client, &Packet::PingReq);
        }
        assert!(world.is_paused(client));
        world.send(client, &Packet::PingReq);
        assert_eq!(world.heard(client).bytes().len(), 2_002, "what came later waits");
        world.clog(client, false);
        assert!(!world.is_paused(client));
        assert_eq!(world.heard(client).bytes().len(), 2);
        // It never reads again: silence ends it although it was this side that stopped reading.
        world.clog(client, true);
        for _ in 0..1_001 {
            world.send(client, &Packet::PingReq);
        }
        world.advance(14);
        assert!(!world.is_closed(client));
        world.advance(2);
        assert!(world.is_closed(client));
    }

    #[test]
    fn what_waited_for_room_counts_even_if_its_sender_has_gone() {
        // [MQTT5-3.14.4-3] [MQTT311-3.14.4-3]
        for (hold, unprocessed_bytes, wills) in
            [(Hold::Lane, 1, 0), (Hold::Outbound, 1, 0), (Hold::Hook, 5, 1)]
        {
            let mut world = World::new();
            let will = Will { topic: "w", ..Will::default() };
            let client = world.connect(&Connect { will: Some(will), ..connect(Version::V311, "c") }).0;
            let conn = world.conn(client);
            world.core().hold(conn, hold, &mut Actions::default());
            world.raw(client, b"\xC0\x00\xE0\x00\xC0");
            world.drop_client(client);
            let core = world.core();
            assert_eq!(core.metrics().get(Counter::ConnectionsUnprocessedBytes), unprocessed_bytes);
            assert_eq!(core.metrics().get(Counter::WillPublished), wills);
            assert_eq!(core.metrics().get(Counter::ConnectionsPeerClosed), 1);
            assert_eq!((core.held_bytes, core.gauges().connections), (0, 0));
        }
    }
}

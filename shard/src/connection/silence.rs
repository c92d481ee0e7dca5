//! Silence: no CONNECT in time, or none of a connected client's packets for too long.

use std::num::NonZeroU16;

use super::held::Hold;
use super::keepalive::{KeepAlive, Verdict};
use super::{Connection, Ending, NO_SESSION, Refusal, State};
use crate::action::{Action, Actions, Arrival};
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::ids::{ConnId, ListenerId};
use crate::metrics::Counter;
use crate::peer::Peer;
use crate::time::Mono;

impl ShardCore {
    /// A socket was accepted here.
    pub(crate) fn on_opened(
        &mut self,
        conn: ConnId,
        peer: Peer,
        listener: ListenerId,
        actions: &mut Actions,
    ) {
        self.metrics.count(Counter::ConnectionsOpened);
        if !self.has_budget(peer) {
            actions.list.push(Action::Close { conn, flush: false });
            return;
        }
        self.begin_connection(conn, peer, listener, self.now.mono, actions);
    }

    /// A connection came home.
    pub(crate) fn on_arrived(&mut self, conn: ConnId, arrival: Arrival, actions: &mut Actions) {
        self.metrics.count(Counter::ConnectionsArrived);
        self.begin_connection(conn, arrival.peer, arrival.listener, arrival.opened_at, actions);
        if !arrival.unread.is_empty() {
            self.take_bytes(conn, &arrival.unread, actions);
        }
    }

    fn begin_connection(
        &mut self,
        conn: ConnId,
        peer: Peer,
        listener: ListenerId,
        opened_at: Mono,
        actions: &mut Actions,
    ) {
        if self.stopping.is_some() {
            self.metrics.count(Counter::EndedStopping);
            actions.list.push(Action::Close { conn, flush: false });
            return;
        }
        let epoch = self.configs.enter();
        let connection = Connection::new(conn, peer, listener, opened_at, epoch);
        if self.connections.insert(conn, connection).is_err() {
            // The edge names a slot that is in use: the old use goes on, the new one is not known.
            self.configs.leave(epoch);
            self.metrics.count(Counter::EventsLate);
            return;
        }
        self.arm_connection(conn, opened_at.plus_ms(self.configs.current().idle_timeout_ms));
        self.note_greeting(conn, actions);
        if self.is_restoring() {
            self.hold_early(conn, actions);
        }
    }

    /// The peer or the network ended a connection.
    ///
    /// [MQTT5-3.1.2-8]: without a DISCONNECT the Will is published.
    pub(crate) fn on_closed(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            self.metrics.count(Counter::EventsLate);
            return;
        };
        connection.is_gone = true;
        let waits_for_connack = connection.state == State::Authenticating && connection.session != NO_SESSION;
        if connection.is_on_hold() {
            if waits_for_connack {
                // Its session has begun, so its last packets count although its CONNACK was not on the disk in time.
                self.begin_connected(conn);
            }
            self.take_last_packets(conn, actions);
        }
        self.begin_closing(conn, Ending::Gone);
    }

    /// A client has had its time to connect, or may have been silent for too long.
    pub(crate) fn on_connection_due(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.deadline = None;
        match connection.state {
            State::Greeting | State::Authenticating | State::Exchanging => {
                self.refuse(conn, Refusal::ConnectTimeout, actions);
            }
            State::Connected => self.check_silence(conn, actions),
            State::Closing => {}
        }
    }

    /// Begins to watch the silence of a client that is connected now.
    pub(super) fn watch_silence(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if let Some(key) = connection.deadline.take() {
            self.deadlines.cancel(key, Due::Connection(conn.slot));
        }
        if let Some(watch) = self.keep_alive(conn) {
            self.arm_connection(conn, watch.expires_at());
        }
    }

    /// [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]: no packet within one and a half times the Keep Alive closes the connection as
    /// a failure of the network would.
    fn check_silence(&mut self, conn: ConnId, actions: &mut Actions) {
        let now = self.now.mono;
        if let Some(connection) = self.connections.get_mut(conn)
            && connection
                .rare
                .as_ref()
                .is_some_and(|rare| rare.holds.any() && !rare.holds.has(Hold::Outbound))
        {
            // It may have sent what this side does not read.
            connection.heard_at = now;
        }
        match self.keep_alive(conn).map(|watch| watch.check(now)) {
            Some(Verdict::Expire) => self.refuse(conn, Refusal::KeepAlive, actions),
            Some(Verdict::Recheck { at }) => self.arm_connection(conn, at),
            None => {}
        }
    }

    fn arm_connection(&mut self, conn: ConnId, at: Mono) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.deadline = Some(self.deadlines.arm(at, Due::Connection(conn.slot)));
        }
    }

    /// The silence watch of a connection; none with a Keep Alive of 0. `[MQTT5-3.2.2-22]`
    fn keep_alive(&self, conn: ConnId) -> Option<KeepAlive> {
        let connection = self.connections.get(conn)?;
        let seconds = NonZeroU16::new(connection.keep_alive_seconds)?;
        let percent = self.configs.mqtt(connection.config_epoch).keepalive_multiplier_percent;
        Some(KeepAlive::new(seconds, percent, connection.heard_at))
    }
}

#[cfg(test)]
mod tests {
    use dunlin_wire::packet::{Connect, Packet};
    use dunlin_wire::reason::ReasonCode;
    use dunlin_wire::types::Version;

    use super::*;
    use crate::config::Mqtt;
    use crate::testing::{World, connect};

    fn keeping(version: Version, seconds: u16) -> Connect<'static> {
        Connect { keep_alive_seconds: seconds, ..connect(version, "c") }
    }

    #[test]
    fn a_connect_has_its_time_and_no_more() {
        let mut world = World::new();
        let silent = world.open();
        let slow = world.open();
        let done = world.join(Version::V311, "done");
        for byte in b"\x10\x0C\x00\x04MQTT\x04" {
            world.raw(slow, &[*byte]);
            world.advance_ms(1_500);
        }
        world.advance_ms(1_400);
        assert!(!world.is_closed(silent) && !world.is_closed(slow));
        world.advance_ms(200);
        assert!(world.is_closed(silent) && world.is_closed(slow), "bytes alone buy no time");
        assert!(world.heard(silent).is_empty() && !world.is_closed(done));
        assert_eq!(world.core().metrics().get(Counter::RefusedConnectTimeout), 2);
    }

    #[test]
    fn silence_of_one_and_a_half_keep_alives_closes() {
        // [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]
        for version in Version::ALL {
            let mut world = World::new();
            let (client, _) = world.connect(&keeping(version, 10));
            for _ in 0..5 {
                world.advance(14);
                world.send(client, &Packet::PingReq);
            }
            world.heard(client);
            world.advance_ms(14_900);
            assert!(!world.is_closed(client));
            world.advance_ms(200);
            assert!(world.is_closed(client));
            let heard = world.heard(client);
            if version.is_v5() {
                assert!(
                    matches!(heard.only(), Packet::Disconnect(d) if d.code == ReasonCode::KeepAliveTimeout)
                );
            } else {
                assert!(heard.is_empty());
            }
            assert_eq!(world.core().metrics().get(Counter::EndedKeepAlive), 1);
        }
    }

    #[test]
    fn a_keep_alive_of_zero_is_patient() {
        let mut world = World::new();
        let (client, _) = world.connect(&keeping(Version::V5, 0));
        world.advance(10_000_000);
        assert!(!world.is_closed(client));
        assert_eq!(world.core().next_deadline(), None);
    }

    #[test]
    fn the_server_may_impose_its_keep_alive_on_5_0() {
        // [MQTT5-3.2.2-22]
        for (version, closes_after) in [(Version::V5, 6), (Version::V311, 15)] {
            let mut world = World::with(Mqtt { server_keepalive: Some(4), ..Mqtt::default() });
            let (client, _) = world.connect(&keeping(version, 10));
            world.advance_ms(closes_after * 1_000 - 100);
            assert!(!world.is_closed(client));
            world.advance_ms(200);
            assert!(world.is_closed(client));
        }
    }

    #[test]
    fn waiting_for_the_server_is_not_silence() {
        let mut world = World::new();
        let (client, _) = world.connect(&keeping(Version::V5, 10));
        let conn = world.conn(client);
        world.core().hold(conn, Hold::Lane, &mut Actions::default());
        world.advance(100);
        assert!(!world.is_closed(client));
        world.core().release(conn, Hold::Lane);
        world.core().released.clear();
        world.advance(40);
        assert!(world.is_closed(client));
    }

    #[test]
    fn nothing_is_left_of_connections_that_went() {
        let mut world = World::new();
        for n in 0..50 {
            let client = world.open();
            if n % 2 == 0 {
                world.send(client, &Packet::Connect(keeping(Version::V5, 60_000)));
            }
            world.drop_client(client);
        }
        assert_eq!(world.core().next_deadline(), None, "deadlines are taken back");
        let gauges = world.core().gauges();
        assert_eq!((gauges.connections, gauges.live_connections, gauges.sessions), (0, 0, 0));
    }

    #[test]
    fn late_events_are_counted_and_harmless() {
        let mut world = World::new();
        let client = world.join(Version::V5, "c");
        let conn = world.conn(client);
        world.drop_client(client);
        let shard = crate::ids::ShardId(0);
        world.handle(shard, crate::Event::Closed { conn });
        world.handle(shard, crate::Event::Bytes { conn, bytes: b"\xC0\x00" });
        world.handle(shard, crate::Event::Sent { conn, bytes: 4 });
        assert_eq!(world.core().metrics().get(Counter::EventsLate), 3);
    }
}

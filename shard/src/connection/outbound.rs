//! What leaves a connection: packets into the arena, and the end of the connection.

use dunlin_persist::Record;
use dunlin_wire::packet::{ConnAck, ConnAckProperties, Disconnect, DisconnectProperties, Packet};
use dunlin_wire::reason::ReasonCode;

use super::held::Hold;
use super::refusal::Farewell;
use super::{NO_SESSION, Refusal, State};
use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::hooks::{LastWords, SessionEvent};
use crate::ids::{ConnId, SessionId};
use crate::metrics::Counter;
use crate::session::expiry::capped;
use crate::time::Past;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The peer or the network ended it; the edge knows.
    Gone,
    /// The client said goodbye with this reason.
    Left(ReasonCode),
    /// This side ended it.
    Refused(Refusal),
}

impl Ending {
    /// What is told to the session hook.
    const fn reason(self) -> ReasonCode {
        match self {
            Self::Gone => ReasonCode::UnspecifiedError,
            Self::Left(code) => code,
            Self::Refused(refusal) => refusal.reason(),
        }
    }
}

impl ShardCore {
    /// Sends a packet, unless the client does not take packets of its size. `[MQTT5-3.1.2-24]`
    ///
    /// Tells whether it was sent. Nothing is sent to a connection that is closing. `[MQTT5-3.14.4-1]`
    pub(crate) fn send_packet(&mut self, conn: ConnId, packet: &Packet<'_>, actions: &mut Actions) -> bool {
        let Some(connection) = self.connections.get(conn) else {
            return false;
        };
        if connection.state == State::Closing {
            return false;
        }
        let version = connection.version;
        let packet_bytes_max = self.packet_bytes_max(conn);
        let start = actions.mark();
        if packet.encode_fitting(version, packet_bytes_max, &mut actions.arena).is_err() {
            return false;
        }
        let bytes = actions.mark() - start;
        actions.send_from(conn, start);
        self.metrics.count_sent(packet.packet_type());
        self.account_sent(conn, bytes);
        self.hold_if_unread(conn, actions);
        true
    }

    /// Lets the packets of a client wait that does not read the answers to them, so that what waits for it stays bounded.
    /// Messages alone never come this far: above `outbound_bytes_high` they stay in the queue.
    fn hold_if_unread(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        let bytes_high = self.configs.mqtt(connection.config_epoch).outbound_bytes_high;
        let unsent_bytes =
            self.sessions.at(connection.session).map_or(0, |session| session.link.unsent_bytes);
        if unsent_bytes > bytes_high.saturating_mul(2) {
            self.hold(conn, Hold::Outbound, actions);
        }
    }

    /// Counts bytes that were handed to the edge for a connection, until [`crate::Event::Sent`] says that they left.
    pub(crate) fn account_sent(&mut self, conn: ConnId, bytes: u32) {
        self.metrics.add(Counter::BytesSent, u64::from(bytes));
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if connection.session == NO_SESSION {
            let early = &mut connection.rare_mut().sent_early_bytes;
            *early = early.saturating_add(bytes);
        } else if let Some(session) = self.sessions.at_mut(connection.session) {
            session.link.unsent_bytes = session.link.unsent_bytes.saturating_add(bytes);
        }
    }

    /// The socket took bytes.
    pub(crate) fn on_bytes_sent(&mut self, conn: ConnId, bytes: u32, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            self.metrics.count(Counter::EventsLate);
            return;
        };
        if connection.session == NO_SESSION {
            if let Some(rare) = &mut connection.rare {
                rare.sent_early_bytes = rare.sent_early_bytes.saturating_sub(bytes);
                connection.shed_rare();
            }
            return;
        }
        let index = connection.session;
        let is_held = connection.rare.as_ref().is_some_and(|rare| rare.holds.has(Hold::Outbound));
        if is_held {
            // It reads again, so it lives.
            connection.heard_at = self.now.mono;
        }
        let bytes_high = self.configs.mqtt(connection.config_epoch).outbound_bytes_high;
        let Some(session) = self.sessions.at_mut(index) else {
            return;
        };
        session.link.unsent_bytes = session.link.unsent_bytes.saturating_sub(bytes);
        if is_held && session.link.unsent_bytes <= bytes_high {
            self.release(conn, Hold::Outbound);
        }
        if let Some(id) = self.sessions.id_at(index) {
            self.on_sent(conn, id, actions);
        }
    }

    /// A client shows that it lives.
    pub(super) fn on_ping(&mut self, conn: ConnId, actions: &mut Actions) {
        self.metrics.count(Counter::ClientPing);
        // [MQTT5-3.12.4-1] [MQTT311-3.12.4-1]
        self.send_packet(conn, &Packet::PingResp, actions);
    }

    /// A client says goodbye.
    pub(super) fn on_disconnect(&mut self, conn: ConnId, disconnect: &Disconnect<'_>, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        let mqtt = self.configs.mqtt(connection.config_epoch);
        if connection.session != NO_SESSION
            && let Some(session) = self.sessions.at_mut(connection.session)
        {
            if let Some(seconds) = disconnect.properties.session_expiry_interval {
                // §MQTT5 3.14.2.2.2: what ends with the connection cannot be kept after all.
                if session.expiry_seconds == 0 && seconds > 0 {
                    self.refuse(conn, Refusal::SessionExpiry, actions);
                    return;
                }
                session.expiry_seconds = capped(seconds, mqtt);
            }
            // [MQTT5-3.14.4-3] [MQTT311-3.14.4-3] [MQTT5-3.1.2-10] [MQTT311-3.1.2-10]
            if disconnect.code == ReasonCode::NORMAL_DISCONNECTION && session.take_will().is_some() {
                self.metrics.count(Counter::WillRemoved);
            }
        }
        if self.hooks.session.is_some()
            && let Some(words) = LastWords::of(&disconnect.properties)
            && let Some(connection) = self.connections.get_mut(conn)
        {
            connection.rare_mut().last_words = Some(words);
        }
        self.begin_closing(conn, Ending::Left(disconnect.code));
    }

    /// Ends a connection that broke a rule of publishing, subscribing or acknowledging.
    pub(crate) fn disconnect(&mut self, conn: ConnId, code: ReasonCode, actions: &mut Actions) {
        self.refuse(conn, Refusal::Protocol(code), actions);
    }

    /// Says the last word to a peer and ends its connection before the event is over.
    ///
    /// [MQTT5-3.14.4-2] [MQTT5-4.13.2-1] [MQTT5-3.2.2-7] [MQTT311-3.2.2-5]: what is refused is closed.
    pub(crate) fn refuse(&mut self, conn: ConnId, refusal: Refusal, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        let farewell = match connection.state {
            State::Closing => return,
            State::Greeting | State::Authenticating | State::Exchanging => {
                Farewell::before_connack(connection.version, refusal)
            }
            State::Connected => Farewell::when_connected(connection.version, refusal),
        };
        self.metrics.count(refusal.counter());
        self.metrics.count_ended(refusal.reason());
        // [MQTT5-3.1.2-29]: CONNACK and DISCONNECT could carry one even so, but who asks for none gets none.
        let reason_string = connection.problem_information.then(|| refusal.text());
        match farewell {
            Farewell::Silence => {}
            Farewell::ConnAck(code) => {
                self.metrics.count(Counter::ConnackError);
                if matches!(refusal, Refusal::Authentication(_) | Refusal::AuthenticationMethod) {
                    self.metrics.count(Counter::ConnackAuthError);
                }
                // [MQTT5-3.2.2-6] [MQTT311-3.2.2-4]: Session Present is 0.
                let properties = ConnAckProperties { reason_string, ..ConnAckProperties::default() };
                let connack = ConnAck { session_present: false, code, properties };
                self.send_packet(conn, &Packet::ConnAck(connack), actions);
            }
            // [MQTT5-3.14.2-2]: without a Session Expiry Interval.
            Farewell::Disconnect(code) => {
                let properties = DisconnectProperties { reason_string, ..DisconnectProperties::default() };
                self.send_packet(conn, &Packet::Disconnect(Disconnect { code, properties }), actions);
            }
        }
        self.begin_closing(conn, Ending::Refused(refusal));
    }

    /// From now on nothing is taken from a connection and nothing is sent to it.
    pub(crate) fn begin_closing(&mut self, conn: ConnId, ending: Ending) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if connection.state == State::Closing {
            return;
        }
        if connection.state == State::Connected {
            self.live_count -= 1;
        }
        connection.state = State::Closing;
        if connection.session != NO_SESSION
            && let Some(session) = self.sessions.at_mut(connection.session)
        {
            session.link.cut();
        }
        self.closing.push_back((conn, ending));
    }

    /// Forgets a connection that is closing, and lets its session go on without it or end.
    pub(crate) fn finish_closing(&mut self, conn: ConnId, ending: Ending, actions: &mut Actions) {
        self.take_held(conn);
        let Some(connection) = self.connections.remove(conn) else {
            return;
        };
        if let Some(key) = connection.deadline {
            self.deadlines.cancel(key, Due::Connection(conn.slot));
        }
        self.configs.leave(connection.config_epoch);
        let (exchange, last_words) =
            connection.rare.map_or((None, None), |rare| (rare.exchange, rare.last_words));
        if let Some(exchange) = exchange {
            self.forget_exchange(&exchange);
        }
        self.metrics.count(Counter::ConnectionsClosed);
        if connection.is_gone {
            self.metrics.count(Counter::ConnectionsPeerClosed);
        } else {
            actions.list.push(Action::Close { conn, flush: true });
        }
        if connection.session != NO_SESSION
            && let Some(session) = self.sessions.id_at(connection.session)
        {
            if let (Some(hook), Some(entry)) = (&mut self.hooks.session, self.sessions.get(session)) {
                hook.observe(&SessionEvent::Disconnected {
                    client_id: &entry.client_id,
                    peer: connection.peer,
                    listener: connection.listener,
                    version: connection.version,
                    reason: ending.reason(),
                    last_words: last_words.as_deref(),
                });
            }
            self.detach(session, actions);
        }
    }

    /// A session has lost its connection.
    fn detach(&mut self, id: SessionId, actions: &mut Actions) {
        let now = self.now.mono;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.detached_at = Past::of(now);
        let expiry_seconds = session.expiry_seconds;
        let will_delay = session.will().map(|will| will.delay_seconds);
        self.metrics.count(Counter::ClientDisconnected);
        if self.durable.is_on() {
            self.record_detached(id, actions);
        }
        self.on_session_detached(id, actions);
        if expiry_seconds == 0 {
            // [MQTT5-4.1.0-2] [MQTT311-3.1.2-6]
            self.end_session(id, actions);
            return;
        }
        match will_delay {
            // [MQTT5-3.1.2-8] [MQTT311-3.1.2-8]
            Some(0) => self.release_will(id),
            Some(_) => self.metrics.count(Counter::WillDelayed),
            None => {}
        }
        self.arm_session(id);
    }

    /// Records that a durable session goes on alone.
    fn record_detached(&mut self, id: SessionId, actions: &mut Actions) {
        let Some(session) = self.sessions.get(id) else { return };
        let (Some(number), expiry_seconds) = (session.number(), session.expiry_seconds) else { return };
        let keeps_will = session.will().is_some() || self.durable.owed_will(number).is_some();
        if expiry_seconds > 0 {
            let at_ms = self.now.wall.0;
            let detached = Record::Detached { session: number, at_ms, expiry_seconds, keeps_will };
            self.record(detached, actions);
        }
    }

    /// The largest packet that a client takes.
    fn packet_bytes_max(&self, conn: ConnId) -> u32 {
        let Some(connection) = self.connections.get(conn) else {
            return u32::MAX;
        };
        if connection.session == NO_SESSION {
            let exchange = connection.rare.as_ref().and_then(|rare| rare.exchange.as_ref());
            return exchange.map_or(u32::MAX, |exchange| exchange.packet_bytes_max);
        }
        self.sessions.at(connection.session).map_or(u32::MAX, |session| session.link.packet_bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use dunlin_wire::types::Version;

    use super::*;
    use crate::config::Mqtt;
    use crate::testing::{World, connect};

    #[test]
    fn a_packet_above_the_limit_ends_the_connection_before_it_has_come() {
        // [MQTT5-3.2.2-15] [MQTT5-3.14.2-1] [MQTT5-4.13.1-1] [MQTT5-4.13.2-1] [MQTT311-4.8.0-1]
        for version in Version::ALL {
            let mut world = World::with(Mqtt { max_packet_size: 200, ..Mqtt::default() });
            let client = world.join(version, "c");
            world.raw(client, &[0x30, 0xC6, 0x01]);
            assert!(world.is_closed(client));
            let heard = world.heard(client);
            if version.is_v5() {
                assert!(
                    matches!(heard.only(), Packet::Disconnect(d) if d.code == ReasonCode::PacketTooLarge)
                );
            } else {
                assert!(heard.is_empty());
            }
        }
    }

    #[test]
    fn reasons_in_words_are_for_those_who_want_them() {
        // [MQTT5-3.1.2-29] [MQTT5-3.14.2-2] [MQTT5-3.14.2-3] [MQTT5-3.2.2-19]
        for (wanted, packet_bytes_max, expected) in [
            (None, 100, Some("packet not taken in this state")),
            (Some(true), 100, Some("packet not taken in this state")),
            (Some(false), 100, None),
            (None, 12, None),
        ] {
            let mut world =
                World::with(Mqtt { receive_maximum: u16::MAX, max_topic_alias: 0, ..Mqtt::default() });
            let mut asking = connect(Version::V5, "c");
            asking.properties.request_problem_information = wanted;
            asking.properties.maximum_packet_size = std::num::NonZeroU32::new(packet_bytes_max);
            let (client, _) = world.connect(&asking);
            world.send(client, &Packet::PingResp);
            let heard = world.heard(client);
            let Packet::Disconnect(disconnect) = heard.only() else { panic!("{heard:?}") };
            assert_eq!(disconnect.code, ReasonCode::ProtocolError);
            let mut bytes = Vec::new();
            Packet::Disconnect(disconnect).encode(Version::V5, &mut bytes).unwrap();
            assert!(bytes.len() <= packet_bytes_max as usize);
            assert_eq!(disconnect.properties.reason_string, expected);
            assert_eq!(disconnect.properties.session_expiry_interval, None);
        }
    }

    #[test]
    fn nothing_follows_a_goodbye() {
        // [MQTT5-3.14.4-1] [MQTT5-3.14.4-2] [MQTT5-3.1.4-6]
        let mut world = World::new();
        let client = world.join(Version::V5, "c");
        world.raw(client, b"\xD0\x00\xC0\x00\xC0\x00");
        assert!(world.is_closed(client));
        assert!(matches!(world.heard(client).only(), Packet::Disconnect(_)));
        assert_eq!(world.core().metrics().get(Counter::PingreqReceived), 0);
    }

    #[test]
    fn unsent_bytes_are_known() {
        let mut world = World::new();
        let client = world.join(Version::V311, "c");
        world.clog(client, true);
        for _ in 0..10 {
            world.send(client, &Packet::PingReq);
        }
        let session = world.core().sessions.find("c").unwrap();
        assert_eq!(world.core().sessions.get(session).unwrap().link.unsent_bytes, 20);
        world.clog(client, false);
        assert_eq!(world.core().sessions.get(session).unwrap().link.unsent_bytes, 0);
        let metrics = world.core().metrics();
        assert_eq!(metrics.get(Counter::PingrespSent), 10);
        assert_eq!(metrics.get(Counter::BytesSent), 24);
    }
}

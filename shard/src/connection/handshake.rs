//! CONNECT and CONNACK (§3.1, §3.2): who is it, where is its home, what is promised to it.

use std::num::{NonZeroU16, NonZeroU32};

use dunlin_persist::{Record, record};
use dunlin_wire::packet::{ConnAck, ConnAckProperties, Connect, Packet};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{PacketType, QoS, Version};

use super::decode::Received;
use super::{Hold, Refusal, State};
use crate::action::{Action, Actions, Arrival};
use crate::config::Mqtt;
use crate::core::ShardCore;
use crate::deadlines::Due;
use crate::durable::{Owed, Promise, will_record};
use crate::hooks::{Accepted, SessionEvent};
use crate::ids::{ConnId, SessionId, ShardId};
use crate::limits::CLIENT_ID_DRAWS_PER_SHARD;
use crate::metrics::Counter;
use crate::session::expiry::granted_seconds;
use crate::session::will::Will;
use crate::session::{Link, Session};

impl ShardCore {
    /// A client asks to connect.
    pub(super) fn on_connect(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        received: Received<'_>,
        actions: &mut Actions,
    ) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        connection.version = connect.version;
        connection.problem_information = connect.properties.request_problem_information.unwrap_or(true);
        if self.stopping.is_some() {
            self.refuse(conn, Refusal::Stopping, actions);
            return;
        }
        let mqtt = self.configs.mqtt(connection.config_epoch);
        if let Err(refusal) = check(connect, mqtt) {
            self.refuse(conn, refusal, actions);
            return;
        }
        if connect.client_id.is_empty() {
            let Some(client_id) = self.draw_client_id() else {
                self.refuse(conn, Refusal::ConnectMemory, actions);
                return;
            };
            self.authenticate(conn, connect, &client_id, received.packet, actions);
            return;
        }
        let home = crate::home::shard_of_client(connect.client_id, self.shard_count);
        if home == self.shard {
            self.authenticate(conn, connect, connect.client_id, received.packet, actions);
        } else {
            self.hand_off(conn, home, received.to_unread(), actions);
        }
    }

    /// Sends a connection to its home and forgets it.
    fn hand_off(&mut self, conn: ConnId, to: ShardId, unread: Vec<u8>, actions: &mut Actions) {
        self.take_held(conn);
        let Some(connection) = self.connections.remove(conn) else {
            return;
        };
        if let Some(key) = connection.deadline {
            self.deadlines.cancel(key, Due::Connection(conn.slot));
        }
        self.configs.leave(connection.config_epoch);
        self.metrics.count(Counter::ConnectionsHandedOff);
        // While it greets, the time it was last heard is that of its opening.
        let arrival = Arrival {
            peer: connection.peer,
            listener: connection.listener,
            opened_at: connection.heard_at,
            unread,
        };
        actions.list.push(Action::Handoff { conn, to, arrival: Box::new(arrival) });
    }

    /// A client id that nobody has and whose home is here. `[MQTT5-3.1.3-6]` `[MQTT5-3.2.2-16]` `[MQTT311-3.1.3-6]`
    fn draw_client_id(&mut self) -> Option<String> {
        (0..CLIENT_ID_DRAWS_PER_SHARD * u32::from(self.shard_count)).find_map(|_| {
            let client_id = format!("dunlin-{:016x}{:016x}", self.random.next_u64(), self.random.next_u64());
            let is_home = crate::home::shard_of_client(&client_id, self.shard_count) == self.shard;
            (is_home && self.sessions.find(&client_id).is_none()).then_some(client_id)
        })
    }

    /// The client of a CONNECT was accepted: it gets its session and its CONNACK.
    pub(super) fn accept(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
        accepted: &Accepted,
        actions: &mut Actions,
    ) {
        if self.stopping.is_some() {
            self.refuse(conn, Refusal::Stopping, actions);
            return;
        }
        if connect.user_name.is_some() || connect.properties.authentication_method.is_some() {
            self.metrics.count(Counter::AuthenticationSuccess);
        }
        let would_resume = self.would_resume(client_id, connect.clean_start);
        if self.durable.is_on()
            && let Some(refusal) = self.check_durable(conn, connect, would_resume)
        {
            self.refuse(conn, refusal, actions);
            return;
        }
        let recorded = self.durable.appended();
        let start = actions.mark();
        // Written before anything is changed: if the client cannot take it, nothing has happened.
        if !self.write_connack(conn, connect, client_id, (would_resume, accepted), actions) {
            self.refuse(conn, Refusal::AnswerTooLarge, actions);
            return;
        }
        let connack = start..actions.mark();
        let (session, is_resumed) = self.claim_session(client_id, connect.clean_start, actions);
        debug_assert_eq!(would_resume, is_resumed, "CONNACK told the truth");
        self.attach(conn, connect, session, accepted);
        if self.durable.is_on() {
            self.record_attached(session, actions);
            let bytes = actions.arena[connack.start as usize..connack.end as usize].into();
            let appended = self.durable.appended();
            let promise = Promise::of(if appended > recorded { appended } else { 0 });
            self.wait_for_connack(conn, session, actions);
            self.tell_connected(conn, connect, session);
            self.answer(Owed::ConnAck { conn, session, is_resumed, bytes }, promise, actions);
            return;
        }
        self.begin_connected(conn);
        // [MQTT5-3.2.0-1] [MQTT5-3.2.0-2] [MQTT311-3.2.0-1]: nothing was sent to this connection before, but AUTH.
        let bytes = connack.end - connack.start;
        actions.list.push(Action::Send { conn, head: connack, payload: None });
        self.metrics.count_sent(PacketType::ConnAck);
        self.account_sent(conn, bytes);
        self.tell_connected(conn, connect, session);
        if is_resumed {
            self.on_session_resumed(session, actions);
        }
    }

    /// Joins a connection and a session.
    fn attach(&mut self, conn: ConnId, connect: &Connect<'_>, id: SessionId, accepted: &Accepted) {
        let keeps_user_name = self.hooks.authorizer.is_some() || self.hooks.authenticator.is_some();
        self.leave_pool(conn);
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let mqtt = self.configs.mqtt(connection.config_epoch);
        connection.session = id.index;
        connection.superuser = accepted.superuser;
        connection.keep_alive_seconds = keep_alive_seconds(connect, mqtt);
        connection.receive_quota = if connect.version.is_v5() { mqtt.receive_maximum } else { u16::MAX };
        let early_bytes =
            connection.rare.as_mut().map_or(0, |rare| std::mem::take(&mut rare.sent_early_bytes));
        connection.shed_rare();
        let peer = connection.peer;
        let expiry_seconds = granted_seconds(connect, mqtt);
        if let Some(session) = self.sessions.get_mut(id) {
            session.link = link(conn, connect, early_bytes);
            session.expiry_seconds = expiry_seconds;
            // [MQTT5-3.1.2-7] [MQTT311-3.1.2-8] [MQTT311-3.1.2-12]
            let will = connect.will.as_ref().map(|will| Will::of_connect(will, &session.client_id, peer));
            let user_name = connect.user_name.filter(|_| keeps_user_name).map(Into::into);
            session.set_rare(will, user_name);
        }
    }

    /// A client gets its CONNACK in this event: from now on it is connected.
    pub(crate) fn begin_connected(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.state = State::Connected;
            connection.heard_at = self.now.mono;
            self.live_count += 1;
        }
        self.watch_silence(conn);
    }

    /// Whether the disk keeps a client from having a session that outlives its connection. One that is kept already costs no room
    /// to speak of.
    fn check_durable(&self, conn: ConnId, connect: &Connect<'_>, would_resume: bool) -> Option<Refusal> {
        let connection = self.connections.get(conn)?;
        let expiry_seconds = granted_seconds(connect, self.configs.mqtt(connection.config_epoch));
        if self.durable.takes_new() || expiry_seconds == 0 {
            return None;
        }
        if self.durable.has_failed() {
            return Some(Refusal::StoreFailed);
        }
        (!would_resume).then_some(Refusal::StoreFull)
    }

    /// Records what a CONNECT changed in a session that outlives its connection.
    fn record_attached(&mut self, id: SessionId, actions: &mut Actions) {
        let Some(session) = self.sessions.get(id) else { return };
        if session.expiry_seconds == 0 && !session.is_durable() {
            return;
        }
        let Some(number) = self.number_session(id) else { return };
        self.move_owed_will(number, actions);
        let Some(session) = self.sessions.get(id) else { return };
        let attached = record::Attached {
            session: number,
            client_id: session.client_id.clone(),
            user_name: session.user_name().map(Into::into),
            expiry_seconds: session.expiry_seconds,
            will: session.will().map(will_record),
        };
        self.record(Record::Attached(Box::new(attached)), actions);
    }

    /// Packets of a client wait until its CONNACK has been sent, and so do messages for it.
    fn wait_for_connack(&mut self, conn: ConnId, session: SessionId, actions: &mut Actions) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.state = State::Authenticating;
        }
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.link.is_withheld = true;
        }
        self.hold(conn, Hold::Store, actions);
    }

    fn tell_connected(&mut self, conn: ConnId, connect: &Connect<'_>, id: SessionId) {
        self.metrics.count(Counter::ClientConnected);
        self.metrics.count(Counter::ClientConnack);
        let (Some(hook), Some(connection), Some(session)) =
            (&mut self.hooks.session, self.connections.get(conn), self.sessions.get(id))
        else {
            return;
        };
        hook.observe(&SessionEvent::Connected {
            client_id: &session.client_id,
            username: connect.user_name,
            peer: connection.peer,
            listener: connection.listener,
            version: connect.version,
            clean_start: connect.clean_start,
            keep_alive_seconds: connection.keep_alive_seconds,
            expiry_seconds: session.expiry_seconds,
            receive_maximum: connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            properties: &connect.properties,
        });
    }

    /// Writes a CONNACK with success into the arena; `false` if the client takes no packet of its size.
    fn write_connack(
        &self,
        conn: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
        (session_present, accepted): (bool, &Accepted),
        actions: &mut Actions,
    ) -> bool {
        let Some(connection) = self.connections.get(conn) else {
            return false;
        };
        let mqtt = self.configs.mqtt(connection.config_epoch);
        let mut properties = ConnAckProperties::default();
        if connect.version.is_v5() {
            properties = promises(connect, mqtt);
            // [MQTT5-3.1.3-7]
            properties.assigned_client_identifier = connect.client_id.is_empty().then_some(client_id);
            // [MQTT5-4.12.0-5]
            properties.authentication_method = connect.properties.authentication_method;
            properties.authentication_data = properties.authentication_method.and(accepted.data.as_deref());
        }
        // [MQTT5-3.1.4-5] [MQTT5-3.2.2-2] [MQTT5-3.2.2-3] [MQTT311-3.1.4-4] [MQTT311-3.2.2-1] [MQTT311-3.2.2-2]
        // [MQTT311-3.2.2-3]
        let connack = ConnAck { session_present, code: ReasonCode::Success, properties };
        let packet_bytes_max = connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        Packet::ConnAck(connack).encode_within(connect.version, packet_bytes_max, &mut actions.arena).is_ok()
    }
}

impl Session {
    /// Puts the rare things of a CONNECT in place of those of the one before.
    fn set_rare(&mut self, will: Option<Will>, user_name: Option<Box<str>>) {
        let is_stored = self.rare.as_ref().is_some_and(|rare| rare.stored.is_some());
        if will.is_none() && user_name.is_none() && !is_stored {
            self.rare = None;
            return;
        }
        let rare = self.rare.get_or_insert_default();
        rare.will = will;
        rare.user_name = user_name;
    }
}

/// Checks what the decoder leaves to a server.
fn check(connect: &Connect<'_>, mqtt: &Mqtt) -> Result<(), Refusal> {
    if connect.client_id.is_empty() {
        match connect.version {
            Version::V5 => {}
            // [MQTT311-3.1.3-7] [MQTT311-3.1.3-8]: a kept session needs a name that the client knows.
            Version::V311 if connect.clean_start => {}
            Version::V311 | Version::V31 => return Err(Refusal::ClientId),
        }
    }
    connect.will.as_ref().map_or(Ok(()), |will| Will::check(will, mqtt))
}

/// Keep Alive in force. `[MQTT5-3.2.2-22]`
fn keep_alive_seconds(connect: &Connect<'_>, mqtt: &Mqtt) -> u16 {
    match mqtt.server_keepalive {
        // 3.x has no way to tell the client.
        Some(seconds) if connect.version.is_v5() => seconds,
        Some(_) | None => connect.keep_alive_seconds,
    }
}

/// What a delivery needs to know of a client.
fn link(conn: ConnId, connect: &Connect<'_>, early_bytes: u32) -> Link {
    let properties = &connect.properties;
    let mut link = Link::new(conn, connect.version);
    link.unsent_bytes = early_bytes;
    if connect.version.is_v5() {
        link.packet_bytes_max = properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        link.receive_maximum = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        link.topic_alias_maximum = properties.topic_alias_maximum.unwrap_or(0);
    }
    link
}

/// What a server with these settings promises to a 5.0 client (§MQTT5 3.2.2.3). Defaults are left out.
fn promises<'a>(connect: &Connect<'_>, mqtt: &'a Mqtt) -> ConnAckProperties<'a> {
    let asked_expiry = connect.properties.session_expiry_interval.unwrap_or(0);
    let granted_expiry = granted_seconds(connect, mqtt);
    let wants_response_information = connect.properties.request_response_information == Some(true);
    ConnAckProperties {
        session_expiry_interval: (granted_expiry != asked_expiry).then_some(granted_expiry),
        receive_maximum: NonZeroU16::new(mqtt.receive_maximum).filter(|maximum| *maximum != NonZeroU16::MAX),
        // [MQTT5-3.2.2-9]
        maximum_qos: (mqtt.max_qos_allowed < QoS::ExactlyOnce).then_some(mqtt.max_qos_allowed),
        retain_available: (!mqtt.retain_available).then_some(false),
        maximum_packet_size: NonZeroU32::new(mqtt.max_packet_size),
        // [MQTT5-3.2.2-17] [MQTT5-3.2.2-18]: an alias above it ends the connection.
        topic_alias_maximum: (mqtt.max_topic_alias > 0).then_some(mqtt.max_topic_alias),
        wildcard_subscription_available: (!mqtt.wildcard_subscription).then_some(false),
        shared_subscription_available: (!mqtt.shared_subscription).then_some(false),
        server_keep_alive: mqtt.server_keepalive,
        // [MQTT5-3.1.2-28]
        response_information: Some(mqtt.response_information.as_str())
            .filter(|information| wants_response_information && !information.is_empty()),
        ..ConnAckProperties::default()
    }
}

#[cfg(test)]
mod tests {
    use dunlin_wire::packet::{Publish, PublishProperties, Will, WillProperties};

    use super::*;
    use crate::testing::{Client, World, connect};

    fn v5(client_id: &str) -> Connect<'_> {
        connect(Version::V5, client_id)
    }

    fn will(qos: QoS, retain: bool, topic: &str) -> Option<Will<'_>> {
        Some(Will { qos, retain, topic, payload: b"gone", properties: WillProperties::default() })
    }

    fn is_connected(world: &mut World, client: Client) -> bool {
        world.send(client, &Packet::PingReq);
        !world.is_closed(client) && world.heard(client).only() == Packet::PingResp
    }

    #[test]
    fn every_version_is_welcome() {
        // [MQTT5-3.1.4-5] [MQTT5-3.2.0-1] [MQTT5-3.2.0-2] [MQTT5-3.2.2-2] [MQTT311-3.1.4-4] [MQTT311-3.2.0-1]
        // [MQTT311-3.2.2-1] [MQTT5-3.1.3-5] [MQTT311-3.1.3-5] [MQTT5-3.12.4-1] [MQTT311-3.12.4-1]
        for version in Version::ALL {
            let mut world = World::new();
            let (client, heard) = world.connect(&connect(version, "Abc0123456789xyz0123456"));
            let connack = heard.connack();
            assert_eq!((connack.session_present, connack.code), (false, ReasonCode::Success));
            assert!(is_connected(&mut world, client));
        }
    }

    #[test]
    fn the_default_promises_are_few() {
        let mut world = World::new();
        let heard = world.connect(&v5("c")).1;
        let expected = ConnAckProperties {
            receive_maximum: NonZeroU16::new(100),
            maximum_packet_size: NonZeroU32::new(1 << 20),
            topic_alias_maximum: Some(u16::MAX),
            ..ConnAckProperties::default()
        };
        assert_eq!(heard.connack().properties, expected);
    }

    #[test]
    fn what_is_not_offered_is_said() {
        // [MQTT5-3.2.2-9] [MQTT5-3.1.2-28] [MQTT5-3.2.2-22]
        let mut world = World::with(Mqtt {
            receive_maximum: u16::MAX,
            max_qos_allowed: QoS::AtLeastOnce,
            retain_available: false,
            wildcard_subscription: false,
            shared_subscription: false,
            max_topic_alias: 0,
            server_keepalive: Some(77),
            max_session_expiry_interval: Some(60),
            response_information: "answers/".into(),
            ..Mqtt::default()
        });
        let mut asking = v5("c");
        asking.properties.request_response_information = Some(true);
        asking.properties.session_expiry_interval = Some(100);
        let heard = world.connect(&asking).1;
        let expected = ConnAckProperties {
            session_expiry_interval: Some(60),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            maximum_packet_size: NonZeroU32::new(1 << 20),
            wildcard_subscription_available: Some(false),
            shared_subscription_available: Some(false),
            server_keep_alive: Some(77),
            response_information: Some("answers/"),
            ..ConnAckProperties::default()
        };
        assert_eq!(heard.connack().properties, expected);
        let heard = world.connect(&v5("not asking")).1;
        assert_eq!(heard.connack().properties.response_information, None);
    }

    #[test]
    fn a_second_connect_ends_the_connection() {
        // [MQTT5-3.1.0-2] [MQTT311-3.1.0-2]
        for version in Version::ALL {
            let mut world = World::new();
            let client = world.join(version, "c");
            world.send(client, &Packet::Connect(connect(version, "c")));
            assert!(world.is_closed(client));
            let heard = world.heard(client);
            if version.is_v5() {
                assert!(matches!(heard.only(), Packet::Disconnect(d) if d.code == ReasonCode::ProtocolError));
            } else {
                assert!(heard.is_empty());
            }
        }
    }

    #[test]
    fn what_is_not_connect_is_not_answered() {
        // [MQTT5-3.1.0-1] [MQTT311-3.1.0-1]
        for first in
            [&b"\xC0\x00"[..], b"\xC0", b"GET / HTTP/1.1\r\n", b"\x30\xFF", b"\xE0\x00", b"\x20\x02\x00\x00"]
        {
            let mut world = World::new();
            let client = world.open();
            world.raw(client, first);
            assert!(world.is_closed(client) && world.heard(client).is_empty(), "{first:?}");
            assert_eq!(world.core().metrics().get(Counter::RefusedNotConnect), 1);
        }
    }

    #[test]
    fn unknown_versions_are_answered_in_the_nearest_one() {
        // [MQTT5-3.1.2-2] [MQTT311-3.1.2-2] [MQTT5-3.1.2-1] [MQTT311-3.1.2-1] [MQTT5-3.2.2-7] [MQTT311-3.2.2-5]
        for (bytes, answer) in [
            (&b"\x10\x0C\x00\x04MQTT\x06\x02\x00\x00\x00\x00"[..], &b"\x20"[..]),
            (b"\x10\x0C\x00\x04MQTT\x02\x02\x00\x00\x00\x00", b"\x20\x02\x00\x01"),
            (b"\x10\x0E\x00\x06MQIsdp\x07\x02\x00\x00\x00\x00", b"\x20\x02\x00\x01"),
            (b"\x10\x0C\x00\x04MQTX\x04\x02\x00\x00\x00\x00", b""),
        ] {
            let mut world = World::new();
            let client = world.open();
            world.raw(client, bytes);
            assert!(world.is_closed(client));
            let heard = world.heard(client);
            assert!(heard.bytes().starts_with(answer) && heard.is_empty() == answer.is_empty(), "{heard:?}");
            assert_eq!(world.core().metrics().get(Counter::RefusedUnsupportedVersion), 1);
        }
        let mut world = World::new();
        let client = world.open();
        world.raw(client, b"\x10\x0D\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x00");
        assert_eq!(world.heard(client).bytes()[3], ReasonCode::UnsupportedProtocolVersion.as_u8());
    }

    #[test]
    fn a_broken_connect_is_closed_and_5_0_hears_why() {
        // [MQTT5-3.1.4-1] [MQTT311-3.1.4-1] [MQTT5-3.1.2-3] [MQTT311-3.1.2-3] [MQTT5-3.2.2-6] [MQTT311-3.2.2-4]
        let mut world = World::new();
        let client = world.open();
        world.raw(client, b"\x10\x0D\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x00");
        assert!(world.is_closed(client));
        let mut heard = world.heard(client);
        heard.read_as(Version::V5);
        let connack = heard.connack();
        assert_eq!((connack.code, connack.session_present), (ReasonCode::MalformedPacket, false));
        assert_eq!(connack.properties.reason_string, Some("connect_flag_reserved"));
        let client = world.open();
        world.raw(client, b"\x10\x0C\x00\x04MQTT\x04\x03\x00\x00\x00\x00");
        assert!(world.is_closed(client) && world.heard(client).is_empty());
    }

    #[test]
    fn an_empty_client_id_gets_a_new_one() {
        // [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16] [MQTT311-3.1.3-6] [MQTT311-3.1.3-7] [MQTT311-3.1.3-8]
        // [MQTT5-3.1.3-8] [MQTT311-3.1.3-9]
        let mut world = World::of_cores(Mqtt::default(), (0..5).map(|_| Default::default()).collect());
        let mut seen = Vec::new();
        for _ in 0..20 {
            let (client, heard) = world.connect(&v5(""));
            let assigned = heard.connack().properties.assigned_client_identifier.unwrap().to_owned();
            assert_eq!(world.shard_of(client), ShardId(0), "it was given an id whose home is here");
            assert!(world.cores[0].sessions.find(&assigned).is_some());
            assert!(!seen.contains(&assigned));
            seen.push(assigned);
        }
        assert!(!world.connect(&connect(Version::V311, "")).1.connack().code.is_error());
        for version in [Version::V31, Version::V311] {
            let mut nameless = connect(version, "");
            nameless.clean_start = version == Version::V31;
            let (client, heard) = world.connect(&nameless);
            assert_eq!(heard.connack().code, ReasonCode::ClientIdentifierNotValid);
            assert!(world.is_closed(client));
        }
    }

    #[test]
    fn an_alias_beyond_the_promise_ends_the_connection() {
        // [MQTT5-3.2.2-17] [MQTT5-3.2.2-18]
        for (promised, used, is_taken) in [(0, 1, false), (3, 3, true), (3, 4, false)] {
            let mut world = World::with(Mqtt { max_topic_alias: promised, ..Mqtt::default() });
            let (client, heard) = world.connect(&v5("c"));
            let announced = heard.connack().properties.topic_alias_maximum;
            assert_eq!(announced.unwrap_or(0), promised);
            let properties =
                PublishProperties { topic_alias: NonZeroU16::new(used), ..PublishProperties::default() };
            world.send(client, &Packet::Publish(Publish { topic: "t", properties, ..Publish::default() }));
            assert_eq!(world.is_closed(client), !is_taken);
            if !is_taken {
                let heard = world.heard(client);
                assert!(
                    matches!(heard.only(), Packet::Disconnect(d) if d.code == ReasonCode::TopicAliasInvalid)
                );
            }
        }
    }

    #[test]
    fn a_will_beyond_the_promises_is_refused() {
        // [MQTT5-3.2.2-12] [MQTT5-3.2.2-13] [MQTT5-3.1.4-2]
        let mqtt = || Mqtt { max_qos_allowed: QoS::AtLeastOnce, retain_available: false, ..Mqtt::default() };
        for (qos, retain, topic, code) in [
            (QoS::ExactlyOnce, false, "w", ReasonCode::QoSNotSupported),
            (QoS::AtMostOnce, true, "w", ReasonCode::RetainNotSupported),
            (QoS::AtMostOnce, false, "$SYS/brokers", ReasonCode::TopicNameInvalid),
        ] {
            for version in Version::ALL {
                let mut world = World::with(mqtt());
                let mut leaving = connect(version, "c");
                leaving.will = will(qos, retain, topic);
                let (client, heard) = world.connect(&leaving);
                let expected = if version.is_v5() { code } else { ReasonCode::NotAuthorized };
                assert_eq!(heard.connack().code, expected);
                assert!(world.is_closed(client));
                assert_eq!(world.core().metrics().get(Counter::WillPublished), 0);
            }
        }
        let mut world = World::with(mqtt());
        let mut modest = v5("c");
        modest.will = will(QoS::AtLeastOnce, false, "w");
        assert!(!world.connect(&modest).1.connack().code.is_error());
    }

    #[test]
    fn a_client_that_takes_no_connack_gets_none() {
        // [MQTT5-3.1.2-24]
        let mut world = World::new();
        let mut tiny = v5("c");
        tiny.properties.maximum_packet_size = NonZeroU32::new(4);
        let (client, heard) = world.connect(&tiny);
        assert!(heard.is_empty() && world.is_closed(client));
        assert_eq!(world.core().metrics().get(Counter::RefusedAnswerTooLarge), 1);
        assert_eq!(world.core().gauges().sessions, 0);
    }

    #[test]
    fn session_present_tells_whether_one_was_kept() {
        // [MQTT5-3.1.2-4] [MQTT5-3.1.2-5] [MQTT5-3.1.2-6] [MQTT5-3.1.4-4] [MQTT5-3.2.2-2] [MQTT5-3.2.2-3]
        // [MQTT311-3.1.2-4] [MQTT311-3.1.2-5] [MQTT311-3.1.2-6] [MQTT311-3.2.2-1] [MQTT311-3.2.2-2] [MQTT311-3.2.2-3]
        for version in Version::ALL {
            let mut world = World::new();
            let mut present = |clean_start| {
                let mut keeping = connect(version, "c");
                keeping.clean_start = clean_start;
                if version.is_v5() {
                    keeping.properties.session_expiry_interval = Some(100);
                }
                let (client, heard) = world.connect(&keeping);
                world.drop_client(client);
                heard.connack().session_present
            };
            let has_flag = version != Version::V31;
            assert!(!present(false), "there was none");
            assert_eq!(present(false), has_flag, "it was kept");
            assert!(!present(true), "it was discarded");
            // In 3.x a clean session is not kept; in 5.0 it is if its expiry says so.
            assert_eq!(present(false), version.is_v5());
        }
    }

    #[test]
    fn connections_come_home_whatever_the_chunks() {
        let mut world = World::of_cores(Mqtt::default(), (0..4).map(|_| Default::default()).collect());
        for n in 0..40 {
            let client_id = format!("client-{n}");
            let home = crate::home::shard_of_client(&client_id, 4);
            let mut bytes = Vec::new();
            Packet::Connect(v5(&client_id)).encode(Version::V5, &mut bytes).unwrap();
            Packet::PingReq.encode(Version::V5, &mut bytes).unwrap();
            let client = world.open_at(ShardId(n % 4));
            let chunk = usize::from(n) % 7 + 1;
            for part in bytes.chunks(chunk) {
                world.raw(client, part);
            }
            assert_eq!(world.shard_of(client), home);
            let mut heard = world.heard(client);
            heard.read_as(Version::V5);
            let packets = heard.packets();
            assert_eq!(packets.len(), 2, "{packets:?}");
            assert_eq!(packets[1], Packet::PingResp);
        }
        let sum = |counter| world.cores.iter().map(|core| core.metrics().get(counter)).sum::<u64>();
        assert_eq!(sum(Counter::ConnectReceived), 40, "a CONNECT counts once");
        assert_eq!(sum(Counter::ConnectionsHandedOff), sum(Counter::ConnectionsArrived));
        assert_eq!(world.cores.iter().map(|core| core.gauges().connections).sum::<u64>(), 40);
    }
}

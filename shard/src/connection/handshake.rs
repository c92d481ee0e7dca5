//! CONNECT and CONNACK (§3.1, §3.2): who is it, where is its home, what is promised to it.

use std::num::{NonZeroU16, NonZeroU32};

use dunlin_wire::packet::{ConnAck, ConnAckProperties, Connect, Packet};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{QoS, Version};

use super::decode::Received;
use super::{Refusal, State};
use crate::action::{Action, Actions, Arrival};
use crate::config::Mqtt;
use crate::core::ShardCore;
use crate::deadlines::Due;
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
            self.metrics.count(Counter::ClientConnect);
            self.authenticate(conn, connect, &client_id, received.packet, actions);
            return;
        }
        let home = crate::home::shard_of_client(connect.client_id, self.shard_count);
        if home == self.shard {
            self.metrics.count(Counter::ClientConnect);
            self.authenticate(conn, connect, connect.client_id, received.packet, actions);
        } else {
            self.hand_off(conn, home, received.to_unread(), actions);
        }
    }

    /// Sends a connection to its home and forgets it.
    fn hand_off(&mut self, conn: ConnId, to: ShardId, unread: Vec<u8>, actions: &mut Actions) {
        self.leave_pool(conn);
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
        if connect.user_name.is_some() || connect.properties.authentication_method.is_some() {
            self.metrics.count(Counter::AuthenticationSuccess);
        }
        let would_resume = self.would_resume(client_id, connect.clean_start);
        let start = actions.mark();
        // Written before anything is changed: if the client cannot take it, nothing has happened.
        if !self.write_connack(conn, connect, client_id, (would_resume, accepted), actions) {
            self.refuse(conn, Refusal::AnswerTooLarge, actions);
            return;
        }
        let connack = start..actions.mark();
        let (session, is_resumed) = self.claim_session(client_id, connect.clean_start, actions);
        debug_assert_eq!(would_resume, is_resumed, "CONNACK told the truth");
        self.attach(conn, connect, session, accepted, actions);
        // [MQTT5-3.2.0-1] [MQTT311-3.2.0-1]: nothing was sent to this connection before, but AUTH.
        let bytes = connack.end - connack.start;
        actions.list.push(Action::Send { conn, head: connack, payload: None });
        self.metrics.count_sent(dunlin_wire::types::PacketType::ConnAck);
        self.account_sent(conn, bytes);
        self.tell_connected(conn, connect, session);
        if is_resumed {
            self.on_session_resumed(session, actions);
        }
    }

    /// Joins a connection and a session.
    fn attach(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        id: SessionId,
        accepted: &Accepted,
        actions: &mut Actions,
    ) {
        let _ = actions;
        let keeps_user_name = self.hooks.authorizer.is_some() || self.hooks.authenticator.is_some();
        self.leave_pool(conn);
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let mqtt = self.configs.mqtt(connection.config_epoch);
        connection.state = State::Connected;
        connection.session = id.index;
        connection.heard_at = self.now.mono;
        connection.superuser = accepted.superuser;
        connection.problem_information = connect.properties.request_problem_information.unwrap_or(true);
        connection.keep_alive_seconds = keep_alive_seconds(connect, mqtt);
        connection.receive_quota = if connect.version.is_v5() { mqtt.receive_maximum } else { u16::MAX };
        let early_bytes =
            connection.rare.as_mut().map_or(0, |rare| std::mem::take(&mut rare.sent_early_bytes));
        connection.shed_rare();
        let peer = connection.peer;
        let expiry_seconds = granted_seconds(connect, mqtt);
        self.live_count += 1;
        if let Some(session) = self.sessions.get_mut(id) {
            session.link = link(conn, connect, early_bytes);
            session.expiry_seconds = expiry_seconds;
            // [MQTT5-3.1.2-7] [MQTT311-3.1.2-8]
            let will = connect.will.as_ref().map(|will| Will::of_connect(will, &session.client_id, peer));
            let user_name = connect.user_name.filter(|_| keeps_user_name).map(Into::into);
            session.set_rare(will, user_name);
        }
        self.watch_silence(conn);
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
            version: connect.version,
            clean_start: connect.clean_start,
            keep_alive_seconds: connection.keep_alive_seconds,
        });
    }

    /// Writes a CONNACK with success into the arena; `false` if the client takes no packet of its size.
    fn write_connack(
        &mut self,
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
            properties.assigned_client_identifier = connect.client_id.is_empty().then_some(client_id);
            // [MQTT5-4.12.0-5]
            properties.authentication_method = connect.properties.authentication_method;
            properties.authentication_data =
                properties.authentication_method.and_then(|_| accepted.data.as_deref());
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
        if will.is_none() && user_name.is_none() {
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

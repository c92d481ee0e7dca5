//! Authentication: one question for most clients, an exchange of AUTH packets for those that name a method
//! (§MQTT5 4.12).

use dunlin_wire::decoder;
use dunlin_wire::packet::{Auth, AuthProperties, Connect, Packet};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::PacketType;

use super::held::Hold;
use super::{Refusal, State};
use crate::action::Actions;
use crate::core::{Asker, ShardCore};
use crate::hooks::{Accepted, Answer, AuthOutcome, AuthRequest};
use crate::ids::{ConnId, Token};
use crate::metrics::Counter;

/// An authentication that is under way, or that its client may repeat. Boxed; others pay nothing.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Names it to the authenticator.
    token: Token,
    /// The method of the CONNECT, if it named one. `[MQTT5-4.12.0-5]` `[MQTT5-4.12.1-1]`
    method: Option<Box<str>>,
    /// Whose turn it is.
    turn: Turn,
    /// The CONNECT packet as received, while it is not answered.
    connect: Box<[u8]>,
    /// The client id, given or assigned, while CONNECT is not answered.
    client_id: Box<str>,
    /// The largest packet that the client takes.
    pub(super) packet_bytes_max: u32,
}

/// Whose turn it is in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nobody's: the client is accepted.
    Nobody,
    /// The authenticator thinks.
    Server,
    /// The client's AUTH is awaited.
    Client,
}

impl ShardCore {
    /// Asks who the client of a CONNECT is.
    pub(super) fn authenticate(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
        packet: &[u8],
        actions: &mut Actions,
    ) {
        self.metrics.count_received(PacketType::Connect);
        self.metrics.count(Counter::ClientConnect);
        self.metrics.count(Counter::ClientAuthenticate);
        let token = self.draw_token();
        let (Some(connection), Some(authenticator)) =
            (self.connections.get(conn), &mut self.hooks.authenticator)
        else {
            self.accept_anonymous(conn, connect, client_id, actions);
            return;
        };
        let answer = authenticator.begin(&AuthRequest {
            token,
            peer: connection.peer,
            listener: connection.listener,
            version: connect.version,
            client_id,
            username: connect.user_name,
            password: connect.password,
            method: connect.properties.authentication_method,
            data: connect.properties.authentication_data,
        });
        let outcome = match answer {
            Answer::Now(AuthOutcome::Accept(accepted))
                if connect.properties.authentication_method.is_none() =>
            {
                self.accept(conn, connect, client_id, &accepted, actions);
                return;
            }
            Answer::Now(outcome) => Some(outcome),
            Answer::Pending => None,
        };
        let exchange = Exchange {
            token,
            method: connect.properties.authentication_method.map(Into::into),
            turn: Turn::Server,
            connect: packet.into(),
            client_id: client_id.into(),
            packet_bytes_max: connect.properties.maximum_packet_size.map_or(u32::MAX, std::num::NonZero::get),
        };
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.rare_mut().exchange = Some(Box::new(exchange));
        }
        self.go_on_authenticating(conn, token, outcome, actions);
    }

    /// Without an authenticator everybody is welcome, but no method is known. `[MQTT5-4.12.0-1]`
    fn accept_anonymous(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
        actions: &mut Actions,
    ) {
        if connect.properties.authentication_method.is_some() {
            self.refuse(conn, Refusal::AuthenticationMethod, actions);
            return;
        }
        self.metrics.count(Counter::ClientAuthAnonymous);
        self.metrics.count(Counter::AuthenticationSuccessAnonymous);
        self.accept(conn, connect, client_id, &Accepted::default(), actions);
    }

    /// The client's AUTH.
    pub(super) fn on_auth(&mut self, conn: ConnId, auth: &Auth<'_>, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        let (state, exchange) =
            (connection.state, connection.rare.as_ref().and_then(|rare| rare.exchange.as_ref()));
        // [MQTT5-4.12.0-7]: no AUTH from a client that named no method.
        let Some((method, turn)) =
            exchange.and_then(|exchange| Some((exchange.method.as_deref()?, exchange.turn)))
        else {
            self.refuse(conn, Refusal::NotTaken(PacketType::Auth), actions);
            return;
        };
        // [MQTT5-4.12.0-5] [MQTT5-4.12.1-1]
        if auth.properties.authentication_method != Some(method) {
            self.refuse(conn, Refusal::AuthenticationMethod, actions);
            return;
        }
        match (state, turn, auth.code) {
            // [MQTT5-4.12.0-3]
            (State::Exchanging | State::Connected, Turn::Client, ReasonCode::ContinueAuthentication) => {
                self.ask_authenticator(conn, auth, false, actions);
            }
            (State::Connected, Turn::Nobody, ReasonCode::ReAuthenticate) => {
                self.metrics.count(Counter::ClientReauthenticate);
                self.ask_authenticator(conn, auth, true, actions);
            }
            _ => self.refuse(conn, Refusal::NotTaken(PacketType::Auth), actions),
        }
    }

    /// Hands the client's AUTH to the authenticator: a further step, or the first of a re-authentication.
    fn ask_authenticator(&mut self, conn: ConnId, auth: &Auth<'_>, is_first: bool, actions: &mut Actions) {
        let fresh = self.draw_token();
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let (peer, listener, version, session) =
            (connection.peer, connection.listener, connection.version, connection.session);
        let (Some(exchange), Some(authenticator)) =
            (connection.rare_mut().exchange.as_mut(), self.hooks.authenticator.as_mut())
        else {
            return;
        };
        if is_first {
            exchange.token = fresh;
        }
        exchange.turn = Turn::Server;
        let known = self.sessions.at(session);
        let request = AuthRequest {
            token: exchange.token,
            peer,
            listener,
            version,
            client_id: known.map_or(&exchange.client_id, |session| &session.client_id),
            username: known.and_then(|session| session.user_name()),
            password: None,
            method: exchange.method.as_deref(),
            data: auth.properties.authentication_data,
        };
        let token = exchange.token;
        let answer = if is_first { authenticator.begin(&request) } else { authenticator.proceed(&request) };
        let outcome = match answer {
            Answer::Now(outcome) => Some(outcome),
            Answer::Pending => None,
        };
        self.go_on_authenticating(conn, token, outcome, actions);
    }

    /// The authenticator has decided late.
    pub(crate) fn on_authenticated(
        &mut self,
        conn: ConnId,
        token: Token,
        outcome: AuthOutcome,
        actions: &mut Actions,
    ) {
        self.release(conn, Hold::Authentication);
        self.go_on_authenticating(conn, token, Some(outcome), actions);
    }

    /// Acts on what the authenticator said, or waits for it.
    fn go_on_authenticating(
        &mut self,
        conn: ConnId,
        token: Token,
        outcome: Option<AuthOutcome>,
        actions: &mut Actions,
    ) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let is_connected = connection.state == State::Connected;
        match outcome {
            None => {
                self.questions.insert(token, Asker::Authentication(conn));
                // Re-authentication does not stop other packets (§MQTT5 4.12.1).
                if !is_connected {
                    connection.state = State::Authenticating;
                    self.hold(conn, Hold::Authentication, actions);
                }
            }
            Some(AuthOutcome::Refuse(code)) => {
                self.metrics.count(Counter::AuthenticationFailure);
                self.set_turn(conn, Turn::Nobody);
                let code = if code.is_error() { code } else { ReasonCode::NotAuthorized };
                // [MQTT5-4.12.0-4] [MQTT5-4.12.1-2] [MQTT5-3.1.4-2]
                self.refuse(conn, Refusal::Authentication(code), actions);
            }
            Some(AuthOutcome::Continue { data }) => self.send_challenge(conn, &data, actions),
            Some(AuthOutcome::Accept(accepted)) if is_connected => {
                self.accept_again(conn, &accepted, actions)
            }
            Some(AuthOutcome::Accept(accepted)) => self.accept_waiting(conn, &accepted, actions),
        }
    }

    /// Sends the authenticator's data to the client and waits for its AUTH. `[MQTT5-4.12.0-2]`
    fn send_challenge(&mut self, conn: ConnId, data: &[u8], actions: &mut Actions) {
        let Some(method) = self.method_of(conn) else {
            // [MQTT5-4.12.0-6]: the client named no method, so it gets no AUTH. The authenticator broke its contract.
            self.refuse(conn, Refusal::Authentication(ReasonCode::NotAuthorized), actions);
            return;
        };
        if let Some(connection) = self.connections.get_mut(conn)
            && connection.state != State::Connected
        {
            connection.state = State::Exchanging;
        }
        self.set_turn(conn, Turn::Client);
        self.send_auth(conn, ReasonCode::ContinueAuthentication, &method, Some(data), actions);
    }

    /// A client that was waiting is accepted: its CONNECT is taken up where it was left.
    fn accept_waiting(&mut self, conn: ConnId, accepted: &Accepted, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let limits = *self.configs.limits(connection.config_epoch);
        let version = connection.version;
        let Some(exchange) = connection.rare_mut().exchange.as_mut() else {
            return;
        };
        exchange.turn = Turn::Nobody;
        let bytes = std::mem::take(&mut exchange.connect);
        let client_id = std::mem::take(&mut exchange.client_id);
        let is_repeatable = exchange.method.is_some();
        match decoder::decode_one(&bytes, version, &limits) {
            Ok(Some((Packet::Connect(connect), _))) => {
                self.accept(conn, &connect, &client_id, accepted, actions);
                if !is_repeatable && let Some(connection) = self.connections.get_mut(conn) {
                    connection.rare_mut().exchange = None;
                    connection.shed_rare();
                }
            }
            // It was decoded before under the same limits.
            _ => self.refuse(conn, Refusal::NotTaken(PacketType::Connect), actions),
        }
    }

    /// A re-authentication succeeded.
    fn accept_again(&mut self, conn: ConnId, accepted: &Accepted, actions: &mut Actions) {
        self.set_turn(conn, Turn::Nobody);
        self.metrics.count(Counter::AuthenticationSuccess);
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.superuser = accepted.superuser;
        }
        if let Some(method) = self.method_of(conn) {
            self.send_auth(conn, ReasonCode::Success, &method, accepted.data.as_deref(), actions);
        }
    }

    /// Sends an AUTH; one that the client cannot take ends the connection, because the exchange cannot go on.
    fn send_auth(
        &mut self,
        conn: ConnId,
        code: ReasonCode,
        method: &str,
        data: Option<&[u8]>,
        actions: &mut Actions,
    ) {
        let properties = AuthProperties {
            authentication_method: Some(method),
            authentication_data: data,
            ..AuthProperties::default()
        };
        if !self.send_packet(conn, &Packet::Auth(Auth { code, properties }), actions) {
            self.refuse(conn, Refusal::AnswerTooLarge, actions);
        }
    }

    /// The method of a connection's CONNECT. A copy: it is needed while the connection changes.
    pub(super) fn method_of(&self, conn: ConnId) -> Option<Box<str>> {
        let rare = self.connections.get(conn)?.rare.as_ref()?;
        rare.exchange.as_ref()?.method.clone()
    }

    fn set_turn(&mut self, conn: ConnId, turn: Turn) {
        let rare = self.connections.get_mut(conn).and_then(|connection| connection.rare.as_mut());
        if let Some(exchange) = rare.and_then(|rare| rare.exchange.as_mut()) {
            exchange.turn = turn;
        }
    }

    /// The connection of an exchange is gone.
    pub(super) fn forget_exchange(&mut self, exchange: &Exchange) {
        if exchange.turn == Turn::Nobody {
            return;
        }
        self.questions.remove(&exchange.token);
        if let Some(authenticator) = &mut self.hooks.authenticator {
            authenticator.forget(exchange.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mqtt;
    use crate::hooks::HookOutcome;
    use crate::testing::mechanism::Script;
    use crate::testing::{Client, World, connect};
    use dunlin_wire::types::Version;

    fn named(method: &str) -> Connect<'_> {
        let mut naming = connect(Version::V5, "c");
        naming.properties.authentication_method = Some(method);
        naming.properties.authentication_data = Some(b"first");
        naming
    }

    fn step(code: ReasonCode, method: &'static str, data: &'static [u8]) -> Packet<'static> {
        let properties = AuthProperties {
            authentication_method: Some(method),
            authentication_data: Some(data),
            ..AuthProperties::default()
        };
        Packet::Auth(Auth { code, properties })
    }

    fn challenge(data: &[u8]) -> Answer<AuthOutcome> {
        Answer::Now(AuthOutcome::Continue { data: data.into() })
    }

    fn success(data: &[u8]) -> AuthOutcome {
        AuthOutcome::Accept(Accepted { superuser: false, data: Some(data.into()) })
    }

    fn scripted() -> (Script, World) {
        let (script, hooks) = Script::new(false);
        (script, World::with_hooks(Mqtt::default(), hooks))
    }

    fn disconnected_with(world: &mut World, client: Client, code: ReasonCode) {
        assert!(world.is_closed(client));
        assert!(matches!(world.heard(client).only(), Packet::Disconnect(d) if d.code == code));
    }

    #[test]
    fn without_an_authenticator_no_method_is_known() {
        // [MQTT5-4.12.0-1]
        let mut world = World::new();
        let (client, heard) = world.connect(&named("SCRAM"));
        assert_eq!(heard.connack().code, ReasonCode::BadAuthenticationMethod);
        assert!(world.is_closed(client));
    }

    #[test]
    fn a_refused_client_hears_why_in_its_version() {
        // [MQTT5-3.1.4-2] [MQTT5-3.1.4-6] [MQTT311-3.1.4-5] [MQTT5-4.12.0-4] [MQTT311-3.2.2-6]
        for (version, code, expected) in [
            (Version::V5, ReasonCode::Banned, Some(ReasonCode::Banned)),
            (Version::V311, ReasonCode::BadUserNameOrPassword, Some(ReasonCode::BadUserNameOrPassword)),
            (Version::V31, ReasonCode::Banned, Some(ReasonCode::NotAuthorized)),
            (Version::V311, ReasonCode::UnspecifiedError, None),
            (Version::V5, ReasonCode::Success, Some(ReasonCode::NotAuthorized)),
        ] {
            let (script, mut world) = scripted();
            script.auth(Answer::Now(AuthOutcome::Refuse(code)));
            let client = world.open();
            let mut bytes = Vec::new();
            Packet::Connect(connect(version, "c")).encode(version, &mut bytes).unwrap();
            Packet::PingReq.encode(version, &mut bytes).unwrap();
            world.raw(client, &bytes);
            assert!(world.is_closed(client));
            let mut heard = world.heard(client);
            heard.read_as(version);
            match expected {
                Some(code) => assert_eq!(heard.connack().code, code),
                None => assert!(heard.is_empty()),
            }
            assert_eq!(script.log().iter().filter(|line| line.starts_with("connected")).count(), 0);
        }
    }

    #[test]
    fn a_late_answer_lets_the_client_in_with_all_that_it_asked_for() {
        let (script, mut world) = scripted();
        script.auth(Answer::Pending);
        let client = world.open();
        let mut named = connect(Version::V5, "");
        named.user_name = Some("ann");
        named.keep_alive_seconds = 9;
        world.send(client, &Packet::Connect(named));
        assert!(world.is_paused(client));
        world.hook_done(script.token(), HookOutcome::Auth(success(b"not for a client without method")));
        let heard = world.heard(client);
        let properties = heard.connack().properties;
        let assigned = properties.assigned_client_identifier.unwrap();
        assert_eq!((properties.authentication_method, properties.authentication_data), (None, None));
        let log = script.log();
        assert_eq!(log[0], format!("begin {assigned} Some(\"ann\") None None"));
        assert_eq!(log[1], format!("connected {assigned} clean_start=true keep_alive=9"));
        assert!(!world.is_paused(client));
    }

    #[test]
    fn a_client_that_goes_before_the_answer_is_forgotten() {
        let (script, mut world) = scripted();
        script.auth(Answer::Pending);
        let client = world.open();
        world.send(client, &Packet::Connect(connect(Version::V5, "c")));
        let token = script.token();
        world.drop_client(client);
        assert_eq!(script.log().last(), Some(&format!("forget {}", token.0)));
        world.hook_done(token, HookOutcome::Auth(success(b"")));
        assert_eq!(world.core().metrics().get(Counter::EventsLate), 1);
        assert_eq!(world.core().gauges().sessions, 0);
    }

    #[test]
    fn an_authenticator_that_never_answers_runs_into_the_time_limit() {
        let (script, mut world) = scripted();
        script.auth(Answer::Pending);
        let client = world.open();
        world.send(client, &Packet::Connect(connect(Version::V5, "c")));
        world.advance(16);
        assert!(world.is_closed(client));
        assert!(script.log().last().unwrap().starts_with("forget"));
        assert!(world.core().questions.is_empty());
    }

    #[test]
    fn an_exchange_goes_on_until_the_authenticator_is_content() {
        // [MQTT5-4.12.0-2] [MQTT5-4.12.0-3] [MQTT5-4.12.0-5] [MQTT5-3.15.2-1]
        let (script, mut world) = scripted();
        script.auth(challenge(b"one"));
        script.auth(Answer::Pending);
        script.auth(Answer::Now(success(b"last")));
        let (client, heard) = world.connect(&named("SCRAM"));
        assert_eq!(heard.only(), step(ReasonCode::ContinueAuthentication, "SCRAM", b"one"));
        world.send(client, &step(ReasonCode::ContinueAuthentication, "SCRAM", b"two"));
        assert!(world.is_paused(client));
        world.hook_done(
            script.token(),
            HookOutcome::Auth(AuthOutcome::Continue { data: b"three"[..].into() }),
        );
        assert!(!world.is_paused(client));
        assert_eq!(world.heard(client).only(), step(ReasonCode::ContinueAuthentication, "SCRAM", b"three"));
        world.send(client, &step(ReasonCode::ContinueAuthentication, "SCRAM", b"four"));
        let heard = world.heard(client);
        let properties = heard.connack().properties;
        assert_eq!(properties.authentication_method, Some("SCRAM"));
        assert_eq!(properties.authentication_data, Some(&b"last"[..]));
        let log = script.log();
        assert_eq!(log[0], "begin c None Some(\"SCRAM\") Some(\"first\")");
        assert_eq!(log[1], "proceed c Some(\"two\")");
        assert_eq!(log[2], "proceed c Some(\"four\")");
    }

    #[test]
    fn during_an_exchange_only_auth_and_disconnect_are_taken() {
        // [MQTT5-3.1.2-30] [MQTT5-4.13.1-1] [MQTT5-3.14.0-1]
        for (packet, code) in [
            (Packet::PingReq, Some(ReasonCode::ProtocolError)),
            (
                step(ReasonCode::ContinueAuthentication, "OTHER", b""),
                Some(ReasonCode::BadAuthenticationMethod),
            ),
            (step(ReasonCode::ReAuthenticate, "SCRAM", b""), Some(ReasonCode::ProtocolError)),
            (Packet::Disconnect(Default::default()), None),
        ] {
            let (script, mut world) = scripted();
            script.auth(challenge(b"one"));
            let (client, _) = world.connect(&named("SCRAM"));
            world.send(client, &packet);
            assert!(world.is_closed(client));
            let heard = world.heard(client);
            match code {
                Some(code) => assert_eq!(heard.connack().code, code, "{packet:?}"),
                None => assert!(heard.is_empty()),
            }
            assert!(script.log().last().unwrap().starts_with("forget"));
        }
    }

    #[test]
    fn a_client_without_a_method_gets_no_auth_and_sends_none() {
        // [MQTT5-4.12.0-6] [MQTT5-4.12.0-7]
        let (script, mut world) = scripted();
        script.auth(challenge(b"one"));
        let (client, heard) = world.connect(&connect(Version::V5, "c"));
        assert_eq!(heard.connack().code, ReasonCode::NotAuthorized);
        assert!(world.is_closed(client));
        let client = world.join(Version::V5, "c");
        world.send(client, &step(ReasonCode::ReAuthenticate, "SCRAM", b""));
        disconnected_with(&mut world, client, ReasonCode::ProtocolError);
    }

    #[test]
    fn a_connected_client_authenticates_again() {
        // [MQTT5-4.12.1-1] [MQTT5-4.12.1-2]
        let (script, mut world) = scripted();
        script.auth(Answer::Now(success(b"welcome")));
        script.auth(challenge(b"again"));
        script.auth(Answer::Pending);
        let (client, heard) = world.connect(&named("SCRAM"));
        assert!(!heard.connack().code.is_error());
        world.send(client, &step(ReasonCode::ReAuthenticate, "SCRAM", b"re"));
        assert_eq!(world.heard(client).only(), step(ReasonCode::ContinueAuthentication, "SCRAM", b"again"));
        world.send(client, &step(ReasonCode::ContinueAuthentication, "SCRAM", b"answer"));
        // Other packets go on meanwhile.
        world.send(client, &Packet::PingReq);
        assert_eq!(world.heard(client).only(), Packet::PingResp);
        assert!(!world.is_paused(client));
        world.hook_done(script.token(), HookOutcome::Auth(success(b"done")));
        assert_eq!(world.heard(client).only(), step(ReasonCode::Success, "SCRAM", b"done"));
        script.auth(Answer::Now(AuthOutcome::Refuse(ReasonCode::NotAuthorized)));
        world.send(client, &step(ReasonCode::ReAuthenticate, "SCRAM", b"re"));
        disconnected_with(&mut world, client, ReasonCode::NotAuthorized);
        assert_eq!(script.log().last().unwrap(), "ended c");
    }

    #[test]
    fn steps_out_of_turn_end_the_connection() {
        for (packet, code) in [
            (step(ReasonCode::ContinueAuthentication, "SCRAM", b""), ReasonCode::ProtocolError),
            (step(ReasonCode::ReAuthenticate, "PLAIN", b""), ReasonCode::BadAuthenticationMethod),
        ] {
            let (_script, mut world) = scripted();
            let (client, _) = world.connect(&named("SCRAM"));
            world.send(client, &packet);
            disconnected_with(&mut world, client, code);
        }
        let (script, mut world) = scripted();
        let (client, _) = world.connect(&named("SCRAM"));
        world.heard(client);
        script.auth(Answer::Pending);
        world.send(client, &step(ReasonCode::ReAuthenticate, "SCRAM", b""));
        world.send(client, &step(ReasonCode::ReAuthenticate, "SCRAM", b""));
        disconnected_with(&mut world, client, ReasonCode::ProtocolError);
        assert!(world.core().questions.is_empty());
    }

    #[test]
    fn a_challenge_that_the_client_cannot_take_ends_the_connection() {
        // [MQTT5-3.1.2-24]
        let (script, mut world) = scripted();
        script.auth(challenge(&[0; 100]));
        let mut small = named("SCRAM");
        small.properties.maximum_packet_size = std::num::NonZeroU32::new(50);
        let (client, heard) = world.connect(&small);
        assert!(heard.is_empty() && world.is_closed(client));
    }
}

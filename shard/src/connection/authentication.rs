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
                // [MQTT5-4.12.0-4] [MQTT5-4.12.1-2] [MQTT5-3.1.4-2] [MQTT311-3.1.4-3]
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

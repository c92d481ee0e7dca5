//! Hooks: questions that the core asks of features above it, and events that it tells them.
//!
//! Each shard owns its hook objects; they run on the shard's core and must not block. What may block answers
//! [`Answer::Pending`], works elsewhere, and comes back as [`crate::Event::HookDone`] with the token of the question; the
//! packet waits in its place meanwhile. An absent hook costs one branch.

use dunlin_wire::packet::{ConnectProperties, DisconnectProperties};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{QoS, SubscriptionOptions, Version};

use crate::ids::{ListenerId, Token};
use crate::message::{Message, MessageView};
use crate::peer::Peer;

/// A hook's answer: now, or later under the token that the question carried.
#[derive(Debug)]
pub enum Answer<T> {
    /// Decided.
    Now(T),
    /// Not yet: `Event::HookDone` will bring it.
    Pending,
}

/// Who asks to connect. Its `Debug` form hides what the client proves itself with.
#[derive(Clone, Copy)]
pub struct AuthRequest<'a> {
    /// Names this question.
    pub token: Token,
    /// The other end.
    pub peer: Peer,
    /// Where it came in.
    pub listener: ListenerId,
    /// Protocol version.
    pub version: Version,
    /// Client id, given or assigned.
    pub client_id: &'a str,
    /// User name, if sent.
    pub username: Option<&'a str>,
    /// Password, if sent. Never logged.
    pub password: Option<&'a [u8]>,
    /// Authentication Method of enhanced authentication (§MQTT5 4.12).
    pub method: Option<&'a str>,
    /// Authentication Data of CONNECT or AUTH.
    pub data: Option<&'a [u8]>,
}

impl std::fmt::Debug for AuthRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token, peer, listener, version, client_id, username, password, method, data } = self;
        f.debug_struct("AuthRequest")
            .field("token", token)
            .field("peer", peer)
            .field("listener", listener)
            .field("version", version)
            .field("client_id", client_id)
            .field("username", username)
            .field("password", &password.map(|_| format_args!("hidden")))
            .field("method", method)
            .field("data", &data.map(|_| format_args!("hidden")))
            .finish()
    }
}

/// The result of a step of authentication.
#[derive(Debug)]
pub enum AuthOutcome {
    /// The client is who it says.
    Accept(Accepted),
    /// It is not, or may not connect; sent in CONNACK (or DISCONNECT on re-authentication).
    Refuse(ReasonCode),
    /// Enhanced authentication goes on: this goes to the client in an AUTH packet, 0x18.
    Continue {
        /// Authentication Data.
        data: Box<[u8]>,
    },
}

/// What an accepted client may expect.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Skips the authorizer.
    pub superuser: bool,
    /// Final Authentication Data of enhanced authentication, for CONNACK or AUTH.
    pub data: Option<Box<[u8]>>,
}

/// Decides who may connect. One per shard.
pub trait Authenticator: Send {
    /// CONNECT arrived (with or without a method), or AUTH 0x19 starts a re-authentication.
    fn begin(&mut self, request: &AuthRequest<'_>) -> Answer<AuthOutcome>;
    /// An AUTH packet continued the exchange that `begin` started with `Continue`.
    fn proceed(&mut self, request: &AuthRequest<'_>) -> Answer<AuthOutcome>;
    /// The connection went before the exchange ended; forget what is kept for the token.
    fn forget(&mut self, token: Token);
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Publish to a topic name.
    Publish {
        /// QoS of the message.
        qos: QoS,
        /// Its RETAIN flag.
        retain: bool,
    },
    /// Subscribe to a topic filter.
    Subscribe {
        /// Maximum QoS asked for.
        qos: QoS,
    },
}

/// A question of rights.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// Names this question.
    pub token: Token,
    /// Client id.
    pub client_id: &'a str,
    /// User name, if it has one.
    pub username: Option<&'a str>,
    /// The other end.
    pub peer: Peer,
    /// What it wants to do.
    pub access: Access,
    /// Topic name or topic filter (the filter inside `$share`).
    pub topic: &'a str,
}

/// Decides what a client may do. One per shard. Asked again at the moment of use (DESIGN §5 rule 4).
pub trait Authorizer: Send {
    /// Whether it may.
    fn check(&mut self, request: &AccessRequest<'_>) -> Answer<bool>;
}

/// What becomes of a message that a client published.
#[derive(Debug)]
pub enum PublishVerdict {
    /// Goes on as it is.
    Continue,
    /// Goes on in another form.
    Replace(Message),
    /// Ends here; the publisher is told this reason (QoS > 0).
    Drop(ReasonCode),
}

/// Sees and may change messages: rules, rewriting, validation. One per shard.
pub trait MessageHook: Send {
    /// A message was accepted and is about to be routed. `token` names the question for a `Pending` answer.
    fn publish(&mut self, token: Token, message: &MessageView<'_>) -> Answer<PublishVerdict>;
    /// A message is about to be sent to a subscriber; `false` drops it (counted).
    fn deliver(&mut self, client_id: &str, message: &MessageView<'_>) -> bool {
        let _ = (client_id, message);
        true
    }
}

/// What happens to clients and sessions, for presence, rules and audit.
#[derive(Clone, Copy, Debug)]
pub enum SessionEvent<'a> {
    /// CONNACK with success was sent.
    Connected {
        /// Client id.
        client_id: &'a str,
        /// User name.
        username: Option<&'a str>,
        /// The other end.
        peer: Peer,
        /// Where it came in.
        listener: ListenerId,
        /// Protocol version.
        version: Version,
        /// Clean Start / Clean Session of the CONNECT.
        clean_start: bool,
        /// Keep Alive in seconds in force.
        keep_alive_seconds: u16,
        /// Seconds that the session outlives the connection, as granted; `u32::MAX`: it does not expire.
        expiry_seconds: u32,
        /// The client's Receive Maximum; 65,535 where it did not say (§MQTT5 3.1.2.11.3).
        receive_maximum: u16,
        /// All properties of the CONNECT as sent. The Authentication Data may be a secret.
        properties: &'a ConnectProperties<'a>,
    },
    /// The network connection ended.
    Disconnected {
        /// Client id.
        client_id: &'a str,
        /// The other end.
        peer: Peer,
        /// Where it came in.
        listener: ListenerId,
        /// Protocol version.
        version: Version,
        /// Why.
        reason: ReasonCode,
        /// Properties of the client's DISCONNECT, if it sent some.
        last_words: Option<&'a LastWords>,
    },
    /// A filter was added or replaced.
    Subscribed {
        /// Client id.
        client_id: &'a str,
        /// As the client wrote it, with `$share/…`.
        filter: &'a str,
        /// As granted: the QoS may be lower than was asked for.
        options: SubscriptionOptions,
    },
    /// A filter was removed.
    Unsubscribed {
        /// Client id.
        client_id: &'a str,
        /// As the client wrote it.
        filter: &'a str,
    },
    /// A session and its state ended (clean start, expiry, administration).
    Ended {
        /// Client id.
        client_id: &'a str,
    },
}

/// Properties of a client's DISCONNECT (§MQTT5 3.14.2.2), kept until its connection has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// As asked for, seconds.
    pub session_expiry_interval: Option<u32>,
    /// Text for people.
    pub reason_string: Option<Box<str>>,
    /// User Properties, in order.
    pub user_properties: Vec<(Box<str>, Box<str>)>,
}

impl LastWords {
    /// Copies the properties of a DISCONNECT; `None` if there are none.
    pub(crate) fn of(properties: &DisconnectProperties<'_>) -> Option<Box<Self>> {
        let words = Self {
            session_expiry_interval: properties.session_expiry_interval,
            reason_string: properties.reason_string.map(Into::into),
            user_properties: properties
                .user_properties
                .iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        };
        (words != Self::default()).then(|| Box::new(words))
    }
}

/// Told what happens. One per shard.
pub trait SessionHook: Send {
    /// Something happened; must not block.
    fn observe(&mut self, event: &SessionEvent<'_>);
}

/// A late answer.
#[derive(Debug)]
pub enum HookOutcome {
    /// Of an [`Authenticator`].
    Auth(AuthOutcome),
    /// Of an [`Authorizer`].
    Access(bool),
    /// Of a [`MessageHook`].
    Publish(PublishVerdict),
}

/// The hooks of one shard. All absent by default.
#[derive(Default)]
pub struct Hooks {
    /// Who may connect; absent: everybody (the edge then serves loopback only, unless told otherwise).
    pub authenticator: Option<Box<dyn Authenticator>>,
    /// Who may do what; absent: everything but `$SYS` for remote clients.
    pub authorizer: Option<Box<dyn Authorizer>>,
    /// Sees messages.
    pub message: Option<Box<dyn MessageHook>>,
    /// Sees clients.
    pub session: Option<Box<dyn SessionHook>>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks")
            .field("authenticator", &self.authenticator.is_some())
            .field("authorizer", &self.authorizer.is_some())
            .field("message", &self.message.is_some())
            .field("session", &self.session.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let request = AuthRequest {
            token: Token(1),
            peer: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(),
            listener: ListenerId(0),
            version: Version::V5,
            client_id: "c",
            username: Some("user"),
            password: Some(&[201, 202]),
            method: Some("m"),
            data: Some(&[203, 204]),
        };
        let shown = format!("{request:?}");
        assert!(shown.contains("password: Some(hidden)") && shown.contains("data: Some(hidden)"), "{shown}");
        assert!(!shown.contains("20"), "{shown}");
    }
}

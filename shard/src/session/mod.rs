//! A client's session: survives connections, lives on the client's home core.

use crate::deadlines::DeadlineKey;
use crate::durable::Stored;
use crate::ids::{ConnId, SessionId};
use crate::publish::Traffic;
use crate::time::{Mono, Past};

pub(crate) mod expiry;
pub mod inflight_in;
pub mod inflight_out;
pub(crate) mod link;
pub mod packet_ids;
pub mod queue;
pub(crate) mod subscriptions;
pub(crate) mod table;
pub(crate) mod takeover;
pub(crate) mod will;

pub(crate) use self::inflight_in::{Arrival, InflightIn};
pub(crate) use self::inflight_out::{AckError, InflightOut, Received, Resend};
pub(crate) use self::link::Link;
pub(crate) use self::queue::{DropReason, Priorities, Queue, QueueLimits, Waiting};
pub(crate) use self::table::Sessions;
use self::will::Will;

/// The state of one client: 96 B, the client id, and boxes while there is something in them. One per client id, on the
/// client's home core.
///
/// [MQTT5-4.1.0-1] [MQTT311-4.1.0-1] [MQTT311-4.1.0-2]: it stays at least as long as the connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Whose it is.
    pub(crate) client_id: Box<str>,
    /// The connection it has, with what a delivery needs to know of it.
    pub(crate) link: Link,
    /// Seconds that it outlives its connection; 0: none, [`NEVER_EXPIRES`]: for ever.
    pub(crate) expiry_seconds: u32,
    /// When its connection went; only meaningful without one.
    pub(crate) detached_at: Past,
    /// When its Will or its end is due; only without a connection.
    pub(crate) deadline: Option<DeadlineKey>,
    /// What few sessions have.
    pub(crate) rare: Option<Box<Rare>>,
    /// Subscriptions, windows and queue.
    pub(crate) traffic: Traffic,
}

/// What few sessions have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Message to publish when the connection or the session ends.
    pub(crate) will: Option<Will>,
    /// User name, kept only if a hook may ask for it.
    pub(crate) user_name: Option<Box<str>>,
    /// What a durable session has on the disk.
    pub(crate) stored: Option<Stored>,
}

impl Rare {
    /// Whether nothing is in it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.will.is_none() && self.user_name.is_none() && self.stored.is_none()
    }
}

/// `Session::expiry_seconds` of a session that does not expire (§MQTT5 3.1.2.11.2).
pub(crate) const NEVER_EXPIRES: u32 = u32::MAX;

impl Session {
    /// A session of a client that was not known.
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.into(),
            link: Link::NONE,
            expiry_seconds: 0,
            detached_at: Past(0),
            deadline: None,
            rare: None,
            traffic: Traffic::default(),
        }
    }

    /// The connection that it has, if it has one that still takes packets.
    pub(crate) const fn conn(&self) -> Option<ConnId> {
        self.link.conn()
    }

    /// The user name of the last CONNECT, if hooks made it worth keeping.
    pub(crate) fn user_name(&self) -> Option<&str> {
        self.rare.as_ref()?.user_name.as_deref()
    }

    /// When the session ends, if its connection went at `detached_at`; `None`: never.
    pub(crate) fn expires_at(&self) -> Option<Mono> {
        (self.expiry_seconds != NEVER_EXPIRES)
            .then(|| self.detached_at.plus_seconds(u64::from(self.expiry_seconds)))
    }

    /// The Will that waits for the end of the connection.
    pub(crate) fn will(&self) -> Option<&Will> {
        self.rare.as_ref()?.will.as_ref()
    }

    /// Takes the Will out.
    pub(crate) fn take_will(&mut self) -> Option<Will> {
        let rare = self.rare.as_mut()?;
        let will = rare.will.take();
        if rare.is_empty() {
            self.rare = None;
        }
        will
    }
}

const _: () = assert!(size_of::<Session>() == 96, "most of what an idle session costs");

/// A session that is found to be gone answers `None` to all questions.
impl Sessions {
    /// The connection of a session.
    pub(crate) fn conn_of(&self, session: SessionId) -> Option<ConnId> {
        self.get(session)?.conn()
    }
}

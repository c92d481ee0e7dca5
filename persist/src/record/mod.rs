//! Records: everything that a shard says to its log, as plain values.
//!
//! The vocabulary between a shard's core and its log. What stands on the disk are versioned twins of these types, so a change
//! here is a new version there. All strings are UTF-8 and were checked by the codec; sizes are bounded by the packets they came in.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod kind;
pub(crate) mod v1;

/// Names a durable session in a data directory; never used again, also not by another client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub u64);

impl SessionNo {
    /// The number that a shard gives when it has counted so far. A shard's numbers have the shard in their upper 16 bits, so that no two shards give the same.
    #[must_use]
    pub const fn of_shard(shard: u16, count: u64) -> Self {
        Self(((shard as u64) << COUNT_BITS) | (count & COUNT_MASK))
    }

    /// What the shard that gave it had counted to.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0 & COUNT_MASK
    }
}

const COUNT_BITS: u32 = 48;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Names a stored message in a shard's log. Counts up in the order of acceptance, so it is also the order of delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// One record. Applied in the order of the log, each is idempotent: a record that is moved to the end of the log says again
/// what still holds, and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The whole state of a session. Replaces all that was said of it before.
    Session(Box<Session>),
    /// A session ended: nothing of it holds any more.
    SessionEnded {
        /// Which.
        session: SessionNo,
    },
    /// A connection took the session over, or began it: the part of CONNECT that outlives the connection.
    Attached(Box<Attached>),
    /// The connection is gone; the session goes on alone.
    Detached {
        /// Which.
        session: SessionNo,
        /// When, milliseconds since 1970.
        at_ms: u64,
        /// Seconds that the session lives from then on; DISCONNECT may have changed them.
        expiry_seconds: u32,
        /// Whether a Will is still to be published.
        keeps_will: bool,
    },
    /// The Will of a detached session was published or withdrawn.
    WillGone {
        /// Whose.
        session: SessionNo,
    },
    /// A subscription was made or changed.
    Subscribed {
        /// Whose.
        session: SessionNo,
        /// What.
        subscription: Subscription,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Whose.
        session: SessionNo,
        /// The filter as it was written, `$share/…` and `$exclusive/…` included.
        filter: Box<str>,
    },
    /// A message was accepted for durable sessions of this shard: stored once, whatever their number.
    Published(Box<Published>),
    /// Messages that had waited were given packet identifiers and go out now.
    Sent {
        /// To whom.
        session: SessionNo,
        /// Which, with their packet identifiers, in sending order.
        messages: Vec<(MessageId, u16)>,
    },
    /// Messages that a session needs no more: acknowledged, refused, expired, or dropped to make room.
    Done {
        /// Whose.
        session: SessionNo,
        /// Which.
        messages: Vec<MessageId>,
    },
    /// The receiver has a QoS 2 message (PUBREC came); its identifier waits for PUBCOMP.
    Received {
        /// Whose.
        session: SessionNo,
        /// The message, which is no longer needed.
        message: MessageId,
        /// Its packet identifier, which is.
        packet_id: u16,
    },
    /// PUBCOMP came: the identifier is free.
    Completed {
        /// Whose.
        session: SessionNo,
        /// Which.
        packet_id: u16,
    },
    /// A client's QoS 2 message was accepted and no durable session of this shard wanted it: its identifier waits for PUBREL. Where one
    /// did, [`Published::arrived`] says so.
    Arrived {
        /// Whose.
        session: SessionNo,
        /// Which.
        packet_id: u16,
    },
    /// A client's QoS 2 identifier is free again: PUBREL came, or its time was over.
    Released {
        /// Whose.
        session: SessionNo,
        /// Which.
        packet_id: u16,
    },
    /// A retained message of a topic whose home is this shard.
    Retained(Box<Message>),
    /// A topic has no retained message any more.
    RetainedCleared {
        /// Which topic.
        topic: Box<str>,
    },
}

impl Record {
    /// The session that this says something of; `None` for messages, which have many or none.
    #[must_use]
    pub const fn session(&self) -> Option<SessionNo> {
        match self {
            Self::Session(image) => Some(image.session),
            Self::Attached(attached) => Some(attached.session),
            Self::SessionEnded { session }
            | Self::Detached { session, .. }
            | Self::WillGone { session }
            | Self::Subscribed { session, .. }
            | Self::Unsubscribed { session, .. }
            | Self::Sent { session, .. }
            | Self::Done { session, .. }
            | Self::Received { session, .. }
            | Self::Completed { session, .. }
            | Self::Arrived { session, .. }
            | Self::Released { session, .. } => Some(*session),
            Self::Published(_) | Self::Retained(_) | Self::RetainedCleared { .. } => None,
        }
    }
}

/// A message as it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: Box<str>,
    /// The publisher's client id; empty for the broker's own.
    pub publisher: Box<str>,
    /// Properties that are forwarded, in wire form and order.
    pub properties: Box<[u8]>,
    /// The application message.
    pub payload: Box<[u8]>,
    /// When it was accepted, milliseconds since 1970.
    pub received_at_ms: u64,
    /// Message Expiry Interval in seconds from then.
    pub expiry_seconds: Option<u32>,
    /// QoS it was published with, 0 to 2.
    pub qos: u8,
    /// Its RETAIN flag.
    pub retain: bool,
}

/// A message and the durable sessions of this shard that get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub id: MessageId,
    /// What.
    pub message: Message,
    /// Who gets it, ascending by session. 16 B each on the disk.
    pub receivers: Vec<Receiver>,
    /// Subscription Identifiers, by index into `receivers`, ascending; few messages have any.
    pub subscription_ids: Vec<(u32, u32)>,
    /// The shared subscription, as written, that chose a receiver, by index into `receivers`, ascending.
    pub groups: Vec<(u32, Box<str>)>,
    /// The QoS 2 identifier under which a durable session of this shard published it.
    pub arrived: Option<(SessionNo, u16)>,
}

/// One durable session that gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Whose.
    pub session: SessionNo,
    /// The packet identifier with which it was sent at once; 0 if it waits.
    pub packet_id: u16,
    /// QoS of the transfer, 1 or 2.
    pub qos: u8,
    /// RETAIN of the transfer.
    pub retain: bool,
}

/// What CONNECT changed in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Which; new, or one that was kept.
    pub session: SessionNo,
    /// Whose it is.
    pub client_id: Box<str>,
    /// User name of this CONNECT, if it is kept.
    pub user_name: Option<Box<str>>,
    /// Seconds that the session outlives the connection; `u32::MAX`: for ever.
    pub expiry_seconds: u32,
    /// Its Will, in place of the last one's.
    pub will: Option<Will>,
}

/// A Will that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// What to publish.
    pub message: Message,
    /// Seconds between the end of the connection and the publication.
    pub delay_seconds: u32,
    /// Address and port of the client, for the authorizer.
    pub peer: Box<str>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The filter as it was written, `$share/…` and `$exclusive/…` included.
    pub filter: Box<str>,
    /// The options byte of SUBSCRIBE (§MQTT5 3.8.3.1).
    pub options: u8,
    /// Subscription Identifier; 0 for none.
    pub identifier: u32,
}

/// The whole state of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub session: SessionNo,
    /// Whose it is.
    pub client_id: Box<str>,
    /// User name of the last CONNECT, if it is kept.
    pub user_name: Option<Box<str>>,
    /// Seconds that it outlives its connection; `u32::MAX`: for ever.
    pub expiry_seconds: u32,
    /// When its connection went, milliseconds since 1970; `None` while it has one.
    pub detached_at_ms: Option<u64>,
    /// Message to publish when the connection or the session ends.
    pub will: Option<Will>,
    /// In order of their filters.
    pub subscriptions: Vec<Subscription>,
    /// QoS 2 identifiers of the client that wait for PUBREL.
    pub incoming: Vec<u16>,
    /// QoS 1 and 2 to the client, in sending order.
    pub outgoing: Vec<Outgoing>,
    /// Messages that wait, in order.
    pub queue: Vec<MessageId>,
}

/// A message that was sent and is not through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its packet identifier.
    pub packet_id: u16,
    /// The message; `None` once PUBREC has come.
    pub message: Option<MessageId>,
}

//! What a delivery needs to know of a session's connection, kept in the session so that it touches one place.

use dunlin_wire::types::Version;

use crate::ids::ConnId;

/// The connection of a session: 24 B. One per session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    conn: ConnId,
    /// Bytes that were sent to the edge and that the socket has not taken yet.
    pub(crate) unsent_bytes: u32,
    /// The largest packet that the client takes, bytes. `[MQTT5-3.1.2-24]`
    pub(crate) packet_bytes_max: u32,
    /// QoS 1 and 2 messages that the client takes at once (Receive Maximum). `[MQTT5-4.9.0-1]`
    pub(crate) receive_maximum: u16,
    /// The highest Topic Alias that the client takes; 0: none. `[MQTT5-3.1.2-26]` `[MQTT5-3.1.2-27]`
    pub(crate) topic_alias_maximum: u16,
    /// What the client speaks.
    pub(crate) version: Version,
    /// Messages wait in the queue until the authorizer has been asked for the subscriptions again.
    pub(crate) is_withheld: bool,
}

impl Link {
    /// No connection.
    pub(crate) const NONE: Self = Self {
        conn: ConnId { slot: NO_SLOT, generation: 0 },
        unsent_bytes: 0,
        packet_bytes_max: u32::MAX,
        receive_maximum: u16::MAX,
        topic_alias_maximum: 0,
        version: Version::V311,
        is_withheld: false,
    };

    /// A connection without any limit of the client.
    pub(crate) const fn new(conn: ConnId, version: Version) -> Self {
        Self { conn, version, ..Self::NONE }
    }

    /// The connection, if there is one that still takes packets.
    #[inline]
    pub(crate) const fn conn(&self) -> Option<ConnId> {
        if self.conn.slot == NO_SLOT { None } else { Some(self.conn) }
    }

    /// Forgets the connection; the version stays.
    pub(crate) const fn cut(&mut self) {
        *self = Self { version: self.version, ..Self::NONE };
    }
}

/// Slot of no connection: the edge's tables never have 2³² entries.
const NO_SLOT: u32 = u32::MAX;

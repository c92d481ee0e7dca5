//! What a store tells the shard that owns it.

use std::sync::Arc;

use crate::record::{Message, MessageId, SessionNo};

/// Something that the disk has done. Told by [`crate::Store::poll`] in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Every append up to this one is on the disk.
    Stored {
        /// The last one's number, as it was given to [`crate::Store::append`].
        seq: u64,
    },
    /// Whether the store takes what is new has changed.
    State(StoreState),
    /// The answer to one [`crate::Store::fetch`], in the order asked.
    Fetched {
        /// For whom.
        session: SessionNo,
        /// What.
        messages: Vec<FetchedMessage>,
    },
}

/// Whether a store takes what is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// Everything.
    #[default]
    Open,
    /// Only what makes room: acknowledgements, ends of sessions and subscriptions, and what moves on cleaning. There is a reserve
    /// for that.
    Full,
    /// Nothing, until the next start: a sync failed, and what the disk has since then is not known.
    Failed,
}

/// A stored message for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchedMessage {
    /// As it was stored.
    Found(FoundMessage),
    /// Its place is not known, or what stands there fails its check. Counted by the store.
    Lost(MessageId),
}

impl FetchedMessage {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> MessageId {
        match self {
            Self::Found(found) => found.id,
            Self::Lost(id) => *id,
        }
    }
}

/// A stored message and how one session gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundMessage {
    /// Its name.
    pub id: MessageId,
    /// The message; shared with other sessions that fetched it lately.
    pub message: Arc<Message>,
    /// QoS of the transfer, 1 or 2.
    pub qos: u8,
    /// RETAIN of the transfer.
    pub retain: bool,
    /// Subscription Identifiers of this session's subscriptions that matched, ascending.
    pub subscription_ids: Box<[u32]>,
    /// The shared subscription, as written, that chose this session.
    pub group: Option<Box<str>>,
}

//! The mesh: everything one core may say to another.
//!
//! [`MeshMessage`] is the vocabulary; `lane.rs` counts what is under way on each path and when publishers must pause,
//! `announce.rs` numbers interest changes and knows when all shards have seen one, `gather.rs` keeps the questions that
//! other shards have yet to answer.

pub(crate) mod announce;
pub(crate) mod gather;
pub(crate) mod lane;

use std::num::NonZeroU64;
use std::sync::Arc;

use dunlin_persist::{SessionNo, StoreState};
use dunlin_wire::types::SubscriptionOptions;

use crate::durable::Ask;
pub use crate::durable::Asked;
use crate::ids::{SessionId, ShardId, Token};
use crate::message::Message;
use crate::topics::{GroupId, RetainedCursor};

/// One message from shard to shard. The edge moves it unread, in order per pair of shards.
///
/// 24 bytes: what is larger is boxed, so that an [`crate::Action`] stays small.
#[derive(Debug)]
pub enum MeshMessage {
    /// The receiver has handled this many weighed messages of the lane: the sender may send as many more.
    Credit {
        /// Messages handled since the last credit.
        count: u32,
    },
    /// The sender has stored, for all durable sessions concerned, what it was sent of one kind.
    Stored {
        /// Which kind.
        kind: Asked,
        /// Messages of this kind on the lane, from the first one on.
        count: u64,
        /// The last of them could not be stored.
        is_refused: bool,
    },
    /// After a restart: all that the sender's sessions want was said (round 1), and all that its groups want (round 2).
    Restored {
        /// 1 or 2.
        round: u8,
    },
    /// A publication that the receiver wants: it matches it against its own filters.
    Deliver(Message),
    /// A QoS 2 publication of a durable session: as [`MeshMessage::Deliver`], but not twice to the same shard until the sender has
    /// said that its identifier is free.
    DeliverOnce(Box<Once>),
    /// The sender has restarted and has a message that a session of another shard published.
    Taken {
        /// Whose.
        session: SessionNo,
        /// Under which identifier.
        packet_id: u16,
    },
    /// How the sender's log is: when it is full, Wills wait.
    StoreState(StoreState),
    /// The identifier of a [`MeshMessage::DeliverOnce`] is free.
    Forget {
        /// Whose it was.
        session: SessionNo,
        /// Which.
        packet_id: u16,
    },
    /// A publication for one member of a shared subscription, chosen by the group's home.
    DeliverTo(Box<MemberDelivery>),
    /// The member of a [`MeshMessage::DeliverTo`] was gone: back to the group's home.
    DeliverBack(Box<MemberDelivery>),
    /// A publication whose RETAIN flag is set, for the topic's home.
    Retain(Box<RetainUpdate>),
    /// The sender wants, or no longer wants, topics. Shared by all lanes that carry it.
    Interest(Arc<InterestChange>),
    /// The receiver's changes of interest up to this version are in the sender's table.
    InterestSeen {
        /// The newest [`InterestChange::version`] that was applied.
        version: u64,
    },
    /// A session of the sender joins (or changes its options in) a shared subscription whose home is the receiver.
    GroupJoin(Box<GroupJoin>),
    /// The join is done: publications on all shards reach the group from now on.
    GroupJoined {
        /// The question of [`GroupJoin::token`].
        token: Token,
    },
    /// A session of the sender leaves a shared subscription.
    GroupLeave(Box<GroupLeave>),
    /// A member's connection came or went.
    GroupPresence(Box<GroupPresence>),
    /// A publication that a member can no longer take comes back to the group's home.
    GroupReturn(Box<GroupReturn>),
    /// Asks the topic's home for an exclusive subscription.
    ExclusiveClaim(Box<ExclusiveClaim>),
    /// Answers a claim.
    ExclusiveAnswer {
        /// The question.
        token: Token,
        /// Whether the topic is the asker's now.
        granted: bool,
    },
    /// Gives a claimed topic back.
    ExclusiveRelease(Box<ExclusiveRelease>),
    /// Asks for a page of retained messages.
    RetainedAsk(Box<RetainedAsk>),
    /// Answers with a page.
    RetainedPage(Box<RetainedPage>),
}

impl MeshMessage {
    /// Whether the message counts against the lane's credits: those that publishers cause. What controls the mesh
    /// itself never waits, else two full lanes could wait for each other.
    #[must_use]
    pub const fn is_weighed(&self) -> bool {
        matches!(
            self,
            Self::Deliver(_)
                | Self::DeliverOnce(_)
                | Self::DeliverTo(_)
                | Self::DeliverBack(_)
                | Self::Retain(_)
                | Self::GroupReturn(_)
        )
    }
}

/// A shared subscription, named by a seeded hash of its share name and filter, never 0. Its home shard follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub NonZeroU64);

/// A publication that must not be taken twice.
#[derive(Debug)]
pub struct Once {
    /// The publisher's session and its packet identifier.
    pub origin: (SessionNo, u16),
    /// Whether the client may have sent it before.
    pub is_repeat: bool,
    /// What was published.
    pub message: Message,
}

/// A publication for one member of a group.
#[derive(Debug)]
pub struct MemberDelivery {
    /// Which session of the receiver.
    pub session: SessionId,
    /// Which group chose it.
    pub group: GroupKey,
    /// Where the group's home keeps it.
    pub group_id: GroupId,
    /// The options that the member subscribed with, when it was chosen.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier, 0 if it gave none.
    pub subscription_id: u32,
    /// Under which name the sender waits for it to be stored.
    pub(crate) asked: Option<Ask>,
    /// What was published.
    pub message: Message,
}

/// A retained publication on its way to the topic's home.
#[derive(Debug)]
pub struct RetainUpdate {
    /// What was published; an empty payload removes what is kept.
    pub message: Message,
    /// The shards that the publisher's shard has sent it to, ascending. The home sends it to those that asked for the
    /// topic since, so that a subscriber that was told the older retained message hears the newer one.
    pub covered: Box<[ShardId]>,
}

/// One step of a shard's interest.
#[derive(Debug)]
pub struct InterestChange {
    /// Counts the sender's steps, from 1.
    pub version: u64,
    /// Filters that it wants for the first time, or does not want any more.
    pub changes: Vec<(Box<str>, Wanted)>,
}

/// Whether a shard wants what a filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Its first subscriber came.
    Yes,
    /// Its last subscriber went.
    No,
}

/// A session joins a shared subscription.
#[derive(Debug)]
pub struct GroupJoin {
    /// The sender's question, answered by [`MeshMessage::GroupJoined`].
    pub token: Token,
    /// The ShareName.
    pub group: Box<str>,
    /// The filter behind it.
    pub filter: Box<str>,
    /// Who joins.
    pub session: SessionId,
    /// With which options.
    pub options: SubscriptionOptions,
    /// And which Subscription Identifier; 0 for none.
    pub subscription_id: u32,
    /// Whether its connection is there.
    pub is_connected: bool,
}

/// A session leaves a shared subscription.
#[derive(Debug)]
pub struct GroupLeave {
    /// The ShareName.
    pub group: Box<str>,
    /// The filter behind it.
    pub filter: Box<str>,
    /// Who leaves.
    pub session: SessionId,
}

/// A member's connection came or went.
#[derive(Debug)]
pub struct GroupPresence {
    /// The ShareName.
    pub group: Box<str>,
    /// The filter behind it.
    pub filter: Box<str>,
    /// Whose.
    pub session: SessionId,
    /// Whether it is connected now.
    pub is_connected: bool,
}

/// A publication comes back from a member.
#[derive(Debug)]
pub struct GroupReturn {
    /// The ShareName.
    pub group: Box<str>,
    /// The filter behind it.
    pub filter: Box<str>,
    /// From whom; it is not chosen again while there are others.
    pub session: SessionId,
    /// What.
    pub message: Message,
}

/// A wish to be the only subscriber of `$exclusive/` and a topic.
#[derive(Debug)]
pub struct ExclusiveClaim {
    /// The sender's question.
    pub token: Token,
    /// The topic behind `$exclusive/`.
    pub topic: Box<str>,
    /// Who wants it.
    pub session: SessionId,
}

/// The end of an exclusive subscription.
#[derive(Debug)]
pub struct ExclusiveRelease {
    /// The topic behind `$exclusive/`.
    pub topic: Box<str>,
    /// Who had it.
    pub session: SessionId,
}

/// A question for retained messages.
#[derive(Debug)]
pub struct RetainedAsk {
    /// The asker's question.
    pub token: Token,
    /// Which topics, and where the page before ended.
    pub cursor: RetainedCursor,
}

/// A page of retained messages. At most [`RETAINED_PAGE_COUNT_MAX`] messages and, but for the last few of them,
/// [`RETAINED_PAGE_BYTES_MAX`] bytes.
#[derive(Debug)]
pub struct RetainedPage {
    /// The question.
    pub token: Token,
    /// In order of their topics.
    pub messages: Vec<Message>,
    /// Where to go on; `None` when this was the last page.
    pub cursor: Option<RetainedCursor>,
}

/// Messages of one page: enough to keep a socket busy for a round trip through the mesh.
pub const RETAINED_PAGE_COUNT_MAX: usize = 64;
/// Bytes of one page, after which it ends.
pub const RETAINED_PAGE_BYTES_MAX: usize = 256 << 10;

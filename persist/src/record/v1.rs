//! Version 1 of the stored records: what stands on the disk, as rkyv archives.
//!
//! Never changed: a record that must say more gets a version 2 beside this. The payload of a message is no part of its
//! archive; it follows as it came, so that it is copied once, from the packet into the segment.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// The version byte of these forms.
pub(crate) const VERSION: u8 = 1;

/// [`super::Message`] without its payload.
#[derive(Archive, Serialize)]
pub(crate) struct MessageV1<'a> {
    #[rkyv(with = InlineAsBox)]
    pub topic: &'a str,
    #[rkyv(with = InlineAsBox)]
    pub publisher: &'a str,
    #[rkyv(with = InlineAsBox)]
    pub properties: &'a [u8],
    pub received_at_ms: u64,
    pub expiry_seconds: Option<u32>,
    pub qos: u8,
    pub retain: bool,
}

/// [`super::Published`]; 16 B for each receiver.
#[derive(Archive, Serialize)]
pub(crate) struct PublishedV1<'a> {
    pub id: u64,
    pub message: MessageV1<'a>,
    #[rkyv(with = InlineAsBox)]
    pub receivers: &'a [ReceiverV1],
    #[rkyv(with = InlineAsBox)]
    pub subscription_ids: &'a [PairV1],
    #[rkyv(with = InlineAsBox)]
    pub groups: &'a [GroupV1<'a>],
    pub arrived: Option<InSessionV1>,
}

/// [`super::Receiver`].
#[derive(Archive, Serialize)]
pub(crate) struct ReceiverV1 {
    pub session: u64,
    pub packet_id: u16,
    pub qos: u8,
    pub retain: bool,
}

/// A receiver by its index, and a Subscription Identifier.
#[derive(Archive, Serialize)]
pub(crate) struct PairV1 {
    pub receiver: u32,
    pub identifier: u32,
}

/// A receiver by its index, and the shared subscription that chose it.
#[derive(Archive, Serialize)]
pub(crate) struct GroupV1<'a> {
    pub receiver: u32,
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
}

/// Something that is said of a session by a number alone: a packet identifier.
#[derive(Archive, Serialize)]
pub(crate) struct InSessionV1 {
    pub session: u64,
    pub packet_id: u16,
}

/// A session's number and no more.
#[derive(Archive, Serialize)]
pub(crate) struct SessionNoV1 {
    pub session: u64,
}

/// [`super::Record::Detached`].
#[derive(Archive, Serialize)]
pub(crate) struct DetachedV1 {
    pub session: u64,
    pub at_ms: u64,
    pub expiry_seconds: u32,
    pub keeps_will: bool,
}

/// [`super::Will`], its payload inside: there is one at most per record, and it is small.
#[derive(Archive, Serialize)]
pub(crate) struct WillV1<'a> {
    pub message: MessageV1<'a>,
    #[rkyv(with = InlineAsBox)]
    pub payload: &'a [u8],
    pub delay_seconds: u32,
    #[rkyv(with = InlineAsBox)]
    pub peer: &'a str,
}

/// [`super::Attached`].
#[derive(Archive, Serialize)]
pub(crate) struct AttachedV1<'a> {
    pub session: u64,
    #[rkyv(with = InlineAsBox)]
    pub client_id: &'a str,
    /// Empty and `has_user_name` unset: none.
    #[rkyv(with = InlineAsBox)]
    pub user_name: &'a str,
    pub expiry_seconds: u32,
    pub has_user_name: bool,
    pub will: Option<WillV1<'a>>,
}

/// [`super::Subscription`].
#[derive(Archive, Serialize)]
pub(crate) struct SubscriptionV1<'a> {
    #[rkyv(with = InlineAsBox)]
    pub filter: &'a str,
    pub identifier: u32,
    pub options: u8,
}

/// [`super::Record::Subscribed`].
#[derive(Archive, Serialize)]
pub(crate) struct SubscribedV1<'a> {
    pub session: u64,
    pub subscription: SubscriptionV1<'a>,
}

/// [`super::Record::Unsubscribed`].
#[derive(Archive, Serialize)]
pub(crate) struct UnsubscribedV1<'a> {
    pub session: u64,
    #[rkyv(with = InlineAsBox)]
    pub filter: &'a str,
}

/// A message and a packet identifier; 0 for none.
#[derive(Archive, Serialize)]
pub(crate) struct SentV1 {
    pub message: u64,
    pub packet_id: u16,
}

/// [`super::Record::Sent`].
#[derive(Archive, Serialize)]
pub(crate) struct SentListV1<'a> {
    pub session: u64,
    #[rkyv(with = InlineAsBox)]
    pub messages: &'a [SentV1],
}

/// [`super::Record::Done`].
#[derive(Archive, Serialize)]
pub(crate) struct DoneV1<'a> {
    pub session: u64,
    #[rkyv(with = InlineAsBox)]
    pub messages: &'a [u64],
}

/// [`super::Record::Received`].
#[derive(Archive, Serialize)]
pub(crate) struct ReceivedV1 {
    pub session: u64,
    pub message: u64,
    pub packet_id: u16,
}

/// [`super::Record::RetainedCleared`].
#[derive(Archive, Serialize)]
pub(crate) struct TopicV1<'a> {
    #[rkyv(with = InlineAsBox)]
    pub topic: &'a str,
}

/// [`super::Session`].
#[derive(Archive, Serialize)]
pub(crate) struct SessionV1<'a> {
    pub attached: AttachedV1<'a>,
    pub detached_at_ms: Option<u64>,
    #[rkyv(with = InlineAsBox)]
    pub subscriptions: &'a [SubscriptionV1<'a>],
    #[rkyv(with = InlineAsBox)]
    pub incoming: &'a [u16],
    #[rkyv(with = InlineAsBox)]
    pub outgoing: &'a [OutgoingV1],
    #[rkyv(with = InlineAsBox)]
    pub queue: &'a [u64],
}

/// [`super::Outgoing`].
#[derive(Archive, Serialize)]
pub(crate) struct OutgoingV1 {
    pub message: Option<u64>,
    pub packet_id: u16,
}

// The sizes are the format: a feature of rkyv that another crate turns on, or a field that moves, fails here.
const _: () = {
    assert!(size_of::<ArchivedMessageV1<'static>>() == 48);
    assert!(size_of::<ArchivedPublishedV1<'static>>() == 104);
    assert!(size_of::<ArchivedReceiverV1>() == 16);
    assert!(size_of::<ArchivedPairV1>() == 8);
    assert!(size_of::<ArchivedGroupV1<'static>>() == 12);
    assert!(size_of::<ArchivedInSessionV1>() == 16);
    assert!(size_of::<ArchivedSessionNoV1>() == 8);
    assert!(size_of::<ArchivedDetachedV1>() == 24);
    assert!(size_of::<ArchivedWillV1<'static>>() == 72);
    assert!(size_of::<ArchivedAttachedV1<'static>>() == 112);
    assert!(size_of::<ArchivedSubscriptionV1<'static>>() == 16);
    assert!(size_of::<ArchivedSubscribedV1<'static>>() == 24);
    assert!(size_of::<ArchivedUnsubscribedV1<'static>>() == 16);
    assert!(size_of::<ArchivedSentV1>() == 16);
    assert!(size_of::<ArchivedSentListV1<'static>>() == 16);
    assert!(size_of::<ArchivedDoneV1<'static>>() == 16);
    assert!(size_of::<ArchivedReceivedV1>() == 24);
    assert!(size_of::<ArchivedTopicV1<'static>>() == 8);
    assert!(size_of::<ArchivedSessionV1<'static>>() == 160);
    assert!(size_of::<ArchivedOutgoingV1>() == 24);
    assert!(align_of::<ArchivedPublishedV1<'static>>() == 8 && align_of::<ArchivedSessionV1<'static>>() == 8);
};

//! From a record to the bytes of its frame.

use rkyv::Serialize;
use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::util::AlignedVec;

use super::kind::Kind;
use super::v1;
use super::{Attached, Message, Published, Record, Session, Subscription, Will};

/// Turns records into archives. Keeps its buffers, so that a record costs no allocation. One per store.
#[derive(Default)]
pub(crate) struct Encoder {
    archive: AlignedVec,
    arena: Arena,
    receivers: Vec<v1::ReceiverV1>,
}

/// A record as it is written: an archive, and a payload that is borrowed from the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoded<'a> {
    /// What it says.
    pub kind: Kind,
    /// How.
    pub version: u8,
    /// The archive.
    pub archive: &'a [u8],
    /// What follows it.
    pub payload: &'a [u8],
}

impl Encoder {
    /// Encodes a record in the newest version of its kind.
    pub(crate) fn encode<'a>(&'a mut self, record: &'a Record) -> Encoded<'a> {
        self.archive.clear();
        let payload = self.write(record);
        Encoded { kind: Kind::of(record), version: v1::VERSION, archive: &self.archive, payload }
    }

    fn write<'a>(&mut self, record: &'a Record) -> &'a [u8] {
        match record {
            Record::Published(published) => return self.write_published(published),
            Record::Retained(message) => {
                self.archive_of(&message_v1(message));
                return &message.payload;
            }
            Record::Session(session) => self.write_session(session),
            Record::Attached(attached) => self.archive_of(&attached_v1(attached)),
            Record::SessionEnded { session } | Record::WillGone { session } => {
                self.archive_of(&v1::SessionNoV1 { session: session.0 });
            }
            Record::Detached { session, at_ms, expiry_seconds, keeps_will } => {
                self.archive_of(&v1::DetachedV1 {
                    session: session.0,
                    at_ms: *at_ms,
                    expiry_seconds: *expiry_seconds,
                    keeps_will: *keeps_will,
                });
            }
            Record::Subscribed { session, subscription } => {
                let subscription = subscription_v1(subscription);
                self.archive_of(&v1::SubscribedV1 { session: session.0, subscription });
            }
            Record::Unsubscribed { session, filter } => {
                self.archive_of(&v1::UnsubscribedV1 { session: session.0, filter });
            }
            Record::Sent { session, messages } => {
                let messages: Vec<_> =
                    messages.iter().map(|(id, packet_id)| sent_v1(id.0, *packet_id)).collect();
                self.archive_of(&v1::SentListV1 { session: session.0, messages: &messages });
            }
            Record::Done { session, messages } => {
                let messages: Vec<_> = messages.iter().map(|id| id.0).collect();
                self.archive_of(&v1::DoneV1 { session: session.0, messages: &messages });
            }
            Record::Received { session, message, packet_id } => {
                self.archive_of(&v1::ReceivedV1 {
                    session: session.0,
                    message: message.0,
                    packet_id: *packet_id,
                });
            }
            Record::Completed { session, packet_id }
            | Record::Arrived { session, packet_id }
            | Record::Released { session, packet_id } => {
                self.archive_of(&v1::InSessionV1 { session: session.0, packet_id: *packet_id });
            }
            Record::RetainedCleared { topic } => self.archive_of(&v1::TopicV1 { topic }),
        }
        &[]
    }

    fn write_published<'a>(&mut self, published: &'a Published) -> &'a [u8] {
        let mut receivers = std::mem::take(&mut self.receivers);
        receivers.clear();
        receivers.extend(published.receivers.iter().map(|receiver| v1::ReceiverV1 {
            session: receiver.session.0,
            packet_id: receiver.packet_id,
            qos: receiver.qos,
            retain: receiver.retain,
        }));
        let pair =
            |(receiver, identifier): &(u32, u32)| v1::PairV1 { receiver: *receiver, identifier: *identifier };
        let subscription_ids: Vec<_> = published.subscription_ids.iter().map(pair).collect();
        let groups: Vec<_> = published
            .groups
            .iter()
            .map(|(receiver, name)| v1::GroupV1 { receiver: *receiver, name })
            .collect();
        self.archive_of(&v1::PublishedV1 {
            id: published.id.0,
            message: message_v1(&published.message),
            receivers: &receivers,
            subscription_ids: &subscription_ids,
            groups: &groups,
            arrived: published
                .arrived
                .map(|(session, packet_id)| v1::InSessionV1 { session: session.0, packet_id }),
        });
        self.receivers = receivers;
        &published.message.payload
    }

    fn write_session(&mut self, session: &Session) {
        let subscriptions: Vec<_> = session.subscriptions.iter().map(subscription_v1).collect();
        let outgoing: Vec<_> = session
            .outgoing
            .iter()
            .map(|out| v1::OutgoingV1 { message: out.message.map(|id| id.0), packet_id: out.packet_id })
            .collect();
        let queue: Vec<_> = session.queue.iter().map(|id| id.0).collect();
        self.archive_of(&v1::SessionV1 {
            attached: v1::AttachedV1 {
                session: session.session.0,
                client_id: &session.client_id,
                user_name: session.user_name.as_deref().unwrap_or_default(),
                expiry_seconds: session.expiry_seconds,
                has_user_name: session.user_name.is_some(),
                will: session.will.as_ref().map(will_v1),
            },
            detached_at_ms: session.detached_at_ms,
            subscriptions: &subscriptions,
            incoming: &session.incoming,
            outgoing: &outgoing,
            queue: &queue,
        });
    }

    fn archive_of<T>(&mut self, value: &T)
    where
        T: for<'a> Serialize<Strategy<Serializer<AlignedVec, ArenaHandle<'a>, ()>, Failure>>,
    {
        let archive = std::mem::take(&mut self.archive);
        let mut serializer = Serializer::new(archive, self.arena.acquire(), ());
        rkyv::api::serialize_using::<_, Failure>(value, &mut serializer)
            .expect("a vector takes everything, and no record reaches 2 GiB: packets end at 256 MiB");
        self.archive = serializer.into_writer();
    }
}

fn message_v1(message: &Message) -> v1::MessageV1<'_> {
    v1::MessageV1 {
        topic: &message.topic,
        publisher: &message.publisher,
        properties: &message.properties,
        received_at_ms: message.received_at_ms,
        expiry_seconds: message.expiry_seconds,
        qos: message.qos,
        retain: message.retain,
    }
}

fn will_v1(will: &Will) -> v1::WillV1<'_> {
    v1::WillV1 {
        message: message_v1(&will.message),
        payload: &will.message.payload,
        delay_seconds: will.delay_seconds,
        peer: &will.peer,
    }
}

fn attached_v1(attached: &Attached) -> v1::AttachedV1<'_> {
    v1::AttachedV1 {
        session: attached.session.0,
        client_id: &attached.client_id,
        user_name: attached.user_name.as_deref().unwrap_or_default(),
        expiry_seconds: attached.expiry_seconds,
        has_user_name: attached.user_name.is_some(),
        will: attached.will.as_ref().map(will_v1),
    }
}

fn subscription_v1(subscription: &Subscription) -> v1::SubscriptionV1<'_> {
    v1::SubscriptionV1 {
        filter: &subscription.filter,
        identifier: subscription.identifier,
        options: subscription.options,
    }
}

const fn sent_v1(message: u64, packet_id: u16) -> v1::SentV1 {
    v1::SentV1 { message, packet_id }
}

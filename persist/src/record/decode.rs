//! From the bytes of a frame to a record. Every byte is checked: what fails its check is damage, not a panic.

use rkyv::Portable;
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;

use super::kind::Kind;
use super::{
    Attached, Message, MessageId, Outgoing, Published, Receiver, Record, Session, SessionNo, Subscription,
    Will, v1,
};

/// Why the bytes of a sound frame are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// A kind or a version of a later program.
    Unknown,
    /// The archive contradicts itself.
    Damaged,
}

/// A published message, in place: replay needs its numbers only.
#[derive(Clone, Copy)]
pub(crate) struct PublishedView<'a> {
    archived: &'a v1::ArchivedPublishedV1<'static>,
    payload: &'a [u8],
}

/// A record, in place if it is a published message.
pub(crate) enum View<'a> {
    /// A message.
    Published(PublishedView<'a>),
    /// Anything else.
    Other(Record),
}

impl View<'_> {
    /// The record, on its own.
    pub(crate) fn into_record(self) -> Record {
        match self {
            Self::Published(view) => Record::Published(Box::new(view.to_published())),
            Self::Other(record) => record,
        }
    }
}

/// Reads a frame's record. `archive` must begin at a multiple of eight.
pub(crate) fn decode<'a>(
    kind: u8,
    version: u8,
    archive: &'a [u8],
    payload: &'a [u8],
) -> Result<View<'a>, DecodeError> {
    let kind = Kind::from_byte(kind).ok_or(DecodeError::Unknown)?;
    match version {
        v1::VERSION => decode_v1(kind, archive, payload),
        _ => Err(DecodeError::Unknown),
    }
}

impl<'a> PublishedView<'a> {
    /// Its name.
    pub(crate) fn id(&self) -> MessageId {
        MessageId(self.archived.id.to_native())
    }

    /// Who gets it, ascending by session.
    pub(crate) fn receivers(&self) -> impl ExactSizeIterator<Item = Receiver> + 'a {
        self.archived.receivers.iter().map(receiver)
    }

    /// The QoS 2 identifier under which it came.
    pub(crate) fn arrived(&self) -> Option<(SessionNo, u16)> {
        let arrived = self.archived.arrived.as_ref()?;
        Some((SessionNo(arrived.session.to_native()), arrived.packet_id.to_native()))
    }

    /// The message alone.
    pub(crate) fn to_message(self) -> Message {
        message(&self.archived.message, self.payload)
    }

    /// All of it.
    pub(crate) fn to_published(self) -> Published {
        Published {
            id: self.id(),
            message: self.to_message(),
            receivers: self.receivers().collect(),
            subscription_ids: self.subscription_ids().collect(),
            groups: self.groups().map(|(index, name)| (index, name.into())).collect(),
            arrived: self.arrived(),
        }
    }

    /// Subscription Identifiers by index of a receiver.
    pub(crate) fn subscription_ids(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + 'a {
        self.archived
            .subscription_ids
            .iter()
            .map(|pair| (pair.receiver.to_native(), pair.identifier.to_native()))
    }

    /// Shared subscriptions by index of a receiver.
    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = (u32, &'a str)> + 'a {
        self.archived.groups.iter().map(|group| (group.receiver.to_native(), &*group.name))
    }
}

fn decode_v1<'a>(kind: Kind, archive: &'a [u8], payload: &'a [u8]) -> Result<View<'a>, DecodeError> {
    let record = match kind {
        Kind::Published => {
            let archived = access::<v1::ArchivedPublishedV1<'static>>(archive)?;
            return Ok(View::Published(PublishedView { archived, payload }));
        }
        Kind::Retained => Record::Retained(Box::new(message(access(archive)?, payload))),
        Kind::Session => Record::Session(Box::new(session(access(archive)?))),
        Kind::Attached => Record::Attached(Box::new(attached(access(archive)?))),
        Kind::SessionEnded => Record::SessionEnded { session: session_no(archive)? },
        Kind::WillGone => Record::WillGone { session: session_no(archive)? },
        Kind::Detached => {
            let detached = access::<v1::ArchivedDetachedV1>(archive)?;
            Record::Detached {
                session: SessionNo(detached.session.to_native()),
                at_ms: detached.at_ms.to_native(),
                expiry_seconds: detached.expiry_seconds.to_native(),
                keeps_will: detached.keeps_will,
            }
        }
        Kind::Subscribed => {
            let subscribed = access::<v1::ArchivedSubscribedV1<'static>>(archive)?;
            Record::Subscribed {
                session: SessionNo(subscribed.session.to_native()),
                subscription: subscription(&subscribed.subscription),
            }
        }
        Kind::Unsubscribed => {
            let unsubscribed = access::<v1::ArchivedUnsubscribedV1<'static>>(archive)?;
            let session = SessionNo(unsubscribed.session.to_native());
            Record::Unsubscribed { session, filter: unsubscribed.filter.as_ref().into() }
        }
        Kind::Sent => {
            let sent = access::<v1::ArchivedSentListV1<'static>>(archive)?;
            let one =
                |sent: &v1::ArchivedSentV1| (MessageId(sent.message.to_native()), sent.packet_id.to_native());
            Record::Sent {
                session: SessionNo(sent.session.to_native()),
                messages: sent.messages.iter().map(one).collect(),
            }
        }
        Kind::Done => {
            let done = access::<v1::ArchivedDoneV1<'static>>(archive)?;
            let messages = done.messages.iter().map(|id| MessageId(id.to_native())).collect();
            Record::Done { session: SessionNo(done.session.to_native()), messages }
        }
        Kind::Received => {
            let received = access::<v1::ArchivedReceivedV1>(archive)?;
            Record::Received {
                session: SessionNo(received.session.to_native()),
                message: MessageId(received.message.to_native()),
                packet_id: received.packet_id.to_native(),
            }
        }
        Kind::Completed => {
            let (session, packet_id) = in_session(archive)?;
            Record::Completed { session, packet_id }
        }
        Kind::Arrived => {
            let (session, packet_id) = in_session(archive)?;
            Record::Arrived { session, packet_id }
        }
        Kind::Released => {
            let (session, packet_id) = in_session(archive)?;
            Record::Released { session, packet_id }
        }
        Kind::RetainedCleared => Record::RetainedCleared {
            topic: access::<v1::ArchivedTopicV1<'static>>(archive)?.topic.as_ref().into(),
        },
    };
    Ok(View::Other(record))
}

fn access<T>(archive: &[u8]) -> Result<&T, DecodeError>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, Failure>>,
{
    rkyv::access::<T, Failure>(archive).map_err(|_| DecodeError::Damaged)
}

fn session_no(archive: &[u8]) -> Result<SessionNo, DecodeError> {
    Ok(SessionNo(access::<v1::ArchivedSessionNoV1>(archive)?.session.to_native()))
}

fn in_session(archive: &[u8]) -> Result<(SessionNo, u16), DecodeError> {
    let both = access::<v1::ArchivedInSessionV1>(archive)?;
    Ok((SessionNo(both.session.to_native()), both.packet_id.to_native()))
}

fn receiver(archived: &v1::ArchivedReceiverV1) -> Receiver {
    Receiver {
        session: SessionNo(archived.session.to_native()),
        packet_id: archived.packet_id.to_native(),
        qos: archived.qos,
        retain: archived.retain,
    }
}

fn message(archived: &v1::ArchivedMessageV1<'static>, payload: &[u8]) -> Message {
    Message {
        topic: archived.topic.as_ref().into(),
        publisher: archived.publisher.as_ref().into(),
        properties: archived.properties.as_ref().into(),
        payload: payload.into(),
        received_at_ms: archived.received_at_ms.to_native(),
        expiry_seconds: archived.expiry_seconds.as_ref().map(|seconds| seconds.to_native()),
        qos: archived.qos,
        retain: archived.retain,
    }
}

fn will(archived: &v1::ArchivedWillV1<'static>) -> Will {
    Will {
        message: message(&archived.message, &archived.payload),
        delay_seconds: archived.delay_seconds.to_native(),
        peer: archived.peer.as_ref().into(),
    }
}

fn user_name(archived: &v1::ArchivedAttachedV1<'static>) -> Option<Box<str>> {
    archived.has_user_name.then(|| archived.user_name.as_ref().into())
}

fn attached(archived: &v1::ArchivedAttachedV1<'static>) -> Attached {
    Attached {
        session: SessionNo(archived.session.to_native()),
        client_id: archived.client_id.as_ref().into(),
        user_name: user_name(archived),
        expiry_seconds: archived.expiry_seconds.to_native(),
        will: archived.will.as_ref().map(will),
    }
}

fn subscription(archived: &v1::ArchivedSubscriptionV1<'static>) -> Subscription {
    Subscription {
        filter: archived.filter.as_ref().into(),
        options: archived.options,
        identifier: archived.identifier.to_native(),
    }
}

fn session(archived: &v1::ArchivedSessionV1<'static>) -> Session {
    let attached = &archived.attached;
    let outgoing = |out: &v1::ArchivedOutgoingV1| Outgoing {
        packet_id: out.packet_id.to_native(),
        message: out.message.as_ref().map(|id| MessageId(id.to_native())),
    };
    Session {
        session: SessionNo(attached.session.to_native()),
        client_id: attached.client_id.as_ref().into(),
        user_name: user_name(attached),
        expiry_seconds: attached.expiry_seconds.to_native(),
        detached_at_ms: archived.detached_at_ms.as_ref().map(|at| at.to_native()),
        will: attached.will.as_ref().map(will),
        subscriptions: archived.subscriptions.iter().map(subscription).collect(),
        incoming: archived.incoming.iter().map(|packet_id| packet_id.to_native()).collect(),
        outgoing: archived.outgoing.iter().map(outgoing).collect(),
        queue: archived.queue.iter().map(|id| MessageId(id.to_native())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode::Encoder;
    use proptest::prelude::*;
    use rkyv::util::AlignedVec;

    /// As a scan does: the archive in memory that is aligned.
    fn round_trip(record: &Record) -> Record {
        let mut encoder = Encoder::default();
        let encoded = encoder.encode(record);
        let mut archive = AlignedVec::<16>::new();
        archive.extend_from_slice(encoded.archive);
        let (kind, version, payload) = (encoded.kind.byte(), encoded.version, encoded.payload.to_vec());
        decode(kind, version, &archive, &payload).map_err(|error| format!("{error:?}")).unwrap().into_record()
    }

    fn text() -> impl Strategy<Value = Box<str>> {
        proptest::collection::vec(proptest::char::any(), 0..20)
            .prop_map(|characters| characters.into_iter().collect::<String>().into())
    }

    fn octets() -> impl Strategy<Value = Box<[u8]>> {
        proptest::collection::vec(any::<u8>(), 0..50).prop_map(Vec::into_boxed_slice)
    }

    fn messages() -> impl Strategy<Value = Message> {
        let texts = (text(), text(), octets(), octets());
        (texts, any::<u64>(), any::<Option<u32>>(), 0..3_u8, any::<bool>()).prop_map(
            |((topic, publisher, properties, payload), received_at_ms, expiry_seconds, qos, retain)| {
                Message { topic, publisher, properties, payload, received_at_ms, expiry_seconds, qos, retain }
            },
        )
    }

    fn wills() -> impl Strategy<Value = Option<Will>> {
        proptest::option::of(
            (messages(), any::<u32>(), text()).prop_map(|(message, delay_seconds, peer)| Will {
                message,
                delay_seconds,
                peer,
            }),
        )
    }

    fn subscriptions() -> impl Strategy<Value = Subscription> {
        (text(), any::<u8>(), any::<u32>()).prop_map(|(filter, options, identifier)| Subscription {
            filter,
            options,
            identifier,
        })
    }

    fn receivers() -> impl Strategy<Value = Receiver> {
        (any::<u64>(), any::<u16>(), 1..3_u8, any::<bool>()).prop_map(|(session, packet_id, qos, retain)| {
            Receiver { session: SessionNo(session), packet_id, qos, retain }
        })
    }

    fn publisheds() -> impl Strategy<Value = Record> {
        (
            any::<u64>(),
            messages(),
            proptest::collection::vec(receivers(), 0..5),
            proptest::collection::vec(any::<(u32, u32)>(), 0..3),
            proptest::collection::vec((any::<u32>(), text()), 0..3),
            any::<Option<(u64, u16)>>(),
        )
            .prop_map(|(id, message, receivers, subscription_ids, groups, arrived)| {
                Record::Published(Box::new(Published {
                    id: MessageId(id),
                    message,
                    receivers,
                    subscription_ids,
                    groups,
                    arrived: arrived.map(|(session, packet_id)| (SessionNo(session), packet_id)),
                }))
            })
    }

    fn sessions() -> impl Strategy<Value = Record> {
        let who =
            (any::<u64>(), text(), proptest::option::of(text()), any::<u32>(), any::<Option<u64>>(), wills());
        let what = (
            proptest::collection::vec(subscriptions(), 0..3),
            proptest::collection::vec(any::<u16>(), 0..3),
            proptest::collection::vec(any::<(u16, Option<u64>)>(), 0..3),
            proptest::collection::vec(any::<u64>(), 0..9),
        );
        (who, what).prop_map(|(who, what)| {
            let (session, client_id, user_name, expiry_seconds, detached_at_ms, will) = who;
            let (subscriptions, incoming, outgoing, queue) = what;
            let outgoing = outgoing
                .into_iter()
                .map(|(packet_id, id)| Outgoing { packet_id, message: id.map(MessageId) })
                .collect();
            Record::Session(Box::new(Session {
                session: SessionNo(session),
                client_id,
                user_name,
                expiry_seconds,
                detached_at_ms,
                will,
                subscriptions,
                incoming,
                outgoing,
                queue: queue.into_iter().map(MessageId).collect(),
            }))
        })
    }

    fn small() -> impl Strategy<Value = Record> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u16>(), any::<u32>(), any::<bool>());
        let lists = proptest::collection::vec(any::<(u64, u16)>(), 0..4);
        (0..13_u8, numbers, lists, subscriptions(), (messages(), wills())).prop_map(
            |(
                which,
                (number, other, packet_id, expiry_seconds, keeps_will),
                list,
                subscription,
                (message, will),
            )| {
                let session = SessionNo(number);
                match which {
                    0 => Record::SessionEnded { session },
                    1 => Record::Detached { session, at_ms: other, expiry_seconds, keeps_will },
                    2 => Record::WillGone { session },
                    3 => Record::Subscribed { session, subscription },
                    4 => Record::Unsubscribed { session, filter: subscription.filter },
                    5 => Record::Sent {
                        session,
                        messages: list.iter().map(|(id, packet_id)| (MessageId(*id), *packet_id)).collect(),
                    },
                    6 => Record::Done {
                        session,
                        messages: list.iter().map(|(id, _)| MessageId(*id)).collect(),
                    },
                    7 => Record::Received { session, message: MessageId(other), packet_id },
                    8 => Record::Completed { session, packet_id },
                    9 => Record::Arrived { session, packet_id },
                    10 => Record::Released { session, packet_id },
                    11 => Record::RetainedCleared { topic: subscription.filter },
                    _ => Record::Attached(Box::new(Attached {
                        session,
                        client_id: message.topic,
                        user_name: keeps_will.then_some(message.publisher),
                        expiry_seconds,
                        will,
                    })),
                }
            },
        )
    }

    fn records() -> impl Strategy<Value = Record> {
        let retained = messages().prop_map(|message| Record::Retained(Box::new(message)));
        prop_oneof![publisheds(), sessions(), small(), retained]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(record in records()) {
            prop_assert_eq!(round_trip(&record), record);
        }

        #[test]
        fn no_bytes_panic(kind in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut archive = AlignedVec::<16>::new();
            archive.extend_from_slice(&bytes);
            if let Ok(view) = decode(kind, 1, &archive, &[]) {
                drop(view.into_record());
            }
        }
    }

    #[test]
    fn later_kinds_and_versions_are_unknown_not_damaged() {
        let unknown = |kind, version| decode(kind, version, &[0; 8], &[]).err();
        assert_eq!(unknown(17, 1), Some(DecodeError::Unknown));
        assert_eq!(unknown(2, 2), Some(DecodeError::Unknown));
        assert_eq!(unknown(8, 1), Some(DecodeError::Damaged));
    }

    #[test]
    fn a_receiver_takes_sixteen_bytes() {
        let bytes = |count: u64| {
            let receiver =
                |session| Receiver { session: SessionNo(session), packet_id: 0, qos: 1, retain: false };
            let record = Record::Published(Box::new(Published {
                id: MessageId(1),
                message: Message::default(),
                receivers: (0..count).map(receiver).collect(),
                subscription_ids: Vec::new(),
                groups: Vec::new(),
                arrived: None,
            }));
            Encoder::default().encode(&record).archive.len()
        };
        assert_eq!(bytes(10_000) - bytes(0), 160_000);
    }
}

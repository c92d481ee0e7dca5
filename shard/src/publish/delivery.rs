//! A message for one session, while a queue or a window keeps it.

use dunlin_persist::MessageId;
use dunlin_wire::types::QoS;

use crate::mesh::GroupKey;
use crate::message::Message;

/// A message and how it goes to one session. 40 B; the message itself is shared.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// What.
    pub(crate) message: Message,
    /// What few deliveries have.
    more: Option<Box<More>>,
    /// Its name in the log; 0 if it is not stored.
    stored_as: u64,
    /// The first Subscription Identifier, 0 for none.
    first_id: u32,
    /// QoS of the transfer.
    pub(crate) qos: QoS,
    /// RETAIN of the transfer.
    pub(crate) retain: bool,
}

/// What few deliveries have. Boxed, so that the others are 16 B smaller.
#[derive(Clone, Debug)]
struct More {
    /// Subscription Identifiers beyond the first.
    ids: Vec<u32>,
    /// The shared subscription that chose this session, to which it returns if the session ends first.
    group: Option<GroupKey>,
}

impl Delivery {
    /// A message for a session. Allocates only for two identifiers or more, and for shared subscriptions.
    pub(crate) fn new(message: Message, terms: &Terms<'_>) -> Self {
        let (first_id, ids) = terms.ids.split_first().map_or((0, &[][..]), |(first, more)| (*first, more));
        let has_more = !ids.is_empty() || terms.group.is_some();
        Self {
            message,
            more: has_more.then(|| Box::new(More { ids: ids.to_vec(), group: terms.group })),
            stored_as: 0,
            first_id,
            qos: terms.qos,
            retain: terms.retain,
        }
    }

    /// As [`Self::new`], of a message that is in the log.
    pub(crate) fn stored(message: Message, terms: &Terms<'_>, id: MessageId) -> Self {
        Self { stored_as: id.0, ..Self::new(message, terms) }
    }

    /// Its name in the log, if it is stored.
    pub(crate) const fn id(&self) -> Option<MessageId> {
        if self.stored_as == 0 { None } else { Some(MessageId(self.stored_as)) }
    }

    /// The shared subscription that chose this session.
    pub(crate) fn group(&self) -> Option<GroupKey> {
        self.more.as_ref().and_then(|more| more.group)
    }

    /// Calls `with` with the terms on which it goes.
    pub(crate) fn with_terms<R>(&self, with: impl FnOnce(&Terms<'_>) -> R) -> R {
        let terms = Terms { qos: self.qos, retain: self.retain, ids: &[], group: self.group() };
        match (self.first_id, &self.more) {
            (0, _) => with(&terms),
            (id, Some(more)) if !more.ids.is_empty() => {
                let mut ids = Vec::with_capacity(more.ids.len() + 1);
                ids.push(id);
                ids.extend_from_slice(&more.ids);
                with(&Terms { ids: &ids, ..terms })
            }
            (id, _) => with(&Terms { ids: &[id], ..terms }),
        }
    }
}

/// How a message goes to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms<'a> {
    /// QoS of the transfer.
    pub(crate) qos: QoS,
    /// RETAIN of the transfer.
    pub(crate) retain: bool,
    /// Subscription Identifiers.
    pub(crate) ids: &'a [u32],
    /// The shared subscription that chose the session.
    pub(crate) group: Option<GroupKey>,
}

const _: () = assert!(size_of::<Delivery>() == 40, "what a queued message costs beside itself");

//! A message for one session, while a queue or a window keeps it.

use dunlin_wire::types::QoS;

use crate::mesh::GroupKey;
use crate::message::Message;

/// A message and how it goes to one session. 40 B; the message itself is shared.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// What.
    pub(crate) message: Message,
    /// Subscription Identifiers beyond the first.
    #[expect(clippy::box_collection, reason = "each message that waits is 16 B smaller for it")]
    more_ids: Option<Box<Vec<u32>>>,
    /// The shared subscription that chose this session, to which it returns if the session ends first.
    pub(crate) group: Option<GroupKey>,
    /// The first Subscription Identifier, 0 for none.
    first_id: u32,
    /// QoS of the transfer.
    pub(crate) qos: QoS,
    /// RETAIN of the transfer.
    pub(crate) retain: bool,
}

impl Delivery {
    /// A message for a session. Allocates only for two identifiers or more.
    pub(crate) fn new(message: Message, terms: &Terms<'_>) -> Self {
        let (first_id, more) = terms.ids.split_first().map_or((0, &[][..]), |(first, more)| (*first, more));
        Self {
            message,
            more_ids: (!more.is_empty()).then(|| Box::new(more.to_vec())),
            group: terms.group,
            first_id,
            qos: terms.qos,
            retain: terms.retain,
        }
    }

    /// Calls `with` with the terms on which it goes.
    pub(crate) fn with_terms<R>(&self, with: impl FnOnce(&Terms<'_>) -> R) -> R {
        let terms = Terms { qos: self.qos, retain: self.retain, ids: &[], group: self.group };
        match (self.first_id, &self.more_ids) {
            (0, _) => with(&terms),
            (id, None) => with(&Terms { ids: &[id], ..terms }),
            (id, Some(more)) => {
                let mut ids = Vec::with_capacity(more.len() + 1);
                ids.push(id);
                ids.extend_from_slice(more);
                with(&Terms { ids: &ids, ..terms })
            }
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

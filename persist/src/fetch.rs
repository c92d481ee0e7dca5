//! Messages read back from the log for sessions that were away, and those kept in memory because others want them too.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crate::disk::Disk;
use crate::log::catalog::Place;
use crate::log::reader::Reader;
use crate::log::segment::LogId;
use crate::record::decode::{PublishedView, View, decode};
use crate::record::{Message, MessageId, Receiver, SessionNo};
use crate::state::NumberHasher;
use crate::told::FoundMessage;

/// A message in memory, and how each session gets it.
#[derive(Debug)]
pub(crate) struct Body {
    message: Arc<Message>,
    how: How,
}

#[derive(Debug)]
enum How {
    /// All alike, as with any message whose subscribers use one QoS and no identifiers: ten thousand of them take no memory.
    Alike { qos: u8, retain: bool },
    Each {
        /// Ascending by session.
        receivers: Vec<Receiver>,
        subscription_ids: Vec<(u32, u32)>,
        groups: Vec<(u32, Box<str>)>,
    },
}

impl Body {
    /// The message of a stored record.
    pub(crate) fn of(view: PublishedView<'_>) -> Self {
        let mut receivers = view.receivers();
        let first = receivers.next();
        let (qos, retain) = first.map_or((1, false), |first| (first.qos, first.retain));
        let is_alike = receivers.all(|receiver| (receiver.qos, receiver.retain) == (qos, retain))
            && view.subscription_ids().len() == 0
            && view.groups().len() == 0;
        let how = if is_alike {
            How::Alike { qos, retain }
        } else {
            How::Each {
                receivers: view.receivers().collect(),
                subscription_ids: view.subscription_ids().collect(),
                groups: view.groups().map(|(index, name)| (index, name.into())).collect(),
            }
        };
        Self { message: Arc::new(view.to_message()), how }
    }

    /// The message as one session gets it. One that is not among the receivers gets it plainly, with the message's own QoS.
    pub(crate) fn for_session(&self, id: MessageId, session: SessionNo) -> FoundMessage {
        let message = Arc::clone(&self.message);
        let plain = |qos, retain| FoundMessage {
            id,
            message: Arc::clone(&message),
            qos,
            retain,
            subscription_ids: Box::default(),
            group: None,
        };
        let (receivers, subscription_ids, groups) = match &self.how {
            How::Alike { qos, retain } => return plain(*qos, *retain),
            How::Each { receivers, subscription_ids, groups } => (receivers, subscription_ids, groups),
        };
        let Ok(index) = receivers.binary_search_by_key(&session, |receiver| receiver.session) else {
            return plain(message.qos.max(1), false);
        };
        let index_32 = u32::try_from(index).unwrap_or(u32::MAX);
        let mine = subscription_ids.iter().filter(|(receiver, _)| *receiver == index_32);
        FoundMessage {
            subscription_ids: mine.map(|(_, identifier)| *identifier).collect(),
            group: groups.iter().find(|(receiver, _)| *receiver == index_32).map(|(_, group)| group.clone()),
            ..plain(receivers[index].qos, receivers[index].retain)
        }
    }

    fn bytes(&self) -> usize {
        let message = &self.message;
        let texts =
            message.topic.len() + message.publisher.len() + message.properties.len() + message.payload.len();
        let each = match &self.how {
            How::Alike { .. } => 0,
            How::Each { receivers, subscription_ids, groups } => {
                receivers.len() * 16 + subscription_ids.len() * 8 + groups.len() * 48
            }
        };
        texts + each + BODY_BYTES
    }
}

/// A body's own bytes, its entry in the cache included.
const BODY_BYTES: usize = 256;

/// Messages fetched lately, the oldest leaving first. One per store.
#[derive(Debug)]
pub(crate) struct Cache {
    bodies: HashMap<MessageId, Arc<Body>, BuildHasherDefault<NumberHasher>>,
    order: VecDeque<MessageId>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// An empty one that may grow to so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bodies: HashMap::default(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// A message, if it is here.
    pub(crate) fn get(&self, id: MessageId) -> Option<&Arc<Body>> {
        self.bodies.get(&id)
    }

    /// Keeps a message, and drops older ones to make room.
    pub(crate) fn keep(&mut self, id: MessageId, body: &Arc<Body>) {
        if self.bodies.insert(id, Arc::clone(body)).is_some() {
            return;
        }
        self.order.push_back(id);
        self.bytes = self.bytes.saturating_add(body.bytes());
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(dropped) = self.bodies.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(dropped.bytes());
            }
        }
    }

    /// Forgets a message whose record was replaced: its receivers may be others now.
    pub(crate) fn forget(&mut self, id: MessageId) {
        if let Some(dropped) = self.bodies.remove(&id) {
            self.bytes = self.bytes.saturating_sub(dropped.bytes());
            self.order.retain(|kept| *kept != id);
        }
    }
}

/// Reads messages from their places. Blocks.
pub(crate) fn read_bodies(
    disk: &dyn Disk,
    log: &LogId,
    wanted: &[(MessageId, Place)],
) -> Vec<(MessageId, Option<Arc<Body>>)> {
    let mut open: Option<(u64, Reader)> = None;
    let mut bodies = Vec::with_capacity(wanted.len());
    for (id, place) in wanted {
        let body = read_body(disk, log, &mut open, *id, *place);
        bodies.push((*id, body.map(Arc::new)));
    }
    bodies
}

fn read_body(
    disk: &dyn Disk,
    log: &LogId,
    open: &mut Option<(u64, Reader)>,
    id: MessageId,
    place: Place,
) -> Option<Body> {
    if open.as_ref().is_none_or(|(segment, _)| *segment != place.segment) {
        let file = disk.open(&log.path(place.segment)).ok()?;
        *open =
            Some((place.segment, Reader::new(file, log.seed(place.segment)).with_window(FETCH_WINDOW_BYTES)));
    }
    let (_, reader) = open.as_mut()?;
    let sound = reader.frame(place.offset)?;
    match decode(sound.header.kind, sound.header.version, sound.archive, sound.payload).ok()? {
        View::Published(view) if view.id() == id => Some(Body::of(view)),
        View::Published(_) | View::Other(_) => None,
    }
}

/// Bytes read at once: messages that a session waits for stand near each other more often than not.
const FETCH_WINDOW_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode::Encoder;
    use crate::record::{Published, Record};
    use rkyv::util::AlignedVec;

    fn body(
        receivers: Vec<Receiver>,
        subscription_ids: Vec<(u32, u32)>,
        groups: Vec<(u32, Box<str>)>,
    ) -> Body {
        let record = Record::Published(Box::new(Published {
            id: MessageId(1),
            message: Message { qos: 2, ..Message::default() },
            receivers,
            subscription_ids,
            groups,
            arrived: None,
        }));
        let mut encoder = Encoder::default();
        let encoded = encoder.encode(&record);
        let mut archive = AlignedVec::<16>::new();
        archive.extend_from_slice(encoded.archive);
        match decode(encoded.kind.byte(), encoded.version, &archive, &[]).ok().unwrap() {
            View::Published(view) => Body::of(view),
            View::Other(_) => panic!("a message was encoded"),
        }
    }

    fn receiver(session: u64, qos: u8) -> Receiver {
        Receiver { session: SessionNo(session), packet_id: 0, qos, retain: false }
    }

    #[test]
    fn each_session_gets_what_is_its_own() {
        let body = body(
            vec![receiver(1, 1), receiver(5, 2), receiver(9, 1)],
            vec![(0, 7), (1, 3), (1, 4)],
            vec![(2, "$share/g/a".into())],
        );
        let found = |session| {
            let found = body.for_session(MessageId(1), SessionNo(session));
            (found.qos, found.subscription_ids.into_vec(), found.group.is_some())
        };
        assert_eq!(found(1), (1, vec![7], false));
        assert_eq!(found(5), (2, vec![3, 4], false));
        assert_eq!(found(9), (1, vec![], true));
        assert_eq!(found(4), (2, vec![], false), "nobody of the list: plainly");
    }

    #[test]
    fn ten_thousand_alike_take_no_memory() {
        let body = body((0..10_000).map(|session| receiver(session, 1)).collect(), vec![], vec![]);
        assert!(body.bytes() < 1_000);
        assert_eq!(body.for_session(MessageId(1), SessionNo(9_999)).qos, 1);
    }

    #[test]
    fn the_cache_stays_within_its_bytes() {
        let mut cache = Cache::new(10 * BODY_BYTES);
        for id in 0..100 {
            cache.keep(MessageId(id), &Arc::new(body(vec![receiver(1, 1)], vec![], vec![])));
        }
        assert!(cache.bytes <= 10 * BODY_BYTES && cache.get(MessageId(99)).is_some());
        assert!(cache.get(MessageId(0)).is_none());
        cache.forget(MessageId(99));
        assert!(cache.get(MessageId(99)).is_none());
        assert_eq!(cache.bodies.len(), cache.order.len());
    }
}

//! Replay: what the records of a log add up to.
//!
//! Each record is applied in the order of the log. Applying is idempotent, because cleaning says again at the end of the log
//! what it frees at its beginning: a name that a session has already is not added twice, and an image of a session replaces all
//! that was said of it.
#![expect(clippy::vec_box, reason = "a million sessions: each is freed as soon as it is handed on")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::index::Sum;
use crate::record::decode::{PublishedView, View};
use crate::record::{Attached, Message, MessageId, Outgoing, Record, Session, SessionNo, Subscription, Will};

/// Everything that one log says. Bodies of messages are not kept; about 250 B for a session with one subscription, 8 B for each
/// message that waits.
#[derive(Debug, Default)]
pub(crate) struct State {
    sessions: HashMap<SessionNo, Box<Kept>, BuildHasherDefault<NumberHasher>>,
    retained: BTreeMap<Box<str>, Message>,
    /// Sessions that [`State::take_sessions`] has left out, because a younger one has their client id and nobody waits for what
    /// they have.
    pub namesakes: Vec<SessionNo>,
    /// QoS 2 messages that sessions of other shards published: their identifiers, until they are free.
    taken: BTreeSet<(SessionNo, u16)>,
    /// The highest count in any session number seen.
    pub session_max: u64,
    /// The highest message name seen.
    pub message_max: u64,
}

/// A session while records are applied.
#[derive(Debug, Default)]
struct Kept {
    client_id: Box<str>,
    user_name: Option<Box<str>>,
    expiry_seconds: u32,
    detached_at_ms: Option<u64>,
    will: Option<Box<Will>>,
    /// In order of their filters.
    subscriptions: Vec<Subscription>,
    incoming: Vec<u16>,
    outgoing: Vec<Outgoing>,
    /// Ascending.
    queue: VecDeque<MessageId>,
}

/// What became of the sessions when their state was closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closing {
    /// They had no end of connection in the log: they end now. Ascending.
    pub cut_off: Vec<SessionNo>,
    /// Their time had run out. Ascending.
    pub expired: Vec<SessionNo>,
}

impl State {
    /// Applies one record.
    pub(crate) fn apply(&mut self, view: View<'_>) {
        match view {
            View::Published(published) => self.apply_published(&published),
            View::Other(record) => self.apply_record(record),
        }
    }

    /// Ends the connections that the log leaves open, as of `now_ms`, and drops what has expired. A session whose Will is
    /// still to be published, or whose messages may be for other members of a group, is kept even then: its shard ends it.
    pub(crate) fn close(&mut self, now_ms: u64) -> Closing {
        let mut closing = Closing::default();
        self.sessions.retain(|session, kept| {
            let detached_at_ms = *kept.detached_at_ms.get_or_insert_with(|| {
                closing.cut_off.push(*session);
                now_ms
            });
            let lives_ms = u64::from(kept.expiry_seconds) * 1_000;
            let is_over =
                kept.expiry_seconds != u32::MAX && detached_at_ms.saturating_add(lives_ms) <= now_ms;
            let is_dropped = is_over && kept.will.is_none() && !kept.has_heirs();
            if is_dropped {
                closing.expired.push(*session);
            }
            !is_dropped
        });
        closing.cut_off.sort_unstable();
        closing.expired.sort_unstable();
        closing
    }

    /// A count and a fingerprint of the sessions: what an index that has followed the log comes to.
    pub(crate) fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        #[expect(clippy::iter_over_hash_type, reason = "a sum does not show the order")]
        for (session, kept) in &self.sessions {
            sum.add(&kept.client_id, *session);
        }
        sum
    }

    /// The sessions, ascending by number, each with its queue in order. Where two have one client id, the older has ended, and
    /// that was not recorded any more: it is left out, unless it has messages that may be for other members of a group. Its Will
    /// is not kept.
    pub(crate) fn take_sessions(&mut self) -> Vec<Box<Session>> {
        #[expect(clippy::iter_over_hash_type, reason = "sorted before anybody sees the order")]
        let mut sessions: Vec<_> = {
            let mut sessions = Vec::with_capacity(self.sessions.len());
            for (session, kept) in std::mem::take(&mut self.sessions) {
                sessions.push((kept.has_heirs(), kept.into_session(session)));
            }
            sessions
        };
        sessions.sort_unstable_by_key(|(_, session)| session.session);
        self.namesakes = drop_older_namesakes(&mut sessions);
        sessions.into_iter().map(|(_, session)| session).collect()
    }

    /// The retained messages, ascending by topic.
    pub(crate) fn take_retained(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.retained).into_values().collect()
    }

    /// QoS 2 identifiers of other shards' sessions whose message is in this log.
    pub(crate) fn take_taken(&mut self) -> Vec<(SessionNo, u16)> {
        std::mem::take(&mut self.taken).into_iter().collect()
    }

    fn apply_record(&mut self, record: Record) {
        match record {
            Record::Session(session) => self.apply_image(*session),
            Record::SessionEnded { session } => {
                self.see_session(session);
                self.sessions.remove(&session);
                self.forget_taken(session);
            }
            Record::Attached(attached) => self.apply_attached(*attached),
            Record::Detached { session, at_ms, expiry_seconds, keeps_will } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.detached_at_ms = Some(at_ms);
                    kept.expiry_seconds = expiry_seconds;
                    kept.will.take_if(|_| !keeps_will);
                }
            }
            Record::WillGone { session } => {
                self.with(session, |kept| kept.will = None);
            }
            Record::Subscribed { session, subscription } => {
                self.with(session, |kept| kept.subscribe(subscription));
            }
            Record::Unsubscribed { session, filter } => {
                self.with(session, |kept| kept.subscriptions.retain(|known| known.filter != filter));
            }
            Record::Published(_) => unreachable!("a published message is applied in place, as a view"),
            Record::Sent { session, messages } => {
                self.with(session, |kept| {
                    for (message, packet_id) in messages {
                        kept.send(message, packet_id);
                    }
                });
            }
            Record::Done { session, messages } => {
                self.with(session, |kept| messages.iter().for_each(|message| kept.finish(*message)));
            }
            Record::Received { session, message, packet_id } => {
                self.with(session, |kept| kept.receive(message, packet_id));
            }
            Record::Completed { session, packet_id } => {
                self.with(session, |kept| kept.outgoing.retain(|out| out.packet_id != packet_id));
            }
            Record::Arrived { session, packet_id } => self.arrive(session, packet_id),
            Record::Released { session, packet_id } => {
                self.taken.remove(&(session, packet_id));
                self.with(session, |kept| kept.incoming.retain(|waiting| *waiting != packet_id));
            }
            Record::Retained(message) => {
                self.retained.insert(message.topic.clone(), *message);
            }
            Record::RetainedCleared { topic } => {
                self.retained.remove(&topic);
            }
        }
    }

    fn apply_published(&mut self, published: &PublishedView<'_>) {
        let id = published.id();
        self.message_max = self.message_max.max(id.0);
        for receiver in published.receivers() {
            self.with(receiver.session, |kept| match receiver.packet_id {
                0 => kept.wait(id),
                packet_id => kept.send(id, packet_id),
            });
        }
        if let Some((session, packet_id)) = published.arrived() {
            self.arrive(session, packet_id);
        }
    }

    fn apply_image(&mut self, session: Session) {
        self.see_session(session.session);
        self.forget_taken(session.session);
        let ids = session.outgoing.iter().filter_map(|out| out.message).chain(session.queue.iter().copied());
        self.message_max = ids.map(|id| id.0).fold(self.message_max, u64::max);
        self.sessions.insert(session.session, Box::new(Kept::from_image(session)));
    }

    fn apply_attached(&mut self, attached: Attached) {
        self.see_session(attached.session);
        self.forget_taken(attached.session);
        let kept = self.sessions.entry(attached.session).or_default();
        kept.client_id = attached.client_id;
        kept.user_name = attached.user_name;
        kept.expiry_seconds = attached.expiry_seconds;
        kept.will = attached.will.map(Box::new);
        kept.detached_at_ms = None;
    }

    /// A QoS 2 identifier waits for PUBREL: of a session that is known, or of one of another shard.
    fn arrive(&mut self, session: SessionNo, packet_id: u16) {
        match self.sessions.get_mut(&session) {
            Some(kept) => kept.arrive(packet_id),
            None => {
                self.taken.insert((session, packet_id));
            }
        }
    }

    /// A session turns out to be this shard's: its image says what of it waits, or it has ended.
    fn forget_taken(&mut self, session: SessionNo) {
        if !self.taken.is_empty() {
            self.taken.retain(|(other, _)| *other != session);
        }
    }

    fn see_session(&mut self, session: SessionNo) {
        self.session_max = self.session_max.max(session.count());
    }

    /// Applies something to a session that is known. One that is not has ended, or an image of it comes later in the log.
    fn with(&mut self, session: SessionNo, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.sessions.get_mut(&session) {
            change(kept);
        }
    }
}

impl Kept {
    fn from_image(session: Session) -> Self {
        let mut queue = VecDeque::from(session.queue);
        queue.make_contiguous().sort_unstable();
        let mut kept = Self {
            client_id: session.client_id,
            user_name: session.user_name,
            expiry_seconds: session.expiry_seconds,
            detached_at_ms: session.detached_at_ms,
            will: session.will.map(Box::new),
            subscriptions: session.subscriptions,
            incoming: session.incoming,
            outgoing: session.outgoing,
            queue,
        };
        kept.subscriptions.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
        kept
    }

    fn into_session(mut self, session: SessionNo) -> Box<Session> {
        // Identifiers that wait for PUBCOMP in their order, then messages in theirs, which is that of their names.
        self.outgoing.sort_by_key(|out| out.message);
        Box::new(Session {
            session,
            client_id: self.client_id,
            user_name: self.user_name,
            expiry_seconds: self.expiry_seconds,
            detached_at_ms: self.detached_at_ms,
            will: self.will.map(|will| *will),
            subscriptions: self.subscriptions,
            incoming: self.incoming,
            outgoing: self.outgoing,
            queue: self.queue.into(),
        })
    }

    /// Whether it has messages that other members of a shared subscription get when it ends `[MQTT5-4.8.2-4] [MQTT5-4.8.2-5]`.
    /// Which of its messages came by one, the records of the messages say.
    fn has_heirs(&self) -> bool {
        let has_messages = !self.queue.is_empty() || self.outgoing.iter().any(|out| out.message.is_some());
        let is_shared = |known: &Subscription| SHARED.iter().any(|prefix| known.filter.starts_with(prefix));
        has_messages && self.subscriptions.iter().any(is_shared)
    }

    fn subscribe(&mut self, subscription: Subscription) {
        match self.subscriptions.binary_search_by(|known| known.filter.cmp(&subscription.filter)) {
            Ok(at) => self.subscriptions[at] = subscription,
            Err(at) => self.subscriptions.insert(at, subscription),
        }
    }

    /// A message waits, unless it is here already.
    fn wait(&mut self, message: MessageId) {
        if self.queue.back().is_none_or(|last| *last < message) {
            if !self.is_outgoing(message) {
                self.queue.push_back(message);
            }
        } else if let Err(at) = self.queue.binary_search(&message)
            && !self.is_outgoing(message)
        {
            self.queue.insert(at, message);
        }
    }

    /// A message was sent under this identifier.
    fn send(&mut self, message: MessageId, packet_id: u16) {
        self.unqueue(message);
        match self.outgoing.iter_mut().find(|out| out.message == Some(message)) {
            Some(out) => out.packet_id = packet_id,
            None => self.outgoing.push(Outgoing { packet_id, message: Some(message) }),
        }
    }

    /// A message is needed no more.
    fn finish(&mut self, message: MessageId) {
        if !self.unqueue(message) {
            self.outgoing.retain(|out| out.message != Some(message));
        }
    }

    /// PUBREC came: the identifier stays without the message.
    fn receive(&mut self, message: MessageId, packet_id: u16) {
        self.unqueue(message);
        self.outgoing.retain(|out| out.message != Some(message) && out.packet_id != packet_id);
        self.outgoing.push(Outgoing { packet_id, message: None });
    }

    fn arrive(&mut self, packet_id: u16) {
        if !self.incoming.contains(&packet_id) {
            self.incoming.push(packet_id);
        }
    }

    fn is_outgoing(&self, message: MessageId) -> bool {
        self.outgoing.iter().any(|out| out.message == Some(message))
    }

    fn unqueue(&mut self, message: MessageId) -> bool {
        if self.queue.front() == Some(&message) {
            self.queue.pop_front();
            return true;
        }
        match self.queue.binary_search(&message) {
            Ok(at) => {
                self.queue.remove(at);
                true
            }
            Err(_) => false,
        }
    }
}

/// What a shared subscription begins with.
const SHARED: [&str; 2] = ["$share/", "$queue/"];

/// Drops those of the sessions, ascending and with whether they have heirs, that have a younger namesake and none. Returns their
/// numbers, ascending.
fn drop_older_namesakes(sessions: &mut Vec<(bool, Box<Session>)>) -> Vec<SessionNo> {
    let mut youngest: HashMap<&str, SessionNo> = HashMap::with_capacity(sessions.len());
    let mut older = Vec::new();
    for (_, session) in sessions.iter() {
        older.extend(youngest.insert(&session.client_id, session.session));
    }
    let mut dropped = Vec::new();
    if !older.is_empty() {
        older.sort_unstable();
        sessions.retain_mut(|(has_heirs, session)| {
            if older.binary_search(&session.session).is_err() {
                return true;
            }
            session.will = None;
            if !*has_heirs {
                dropped.push(session.session);
            }
            *has_heirs
        });
    }
    dropped
}

/// Spreads session numbers, which are counted and not chosen by anybody outside. Sixteen that follow each other stay together in the
/// table, as the sessions do in memory and in many a message: a boot with a million sessions waits for memory above all. The seven
/// highest bits, by which a table tells entries apart at first sight, are mixed for each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mix = |number: u64| {
            let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed ^ (mixed >> 32)
        };
        let number = self.0 ^ number;
        let place = (mix(number / TOGETHER) & !(TOGETHER - 1)) | (number % TOGETHER);
        self.0 = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) & !LOW_BITS) | (place & LOW_BITS);
    }
}

/// All but those by which a hash table tells entries apart.
const LOW_BITS: u64 = u64::MAX >> 7;
/// Numbers that stay together: what a hash table looks at in one step.
const TOGETHER: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::decode::decode;
    use crate::record::encode::Encoder;
    use crate::record::{Published, Receiver};
    use proptest::prelude::*;
    use rkyv::util::AlignedVec;

    #[test]
    fn numbers_that_follow_each_other_stay_together_and_others_spread() {
        let hash = |number: SessionNo| {
            use std::hash::BuildHasher as _;
            BuildHasherDefault::<NumberHasher>::default().hash_one(number)
        };
        for shard in 0..64 {
            let [first, last] =
                [0, 15].map(|count| hash(SessionNo::of_shard(shard, 1_600 + count)) & LOW_BITS);
            assert_eq!(last - first, 15);
        }
        // Sessions of many shards that were re-homed to one: no place of a table gets many more than its share.
        let mut groups = vec![0_u32; 4_096];
        for shard in 0..64 {
            for count in 0..512 {
                let place = hash(SessionNo::of_shard(shard, count)) & LOW_BITS;
                groups[usize::try_from(place / TOGETHER % 4_096).unwrap()] += 1;
            }
        }
        assert!(groups.iter().all(|count| *count <= 8 * 16), "{:?}", groups.iter().max());
        let tags: BTreeSet<u64> = (0..16).map(|count| hash(SessionNo(count)) >> 57).collect();
        assert!(tags.len() > 12, "{tags:?}");
    }

    fn apply(state: &mut State, record: &Record) {
        let mut encoder = Encoder::default();
        let encoded = encoder.encode(record);
        let mut archive = AlignedVec::<16>::new();
        archive.extend_from_slice(encoded.archive);
        let view = decode(encoded.kind.byte(), encoded.version, &archive, encoded.payload);
        state.apply(view.map_err(|error| format!("{error:?}")).unwrap());
    }

    fn replay(records: &[Record]) -> State {
        let mut state = State::default();
        records.iter().for_each(|record| apply(&mut state, record));
        state
    }

    fn attached(session: u64, client_id: &str) -> Record {
        Record::Attached(Box::new(Attached {
            session: SessionNo(session),
            client_id: client_id.into(),
            user_name: None,
            expiry_seconds: 60,
            will: None,
        }))
    }

    fn published(id: u64, receivers: &[(u64, u16)]) -> Record {
        let receiver = |(session, packet_id): &(u64, u16)| Receiver {
            session: SessionNo(*session),
            packet_id: *packet_id,
            qos: 1,
            retain: false,
        };
        Record::Published(Box::new(Published {
            id: MessageId(id),
            message: Message { topic: "t".into(), ..Message::default() },
            receivers: receivers.iter().map(receiver).collect(),
            subscription_ids: Vec::new(),
            groups: Vec::new(),
            arrived: None,
        }))
    }

    fn done(session: u64, ids: &[u64]) -> Record {
        Record::Done { session: SessionNo(session), messages: ids.iter().map(|id| MessageId(*id)).collect() }
    }

    fn sent(session: u64, ids: &[(u64, u16)]) -> Record {
        let messages = ids.iter().map(|(id, packet_id)| (MessageId(*id), *packet_id)).collect();
        Record::Sent { session: SessionNo(session), messages }
    }

    fn only(mut state: State) -> Session {
        let mut sessions = state.take_sessions();
        assert_eq!(sessions.len(), 1);
        *sessions.remove(0)
    }

    fn ids(session: &Session) -> Vec<u64> {
        session.queue.iter().map(|id| id.0).collect()
    }

    #[test]
    fn identifiers_of_other_shards_sessions_are_kept_until_they_are_free() {
        let session = SessionNo(3 << 48 | 1);
        let mut from_elsewhere = published(1, &[(1, 0)]);
        if let Record::Published(published) = &mut from_elsewhere {
            published.arrived = Some((session, 7));
        }
        let mut records = vec![attached(1, "a"), from_elsewhere];
        assert_eq!(replay(&records).take_taken(), [(session, 7)]);
        records.push(Record::Arrived { session, packet_id: 8 });
        records.push(Record::Released { session, packet_id: 7 });
        assert_eq!(replay(&records).take_taken(), [(session, 8)]);
        // One whose image was only moved to the end of the log.
        let image = Session { session, incoming: vec![8], ..Session::default() };
        records.push(Record::Session(Box::new(image)));
        assert_eq!(replay(&records).take_taken(), []);
    }

    #[test]
    fn a_message_waits_goes_out_and_is_done() {
        let mut records = vec![attached(1, "a"), published(1, &[(1, 0)]), published(2, &[(1, 0)])];
        assert_eq!(ids(&only(replay(&records))), [1, 2]);
        records.push(sent(1, &[(1, 9)]));
        let session = only(replay(&records));
        assert_eq!(ids(&session), [2]);
        assert_eq!(session.outgoing, [Outgoing { packet_id: 9, message: Some(MessageId(1)) }]);
        records.push(done(1, &[1]));
        assert_eq!(only(replay(&records)).outgoing, []);
    }

    #[test]
    fn a_qos_2_identifier_stays_until_pubcomp() {
        let session = SessionNo(1);
        let mut records = vec![attached(1, "a"), published(1, &[(1, 7)])];
        records.push(Record::Received { session, message: MessageId(1), packet_id: 7 });
        assert_eq!(only(replay(&records)).outgoing, [Outgoing { packet_id: 7, message: None }]);
        records.push(Record::Completed { session, packet_id: 7 });
        assert_eq!(only(replay(&records)).outgoing, []);
    }

    #[test]
    fn what_cleaning_says_again_changes_nothing() {
        let first =
            [attached(1, "a"), attached(2, "b"), published(1, &[(1, 0), (2, 0)]), published(2, &[(1, 0)])];
        let mut records = first.to_vec();
        records.extend([sent(1, &[(1, 5)]), done(2, &[1])]);
        let before = replay(&records).take_sessions();
        // The oldest segment is cleaned: message 1 is still in the first session's window, 2 waits.
        records.extend([published(1, &[(1, 5)]), published(2, &[(1, 0)])]);
        assert_eq!(replay(&records).take_sessions(), before);
        // And once it is gone, with images of the sessions in its place:
        let mut cleaned: Vec<_> = before.iter().map(|session| Record::Session(session.clone())).collect();
        cleaned.extend(records.split_off(first.len()));
        assert_eq!(replay(&cleaned).take_sessions(), before);
    }

    #[test]
    fn a_message_said_again_late_takes_its_place_in_the_order() {
        let records =
            [attached(1, "a"), published(5, &[(1, 0)]), published(3, &[(1, 0)]), published(4, &[(1, 0)])];
        assert_eq!(ids(&only(replay(&records))), [3, 4, 5]);
    }

    #[test]
    fn windows_are_in_sending_order_with_released_identifiers_first() {
        let session = SessionNo(1);
        let records = [
            attached(1, "a"),
            published(2, &[(1, 2)]),
            published(1, &[(1, 1)]),
            published(3, &[(1, 3)]),
            Record::Received { session, message: MessageId(3), packet_id: 3 },
        ];
        let window: Vec<_> = only(replay(&records)).outgoing.iter().map(|out| out.packet_id).collect();
        assert_eq!(window, [3, 1, 2]);
    }

    #[test]
    fn an_image_replaces_all_that_was_said() {
        let image = Session {
            session: SessionNo(1),
            client_id: "a".into(),
            queue: vec![MessageId(9)],
            ..Session::default()
        };
        let records = [attached(1, "a"), published(1, &[(1, 0)]), Record::Session(Box::new(image))];
        let state = replay(&records);
        assert_eq!(state.message_max, 9);
        assert_eq!(ids(&only(state)), [9]);
    }

    #[test]
    fn sessions_that_nobody_knows_are_ignored() {
        let records =
            [published(1, &[(4, 0)]), sent(4, &[(1, 1)]), Record::SessionEnded { session: SessionNo(4) }];
        let mut state = replay(&records);
        assert_eq!((state.take_sessions(), state.session_max, state.message_max), (Vec::new(), 4, 1));
    }

    #[test]
    fn expiry_goes_on_counting_while_nobody_runs() {
        let detached = |session, at_ms| Record::Detached {
            session: SessionNo(session),
            at_ms,
            expiry_seconds: 10,
            keeps_will: false,
        };
        let mut state = replay(&[
            attached(1, "a"),
            attached(2, "b"),
            attached(3, "c"),
            detached(1, 1_000),
            detached(2, 5_000),
        ]);
        assert_eq!(state.close(11_000), Closing { cut_off: vec![SessionNo(3)], expired: vec![SessionNo(1)] });
        let left: Vec<_> =
            state.take_sessions().iter().map(|session| (session.session.0, session.detached_at_ms)).collect();
        assert_eq!(left, [(2, Some(5_000)), (3, Some(11_000))]);
    }

    #[test]
    fn an_expired_session_with_a_will_is_kept_for_its_will() {
        let will = Will { message: Message::default(), delay_seconds: 60, peer: "".into() };
        let mut attached = Attached {
            session: SessionNo(1),
            client_id: "a".into(),
            user_name: None,
            expiry_seconds: 1,
            will: Some(will),
        };
        let detached =
            |keeps_will| Record::Detached { session: SessionNo(1), at_ms: 0, expiry_seconds: 1, keeps_will };
        let mut state = replay(&[Record::Attached(Box::new(attached.clone())), detached(true)]);
        assert_eq!(state.close(1_000_000).expired, []);
        let mut state = replay(&[Record::Attached(Box::new(attached.clone())), detached(false)]);
        assert_eq!(state.close(1_000_000).expired, [SessionNo(1)]);
        attached.expiry_seconds = u32::MAX;
        let mut state = replay(&[Record::Attached(Box::new(attached))]);
        assert_eq!(state.close(u64::MAX), Closing { cut_off: vec![SessionNo(1)], expired: vec![] });
    }

    #[test]
    fn of_two_sessions_with_one_client_id_the_younger_stays() {
        let mut state = replay(&[attached(1, "a"), attached(5, "a"), attached(3, "b"), attached(9, "a")]);
        let left: Vec<_> = state.take_sessions().iter().map(|session| session.session.0).collect();
        assert_eq!(left, [3, 9]);
    }

    #[test]
    fn what_a_group_may_get_is_kept_of_sessions_that_are_over() {
        let subscribed = |session, filter: &str| Record::Subscribed {
            session: SessionNo(session),
            subscription: Subscription { filter: filter.into(), options: 1, identifier: 0 },
        };
        let detached = |session| Record::Detached {
            session: SessionNo(session),
            at_ms: 0,
            expiry_seconds: 1,
            keeps_will: false,
        };
        for (filter, is_kept) in [("$share/g/t", true), ("$queue/t", true), ("t", false)] {
            let member = [attached(1, "a"), subscribed(1, filter)];
            for (has_message, packet_id) in [(false, 0), (true, 0), (true, 7)] {
                let mut records = member.to_vec();
                records.extend(has_message.then(|| published(1, &[(1, packet_id)])));
                let is_kept = is_kept && has_message;
                let mut expired = records.clone();
                expired.push(detached(1));
                let mut state = replay(&expired);
                assert_eq!(state.close(1_000_000).expired.is_empty(), is_kept, "{filter}");
                assert_eq!(state.take_sessions().len(), usize::from(is_kept));
                records.push(attached(2, "a"));
                let mut state = replay(&records);
                let left = state.take_sessions();
                assert_eq!(left.len(), 1 + usize::from(is_kept), "{filter}");
                assert_eq!(left.last().map(|session| session.session.0), Some(2), "the younger is the last");
                assert_eq!(state.namesakes.is_empty(), is_kept);
            }
        }
    }

    #[test]
    fn the_last_retained_message_of_a_topic_holds() {
        let retained = |topic: &str, payload: &str| {
            Record::Retained(Box::new(Message {
                topic: topic.into(),
                payload: payload.as_bytes().into(),
                ..Message::default()
            }))
        };
        let mut state = replay(&[
            retained("b", "1"),
            retained("a", "1"),
            retained("b", "2"),
            Record::RetainedCleared { topic: "a".into() },
        ]);
        let kept = state.take_retained();
        assert_eq!(kept.len(), 1);
        assert_eq!((&*kept[0].topic, &*kept[0].payload), ("b", &b"2"[..]));
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let session = 1..4_u64;
        let id = 1..6_u64;
        prop_oneof![
            session.clone().prop_map(|session| attached(session, &format!("client-{session}"))),
            (session.clone(), id.clone(), 0..3_u16)
                .prop_map(|(session, id, pid)| published(id, &[(session, pid)])),
            (session.clone(), id.clone(), 1..4_u16)
                .prop_map(|(session, id, pid)| sent(session, &[(id, pid)])),
            (session.clone(), id.clone()).prop_map(|(session, id)| done(session, &[id])),
            (session.clone(), id, 1..4_u16).prop_map(|(session, id, packet_id)| Record::Received {
                session: SessionNo(session),
                message: MessageId(id),
                packet_id,
            }),
            (session.clone(), 1..4_u16)
                .prop_map(|(session, packet_id)| Record::Arrived { session: SessionNo(session), packet_id }),
            (session.clone(), 1..4_u16)
                .prop_map(|(session, packet_id)| Record::Released { session: SessionNo(session), packet_id }),
            session.prop_map(|session| Record::SessionEnded { session: SessionNo(session) }),
        ]
    }

    proptest! {
        #[test]
        fn images_of_all_sessions_stand_for_the_whole_log(records in proptest::collection::vec(any_record(), 0..60)) {
            let before = replay(&records).take_sessions();
            let images: Vec<_> = before.iter().map(|session| Record::Session(session.clone())).collect();
            let mut again = records;
            again.extend(images.iter().cloned());
            prop_assert_eq!(&replay(&images).take_sessions(), &before);
            prop_assert_eq!(replay(&again).take_sessions(), before);
        }

        #[test]
        fn each_record_twice_is_each_record_once(records in proptest::collection::vec(any_record(), 0..60)) {
            let twice: Vec<_> = records.iter().flat_map(|record| [record.clone(), record.clone()]).collect();
            prop_assert_eq!(replay(&twice).take_sessions(), replay(&records).take_sessions());
        }
    }
}

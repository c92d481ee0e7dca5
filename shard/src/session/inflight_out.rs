//! QoS 1 and 2 as sender: messages on their way to the client, in the order they were sent (§MQTT5 4.3, 4.4, 4.6).
//!
//! A ring in sending order. Identifiers count up in that order, so an acknowledgement is found by its distance from the
//! oldest one: a binary search, which for a window of 32 is a cache line or two. What is acknowledged out of order leaves a
//! gap that closes when the older ones are through.

use std::collections::VecDeque;

use dunlin_wire::types::{PacketId, QoS};

use super::packet_ids::PacketIds;

/// Unacknowledged messages of one session. `M` is the handle of a message with what belongs to its delivery.
///
/// 48 B, no heap while empty, then `size_of::<Option<M>>() + 4` B per message, rounded up.
#[derive(Debug)]
pub struct InflightOut<M> {
    entries: VecDeque<Entry<M>>,
    ids: PacketIds,
    /// Entries that are not acknowledged.
    live_count: u16,
    /// Entries of the front that were sent on the present connection; later ones wait for their turn to be resent.
    sent_len: u32,
    /// Unacknowledged entries among them: what counts against Receive Maximum.
    sent_count: u16,
    /// Identifiers do not count up along the ring (restored in odd order, or gone round): search one by one.
    is_unordered: bool,
}

#[derive(Debug)]
struct Entry<M> {
    id: PacketId,
    state: State,
    /// `None` once PUBREC has come.
    message: Option<M>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// PUBLISH sent at QoS 1; waits for PUBACK.
    PublishSent1,
    /// PUBLISH sent at QoS 2; waits for PUBREC.
    PublishSent2,
    /// PUBREL sent; waits for PUBCOMP.
    PubRelSent,
    /// Through.
    Acknowledged,
}

/// What has to be sent again, in the original order.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend<'a, M> {
    /// PUBLISH with DUP set `[MQTT5-3.3.1-1]` `[MQTT311-3.3.1-1]`.
    Publish {
        /// Its identifier, the original one.
        id: PacketId,
        /// QoS 1 or 2.
        qos: QoS,
        /// The message.
        message: &'a M,
    },
    /// PUBREL.
    PubRel {
        /// Its identifier.
        id: PacketId,
    },
}

/// What a PUBREC does.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// The client has the message: it is returned, send PUBREL.
    Release(M),
    /// It was known already: send PUBREL again.
    ReleaseAgain,
    /// The client refused the message with an error reason: it is through, no PUBREL `[MQTT5-4.3.3-4]`.
    Refused(M),
}

/// An acknowledgement that does not fit what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckError {
    /// No message with this identifier is on its way (0x92 in 5.0).
    Unknown,
    /// The message with this identifier needs another kind of acknowledgement: a protocol error.
    WrongKind,
}

impl<M> InflightOut<M> {
    /// Nothing on its way; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            ids: PacketIds::new(),
            live_count: 0,
            sent_len: 0,
            sent_count: 0,
            is_unordered: false,
        }
    }

    /// Messages that are not acknowledged.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live_count as usize
    }

    /// Whether all are acknowledged.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live_count == 0
    }

    /// Whether a new message may be sent: the window `count_max` (the smaller of the client's Receive Maximum and
    /// `mqtt.max_inflight`) has room and nothing older waits to be resent.
    ///
    /// [MQTT5-3.3.4-9] [MQTT5-4.9.0-2]: never more than Receive Maximum unacknowledged messages.
    #[must_use]
    pub fn has_room(&self, count_max: u16) -> bool {
        self.sent_count < count_max && self.live_count < count_max && !self.has_resend()
    }

    /// Takes a message on its way and gives it an identifier. Call [`Self::has_room`] before. `None` for QoS 0, or when
    /// all identifiers are in use.
    pub fn push(&mut self, qos: QoS, message: M) -> Option<PacketId> {
        let state = sent(qos)?;
        let mut ids = self.ids;
        let id = ids.allocate(|id| self.is_in_use(id))?;
        self.ids = ids;
        self.append(Entry { id, state, message: Some(message) });
        self.sent_len = count(self.entries.len());
        self.sent_count += 1;
        Some(id)
    }

    /// Puts back a message of a stored session, in the order they were sent; it waits for [`Self::next_resend`].
    /// `message` is `None` if PUBREC had come. False if the identifier is in use or the QoS is 0.
    pub fn restore(&mut self, id: PacketId, qos: QoS, message: Option<M>) -> bool {
        let state = match (&message, sent(qos)) {
            (_, None) => return false,
            (Some(_), Some(state)) => state,
            (None, Some(_)) => State::PubRelSent,
        };
        if self.position(id).is_some() {
            return false;
        }
        self.append(Entry { id, state, message });
        // The next new identifier comes after the restored ones.
        self.ids = PacketIds::after(id);
        true
    }

    /// PUBACK: the message is through `[MQTT5-4.3.2-3]`; it is returned.
    ///
    /// # Errors
    /// When no such message waits for PUBACK.
    pub fn puback(&mut self, id: PacketId) -> Result<M, AckError> {
        let at = self.position(id).ok_or(AckError::Unknown)?;
        let entry = &mut self.entries[at];
        match (entry.state, entry.message.take()) {
            (State::PublishSent1, Some(message)) => {
                self.acknowledge(at);
                Ok(message)
            }
            (_, message) => {
                entry.message = message;
                Err(AckError::WrongKind)
            }
        }
    }

    /// PUBREC: the message goes, its identifier stays until PUBCOMP `[MQTT5-4.3.3-5]`, unless the reason is an error
    /// (0x80 or above, 5.0 only).
    ///
    /// # Errors
    /// When no such message waits for PUBREC.
    pub fn pubrec(&mut self, id: PacketId, is_error: bool) -> Result<Received<M>, AckError> {
        let at = self.position(id).ok_or(AckError::Unknown)?;
        let entry = &mut self.entries[at];
        match (entry.state, entry.message.take()) {
            (State::PublishSent2, Some(message)) if is_error => {
                self.acknowledge(at);
                Ok(Received::Refused(message))
            }
            (State::PublishSent2, Some(message)) => {
                entry.state = State::PubRelSent;
                Ok(Received::Release(message))
            }
            (State::PubRelSent, None) if is_error => Err(AckError::WrongKind),
            (State::PubRelSent, None) => Ok(Received::ReleaseAgain),
            (_, message) => {
                entry.message = message;
                Err(AckError::WrongKind)
            }
        }
    }

    /// PUBCOMP: the identifier is free again.
    ///
    /// # Errors
    /// When no such identifier waits for PUBCOMP.
    pub fn pubcomp(&mut self, id: PacketId) -> Result<(), AckError> {
        let at = self.position(id).ok_or(AckError::Unknown)?;
        if self.entries[at].state != State::PubRelSent {
            return Err(AckError::WrongKind);
        }
        self.acknowledge(at);
        Ok(())
    }

    /// The message that was sent, or is about to be sent, under this identifier.
    #[must_use]
    pub fn get(&self, id: PacketId) -> Option<&M> {
        self.entries[self.position(id)?].message.as_ref()
    }

    /// Gives a message up that could not be sent, as if it had been acknowledged `[MQTT5-3.1.2-25]`; it comes out.
    pub fn forget(&mut self, id: PacketId) -> Option<M> {
        let at = self.position(id)?;
        let message = self.entries[at].message.take();
        self.acknowledge(at);
        message
    }

    /// A new connection of the session: everything unacknowledged waits to be resent
    /// `[MQTT5-4.4.0-1]` `[MQTT311-4.4.0-1]`.
    pub fn begin_resend(&mut self) {
        self.sent_len = 0;
        self.sent_count = 0;
    }

    /// Whether something waits to be resent.
    #[must_use]
    pub fn has_resend(&self) -> bool {
        self.sent_count < self.live_count
    }

    /// The next packet to resend, in the original order `[MQTT5-4.6.0-1]` `[MQTT311-4.6.0-1]`; `None` when all are resent
    /// or `count_max` are unacknowledged on this connection.
    pub fn next_resend(&mut self, count_max: u16) -> Option<Resend<'_, M>> {
        if !self.has_resend() || self.sent_count >= count_max {
            return None;
        }
        let from = self.sent_len as usize;
        let at = from + self.entries.range(from..).position(|entry| entry.state != State::Acknowledged)?;
        self.sent_len = count(at + 1);
        self.sent_count += 1;
        Some(resend(&self.entries[at]))
    }

    /// All unacknowledged packets in the original order, sent again or not: for the retry of 3.x connections and for
    /// export.
    pub fn iter(&self) -> impl Iterator<Item = Resend<'_, M>> {
        self.entries.iter().filter(|entry| entry.state != State::Acknowledged).map(resend)
    }

    /// Takes all messages out that have not got PUBREC, in order: for redelivery to other members of a shared group, and
    /// when the session ends.
    pub fn drain(&mut self) -> impl Iterator<Item = M> {
        let entries = std::mem::take(&mut self.entries);
        *self = Self { ids: self.ids, ..Self::new() };
        entries.into_iter().filter_map(|entry| entry.message)
    }

    fn append(&mut self, entry: Entry<M>) {
        if let (Some(first), Some(last)) = (self.entries.front(), self.entries.back())
            && distance(first.id, entry.id) <= distance(first.id, last.id)
        {
            self.is_unordered = true;
        }
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
        self.live_count += 1;
    }

    fn acknowledge(&mut self, at: usize) {
        self.entries[at].state = State::Acknowledged;
        self.live_count -= 1;
        if at < self.sent_len as usize {
            self.sent_count -= 1;
        }
        while self.entries.front().is_some_and(|entry| entry.state == State::Acknowledged) {
            self.entries.pop_front();
            self.sent_len = self.sent_len.saturating_sub(1);
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
            self.is_unordered = false;
        } else if self.entries.len() > 2 * self.len() + 16 {
            self.compact();
        }
    }

    /// Closes the gaps. Amortised O(1) per acknowledgement.
    fn compact(&mut self) {
        let sent_len = self.sent_len as usize;
        let gone = self.entries.range(..sent_len).filter(|entry| entry.state == State::Acknowledged).count();
        self.sent_len -= count(gone);
        self.entries.retain(|entry| entry.state != State::Acknowledged);
        self.entries.shrink_to(2 * self.entries.len());
    }

    /// Whether an identifier belongs to an unacknowledged message. At once for one above all that are under way, as the next
    /// identifier nearly always is.
    fn is_in_use(&self, id: PacketId) -> bool {
        let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) else { return false };
        let is_above = !self.is_unordered && distance(first.id, id) > distance(first.id, last.id);
        !is_above && self.position(id).is_some()
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        let front = self.entries.front()?;
        if front.id == id && front.state != State::Acknowledged {
            return Some(0);
        }
        let first = front.id;
        let at = if self.is_unordered {
            self.entries.iter().position(|entry| entry.id == id && entry.state != State::Acknowledged)?
        } else {
            self.entries.binary_search_by_key(&distance(first, id), |entry| distance(first, entry.id)).ok()?
        };
        (self.entries[at].state != State::Acknowledged).then_some(at)
    }
}

impl<M> Default for InflightOut<M> {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(size_of::<InflightOut<u64>>() == 48, "what the doc comment says");

fn resend<M>(entry: &Entry<M>) -> Resend<'_, M> {
    let id = entry.id;
    match (&entry.message, entry.state) {
        (Some(message), State::PublishSent1) => Resend::Publish { id, qos: QoS::AtLeastOnce, message },
        (Some(message), _) => Resend::Publish { id, qos: QoS::ExactlyOnce, message },
        (None, _) => Resend::PubRel { id },
    }
}

fn sent(qos: QoS) -> Option<State> {
    match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(State::PublishSent1),
        QoS::ExactlyOnce => Some(State::PublishSent2),
    }
}

/// Steps from one identifier to another, counting up.
fn distance(from: PacketId, to: PacketId) -> u16 {
    to.get().wrapping_sub(from.get())
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("at most twice the 65,535 identifiers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    fn resent(inflight: &mut InflightOut<u32>, count_max: u16) -> Vec<u16> {
        let mut ids = Vec::new();
        while let Some(packet) = inflight.next_resend(count_max) {
            ids.push(match packet {
                Resend::Publish { id, .. } | Resend::PubRel { id } => id.get(),
            });
        }
        ids
    }

    #[test]
    fn qos_1_and_2_take_their_steps() {
        // [MQTT5-4.3.2-1] [MQTT5-4.3.3-1] [MQTT5-4.3.3-4] [MQTT5-4.3.3-5] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]
        let mut inflight = InflightOut::new();
        let one = inflight.push(QoS::AtLeastOnce, 10).unwrap();
        let two = inflight.push(QoS::ExactlyOnce, 20).unwrap();
        let three = inflight.push(QoS::ExactlyOnce, 30).unwrap();
        assert_eq!(inflight.push(QoS::AtMostOnce, 40), None);
        assert_eq!(inflight.puback(two), Err(AckError::WrongKind));
        assert_eq!(inflight.pubrec(one, false), Err(AckError::WrongKind));
        assert_eq!(inflight.pubcomp(two), Err(AckError::WrongKind));
        assert_eq!(inflight.pubrec(two, false), Ok(Received::Release(20)));
        assert_eq!(inflight.pubrec(two, false), Ok(Received::ReleaseAgain));
        assert_eq!(inflight.puback(two), Err(AckError::WrongKind));
        assert_eq!(inflight.len(), 3);
        assert_eq!(inflight.pubcomp(two), Ok(()));
        assert_eq!(inflight.pubcomp(two), Err(AckError::Unknown));
        assert_eq!(inflight.pubrec(three, true), Ok(Received::Refused(30)));
        assert_eq!(inflight.puback(one), Ok(10));
        assert!(inflight.is_empty());
        assert_eq!(inflight.entries.capacity(), 0);
    }

    #[test]
    fn resends_in_the_original_order_within_the_window() {
        // [MQTT5-4.4.0-1] [MQTT5-4.6.0-1] [MQTT5-4.9.0-2] [MQTT311-4.4.0-1] [MQTT311-4.6.0-1]
        let mut inflight = InflightOut::new();
        for n in 0..6 {
            inflight.push(if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce }, n).unwrap();
        }
        assert_eq!(inflight.pubrec(id(4), false), Ok(Received::Release(3)));
        assert_eq!(inflight.puback(id(3)), Ok(2));
        inflight.begin_resend();
        assert!(!inflight.has_room(100));
        assert_eq!(resent(&mut inflight, 2), [1, 2]);
        assert_eq!(inflight.puback(id(1)), Ok(0));
        assert_eq!(resent(&mut inflight, 2), [4]);
        assert_eq!(inflight.puback(id(5)), Ok(4), "a client may acknowledge what it got before");
        assert_eq!(resent(&mut inflight, 100), [6]);
        assert!(inflight.has_room(4) && !inflight.has_room(3));
        assert_eq!(inflight.drain().collect::<Vec<_>>(), [1, 5]);
        assert!(inflight.is_empty() && !inflight.has_resend());
    }

    #[test]
    fn restored_messages_keep_their_identifiers_and_come_first() {
        let mut inflight = InflightOut::new();
        assert!(inflight.restore(id(65_535), QoS::AtLeastOnce, Some(1)));
        assert!(inflight.restore(id(1), QoS::ExactlyOnce, None));
        assert!(inflight.restore(id(900), QoS::ExactlyOnce, Some(3)));
        assert!(inflight.restore(id(40), QoS::ExactlyOnce, Some(4)), "an odd order is taken as it is");
        assert!(!inflight.restore(id(900), QoS::AtLeastOnce, Some(3)));
        assert_eq!(
            inflight.next_resend(9),
            Some(Resend::Publish { id: id(65_535), qos: QoS::AtLeastOnce, message: &1 })
        );
        assert_eq!(inflight.next_resend(9), Some(Resend::PubRel { id: id(1) }));
        assert_eq!(resent(&mut inflight, 9), [900, 40]);
        assert_eq!(inflight.push(QoS::AtLeastOnce, 5), Some(id(41)));
        assert_eq!(inflight.pubcomp(id(1)), Ok(()));
        assert_eq!(inflight.pubrec(id(40), false), Ok(Received::Release(4)));
        assert_eq!(inflight.len(), 4);
    }

    #[test]
    fn an_identifier_that_is_never_acknowledged_is_passed_over() {
        // [MQTT5-2.2.1-4] [MQTT311-2.3.1-4]
        let mut inflight = InflightOut::new();
        inflight.push(QoS::AtLeastOnce, 0).unwrap();
        let mut held = VecDeque::new();
        for n in 1..200_000_u32 {
            let next = inflight.push(QoS::AtLeastOnce, n).unwrap();
            assert!(next != id(1) && !held.contains(&(next, n)));
            held.push_back((next, n));
            if held.len() > 20 {
                let (old, message) = held.pop_front().unwrap();
                assert_eq!(inflight.puback(old), Ok(message));
            }
            assert!(inflight.entries.len() <= 2 * 23 + 16);
        }
        assert_eq!(inflight.puback(id(1)), Ok(0));
    }

    proptest! {
        #[test]
        fn behaves_like_a_list(ops in proptest::collection::vec((0_u8..8, any::<u16>()), 1..600), window in 1_u16..50) {
            let mut inflight = InflightOut::new();
            // (id, QoS 2, released, message) in order, and how many of them were sent on this connection.
            let mut model: Vec<(PacketId, bool, bool, u32)> = Vec::new();
            let mut unsent: Vec<PacketId> = Vec::new();
            for (n, (op, pick)) in (0_u32..).zip(ops) {
                let at = if model.is_empty() { 0 } else { usize::from(pick) % model.len() };
                match op {
                    0..=2 => {
                        let room = unsent.is_empty() && model.len() < usize::from(window);
                        prop_assert_eq!(inflight.has_room(window), room);
                        if room {
                            let qos = if op == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                            let id = inflight.push(qos, n).unwrap();
                            prop_assert!(model.iter().all(|entry| entry.0 != id));
                            model.push((id, op != 0, false, n));
                        }
                    }
                    3 => { inflight.begin_resend(); unsent = model.iter().map(|entry| entry.0).collect(); }
                    4 => {
                        let sent = model.len() - unsent.len();
                        let expected = if sent < usize::from(window) { unsent.first().copied() } else { None };
                        let next = inflight.next_resend(window).map(|packet| match packet {
                            Resend::Publish { id, .. } | Resend::PubRel { id } => id,
                        });
                        prop_assert_eq!(next, expected);
                        if next.is_some() { unsent.remove(0); }
                    }
                    _ if model.is_empty() => prop_assert!(inflight.is_empty()),
                    _ => {
                        let (id, is_two, released, message) = model[at];
                        match (is_two, released) {
                            (false, _) => prop_assert_eq!(inflight.puback(id), Ok(message)),
                            (true, false) if op == 7 => {
                                prop_assert_eq!(inflight.pubrec(id, true), Ok(Received::Refused(message)));
                            }
                            (true, false) => {
                                prop_assert_eq!(inflight.pubrec(id, false), Ok(Received::Release(message)));
                                model[at].2 = true;
                                continue;
                            }
                            (true, true) => prop_assert_eq!(inflight.pubcomp(id), Ok(())),
                        }
                        model.remove(at);
                        unsent.retain(|other| *other != id);
                    }
                }
                let order: Vec<PacketId> = inflight.iter().map(|packet| match packet {
                    Resend::Publish { id, .. } | Resend::PubRel { id } => id,
                }).collect();
                prop_assert_eq!(order, model.iter().map(|entry| entry.0).collect::<Vec<_>>());
                prop_assert_eq!(inflight.has_resend(), !unsent.is_empty());
            }
        }
    }
}

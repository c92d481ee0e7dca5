//! Messages that wait for a session: because its client is away, slow, or has its window full.
//!
//! Follows EMQX's mqueue: one line per priority, bounded, oldest dropped first. Different from it: the bound counts all
//! lines together, there is a bound in bytes, and QoS 0 messages make room before any other.

use std::collections::VecDeque;

use dunlin_wire::types::QoS;

use crate::time::WallMs;

/// Waiting messages of one session. `M` is the handle of a message with what belongs to its delivery.
///
/// 8 B and no heap while empty; then 48 B, 72 B per priority in use, and `size_of::<M>() + 24` B per message.
#[derive(Debug)]
pub struct Queue<M>(Option<Box<Lines<M>>>);

/// Bounds of a queue, the same for all sessions of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// `mqtt.max_mqueue_len`; `None`: no limit.
    pub count_max: Option<u32>,
    /// `mqtt.max_mqueue_bytes`; `None`: no limit.
    pub bytes_max: Option<u64>,
    /// `mqtt.mqueue_store_qos0`.
    pub stores_qos0: bool,
}

impl QueueLimits {
    /// No bounds.
    pub const NONE: Self = Self { count_max: None, bytes_max: None, stores_qos0: true };
}

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<M> {
    /// The message.
    pub message: M,
    /// The QoS it will be delivered with.
    pub qos: QoS,
    /// Bytes that it is counted with.
    pub bytes: u32,
    /// When it is no longer worth sending.
    pub expires_at: Option<WallMs>,
}

/// Why a message will not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// QoS 0 messages are not kept (`mqtt.mqueue_store_qos0`).
    Qos0NotStored,
    /// Too many messages waited.
    QueueFull,
    /// Too many bytes waited.
    QueueBytes,
    /// It expired before it could be sent `[MQTT5-3.3.2-5]`.
    Expired,
}

/// Priority of a line: a higher one goes first. 0 is below and 256 above all that can be configured (1 to 255).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u16);

/// Which topic has which priority (`mqtt.mqueue_priorities`). One per shard.
#[derive(Clone, Debug, Default)]
pub struct Priorities {
    /// Ascending by topic.
    topics: Vec<(Box<str>, u8)>,
    default: Priority,
}

impl Priorities {
    /// From the configuration: topics with 1 to 255, and whether all others are above or below them.
    #[must_use]
    pub fn new(topics: &[(String, u8)], is_default_highest: bool) -> Self {
        let mut topics: Vec<(Box<str>, u8)> =
            topics.iter().map(|(topic, priority)| (topic.as_str().into(), *priority)).collect();
        topics.sort();
        topics.dedup_by(|later, earlier| later.0 == earlier.0);
        Self { topics, default: Priority(if is_default_highest { 256 } else { 0 }) }
    }

    /// The priority of a topic. O(log topics); nothing when none is configured.
    #[must_use]
    pub fn of(&self, topic: &str) -> Priority {
        match self.topics.binary_search_by(|(listed, _)| (**listed).cmp(topic)) {
            Ok(at) => Priority(u16::from(self.topics[at].1)),
            Err(_) => self.default,
        }
    }
}

#[derive(Debug)]
struct Lines<M> {
    /// Highest priority first; never empty lines.
    lines: Vec<Line<M>>,
    count: u32,
    bytes: u64,
    /// Counts pushes: tells the order between the two halves of a line.
    clock: u32,
}

/// Messages of one priority. QoS 0 stands apart, so that the oldest of them is found at once when room is needed.
#[derive(Debug)]
struct Line<M> {
    priority: Priority,
    /// Messages that may still leave before a lower line has its turn.
    credit: u32,
    qos0: VecDeque<Stamped<M>>,
    above: VecDeque<Stamped<M>>,
}

/// A waiting message as it is kept.
#[derive(Debug)]
struct Stamped<M> {
    message: M,
    /// [`NEVER`] for no expiry.
    expires_at: WallMs,
    bytes: u32,
    /// The lower bits of the clock when it came.
    stamp: u32,
    qos: QoS,
}

impl<M> Queue<M> {
    /// An empty queue; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// How many messages wait.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.as_ref().map_or(0, |lines| lines.count)
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes of all that wait, as counted in [`Waiting::bytes`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |lines| lines.bytes)
    }

    /// Adds a message at the end of its line: [MQTT311-3.1.2-5] also while the client is away. To keep the limits, others are dropped, or the message itself: QoS 0 before
    /// QoS 1 and 2, lower priority before higher, older before newer. Everything dropped goes to `dropped` with the reason.
    ///
    /// Amortised O(priorities in use).
    pub fn push(
        &mut self,
        waiting: Waiting<M>,
        priority: Priority,
        limits: &QueueLimits,
        mut dropped: impl FnMut(DropReason, Waiting<M>),
    ) {
        if waiting.qos == QoS::AtMostOnce && !limits.stores_qos0 {
            dropped(DropReason::Qos0NotStored, waiting);
            return;
        }
        if limits.bytes_max.is_some_and(|bytes_max| u64::from(waiting.bytes) > bytes_max) {
            dropped(DropReason::QueueBytes, waiting);
            return;
        }
        if limits.count_max == Some(0) {
            dropped(DropReason::QueueFull, waiting);
            return;
        }
        let lines = self.0.get_or_insert_with(Default::default);
        while let Some(reason) = lines.is_over(&waiting, limits) {
            match lines.make_room(&waiting, priority) {
                Some(victim) => dropped(reason, victim),
                None => {
                    dropped(reason, waiting);
                    return;
                }
            }
        }
        lines.append(waiting, priority);
    }

    /// The next message to send: of the highest priority, except that each line gives the next lower one a turn after ten
    /// times its priority, so that none starves. Expired ones on the way go to `dropped`.
    ///
    /// [MQTT5-3.3.2-5]: a message whose expiry interval has passed must not be sent.
    pub fn pop(
        &mut self,
        now: WallMs,
        mut dropped: impl FnMut(DropReason, Waiting<M>),
    ) -> Option<Waiting<M>> {
        loop {
            let lines = self.0.as_mut()?;
            let waiting = lines.take_next();
            if lines.count == 0 {
                self.0 = None;
            }
            match waiting {
                Some(waiting) if waiting.expires_at.is_some_and(|at| at <= now) => {
                    dropped(DropReason::Expired, waiting);
                }
                other => return other,
            }
        }
    }

    /// Whether a QoS 0 message waits. O(priorities in use).
    #[must_use]
    pub fn has_qos0(&self) -> bool {
        self.0.as_ref().is_some_and(|lines| lines.lines.iter().any(|line| !line.qos0.is_empty()))
    }

    /// The next QoS 0 message, highest priority first: for a client whose window is full. Expired ones go to `dropped`.
    pub fn pop_qos0(
        &mut self,
        now: WallMs,
        mut dropped: impl FnMut(DropReason, Waiting<M>),
    ) -> Option<Waiting<M>> {
        loop {
            let lines = self.0.as_mut()?;
            let at = lines.lines.iter().position(|line| !line.qos0.is_empty())?;
            let waiting = lines.take(at, |line| line.qos0.pop_front());
            if lines.count == 0 {
                self.0 = None;
            }
            match waiting {
                Some(waiting) if waiting.expires_at.is_some_and(|at| at <= now) => {
                    dropped(DropReason::Expired, waiting);
                }
                other => return other,
            }
        }
    }

    /// Takes everything out, highest priority first, in order within: for export, redelivery, and the end of a session.
    pub fn drain(&mut self) -> impl Iterator<Item = (Priority, Waiting<M>)> {
        let lines = self.0.take().map_or_else(Vec::new, |lines| lines.lines);
        lines.into_iter().flat_map(|mut line| {
            std::iter::from_fn(move || line.take_oldest().map(|waiting| (line.priority, waiting)))
        })
    }

    /// Whether a QoS 1 or 2 message waits that `order` finds equal, if all of a priority stand in that order. What `order` does
    /// not know is passed over one by one. O(priorities in use × log messages) else.
    #[must_use]
    pub fn has_sorted_by(&self, order: impl Fn(&M) -> Option<std::cmp::Ordering>) -> bool {
        let lines = self.0.iter().flat_map(|lines| lines.lines.iter());
        lines.into_iter().any(|line| {
            let found = line
                .above
                .binary_search_by(|stamped| order(&stamped.message).unwrap_or(std::cmp::Ordering::Less));
            found.is_ok()
                || line.above.iter().any(|stamped| order(&stamped.message).is_none())
                    && line
                        .above
                        .iter()
                        .any(|stamped| order(&stamped.message) == Some(std::cmp::Ordering::Equal))
        })
    }

    /// Everything that waits, highest priority first; within a priority QoS 0 comes apart from the others.
    pub fn iter(&self) -> impl Iterator<Item = (Priority, QoS, &M)> {
        let lines = self.0.iter().flat_map(|lines| lines.lines.iter());
        lines.flat_map(|line| {
            let both = line.above.iter().chain(&line.qos0);
            both.map(|stamped| (line.priority, stamped.qos, &stamped.message))
        })
    }
}

impl<M> Default for Queue<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Default for Lines<M> {
    fn default() -> Self {
        Self { lines: Vec::new(), count: 0, bytes: 0, clock: 0 }
    }
}

impl<M> Lines<M> {
    fn is_over(&self, waiting: &Waiting<M>, limits: &QueueLimits) -> Option<DropReason> {
        if limits.count_max.is_some_and(|count_max| self.count >= count_max) {
            return Some(DropReason::QueueFull);
        }
        let bytes = self.bytes.saturating_add(u64::from(waiting.bytes));
        if limits.bytes_max.is_some_and(|bytes_max| bytes > bytes_max) {
            return Some(DropReason::QueueBytes);
        }
        None
    }

    /// Takes out who goes first to make room for `waiting`; `None` if that is `waiting` itself.
    fn make_room(&mut self, waiting: &Waiting<M>, priority: Priority) -> Option<Waiting<M>> {
        let qos0 = self.lines.iter().rposition(|line| !line.qos0.is_empty());
        if let Some(at) = qos0 {
            // A QoS 0 message of lower priority than all that wait goes before them.
            if waiting.qos == QoS::AtMostOnce && self.lines[at].priority > priority {
                return None;
            }
            return self.take(at, |line| line.qos0.pop_front());
        }
        if waiting.qos == QoS::AtMostOnce {
            return None;
        }
        let lowest = self.lines.len().checked_sub(1)?;
        if self.lines[lowest].priority > priority {
            return None;
        }
        self.take(lowest, |line| line.above.pop_front())
    }

    fn append(&mut self, waiting: Waiting<M>, priority: Priority) {
        let at = match self.lines.binary_search_by(|line| priority.cmp(&line.priority)) {
            Ok(at) => at,
            Err(at) => {
                if self.lines.capacity() == 0 {
                    self.lines.reserve_exact(1);
                }
                self.lines.insert(at, Line::new(priority));
                at
            }
        };
        self.count += 1;
        self.bytes += u64::from(waiting.bytes);
        self.clock = self.clock.wrapping_add(1);
        let line = &mut self.lines[at];
        let half = if waiting.qos == QoS::AtMostOnce { &mut line.qos0 } else { &mut line.above };
        half.push_back(Stamped::new(waiting, self.clock));
    }

    fn take_next(&mut self) -> Option<Waiting<M>> {
        let at = match self.lines.iter().position(|line| line.credit > 0) {
            Some(at) => at,
            None => {
                for line in &mut self.lines {
                    line.credit = line.priority.turns();
                }
                0
            }
        };
        let line = self.lines.get_mut(at)?;
        line.credit = line.credit.saturating_sub(1);
        self.take(at, Line::take_oldest_stamped)
    }

    /// Takes one message out of a line; the line goes when it was the last.
    fn take(
        &mut self,
        at: usize,
        take: impl FnOnce(&mut Line<M>) -> Option<Stamped<M>>,
    ) -> Option<Waiting<M>> {
        let line = &mut self.lines[at];
        let waiting = take(line)?.into_waiting();
        if line.qos0.is_empty() && line.above.is_empty() {
            self.lines.remove(at);
        }
        self.count -= 1;
        self.bytes -= u64::from(waiting.bytes);
        Some(waiting)
    }
}

impl<M> Line<M> {
    fn new(priority: Priority) -> Self {
        Self { priority, credit: priority.turns(), qos0: VecDeque::new(), above: VecDeque::new() }
    }

    fn take_oldest(&mut self) -> Option<Waiting<M>> {
        self.take_oldest_stamped().map(Stamped::into_waiting)
    }

    fn take_oldest_stamped(&mut self) -> Option<Stamped<M>> {
        let qos0 = self.qos0.front().map(|stamped| stamped.stamp);
        let above = self.above.front().map(|stamped| stamped.stamp);
        match (qos0, above) {
            // The clock goes round; what waits is never half a round apart.
            (Some(qos0), Some(above)) if above.wrapping_sub(qos0) < u32::MAX / 2 => self.qos0.pop_front(),
            (Some(_), None) => self.qos0.pop_front(),
            (_, _) => self.above.pop_front(),
        }
    }
}

impl<M> Stamped<M> {
    fn new(waiting: Waiting<M>, stamp: u32) -> Self {
        let Waiting { message, qos, bytes, expires_at } = waiting;
        Self { message, expires_at: expires_at.unwrap_or(NEVER), bytes, stamp, qos }
    }

    fn into_waiting(self) -> Waiting<M> {
        let expires_at = (self.expires_at != NEVER).then_some(self.expires_at);
        Waiting { message: self.message, qos: self.qos, bytes: self.bytes, expires_at }
    }
}

impl Priority {
    /// Messages of this priority that go before a lower one has its turn.
    const fn turns(self) -> u32 {
        (self.0 as u32 + 1) * TURNS_PER_PRIORITY
    }
}

const TURNS_PER_PRIORITY: u32 = 10;
const NEVER: WallMs = WallMs(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: QueueLimits = QueueLimits { count_max: Some(4), bytes_max: Some(1_000), stores_qos0: true };

    fn waiting(message: u32, qos: QoS) -> Waiting<u32> {
        Waiting { message, qos, bytes: 10, expires_at: None }
    }

    fn push(queue: &mut Queue<u32>, waiting: Waiting<u32>, priority: u16) -> Vec<(DropReason, u32)> {
        let mut dropped = Vec::new();
        queue.push(waiting, Priority(priority), &LIMITS, |reason, victim| {
            dropped.push((reason, victim.message))
        });
        dropped
    }

    fn pop_all(queue: &mut Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(WallMs(0), |_, _| {})).map(|waiting| waiting.message).collect()
    }

    #[test]
    fn leaves_in_the_order_it_came() {
        // [MQTT5-4.6.0-6] [MQTT311-4.6.0-6]
        let mut queue = Queue::new();
        for (n, qos) in
            [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce, QoS::ExactlyOnce].into_iter().enumerate()
        {
            assert!(push(&mut queue, waiting(u32::try_from(n).unwrap(), qos), 0).is_empty());
        }
        assert_eq!((queue.len(), queue.bytes()), (4, 40));
        assert_eq!(pop_all(&mut queue), [0, 1, 2, 3]);
        assert!(queue.is_empty() && queue.0.is_none());
    }

    #[test]
    fn qos_0_makes_room_first_then_the_oldest() {
        let mut queue = Queue::new();
        for n in 0..4 {
            push(&mut queue, waiting(n, if n == 2 { QoS::AtMostOnce } else { QoS::AtLeastOnce }), 0);
        }
        assert_eq!(push(&mut queue, waiting(4, QoS::AtLeastOnce), 0), [(DropReason::QueueFull, 2)]);
        assert_eq!(push(&mut queue, waiting(5, QoS::AtMostOnce), 0), [(DropReason::QueueFull, 5)]);
        assert_eq!(push(&mut queue, waiting(6, QoS::AtLeastOnce), 0), [(DropReason::QueueFull, 0)]);
        assert_eq!(pop_all(&mut queue), [1, 3, 4, 6]);
    }

    #[test]
    fn low_priority_makes_room_for_high_not_the_other_way() {
        let mut queue = Queue::new();
        for n in 0..4 {
            push(&mut queue, waiting(n, QoS::AtLeastOnce), if n < 2 { 1 } else { 9 });
        }
        assert_eq!(push(&mut queue, waiting(4, QoS::AtLeastOnce), 9), [(DropReason::QueueFull, 0)]);
        assert_eq!(push(&mut queue, waiting(5, QoS::AtLeastOnce), 0), [(DropReason::QueueFull, 5)]);
        assert_eq!(push(&mut queue, waiting(6, QoS::AtLeastOnce), 9), [(DropReason::QueueFull, 1)]);
        assert_eq!(pop_all(&mut queue), [2, 3, 4, 6]);
    }

    #[test]
    fn a_low_line_has_its_turn() {
        let limits = QueueLimits { count_max: None, bytes_max: None, stores_qos0: true };
        let mut queue = Queue::new();
        for n in 0..100 {
            queue.push(waiting(n, QoS::AtLeastOnce), Priority(1), &limits, |_, _| {});
            queue.push(waiting(1_000 + n, QoS::AtLeastOnce), Priority(0), &limits, |_, _| {});
        }
        let order = pop_all(&mut queue);
        let low: Vec<usize> =
            order.iter().enumerate().filter(|(_, n)| **n >= 1_000).map(|(at, _)| at).collect();
        assert_eq!(&low[..12], [20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 50, 51]);
        assert_eq!(order.len(), 200);
    }

    #[test]
    fn expired_messages_are_not_sent() {
        // [MQTT5-3.3.2-5]
        let mut queue = Queue::new();
        for (n, expires_at) in
            [Some(WallMs(5)), None, Some(WallMs(6)), Some(WallMs(7))].into_iter().enumerate()
        {
            let message = u32::try_from(n).unwrap();
            push(&mut queue, Waiting { expires_at, ..waiting(message, QoS::AtLeastOnce) }, 0);
        }
        let mut dropped = Vec::new();
        let mut pop = || queue.pop(WallMs(6), |reason, victim| dropped.push((reason, victim.message)));
        assert_eq!(pop().unwrap().message, 1);
        assert_eq!(pop().unwrap().message, 3);
        assert_eq!(pop(), None);
        assert_eq!(dropped, [(DropReason::Expired, 0), (DropReason::Expired, 2)]);
    }

    #[test]
    fn bytes_are_bounded_and_qos_0_can_be_refused() {
        let mut queue = Queue::new();
        let large = |n| Waiting { bytes: 400, ..waiting(n, QoS::AtLeastOnce) };
        assert!(push(&mut queue, large(1), 0).is_empty() && push(&mut queue, large(2), 0).is_empty());
        assert_eq!(push(&mut queue, large(3), 0), [(DropReason::QueueBytes, 1)]);
        let huge = Waiting { bytes: 1_001, ..waiting(4, QoS::AtLeastOnce) };
        assert_eq!(push(&mut queue, huge, 0), [(DropReason::QueueBytes, 4)]);
        let mut refused = None;
        let limits = QueueLimits { stores_qos0: false, ..LIMITS };
        queue.push(waiting(5, QoS::AtMostOnce), Priority(0), &limits, |reason, _| refused = Some(reason));
        assert_eq!(refused, Some(DropReason::Qos0NotStored));
        assert_eq!(queue.drain().map(|(_, waiting)| waiting.message).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn priorities_by_topic() {
        let listed = [("b".to_owned(), 7), ("a/b".to_owned(), 255)];
        let priorities = Priorities::new(&listed, false);
        assert_eq!(["a/b", "b", "c"].map(|topic| priorities.of(topic).0), [255, 7, 0]);
        assert_eq!(Priorities::new(&listed, true).of("c"), Priority(256));
        assert_eq!(Priorities::default().of("c"), Priority(0));
    }

    proptest! {
        #[test]
        fn never_over_its_limits_and_nothing_lost_unseen(
            ops in proptest::collection::vec((0_u8..4, 0_u8..3, 0_u16..3, 0_u32..200, any::<bool>()), 1..400),
            count_max in 0_u32..12, bytes_max in 0_u64..600,
        ) {
            let limits = QueueLimits { count_max: Some(count_max), bytes_max: Some(bytes_max), stores_qos0: true };
            let mut queue = Queue::new();
            let (mut dropped, mut popped, mut pushed) = (Vec::new(), Vec::new(), 0_u32);
            for (op, qos, priority, bytes, expires) in ops {
                if op == 0 {
                    if let Some(waiting) = queue.pop(WallMs(1), |_, victim: Waiting<u32>| dropped.push(victim.message)) {
                        popped.push((waiting.qos, waiting.message));
                    }
                } else {
                    let qos = QoS::from_u8(qos).unwrap();
                    let expires_at = expires.then_some(WallMs(u64::from(bytes) % 3));
                    let waiting = Waiting { message: pushed, qos, bytes, expires_at };
                    pushed += 1;
                    queue.push(waiting, Priority(priority), &limits, |_, victim| dropped.push(victim.message));
                }
                prop_assert!(queue.len() <= count_max && queue.bytes() <= bytes_max);
                prop_assert_eq!(queue.iter().count(), usize::try_from(queue.len()).unwrap());
            }
            let mut all: Vec<u32> = dropped.into_iter().chain(popped.into_iter().map(|(_, message)| message))
                .chain(queue.drain().map(|(_, waiting)| waiting.message)).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..pushed).collect::<Vec<_>>());
            prop_assert_eq!((queue.len(), queue.bytes()), (0, 0));
        }
    }
}

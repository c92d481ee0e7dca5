//! QoS 2 as receiver: identifiers whose PUBREL has not come yet (§MQTT5 4.3.3).
//!
//! The message itself was passed on when its PUBLISH came; what is kept is only that it must not be passed on again.

use dunlin_wire::types::PacketId;

use crate::time::Mono;

/// Identifiers that wait for PUBREL. One per session; 24 B, no heap while empty, then 16 B per identifier.
///
/// Bounded by `mqtt.max_awaiting_rel`. Finding is a binary search; clients count their identifiers up, so adding is at the
/// end nearly always.
#[derive(Debug, Default)]
pub struct InflightIn {
    /// Ascending by identifier.
    waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: PacketId,
    deadline: Mono,
}

/// What a QoS 2 PUBLISH is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// New: pass the message on, answer PUBREC.
    New,
    /// Already passed on: answer PUBREC only `[MQTT5-4.3.3-10]` `[MQTT311-4.3.3-2]`.
    Duplicate,
    /// New, but too many wait already: `mqtt.max_awaiting_rel`.
    Full,
}

impl InflightIn {
    /// Nothing waits; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiting: Vec::new() }
    }

    /// Notes a QoS 2 PUBLISH, whose PUBREL is expected before `deadline`, unless `count_max` wait already.
    pub fn arrive(&mut self, id: PacketId, deadline: Mono, count_max: u16) -> Arrival {
        match self.waiting.binary_search_by_key(&id, |waiting| waiting.id) {
            Ok(_) => Arrival::Duplicate,
            Err(_) if self.waiting.len() >= usize::from(count_max) => Arrival::Full,
            Err(at) => {
                if self.waiting.capacity() == 0 {
                    self.waiting.reserve_exact(1);
                }
                self.waiting.insert(at, Waiting { id, deadline });
                Arrival::New
            }
        }
    }

    /// Whether this identifier waits for PUBREL.
    #[must_use]
    pub fn contains(&self, id: PacketId) -> bool {
        self.waiting.binary_search_by_key(&id, |waiting| waiting.id).is_ok()
    }

    /// Notes PUBREL: the identifier may be used again. False if it did not wait (PUBCOMP then says 0x92 in 5.0).
    pub fn release(&mut self, id: PacketId) -> bool {
        let Ok(at) = self.waiting.binary_search_by_key(&id, |waiting| waiting.id) else { return false };
        self.waiting.remove(at);
        self.shrink();
        true
    }

    /// Gives up on those whose deadline has passed and hands them to `expired`, ascending by identifier.
    pub fn expire(&mut self, now: Mono, mut expired: impl FnMut(PacketId)) {
        self.waiting.retain(|waiting| {
            let keeps = waiting.deadline > now;
            if !keeps {
                expired(waiting.id);
            }
            keeps
        });
        self.shrink();
    }

    /// When the first of them expires. O(count).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }

    /// The identifiers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> {
        self.waiting.iter().map(|waiting| waiting.id)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.waiting = Vec::new();
    }

    fn shrink(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        } else if self.waiting.capacity() > 16 && self.waiting.len() < self.waiting.capacity() / 4 {
            self.waiting.shrink_to(self.waiting.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn the_same_identifier_is_passed_on_once_until_released() {
        // [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]
        let mut inflight = InflightIn::new();
        assert_eq!(inflight.arrive(id(5), Mono(10), 100), Arrival::New);
        assert_eq!(inflight.arrive(id(5), Mono(11), 100), Arrival::Duplicate);
        assert!(inflight.release(id(5)));
        assert!(!inflight.release(id(5)));
        assert_eq!(inflight.arrive(id(5), Mono(12), 100), Arrival::New);
    }

    #[test]
    fn bounded_and_empty_without_heap() {
        let mut inflight = InflightIn::new();
        for value in [9, 3, 7] {
            assert_eq!(inflight.arrive(id(value), Mono(u64::from(value)), 3), Arrival::New);
        }
        assert_eq!(inflight.arrive(id(1), Mono(1), 3), Arrival::Full);
        assert_eq!(inflight.arrive(id(3), Mono(1), 3), Arrival::Duplicate);
        assert_eq!(inflight.iter().map(PacketId::get).collect::<Vec<_>>(), [3, 7, 9]);
        assert_eq!(inflight.next_deadline(), Some(Mono(3)));
        let mut gone = Vec::new();
        inflight.expire(Mono(7), |id| gone.push(id.get()));
        assert_eq!(gone, [3, 7]);
        assert!(inflight.contains(id(9)));
        inflight.expire(Mono(9), |_| {});
        assert!(inflight.is_empty());
        assert_eq!(inflight.waiting.capacity(), 0);
    }
}

//! Room for connections that come home: permits, so that they never take the slots that accepts count on.
//!
//! An accept that finds the table full costs its peer the connection, because the kernel has taken it by then; a handoff that finds
//! no room is only tried again. So a shard gives permits for no more sockets than it has slots to spare, and a shard that wants to
//! send one takes a permit first.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What other shards may know of a shard's room. One per shard, shared by all.
///
/// Permits are numbered, modulo 2^32. One that is in the offer is good for the ring of that offer and for those of later offers.
#[derive(Debug, Default)]
pub(super) struct ArrivalsRoom {
    /// The ring's descriptor plus one (0: none) in the upper half, and in the lower one the number that permits go up to.
    offer: AtomicU64,
    /// Permits that were taken.
    taken: AtomicU32,
    /// Permits whose socket could not be put into the ring.
    returned: AtomicU32,
}

impl ArrivalsRoom {
    /// Takes a permit; the descriptor of the ring that the socket goes to.
    pub(super) fn take(&self) -> Option<i32> {
        loop {
            let taken = self.taken.load(Ordering::Relaxed);
            let (ring, granted) = unpack(self.offer.load(Ordering::Acquire));
            let left = granted.wrapping_sub(taken);
            // More than half the circle: the offer is older than what was taken.
            if left == 0 || left > u32::MAX / 2 {
                return None;
            }
            let ring = ring?;
            let next = taken.wrapping_add(1);
            if self.taken.compare_exchange_weak(taken, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(ring);
            }
        }
    }

    /// The socket of a permit could not be put into the ring.
    pub(super) fn give_back(&self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back the permits that nobody has taken, so that they can be given again. Only by the shard itself.
    pub(super) fn revoke(&self) {
        let (_, granted) = unpack(self.offer.load(Ordering::Relaxed));
        let taken = self.taken.swap(granted, Ordering::Relaxed);
        self.returned.fetch_add(granted.wrapping_sub(taken), Ordering::Relaxed);
    }

    /// Sockets that may still come, of `came` that have come since the start: permits that were given and not used up.
    pub(super) fn open(&self, came: u32) -> u32 {
        let (_, granted) = unpack(self.offer.load(Ordering::Relaxed));
        granted.wrapping_sub(came).wrapping_sub(self.returned.load(Ordering::Relaxed))
    }

    /// Names the ring that takes arrivals and gives `more` permits. Only by the shard itself.
    pub(super) fn offer(&self, ring: Option<i32>, more: u32) {
        let (_, granted) = unpack(self.offer.load(Ordering::Relaxed));
        let ring = ring.and_then(|ring| u32::try_from(ring).ok()).map_or(0, |ring| ring + 1);
        let offer = u64::from(ring) << 32 | u64::from(granted.wrapping_add(more));
        self.offer.store(offer, Ordering::Release);
    }
}

fn unpack(offer: u64) -> (Option<i32>, u32) {
    let ring = u32::try_from(offer >> 32).unwrap_or(0).checked_sub(1);
    let granted = u32::try_from(offer & u64::from(u32::MAX)).unwrap_or(0);
    (ring.and_then(|ring| i32::try_from(ring).ok()), granted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_permits_are_taken_than_were_given() {
        let room = ArrivalsRoom::default();
        assert_eq!(room.take(), None, "nothing was offered");
        room.offer(Some(7), 2);
        assert_eq!([room.take(), room.take(), room.take()], [Some(7), Some(7), None]);
        assert_eq!((room.open(0), room.open(1)), (2, 1));
        room.give_back();
        assert_eq!(room.open(1), 0);
        room.offer(Some(9), 1);
        assert_eq!([room.take(), room.take()], [Some(9), None]);
        room.offer(None, 1);
        assert_eq!(room.take(), None, "a permit is of no use without a ring");
        room.offer(Some(7), 0);
        assert_eq!(room.take(), Some(7));
    }

    #[test]
    fn permits_that_nobody_took_are_taken_back() {
        let room = ArrivalsRoom::default();
        room.offer(Some(7), 5);
        room.take();
        room.revoke();
        assert_eq!((room.take(), room.open(0)), (None, 1), "the one that was taken is still to come");
        room.offer(Some(7), 1);
        assert_eq!((room.take(), room.take(), room.open(0)), (Some(7), None, 2));
    }

    #[test]
    fn permits_go_round() {
        let room = ArrivalsRoom::default();
        for start in [u32::MAX - 1, u32::MAX] {
            room.taken.store(start, Ordering::Relaxed);
            room.offer.store(u64::from(start), Ordering::Relaxed);
            room.offer(Some(3), 3);
            assert_eq!(
                [room.take(), room.take(), room.take(), room.take()],
                [Some(3), Some(3), Some(3), None]
            );
            assert_eq!(room.open(start), 3);
        }
    }

    #[test]
    fn many_takers_share_what_there_is() {
        let room = ArrivalsRoom::default();
        room.offer(Some(1), 1_000);
        let took = |_| std::iter::from_fn(|| room.take()).count();
        let total: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4).map(|n| scope.spawn(move || took(n))).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(total, 1_000);
    }
}

//! A hierarchical timing wheel: millions of deadlines at a constant cost each.
//!
//! Time is cut into ticks of 8.4 ms. Five wheels of 64 slots hold what is due within 64 ticks, 64², … 64⁵ (104 days); when
//! the time of an outer slot comes, its deadlines move one wheel in. Arm, cancel and expiry cost a few loads each; a
//! deadline moves four times at most. Pure; one per shard, on its core.

use crate::time::Mono;

/// What is due: a kind below [`TimerKey::KIND_COUNT`] and an index below [`TimerKey::INDEX_COUNT`], in 4 B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey(u32);

impl TimerKey {
    /// Kinds that can be told apart.
    pub const KIND_COUNT: u8 = 16;
    /// Indices of each kind.
    pub const INDEX_COUNT: u32 = 1 << INDEX_BITS;

    /// A key.
    ///
    /// # Panics
    /// If the kind or the index is out of range.
    #[must_use]
    pub const fn new(kind: u8, index: u32) -> Self {
        assert!(kind < Self::KIND_COUNT && index < Self::INDEX_COUNT, "a kind and an index in range");
        Self((kind as u32) << INDEX_BITS | index)
    }

    /// The kind.
    #[must_use]
    pub const fn kind(self) -> u8 {
        (self.0 >> INDEX_BITS) as u8
    }

    /// The index.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 & (Self::INDEX_COUNT - 1)
    }
}

/// An armed deadline, for cancelling. Dead once it has expired or was cancelled; the number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(u32);

/// All armed deadlines of one shard: 16 B each, in chunks that are given back when empty, and 1.3 KB for the wheels.
#[derive(Debug)]
pub struct TimerWheel {
    /// The tick up to which all slots have been emptied.
    current: u64,
    wheels: [Wheel; WHEEL_COUNT as usize],
    /// Deadlines that have come, oldest first.
    due: u32,
    entries: Entries,
}

#[derive(Clone, Copy, Debug)]
struct Wheel {
    /// Bit n: slot n has deadlines.
    occupied: u64,
    /// First entry of each slot's ring.
    slots: [u32; SLOT_COUNT as usize],
}

/// One deadline, a link of a ring.
#[derive(Clone, Copy, Debug)]
struct Entry {
    next: u32,
    prev: u32,
    /// The lower bits of its tick.
    tick: u32,
    key: TimerKey,
}

/// Which ring an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    Due,
    Slot { wheel: u32, slot: u32 },
}

impl TimerWheel {
    /// No deadlines; time begins at 0.
    #[must_use]
    pub const fn new() -> Self {
        let wheel = Wheel { occupied: 0, slots: [NOWHERE; SLOT_COUNT as usize] };
        Self { current: 0, wheels: [wheel; WHEEL_COUNT as usize], due: NOWHERE, entries: Entries::new() }
    }

    /// How many deadlines are armed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len
    }

    /// Whether none is armed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.len == 0
    }

    /// Bytes of heap, as asked from the allocator.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.entries.heap_bytes()
    }

    /// Arms a deadline: [`Self::poll`] gives `key` back once `at` has come, at most 8.4 ms later. A deadline more than
    /// 103 days ahead comes after 103 days: the receiver looks at the time and arms the rest. O(1).
    pub fn arm(&mut self, key: TimerKey, at: Mono) -> TimerId {
        let tick = at.0.div_ceil(TICK_NS).min(self.current + HORIZON_TICKS);
        let id = self.entries.take(Entry { next: NOWHERE, prev: NOWHERE, tick: lower(tick), key });
        self.link(id, tick);
        TimerId(id)
    }

    /// Takes a deadline back. False if `id` does not stand for an armed deadline of `key` (it has expired). O(1).
    pub fn cancel(&mut self, id: TimerId, key: TimerKey) -> bool {
        let Some(entry) = self.entries.get(id.0) else { return false };
        if entry.key != key {
            return false;
        }
        self.unlink(id.0, entry);
        self.entries.give_back(id.0);
        true
    }

    /// The next deadline that has come by `now`, in the order of ticks, then of arming; `None` when there is no more.
    /// Deadlines may be armed and cancelled between calls. Time that goes back is ignored.
    pub fn poll(&mut self, now: Mono) -> Option<TimerKey> {
        let target = now.0 / TICK_NS;
        while self.due == NOWHERE {
            match self.next_slot() {
                Some((ring, start)) if start <= target => {
                    self.current = start;
                    self.empty(ring);
                }
                Some(_) | None => {
                    self.current = self.current.max(target);
                    return None;
                }
            }
        }
        let id = self.due;
        let entry = self.entries.get(id)?;
        self.unlink(id, entry);
        self.entries.give_back(id);
        Some(entry.key)
    }

    /// Calls `each` with every deadline that has come by `now`.
    pub fn advance(&mut self, now: Mono, mut each: impl FnMut(TimerKey)) {
        while let Some(key) = self.poll(now) {
            each(key);
        }
    }

    /// When [`Self::poll`] has something to do next: never after the earliest deadline's tick, sometimes before it, when
    /// an outer slot has to move in.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.due != NOWHERE {
            return Some(Mono(self.current.saturating_mul(TICK_NS)));
        }
        self.next_slot().map(|(_, start)| Mono(start.saturating_mul(TICK_NS)))
    }

    /// The slot whose time comes first, and when.
    fn next_slot(&self) -> Option<(Ring, u64)> {
        for (ring, wheel) in self.wheels.iter().zip(0_u32..) {
            if ring.occupied == 0 {
                continue;
            }
            let here = self.current >> shift(wheel);
            // Slots at or before the present one can only be of the next turn, which only the outermost wheel has.
            let ahead = u64::from(ring.occupied.rotate_right(slot_number(here + 1)).trailing_zeros()) + 1;
            let slot = slot_number(here + ahead);
            return Some((Ring::Slot { wheel, slot }, (here + ahead) << shift(wheel)));
        }
        None
    }

    /// Moves the deadlines of a slot whose time has come to where they belong now.
    fn empty(&mut self, ring: Ring) {
        let first = self.head(ring);
        self.set_head(ring, NOWHERE);
        let mut id = first;
        while let Some(entry) = self.entries.get(id) {
            let tick = self.tick_of(entry);
            self.link(id, tick);
            id = entry.next;
            if id == first {
                break;
            }
        }
    }

    fn link(&mut self, id: u32, tick: u64) {
        let ring = self.ring_of(tick);
        let first = self.head(ring);
        if first == NOWHERE {
            self.entries.set_links(id, id, id);
            self.set_head(ring, id);
            return;
        }
        let last = self.entries.at(first).prev;
        self.entries.set_links(id, last, first);
        self.entries.at_mut(last).next = id;
        self.entries.at_mut(first).prev = id;
    }

    fn unlink(&mut self, id: u32, entry: Entry) {
        let ring = self.ring_of(self.tick_of(entry));
        if entry.next == id {
            self.set_head(ring, NOWHERE);
            return;
        }
        self.entries.at_mut(entry.prev).next = entry.next;
        self.entries.at_mut(entry.next).prev = entry.prev;
        if self.head(ring) == id {
            self.set_head(ring, entry.next);
        }
    }

    /// Where a deadline belongs: in the wheel of the highest digit (of base 64) in which it differs from the present.
    fn ring_of(&self, tick: u64) -> Ring {
        if tick <= self.current {
            return Ring::Due;
        }
        let highest_bit = (tick ^ self.current).ilog2();
        let wheel = (highest_bit / SLOT_BITS).min(WHEEL_COUNT - 1);
        Ring::Slot { wheel, slot: slot_number(tick >> shift(wheel)) }
    }

    /// The whole tick of an entry, from its lower bits and the present.
    fn tick_of(&self, entry: Entry) -> u64 {
        let ahead = entry.tick.wrapping_sub(lower(self.current)).cast_signed();
        self.current.wrapping_add_signed(i64::from(ahead))
    }

    const fn head(&self, ring: Ring) -> u32 {
        match ring {
            Ring::Due => self.due,
            Ring::Slot { wheel, slot } => self.wheels[wheel as usize].slots[slot as usize],
        }
    }

    const fn set_head(&mut self, ring: Ring, id: u32) {
        match ring {
            Ring::Due => self.due = id,
            Ring::Slot { wheel, slot } => {
                let wheel = &mut self.wheels[wheel as usize];
                wheel.slots[slot as usize] = id;
                if id == NOWHERE {
                    wheel.occupied &= !(1 << slot);
                } else {
                    wheel.occupied |= 1 << slot;
                }
            }
        }
    }
}

impl Default for TimerWheel {
    fn default() -> Self {
        Self::new()
    }
}

/// Entries in chunks. A free entry has itself as `prev` and no key; its `next` is the next free one of its chunk.
#[derive(Debug)]
struct Entries {
    chunks: Vec<Chunk>,
    /// Chunks with room.
    open: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Chunk {
    entries: Vec<Entry>,
    used: u32,
    free_head: u32,
    open_at: u32,
}

impl Entries {
    const fn new() -> Self {
        Self { chunks: Vec::new(), open: Vec::new(), len: 0 }
    }

    fn heap_bytes(&self) -> usize {
        let entries: usize = self.chunks.iter().map(|chunk| chunk.entries.capacity()).sum();
        entries * size_of::<Entry>() + self.chunks.capacity() * size_of::<Chunk>() + self.open.capacity() * 4
    }

    fn at(&self, id: u32) -> &Entry {
        &self.chunks[(id / CHUNK_ENTRIES) as usize].entries[(id % CHUNK_ENTRIES) as usize]
    }

    fn at_mut(&mut self, id: u32) -> &mut Entry {
        &mut self.chunks[(id / CHUNK_ENTRIES) as usize].entries[(id % CHUNK_ENTRIES) as usize]
    }

    /// The entry `id`, if it is in use.
    fn get(&self, id: u32) -> Option<Entry> {
        let chunk = self.chunks.get((id / CHUNK_ENTRIES) as usize)?;
        chunk.entries.get((id % CHUNK_ENTRIES) as usize).copied().filter(|entry| entry.prev != FREE)
    }

    fn set_links(&mut self, id: u32, prev: u32, next: u32) {
        let entry = self.at_mut(id);
        entry.prev = prev;
        entry.next = next;
    }

    fn take(&mut self, entry: Entry) -> u32 {
        let chunk_at = match self.open.last() {
            Some(chunk_at) => *chunk_at,
            None => self.add_chunk(),
        };
        let chunk = &mut self.chunks[chunk_at as usize];
        let offset = chunk.put(entry);
        if chunk.is_full() {
            self.close(chunk_at);
        }
        self.len += 1;
        chunk_at * CHUNK_ENTRIES + offset
    }

    fn give_back(&mut self, id: u32) {
        let (chunk_at, offset) = (id / CHUNK_ENTRIES, id % CHUNK_ENTRIES);
        let chunk = &mut self.chunks[chunk_at as usize];
        let was_full = chunk.is_full();
        let entry = &mut chunk.entries[offset as usize];
        entry.prev = FREE;
        entry.next = chunk.free_head;
        chunk.free_head = offset;
        chunk.used -= 1;
        self.len -= 1;
        if was_full {
            self.reopen(chunk_at);
        }
        // The last open chunk stays, so that a lone deadline that comes and goes does not allocate each time.
        let chunk = &mut self.chunks[chunk_at as usize];
        if chunk.used == 0 && self.open.len() > 1 {
            chunk.entries = Vec::new();
            chunk.free_head = NOWHERE;
            self.close(chunk_at);
            self.reopen(chunk_at);
            let last = self.open.len() - 1;
            self.swap_open(0, last);
        }
    }

    fn add_chunk(&mut self) -> u32 {
        let chunk_at = u32::try_from(self.chunks.len()).expect("fewer than 2^32 deadlines");
        assert!(chunk_at < NOWHERE / CHUNK_ENTRIES, "fewer than 2^32 deadlines");
        self.chunks.push(Chunk { entries: Vec::new(), used: 0, free_head: NOWHERE, open_at: NOWHERE });
        self.reopen(chunk_at);
        chunk_at
    }

    fn reopen(&mut self, chunk_at: u32) {
        self.chunks[chunk_at as usize].open_at = u32::try_from(self.open.len()).expect("fewer than chunks");
        self.open.push(chunk_at);
    }

    fn close(&mut self, chunk_at: u32) {
        let at = self.chunks[chunk_at as usize].open_at as usize;
        let last = self.open.len() - 1;
        self.swap_open(at, last);
        self.open.pop();
    }

    fn swap_open(&mut self, left: usize, right: usize) {
        self.open.swap(left, right);
        for at in [left, right] {
            let chunk_at = self.open[at] as usize;
            self.chunks[chunk_at].open_at = u32::try_from(at).expect("fewer than chunks");
        }
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.used == CHUNK_ENTRIES
    }

    fn put(&mut self, entry: Entry) -> u32 {
        self.used += 1;
        if self.free_head != NOWHERE {
            let offset = self.free_head;
            self.free_head = self.entries[offset as usize].next;
            self.entries[offset as usize] = entry;
            return offset;
        }
        if self.entries.len() == self.entries.capacity() {
            let more = self.entries.len().clamp(16, CHUNK_ENTRIES as usize - self.entries.len());
            self.entries.reserve_exact(more);
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len() - 1).expect("CHUNK_ENTRIES at most")
    }
}

const fn shift(wheel: u32) -> u32 {
    wheel * SLOT_BITS
}

fn slot_number(digit: u64) -> u32 {
    lower(digit) & (SLOT_COUNT - 1)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn lower(tick: u64) -> u32 {
    tick as u32
}

/// 2²³ ns = 8.39 ms: finer than the 10 ms that short deadlines need.
const TICK_NS: u64 = 1 << 23;
const SLOT_BITS: u32 = 6;
const SLOT_COUNT: u32 = 1 << SLOT_BITS;
const WHEEL_COUNT: u32 = 5;
/// A whole turn of the outermost wheel less one slot, so that a slot is never of two turns.
const HORIZON_TICKS: u64 = (1 << shift(WHEEL_COUNT)) - (1 << shift(WHEEL_COUNT - 1));
const INDEX_BITS: u32 = 28;
const CHUNK_ENTRIES: u32 = 1_024;
const NOWHERE: u32 = u32::MAX;
const FREE: u32 = u32::MAX - 1;

const _: () = assert!(size_of::<Entry>() == 16, "what the doc comment says");
const _: () = assert!(HORIZON_TICKS < i32::MAX as u64, "tick_of tells ahead from behind by a sign");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(index: u32) -> TimerKey {
        TimerKey::new(3, index)
    }

    fn expired(wheel: &mut TimerWheel, now: Mono) -> Vec<u32> {
        let mut keys = Vec::new();
        wheel.advance(now, |key| keys.push(key.index()));
        keys
    }

    #[test]
    fn keys_hold_kind_and_index() {
        let key = TimerKey::new(15, TimerKey::INDEX_COUNT - 1);
        assert_eq!((key.kind(), key.index()), (15, TimerKey::INDEX_COUNT - 1));
    }

    #[test]
    fn comes_within_a_tick_and_not_before() {
        for seconds in [0, 1, 30, 90, 3_600, 86_400, 86_400 * 100] {
            for start in [0, 12_345_678_901, 86_400_000_000_000_000] {
                let mut wheel = TimerWheel::new();
                assert_eq!(wheel.poll(Mono(start)), None);
                let at = Mono(start + 777).plus_seconds(seconds);
                wheel.arm(key(1), at);
                if seconds > 0 {
                    assert_eq!(wheel.poll(Mono(at.0 - 1)), None, "{seconds} {start}");
                    assert!(wheel.next_deadline().unwrap().0 <= at.0 + TICK_NS);
                }
                assert_eq!(wheel.poll(Mono(at.0 + TICK_NS)), Some(key(1)), "{seconds} {start}");
                assert!(wheel.is_empty() && wheel.next_deadline().is_none());
            }
        }
    }

    #[test]
    fn beyond_the_horizon_it_comes_early_to_be_armed_again() {
        let mut wheel = TimerWheel::new();
        wheel.arm(key(1), Mono(u64::MAX));
        assert_eq!(wheel.poll(Mono::default().plus_seconds(102 * 86_400)), None);
        assert_eq!(wheel.poll(Mono::default().plus_seconds(104 * 86_400)), Some(key(1)));
    }

    #[test]
    fn cancelled_deadlines_do_not_come_and_dead_ids_do_nothing() {
        let mut wheel = TimerWheel::new();
        let first = wheel.arm(key(1), Mono(5));
        let second = wheel.arm(key(2), Mono(5));
        assert!(!wheel.cancel(first, key(2)));
        assert!(wheel.cancel(first, key(1)));
        assert!(!wheel.cancel(first, key(1)));
        assert_eq!(expired(&mut wheel, Mono(TICK_NS)), [2]);
        assert!(!wheel.cancel(second, key(2)));
    }

    #[test]
    fn a_million_keep_alives_cost_sixteen_bytes_each_and_leave_nothing() {
        let mut wheel = TimerWheel::new();
        for round in 0..2_u64 {
            let ids: Vec<TimerId> = (0..1_000_000)
                .map(|n| wheel.arm(key(n), Mono(round * 1_000).plus_ms(60_000 + u64::from(n % 1_000) * 60)))
                .collect();
            assert!(wheel.heap_bytes() < 1_000_000 * 17, "{}", wheel.heap_bytes());
            for (id, n) in ids.iter().zip(0..).step_by(2) {
                assert!(wheel.cancel(*id, key(n)));
            }
            let mut count = 0;
            wheel.advance(Mono::default().plus_seconds(1_000 * (round + 1)), |_| count += 1);
            assert_eq!(count, 500_000, "round {round}");
            assert!(wheel.heap_bytes() < 100_000, "{}", wheel.heap_bytes());
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_list(
            start in 0_u64..1 << 55,
            ops in proptest::collection::vec((0_u8..5, 0_u32..40, any::<u64>()), 1..300),
        ) {
            let mut wheel = TimerWheel::new();
            let mut now = Mono(start);
            prop_assert_eq!(wheel.poll(now), None);
            let mut model: Vec<(u64, u32, TimerId)> = Vec::new();
            for (n, (op, bits, random)) in (0_u32..).zip(ops) {
                match op {
                    0..=2 => {
                        let at = Mono(now.0 + (random & ((1 << (10 + bits)) - 1)));
                        let at = Mono(at.0.min(now.0 + 100 * 86_400_000_000_000));
                        model.push((at.0.div_ceil(TICK_NS), n, wheel.arm(key(n), at)));
                    }
                    3 if !model.is_empty() => {
                        let (_, n, id) = model.remove(usize::try_from(random).unwrap() % model.len());
                        prop_assert!(wheel.cancel(id, key(n)));
                    }
                    _ => {
                        now = Mono(now.0 + (random & ((1 << (10 + bits)) - 1)));
                        let mut came = expired(&mut wheel, now);
                        let mut expected: Vec<(u64, u32)> = model
                            .iter()
                            .filter(|(tick, ..)| *tick <= now.0 / TICK_NS)
                            .map(|(tick, n, _)| (*tick, *n))
                            .collect();
                        model.retain(|(tick, ..)| *tick > now.0 / TICK_NS);
                        expected.sort_unstable();
                        let mut expected: Vec<u32> = expected.into_iter().map(|(_, n)| n).collect();
                        came.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(came, expected);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next_deadline(), model.iter().map(|(tick, ..)| *tick).min()) {
                    (None, None) => {}
                    (Some(next), Some(first)) => prop_assert!(next.0 / TICK_NS <= first.max(now.0 / TICK_NS)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}

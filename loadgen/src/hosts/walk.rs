//! Walks through the (source, port) tuples of one destination, so that each is used by one connection at a time.
//!
//! The walk goes round: sources fastest, ports slowest. A tuple whose connection has closed is free at once
//! but comes up again only after all others, which gives the kernel the longest rest (TIME_WAIT) that there is.
//! Taking a tuple costs no search in the kernel: bind and connect look at this one tuple and nothing else.

use std::collections::BTreeMap;

/// A (source, port) tuple of a walk: `port index × sources + source index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple(pub(crate) u32);

/// The walk through all tuples of one destination. One bit per tuple in use and its neighbours: 4 KiB per
/// 32,768 tuples around which connections live, nothing for the rest.
#[derive(Debug)]
pub(crate) struct Walk {
    sources: u32,
    total: u32,
    next: u32,
    in_use_count: u32,
    pages: BTreeMap<u32, Page>,
    /// Per port: how often somebody else had it in this round.
    strikes: Vec<u8>,
}

#[derive(Debug)]
struct Page {
    used: u32,
    bits: Box<[u64; PAGE_WORDS]>,
}

impl Walk {
    /// A walk over `sources` addresses with `ports` ports each; what is beyond 2^32 tuples is not used.
    pub(crate) fn new(sources: u32, ports: u32) -> Self {
        let total = sources.saturating_mul(ports);
        Self {
            sources,
            total,
            next: 0,
            in_use_count: 0,
            pages: BTreeMap::new(),
            strikes: vec![0; ports as usize],
        }
    }

    /// Tuples in all.
    pub(crate) const fn capacity(&self) -> u32 {
        self.total
    }

    /// The source and the port of a tuple, as indices.
    pub(crate) const fn parts(&self, tuple: Tuple) -> (u32, usize) {
        (tuple.0 % self.sources, (tuple.0 / self.sources) as usize)
    }

    /// Takes the next free tuple; `None` if all are in use or belong to somebody else. O(1) while a part of
    /// the tuples is free.
    pub(crate) fn take(&mut self) -> Option<Tuple> {
        let mut looked_at: u32 = 0;
        while looked_at < self.total && self.in_use_count < self.total {
            let tuple = self.next;
            let step = self.taken_ahead(tuple);
            looked_at = looked_at.saturating_add(step.max(1));
            if step == 0 {
                self.mark(tuple);
                self.move_on(tuple, 1);
                return Some(Tuple(tuple));
            }
            self.move_on(tuple, step);
        }
        None
    }

    /// Gives a tuple back.
    pub(crate) fn release(&mut self, tuple: Tuple) {
        let Some(page) = self.pages.get_mut(&(tuple.0 / PAGE_TUPLES)) else { return };
        let (word, bit) = place(tuple.0);
        if page.bits[word] & bit == 0 {
            return;
        }
        page.bits[word] &= !bit;
        page.used -= 1;
        self.in_use_count -= 1;
        if page.used == 0 {
            self.pages.remove(&(tuple.0 / PAGE_TUPLES));
        }
    }

    /// Notes that the port of this tuple belongs to somebody else on its source. A port that is refused on
    /// [`STRIKES_MAX`] sources is left out for the rest of the round: it has a listener on all addresses.
    pub(crate) fn strike(&mut self, tuple: Tuple) {
        let (_, port) = self.parts(tuple);
        if let Some(strikes) = self.strikes.get_mut(port) {
            *strikes = strikes.saturating_add(1);
        }
    }

    /// Tuples from this one on that can't be had; 0 if it can.
    fn taken_ahead(&self, tuple: u32) -> u32 {
        let (source, port) = self.parts(Tuple(tuple));
        if self.strikes[port] >= STRIKES_MAX {
            return self.sources - source;
        }
        let Some(page) = self.pages.get(&(tuple / PAGE_TUPLES)) else { return 0 };
        if page.used == PAGE_TUPLES {
            return PAGE_TUPLES - tuple % PAGE_TUPLES;
        }
        let (word, bit) = place(tuple);
        let shift = bit.trailing_zeros();
        (page.bits[word] >> shift).trailing_ones()
    }

    fn mark(&mut self, tuple: u32) {
        let page = self
            .pages
            .entry(tuple / PAGE_TUPLES)
            .or_insert_with(|| Page { used: 0, bits: Box::new([0; PAGE_WORDS]) });
        let (word, bit) = place(tuple);
        page.bits[word] |= bit;
        page.used += 1;
        self.in_use_count += 1;
    }

    fn move_on(&mut self, from: u32, step: u32) {
        let next = from.saturating_add(step);
        if next >= self.total {
            self.next = 0;
            self.strikes.fill(0);
        } else {
            self.next = next;
        }
    }
}

/// Where the bit of a tuple is in its page.
const fn place(tuple: u32) -> (usize, u64) {
    let within = tuple % PAGE_TUPLES;
    ((within / 64) as usize, 1 << (within % 64))
}

const PAGE_WORDS: usize = 512;
const PAGE_TUPLES: u32 = 64 * 512;
/// A port that this many sources could not bind is skipped until the walk comes round.
const STRIKES_MAX: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(walk: &mut Walk, count: usize) -> Vec<u32> {
        std::iter::from_fn(|| walk.take()).take(count).map(|tuple| tuple.0).collect()
    }

    #[test]
    fn every_tuple_is_given_once_and_then_none() {
        let mut walk = Walk::new(3, 40_000);
        let all = taken(&mut walk, usize::MAX);
        assert_eq!(all.len(), 120_000);
        assert!(all.iter().zip(0..).all(|(tuple, expected)| *tuple == expected));
        assert_eq!(walk.take(), None);
        walk.release(Tuple(77));
        walk.release(Tuple(77));
        assert_eq!(taken(&mut walk, 9), [77]);
    }

    #[test]
    fn sources_take_turns_and_the_port_moves_on_after_all_of_them() {
        let mut walk = Walk::new(2, 5);
        let parts: Vec<_> = taken(&mut walk, 4).into_iter().map(|tuple| walk.parts(Tuple(tuple))).collect();
        assert_eq!(parts, [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn a_freed_tuple_rests_until_the_walk_has_come_round() {
        let mut walk = Walk::new(1, 4);
        assert_eq!(taken(&mut walk, 2), [0, 1]);
        walk.release(Tuple(0));
        assert_eq!(taken(&mut walk, 3), [2, 3, 0]);
    }

    #[test]
    fn a_port_of_somebody_else_is_left_out_until_the_next_round() {
        let mut walk = Walk::new(100, 2);
        for _ in 0..STRIKES_MAX {
            let tuple = walk.take().unwrap();
            walk.strike(tuple);
            walk.release(tuple);
        }
        assert_eq!(walk.take(), Some(Tuple(100)));
        assert_eq!(taken(&mut walk, 100).last(), Some(&0), "the strikes are forgotten");
    }

    #[test]
    fn pages_without_connections_are_freed() {
        let mut walk = Walk::new(1_000, 1_000);
        let all = taken(&mut walk, 200_000);
        assert_eq!(walk.pages.len(), 7);
        for tuple in all {
            walk.release(Tuple(tuple));
        }
        assert!(walk.pages.is_empty());
    }

    #[test]
    fn a_walk_far_larger_than_32_bits_is_bounded() {
        assert_eq!(Walk::new(1 << 24, 64_000).capacity(), u32::MAX);
    }
}

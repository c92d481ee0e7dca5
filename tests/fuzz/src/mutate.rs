//! Small mutations of inputs, from a seed: enough to shake a decoder without coverage feedback.

/// A generator of inputs; the same seed gives the same inputs.
pub struct Mutator {
    state: u64,
    pool: Vec<Vec<u8>>,
}

impl Mutator {
    /// Starts from a pool of inputs, which must not be empty.
    #[must_use]
    pub fn new(seed: u64, pool: Vec<Vec<u8>>) -> Self {
        assert!(!pool.is_empty(), "there is something to start from");
        Self { state: seed, pool }
    }

    /// The next number (splitmix64).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// The next input: one of the pool, changed one to five times.
    pub fn input(&mut self) -> Vec<u8> {
        let start = self.below(self.pool.len());
        let mut input = self.pool[start].clone();
        for _ in 0..=self.below(5) {
            self.change(&mut input);
        }
        input.truncate(4_096);
        input
    }

    /// One change.
    fn change(&mut self, input: &mut Vec<u8>) {
        const ODD: [u8; 12] = [0, 1, 2, 3, 0x0B, 0x23, 0x26, 0x7F, 0x80, 0xFE, 0xFF, b'#'];
        let at = self.below(input.len() + 1);
        match self.below(8) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = ODD[self.below(ODD.len())],
            2 if at < input.len() => {
                input[at] = input[at].wrapping_add(if self.below(2) == 0 { 1 } else { 255 })
            }
            3 if at < input.len() => {
                input.remove(at);
            }
            4 => input.insert(at, ODD[self.below(ODD.len())]),
            5 => {
                let end = (at + self.below(9)).min(input.len());
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
            6 => input.truncate(at),
            _ => {
                let other = self.below(self.pool.len());
                let from = self.below(self.pool[other].len() + 1);
                input.truncate(at);
                input.extend_from_slice(&self.pool[other][from..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs() {
        let run = |seed| {
            let mut mutator = Mutator::new(seed, vec![b"abc".to_vec(), Vec::new()]);
            (0..1_000).map(|_| mutator.input()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}

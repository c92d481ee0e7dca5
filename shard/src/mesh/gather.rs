//! Questions under way: what was asked of a hook or of another shard, until the answer comes.
//!
//! A [`Token`] is the place of the question in a slab with the generation of its use, so a late or repeated answer finds
//! nothing and changes nothing.

use crate::ids::Token;
use crate::slab::{Slab, SlabKey};

/// Questions of one kind. One per kind and shard, on its core.
#[derive(Debug)]
pub(crate) struct Questions<T> {
    open: Slab<T>,
}

impl<T> Questions<T> {
    /// None is open; allocates nothing.
    pub(crate) const fn new() -> Self {
        Self { open: Slab::new() }
    }

    /// Keeps what the answer will be needed for.
    pub(crate) fn ask(&mut self, what: T) -> Token {
        token(self.open.insert(what))
    }

    /// What was asked under this token, if it still waits.
    pub(crate) fn get_mut(&mut self, asked: Token) -> Option<&mut T> {
        self.open.get_mut(key(asked))
    }

    /// Ends a question.
    pub(crate) fn take(&mut self, asked: Token) -> Option<T> {
        self.open.remove(key(asked))
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }
}

const fn token(key: SlabKey) -> Token {
    Token((key.generation as u64) << 32 | key.index as u64)
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a token are 32 bits each")]
const fn key(token: Token) -> SlabKey {
    SlabKey { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once() {
        let mut questions = Questions::new();
        let first = questions.ask("a");
        let second = questions.ask("b");
        assert_eq!(questions.take(first), Some("a"));
        assert_eq!(questions.take(first), None);
        let third = questions.ask("c");
        assert_ne!(third, first, "the place is used again, the token is not");
        assert_eq!(questions.take(first), None);
        assert_eq!(questions.take(second), Some("b"));
        assert_eq!(questions.take(third), Some("c"));
    }
}

//! What went wrong besides messages: counted all, the first few kept in words.

use std::fmt::Display;

/// A counter of failures with examples.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u64,
    examples: Vec<String>,
}

impl Failures {
    /// Counts one failure.
    pub(crate) fn note(&mut self, what: impl Display) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what.to_string());
        }
    }

    /// Failures so far.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The first few in words.
    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }
}

const EXAMPLES_MAX: usize = 5;

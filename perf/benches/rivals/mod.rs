//! What was measured against the index and not chosen. Kept, so that the comparison can be made again (ADR 0006).

pub(crate) mod trie;

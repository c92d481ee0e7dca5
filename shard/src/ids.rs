//! Identities: small numbers with one meaning each.

/// A shard: what runs on one core. Dense, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// One network connection of one shard.
///
/// `slot` is dense (the edge gives it; it is reused), `generation` tells two uses of a slot apart: a late event of an
/// old connection carries an old generation and is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index into the edge's and the core's tables; below the shard's `connection_count_max`.
    pub slot: u32,
    /// Grows by one each time the slot is used again.
    pub generation: u32,
}

/// A session of one shard: an index into its session table with the generation of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Index into the session table of its home shard.
    pub index: u32,
    /// Grows by one each time the index is used again.
    pub generation: u32,
}

/// A listener of the process, in the order of the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// Names one outstanding question to a hook or to another shard. Unique per shard for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

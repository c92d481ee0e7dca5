//! Counters and gauges of one core: plain numbers without atomics, summed by whoever reads a snapshot.

/// Counters since the start of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {}

/// Sizes of one shard at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {}

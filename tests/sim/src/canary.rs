//! Planted bugs: a simulator that does not find them is broken.
//!
//! They sit in the driver, not in the core: the core under test is always the shipped one.

use dunlin_persist::{Record, SessionNo};
use dunlin_shard::{Config, Durability};

use crate::rng::Rng;

/// The names of all of them.
pub const CANARIES: [&str; 5] = ["mesh-loss", "byte-loss", "early-stored", "no-wait", "record-loss"];

/// What is planted in a run.
#[derive(Clone, Debug)]
pub enum Canary {
    /// Nothing: a real run.
    None,
    /// A lane loses one message in a hundred.
    MeshLoss(Rng),
    /// A chunk of a client's bytes is swallowed now and then, as by a wrong buffer length.
    ByteLoss(Rng),
    /// The core hears that its records are on the disk before they are.
    EarlyStored,
    /// The core does not wait for the disk, as if the level were `interval`.
    NoWait,
    /// One record in fifty is not the one that the core wrote.
    RecordLoss(Rng),
}

impl Canary {
    /// The canary with this name for a seed.
    #[must_use]
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        match name {
            "early-stored" => Some(Self::EarlyStored),
            "no-wait" => Some(Self::NoWait),
            "record-loss" => Some(Self::RecordLoss(Rng::new(seed, "canary"))),
            "none" => Some(Self::None),
            "mesh-loss" => Some(Self::MeshLoss(Rng::new(seed, "canary"))),
            "byte-loss" => Some(Self::ByteLoss(Rng::new(seed, "canary"))),
            _ => None,
        }
    }

    /// Whether the lane loses the message at its front.
    pub(crate) fn loses_mesh_message(&mut self) -> bool {
        match self {
            Self::MeshLoss(rng) => rng.chance(1),
            Self::None | Self::ByteLoss(_) | Self::EarlyStored | Self::NoWait | Self::RecordLoss(_) => false,
        }
    }

    /// Whether the core is told too early that its records are safe.
    pub(crate) const fn stores_early(&self) -> bool {
        matches!(self, Self::EarlyStored)
    }

    /// The settings that the cores get in place of the plan's.
    pub(crate) fn config(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if matches!(self, Self::NoWait) && config.durability == Durability::Commit {
            config.durability = Durability::Interval;
        }
        config
    }

    /// What is written in place of a record.
    pub(crate) fn damaged(&mut self, record: &Record) -> Option<Record> {
        let Self::RecordLoss(rng) = self else { return None };
        // A session that is not there has ended: it says nothing.
        (rng.chance(2) && !matches!(record, Record::SessionEnded { .. }))
            .then_some(Record::SessionEnded { session: SessionNo(0) })
    }

    /// May damage bytes on their way to the broker.
    pub(crate) fn on_bytes(&mut self, bytes: &mut Vec<u8>) {
        if let Self::ByteLoss(rng) = self
            && rng.below(200) == 0
        {
            bytes.pop();
        }
    }
}

//! Planted bugs: a simulator that does not find them is broken.
//!
//! They sit in the driver, not in the core: the core under test is always the shipped one.

use crate::rng::Rng;

/// What is planted in a run.
#[derive(Clone, Debug)]
pub enum Canary {
    /// Nothing: a real run.
    None,
    /// A lane loses one message in a hundred.
    MeshLoss(Rng),
    /// A chunk of a client's bytes is swallowed now and then, as by a wrong buffer length.
    ByteLoss(Rng),
}

impl Canary {
    /// The canary with this name for a seed.
    #[must_use]
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        match name {
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
            Self::None | Self::ByteLoss(_) => false,
        }
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

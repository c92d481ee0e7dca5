//! What a run's process keeps on its disk, and what befalls both.
//!
//! Drawn from streams of its own, so that runs without a disk are what they would be if there were no disks.

use dunlin_shard::Durability;

use crate::rng::Rng;

/// The disk of a run, and its troubles.
#[derive(Clone, Debug)]
pub struct StoragePlan {
    /// What is recorded and what waits for it.
    pub level: Durability,
    /// Milliseconds between syncs at level `interval`.
    pub interval_ms: u64,
    /// Length of a segment; small, so that the log rolls and is cleaned all the time.
    pub segment_bytes: u64,
    /// Most time that one thing takes on the disk, microseconds.
    pub disk_us_max: u64,
    /// Most time between the end of a process and the next one's start.
    pub down_ms_max: u64,
    /// Whether the next process may have another number of shards.
    pub reshards: bool,
    /// Percent of boots that are cut short by another crash.
    pub boot_cut_percent: u64,
    /// Of a thousand syncs, so many lie.
    pub lost_syncs: u16,
    /// What happens, and when: milliseconds from the start.
    pub troubles: Vec<(u64, Trouble)>,
}

/// Something that befalls the process or its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The host loses its power: the disk keeps what was synced, and of the rest some pages, torn.
    PowerCut,
    /// The process is killed: the host keeps what was written, and has not synced it.
    Kill,
    /// The operator stops the process gracefully and starts it again.
    Restart,
    /// The next sync of a file fails.
    FailSync,
    /// The disk becomes full, and has room again later.
    Fill,
    /// A bit of a segment that is no longer written to turns over.
    Rot,
}

impl StoragePlan {
    /// Draws the disk of a seed's run, whose clients are busy for so long; most runs have none.
    #[must_use]
    pub fn draw(seed: u64, busy_ms: u64) -> Option<Self> {
        let rng = &mut Rng::new(seed, "storage plan");
        if !rng.chance(40) {
            return None;
        }
        let level = match rng.below(100) {
            0..75 => Durability::Commit,
            75..90 => Durability::Interval,
            _ => Durability::Memory,
        };
        Some(Self {
            level,
            interval_ms: [5, 50, 500][rng.index(3)],
            segment_bytes: [8 << 10, 16 << 10, 64 << 10][rng.index(3)],
            disk_us_max: [100, 1_000, 20_000, 200_000][rng.index(4)],
            down_ms_max: [20, 500, 4_000][rng.index(3)],
            reshards: rng.chance(40),
            boot_cut_percent: [0, 0, 50][rng.index(3)],
            lost_syncs: if rng.chance(4) { 100 } else { 0 },
            troubles: Self::draw_troubles(rng, level, busy_ms),
        })
    }

    fn draw_troubles(rng: &mut Rng, level: Durability, busy_ms: u64) -> Vec<(u64, Trouble)> {
        let mut kinds = vec![];
        if rng.chance(85) {
            kinds.push(Trouble::PowerCut);
        }
        if rng.chance(60) {
            kinds.push(Trouble::Kill);
        }
        if rng.chance(50) {
            kinds.push(Trouble::Restart);
        }
        if level != Durability::Memory {
            for (kind, percent) in [(Trouble::FailSync, 15), (Trouble::Fill, 20), (Trouble::Rot, 12)] {
                if rng.chance(percent) {
                    kinds.push(kind);
                }
            }
        }
        if kinds.is_empty() {
            return Vec::new();
        }
        let count = rng.index(5) + 1;
        let mut troubles: Vec<_> =
            (0..count).map(|_| (rng.between(300, busy_ms), kinds[rng.index(kinds.len())])).collect();
        troubles.sort_by_key(|(at, _)| *at);
        troubles
    }

    /// Whether requests may be refused because nothing can be stored.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.has(Trouble::FailSync) || self.has(Trouble::Fill)
    }

    /// Whether something happens in the run.
    #[must_use]
    pub fn has(&self, trouble: Trouble) -> bool {
        self.troubles.iter().any(|(_, one)| *one == trouble)
    }

    /// Whether the process ends before the run does.
    #[must_use]
    pub fn ends_process(&self) -> bool {
        self.troubles.iter().any(|(_, one)| !matches!(one, Trouble::Fill | Trouble::Rot))
    }
}

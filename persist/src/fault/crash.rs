//! What is left of a disk when the power goes.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::pages::{PAGE_BYTES, Pages, SECTOR_BYTES};
use super::world::{File, Node, World, parent, set_names};

/// How the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: the system goes on and has everything that was written.
    Killed,
    /// The power goes, and nothing was written back that was not synced.
    PowerCut,
    /// The power goes in the middle of things: of what was not synced, chance decides what is there, page by page and in no
    /// order, as it was at some moment since the last sync; some pages are torn between two such moments at a sector.
    Torn {
        /// The chance.
        seed: u64,
    },
}

impl World {
    /// What a reboot finds.
    pub(super) fn after(&self, crash: Crash) -> Self {
        match crash {
            Crash::Killed => self.with(self.names.clone(), |file| file.seen.clone()),
            Crash::PowerCut => self.with(rooted(self.synced_names.clone()), |file| file.synced.clone()),
            Crash::Torn { seed } => {
                let mut dice = Dice::new(seed);
                let names = self.some_names(&mut dice);
                let manner = Manner::throw(&mut dice);
                self.with(names, |file| manner.leave(file, &mut dice))
            }
        }
    }

    /// A disk with these names, each file left as `leave` says.
    fn with(&self, names: BTreeMap<String, Node>, mut leave: impl FnMut(&File) -> Pages) -> Self {
        let mut after = Self { synced_names: names.clone(), names, ..Self::default() };
        for file in &self.files {
            let left = leave(file);
            after.files.push(File {
                seen: left.clone(),
                synced: left,
                unsynced: Vec::new(),
                unreadable: file.unreadable,
            });
        }
        after
    }

    /// The durable names and some of the changes since: each of them whole or not at all, those of one name in their order.
    fn some_names(&self, dice: &mut Dice) -> BTreeMap<String, Node> {
        let mut names = self.synced_names.clone();
        let share = dice.below(5);
        let mut lost: BTreeSet<&str> = BTreeSet::new();
        for change in &self.unsynced_names {
            let builds_on_lost = change.names.iter().any(|(name, _)| lost.contains(name.as_str()));
            if !builds_on_lost && dice.below(4) < share {
                set_names(&mut names, &change.names);
            } else {
                lost.extend(change.names.iter().map(|(name, _)| name.as_str()));
            }
        }
        rooted(names)
    }
}

/// Only the names whose folders are there.
fn rooted(names: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    let mut folders: BTreeSet<String> = BTreeSet::from([String::new()]);
    // A folder comes before what is in it.
    names
        .into_iter()
        .filter(|(name, node)| {
            let there = folders.contains(parent(name));
            if there && *node == Node::Folder {
                folders.insert(name.clone());
            }
            there
        })
        .collect()
}

/// How much of the unsynced a crash leaves, and whether it tears pages.
struct Manner {
    /// Quarters of the pages that are written back at all.
    quarters: usize,
    /// Whether a page that is has the last version, else any.
    last_version: bool,
    /// Whether sectors of a page may have different versions.
    tears: bool,
}

impl Manner {
    fn throw(dice: &mut Dice) -> Self {
        Self { quarters: dice.below(5), last_version: dice.below(2) == 0, tears: dice.below(2) == 0 }
    }

    fn leave(&self, file: &File, dice: &mut Dice) -> Pages {
        let mut left = file.synced.clone();
        if dice.below(4) < self.quarters {
            left.set_bytes(file.seen.bytes());
        }
        for (page, writes) in file.dirty() {
            if dice.below(4) >= self.quarters {
                continue;
            }
            let start = page * PAGE_BYTES as u64;
            if self.tears {
                for sector in 0..(PAGE_BYTES / SECTOR_BYTES) as u64 {
                    let upto = self.version(writes.len(), dice);
                    let start = start + sector * SECTOR_BYTES as u64;
                    file.write_back(&writes[..upto], &mut left, start, SECTOR_BYTES);
                }
            } else {
                let upto = self.version(writes.len(), dice);
                file.write_back(&writes[..upto], &mut left, start, PAGE_BYTES);
            }
        }
        left
    }

    /// How many of a page's writes it has.
    fn version(&self, writes: usize, dice: &mut Dice) -> usize {
        if self.last_version && (!self.tears || dice.below(4) > 0) { writes } else { dice.below(writes + 1) }
    }
}

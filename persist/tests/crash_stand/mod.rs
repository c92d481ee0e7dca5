//! A stand for logs: a disk that lies, a model of what a log must hold, and a core that says plausible things.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a stand is a test")]

pub mod core;
pub mod model;

use std::sync::Arc;

use dunlin_persist::fault::{Crash, FaultDisk};
use dunlin_persist::{
    Disk, FetchedMessage, MessageId, Opened, Options, Record, Recovered, SessionNo, Store, StoreState, Told,
    open,
};

use self::core::Core;
use self::model::Model;

/// Milliseconds since 1970 at each boot of the stand: after everything that its cores say.
pub const BOOT_MS: u64 = 1_000_000;

/// The last digits of a name say its shard.
pub fn home(name: &str, shard_count: u16) -> u16 {
    let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    u16::try_from(digits.parse::<u64>().unwrap_or_default() % u64::from(shard_count.max(1)))
        .unwrap_or_default()
}

pub fn options(shard_count: u16, segment_bytes: u64) -> Options {
    Options { now_ms: BOOT_MS, segment_bytes, ..Options::new(shard_count, home, home) }
}

/// One shard: its log, the core that speaks to it, and what each prefix of the log must come to.
pub struct Shard {
    pub store: Store,
    pub core: Core,
    /// What it began with.
    pub start: Model,
    /// Every record since, in order; number `n` of the store is at `n - 1`.
    pub said: Vec<Record>,
    pub stored: u64,
    pub state: StoreState,
    pub fetched: Vec<(SessionNo, Vec<FetchedMessage>)>,
}

/// What was appended and what was told to be on the disk, after so many recorded operations.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub ops: usize,
    pub shard: usize,
    pub appended: u64,
    pub stored: u64,
}

/// A broker without MQTT: shards on a disk.
pub struct Stand {
    /// The disk, if it is one that lies.
    pub disk: Option<FaultDisk>,
    pub options: Options,
    pub shards: Vec<Shard>,
    pub report: dunlin_persist::Report,
    pub moments: Vec<Moment>,
}

impl Stand {
    /// Opens the directory on this disk; the seed is for what the cores will say.
    pub fn open(disk: &FaultDisk, options: &Options, seed: u64) -> Self {
        match Self::try_open(disk, options, seed) {
            Ok(stand) => stand,
            Err(error) => panic!("a disk like this must open: {error}"),
        }
    }

    pub fn try_open(
        disk: &FaultDisk,
        options: &Options,
        seed: u64,
    ) -> Result<Self, dunlin_persist::OpenError> {
        let mut stand = Self::try_open_with_losses(disk, options, seed)?;
        stand.fetch_everything();
        Ok(stand)
    }

    /// As [`open`](Self::open), of a disk on which messages may be lost: none is fetched.
    pub fn open_with_losses(disk: &FaultDisk, options: &Options, seed: u64) -> Self {
        match Self::try_open_with_losses(disk, options, seed) {
            Ok(stand) => stand,
            Err(error) => panic!("a disk like this must open: {error}"),
        }
    }

    pub fn try_open_with_losses(
        disk: &FaultDisk,
        options: &Options,
        seed: u64,
    ) -> Result<Self, dunlin_persist::OpenError> {
        let mut stand = Self::try_open_on(Arc::new(disk.clone()), options, seed)?;
        stand.disk = Some(disk.clone());
        Ok(stand)
    }

    /// Opens the directory on any disk; nothing is fetched.
    pub fn try_open_on(
        disk: Arc<dyn Disk>,
        options: &Options,
        seed: u64,
    ) -> Result<Self, dunlin_persist::OpenError> {
        let Opened { stores, recovered, report, .. } = open(disk, options, &mut |_| {})?;
        assert_eq!(stores.len(), usize::from(options.shard_count));
        let count = u64::from(options.shard_count);
        let shards = stores.into_iter().zip(&recovered).zip(0_u64..).map(|((store, recovered), number)| {
            let start = Model { was_rehomed: report.rehomed_from.is_some(), ..Model::of(recovered) };
            let core = Core::new(seed ^ (number << 32), &start, recovered, number, count);
            let state = store.state();
            Shard { store, core, start, said: Vec::new(), stored: 0, state, fetched: Vec::new() }
        });
        let shards = shards.collect();
        Ok(Self { disk: None, options: options.clone(), shards, report, moments: Vec::new() })
    }

    /// Lets the core of a shard say something.
    pub fn say(&mut self, shard: usize) {
        let record = self.shards[shard].core.say();
        self.append(shard, record);
    }

    /// Lets the core of a shard say something that only takes room.
    pub fn more(&mut self, shard: usize) {
        let record = self.shards[shard].core.say_only_more();
        self.append(shard, record);
    }

    /// Appends a record that the core's model takes as well.
    pub fn append(&mut self, shard: usize, record: Record) {
        let one = &mut self.shards[shard];
        let seq = one.said.len() as u64 + 1;
        one.store.append(seq, &record).expect("a store that has not failed takes records");
        one.core.model.apply(&record);
        one.said.push(record);
        self.note(shard);
    }

    /// One tick: cleaning, commit, and what the disk told.
    pub fn tick(&mut self, shard: usize) {
        self.clean(shard);
        self.shards[shard].store.commit();
        self.poll(shard);
    }

    /// Answers the records of the oldest segment with what still holds.
    pub fn clean(&mut self, shard: usize) {
        while let Some(record) = self.shards[shard].store.next_reclaimable() {
            for again in self.shards[shard].core.model.still_holds(&record) {
                self.append(shard, again);
            }
        }
    }

    pub fn poll(&mut self, shard: usize) {
        let mut told = Vec::new();
        let one = &mut self.shards[shard];
        one.store.poll(&mut told);
        for told in told {
            match told {
                Told::Stored { seq } => {
                    assert!(seq >= one.stored && seq <= one.said.len() as u64, "{seq} of {}", one.said.len());
                    one.stored = seq;
                }
                Told::State(state) => one.state = state,
                Told::Fetched { session, messages } => one.fetched.push((session, messages)),
            }
        }
        self.note(shard);
    }

    /// Lets the disk do everything that waits, and hears of it.
    pub fn settle(&mut self) {
        for shard in 0..self.shards.len() {
            for _ in 0..1_000 {
                self.shards[shard].store.commit();
                let worked = self.shards[shard].store.disk_step();
                self.poll(shard);
                let one = &self.shards[shard];
                if !worked && (one.stored == one.said.len() as u64 || one.state == StoreState::Failed) {
                    break;
                }
            }
        }
    }

    /// Runs for so many records per shard, the disk now fast, now slow.
    pub fn run(&mut self, records: usize) {
        let mut dice = core::Dice::new(records as u64 ^ self.shards[0].core.dice.clone().next());
        for _ in 0..records {
            for shard in 0..self.shards.len() {
                self.say(shard);
                if dice.below(4) == 0 {
                    self.tick(shard);
                }
                while dice.below(3) == 0 && self.shards[shard].store.disk_step() {
                    self.poll(shard);
                }
            }
        }
    }

    fn note(&mut self, shard: usize) {
        let one = &self.shards[shard];
        let (appended, stored) = (one.said.len() as u64, one.stored);
        self.moments.push(Moment {
            ops: self.disk.as_ref().map_or(0, FaultDisk::recorded),
            shard,
            appended,
            stored,
        });
    }

    /// What may be found of a shard after a crash behind the operation `ops`: at least and at most so many records.
    pub fn bounds(&self, shard: usize, ops: usize) -> (u64, u64) {
        let of_shard = || self.moments.iter().filter(|moment| moment.shard == shard);
        let stored =
            of_shard().filter(|moment| moment.ops <= ops).map(|moment| moment.stored).max().unwrap_or(0);
        let appended =
            of_shard().filter(|moment| moment.ops < ops).map(|moment| moment.appended).max().unwrap_or(0);
        // The record that is being written behind this operation belongs to the next moment.
        let next = of_shard().find(|moment| moment.ops >= ops).map_or(appended, |moment| moment.appended);
        (stored, appended.max(next))
    }

    /// Checks a recovered shard against all prefixes that it may be; returns how many records it has.
    ///
    /// Records of which nothing can be seen make several prefixes alike; the longest is returned.
    pub fn check_prefix(&self, shard: usize, found: &Model, least: u64, most: u64) -> Result<u64, String> {
        let mut model = self.shards[shard].start.clone();
        let mut fits = None;
        let mut differences = String::new();
        for n in 0..=most {
            if n > 0 {
                model.apply(&self.shards[shard].said[usize::try_from(n - 1).unwrap()]);
            }
            if n < least {
                continue;
            }
            match model.after_boot().difference(&found.after_boot()) {
                None => fits = Some(n),
                Some(difference) => differences.push_str(&format!("\n{n} records: {difference}")),
            }
        }
        fits.ok_or_else(|| format!("shard {shard}: no prefix of {least} to {most} records:{differences}"))
    }

    /// Fetches every message that any session waits for and compares what comes with what was accepted.
    pub fn fetch_everything(&mut self) {
        for shard in 0..self.shards.len() {
            let one = &mut self.shards[shard];
            let mut asked = 0;
            for (session, wanted) in one.core.model.wanted() {
                one.store.fetch(session, &wanted);
                asked += 1;
            }
            for _ in 0..100_000 {
                if self.shards[shard].fetched.len() == asked {
                    break;
                }
                self.shards[shard].store.disk_step();
                self.poll(shard);
            }
            let one = &mut self.shards[shard];
            assert_eq!(one.fetched.len(), asked, "shard {shard}: every fetch is answered");
            for (session, messages) in std::mem::take(&mut one.fetched) {
                one.core.model.check_fetched(session, &messages);
            }
        }
    }

    /// Everything that the shards hold, in one model.
    pub fn whole(&self) -> Model {
        let mut whole = Model::default();
        for shard in &self.shards {
            whole.absorb(&shard.core.model);
        }
        whole
    }
}

/// All crashes that are tried at a cut.
pub fn crashes(cut: usize, torn: u64) -> impl Iterator<Item = Crash> {
    let seeds = (0..torn).map(move |n| Crash::Torn { seed: (cut as u64) << 16 | n });
    [Crash::Killed, Crash::PowerCut].into_iter().chain(seeds)
}

pub fn next_ids(recovered: &Recovered) -> (SessionNo, MessageId) {
    (recovered.next_session, recovered.next_message)
}

//! A shard speaks for a while, its disk syncs now and then, old segments are cleaned. Then the power goes: after the first
//! operation on the disk, after the second, after each. Whatever the disk kept of what was not synced, the next boot finds the
//! records that were told to be stored, in their order, perhaps some that followed them, and nothing else.

#[path = "crash_stand/mod.rs"]
mod stand;

use dunlin_persist::fault::{Crash, FaultDisk};
use stand::model::Model;
use stand::{Stand, crashes, options};

/// Small, so that a short run begins and cleans many segments.
const SEGMENT_BYTES: u64 = 16 << 10;

/// A recorded run on a new disk.
fn run(seed: u64, shard_count: u16, records: usize) -> Stand {
    let disk = FaultDisk::new(seed);
    disk.record();
    let mut stand = Stand::open(&disk, &options(shard_count, SEGMENT_BYTES), seed);
    stand.run(records);
    stand
}

/// Boots after a crash at each cut of a run, and returns how many boots there were.
fn check_all_cuts(stand: &Stand, every: usize, torn: u64) -> usize {
    let mut boots = 0;
    let mut cuts = stand.disk.as_ref().expect("a lying disk").cuts();
    for cut in 0.. {
        let upcoming = cuts.upcoming();
        let Some(disk) = cuts.next() else { break };
        if cut % every != 0 {
            continue;
        }
        for crash in crashes(cut, torn) {
            check_boot(stand, &disk.crash(crash), cut, &format!("{crash:?} before {upcoming} (cut {cut})"));
            boots += 1;
        }
    }
    boots
}

/// Boots, checks what was found, and that a second crash changes nothing.
fn check_boot(stand: &Stand, disk: &FaultDisk, cut: usize, when: &str) {
    let booted = Stand::open(disk, &stand.options, cut as u64);
    assert_eq!(booted.report.damaged, [], "{when}: an unfinished end is no damage");
    for (shard, found) in booted.shards.iter().enumerate() {
        let (least, most) = stand.bounds(shard, cut);
        if let Err(problem) = stand.check_prefix(shard, &found.start, least, most) {
            panic!("{when}: {problem}");
        }
    }
    let starts: Vec<Model> = booted.shards.iter().map(|shard| shard.start.clone()).collect();
    drop(booted);
    let again = Stand::open(&disk.crash(Crash::PowerCut), &stand.options, 1);
    for (shard, start) in again.shards.iter().zip(&starts) {
        assert_eq!(shard.start.difference(start), None, "{when}: the second boot finds what the first did");
    }
}

#[test]
fn every_stored_record_is_there_after_every_cut() {
    let stand = run(1, 1, 400);
    let boots = check_all_cuts(&stand, 5, 1);
    assert!(boots > 500, "{boots} boots");
    let metrics = stand.shards[0].store.metrics();
    assert!(
        metrics.syncs > 10 && metrics.reclaimed_bytes > 0,
        "the run did what is to be tried: {metrics:?}"
    );
}

#[test]
fn two_shards_are_cut_at_once() {
    let stand = run(2, 2, 150);
    check_all_cuts(&stand, 11, 1);
}

#[test]
fn many_seeds_are_cut_here_and_there() {
    for seed in 10..16 {
        let stand = run(seed, 1, 400);
        check_all_cuts(&stand, 83, 2);
    }
}

/// Crash, boot, speak on, crash again, many times over: nothing that was stored is lost on the way.
#[test]
fn a_broker_that_crashes_again_and_again_loses_nothing() {
    let mut disk = FaultDisk::new(77);
    let mut moved = 0;
    for round in 0..100_u64 {
        let mut stand = Stand::open(&disk, &options(1, SEGMENT_BYTES), round);
        assert_eq!(stand.report.damaged, [], "round {round}");
        disk.record();
        stand.run(usize::try_from(round * 7 % 60).unwrap());
        let crash = if round % 5 == 0 { Crash::Killed } else { Crash::Torn { seed: round } };
        let after = disk.crash(crash);
        let found = Stand::open(&after.crash(Crash::Killed), &stand.options, round);
        let (least, most) = (stand.shards[0].stored, stand.shards[0].said.len() as u64);
        if let Err(problem) = stand.check_prefix(0, &found.shards[0].start, least, most) {
            panic!("round {round}, {crash:?}: {problem}");
        }
        moved += stand.shards[0].store.metrics().moved_bytes;
        disk = after;
    }
    assert!(moved > 0, "cleaning went on over the crashes");
}

/// The boot itself is cut at every point: cutting a torn end, beginning a segment, must not lose anything either.
#[test]
fn a_boot_is_cut_everywhere() {
    let stand = run(3, 1, 200);
    for seed in 0..4 {
        let torn = stand.disk.as_ref().unwrap().crash(Crash::Torn { seed });
        torn.record();
        let first = Stand::open(&torn, &stand.options, 1);
        for (cut, disk) in torn.cuts().enumerate() {
            for crash in crashes(cut, 3) {
                let again = Stand::open(&disk.crash(crash), &stand.options, 1);
                let difference = again.shards[0].start.difference(&first.shards[0].start);
                assert_eq!(difference, None, "torn by {seed}, boot cut after {cut} operations by {crash:?}");
            }
        }
    }
}

//! The disk fills up. That is told before anything is half written; what makes room is still taken; when there is room again the
//! store opens again; and whenever the power goes meanwhile, everything stored is there.

#[path = "crash_stand/mod.rs"]
mod stand;

use dunlin_persist::Disk as _;
use dunlin_persist::fault::{Crash, FaultDisk, Faults};
use dunlin_persist::{Record, StoreState};
use stand::{Stand, options};

const SEGMENT_BYTES: u64 = 32 << 10;

/// A session that waits for more and more, until the store is full.
fn fill(stand: &mut Stand) {
    for _ in 0..5_000 {
        if stand.shards[0].state == StoreState::Full {
            return;
        }
        assert_eq!(stand.shards[0].state, StoreState::Open, "full is told, not failed");
        stand.more(0);
        stand.tick(0);
        stand.settle();
    }
    panic!("eight segments take no thousands of messages");
}

/// A store on a disk of a few segments, all of them used up.
fn filled(disk: &FaultDisk) -> Stand {
    disk.set_faults(Faults { capacity_bytes: 8 * SEGMENT_BYTES, ..Faults::default() });
    let mut stand = Stand::open(disk, &options(1, SEGMENT_BYTES), 4);
    fill(&mut stand);
    stand
}

#[test]
fn full_is_told_before_anything_is_lost_and_ends_when_there_is_room() {
    let disk = FaultDisk::new(1);
    let mut stand = filled(&disk);
    assert!(disk.counts().refused_files > 0 || disk.free_bytes().unwrap() < 2 * SEGMENT_BYTES);
    // Everything so far is stored, and a crash now finds it.
    let stored = stand.shards[0].stored;
    assert_eq!(stored, stand.shards[0].said.len() as u64);
    for crash in stand::crashes(0, 5) {
        let booted = Stand::open(&disk.crash(crash), &stand.options, 1);
        stand.check_prefix(0, &booted.shards[0].start, stored, stored).unwrap();
    }
    // The session fetches and acknowledges; that is taken, and makes room.
    for (session, waiting) in stand.shards[0].core.model.wanted() {
        for messages in waiting.chunks(8) {
            stand.append(0, Record::Done { session, messages: messages.to_vec() });
            stand.tick(0);
            stand.settle();
        }
    }
    for _ in 0..50 {
        stand.tick(0);
        stand.settle();
    }
    assert_eq!(stand.shards[0].state, StoreState::Open, "{:?}", stand.shards[0].store.metrics());
    stand.more(0);
    stand.settle();
    let stored = stand.shards[0].stored;
    let booted = Stand::open(&disk.crash(Crash::PowerCut), &stand.options, 1);
    stand.check_prefix(0, &booted.shards[0].start, stored, stored).unwrap();
}

#[test]
fn a_boot_on_a_full_disk_keeps_everything() {
    let disk = FaultDisk::new(2);
    let stand = filled(&disk);
    let stored = stand.shards[0].stored;
    let after = disk.crash(Crash::PowerCut);
    // Somebody else took the rest.
    let used: u64 = after.files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    after.set_faults(Faults { capacity_bytes: used, ..Faults::default() });
    match Stand::try_open(&after, &stand.options, 1) {
        Ok(booted) => {
            stand.check_prefix(0, &booted.shards[0].start, stored, stored).unwrap();
        }
        Err(error) => assert!(error.to_string().contains("no room"), "{error}"),
    }
    // With room again it is all there.
    after.set_faults(Faults::default());
    let booted = Stand::open(&after, &stand.options, 1);
    stand.check_prefix(0, &booted.shards[0].start, stored, stored).unwrap();
}

/// The quota of the operator is kept like the end of a disk.
#[test]
fn a_quota_is_a_disk_of_its_own() {
    let disk = FaultDisk::new(3);
    let mut options = options(1, SEGMENT_BYTES);
    options.quota_bytes = Some(8 * SEGMENT_BYTES);
    let mut stand = Stand::open(&disk, &options, 4);
    fill(&mut stand);
    assert_eq!(stand.shards[0].state, StoreState::Full);
    let used: u64 = disk.files().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(used <= 8 * SEGMENT_BYTES + 4_096, "{used} bytes, with a manifest and the like");
}

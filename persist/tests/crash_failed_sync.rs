//! A sync fails. The system has then forgotten which pages were dirty, so nobody knows what the disk has: the log takes nothing
//! more and confirms nothing more, also if a second sync would succeed. The next boot finds what was confirmed before.

#[path = "crash_stand/mod.rs"]
mod stand;

use dunlin_persist::fault::{FaultDisk, SyncFault};
use dunlin_persist::{AppendError, Record, StoreState};
use stand::{Stand, crashes, options};

#[test]
fn a_failed_sync_ends_the_log_and_confirms_nothing() {
    for seed in 0..10 {
        let disk = FaultDisk::new(seed);
        let mut stand = Stand::open(&disk, &options(1, 64 << 10), seed);
        stand.run(50);
        stand.settle();
        let stored = stand.shards[0].stored;
        for _ in 0..10 {
            stand.say(0);
        }
        disk.next_syncs(&[SyncFault::Failed]);
        stand.settle();
        let shard = &mut stand.shards[0];
        assert_eq!(shard.state, StoreState::Failed);
        assert_eq!(shard.stored, stored, "nothing is confirmed by a sync that failed");
        assert!(shard.store.failure().is_some_and(|why| !why.is_empty()));
        assert_eq!(shard.store.metrics().sync_failures, 1);
        let next = shard.said.len() as u64 + 1;
        let record = Record::RetainedCleared { topic: "r0".into() };
        assert_eq!(shard.store.append(next, &record), Err(AppendError::Failed));
        // However often it is asked.
        stand.settle();
        assert_eq!((stand.shards[0].state, stand.shards[0].stored), (StoreState::Failed, stored));

        let said = stand.shards[0].said.len() as u64;
        for crash in crashes(0, 10) {
            let booted = Stand::open(&disk.crash(crash), &stand.options, 1);
            stand.check_prefix(0, &booted.shards[0].start, stored, said).unwrap();
            assert_eq!(booted.shards[0].state, StoreState::Open);
        }
    }
}

/// One shard's disk error does not stop the other shard.
#[test]
fn the_other_shard_goes_on() {
    let disk = FaultDisk::new(1);
    let mut stand = Stand::open(&disk, &options(2, 64 << 10), 1);
    stand.run(20);
    stand.settle();
    stand.say(0);
    disk.next_syncs(&[SyncFault::Failed]);
    stand.settle();
    assert_eq!(stand.shards[0].state, StoreState::Failed);
    stand.say(1);
    stand.settle();
    assert_eq!(stand.shards[1].state, StoreState::Open);
    assert_eq!(stand.shards[1].stored, stand.shards[1].said.len() as u64);
}

//! A disk said that a sync was done, and it was not; then the power went. What such a disk lost cannot be had back, but it must
//! not pass in silence: a later record that did come to the disk says how far the log was known to be stored.

#[path = "crash_stand/mod.rs"]
mod stand;

use dunlin_persist::fault::{Crash, FaultDisk, Faults, SyncFault};
use stand::{Stand, options};

#[test]
fn a_sync_that_lied_is_reported_when_a_later_record_shows_it() {
    let (mut silent, mut told) = (0, 0);
    for seed in 0..40 {
        let disk = FaultDisk::new(seed);
        let mut stand = Stand::open(&disk, &options(1, 64 << 10), seed);
        stand.run(40);
        stand.settle();
        let sound = stand.shards[0].stored;
        // Two pages' worth of records that the disk only claims to have, and then more that it writes back by chance.
        disk.next_syncs(&[SyncFault::Lost, SyncFault::Lost, SyncFault::Lost]);
        for _ in 0..40 {
            stand.say(0);
        }
        stand.settle();
        let claimed = stand.shards[0].stored;
        assert!(claimed > sound && disk.counts().lost_syncs > 0);
        disk.next_syncs(&[]);
        disk.set_faults(Faults { lost_syncs: 1_000, ..Faults::default() });
        for _ in 0..40 {
            stand.say(0);
        }
        let said = stand.shards[0].said.len() as u64;
        for torn in 0..10 {
            let after = disk.crash(Crash::Torn { seed: torn });
            let booted = Stand::open_with_losses(&after, &stand.options, 1);
            match stand.check_prefix(0, &booted.shards[0].start, sound, said) {
                Ok(found) if found >= claimed => {}
                // What is missing is told, or there is nothing on the disk that could tell.
                Ok(_) if booted.report.damaged.is_empty() => silent += 1,
                Ok(_) => told += 1,
                Err(problem) => {
                    assert!(
                        !booted.report.damaged.is_empty(),
                        "seed {seed}/{torn}: a gap without a word: {problem}"
                    );
                    told += 1;
                }
            }
        }
    }
    assert!(
        told > 20,
        "{told} told, {silent} silent: a disk that lies is found out when anything later survives"
    );
}

/// With nothing written behind the lie, the log is simply shorter: it starts, and what it has is right.
#[test]
fn a_disk_that_lost_everything_still_starts() {
    let disk = FaultDisk::new(3);
    disk.set_faults(Faults { lost_syncs: 1_000, ..Faults::default() });
    let mut stand = Stand::open(&disk, &options(2, 64 << 10), 3);
    stand.run(60);
    stand.settle();
    for crash in stand::crashes(0, 30) {
        let after = disk.crash(crash);
        match Stand::try_open_with_losses(&after, &stand.options, 1) {
            Ok(mut booted) => {
                booted.run(20);
                booted.settle();
            }
            // A manifest whose name came to the disk and whose bytes did not: said, and not taken for an empty directory.
            Err(error) => assert!(error.to_string().contains("manifest"), "{crash:?}: {error}"),
        }
    }
}

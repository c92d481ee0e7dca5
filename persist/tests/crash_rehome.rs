//! The next boot has another number of shards. Every session and every retained message moves to its new home, whole, and a crash
//! in the middle of the move leaves either the old homes or the new ones.

#[path = "crash_stand/mod.rs"]
mod stand;

use dunlin_persist::fault::{Crash, FaultDisk};
use stand::model::Model;
use stand::{Stand, crashes, home, options};

const SEGMENT_BYTES: u64 = 64 << 10;

fn settled(seed: u64, shard_count: u16, records: usize) -> (Stand, FaultDisk) {
    let disk = FaultDisk::new(seed);
    let mut stand = Stand::open(&disk, &options(shard_count, SEGMENT_BYTES), seed);
    stand.run(records);
    stand.settle();
    (stand, disk)
}

/// A model without the names of messages, which a move gives anew: by client, what waits, as bodies would tell.
fn by_client(model: &Model) -> Vec<(String, usize, usize, usize, usize)> {
    let mut clients: Vec<_> = model
        .sessions
        .values()
        .map(|one| {
            let name = one.client_id.to_string();
            (name, one.queue.len(), one.outgoing.len(), one.incoming.len(), one.subscriptions.len())
        })
        .collect();
    clients.sort();
    clients
}

#[test]
fn everything_is_at_its_new_home() {
    for (before, after) in [(2, 3), (3, 1), (1, 4), (4, 2)] {
        let (stand, disk) = settled(u64::from(before), before, 120);
        let wanted = stand.whole();
        let moved = Stand::open(&disk.crash(Crash::PowerCut), &options(after, SEGMENT_BYTES), 1);
        assert_eq!(moved.report.rehomed_from, Some(before));
        let found = moved.whole();
        assert_eq!(by_client(&found), by_client(&wanted), "{before} to {after}");
        assert_eq!(found.retained, wanted.retained, "{before} to {after}");
        for (number, shard) in (0..after).zip(&moved.shards) {
            let homes = shard.start.sessions.values().map(|session| home(&session.client_id, after));
            assert!(homes.into_iter().all(|home| home == number), "{before} to {after}: shard {number}");
            assert!(shard.start.retained.keys().all(|topic| home(topic, after) == number));
        }
    }
}

#[test]
fn a_move_that_is_cut_leaves_the_old_homes_or_the_new_ones() {
    let (stand, disk) = settled(7, 2, 60);
    let wanted = by_client(&stand.whole());
    let disk = disk.crash(Crash::PowerCut);
    disk.record();
    drop(Stand::open(&disk, &options(3, SEGMENT_BYTES), 1));
    let (mut old, mut new) = (0, 0);
    for (cut, disk) in disk.cuts().enumerate().filter(|(cut, _)| cut % 9 == 0 || *cut < 30) {
        for crash in crashes(cut, 1) {
            // Whoever comes next: the new number, or the old one again.
            for shard_count in [3, 2] {
                let booted =
                    Stand::open_with_losses(&disk.crash(crash), &options(shard_count, SEGMENT_BYTES), 1);
                let when = format!("cut {cut}, {crash:?}, then {shard_count} shards");
                assert_eq!(by_client(&booted.whole()), wanted, "{when}");
                assert_eq!(booted.whole().retained, stand.whole().retained, "{when}");
                assert_eq!(booted.report.damaged, [], "{when}");
                match booted.report.rehomed_from {
                    Some(2) => old += 1,
                    Some(3) => new += 1,
                    _ => {}
                }
            }
        }
    }
    assert!(old > 0 && new > 0, "both sides of the move were met: {old}, {new}");
}

//! The last record was being written when the process died. Wherever it was torn, the boot cuts it off, says so, loses nothing
//! that was told to be stored, and the log goes on.

#[path = "crash_stand/mod.rs"]
mod stand;

use dunlin_persist::fault::{Crash, FaultDisk};
use stand::{Stand, options};

/// The segment that is being written: the file with the last bytes that are not zero, and where they end.
fn written_end(before: &FaultDisk, after: &FaultDisk) -> (String, usize, usize) {
    let old = before.files();
    for (path, bytes) in after.files() {
        let was = old.iter().find(|(name, _)| *name == path).map(|(_, bytes)| bytes.clone());
        let was = was.unwrap_or_else(|| vec![0; bytes.len()]);
        if let Some(first) = bytes.iter().zip(&was).position(|(new, old)| new != old) {
            let last = bytes.iter().zip(&was).rposition(|(new, old)| new != old).unwrap_or(first);
            return (path, first, last + 1);
        }
    }
    panic!("nothing was written");
}

#[test]
fn wherever_the_last_record_is_torn_it_is_cut_off() {
    let disk = FaultDisk::new(5);
    let mut stand = Stand::open(&disk, &options(1, 64 << 10), 5);
    stand.run(60);
    stand.settle();
    let stored = stand.shards[0].said.len() as u64;
    let before = disk.crash(Crash::Killed);
    stand.say(0);
    let after = disk.crash(Crash::Killed);
    let (path, from, to) = written_end(&before, &after);
    let (mut torn, mut kept) = (0, 0);
    for end in from..=to {
        // Only the bytes before `end` of the last record came to the disk.
        let cut = after.crash(Crash::Killed);
        let old = before.files().into_iter().find(|(name, _)| *name == path).unwrap().1;
        let mut bytes = after.files().into_iter().find(|(name, _)| *name == path).unwrap().1;
        bytes[end..].copy_from_slice(&old[end..]);
        cut.put(&path, &bytes);

        let mut booted = Stand::open(&cut, &stand.options, 9);
        let found = stand.check_prefix(0, &booted.shards[0].start, stored, stored + 1).unwrap();
        assert_eq!(booted.report.damaged, [], "torn at byte {end}");
        torn += booted.report.torn.len();
        kept += usize::from(found > stored);
        for report in &booted.report.torn {
            assert!(report.offset <= from as u64 && path.ends_with(&report.path), "{report}");
        }
        // The log goes on behind the cut, and the next boot has nothing to cut.
        booted.run(10);
        booted.settle();
        let next = Stand::open(&cut.crash(Crash::PowerCut), &stand.options, 1);
        assert_eq!(
            (&next.report.torn[..], &next.report.damaged[..]),
            (&[][..], &[][..]),
            "torn at byte {end}"
        );
        let all = booted.shards[0].said.len() as u64;
        booted.check_prefix(0, &next.shards[0].start, all, all).unwrap();
    }
    assert!(torn > 10 && kept >= 1, "{torn} torn, {kept} whole, of {}", to - from);
}

//! A bit rots in the middle of a log, or a stretch of it, or a whole sector. What stands before and behind it is kept, the damage
//! is reported with its place and put aside, and no garbage is handed to anybody.

#[path = "crash_stand/mod.rs"]
mod stand;

use dunlin_persist::fault::{Crash, FaultDisk, SECTOR_BYTES};
use stand::model::Model;
use stand::{Stand, options};

/// A settled run, and the path of its largest log file.
fn settled(seed: u64, records: usize) -> (Stand, FaultDisk) {
    let disk = FaultDisk::new(seed);
    let mut stand = Stand::open(&disk, &options(1, 256 << 10), seed);
    stand.run(records);
    stand.settle();
    let disk = disk.crash(Crash::PowerCut);
    (stand, disk)
}

/// The file that holds the records, and how much of it is used.
fn log_file(disk: &FaultDisk) -> (String, usize) {
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let files = disk.files().into_iter().filter(|(path, _)| path.ends_with(".log"));
    files.map(|(path, bytes)| (path, used(&bytes))).max_by_key(|(_, used)| *used).expect("a log")
}

/// Whether the log without the records `lost` comes to what was found.
fn is_without(stand: &Stand, found: &Model, lost: std::ops::Range<usize>) -> bool {
    let mut model = Model::default();
    for (index, record) in stand.shards[0].said.iter().enumerate() {
        if !lost.contains(&index) {
            model.apply(record);
        }
    }
    model.after_boot().difference(&found.after_boot()).is_none()
}

#[test]
fn a_bit_that_rots_anywhere_costs_one_record_and_is_told() {
    let (stand, disk) = settled(8, 80);
    let said = stand.shards[0].said.len();
    let (path, used) = log_file(&disk);
    let mut told = 0;
    // Every bit would take long; a prime step visits all parts of frames.
    for bit in (0..used * 8).step_by(797) {
        let rotten = disk.crash(Crash::Killed);
        rotten.rot(&path, (bit / 8) as u64, 1 << (bit % 8));
        let booted = Stand::open_with_losses(&rotten, &stand.options, 1);
        let found = &booted.shards[0].start;
        let whole = is_without(&stand, found, 0..0);
        let one_less = (0..said).any(|lost| is_without(&stand, found, lost..lost + 1));
        // What stood last is proven by nothing behind it, and goes with the torn end.
        let shorter =
            !booted.report.torn.is_empty() && (0..said).any(|end| is_without(&stand, found, end..said));
        assert!(
            whole || one_less || shorter,
            "bit {bit} of {path}: more than one record is lost, or another is made up: {:?}",
            booted.report
        );
        let reported = booted.report.damaged.len() + booted.report.torn.len();
        if !whole {
            assert_eq!(reported, 1, "bit {bit}: {:?}", booted.report);
            for damage in &booted.report.damaged {
                assert!(path.ends_with(&damage.path) && damage.offset <= (bit / 8) as u64, "{damage:?}");
                assert!(
                    ((bit / 8) as u64) < damage.offset + damage.bytes,
                    "{damage:?} holds byte {}",
                    bit / 8
                );
                assert!(damage.lost_records <= 1, "{damage:?}");
                let kept = damage.kept_as.as_ref().expect("damaged bytes are put aside");
                assert!(rotten.files().iter().any(|(file, _)| file == kept), "{kept}");
            }
            told += booted.report.damaged.len();
        }
        // A second boot does not report the same damage as new, and finds the same.
        let again = Stand::open_with_losses(&rotten.crash(Crash::PowerCut), &stand.options, 1);
        assert_eq!(again.shards[0].start.difference(found), None, "bit {bit}: the second boot differs");
    }
    assert!(told > 10, "{told}");
}

#[test]
fn a_sector_of_nonsense_costs_what_stood_in_it() {
    let (stand, disk) = settled(9, 60);
    let said = stand.shards[0].said.len();
    let (path, used) = log_file(&disk);
    for sector in 0..used.div_ceil(SECTOR_BYTES) {
        for fill in [0x00, 0xA5] {
            let rotten = disk.crash(Crash::Killed);
            let mut bytes = rotten.files().into_iter().find(|(name, _)| *name == path).unwrap().1;
            bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES].fill(fill);
            rotten.put(&path, &bytes);
            let booted = Stand::open_with_losses(&rotten, &stand.options, 1);
            let found = &booted.shards[0].start;
            // A stretch of records is gone, none outside of it.
            let fits = (0..=said)
                .any(|from| (from..=said.min(from + 20)).any(|to| is_without(&stand, found, from..to)));
            assert!(fits, "sector {sector} of {path} filled with {fill:#x}: {:?}", booted.report);
            // What stood last is proven by nothing behind it: without it the log is merely shorter.
            let shorter = (0..=said).any(|end| is_without(&stand, found, end..said));
            let reported = booted.report.damaged.len() + booted.report.torn.len();
            assert!(reported > 0 || shorter, "sector {sector}, {fill:#x}: not a word");
        }
    }
}

/// Bytes that look like a record of another log, or of this one at another place, are not taken for records.
#[test]
fn records_of_another_log_or_place_never_pass() {
    let (stand, disk) = settled(10, 60);
    let (_, other) = settled(11, 60);
    let (path, used) = log_file(&disk);
    let (theirs, _) = log_file(&other);
    let their_bytes = other.files().into_iter().find(|(name, _)| *name == theirs).unwrap().1;
    let own_bytes = disk.files().into_iter().find(|(name, _)| *name == path).unwrap().1;
    // Their whole log behind ours, and our own first records again.
    for source in [&their_bytes, &own_bytes] {
        let mixed = disk.crash(Crash::Killed);
        let mut bytes = own_bytes.clone();
        let at = used.next_multiple_of(8);
        let count = used.min(bytes.len() - at);
        bytes[at..at + count].copy_from_slice(&source[..count]);
        mixed.put(&path, &bytes);
        let booted = Stand::open_with_losses(&mixed, &stand.options, 1);
        assert!(is_without(&stand, &booted.shards[0].start, 0..0), "{:?}", booted.report);
    }
}

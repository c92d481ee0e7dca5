//! A segment file: its name, its header of 64 bytes, and how one is made ready.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Region};
use crate::log::frame;

/// Length of a segment's header, bytes. The first frame follows.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;

/// Version of the segment's header and of the frames behind it.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"DUNLINLG";

/// Where one shard's log is and what its checksums are drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogId {
    /// Folder of its segments, relative to the data directory.
    pub folder: String,
    /// The log's secret.
    pub key: u64,
    /// Whose it is.
    pub shard: u16,
}

impl LogId {
    /// The log of a shard in an epoch.
    pub(crate) fn new(epoch: u64, key: u64, shard: u16) -> Self {
        Self { folder: format!("{}/shard-{shard:04}", epoch_folder(epoch)), key, shard }
    }

    /// Path of a segment.
    pub(crate) fn path(&self, segment: u64) -> String {
        format!("{}/{segment:020}.log", self.folder)
    }

    /// What the checksums of a segment begin with.
    pub(crate) fn seed(&self, segment: u64) -> u32 {
        frame::seed(self.key, self.shard, segment)
    }
}

/// Folder of an epoch: everything between two changes of the number of shards.
pub(crate) fn epoch_folder(epoch: u64) -> String {
    format!("epoch-{epoch:08}")
}

/// The segment that a file of this name is.
pub(crate) fn segment_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// What stands at the beginning of a segment that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Its number; that of its name.
    pub segment: u64,
    /// Its first frame. Frames of the segment before that reach this far were cut at a boot and do not count.
    pub first_seq: u64,
    /// The next session number when it began: numbers stay used when all that names them is cleaned away.
    pub next_session: u64,
    /// The next message name when it began.
    pub next_message: u64,
}

/// What a segment's first bytes turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// A header of this log and this segment.
    Begun(SegmentHeader),
    /// Not: made ready and never used, or damaged.
    Nothing,
    /// A header of a format that this program does not know.
    UnknownFormat(u32),
}

impl SegmentHeader {
    /// The header as it is written.
    pub(crate) fn encode(&self, log: &LogId) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.next_session.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.next_message.to_le_bytes());
        bytes[48..50].copy_from_slice(&log.shard.to_le_bytes());
        let sum = crc32c::crc32c_append(log.seed(self.segment), &bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the first bytes of the file that is named as this segment.
    pub(crate) fn parse(log: &LogId, segment: u64, bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Beginning {
        let u64_at = |at: usize| {
            u64::from_le_bytes(
                bytes[at..at + 8].try_into().expect("eight bytes were taken, all within the header"),
            )
        };
        let u32_at = |at: usize| {
            u32::from_le_bytes(
                bytes[at..at + 4].try_into().expect("four bytes were taken, all within the header"),
            )
        };
        let mut bare = *bytes;
        bare[12..16].fill(0);
        let is_sound = crc32c::crc32c_append(log.seed(segment), &bare) == u32_at(12);
        if !is_sound || bytes[0..8] != MAGIC || u64_at(16) != segment {
            return Beginning::Nothing;
        }
        if u32_at(8) != FORMAT {
            return Beginning::UnknownFormat(u32_at(8));
        }
        Beginning::Begun(Self {
            segment,
            first_seq: u64_at(24),
            next_session: u64_at(32),
            next_message: u64_at(40),
        })
    }
}

/// A segment that is made and mapped, and has not begun.
pub(crate) struct Blank {
    /// Its number.
    pub segment: u64,
    /// Its file.
    pub file: Arc<dyn DiskFile>,
    /// Its map.
    pub region: Box<dyn Region>,
}

impl Blank {
    /// Makes a segment: blocks on the disk, name durable, pages at hand. Blocks for as long as it takes to write its zeros.
    pub(crate) fn make(disk: &dyn Disk, log: &LogId, segment: u64, bytes: u64) -> io::Result<Self> {
        let file = disk.create(&log.path(segment), bytes)?;
        file.sync()?;
        disk.sync_folder(&log.folder)?;
        let region = file.map()?;
        Ok(Self { segment, file, region })
    }

    /// Makes a segment of the file of one that is needed no more. What stands in it passes no check under the new number.
    pub(crate) fn recycle(disk: &dyn Disk, log: &LogId, old: u64, segment: u64) -> io::Result<Self> {
        let path = log.path(segment);
        disk.rename(&log.path(old), &path)?;
        disk.sync_folder(&log.folder)?;
        let file = disk.open(&path)?;
        let region = file.map()?;
        Ok(Self { segment, file, region })
    }
}

impl std::fmt::Debug for Blank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blank({})", self.segment)
    }
}

const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(frame::ALIGN_BYTES), "the first frame is aligned");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_only_by_its_own_segment_of_its_own_log() {
        let log = LogId::new(1, 77, 3);
        let header = SegmentHeader { segment: 9, first_seq: 100, next_session: 5, next_message: 6 };
        let bytes = header.encode(&log);
        assert_eq!(SegmentHeader::parse(&log, 9, &bytes), Beginning::Begun(header));
        assert_eq!(SegmentHeader::parse(&log, 10, &bytes), Beginning::Nothing, "renamed");
        assert_eq!(
            SegmentHeader::parse(&LogId::new(1, 78, 3), 9, &bytes),
            Beginning::Nothing,
            "another log's"
        );
        let mut flipped = bytes;
        flipped[30] ^= 1;
        assert_eq!(SegmentHeader::parse(&log, 9, &flipped), Beginning::Nothing, "damaged");
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let log = LogId::new(1, 77, 0);
        let mut bytes =
            SegmentHeader { segment: 1, first_seq: 1, next_session: 1, next_message: 1 }.encode(&log);
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let sum = crc32c::crc32c_append(log.seed(1), &bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::parse(&log, 1, &bytes), Beginning::UnknownFormat(2));
    }

    #[test]
    fn names_and_numbers() {
        let log = LogId::new(2, 0, 11);
        assert_eq!(log.path(42), "epoch-00000002/shard-0011/00000000000000000042.log");
        assert_eq!(segment_of_name("00000000000000000042.log"), Some(42));
        for name in ["42.log", "0000000000000000004x.log", "00000000000000000042", "+0000000000000000042.log"]
        {
            assert_eq!(segment_of_name(name), None, "{name}");
        }
    }
}

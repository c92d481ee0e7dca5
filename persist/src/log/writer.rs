//! Writes frames into the newest segment of a log, one behind the other.

use std::sync::Arc;

use crate::disk::{DiskFile, Region};
use crate::log::frame::{HEADER_BYTES, Header, frame_bytes};
use crate::log::segment::{Blank, LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::record::encode::Encoded;

/// The newest segment and the place in it where the next frame goes. One per store.
pub(crate) struct Writer {
    number: u64,
    file: Arc<dyn DiskFile>,
    region: Box<dyn Region>,
    seed: u32,
    at: usize,
}

/// What a frame's header says beside the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// Its number.
    pub seq: u64,
    /// The last frame that is known to be on the disk.
    pub durable_seq: u64,
    /// Flags.
    pub flags: u16,
}

impl Writer {
    /// Begins a segment.
    pub(crate) fn begin(log: &LogId, blank: Blank, header: &SegmentHeader) -> Self {
        assert_eq!(blank.segment, header.segment, "a segment begins under its own number");
        let Blank { segment: number, file, mut region } = blank;
        region.write(0, &header.encode(log));
        Self { number, file, region, seed: log.seed(number), at: SEGMENT_HEADER_BYTES }
    }

    /// Whether a record of so many bytes still fits.
    pub(crate) fn has_room(&self, body_bytes: usize) -> bool {
        self.at.saturating_add(frame_bytes(body_bytes)) <= self.region.bytes()
    }

    /// Writes a frame and returns where it begins and how long it is, bytes. The record first, its header last.
    ///
    /// # Panics
    /// If it does not fit.
    pub(crate) fn write(&mut self, record: &Encoded<'_>, numbers: Numbers) -> (u64, u64) {
        let body_bytes = record.archive.len() + record.payload.len();
        let as_u32 = |bytes: usize| {
            u32::try_from(bytes).expect("has_room was asked, and a region is shorter than 4 GiB")
        };
        let header = Header {
            body_bytes: as_u32(body_bytes),
            seq: numbers.seq,
            durable_seq: numbers.durable_seq,
            archive_bytes: as_u32(record.archive.len()),
            kind: record.kind.byte(),
            version: record.version,
            flags: numbers.flags,
        };
        let body_at = self.at + HEADER_BYTES;
        self.region.write(body_at, record.archive);
        if !record.payload.is_empty() {
            self.region.write(body_at + record.archive.len(), record.payload);
        }
        self.region.write(self.at, &header.encode(self.seed, [record.archive, record.payload]));
        let offset = self.at;
        self.at += frame_bytes(body_bytes);
        let as_u64 = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        (as_u64(offset), as_u64(frame_bytes(body_bytes)))
    }

    /// Its number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Where its frames end.
    pub(crate) fn used_bytes(&self) -> u64 {
        u64::try_from(self.at).unwrap_or(u64::MAX)
    }

    /// Its file, to sync.
    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer(segment {} at {})", self.number, self.at)
    }
}

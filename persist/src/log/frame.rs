//! How a record stands in a segment: a header of 32 bytes, the record, zeros up to a multiple of eight.
//!
//! Pure: bytes in, bytes out. The picture is in the crate's README. The checksum covers the header, the record and a seed that is
//! drawn from the log's secret key and the segment's number, so that bytes of another log, of another segment, or of a
//! payload that looks like a frame never pass.

use crate::limits::RECORD_BYTES_MAX;

/// Length of a header, bytes.
pub(crate) const HEADER_BYTES: usize = 32;

/// Frames begin at multiples of this.
pub(crate) const ALIGN_BYTES: usize = 8;

/// What stands before a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Length of the record: archive and payload, without padding.
    pub body_bytes: u32,
    /// Counts up by one from frame to frame, over all segments of a log.
    pub seq: u64,
    /// The last frame that was known to be on the disk when this one was written. If that frame is missing, it was lost, not
    /// torn.
    pub durable_seq: u64,
    /// Length of the archive at the beginning of the record; what follows it is a payload as it came.
    pub archive_bytes: u32,
    /// What the record says.
    pub kind: u8,
    /// How it says it.
    pub version: u8,
    /// [`FLAG_MOVED`] or nothing.
    pub flags: u16,
}

/// The record was said before; it was moved here because its segment was cleaned.
pub(crate) const FLAG_MOVED: u16 = 1;

impl Header {
    /// Reads a header without believing it. `None` if no frame can look like this.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, u32)> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let header = Self {
            body_bytes: u32_at(bytes, 0),
            seq: u64_at(bytes, 8),
            durable_seq: u64_at(bytes, 16),
            archive_bytes: u32_at(bytes, 24),
            kind: bytes[28],
            version: bytes[29],
            flags: u16::from_le_bytes([bytes[30], bytes[31]]),
        };
        let is_plausible = header.body_bytes > 0
            && header.body_bytes <= RECORD_BYTES_MAX
            && header.archive_bytes <= header.body_bytes
            && header.durable_seq < header.seq
            && header.kind > 0;
        is_plausible.then_some((header, u32_at(bytes, 4)))
    }

    /// The header as it is written, with its checksum.
    pub(crate) fn encode(&self, seed: u32, body: [&[u8]; 2]) -> [u8; HEADER_BYTES] {
        let mut bytes = self.encode_bare();
        let sum = checksum(seed, &bytes, body);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Whether header and record are as they were written. `sum` is the checksum that [`parse`](Self::parse) found.
    pub(crate) fn is_sound(&self, sum: u32, seed: u32, body: &[u8]) -> bool {
        checksum(seed, &self.encode_bare(), [body, &[]]) == sum
    }

    /// Length of the whole frame, padding included.
    pub(crate) const fn frame_bytes(&self) -> usize {
        frame_bytes(self.body_bytes as usize)
    }

    fn encode_bare(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable_seq.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.archive_bytes.to_le_bytes());
        bytes[28] = self.kind;
        bytes[29] = self.version;
        bytes[30..32].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }
}

/// Length of the frame of a record, padding included.
pub(crate) const fn frame_bytes(body_bytes: usize) -> usize {
    HEADER_BYTES + body_bytes.next_multiple_of(ALIGN_BYTES)
}

/// What the checksums of a segment begin with.
pub(crate) fn seed(log_key: u64, shard: u16, segment: u64) -> u32 {
    let mut bytes = [0; 18];
    bytes[0..8].copy_from_slice(&log_key.to_le_bytes());
    bytes[8..10].copy_from_slice(&shard.to_le_bytes());
    bytes[10..18].copy_from_slice(&segment.to_le_bytes());
    crc32c::crc32c(&bytes)
}

fn checksum(seed: u32, bare_header: &[u8; HEADER_BYTES], body: [&[u8]; 2]) -> u32 {
    body.iter().fold(crc32c::crc32c_append(seed, bare_header), |sum, part| crc32c::crc32c_append(sum, part))
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN_BYTES), "a record begins where its archive may");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(body_bytes: u32, archive_bytes: u32, seq: u64) -> Header {
        Header { body_bytes, seq, durable_seq: seq - 1, archive_bytes, kind: 8, version: 1, flags: 0 }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            body in proptest::collection::vec(any::<u8>(), 1..300),
            split in any::<prop::sample::Index>(),
            seq in 1..u64::MAX,
            seed in any::<u32>(),
        ) {
            let split = split.index(body.len());
            let header = header(u32::try_from(body.len()).unwrap(), u32::try_from(split).unwrap(), seq);
            let bytes = header.encode(seed, [&body[..split], &body[split..]]);
            let (parsed, sum) = Header::parse(&bytes).unwrap();
            prop_assert_eq!(parsed, header);
            prop_assert!(parsed.is_sound(sum, seed, &body));
            prop_assert!(!parsed.is_sound(sum, seed.wrapping_add(1), &body), "another segment's");
        }

        #[test]
        fn any_flipped_bit_is_noticed(
            body in proptest::collection::vec(any::<u8>(), 1..64),
            bit in any::<prop::sample::Index>(),
        ) {
            let header = header(u32::try_from(body.len()).unwrap(), 0, 7);
            let mut all = header.encode(5, [&body, &[]]).to_vec();
            all.extend_from_slice(&body);
            let bit = bit.index(all.len() * 8);
            all[bit / 8] ^= 1 << (bit % 8);
            let is_sound = Header::parse(&all).is_some_and(|(header, sum)| {
                header.body_bytes as usize == body.len() && header.is_sound(sum, 5, &all[HEADER_BYTES..])
            });
            prop_assert!(!is_sound);
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(Header::parse(&[0; 64]), None);
        assert_eq!(Header::parse(&[1; 31]), None);
    }

    #[test]
    fn seeds_differ_by_key_shard_and_segment() {
        let seeds = [seed(1, 0, 1), seed(2, 0, 1), seed(1, 1, 1), seed(1, 0, 2)];
        for (index, one) in seeds.iter().enumerate() {
            assert!(!seeds[..index].contains(one));
        }
    }
}

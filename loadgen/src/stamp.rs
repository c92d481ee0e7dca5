//! What each payload carries, so that whoever receives it can tell where it belongs.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | run: of which run of the generator |
//! | 4..8 | flow: which publisher sent it |
//! | 8..12 | target: for whom it is, among the receivers of the scenario |
//! | 12..16 | sequence: counts up per flow and target |
//! | 16..20 | ticket: counts up per flow, for the sender's window |
//! | 20..24 | checksum of all other bytes |
//! | 24..32 | intended time of sending in nanoseconds |
//! | 32.. | filling, derived from the sequence |

/// The fields of a payload; all integers little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    pub(crate) flow: u32,
    pub(crate) target: u32,
    pub(crate) sequence: u32,
    pub(crate) ticket: u32,
    pub(crate) intended_ns: u64,
}

impl Stamp {
    /// Fills `payload`, which must be at least [`STAMP_BYTES`] long.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        payload[STAMP_BYTES..].fill(self.sequence.to_le_bytes()[0]);
        self.seal(payload);
    }

    /// Writes the stamp in front of a payload whose rest is already there.
    pub(crate) fn seal(&self, payload: &mut [u8]) {
        let head = &mut payload[..STAMP_BYTES];
        head[0..4].copy_from_slice(&self.run.to_le_bytes());
        head[4..8].copy_from_slice(&self.flow.to_le_bytes());
        head[8..12].copy_from_slice(&self.target.to_le_bytes());
        head[12..16].copy_from_slice(&self.sequence.to_le_bytes());
        head[16..20].copy_from_slice(&self.ticket.to_le_bytes());
        head[24..32].copy_from_slice(&self.intended_ns.to_le_bytes());
        let sum = checksum(payload);
        payload[20..24].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads a payload back; `None` if it is too short or its checksum is wrong.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        if payload.len() < STAMP_BYTES || checksum(payload) != word(payload, 20) {
            return None;
        }
        let high = u64::from(word(payload, 28));
        Some(Self {
            run: word(payload, 0),
            flow: word(payload, 4),
            target: word(payload, 8),
            sequence: word(payload, 12),
            ticket: word(payload, 16),
            intended_ns: high << 32 | u64::from(word(payload, 24)),
        })
    }
}

/// The smallest payload that holds a stamp.
pub(crate) const STAMP_BYTES: usize = 32;

fn word(payload: &[u8], offset: usize) -> u32 {
    payload[offset..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A multiplicative checksum over everything but its own field: eight bytes a step, some 15 ns for 128 bytes.
/// It finds mixed-up and damaged payloads; it is no defence against forgery.
fn checksum(payload: &[u8]) -> u32 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ payload.len() as u64;
    let chunks = payload.chunks_exact(8);
    let rest = chunks.remainder();
    for (index, chunk) in chunks.enumerate() {
        let mut value = u64::from_le_bytes(chunk.try_into().expect("chunks_exact gives eight bytes"));
        if index == CHECKSUM_CHUNK {
            value &= 0xFFFF_FFFF;
        }
        state = (state ^ value).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        state ^= state >> 32;
    }
    for byte in rest {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    }
    let folded = state ^ (state >> 29);
    u32::try_from(folded & 0xFFFF_FFFF).expect("masked to 32 bits")
}

/// Bytes 16..24 hold the ticket (low half) and the checksum (high half).
const CHECKSUM_CHUNK: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp { run: 7, flow: 1, target: 2, sequence: 300, ticket: 4, intended_ns: 0x1_2345_6789_ABCD }
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [32, 33, 64, 128, 1000] {
            let mut payload = vec![0; length];
            stamp().write(&mut payload);
            assert_eq!(Stamp::read(&payload), Some(stamp()));
        }
    }

    #[test]
    fn every_single_changed_bit_is_found() {
        let mut payload = vec![0; 128];
        stamp().write(&mut payload);
        for bit in 0..payload.len() * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(&payload), None, "bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_short_payload_is_refused() {
        assert_eq!(Stamp::read(&[0; 31]), None);
    }
}

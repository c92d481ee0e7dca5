//! How a connection says what it is: sixteen bytes, answered with four.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | `DFLR` |
//! | 4 | role: 0 sends, 1 receives |
//! | 5 | QoS of the frames |
//! | 6..8 | where in a frame the packet id lies |
//! | 8..12 | bytes of a frame |
//! | 12..16 | channel |

/// What a connection has said about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) receives: bool,
    pub(crate) qos: u8,
    pub(crate) id_offset: usize,
    pub(crate) frame_bytes: usize,
    pub(crate) channel: u32,
}

impl Greeting {
    /// Reads a greeting; `None` if it is none.
    pub(crate) fn read(bytes: &[u8; GREETING_BYTES]) -> Option<Self> {
        let [b'D', b'F', b'L', b'R', role @ 0..=1, qos @ 0..=2, id0, id1, f0, f1, f2, f3, c0, c1, c2, c3] =
            *bytes
        else {
            return None;
        };
        let greeting = Self {
            receives: role == 1,
            qos,
            id_offset: usize::from(u16::from_le_bytes([id0, id1])),
            frame_bytes: u32::from_le_bytes([f0, f1, f2, f3]) as usize,
            channel: u32::from_le_bytes([c0, c1, c2, c3]),
        };
        let has_id = greeting.receives || qos == 0 || greeting.id_offset + 2 <= greeting.frame_bytes;
        (has_id && greeting.channel < CHANNELS_MAX && greeting.frame_bytes <= FRAME_BYTES_MAX)
            .then_some(greeting)
    }
}

pub(crate) const GREETING_BYTES: usize = 16;
/// The answer to a greeting.
pub(crate) const ANSWER: &[u8; 4] = b"OKAY";
/// Channels are kept in a table; this bounds it.
const CHANNELS_MAX: u32 = 1 << 20;
/// Larger than any frame of a benchmark.
const FRAME_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read() {
        let bytes = b"DFLR\x00\x01\x09\x00\x8C\x00\x00\x00\x03\x00\x00\x00";
        let expected = Greeting { receives: false, qos: 1, id_offset: 9, frame_bytes: 140, channel: 3 };
        assert_eq!(Greeting::read(bytes), Some(expected));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(Greeting::read(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02ab"), None);
        let id_outside = b"DFLR\x00\x01\x09\x00\x0A\x00\x00\x00\x03\x00\x00\x00";
        assert_eq!(Greeting::read(id_outside), None);
    }
}

//! The greeting by which a connection introduces itself to the floor tool instead of CONNECT and SUBSCRIBE.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | `DFLR` |
//! | 4 | role: 0 sends, 1 receives |
//! | 5 | QoS of the frames: 0 forwards bytes as they are, 1 and 2 exchange the acknowledgements |
//! | 6..8 | where in a frame the packet id lies |
//! | 8..12 | bytes of a frame |
//! | 12..16 | channel: what a sender sends goes to all receivers of its channel |
//!
//! Integers are little-endian; the answer is the four bytes `OKAY`. Frames are whole PUBLISH packets, so that
//! the bytes on the wire are those of the MQTT run.

/// What a connection tells the floor tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) receives: bool,
    pub(crate) qos: u8,
    pub(crate) id_offset: u16,
    pub(crate) frame_bytes: u32,
    pub(crate) channel: u32,
}

impl Hello {
    /// Appends the greeting.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"DFLR");
        out.push(u8::from(self.receives));
        out.push(self.qos);
        out.extend_from_slice(&self.id_offset.to_le_bytes());
        out.extend_from_slice(&self.frame_bytes.to_le_bytes());
        out.extend_from_slice(&self.channel.to_le_bytes());
    }
}

/// The floor tool's answer.
pub(crate) const ANSWER: &[u8; 4] = b"OKAY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_has_the_documented_layout() {
        let mut bytes = Vec::new();
        Hello { receives: true, qos: 1, id_offset: 9, frame_bytes: 140, channel: 3 }.write(&mut bytes);
        assert_eq!(bytes, b"DFLR\x01\x01\x09\x00\x8C\x00\x00\x00\x03\x00\x00\x00");
    }
}

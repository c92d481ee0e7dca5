//! What every message of a plan carries, wherever its payload has room for it.
//!
//! The 32 bytes are those of [`Stamp`]; `flow` is the route, and `target` how much later than intended the message was
//! written, in units of [`LAG_UNIT_NS`]. For its checksum a payload is looked at with the stamp moved to the front.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ledger::RouteId;
use crate::clock::Nanos;
use crate::plan::{STAMP_MARK, STAMP_TEXT_BYTES};
use crate::stamp::{STAMP_BYTES, Stamp};

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Postmark {
    pub(crate) run: u32,
    pub(crate) route: RouteId,
    pub(crate) sequence: u32,
    /// The sender's ticket: place in a closed loop's window.
    pub(crate) ticket: u32,
    /// When it should have been sent.
    pub(crate) intended: Nanos,
    /// When it was written.
    pub(crate) written: Nanos,
}

/// Where the stamp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first 32 bytes.
    Front,
    /// 48 characters from here on.
    Text(usize),
    /// The last 32 bytes.
    End,
}

/// Resolution of the lag in a stamp. 2^32 of them are 18 minutes.
const LAG_UNIT_NS: u64 = 256;

impl Postmark {
    /// Writes the stamp into a payload that has room for it at `place`. `scratch` is for reuse.
    pub(crate) fn seal(&self, payload: &mut [u8], place: Place, scratch: &mut Vec<u8>) {
        let stamp = self.stamp();
        match place {
            Place::Front => stamp.seal(payload),
            Place::Text(at) => {
                let region = at..at + STAMP_TEXT_BYTES;
                gather(payload, region.clone(), scratch);
                stamp.seal(scratch);
                let text = &mut payload[region];
                text[..4].copy_from_slice(STAMP_MARK);
                let end = text.len() - 1;
                let written = URL_SAFE_NO_PAD.encode_slice(&scratch[..STAMP_BYTES], &mut text[4..end]);
                debug_assert_eq!(written, Ok(43), "32 bytes are 43 characters");
            }
            Place::End => {
                let region = payload.len() - STAMP_BYTES..payload.len();
                gather(payload, region.clone(), scratch);
                stamp.seal(scratch);
                payload[region].copy_from_slice(&scratch[..STAMP_BYTES]);
            }
        }
    }

    /// Reads the stamp of a payload wherever it is; `None` if there is none or the payload is damaged.
    pub(crate) fn read(payload: &[u8], scratch: &mut Vec<u8>) -> Option<Self> {
        if let Some(stamp) = Stamp::read(payload) {
            return Some(Self::of(stamp));
        }
        Self::read_text(payload, scratch).or_else(|| Self::read_end(payload, scratch)).map(Self::of)
    }

    #[cold]
    fn read_text(payload: &[u8], scratch: &mut Vec<u8>) -> Option<Stamp> {
        let at = payload.windows(STAMP_MARK.len()).position(|window| window == STAMP_MARK)?;
        let region = at..at + STAMP_TEXT_BYTES;
        let text = payload.get(region.clone())?;
        let mut bytes = [0; STAMP_BYTES];
        URL_SAFE_NO_PAD.decode_slice(&text[4..text.len() - 1], &mut bytes).ok()?;
        gather(payload, region, scratch);
        scratch[..STAMP_BYTES].copy_from_slice(&bytes);
        Stamp::read(scratch)
    }

    #[cold]
    fn read_end(payload: &[u8], scratch: &mut Vec<u8>) -> Option<Stamp> {
        let region = payload.len().checked_sub(STAMP_BYTES)?..payload.len();
        gather(payload, region.clone(), scratch);
        scratch[..STAMP_BYTES].copy_from_slice(&payload[region]);
        Stamp::read(scratch)
    }

    fn stamp(&self) -> Stamp {
        let lag = self.written.since(self.intended) / LAG_UNIT_NS;
        Stamp {
            run: self.run,
            flow: self.route.0,
            target: u32::try_from(lag).unwrap_or(u32::MAX),
            sequence: self.sequence,
            ticket: self.ticket,
            intended_ns: self.intended.0,
        }
    }

    const fn of(stamp: Stamp) -> Self {
        let intended = Nanos(stamp.intended_ns);
        Self {
            run: stamp.run,
            route: RouteId(stamp.flow),
            sequence: stamp.sequence,
            ticket: stamp.ticket,
            intended,
            written: intended.after(stamp.target as u64 * LAG_UNIT_NS),
        }
    }
}

/// Copies a payload with room for a stamp in front, and without the region that the stamp has in it.
fn gather(payload: &[u8], region: std::ops::Range<usize>, scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.resize(STAMP_BYTES, 0);
    scratch.extend_from_slice(&payload[..region.start]);
    scratch.extend_from_slice(&payload[region.end..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Postmark {
        Postmark {
            run: 7,
            route: RouteId(70_000),
            sequence: 3,
            ticket: 9,
            intended: Nanos(1_000_000),
            written: Nanos(1_000_000 + 10 * LAG_UNIT_NS),
        }
    }

    #[test]
    fn what_is_sealed_is_read_wherever_it_stands() {
        let mut scratch = Vec::new();
        let text = [br#"{"stamp":""#.as_slice(), &[b'.'; STAMP_TEXT_BYTES], br#"","t":21}"#].concat();
        for (mut payload, place) in [
            (vec![5; 32], Place::Front),
            (vec![5; 100], Place::Front),
            (text, Place::Text(10)),
            (vec![5; 77], Place::End),
        ] {
            mark().seal(&mut payload, place, &mut scratch);
            assert_eq!(Postmark::read(&payload, &mut scratch), Some(mark()), "{place:?}");
            for byte in 0..payload.len() {
                // The character that ends a text stamp means nothing.
                if matches!(place, Place::Text(at) if byte == at + STAMP_TEXT_BYTES - 1) {
                    continue;
                }
                payload[byte] ^= 4;
                assert_eq!(Postmark::read(&payload, &mut scratch), None, "{place:?}, byte {byte}");
                payload[byte] ^= 4;
            }
        }
    }

    #[test]
    fn a_text_stamp_keeps_json_what_it_is() {
        let mut payload = [br#"{"s":""#.as_slice(), &[b'.'; STAMP_TEXT_BYTES], br#""}"#].concat();
        mark().seal(&mut payload, Place::Text(6), &mut Vec::new());
        let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert!(json["s"].as_str().unwrap().starts_with("dl1."));
    }
}

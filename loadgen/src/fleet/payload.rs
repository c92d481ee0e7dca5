//! What a message holds, as the plan says it.

use super::postmark::Place;
use crate::plan::{Payload, Scope, Template};
use crate::stamp::STAMP_BYTES;

/// What a publish entry or a will sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'plan> {
    /// So many bytes.
    Bytes(usize),
    /// Text with variables.
    Text(&'plan Template),
    /// The contents of a file.
    File(&'plan [u8]),
}

impl<'plan> Body<'plan> {
    /// The payload of a plan.
    pub(crate) fn of(payload: &'plan Payload) -> Self {
        if let Some(text) = &payload.text {
            Self::Text(text)
        } else if payload.file.is_some() {
            Self::File(&payload.content)
        } else {
            let bytes = payload.bytes.unwrap_or(BYTES) as usize;
            Self::Bytes(bytes.max(STAMP_BYTES))
        }
    }

    /// Writes the payload over what was in `out`, and says where its stamp goes.
    pub(crate) fn render(self, scope: &mut Scope<'_>, out: &mut Vec<u8>) -> Place {
        match self {
            Self::Bytes(count) => {
                // What is left of the message before serves as filling.
                out.resize(count, FILLING);
                Place::Front
            }
            Self::Text(template) => {
                out.clear();
                out.resize(STAMP_BYTES, 0);
                match template.render(scope, out) {
                    Some(at) => {
                        out.drain(..STAMP_BYTES);
                        Place::Text(at - STAMP_BYTES)
                    }
                    None => Place::Front,
                }
            }
            Self::File(content) => {
                out.clear();
                out.resize(STAMP_BYTES, 0);
                out.extend_from_slice(content);
                Place::Front
            }
        }
    }
}

/// The size of a payload about which a plan says nothing.
const BYTES: u32 = 128;
/// What the rest of a payload of plain bytes is filled with.
const FILLING: u8 = 0xA5;

//! What few connections need at one moment, so that the others pay one pointer for it.

use super::authentication::Exchange;
use super::held::{Held, Holds};
use crate::hooks::LastWords;
use crate::publish::Flow;

/// Rare things of one connection. Boxed; exists only while one of them does.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Bytes of a packet that is not whole, or of packets that wait.
    pub(crate) held: Held,
    /// Why packets wait.
    pub(crate) holds: Holds,
    /// Whether the edge was told not to read.
    pub(crate) read_paused: bool,
    /// Authentication that is under way, or can be repeated.
    pub(crate) exchange: Option<Box<Exchange>>,
    /// Topic aliases, retained replay, questions to hooks.
    pub(crate) flow: Flow,
    /// What the client said with its DISCONNECT, for the session hook.
    pub(crate) last_words: Option<Box<LastWords>>,
    /// Bytes sent before there was a session to account them to.
    pub(crate) sent_early_bytes: u32,
}

impl Rare {
    /// Whether nothing is in it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.held.bytes.is_empty()
            && !self.holds.any()
            && !self.read_paused
            && self.exchange.is_none()
            && self.flow.is_empty()
            && self.last_words.is_none()
            && self.sent_early_bytes == 0
    }
}

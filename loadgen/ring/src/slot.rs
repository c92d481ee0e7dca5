//! One socket of a ring: what is pending on it.

use std::rc::Rc;

/// The place of a socket in its ring's file table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

impl SlotId {
    /// The slot as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Bytes to send: owned by the one socket, or shared by several.
#[derive(Debug)]
pub enum Bytes {
    /// Written for this socket.
    Own(Vec<u8>),
    /// The same bytes go to several sockets.
    Shared(Rc<Vec<u8>>),
}

impl Bytes {
    /// What is sent.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// What is pending on one socket. 32 bytes; one per entry of the file table.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The bytes that the kernel is reading from; kept alive until the send completes.
    pub(crate) sending: Option<Bytes>,
    pub(crate) state: State,
}

/// Flags of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State(u8);

impl State {
    /// A chain of requests that ends in a connected or listening socket is under way.
    pub(crate) const OPENING: u8 = 1;
    /// A receive request is armed.
    pub(crate) const RECEIVING: u8 = 1 << 1;
    /// The armed receive request goes on after each completion.
    pub(crate) const MULTI: u8 = 1 << 2;
    /// The owner has asked to close.
    pub(crate) const CLOSING: u8 = 1 << 3;
    /// The close request is under way.
    pub(crate) const CLOSE_SENT: u8 = 1 << 4;
    /// A multishot accept is armed.
    pub(crate) const ACCEPTING: u8 = 1 << 5;
    /// The slot holds a socket or is about to.
    pub(crate) const TAKEN: u8 = 1 << 6;
    /// A shutdown is under way. The kernel carries it out on a thread of its own and looks the slot up only there.
    pub(crate) const SHUTTING: u8 = 1 << 7;

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u8) {
        self.0 |= flag;
    }

    pub(crate) const fn clear(&mut self, flag: u8) {
        self.0 &= !flag;
    }

    pub(crate) const fn reset(&mut self) {
        self.0 = 0;
    }
}

const _: () = assert!(size_of::<Slot>() <= 32, "a slot exists for each idle connection");

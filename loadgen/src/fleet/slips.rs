//! What has been sent with QoS 1 or 2 and is not taken over yet: one slip each, its number is the client's ticket.

use super::cast::MemberId;
use super::ledger::RouteId;
use crate::clock::Nanos;

/// A message that waits for its acknowledgement. 56 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Slip {
    pub(crate) route: RouteId,
    pub(crate) sequence: u32,
    pub(crate) member: MemberId,
    /// Which outlet of the run.
    pub(crate) outlet: u32,
    /// Its ticket in a closed loop.
    pub(crate) ticket: u32,
    pub(crate) intended: Nanos,
    pub(crate) written: Nanos,
    /// Topic and payload, kept where a session may have to send them again.
    pub(crate) packet: Option<Box<Packet>>,
}

/// What is sent again.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// All slips. Grows with what is under way and not with the clients.
#[derive(Debug, Default)]
pub(crate) struct Slips {
    slips: Vec<Option<Slip>>,
    free: Vec<u32>,
}

impl Slips {
    /// Keeps a slip; returns its number.
    pub(crate) fn put(&mut self, slip: Slip) -> u32 {
        if let Some(number) = self.free.pop() {
            self.slips[number as usize] = Some(slip);
            return number;
        }
        self.slips.push(Some(slip));
        u32::try_from(self.slips.len() - 1).expect("messages under way are counted in u32")
    }

    /// A slip.
    pub(crate) fn get(&self, number: u32) -> Option<&Slip> {
        self.slips.get(number as usize)?.as_ref()
    }

    /// Takes a slip out.
    pub(crate) fn take(&mut self, number: u32) -> Option<Slip> {
        let slip = self.slips.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(slip)
    }

    /// All that is under way.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slip> {
        self.slips.iter().flatten()
    }
}

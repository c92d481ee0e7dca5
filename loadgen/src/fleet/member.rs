//! One client of a run, as far as its connection goes. 40 bytes each; the MQTT part is in `client.rs`.

use super::cast::Side;
use crate::clock::Nanos;

/// Where a client stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its group has not been started, or its turn has not come.
    #[default]
    Idle,
    /// The connection is being opened.
    Opening,
    /// CONNECT is written.
    Greeting,
    /// SUBSCRIBE is written.
    Subscribing,
    /// All that was asked for is granted.
    Up,
    /// It has fallen silent on purpose, with its connection open.
    Silent,
    /// DISCONNECT is written; the broker is to close.
    Leaving,
    /// It is away and will come back.
    Away,
    /// Its group was stopped.
    Stopped,
    /// Its connection ended, and it does not come back.
    Lost,
}

/// A client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) phase: Phase,
    flags: u16,
    /// Attempts in a row that failed.
    pub(crate) tries: u8,
    /// Index of the malformation under way, in groups that send such.
    pub(crate) trick: u8,
    /// SUBACKs that are still to come.
    pub(crate) subacks: u16,
    /// Counts connections; what was planned for an earlier one is void.
    pub(crate) life: u32,
    /// When the connection should have been begun.
    pub(crate) intended: Nanos,
    /// When what the client waits for was begun.
    pub(crate) since: Nanos,
    /// When the present connection was begun; while there is none, when the last one ended.
    pub(crate) began: Nanos,
}

const _: () = assert!(size_of::<Member>() <= 40, "a member exists for each idle connection");

/// What is remembered of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// The broker should have a session of it.
    Session = 1,
    /// It has been up in this run, so the broker knows its subscriptions.
    Subscribed = 1 << 1,
    /// It speaks on its second connection.
    Second = 1 << 2,
    /// A PINGREQ is not answered yet.
    Pinged = 1 << 3,
    /// It came back, and nothing has come since.
    Returned = 1 << 4,
    /// It is counted as connected.
    Counted = 1 << 5,
    /// It is to open a connection as soon as its old one is gone.
    Waiting = 1 << 6,
    /// Whether there is a session can't be known: the broker was away.
    Doubtful = 1 << 7,
    /// The first connection is open, or not quite gone.
    FirstBusy = 1 << 8,
    /// The second connection is open, or not quite gone.
    SecondBusy = 1 << 9,
    /// It is one of those who are opened as fast as the broker takes them, and not up yet.
    Hurried = 1 << 10,
    /// It is counted as having fallen silent.
    Silenced = 1 << 11,
}

impl Member {
    /// Whether a flag is set.
    pub(crate) const fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    /// Sets a flag.
    pub(crate) const fn set(&mut self, flag: Flag) {
        self.flags |= flag as u16;
    }

    /// Clears a flag.
    pub(crate) const fn clear(&mut self, flag: Flag) {
        self.flags &= !(flag as u16);
    }

    /// Sets or clears a flag.
    pub(crate) const fn put(&mut self, flag: Flag, on: bool) {
        if on { self.set(flag) } else { self.clear(flag) }
    }

    /// The connection that it speaks on.
    pub(crate) const fn side(&self) -> Side {
        if self.has(Flag::Second) { Side::Second } else { Side::First }
    }

    /// Whether a connection of it is open, or not quite gone.
    pub(crate) const fn is_busy(&self, side: Side) -> bool {
        self.has(Self::busy(side))
    }

    /// Says whether a connection of it is open, or not quite gone.
    pub(crate) const fn put_busy(&mut self, side: Side, on: bool) {
        self.put(Self::busy(side), on);
    }

    const fn busy(side: Side) -> Flag {
        match side {
            Side::First => Flag::FirstBusy,
            Side::Second => Flag::SecondBusy,
        }
    }

    /// Whether it is connected and alive.
    pub(crate) const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Subscribing | Phase::Up)
    }

    /// Whether it is on its way to be up.
    pub(crate) const fn is_coming(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Greeting | Phase::Subscribing)
    }
}

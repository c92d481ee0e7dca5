//! Bytes that were received and cannot be processed yet, and the reasons why a connection's packets wait.
//!
//! Bounds: a packet that is not whole takes what has arrived of it, never what it announced. Before CONNECT is accepted a
//! connection holds [`GREETING_BYTES`] of its own and draws on a pool of the shard beyond. On hold it takes what was on its
//! way when reading was paused.

use super::{Refusal, State};
use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::ids::ConnId;
use crate::limits::{GREETING_BYTES, GREETING_POOL_BYTES, HELD_BYTES};

/// Received bytes that could not be processed yet.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The bytes; the first is the first of a packet.
    pub(crate) bytes: Vec<u8>,
    /// How many of them are drawn from the pool of clients that are not connected.
    pooled_bytes: usize,
}

/// Why packets of a connection wait in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Hold {
    /// A hook decides about the CONNECT.
    Authentication = 1,
    /// A hook decides about a packet.
    Hook = 2,
    /// A lane that the client's messages go to is full.
    Lane = 4,
    /// The client does not read the answers to what it sends.
    Outbound = 8,
}

/// The set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holds(u8);

impl Holds {
    /// Whether there is any.
    pub(crate) const fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether this one is among them.
    pub(crate) const fn has(self, hold: Hold) -> bool {
        self.0 & hold as u8 != 0
    }

    /// Adds one.
    const fn add(&mut self, hold: Hold) {
        self.0 |= hold as u8;
    }

    /// Takes one away.
    const fn remove(&mut self, hold: Hold) {
        self.0 &= !(hold as u8);
    }
}

impl ShardCore {
    /// Lets the packets of a connection wait, from the next one on.
    pub(crate) fn hold(&mut self, conn: ConnId, hold: Hold, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        let rare = connection.rare_mut();
        rare.holds.add(hold);
        if !std::mem::replace(&mut rare.read_paused, true) {
            actions.list.push(Action::PauseRead { conn });
        }
    }

    /// Takes a reason to wait away. With the last one, the packets go on before the event is over.
    pub(crate) fn release(&mut self, conn: ConnId, hold: Hold) {
        let Some(rare) = self.connections.get_mut(conn).and_then(|connection| connection.rare.as_mut())
        else {
            return;
        };
        let was_on_hold = rare.holds.any();
        rare.holds.remove(hold);
        if was_on_hold && !rare.holds.any() {
            self.released.push_back(conn);
        }
    }

    /// Has the edge read again, if it was told not to.
    pub(super) fn resume_read(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else {
            return;
        };
        if let Some(rare) = &mut connection.rare
            && std::mem::take(&mut rare.read_paused)
        {
            actions.list.push(Action::ResumeRead { conn });
            connection.shed_rare();
        }
    }

    /// Adds bytes to those that are held; ends the connection instead and says `false` if they are too many.
    pub(super) fn keep_aside(&mut self, conn: ConnId, bytes: &[u8], actions: &mut Actions) -> bool {
        match self.check_room(conn, bytes.len()) {
            Ok(pooled_bytes) => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    let held = &mut connection.rare_mut().held;
                    self.held_bytes += bytes.len();
                    self.greeting_pool_bytes += pooled_bytes - held.pooled_bytes;
                    held.pooled_bytes = pooled_bytes;
                    held.bytes.extend_from_slice(bytes);
                }
                true
            }
            Err(refusal) => {
                self.refuse(conn, refusal, actions);
                false
            }
        }
    }

    /// How many bytes are drawn from the pool when `more_bytes` are added to what a connection holds.
    fn check_room(&self, conn: ConnId, more_bytes: usize) -> Result<usize, Refusal> {
        let Some(connection) = self.connections.get(conn) else {
            return Ok(0);
        };
        let (held_bytes, pooled_bytes) =
            connection.rare.as_ref().map_or((0, 0), |rare| (rare.held.bytes.len(), rare.held.pooled_bytes));
        let total_bytes = held_bytes + more_bytes;
        if connection.state == State::Connected {
            let packet_bytes_max = self.configs.limits(connection.config_epoch).packet_bytes_max as usize;
            return if total_bytes > packet_bytes_max.saturating_add(HELD_BYTES) {
                Err(Refusal::HeldBytes)
            } else {
                Ok(0)
            };
        }
        let drawn_bytes = total_bytes.saturating_sub(GREETING_BYTES);
        if self.greeting_pool_bytes - pooled_bytes + drawn_bytes > GREETING_POOL_BYTES {
            return Err(Refusal::ConnectMemory);
        }
        Ok(drawn_bytes)
    }

    /// Takes all held bytes out.
    pub(super) fn take_held(&mut self, conn: ConnId) -> Vec<u8> {
        let Some(connection) = self.connections.get_mut(conn) else {
            return Vec::new();
        };
        let Some(rare) = &mut connection.rare else {
            return Vec::new();
        };
        let held = std::mem::take(&mut rare.held);
        self.held_bytes -= held.bytes.len();
        self.greeting_pool_bytes -= held.pooled_bytes;
        connection.shed_rare();
        held.bytes
    }

    /// Puts bytes back that were taken out and are not processed.
    pub(super) fn put_back_held(&mut self, conn: ConnId, bytes: Vec<u8>, actions: &mut Actions) {
        if bytes.is_empty() {
            return;
        }
        match self.check_room(conn, bytes.len()) {
            Ok(pooled_bytes) => {
                if let Some(connection) = self.connections.get_mut(conn) {
                    self.held_bytes += bytes.len();
                    self.greeting_pool_bytes += pooled_bytes;
                    connection.rare_mut().held = Held { bytes, pooled_bytes };
                }
            }
            Err(refusal) => self.refuse(conn, refusal, actions),
        }
    }

    /// What a connection holds no longer counts against the pool: it is connected.
    pub(super) fn leave_pool(&mut self, conn: ConnId) {
        if let Some(rare) = self.connections.get_mut(conn).and_then(|connection| connection.rare.as_mut()) {
            self.greeting_pool_bytes -= std::mem::take(&mut rare.held.pooled_bytes);
        }
    }
}

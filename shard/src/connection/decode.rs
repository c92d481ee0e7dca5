//! From received bytes to packets: borrowed from the slice where a packet is whole, copied aside only while it is not, or
//! while packets have to wait.

use dunlin_wire::decoder::{self, Frame};
use dunlin_wire::types::{PacketType, Version};
use dunlin_wire::{DecodeError, Limits};

use super::{Connection, Refusal, Rule, State, rule};
use crate::action::Actions;
use crate::core::ShardCore;
use crate::ids::ConnId;
use crate::limits::CONNECT_BYTES_MAX;
use crate::metrics::Counter;

/// A whole packet among received bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// The packet: fixed header and body.
    pub(crate) packet: &'a [u8],
    /// Where the body begins.
    body_start: usize,
    /// What follows it in the same place.
    pub(crate) rest: &'a [u8],
    /// What follows that.
    pub(crate) after: &'a [u8],
}

impl Received<'_> {
    /// All bytes from the packet on, for the shard that will decode them again.
    pub(crate) fn to_unread(self) -> Vec<u8> {
        [self.packet, self.rest, self.after].concat()
    }
}

/// What becomes of the bytes after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// They are looked at.
    On,
    /// They wait.
    Hold,
    /// The connection is gone, or will be.
    Over,
}

impl ShardCore {
    /// Bytes came from a peer.
    pub(crate) fn on_bytes(&mut self, conn: ConnId, bytes: &[u8], actions: &mut Actions) {
        self.metrics.add(Counter::BytesReceived, bytes.len() as u64);
        self.take_bytes(conn, bytes, actions);
    }

    /// Takes all whole packets out of received bytes.
    pub(super) fn take_bytes(&mut self, conn: ConnId, bytes: &[u8], actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else {
            self.metrics.count(Counter::EventsLate);
            return;
        };
        let nothing_held = connection.rare.as_ref().is_none_or(|rare| rare.held.bytes.is_empty());
        let on_hold = connection.is_on_hold();
        if on_hold {
            self.keep_aside(conn, bytes, actions);
        } else if nothing_held {
            self.take_all(conn, bytes, actions);
        } else {
            self.complete_held(conn, bytes, actions);
        }
    }

    /// Goes on with packets that waited, after the last reason to wait is gone.
    pub(crate) fn go_on(&mut self, conn: ConnId, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else {
            return;
        };
        if connection.is_on_hold() || connection.state == State::Closing {
            return;
        }
        let mut bytes = self.take_held(conn);
        let (taken, next) = self.take_whole(conn, &bytes, &[], actions);
        if next == Next::Over {
            return;
        }
        bytes.drain(..taken);
        self.put_back_held(conn, bytes, actions);
        if next == Next::On {
            self.resume_read(conn, actions);
        }
    }

    /// Takes what a client sent before it went and what had to wait for room: its last messages and its goodbye. Nothing
    /// is sent to it. Behind a question to a hook nothing can be taken: those bytes are lost and counted.
    pub(super) fn take_last_packets(&mut self, conn: ConnId, actions: &mut Actions) {
        let start = actions.list.len();
        let mut bytes = self.take_held(conn);
        while self.lift_room_holds(conn) {
            let (taken, next) = self.take_whole(conn, &bytes, &[], actions);
            bytes.drain(..taken);
            if next != Next::Hold {
                break;
            }
        }
        self.metrics.add(Counter::ConnectionsUnprocessedBytes, bytes.len() as u64);
        let last = actions.list.split_off(start);
        actions.list.extend(last.into_iter().filter(|action| action.conn() != Some(conn)));
    }

    /// Takes packets from the slice; what is left is copied aside.
    fn take_all(&mut self, conn: ConnId, bytes: &[u8], actions: &mut Actions) {
        let (taken, next) = self.take_whole(conn, bytes, &[], actions);
        if next != Next::Over && taken < bytes.len() {
            self.keep_aside(conn, &bytes[taken..], actions);
        }
    }

    /// Adds just the bytes to what is held that make a whole packet of it, takes it, and goes on with the slice: a stream
    /// of packets that ends in the middle of one costs the copy of one packet, not of all.
    fn complete_held(&mut self, conn: ConnId, bytes: &[u8], actions: &mut Actions) {
        let mut after = bytes;
        loop {
            let missing = self.missing_bytes(conn);
            if missing == 0 {
                break;
            }
            let (more, rest) = after.split_at(missing.min(after.len()));
            if more.is_empty() || !self.keep_aside(conn, more, actions) {
                return;
            }
            after = rest;
        }
        let held = self.take_held(conn);
        let (_, next) = self.take_whole(conn, &held, after, actions);
        match next {
            Next::On => self.take_all(conn, after, actions),
            Next::Hold => {
                self.keep_aside(conn, after, actions);
            }
            Next::Over => {}
        }
    }

    /// How many bytes the packet that is held lacks at least; 0 if it is whole or was found to be broken.
    fn missing_bytes(&self, conn: ConnId) -> usize {
        let Some(connection) = self.connections.get(conn) else {
            return 0;
        };
        let Some(rare) = &connection.rare else {
            return 0;
        };
        let bytes_max = self.limits_of(connection).packet_bytes_max;
        match decoder::frame_of(framing_version(connection), &rare.held.bytes, bytes_max) {
            Ok(Frame::Incomplete { needed_hint: Some(total) }) => {
                total.saturating_sub(rare.held.bytes.len()).max(1)
            }
            Ok(Frame::Incomplete { needed_hint: None }) => 1,
            Ok(Frame::Whole { .. }) | Err(_) => 0,
        }
    }

    /// Takes whole packets from the slice; tells how many bytes they were. `after` is what follows the slice.
    fn take_whole(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        after: &[u8],
        actions: &mut Actions,
    ) -> (usize, Next) {
        let mut taken = 0;
        loop {
            let Some(connection) = self.connections.get(conn) else {
                return (taken, Next::Over);
            };
            if connection.state == State::Closing {
                return (taken, Next::Over);
            }
            if connection.is_on_hold() {
                return (taken, Next::Hold);
            }
            let limits = self.limits_of(connection);
            let left = &bytes[taken..];
            match decoder::frame_of(framing_version(connection), left, limits.packet_bytes_max) {
                Ok(Frame::Whole { body_range, total_bytes, .. }) => {
                    let (packet, rest) = left.split_at(total_bytes);
                    let received = Received { packet, body_start: body_range.start, rest, after };
                    self.take_frame(conn, received, &limits, actions);
                    taken += total_bytes;
                }
                Ok(Frame::Incomplete { .. }) => return (taken, self.check_beginning(conn, left, actions)),
                Err(error) => {
                    self.refuse_bytes(conn, left, error, actions);
                    return (taken, Next::Over);
                }
            }
        }
    }

    /// Refuses the beginning of a packet that its state does not take, before the rest of it is waited for.
    fn check_beginning(&mut self, conn: ConnId, bytes: &[u8], actions: &mut Actions) -> Next {
        let Some((connection, first_byte)) = self.connections.get(conn).zip(bytes.first()) else {
            return Next::On;
        };
        let Some(packet_type) = PacketType::from_first_byte(*first_byte) else {
            return Next::On;
        };
        match rule(connection.state, packet_type, connection.version) {
            Rule::Take | Rule::Wait | Rule::Ignore => Next::On,
            Rule::Refuse(refusal) => {
                self.refuse(conn, refusal, actions);
                Next::Over
            }
        }
    }

    /// Decodes a whole packet and takes it, if the state of the connection does.
    fn take_frame(&mut self, conn: ConnId, received: Received<'_>, limits: &Limits, actions: &mut Actions) {
        let Some((connection, first_byte)) = self.connections.get_mut(conn).zip(received.packet.first())
        else {
            return;
        };
        let (state, version) = (connection.state, connection.version);
        if state != State::Greeting {
            connection.heard_at = self.now.mono;
        }
        let Some(packet_type) = PacketType::from_first_byte(*first_byte) else {
            return;
        };
        match rule(state, packet_type, version) {
            Rule::Take => {}
            Rule::Wait | Rule::Ignore => return,
            Rule::Refuse(refusal) => {
                self.refuse(conn, refusal, actions);
                return;
            }
        }
        match decoder::decode(version, *first_byte, &received.packet[received.body_start..], limits) {
            Ok(packet) => {
                // A CONNECT counts at its home.
                if packet_type != PacketType::Connect {
                    self.metrics.count_received(packet_type);
                }
                self.take_packet(conn, &packet, received, actions);
            }
            Err(error) => self.refuse_bytes(conn, received.packet, error, actions),
        }
    }

    /// Ends a connection whose bytes are not a packet.
    ///
    /// [MQTT5-3.1.4-1] [MQTT311-3.1.4-1] [MQTT5-4.13.1-1] [MQTT311-4.8.0-1]
    fn refuse_bytes(&mut self, conn: ConnId, bytes: &[u8], error: DecodeError, actions: &mut Actions) {
        if let Some(connection) = self.connections.get_mut(conn) {
            if connection.state == State::Greeting {
                connection.version = version_to_answer(bytes);
            }
            self.refuse(conn, Refusal::from(error), actions);
        }
    }

    /// What the decoder takes from a connection in its state: no packet above the size it was told. `[MQTT5-3.2.2-15]`
    fn limits_of(&self, connection: &Connection) -> Limits {
        let limits = *self.configs.limits(connection.config_epoch);
        match connection.state {
            State::Greeting | State::Authenticating | State::Exchanging => {
                Limits { packet_bytes_max: limits.packet_bytes_max.min(CONNECT_BYTES_MAX), ..limits }
            }
            State::Connected | State::Closing => limits,
        }
    }
}

/// By which version's rules packets are framed: the strictest before CONNECT tells.
fn framing_version(connection: &Connection) -> Version {
    if connection.state == State::Greeting { Version::V5 } else { connection.version }
}

/// The version in which a CONNECT that could not be decoded is answered: the one it names, the nearest if there is no such
/// version, and 3.1.1 where nothing can be read.
fn version_to_answer(packet: &[u8]) -> Version {
    let length_bytes = packet.iter().skip(1).take(4).take_while(|byte| **byte >= 0x80).count() + 1;
    let Some([name_high, name_low, rest @ ..]) = packet.get(1 + length_bytes..) else {
        return Version::V311;
    };
    let name_bytes = usize::from(u16::from_be_bytes([*name_high, *name_low]));
    match (rest.get(..name_bytes), rest.get(name_bytes)) {
        (Some(b"MQTT"), Some(5..=0x7F)) => Version::V5,
        (Some(b"MQIsdp"), Some(_)) => Version::V31,
        _ => Version::V311,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_to_answer_is_read_from_any_bytes() {
        assert_eq!(version_to_answer(b"\x10\x20\x00\x04MQTT\x05"), Version::V5);
        assert_eq!(version_to_answer(b"\x10\x20\x00\x04MQTT\x09"), Version::V5);
        assert_eq!(version_to_answer(b"\x10\x80\x01\x00\x04MQTT\x05"), Version::V5);
        assert_eq!(version_to_answer(b"\x10\x20\x00\x04MQTT\x04"), Version::V311);
        assert_eq!(version_to_answer(b"\x10\x20\x00\x04MQTT\x02"), Version::V311);
        assert_eq!(version_to_answer(b"\x10\x20\x00\x06MQIsdp\x09"), Version::V31);
        let whole = b"\x10\x80\x80\x00\x00\x04MQTT\x05";
        for end in 0..whole.len() {
            assert_eq!(version_to_answer(&whole[..end]), Version::V311);
        }
    }
}

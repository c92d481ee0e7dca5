//! Clients that break the standard on purpose, one thing per connection, and expect the broker to end it.

use std::collections::VecDeque;

use dunlin_wire::Version;

use super::agenda::{Entry, Errand};
use super::cast::{Cast, GroupCast, MemberId, Side};
use super::timetable::{NEVER, Timetable};
use super::{Fleet, Phase};
use crate::client::Notice;
use crate::clock::{Nanos, SECOND_NS};
use crate::dice::Dice;
use crate::engine::Outbox;
use crate::plan::{Behaviour, Factor, Malformation};
use crate::record::Violation;

/// The groups that send what no client may send.
#[derive(Debug, Default)]
pub(crate) struct Tricks {
    troupes: Vec<Troupe>,
    /// Malformed packets that were sent.
    pub(crate) played: u64,
    /// Of those, ended by the broker as they should be.
    pub(crate) ended: u64,
}

/// One such group.
#[derive(Debug)]
struct Troupe {
    number: u16,
    table: Timetable,
    /// Clients that have no connection, the longest idle first.
    idle: VecDeque<MemberId>,
    next_kind: u8,
}

impl Fleet<'_> {
    /// Begins a group, if it is such a one.
    pub(super) fn start_tricks(&mut self, group: GroupCast<'_>, now: Nanos) {
        let Behaviour::Malformed { rate, .. } = &group.plan.behaviour else { return };
        let seed = u64::from(self.dice.roll());
        let mut table = Timetable::new(rate.per_second(), crate::plan::Arrivals::Constant, Dice::new(seed));
        table.set_factor(Factor::constant(1.0), 0.0, now);
        let idle = Cast::members(group).collect();
        self.tricks.troupes.push(Troupe { number: group.number, table, idle, next_kind: 0 });
    }

    /// Opens the connections that are due; returns when the next is.
    pub(super) fn send_tricks(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        let mut wake_at = NEVER;
        for number in 0..self.tricks.troupes.len() {
            let troupe = &mut self.tricks.troupes[number];
            if self.teams[usize::from(troupe.number)].is_stopped || self.is_ending {
                continue;
            }
            let group = self.cast.groups()[usize::from(troupe.number)];
            let Behaviour::Malformed { kinds, .. } = &group.plan.behaviour else { continue };
            while let Some(intended) = self.tricks.troupes[number].table.take_due(now) {
                let troupe = &mut self.tricks.troupes[number];
                // With none idle all wait for the broker; the next turn is theirs.
                let Some(member) = troupe.idle.pop_front() else { continue };
                let kind = troupe.next_kind;
                troupe.next_kind = (kind + 1) % u8::try_from(kinds.len().max(1)).unwrap_or(1);
                self.member_mut(member).trick = kind;
                self.begin(member, Side::First, intended, now, outbox);
            }
            wake_at = wake_at.min(self.tricks.troupes[number].table.due_at());
        }
        wake_at
    }

    fn trick_of(&self, member: MemberId) -> Malformation {
        let group = self.group(member);
        let Behaviour::Malformed { kinds, .. } = &group.plan.behaviour else { return Malformation::Garbage };
        kinds.get(usize::from(self.member(member).trick)).copied().unwrap_or(Malformation::Garbage)
    }

    /// The connection is up: what comes first?
    pub(super) fn play_trick(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let kind = self.trick_of(member);
        if comes_first(kind) {
            self.write_trick(member, kind, outbox);
        } else {
            self.greet(member, now, outbox);
        }
        let keep_alive = u64::from(self.group(member).plan.keep_alive_seconds());
        let patience = match kind {
            // Only silence ends this one: one and a half times the Keep Alive.
            Malformation::Truncated => PATIENCE_NS + keep_alive * SECOND_NS * 3 / 2,
            Malformation::Garbage
            | Malformation::PublishFirst
            | Malformation::SecondConnect
            | Malformation::ReservedFlags
            | Malformation::RemainingLength
            | Malformation::QosThree
            | Malformation::WildcardTopic
            | Malformation::BadUtf8
            | Malformation::EmptySubscribe => PATIENCE_NS,
        };
        let life = self.member(member).life;
        self.agenda.add(Entry { at: now.after(patience), member, life, errand: Errand::GiveUp });
    }

    /// The broker has said something: to the greeting, or, if it goes on after the trick, the proof that it tolerates it.
    pub(super) fn on_trick_notice(
        &mut self,
        member: MemberId,
        notice: &Notice<'_>,
        now: Nanos,
        outbox: &mut Outbox,
    ) {
        let phase = self.member(member).phase;
        match notice {
            Notice::Connected { code, .. } if phase == Phase::Greeting && !code.is_error() => {
                let kind = self.trick_of(member);
                if kind == Malformation::SecondConnect {
                    self.greet(member, now, outbox);
                    self.member_mut(member).phase = Phase::Up;
                    self.tricks.played += 1;
                } else if !comes_first(kind) {
                    self.write_trick(member, kind, outbox);
                }
            }
            // It says that it will not have it, and is to close next.
            Notice::Connected { code, .. } | Notice::Disconnected { code } if code.is_error() => {}
            Notice::Nothing => {}
            Notice::Connected { .. }
            | Notice::Disconnected { .. }
            | Notice::Delivered { .. }
            | Notice::Published { .. }
            | Notice::Refused { .. }
            | Notice::Subscribed { .. }
            | Notice::Unsubscribed { .. }
            | Notice::Pong => {
                if phase == Phase::Up {
                    self.tolerated(member, "was answered as if nothing were wrong", outbox);
                }
            }
        }
    }

    fn write_trick(&mut self, member: MemberId, kind: Malformation, outbox: &mut Outbox) {
        let version = self.group(member).plan.protocol;
        let conn = self.conn(member);
        malformed_bytes(kind, version, &mut self.dice, outbox.buffer(conn));
        self.member_mut(member).phase = Phase::Up;
        self.tricks.played += 1;
    }

    /// The broker has ended the connection.
    pub(super) fn trick_worked(&mut self, member: MemberId, _now: Nanos) {
        match self.member(member).phase {
            Phase::Up => self.tricks.ended += 1,
            Phase::Greeting => {
                let name = self.cast.name(member);
                let what = format_args!("{name}: ended by the broker before anything wrong was sent");
                self.findings.connection("connection ended before CONNACK", what, &mut self.recorder);
            }
            Phase::Idle
            | Phase::Opening
            | Phase::Subscribing
            | Phase::Silent
            | Phase::Leaving
            | Phase::Away
            | Phase::Stopped
            | Phase::Lost => {}
        }
        self.rest(member);
    }

    /// The broker has not ended the connection in time.
    pub(super) fn trick_failed(&mut self, member: MemberId, _now: Nanos, outbox: &mut Outbox) {
        match self.member(member).phase {
            Phase::Up => self.tolerated(member, "left the connection open", outbox),
            Phase::Greeting => {
                let name = self.cast.name(member);
                let what = format_args!("{name}: no CONNACK within {} s", PATIENCE_NS / SECOND_NS);
                self.findings.connection("CONNECT was not answered", what, &mut self.recorder);
                outbox.close(self.conn(member));
                self.rest(member);
            }
            Phase::Idle
            | Phase::Opening
            | Phase::Subscribing
            | Phase::Silent
            | Phase::Leaving
            | Phase::Away
            | Phase::Stopped
            | Phase::Lost => {}
        }
    }

    /// The broker lives with what it must not live with.
    fn tolerated(&mut self, member: MemberId, how: &str, outbox: &mut Outbox) {
        let kind = self.trick_of(member);
        let name = self.cast.name(member);
        self.findings.violation(Violation::MalformedTolerated, 1, &mut self.recorder, || {
            format!("{} of {name} {how}", kind.name())
        });
        outbox.close(self.conn(member));
        self.rest(member);
    }

    /// Tricks of groups that were stopped whose end is still awaited. Each has its bounded time.
    pub(super) fn tricks_under_way(&self) -> u64 {
        let stopped =
            self.tricks.troupes.iter().filter(|troupe| self.teams[usize::from(troupe.number)].is_stopped);
        let under_way = stopped.map(|troupe| {
            let count = self.cast.groups()[usize::from(troupe.number)].count;
            u64::from(count).saturating_sub(troupe.idle.len() as u64)
        });
        under_way.sum()
    }

    /// The run ends: nobody waits for the end of a trick any more.
    pub(super) fn break_off(&mut self, member: MemberId, outbox: &mut Outbox) {
        if matches!(self.member(member).phase, Phase::Up | Phase::Greeting) {
            outbox.close(self.conn(member));
            self.rest(member);
        }
    }

    /// Until its next turn.
    fn rest(&mut self, member: MemberId) {
        self.member_mut(member).phase = Phase::Away;
    }

    /// The connection is quite gone: the client may have another turn.
    pub(super) fn trick_over(&mut self, member: MemberId) {
        let number = self.group(member).number;
        self.member_mut(member).phase = Phase::Idle;
        if let Some(troupe) = self.tricks.troupes.iter_mut().find(|troupe| troupe.number == number) {
            troupe.idle.push_back(member);
        }
    }
}

/// Whether it stands where CONNECT should.
const fn comes_first(kind: Malformation) -> bool {
    matches!(kind, Malformation::Garbage | Malformation::PublishFirst)
}

/// Writes what no client may send.
fn malformed_bytes(kind: Malformation, version: Version, dice: &mut Dice, out: &mut Vec<u8>) {
    // The length of the properties, which MQTT 5 wants.
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let publish = |first: u8, topic: &[u8], out: &mut Vec<u8>| {
        let body = [&[0, u8::try_from(topic.len()).unwrap_or(0)], topic, &[0, 7], properties, b"x"].concat();
        // QoS 0 has no packet id, so its two bytes are payload there.
        out.extend_from_slice(&[first, u8::try_from(body.len()).unwrap_or(0)]);
        out.extend_from_slice(&body);
    };
    match kind {
        Malformation::Garbage => {
            // Any packet type but CONNECT, whole, so that nobody waits for the rest.
            let other = 2 + dice.below(14);
            out.extend_from_slice(&[u8::try_from(other << 4).unwrap_or(0xF0), 60]);
            out.extend((0..60).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)));
        }
        Malformation::PublishFirst => publish(0x32, b"a", out),
        // Written by the caller, who knows how to greet.
        Malformation::SecondConnect => {}
        Malformation::ReservedFlags => {
            // 3.1 says nothing about flags that are not used; there the packet type itself is the reserved one.
            let kind = if version == Version::V31 { 0x00 } else { 0xC0 };
            let flags = 1 + u8::try_from(dice.below(15)).unwrap_or(0);
            out.extend_from_slice(&[kind | flags, 0]);
        }
        Malformation::RemainingLength => out.extend_from_slice(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
        Malformation::QosThree => publish(0x36, b"a", out),
        Malformation::WildcardTopic => {
            publish(0x32, if dice.below(2) == 0 { b"a/+".as_slice() } else { b"a/#" }, out);
        }
        Malformation::BadUtf8 => publish(0x32, &[0xC3, 0x28], out),
        Malformation::EmptySubscribe => {
            let body = [&[0, 7], properties].concat();
            out.extend_from_slice(&[0x82, u8::try_from(body.len()).unwrap_or(2)]);
            out.extend_from_slice(&body);
        }
        Malformation::Truncated => out.extend_from_slice(&[0x32, 100, 0, 1, b'a']),
    }
}

/// How long the broker may take to end the connection.
const PATIENCE_NS: u64 = 10 * SECOND_NS;

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_wire::{Limits, decode_one};

    #[test]
    fn a_server_can_take_none_of_it() {
        let mut dice = Dice::new(3);
        for version in [Version::V31, Version::V311, Version::V5] {
            for kind in Malformation::ALL {
                for _ in 0..50 {
                    let mut out = Vec::new();
                    malformed_bytes(kind, version, &mut dice, &mut out);
                    let decoded = decode_one(&out, version, &Limits::SERVER);
                    match kind {
                        // Wrong only because nothing may come before CONNECT.
                        Malformation::PublishFirst => assert!(decoded.is_ok()),
                        Malformation::Garbage => assert_ne!(out[0] >> 4, 1),
                        Malformation::SecondConnect => assert!(out.is_empty()),
                        Malformation::Truncated => assert!(matches!(decoded, Ok(None))),
                        Malformation::ReservedFlags
                        | Malformation::RemainingLength
                        | Malformation::QosThree
                        | Malformation::WildcardTopic
                        | Malformation::BadUtf8
                        | Malformation::EmptySubscribe => {
                            assert!(decoded.is_err(), "{kind:?} {version:?}: {out:?}");
                        }
                    }
                }
            }
        }
    }
}

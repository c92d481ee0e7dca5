//! What comes over the connections: packets as notices, messages into the oracle's books.

use dunlin_ring::Errno;
use dunlin_wire::{QoS, ReasonCode};

use super::cast::{Cast, MemberId};
use super::ledger::{Arrival, Kind, RouteId};
use super::postmark::Postmark;
use super::{Flag, Fleet, Phase};
use crate::client::{Fault, Mark, Notice};
use crate::clock::{Nanos, SECOND_NS};
use crate::engine::{ConnId, Outbox, Script};
use crate::fleet::agenda::{Entry, Errand};
use crate::plan::Behaviour;
use crate::record::{Leg, Violation};

/// A message as it came.
struct Message<'packet> {
    topic: &'packet str,
    payload: &'packet [u8],
    mark: Mark,
}

impl Script for Fleet<'_> {
    fn leg(&mut self, conn: ConnId, leg: Leg, now: Nanos) {
        let (member, side) = self.cast.member_of(conn);
        if self.is_live(member, side) {
            let state = self.member(member);
            // Only the first leg can be late; the others begin when the one before is done.
            let is_first = leg == Leg::TcpConnect && state.tries <= 1;
            let intended = if is_first { state.intended } else { state.since };
            self.recorder.time(leg, intended, state.since, now);
        }
    }

    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, now: Nanos, outbox: &mut Outbox) {
        let (member, side) = self.cast.member_of(conn);
        let is_meant = self.is_live(member, side) && self.member(member).phase == Phase::Opening;
        let group = self.group(member);
        match result {
            Ok(()) if is_meant && !self.team(group).is_stopped => self.on_opened(member, now, outbox),
            // Its group was stopped while it was on its way.
            Ok(()) => outbox.close(conn),
            Err(errno) if is_meant => self.on_refused(member, errno, now),
            Err(_) => {}
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize {
        let (member, side) = self.cast.member_of(conn);
        let phase = self.member(member).phase;
        // A connection that was taken over, fell silent, or said goodbye in a broken session is not listened to.
        if !self.is_live(member, side) || matches!(phase, Phase::Silent | Phase::Away | Phase::Stopped) {
            return bytes.len();
        }
        let mut used = 0;
        loop {
            let taken = self.clients[member.index()].take(&bytes[used..], || outbox.buffer(conn));
            match taken {
                Ok(Some((notice, length))) => {
                    used += length;
                    self.on_notice(member, &notice, now, outbox);
                }
                Ok(None) => break,
                Err(fault) => {
                    // To nonsense any answer will do, as long as the connection ends.
                    if !matches!(self.group(member).plan.behaviour, Behaviour::Malformed { .. }) {
                        self.on_fault(member, fault, now, outbox);
                    }
                    return bytes.len();
                }
            }
        }
        if let Behaviour::SlowReader { bytes_per_second } = self.group(member).plan.behaviour {
            let pause = used as u64 * SECOND_NS / u64::from(bytes_per_second.max(1));
            self.pause(member, now.after(pause), outbox);
        }
        used
    }

    fn ended(&mut self, conn: ConnId, errno: Option<Errno>, now: Nanos, _outbox: &mut Outbox) {
        let (member, side) = self.cast.member_of(conn);
        self.on_ended(member, side, errno, now);
    }

    fn freed(&mut self, conn: ConnId, now: Nanos, outbox: &mut Outbox) {
        let (member, side) = self.cast.member_of(conn);
        self.on_freed(member, side, now, outbox);
    }
}

impl Fleet<'_> {
    fn on_notice(&mut self, member: MemberId, notice: &Notice<'_>, now: Nanos, outbox: &mut Outbox) {
        if matches!(self.group(member).plan.behaviour, Behaviour::Malformed { .. }) {
            self.on_trick_notice(member, notice, now, outbox);
            return;
        }
        match *notice {
            Notice::Connected { code, session_present } => {
                self.on_connack(member, code, session_present, now, outbox);
            }
            Notice::Delivered { topic, payload, mark } => {
                self.on_message(member, &Message { topic, payload, mark }, now, outbox);
            }
            Notice::Published { ticket } => self.on_published(member, ticket, now, outbox),
            Notice::Refused { ticket, code } => self.on_publish_refused(member, ticket, code, now, outbox),
            Notice::Subscribed { count, refused } => self.on_suback(member, count, refused, now, outbox),
            Notice::Pong => {
                self.member_mut(member).clear(Flag::Pinged);
                self.first_word(member, now);
            }
            Notice::Disconnected { code } => self.on_disconnect(member, code),
            Notice::Unsubscribed { .. } | Notice::Nothing => {}
        }
    }

    /// A message has come: whose is it, and may it be here?
    fn on_message(&mut self, member: MemberId, message: &Message<'_>, now: Nanos, outbox: &mut Outbox) {
        let Message { topic, payload, mark } = *message;
        self.first_word(member, now);
        let Some(post) = Postmark::read(payload, &mut self.scratch) else {
            self.on_unknown(member, topic, payload, "its payload is damaged, or not of this tool");
            return;
        };
        if post.run != self.run {
            let group = self.group(member);
            let may_have_queued = Cast::keeps_session(group.plan) && !group.plan.clean_start;
            if mark.retain || may_have_queued {
                // Retained, or queued in a session, by an earlier run.
                self.foreign += 1;
            } else {
                self.on_unknown(member, topic, payload, "it is of another run");
            }
            return;
        }
        let topic_hash = super::interests::hash_text(topic.as_bytes());
        let Some(route) = self.ledger.route(post.route).filter(|route| route.new.topic_hash == topic_hash)
        else {
            self.on_unknown(member, topic, payload, "it came under another topic than it was sent to");
            return;
        };
        let new = route.new;
        let shares = self.shares_of.get(&member);
        let in_share = |id| shares.is_some_and(|shares| shares.contains(&id));
        let arrival = self.ledger.arrived(member, post.route, post.sequence, mark, in_share);
        let counts = match arrival {
            Arrival::First | Arrival::Wrong(_, true) => true,
            Arrival::Replayed | Arrival::Wrong(_, false) => false,
            Arrival::Again => {
                self.recorder.counters().redelivered += 1;
                false
            }
        };
        if let Arrival::Wrong(kind, _) = arrival {
            self.note_violation(kind, member, post.route, post.sequence, topic);
        }
        if !counts {
            return;
        }
        self.recorder.delivered();
        if new.kind == Kind::Will {
            return;
        }
        // How long a message lies before a slow reader is the reader's doing.
        if !self.is_indulged(self.group(member)) {
            self.recorder.time(Leg::Deliver, post.intended, post.written, now);
        }
        let number = self.outlets_of(new.publisher).start + usize::from(new.entry);
        if self.outlets[number].advance(new.publisher, post.ticket) {
            self.loop_on(number, new.publisher, now, outbox);
        }
    }

    #[cold]
    fn on_unknown(&mut self, member: MemberId, topic: &str, payload: &[u8], what: &str) {
        // Topics of the broker itself carry what it likes.
        if topic.starts_with('$') {
            return;
        }
        let name = self.cast.name(member);
        self.findings.violation(Violation::Corrupted, 1, &mut self.recorder, || {
            format!("a message of {} bytes came to {name} on {topic:?}: {what}", payload.len())
        });
    }

    #[cold]
    fn note_violation(
        &mut self,
        kind: Violation,
        member: MemberId,
        route: RouteId,
        sequence: u32,
        topic: &str,
    ) {
        let name = self.cast.name(member);
        let from = self.ledger.route(route).map(|route| self.cast.name(route.new.publisher));
        self.findings.violation(kind, 1, &mut self.recorder, || {
            let from = from.unwrap_or_default();
            let how = match kind {
                Violation::Duplicated => "came again to",
                Violation::Reordered => "came after a later one to",
                Violation::Misdelivered => "came, without a subscription that matches, to",
                Violation::StaleRetained => "was replaced and acknowledged before it came as retained to",
                Violation::SharedTwice => "had come to another member of the shared subscription of",
                Violation::WillUnexpected => "is a will that should not have been published, and came to",
                Violation::Corrupted => "was never sent, and came to",
                Violation::Lost
                | Violation::MissingRetained
                | Violation::SharedNever
                | Violation::WillMissing
                | Violation::SessionWrong
                | Violation::MalformedTolerated => "concerns",
            };
            format!("message {sequence} of {from} on {topic:?} {how} {name}")
        });
    }

    /// The broker has taken over a message.
    fn on_published(&mut self, member: MemberId, ticket: u32, now: Nanos, outbox: &mut Outbox) {
        let Some(slip) = self.slips.take(ticket) else { return };
        let number = slip.outlet as usize;
        self.outlets[number].unacknowledged -= 1;
        self.recorder.counters().acknowledged += 1;
        let leg = if self.outlets[number].qos() == QoS::AtLeastOnce { Leg::PubAck } else { Leg::PubComp };
        self.recorder.time(leg, slip.intended, slip.written, now);
        self.ledger.acknowledged(slip.route, slip.sequence);
        if self.outlets[number].is_holding(member) {
            self.release(number, member, now, outbox);
        }
        if self.outlets[number].advance(slip.member, slip.ticket) {
            self.loop_on(number, slip.member, now, outbox);
        }
    }

    /// The broker does not take a message.
    fn on_publish_refused(
        &mut self,
        member: MemberId,
        ticket: u32,
        code: ReasonCode,
        now: Nanos,
        outbox: &mut Outbox,
    ) {
        let Some(slip) = self.slips.take(ticket) else { return };
        let number = slip.outlet as usize;
        self.outlets[number].unacknowledged -= 1;
        self.ledger.excuse(slip.route);
        let name = self.cast.name(member);
        let reason = format!("message refused: {code:?}");
        self.recorder.fail(&reason, format_args!("{name}: {reason}"));
        if self.outlets[number].advance(slip.member, slip.ticket) {
            self.loop_on(number, slip.member, now, outbox);
        }
    }

    fn on_disconnect(&mut self, member: MemberId, code: ReasonCode) {
        // The connection ends next, which is what counts; here is only the reason.
        if self.member(member).is_connected() && !self.awaits_fall {
            let name = self.cast.name(member);
            let reason = format!("disconnected by the broker: {code:?}");
            self.findings.connection(&reason, format_args!("{name}: {reason}"), &mut self.recorder);
        }
    }

    fn on_fault(&mut self, member: MemberId, fault: Fault, now: Nanos, outbox: &mut Outbox) {
        let name = self.cast.name(member);
        self.recorder.fail("the broker broke the protocol", format_args!("{name}: {fault}"));
        self.unhurry(member);
        outbox.close(self.conn(member));
        self.lay_down(member, super::going::How::Unclear, now);
        self.member_mut(member).phase = Phase::Lost;
    }

    /// Reads no more until this time.
    fn pause(&mut self, member: MemberId, until: Nanos, outbox: &mut Outbox) {
        if self.is_up(member) {
            outbox.pause(self.conn(member));
            let life = self.member(member).life;
            self.agenda.add(Entry { at: until, member, life, errand: Errand::ReadOn });
        }
    }
}

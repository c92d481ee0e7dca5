//! Connections that go: in order, torn, fallen silent, taken over, or ended by the broker.

use super::agenda::{Entry, Errand};
use super::cast::{Cast, MemberId, Side};
use super::ledger::Extent;
use super::{Flag, Fleet, Phase};
use crate::clock::{MILLISECOND_NS, Nanos, SECOND_NS};
use crate::engine::Outbox;
use crate::plan::{Behaviour, Leave};

/// How a connection goes, as far as the books care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With DISCONNECT: no will.
    InOrder,
    /// Without a word of ours: the will is published.
    Torn,
    /// The broker's doing, or the client fell silent: when and whether the will comes is the broker's.
    Unclear,
}

impl Fleet<'_> {
    /// A client leaves as its group's lifecycle says.
    pub(super) fn leave(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let Some(lifecycle) = self.group(member).plan.lifecycle else { return };
        if !self.is_up(member) {
            return;
        }
        let back_at = now.after(lifecycle.offline.draw_ns(&mut self.dice));
        let life = self.member(member).life;
        let conn = self.conn(member);
        match lifecycle.leave {
            Leave::Disconnect => self.say_goodbye(member, now, outbox),
            Leave::Drop => {
                outbox.close(conn);
                self.lay_down(member, How::Torn, now);
                self.member_mut(member).phase = Phase::Away;
            }
            Leave::HalfOpen => self.fall_silent(member, now, outbox),
            Leave::Takeover => {
                self.take_over(member, now, outbox);
                return;
            }
        }
        self.agenda.add(Entry { at: back_at, member, life, errand: Errand::Connect });
    }

    /// Writes DISCONNECT and waits for the broker to close.
    pub(super) fn say_goodbye(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let conn = self.conn(member);
        self.clients[member.index()].disconnect(outbox.buffer(conn));
        self.lay_down(member, How::InOrder, now);
        let state = self.member_mut(member);
        state.phase = Phase::Leaving;
        let life = state.life;
        self.agenda.add(Entry { at: now.after(GOODBYE_NS), member, life, errand: Errand::GiveUp });
    }

    /// Reads nothing and sends nothing from now on.
    pub(super) fn fall_silent(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        if !self.is_up(member) {
            return;
        }
        outbox.pause(self.conn(member));
        let group = self.group(member);
        // It stays connected, for all that its group is asked.
        self.team(group).silent += 1;
        self.member_mut(member).set(Flag::Silenced);
        self.settle_books(member, How::Unclear);
        self.uncount_up(member);
        self.member_mut(member).phase = Phase::Silent;
        self.member_mut(member).began = now;
    }

    /// Loses its connection as a storm wants it, and comes back as its group's `reconnect` says.
    pub(super) fn fall(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        if !matches!(self.member(member).phase, Phase::Up | Phase::Subscribing | Phase::Silent) {
            return;
        }
        outbox.close(self.conn(member));
        self.lay_down(member, How::Torn, now);
        self.come_back(member, now);
    }

    /// Opens a second connection with the same client id while the first is up.
    fn take_over(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let side = self.member(member).side();
        if self.member(member).is_busy(side.other()) {
            // The connection before the last is not quite gone; the next one waits a little.
            let life = self.member(member).life;
            let at = now.after(100 * MILLISECOND_NS);
            self.agenda.add(Entry { at, member, life, errand: Errand::Leave });
            return;
        }
        self.lay_down(member, How::Unclear, now);
        self.begin(member, side.other(), now, now, outbox);
        let life = self.member(member).life;
        self.agenda.add(Entry { at: now.after(TAKEOVER_NS), member, life, errand: Errand::GiveUp });
    }

    /// What was waited for has not come.
    pub(super) fn give_up(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let side = self.member(member).side();
        let group = self.group(member);
        if matches!(group.plan.behaviour, Behaviour::Malformed { .. }) {
            self.trick_failed(member, now, outbox);
            return;
        }
        if self.member(member).phase == Phase::Leaving {
            outbox.close(self.conn(member));
        }
        let takes_over = group.plan.lifecycle.is_some_and(|life| life.leave == Leave::Takeover);
        if takes_over && self.member(member).is_busy(side.other()) {
            let name = self.cast.name(member);
            let what = format_args!("{name}: the first connection is still open after the second took over");
            self.findings.connection("takeover left a connection open", what, &mut self.recorder);
            outbox.close(self.cast.conn(member, side.other()));
        }
    }

    /// A connection has ended, and not by our doing.
    pub(super) fn on_ended(
        &mut self,
        member: MemberId,
        side: Side,
        errno: Option<dunlin_ring::Errno>,
        now: Nanos,
    ) {
        if !self.is_live(member, side) {
            return;
        }
        let group = self.group(member);
        if matches!(group.plan.behaviour, Behaviour::Malformed { .. }) {
            self.trick_worked(member, now);
            return;
        }
        let phase = self.member(member).phase;
        match phase {
            Phase::Opening | Phase::Greeting | Phase::Subscribing | Phase::Up => {}
            Phase::Silent => {
                // What a client that never answers has to expect. A group that is made for it has come as far as it
                // is to come, so its counts stay.
                if matches!(group.plan.behaviour, Behaviour::HalfOpen { .. }) {
                    self.member_mut(member).clear(Flag::Counted);
                    self.recorder.disconnected();
                } else {
                    self.lay_down(member, How::Unclear, now);
                }
                self.member_mut(member).phase = Phase::Away;
                return;
            }
            Phase::Leaving => {
                self.member_mut(member).phase = Phase::Away;
                return;
            }
            Phase::Idle | Phase::Away | Phase::Stopped | Phase::Lost => return,
        }
        self.unhurry(member);
        self.fallen_count += u32::from(phase != Phase::Opening && phase != Phase::Greeting);
        if !self.awaits_fall {
            let name = self.cast.name(member);
            let how = errno.map_or_else(|| "closed by the broker".to_owned(), |errno| errno.to_string());
            let reason = if phase == Phase::Greeting {
                "connection ended before CONNACK"
            } else {
                "connection ended by the broker"
            };
            self.findings.connection(reason, format_args!("{name}: {how}"), &mut self.recorder);
        }
        self.lay_down(member, How::Unclear, now);
        self.come_back(member, now);
    }

    /// A connection could not be opened.
    pub(super) fn on_refused(&mut self, member: MemberId, errno: dunlin_ring::Errno, now: Nanos) {
        self.unhurry(member);
        if matches!(self.group(member).plan.behaviour, Behaviour::Malformed { .. }) {
            self.trick_worked(member, now);
            return;
        }
        if !self.awaits_fall {
            let name = self.cast.name(member);
            let what = format_args!("{name}: connecting: {errno}");
            self.findings.connection("connecting failed", what, &mut self.recorder);
        }
        self.come_back(member, now);
    }

    /// A connection is quite gone; who waits for it may open it again.
    pub(super) fn on_freed(&mut self, member: MemberId, side: Side, now: Nanos, outbox: &mut Outbox) {
        self.member_mut(member).put_busy(side, false);
        let group = self.group(member);
        if matches!(group.plan.behaviour, Behaviour::Malformed { .. }) {
            self.trick_over(member);
            return;
        }
        let is_stopped = self.team(group).is_stopped;
        let state = self.member_mut(member);
        if is_stopped && !matches!(state.phase, Phase::Idle) && state.side() == side {
            state.phase = Phase::Stopped;
        } else if state.has(Flag::Waiting) && state.side() == side {
            let intended = state.intended;
            self.begin(member, side, intended, now, outbox);
        }
    }

    /// The books and counts of a connection that goes.
    pub(super) fn lay_down(&mut self, member: MemberId, how: How, now: Nanos) {
        if self.has(member, Flag::Counted) {
            let group = self.group(member);
            self.member_mut(member).clear(Flag::Counted);
            self.recorder.disconnected();
            let silenced = self.has(member, Flag::Silenced);
            let team = self.team(group);
            team.connected -= 1;
            team.silent -= u32::from(silenced);
            if !silenced {
                self.settle_books(member, how);
                self.uncount_up(member);
            }
            self.member_mut(member).clear(Flag::Silenced);
        }
        self.member_mut(member).began = now;
    }

    fn uncount_up(&mut self, member: MemberId) {
        let group = self.group(member);
        let keeps = Cast::keeps_session(group.plan);
        let was_up = self.is_up(member);
        self.team(group).up -= u32::from(was_up);
        for id in self.shares_of.get(&member).cloned().unwrap_or_default() {
            let state = &mut self.share_states[id.0 as usize];
            state.here -= u32::from(was_up);
            state.asleep += u32::from(keeps);
            self.share_changed(id);
        }
    }

    /// What the oracle must know when a client stops taking part.
    fn settle_books(&mut self, member: MemberId, how: How) {
        let group = self.group(member);
        let keeps = Cast::keeps_session(group.plan);
        let extent = if keeps { Extent::AtMostOnce } else { Extent::All };
        self.ledger.end_owing(member, extent);
        let under_way = self.clients[member.index()].outgoing_count() > 0;
        match how {
            // All that was written before DISCONNECT has been read by the broker before it.
            How::InOrder if keeps || !under_way => {}
            How::InOrder => self.ledger.excuse_publisher(member, false),
            How::Torn | How::Unclear => self.ledger.excuse_publisher(member, keeps),
        }
        if !keeps {
            self.forget_flight(member);
        }
        for outlet in self.outlets_of(member) {
            self.abandoned += self.outlets[outlet].forget_held(member) as u64;
        }
        self.settle_will(member, how);
    }

    fn settle_will(&mut self, member: MemberId, how: How) {
        let Some(route) = self.will_of(member) else { return };
        let delayed = self.group(member).plan.will.as_ref().is_some_and(|will| will.delay.ns() > 0);
        match how {
            How::InOrder => {}
            How::Torn if !delayed => {
                self.ledger.send(route);
            }
            // The broker may publish it, now or later, or not if the client is back in time.
            How::Torn | How::Unclear => {
                self.ledger.send(route);
                self.ledger.excuse(route);
            }
        }
    }

    /// A group leaves for good.
    pub(super) fn stop_group(&mut self, number: usize, now: Nanos, outbox: &mut Outbox) {
        let group = self.cast.groups()[number];
        self.teams[number].is_stopped = true;
        if matches!(group.plan.behaviour, Behaviour::Malformed { .. }) {
            // What is under way is seen to its end: each trick has its time.
            if self.is_ending {
                Cast::members(group).for_each(|member| self.break_off(member, outbox));
            }
            return;
        }
        for member in Cast::members(group) {
            match self.member(member).phase {
                Phase::Up | Phase::Subscribing => self.say_goodbye(member, now, outbox),
                Phase::Silent => {
                    outbox.close(self.conn(member));
                    self.lay_down(member, How::Torn, now);
                }
                Phase::Opening | Phase::Greeting => {
                    self.unhurry(member);
                    // While it is being opened there is nothing to close; it is closed when it is up.
                    if outbox.is_open(self.conn(member)) {
                        outbox.close(self.conn(member));
                    }
                }
                Phase::Idle | Phase::Leaving | Phase::Lost | Phase::Stopped => {}
                Phase::Away => self.member_mut(member).phase = Phase::Stopped,
            }
        }
    }

    /// Those who are away because of their lifecycle come back.
    pub(super) fn end_churn(&mut self, number: usize, now: Nanos, outbox: &mut Outbox) {
        let group = self.cast.groups()[number];
        if !std::mem::take(&mut self.teams[number].churns) {
            return;
        }
        for member in Cast::members(group) {
            if matches!(self.member(member).phase, Phase::Away | Phase::Leaving | Phase::Silent) {
                self.connect(member, now, now, outbox);
            }
        }
    }

    /// Does what single clients have before them; returns when the next is due.
    pub(super) fn run_errands(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        while let Some(entry) = self.agenda.take_due(now) {
            let member = entry.member;
            if self.member(member).life != entry.life {
                continue;
            }
            match entry.errand {
                Errand::Connect => self.connect(member, entry.at, now, outbox),
                Errand::Leave => {
                    let group = self.group(member);
                    if self.team(group).churns {
                        self.leave(member, now, outbox);
                    }
                }
                Errand::Fall => self.fall(member, now, outbox),
                Errand::FallSilent => self.fall_silent(member, now, outbox),
                Errand::ReadOn => {
                    if self.member(member).is_connected() {
                        outbox.resume(self.conn(member));
                    }
                }
                Errand::GiveUp => self.give_up(member, now, outbox),
            }
        }
        self.agenda.due_at()
    }

    /// Looks for clients who wait for an answer that does not come.
    pub(super) fn find_stuck(&mut self, now: Nanos, outbox: &mut Outbox) {
        for number in 0..self.members.len() {
            let member = MemberId(u32::try_from(number).unwrap_or(u32::MAX));
            let state = &self.members[number];
            let answers = matches!(state.phase, Phase::Greeting | Phase::Subscribing);
            if !answers || now.since(state.since) < ANSWER_NS {
                continue;
            }
            if matches!(self.group(member).plan.behaviour, Behaviour::Malformed { .. }) {
                continue;
            }
            let name = self.cast.name(member);
            let phase = state.phase;
            let what = if phase == Phase::Greeting { "CONNECT" } else { "SUBSCRIBE" };
            let what = format_args!("{name}: no answer to {what} for {} s", ANSWER_NS / SECOND_NS);
            self.findings.connection("no answer", what, &mut self.recorder);
            self.unhurry(member);
            if outbox.is_open(self.conn(member)) {
                outbox.close(self.conn(member));
            }
            self.lay_down(member, How::Unclear, now);
            self.come_back(member, now);
        }
    }
}

/// How long the broker may take to close after DISCONNECT.
const GOODBYE_NS: u64 = 5 * SECOND_NS;
/// How long the broker may take to close the first connection after a takeover.
const TAKEOVER_NS: u64 = 10 * SECOND_NS;
/// How long an answer to CONNECT or SUBSCRIBE may take.
const ANSWER_NS: u64 = 60 * SECOND_NS;

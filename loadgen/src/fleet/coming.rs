//! Connections that come: opened on their schedule, greeted, subscribed, up.

use dunlin_wire::{QoS, ReasonCode, RetainHandling, Version};

use super::agenda::{Entry, Errand};
use super::cast::{Cast, GroupCast, MemberId, Side};
use super::going::How;
use super::interests::{Found, Interest, ShareId};
use super::ledger::{Extent, NewRoute, Receiver, RouteId};
use super::timetable::{NEVER, Timetable};
use super::{Flag, Fleet, Phase};
use crate::clock::{Nanos, SECOND_NS};
use crate::engine::Outbox;
use crate::plan::{Behaviour, Factor, Subscription, Variable};
use crate::record::{Leg, Violation};

/// How the first connections of a group come.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Clients that had their turn.
    next: u32,
    /// Absent: as fast as the broker takes them.
    table: Option<Timetable>,
}

impl Arrivals {
    /// None has come yet.
    pub(crate) fn new(group: GroupCast<'_>, dice: crate::dice::Dice) -> Self {
        let connect = group.plan.connect;
        let table = connect.rate.map(|rate| Timetable::new(rate.per_second(), connect.arrivals, dice));
        Self { next: 0, table }
    }

    /// Whether all of `count` clients have had their turn.
    pub(crate) const fn is_through(&self, count: u32) -> bool {
        self.next >= count
    }
}

impl Fleet<'_> {
    /// Enters the subscriptions of all groups into the oracle's table.
    pub(super) fn enter_interests(&mut self) {
        let groups = self.cast.groups().to_vec();
        let own = [Variable::Index, Variable::ClientId, Variable::Data, Variable::Rand];
        let is_own =
            |subscription: &Subscription| own.into_iter().any(|variable| subscription.filter.uses(variable));
        let count = groups.iter().flat_map(|group| {
            let each = |subscription| if is_own(subscription) { group.count } else { 1 };
            group
                .plan
                .subscribe
                .iter()
                .map(move |subscription| u64::from(subscription.repeat) * u64::from(each(subscription)))
        });
        self.interests.reserve(usize::try_from(count.sum::<u64>()).unwrap_or(0));
        for group in groups {
            if matches!(group.plan.behaviour, Behaviour::Malformed { .. }) {
                continue;
            }
            for (subscription, entry) in group.plan.subscribe.iter().zip(0..) {
                let is_own = is_own(subscription);
                for n in 0..subscription.repeat {
                    let interest = Interest { group: group.number, entry, n, member: None };
                    if is_own {
                        for member in Cast::members(group) {
                            let interest = Interest { member: Some(member), ..interest };
                            self.enter(interest, std::iter::once(member));
                        }
                    } else {
                        self.enter(interest, Cast::members(group));
                    }
                }
            }
        }
        self.share_states = self.interests.shares().map(|_| super::ShareState::default()).collect();
        for (id, share) in self.interests.shares() {
            for member in &share.members {
                self.shares_of.entry(*member).or_default().push(id);
                let indulged = self.is_indulged(self.cast.group_of(*member));
                self.share_states[id.0 as usize].is_indulged |= indulged;
            }
        }
    }

    fn enter(&mut self, interest: Interest, members: impl Iterator<Item = MemberId>) {
        let group = self.cast.groups()[usize::from(interest.group)];
        let mut filter = String::new();
        self.cast.filter(interest.member.unwrap_or(MemberId(group.first)), interest, &mut filter);
        self.interests.add(&filter, interest, members);
    }

    /// Begins a group: its clients come from now on.
    pub(super) fn start_group(&mut self, group: GroupCast<'_>, now: Nanos) {
        let team = self.team(group);
        if team.is_started {
            return;
        }
        team.is_started = true;
        if let Some(table) = &mut team.arrivals.table {
            table.set_factor(Factor::constant(1.0), 0.0, now);
        }
        let keep_alive = group.plan.keep_alive_seconds();
        let jitter = group.plan.keep_alive_jitter.part();
        team.keep_alives = super::Round::new(group.first, group.count, keep_alive, jitter, now);
        self.start_tricks(group, now);
    }

    /// Opens the connections that are due; returns when the next is.
    pub(super) fn open_due(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        let mut wake_at = NEVER;
        for number in 0..self.teams.len() {
            let group = self.cast.groups()[number];
            let is_malformed = matches!(group.plan.behaviour, Behaviour::Malformed { .. });
            loop {
                let team = &mut self.teams[number];
                if !team.is_started || team.is_stopped || is_malformed || team.arrivals.next >= group.count {
                    break;
                }
                let intended = match &mut team.arrivals.table {
                    Some(table) => match table.take_due(now) {
                        Some(intended) => intended,
                        None => {
                            wake_at = wake_at.min(table.due_at());
                            break;
                        }
                    },
                    None if self.opening_count >= self.concurrency => break,
                    None => now,
                };
                let member = MemberId(group.first + team.arrivals.next);
                team.arrivals.next += 1;
                if team.arrivals.table.is_none() {
                    self.opening_count += 1;
                    self.member_mut(member).set(Flag::Hurried);
                }
                self.begin(member, Side::First, intended, now, outbox);
            }
        }
        wake_at
    }

    /// Opens a connection of a client, on a side that is free.
    pub(super) fn begin(
        &mut self,
        member: MemberId,
        side: Side,
        intended: Nanos,
        now: Nanos,
        outbox: &mut Outbox,
    ) {
        let group = self.group(member);
        self.judge_expiry(group, member, now);
        let state = self.member_mut(member);
        state.life += 1;
        state.phase = Phase::Opening;
        state.put(Flag::Second, side == Side::Second);
        state.put_busy(side, true);
        state.clear(Flag::Waiting);
        state.clear(Flag::Pinged);
        state.put(Flag::Returned, state.life > 1);
        // After tries that failed, the first of them is what the reconnect leg counts from.
        if state.tries <= 1 {
            state.intended = intended;
        }
        state.since = now;
        state.began = now;
        let conn = self.conn(member);
        let silent = group.plan.lifecycle.is_some_and(|life| life.leave == crate::plan::Leave::HalfOpen);
        match group.plan.behaviour {
            Behaviour::Normal | Behaviour::Malformed { .. } if !silent => outbox.open(conn),
            Behaviour::Normal
            | Behaviour::Malformed { .. }
            | Behaviour::SlowReader { .. }
            | Behaviour::HalfOpen { .. } => outbox.open_metered(conn),
        }
    }

    /// A session that may have expired while its client was away is not insisted on.
    fn judge_expiry(&mut self, group: GroupCast<'_>, member: MemberId, now: Nanos) {
        if group.plan.protocol != Version::V5 || !self.has(member, Flag::Session) {
            return;
        }
        let away = now.since(self.member(member).began);
        let expiry = u64::from(group.plan.session_expiry_seconds()) * SECOND_NS;
        if away + EXPIRY_DOUBT_NS >= expiry {
            self.member_mut(member).set(Flag::Doubtful);
        }
    }

    /// A connection is up: greets, or goes about its mischief.
    pub(super) fn on_opened(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let state = self.member_mut(member);
        state.since = now;
        state.phase = Phase::Greeting;
        if matches!(self.group(member).plan.behaviour, Behaviour::Malformed { .. }) {
            self.play_trick(member, now, outbox);
        } else {
            self.greet(member, now, outbox);
        }
    }

    /// The broker has answered CONNECT.
    pub(super) fn on_connack(
        &mut self,
        member: MemberId,
        code: ReasonCode,
        session_present: bool,
        now: Nanos,
        outbox: &mut Outbox,
    ) {
        self.unhurry(member);
        if code.is_error() {
            let name = self.cast.name(member);
            let reason = format!("connection refused: {code:?}");
            self.findings.connection(&reason, format_args!("{name}: {reason}"), &mut self.recorder);
            outbox.close(self.conn(member));
            self.come_back(member, now);
            return;
        }
        let group = self.group(member);
        let since = self.member(member).since;
        self.recorder.time(Leg::ConnAck, since, since, now);
        self.recorder.connected();
        self.team(group).connected += 1;
        let state = self.member_mut(member);
        state.set(Flag::Counted);
        state.tries = 0;
        state.since = now;
        self.check_session(group, member, session_present);
        self.wake_shares(member);
        let knows_us = session_present && self.has(member, Flag::Subscribed);
        if !knows_us {
            self.forget_flight(member);
            self.ledger.end_owing(member, Extent::All);
        }
        let keeps = Cast::keeps_session(group.plan);
        self.member_mut(member).put(Flag::Session, keeps);
        self.member_mut(member).clear(Flag::Doubtful);
        if knows_us {
            self.send_again(member, outbox);
            self.rise(member, now, outbox);
            self.ask_for_a_word(member, outbox);
            return;
        }
        self.ledger.subscribing(member);
        let packets = self.subscribe(member, outbox);
        self.member_mut(member).subacks = packets;
        if packets == 0 {
            self.rise(member, now, outbox);
            self.ask_for_a_word(member, outbox);
        } else {
            self.member_mut(member).phase = Phase::Subscribing;
        }
    }

    /// Compares what the broker says of a session with what should be.
    fn check_session(&mut self, group: GroupCast<'_>, member: MemberId, present: bool) {
        let clean = self.is_clean(group.plan, member);
        let had = self.has(member, Flag::Session);
        // 3.1 has no such flag in CONNACK, and before the first connection of a run anything may be left of others.
        let known =
            group.plan.protocol != Version::V31 && !self.has(member, Flag::Doubtful) && (clean || had);
        let expected = had && !clean;
        if known && present != expected {
            let name = self.cast.name(member);
            self.findings.violation(Violation::SessionWrong, 1, &mut self.recorder, || {
                let (is, should) = if present { ("present", "gone") } else { ("gone", "kept") };
                format!("{name} was told that its session is {is}, and it should be {should}")
            });
        }
    }

    /// The broker has answered a SUBSCRIBE.
    pub(super) fn on_suback(
        &mut self,
        member: MemberId,
        count: usize,
        refused: usize,
        now: Nanos,
        outbox: &mut Outbox,
    ) {
        let since = self.member(member).since;
        self.recorder.time(Leg::SubAck, since, since, now);
        self.recorder.counters().subscribed += (count - refused) as u64;
        if refused > 0 {
            let name = self.cast.name(member);
            self.recorder
                .fail("subscription refused", format_args!("{name}: {refused} of {count} filters refused"));
        }
        self.first_word(member, now);
        let state = self.member_mut(member);
        state.subacks = state.subacks.saturating_sub(1);
        if state.subacks == 0 && state.phase == Phase::Subscribing {
            self.rise(member, now, outbox);
        }
    }

    /// A client has all that it asked for.
    fn rise(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let group = self.group(member);
        let state = self.member_mut(member);
        state.phase = Phase::Up;
        state.set(Flag::Subscribed);
        let life = state.life;
        self.team(group).up += 1;
        if !self.is_indulged(group) {
            self.ledger.begin_owing(member, Extent::All);
        }
        for id in self.shares_of.get(&member).cloned().unwrap_or_default() {
            self.share_states[id.0 as usize].here += 1;
            self.share_changed(id);
        }
        if let Behaviour::HalfOpen { after } = group.plan.behaviour {
            let at = now.after(after.draw_ns(&mut self.dice));
            self.agenda.add(Entry { at, member, life, errand: Errand::FallSilent });
        }
        if self.team(group).churns {
            self.plan_leave(member, now);
        }
        self.announce_births(member, now, outbox);
        self.fill_windows(member, now, outbox);
    }

    /// Plans when a client leaves, by its group's lifecycle.
    pub(super) fn plan_leave(&mut self, member: MemberId, now: Nanos) {
        let Some(lifecycle) = self.group(member).plan.lifecycle else { return };
        let at = now.after(lifecycle.online.draw_ns(&mut self.dice));
        let life = self.member(member).life;
        self.agenda.add(Entry { at, member, life, errand: Errand::Leave });
    }

    /// Has the broker say something, where nothing else would end the reconnect leg.
    fn ask_for_a_word(&self, member: MemberId, outbox: &mut Outbox) {
        if self.has(member, Flag::Returned) {
            let conn = self.conn(member);
            self.clients[member.index()].ping(outbox.buffer(conn));
        }
    }

    /// Something has come over a connection: the reconnect leg ends with it.
    pub(super) fn first_word(&mut self, member: MemberId, now: Nanos) {
        if self.has(member, Flag::Returned) {
            let state = self.member_mut(member);
            state.clear(Flag::Returned);
            let (intended, began) = (state.intended, state.began);
            self.recorder.time(Leg::ReconnectToFirstMessage, intended, began, now);
        }
    }

    /// One less of those that are opened as fast as the broker takes them.
    pub(super) fn unhurry(&mut self, member: MemberId) {
        if self.has(member, Flag::Hurried) {
            self.member_mut(member).clear(Flag::Hurried);
            self.opening_count = self.opening_count.saturating_sub(1);
        }
    }

    /// A client whose session slept is back, or its session is gone.
    fn wake_shares(&mut self, member: MemberId) {
        if !self.has(member, Flag::Session) {
            return;
        }
        for id in self.shares_of.get(&member).cloned().unwrap_or_default() {
            let state = &mut self.share_states[id.0 as usize];
            state.asleep = state.asleep.saturating_sub(1);
        }
    }

    /// Tells the ledger whether a shared subscription has anybody to give messages to.
    pub(super) fn share_changed(&mut self, id: ShareId) {
        let owed = self.share_states[id.0 as usize].is_owed();
        self.ledger.share_changed(id, owed);
    }

    /// Enters a route with all who must, and may, receive it.
    pub(super) fn add_route(&mut self, new: NewRoute, topic: &str, nobody: bool) -> RouteId {
        if nobody {
            return self.ledger.add_route(new, &[], &[]);
        }
        let mut receivers = Vec::new();
        let mut shares = Vec::new();
        self.interests.find(
            topic,
            |interest, text| {
                let group = self.cast.groups()[usize::from(interest.group)];
                self.cast.filter(interest.member.unwrap_or(MemberId(group.first)), interest, text);
            },
            |found| match found {
                Found::Shared(id) => shares.push((id, self.share_states[id.0 as usize].is_owed())),
                Found::Direct(interest) => self.receivers_of(interest, &new, &mut receivers),
            },
        );
        receivers.sort_by_key(|receiver| receiver.member);
        receivers.dedup_by(|later, earlier| {
            let same = later.member == earlier.member;
            if same {
                earlier.copies = earlier.copies.saturating_add(1);
                earlier.qos = earlier.qos.max(later.qos);
                earlier.as_published |= later.as_published;
                earlier.replays |= later.replays;
                earlier.owed |= later.owed;
            }
            same
        });
        self.ledger.add_route(new, &receivers, &shares)
    }

    fn receivers_of(&self, interest: Interest, new: &NewRoute, receivers: &mut Vec<Receiver>) {
        let group = self.cast.groups()[usize::from(interest.group)];
        let subscription = &group.plan.subscribe[usize::from(interest.entry)];
        let v5 = group.plan.protocol == Version::V5;
        let qos = subscription.qos.min(new.qos);
        let mut add = |member: MemberId| {
            if v5 && subscription.no_local && member == new.publisher {
                return;
            }
            receivers.push(Receiver {
                member,
                copies: 1,
                qos,
                as_published: v5 && subscription.retain_as_published,
                replays: !v5 || subscription.retain_handling != RetainHandling::DoNotSend,
                owed: self.is_owed(group, member, if new.fleeting { QoS::AtMostOnce } else { qos }),
            });
        };
        match interest.member {
            Some(member) => add(member),
            None => Cast::members(group).for_each(add),
        }
    }

    /// Whether a client must get what is sent to it now at this QoS.
    fn is_owed(&self, group: GroupCast<'_>, member: MemberId, qos: QoS) -> bool {
        let state = self.member(member);
        if self.is_indulged(group) {
            return false;
        }
        let sleeps = state.has(Flag::Session)
            && state.has(Flag::Subscribed)
            && !state.has(Flag::Doubtful)
            && qos != QoS::AtMostOnce
            && Cast::keeps_session(group.plan);
        state.phase == Phase::Up || (sleeps && state.phase != Phase::Subscribing)
    }

    /// A connection could not be had, or is gone: plans the next try, or none.
    pub(super) fn come_back(&mut self, member: MemberId, now: Nanos) {
        let group = self.group(member);
        let stays_away = self.is_ending || self.team(group).is_stopped;
        let Some(reconnect) = group.plan.reconnect.filter(|_| !stays_away) else {
            self.member_mut(member).phase = Phase::Lost;
            return;
        };
        let drawn = reconnect.delay.draw_ns(&mut self.dice);
        let state = self.member_mut(member);
        let longer = reconnect.backoff.powi(i32::from(state.tries)).min(1e9);
        state.tries = state.tries.saturating_add(1);
        state.phase = Phase::Away;
        let delay = std::time::Duration::from_nanos(drawn).mul_f64(longer);
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX).min(reconnect.delay_max.ns());
        let entry = Entry { at: now.after(delay), member, life: state.life, errand: Errand::Connect };
        self.agenda.add(entry);
    }

    /// A client is to connect: at once if its connection is free, else as soon as the old one is gone.
    pub(super) fn connect(&mut self, member: MemberId, intended: Nanos, now: Nanos, outbox: &mut Outbox) {
        let group = self.group(member);
        if self.is_ending || self.team(group).is_stopped {
            return;
        }
        let side = self.member(member).side();
        match self.member(member).phase {
            Phase::Away => {}
            Phase::Leaving | Phase::Silent => {
                outbox.close(self.conn(member));
                self.lay_down(member, How::Torn, now);
                self.member_mut(member).phase = Phase::Away;
            }
            Phase::Idle | Phase::Opening | Phase::Greeting | Phase::Subscribing | Phase::Up => return,
            Phase::Stopped | Phase::Lost => return,
        }
        if self.member(member).is_busy(side) {
            let state = self.member_mut(member);
            state.set(Flag::Waiting);
            state.intended = intended;
        } else {
            self.begin(member, side, intended, now, outbox);
        }
    }
}

/// A session whose expiry is this close, or past, is not insisted on.
const EXPIRY_DOUBT_NS: u64 = 2 * SECOND_NS;

//! What clients do by themselves: connect, subscribe, publish, leave, come back.

use dunlin_wire::packet::Subscription;
use dunlin_wire::{QoS, SubscriptionOptions};

use super::cast::{Habit, PartyId, RouteId, RouteKind};
use super::flaw::Flaw;
use super::kept::Reading;
use super::party::{Act, Asking, Known, Phase, Side};
use super::stage::{RETRY_NS, Stage};
use crate::clock::Nanos;
use crate::engine::Outbox;

/// How much is published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Messages under way per publisher.
    pub(crate) window: usize,
    /// Messages that may wait for one session.
    pub(crate) backlog: usize,
}

impl Stage {
    /// A new cycle: who comes back, and what each client will do in the next `span_ns`.
    pub(crate) fn plan_cycle(&mut self, cycle: u32, now: Nanos, span_ns: u64) {
        self.cycle = cycle;
        for number in 0..self.parties.len() {
            if !self.parties[number].online && cycle >= self.parties[number].back_in {
                self.parties[number].online = true;
            }
            let act = self.draw(number);
            let share = u64::from(self.dice.below(1_000));
            let at = now.after(span_ns.saturating_mul(share) / 1_000);
            self.parties[number].act = act.map(|act| (at, act));
        }
    }

    fn draw(&mut self, number: usize) -> Option<Act> {
        let habit = self.parties[number].role.habit;
        let chance = self.dice.below(6);
        match habit {
            Habit::Steady | Habit::Reader => None,
            Habit::Mover => [Some(Act::TakeOver), Some(Act::Drop), None][chance as usize % 3],
            Habit::Wanderer => [Some(Act::Leave), Some(Act::Vanish), None][chance as usize % 3],
            Habit::Testator => {
                let acts = [Act::TakeOver, Act::Drop, Act::Leave, Act::Vanish, Act::Outlast];
                acts.get(chance as usize).copied()
            }
            Habit::Mortal => [Some(Act::Vanish), Some(Act::Leave), Some(Act::Outlast), None]
                .get(chance as usize)
                .copied()?,
            Habit::Renewer => (chance < 3).then_some(Act::Renew),
            Habit::Fickle => {
                let filters = u32::try_from(self.parties[number].filters.len()).unwrap_or(u32::MAX);
                let filter = self.dice.below(filters.max(1));
                (chance < 4).then_some(Act::Toggle(filter as usize))
            }
        }
    }

    /// The broker is going to be killed at `moment`: some clients hear nothing any more shortly before, so that
    /// acknowledgements which the broker has given do not reach them.
    pub(crate) fn plan_deafness(&mut self, moment: Nanos) {
        for one in &mut self.parties {
            let chance = self.dice.below(DEAF_ONE_IN);
            let before_ns = u64::from(self.dice.below(DEAF_MICROSECONDS)) * 1_000;
            let is_hit = chance == 0 && one.role.habit != Habit::Reader;
            one.deaf_from = is_hit.then(|| Nanos(moment.0.saturating_sub(before_ns)));
        }
    }

    /// Everybody comes and stays, for an audit; those who move are taken over once more, which the audit looks at.
    pub(crate) fn assemble(&mut self, now: Nanos) {
        for one in &mut self.parties {
            one.online = true;
            one.act = (one.role.habit == Habit::Mover).then_some((now, Act::TakeOver));
        }
    }

    /// Lets everybody do what is due.
    pub(crate) fn tend(&mut self, now: Nanos, outbox: &mut Outbox) {
        if !self.is_up {
            return;
        }
        for party in (0..self.parties.len()).map(PartyId) {
            self.act(party, now, outbox);
            let one = &self.parties[party.0];
            if one.online && one.phase == Phase::Absent && now >= one.retry_at {
                self.open(party, now, outbox);
            }
            let one = &self.parties[party.0];
            if one.phase == Phase::Present && one.asking.is_none() {
                self.ask(party, outbox);
            }
        }
    }

    /// The broker is being killed: some who are there stay away for a while.
    pub(crate) fn leave_with_broker(&mut self) {
        for one in &mut self.parties {
            if one.act.take_if(|(_, act)| *act == Act::Outlast).is_some() && one.phase == Phase::Present {
                one.online = false;
                one.back_in = self.cycle + 1 + self.dice.below(AWAY_CYCLES);
            }
        }
    }

    /// Opens the side that is free.
    pub(crate) fn open(&mut self, party: PartyId, now: Nanos, outbox: &mut Outbox) {
        let one = &mut self.parties[party.0];
        let Some(side) = one.free_side() else {
            one.retry_at = now.after(RETRY_NS);
            return;
        };
        one.sides[side] = Side::Opening;
        if one.phase == Phase::Absent {
            one.phase = Phase::Opening;
        }
        if one.role.habit == Habit::Reader {
            one.renews = true;
        }
        outbox.open(Self::conn(party, side));
    }

    fn act(&mut self, party: PartyId, now: Nanos, outbox: &mut Outbox) {
        let one = &mut self.parties[party.0];
        if one.phase != Phase::Present || one.act.is_none_or(|(at, _)| now < at) {
            return;
        }
        let Some((_, act)) = one.act.take() else { return };
        match act {
            Act::TakeOver => self.open(party, now, outbox),
            // Nothing, until the broker is killed.
            Act::Outlast => one.act = Some((Nanos(u64::MAX), act)),
            Act::Drop => self.hang_up(party, now, outbox),
            Act::Toggle(filter) => one.filters[filter].wanted = !one.filters[filter].wanted,
            Act::Leave | Act::Vanish | Act::Renew => {
                one.online = false;
                one.renews = act == Act::Renew;
                if act == Act::Leave {
                    one.client.disconnect(outbox.buffer(Self::conn(party, one.front)));
                }
                one.back_in = self.cycle + 1 + self.dice.below(AWAY_CYCLES);
                if act == Act::Leave && one.role.will.is_some() {
                    one.sides[one.front] = Side::Parting;
                    one.parting_will = one.will.take();
                    self.let_go(party, now, now);
                } else {
                    self.hang_up(party, now, outbox);
                }
            }
        }
    }

    /// Asks for, or gives up, one subscription if client and broker do not agree.
    fn ask(&mut self, party: PartyId, outbox: &mut Outbox) {
        let one = &mut self.parties[party.0];
        let Some(asking) = one.next_question() else { return };
        let filter = &one.role.filters[asking.filter];
        let out = outbox.buffer(Self::conn(party, one.front));
        if asking.subscribes {
            let options = SubscriptionOptions::with_qos(filter.qos);
            let wish = [Subscription { filter: &filter.text, options }];
            one.client.subscribe_to(&wish, None, out).expect("the cast's filters are filters");
            self.books.subscribing(party, &filter.topics);
        } else {
            one.client.unsubscribe(std::slice::from_ref(&filter.text), out);
            self.books.unsubscribing(party, &filter.topics);
        }
        one.asking = Some(Asking { ..asking });
        one.filters[asking.filter].standing = Known::Doubtful;
        if one.role.habit == Habit::Reader {
            self.reading = Some(Reading::begin(&self.cast, &self.books));
        }
    }

    /// Publishes as much as windows and queues allow.
    pub(crate) fn publish(&mut self, load: Load, outbox: &mut Outbox) {
        let pending: Vec<usize> =
            (0..self.parties.len()).map(|party| self.books.pending(PartyId(party))).collect();
        let in_groups = self.books.pending_in_groups();
        for party in (0..self.parties.len()).map(PartyId) {
            let one = &self.parties[party.0];
            if one.phase != Phase::Present || one.role.routes.is_empty() {
                continue;
            }
            let room = load.window.saturating_sub(one.under_way.len());
            for _ in 0..room {
                let one = &self.parties[party.0];
                let list = if self.dice.below(8) == 0 { &one.role.kept_routes } else { &one.role.routes };
                let choice = self.dice.below(u32::try_from(list.len()).unwrap_or(u32::MAX).max(1));
                let Some(route) = list.get(choice as usize).copied() else { continue };
                let has_room = match self.cast.routes[route.0].kind {
                    RouteKind::Pool(group) => in_groups[group] < load.backlog,
                    RouteKind::Message | RouteKind::Kept | RouteKind::Will => {
                        self.books.receivers(route).all(|receiver| pending[receiver.0] < load.backlog)
                    }
                };
                if has_room {
                    self.publish_on(party, route, outbox);
                }
            }
        }
    }

    fn publish_on(&mut self, party: PartyId, route: RouteId, outbox: &mut Outbox) {
        let one = &mut self.parties[party.0];
        if !one.client.may_publish(QoS::AtLeastOnce) {
            return;
        }
        let number = self.books.send(route);
        let ticket = one.take_ticket(route, number);
        let payload = self.cast.payload(route, number);
        let out = outbox.buffer(Self::conn(party, one.front));
        let (topic, envelope) = (&self.cast.routes[route.0].topic, self.cast.envelope(route));
        one.client.publish_as(topic, &payload, envelope, ticket, out);
    }

    /// Whether nothing is under way anywhere.
    pub(crate) fn is_settled(&self) -> bool {
        (0..self.parties.len()).all(|party| {
            self.parties[party].is_quiet()
                && self.parties[party].act.is_none()
                && self.books.pending(PartyId(party)) == 0
        }) && self.books.pending_in_groups().iter().all(|pending| *pending == 0)
            && self.is_read()
            && self.abandoned().next().is_none()
    }

    /// Whether the reader has been given everything that it must be.
    pub(crate) fn is_read(&self) -> bool {
        let reader = &self.parties[self.cast.reader().0];
        reader.phase == Phase::Present
            && reader.filters.iter().all(|filter| filter.standing == Known::Yes)
            && self
                .reading
                .as_ref()
                .is_some_and(|reading| reading.missing(&self.cast, &self.books).next().is_none())
    }

    fn abandoned(&self) -> impl Iterator<Item = (PartyId, usize)> {
        self.parties.iter().enumerate().flat_map(|(number, one)| {
            let sides = one.sides.iter().enumerate();
            sides.filter(|(_, side)| **side == Side::Abandoned).map(move |(side, _)| (PartyId(number), side))
        })
    }

    /// Everything that could happen has: what has not is wrong.
    pub(crate) fn audit(&mut self, outbox: &mut Outbox) {
        self.judge_reading();
        for loss in self.books.settle() {
            self.add_loss(loss);
        }
        let abandoned: Vec<_> = self.abandoned().collect();
        for (party, side) in abandoned {
            let one = &mut self.parties[party.0];
            one.sides[side] = Side::Closing;
            outbox.close(Self::conn(party, side));
            let name = &one.role.client_id;
            self.flaws.add(Flaw::NotTakenOver, || format!("{name} in cycle {}", self.cycle));
        }
        for one in self.parties.iter().filter(|one| !one.is_quiet()) {
            let (name, phase, open) = (&one.role.client_id, one.phase, one.under_way.len());
            self.flaws.add(Flaw::Unserved, || {
                format!("{name} in cycle {}: {phase:?}, {open} messages not acknowledged", self.cycle)
            });
        }
    }

    /// What the reader was not given is missing.
    pub(crate) fn judge_reading(&mut self) {
        let Some(reading) = &self.reading else { return };
        self.counts.live_only += u64::try_from(reading.live_only(&self.cast, &self.books)).unwrap_or(0);
        for (route, floor) in reading.missing(&self.cast, &self.books) {
            let topic = &self.cast.routes[route.0].topic;
            self.flaws.add(Flaw::MissingRetained, || {
                format!("{topic}: write {floor} was acknowledged and not given in cycle {}", self.cycle)
            });
        }
    }
}

/// One client in so many hears nothing before a kill.
const DEAF_ONE_IN: u32 = 3;
/// From so many microseconds before it, at most.
const DEAF_MICROSECONDS: u32 = 10_000;
/// A client that leaves is away for up to this many cycles.
const AWAY_CYCLES: u32 = 6;

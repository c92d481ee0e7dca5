//! Messages that go out: what is due, who sends it, what it says, and what waits for the broker.

use dunlin_wire::QoS;

use super::cast::MemberId;
use super::ledger::{Kind, NewRoute, RouteId};
use super::outlet::Content;
use super::postmark::{Place, Postmark};
use super::slips::{Packet, Slip};
use super::timetable::NEVER;
use super::{Cast, Flag, Fleet, sparkplug};
use crate::client::Envelope;
use crate::clock::{Nanos, SECOND_NS};
use crate::engine::Outbox;
use crate::pace::LATE_NS;
use crate::plan::Expect;

impl Fleet<'_> {
    /// Sends what is due by now; returns when something is due again.
    pub(super) fn send_due(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        let mut wake_at = self.keep_alive(now, outbox);
        for number in 0..self.outlets.len() {
            if self.outlets[number].held_count() > 0 {
                self.release_held(number, now, outbox);
                wake_at = wake_at.min(now.after(HELD_TURN_NS));
            }
            wake_at = wake_at.min(self.send_scheduled(number, now, outbox));
        }
        wake_at
    }

    fn send_scheduled(&mut self, number: usize, now: Nanos, outbox: &mut Outbox) -> Nanos {
        let mut budget = BATCH_MAX;
        loop {
            let outlet = &mut self.outlets[number];
            let Some(table) = &mut outlet.table else { return NEVER };
            let Some(intended) = table.take_due(now) else { return table.due_at() };
            let members = &self.members;
            let sender = outlet.next_sender(|member| members[member.index()].phase == super::Phase::Up);
            match sender {
                Some(member) => self.publish(number, member, intended, now, outbox),
                None => self.skipped += 1,
            }
            budget -= 1;
            if budget == 0 {
                // Let what has come be read, and what is written go out, before more is written.
                return now;
            }
        }
    }

    /// Sends PINGREQs whose time has come.
    fn keep_alive(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        let mut wake_at = NEVER;
        for number in 0..self.teams.len() {
            let Some(mut round) = self.teams[number].keep_alives.take() else { continue };
            while let Some(member) = round.take_due(now) {
                if !self.member(member).is_connected() {
                    continue;
                }
                if self.has(member, Flag::Pinged) && !self.is_indulged(self.group(member)) {
                    let name = self.cast.name(member);
                    let what = format_args!("{name}: the PINGREQ of a Keep Alive ago is not answered");
                    self.findings.connection("PINGREQ not answered", what, &mut self.recorder);
                }
                self.member_mut(member).set(Flag::Pinged);
                self.recorder.counters().pinged += 1;
                let conn = self.conn(member);
                self.clients[member.index()].ping(outbox.buffer(conn));
            }
            wake_at = wake_at.min(round.due_at());
            self.teams[number].keep_alives = Some(round);
        }
        wake_at
    }

    /// Sends one message, or keeps it until the broker has room for it.
    fn publish(&mut self, number: usize, member: MemberId, intended: Nanos, now: Nanos, outbox: &mut Outbox) {
        if self.outlets[number].is_holding(member) || !self.may_publish(number, member, outbox) {
            self.abandoned += u64::from(!self.outlets[number].hold(member, intended));
            return;
        }
        self.write(number, member, intended, now, outbox);
    }

    fn may_publish(&self, number: usize, member: MemberId, outbox: &Outbox) -> bool {
        self.clients[member.index()].may_publish(self.outlets[number].qos())
            && outbox.backlog(self.conn(member)) < BACKLOG_BYTES_MAX
    }

    fn release_held(&mut self, number: usize, now: Nanos, outbox: &mut Outbox) {
        let waiting: Vec<MemberId> = self.outlets[number].held_for().take(BATCH_MAX).collect();
        for member in waiting {
            self.release(number, member, now, outbox);
        }
    }

    /// Sends what waits for a client as far as the broker takes it.
    pub(super) fn release(&mut self, number: usize, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        while self.is_up(member) && self.may_publish(number, member, outbox) {
            let Some(intended) = self.outlets[number].take_held(member) else { return };
            self.write(number, member, intended, now, outbox);
        }
    }

    /// Fills the windows of a client's closed loops.
    pub(super) fn fill_windows(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        for number in self.outlets_of(member) {
            self.fill_window(number, member, now, outbox);
        }
    }

    pub(super) fn fill_window(&mut self, number: usize, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        if !self.outlets[number].loops() {
            return;
        }
        for _ in 0..self.outlets[number].window() {
            self.loop_on(number, member, now, outbox);
        }
    }

    /// Sends the next message of a closed loop.
    pub(super) fn loop_on(&mut self, number: usize, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let outlet = &self.outlets[number];
        if outlet.loops() && !outlet.is_done(member) && self.is_up(member) {
            self.publish(number, member, now, now, outbox);
        }
    }

    /// The outlets of a client's group.
    pub(super) fn outlets_of(&self, member: MemberId) -> std::ops::Range<usize> {
        let team = &self.teams[usize::from(self.group(member).number)];
        team.first_outlet..team.first_outlet + team.outlet_count
    }

    /// Writes one message.
    fn write(&mut self, number: usize, member: MemberId, intended: Nanos, now: Nanos, outbox: &mut Outbox) {
        let place = self.compose(number, member, now);
        self.write_composed(number, member, place, (intended, now), outbox);
    }

    /// Writes the message that stands in `topic` and `payload`, intended for the first time and written at the second.
    fn write_composed(
        &mut self,
        number: usize,
        member: MemberId,
        place: Place,
        (intended, now): (Nanos, Nanos),
        outbox: &mut Outbox,
    ) {
        let topic = std::mem::take(&mut self.topic);
        let text = std::str::from_utf8(&topic).expect("every part of a template is UTF-8");
        let route = self.route_of(number, member, text);
        let (sequence, owed) = self.ledger.send(route);
        let outlet = &mut self.outlets[number];
        let client = outlet.place(member);
        outlet.counts[client] = outlet.counts[client].saturating_add(1);
        let (qos, retain, expiry_seconds) = (outlet.qos(), outlet.retain(), outlet.expiry_seconds());
        let ticket = outlet.enter(member, owed + u32::from(qos != QoS::AtMostOnce));
        let mark = Postmark { run: self.run, route, sequence, ticket, intended, written: now };
        mark.seal(&mut self.payload, place, &mut self.scratch);
        let slip = if qos == QoS::AtMostOnce {
            0
        } else {
            let packet = Cast::keeps_session(self.outlets[number].group.plan)
                .then(|| Box::new(Packet { topic: text.to_owned(), payload: self.payload.clone() }));
            self.outlets[number].unacknowledged += 1;
            let outlet = u32::try_from(number).expect("a plan has few outlets");
            self.slips.put(Slip { route, sequence, member, outlet, ticket, intended, written: now, packet })
        };
        let envelope = Envelope { qos, retain, expiry_seconds };
        let conn = self.conn(member);
        self.clients[member.index()].publish_as(text, &self.payload, envelope, slip, outbox.buffer(conn));
        self.recorder.sent(now.since(intended) > LATE_NS);
        self.topic = topic;
    }

    /// Renders topic and payload of a client's next message; says where its stamp goes.
    fn compose(&mut self, number: usize, member: MemberId, now: Nanos) -> Place {
        let outlet = &mut self.outlets[number];
        let group = outlet.group;
        let client = outlet.place(member);
        let sequence = outlet.counts[client];
        let client_id =
            if outlet.needs_client_id { self.cast.client_id(group, member) } else { String::new() };
        let mut scope = self.cast.scope(group, member, &client_id, &mut self.dice);
        scope.seq = u64::from(sequence);
        scope.time_ms = self.unix_ms + now.0 / 1_000_000;
        self.topic.clear();
        match outlet.content {
            Content::Entry(publish) => {
                publish.topic.render(&mut scope, &mut self.topic);
                outlet.body.render(&mut scope, &mut self.payload)
            }
            Content::Sparkplug(plan) => {
                let state = &mut outlet.nodes[client];
                sparkplug::data(plan, state, &mut scope, &mut self.topic, &mut self.payload)
            }
        }
    }

    /// A Sparkplug node says who it is when it comes.
    pub(super) fn announce_births(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        for number in self.outlets_of(member) {
            let outlet = &mut self.outlets[number];
            let Content::Sparkplug(plan) = outlet.content else { continue };
            let client = outlet.place(member);
            let life = u64::from(self.members[member.index()].life);
            outlet.nodes[client] = sparkplug::Node::default();
            for device in std::iter::once(None).chain((0..plan.devices).map(Some)) {
                let group = self.outlets[number].group;
                let client_id = self.cast.client_id(group, member);
                let mut scope = self.cast.scope(group, member, &client_id, &mut self.dice);
                scope.time_ms = self.unix_ms + now.0 / 1_000_000;
                let node = &mut self.outlets[number].nodes[client];
                let (topic, payload) = (&mut self.topic, &mut self.payload);
                let place = sparkplug::birth(plan, node, (device, life), &mut scope, topic, payload);
                self.write_composed(number, member, place, (now, now), outbox);
            }
        }
    }

    /// The route of a client's message to a topic, made if there is none yet.
    fn route_of(&mut self, number: usize, member: MemberId, topic: &str) -> RouteId {
        let outlet = &self.outlets[number];
        let topic_hash = super::interests::hash_text(topic.as_bytes());
        if let Some(route) = outlet.route(member, topic_hash) {
            return route;
        }
        let expect = outlet.expect();
        let new = NewRoute {
            publisher: member,
            entry: outlet.entry,
            kind: Kind::Messages,
            topic_hash,
            qos: outlet.qos(),
            retain: outlet.retain(),
            unchecked: expect == Expect::Unchecked,
            fleeting: outlet.expiry_seconds().is_some(),
        };
        let route = self.add_route(new, topic, expect == Expect::Nobody);
        self.outlets[number].remember(member, topic_hash, route);
        route
    }

    /// Sends again what a resumed session left unfinished.
    pub(super) fn send_again(&mut self, member: MemberId, outbox: &mut Outbox) {
        let conn = self.conn(member);
        for unfinished in self.clients[member.index()].unfinished() {
            let client = &self.clients[member.index()];
            if !unfinished.message {
                client.release_again(unfinished.id, outbox.buffer(conn));
                continue;
            }
            let Some(slip) = self.slips.get(unfinished.ticket) else { continue };
            let Some(packet) = &slip.packet else { continue };
            let outlet = &self.outlets[slip.outlet as usize];
            let (qos, retain, expiry_seconds) = (outlet.qos(), outlet.retain(), outlet.expiry_seconds());
            let envelope = Envelope { qos, retain, expiry_seconds };
            let out = outbox.buffer(conn);
            client.publish_again(&packet.topic, &packet.payload, envelope, unfinished.id, out);
            if outlet.qos() == QoS::AtLeastOnce {
                self.ledger.repeated(slip.route, slip.sequence);
            }
        }
    }

    /// What a client had under way is given up: its session is gone.
    pub(super) fn forget_flight(&mut self, member: MemberId) {
        for ticket in self.clients[member.index()].forget() {
            if let Some(slip) = self.slips.take(ticket) {
                self.outlets[slip.outlet as usize].unacknowledged -= 1;
                self.ledger.excuse(slip.route);
            }
        }
    }

    /// Closed loops that stand still, because what they wait for will not come, begin anew.
    pub(super) fn revive_loops(&mut self, now: Nanos, outbox: &mut Outbox) {
        let gives_up = now >= self.next_revival;
        if gives_up {
            self.next_revival = now.after(STUCK_NS);
        }
        for number in 0..self.outlets.len() {
            if !self.outlets[number].loops() {
                continue;
            }
            let group = self.outlets[number].group;
            for member in Cast::members(group) {
                if !self.is_up(member) {
                    continue;
                }
                if self.outlets[number].is_still(member) {
                    self.fill_window(number, member, now, outbox);
                } else if gives_up {
                    for _ in 0..self.outlets[number].give_up_stuck(member) {
                        self.loop_on(number, member, now, outbox);
                    }
                }
            }
        }
    }
}

/// Messages of one outlet that are written before the engine gets its turn.
const BATCH_MAX: usize = 4_096;
/// Output of a connection that waits for an earlier send; beyond it messages are held.
const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// How long a message of a closed loop may be under way before its place is given to the next.
const STUCK_NS: u64 = 10 * SECOND_NS;
/// How soon messages that wait are looked at again.
const HELD_TURN_NS: u64 = SECOND_NS / 1_000;

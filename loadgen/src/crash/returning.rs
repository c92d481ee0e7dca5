//! A client comes back: is its session there, was its Will due, and what does it send again?

use dunlin_wire::{ReasonCode, Version};

use super::absence::{Absence, Passed};
use super::cast::{Habit, PartyId};
use super::flaw::Flaw;
use super::party::{Known, Phase};
use super::stage::{RETRY_NS, Stage};
use crate::clock::Nanos;
use crate::engine::Outbox;

impl Stage {
    /// CONNACK has come.
    pub(crate) fn connected(
        &mut self,
        party: PartyId,
        code: ReasonCode,
        session_present: bool,
        now: Nanos,
        outbox: &mut Outbox,
    ) {
        if code.is_error() {
            self.counts.closed_by_broker += 1;
            self.hang_up(party, now, outbox);
            self.parties[party.0].retry_at = now.after(RETRY_NS);
            return;
        }
        if self.served_at.is_none() {
            self.served_at = Some(now);
            self.parties.iter_mut().for_each(|one| one.absence.broker_back(now));
        }
        let expected = self.expected_session(party, now);
        self.decide_will(party, session_present, now);
        let one = &mut self.parties[party.0];
        one.phase = Phase::Present;
        if one.absence == Absence::Unclear && one.is_mortal() && session_present {
            self.doubt_subscriptions(party);
        }
        let one = &mut self.parties[party.0];
        one.absence = Absence::None;
        match (expected, session_present) {
            (Known::Yes, false) => {
                let name = &one.role.client_id;
                self.flaws.add(Flaw::SessionLost, || format!("{name} in cycle {}", self.cycle));
                for loss in self.books.session_lost(party) {
                    self.add_loss(loss);
                }
            }
            (Known::No, true) => {
                let (name, why) =
                    (&one.role.client_id, if one.renews { "a clean start" } else { "its expiry" });
                self.flaws.add(Flaw::SessionUnexpected, || {
                    format!("{name} in cycle {}: {why} should have ended it", self.cycle)
                });
            }
            (Known::Yes | Known::Doubtful, true) | (Known::No | Known::Doubtful, false) => {}
        }
        self.counts.resumed += u64::from(session_present);
        if !session_present {
            self.begin_anew(party);
        }
        let one = &mut self.parties[party.0];
        if !session_present && one.is_mortal() {
            self.counts.expired += u64::from(one.session == Known::Yes);
            let bounds = std::mem::take(&mut one.bounds);
            self.books.renewed(party, &bounds);
        }
        let one = &mut self.parties[party.0];
        let was_renewal = std::mem::take(&mut one.renews);
        one.session = Known::Yes;
        if was_renewal && one.role.habit != Habit::Reader {
            self.counts.renewed += 1;
            let bounds = std::mem::take(&mut one.bounds);
            if one.role.version == Version::V311 {
                // A 3.1.1 session that begins clean ends with its connection: the next one is to be kept. Whether the
                // broker meets the end of this connection or the next CONNECT first is open.
                one.session = Known::Doubtful;
                one.client.disconnect(outbox.buffer(Self::conn(party, one.front)));
                self.hang_up(party, now, outbox);
            }
            self.books.renewed(party, &bounds);
            return;
        }
        self.resume(party, outbox);
    }

    /// The session that is there may be one that an unanswered CONNECT began, after the end of the one before.
    fn doubt_subscriptions(&mut self, party: PartyId) {
        let one = &mut self.parties[party.0];
        for (number, filter) in one.filters.iter_mut().enumerate() {
            filter.standing = Known::Doubtful;
            self.books.unsubscribing(party, &one.role.filters[number].topics);
        }
    }

    /// The broker has no session of this client: neither has the client any more.
    fn begin_anew(&mut self, party: PartyId) {
        let one = &mut self.parties[party.0];
        one.client.forget();
        for (route, number) in std::mem::take(&mut one.under_way).into_values() {
            self.books.doubt(route, number);
        }
        for (number, filter) in one.filters.iter_mut().enumerate() {
            filter.standing = Known::No;
            self.books.unsubscribing(party, &one.role.filters[number].topics);
        }
    }

    /// Sends again what was open when the last connection ended, in the order in which it was first sent
    /// [MQTT5-4.4.0-1] [MQTT5-4.6.0-1].
    fn resume(&mut self, party: PartyId, outbox: &mut Outbox) {
        let one = &self.parties[party.0];
        let out = outbox.buffer(Self::conn(party, one.front));
        let unfinished = one.unfinished();
        self.counts.sent_again += u64::try_from(unfinished.len()).unwrap_or(0);
        for (id, message) in unfinished {
            match message {
                None => one.client.release_again(id, out),
                Some((route, number)) => {
                    let plan = &self.cast.routes[route.0];
                    let payload = self.cast.payload(route, number);
                    one.client.publish_again(&plan.topic, &payload, self.cast.envelope(route), id, out);
                }
            }
        }
    }

    /// Whether the broker must have this client's session.
    fn expected_session(&self, party: PartyId, now: Nanos) -> Known {
        let one = &self.parties[party.0];
        if one.renews {
            return Known::No;
        }
        if !one.is_mortal() || one.session != Known::Yes {
            return one.session;
        }
        match one.absence.passed(one.role.expiry_seconds, one.greeted_at, now) {
            Passed::No => Known::Yes,
            Passed::Perhaps => Known::Doubtful,
            Passed::Yes => Known::No,
        }
    }

    /// What must have become of the Will of the connection before: published when its delay was over or the session ended,
    /// whichever was first; not published if the client was back before [MQTT5-3.1.2-8] [MQTT5-3.1.3-9].
    fn decide_will(&mut self, party: PartyId, session_present: bool, now: Nanos) {
        let one = &mut self.parties[party.0];
        let Some(plan) = one.role.will else { return };
        let Some(number) = std::mem::replace(&mut one.will, one.next_will.take()) else { return };
        let fate = match (one.is_mortal(), session_present) {
            (true, true) => Passed::No,
            (true, false) => Passed::Yes,
            (false, true) => one.absence.passed(plan.delay_seconds, one.greeted_at, now),
            (false, false) => Passed::Perhaps,
        };
        match fate {
            Passed::Yes => self.will_due(plan.route, number),
            Passed::No => self.will_void(plan.route, number),
            Passed::Perhaps => {}
        }
    }
}

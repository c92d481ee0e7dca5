//! What clients are given, and what is wrong with it.

use dunlin_wire::QoS;

use super::books::Loss;
use super::cast::{Habit, PartyId, RouteId, RouteKind};
use super::flaw::Flaw;
use super::kept::Given;
use super::stage::Stage;
use super::stream::Arrival;
use crate::client::Mark;

impl Stage {
    /// A message has come.
    pub(crate) fn delivered(&mut self, party: PartyId, topic: &str, payload: &[u8], mark: Mark) {
        let is_reader = self.parties[party.0].role.habit == Habit::Reader;
        if is_reader && payload.is_empty() {
            return; // A removal that is published while the reader is there.
        }
        let cycle = self.cycle;
        let Some((route, number)) =
            self.cast.recognise(payload).filter(|(route, _)| self.cast.routes[route.0].topic == topic)
        else {
            let name = self.name(party).to_owned();
            return self.flaws.add(Flaw::Corrupted, || {
                format!(
                    "{name} got {} bytes on {topic:?} that nobody sent there, in cycle {cycle}",
                    payload.len()
                )
            });
        };
        if is_reader {
            return self.read(route, number, mark.retain);
        }
        let granted = self.granted(party, route);
        if mark.retain || granted.is_none_or(|qos| qos != mark.qos) {
            let said = self.say(party, route, number);
            return self.flaws.add(Flaw::Foreign, || format!("{said}, with {mark:?}"));
        }
        let arrival = self.books.arrived(party, route, number);
        let (flaw, why) = match arrival {
            Some(Arrival::First | Arrival::Again) => return,
            Some(Arrival::OutOfOrder) => (Flaw::OutOfOrder, "after a later one"),
            Some(Arrival::Twice) if self.is_for_a_group(route) => (Flaw::SharedTwice, "which its group has"),
            Some(Arrival::Twice) => (Flaw::Duplicated, "again"),
            Some(Arrival::Barred) if self.is_will(route) => {
                (Flaw::WillUnexpected, "although its client had said goodbye, or was back in time")
            }
            Some(Arrival::Barred) => (Flaw::Foreign, "after its subscription or session had ended"),
            None => (Flaw::Foreign, "before it was sent"),
        };
        let said = self.say(party, route, number);
        self.flaws.add(flaw, || format!("{said} {why}, DUP {}", mark.dup));
    }

    /// The QoS at which messages of a route come to a subscriber.
    fn granted(&self, party: PartyId, route: RouteId) -> Option<QoS> {
        let plan = &self.cast.routes[route.0];
        let topic = plan.topic_index?;
        let filter =
            self.parties[party.0].role.filters.iter().find(|filter| filter.topics.contains(&topic))?;
        Some(filter.qos.min(plan.qos))
    }

    fn read(&mut self, route: RouteId, number: u32, retained: bool) {
        let Some(reading) = &mut self.reading else { return };
        self.counts.retained += u64::from(retained);
        let topic = &self.cast.routes[route.0].topic;
        match reading.give(route, number, retained, &self.books) {
            Given::Fresh => {}
            Given::Stale(floor) => self.flaws.add(Flaw::StaleRetained, || {
                format!(
                    "{topic}: write {number} was given in cycle {}, write {floor} was acknowledged",
                    self.cycle
                )
            }),
            Given::Unknown => self.flaws.add(Flaw::Foreign, || format!("{topic}: write {number}, retained")),
        }
    }

    /// Counts a message that is lost.
    pub(crate) fn add_loss(&mut self, loss: Loss) {
        let said = self.say(loss.party, loss.route, loss.number);
        let (flaw, how) = match loss.acked_in {
            _ if self.is_will(loss.route) => (Flaw::WillLost, "a Will that was due never came".to_owned()),
            0 => (Flaw::Lost, "never came and was never acknowledged either".to_owned()),
            cycle => (Flaw::Lost, format!("acknowledged in cycle {cycle}, never came")),
        };
        self.flaws.add(flaw, || format!("{said}: {how}"));
    }

    fn is_will(&self, route: RouteId) -> bool {
        self.cast.routes[route.0].kind == RouteKind::Will
    }

    fn is_for_a_group(&self, route: RouteId) -> bool {
        matches!(self.cast.routes[route.0].kind, RouteKind::Pool(_))
    }

    /// A Will is due.
    pub(crate) fn will_due(&mut self, route: RouteId, number: u32) {
        self.counts.wills_due += 1;
        self.books.will_due(route, number);
    }

    /// A Will must not be published any more, and must not have been.
    pub(crate) fn will_void(&mut self, route: RouteId, number: u32) {
        self.counts.wills_void += 1;
        for party in self.books.will_void(route, number) {
            let said = self.say(party, route, number);
            self.flaws.add(Flaw::WillUnexpected, || {
                format!("{said}: it had come although its client had said goodbye, or was back in time")
            });
        }
    }

    /// Who got what, for examples.
    pub(crate) fn say(&self, party: PartyId, route: RouteId, number: u32) -> String {
        let plan = &self.cast.routes[route.0];
        format!(
            "{}: message {number} of {} on {} at QoS {}, in cycle {}",
            self.name(party),
            self.name(plan.publisher),
            plan.topic,
            if plan.qos == QoS::ExactlyOnce { 2 } else { 1 },
            self.cycle
        )
    }
}

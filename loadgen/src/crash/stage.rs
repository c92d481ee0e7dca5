//! All clients on their connections: the [`Script`] that the engine plays.
//!
//! What a client does by itself is in `moves.rs`; here is what it does when something happens.

use dunlin_ring::Errno;
use dunlin_wire::{QoS, ReasonCode, Version};

use super::books::{Books, Loss};
use super::cast::{Cast, Habit, PartyId, RouteId};
use super::flaw::{Flaw, Flaws};
use super::kept::{Given, Reading};
use super::party::{Known, Party, Phase, Side};
use super::stream::Arrival;
use crate::client::{Envelope, Mark, Notice};
use crate::clock::{MILLISECOND_NS, Nanos};
use crate::dice::Dice;
use crate::engine::{ConnId, Outbox, Script};

/// Everything that goes on.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) cast: Cast,
    pub(crate) books: Books,
    pub(crate) parties: Vec<Party>,
    pub(crate) flaws: Flaws,
    pub(crate) dice: Dice,
    /// The cycle that runs, counted from 1.
    pub(crate) cycle: u32,
    /// Whether the broker is believed to run: nobody connects otherwise.
    pub(crate) is_up: bool,
    /// When the first CONNACK of this cycle came.
    pub(crate) served_at: Option<Nanos>,
    /// When something last came forward: an acknowledgement, a message, an answer.
    pub(crate) progress_at: Nanos,
    pub(crate) reading: Option<Reading>,
    pub(crate) counts: Counts,
}

/// What is worth knowing besides the books.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// CONNACKs that resumed a session.
    pub(crate) resumed: u64,
    /// Messages and PUBRELs sent again after a reconnect.
    pub(crate) sent_again: u64,
    pub(crate) takeovers: u64,
    /// Sessions ended by a clean start.
    pub(crate) renewed: u64,
    /// SUBACKs and UNSUBACKs.
    pub(crate) subscriptions: u64,
    /// Retained messages given to the reader.
    pub(crate) retained: u64,
    /// Connections that the broker closed, or did not accept, while it ran.
    pub(crate) closed_by_broker: u64,
}

impl Stage {
    /// Nobody has connected yet.
    pub(crate) fn new(cast: Cast, seed: u64) -> Self {
        Self {
            books: Books::new(&cast),
            parties: cast.roles.iter().cloned().map(Party::new).collect(),
            cast,
            flaws: Flaws::default(),
            dice: Dice::new(seed),
            cycle: 0,
            is_up: false,
            served_at: None,
            progress_at: Nanos::default(),
            reading: None,
            counts: Counts::default(),
        }
    }

    /// Which client and which of its connections this is.
    pub(crate) fn whose(conn: ConnId) -> (PartyId, usize) {
        (PartyId(conn.index() / 2), conn.index() % 2)
    }

    /// The connection of a client's side.
    pub(crate) fn conn(party: PartyId, side: usize) -> ConnId {
        ConnId(u32::try_from(party.0 * 2 + side).expect("the command line allows 2,001 clients"))
    }

    fn name(&self, party: PartyId) -> &str {
        &self.parties[party.0].role.client_id
    }

    /// Closes the side that a client speaks on and forgets the connection.
    pub(crate) fn hang_up(&mut self, party: PartyId, outbox: &mut Outbox) {
        let one = &mut self.parties[party.0];
        if one.sides[one.front] == Side::Open {
            one.sides[one.front] = Side::Closing;
            outbox.close(Self::conn(party, one.front));
        }
        one.detach();
    }

    fn notice(&mut self, party: PartyId, notice: &Notice<'_>, now: Nanos, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code, session_present } => {
                self.connected(party, code, session_present, now, outbox);
            }
            Notice::Delivered { topic, payload, mark } => self.delivered(party, topic, payload, mark),
            Notice::Published { ticket } => self.taken_over(party, ticket),
            // The answer to a PUBREL that was sent again after its exchange was over.
            Notice::Refused { ticket, code: ReasonCode::PacketIdentifierNotFound } => {
                self.taken_over(party, ticket);
            }
            Notice::Refused { ticket, .. } => {
                if let Some((route, number)) = self.parties[party.0].under_way.remove(&ticket) {
                    self.books.refused(route, number);
                }
            }
            Notice::Subscribed { refused, .. } => self.subscribed(party, refused, now, outbox),
            Notice::Unsubscribed => self.unsubscribed(party),
            Notice::Pong | Notice::Disconnected { .. } | Notice::Nothing => return,
        }
        self.progress_at = now;
    }

    fn taken_over(&mut self, party: PartyId, ticket: u32) {
        if let Some((route, number)) = self.parties[party.0].under_way.remove(&ticket) {
            self.books.acknowledged(route, number, self.cycle);
        }
    }

    fn connected(
        &mut self,
        party: PartyId,
        code: ReasonCode,
        session_present: bool,
        now: Nanos,
        outbox: &mut Outbox,
    ) {
        if code.is_error() {
            self.counts.closed_by_broker += 1;
            self.hang_up(party, outbox);
            self.parties[party.0].retry_at = now.after(RETRY_NS);
            return;
        }
        self.served_at.get_or_insert(now);
        let one = &mut self.parties[party.0];
        one.phase = Phase::Present;
        let expected = if one.renews { Known::No } else { one.session };
        match (expected, session_present) {
            (Known::Yes, false) => {
                let name = &one.role.client_id;
                self.flaws.add(Flaw::SessionLost, || format!("{name} in cycle {}", self.cycle));
                for loss in self.books.session_lost(party) {
                    self.add_loss(loss);
                }
            }
            (Known::No, true) => {
                let (name, renews) = (&one.role.client_id, one.renews);
                self.flaws.add(Flaw::SessionUnexpected, || {
                    format!("{name} in cycle {}, clean start {renews}", self.cycle)
                });
            }
            (Known::Yes | Known::Doubtful, true) | (Known::No | Known::Doubtful, false) => {}
        }
        self.counts.resumed += u64::from(session_present);
        if !session_present {
            self.begin_anew(party);
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
                self.hang_up(party, outbox);
            }
            self.books.renewed(party, &bounds);
            return;
        }
        self.resume(party, outbox);
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

    fn subscribed(&mut self, party: PartyId, refused: usize, now: Nanos, outbox: &mut Outbox) {
        self.counts.subscriptions += 1;
        let one = &mut self.parties[party.0];
        let Some(asking) = one.asking.take() else {
            return self.breach(party, "a SUBACK without a SUBSCRIBE".to_owned(), outbox);
        };
        if refused > 0 {
            one.filters[asking.filter].standing = Known::No;
            one.retry_at = now.after(RETRY_NS);
            self.counts.closed_by_broker += 1;
            return self.hang_up(party, outbox);
        }
        one.filters[asking.filter].standing = Known::Yes;
        self.books.subscribed(party, &one.role.filters[asking.filter].topics);
    }

    fn unsubscribed(&mut self, party: PartyId) {
        self.counts.subscriptions += 1;
        let one = &mut self.parties[party.0];
        if let Some(asking) = one.asking.take() {
            one.filters[asking.filter].standing = Known::No;
            self.books.unsubscribed(party, &one.role.filters[asking.filter].topics);
        }
    }

    /// A client breaks with a broker that has broken the protocol.
    fn breach(&mut self, party: PartyId, what: String, outbox: &mut Outbox) {
        self.flaws.add(Flaw::Protocol, || {
            format!("{} in cycle {}: {what}", self.parties[party.0].role.client_id, self.cycle)
        });
        self.hang_up(party, outbox);
    }

    fn delivered(&mut self, party: PartyId, topic: &str, payload: &[u8], mark: Mark) {
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
            Some(Arrival::Twice) => (Flaw::Duplicated, "again"),
            Some(Arrival::Barred) => (Flaw::Foreign, "after its subscription or session had ended"),
            None => (Flaw::Foreign, "before it was sent"),
        };
        let said = self.say(party, route, number);
        self.flaws.add(flaw, || format!("{said} {why}, DUP {}", mark.dup));
    }

    /// The QoS at which messages of a route come to a subscriber.
    fn granted(&self, party: PartyId, route: RouteId) -> Option<QoS> {
        let plan = &self.cast.routes[route.0];
        let topic = plan.shared_topic?;
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
        let how = match loss.acked_in {
            0 => "never came and was never acknowledged either".to_owned(),
            cycle => format!("acknowledged in cycle {cycle}, never came"),
        };
        self.flaws.add(Flaw::Lost, || format!("{said}: {how}"));
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

impl Script for Stage {
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, now: Nanos, outbox: &mut Outbox) {
        let (party, side) = Self::whose(conn);
        let one = &mut self.parties[party.0];
        if result.is_err() {
            one.sides[side] = Side::Closing;
            if one.front == side || one.phase == Phase::Opening {
                one.phase = Phase::Absent;
            }
            one.retry_at = now.after(RETRY_NS);
            return;
        }
        if !one.online {
            one.sides[side] = Side::Closing;
            return outbox.close(conn);
        }
        one.sides[side] = Side::Open;
        if one.front != side && one.sides[one.front] == Side::Open {
            // A takeover: what still comes on the other connection is as good as lost on the way.
            self.counts.takeovers += 1;
            one.sides[one.front] = Side::Abandoned;
            one.detach();
        }
        one.front = side;
        one.phase = Phase::Greeting;
        if one.renews && one.role.habit != Habit::Reader {
            one.bounds = self.books.renewing(party);
        }
        one.greet(outbox.buffer(conn));
        if !one.renews && one.session == Known::No {
            one.session = Known::Doubtful;
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize {
        let (party, side) = Self::whose(conn);
        let mut used = 0;
        loop {
            let one = &mut self.parties[party.0];
            let is_deaf = one.deaf_from.is_some_and(|from| now >= from);
            if is_deaf || one.front != side || one.sides[side] != Side::Open {
                return bytes.len();
            }
            match one.client.take(&bytes[used..], || outbox.buffer(conn)) {
                Ok(Some((notice, count))) => {
                    used += count;
                    self.notice(party, &notice, now, outbox);
                }
                Ok(None) => return used,
                Err(fault) => {
                    self.breach(party, fault.to_string(), outbox);
                    return bytes.len();
                }
            }
        }
    }

    fn ended(&mut self, conn: ConnId, _errno: Option<Errno>, now: Nanos, _outbox: &mut Outbox) {
        let (party, side) = Self::whose(conn);
        let one = &mut self.parties[party.0];
        let was = std::mem::replace(&mut one.sides[side], Side::Closing);
        if was == Side::Open && one.front == side {
            self.counts.closed_by_broker += u64::from(self.is_up);
            one.detach();
            one.retry_at = now.after(RETRY_NS);
        }
    }

    fn freed(&mut self, conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {
        let (party, side) = Self::whose(conn);
        self.parties[party.0].sides[side] = Side::Free;
    }
}

impl Cast {
    /// How a message of a route is sent.
    pub(crate) fn envelope(&self, route: RouteId) -> Envelope {
        let plan = &self.routes[route.0];
        Envelope { qos: plan.qos, retain: plan.shared_topic.is_none(), expiry_seconds: None }
    }
}

/// A broker that does not accept is asked again after this long.
pub(crate) const RETRY_NS: u64 = 2 * MILLISECOND_NS;

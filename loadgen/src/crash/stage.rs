//! All clients on their connections: the [`Script`] that the engine plays.
//!
//! What a client does by itself is in `moves.rs`; here is what it does when something happens. Coming back is in `returning.rs`,
//! messages are in `receiving.rs`.

use dunlin_ring::Errno;
use dunlin_wire::{QoS, ReasonCode};

use super::books::Books;
use super::cast::{Cast, Habit, PartyId, RouteId, RouteKind};
use super::flaw::{Flaw, Flaws};
use super::kept::Reading;
use super::party::{Known, Party, Phase, Side};
use crate::client::{Envelope, Notice};
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
    /// When it was killed last.
    pub(crate) downed_at: Nanos,
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
    /// Sessions that had ended by their expiry when their client came back.
    pub(crate) expired: u64,
    /// Wills that had to be published, and that must not be.
    pub(crate) wills_due: u64,
    pub(crate) wills_void: u64,
    /// SUBACKs and UNSUBACKs.
    pub(crate) subscriptions: u64,
    /// Retained messages given to the reader.
    pub(crate) retained: u64,
    /// Retained messages that the reader got as live ones only, since newer ones were published while it subscribed.
    pub(crate) live_only: u64,
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
            downed_at: Nanos::default(),
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

    /// Its client id.
    pub(crate) fn name(&self, party: PartyId) -> &str {
        &self.parties[party.0].role.client_id
    }

    /// The broker is about to be killed, or has ended: what it was told last it may not have noticed.
    pub(crate) fn broker_gone(&mut self, now: Nanos) {
        self.is_up = false;
        self.downed_at = now;
        self.leave_with_broker();
        for one in &mut self.parties {
            one.absence.broker_gone(now);
            one.parting_will = None;
        }
    }

    /// Closes the side that a client speaks on and forgets the connection.
    pub(crate) fn hang_up(&mut self, party: PartyId, now: Nanos, outbox: &mut Outbox) {
        let one = &mut self.parties[party.0];
        if one.sides[one.front] == Side::Open {
            one.sides[one.front] = Side::Closing;
            outbox.close(Self::conn(party, one.front));
        }
        self.let_go(party, now, now);
    }

    /// The connection that a client spoke on is gone, at the `earliest` then. A Will without a delay is due
    /// [MQTT5-3.1.2-8] [MQTT311-3.1.2-8]; after a kill a broker may put it off until the next start (§MQTT5 3.1.2.5).
    pub(crate) fn let_go(&mut self, party: PartyId, earliest: Nanos, now: Nanos) {
        let (earliest, latest) = if self.is_up { (earliest, Some(now)) } else { (self.downed_at, None) };
        let one = &mut self.parties[party.0];
        let was_present = one.phase == Phase::Present;
        one.detach(earliest, latest);
        if let Some(plan) = one.role.will
            && was_present
            && plan.delay_seconds == 0
            && let Some(number) = one.will.take()
        {
            self.will_due(plan.route, number);
        }
    }

    fn notice(&mut self, party: PartyId, notice: &Notice<'_>, now: Nanos, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code, session_present } => {
                self.connected(party, code, session_present, now, outbox);
            }
            Notice::Delivered { topic, payload, mark } => self.delivered(party, topic, payload, mark),
            Notice::Published { ticket } => {
                self.check_order(party, ticket);
                self.taken_over(party, ticket);
            }
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
            Notice::Unsubscribed { unknown } => self.unsubscribed(party, unknown),
            Notice::Pong | Notice::Disconnected { .. } | Notice::Nothing => return,
        }
        self.progress_at = now;
    }

    fn taken_over(&mut self, party: PartyId, ticket: u32) {
        if let Some((route, number)) = self.parties[party.0].under_way.remove(&ticket) {
            self.books.acknowledged(route, number, self.cycle);
        }
    }

    /// PUBACKs come in the order of the messages, also of those that are sent again: neither standard demands it of a broker,
    /// but clients that acknowledge in turn to others rely on it.
    fn check_order(&mut self, party: PartyId, ticket: u32) {
        let one = &self.parties[party.0];
        let qos_1 = |route: RouteId| self.cast.routes[route.0].qos == QoS::AtLeastOnce;
        let Some((route, number)) = one.under_way.get(&ticket).copied().filter(|(route, _)| qos_1(*route))
        else {
            return;
        };
        let mut earlier = one.under_way.range(..ticket).map(|(_, message)| *message);
        let Some((older, older_number)) = earlier.find(|(route, _)| qos_1(*route)) else { return };
        let said = self.say(party, route, number);
        let older = &self.cast.routes[older.0].topic;
        self.flaws.add(Flaw::AckOrder, || {
            format!(
                "{said} was acknowledged before message {older_number} on {older}, which was sent before it"
            )
        });
    }

    /// Sends a CONNECT.
    fn greet(&mut self, party: PartyId, side: usize, now: Nanos, outbox: &mut Outbox) {
        let one = &mut self.parties[party.0];
        one.front = side;
        one.phase = Phase::Greeting;
        one.greeted_at = now;
        if one.renews && one.role.habit != Habit::Reader {
            one.bounds = self.books.renewing(party);
        } else if one.is_mortal() {
            one.bounds = self.books.bounds(party);
        }
        let out = outbox.buffer(Self::conn(party, side));
        let Some(plan) = one.role.will else { return one.greet(None, out) };
        let number = self.books.will_made(plan.route);
        one.next_will = Some(number);
        let (route, payload) = (&self.cast.routes[plan.route.0], self.cast.payload(plan.route, number));
        one.greet(Some((&route.topic, &payload, route.qos)), out);
    }

    fn subscribed(&mut self, party: PartyId, refused: usize, now: Nanos, outbox: &mut Outbox) {
        self.counts.subscriptions += 1;
        let one = &mut self.parties[party.0];
        let Some(asking) = one.asking.take() else {
            return self.breach(party, "a SUBACK without a SUBSCRIBE".to_owned(), now, outbox);
        };
        if refused > 0 {
            one.filters[asking.filter].standing = Known::No;
            one.retry_at = now.after(RETRY_NS);
            self.counts.closed_by_broker += 1;
            return self.hang_up(party, now, outbox);
        }
        one.filters[asking.filter].standing = Known::Yes;
        let filter = &one.role.filters[asking.filter];
        if let Some(group) = filter.group.filter(|_| one.role.habit == Habit::Steady) {
            self.books.group_joined(group);
        }
        self.books.subscribed(party, &filter.topics);
    }

    fn unsubscribed(&mut self, party: PartyId, unknown: usize) {
        self.counts.subscriptions += 1;
        let one = &mut self.parties[party.0];
        if let Some(asking) = one.asking.take() {
            if unknown > 0 && asking.stood {
                let (name, filter) = (&one.role.client_id, &one.role.filters[asking.filter].text);
                self.flaws
                    .add(Flaw::SubscriptionLost, || format!("{name}, {filter:?}, in cycle {}", self.cycle));
            }
            one.filters[asking.filter].standing = Known::No;
            self.books.unsubscribed(party, &one.role.filters[asking.filter].topics);
        }
    }

    /// A client breaks with a broker that has broken the protocol.
    fn breach(&mut self, party: PartyId, what: String, now: Nanos, outbox: &mut Outbox) {
        self.flaws.add(Flaw::Protocol, || {
            format!("{} in cycle {}: {what}", self.parties[party.0].role.client_id, self.cycle)
        });
        self.hang_up(party, now, outbox);
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
            self.let_go(party, now, now);
        }
        self.greet(party, side, now, outbox);
        let one = &mut self.parties[party.0];
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
                    self.breach(party, fault.to_string(), now, outbox);
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
            one.retry_at = now.after(RETRY_NS);
            let greeted_at = one.greeted_at;
            self.let_go(party, greeted_at, now);
        } else if was == Side::Parting
            && self.is_up
            && let (Some(plan), Some(number)) = (one.role.will, one.parting_will.take())
        {
            // The broker has read the DISCONNECT, or it would not have closed [MQTT5-3.14.4-3] [MQTT311-3.14.4-3].
            self.will_void(plan.route, number);
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
        Envelope { qos: plan.qos, retain: plan.kind == RouteKind::Kept, expiry_seconds: None }
    }
}

/// A broker that does not accept is asked again after this long.
pub(crate) const RETRY_NS: u64 = 2 * MILLISECOND_NS;

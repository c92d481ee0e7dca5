//! The oracle: who was owed which message, and who has got it.
//!
//! A *route* is what one publisher sends to one topic, numbered 0, 1, 2 …. A *stream* is a route as one receiver sees
//! it. From some sequence on the receiver is *owed* every message; before that (while it subscribes, while it is away,
//! while the publisher's connection is torn) messages may come or not. The books keep two numbers per stream, and what
//! is missing only when something is. Routes and streams come into being with the first message, so a client that
//! nobody writes to costs eight bytes here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use dunlin_wire::QoS;

use super::cast::MemberId;
use super::interests::ShareId;
use super::shared::Shared;
use crate::client::Mark;
use crate::record::Violation;

/// A route by number; it travels in every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteId(pub(crate) u32);

/// What a route carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages that the publisher sends.
    Messages,
    /// The publisher's will.
    Will,
}

/// A route as it is entered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRoute {
    pub(crate) publisher: MemberId,
    /// Which publish entry of the publisher's group.
    pub(crate) entry: u16,
    pub(crate) kind: Kind,
    pub(crate) topic_hash: u64,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// What comes is looked at, what does not come is not missed.
    pub(crate) unchecked: bool,
    /// Messages expire: a session does not keep them for sure.
    pub(crate) fleeting: bool,
}

/// A receiver of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver {
    pub(crate) member: MemberId,
    /// Filters of the receiver that match; a broker may send a copy for each.
    pub(crate) copies: u8,
    /// The QoS at which messages come: the smaller of both sides.
    pub(crate) qos: QoS,
    /// RETAIN comes as it was published, so it does not tell a kept message from a new one.
    pub(crate) as_published: bool,
    /// Retained messages are sent when the subscription is made.
    pub(crate) replays: bool,
    /// Whether everything is owed from the first message on.
    pub(crate) owed: bool,
}

/// A route in the books. 48 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) new: NewRoute,
    first_stream: u32,
    stream_count: u32,
    first_share: u32,
    share_count: u32,
    /// Messages sent; the next has this sequence.
    pub(crate) sent: u32,
    /// One more than the highest sequence that the broker has taken over.
    acked: u32,
    /// Messages below were sent again by the publisher after a reconnect, and may come twice.
    repeat_until: u32,
    /// Streams and shares that are owed the next message.
    owed_count: u32,
    next_of_publisher: u32,
}

/// A stream in the books. 20 bytes.
#[derive(Clone, Copy, Debug)]
struct Stream {
    route: u32,
    member: MemberId,
    /// The next sequence; all before are accounted for.
    expected: u32,
    /// Messages from here on are owed; [`NOT_OWED`]: none.
    owed_from: u32,
    next_of_member: u32,
    copies: u8,
    flags: u8,
}

const NOT_OWED: u32 = u32::MAX;
const NONE: u32 = u32::MAX;

const QOS_0: u8 = 1;
const QOS_1: u8 = 1 << 1;
const AS_PUBLISHED: u8 = 1 << 2;
const REPLAYS: u8 = 1 << 3;

/// What the arrival of a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was to come.
    First,
    /// A retained message, sent because of a new subscription.
    Replayed,
    /// It comes again, and may.
    Again,
    /// It is wrong; whether it also comes for the first time.
    Wrong(Violation, bool),
}

/// Messages that are missing at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) what: Violation,
    pub(crate) route: RouteId,
    /// Who should have got them; `None`: somebody of a shared subscription.
    pub(crate) member: Option<MemberId>,
    pub(crate) first: u32,
    pub(crate) count: u64,
}

/// Which streams of a receiver are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of them.
    All,
    /// Those at QoS 0: a session keeps the others.
    AtMostOnce,
}

/// The books of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    routes: Vec<Route>,
    streams: Vec<Stream>,
    shares: Vec<Shared>,
    streams_of: Vec<u32>,
    routes_of: Vec<u32>,
    shares_of: BTreeMap<ShareId, u32>,
    missing: BTreeMap<u32, BTreeSet<u32>>,
    missing_count: u64,
    /// For streams of retained routes: what a replay must not be older than.
    floors: HashMap<u32, u32>,
    /// Who has still to be given the retained message of which topic.
    replays_due: HashSet<(MemberId, u64)>,
}

impl Ledger {
    /// Empty books for so many clients.
    pub(crate) fn new(members: usize) -> Self {
        Self {
            routes: Vec::new(),
            streams: Vec::new(),
            shares: Vec::new(),
            streams_of: vec![NONE; members],
            routes_of: vec![NONE; members],
            shares_of: BTreeMap::new(),
            missing: BTreeMap::new(),
            missing_count: 0,
            floors: HashMap::new(),
            replays_due: HashSet::new(),
        }
    }

    /// Enters a route. `receivers` are in ascending order, each once; `shares` says whether each is owed.
    pub(crate) fn add_route(
        &mut self,
        new: NewRoute,
        receivers: &[Receiver],
        shares: &[(ShareId, bool)],
    ) -> RouteId {
        let number = index_u32(self.routes.len());
        let first_stream = index_u32(self.streams.len());
        let mut owed_count = 0;
        for receiver in receivers {
            let owed = receiver.owed && !new.unchecked;
            owed_count += u32::from(owed);
            let head = &mut self.streams_of[receiver.member.index()];
            let next_of_member = std::mem::replace(head, index_u32(self.streams.len()));
            self.streams.push(Stream {
                route: number,
                member: receiver.member,
                expected: 0,
                owed_from: if owed { 0 } else { NOT_OWED },
                next_of_member,
                copies: receiver.copies,
                flags: flag(QOS_0, receiver.qos == QoS::AtMostOnce || new.fleeting)
                    | flag(QOS_1, receiver.qos == QoS::AtLeastOnce)
                    | flag(AS_PUBLISHED, receiver.as_published)
                    | flag(REPLAYS, receiver.replays),
            });
        }
        let first_share = index_u32(self.shares.len());
        for (id, owed) in shares {
            let owed = *owed && !new.unchecked;
            owed_count += u32::from(owed);
            let next = self.shares_of.insert(*id, index_u32(self.shares.len()));
            self.shares.push(Shared::new(*id, number, owed, next));
        }
        let next_of_publisher = std::mem::replace(&mut self.routes_of[new.publisher.index()], number);
        self.routes.push(Route {
            new,
            first_stream,
            stream_count: index_u32(receivers.len()),
            first_share,
            share_count: index_u32(shares.len()),
            sent: 0,
            acked: 0,
            repeat_until: 0,
            owed_count,
            next_of_publisher,
        });
        RouteId(number)
    }

    /// A route.
    pub(crate) fn route(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(id.0 as usize)
    }

    /// Takes the next sequence of a route: the message is written now. Returns it and how many receivers it is owed to.
    pub(crate) fn send(&mut self, id: RouteId) -> (u32, u32) {
        let route = &mut self.routes[id.0 as usize];
        let sequence = route.sent;
        route.sent += 1;
        (sequence, route.owed_count)
    }

    /// The broker has taken over a message.
    pub(crate) fn acknowledged(&mut self, id: RouteId, sequence: u32) {
        let route = &mut self.routes[id.0 as usize];
        route.acked = route.acked.max(sequence + 1);
    }

    /// The publisher has sent a message again.
    pub(crate) fn repeated(&mut self, id: RouteId, sequence: u32) {
        let route = &mut self.routes[id.0 as usize];
        route.repeat_until = route.repeat_until.max(sequence + 1);
    }

    /// A message has come to a client. `in_share` says whether the client takes part in a shared subscription.
    pub(crate) fn arrived(
        &mut self,
        member: MemberId,
        id: RouteId,
        sequence: u32,
        mark: Mark,
        in_share: impl Fn(ShareId) -> bool,
    ) -> Arrival {
        let Some(route) = self.routes.get(id.0 as usize).copied() else {
            return Arrival::Wrong(Violation::Corrupted, false);
        };
        if sequence >= route.sent {
            let what =
                if route.new.kind == Kind::Will { Violation::WillUnexpected } else { Violation::Corrupted };
            return Arrival::Wrong(what, false);
        }
        let Some(stream) = self.find(&route, member) else {
            return self.arrived_shared(&route, sequence, in_share);
        };
        self.arrived_direct(&route, stream, sequence, mark, in_share)
    }

    fn arrived_direct(
        &mut self,
        route: &Route,
        number: usize,
        sequence: u32,
        mark: Mark,
        in_share: impl Fn(ShareId) -> bool,
    ) -> Arrival {
        let stream = &mut self.streams[number];
        let is_replay = mark.retain && (stream.flags & AS_PUBLISHED == 0 || sequence < stream.expected);
        if route.new.retain {
            self.replays_due.remove(&(stream.member, route.new.topic_hash));
        }
        if is_replay {
            let floor = self.floors.get(&index_u32(number)).copied().unwrap_or(0);
            let stale = sequence + 1 < floor;
            return if stale { Arrival::Wrong(Violation::StaleRetained, false) } else { Arrival::Replayed };
        }
        if sequence == stream.expected {
            stream.expected += 1;
            return Arrival::First;
        }
        if sequence > stream.expected {
            let gap = stream.expected.max(stream.owed_from)..sequence;
            stream.expected = sequence + 1;
            if !gap.is_empty() {
                self.note_gap(index_u32(number), gap);
            }
            return Arrival::First;
        }
        if route.share_count > 0 {
            // The client also takes part in a shared subscription: the second copy may be that one's.
            let shared = self.arrived_shared(route, sequence, in_share);
            if shared == Arrival::First {
                return shared;
            }
        }
        self.arrived_late(route, number, sequence, mark)
    }

    #[cold]
    fn arrived_late(&mut self, route: &Route, number: usize, sequence: u32, mark: Mark) -> Arrival {
        let stream = self.streams[number];
        let was_missing =
            self.missing.get_mut(&index_u32(number)).is_some_and(|missing| missing.remove(&sequence));
        if was_missing {
            self.missing_count -= 1;
            return Arrival::Wrong(Violation::Reordered, true);
        }
        let repeats = mark.dup || sequence < route.repeat_until;
        let allowed = (stream.flags & QOS_1 != 0 && repeats)
            || stream.copies > 1
            || stream.owed_from == NOT_OWED
            || sequence < stream.owed_from;
        if allowed {
            return Arrival::Again;
        }
        let is_will = route.new.kind == Kind::Will;
        Arrival::Wrong(if is_will { Violation::WillUnexpected } else { Violation::Duplicated }, false)
    }

    fn arrived_shared(
        &mut self,
        route: &Route,
        sequence: u32,
        in_share: impl Fn(ShareId) -> bool,
    ) -> Arrival {
        let first = route.first_share as usize;
        let mut seen = None;
        for shared in &mut self.shares[first..first + route.share_count as usize] {
            if !in_share(shared.share) {
                continue;
            }
            if shared.arrived(sequence) {
                return Arrival::First;
            }
            seen = Some(shared.may_repeat(sequence, route.new.qos) || sequence < route.repeat_until);
        }
        match seen {
            None => Arrival::Wrong(Violation::Misdelivered, false),
            Some(true) => Arrival::Again,
            Some(false) => Arrival::Wrong(Violation::SharedTwice, false),
        }
    }

    /// A client writes SUBSCRIBE: what is retained and acknowledged by now, or newer, must come.
    pub(crate) fn subscribing(&mut self, member: MemberId) {
        let mut next = self.streams_of[member.index()];
        while let Some(stream) = self.streams.get(next as usize) {
            let route = &self.routes[stream.route as usize];
            if route.new.retain && route.acked > 0 {
                self.floors.insert(next, route.acked);
                if stream.flags & REPLAYS != 0 && !route.new.unchecked {
                    self.replays_due.insert((member, route.new.topic_hash));
                }
            }
            next = stream.next_of_member;
        }
    }

    /// From now on a client is owed what is sent to it.
    pub(crate) fn begin_owing(&mut self, member: MemberId, extent: Extent) {
        self.for_streams(member, extent, |route, stream| {
            if stream.owed_from == NOT_OWED && !route.new.unchecked {
                stream.owed_from = route.sent;
                route.owed_count += 1;
            }
        });
    }

    /// A client is owed nothing any more, not even what is under way.
    pub(crate) fn end_owing(&mut self, member: MemberId, extent: Extent) {
        self.for_streams(member, extent, |route, stream| {
            if stream.owed_from != NOT_OWED {
                stream.owed_from = NOT_OWED;
                route.owed_count -= 1;
            }
        });
        self.replays_due.retain(|(due, _)| *due != member);
    }

    /// What a publisher has under way may be lost: its connection is torn. `qos_0_only`: the rest will be sent again.
    pub(crate) fn excuse_publisher(&mut self, member: MemberId, qos_0_only: bool) {
        let mut next = self.routes_of[member.index()];
        while let Some(route) = self.routes.get(next as usize).copied() {
            if route.new.kind == Kind::Messages && (!qos_0_only || route.new.qos == QoS::AtMostOnce) {
                self.excuse(RouteId(next));
            }
            next = route.next_of_publisher;
        }
    }

    /// What is under way on a route may be lost.
    pub(crate) fn excuse(&mut self, id: RouteId) {
        let route = self.routes[id.0 as usize];
        let first = route.first_stream as usize;
        for stream in &mut self.streams[first..first + route.stream_count as usize] {
            if stream.owed_from != NOT_OWED {
                stream.owed_from = stream.owed_from.max(route.sent);
            }
        }
        let first = route.first_share as usize;
        for shared in &mut self.shares[first..first + route.share_count as usize] {
            shared.excuse(route.sent);
        }
    }

    /// Nobody is owed anything that is under way: the broker itself was away.
    pub(crate) fn excuse_all(&mut self) {
        for number in 0..self.routes.len() {
            self.excuse(RouteId(index_u32(number)));
        }
        self.replays_due.clear();
    }

    /// A member of a shared subscription came or went: what was under way to it may come to another, or be lost.
    /// `owed`: whether there are members left.
    pub(crate) fn share_changed(&mut self, id: ShareId, owed: bool) {
        let mut next = self.shares_of.get(&id).copied();
        while let Some(number) = next {
            let shared = &mut self.shares[number as usize];
            let route = &mut self.routes[shared.route as usize];
            let was_owed = shared.is_owed();
            let owed = owed && !route.new.unchecked;
            shared.change(route.sent, owed);
            route.owed_count = route.owed_count + u32::from(owed) - u32::from(was_owed);
            next = shared.next;
        }
    }

    /// Messages that are owed to clients who are here and have not come.
    pub(crate) fn pending(&self, is_here: impl Fn(MemberId) -> bool) -> u64 {
        let mut pending: u64 = self
            .shares
            .iter()
            .map(|shared| {
                let sent = self.routes[shared.route as usize].sent;
                u64::from(shared.missing(sent).1)
            })
            .sum();
        for stream in &self.streams {
            let tail = self.tail(stream);
            if tail > 0 && is_here(stream.member) {
                pending += u64::from(tail);
            }
        }
        pending + self.missing_count
    }

    /// Closes the books: hands all that is missing to `note`.
    pub(crate) fn close(&self, is_here: impl Fn(MemberId) -> bool, mut note: impl FnMut(Missing)) {
        for (number, stream) in (0_u32..).zip(&self.streams) {
            let route = RouteId(stream.route);
            let will = self.routes[stream.route as usize].new.kind == Kind::Will;
            let what = if will { Violation::WillMissing } else { Violation::Lost };
            let member = Some(stream.member);
            if let Some(missing) = self.missing.get(&number)
                && let Some(first) = missing.first()
            {
                note(Missing { what, route, member, first: *first, count: missing.len() as u64 });
            }
            let tail = self.tail(stream);
            if tail > 0 && is_here(stream.member) {
                let first = stream.expected.max(stream.owed_from);
                note(Missing { what, route, member, first, count: u64::from(tail) });
            }
        }
        for shared in &self.shares {
            let (first, count) = shared.missing(self.routes[shared.route as usize].sent);
            if count > 0 {
                let route = RouteId(shared.route);
                let what = Violation::SharedNever;
                note(Missing { what, route, member: None, first, count: u64::from(count) });
            }
        }
    }

    /// Clients that were not given retained messages, and how many in all.
    pub(crate) fn missing_replays(&self) -> (Option<MemberId>, u64) {
        (self.replays_due.iter().map(|(member, _)| *member).min(), self.replays_due.len() as u64)
    }

    fn tail(&self, stream: &Stream) -> u32 {
        if stream.owed_from == NOT_OWED {
            return 0;
        }
        let sent = self.routes[stream.route as usize].sent;
        sent.saturating_sub(stream.expected.max(stream.owed_from))
    }

    fn for_streams(
        &mut self,
        member: MemberId,
        extent: Extent,
        mut change: impl FnMut(&mut Route, &mut Stream),
    ) {
        let mut next = self.streams_of[member.index()];
        while let Some(stream) = self.streams.get_mut(next as usize) {
            if extent == Extent::All || stream.flags & QOS_0 != 0 {
                change(&mut self.routes[stream.route as usize], stream);
            }
            next = stream.next_of_member;
        }
    }

    /// The stream of a receiver. Receivers of a whole group stand in a row, so the first guess is mostly right.
    fn find(&self, route: &Route, member: MemberId) -> Option<usize> {
        let first = route.first_stream as usize;
        let streams = &self.streams[first..first + route.stream_count as usize];
        let guess = member.0.wrapping_sub(streams.first()?.member.0) as usize;
        if streams.get(guess).is_some_and(|stream| stream.member == member) {
            return Some(first + guess);
        }
        streams.binary_search_by_key(&member, |stream| stream.member).ok().map(|place| first + place)
    }

    #[cold]
    fn note_gap(&mut self, stream: u32, gap: std::ops::Range<u32>) {
        let kept = self.missing.entry(stream).or_default();
        let before = kept.len();
        kept.extend(gap);
        self.missing_count += (kept.len() - before) as u64;
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("routes and streams are counted in u32")
}

const fn flag(bit: u8, on: bool) -> u8 {
    if on { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Mark = Mark { qos: QoS::AtLeastOnce, retain: false, dup: false };
    const DUP: Mark = Mark { dup: true, ..LIVE };
    const KEPT: Mark = Mark { retain: true, ..LIVE };
    const PUBLISHER: MemberId = MemberId(9);

    fn new_route(qos: QoS) -> NewRoute {
        NewRoute {
            publisher: PUBLISHER,
            entry: 0,
            kind: Kind::Messages,
            topic_hash: 77,
            qos,
            retain: false,
            unchecked: false,
            fleeting: false,
        }
    }

    fn receiver(member: u32, qos: QoS, owed: bool) -> Receiver {
        Receiver { member: MemberId(member), copies: 1, qos, as_published: false, replays: true, owed }
    }

    /// One route to client 1, which has sent `sent` messages.
    fn books(qos: QoS, owed: bool, sent: u32) -> (Ledger, RouteId) {
        let mut ledger = Ledger::new(10);
        let route = ledger.add_route(new_route(qos), &[receiver(1, qos, owed)], &[]);
        send(&mut ledger, route, sent);
        (ledger, route)
    }

    fn send(ledger: &mut Ledger, route: RouteId, count: u32) {
        for _ in 0..count {
            ledger.send(route);
        }
    }

    fn arrive(ledger: &mut Ledger, route: RouteId, sequence: u32, mark: Mark) -> Arrival {
        ledger.arrived(MemberId(1), route, sequence, mark, |_| false)
    }

    fn lost(ledger: &Ledger) -> u64 {
        let mut count = 0;
        ledger.close(|_| true, |missing| count += missing.count);
        count
    }

    #[test]
    fn all_in_order_is_clean() {
        let (mut ledger, route) = books(QoS::AtMostOnce, true, 3);
        for sequence in 0..3 {
            assert_eq!(ledger.pending(|_| true), u64::from(3 - sequence));
            assert_eq!(arrive(&mut ledger, route, sequence, LIVE), Arrival::First);
        }
        assert_eq!((ledger.pending(|_| true), lost(&ledger)), (0, 0));
    }

    #[test]
    fn gaps_and_tails_are_losses_and_a_late_one_is_not() {
        let (mut ledger, route) = books(QoS::AtMostOnce, true, 6);
        assert_eq!(arrive(&mut ledger, route, 3, LIVE), Arrival::First);
        assert_eq!(lost(&ledger), 5);
        assert_eq!(arrive(&mut ledger, route, 1, LIVE), Arrival::Wrong(Violation::Reordered, true));
        assert_eq!(arrive(&mut ledger, route, 1, LIVE), Arrival::Wrong(Violation::Duplicated, false));
        assert_eq!(lost(&ledger), 4);
    }

    #[test]
    fn before_the_subscription_stands_nothing_is_owed() {
        let (mut ledger, route) = books(QoS::AtMostOnce, false, 5);
        ledger.begin_owing(MemberId(1), Extent::All);
        send(&mut ledger, route, 2);
        assert_eq!(lost(&ledger), 2);
        // One from the time between SUBSCRIBE and SUBACK is welcome.
        assert_eq!(arrive(&mut ledger, route, 4, LIVE), Arrival::First);
        assert_eq!(arrive(&mut ledger, route, 6, LIVE), Arrival::First);
        assert_eq!(lost(&ledger), 1);
    }

    #[test]
    fn a_session_is_owed_what_came_while_its_client_was_away_except_at_qos_0() {
        for (qos, owed) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 5)] {
            let (mut ledger, route) = books(qos, true, 2);
            ledger.end_owing(MemberId(1), Extent::AtMostOnce);
            send(&mut ledger, route, 3);
            ledger.begin_owing(MemberId(1), Extent::AtMostOnce);
            assert_eq!(lost(&ledger), owed, "{qos:?}");
        }
    }

    #[test]
    fn a_second_time_is_allowed_with_dup_at_qos_1_only() {
        for (qos, mark, expected) in [
            (QoS::AtLeastOnce, DUP, Arrival::Again),
            (QoS::AtLeastOnce, LIVE, Arrival::Wrong(Violation::Duplicated, false)),
            (QoS::ExactlyOnce, DUP, Arrival::Wrong(Violation::Duplicated, false)),
            (QoS::AtMostOnce, LIVE, Arrival::Wrong(Violation::Duplicated, false)),
        ] {
            let (mut ledger, route) = books(qos, true, 2);
            arrive(&mut ledger, route, 0, LIVE);
            assert_eq!(arrive(&mut ledger, route, 0, mark), expected, "{qos:?}");
        }
    }

    #[test]
    fn what_the_publisher_sent_again_may_come_again_without_dup() {
        let (mut ledger, route) = books(QoS::AtLeastOnce, true, 2);
        arrive(&mut ledger, route, 0, LIVE);
        ledger.repeated(route, 0);
        assert_eq!(arrive(&mut ledger, route, 0, LIVE), Arrival::Again);
        arrive(&mut ledger, route, 1, LIVE);
        assert_eq!(arrive(&mut ledger, route, 1, LIVE), Arrival::Wrong(Violation::Duplicated, false));
    }

    #[test]
    fn two_filters_that_match_may_bring_two_copies() {
        let mut ledger = Ledger::new(10);
        let twice = Receiver { copies: 2, ..receiver(1, QoS::AtMostOnce, true) };
        let route = ledger.add_route(new_route(QoS::AtMostOnce), &[twice], &[]);
        send(&mut ledger, route, 1);
        assert_eq!(arrive(&mut ledger, route, 0, LIVE), Arrival::First);
        assert_eq!(arrive(&mut ledger, route, 0, LIVE), Arrival::Again);
    }

    #[test]
    fn others_and_what_was_never_sent_are_wrong() {
        let (mut ledger, route) = books(QoS::AtMostOnce, true, 1);
        let other = ledger.arrived(MemberId(2), route, 0, LIVE, |_| false);
        assert_eq!(other, Arrival::Wrong(Violation::Misdelivered, false));
        assert_eq!(arrive(&mut ledger, route, 1, LIVE), Arrival::Wrong(Violation::Corrupted, false));
        assert_eq!(arrive(&mut ledger, RouteId(5), 0, LIVE), Arrival::Wrong(Violation::Corrupted, false));
    }

    #[test]
    fn a_torn_publisher_excuses_what_was_under_way_and_no_more() {
        let (mut ledger, route) = books(QoS::AtMostOnce, true, 3);
        ledger.excuse_publisher(PUBLISHER, true);
        assert_eq!(lost(&ledger), 0);
        send(&mut ledger, route, 1);
        assert_eq!(lost(&ledger), 1);
        let (mut ledger, _) = books(QoS::AtLeastOnce, true, 3);
        ledger.excuse_publisher(PUBLISHER, true);
        assert_eq!(lost(&ledger), 3, "a session sends these again");
    }

    #[test]
    fn a_replay_must_not_be_older_than_what_was_acknowledged_before_the_subscription() {
        let mut ledger = Ledger::new(10);
        let retained = NewRoute { retain: true, ..new_route(QoS::AtLeastOnce) };
        let route = ledger.add_route(retained, &[receiver(1, QoS::AtLeastOnce, false)], &[]);
        send(&mut ledger, route, 4);
        ledger.acknowledged(route, 2);
        ledger.subscribing(MemberId(1));
        assert_eq!(ledger.missing_replays(), (Some(MemberId(1)), 1));
        let stale = Arrival::Wrong(Violation::StaleRetained, false);
        assert_eq!(arrive(&mut ledger, route, 1, KEPT), stale);
        for sequence in [2, 3] {
            assert_eq!(arrive(&mut ledger, route, sequence, KEPT), Arrival::Replayed);
        }
        assert_eq!(ledger.missing_replays(), (None, 0));
    }

    #[test]
    fn a_will_comes_once_and_only_after_a_fall() {
        let mut ledger = Ledger::new(10);
        let will = NewRoute { kind: Kind::Will, ..new_route(QoS::AtMostOnce) };
        let route = ledger.add_route(will, &[receiver(1, QoS::AtMostOnce, true)], &[]);
        let unexpected = Arrival::Wrong(Violation::WillUnexpected, false);
        assert_eq!(arrive(&mut ledger, route, 0, LIVE), unexpected);
        send(&mut ledger, route, 1);
        let mut kinds = Vec::new();
        ledger.close(|_| true, |missing| kinds.push(missing.what));
        assert_eq!(kinds, [Violation::WillMissing]);
        assert_eq!(arrive(&mut ledger, route, 0, LIVE), Arrival::First);
        assert_eq!(arrive(&mut ledger, route, 0, LIVE), unexpected);
    }

    #[test]
    fn a_client_with_both_kinds_of_subscription_gets_one_for_each() {
        let mut ledger = Ledger::new(10);
        let share = ShareId(0);
        let route = ledger.add_route(
            new_route(QoS::AtMostOnce),
            &[receiver(1, QoS::AtMostOnce, true)],
            &[(share, true)],
        );
        assert_eq!(ledger.send(route), (0, 2));
        let mut come = |member| ledger.arrived(MemberId(member), route, 0, LIVE, |_| true);
        assert_eq!(come(1), Arrival::First);
        assert_eq!(come(1), Arrival::First);
        assert_eq!(come(2), Arrival::Wrong(Violation::SharedTwice, false));
        assert_eq!(lost(&ledger), 0);
    }

    #[test]
    fn when_the_last_member_leaves_nothing_is_owed_to_a_share() {
        let mut ledger = Ledger::new(10);
        let route = ledger.add_route(new_route(QoS::AtMostOnce), &[], &[(ShareId(0), true)]);
        send(&mut ledger, route, 2);
        assert_eq!(lost(&ledger), 2);
        ledger.share_changed(ShareId(0), false);
        assert_eq!(ledger.send(route), (2, 0));
        ledger.share_changed(ShareId(0), true);
        assert_eq!(ledger.send(route), (3, 1));
        assert_eq!(lost(&ledger), 1);
    }

    #[test]
    fn nobody_is_owed_twice_however_often_it_is_said() {
        let (mut ledger, route) = books(QoS::AtLeastOnce, true, 0);
        ledger.begin_owing(MemberId(1), Extent::All);
        ledger.begin_owing(MemberId(1), Extent::AtMostOnce);
        assert_eq!(ledger.send(route), (0, 1));
        ledger.end_owing(MemberId(1), Extent::All);
        ledger.end_owing(MemberId(1), Extent::All);
        assert_eq!(ledger.send(route), (1, 0));
    }
}

//! The books: what was sent, what was acknowledged, and who has got what.

use std::collections::BTreeSet;

use dunlin_wire::QoS;

use super::cast::{Cast, GROUPS, PartyId, RouteId, RouteKind};
use super::pool::Pool;
use super::stream::{Arrival, Stream};

/// All of it.
#[derive(Debug)]
pub(crate) struct Books {
    routes: Vec<Route>,
    streams: Vec<Entry>,
    /// By party: the streams that it receives.
    streams_of: Vec<Vec<usize>>,
    /// By shared group: whether it has a member that stays, as the broker has confirmed.
    groups: [bool; GROUPS],
    pub(crate) totals: Totals,
}

/// One route.
#[derive(Debug)]
struct Route {
    topic_index: Option<usize>,
    kind: RouteKind,
    qos: QoS,
    /// For a shared group.
    pool: Option<(Pool, PartyId)>,
    /// Messages sent; the next has this number.
    sent: u32,
    /// Sent, and neither acknowledged nor refused.
    under_way: BTreeSet<u32>,
    /// The highest acknowledged number.
    acked: Option<u32>,
    /// In which cycle each message was acknowledged; 0: not yet.
    acked_in: Vec<u32>,
    streams: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    stream: Stream,
    route: RouteId,
    party: PartyId,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Messages sent for the first time.
    pub(crate) sent: u64,
    /// Messages that the broker has taken over, by QoS 1 and 2.
    pub(crate) acknowledged: [u64; 2],
    /// First arrivals.
    pub(crate) delivered: u64,
    /// Further arrivals that QoS 1 allows.
    pub(crate) repeated: u64,
    /// First arrivals at members of shared groups, which are among those delivered.
    pub(crate) shared: u64,
    /// First arrivals of Wills, likewise.
    pub(crate) wills: u64,
    /// Messages that the broker has refused.
    pub(crate) refused: u64,
}

/// A message that was acknowledged, or at least sent until it was, and did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) route: RouteId,
    pub(crate) party: PartyId,
    pub(crate) number: u32,
    /// In which cycle it was acknowledged, counted from 1.
    pub(crate) acked_in: u32,
}

impl Books {
    /// Empty books for a cast.
    pub(crate) fn new(cast: &Cast) -> Self {
        let mut books = Self {
            routes: Vec::new(),
            streams: Vec::new(),
            streams_of: vec![Vec::new(); cast.roles.len()],
            groups: [false; GROUPS],
            totals: Totals::default(),
        };
        for plan in &cast.routes {
            books.routes.push(Route {
                topic_index: plan.topic_index,
                kind: plan.kind,
                qos: plan.qos,
                pool: None,
                sent: 0,
                under_way: BTreeSet::new(),
                acked: None,
                acked_in: Vec::new(),
                streams: Vec::new(),
            });
        }
        for (number, role) in cast.roles.iter().enumerate() {
            for filter in &role.filters {
                match filter.group {
                    Some(group) => books.enter_group(PartyId(number), group, filter.qos),
                    None => books.enter(PartyId(number), &filter.topics, filter.qos),
                }
            }
        }
        books
    }

    fn enter(&mut self, party: PartyId, topics: &[usize], granted: QoS) {
        for (number, route) in self.routes.iter_mut().enumerate() {
            if route.topic_index.is_none_or(|topic| !topics.contains(&topic)) {
                continue;
            }
            let exactly_once = route.qos.min(granted) == QoS::ExactlyOnce;
            route.streams.push(self.streams.len());
            self.streams_of[party.0].push(self.streams.len());
            self.streams.push(Entry { stream: Stream::new(exactly_once), route: RouteId(number), party });
        }
    }

    /// Members of a group come one by one; losses are told of the first.
    fn enter_group(&mut self, party: PartyId, group: usize, granted: QoS) {
        for route in self.routes.iter_mut().filter(|route| route.kind == RouteKind::Pool(group)) {
            let exactly_once = route.qos.min(granted) == QoS::ExactlyOnce;
            route.pool.get_or_insert_with(|| (Pool::new(group, exactly_once), party));
        }
    }

    /// A group has a member that stays.
    pub(crate) fn group_joined(&mut self, group: usize) {
        self.groups[group] = true;
    }

    /// A new message goes out; gives its number.
    pub(crate) fn send(&mut self, route: RouteId) -> u32 {
        self.totals.sent += 1;
        let groups = self.groups;
        let route = &mut self.routes[route.0];
        let number = route.number();
        if let Some((pool, _)) = &mut route.pool {
            pool.send(number, groups[pool.group]);
        }
        number
    }

    /// A client hands a new Will to the broker; gives its number. It may come or not until its fate is known.
    pub(crate) fn will_made(&mut self, route: RouteId) -> u32 {
        let Self { routes, streams, .. } = self;
        let number = routes[route.0].number();
        for stream in &routes[route.0].streams {
            streams[*stream].stream.excuse(number);
        }
        number
    }

    /// A Will is due.
    pub(crate) fn will_due(&mut self, route: RouteId, number: u32) {
        let Self { routes, streams, .. } = self;
        for stream in &routes[route.0].streams {
            streams[*stream].stream.demand(number);
        }
    }

    /// A Will must not be published; gives those who have it nevertheless.
    pub(crate) fn will_void(&mut self, route: RouteId, number: u32) -> Vec<PartyId> {
        let Self { routes, streams, .. } = self;
        let streams_of = routes[route.0].streams.iter();
        let has_come = |index: &&usize| streams[**index].stream.forbid(number);
        let found: Vec<usize> = streams_of.filter(has_come).copied().collect();
        found.into_iter().map(|index| self.streams[index].party).collect()
    }

    /// The broker has taken a message over, in this cycle (counted from 1).
    pub(crate) fn acknowledged(&mut self, route: RouteId, number: u32, cycle: u32) {
        let route = &mut self.routes[route.0];
        route.under_way.remove(&number);
        route.acked = route.acked.max(Some(number));
        if let Some(slot) = usize::try_from(number).ok().and_then(|index| route.acked_in.get_mut(index)) {
            *slot = cycle;
        }
        self.totals.acknowledged[usize::from(route.qos == QoS::ExactlyOnce)] += 1;
    }

    /// The broker has refused a message.
    pub(crate) fn refused(&mut self, route: RouteId, number: u32) {
        self.totals.refused += 1;
        self.doubt(route, number);
    }

    /// Nobody will ever know whether this message got through: its publisher's session is lost.
    pub(crate) fn doubt(&mut self, route: RouteId, number: u32) {
        let Self { routes, streams, .. } = self;
        let route = &mut routes[route.0];
        route.under_way.remove(&number);
        if let Some((pool, _)) = &mut route.pool {
            pool.excuse(number);
        }
        for stream in &route.streams {
            streams[*stream].stream.excuse(number);
        }
    }

    /// A message has come to a subscriber; `None` if it can't be for it, or was never sent.
    pub(crate) fn arrived(&mut self, party: PartyId, route: RouteId, number: u32) -> Option<Arrival> {
        if number >= self.routes[route.0].sent {
            return None;
        }
        let kind = self.routes[route.0].kind;
        let arrival = if let Some((pool, _)) = &mut self.routes[route.0].pool {
            pool.arrive(number)
        } else {
            let found = self.streams_of[party.0].iter().find(|stream| self.streams[**stream].route == route);
            self.streams[*found?].stream.arrive(number)
        };
        match arrival {
            Arrival::First | Arrival::OutOfOrder => {
                self.totals.delivered += 1;
                self.totals.shared += u64::from(matches!(kind, RouteKind::Pool(_)));
                self.totals.wills += u64::from(kind == RouteKind::Will);
            }
            Arrival::Again => self.totals.repeated += 1,
            Arrival::Twice | Arrival::Barred => {}
        }
        Some(arrival)
    }

    /// The broker has confirmed subscriptions to these topics.
    pub(crate) fn subscribed(&mut self, party: PartyId, topics: &[usize]) {
        self.each(party, topics, |stream, route| stream.owe(route.sent));
    }

    /// A client is about to subscribe to these topics.
    pub(crate) fn subscribing(&mut self, party: PartyId, topics: &[usize]) {
        self.each(party, topics, |stream, route| stream.unbar(route.first_open()));
    }

    /// A client is about to unsubscribe from these topics, or has lost its subscriptions.
    pub(crate) fn unsubscribing(&mut self, party: PartyId, topics: &[usize]) {
        self.each(party, topics, |stream, _| stream.release());
    }

    /// The broker has confirmed that the subscriptions are gone.
    pub(crate) fn unsubscribed(&mut self, party: PartyId, topics: &[usize]) {
        self.each(party, topics, |stream, route| stream.bar_from(route.sent));
    }

    /// What each stream of a client could still bring of messages that are under way: the bounds for
    /// [`Books::renewed`], taken when the CONNECT is sent that ends the session or finds it ended.
    pub(crate) fn bounds(&self, party: PartyId) -> Vec<u32> {
        let streams = self.streams_of[party.0].iter().map(|index| &self.streams[*index]);
        streams.map(|entry| self.routes[entry.route.0].first_open()).collect()
    }

    /// A CONNECT that ends the session is sent: what has not come may stay away.
    pub(crate) fn renewing(&mut self, party: PartyId) -> Vec<u32> {
        for index in &self.streams_of[party.0] {
            self.streams[*index].stream.release();
        }
        self.bounds(party)
    }

    /// The broker has confirmed that the session has ended and a new one begun.
    pub(crate) fn renewed(&mut self, party: PartyId, bounds: &[u32]) {
        let Self { streams, streams_of, .. } = self;
        for (index, bound) in streams_of[party.0].iter().zip(bounds) {
            streams[*index].stream.bar_before(*bound);
        }
    }

    fn each(&mut self, party: PartyId, topics: &[usize], change: impl Fn(&mut Stream, &Route)) {
        let Self { routes, streams, streams_of, .. } = self;
        for index in &streams_of[party.0] {
            let entry = &mut streams[*index];
            let route = &routes[entry.route.0];
            if route.topic_index.is_some_and(|topic| topics.contains(&topic)) {
                change(&mut entry.stream, route);
            }
        }
    }

    /// Messages that are owed to a client and have not come.
    pub(crate) fn pending(&self, party: PartyId) -> usize {
        let streams = self.streams_of[party.0].iter().map(|stream| &self.streams[*stream]);
        streams.map(|entry| entry.stream.pending(self.routes[entry.route.0].sent)).sum()
    }

    /// Messages that a shared group has not got yet.
    pub(crate) fn pending_in_groups(&self) -> [usize; GROUPS] {
        let mut pending = [0; GROUPS];
        for (pool, _) in self.routes.iter().filter_map(|route| route.pool.as_ref()) {
            pending[pool.group] += pool.pending();
        }
        pending
    }

    /// Clients that receive what this route carries, each once.
    pub(crate) fn receivers(&self, route: RouteId) -> impl Iterator<Item = PartyId> {
        self.routes[route.0].streams.iter().map(|stream| self.streams[*stream].party)
    }

    /// Messages sent on a route.
    pub(crate) fn sent(&self, route: RouteId) -> u32 {
        self.routes[route.0].sent
    }

    /// The highest acknowledged number of a route.
    pub(crate) fn acked(&self, route: RouteId) -> Option<u32> {
        self.routes[route.0].acked
    }

    /// The session of a client is gone against the broker's word: what was acknowledged and has not come is lost; what
    /// is still under way may come or not.
    pub(crate) fn session_lost(&mut self, party: PartyId) -> Vec<Loss> {
        let mut losses = Vec::new();
        for index in &self.streams_of[party.0] {
            let entry = &mut self.streams[*index];
            let route = &self.routes[entry.route.0];
            let bound = route.first_open();
            for number in entry.stream.settle(bound) {
                let loss = route.loss(entry.route, entry.party, number);
                losses.extend(loss.filter(|loss| loss.acked_in > 0));
            }
            entry.stream.release();
        }
        losses
    }

    /// Everything that could come has come: what is missing is lost.
    pub(crate) fn settle(&mut self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for entry in &mut self.streams {
            let route = &self.routes[entry.route.0];
            // The last Will of each client is still with the broker.
            let bound = route.sent.saturating_sub(u32::from(route.kind == RouteKind::Will));
            for number in entry.stream.settle(bound) {
                losses.extend(route.loss(entry.route, entry.party, number));
            }
        }
        for (index, route) in self.routes.iter_mut().enumerate() {
            let lost = route.pool.as_mut().map_or_else(Vec::new, |(pool, party)| {
                pool.settle().into_iter().map(|number| (*party, number)).collect()
            });
            losses.extend(
                lost.into_iter().filter_map(|(party, number)| route.loss(RouteId(index), party, number)),
            );
        }
        losses
    }
}

impl Route {
    /// The number of a new message.
    fn number(&mut self) -> u32 {
        let number = self.sent;
        self.sent += 1;
        self.acked_in.push(0);
        if self.kind != RouteKind::Will {
            self.under_way.insert(number);
        }
        number
    }

    /// A message of this route that did not come.
    fn loss(&self, route: RouteId, party: PartyId, number: u32) -> Option<Loss> {
        let acked_in = usize::try_from(number).ok().and_then(|index| self.acked_in.get(index));
        acked_in.map(|acked_in| Loss { route, party, number, acked_in: *acked_in })
    }

    /// The first message that may still be sent (again) to subscribers: the lowest under way, or the next.
    fn first_open(&self) -> u32 {
        self.under_way.first().copied().unwrap_or(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cast::tests::cast;
    use super::*;

    /// A subscriber of all topics, and a route.
    fn books() -> (Cast, Books, PartyId, RouteId) {
        let cast = cast();
        let books = Books::new(&cast);
        let everything =
            |role: &super::super::cast::Role| role.filters.iter().any(|filter| filter.topics.len() == 6);
        let party = PartyId(cast.roles.iter().position(everything).unwrap());
        let is_it = |plan: &super::super::cast::RoutePlan| {
            plan.topic_index == Some(0) && plan.qos == QoS::ExactlyOnce
        };
        let route = RouteId(cast.routes.iter().position(is_it).unwrap());
        (cast, books, party, route)
    }

    #[test]
    fn an_acknowledged_message_that_does_not_come_is_lost_with_the_cycle_of_its_acknowledgement() {
        let (_, mut books, party, route) = books();
        books.subscribed(party, &[0]);
        for cycle in 1..=3 {
            let number = books.send(route);
            books.acknowledged(route, number, cycle);
        }
        assert_eq!(books.arrived(party, route, 0), Some(Arrival::First));
        assert_eq!(books.arrived(party, route, 2), Some(Arrival::First));
        assert_eq!(books.pending(party), 1);
        assert_eq!(books.settle(), [Loss { route, party, number: 1, acked_in: 2 }]);
        assert_eq!(books.totals.acknowledged, [0, 3]);
    }

    #[test]
    fn a_message_that_was_never_sent_or_not_subscribed_to_is_foreign() {
        let (cast, mut books, party, route) = books();
        books.subscribed(party, &[0]);
        assert_eq!(books.arrived(party, route, 0), None);
        books.send(route);
        assert_eq!(books.arrived(cast.reader(), route, 0), None);
    }

    #[test]
    fn after_a_clean_start_only_what_was_under_way_may_still_come() {
        let (_, mut books, party, route) = books();
        books.subscribed(party, &[0]);
        let (done, open) = (books.send(route), books.send(route));
        books.acknowledged(route, done, 1);
        let bounds = books.renewing(party);
        books.renewed(party, &bounds);
        books.subscribing(party, &[0]);
        books.subscribed(party, &[0]);
        assert_eq!(books.arrived(party, route, done), Some(Arrival::Barred));
        assert_eq!(books.arrived(party, route, open), Some(Arrival::First));
        assert_eq!(books.settle(), []);
    }

    #[test]
    fn with_a_lost_session_what_was_acknowledged_is_lost_and_what_is_under_way_is_not() {
        let (_, mut books, party, route) = books();
        books.subscribed(party, &[0]);
        let (done, _open) = (books.send(route), books.send(route));
        books.acknowledged(route, done, 1);
        assert_eq!(books.session_lost(party), [Loss { route, party, number: done, acked_in: 1 }]);
        assert_eq!(books.settle(), []);
    }

    #[test]
    fn a_refused_message_is_not_missed() {
        let (_, mut books, party, route) = books();
        books.subscribed(party, &[0]);
        let number = books.send(route);
        books.refused(route, number);
        assert_eq!((books.pending(party), books.settle()), (0, vec![]));
        assert_eq!(books.totals.refused, 1);
    }
}

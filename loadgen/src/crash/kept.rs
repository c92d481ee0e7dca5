//! Retained messages as a new subscriber is given them.
//!
//! Each retained topic has one publisher that numbers what it writes; some writes are removals. When the reader
//! subscribes, the last acknowledged write of each topic is the oldest that it may be given.

use super::books::Books;
use super::cast::{Cast, RouteId};

/// One reading of all retained topics.
#[derive(Debug)]
pub(crate) struct Reading {
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    route: RouteId,
    /// The last write that was acknowledged when the reader subscribed.
    floor: Option<u32>,
    given: bool,
    /// One that is not older came as a live message.
    live: bool,
}

/// What was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// What is allowed.
    Fresh,
    /// Older than the last acknowledged write, which is this one.
    Stale(u32),
    /// No retained message of this run.
    Unknown,
}

impl Reading {
    /// The reader subscribes now.
    pub(crate) fn begin(cast: &Cast, books: &Books) -> Self {
        let routes = cast.roles.iter().flat_map(|role| role.kept_routes.iter().copied());
        Self {
            topics: routes
                .map(|route| Topic { route, floor: books.acked(route), given: false, live: false })
                .collect(),
        }
    }

    /// A message has come to the reader; `retained` is its flag.
    pub(crate) fn give(&mut self, route: RouteId, number: u32, retained: bool, books: &Books) -> Given {
        let Some(topic) = self.topics.iter_mut().find(|topic| topic.route == route) else {
            return Given::Unknown;
        };
        if number >= books.sent(route) {
            return Given::Unknown;
        }
        if !retained {
            // It was published while the reader was there; it may well be one that is sent again.
            topic.live |= topic.floor.is_none_or(|floor| number >= floor);
            return Given::Fresh;
        }
        topic.given = true;
        match topic.floor {
            Some(floor) if number < floor => Given::Stale(floor),
            Some(_) | None => Given::Fresh,
        }
    }

    /// Topics of which the reader has the last state, but by a live message only.
    ///
    /// To the letter the retained message has to come as well, marked as such [MQTT5-3.3.1-9] [MQTT311-3.3.1-6]: a subscription that gets what is
    /// published now was made before it. But after the newer message the older one would come out of order [MQTT5-4.6.0-6], and the newer one
    /// a second time. Nothing is lost for the reader, so these are counted and not held against the broker.
    pub(crate) fn live_only(&self, cast: &Cast, books: &Books) -> usize {
        let live = |topic: &&Topic| topic.live && !topic.given;
        self.topics.iter().filter(live).filter(|topic| topic.must_come(cast, books)).count()
    }

    /// Topics whose last state has not been given although there must be one.
    pub(crate) fn missing(&self, cast: &Cast, books: &Books) -> impl Iterator<Item = (RouteId, u32)> {
        let missing = self.topics.iter().filter(|topic| !topic.given && !topic.live);
        let missing = missing.filter(|topic| topic.must_come(cast, books));
        missing.filter_map(|topic| Some((topic.route, topic.floor?)))
    }
}

impl Topic {
    /// Whether a message is retained there for certain.
    fn must_come(&self, cast: &Cast, books: &Books) -> bool {
        let Some(floor) = self.floor else { return false };
        !(floor..books.sent(self.route)).any(|number| cast.is_removal(self.route, number))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cast::tests::cast;
    use super::*;

    /// A retained route, one write that is a removal and one after it that is not.
    fn written(books: &mut Books, cast: &Cast, until: impl Fn(bool) -> bool) -> (RouteId, u32) {
        let route = cast.roles[0].kept_routes[0];
        loop {
            let number = books.send(route);
            books.acknowledged(route, number, 1);
            if until(cast.is_removal(route, number)) {
                return (route, number);
            }
        }
    }

    #[test]
    fn the_last_acknowledged_write_must_come_and_an_older_one_must_not() {
        let cast = cast();
        let mut books = Books::new(&cast);
        written(&mut books, &cast, |removal| !removal);
        let (route, number) = written(&mut books, &cast, |removal| !removal);
        let mut reading = Reading::begin(&cast, &books);
        assert_eq!(reading.missing(&cast, &books).collect::<Vec<_>>(), [(route, number)]);
        assert_eq!(reading.give(route, number - 1, true, &books), Given::Stale(number));
        assert_eq!(reading.give(route, number, true, &books), Given::Fresh);
        assert_eq!(reading.missing(&cast, &books).count(), 0);
        assert_eq!(reading.give(route, number + 1, true, &books), Given::Unknown);
        assert_eq!(reading.give(RouteId(0), 0, true, &books), Given::Unknown);
    }

    #[test]
    fn what_was_removed_need_not_come_and_what_was_before_must_not() {
        let cast = cast();
        let mut books = Books::new(&cast);
        written(&mut books, &cast, |removal| !removal);
        let (route, removal) = written(&mut books, &cast, |removal| removal);
        let mut reading = Reading::begin(&cast, &books);
        assert_eq!(reading.missing(&cast, &books).count(), 0);
        assert_eq!(reading.give(route, removal - 1, true, &books), Given::Stale(removal));
    }

    #[test]
    fn an_older_message_that_is_sent_again_to_all_is_not_a_stale_retained_one() {
        let cast = cast();
        let mut books = Books::new(&cast);
        written(&mut books, &cast, |removal| !removal);
        let (route, number) = written(&mut books, &cast, |removal| !removal);
        let mut reading = Reading::begin(&cast, &books);
        assert_eq!(reading.give(route, number - 1, false, &books), Given::Fresh);
        assert_eq!(reading.missing(&cast, &books).count(), 1);
    }

    #[test]
    fn what_comes_to_all_while_the_reader_subscribes_is_not_missed_but_counted_until_it_comes_as_retained() {
        let cast = cast();
        let mut books = Books::new(&cast);
        let (route, number) = written(&mut books, &cast, |removal| !removal);
        let mut reading = Reading::begin(&cast, &books);
        assert_eq!(reading.give(route, number, false, &books), Given::Fresh);
        assert_eq!((reading.missing(&cast, &books).count(), reading.live_only(&cast, &books)), (0, 1));
        assert_eq!(reading.give(route, number, true, &books), Given::Fresh);
        assert_eq!(reading.live_only(&cast, &books), 0);
    }
}

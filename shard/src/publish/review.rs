//! Rights at the moment of use: what a session is subscribed to is asked for again when the session is resumed, and when
//! somebody says that rights have changed.
//!
//! A review asks the authorizer for one subscription after the other. Until the last answer is there nothing is sent to the
//! client that it was not sent before: messages wait in its queue. A subscription that is refused is removed, and what waits
//! only because of it is dropped, or goes to another member of its group. What was sent and not acknowledged is completed.
//! Neither version of the protocol has a word for it: the client hears nothing, the session hook and the counters do.

use std::collections::VecDeque;

use dunlin_wire::topic::{self, FilterKind};
use dunlin_wire::types::QoS;

use super::delivery::Delivery;
use super::subscribe::{Asked, authorization_counter};
use crate::action::Actions;
use crate::core::{Asker, ShardCore};
use crate::deadlines::Due;
use crate::ids::{ConnId, SessionId, Token};
use crate::limits::REVIEW_STEP_COUNT;
use crate::metrics::Counter;
use crate::time::Mono;
use crate::topics::{FilterId, Target};

/// A session's subscriptions on their way past the authorizer. Boxed with its connection; exists only meanwhile.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// Plain subscriptions that are still to be asked for, the next one last.
    plain: Vec<FilterId>,
    /// Shared and exclusive ones, as the client wrote them.
    special: Vec<Box<str>>,
    /// The question that is open, and the subscription that it is about, as the client wrote it.
    asked: Option<(Token, Box<str>)>,
    /// Subscriptions that were removed, as the client wrote them.
    refused: Vec<Box<str>>,
}

/// Reviews of one shard that go on with a later event. Empty while no rights change.
#[derive(Debug, Default)]
pub(crate) struct Reviews {
    /// Connections whose review goes on with the next step; some may be gone or through.
    waiting: VecDeque<ConnId>,
    /// All sessions from this index on are still to be reviewed.
    next_session: Option<u32>,
    /// Rights changed again meanwhile: all sessions once more.
    is_stale: bool,
    is_armed: bool,
}

impl ShardCore {
    /// Rights have changed: of one client, or of all. Sessions without a connection are reviewed when they are resumed.
    pub(crate) fn reauthorize(&mut self, client_id: Option<&str>, actions: &mut Actions) {
        if self.hooks.authorizer.is_none() {
            return;
        }
        match client_id {
            Some(client_id) => {
                if let Some(session) = self.sessions.find(client_id) {
                    let mut budget = REVIEW_STEP_COUNT;
                    self.begin_review(session, &mut budget, actions);
                }
            }
            None if self.reviews.next_session.is_some() => self.reviews.is_stale = true,
            None => {
                self.reviews.next_session = Some(0);
                self.arm_reviews();
            }
        }
    }

    /// A session was resumed: its subscriptions are asked for again before anything is sent for them. One branch without
    /// an authorizer. Whether there is something to ask; then the review resends and goes on with the queue at its end.
    pub(super) fn review_resumed(&mut self, session: SessionId, actions: &mut Actions) -> bool {
        self.hooks.authorizer.is_some() && self.begin_review(session, &mut REVIEW_STEP_COUNT.clone(), actions)
    }

    /// The next step of all reviews: at most [`REVIEW_STEP_COUNT`] questions and sessions.
    pub(crate) fn on_reviews_due(&mut self, actions: &mut Actions) {
        self.reviews.is_armed = false;
        let mut budget = REVIEW_STEP_COUNT;
        while budget > 0 {
            if let Some(conn) = self.reviews.waiting.pop_front() {
                self.continue_review(conn, &mut budget, actions);
            } else if let Some(index) = self.reviews.next_session {
                budget -= 1;
                self.sweep(index, &mut budget, actions);
            } else {
                return;
            }
        }
        if self.reviews.next_session.is_some() || !self.reviews.waiting.is_empty() {
            self.arm_reviews();
        }
    }

    /// Begins the review of the session at an index, if there is one, and moves on.
    fn sweep(&mut self, index: u32, budget: &mut u32, actions: &mut Actions) {
        if index < self.sessions.index_end() {
            self.reviews.next_session = Some(index + 1);
            if let Some(session) = self.sessions.id_at(index) {
                self.begin_review(session, budget, actions);
            }
        } else {
            self.reviews.next_session = std::mem::take(&mut self.reviews.is_stale).then_some(0);
        }
    }

    fn arm_reviews(&mut self) {
        if !std::mem::replace(&mut self.reviews.is_armed, true) {
            // With a later event, so that packets are handled in between.
            self.deadlines.arm(Mono(self.now.mono.0 + 1), Due::Review);
        }
    }

    /// Asks for all subscriptions of a session from the first on, if it has a connection whose client is asked for at all.
    fn begin_review(&mut self, session: SessionId, budget: &mut u32, actions: &mut Actions) -> bool {
        let Some(entry) = self.sessions.get_mut(session) else { return false };
        let Some(conn) = entry.conn() else { return false };
        let Some(connection) = self.connections.get_mut(conn) else { return false };
        let has_any =
            entry.traffic.subscriptions.len() > 0 || self.routing.specials.count_of(session.index) > 0;
        if connection.superuser || !has_any {
            return false;
        }
        entry.link.is_withheld = true;
        let mut plain = entry.traffic.subscriptions.sorted();
        plain.reverse();
        let special = self.routing.specials.of(session.index).map(|(written, _)| written.into()).collect();
        let review = connection.rare_mut().flow.review.get_or_insert_default();
        // An answer that is on its way is of no use any more: its subscription is asked for again.
        let refused = std::mem::take(&mut review.refused);
        **review = Review { plain, special, asked: None, refused };
        self.continue_review(conn, budget, actions);
        true
    }

    /// Asks on until an answer has to be waited for, the budget is used up, or all is asked.
    fn continue_review(&mut self, conn: ConnId, budget: &mut u32, actions: &mut Actions) {
        let Some(session) = self.session_under_review(conn) else { return };
        while let Some(review) = self.review_of(conn) {
            if review.asked.is_some() {
                break;
            }
            if *budget == 0 {
                self.reviews.waiting.push_back(conn);
                self.arm_reviews();
                break;
            }
            *budget -= 1;
            let Some((written, qos)) = self.next_to_review(conn, session) else {
                self.finish_review(conn, session, actions);
                break;
            };
            let filter = filter_of(&written);
            match self.ask_to_subscribe(conn, session, filter, qos, Asker::Review(conn)) {
                Asked::Decided(true) => {}
                Asked::Decided(false) => self.refuse_under_review(conn, session, written, actions),
                Asked::Later(token) => {
                    if let Some(review) = self.review_of(conn) {
                        review.asked = Some((token, written));
                    }
                }
            }
        }
        self.announce(actions);
    }

    /// The next subscription that the session still has, and its QoS.
    fn next_to_review(&mut self, conn: ConnId, session: SessionId) -> Option<(Box<str>, QoS)> {
        loop {
            let review = self.review_of(conn)?;
            if let Some(written) = review.special.pop() {
                match self.routing.specials.get(session.index, &written) {
                    Some(special) => {
                        let qos = special.qos();
                        return Some((written, qos));
                    }
                    None => continue,
                }
            }
            let filter = review.plain.pop()?;
            // It may have gone while an answer was waited for, and its number may be another's now.
            let entry = self.sessions.get(session)?;
            if entry.traffic.subscriptions.contains(filter)
                && let Some(held) = self.routing.index.subscription(filter, Target::Session(session.index))
            {
                return Some((self.routing.index.filter_text(filter).into(), held.options().qos));
            }
        }
    }

    /// The authorizer has decided late about a subscription under review.
    pub(crate) fn on_review_decided(
        &mut self,
        conn: ConnId,
        token: Token,
        allowed: bool,
        actions: &mut Actions,
    ) {
        self.metrics.count(authorization_counter(allowed));
        let Some(session) = self.session_under_review(conn) else { return };
        let Some(review) = self.review_of(conn) else { return };
        let Some((_, written)) = review.asked.take_if(|(asked, _)| *asked == token) else { return };
        if !allowed {
            self.refuse_under_review(conn, session, written, actions);
        }
        let mut budget = REVIEW_STEP_COUNT;
        self.continue_review(conn, &mut budget, actions);
    }

    fn refuse_under_review(
        &mut self,
        conn: ConnId,
        session: SessionId,
        written: Box<str>,
        actions: &mut Actions,
    ) {
        self.revoke(session, &written, actions);
        if let Some(review) = self.review_of(conn) {
            review.refused.push(written);
        }
    }

    /// Takes a subscription away that its client may not have any more. The caller announces.
    pub(super) fn revoke(&mut self, session: SessionId, written: &str, actions: &mut Actions) {
        self.metrics.count(Counter::SubscriptionsRevoked);
        self.unsubscribe_one(session, written, actions);
    }

    /// All is asked: what waits and may be sent goes.
    fn finish_review(&mut self, conn: ConnId, session: SessionId, actions: &mut Actions) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let review = connection.rare.as_mut().and_then(|rare| rare.flow.review.take());
        connection.shed_rare();
        if let Some(review) = review
            && !review.refused.is_empty()
        {
            self.purge_queue(session, &review.refused, actions);
        }
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.link.is_withheld = false;
        }
        self.resend(session.index, actions);
    }

    /// Drops what waits only because of subscriptions that were refused; members of a group pass it on instead.
    fn purge_queue(&mut self, session: SessionId, refused: &[Box<str>], actions: &mut Actions) {
        let rules = self.delivery_rules();
        for delivery in self.take_queue(session) {
            match self.fate(session, refused, &delivery) {
                Fate::Waits => self.enqueue(session.index, delivery, &rules, actions),
                Fate::Dropped => {
                    self.metrics.count(Counter::DeliveryDroppedNotAuthorized);
                    self.note_done(session.index, delivery.id(), actions);
                }
                Fate::Returned(written) => self.return_stored(session, written, &delivery, actions),
            }
        }
        if self.durable.is_on() {
            self.refuse_away(session, refused);
        }
    }

    pub(crate) fn fate<'a>(
        &self,
        session: SessionId,
        refused: &'a [Box<str>],
        delivery: &Delivery,
    ) -> Fate<'a> {
        if let Some(group) = delivery.group() {
            let left = refused.iter().find(|written| self.group_of(written) == Some(group));
            return left.map_or(Fate::Waits, |written| Fate::Returned(written));
        }
        let topic = delivery.message.view().topic;
        let is_refused = refused.iter().any(|written| {
            !matches!(FilterKind::parse(written), Ok(FilterKind::Shared { .. }))
                && topic::matches(filter_of(written), topic)
        });
        if is_refused && !self.is_wanted_by(session, topic) { Fate::Dropped } else { Fate::Waits }
    }

    /// Whether a session has a subscription of its own that matches.
    fn is_wanted_by(&self, session: SessionId, topic: &str) -> bool {
        let target = Target::Session(session.index);
        let index = &self.routing.index;
        let mut is_wanted = false;
        index.for_each_match(topic, |filter, _| {
            is_wanted = is_wanted || index.subscription(filter, target).is_some();
        });
        is_wanted
    }

    /// Whether no review is under way here.
    #[cfg(test)]
    pub(crate) fn reviews_are_idle(&self) -> bool {
        self.reviews.waiting.is_empty() && self.reviews.next_session.is_none()
    }

    fn session_under_review(&self, conn: ConnId) -> Option<SessionId> {
        let connection = self.connections.get(conn)?;
        connection.rare.as_ref()?.flow.review.as_ref()?;
        self.sessions.id_at(connection.session)
    }

    fn review_of(&mut self, conn: ConnId) -> Option<&mut Review> {
        self.connections.get_mut(conn)?.rare.as_mut()?.flow.review.as_deref_mut()
    }
}

/// What becomes of a waiting message when subscriptions of its session were refused.
pub(crate) enum Fate<'a> {
    /// It still has a subscription.
    Waits,
    /// It has none.
    Dropped,
    /// It came by this membership, which is over: another member gets it.
    Returned(&'a str),
}

/// The filter that messages must match, of a subscription as it was written.
pub(super) fn filter_of(written: &str) -> &str {
    FilterKind::parse(written).map_or(written, |kind| kind.filter(written))
}

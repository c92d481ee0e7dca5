//! Retained messages for new subscriptions, page by page: never more at once than the client's socket, window and queue
//! take (§MQTT5 3.3.1.3).
//!
//! A literal filter asks the home of its topic, a wildcard one shard after the other. A retained message that was published
//! while its topic is being looked up reaches the client as a live message; the lookup then leaves that topic out, unless
//! what it found is newer.
//!
//! An authorizer was asked for the subscription with its SUBSCRIBE. What is handed out with a later event is handed out only
//! after it has said yes once more; a subscription that it refuses then ends. Who published a retained message was asked for
//! when it was published: removing such messages is the operator's, by an empty one.

use std::collections::VecDeque;

use dunlin_wire::topic::has_wildcard;
use dunlin_wire::types::QoS;

use super::delivery::Terms;
use super::publication::Publication;
use super::remote::Question;
use super::subscribe::{Asked, authorization_counter};
use crate::action::{Action, Actions};
use crate::core::{Asker, ShardCore};
use crate::home;
use crate::ids::{ConnId, SessionId, ShardId, Token};
use crate::mesh::{MeshMessage, RETAINED_PAGE_BYTES_MAX, RETAINED_PAGE_COUNT_MAX, RetainedAsk, RetainedPage};
use crate::message::{Message, MessageView};
use crate::time::{Mono, WallMs};
use crate::topics::{Page, RetainedCursor, Target};

/// Retained messages that a connection is getting. Boxed; exists only meanwhile.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// One for each subscription that wants them; the first is at work.
    jobs: VecDeque<ReplayJob>,
    /// Messages of the page at hand.
    page: VecDeque<Message>,
    /// The page that was asked of another shard.
    asked: Option<Token>,
    /// The question to the authorizer about the job at work.
    asked_right: Option<Token>,
    /// Topics whose retained message came live meanwhile, by hash, with the time.
    live: Vec<(u64, WallMs)>,
}

/// The lookup of one subscription.
#[derive(Debug)]
pub(super) struct ReplayJob {
    filter: Box<str>,
    qos: QoS,
    subscription_id: u32,
    /// Where the next page begins; `None` before the first shard.
    cursor: Option<RetainedCursor>,
    /// The next shard to ask.
    next_shard: u16,
    /// The shard that `cursor` is for.
    shard: ShardId,
    /// The event with which the authorizer has allowed it, by its time.
    allowed_at: Mono,
}

impl ReplayJob {
    /// What matches `filter`, for a subscription with this QoS and identifier.
    pub(super) fn new(filter: &str, qos: QoS, subscription_id: u32, allowed_at: Mono) -> Self {
        let (filter, shard) = (filter.into(), ShardId(0));
        Self { filter, qos, subscription_id, cursor: None, next_shard: 0, shard, allowed_at }
    }

    /// Moves to the next shard that may have something; `false` when all were asked.
    fn advance(&mut self, shard_count: u16) -> bool {
        if has_wildcard(&self.filter) {
            self.shard = ShardId(self.next_shard);
            self.next_shard = self.next_shard.saturating_add(1);
        } else if self.next_shard == 0 {
            self.shard = home::shard_of_topic(&self.filter, shard_count);
            self.next_shard = shard_count;
        } else {
            return false;
        }
        self.cursor = Some(RetainedCursor::new(&self.filter));
        self.shard.0 < shard_count
    }
}

impl ShardCore {
    /// Starts to hand retained messages out to subscriptions that were just made.
    pub(super) fn begin_replay(
        &mut self,
        conn: ConnId,
        session: u32,
        jobs: Vec<ReplayJob>,
        actions: &mut Actions,
    ) {
        if jobs.is_empty() || (self.shard_count == 1 && self.routing.retained.is_empty()) {
            return;
        }
        // Another packet may have ended a subscription while its SUBACK waited.
        let mut jobs = jobs;
        jobs.retain(|job| self.is_subscribed(session, &job.filter));
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.rare_mut().flow.replay.get_or_insert_default().jobs.extend(jobs);
            self.continue_replay(session, actions);
        }
    }

    /// Hands out retained messages as long as the client has room for them.
    pub(super) fn continue_replay(&mut self, session: u32, actions: &mut Actions) {
        let Some(conn) = self.sessions.at(session).and_then(|entry| entry.conn()) else { return };
        if self.replay_of(conn).is_none() {
            return;
        }
        let mut sent_count = 0;
        while self.has_room_for_retained(session)
            && sent_count < RETAINED_PAGE_COUNT_MAX
            && self.may_replay(conn, actions)
        {
            let key = self.routing.key;
            let Some(replay) = self.replay_of(conn) else { return };
            if let Some(message) = replay.page.pop_front() {
                let Some(job) = replay.jobs.front() else { return };
                let (qos, id) = (job.qos, job.subscription_id);
                if replay.came_live(key.hash(message.view().topic.as_bytes()), &message) {
                    continue;
                }
                sent_count += 1;
                self.deliver_retained(session, &message, qos, id, actions);
                continue;
            }
            if replay.asked.is_some() {
                return;
            }
            if !self.next_page(conn, actions) {
                return;
            }
        }
    }

    /// Whether the job at hand may go on now, its right asked for again if that was with an earlier event. Refused ones are
    /// ended on the way. One branch without an authorizer.
    fn may_replay(&mut self, conn: ConnId, actions: &mut Actions) -> bool {
        if self.hooks.authorizer.is_none() {
            return true;
        }
        let now = self.now.mono;
        let Some(session) = self.connections.get(conn).and_then(|of| self.sessions.id_at(of.session)) else {
            return false;
        };
        loop {
            let Some(replay) = self.replay_of(conn) else { return false };
            if replay.asked_right.is_some() {
                return false;
            }
            let Some(job) = replay.jobs.front().filter(|job| job.allowed_at != now) else { return true };
            let (filter, qos) = (job.filter.clone(), job.qos);
            match self.ask_to_subscribe(conn, session, &filter, qos, Asker::Replay(conn)) {
                Asked::Decided(true) => self.allow_replay(conn),
                Asked::Decided(false) => self.refuse_replay(session, &filter, actions),
                Asked::Later(token) => {
                    if let Some(replay) = self.replay_of(conn) {
                        replay.asked_right = Some(token);
                    }
                }
            }
        }
    }

    /// The authorizer has decided late about retained messages.
    pub(crate) fn on_replay_decided(
        &mut self,
        conn: ConnId,
        token: Token,
        allowed: bool,
        actions: &mut Actions,
    ) {
        self.metrics.count(authorization_counter(allowed));
        let Some(replay) = self.replay_of(conn) else { return };
        if replay.asked_right.take_if(|asked| *asked == token).is_none() {
            return;
        }
        let filter = replay.jobs.front().map(|job| job.filter.clone());
        let Some(session) = self.connections.get(conn).and_then(|of| self.sessions.id_at(of.session)) else {
            return;
        };
        match filter {
            Some(filter) if !allowed => self.refuse_replay(session, &filter, actions),
            _ => self.allow_replay(conn),
        }
        self.continue_replay(session.index, actions);
    }

    fn allow_replay(&mut self, conn: ConnId) {
        let now = self.now.mono;
        if let Some(job) = self.replay_of(conn).and_then(|replay| replay.jobs.front_mut()) {
            job.allowed_at = now;
        }
    }

    /// Ends a subscription whose retained messages its client may not have any more, and with it the job.
    fn refuse_replay(&mut self, session: SessionId, filter: &str, actions: &mut Actions) {
        let exclusive = format!("$exclusive/{filter}");
        let is_exclusive = self.routing.specials.get(session.index, &exclusive).is_some();
        self.revoke(session, if is_exclusive { &exclusive } else { filter }, actions);
        self.announce(actions);
        // Also if the subscription had gone already.
        self.cancel_replay(session.index, filter);
    }

    /// The next page of the job at hand, from this shard's store or another's; `false` when there is nothing to do now.
    fn next_page(&mut self, conn: ConnId, actions: &mut Actions) -> bool {
        let shard_count = self.shard_count;
        let own = self.shard;
        let Some(replay) = self.replay_of(conn) else { return false };
        let Some(job) = replay.jobs.front_mut() else {
            self.end_replay(conn);
            return false;
        };
        if job.cursor.is_none() && !job.advance(shard_count) {
            replay.jobs.pop_front();
            return true;
        }
        let (shard, Some(cursor)) = (job.shard, job.cursor.take()) else { return true };
        if shard == own {
            let (messages, cursor) = self.read_retained(cursor);
            if let Some(replay) = self.replay_of(conn) {
                replay.take_page(messages, cursor);
            }
            return true;
        }
        let token = self.routing.questions.ask(Question::Retained { conn });
        let message = MeshMessage::RetainedAsk(Box::new(RetainedAsk { token, cursor }));
        actions.list.push(Action::Mesh { to: shard, message });
        if let Some(replay) = self.replay_of(conn) {
            replay.asked = Some(token);
        }
        false
    }

    /// Another shard wants a page.
    pub(super) fn on_retained_ask(&self, from: ShardId, ask: RetainedAsk, actions: &mut Actions) {
        let RetainedAsk { token, cursor } = ask;
        let (messages, cursor) = self.read_retained(cursor);
        let page = RetainedPage { token, messages, cursor };
        actions.list.push(Action::Mesh { to: from, message: MeshMessage::RetainedPage(Box::new(page)) });
    }

    /// A page from another shard.
    pub(super) fn on_retained_page(&mut self, page: RetainedPage, actions: &mut Actions) {
        let Some(Question::Retained { conn }) = self.routing.questions.take(page.token) else { return };
        let Some(replay) = self.replay_of(conn) else { return };
        if replay.asked != Some(page.token) {
            return;
        }
        replay.asked = None;
        replay.take_page(page.messages, page.cursor);
        if let Some(session) = self.connections.get(conn).map(|connection| connection.session) {
            self.continue_replay(session, actions);
        }
    }

    /// A page of this shard's store, and where to go on. Expired messages are left out. [MQTT5-3.3.2-5]
    fn read_retained(&self, mut cursor: RetainedCursor) -> (Vec<Message>, Option<RetainedCursor>) {
        let now = self.now.wall;
        let (mut messages, mut bytes, mut steps) = (Vec::new(), 0, 0);
        loop {
            let page = self.routing.retained.page(&mut cursor, RETAINED_STEP_COUNT, |_, message| {
                if !message.view().is_expired(now) {
                    bytes += message.bytes();
                    messages.push(message.clone());
                }
            });
            steps += RETAINED_STEP_COUNT;
            let is_full = messages.len() + RETAINED_STEP_COUNT > RETAINED_PAGE_COUNT_MAX
                || bytes >= RETAINED_PAGE_BYTES_MAX
                || steps >= RETAINED_LOOK_COUNT_MAX;
            match page {
                Page::Done => return (messages, None),
                Page::More if is_full => return (messages, Some(cursor)),
                Page::More => {}
            }
        }
    }

    /// Sends one retained message with RETAIN set. [MQTT5-3.3.1-9] [MQTT311-3.3.1-8]
    fn deliver_retained(
        &mut self,
        session: u32,
        message: &Message,
        granted: QoS,
        id: u32,
        actions: &mut Actions,
    ) {
        let mut rules = self.delivery_rules();
        let mut publication = Publication::of_message(message, self.now.wall);
        let ids = [id];
        let terms = Terms {
            qos: rules.qos(publication.view().qos, granted),
            retain: true,
            ids: if id == 0 { &[] } else { &ids },
            group: None,
        };
        self.deliver(session, &terms, &mut publication, &mut rules, actions);
        self.count_tally(rules.tally);
        if self.durable.is_on() {
            self.finish_taking(publication.view(), actions);
        }
    }

    /// Remembers that a retained message reaches a client live, if older ones are being looked up for it.
    pub(super) fn note_live_retained(&mut self, session: u32, view: &MessageView<'_>) {
        let Some(conn) = self.sessions.at(session).and_then(|entry| entry.conn()) else { return };
        let hash = self.routing.key.hash(view.topic.as_bytes());
        let received_at = view.received_at;
        if let Some(replay) = self.replay_of(conn) {
            let known = replay.live.iter().position(|(topic, _)| *topic == hash);
            match known {
                Some(at) => replay.live[at].1 = received_at,
                None if replay.live.len() < LIVE_COUNT_MAX => replay.live.push((hash, received_at)),
                // A duplicate of what came live is then possible; never a loss.
                None => {}
            }
        }
    }

    /// Gives up what is still to come for a subscription that has ended. [MQTT5-3.10.4-2] [MQTT311-3.10.4-2]
    pub(super) fn cancel_replay(&mut self, session: u32, filter: &str) {
        let Some(conn) = self.sessions.at(session).and_then(|entry| entry.conn()) else { return };
        let Some(replay) = self.replay_of(conn) else { return };
        if replay.jobs.front().is_some_and(|job| *job.filter == *filter) {
            // An answer that is on its way finds that nobody waits for it.
            replay.page.clear();
            replay.asked = None;
            replay.asked_right = None;
        }
        replay.jobs.retain(|job| *job.filter != *filter);
    }

    /// Whether a session has this filter, as its own or exclusively.
    fn is_subscribed(&self, session: u32, filter: &str) -> bool {
        let target = Target::Session(session);
        let index = &self.routing.index;
        index.lookup(filter).is_some_and(|filter| index.subscription(filter, target).is_some())
    }

    /// Whether a retained message would go out, or wait alone: a lookup never fills a queue.
    fn has_room_for_retained(&self, session: u32) -> bool {
        let Some(entry) = self.sessions.at(session) else { return false };
        let is_clear = entry.link.unsent_bytes <= self.configs.current().outbound_bytes_high;
        !entry.link.is_withheld
            && is_clear
            && entry.traffic.windows.as_ref().is_none_or(|windows| windows.queue.is_empty())
    }

    fn replay_of(&mut self, conn: ConnId) -> Option<&mut Replay> {
        self.connections.get_mut(conn)?.rare.as_mut()?.flow.replay.as_deref_mut()
    }

    fn end_replay(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if let Some(rare) = &mut connection.rare {
            rare.flow.replay = None;
        }
        connection.shed_rare();
    }
}

impl Replay {
    /// Takes a page in; the job goes on at `cursor`.
    fn take_page(&mut self, messages: Vec<Message>, cursor: Option<RetainedCursor>) {
        self.page = messages.into();
        if let Some(job) = self.jobs.front_mut() {
            job.cursor = cursor;
        }
    }

    /// Whether the topic's retained message came live since, and this one is not newer.
    fn came_live(&self, hash: u64, message: &Message) -> bool {
        let live = self.live.iter().find(|(topic, _)| *topic == hash);
        live.is_some_and(|(_, at)| message.view().received_at <= *at)
    }
}

/// Topics looked at in one go; the bounds of a page are checked in between.
const RETAINED_STEP_COUNT: usize = 16;
/// Topics looked at for one page, matching or not: about a millisecond.
const RETAINED_LOOK_COUNT_MAX: usize = 4_096;
/// Topics that one lookup remembers as seen live.
const LIVE_COUNT_MAX: usize = 1_024;

const _: () = assert!(RETAINED_STEP_COUNT <= RETAINED_PAGE_COUNT_MAX, "a page has room for a step");

//! SUBSCRIBE: filter by filter, then one SUBACK when all that it promises holds on every shard.

use std::collections::VecDeque;

use dunlin_persist::{Record, record};
use dunlin_wire::packet::{Packet, ReasonCodes, ReasonProperties, SubAck, Subscribe};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::topic::{FilterKind, has_wildcard, level_count};
use dunlin_wire::types::{PacketId, QoS, RetainHandling, SubscriptionOptions};

use super::ingress::SYS_PREFIX;
use super::remote::{Question, Waiter};
use super::replay::ReplayJob;
use super::special::Special;
use crate::action::{Action, Actions};
use crate::connection::{Hold, Refusal, State};
use crate::core::{Asker, ShardCore};
use crate::durable::{Owed, Promise};
use crate::home;
use crate::hooks::{Access, AccessRequest, Answer, SessionEvent};
use crate::ids::{ConnId, SessionId, Token};
use crate::mesh::{ExclusiveClaim, ExclusiveRelease, MeshMessage, Wanted};
use crate::metrics::Counter;
use crate::topics::Subscriber;

/// A SUBSCRIBE that is being worked on.
#[derive(Debug)]
pub(crate) struct Subscribing {
    pub(super) conn: ConnId,
    session: SessionId,
    packet_id: PacketId,
    subscription_id: u32,
    /// Verdicts so far, in the order of the filters. [MQTT5-3.9.3-1] [MQTT311-3.9.3-1]
    codes: Vec<ReasonCode>,
    /// Filters not decided yet; the first waits for `asked`.
    rest: VecDeque<(Box<str>, SubscriptionOptions)>,
    /// The question to the authorizer, or to the home of an exclusive topic, that holds the packet up.
    asked: Option<Token>,
    /// Questions to homes of groups.
    joins: Vec<Token>,
    /// Answers that SUBACK waits for.
    open_count: u32,
    replays: Vec<ReplayJob>,
    /// The last record of one of the subscriptions; 0 if none is recorded.
    recorded: u64,
}

impl Subscribing {
    /// Whose it is.
    pub(crate) const fn conn(&self) -> ConnId {
        self.conn
    }
}

/// What is known already about the filter at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    /// The authorizer has said yes.
    Allowed,
    /// The exclusive topic is the session's.
    Claimed,
    /// Refused with this reason.
    Refused(ReasonCode),
}

/// What comes of one filter.
enum Step {
    Done(ReasonCode),
    /// Ask again when the answer to this question is there.
    Wait(Token),
    /// The packet breaks the protocol.
    Refuse(ReasonCode),
}

/// Whether somebody agrees.
pub(super) enum Asked {
    Decided(bool),
    /// The answer comes under this token.
    Later(Token),
}

/// One subscription of a SUBSCRIBE.
#[derive(Clone, Copy)]
struct Wish<'a> {
    written: &'a str,
    /// The filter that messages must match.
    filter: &'a str,
    kind: FilterKind<'a>,
    options: SubscriptionOptions,
}

impl ShardCore {
    /// A client subscribes. [MQTT5-3.8.4-5] [MQTT311-3.8.4-4]: each filter as if it came in a packet of its own.
    pub(crate) fn on_subscribe(&mut self, conn: ConnId, subscribe: &Subscribe<'_>, actions: &mut Actions) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Some(session) = self.sessions.id_at(connection.session) else { return };
        let mut work = Subscribing {
            conn,
            session,
            packet_id: subscribe.packet_id,
            subscription_id: subscribe.properties.subscription_identifier.unwrap_or(0),
            codes: Vec::new(),
            rest: VecDeque::new(),
            asked: None,
            joins: Vec::new(),
            open_count: 0,
            replays: Vec::new(),
            recorded: 0,
        };
        let mut filters = subscribe.filters();
        for wish in filters.by_ref() {
            match self.subscribe_one(&mut work, wish.filter, wish.options, Known::Nothing, actions) {
                Step::Done(code) => work.codes.push(code),
                Step::Wait(token) => {
                    work.asked = Some(token);
                    work.rest.push_back((wish.filter.into(), wish.options));
                    break;
                }
                Step::Refuse(reason) => {
                    self.announce(actions);
                    self.disconnect(conn, reason, actions);
                    return;
                }
            }
        }
        work.rest.extend(filters.map(|wish| (wish.filter.into(), wish.options)));
        self.park_or_finish(work, actions);
    }

    /// Goes on with a SUBSCRIBE whose question was answered.
    fn continue_subscribe(&mut self, mut work: Subscribing, mut known: Known, actions: &mut Actions) {
        work.asked = None;
        while let Some((filter, options)) = work.rest.pop_front() {
            match self.subscribe_one(&mut work, &filter, options, known, actions) {
                Step::Done(code) => work.codes.push(code),
                Step::Wait(token) => {
                    work.asked = Some(token);
                    work.rest.push_front((filter, options));
                    break;
                }
                Step::Refuse(reason) => {
                    self.announce(actions);
                    self.disconnect(work.conn, reason, actions);
                    return;
                }
            }
            known = Known::Nothing;
        }
        self.park_or_finish(work, actions);
    }

    /// Keeps a SUBSCRIBE until its answers are there, or answers it.
    fn park_or_finish(&mut self, mut work: Subscribing, actions: &mut Actions) {
        self.announce(actions);
        if work.asked.is_some() {
            let conn = work.conn;
            if let Some(connection) = self.connections.get_mut(conn) {
                connection.rare_mut().flow.subscribe = Some(Box::new(work));
                self.hold(conn, Hold::Hook, actions);
            }
            return;
        }
        let waits_for_interest = !self.routing.announcements.is_settled();
        work.open_count += u32::from(waits_for_interest);
        if work.open_count == 0 {
            self.answer_subscribe(work, actions);
            return;
        }
        let joins = std::mem::take(&mut work.joins);
        let parked = self.routing.subscribing.ask(work);
        for join in joins {
            if let Some(Question::Join { subscribing }) = self.routing.questions.get_mut(join) {
                *subscribing = Some(parked);
            }
        }
        if waits_for_interest {
            self.routing.announcements.wait(Waiter::SubAck(parked));
        }
    }

    /// One of the answers that a SUBACK waits for is there.
    pub(super) fn count_down_subscribe(&mut self, parked: Token, actions: &mut Actions) {
        let Some(work) = self.routing.subscribing.get_mut(parked) else { return };
        work.open_count = work.open_count.saturating_sub(1);
        if work.open_count == 0
            && let Some(work) = self.routing.subscribing.take(parked)
        {
            self.answer_subscribe(work, actions);
        }
    }

    /// Sends SUBACK when the subscriptions are on the disk.
    fn answer_subscribe(&mut self, work: Subscribing, actions: &mut Actions) {
        if self.durable.is_on() {
            let promise = Promise::of(work.recorded);
            self.answer(Owed::SubAck(Box::new(work)), promise, actions);
        } else {
            self.say_suback(work, actions);
        }
    }

    /// Sends SUBACK, then retained messages.
    ///
    /// [MQTT5-3.8.4-1] [MQTT5-3.8.4-2] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7] [MQTT311-3.8.4-1] [MQTT311-3.8.4-2]
    /// [MQTT311-3.8.4-5]
    pub(crate) fn say_suback(&mut self, work: Subscribing, actions: &mut Actions) {
        if !self.is_live(work.conn) {
            return;
        }
        let ack = SubAck {
            packet_id: work.packet_id,
            properties: ReasonProperties::NONE,
            codes: ReasonCodes::from_slice(&work.codes),
        };
        if !self.send_packet(work.conn, &Packet::SubAck(ack), actions) {
            self.refuse(work.conn, Refusal::AnswerTooLarge, actions);
            return;
        }
        self.begin_replay(work.conn, work.session.index, work.replays, actions);
    }

    /// Whether a connection still takes packets.
    pub(crate) fn is_live(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|connection| connection.state == State::Connected)
    }

    /// Decides about one filter and installs the subscription.
    fn subscribe_one(
        &mut self,
        work: &mut Subscribing,
        written: &str,
        options: SubscriptionOptions,
        known: Known,
        actions: &mut Actions,
    ) -> Step {
        if !self.is_live(work.conn) {
            return Step::Done(ReasonCode::UnspecifiedError);
        }
        // [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
        let Ok(kind) = FilterKind::parse(written) else {
            self.metrics.count(Counter::SubscribeError);
            return Step::Done(ReasonCode::TopicFilterInvalid);
        };
        let wish = Wish { written, filter: kind.filter(written), kind, options };
        if options.no_local && matches!(kind, FilterKind::Shared { .. }) {
            // [MQTT5-3.8.3-4]
            return Step::Refuse(ReasonCode::ProtocolError);
        }
        if let Known::Refused(reason) = known {
            return Step::Done(reason);
        }
        if known == Known::Nothing {
            if let Err(reason) = self.check_offered(work, &wish) {
                self.metrics.count(Counter::SubscribeError);
                return Step::Done(reason);
            }
            let asker = Asker::Packet(work.conn);
            match self.ask_to_subscribe(work.conn, work.session, wish.filter, options.qos, asker) {
                Asked::Decided(true) => {}
                Asked::Decided(false) => {
                    self.metrics.count(Counter::SubscribeAuthError);
                    return Step::Done(ReasonCode::NotAuthorized);
                }
                Asked::Later(token) => return Step::Wait(token),
            }
        }
        if let FilterKind::Exclusive { topic } = kind
            && known != Known::Claimed
        {
            match self.claim(work, topic, actions) {
                Asked::Decided(true) => {}
                Asked::Decided(false) => return Step::Done(ReasonCode::QuotaExceeded),
                Asked::Later(token) => return Step::Wait(token),
            }
        }
        Step::Done(self.install(work, &wish, actions))
    }

    /// What CONNACK said is not offered, and bounds.
    fn check_offered(&self, work: &Subscribing, wish: &Wish<'_>) -> Result<(), ReasonCode> {
        let Some(connection) = self.connections.get(work.conn) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let mqtt = self.configs.mqtt(connection.config_epoch);
        let is_wild = has_wildcard(wish.filter);
        if level_count(wish.filter) > usize::from(mqtt.max_topic_levels) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        match wish.kind {
            FilterKind::Shared { .. } if !mqtt.shared_subscription => {
                return Err(ReasonCode::SharedSubscriptionsNotSupported);
            }
            FilterKind::Exclusive { .. } if !mqtt.exclusive_subscription || is_wild => {
                return Err(ReasonCode::TopicFilterInvalid);
            }
            FilterKind::Plain | FilterKind::Shared { .. } | FilterKind::Exclusive { .. } => {}
        }
        // [MQTT311-3.8.3-2]
        if is_wild && !mqtt.wildcard_subscription {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        // The broker's own topics: for clients of this host, unless an authorizer decides.
        if (wish.filter.starts_with(SYS_PREFIX) || wish.filter == "$SYS")
            && self.hooks.authorizer.is_none()
            && !mqtt.sys_topics_remote
            && !connection.superuser
            && !connection.peer.ip().is_loopback()
        {
            return Err(ReasonCode::NotAuthorized);
        }
        let is_durable = self.durable.is_on() && self.number_of(work.session.index).is_some();
        if is_durable && !self.durable.takes_new() {
            return Err(ReasonCode::QuotaExceeded);
        }
        let Some(count_max) = mqtt.max_subscriptions else { return Ok(()) };
        let held = self.subscription_count(work.session);
        if held >= u64::from(count_max) && !self.has_subscription(work.session, wish) {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(())
    }

    /// How many subscriptions a session has.
    pub(super) fn subscription_count(&self, session: SessionId) -> u64 {
        let plain = self.sessions.get(session).map_or(0, |entry| entry.traffic.subscriptions.len());
        (plain + self.routing.specials.count_of(session.index)) as u64
    }

    fn has_subscription(&self, session: SessionId, wish: &Wish<'_>) -> bool {
        match wish.kind {
            FilterKind::Plain => {
                let held = self.sessions.get(session).map(|entry| &entry.traffic.subscriptions);
                let filter = self.routing.index.lookup(wish.filter);
                filter.zip(held).is_some_and(|(filter, held)| held.contains(filter))
            }
            FilterKind::Shared { .. } | FilterKind::Exclusive { .. } => {
                self.routing.specials.get(session.index, wish.written).is_some()
            }
        }
    }

    /// Asks the authorizer whether a client may be subscribed to a filter. One branch without one.
    pub(super) fn ask_to_subscribe(
        &mut self,
        conn: ConnId,
        session: SessionId,
        filter: &str,
        qos: QoS,
        asker: Asker,
    ) -> Asked {
        if self.hooks.authorizer.is_none() {
            return Asked::Decided(true);
        }
        let token = self.draw_token();
        let (Some(connection), Some(session), Some(authorizer)) =
            (self.connections.get(conn), self.sessions.get(session), &mut self.hooks.authorizer)
        else {
            return Asked::Decided(false);
        };
        if connection.superuser {
            self.metrics.count(Counter::AuthorizationSuperuser);
            return Asked::Decided(true);
        }
        self.metrics.count(Counter::ClientAuthorize);
        let answer = authorizer.check(&AccessRequest {
            token,
            client_id: &session.client_id,
            username: session.user_name(),
            peer: connection.peer,
            access: Access::Subscribe { qos },
            topic: filter,
        });
        match answer {
            Answer::Now(allowed) => {
                self.metrics.count(authorization_counter(allowed));
                Asked::Decided(allowed)
            }
            Answer::Pending => {
                self.questions.insert(token, asker);
                Asked::Later(token)
            }
        }
    }

    /// The authorizer has decided late about a packet (not about a Will).
    pub(crate) fn on_hook_access(
        &mut self,
        conn: ConnId,
        token: Token,
        allowed: bool,
        actions: &mut Actions,
    ) {
        self.metrics.count(authorization_counter(allowed));
        if self.on_publish_access(conn, token, allowed, actions) {
            return;
        }
        let known = if allowed {
            Known::Allowed
        } else {
            self.metrics.count(Counter::SubscribeAuthError);
            Known::Refused(ReasonCode::NotAuthorized)
        };
        if let Some(work) = self.take_held_subscribe(conn, token) {
            self.continue_subscribe(work, known, actions);
        }
    }

    /// The home of an exclusive topic has decided.
    pub(super) fn on_exclusive_answer(&mut self, token: Token, granted: bool, actions: &mut Actions) {
        let Some(Question::Claim { conn, session, topic }) = self.routing.questions.take(token) else {
            return;
        };
        let known = if granted { Known::Claimed } else { Known::Refused(ReasonCode::QuotaExceeded) };
        match self.take_held_subscribe(conn, token) {
            Some(work) => self.continue_subscribe(work, known, actions),
            // The asker is gone; so is its wish.
            None if granted => self.release_topic(session, &topic, actions),
            None => {}
        }
    }

    /// Takes the SUBSCRIBE out that waits for this answer; its connection may go on.
    fn take_held_subscribe(&mut self, conn: ConnId, token: Token) -> Option<Subscribing> {
        let flow = &mut self.connections.get_mut(conn)?.rare.as_mut()?.flow;
        let work = flow.subscribe.take_if(|work| work.asked == Some(token))?;
        self.release(conn, Hold::Hook);
        Some(*work)
    }

    /// Asks the home of an exclusive topic for it.
    fn claim(&mut self, work: &Subscribing, topic: &str, actions: &mut Actions) -> Asked {
        let home = home::shard_of_topic(topic, self.shard_count);
        if home == self.shard {
            let member = self.member(work.session);
            return Asked::Decided(self.routing.claims.claim(topic, member));
        }
        let question = Question::Claim { conn: work.conn, session: work.session, topic: topic.into() };
        let token = self.routing.questions.ask(question);
        let claim = ExclusiveClaim { token, topic: topic.into(), session: work.session };
        let message = MeshMessage::ExclusiveClaim(Box::new(claim));
        actions.list.push(Action::Mesh { to: home, message });
        Asked::Later(token)
    }

    /// Gives the topic of an exclusive subscription back.
    pub(super) fn release_claim(&mut self, session: SessionId, written: &str, actions: &mut Actions) {
        let Ok(FilterKind::Exclusive { topic }) = FilterKind::parse(written) else { return };
        if let Some(filter) = self.routing.index.lookup(topic) {
            self.drop_plain(session.index, filter);
        }
        self.release_topic(session, topic, actions);
    }

    fn release_topic(&mut self, session: SessionId, topic: &str, actions: &mut Actions) {
        let home = home::shard_of_topic(topic, self.shard_count);
        if home == self.shard {
            let member = self.member(session);
            self.routing.claims.release(topic, member);
            return;
        }
        let release = ExclusiveRelease { topic: topic.into(), session };
        let message = MeshMessage::ExclusiveRelease(Box::new(release));
        actions.list.push(Action::Mesh { to: home, message });
    }

    /// Puts a subscription in its place. [MQTT5-3.8.4-3] [MQTT311-3.8.4-3]: one that is there is replaced.
    fn install(&mut self, work: &mut Subscribing, wish: &Wish<'_>, actions: &mut Actions) -> ReasonCode {
        let Some(connection) = self.connections.get(work.conn) else { return ReasonCode::UnspecifiedError };
        // [MQTT5-3.2.2-10]: a wish above the highest QoS is granted as far as it goes.
        let qos = wish.options.qos.min(self.configs.mqtt(connection.config_epoch).max_qos_allowed);
        let options = SubscriptionOptions { qos, ..wish.options };
        match wish.kind {
            FilterKind::Shared { group, filter } => {
                let terms = (options, work.subscription_id);
                if let Some(token) =
                    self.join_group(work.session, (group, filter), wish.written, terms, actions)
                {
                    work.joins.push(token);
                    work.open_count += 1;
                }
            }
            FilterKind::Plain => self.install_plain(work, wish.filter, options),
            FilterKind::Exclusive { topic } => {
                self.install_plain(work, topic, options);
                if let Some(filter) = self.routing.index.lookup(topic)
                    && let Some(entry) = self.sessions.get_mut(work.session)
                {
                    // It stands among the special ones instead.
                    entry.traffic.subscriptions.remove(filter);
                }
                self.routing.specials.insert(work.session.index, wish.written, Special::Exclusive { qos });
            }
        }
        if self.durable.is_on()
            && let Some(session) = self.number_of(work.session.index)
        {
            let subscription = record::Subscription {
                filter: wish.written.into(),
                options: options.as_u8(),
                identifier: work.subscription_id,
            };
            self.record(Record::Subscribed { session, subscription }, actions);
            work.recorded = self.durable.appended();
        }
        self.metrics.count(Counter::ClientSubscribe);
        if let (Some(hook), Some(entry)) = (&mut self.hooks.session, self.sessions.get(work.session)) {
            hook.observe(&SessionEvent::Subscribed {
                client_id: &entry.client_id,
                filter: wish.written,
                options,
            });
        }
        ReasonCode::granted(qos)
    }

    /// A filter of the session's own: into the index, and to the other shards if it is the first here.
    fn install_plain(&mut self, work: &mut Subscribing, filter: &str, options: SubscriptionOptions) {
        let subscriber = Subscriber::session(work.session.index, options, work.subscription_id);
        let done = self.routing.index.subscribe(filter, subscriber);
        if let Some(entry) = self.sessions.get_mut(work.session) {
            entry.traffic.subscriptions.insert(done.filter);
        }
        if done.first_of_filter {
            self.note_interest(filter, Wanted::Yes);
        }
        let wants_retained = match options.retain_handling {
            // [MQTT5-3.3.1-9] [MQTT5-3.8.4-4] [MQTT311-3.3.1-6] [MQTT311-3.8.4-3]
            RetainHandling::SendAtSubscribe => true,
            // [MQTT5-3.3.1-10]
            RetainHandling::SendIfNew => done.replaced.is_none(),
            // [MQTT5-3.3.1-11]
            RetainHandling::DoNotSend => false,
        };
        if wants_retained && self.configs.current().retain_available {
            work.replays.push(ReplayJob::new(filter, options.qos, work.subscription_id, self.now.mono));
        }
    }
}

pub(super) const fn authorization_counter(allowed: bool) -> Counter {
    if allowed { Counter::AuthorizationAllow } else { Counter::AuthorizationDeny }
}

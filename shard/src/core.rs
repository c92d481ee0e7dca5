//! The door to all protocol, session, topic and delivery rules. Dispatch only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::action::{Action, Actions};
use crate::config::Config;
use crate::config_epochs::ConfigEpochs;
use crate::connection::admission::Admission;
use crate::connection::{Connections, Ending};
use crate::control::{Answered, Control};
use crate::deadlines::{Deadlines, Due};
use crate::durable::Durable;
use crate::event::Event;
use crate::hooks::{HookOutcome, Hooks, SessionEvent};
use crate::ids::{ConnId, ShardId, Token};
use crate::limits::DUE_COUNT_PER_TIMER;
use crate::metrics::{Counter, Gauges, Metrics};
use crate::publish::{Reviews, Routing};
use crate::random::Random;
use crate::session::Sessions;
use crate::session::will::DueWill;
use crate::stopping::Stopping;
use crate::time::{Mono, Now};

/// What a core is made of.
#[derive(Debug)]
pub struct Setup {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many shards there are; 1 to [`crate::limits::SHARD_COUNT_MAX`].
    pub shard_count: u16,
    /// Settings.
    pub config: Arc<Config>,
    /// Features above.
    pub hooks: Hooks,
    /// For hashing, assigned client ids and shared subscriptions. The same for all shards of a process.
    pub seed: u64,
}

/// One core of the broker. Pure: no IO, no clock, no randomness that is not seeded.
#[derive(Debug)]
pub struct ShardCore {
    pub(crate) shard: ShardId,
    pub(crate) shard_count: u16,
    pub(crate) hooks: Hooks,
    pub(crate) configs: ConfigEpochs,
    /// The time of the event that is being handled.
    pub(crate) now: Now,
    pub(crate) random: Random,
    pub(crate) connections: Connections,
    pub(crate) sessions: Sessions,
    pub(crate) routing: Routing,
    pub(crate) deadlines: Deadlines,
    pub(crate) metrics: Metrics,
    /// Whom an answer of a hook that comes later is for.
    pub(crate) questions: BTreeMap<Token, Asker>,
    next_token: u64,
    /// Connections whose state is Closing; they are forgotten before `handle` returns.
    pub(crate) closing: VecDeque<(ConnId, Ending)>,
    /// Connections that are off hold and may have packets waiting.
    pub(crate) released: VecDeque<ConnId>,
    /// Wills to publish before `handle` returns.
    pub(crate) due_wills: VecDeque<DueWill>,
    /// Bytes held for clients that are not authenticated yet, beyond what each may hold.
    pub(crate) greeting_pool_bytes: usize,
    /// Bytes held for all connections.
    pub(crate) held_bytes: usize,
    /// Connections whose CONNECT was accepted.
    pub(crate) live_count: u64,
    pub(crate) stopping: Option<Stopping>,
    /// Subscriptions that the authorizer is asked for again.
    pub(crate) reviews: Reviews,
    /// Who may begin to connect.
    pub(crate) admission: Admission,
    /// What is recorded and what waits for it.
    pub(crate) durable: Durable,
}

/// Whom the late answer of a hook is for.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// A connection that authenticates.
    Authentication(ConnId),
    /// A Will whose publication the authorizer decides about.
    Will(Box<DueWill>),
    /// A packet of a connected client; kept by `publish`.
    Packet(ConnId),
    /// The review of a client's subscriptions; kept by `publish`.
    Review(ConnId),
    /// Retained messages that a client is getting; kept by `publish`.
    Replay(ConnId),
}

impl ShardCore {
    /// An empty core.
    ///
    /// # Panics
    /// If the shard is not below the shard count.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let routing = Routing::new(&setup);
        let Setup { shard, shard_count, config, hooks, seed } = setup;
        assert!(shard.0 < shard_count, "shard {} of {shard_count} does not exist", shard.0);
        Self {
            shard,
            shard_count,
            hooks,
            durable: Durable::new(config.durability, shard_count),
            configs: ConfigEpochs::new(config),
            now: Now::default(),
            random: Random::new(crate::random::mix(seed ^ u64::from(shard.0))),
            connections: Connections::default(),
            sessions: Sessions::new(seed),
            routing,
            deadlines: Deadlines::new(),
            metrics: Metrics::default(),
            questions: BTreeMap::new(),
            next_token: 1,
            closing: VecDeque::new(),
            released: VecDeque::new(),
            due_wills: VecDeque::new(),
            greeting_pool_bytes: 0,
            held_bytes: 0,
            live_count: 0,
            stopping: None,
            reviews: Reviews::default(),
            admission: Admission::new(seed),
        }
    }

    /// Takes one event and appends what it wants done.
    pub fn handle(&mut self, event: Event<'_>, now: Now, actions: &mut Actions) {
        self.now = now;
        match event {
            Event::Opened { conn, peer, listener } => self.on_opened(conn, peer, listener, actions),
            Event::Arrived { conn, arrival } => self.on_arrived(conn, *arrival, actions),
            Event::Bytes { conn, bytes } => self.on_bytes(conn, bytes, actions),
            Event::Sent { conn, bytes } => self.on_bytes_sent(conn, bytes, actions),
            Event::Closed { conn } => self.on_closed(conn, actions),
            Event::Mesh { from, message } => self.on_mesh(from, message, actions),
            Event::HookDone { token, outcome } => self.on_hook_done(token, outcome, actions),
            Event::Stored { seq } => self.on_stored(seq, actions),
            Event::StoreState(state) => self.on_store_state(state, actions),
            Event::Fetched { session, messages } => self.on_fetched(session, messages, actions),
            Event::Reclaim(record) => self.on_reclaim(*record, actions),
            Event::Control(control) => self.on_control(control, actions),
            Event::Timer => self.on_timer(actions),
        }
        self.settle(actions);
        if self.durable.is_on() {
            self.flush_notes(actions);
        }
    }

    /// When [`Event::Timer`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.is_restoring() {
            return None;
        }
        self.deadlines.next()
    }

    /// Counters since the start.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sizes now. A few loads.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            sessions: self.sessions.len() as u64,
            connections: self.connections.len() as u64,
            live_connections: self.live_count,
            held_bytes: self.held_bytes as u64,
            ..self.routing.gauges()
        }
        .with_away(self.durable.away_count())
    }

    /// A token that no question of this shard had before.
    pub(crate) const fn draw_token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }

    /// Tells the session hook, if there is one.
    pub(crate) fn observe(&mut self, event: &SessionEvent<'_>) {
        if let Some(hook) = &mut self.hooks.session {
            hook.observe(event);
        }
    }

    /// Finishes what an event left half done: forgets closed connections, publishes their Wills, and lets waiting packets
    /// go on. Ends because each round uses up a connection, a Will or received bytes.
    fn settle(&mut self, actions: &mut Actions) {
        loop {
            if let Some((conn, ending)) = self.closing.pop_front() {
                self.finish_closing(conn, ending, actions);
            } else if let Some(will) = self.due_wills.pop_front() {
                self.publish_will(will, actions);
            } else if let Some(conn) = self.released.pop_front() {
                self.go_on(conn, actions);
            } else {
                return;
            }
        }
    }

    /// Acts on deadlines that have come; what is left over stays due and is next.
    fn on_timer(&mut self, actions: &mut Actions) {
        if self.is_restoring() {
            return;
        }
        for _ in 0..DUE_COUNT_PER_TIMER {
            let Some(due) = self.deadlines.poll(self.now.mono) else {
                return;
            };
            self.on_due(due, actions);
            self.settle(actions);
        }
    }

    fn on_due(&mut self, due: Due, actions: &mut Actions) {
        match due {
            Due::Connection(slot) => {
                if let Some(conn) = self.connections.id_at(slot) {
                    self.on_connection_due(conn, actions);
                }
            }
            Due::Session(index) => {
                if let Some(session) = self.sessions.id_at(index) {
                    self.on_session_due(session, actions);
                }
            }
            Due::Traffic(index) => {
                self.on_traffic_due(index, actions);
            }
            Due::Stop => self.on_stop_due(actions),
            Due::Review => self.on_reviews_due(actions),
            Due::Wills => self.on_wills_due(),
        }
    }

    fn on_hook_done(&mut self, token: Token, outcome: HookOutcome, actions: &mut Actions) {
        let Some(asker) = self.questions.remove(&token) else {
            // The asker is gone; the answer is of no use to anybody.
            self.metrics.count(Counter::EventsLate);
            return;
        };
        match (asker, outcome) {
            (Asker::Authentication(conn), HookOutcome::Auth(outcome)) => {
                self.on_authenticated(conn, token, outcome, actions);
            }
            (Asker::Will(will), HookOutcome::Access(allowed)) => {
                self.on_will_decided(*will, allowed, actions)
            }
            (Asker::Packet(conn), HookOutcome::Access(allowed)) => {
                self.on_hook_access(conn, token, allowed, actions);
            }
            (Asker::Review(conn), HookOutcome::Access(allowed)) => {
                self.on_review_decided(conn, token, allowed, actions);
            }
            (Asker::Replay(conn), HookOutcome::Access(allowed)) => {
                self.on_replay_decided(conn, token, allowed, actions);
            }
            (Asker::Packet(conn), HookOutcome::Publish(verdict)) => {
                self.on_hook_publish(conn, token, verdict, actions)
            }
            (asker, _) => {
                // An answer to another question than was asked: the asker goes on waiting.
                self.metrics.count(Counter::EventsLate);
                self.questions.insert(token, asker);
            }
        }
    }

    fn on_control(&mut self, control: Control, actions: &mut Actions) {
        match control {
            Control::Reconfigure(config) => {
                self.routing.reconfigure(&config.mqtt);
                self.configs.replace(config);
            }
            Control::Kick { client_id } => self.kick(&client_id, actions),
            Control::Reauthorize { client_id } => self.reauthorize(client_id.as_deref(), actions),
            Control::Publish(message) => self.publish_internal(&message, actions),
            Control::Snapshot { token } => {
                let answer = Answered::Snapshot { metrics: self.metrics.clone(), gauges: self.gauges() };
                actions.list.push(Action::Answer { token, answer: Box::new(answer) });
            }
            Control::Stop => self.begin_stop(),
        }
    }
}

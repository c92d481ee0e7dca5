//! Sessions that are left behind: clients connect, subscribe and say goodbye; then messages are published to them.
//!
//! The clients take turns on `--concurrency` connections, so that the number of sessions has nothing to do with that of
//! sockets. The last connection is the publisher's.

use dunlin_ring::Errno;
use dunlin_wire::{QoS, Version};

use super::{
    KEEP_ALIVE_SECONDS, RunError, SetUp, Settings, Watch, add_collisions, found, host, live, set_up,
};
use crate::client::{Client, Notice};
use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::engine::{ConnId, Engine, EngineConfig, Outbox, Script};
use crate::failures::Failures;
use crate::observe::meter::{Meter, fill_window};
use crate::record::Live;
use crate::report::{Figure, Report, ratio};
use crate::stamp::Stamp;

/// What is left behind. `drain` comes back for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stock {
    pub(crate) sessions: u32,
    /// Sessions that subscribe to the same topic.
    pub(crate) per_topic: u32,
    /// Messages to each topic.
    pub(crate) messages: u32,
    pub(crate) payload_bytes: usize,
    /// Tells its client ids, topics and payloads from those of others.
    pub(crate) name: u32,
}

impl Stock {
    fn topics(&self) -> u32 {
        self.sessions.div_ceil(self.per_topic)
    }

    fn published(&self) -> u64 {
        u64::from(self.topics()) * u64::from(self.messages)
    }

    /// Messages times those for whom they wait.
    pub(crate) fn deliveries(&self) -> u64 {
        u64::from(self.sessions) * u64::from(self.messages)
    }

    /// Number of the topic that a client subscribes to.
    pub(crate) const fn topic_of(&self, client: u32) -> u32 {
        client / self.per_topic
    }

    /// A topic below the level of a part of the run.
    pub(crate) fn topic(&self, level: &str, number: u32) -> String {
        format!("{level}fill/{}/{number}", self.name)
    }

    /// The client id of a client of a part of the run.
    pub(crate) fn client_id(&self, level: &str, client: u32) -> String {
        format!("{}fill{}-{client}", level.replace('/', "-"), self.name)
    }
}

/// How it is left behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) stock: Stock,
    /// Messages under way.
    pub(crate) window: u32,
}

/// Leaves sessions and messages behind.
///
/// # Errors
/// When it could not be carried out.
pub(crate) fn run(plan: Plan, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let places = settings.concurrency.min(plan.stock.sessions);
    let mut engine = Engine::new(EngineConfig {
        route: settings.route.clone(),
        transport: settings.transport.clone(),
        connections: places + 1,
        per_ring: settings.per_ring,
        one_answer: false,
    })
    .map_err(host("setting up io_uring"))?;
    let mut fill = Fill::new(plan, places, settings, live(settings, &clock, watch)?);
    fill.live.recorder.begin_stage(clock.now(), "leaving sessions", false);
    set_up("sessions", &mut fill, &mut engine, &clock, settings.patience_seconds)?;
    let from = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    fill.publishes = true;
    fill.live.recorder.begin_stage(from.at, "publishing", true);
    set_up("messages", &mut fill, &mut engine, &clock, settings.patience_seconds)?;
    let to = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    let outcome = fill.live.finish(clock.now());
    let per_second = ratio(u64::from(plan.stock.sessions) * SECOND_NS, from.at.0);
    let mut report = Report {
        scenario: "fill".to_owned(),
        protocol: settings.protocol.name().to_owned(),
        qos: 1,
        payload_bytes: plan.stock.payload_bytes,
        connections: places + 1,
        unit: "message".to_owned(),
        count: plan.stock.published(),
        failures: fill.failures.count(),
        failure_examples: fill.failures.examples().to_vec(),
        extra: vec![Figure { name: "sessions left behind", value: per_second, unit: "per second" }],
        ..Report::default()
    };
    fill_window(&mut report, from, to);
    add_collisions(&mut report, &engine);
    found::complete(&mut report, outcome, settings);
    Ok(report)
}

/// The script: places go through connecting, subscribing and leaving with one client after the other.
struct Fill {
    plan: Plan,
    clients: Vec<Client>,
    free: Vec<ConnId>,
    publisher: ConnId,
    topic_level: String,
    version: Version,
    /// The next client that has to come.
    next: u32,
    /// By place: the client that is there.
    numbers: Vec<u32>,
    left_behind: u64,
    publishes: bool,
    publisher_is_up: bool,
    sent: u64,
    acknowledged: u64,
    payload: Vec<u8>,
    failures: Failures,
    live: Live,
}

impl Fill {
    fn new(plan: Plan, places: u32, settings: &Settings, live: Live) -> Self {
        let version = settings.protocol.version();
        Self {
            plan,
            clients: (0..=places).map(|_| Client::new(version)).collect(),
            free: (0..places).rev().map(ConnId).collect(),
            publisher: ConnId(places),
            topic_level: settings.topic_level.clone(),
            version,
            next: 0,
            numbers: vec![0; places as usize + 1],
            left_behind: 0,
            publishes: false,
            publisher_is_up: false,
            sent: 0,
            acknowledged: 0,
            payload: vec![0; plan.stock.payload_bytes],
            failures: Failures::default(),
            live,
        }
    }

    /// Sends as many messages as the window allows; one topic after the other gets its next.
    fn publish(&mut self, outbox: &mut Outbox) {
        let (window, stock) = (u64::from(self.plan.window), self.plan.stock);
        while self.sent < stock.published() && self.sent - self.acknowledged < window {
            if !self.clients[self.publisher.index()].may_publish(QoS::AtLeastOnce) {
                return;
            }
            let topics = u64::from(stock.topics());
            let target = u32::try_from(self.sent % topics).unwrap_or(u32::MAX);
            let sequence = u32::try_from(self.sent / topics).unwrap_or(u32::MAX);
            let stamp =
                Stamp { run: stock.name, flow: 0, target, sequence, ticket: sequence, intended_ns: 0 };
            stamp.write(&mut self.payload);
            let topic = stock.topic(&self.topic_level, target);
            let out = outbox.buffer(self.publisher);
            self.clients[self.publisher.index()].publish(&topic, &self.payload, QoS::AtLeastOnce, 0, out);
            self.sent += 1;
            self.live.recorder.sent(false);
        }
    }

    fn notice(&mut self, conn: ConnId, notice: &Notice<'_>, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code, .. } if code.is_error() => {
                self.failures.note(format_args!("connection refused: {code:?}"));
                outbox.close(conn);
            }
            Notice::Connected { .. } if conn == self.publisher => self.publisher_is_up = true,
            Notice::Connected { session_present: true, .. } => {
                self.failures.note("a session of this name is there already; give another --name");
                outbox.close(conn);
            }
            Notice::Connected { .. } => {
                let stock = self.plan.stock;
                let topic = stock.topic(&self.topic_level, stock.topic_of(self.numbers[conn.index()]));
                self.clients[conn.index()].subscribe(&[topic], QoS::AtLeastOnce, outbox.buffer(conn));
            }
            Notice::Subscribed { refused, .. } => {
                if refused > 0 {
                    self.failures.note("a subscription was refused");
                }
                self.left_behind += 1;
                self.clients[conn.index()].disconnect(outbox.buffer(conn));
                outbox.close(conn);
            }
            Notice::Published { .. } => self.acknowledged += 1,
            Notice::Refused { code, .. } => {
                self.acknowledged += 1;
                self.failures.note(format_args!("a message was refused: {code:?}"));
            }
            Notice::Disconnected { code } => {
                self.failures.note(format_args!("disconnected by the broker: {code:?}"));
            }
            Notice::Delivered { .. } | Notice::Unsubscribed { .. } | Notice::Pong | Notice::Nothing => {}
        }
    }
}

impl SetUp for Fill {
    fn pump(&mut self, _now: Nanos, engine: &mut Engine) {
        let outbox = engine.outbox();
        if self.publishes {
            if self.publisher_is_up {
                self.publish(outbox);
            } else if self.numbers[self.publisher.index()] == 0 {
                self.numbers[self.publisher.index()] = PUBLISHER;
                outbox.open(self.publisher);
            }
            return;
        }
        while self.next < self.plan.stock.sessions
            && let Some(conn) = self.free.pop()
        {
            self.numbers[conn.index()] = self.next;
            self.next += 1;
            outbox.open(conn);
        }
    }

    fn progress(&self) -> (u64, u64) {
        if self.publishes {
            (self.acknowledged, self.plan.stock.published())
        } else {
            (self.left_behind, u64::from(self.plan.stock.sessions))
        }
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn live(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Script for Fill {
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, _now: Nanos, outbox: &mut Outbox) {
        if let Err(errno) = result {
            return self.failures.note(format_args!("connecting: {errno}"));
        }
        let client = &mut self.clients[conn.index()];
        *client = Client::new(self.version);
        let number = self.numbers[conn.index()];
        let is_durable = conn != self.publisher;
        let client_id = self.plan.stock.client_id(&self.topic_level, number);
        client.connect(&client_id, KEEP_ALIVE_SECONDS, is_durable, outbox.buffer(conn));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], _now: Nanos, outbox: &mut Outbox) -> usize {
        let mut used = 0;
        loop {
            match self.clients[conn.index()].take(&bytes[used..], || outbox.buffer(conn)) {
                Ok(Some((notice, count))) => {
                    used += count;
                    self.notice(conn, &notice, outbox);
                }
                Ok(None) => return used,
                Err(fault) => {
                    self.failures.note(fault);
                    outbox.close(conn);
                    return bytes.len();
                }
            }
        }
    }

    fn ended(&mut self, conn: ConnId, errno: Option<Errno>, _now: Nanos, _outbox: &mut Outbox) {
        let number = self.numbers[conn.index()];
        match errno {
            None => self.failures.note(format_args!("client {number} was closed by the broker")),
            Some(errno) => self.failures.note(format_args!("client {number}: {errno}")),
        }
    }

    fn freed(&mut self, conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {
        if conn != self.publisher {
            self.free.push(conn);
        }
    }
}

/// Stands at the publisher's place once it is being opened.
const PUBLISHER: u32 = u32::MAX;

//! Retained messages: publishers store one on each of many topics, twice over; then new subscribers of `keep/#`
//! get all of them.
//!
//! Each topic is written twice, so that a broker that hands out the first message is found (`stale`).

use dunlin_ring::Errno;
use dunlin_wire::{QoS, ReasonCode};

use super::opening::{Hears, Opening, engine, hear_all, listener};
use super::{KEEP_ALIVE_SECONDS, RunError, SetUp, Settings, Watch, found, host, live, set_up, settle};
use crate::client::{Envelope, Notice};
use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::engine::{ConnId, Engine, Outbox, Script};
use crate::failures::Failures;
use crate::observe::meter::{Meter, fill_window};
use crate::record::Live;
use crate::report::{Figure, Report};
use crate::roster::Roster;
use crate::stamp::Stamp;
use crate::verify::Violations;

/// A retained scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) publishers: u32,
    /// Topics of each publisher.
    pub(crate) topics: u32,
    pub(crate) subscribers: u32,
    /// Messages that each publisher keeps under way.
    pub(crate) window: u32,
    /// Quality of Service that subscribers ask for; what is stored has QoS 1.
    pub(crate) qos: QoS,
    pub(crate) payload_bytes: usize,
    /// Whether the figures are those of storing; otherwise they are those of handing out.
    pub(crate) measures_store: bool,
}

/// Runs a retained scenario.
///
/// # Errors
/// When it could not be carried out; what the broker did wrong is in the report.
pub(crate) fn run(plan: Plan, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let mut engine = engine(plan.connections(), settings)?;
    let mut keepers = Keepers::new(plan, settings, live(settings, &clock, watch)?);
    keepers.live.recorder.begin_stage(clock.now(), "connecting", false);
    let read = |meter: &Meter| meter.read(&clock).map_err(host("reading the broker's processor time"));
    set_up("connections", &mut keepers, &mut engine, &clock, settings.patience_seconds)?;
    settle(&mut keepers, &mut engine, &clock, clock.now().after(SECOND_NS / 4))?;

    let store_from = read(&meter)?;
    keepers.live.recorder.begin_stage(store_from.at, "storing", plan.measures_store);
    keepers.begin(Stage::Storing, engine.outbox());
    set_up("stored messages", &mut keepers, &mut engine, &clock, settings.patience_seconds)?;
    let store_to = read(&meter)?;
    settle(&mut keepers, &mut engine, &clock, clock.now().after(SECOND_NS / 4))?;

    let replay_from = read(&meter)?;
    keepers.live.recorder.begin_stage(replay_from.at, "handing out", !plan.measures_store);
    keepers.begin(Stage::Replaying, engine.outbox());
    keepers.replay(&mut engine, &clock, settings.patience_seconds)?;
    let replay_to = read(&meter)?;
    // A moment more, so that a duplicate of the last message is seen too.
    settle(&mut keepers, &mut engine, &clock, clock.now().after(SECOND_NS / 10))?;
    let violations = keepers.violations();
    keepers.live.recorder.begin_stage(clock.now(), "removing", false);
    keepers.begin(Stage::Removing, engine.outbox());
    set_up("removed messages", &mut keepers, &mut engine, &clock, settings.patience_seconds)?;

    let mut report = Report {
        scenario: "retained".to_owned(),
        protocol: settings.protocol.name().to_owned(),
        qos: plan.qos.as_u8(),
        payload_bytes: plan.payload_bytes,
        connections: plan.connections(),
        unit: "message".to_owned(),
        violations: Some(violations),
        failures: keepers.failures.count(),
        failure_examples: keepers.failures.examples().to_vec(),
        ..Report::default()
    };
    let mut other = Report::default();
    let (stored, replayed) =
        if plan.measures_store { (&mut report, &mut other) } else { (&mut other, &mut report) };
    stored.count = plan.stored();
    fill_window(stored, store_from, store_to);
    replayed.count = plan.replayed() - violations.lost;
    fill_window(replayed, replay_from, replay_to);
    let [cpu, rate] = if plan.measures_store {
        ["handing out, broker CPU", "handing out, rate"]
    } else {
        ["storing, broker CPU", "storing, rate"]
    };
    if let Some(value) = other.broker_cpu_us {
        report.extra.push(Figure { name: cpu, value, unit: "us per message" });
    }
    report.extra.push(Figure { name: rate, value: other.per_second, unit: "messages/s" });
    report.judge_generator(false);
    let outcome = keepers.live.finish(clock.now());
    found::complete(&mut report, outcome, settings);
    Ok(report)
}

impl Plan {
    /// Subscribers are connections `0..subscribers`, publishers follow.
    const fn connections(&self) -> u32 {
        self.subscribers + self.publishers
    }

    /// Topics in all.
    fn topics_total(&self) -> u64 {
        u64::from(self.publishers) * u64::from(self.topics)
    }

    /// Messages that are stored: each topic has several versions, one after the other.
    fn stored(&self) -> u64 {
        self.topics_total() * u64::from(VERSIONS)
    }

    /// Messages that are handed out.
    fn replayed(&self) -> u64 {
        self.topics_total() * u64::from(self.subscribers)
    }
}

/// What the clients are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Storing,
    Replaying,
    Removing,
}

/// The script of a retained scenario.
struct Keepers {
    plan: Plan,
    run: u32,
    roster: Roster,
    stage: Stage,
    opening: Opening,
    /// Messages of this stage that were taken over by the broker, or have come from it.
    done: u64,
    /// Next message of each publisher in this stage.
    next: Vec<u32>,
    /// Per subscriber and topic: whether the kept message has come.
    seen: Vec<bool>,
    found: Violations,
    topic: String,
    payload: Vec<u8>,
    failures: Failures,
    live: Live,
}

impl Keepers {
    fn new(plan: Plan, settings: &Settings, live: Live) -> Self {
        let cells = usize::try_from(plan.replayed()).unwrap_or(usize::MAX);
        Self {
            plan,
            run: settings.run,
            roster: Roster::new(plan.connections(), settings.protocol, KEEP_ALIVE_SECONDS, settings.run),
            stage: Stage::Connecting,
            opening: Opening::new(plan.connections(), settings),
            done: 0,
            next: vec![0; plan.publishers as usize],
            seen: vec![false; cells],
            found: Violations::default(),
            topic: String::new(),
            payload: vec![0; plan.payload_bytes],
            failures: Failures::default(),
            live,
        }
    }

    /// Begins a stage: publishers fill their windows, or subscribers subscribe.
    fn begin(&mut self, stage: Stage, outbox: &mut Outbox) {
        self.stage = stage;
        self.done = 0;
        self.next.fill(0);
        if stage == Stage::Replaying {
            for subscriber in 0..self.plan.subscribers {
                let conn = ConnId(subscriber);
                self.roster.subscribe(conn, &["keep/#".to_owned()], 1, self.plan.qos, outbox);
            }
            return;
        }
        for publisher in 0..self.plan.publishers {
            for _ in 0..self.plan.window {
                self.send(publisher, outbox);
            }
        }
    }

    /// Waits until all subscribers have everything, or nothing has come for as long as patience lasts: what is
    /// missing then is lost.
    fn replay(&mut self, engine: &mut Engine, clock: &Clock, patience_seconds: u64) -> Result<(), RunError> {
        let mut seen = self.done;
        let mut moved_at = clock.now();
        while self.done < self.plan.replayed() {
            let now = clock.now();
            if self.done != seen {
                seen = self.done;
                moved_at = now;
            } else if now.since(moved_at) > patience_seconds * SECOND_NS {
                return Ok(());
            }
            self.live.recorder.set_progress(self.done, self.plan.replayed());
            self.live.turn(now);
            engine
                .turn(self, clock, Some(now.after(SECOND_NS / 10)))
                .map_err(host("waiting for the rings"))?;
        }
        Ok(())
    }

    /// Sends the next message of a publisher, if it has one and the broker's Receive Maximum allows it.
    fn send(&mut self, publisher: u32, outbox: &mut Outbox) {
        let conn = ConnId(self.plan.subscribers + publisher);
        let versions = if self.stage == Stage::Storing { VERSIONS } else { 1 };
        let number = self.next[publisher as usize];
        let is_over = number >= self.plan.topics.saturating_mul(versions);
        if is_over || !self.roster.client(conn).may_publish(QoS::AtLeastOnce) {
            return;
        }
        self.next[publisher as usize] = number + 1;
        let topic = number % self.plan.topics;
        self.topic.clear();
        self.topic.push_str(&format!("keep/{publisher}/{topic}"));
        let payload: &[u8] = if self.stage == Stage::Storing {
            let stamp = Stamp {
                run: self.run,
                flow: publisher,
                target: topic,
                sequence: number / self.plan.topics,
                ticket: number,
                intended_ns: 0,
            };
            stamp.write(&mut self.payload);
            &self.payload
        } else {
            &[]
        };
        let envelope = Envelope { qos: QoS::AtLeastOnce, retain: true, expiry_seconds: None };
        self.live.recorder.sent(false);
        let out = outbox.buffer(conn);
        self.roster.client(conn).publish_as(&self.topic, payload, envelope, number, out);
    }

    fn on_delivered(&mut self, conn: ConnId, payload: &[u8], retain: bool) {
        if self.stage != Stage::Replaying {
            // The removals reach those who have subscribed.
            return;
        }
        let Some(stamp) = Stamp::read(payload).filter(|stamp| stamp.run == self.run) else {
            self.found.corrupted += 1;
            return;
        };
        let known = stamp.flow < self.plan.publishers && stamp.target < self.plan.topics;
        if !known || conn.0 >= self.plan.subscribers {
            self.found.misdelivered += 1;
            return;
        }
        if !retain {
            self.failures.note("a kept message came without the RETAIN flag");
        }
        if stamp.sequence + 1 != VERSIONS {
            self.found.stale += 1;
        }
        let topics = self.plan.publishers as usize * self.plan.topics as usize;
        let topic = stamp.flow as usize * self.plan.topics as usize + stamp.target as usize;
        let seen = &mut self.seen[conn.index() * topics + topic];
        if *seen {
            self.found.duplicated += 1;
        } else {
            *seen = true;
            self.live.recorder.delivered();
            self.done += 1;
        }
    }

    fn violations(&self) -> Violations {
        Violations { lost: self.plan.replayed() - self.done, ..self.found }
    }
}

impl Hears for Keepers {
    fn clients(&mut self) -> (&mut Roster, &mut Failures) {
        (&mut self.roster, &mut self.failures)
    }

    fn hear(&mut self, conn: ConnId, notice: &Notice<'_>, _now: Nanos, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code: ReasonCode::Success, .. } => {
                self.live.recorder.connected();
                self.opening.accepted();
            }
            Notice::Published { .. } => {
                self.live.recorder.counters().acknowledged += 1;
                self.done += 1;
                if let Some(publisher) = conn.0.checked_sub(self.plan.subscribers) {
                    self.send(publisher, outbox);
                }
            }
            Notice::Delivered { payload, mark, .. } => self.on_delivered(conn, payload, mark.retain),
            Notice::Subscribed { refused, .. } if refused > 0 => {
                self.failures.note("a subscription was refused");
            }
            Notice::Subscribed { .. } | Notice::Pong | Notice::Nothing => {}
            Notice::Connected { .. }
            | Notice::Refused { .. }
            | Notice::Unsubscribed { .. }
            | Notice::Disconnected { .. } => self.failures.note(format_args!("unexpected: {notice:?}")),
        }
    }
}

impl SetUp for Keepers {
    fn pump(&mut self, _now: Nanos, engine: &mut Engine) {
        self.opening.pump(|conn| engine.outbox().open(conn));
    }

    fn progress(&self) -> (u64, u64) {
        match self.stage {
            Stage::Connecting => self.opening.progress(),
            Stage::Storing => (self.done, self.plan.stored()),
            Stage::Replaying => (self.done, self.plan.replayed()),
            Stage::Removing => (self.done, self.plan.topics_total()),
        }
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn live(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Script for Keepers {
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, _now: Nanos, outbox: &mut Outbox) {
        match result {
            Ok(()) => {
                self.roster.greet(conn, &|| listener(conn), outbox);
            }
            Err(errno) => {
                self.opening.failed();
                self.failures.note(format_args!("connecting: {errno}"));
            }
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize {
        hear_all(self, conn, bytes, now, outbox)
    }

    fn ended(&mut self, conn: ConnId, _errno: Option<Errno>, _now: Nanos, _outbox: &mut Outbox) {
        self.failures.note(format_args!("connection {} was closed by the broker", conn.0));
    }

    fn freed(&mut self, _conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {}
}

/// How often each topic is written.
const VERSIONS: u32 = 2;

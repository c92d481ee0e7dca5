//! Many subscriptions: each client subscribes to its own literal filters, and unsubscribes again.

use dunlin_ring::Errno;
use dunlin_wire::{QoS, ReasonCode};

use super::opening::{Hears, Opening, engine, hear_all, listener};
use super::{
    KEEP_ALIVE_SECONDS, RunError, SetUp, Settings, Watch, add_collisions, found, host, live, set_up, settle,
};
use crate::client::Notice;
use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::engine::{ConnId, Engine, Outbox, Script};
use crate::failures::Failures;
use crate::observe::meter::{Meter, fill_window, memory_report};
use crate::record::Live;
use crate::report::{Figure, Report};
use crate::roster::Roster;

/// A subscription scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u32,
    /// Filters per client.
    pub(crate) filters: u32,
    /// Filters in one SUBSCRIBE packet.
    pub(crate) per_packet: u32,
    pub(crate) qos: QoS,
    /// Whether to unsubscribe afterwards and measure that too.
    pub(crate) unsubscribe: bool,
}

/// Runs a subscription scenario.
///
/// # Errors
/// When it could not be carried out.
pub(crate) fn run(plan: Plan, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let mut engine = engine(plan.clients, settings)?;
    let mut script = Subscribers::new(plan, settings, live(settings, &clock, watch)?);
    script.live.recorder.begin_stage(clock.now(), "connecting", false);
    set_up("connections", &mut script, &mut engine, &clock, settings.patience_seconds)?;
    settle(&mut script, &mut engine, &clock, clock.now().after(SECOND_NS / 2))?;

    let before = meter.footprint().map_err(host("reading the broker's memory"))?;
    let from = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    script.live.recorder.begin_stage(clock.now(), "subscribing", true);
    script.start(Stage::Subscribing, engine.outbox());
    set_up("subscriptions", &mut script, &mut engine, &clock, settings.patience_seconds)?;
    let to = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    settle(&mut script, &mut engine, &clock, clock.now().after(SECOND_NS / 2))?;
    let after = meter.footprint().map_err(host("reading the broker's memory"))?;

    let mut report = Report {
        scenario: "subscribe".to_owned(),
        protocol: settings.protocol.name().to_owned(),
        connections: plan.clients,
        unit: "subscription".to_owned(),
        count: script.wanted(),
        memory: memory_report("subscription", script.wanted(), before, after),
        ..Report::default()
    };
    fill_window(&mut report, from, to);
    if plan.unsubscribe {
        let from = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
        script.live.recorder.begin_stage(clock.now(), "unsubscribing", true);
        script.start(Stage::Unsubscribing, engine.outbox());
        set_up("unsubscriptions", &mut script, &mut engine, &clock, settings.patience_seconds)?;
        let to = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
        let mut undone = Report { count: script.wanted(), ..Report::default() };
        fill_window(&mut undone, from, to);
        if let Some(cpu) = undone.broker_cpu_us {
            report.extra.push(Figure { name: "unsubscribe, broker CPU", value: cpu, unit: "us per filter" });
        }
        let rate = undone.per_second;
        report.extra.push(Figure { name: "unsubscribe rate", value: rate, unit: "filters/s" });
    }
    report.failures = script.failures.count();
    report.failure_examples = script.failures.examples().to_vec();
    let outcome = script.live.finish(clock.now());
    found::complete(&mut report, outcome, settings);
    add_collisions(&mut report, &engine);
    Ok(report)
}

/// What the clients are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Subscribing,
    Unsubscribing,
}

struct Subscribers {
    plan: Plan,
    roster: Roster,
    stage: Stage,
    opening: Opening,
    /// Filters answered in this stage.
    answered: u64,
    /// Next filter of each client to ask for.
    asked: Vec<u32>,
    failures: Failures,
    live: Live,
}

impl Subscribers {
    fn new(plan: Plan, settings: &Settings, live: Live) -> Self {
        Self {
            plan,
            roster: Roster::new(plan.clients, settings.protocol, KEEP_ALIVE_SECONDS, settings.run),
            stage: Stage::Connecting,
            opening: Opening::new(plan.clients, settings),
            answered: 0,
            asked: vec![0; plan.clients as usize],
            failures: Failures::default(),
            live,
        }
    }

    fn wanted(&self) -> u64 {
        u64::from(self.plan.clients) * u64::from(self.plan.filters)
    }

    /// Begins a stage: every client has one packet under way at a time.
    fn start(&mut self, stage: Stage, outbox: &mut Outbox) {
        self.stage = stage;
        self.answered = 0;
        self.asked.fill(0);
        for client in 0..self.plan.clients {
            self.ask(ConnId(client), outbox);
        }
    }

    fn ask(&mut self, conn: ConnId, outbox: &mut Outbox) {
        let first = self.asked[conn.index()];
        let last = first.saturating_add(self.plan.per_packet).min(self.plan.filters);
        if first == last {
            return;
        }
        self.asked[conn.index()] = last;
        let filters: Vec<String> =
            (first..last).map(|index| format!("dev/{}/sensor/{index}/value", conn.0)).collect();
        let out = outbox.buffer(conn);
        match self.stage {
            Stage::Connecting => {}
            Stage::Subscribing => self.roster.client(conn).subscribe(&filters, self.plan.qos, out),
            Stage::Unsubscribing => self.roster.client(conn).unsubscribe(&filters, out),
        }
    }
}

impl Hears for Subscribers {
    fn clients(&mut self) -> (&mut Roster, &mut Failures) {
        (&mut self.roster, &mut self.failures)
    }

    fn hear(&mut self, conn: ConnId, notice: &Notice<'_>, _now: Nanos, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code: ReasonCode::Success, .. } => {
                self.live.recorder.connected();
                self.opening.accepted();
            }
            Notice::Subscribed { count, refused } => {
                self.answered += count as u64;
                self.live.recorder.counters().subscribed += count as u64;
                if refused > 0 {
                    self.failures.note(format_args!("{refused} filters were refused"));
                }
                self.ask(conn, outbox);
            }
            Notice::Unsubscribed { .. } => {
                let asked = u64::from(self.asked[conn.index()]);
                let per_packet = u64::from(self.plan.per_packet.max(1));
                let last_packet = if asked % per_packet == 0 { per_packet } else { asked % per_packet };
                self.answered += last_packet;
                self.ask(conn, outbox);
            }
            Notice::Connected { .. }
            | Notice::Delivered { .. }
            | Notice::Published { .. }
            | Notice::Refused { .. }
            | Notice::Disconnected { .. } => self.failures.note(format_args!("unexpected: {notice:?}")),
            Notice::Nothing | Notice::Pong => {}
        }
    }
}

impl SetUp for Subscribers {
    fn pump(&mut self, _now: Nanos, engine: &mut Engine) {
        self.opening.pump(|conn| engine.outbox().open(conn));
    }

    fn progress(&self) -> (u64, u64) {
        match self.stage {
            Stage::Connecting => self.opening.progress(),
            Stage::Subscribing | Stage::Unsubscribing => (self.answered, self.wanted()),
        }
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn live(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Script for Subscribers {
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

//! Rounds of connections: all connect and subscribe, all close, again and again. What does the broker keep?

use dunlin_ring::Errno;
use dunlin_wire::{QoS, ReasonCode};

use super::opening::{Hears, engine, hear_all, listener};
use super::{
    KEEP_ALIVE_SECONDS, RunError, SetUp, Settings, Watch, add_collisions, found, host, live, set_up, settle,
};
use crate::client::Notice;
use crate::clock::{Clock, Nanos};
use crate::engine::{ConnId, Engine, Outbox, Script};
use crate::failures::Failures;
use crate::observe::meter::{Footprint, Meter, fill_window};
use crate::record::Live;
use crate::report::{Figure, Report, RoundMemory};
use crate::roster::Roster;

/// Rounds of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Connections of a round.
    pub(crate) connections: u32,
    pub(crate) rounds: u32,
    /// How long to wait before memory is read, when all are up and when all are gone.
    pub(crate) settle_ns: u64,
}

/// Runs the rounds.
///
/// # Errors
/// When they could not be carried out.
pub(crate) fn run(plan: Plan, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let mut engine = engine(plan.connections, settings)?;
    let mut fleet = Fleet::new(plan.connections, settings, live(settings, &clock, watch)?);
    let read = |meter: &Meter| meter.footprint().map_err(host("reading the broker's memory"));
    let from = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    let before = read(&meter)?;
    let mut rounds = Vec::new();
    for number in 1..=plan.rounds {
        fleet.live.recorder.begin_stage(
            clock.now(),
            &format!("round {number} of {}, opening", plan.rounds),
            true,
        );
        fleet.begin(Stage::Opening);
        set_up("connections and subscriptions", &mut fleet, &mut engine, &clock, settings.patience_seconds)?;
        settle(&mut fleet, &mut engine, &clock, clock.now().after(plan.settle_ns))?;
        let open = read(&meter)?;
        fleet.live.recorder.begin_stage(
            clock.now(),
            &format!("round {number} of {}, closing", plan.rounds),
            true,
        );
        fleet.begin(Stage::Closing);
        set_up("closed connections", &mut fleet, &mut engine, &clock, settings.patience_seconds)?;
        settle(&mut fleet, &mut engine, &clock, clock.now().after(plan.settle_ns))?;
        rounds.extend(round(before, open, read(&meter)?));
    }
    let to = meter.read(&clock).map_err(host("reading the broker's processor time"))?;

    let mut report = Report {
        scenario: "cycle".to_owned(),
        protocol: settings.protocol.name().to_owned(),
        connections: plan.connections,
        unit: "connect".to_owned(),
        count: u64::from(plan.connections) * u64::from(plan.rounds),
        failures: fleet.failures.count(),
        failure_examples: fleet.failures.examples().to_vec(),
        ..Report::default()
    };
    fill_window(&mut report, from, to);
    if let (Some(first), Some(last)) = (rounds.first(), rounds.last()) {
        report.growth_bytes = Some(last.closed_rss_bytes - first.closed_rss_bytes);
        let kept = last.closed_rss_bytes - last.before_rss_bytes;
        report.extra.push(mebibytes("broker memory kept", kept));
    }
    report.rounds = rounds;
    let outcome = fleet.live.finish(clock.now());
    found::complete(&mut report, outcome, settings);
    add_collisions(&mut report, &engine);
    Ok(report)
}

/// The memory of a round, if the broker is known.
fn round(before: Footprint, open: Footprint, closed: Footprint) -> Option<RoundMemory> {
    Some(RoundMemory {
        before_rss_bytes: before.broker_rss_bytes()?,
        open_rss_bytes: open.broker_rss_bytes()?,
        closed_rss_bytes: closed.broker_rss_bytes()?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people; 53 bits are plenty")]
fn mebibytes(name: &'static str, bytes: i64) -> Figure {
    Figure { name, value: bytes as f64 / f64::from(1 << 20), unit: "MiB" }
}

/// What the fleet is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Closing,
}

/// The script: connections that all come and all go.
struct Fleet {
    roster: Roster,
    connections: u32,
    concurrency: u32,
    stage: Stage,
    /// Connections of this stage that were begun.
    begun: u32,
    /// Connections of this stage that are up and subscribed, or gone.
    done: u32,
    failures: Failures,
    live: Live,
}

impl Fleet {
    fn new(connections: u32, settings: &Settings, live: Live) -> Self {
        Self {
            roster: Roster::new(connections, settings.protocol, KEEP_ALIVE_SECONDS, settings.run),
            connections,
            concurrency: settings.concurrency,
            stage: Stage::Opening,
            begun: 0,
            done: 0,
            failures: Failures::default(),
            live,
        }
    }

    fn begin(&mut self, stage: Stage) {
        self.stage = stage;
        self.begun = 0;
        self.done = 0;
    }
}

impl Hears for Fleet {
    fn clients(&mut self) -> (&mut Roster, &mut Failures) {
        (&mut self.roster, &mut self.failures)
    }

    fn hear(&mut self, conn: ConnId, notice: &Notice<'_>, _now: Nanos, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code: ReasonCode::Success, .. } => {
                self.live.recorder.connected();
                let filter = [format!("cycle/{}/state", conn.0)];
                self.roster.subscribe(conn, &filter, 1, QoS::AtMostOnce, outbox);
            }
            Notice::Subscribed { count, refused: 0, .. } => {
                self.live.recorder.counters().subscribed += count as u64;
                self.done += 1;
            }
            Notice::Nothing | Notice::Pong => {}
            Notice::Connected { .. }
            | Notice::Subscribed { .. }
            | Notice::Unsubscribed { .. }
            | Notice::Delivered { .. }
            | Notice::Published { .. }
            | Notice::Refused { .. }
            | Notice::Disconnected { .. } => self.failures.note(format_args!("unexpected: {notice:?}")),
        }
    }
}

impl SetUp for Fleet {
    fn pump(&mut self, _now: Nanos, engine: &mut Engine) {
        while self.begun < self.connections && self.begun - self.done < self.concurrency {
            let conn = ConnId(self.begun);
            self.begun += 1;
            match self.stage {
                Stage::Opening => engine.outbox().open(conn),
                Stage::Closing => engine.outbox().close(conn),
            }
        }
    }

    fn progress(&self) -> (u64, u64) {
        (u64::from(self.done), u64::from(self.connections))
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn live(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Script for Fleet {
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, _now: Nanos, outbox: &mut Outbox) {
        match result {
            Ok(()) => {
                self.roster.greet(conn, &|| listener(conn), outbox);
            }
            Err(errno) => self.failures.note(format_args!("connecting: {errno}")),
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize {
        hear_all(self, conn, bytes, now, outbox)
    }

    fn ended(&mut self, conn: ConnId, _errno: Option<Errno>, _now: Nanos, _outbox: &mut Outbox) {
        self.failures.note(format_args!("connection {} was closed by the broker", conn.0));
    }

    fn freed(&mut self, _conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {
        if self.stage == Stage::Closing {
            self.done += 1;
            self.live.recorder.disconnected();
        }
    }
}

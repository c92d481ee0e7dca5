//! A storm of connections: connect, CONNECT, CONNACK, close, again and again.

use dunlin_ring::Errno;
use dunlin_wire::ReasonCode;

use super::opening::listener;
use super::{KEEP_ALIVE_SECONDS, RunError, Settings, Watch, add_collisions, found, host, live};
use crate::client::Notice;
use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::engine::{ConnId, Engine, EngineConfig, Outbox, Script};
use crate::failures::Failures;
use crate::observe::meter::{Meter, fill_window};
use crate::pace::Schedule;
use crate::record::{Leg, Live};
use crate::report::Report;
use crate::roster::Roster;

/// A connect storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Connections per second; `None`: as fast as the concurrency allows.
    pub(crate) per_second: Option<u64>,
}

/// Runs a connect storm.
///
/// # Errors
/// When it could not be carried out.
pub(crate) fn run(plan: Plan, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let mut engine = Engine::new(EngineConfig {
        route: settings.route.clone(),
        transport: settings.transport.clone(),
        connections: settings.concurrency,
        per_ring: settings.per_ring,
        one_answer: true,
    })
    .map_err(host("setting up io_uring"))?;
    let start = clock.now();
    let mut storm = Storm::new(settings, live(settings, &clock, watch)?);
    storm.live.recorder.begin_stage(start, "warming up", false);
    storm.schedule = plan.per_second.map(|per_second| Schedule::new(start, per_second));
    storm.run_until(&mut engine, &clock, start.after(settings.warm_up_ns))?;
    let from = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    let done_before = storm.done_count;
    storm.measuring = true;
    storm.live.recorder.begin_stage(from.at, "measuring", true);
    storm.run_until(&mut engine, &clock, from.at.after(settings.duration_ns))?;
    let to = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    storm.measuring = false;
    storm.live.recorder.begin_stage(to.at, "draining", false);
    let count = storm.done_count - done_before;
    storm.stopping = true;
    storm.drain(&mut engine, &clock)?;

    let outcome = storm.live.finish(clock.now());
    let mut report = Report {
        scenario: "connect".to_owned(),
        protocol: settings.protocol.name().to_owned(),
        connections: settings.concurrency,
        unit: "connect".to_owned(),
        count,
        tcp_connect_us: found::percentiles(&outcome, Leg::TcpConnect),
        connack_us: found::percentiles(&outcome, Leg::ConnAck),
        late: storm.schedule.as_ref().map(Schedule::late_count),
        failures: storm.failures.count(),
        failure_examples: storm.failures.examples().to_vec(),
        ..Report::default()
    };
    fill_window(&mut report, from, to);
    report.judge_generator(false);
    add_collisions(&mut report, &engine);
    found::complete(&mut report, outcome, settings);
    Ok(report)
}

/// The script of a connect storm: each place goes through opening, greeting, closing, and is free again.
struct Storm {
    roster: Roster,
    free: Vec<ConnId>,
    places: u32,
    /// When each place began what it is waiting for.
    since: Vec<Nanos>,
    schedule: Option<Schedule>,
    measuring: bool,
    stopping: bool,
    done_count: u64,
    failures: Failures,
    live: Live,
}

impl Storm {
    fn new(settings: &Settings, live: Live) -> Self {
        Self {
            roster: Roster::new(settings.concurrency, settings.protocol, KEEP_ALIVE_SECONDS, settings.run),
            free: (0..settings.concurrency).rev().map(ConnId).collect(),
            places: settings.concurrency,
            since: vec![Nanos(0); settings.concurrency as usize],
            schedule: None,
            measuring: false,
            stopping: false,
            done_count: 0,
            failures: Failures::default(),
            live,
        }
    }

    fn run_until(&mut self, engine: &mut Engine, clock: &Clock, deadline: Nanos) -> Result<(), RunError> {
        loop {
            let now = clock.now();
            if now >= deadline {
                return Ok(());
            }
            self.live.turn(now);
            let wake_at = self.open_due(now, engine.outbox()).min(deadline).min(now.after(SECOND_NS));
            engine.turn(self, clock, Some(wake_at)).map_err(host("waiting for the rings"))?;
        }
    }

    /// Notes that a place is done with what it began last.
    fn time(&mut self, leg: Leg, conn: ConnId, now: Nanos) {
        let since = self.since[conn.index()];
        self.live.recorder.time(leg, since, since, now);
    }

    fn open_due(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        while let Some(conn) = self.free.pop() {
            let due = self.schedule.as_mut().is_none_or(|schedule| schedule.take_due(now).is_some());
            if !due {
                self.free.push(conn);
                break;
            }
            self.since[conn.index()] = now;
            outbox.open(conn);
        }
        let due_at = self.schedule.as_ref().map(Schedule::due_at);
        due_at.filter(|_| !self.free.is_empty()).unwrap_or(Nanos(u64::MAX))
    }

    fn drain(&mut self, engine: &mut Engine, clock: &Clock) -> Result<(), RunError> {
        let deadline = clock.now().after(2 * SECOND_NS);
        while self.free.len() < self.places as usize && clock.now() < deadline {
            engine.turn(self, clock, Some(deadline)).map_err(host("waiting for the rings"))?;
        }
        let left = self.places as usize - self.free.len();
        if left > 0 {
            self.failures.note(format_args!("{left} connections were never answered"));
        }
        Ok(())
    }
}

impl Script for Storm {
    fn leg(&mut self, conn: ConnId, leg: Leg, now: Nanos) {
        if self.measuring {
            self.time(leg, conn, now);
        }
    }

    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, now: Nanos, outbox: &mut Outbox) {
        match result {
            Ok(()) => {
                self.since[conn.index()] = now;
                self.roster.greet(conn, &|| listener(conn), outbox);
            }
            Err(errno) => self.failures.note(format_args!("connecting: {errno}")),
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize {
        match self.roster.take(conn, bytes, outbox) {
            Ok(Some((Notice::Connected { code: ReasonCode::Success, .. }, _))) => {
                self.done_count += 1;
                // It is closed in the same turn.
                self.live.recorder.connected();
                self.live.recorder.disconnected();
                if self.measuring {
                    self.time(Leg::ConnAck, conn, now);
                }
            }
            Ok(Some((notice, _))) => {
                self.failures.note(format_args!("instead of an accepting CONNACK: {notice:?}"))
            }
            Ok(None) => self.failures.note("a CONNACK came in pieces"),
            Err(fault) => self.failures.note(fault),
        }
        outbox.close(conn);
        bytes.len()
    }

    fn ended(&mut self, _conn: ConnId, errno: Option<Errno>, _now: Nanos, _outbox: &mut Outbox) {
        match errno {
            None => self.failures.note("closed by the broker before CONNACK"),
            Some(errno) => self.failures.note(format_args!("before CONNACK: {errno}")),
        }
    }

    fn freed(&mut self, conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {
        self.free.push(conn);
    }
}

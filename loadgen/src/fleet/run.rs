//! A whole run: sets up, turns the engine through the stages, waits for what is under way, and closes the books.

use super::cast::Cast;
use super::coming::Arrivals;
use super::costs::Costs;
use super::findings::Findings;
use super::interests::Interests;
use super::ledger::Ledger;
use super::malformed::Tricks;
use super::member::Member;
use super::outlet::Outlet;
use super::slips::Slips;
use super::stages::{Running, Verdict};
use super::timetable::{NEVER, seconds};
use super::{Agenda, Fleet, Team};
use crate::client::Client;
use crate::clock::{Clock, MILLISECOND_NS, Nanos, SECOND_NS, unix_ms};
use crate::dice::Dice;
use crate::engine::{Engine, EngineConfig};
use crate::plan::Plan;
use crate::record::{Environment, Outcome, PlanNote, Recorder, Standard, Value, Violation, Watch};
use crate::scenario::{RunError, Settings, host};

/// Runs a plan and judges what was found.
///
/// # Errors
/// When the run could not be carried out: the host refuses something, or nobody could connect at all. What the broker
/// did wrong is in the outcome.
pub(crate) fn run(plan: &Plan, settings: &Settings, watch: &mut dyn Watch) -> Result<Outcome, RunError> {
    let clock = Clock::start();
    let costs = Costs::begin(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let mut fleet = Fleet::new(plan, settings, &clock);
    let mut engine = Engine::new(EngineConfig {
        route: settings.route.clone(),
        transport: settings.transport.clone(),
        connections: fleet.cast.connection_count(),
        per_ring: settings.per_ring,
        one_answer: false,
    })
    .map_err(host("setting up io_uring"))?;
    let mut course = Course { engine: &mut engine, clock: &clock, watch, costs };
    let failed = course.go_through(&mut fleet)?;
    if let Some(what) = failed {
        if fleet.recorder.counted().connects == 0 {
            let snapshot = fleet.recorder.snapshot(clock.now());
            return Err(RunError::Nobody { what, examples: snapshot.failures.examples().to_vec() });
        }
        fleet.recorder.fail("stage failed", what);
    }
    course.drain(&mut fleet)?;
    fleet.close_books();
    course.say_goodbye(&mut fleet)?;
    course.watch.end();
    Ok(fleet.into_outcome(settings, &course.costs, clock.now()))
}

/// What a run is driven by.
struct Course<'course> {
    engine: &'course mut Engine,
    clock: &'course Clock,
    watch: &'course mut dyn Watch,
    costs: Costs,
}

impl Course<'_> {
    /// Goes through all stages; returns why one of them failed, if one did.
    fn go_through<'run>(&mut self, fleet: &mut Fleet<'run>) -> Result<Option<String>, RunError> {
        let plan: &'run Plan = fleet.plan;
        for stage in &plan.stages {
            self.costs.begin_stage(stage, self.clock).map_err(host("reading the broker's processor time"))?;
            let mut running = fleet.begin_stage(stage, self.clock.now(), self.engine.outbox());
            loop {
                let now = self.clock.now();
                match fleet.judge_stage(&mut running, now) {
                    Verdict::Goes => self.turn(fleet, Some(&running), now)?,
                    Verdict::Over => break,
                    Verdict::Failed(what) => return Ok(Some(what)),
                }
            }
            fleet.end_stage(&running);
            self.costs.end_stage(stage, fleet.recorder.open(), self.clock);
        }
        Ok(None)
    }

    /// Does what is due, and waits for what comes.
    fn turn(
        &mut self,
        fleet: &mut Fleet<'_>,
        running: Option<&Running<'_>>,
        now: Nanos,
    ) -> Result<(), RunError> {
        let wake_at = fleet.work(now, self.engine.outbox());
        let until = running.map_or(NEVER, |running| running.ends_at).min(now.after(TURN_NS));
        fleet.recorder.turn(now, self.watch);
        self.engine.turn(fleet, self.clock, Some(wake_at.min(until))).map_err(host("waiting for the rings"))
    }

    /// Sends nothing more and waits for what is under way, as long as something moves.
    fn drain(&mut self, fleet: &mut Fleet<'_>) -> Result<(), RunError> {
        // The last stage of the plan ends here, whatever comes after it.
        fleet.recorder.begin_stage(self.clock.now(), "after the plan", false);
        fleet.fall_quiet(self.clock.now(), self.engine.outbox());
        let (mut seen, mut moved_at) = (u64::MAX, self.clock.now());
        let mut next_look = moved_at;
        loop {
            let now = self.clock.now();
            if now >= next_look {
                next_look = now.after(LOOK_NS);
                let pending = fleet.pending();
                if pending == 0 || now.since(moved_at) > PATIENCE_NS {
                    break;
                }
                if pending != seen {
                    seen = pending;
                    moved_at = now;
                }
            }
            self.turn(fleet, None, now)?;
        }
        // A moment more, so that what comes twice is seen too.
        let until = self.clock.now().after(AFTERMATH_NS);
        while self.clock.now() < until {
            self.turn(fleet, None, self.clock.now())?;
        }
        Ok(())
    }

    /// Leaves the broker in order, without waiting long for it.
    fn say_goodbye(&mut self, fleet: &mut Fleet<'_>) -> Result<(), RunError> {
        let now = self.clock.now();
        fleet.dismiss_all(now, self.engine.outbox());
        let until = now.after(GOODBYE_NS);
        while fleet.is_anybody_leaving() && self.clock.now() < until {
            self.turn(fleet, None, self.clock.now())?;
        }
        Ok(())
    }
}

impl<'run> Fleet<'run> {
    /// A fleet that has not begun.
    fn new(plan: &'run Plan, settings: &Settings, clock: &Clock) -> Self {
        let mut dice = Dice::new(settings.seed);
        let cast = Cast::new(plan, settings.run, settings.seed);
        let count = cast.member_count() as usize;
        let mut recorder = Recorder::new(clock.now());
        let (mut outlets, mut teams) = (Vec::new(), Vec::new());
        for group in cast.groups() {
            let first_outlet = outlets.len();
            outlets.extend(Outlet::of_group(*group, &mut dice));
            let seed = u64::from(dice.roll());
            teams.push(Team {
                is_started: false,
                is_stopped: false,
                churns: false,
                arrivals: Arrivals::new(*group, Dice::new(seed)),
                keep_alives: None,
                connected: 0,
                up: 0,
                silent: 0,
                first_outlet,
                outlet_count: outlets.len() - first_outlet,
                wills: Vec::new(),
            });
        }
        let mut clients = Vec::with_capacity(count);
        for group in cast.groups() {
            let version = group.plan.protocol;
            clients.extend(std::iter::repeat_with(|| Client::new(version)).take(group.count as usize));
        }
        let mut fleet = Self {
            plan,
            members: vec![Member::default(); count],
            clients,
            teams,
            agenda: Agenda::default(),
            outlets,
            interests: Interests::default(),
            share_states: Vec::new(),
            shares_of: std::collections::BTreeMap::new(),
            ledger: Ledger::new(count),
            slips: Slips::default(),
            findings: Findings::new(plan, &mut recorder),
            recorder,
            tricks: Tricks::default(),
            run: settings.run,
            dice,
            opening_count: 0,
            concurrency: settings.concurrency,
            awaits_fall: false,
            fallen_count: 0,
            open_at_stage: 0,
            abandoned: 0,
            skipped: 0,
            foreign: 0,
            is_ending: false,
            next_sweep: clock.now(),
            next_revival: clock.now(),
            unix_ms: unix_ms().saturating_sub(clock.now().0 / MILLISECOND_NS),
            topic: Vec::new(),
            payload: Vec::new(),
            scratch: Vec::new(),
            cast,
        };
        fleet.enter_interests();
        fleet
    }

    /// Does everything that is due by now; returns when something is due again.
    fn work(&mut self, now: Nanos, outbox: &mut crate::engine::Outbox) -> Nanos {
        let mut wake_at = self.open_due(now, outbox);
        wake_at = wake_at.min(self.run_errands(now, outbox));
        wake_at = wake_at.min(self.send_due(now, outbox));
        wake_at = wake_at.min(self.send_tricks(now, outbox));
        if now >= self.next_sweep {
            self.next_sweep = now.after(SECOND_NS);
            if self.is_somebody_missing() {
                self.find_stuck(now, outbox);
            }
            self.revive_loops(now, outbox);
        }
        wake_at
    }

    /// Hands what never came to the recorder.
    fn close_books(&mut self) {
        // What a client still has to send again, and can't because it is away, is nobody's loss.
        let orphans: Vec<_> =
            self.slips.iter().filter(|slip| !self.is_up(slip.member)).map(|slip| slip.route).collect();
        for route in orphans {
            self.ledger.excuse(route);
        }
        let mut missing = Vec::new();
        self.ledger.close(|member| self.is_up(member), |what| missing.push(what));
        for gap in missing {
            let from = self.ledger.route(gap.route).map(|route| self.cast.name(route.new.publisher));
            let to = gap.member.map(|member| self.cast.name(member));
            self.findings.violation(gap.what, gap.count, &mut self.recorder, || {
                let (from, to) = (from.unwrap_or_default(), to.unwrap_or_else(|| "any member".to_owned()));
                let sent = self.ledger.route(gap.route).map_or(0, |route| route.sent);
                format!(
                    "{} of {sent} messages of {from} never came to {to}, the first of them number {}",
                    gap.count, gap.first
                )
            });
        }
        let (who, count) = self.ledger.missing_replays();
        if count > 0 {
            let who = who.map(|member| self.cast.name(member)).unwrap_or_default();
            self.findings.violation(Violation::MissingRetained, count, &mut self.recorder, || {
                format!("{count} retained messages were not sent to new subscriptions, such as one of {who}")
            });
        }
    }

    fn into_outcome(self, settings: &Settings, costs: &Costs, now: Nanos) -> Outcome {
        let late: u64 = self
            .outlets
            .iter()
            .filter_map(|outlet| outlet.table.as_ref())
            .map(|table| table.late_count())
            .sum();
        let mut outcome = self.recorder.into_outcome(now);
        outcome.plan = PlanNote {
            name: self.plan.name.clone(),
            about: self.plan.about.clone(),
            parameters: self
                .plan
                .parameters
                .iter()
                .map(|(name, value)| (name.clone(), value.to_string()))
                .collect(),
            text: None,
        };
        outcome.environment = Environment::of_this_host(settings.seed, settings.broker_pid);
        outcome.notes.extend(self.findings.notes());
        let mut figure = |name: &str, value: u64| {
            if value > 0 {
                let value = seconds(value.saturating_mul(SECOND_NS));
                outcome.figures.push(Value { name: name.to_owned(), value, unit: "messages".to_owned() });
            }
        };
        figure("due late (> 1 ms)", late);
        figure("due while nobody could send", self.skipped);
        figure("given up before they could be sent", self.abandoned);
        figure("left by earlier runs", self.foreign);
        figure("malformed packets sent", self.tricks.played);
        figure("malformed packets that ended their connection", self.tricks.ended);
        costs.report(outcome.measured().delivered, &mut outcome.resources);
        outcome.judge(&Standard::default());
        outcome
    }
}

/// The longest sleep.
const TURN_NS: u64 = 50 * MILLISECOND_NS;
/// How often the end is looked for while waiting for what is under way.
const LOOK_NS: u64 = 50 * MILLISECOND_NS;
/// How long nothing may move before what is missing is given up.
const PATIENCE_NS: u64 = 3 * SECOND_NS;
/// How long after the last message a second copy may still be noticed.
const AFTERMATH_NS: u64 = 200 * MILLISECOND_NS;
/// How long the broker may take to close all connections at the end.
const GOODBYE_NS: u64 = 2 * SECOND_NS;

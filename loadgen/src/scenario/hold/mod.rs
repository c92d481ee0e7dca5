//! Very many connections, held: each a client with a session and a subscription of its own, kept alive for a while under
//! a stream of messages to clients at random, and at last a storm in which some fall and come back at once.
//!
//! Made for millions: some 120 bytes of the generator's memory per connection.

mod fleet;

use self::fleet::Fleet;
use super::{RunError, Settings, host};
use crate::clock::{Clock, SECOND_NS};
use crate::engine::Engine;
use crate::observe::meter::{Footprint, Meter, Reading, Used};
use crate::record::{Environment, Outcome, PerConnection, PlanNote, Standard, Value, Watch};
use crate::report::ratio;

/// What is held, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Devices.
    pub(crate) connections: u32,
    pub(crate) keep_alive_seconds: u16,
    /// Messages per second, half of them QoS 0 and half QoS 1.
    pub(crate) per_second: u64,
    pub(crate) payload_bytes: usize,
    /// Devices that fall at the end, all at once, and come back. Fewer than there are.
    pub(crate) storm: u32,
    /// How long to wait when all are up before memory is read.
    pub(crate) settle_ns: u64,
}

/// What a run found, and its connections. Closing millions of sockets takes the kernel minutes: report first, then drop.
pub(crate) struct Held {
    pub(crate) outcome: Outcome,
    _engine: Engine,
}

/// Runs it: connect, settle, hold for the settings' duration, storm, drain.
///
/// # Errors
/// When it could not be carried out; what the broker did wrong is in the outcome.
pub(crate) fn run(plan: Plan, settings: &Settings, watch: &mut dyn Watch) -> Result<Held, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let memory = || meter.footprint().map_err(host("reading memory"));
    let cpu = || meter.read(&clock).map_err(host("reading processor time"));
    let before = memory()?;
    let start = clock.now();
    let mut fleet = Fleet::new(plan, settings, start);
    let mut engine = fleet.engine(settings)?;
    let patience = settings.patience_seconds;

    let begun = cpu()?;
    fleet.recorder.begin_stage(start, "connect", false);
    fleet.turn_until(&mut engine, &clock, watch, patience, |fleet, _| fleet.is_up())?;
    let connected = cpu()?;
    let settled_at = connected.at.after(plan.settle_ns);
    fleet.recorder.begin_stage(connected.at, "settle", false);
    fleet.turn_until(&mut engine, &clock, watch, u64::MAX, |_, now| now >= settled_at)?;
    let up = memory()?;

    let from = cpu()?;
    fleet.recorder.begin_stage(from.at, "hold", true);
    fleet.begin_stream(from.at);
    let until = from.at.after(settings.duration_ns);
    fleet.turn_until(&mut engine, &clock, watch, u64::MAX, |_, now| now >= until)?;
    let to = cpu()?;
    let held = memory()?;
    let pinged = fleet.recorder.counted().pinged;

    let storm =
        if plan.storm > 0 { Some(storm(&mut fleet, &mut engine, &clock, watch, patience)?) } else { None };
    fleet.end_stream();
    fleet.pause_keep_alive();
    let drain_from = clock.now();
    fleet.recorder.begin_stage(drain_from, "drain", false);
    let give_up = drain_from.after(DRAIN_NS);
    fleet.turn_until(&mut engine, &clock, watch, u64::MAX, |fleet, now| {
        fleet.is_drained() || now >= give_up
    })?;
    // A moment more, so that a duplicate of the last message is seen too.
    let late = clock.now().after(SECOND_NS);
    fleet.turn_until(&mut engine, &clock, watch, u64::MAX, |_, now| now >= late)?;
    fleet.close_books();

    let rings = engine.ring_count();
    let mut outcome = fleet.recorder.into_outcome(clock.now());
    watch.end();
    outcome.plan = note(&plan, settings);
    outcome.environment = Environment::of_this_host(settings.seed, settings.broker_pid);
    fill(&mut outcome, from.until(to));
    outcome.resources.per_connection = per_connection(&plan, before, up);
    let connect_ns = connected.at.since(begun.at);
    let clients = u64::from(plan.connections);
    let mut figures = vec![
        value("all connected and subscribed after", ratio(connect_ns, SECOND_NS), "s"),
        value("connected and subscribed", ratio(clients * SECOND_NS, connect_ns), "per second"),
        value("keep-alives sent", ratio(pinged, 1), ""),
        value("rings of the generator", ratio(rings as u64, 1), ""),
    ];
    figures.extend(memory_figures(before, up, held));
    figures.extend(broker_cpu("broker CPU per connection", begun, connected, clients));
    if let Some(storm) = storm {
        figures.push(value("all back after the storm", ratio(storm.took_ns, SECOND_NS), "s"));
        figures.push(value(
            "reconnects",
            ratio(u64::from(plan.storm) * SECOND_NS, storm.took_ns),
            "per second",
        ));
    }
    outcome.figures = figures;
    outcome.judge(&Standard::default());
    Ok(Held { outcome, _engine: engine })
}

/// What the storm showed.
struct Storm {
    took_ns: u64,
}

/// Lets devices fall and waits until all are back. Keep-alives rest before, so that none is lost by right.
fn storm(
    fleet: &mut Fleet,
    engine: &mut Engine,
    clock: &Clock,
    watch: &mut dyn Watch,
    patience: u64,
) -> Result<Storm, RunError> {
    fleet.recorder.begin_stage(clock.now(), "breath", false);
    fleet.pause_keep_alive();
    let give_up = clock.now().after(DRAIN_NS);
    fleet.turn_until(engine, clock, watch, patience, |fleet, now| {
        fleet.pongs_missing() == 0 || now >= give_up
    })?;
    fleet.resume_keep_alive();
    let began = clock.now();
    fleet.recorder.begin_stage(began, "storm", false);
    fleet.begin_storm(engine.outbox());
    fleet.turn_until(engine, clock, watch, patience, |fleet, _| fleet.is_up())?;
    Ok(Storm { took_ns: clock.now().since(began) })
}

/// Fills in what processor time says about the measured stretch.
fn fill(outcome: &mut Outcome, used: Used) {
    let delivered = outcome.measured().delivered;
    let per = |ns: u64| (delivered > 0).then(|| ratio(ns, delivered) / 1_000.0);
    let resources = &mut outcome.resources;
    resources.broker_cores = used.broker_ns.map(|ns| ratio(ns, used.elapsed_ns));
    resources.broker_cpu_us = used.broker_ns.and_then(per);
    resources.generator_cores = Some(ratio(used.own_ns, used.elapsed_ns));
    resources.generator_cpu_us = per(used.own_ns);
}

fn note(plan: &Plan, settings: &Settings) -> PlanNote {
    let parameters = [
        ("connections", plan.connections.to_string()),
        ("keep alive", format!("{} s", plan.keep_alive_seconds)),
        ("messages", format!("{} per second, half QoS 0, half QoS 1", plan.per_second)),
        ("payload", format!("{} B", plan.payload_bytes)),
        ("storm", plan.storm.to_string()),
        ("hold", format!("{} s", settings.duration_ns / SECOND_NS)),
    ];
    PlanNote {
        name: "hold".to_owned(),
        about: "Clients with a session and a subscription of their own, held under keep-alives and a stream of messages; \
                then some fall and come back"
            .to_owned(),
        parameters: parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        text: None,
    }
}

fn per_connection(plan: &Plan, before: Footprint, up: Footprint) -> Option<PerConnection> {
    let items = u64::from(plan.connections);
    let per = |from: u64, to: u64| ratio(to.saturating_sub(from), items);
    Some(PerConnection {
        connections: items,
        broker_bytes: per(before.broker_bytes()?, up.broker_bytes()?),
        kernel_bytes: per(before.kernel_bytes(), up.kernel_bytes()),
        generator_bytes: per(before.own_bytes(), up.own_bytes()),
    })
}

/// Memory in all: when all are up, and at the end of the hold.
fn memory_figures(before: Footprint, up: Footprint, held: Footprint) -> Vec<Value> {
    let mebi = |bytes: u64| ratio(bytes, 1 << 20);
    let mut figures = vec![
        value(
            "kernel memory of sockets",
            mebi(up.kernel_bytes().saturating_sub(before.kernel_bytes())),
            "MiB",
        ),
        value("generator memory", mebi(up.own_bytes()), "MiB"),
    ];
    if let (Some(up), Some(held)) = (up.broker_bytes(), held.broker_bytes()) {
        figures.push(value("broker memory", mebi(up), "MiB"));
        figures.push(value("broker memory after the hold", mebi(held), "MiB"));
    }
    figures
}

fn broker_cpu(name: &str, from: Reading, to: Reading, items: u64) -> Option<Value> {
    Some(value(name, ratio(from.until(to).broker_ns?, items) / 1_000.0, "us"))
}

fn value(name: &str, value: f64, unit: &str) -> Value {
    Value { name: name.to_owned(), value, unit: unit.to_owned() }
}

/// How long what is under way may take to come.
const DRAIN_NS: u64 = 30 * SECOND_NS;

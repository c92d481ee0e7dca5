//! One run: draw the plan, let it be busy, heal, drain, judge.

use dunlin_shard::{Control, Durability};

use crate::canary::Canary;
use crate::invariants;
use crate::plan::Plan;
use crate::workload::{self, Workload};
use crate::world::{NS_PER_MS, World};

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The seed that replays it.
    pub seed: u64,
    /// Broken rules; empty = clean.
    pub violations: Vec<String>,
    /// Hash of all that happened.
    pub trace: u64,
    /// The last happenings.
    pub recent: Vec<String>,
    /// How much happened.
    pub summary: String,
    /// What was exercised.
    pub plan: Plan,
}

/// Runs one seed to its end.
#[must_use]
pub fn run(seed: u64, canary: Canary) -> Outcome {
    run_with(seed, canary, false)
}

/// Runs one seed to its end; `keep_all` keeps every happening for the report.
#[must_use]
pub fn run_with(seed: u64, canary: Canary, keep_all: bool) -> Outcome {
    let plan = Plan::draw(seed);
    let mut world = World::new(seed, plan.clone(), canary);
    world.log.keep_all = keep_all;
    let mut workload = Workload::new(seed, &plan);
    workload.begin(&mut world);
    let busy_ms = u64::from(plan.step_count) * 450 + 2_000;
    advance(&mut world, &mut workload, busy_ms);
    world.heal();
    workload.drain(&mut world);
    // Long enough for the keep-alive of a vanished client to run out (1.5 × 20 s), and for all to come back after it.
    advance(&mut world, &mut workload, 100_000);
    if !workload.is_quiet(world.log.is_weak()) {
        let waiting: Vec<String> = workload
            .clients
            .iter()
            .filter(|client| !client.is_quiet(false))
            .map(|client| format!("{client:?}"))
            .collect();
        world.log.violation(format!("not quiet after healing: {}", waiting.join("; ")));
    }
    if !world.is_up() {
        world.log.violation("the process does not come back".to_owned());
        return outcome(seed, world, plan);
    }
    let checker = workload.ask_retained(&mut world);
    let epoch = workload.clients[checker].epoch;
    advance(&mut world, &mut workload, 10_000);
    invariants::judge(&mut world.log, &plan);
    let forgets = plan.config.durability == Durability::Memory && !world.log.falls.is_empty();
    if let Some(epoch) = epoch.filter(|_| !forgets) {
        invariants::judge_retained(&mut world.log, &plan, epoch);
    }
    check_leavings(&mut world, &mut workload);
    outcome(seed, world, plan)
}

fn outcome(seed: u64, mut world: World, plan: Plan) -> Outcome {
    Outcome {
        seed,
        violations: std::mem::take(&mut world.log.violations),
        trace: world.log.trace,
        recent: world.log.recent.iter().cloned().collect(),
        summary: workload::summary(&world.log),
        plan,
    }
}

/// When all have left, nothing of them may stay.
fn check_leavings(world: &mut World, workload: &mut Workload) {
    workload.leave(world);
    advance(world, workload, 60_000);
    world.ask_snapshots();
    advance(world, workload, 1_000);
    let (mut connections, mut sessions, mut subscriptions, mut held) = (0, 0, 0, 0);
    for (_, gauges) in &world.snapshots {
        connections += gauges.connections;
        sessions += gauges.sessions;
        subscriptions += gauges.subscriptions;
        held += gauges.queued + gauges.held_bytes;
    }
    if connections + sessions + subscriptions + held > 0 {
        world.log.complaint(format!(
            "all have left, but {connections} connections, {sessions} sessions, {subscriptions} subscriptions, {held} messages \
             or bytes stay"
        ));
    }
    world.control(|| Control::Stop);
    advance(world, workload, 30_000);
    if world.stopped_count != usize::from(world.shard_count()) {
        world.log.violation(format!("{} of {} shards stopped", world.stopped_count, world.shard_count()));
    }
    world.check_last_boot();
}

/// Lets `ms` of virtual time pass.
fn advance(world: &mut World, workload: &mut Workload, ms: u64) {
    let until = world.now + ms * NS_PER_MS;
    let mut budget = ITEM_COUNT_MAX;
    while let Some(item) = world.next_item(until) {
        workload.perform(item, world);
        budget -= 1;
        if budget == 0 {
            world.log.violation("livelock: the world does not come to rest".to_owned());
            return;
        }
    }
    world.now = until;
}

/// Items of one phase; a normal run needs a few ten thousand.
const ITEM_COUNT_MAX: u64 = 3_000_000;

//! `dunlin-loadgen`: drives an MQTT broker and checks what comes back.
//!
//! Reading order: `cli.rs` (what can be asked for), `scenario/` (what the connections do), `topology.rs` (who
//! sends to whom), `pace.rs` (when), `stamp.rs` and `verify.rs` (the oracle), `client.rs` (MQTT without IO),
//! `engine.rs` (connections over rings), `transport.rs` (what carries them), `hosts/` (where they come from and go
//! to), `observe/` (what the kernel knows), `record/` (what is found), `output/` and `report.rs` (how it is told).
//! `crash/` is a program of its own: it kills brokers.

#![forbid(unsafe_code)]

mod cli;
mod client;
mod clock;
mod crash;
mod dice;
mod engine;
mod failures;
mod fleet;
mod floor;
mod hosts;
mod keep_alive;
mod lab;
#[cfg(test)]
mod manual;
mod observe;
mod output;
mod pace;
mod plan;
mod record;
mod report;
mod roster;
mod scenario;
mod search;
mod stamp;
mod topology;
mod transport;
mod verify;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser as _;

use cli::{Cli, Command, HoldArgs, RunArgs, Scenario};
use clock::{Clock, Nanos, nanoseconds};
use crash::CrashArgs;
use hosts::preflight::{Preflight, Wish};
use lab::{LabError, LabPlan, LabReport, Token};
use observe::Observer;
use plan::PlanArgs;
use record::Watch;
use report::Report;
use roster::Protocol;
use scenario::quick::Quick;
use scenario::{RunError, Settings, hold};
use search::arguments::SearchCommand;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.settings.json;
    if !cli.settings.lab.agents.is_empty() {
        return coordinate(&cli);
    }
    if cli.settings.lab.share.is_some() && !lab::is_divisible(&cli.command) {
        let why = "only `run` and the quick commands (p2p, idle, … but not retained) can be run in parts"
            .to_owned();
        return refuse(&LabError::Refused { who: "--share".to_owned(), why });
    }
    let done = match cli.command {
        Command::Run(arguments) => return run_plan(&arguments, &cli.settings),
        Command::Observe => return watch(&cli.settings),
        Command::Hold(arguments) => return hold(&arguments, &cli.settings),
        Command::Crash(arguments) => return crash(&arguments, &cli.settings),
        Command::Agent { listen } => return agent(listen, &cli.settings),
        Command::Preflight { connections } => return weigh(connections, &cli.settings),
        Command::Search(command) => return seek(&command, &cli.settings),
        Command::Scenarios { name } => return print(plan::scenarios_command(name.as_deref())),
        Command::Explain(arguments) => return print(plan::explain_command(&arguments)),
        Command::Quick(scenario) => run(scenario, cli.settings)
            .map(|report| (if json { as_json(&report) } else { report.table() }, report.is_clean())),
        Command::Report(arguments) => {
            output::report(&arguments).map(|text| (text, true)).map_err(RunError::from)
        }
        Command::Merge(arguments) => {
            output::merge(&arguments).map(|text| (text, true)).map_err(RunError::from)
        }
    };
    match done {
        Ok((text, clean)) => {
            let written = std::io::stdout().write_all(text.as_bytes());
            if clean && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            drop(writeln!(std::io::stderr(), "dunlin-loadgen: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Observes a broker without load.
fn watch(arguments: &RunArgs) -> ExitCode {
    let live = std::io::stderr().is_terminal();
    let mut show = |point: &observe::Point| {
        if live {
            drop(writeln!(std::io::stderr(), "{}", observe::line(point)));
        }
    };
    match observe::observe(arguments.broker_pid, nanoseconds(arguments.seconds), &mut show) {
        Ok(observed) => {
            let text = if arguments.json { as_json(&observed) } else { observe::table(&observed) };
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() && observed.broker_ended_ns.is_none() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(1)
            }
        }
        Err(error) => {
            drop(writeln!(std::io::stderr(), "dunlin-loadgen: observing the broker (--broker-pid): {error}"));
            ExitCode::from(2)
        }
    }
}

/// Holds a fleet. What was found is printed before the connections are closed: with millions of them that takes minutes.
fn hold(arguments: &HoldArgs, common: &RunArgs) -> ExitCode {
    let plan = hold::Plan {
        connections: arguments.connections,
        keep_alive_seconds: arguments.keep_alive,
        per_second: arguments.rate,
        payload_bytes: arguments.payload,
        storm: arguments.storm.min(arguments.connections - 1),
        settle_ns: nanoseconds(arguments.settle),
    };
    let held = settings(common).and_then(|settings| {
        let (mut held, points) = watched(common, &settings, &mut |watch| hold::run(plan, &settings, watch))?;
        keep(&mut held.outcome, &points, common)?;
        Ok(held)
    });
    match held {
        Ok(held) => {
            let written = std::io::stdout().write_all(as_json(&held.outcome).as_bytes());
            if written.is_ok() { ExitCode::from(held.outcome.verdict.exit_code()) } else { ExitCode::from(2) }
        }
        Err(error) => {
            drop(writeln!(std::io::stderr(), "dunlin-loadgen: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Kills a broker again and again.
fn crash(arguments: &CrashArgs, common: &RunArgs) -> ExitCode {
    let settings = match settings(common) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error),
    };
    match crash::run(arguments, &settings) {
        Ok(findings) => {
            let text = if common.json { as_json(&findings) } else { findings.table() };
            let written = std::io::stdout().write_all(text.as_bytes());
            if findings.clean && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => refuse(&error),
    }
}

fn as_json(report: &impl serde::Serialize) -> String {
    let mut text =
        serde_json::to_string_pretty(report).expect("the report has only strings, numbers and lists");
    text.push('\n');
    text
}

/// Runs a scenario file or a scenario of the library.
fn run_plan(arguments: &PlanArgs, common: &RunArgs) -> ExitCode {
    let share = common.lab.share;
    let mut overrides = arguments.overrides();
    overrides.scale *= share.map_or(1.0, lab::Share::factor);
    let mut plan = match plan::load(&arguments.scenario, &overrides) {
        Ok(plan) => plan,
        Err(error) => return refuse(&error),
    };
    if let Some(Err(why)) = share.map(|share| lab::cut(&mut plan, share)) {
        return refuse(&LabError::Refused { who: arguments.scenario.clone(), why });
    }
    match drive_plan(&plan, common) {
        Ok(outcome) => {
            let text = if common.json { as_json(&outcome) } else { output::table(&outcome) };
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::from(outcome.verdict.exit_code()) } else { ExitCode::from(2) }
        }
        Err(error) => refuse(&error),
    }
}

/// Waits for coordinators.
fn agent(listen: SocketAddr, arguments: &RunArgs) -> ExitCode {
    let house = lab::House { check: lab::is_run, prometheus: arguments.output.prometheus };
    let served = token(arguments, [listen]).and_then(|token| lab::serve(listen, &token, &house));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

/// Runs this very command line on agents.
fn coordinate(cli: &Cli) -> ExitCode {
    let arguments = &cli.settings;
    match over_agents(cli) {
        Ok(report) => {
            let kept = report.outcome().map_or(Ok(Vec::new()), |outcome| arguments.output.write(outcome));
            let text = if arguments.json { as_json(&report.json()) } else { report.text() };
            let written = std::io::stdout().write_all(text.as_bytes());
            match kept {
                Err(error) => refuse(&error),
                Ok(_) if written.is_err() => ExitCode::from(2),
                Ok(_) => ExitCode::from(report.exit_code()),
            }
        }
        Err(error) => refuse(&*error),
    }
}

fn over_agents(cli: &Cli) -> Result<LabReport, Box<dyn std::error::Error>> {
    let arguments = &cli.settings;
    if arguments.output.prometheus.is_some() {
        let why = "the running figures are the agents'; start each with `dunlin-loadgen agent --prometheus ADDRESS` \
                   and scrape them all"
            .to_owned();
        return Err(LabError::Refused { who: "--prometheus with --agents".to_owned(), why }.into());
    }
    let own: Vec<String> = std::env::args().skip(1).collect();
    let token = token(arguments, arguments.lab.agents.iter().copied())?;
    // Read here first: what is wrong with it is told before anybody is asked, and its files are sent along.
    let scenario = if let Command::Run(run) = &cli.command {
        Some(plan::load(&run.scenario, &run.overrides())?.source)
    } else {
        None
    };
    Ok(lab::run(&LabPlan::new(&arguments.lab, &own, scenario.as_ref(), token)?)?)
}

/// The token that was named, or none where that is allowed.
fn token(arguments: &RunArgs, hosts: impl IntoIterator<Item = SocketAddr>) -> Result<Token, LabError> {
    match &arguments.lab.token {
        Some(file) => Token::read(file),
        None => hosts.into_iter().try_fold(Token::default(), |_, host| Token::none(host.ip())),
    }
}

/// Runs a plan with those who look on, and keeps what was found.
fn drive_plan(plan: &plan::Plan, common: &RunArgs) -> Result<record::Outcome, RunError> {
    let settings = settings(common)?;
    let (mut outcome, points) = watched(common, &settings, &mut |watch| fleet::run(plan, &settings, watch))?;
    keep(&mut outcome, &points, common)?;
    Ok(outcome)
}

/// Runs something with those who look on; returns what it gives and what was seen of processes and kernel meanwhile.
fn watched<T>(
    common: &RunArgs,
    settings: &Settings,
    run: &mut dyn FnMut(&mut dyn Watch) -> Result<T, RunError>,
) -> Result<(T, Vec<observe::Point>), RunError> {
    let mut watch = common.output.watch()?;
    let observer = settings.observes.then(|| Observer::start(settings.broker_pid, Clock::start()));
    let observer = observer.transpose().map_err(scenario::host("observing the broker"))?;
    observer.iter().for_each(Observer::begin);
    let done = run(&mut watch);
    watch.end();
    let observed = observer.and_then(Observer::finish);
    Ok((done?, observed.map(|observed| observed.points).unwrap_or_default()))
}

/// Writes the files that were asked for.
fn keep(outcome: &mut record::Outcome, points: &[observe::Point], common: &RunArgs) -> Result<(), RunError> {
    for point in points {
        outcome.resources.observe(record::ResourcePoint::of(point, Nanos(0)));
    }
    common.output.write(outcome)?;
    Ok(())
}

/// Prints what was asked for about scenarios, or why it can't be.
fn print(text: Result<String, plan::PlanError>) -> ExitCode {
    match text {
        Ok(text) => {
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
        Err(error) => refuse(&error),
    }
}

/// Says why a run could not be carried out.
fn refuse(error: &dyn std::error::Error) -> ExitCode {
    drop(writeln!(std::io::stderr(), "dunlin-loadgen: {error}"));
    ExitCode::from(2)
}

/// Tells whether this host can open so many connections.
fn weigh(connections: u32, arguments: &RunArgs) -> ExitCode {
    let preflight = Preflight::here(&Wish {
        connections,
        route: arguments.way.route(),
        per_ring: arguments.per_ring.max(1),
        concurrency: arguments.concurrency,
        broker_pid: arguments.broker_pid,
    });
    let text = if arguments.json { as_json(&preflight) } else { preflight.text() };
    let written = std::io::stdout().write_all(text.as_bytes());
    if preflight.enough && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Searches over several runs.
fn seek(command: &SearchCommand, arguments: &RunArgs) -> ExitCode {
    let found = settings(arguments)
        .map_err(search::SearchError::from)
        .and_then(|settings| search::run(command, settings, &arguments.output));
    match found {
        Ok(outcome) => {
            let text = if arguments.json { as_json(&outcome) } else { output::table(&outcome) };
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::from(outcome.verdict.exit_code()) } else { ExitCode::from(2) }
        }
        Err(error) => refuse(&error),
    }
}

/// Runs a scenario and keeps what it found.
fn run(mut scenario: Scenario, arguments: RunArgs) -> Result<Report, RunError> {
    if let Some(share) = arguments.lab.share {
        scenario.cut(share);
    }
    let settings = settings(&arguments)?;
    let output = arguments.output;
    let mut report = Quick::of(&scenario).run(&settings, output.watch()?)?;
    if let Some(outcome) = &report.outcome {
        output.write(outcome)?;
    }
    // Whoever puts parts together wants all of each; everybody else has asked for the report.
    if arguments.lab.share.is_none() {
        report.outcome = None;
    }
    Ok(report)
}

fn settings(arguments: &RunArgs) -> Result<Settings, RunError> {
    if let Some(core) = arguments.core {
        dunlin_ring::pin_to_core(core).map_err(scenario::host("pinning to the core"))?;
    }
    let protocol = if arguments.floor { Protocol::Floor } else { Protocol::Mqtt(arguments.mqtt.into()) };
    Ok(Settings {
        route: arguments.way.route(),
        transport: arguments.way.transport(),
        protocol,
        per_ring: arguments.per_ring.max(1),
        broker_pid: arguments.broker_pid,
        observes: arguments.output.out.is_some(),
        seed: arguments.seed,
        run: run_number(),
        concurrency: arguments
            .lab
            .share
            .map_or(arguments.concurrency, |share| share.clients(arguments.concurrency))
            .max(1),
        topic_level: arguments.lab.share.map(lab::Share::level).unwrap_or_default(),
        patience_seconds: arguments.patience,
        warm_up_ns: nanoseconds(arguments.warm_up),
        duration_ns: nanoseconds(arguments.seconds),
    })
}

/// A number that differs from run to run, so that leftovers of an earlier run are recognised.
#[expect(clippy::disallowed_methods, reason = "the generator's edge to the clock")]
fn run_number() -> u32 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mixed = since_epoch.as_nanos() ^ u128::from(std::process::id()) << 40;
    dice::Dice::new(u64::try_from(mixed & u128::from(u64::MAX)).unwrap_or(0)).roll()
}

//! `cargo sim`: runs seeds, replays one, checks determinism, releases the canary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use dunlin_sim::canary::{CANARIES, Canary};
use dunlin_sim::run::{Outcome, run, run_with};

/// Drives several shard cores, client models and a faulty network in virtual time and checks the rules of MQTT.
#[derive(Debug, Parser)]
struct Arguments {
    /// Replay exactly this seed (decimal or 0x…).
    #[arg(long, value_parser = parse_seed)]
    seed: Option<u64>,
    /// Run this many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_parser = parse_seed, default_value = "0")]
    from: u64,
    /// Run each seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Plant a bug that must be found: mesh-loss, byte-loss, early-stored, no-wait, record-loss.
    #[arg(long)]
    canary: Option<String>,
    /// Print everything that happens in the run of `--seed`.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Show the plan of each failing seed and its last happenings.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    let result = match &arguments.canary {
        Some(name) => release_canary(name, &arguments, &mut out),
        None => run_seeds(&arguments, &mut out),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn run_seeds(arguments: &Arguments, out: &mut impl std::io::Write) -> std::io::Result<bool> {
    let (from, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let mut failed = 0_u64;
    let mut trace = 0_u64;
    for seed in from..from.saturating_add(count) {
        let kept = std::panic::catch_unwind(|| run_with(seed, Canary::None, arguments.trace));
        let Ok(outcome) = kept else {
            failed += 1;
            writeln!(out, "seed {seed:#x} FAILED: it panics\n  replay: cargo sim --seed {seed:#x}")?;
            continue;
        };
        trace = trace.rotate_left(1) ^ outcome.trace;
        let again = arguments.twice.then(|| run(seed, Canary::None).trace);
        let differs = again.is_some_and(|again| again != outcome.trace);
        if differs {
            writeln!(out, "seed {seed:#x}: two runs differ: the core or the simulator is not deterministic")?;
        }
        if differs || arguments.trace || !outcome.violations.is_empty() {
            failed += u64::from(differs || !outcome.violations.is_empty());
            report(&outcome, arguments.verbose || arguments.seed.is_some(), out)?;
        }
        if count >= 1_000 && (seed - from) % 500 == 499 {
            writeln!(out, "{} of {count} seeds, {failed} failed", seed - from + 1)?;
        }
        if count == 1 {
            writeln!(out, "seed {seed:#x}: {} (trace {:016x})", outcome.summary, outcome.trace)?;
        }
    }
    writeln!(out, "{} passed, {failed} failed (trace {trace:016x})", count - failed)?;
    Ok(failed == 0)
}

/// A planted bug must be found within the seeds; else the simulator is blind.
fn release_canary(name: &str, arguments: &Arguments, out: &mut impl std::io::Write) -> std::io::Result<bool> {
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let Some(canary) = Canary::named(name, seed) else {
            writeln!(out, "there is no canary {name}: try {}", CANARIES.join(", "))?;
            return Ok(false);
        };
        let outcome = run(seed, canary);
        if let Some(first) = outcome.violations.first() {
            writeln!(out, "canary {name} found by seed {seed:#x}: {first}")?;
            return Ok(true);
        }
    }
    writeln!(out, "canary {name} was NOT found in {} seeds: the simulator is blind", arguments.seeds)?;
    Ok(false)
}

fn report(outcome: &Outcome, verbose: bool, out: &mut impl std::io::Write) -> std::io::Result<()> {
    let word = if outcome.violations.is_empty() { "clean" } else { "FAILED" };
    writeln!(out, "seed {:#x} {word} ({})", outcome.seed, outcome.summary)?;
    for violation in &outcome.violations {
        writeln!(out, "  {violation}")?;
    }
    if verbose {
        writeln!(out, "  plan: {:?}", outcome.plan)?;
        for line in &outcome.recent {
            writeln!(out, "    {line}")?;
        }
    }
    writeln!(out, "  replay: cargo sim --seed {:#x}", outcome.seed)
}

fn parse_seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{text}: {error}"))
}

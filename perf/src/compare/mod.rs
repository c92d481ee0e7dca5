//! Dunlin, the floor and mosquitto side by side against the bars; or, with two files, an old result and a new one.
//!
//! The figure that is held against the bars is the *least disturbed* one: the lowest processor time per message
//! among the repetitions.

mod drift;
mod table;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::bench::results::Results;
use crate::bench::scenario::List;
use crate::bench::{self, BenchArgs, Defaults, Kind};
use crate::error::Error;
use crate::files;

/// Options of `compare`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Two results, the old one first, as `--out` writes them: nothing is run, and each figure is called changed, the same or noise.
    #[arg(value_names = ["OLD", "NEW"], num_args = 2)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    bench: BenchArgs,
    /// Exit with 1 when a bar is missed; with two files, when Dunlin has become worse.
    #[arg(long)]
    check: bool,
    /// With two files: a median that differs by no more than this share is the same.
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    tolerance: f64,
}

/// Runs the comparison and prints it.
///
/// # Errors
/// When a program or a file is missing, or a contender does not start.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    if let [old, new] = options.files.as_slice() {
        return between(options, &Results::load(old)?, &Results::load(new)?);
    }
    if options.bench.list {
        bench::print(&table::list(&bench::chosen(&options.bench.scenario, List::Compare)?));
        return Ok(ExitCode::SUCCESS);
    }
    let results = bench::run(&options.bench, &DEFAULTS)?;
    let rows = verdict::rows(&results);
    bench::print(&table::text(&results, &rows));
    if let Some(file) = &options.bench.markdown {
        files::write(file, &table::markdown(&results, &rows))?;
    }
    if let Some(file) = &options.bench.out {
        files::write(file, &results.to_json())?;
    }
    let failed = results.runs.iter().any(|run| !run.outcome.is_clean());
    let absent = results.contenders.iter().any(|who| who.absent.is_some());
    let missed = options.check && rows.iter().any(verdict::Judged::is_missed);
    Ok(if failed || absent || missed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn between(options: &Options, old: &Results, new: &Results) -> Result<ExitCode, Error> {
    let changes = drift::changes(old, new, options.tolerance);
    bench::print(&drift::text(old, new, &changes));
    if let Some(file) = &options.bench.markdown {
        files::write(file, &drift::markdown(old, new, &changes))?;
    }
    let worse = changes.iter().any(|change| change.kind == Kind::Dunlin && change.is_regression());
    Ok(if options.check && worse { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

const DEFAULTS: Defaults = Defaults {
    seconds: 4.0,
    warm_up: 1.0,
    kinds: &[Kind::Floor, Kind::Dunlin, Kind::Mosquitto],
    list: List::Compare,
    // A million subscriptions, or ten rounds of 100,000 connections, take minutes.
    patience: Duration::from_secs(900),
};

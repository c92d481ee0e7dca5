//! The record sheet: Dunlin, the floor and every broker that this host can install, in turn, as a report.

mod html;
mod markdown;
mod pages;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::bench::results::Results;
use crate::bench::scenario::List;
use crate::bench::{self, BenchArgs, Defaults, Kind};
use crate::error::Error;
use crate::files;

/// Options of `sheet`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    bench: BenchArgs,
    /// Run nothing; make the reports from results that --out or --record has written.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write the report as one self-contained HTML page to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Keep the results in perf/records/DATE-MACHINE/sheet.json.
    #[arg(long)]
    record: bool,
    /// Write the page of benchmarks to this file, with the record that it is made from; a fresh run is recorded.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  everything, three repetitions, at most 20 minutes:
      cargo perf sheet --html sheet.html
  two rows, two brokers, quickly:
      cargo perf sheet --scenario p2p0 shared --only dunlin,mosquitto --seconds 1 -n 1
  the page of benchmarks, with its record:
      cargo perf sheet --page docs/benchmarks.md
  the page again, from the record:
      cargo perf sheet --from perf/records/DATE-MACHINE/sheet.json --page docs/benchmarks.md";

/// Runs the sheet, or reads it, and writes its reports.
///
/// # Errors
/// When one of our own programs is missing or does not start, or a file can't be read or written.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    if options.bench.list {
        bench::print(&report::list(&bench::chosen(&options.bench.scenario, List::Sheet)?));
        return Ok(ExitCode::SUCCESS);
    }
    let records = Path::new(RECORDS);
    let results = match &options.from {
        Some(file) => Results::load(file)?,
        None => {
            let needs_folder = options.record || options.page.is_some();
            if needs_folder && !records.parent().is_some_and(Path::is_dir) {
                let advice =
                    "--record and --page are for the top folder of the source tree; change to it first";
                return Err(Error::Advice(advice.to_owned()));
            }
            bench::run(&options.bench, &DEFAULTS)?
        }
    };
    let mut record = options.from.clone();
    if options.from.is_none() && (options.record || options.page.is_some()) {
        let environment = &results.environment;
        let folder = records.join(format!("{}-{}", environment.date, environment.machine_name()));
        let file = folder.join("sheet.json");
        files::write(&file, &results.to_json())?;
        record = Some(file);
    }
    let report = report::Report::of(&results);
    if options.from.is_none() || (options.page.is_none() && options.html.is_none()) {
        bench::print(&markdown::text(&report));
    }
    if let Some(file) = &options.bench.out {
        files::write(file, &results.to_json())?;
    }
    if let Some(file) = &options.bench.markdown {
        files::write(file, &markdown::text(&report))?;
    }
    if let Some(file) = &options.html {
        files::write(file, &html::text(&report))?;
    }
    if let (Some(file), Some(record)) = (&options.page, &record) {
        files::write(file, &pages::page(&report, record)?)?;
    }
    let own = |kind: Kind| !kind.is_rival();
    let failed = results.runs.iter().any(|run| own(run.kind) && !run.outcome.is_clean());
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Where records are kept, below the top folder.
const RECORDS: &str = "perf/records";

const DEFAULTS: Defaults = Defaults {
    seconds: 1.0,
    warm_up: 0.5,
    kinds: &Kind::ALL,
    list: List::Sheet,
    patience: Duration::from_secs(45),
};

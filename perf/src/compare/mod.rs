//! Side by side: each contender in turn, fresh for each run, on its own core, under the same generator.
//!
//! Runs are interleaved (all contenders of a scenario in the same minute, then the next scenario, then all of
//! it again), so that what disturbs the machine disturbs everybody. The figure that is compared is the *least
//! disturbed* one: the lowest processor time per message among the repetitions.

mod contender;
mod machine;
mod measure;
mod scenario;
mod table;
mod verdict;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use contender::{Contender, Kind};
use measure::{Outcome, Run};
use scenario::Scenario;

/// Options of a side-by-side run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Scenarios to run; all when absent.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    scenario: Vec<String>,
    /// Seconds measured in each run.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Repetitions.
    #[arg(long, short, default_value_t = 3)]
    n: u32,
    /// Contenders: floor, dunlin, mosquitto.
    #[arg(long, value_delimiter = ',', default_value = "floor,dunlin,mosquitto")]
    only: Vec<Kind>,
    /// Core of the contender.
    #[arg(long, default_value_t = 0)]
    broker_core: usize,
    /// Shards of Dunlin.
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Cores of Dunlin, as a list; the contender's core when absent.
    #[arg(long, value_name = "LIST")]
    dunlin_cores: Option<String>,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Port that contenders listen on.
    #[arg(long, default_value_t = 27_883)]
    port: u16,
    /// Write all results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the table as Markdown to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The broker program; beside this program when absent.
    #[arg(long, value_name = "PROGRAM")]
    dunlin: Option<PathBuf>,
    /// Further arguments for the broker program.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    dunlin_arg: Vec<String>,
    /// The generator program; beside this program when absent.
    #[arg(long, value_name = "PROGRAM")]
    loadgen: Option<PathBuf>,
    /// Do not build the programs first.
    #[arg(long)]
    no_build: bool,
    /// Exit with 1 when a bar is missed.
    #[arg(long)]
    check: bool,
    /// List the scenarios and their bars, and do nothing else.
    #[arg(long)]
    list: bool,
}

/// Why a side-by-side run could not be carried out.
#[derive(Debug)]
pub(crate) enum Error {
    /// The host refused something.
    Host {
        /// What was being done.
        doing: String,
        /// The answer.
        source: io::Error,
    },
    /// Something that the operator can change.
    Advice(String),
}

impl Error {
    /// An error of the host while doing something.
    pub(crate) fn host(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Host { doing: doing.into(), source }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host { doing, source } => write!(formatter, "{doing}: {source}"),
            Self::Advice(text) => formatter.write_str(text),
        }
    }
}

/// Programs and cores of a run.
#[derive(Debug)]
struct Bench {
    loadgen: PathBuf,
    dunlin: PathBuf,
    dunlin_arguments: Vec<String>,
    dunlin_cores: String,
    shards: u16,
    floor: PathBuf,
    broker_core: usize,
    generator_core: usize,
    port: u16,
    seconds: f64,
}

/// Runs the comparison and prints it.
///
/// # Errors
/// When a program is missing or a contender does not start.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    let scenarios = chosen(&options.scenario)?;
    if options.list {
        print(&table::list(&scenarios));
        return Ok(ExitCode::SUCCESS);
    }
    let bench = bench(options)?;
    let machine = machine::describe();
    let mut runs: Vec<Run> = Vec::new();
    for repetition in 0..options.n {
        for scenario in &scenarios {
            for kind in options.only.iter().filter(|kind| scenario.suits(**kind)) {
                progress(&format!("{} of {}: {} {kind} … ", repetition + 1, options.n, scenario.name));
                let outcome = measure_once(&bench, scenario, *kind)?;
                progress(&format!("{}\n", outcome.brief()));
                runs.push(Run { scenario: scenario.name, kind: *kind, outcome });
            }
        }
    }
    let rows = verdict::rows(&scenarios, &runs);
    print(&table::text(&machine, &rows));
    if let Some(file) = &options.markdown {
        write(file, &table::markdown(&machine, options, &rows))?;
    }
    if let Some(file) = &options.out {
        write(file, &table::json(&machine, options, &rows, &runs))?;
    }
    let failed = runs.iter().any(|run| !run.outcome.is_clean());
    let missed = options.check && rows.iter().any(verdict::Row::is_missed);
    Ok(if failed || missed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn measure_once(bench: &Bench, scenario: &Scenario, kind: Kind) -> Result<Outcome, Error> {
    let contender = Contender::start(bench, kind, scenario.shards.unwrap_or(bench.shards))?;
    measure::run(bench, scenario, &contender)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, Error> {
    if names.is_empty() {
        return Ok(scenario::ALL.iter().collect());
    }
    let find = |name: &String| {
        scenario::ALL.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            let known: Vec<&str> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
            Error::Advice(format!("there is no scenario {name:?}; there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn bench(options: &Options) -> Result<Bench, Error> {
    let own = std::env::current_exe().map_err(|source| Error::host("finding this program", source))?;
    let beside = |name: &str| own.with_file_name(name);
    let bench = Bench {
        loadgen: options.loadgen.clone().unwrap_or_else(|| beside("dunlin-loadgen")),
        dunlin: options.dunlin.clone().unwrap_or_else(|| beside("dunlin")),
        dunlin_arguments: options.dunlin_arg.clone(),
        dunlin_cores: options.dunlin_cores.clone().unwrap_or_else(|| options.broker_core.to_string()),
        shards: options.shards,
        broker_core: options.broker_core,
        generator_core: options.generator_core,
        port: options.port,
        seconds: options.seconds,
        floor: own,
    };
    if !options.no_build {
        build(options)?;
    }
    let mut needed = vec![&bench.loadgen];
    if options.only.contains(&Kind::Dunlin) {
        needed.push(&bench.dunlin);
    }
    if let Some(missing) = needed.iter().find(|program| !program.is_file()) {
        let text =
            format!("{} is missing; build it with: cargo build --release --workspace", missing.display());
        return Err(Error::Advice(text));
    }
    Ok(bench)
}

fn build(options: &Options) -> Result<(), Error> {
    let mut packages = Vec::new();
    if options.loadgen.is_none() {
        packages.extend(["-p", "dunlin-loadgen"]);
    }
    if options.dunlin.is_none() && options.only.contains(&Kind::Dunlin) {
        packages.extend(["-p", "dunlin"]);
    }
    if packages.is_empty() {
        return Ok(());
    }
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet"])
        .args(&packages)
        .status()
        .map_err(|source| Error::host("running cargo", source))?;
    if status.success() { Ok(()) } else { Err(Error::Advice("the programs do not build".to_owned())) }
}

#[expect(clippy::disallowed_methods, reason = "the tool's edge to the file system")]
fn write(file: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(file, text).map_err(|source| Error::host(format!("writing {}", file.display()), source))
}

fn print(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}

fn progress(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

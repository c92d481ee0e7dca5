//! Side by side: each contender in turn, fresh for each run, on its own core, under the same generator.
//!
//! Runs are interleaved (all contenders of a scenario in the same minute, then the next scenario, then all of
//! it again), so that what disturbs the machine disturbs everybody.

mod contender;
pub(crate) mod machine;
mod measure;
pub(crate) mod results;
pub(crate) mod scenario;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::error::Error;
use crate::rivals::Rival;
use contender::Contender;
pub(crate) use contender::Kind;
use machine::Environment;
use results::{Conditions, FORMAT, Outcome, Participant, Results, Row, Run, Spread};
use scenario::{List, Scenario, Shards};

/// Options of all commands that measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// Scenarios to run; all of the command's when absent.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub(crate) scenario: Vec<String>,
    /// Repetitions.
    #[arg(long, short, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) n: u32,
    /// Seconds measured in each run (4 for compare, 1 for sheet).
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds before measuring begins (1 for compare, 0.5 for sheet).
    #[arg(long)]
    warm_up: Option<f64>,
    /// Contenders, as a list; floor, dunlin and mosquitto for compare, all of them for sheet.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Core of the contender.
    #[arg(long, default_value_t = 0)]
    broker_core: usize,
    /// Shards of Dunlin.
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Cores of Dunlin, as a list such as 0,1 or 0-3; the contender's core when absent.
    #[arg(long, value_name = "LIST", value_parser = core_list)]
    dunlin_cores: Option<CoreList>,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Port that contenders listen on.
    #[arg(long, default_value_t = 27_883)]
    port: u16,
    /// Write all results, every run with the generator's whole report, as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Write the report as Markdown to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
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
    /// Do not install brokers that are missing; their rows say so.
    #[arg(long)]
    no_install: bool,
    /// List the scenarios and their bars, and do nothing else.
    #[arg(long)]
    pub(crate) list: bool,
}

/// What a command measures unless it is told otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    pub(crate) kinds: &'static [Kind],
    pub(crate) list: List,
    /// How long a run may take beyond its seconds.
    pub(crate) patience: Duration,
}

/// Cores, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CoreList(Vec<usize>);

/// Programs and cores of a run.
#[derive(Debug)]
struct Bench {
    loadgen: PathBuf,
    dunlin: PathBuf,
    dunlin_arguments: Vec<String>,
    dunlin_cores: Vec<usize>,
    shards: u16,
    floor: PathBuf,
    rivals: Vec<Rival>,
    broker_core: usize,
    generator_core: usize,
    port: u16,
    seconds: f64,
    warm_up: f64,
    /// How long a run may take in all.
    patience: Duration,
}

/// Measures everything that was asked for.
///
/// # Errors
/// When one of our own programs is missing or does not start. What happens to others is in the results.
pub(crate) fn run(args: &BenchArgs, defaults: &Defaults) -> Result<Results, Error> {
    let scenarios = chosen(&args.scenario, defaults.list)?;
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| args.takes(*kind, defaults)).collect();
    let mut bench = Bench::new(args, defaults)?;
    if !args.no_build {
        build(args, &kinds)?;
    }
    bench.check_programs(&kinds)?;
    let contenders = bench.gather(&kinds, !args.no_install)?;
    let present = |kind: Kind| contenders.iter().any(|who| who.kind == kind && who.absent.is_none());
    let mut results = Results {
        format: FORMAT,
        command: command_line(),
        environment: Environment::here(),
        conditions: Conditions {
            seconds: bench.seconds,
            warm_up_seconds: bench.warm_up,
            repetitions: args.n,
            broker_core: bench.broker_core,
            generator_core: bench.generator_core,
        },
        rows: scenarios.iter().map(|scenario| Row::from(*scenario)).collect(),
        runs: Vec::new(),
        contenders: contenders.clone(),
    };
    for repetition in 1..=args.n {
        for scenario in &scenarios {
            for kind in kinds.iter().copied().filter(|kind| scenario.suits(*kind) && present(*kind)) {
                // Who has given no result at all, after seconds of waiting, gives none the next time either.
                let is_hopeless =
                    results.outcomes(scenario.name, kind).any(|outcome| outcome.error.is_some());
                if kind.is_rival() && is_hopeless {
                    continue;
                }
                say(&format!("{repetition} of {}: {} {kind} … ", args.n, scenario.name));
                let outcome = bench.measure(scenario, kind, &results)?;
                say(&format!("{}\n", outcome.brief()));
                results.runs.push(Run { scenario: scenario.name.to_owned(), kind, outcome });
            }
        }
    }
    Ok(results)
}

/// The scenarios that were asked for by name, or those of a command's list, each after the one whose rate it needs.
///
/// # Errors
/// When there is no such scenario.
pub(crate) fn chosen(names: &[String], list: List) -> Result<Vec<&'static Scenario>, Error> {
    if names.is_empty() {
        let belongs = |scenario: &&Scenario| scenario.list == list || scenario.list == List::Both;
        return Ok(scenario::ALL.iter().filter(belongs).collect());
    }
    let mut all: Vec<&'static Scenario> = Vec::new();
    for name in names {
        let scenario = Scenario::named(name).ok_or_else(|| {
            let known: Vec<&str> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
            Error::Advice(format!("there is no scenario {name:?}; there are {}", known.join(", ")))
        })?;
        let first = scenario.half_of.and_then(Scenario::named);
        for wanted in first.into_iter().chain([scenario]) {
            if all.iter().all(|other| other.name != wanted.name) {
                all.push(wanted);
            }
        }
    }
    Ok(all)
}

impl BenchArgs {
    fn takes(&self, kind: Kind, defaults: &Defaults) -> bool {
        if self.only.is_empty() { defaults.kinds.contains(&kind) } else { self.only.contains(&kind) }
    }
}

impl Bench {
    fn new(args: &BenchArgs, defaults: &Defaults) -> Result<Self, Error> {
        let own = std::env::current_exe().map_err(|source| Error::host("finding this program", source))?;
        let beside = |name: &str| own.with_file_name(name);
        let seconds = args.seconds.unwrap_or(defaults.seconds);
        let warm_up = args.warm_up.unwrap_or(defaults.warm_up);
        let measured = Duration::try_from_secs_f64(seconds + warm_up)
            .map_err(|error| Error::Advice(format!("--seconds and --warm-up: {error}")))?;
        Ok(Self {
            loadgen: args.loadgen.clone().unwrap_or_else(|| beside("dunlin-loadgen")),
            dunlin: args.dunlin.clone().unwrap_or_else(|| beside("dunlin")),
            dunlin_arguments: args.dunlin_arg.clone(),
            dunlin_cores: args.dunlin_cores.clone().map_or_else(|| vec![args.broker_core], |list| list.0),
            shards: args.shards,
            rivals: Vec::new(),
            broker_core: args.broker_core,
            generator_core: args.generator_core,
            port: args.port,
            seconds,
            warm_up,
            patience: defaults.patience + measured,
            floor: own,
        })
    }

    fn check_programs(&self, kinds: &[Kind]) -> Result<(), Error> {
        let mut needed = vec![&self.loadgen];
        if kinds.contains(&Kind::Dunlin) {
            needed.push(&self.dunlin);
        }
        needed.iter().find(|program| !program.is_file()).map_or(Ok(()), |missing| {
            let build = "build it with: cargo build --release --workspace";
            Err(Error::Advice(format!("{} is missing; {build}", missing.display())))
        })
    }

    /// Finds and installs the rivals, and says who takes part and who is absent.
    fn gather(&mut self, kinds: &[Kind], may_install: bool) -> Result<Vec<Participant>, Error> {
        // Programs lie in target/release, rivals in target/rivals.
        let folder = self.floor.parent().and_then(Path::parent).map(|target| target.join("rivals"));
        let folder = folder.ok_or_else(|| Error::Advice("this program lies in no folder".to_owned()))?;
        let mut contenders = Vec::new();
        for kind in kinds.iter().copied() {
            let (version, absent) = match kind {
                Kind::Floor => ("of this commit".to_owned(), None),
                Kind::Dunlin => (version_of(&self.dunlin), None),
                Kind::Mosquitto | Kind::Rumqttd | Kind::Rmqttd | Kind::Aedes => {
                    match Rival::prepare(kind, &folder, may_install) {
                        Ok(rival) => {
                            let version = rival.version.clone();
                            self.rivals.push(rival);
                            (version, None)
                        }
                        Err(reason) => {
                            say(&format!("{kind} is left out: {reason}\n"));
                            ("not installed".to_owned(), Some(reason))
                        }
                    }
                }
            };
            contenders.push(Participant { kind, version, absent });
        }
        Ok(contenders)
    }

    /// One run. A rival that does not start has a run without a result.
    fn measure(&self, scenario: &Scenario, kind: Kind, so_far: &Results) -> Result<Outcome, Error> {
        let mut rate = None;
        if let Some(fastest) = scenario.half_of {
            let reached = Spread::of(so_far.values(fastest, kind, |outcome| outcome.per_second));
            let Some(reached) = reached else {
                return Ok(measure::failed(format!(
                    "has no clean run of {fastest} to take half the rate of"
                )));
            };
            rate = Some(half(reached.median));
        }
        // The kernel may still be taking apart the sockets of the one before.
        let mut started = Contender::start(self, kind, scenario);
        for _ in 1..START_TRIES {
            if started.is_err() {
                contender::pause();
                started = Contender::start(self, kind, scenario);
            }
        }
        let mut contender = match started {
            Ok(contender) => contender,
            Err(error) if kind.is_rival() => return Ok(measure::failed(error.to_string())),
            Err(error) => return Err(error),
        };
        measure::run(self, scenario, &mut contender, rate)
    }

    /// The cores that a contender may use.
    fn cores_of(&self, kind: Kind, scenario: &Scenario) -> Vec<usize> {
        match (kind, scenario.shards) {
            (Kind::Dunlin, Shards::TwoCores) => vec![self.broker_core, self.generator_core],
            (Kind::Dunlin, Shards::Asked | Shards::Tables(_)) => self.dunlin_cores.clone(),
            (Kind::Floor | Kind::Mosquitto | Kind::Rumqttd | Kind::Rmqttd | Kind::Aedes, _) => {
                vec![self.broker_core]
            }
        }
    }

    const fn shards_of(&self, scenario: &Scenario) -> u16 {
        match scenario.shards {
            Shards::Asked => self.shards,
            Shards::Tables(count) => count,
            Shards::TwoCores => 2,
        }
    }
}

/// How often a contender is started before it counts as one that does not start.
const START_TRIES: u32 = 3;

/// Half of a rate, at least one message per second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^53"
)]
fn half(per_second: f64) -> u64 {
    ((per_second / 2.0) as u64).max(1)
}

fn build(args: &BenchArgs, kinds: &[Kind]) -> Result<(), Error> {
    let mut packages = Vec::new();
    if args.loadgen.is_none() {
        packages.extend(["-p", "dunlin-loadgen"]);
    }
    if args.dunlin.is_none() && kinds.contains(&Kind::Dunlin) {
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

fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("of this commit").to_owned()
}

/// The command line as a person would type it.
fn command_line() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo perf {}", arguments.join(" "))
}

/// Reads a list of cores: numbers and ranges with commas between.
fn core_list(text: &str) -> Result<CoreList, String> {
    let number = |word: &str| {
        word.trim()
            .parse::<usize>()
            .map_err(|_| format!("{word:?} is no core; write a list such as 0,1 or 0-3"))
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(number(first)?..=number(last)?.min(CORE_MAX)),
            None => cores.push(number(part)?),
        }
    }
    if cores.is_empty() { Err(format!("{text:?} has no core in it")) } else { Ok(CoreList(cores)) }
}

/// Cores beyond this do not fit into a CPU mask.
const CORE_MAX: usize = 1023;

/// Writes to standard error: what is going on.
pub(crate) fn say(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Writes to standard output: what was found.
pub(crate) fn print(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &[&str], list: List) -> Vec<&'static str> {
        let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
        chosen(&asked, list).unwrap().iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(core_list("0,1"), Ok(CoreList(vec![0, 1])));
        assert_eq!(core_list("2, 4-6"), Ok(CoreList(vec![2, 4, 5, 6])));
        assert!(core_list("a").unwrap_err().contains("0-3"));
        assert!(core_list("3-1").is_err() && core_list("").is_err());
        assert_eq!(core_list("0-18446744073709551615").map(|list| list.0.len()), Ok(1024));
    }

    #[test]
    fn half_of_a_rate_brings_the_scenario_that_finds_it() {
        assert_eq!(names(&["half0"], List::Both), ["p2p0", "half0"]);
        assert_eq!(names(&["p2p0", "half0", "p2p0"], List::Both), ["p2p0", "half0"]);
        assert!(chosen(&["p2p9".to_owned()], List::Both).unwrap_err().to_string().contains("p2p0, p2p1"));
        assert_eq!((half(1001.0), half(0.5)), (500, 1));
    }

    #[test]
    fn the_sheet_has_its_rows_and_compare_keeps_its_own() {
        let sheet = names(&[], List::Sheet);
        for row in
            ["idle", "connect", "p2p2", "fanin1", "fan0w1", "shared", "wild", "replay", "half0", "p2p0x2"]
        {
            assert!(sheet.contains(&row), "{row}");
        }
        assert!(!sheet.contains(&"idle200k") && !sheet.contains(&"cycle"));
        let compare = names(&[], List::Compare);
        for row in ["wild0", "lat1", "subs1m", "idle200k", "keepalive", "cycle", "p2p0"] {
            assert!(compare.contains(&row), "{row}");
        }
        assert!(!compare.contains(&"half0"));
    }
}

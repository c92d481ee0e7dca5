//! What durability costs: levels side by side, how fast a broker comes back.
//!
//! Each row is a fresh broker on a fresh folder of the same disk. Beside Dunlin's figures stand the numbers of its own log
//! (syncs, records per sync) and what one fdatasync costs on that disk without any broker.

pub(crate) mod disk;
mod report;
mod rows;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, ValueEnum};

use crate::bench;
use crate::bench::machine::Environment;
use crate::error::Error;
use crate::files;
use disk::SyncTimes;
use report::Results;
use rows::Stand;
use server::Site;

/// Options of `dunlin-perf durable`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Rows to measure; all of them when absent.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    row: Vec<Row>,
    /// Seconds measured in each run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Pairs of p2p.
    #[arg(long, default_value_t = 1_000)]
    pairs: u32,
    /// Sessions of the row backlog.
    #[arg(long, default_value_t = 2_000)]
    backlog_sessions: u32,
    /// Messages that wait for each of them.
    #[arg(long, default_value_t = 1_000)]
    backlog_messages: u32,
    /// Stored sessions of the row boot.
    #[arg(long, default_value_t = 1_000_000)]
    boot_sessions: u32,
    /// Messages that wait for each of them.
    #[arg(long, default_value_t = 10)]
    boot_messages: u32,
    /// Folder on the disk that is measured; a folder of the run's own is made and removed in it.
    #[arg(long, default_value = "target", value_name = "FOLDER")]
    folder: PathBuf,
    /// Folder in memory, for the row core.
    #[arg(long, default_value = "/dev/shm", value_name = "FOLDER")]
    memory_folder: PathBuf,
    /// Core of the broker.
    #[arg(long, default_value_t = 0)]
    broker_core: usize,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Port that brokers listen on.
    #[arg(long, default_value_t = 27_893)]
    port: u16,
    /// Write everything as JSON to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the tables as Markdown to this file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The broker program; beside this program when absent.
    #[arg(long, value_name = "PROGRAM")]
    dunlin: Option<PathBuf>,
    /// The generator program; beside this program when absent.
    #[arg(long, value_name = "PROGRAM")]
    loadgen: Option<PathBuf>,
    /// Do not build the programs first.
    #[arg(long)]
    no_build: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Durable QoS 1, point to point: memory, interval, commit, mosquitto.
    P2p,
    /// The same where no sync is waited for: the data directory is in memory.
    Core,
    /// Time to PUBACK at a low rate, against one fdatasync.
    Ack,
    /// One topic with many sessions that are away: disk, and how fast they take what waits.
    Backlog,
    /// Start and memory with very many stored sessions.
    Boot,
}

/// Measures and prints.
///
/// # Errors
/// When a program is missing or a broker does not start.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    if !options.no_build {
        build(options)?;
    }
    let own = std::env::current_exe().map_err(|source| Error::host("finding this program", source))?;
    let beside =
        |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| own.with_file_name(name));
    let folder = own_folder(&options.folder)?;
    let stand = Stand {
        site: Site {
            dunlin: beside(&options.dunlin, "dunlin"),
            port: options.port,
            core: options.broker_core,
            folder: folder.clone(),
        },
        loadgen: beside(&options.loadgen, "dunlin-loadgen"),
        generator_core: options.generator_core,
        seconds: options.seconds,
    };
    let measured = measure(options, &stand, &folder);
    drop(std::fs::remove_dir_all(&folder));
    let results = measured?;
    let text = results.markdown();
    bench::print(&text);
    if let Some(file) = &options.markdown {
        files::write(file, &text)?;
    }
    if let Some(file) = &options.out {
        files::write(file, &results.json())?;
    }
    Ok(ExitCode::from(u8::from(!results.is_clean())))
}

/// A folder of this run's own.
fn own_folder(below: &Path) -> Result<PathBuf, Error> {
    let folder = below.join(format!("dunlin-durable-{}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .map_err(|source| Error::host(format!("creating {}", folder.display()), source))?;
    folder.canonicalize().map_err(|source| Error::host("finding the run's folder", source))
}

fn measure(options: &Options, stand: &Stand, folder: &Path) -> Result<Results, Error> {
    let takes = |row| options.row.is_empty() || options.row.contains(&row);
    let mut results = Results { command: command(), environment: Environment::here(), ..Results::default() };
    results.sync = SyncTimes::measure(folder, SYNCS, 4_096)?;
    bench::say(&format!("{}\n", results.sync.line()));
    if takes(Row::P2p) {
        results.p2p = stand.p2p(options.pairs)?;
    }
    if takes(Row::Core) {
        let folder = own_folder(&options.memory_folder)?;
        let site = Site { folder: folder.clone(), ..stand.site.clone() };
        let measured = Stand { site, ..stand.clone() }.p2p(options.pairs);
        drop(std::fs::remove_dir_all(&folder));
        results.core = measured?;
    }
    if takes(Row::Ack) {
        results.ack = stand.ack()?;
    }
    if takes(Row::Backlog) {
        results.backlog = Some(stand.backlog(options.backlog_sessions, options.backlog_messages)?);
    }
    if takes(Row::Boot) {
        results.boot = Some(stand.boot(options.boot_sessions, options.boot_messages)?);
    }
    Ok(results)
}

/// What was asked for, to be asked for again. Where brokers and files are does not matter for that.
fn command() -> String {
    let given = std::env::args().skip(1);
    ["cargo perf".to_owned()].into_iter().chain(given).collect::<Vec<_>>().join(" ")
}

/// Runs `dunlin-perf fsync`.
///
/// # Errors
/// When the folder can't be written.
pub(crate) fn fsync(options: &disk::Options) -> Result<ExitCode, Error> {
    let times = SyncTimes::measure(&options.folder, options.count, options.bytes)?;
    let text = if options.json {
        serde_json::to_string_pretty(&times).map_err(|error| Error::Advice(error.to_string()))?
    } else {
        times.line()
    };
    bench::print(&format!("{text}\n"));
    Ok(ExitCode::SUCCESS)
}

fn build(options: &Options) -> Result<(), Error> {
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--quiet"]);
    let mut wanted = false;
    for (given, package) in [(&options.dunlin, "dunlin"), (&options.loadgen, "dunlin-loadgen")] {
        if given.is_none() {
            wanted = true;
            command.args(["-p", package]);
        }
    }
    if !wanted {
        return Ok(());
    }
    let status = command.status().map_err(|source| Error::host("running cargo", source))?;
    if status.success() { Ok(()) } else { Err(Error::Advice("the programs do not build".to_owned())) }
}

/// Syncs that are timed before everything else.
const SYNCS: u32 = 300;

//! The proof of millions of connections on one host: starts Dunlin, lets the generator hold a fleet on it, and holds what
//! comes back against the bars. `dunlin-loadgen hold` does the work and the verification; this chooses shards, cores and
//! addresses, says beforehand whether the host has the memory, and watches the memory of the whole host meanwhile.

mod host;
mod verdict;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::bench::machine::Environment;
use crate::error::Error;
use crate::{bench, files};

/// Options of `dunlin-perf million`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connections.
    #[arg(long, short = 'n', default_value_t = 2_000_000)]
    connections: u32,
    /// Seconds for which they are held.
    #[arg(long, default_value_t = 600)]
    hold: u32,
    /// Clients that fall at the end, all at once, and come back.
    #[arg(long, default_value_t = 100_000)]
    storm: u32,
    /// Messages per second, half of them QoS 0 and half QoS 1.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Keep Alive in seconds.
    #[arg(long, default_value_t = 300)]
    keep_alive: u16,
    /// Shards of Dunlin.
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Cores of Dunlin, as a list.
    #[arg(long, default_value = "0", value_name = "LIST")]
    cores: String,
    /// Core of the generator.
    #[arg(long, default_value_t = 1, value_name = "CORE")]
    generator_core: usize,
    /// Connections under way at the same time while connecting.
    #[arg(long, default_value_t = 1_024)]
    concurrency: u32,
    /// Port that Dunlin listens on.
    #[arg(long, default_value_t = 1_885)]
    port: u16,
    /// Write everything as JSON to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the result as Markdown to this file; beside a record of `sheet` it becomes a part of the page.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Do not build the programs first.
    #[arg(long)]
    no_build: bool,
    /// Exit with 1 when a bar is missed, except that of time, which depends on who else uses the machine. (A lost message
    /// always means 1.)
    #[arg(long)]
    check: bool,
}

/// Runs the proof and prints it.
///
/// # Errors
/// When a program is missing, the host has too little memory, or the broker does not start.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    let own = std::env::current_exe().map_err(|source| Error::host("finding this program", source))?;
    if !options.no_build {
        build()?;
    }
    host::refuse_if_too_small(options.connections)?;
    let machine = Environment::here();
    let mut broker = Broker::start(&own.with_file_name("dunlin"), options)?;
    let before = host::available_bytes();
    let generator = generator(&own.with_file_name("dunlin-loadgen"), options, broker.child.id());
    let (report, peak) = drive(generator, before)?;
    broker.end();
    let verdicts = verdict::of(&report, options.connections, peak);
    let text = verdict::text(&machine, options, &report, peak, &verdicts);
    bench::print(&text);
    if let Some(file) = &options.markdown {
        files::write(file, &verdict::markdown(&text, options.connections))?;
    }
    if let Some(file) = &options.out {
        let whole = json!({
            "machine": machine, "host_peak_bytes": peak, "report": report,
            "bars": verdicts.iter().map(verdict::Bar::as_json).collect::<Vec<_>>(),
        });
        files::write(file, &format!("{whole:#}\n"))?;
    }
    let failed = report["verdict"] == "failed";
    let missed = options.check && verdicts.iter().any(|bar| !bar.is_kept() && !bar.is_of_time());
    Ok(ExitCode::from(u8::from(failed || missed)))
}

/// The broker of the run; dropping it ends it.
struct Broker {
    child: Child,
}

impl Broker {
    fn start(program: &Path, options: &Options) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
        if TcpStream::connect(address).is_ok() {
            return Err(Error::Advice(format!(
                "something already listens on {address}; choose another --port"
            )));
        }
        let child = Command::new(program)
            .args(["--listen", &format!("mqtt://{address}"), "--memory-only"])
            .args(["--shards", &options.shards.to_string(), "--cores", &options.cores])
            // The publishers and the probe come on top, and slots are never divided quite evenly.
            .args(["--max-connections", &(options.connections + options.connections / 20 + 100).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::host(format!("starting {}", program.display()), source))?;
        let mut broker = Self { child };
        for _ in 0..READY_TRIES {
            if TcpStream::connect(address).is_ok() {
                return Ok(broker);
            }
            if let Ok(Some(status)) = broker.child.try_wait() {
                return Err(Error::Advice(format!("dunlin ended at once with {status}")));
            }
            pause(Duration::from_millis(50));
        }
        Err(Error::Advice(format!("dunlin does not accept connections on {address}")))
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

fn generator(program: &Path, options: &Options, broker: u32) -> Command {
    let mut command = Command::new(program);
    command.arg("hold").arg("--json");
    for (flag, value) in [
        ("--connections", u64::from(options.connections)),
        ("--seconds", u64::from(options.hold)),
        ("--storm", u64::from(options.storm.min(options.connections / 2))),
        ("--rate", u64::from(options.rate)),
        ("--keep-alive", u64::from(options.keep_alive)),
        ("--concurrency", u64::from(options.concurrency)),
        ("--broker-pid", u64::from(broker)),
    ] {
        command.args([flag, &value.to_string()]);
    }
    command.args(["--core", &options.generator_core.to_string()]);
    // The generator chooses the ports: the kernel would search longer and longer for a free one.
    command.args(["--source", SOURCES, "--ports", "1024-65535"]);
    command.args(["--target", &format!("127.0.0.1:{}", options.port), "--patience", "60"]);
    command
}

/// Runs the generator until it has reported; returns its report and the most memory that the host used meanwhile. The
/// generator is ended then: its sockets need minutes to close.
#[expect(
    clippy::disallowed_methods,
    reason = "a tool may read the clock, and wait for its child on a thread"
)]
fn drive(mut command: Command, before: u64) -> Result<(Value, u64), Error> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::host("starting dunlin-loadgen", source))?;
    let stdout =
        child.stdout.take().ok_or_else(|| Error::Advice("the generator has no output".to_owned()))?;
    let reader = std::thread::spawn(move || {
        let mut values = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
        values.next()
    });
    let began = Instant::now();
    let mut peak = 0;
    while !reader.is_finished() {
        let used = before.saturating_sub(host::available_bytes());
        if used > peak {
            peak = used;
        }
        host::progress(began.elapsed(), used);
        pause(Duration::from_secs(1));
    }
    drop(child.kill());
    let report = reader.join().ok().flatten();
    let status = child.wait();
    match report {
        Some(Ok(report)) => Ok((report, peak)),
        Some(Err(_)) | None => {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(Error::Advice(format!("the generator gave no report ({status}); what it said is above")))
        }
    }
}

fn build() -> Result<(), Error> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "-p", "dunlin", "-p", "dunlin-loadgen"])
        .status()
        .map_err(|source| Error::host("running cargo", source))?;
    if status.success() { Ok(()) } else { Err(Error::Advice("the programs do not build".to_owned())) }
}

#[expect(clippy::disallowed_methods, reason = "a tool may sleep while others work")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Local addresses of the clients: 65,534 of them, each far from the end of its ports.
const SOURCES: &str = "127.1.0.0/16";
const READY_TRIES: u32 = 200;

//! The wiring page: starts everything in order, waits, and stops it in reverse. Decides nothing else.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use dunlin_shard::config::Durability;
use dunlin_shard::runtime::selfcheck::{self as edge_check, Finding, Verdict};
use dunlin_shard::runtime::{self, EdgeConfig, Listener, Runtime, StartError};
use dunlin_shard::{Config, Hooks, ListenerId, Setup, ShardId};

use crate::broker::{Broker, Outcome};
use crate::cli::{CheckFlags, RunFlags};
use crate::client_events::ClientEvents;
use crate::config::schema::SETTINGS;
use crate::config::{self, ConfigError, Effective, Origin, Settings, Sources, env, print};
use crate::log::{self, Log};
use crate::notify::{self, Notify};
use crate::recovery::{self, Recovery, RecoveryError};
use crate::selfcheck;
use crate::signals;
use crate::telemetry::Telemetry;
use crate::topology::{self, Topology, TopologyError};
use crate::tune;

/// `dunlin run`: until a signal ends it. 0 after a graceful stop, 1 when it could not start or had to be cut short.
pub(crate) fn run(flags: RunFlags) -> ExitCode {
    let print_config = flags.print_config;
    let sources = flags.settings.into_sources(env::of_process());
    let outcome = config::load(&sources).map_err(BootError::from).and_then(|effective| {
        if print_config {
            say(&print::effective_toml(&effective));
            return Ok(ExitCode::SUCCESS);
        }
        serve(sources, effective)
    });
    outcome.unwrap_or_else(|error| complain(&error))
}

/// `dunlin check`: 0 when the broker can run here as configured, with or without warnings, else 1.
pub(crate) fn check(flags: CheckFlags) -> ExitCode {
    let json = flags.json;
    let sources = flags.settings.into_sources(env::of_process());
    let mut findings = Vec::new();
    match config::load(&sources) {
        Ok(effective) => {
            findings.push(Finding { subject: "config", verdict: Verdict::Good, text: "valid".to_owned() });
            findings.extend(effective.warnings.iter().map(|warning| Finding {
                subject: "config",
                verdict: Verdict::Warning,
                text: warning.clone(),
            }));
            findings.extend(selfcheck::listeners(&effective.settings.server.listen));
            findings.push(selfcheck::storage(&effective));
            match plan(&effective.settings) {
                Ok((edge, _)) => findings.extend(edge_check::check(&edge)),
                Err(error) => findings.push(Finding {
                    subject: "cores",
                    verdict: Verdict::Fatal,
                    text: error.to_string(),
                }),
            }
        }
        Err(error) => findings.extend(error.problems.into_iter().map(|text| Finding {
            subject: "config",
            verdict: Verdict::Fatal,
            text,
        })),
    }
    findings.extend(tune::findings());
    say(&if json { selfcheck::json(&findings) } else { selfcheck::table(&findings) });
    if edge_check::worst(&findings) == Verdict::Fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Starts the broker, waits for the signal that ends it, stops it.
fn serve(sources: Sources, effective: Effective) -> Result<ExitCode, BootError> {
    let signals = signals::listen().map_err(|source| BootError::Thread { name: "signals", source })?;
    let settings = &effective.settings;
    let (log, log_writer) = log::start(settings.log.format, settings.log.level)
        .map_err(|source| BootError::Thread { name: "log", source })?;
    let notify = notify::socket_of(&sources.env).map(std::ffi::OsStr::to_owned);
    let notify = Notify::new(notify.as_deref()).map_err(|source| BootError::Notify { source })?;
    let outcome = start(sources, effective, notify, &log).map(|broker| broker.until_stopped(&signals));
    log_writer.close();
    outcome
}

/// Host, shards, listeners, telemetry, start page: in this order.
fn start(sources: Sources, effective: Effective, notify: Notify, log: &Log) -> Result<Broker, BootError> {
    let settings = &effective.settings;
    for warning in &effective.warnings {
        log.warn("configuration", &[("problem", warning.as_str().into())]);
    }
    for (setting, origin) in
        SETTINGS.iter().zip(&effective.origins).filter(|(_, origin)| **origin != Origin::Default)
    {
        let (value, origin) = ((setting.show)(settings), origin.to_string());
        log.debug(
            "setting",
            &[("key", setting.name.into()), ("value", value.into()), ("from", origin.into())],
        );
    }
    let (edge, topology) = plan(settings)?;
    check_host(&edge, log)?;
    let events = ClientEvents::new(&settings.sys_topics.sys_event_messages);
    let Recovery { logs, page: recovered, index } =
        recovery::recover(&effective, topology.shard_count(), log, &notify)?;
    let setups = setups(settings, &topology, &events);
    let runtime = runtime::start(edge, setups, logs).map_err(BootError::of_start)?;
    let page = start_page(settings, &topology, &runtime, &recovered);
    let shards = runtime.shards().to_vec();
    let ports = runtime.listening().iter().map(|(_, address)| address.port()).collect();
    let answers = runtime.answers().clone();
    let telemetry = Telemetry::start(shards.clone(), answers, (settings, ports), events, log.clone())
        .map_err(|source| BootError::Thread { name: "telemetry", source })?;
    let (shard_ended, notices) = (runtime.ended().clone(), runtime.notices().clone());
    let all_ended = watch(runtime).map_err(|source| BootError::Thread { name: "shards", source })?;
    say(&page);
    notify.ready(page.lines().nth(1).unwrap_or("serving")).map_err(|source| BootError::Notify { source })?;
    let log = log.clone();
    Ok(Broker { notify, sources, effective, shards, shard_ended, all_ended, notices, telemetry, log, index })
}

/// One core per shard, all with the same settings and the same seed.
fn setups(settings: &Settings, topology: &Topology, events: &ClientEvents) -> Vec<Setup> {
    let shard_count = topology.shard_count();
    let (config, seed) = (Arc::new(shard_config(settings)), random_seed());
    let setup = |shard| Setup {
        shard: ShardId(shard),
        shard_count,
        config: Arc::clone(&config),
        hooks: Hooks { session: Some(Box::new(events.observer())), ..Hooks::default() },
        seed,
    };
    (0..shard_count).map(setup).collect()
}

/// Waits for the shards on a thread of its own; tells once how they ended.
fn watch(runtime: Runtime) -> std::io::Result<Receiver<Outcome>> {
    let (sender, ended) = bounded(1);
    thread::Builder::new().name("shards".to_owned()).spawn(move || {
        let _nobody_may_wait = sender.send(runtime.join());
    })?;
    Ok(ended)
}

/// What the shards need to know of the settings.
pub(crate) fn shard_config(settings: &Settings) -> Config {
    Config { mqtt: settings.mqtt.clone(), durability: settings.durability() }
}

/// What the edge needs to know, and where each shard goes.
fn plan(settings: &Settings) -> Result<(EdgeConfig, Topology), TopologyError> {
    let allowed = topology::allowed_cores()?;
    let topology = Topology::place(settings.server.shards, settings.server.cores.as_ref(), &allowed)?;
    let listeners = settings.server.listen.iter().zip(0..).map(|(url, id)| Listener {
        id: ListenerId(id),
        address: url.address,
        backlog: LISTEN_BACKLOG,
    });
    let connections = settings.server.max_connections;
    let connections = connections.unwrap_or_else(|| topology.connections_auto(topology::open_files_max()));
    let edge = EdgeConfig {
        cores: topology.cores.iter().map(|core| Some(usize::from(*core))).collect(),
        listeners: listeners.collect(),
        connection_count_max: connections,
        stop_ms_max: settings.shutdown.timeout_ms,
        sync_every_ms: match settings.durability() {
            Durability::Interval => settings.durability.interval_ms,
            Durability::Commit | Durability::Memory => 0,
        },
        ..EdgeConfig::default()
    };
    Ok((edge, topology))
}

/// Refuses a host that cannot run the edge; warns of one that runs it badly.
fn check_host(edge: &EdgeConfig, log: &Log) -> Result<(), BootError> {
    let findings = edge_check::check(edge);
    if edge_check::worst(&findings) == Verdict::Fatal {
        let fatal = findings.iter().filter(|finding| finding.verdict == Verdict::Fatal);
        let problems = fatal.map(|finding| format!("{}: {}", finding.subject, finding.text)).collect();
        return Err(BootError::Host { problems });
    }
    for finding in findings.iter().filter(|finding| finding.verdict == Verdict::Warning) {
        log.warn("host", &[("subject", finding.subject.into()), ("problem", finding.text.as_str().into())]);
    }
    Ok(())
}

/// What the start says on standard output. The lines `listening on URL` and `ready` are for programs too.
fn start_page(settings: &Settings, topology: &Topology, runtime: &Runtime, recovered: &str) -> String {
    let mut page = format!("dunlin {}\n", env!("CARGO_PKG_VERSION"));
    for (_, address) in runtime.listening() {
        writeln!(page, "listening on mqtt://{address}").expect("writing to a String does not fail");
    }
    page.push_str(&topology.describe());
    page.push('\n');
    page.push_str(anonymity(settings));
    page.push_str(recovered);
    page.push_str("ready\n");
    page
}

/// Who may connect while no authentication is configured.
fn anonymity(settings: &Settings) -> &'static str {
    let open = settings.server.listen.iter().any(|url| !url.is_loopback());
    if open {
        "no authentication is configured: everybody who reaches the listeners may connect (auth.allow_anonymous)\n"
    } else {
        "no authentication is configured: only loopback listeners are served (--allow-anonymous allows others)\n"
    }
}

/// Different in each process, so that hashes and assigned client ids cannot be foreseen.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Writes to standard output; a reader that has gone is no reason to stop a broker.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Writes a problem to standard error.
pub(crate) fn complain_of(problem: &str) {
    let text: String = problem.lines().map(|line| format!("dunlin: {line}\n")).collect();
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Writes an error and its causes to standard error.
fn complain(error: &BootError) -> ExitCode {
    let mut text = String::new();
    for line in error.to_string().lines() {
        text.push_str(&format!("dunlin: {line}\n"));
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let reason = inner.to_string();
        if !text.contains(&reason) {
            text.push_str(&format!("  because: {reason}\n"));
        }
        cause = inner.source();
    }
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
    ExitCode::FAILURE
}

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The host lacks what the edge needs.
    #[error("{}\n`dunlin check` shows all that was looked at.", .problems.join("\n"))]
    Host {
        /// What and what to change.
        problems: Vec<String>,
    },
    #[error("the thread '{name}' cannot be started; is the process limit (ulimit -u) reached?")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the kernel says.
        source: std::io::Error,
    },
    #[error(
        "systemd cannot be told that the broker is ready, so it would end it again: the socket in NOTIFY_SOCKET cannot be \
         used; for a start by hand, unset that variable"
    )]
    Notify {
        /// What the kernel says.
        source: std::io::Error,
    },
    #[error("cannot listen on {address}: it {why}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said, and what to do.
        why: String,
    },
    #[error(transparent)]
    Start(StartError),
}

impl BootError {
    fn of_start(error: StartError) -> Self {
        if let StartError::Listen { address, source } = &error {
            return Self::Listen { address: *address, why: selfcheck::why_unbound(source, *address) };
        }
        Self::Start(error)
    }
}

/// Connections that may wait for a shard to accept them; the kernel cuts it at `net.core.somaxconn`.
const LISTEN_BACKLOG: u32 = 32_768;

//! The rows: which brokers, which load, and what is read off.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::server::{Level, Recovery, Server, Site};
use crate::bench::say;
use crate::error::Error;

/// Where brokers and generator stand.
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    pub(crate) site: Site,
    pub(crate) loadgen: PathBuf,
    pub(crate) generator_core: usize,
    pub(crate) seconds: f64,
}

/// One broker under one load.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) who: String,
    /// Processor time of the broker per message, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    /// Percentiles of the time to arrival and of that to PUBACK, in microseconds.
    pub(crate) deliver_p99_us: f64,
    pub(crate) ack_p50_us: f64,
    pub(crate) ack_p99_us: f64,
    /// Syncs of the log a second, over the broker's whole life.
    pub(crate) syncs_per_second: Option<f64>,
    /// Records that a sync made durable, on the average.
    pub(crate) records_per_sync: Option<f64>,
    /// What the broker itself measured of a sync, at the end of its bucket.
    pub(crate) sync_p99_us: Option<u64>,
    pub(crate) clean: bool,
    /// The generator's whole report.
    pub(crate) report: Value,
}

/// Messages that wait for many sessions, stored once, and what happens when these come back.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Backlog {
    pub(crate) sessions: u32,
    /// Messages to each of them, all on one topic.
    pub(crate) messages: u32,
    pub(crate) payload_bytes: u32,
    /// What the data directory grew by.
    pub(crate) disk_bytes: u64,
    /// Deliveries per second when the sessions came back.
    pub(crate) drained_per_second: f64,
    /// Processor time of the broker per delivery, in microseconds.
    pub(crate) drain_cpu_us: f64,
    /// Resident memory before they came back, and at most while they took their messages.
    pub(crate) resident_mib: f64,
    pub(crate) resident_max_mib: f64,
    /// What the data directory grew by when all was taken.
    pub(crate) disk_after_bytes: u64,
    /// Each message came once, in order, to everybody.
    pub(crate) clean: bool,
    /// The generator's reports.
    pub(crate) reports: [Value; 2],
}

impl Backlog {
    /// What the project allows itself: 1.2 times the payload, stored once, and 32 B for each session and message.
    pub(crate) fn disk_bar_bytes(&self) -> f64 {
        let messages = f64::from(self.messages);
        messages * f64::from(self.payload_bytes) * 1.2 + messages * f64::from(self.sessions) * 32.0
    }
}

/// A start with very many stored sessions.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Boot {
    pub(crate) sessions: u32,
    pub(crate) messages: u32,
    /// From the start of the process to its answer to a CONNECT, in milliseconds.
    pub(crate) ready_ms: u64,
    /// Resident memory then.
    pub(crate) resident_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) recovery: Option<Recovery>,
    pub(crate) clean: bool,
}

impl Stand {
    /// Durable QoS 1 point to point, one message under way in each pair.
    pub(crate) fn p2p(&self, pairs: u32) -> Result<Vec<Run>, Error> {
        let pairs = pairs.to_string();
        let load = ["p2p", "--qos", "1", "--durable", "-n", &pairs];
        Level::ALL.into_iter().map(|level| self.traffic("p2p", level, &load)).collect()
    }

    /// A thousand messages a second over 50 pairs: the time to PUBACK.
    pub(crate) fn ack(&self) -> Result<Vec<Run>, Error> {
        let load = ["lat", "--qos", "1", "--durable", "-n", "50", "--rate", "1000"];
        Level::ALL.into_iter().map(|level| self.traffic("ack", level, &load)).collect()
    }

    fn traffic(&self, row: &str, level: Level, load: &[&str]) -> Result<Run, Error> {
        say(&format!("{row}: {} … ", level.name()));
        self.site.clear();
        let server = Server::start(&self.site, level, START_PATIENCE)?;
        let mut command = self.generator(&server);
        command.args(load).args(["--warm-up", "1", "--seconds", &self.seconds.to_string()]);
        let before = server.log_numbers()?;
        let (report, clean) = finish(command.spawn())?;
        let after = server.log_numbers()?;
        server.kill();
        let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let grown = |name: &str| {
            let at =
                |numbers: &std::collections::BTreeMap<String, u64>| numbers.get(name).copied().unwrap_or(0);
            float(at(&after).saturating_sub(at(&before)))
        };
        let syncs = (!after.is_empty()).then(|| grown("store.syncs"));
        let run = Run {
            who: level.name().to_owned(),
            cpu_us: number("/broker_cpu_us"),
            per_second: number("/per_second"),
            deliver_p99_us: number("/latency_us/p99"),
            ack_p50_us: number("/acknowledged_us/p50"),
            ack_p99_us: number("/acknowledged_us/p99"),
            // Set-up, warm-up and draining belong to the time as they belong to the count.
            syncs_per_second: syncs.map(|syncs| syncs / (self.seconds + 1.0)),
            records_per_sync: syncs
                .filter(|syncs| *syncs > 0.0)
                .map(|syncs| grown("store.synced_records") / syncs),
            sync_p99_us: after.get("store.sync_us.p99").copied(),
            clean,
            report,
        };
        say(&format!("{:.2} us, {:.0}/s, PUBACK p99 {:.0} us\n", run.cpu_us, run.per_second, run.ack_p99_us));
        Ok(run)
    }

    /// Publishes to one topic with many sessions that are away, and brings them back.
    pub(crate) fn backlog(&self, sessions: u32, messages: u32) -> Result<Backlog, Error> {
        say(&format!("backlog: {sessions} sessions, {messages} messages for all of them … "));
        self.site.clear();
        let server = Server::start(&self.site, Level::Commit, START_PATIENCE)?;
        let empty_bytes = server.settled_disk_bytes();
        let stock = |verb: &str| {
            let mut command = self.generator(&server);
            command.args([verb, "--patience", "60", "--sessions", &sessions.to_string()]);
            command.args(["--per-topic", &sessions.to_string(), "--messages", &messages.to_string()]);
            command.args(["--payload", &BACKLOG_PAYLOAD.to_string()]);
            command
        };
        let (filled, is_filled) = finish(stock("fill").spawn())?;
        let disk_bytes = server.settled_disk_bytes().saturating_sub(empty_bytes);
        let (drained, is_drained) = finish(stock("drain").spawn())?;
        if filled.is_null() || drained.is_null() {
            return Err(Error::Advice(
                "the sessions did not get their messages; what was said is above".to_owned(),
            ));
        }
        let number = |path: &str| drained.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let figure = |name: &str| {
            let figures = drained.get("extra").and_then(Value::as_array);
            let found = figures.and_then(|all| all.iter().find(|figure| figure["name"] == name));
            found.and_then(|figure| figure["value"].as_f64()).unwrap_or(0.0)
        };
        let backlog = Backlog {
            sessions,
            messages,
            payload_bytes: BACKLOG_PAYLOAD,
            disk_bytes,
            drained_per_second: number("/per_second"),
            drain_cpu_us: number("/broker_cpu_us"),
            resident_mib: figure("broker memory before"),
            resident_max_mib: figure("broker memory at most"),
            disk_after_bytes: server.settled_disk_bytes().saturating_sub(empty_bytes),
            clean: is_filled && is_drained,
            reports: [filled, drained],
        };
        server.kill();
        say(&format!("{} MiB, {:.0} deliveries/s\n", disk_bytes >> 20, backlog.drained_per_second));
        Ok(backlog)
    }

    /// Leaves sessions with messages behind, kills the broker, and starts it again.
    pub(crate) fn boot(&self, sessions: u32, messages: u32) -> Result<Boot, Error> {
        say(&format!("boot: {sessions} sessions, {messages} messages each … "));
        self.site.clear();
        let server = Server::start(&self.site, Level::Commit, START_PATIENCE)?;
        let mut command = self.generator(&server);
        command.args(["fill", "--patience", "60", "--concurrency", "256", "--source", "127.95.0.0/20"]);
        command.args(["--sessions", &sessions.to_string(), "--messages", &messages.to_string()]);
        let (report, clean) = finish(command.spawn())?;
        if report.is_null() {
            return Err(Error::Advice("the sessions could not be made; what was said is above".to_owned()));
        }
        server.kill();
        let server = Server::start(&self.site, Level::Commit, BOOT_PATIENCE)?;
        let boot = Boot {
            sessions,
            messages,
            ready_ms: u64::try_from(server.ready.as_millis()).unwrap_or(u64::MAX),
            resident_bytes: server.resident_bytes(),
            disk_bytes: server.disk_bytes(),
            recovery: server.recovery(),
            clean,
        };
        server.kill();
        say(&format!("ready in {} ms, {} MiB resident\n", boot.ready_ms, boot.resident_bytes >> 20));
        Ok(boot)
    }

    fn generator(&self, server: &Server) -> Command {
        let mut command = Command::new(&self.loadgen);
        command.args(["--json", "--target", &self.site.address().to_string()]);
        command.args(["--core", &self.generator_core.to_string()]);
        command.args(["--broker-pid", &server.pid().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }
}

/// Waits for the generator; its report, and whether it was content.
fn finish(child: std::io::Result<Child>) -> Result<(Value, bool), Error> {
    let child = child.map_err(|source| Error::host("starting dunlin-loadgen", source))?;
    let output =
        child.wait_with_output().map_err(|source| Error::host("waiting for dunlin-loadgen", source))?;
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    Ok((report, output.status.success()))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// Bytes of each message of the row backlog.
const BACKLOG_PAYLOAD: u32 = 1_024;
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A million sessions should take seconds; what takes longer is still measured.
const BOOT_PATIENCE: Duration = Duration::from_secs(180);

//! Where the numbers were measured.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::contender::mosquitto_version;

/// The machine and what ran on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    pub(crate) mosquitto: String,
    /// Load average of the last minute before the run: how busy the machine was with other things.
    pub(crate) load_before: String,
}

/// Describes this machine.
pub(crate) fn describe() -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let meminfo = read("/proc/meminfo");
    let kibibytes = meminfo.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    Machine {
        cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory_gib: kibibytes.unwrap_or(0) / (1 << 20),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        commit: commit(),
        mosquitto: mosquitto_version().unwrap_or_else(|| "not installed".to_owned()),
        load_before: read("/proc/loadavg").split(' ').next().unwrap_or("").to_owned(),
    }
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    output.map_or_else(|_| "unknown".to_owned(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the tool's edge to /proc")]
fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

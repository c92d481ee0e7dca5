//! Where and how a run was made: what is needed to repeat it and to judge whether two runs may be compared.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The host, the versions, and the command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Environment {
    /// Name and version of the program.
    pub(crate) tool: String,
    /// The command line that repeats the run, quoted for a shell.
    pub(crate) command: String,
    /// Seed of everything that was left to chance.
    pub(crate) seed: u64,
    /// Start of the run, in milliseconds since 1970.
    pub(crate) started_unix_ms: u64,
    /// Model of the processor.
    pub(crate) cpu: String,
    /// Cores that the generator may run on.
    pub(crate) cores: u64,
    /// Memory of the host.
    pub(crate) memory_bytes: u64,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Host name.
    pub(crate) host: String,
    /// The broker as it calls itself or as its process is called.
    pub(crate) broker: String,
    /// Anything else worth knowing: clock offsets of agents, kernel settings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) more: BTreeMap<String, String>,
}

impl Environment {
    /// Reads the host that this runs on.
    pub(crate) fn of_this_host(seed: u64, broker_pid: Option<u32>) -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let after_colon = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
        let cpu = cpu_info.lines().find(|line| line.starts_with("model name")).and_then(after_colon);
        let memory = read("/proc/meminfo");
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kibibytes = total.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
        let broker = broker_pid.map(|pid| {
            let words = read(&format!("/proc/{pid}/cmdline"));
            words.split('\0').filter(|word| !word.is_empty()).map(quoted).collect::<Vec<_>>().join(" ")
        });
        Self {
            tool: concat!("dunlin-loadgen ", env!("CARGO_PKG_VERSION")).to_owned(),
            command: std::env::args().map(|word| quoted(&word)).collect::<Vec<_>>().join(" "),
            seed,
            started_unix_ms: unix_ms(),
            cpu: cpu.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            memory_bytes: kibibytes.unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            host: read("/proc/sys/kernel/hostname").trim().to_owned(),
            broker: broker.unwrap_or_default(),
            more: BTreeMap::new(),
        }
    }
}

/// A word as a shell takes it: in quotes when it has anything that a shell would interpret.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the generator's edge to /proc")]
fn read(path: &str) -> String {
    // What can't be read is left empty: a report without the processor's model is still a report.
    std::fs::read_to_string(path).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the generator's edge to the clock")]
fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_known() {
        let environment = Environment::of_this_host(7, Some(std::process::id()));
        assert!(environment.cores > 0 && environment.memory_bytes > 0 && !environment.kernel.is_empty());
        assert!(environment.tool.starts_with("dunlin-loadgen ") && !environment.broker.is_empty());
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--rate=5"), "--rate=5");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}

//! Where and when the numbers were measured.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::files;

/// The machine, and what ran on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Day of the run in UTC, as 2026-01-31.
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Whether this is a guest of a hypervisor, as far as the processor says so.
    pub(crate) virtual_machine: bool,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// What the kernel does against faults of the processor, as `name: state`; what the processor is not prey to is left out.
    pub(crate) mitigations: Vec<String>,
    /// The frequency governor of the first core.
    pub(crate) governor: String,
    /// Open files that a process may have.
    pub(crate) open_files: String,
    pub(crate) commit: String,
    pub(crate) rustc: String,
    /// Load average of the last minute before the run: how busy the machine was with other things.
    pub(crate) load_before: String,
}

impl Environment {
    /// Describes this machine now.
    pub(crate) fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let value = cpuinfo.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
            value.trim_start_matches([' ', '\t', ':']).to_owned()
        };
        let meminfo = read("/proc/meminfo");
        let kibibytes = meminfo.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
        let limits = read("/proc/self/limits");
        let files = limits.lines().find(|line| line.starts_with("Max open files"));
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let governor = governor.trim();
        Self {
            date: today(),
            cpu: field("model name"),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            virtual_machine: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            memory_gib: kibibytes.unwrap_or(0) / (1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            mitigations: mitigations(),
            governor: if governor.is_empty() { "not shown to this system" } else { governor }.to_owned(),
            open_files: files.and_then(|line| line.split_ascii_whitespace().nth(3)).unwrap_or("").to_owned(),
            commit: said("git", &["describe", "--always", "--dirty"]),
            rustc: said("rustc", &["--version"]),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or("").to_owned(),
        }
    }

    /// One line for terminals.
    pub(crate) fn headline(&self) -> String {
        format!(
            "{} ({} cores), {} GiB, Linux {}, commit {}, load before {}",
            self.cpu, self.cores, self.memory_gib, self.kernel, self.commit, self.load_before
        )
    }

    /// A short name of the machine, for folders.
    pub(crate) fn machine_name(&self) -> String {
        let mut name = String::new();
        let model = self.cpu.split('@').next().unwrap_or_default();
        for word in model.split(|letter: char| !letter.is_ascii_alphanumeric()) {
            let is_noise = ["", "R", "TM", "CPU", "Processor", "with"].contains(&word);
            if !is_noise && name.len() < 24 {
                name.push_str(&word.to_ascii_lowercase());
                name.push('-');
            }
        }
        format!("{name}{}-cores", self.cores)
    }
}

fn mitigations() -> Vec<String> {
    let Ok(entries) = Path::new("/sys/devices/system/cpu/vulnerabilities").read_dir() else {
        return Vec::new();
    };
    let mut all: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(entry.path())))
        .filter(|(_, state)| state.trim() != "Not affected")
        .map(|(name, state)| format!("{name}: {}", state.trim()))
        .collect();
    all.sort();
    all
}

/// What a program says, in one line.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

#[expect(clippy::disallowed_methods, reason = "the tool's edge to the clock")]
fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(mut day: u64) -> String {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

fn read(path: impl AsRef<Path>) -> String {
    files::read(path.as_ref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (20_453, "2025-12-31"),
            (20_454, "2026-01-01"),
        ] {
            assert_eq!(date(day), expected);
        }
    }

    #[test]
    fn a_machine_has_a_short_name() {
        let cpu = "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz".to_owned();
        let environment = Environment { cpu, cores: 8, ..Environment::default() };
        assert_eq!(environment.machine_name(), "intel-xeon-e5-2686-v4-8-cores");
    }

    #[test]
    fn this_machine_is_described() {
        let here = Environment::here();
        assert!(here.cores > 0 && here.memory_gib < 1 << 20 && here.date.starts_with("20"), "{here:?}");
        assert!(!here.kernel.is_empty() && !here.open_files.is_empty());
    }
}

//! Topology: which cores the process may use, and which shard runs where.

use std::fmt;

use dunlin_shard::limits::SHARD_COUNT_MAX;

/// A set of CPU numbers, sorted, without repeats, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(Vec<u16>);

impl CoreList {
    /// Reads `0-3,8`, the form that the kernel writes and taskset takes.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut cores = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (core_number(first)?, core_number(last)?);
            if first > last {
                return Err(format!("has the range {part}, which ends before it begins"));
            }
            cores.extend(first..=last);
        }
        if cores.is_empty() {
            return Err("names no core".to_owned());
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(Self(cores))
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some(first) = rest.first() {
            let run = rest.iter().zip(*first..).take_while(|(core, expected)| *core == expected).count();
            if rest.len() < self.0.len() {
                f.write_str(",")?;
            }
            match rest[run - 1] {
                last if last == *first => write!(f, "{first}")?,
                last => write!(f, "{first}-{last}")?,
            }
            rest = &rest[run..];
        }
        Ok(())
    }
}

/// Which shard runs on which core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// The core of each shard; shards beyond the cores start again at the first core.
    pub(crate) cores: Vec<u16>,
}

impl Topology {
    /// Places shards on cores: one per core of `wanted` (or of `allowed` when nothing is wanted), or `shards` of them in
    /// turn. More shards than cores is a supported shape: each shard has a fixed-file table of its own.
    ///
    /// # Errors
    /// When a wanted core is not one that the process may use; says which to take.
    pub(crate) fn place(
        shards: Option<u16>,
        wanted: Option<&CoreList>,
        allowed: &CoreList,
    ) -> Result<Self, TopologyError> {
        let cores = wanted.unwrap_or(allowed);
        if let Some(core) = cores.0.iter().find(|core| !allowed.0.contains(core)) {
            return Err(TopologyError::CoreNotAllowed { core: *core, allowed: allowed.clone() });
        }
        let per_core = u16::try_from(cores.0.len()).unwrap_or(SHARD_COUNT_MAX).min(SHARD_COUNT_MAX);
        let count = shards.unwrap_or(per_core);
        let cores = cores.0.iter().copied().cycle().take(usize::from(count)).collect();
        Ok(Self { cores })
    }

    /// How many connections the process takes when nobody says: four rings' tables per shard. Further rings would work, but
    /// each costs system calls on every tick.
    pub(crate) fn connections_auto(&self, open_files_max: u64) -> u32 {
        let shards = u64::try_from(self.cores.len()).unwrap_or(u64::MAX);
        let tables = open_files_max.saturating_mul(shards).saturating_mul(RINGS_PER_SHARD_AUTO);
        u32::try_from(tables).unwrap_or(CONNECTIONS_AUTO_MAX).clamp(1, CONNECTIONS_AUTO_MAX)
    }

    /// How many shards there are.
    ///
    /// # Panics
    /// Never: [`Topology::place`] places at most [`SHARD_COUNT_MAX`].
    pub(crate) fn shard_count(&self) -> u16 {
        u16::try_from(self.cores.len()).expect("server.shards is at most SHARD_COUNT_MAX")
    }

    /// `2 shards on cores 0-1`, for the start page.
    pub(crate) fn describe(&self) -> String {
        let mut used = self.cores.clone();
        used.sort_unstable();
        used.dedup();
        let shards = if self.cores.len() == 1 { "shard" } else { "shards" };
        let cores = if used.len() == 1 { "core" } else { "cores" };
        format!("{} {shards} on {cores} {}", self.cores.len(), CoreList(used))
    }
}

/// Why shards cannot be placed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TopologyError {
    /// A core was named that the process may not run on.
    #[error(
        "server.cores names core {core}, but this process may only run on cores {allowed}. Name cores of that list, or \
         widen it (taskset, cgroup cpuset, systemd CPUAffinity)."
    )]
    CoreNotAllowed {
        /// The core.
        core: u16,
        /// What the kernel allows.
        allowed: CoreList,
    },
    /// The kernel's list cannot be read.
    #[error("{path} does not say which cores this process may use ({problem}). Name them with --cores.")]
    Unknown {
        /// The file asked.
        path: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// The cores that the kernel lets this process run on.
///
/// # Errors
/// When the kernel's status file has no such line.
#[expect(clippy::disallowed_methods, reason = "the process asks the kernel once, at the start")]
pub(crate) fn allowed_cores() -> Result<CoreList, TopologyError> {
    let unknown = |problem: String| TopologyError::Unknown { path: STATUS_FILE, problem };
    let status = std::fs::read_to_string(STATUS_FILE).map_err(|error| unknown(error.to_string()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let line = line.ok_or_else(|| unknown("no Cpus_allowed_list".to_owned()))?;
    CoreList::parse(line).map_err(unknown)
}

/// The open-file limit that this process may raise itself to; it bounds the table of one ring.
#[expect(clippy::disallowed_methods, reason = "the process asks the kernel once, at the start")]
pub(crate) fn open_files_max() -> u64 {
    let limits = std::fs::read_to_string(LIMITS_FILE).unwrap_or_default();
    hard_limit(&limits, "Max open files").unwrap_or(OPEN_FILES_USUAL)
}

/// The second number of a line of the kernel's table of limits; `unlimited` is the largest number.
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn core_number(text: &str) -> Result<u16, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|core| *core <= CORE_NUMBER_MAX)
        .ok_or_else(|| format!("has '{text}', which is not a CPU number from 0 to {CORE_NUMBER_MAX}"))
}

const STATUS_FILE: &str = "/proc/self/status";
const LIMITS_FILE: &str = "/proc/self/limits";

/// What Linux gives a process that nobody configured, where its own word cannot be read.
const OPEN_FILES_USUAL: u64 = 1_024;

/// See [`Topology::connections_auto`].
const RINGS_PER_SHARD_AUTO: u64 = 4;

/// A million connections need a few gigabytes of the kernel; who wants more says so.
const CONNECTIONS_AUTO_MAX: u32 = 1 << 20;

/// The kernel's own bound on CPU numbers (`NR_CPUS` of the largest builds is 8,192).
const CORE_NUMBER_MAX: u16 = 8_191;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CoreList {
        CoreList::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    #[test]
    fn core_lists_read_and_print_like_the_kernels() {
        for (text, shown) in
            [("0", "0"), ("0-3", "0-3"), ("5,0-2,2", "0-2,5"), (" 1, 3 ", "1,3"), ("0,1,2,7", "0-2,7")]
        {
            assert_eq!(list(text).to_string(), shown);
        }
        for text in ["", ",", "a", "3-1", "0-99999", "-1"] {
            assert!(CoreList::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_shard_per_core_unless_told_otherwise() {
        let allowed = list("0-3");
        let place = |shards, cores: Option<&str>| {
            let cores = cores.map(list);
            Topology::place(shards, cores.as_ref(), &allowed).map(|topology| topology.cores)
        };
        assert_eq!(place(None, None), Ok(vec![0, 1, 2, 3]));
        assert_eq!(place(Some(1), None), Ok(vec![0]));
        assert_eq!(place(Some(5), Some("1,3")), Ok(vec![1, 3, 1, 3, 1]));
        assert_eq!(place(None, Some("2")), Ok(vec![2]));
        let error = Topology::place(None, Some(&list("4")), &allowed).expect_err("core 4 is not allowed");
        assert!(error.to_string().contains("names core 4, but this process may only run on cores 0-3"));
    }

    #[test]
    fn the_start_page_says_how_many_run_where() {
        assert_eq!(Topology { cores: vec![0, 1] }.describe(), "2 shards on cores 0-1");
        assert_eq!(Topology { cores: vec![3] }.describe(), "1 shard on core 3");
        assert_eq!(Topology { cores: vec![0, 2, 0] }.describe(), "3 shards on cores 0,2");
    }

    #[test]
    fn connections_follow_the_open_file_limit() {
        let two = Topology { cores: vec![0, 1] };
        assert_eq!(two.connections_auto(1_024), 8_192);
        assert_eq!(two.connections_auto(1 << 20), CONNECTIONS_AUTO_MAX);
        assert_eq!(two.connections_auto(u64::MAX), CONNECTIONS_AUTO_MAX);
        let table = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(hard_limit(table, "Max open files"), Some(524_288));
        assert_eq!(hard_limit("Max open files  1 unlimited files", "Max open files"), Some(u64::MAX));
        assert_eq!(hard_limit("", "Max open files"), None);
        assert!(open_files_max() > 0);
    }

    #[test]
    fn the_kernel_allows_at_least_one_core() {
        assert_ne!(allowed_cores().expect("a kernel with a status file").to_string(), "");
    }
}

//! The broker's cgroup (version 2): what its service uses, with the kernel memory that is charged to it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::figures::{Host, number, read, read_number};
use super::process::Process;

/// A cgroup that holds the broker and not the generator.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
}

/// A cgroup at one moment. Times are since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupReading {
    /// Processes in it. More than one: the figures are not the broker's alone.
    pub(crate) process_count: u64,
    /// All memory that is charged to it (memory.current).
    pub(crate) memory_bytes: u64,
    /// Of that, buffers of sockets (memory.stat, sock).
    pub(crate) socket_bytes: u64,
    /// Of that, objects of the kernel (memory.stat, slab).
    pub(crate) slab_bytes: u64,
    /// Time on processors.
    pub(crate) cpu_ns: u64,
    /// Time in which it was held back by its processor quota.
    pub(crate) throttled_ns: u64,
}

impl Cgroup {
    /// The cgroup of `broker`; `None` when it is the root or the generator is in it too, or memory isn't accounted.
    pub(crate) fn of(host: &Host, broker: &Process) -> Option<Self> {
        let path = broker.cgroup()?;
        if path == "/" || Process::own(host).cgroup().as_ref() == Some(&path) {
            return None;
        }
        let folder = mount(host)?.join(path.trim_start_matches('/'));
        folder.join("memory.current").exists().then_some(Self { folder })
    }

    /// Reads it; `None` when it is gone.
    pub(crate) fn read(&self) -> Option<CgroupReading> {
        let text = |name: &str| read(&self.folder.join(name)).unwrap_or_default();
        let memory = text("memory.stat");
        let cpu = text("cpu.stat");
        let microseconds = |name| number(&cpu, name).unwrap_or(0).saturating_mul(1_000);
        Some(CgroupReading {
            process_count: text("cgroup.procs").lines().count() as u64,
            memory_bytes: read_number(&self.folder.join("memory.current"))?,
            socket_bytes: number(&memory, "sock").unwrap_or(0),
            slab_bytes: number(&memory, "slab").unwrap_or(0),
            cpu_ns: microseconds("usage_usec"),
            throttled_ns: microseconds("throttled_usec"),
        })
    }
}

/// Where the hierarchy of version 2 is mounted.
fn mount(host: &Host) -> Option<PathBuf> {
    let text = read(&host.proc("self/mountinfo")).ok()?;
    let line = text
        .lines()
        .find(|line| line.split(" - ").nth(1).is_some_and(|kind| kind.starts_with("cgroup2 ")))?;
    let mounted = Path::new(line.split_ascii_whitespace().nth(4)?);
    Some(mounted.strip_prefix("/sys").map_or_else(|_| mounted.to_owned(), |below| host.sys(below)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_s_cgroup_is_read() {
        let host = Host::recorded();
        let cgroup = Cgroup::of(&host, &Process::new(&host, 4711).unwrap()).unwrap();
        let expected = CgroupReading {
            process_count: 1,
            memory_bytes: 9_576_448,
            socket_bytes: 12_288,
            slab_bytes: 258_048,
            cpu_ns: 8_142_000,
            throttled_ns: 1_500_000,
        };
        assert_eq!(cgroup.read(), Some(expected));
    }

    #[test]
    fn the_generator_s_own_cgroup_is_not_the_broker_s() {
        let host = Host::live();
        assert!(Cgroup::of(&host, &Process::own(&host)).is_none());
    }
}

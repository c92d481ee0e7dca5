//! What the kernel knows of one process: processor time, memory, switches, faults and files.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::figures::{Host, kibibytes, number, read};

/// Reads the figures of one process from /proc.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    folder: PathBuf,
    /// When it was started, so that another process with the same id is not taken for it; `None` for ourselves.
    started_ticks: Option<u64>,
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident set size.
    pub(crate) rss_bytes: u64,
    /// Proportional set size: shared pages are divided among those who share them. The resident set where it may not
    /// be read.
    pub(crate) pss_bytes: u64,
    /// The part of the resident set that belongs to no file: heap and stacks.
    pub(crate) anonymous_bytes: u64,
    /// What has been moved to swap.
    pub(crate) swap_bytes: u64,
}

/// All figures of a process at one moment. Counters are since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessReading {
    /// Time in user mode of all threads, also ended ones. Counted in ticks of 10 ms.
    pub(crate) user_ns: u64,
    /// Time in the kernel of all threads, also ended ones. Counted in ticks of 10 ms.
    pub(crate) system_ns: u64,
    /// The threads that are alive.
    pub(crate) threads: Vec<ThreadReading>,
    /// Page faults that needed no disk.
    pub(crate) minor_faults: u64,
    /// Page faults that waited for a disk.
    pub(crate) major_faults: u64,
    pub(crate) memory: Memory,
    /// Descriptors of the process; `None` when they may not be listed.
    pub(crate) open_files: Option<u64>,
}

/// One thread at one moment. Counters are since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadReading {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// Exact time on a processor.
    pub(crate) run_ns: u64,
    /// Time in which it could have run and another ran instead.
    pub(crate) wait_ns: u64,
    /// Times it gave the processor back: it slept.
    pub(crate) voluntary_switches: u64,
    /// Times the processor was taken from it.
    pub(crate) involuntary_switches: u64,
}

impl Process {
    /// The process with this id.
    ///
    /// # Errors
    /// When there is none, or its figures may not be read.
    pub(crate) fn new(host: &Host, pid: u32) -> io::Result<Self> {
        let mut process = Self { folder: host.proc(pid.to_string()), started_ticks: None };
        let stat = process.stat().map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                io::Error::new(error.kind(), format!("there is no process {pid} on this host"))
            } else {
                error
            }
        })?;
        process.started_ticks = Some(stat.started_ticks);
        Ok(process)
    }

    /// The generator itself.
    pub(crate) fn own(host: &Host) -> Self {
        Self { folder: host.proc("self"), started_ticks: None }
    }

    /// Where its network namespace's figures are.
    pub(crate) fn net_folder(&self) -> PathBuf {
        self.folder.join("net")
    }

    /// Its cgroup of version 2, as a path from the root of the hierarchy.
    pub(crate) fn cgroup(&self) -> Option<String> {
        let text = read(&self.folder.join("cgroup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
    }

    /// Exact run time of all threads of the process that are alive, in nanoseconds.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        let mut total = 0;
        for entry in self.folder.join("task").read_dir()? {
            // A thread may end between being listed and being read; its time is then gone from /proc too.
            if let Ok(text) = read(&entry?.path().join("schedstat")) {
                total += word(&text, 0);
            }
        }
        Ok(total)
    }

    /// Memory in use now.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let mut memory = self.resident()?;
        // smaps_rollup needs the right to trace the process; without it the resident size has to do.
        let rollup = read(&self.folder.join("smaps_rollup")).unwrap_or_default();
        if let Some(bytes) = kibibytes(&rollup, "Pss:") {
            memory.pss_bytes = bytes;
        }
        Ok(memory)
    }

    /// Memory in use now, without the proportional size: the kernel walks all page tables for that.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn resident(&self) -> io::Result<Memory> {
        let status = read(&self.folder.join("status"))?;
        let field = |name| kibibytes(&status, name).unwrap_or(0);
        let rss_bytes = field("VmRSS:");
        Ok(Memory {
            rss_bytes,
            pss_bytes: rss_bytes,
            anonymous_bytes: field("RssAnon:"),
            swap_bytes: field("VmSwap:"),
        })
    }

    /// All figures now. `exact_memory`: with the proportional size, which costs milliseconds per gigabyte.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn read(&self, exact_memory: bool) -> io::Result<ProcessReading> {
        let stat = self.stat()?;
        if self.started_ticks.is_some_and(|started| started != stat.started_ticks) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "another process has its id now"));
        }
        if stat.state == 'Z' || stat.state == 'X' {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has ended and waits for its parent"));
        }
        let mut threads = Vec::new();
        for entry in self.folder.join("task").read_dir()? {
            threads.extend(thread(&entry?.path()));
        }
        Ok(ProcessReading {
            user_ns: stat.user_ticks.saturating_mul(TICK_NS),
            system_ns: stat.system_ticks.saturating_mul(TICK_NS),
            threads,
            minor_faults: stat.minor_faults,
            major_faults: stat.major_faults,
            memory: if exact_memory { self.memory()? } else { self.resident()? },
            open_files: self.folder.join("fd").read_dir().ok().map(|files| files.count() as u64),
        })
    }

    fn stat(&self) -> io::Result<Stat> {
        let path = self.folder.join("stat");
        let text = read(&path)?;
        parse_stat(&text).ok_or_else(|| {
            let text = format!("{} has another form than expected", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }
}

/// The fields of /proc/PID/stat that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    minor_faults: u64,
    major_faults: u64,
    user_ticks: u64,
    system_ticks: u64,
    started_ticks: u64,
}

/// The name stands in parentheses and may hold anything, so the fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // Field 3 of proc(5), the state, is the first behind the name.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        minor_faults: field(10)?,
        major_faults: field(12)?,
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        started_ticks: field(22)?,
    })
}

/// A thread's figures; `None` when it has just ended.
fn thread(folder: &std::path::Path) -> Option<ThreadReading> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let times = read(&folder.join("schedstat")).ok()?;
    let status = read(&folder.join("status")).ok()?;
    Some(ThreadReading {
        id,
        name: read(&folder.join("comm")).ok()?.trim_end().to_owned(),
        run_ns: word(&times, 0),
        wait_ns: word(&times, 1),
        voluntary_switches: number(&status, "voluntary_ctxt_switches:").unwrap_or(0),
        involuntary_switches: number(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0),
    })
}

/// The number at a place in a line of numbers; 0 if it is not there.
fn word(text: &str, place: usize) -> u64 {
    text.split_ascii_whitespace().nth(place).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Nanoseconds in a tick of /proc: USER_HZ is 100 on every architecture that the tools are built for.
pub(crate) const TICK_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_process_is_read() {
        let process = Process::new(&Host::recorded(), 4711).unwrap();
        let reading = process.read(true).unwrap();
        assert_eq!((reading.minor_faults, reading.major_faults), (566, 10));
        assert_eq!((reading.user_ns, reading.system_ns), (0, 0));
        assert_eq!(
            reading.memory,
            Memory {
                rss_bytes: 9_004 << 10,
                pss_bytes: 6_366 << 10,
                anonymous_bytes: 1_256 << 10,
                swap_bytes: 0
            }
        );
        let [thread] = &reading.threads[..] else { panic!("one thread") };
        assert_eq!((thread.id, thread.name.as_str()), (4711, "mosquitto"));
        assert_eq!((thread.run_ns, thread.wait_ns), (8_142_331, 3_552_797));
        assert_eq!((thread.voluntary_switches, thread.involuntary_switches), (26, 4));
        assert_eq!(process.cpu_ns().unwrap(), 8_142_331);
        assert_eq!(process.cgroup().as_deref(), Some("/system.slice/mosquitto.service"));
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let tail = "S 1 1 1 0 -1 0 5 0 6 0 7 8 0 0 20 0 1 0 99 0 0";
        let expected = Stat {
            state: 'S',
            minor_faults: 5,
            major_faults: 6,
            user_ticks: 7,
            system_ticks: 8,
            started_ticks: 99,
        };
        for name in ["x", "a b", "a) S 1 (b"] {
            assert_eq!(parse_stat(&format!("12 ({name}) {tail}")), Some(expected), "{name}");
        }
        assert_eq!(parse_stat("12 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn our_own_process_has_used_time_and_memory() {
        let process = Process::own(&Host::live());
        assert!(process.cpu_ns().unwrap() > 0);
        let reading = process.read(true).unwrap();
        assert!(reading.memory.rss_bytes > 0 && reading.memory.pss_bytes > 0);
        assert!(reading.open_files.unwrap() > 2);
        assert!(!reading.threads.is_empty());
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(Process::new(&Host::live(), u32::MAX).is_err());
    }

    #[test]
    fn another_process_with_the_same_id_is_not_taken_for_the_first() {
        let mut process = Process::new(&Host::recorded(), 4711).unwrap();
        process.started_ticks = Some(1);
        assert!(process.read(false).is_err());
    }
}

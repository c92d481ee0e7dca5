//! What the operating system knows about the broker: processor time and memory, read by process id.

use std::io;
use std::path::{Path, PathBuf};

/// Reads the figures of one process from /proc.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    folder: PathBuf,
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident set size.
    pub(crate) rss_bytes: u64,
    /// Proportional set size: shared pages are divided among those who share them.
    pub(crate) pss_bytes: u64,
}

impl Process {
    /// The process with this id.
    ///
    /// # Errors
    /// When there is none, or its figures may not be read.
    pub(crate) fn new(pid: u32) -> io::Result<Self> {
        let process = Self { folder: PathBuf::from(format!("/proc/{pid}")) };
        process.cpu_ns()?;
        Ok(process)
    }

    /// The generator itself.
    pub(crate) fn own() -> Self {
        Self { folder: PathBuf::from("/proc/self") }
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
                total += text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
            }
        }
        Ok(total)
    }

    /// Memory in use now.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let status = read(&self.folder.join("status"))?;
        // smaps_rollup needs the right to trace the process; without it the resident size has to do.
        let rollup = read(&self.folder.join("smaps_rollup")).unwrap_or_default();
        let rss_bytes = kibibytes(&status, "VmRSS:").unwrap_or(0);
        Ok(Memory { rss_bytes, pss_bytes: kibibytes(&rollup, "Pss:").unwrap_or(rss_bytes) })
    }
}

/// Bytes of kernel memory in slab caches of the whole host (sockets live there), from /proc/meminfo.
pub(crate) fn kernel_slab_bytes() -> u64 {
    read(Path::new("/proc/meminfo")).ok().and_then(|text| kibibytes(&text, "Slab:")).unwrap_or(0)
}

#[expect(clippy::disallowed_methods, reason = "the generator's edge to /proc")]
fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// The value of a `Name:  123 kB` line, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_units_are_read() {
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kibibytes("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn our_own_process_has_used_time_and_memory() {
        let process = Process::own();
        assert!(process.cpu_ns().unwrap() > 0);
        let memory = process.memory().unwrap();
        assert!(memory.rss_bytes > 0 && memory.pss_bytes > 0);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(Process::new(u32::MAX).is_err());
    }
}

//! What this host says about itself, as far as it bounds the number of connections. All of it is read from /proc and
//! /sys; what can't be read is unknown and bounds nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::port;

/// Settings and figures of a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The range that the kernel picks local ports from.
    pub(crate) ephemeral: (u16, u16),
    /// Ports kept for listeners.
    pub(crate) reserved: Vec<(u16, u16)>,
    /// RLIMIT_NOFILE, soft and hard.
    pub(crate) open_files: (Option<u64>, Option<u64>),
    /// RLIMIT_MEMLOCK in bytes; `None`: none, or the process is exempt from it.
    pub(crate) locked_bytes_max: Option<u64>,
    /// fs.file-max, and files open now; `None`: the process is exempt from it.
    pub(crate) file_max: Option<(u64, u64)>,
    /// fs.nr_open: the highest RLIMIT_NOFILE.
    pub(crate) nr_open: Option<u64>,
    /// Memory that can be had without swapping.
    pub(crate) memory_available_bytes: Option<u64>,
    /// What is left of the control group's memory limit.
    pub(crate) cgroup_left_bytes: Option<u64>,
    /// Upper bound of net.ipv4.tcp_mem, in pages of 4 KiB.
    pub(crate) tcp_pages_max: Option<u64>,
    /// net.core.somaxconn: the longest queue of connections that wait to be accepted.
    pub(crate) somaxconn: Option<u64>,
    /// net.ipv4.tcp_max_syn_backlog.
    pub(crate) syn_backlog: Option<u64>,
    /// Connections that the packet filter tracks at most, and now.
    pub(crate) tracked: Option<(u64, u64)>,
    /// Sockets in TIME_WAIT now.
    pub(crate) time_wait: Option<u64>,
    /// Open files that the broker's process may have, if it is known.
    pub(crate) broker_files_max: Option<u64>,
    /// kernel.io_uring_disabled: 0 allows it to all, 1 to one group, 2 to nobody.
    pub(crate) io_uring_disabled: Option<u64>,
    /// Addresses that belong to this host, with the length of their prefix.
    pub(crate) local: Vec<(IpAddr, u8)>,
}

impl Facts {
    /// Reads them below `root` ("/", or a recording of another host).
    pub(crate) fn read(root: &Path, broker_pid: Option<u32>) -> Self {
        let host = Host { root: root.to_owned() };
        let limits = host.text("proc/self/limits");
        let exempt = host.has_capability(CAP_IPC_LOCK);
        let many_files = host.has_capability(CAP_SYS_ADMIN);
        let open_files = limit(&limits, "Max open files");
        let proc = root.join("proc");
        Self {
            kernel: host.text("proc/sys/kernel/osrelease").trim().to_owned(),
            ephemeral: port::ephemeral_range(&proc).unwrap_or(KERNEL_DEFAULT_PORTS),
            reserved: port::reserved_ports(&proc).unwrap_or_default(),
            open_files,
            locked_bytes_max: limit(&limits, "Max locked memory").0.filter(|_| !exempt),
            file_max: host
                .number("proc/sys/fs/file-max")
                .zip(host.number("proc/sys/fs/file-nr"))
                .filter(|_| !many_files),
            nr_open: host.number("proc/sys/fs/nr_open"),
            memory_available_bytes: host.field("proc/meminfo", "MemAvailable:").map(|kib| kib * 1024),
            cgroup_left_bytes: host.cgroup_left_bytes(),
            tcp_pages_max: host.numbers("proc/sys/net/ipv4/tcp_mem").get(2).copied(),
            somaxconn: host.number("proc/sys/net/core/somaxconn"),
            syn_backlog: host.number("proc/sys/net/ipv4/tcp_max_syn_backlog"),
            tracked: host
                .number("proc/sys/net/netfilter/nf_conntrack_max")
                .zip(host.number("proc/sys/net/netfilter/nf_conntrack_count")),
            time_wait: host.time_wait(),
            broker_files_max: broker_pid
                .and_then(|pid| limit(&host.text(&format!("proc/{pid}/limits")), "Max open files").0),
            io_uring_disabled: host.number("proc/sys/kernel/io_uring_disabled"),
            local: host.local_addresses(),
        }
    }

    /// Whether an address belongs to this host.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        self.local.iter().any(|(network, bits)| contains(*network, *bits, address))
    }
}

/// Whether `address` is in the network.
fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differ = u32::from(network) ^ u32::from(address);
            differ.checked_shr(32_u32.saturating_sub(bits.into())).is_none_or(|high| high == 0)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differ = u128::from(network) ^ u128::from(address);
            differ.checked_shr(128_u32.saturating_sub(bits.into())).is_none_or(|high| high == 0)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// The soft and the hard value of a line of /proc/PID/limits; `None` is unlimited or unknown.
fn limit(text: &str, name: &str) -> (Option<u64>, Option<u64>) {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut words = line.split_ascii_whitespace().map(|word| word.parse().ok());
    (words.next().flatten(), words.next().flatten())
}

/// A host's files.
struct Host {
    root: PathBuf,
}

impl Host {
    /// The text of a file, empty if it can't be read.
    #[expect(clippy::disallowed_methods, reason = "the generator's edge to /proc and /sys")]
    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    fn numbers(&self, path: &str) -> Vec<u64> {
        self.text(path).split_ascii_whitespace().map_while(|word| word.parse().ok()).collect()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.numbers(path).first().copied()
    }

    fn field(&self, path: &str, name: &str) -> Option<u64> {
        let text = self.text(path);
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Whether the process has a capability, by its bit.
    fn has_capability(&self, bit: u32) -> bool {
        let status = self.text("proc/self/status");
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
        let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok());
        mask.is_some_and(|mask| mask & (1 << bit) != 0)
    }

    fn time_wait(&self) -> Option<u64> {
        let text = self.text("proc/net/sockstat");
        let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        let mut words = line.split_ascii_whitespace();
        words.find(|word| *word == "tw")?;
        words.next()?.parse().ok()
    }

    /// What is left of the tightest memory limit of the control groups above this process.
    fn cgroup_left_bytes(&self) -> Option<u64> {
        let groups = self.text("proc/self/cgroup");
        let path = |line: &str| line.splitn(3, ':').nth(2).map(|path| path.trim_matches('/').to_owned());
        let unified = groups.lines().find(|line| line.starts_with("0::")).and_then(path);
        let old = groups.lines().find(|line| line.contains(":memory:")).and_then(path);
        let unified =
            unified.and_then(|path| self.tightest("sys/fs/cgroup", &path, "memory.max", "memory.current"));
        let old = old.and_then(|path| {
            self.tightest("sys/fs/cgroup/memory", &path, "memory.limit_in_bytes", "memory.usage_in_bytes")
        });
        [unified, old].into_iter().flatten().min()
    }

    fn tightest(&self, mount: &str, path: &str, limit: &str, usage: &str) -> Option<u64> {
        let group = Path::new(path);
        group
            .ancestors()
            .filter_map(|group| {
                let file = |name: &str| self.number(Path::new(mount).join(group).join(name).to_str()?);
                Some(file(limit).filter(|limit| *limit < UNLIMITED)?.saturating_sub(file(usage)?))
            })
            .min()
    }

    /// What the routing tables call local: addresses of interfaces, and whole networks such as 127.0.0.0/8.
    fn local_addresses(&self) -> Vec<(IpAddr, u8)> {
        let mut found = Vec::new();
        let mut base: Option<Ipv4Addr> = None;
        for line in self.text("proc/net/fib_trie").lines() {
            let line = line.trim();
            if let Some(address) = line.strip_prefix("|-- ") {
                base = address.parse().ok();
            } else if let (Some(base), Some((bits, "host LOCAL"))) = (base, line.split_once(' ')) {
                let bits = bits.strip_prefix('/').and_then(|bits| bits.parse().ok());
                found.extend(bits.map(|bits| (IpAddr::V4(base), bits)));
            }
        }
        for line in self.text("proc/net/ipv6_route").lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [network, bits, .., flags, _device] = words.as_slice() else { continue };
            let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
            let network = u128::from_str_radix(network, 16).ok();
            let bits = u8::from_str_radix(bits, 16).ok();
            if flags & ROUTE_IS_LOCAL != 0 {
                let pair = network.zip(bits);
                found.extend(pair.map(|(network, bits)| (IpAddr::V6(Ipv6Addr::from(network)), bits)));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// net.ipv4.ip_local_port_range of a kernel that nobody has changed.
const KERNEL_DEFAULT_PORTS: (u16, u16) = (32_768, 60_999);
/// A limit of this many bytes is none: the old hierarchy of control groups writes the largest number of pages.
const UNLIMITED: u64 = 1 << 60;
/// Exempts from RLIMIT_MEMLOCK.
const CAP_IPC_LOCK: u32 = 14;
/// Exempts from fs.file-max.
const CAP_SYS_ADMIN: u32 = 21;
/// RTF_LOCAL: the route leads to this host.
const ROUTE_IS_LOCAL: u32 = 0x8000_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::preflight::tests::recording;

    #[test]
    fn a_recording_is_read_completely() {
        let facts = recording("two-cores");
        assert_eq!(facts.ephemeral, (32_768, 60_999));
        assert_eq!(facts.open_files, (Some(20_000), Some(20_000)));
        assert_eq!(facts.locked_bytes_max, None, "the process may lock memory");
        assert_eq!((facts.nr_open, facts.file_max), (Some(1_048_576), None));
        assert!(facts.memory_available_bytes.unwrap() > 20 << 30);
        assert_eq!(facts.somaxconn, Some(4_096));
        assert!(facts.is_local([127, 9, 9, 9].into()) && facts.is_local("::1".parse().unwrap()));
        assert!(!facts.is_local([10, 0, 0, 1].into()));
    }

    #[test]
    fn a_plain_account_on_a_small_host_is_read_too() {
        let facts = recording("small");
        assert_eq!(facts.open_files, (Some(1_024), Some(524_288)));
        assert_eq!(facts.locked_bytes_max, Some(1 << 20));
        assert_eq!(facts.tracked, Some((65_536, 5_536)));
        assert_eq!(facts.cgroup_left_bytes, Some(512 << 20));
        assert_eq!(facts.reserved, [(1_883, 1_883), (40_000, 40_099)]);
        assert!(facts.is_local([192, 0, 2, 7].into()) && !facts.is_local([192, 0, 2, 8].into()));
    }

    #[test]
    fn a_host_that_says_nothing_bounds_nothing() {
        let facts = Facts::read(Path::new("/nonexistent"), Some(1));
        assert_eq!(
            (facts.file_max, facts.memory_available_bytes, facts.cgroup_left_bytes),
            (None, None, None)
        );
    }

    #[test]
    fn networks_contain_their_addresses() {
        assert!(contains([127, 0, 0, 0].into(), 8, [127, 255, 0, 1].into()));
        assert!(!contains([127, 0, 0, 0].into(), 32, [127, 0, 0, 1].into()));
        assert!(contains("::".parse().unwrap(), 0, "2001:db8::1".parse().unwrap()));
        assert!(!contains("2001:db8::".parse().unwrap(), 64, "2001:db8:0:1::".parse().unwrap()));
    }
}

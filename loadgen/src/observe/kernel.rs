//! What the kernel knows beside the process: memory of sockets, queues that overflowed, retransmits, cores.
//!
//! Figures of the network belong to a network namespace: they are read through the broker's process, so that a broker
//! in a namespace of its own shows its own. Slab caches and cores belong to the whole host, whoever uses them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::figures::{Host, column, kibibytes, pair, read};
use super::process::TICK_NS;

/// The host at one moment. Counters are since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelReading {
    pub(crate) sockets: Sockets,
    pub(crate) slab: Slab,
    pub(crate) counters: Counters,
    pub(crate) cores: Vec<CoreReading>,
}

/// Sockets of the namespace and the memory of their buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sockets {
    /// TCP sockets in use, over IPv4 and IPv6. On one host both ends of a connection count.
    pub(crate) tcp_count: u64,
    /// Of those, the ones that no process holds any more.
    pub(crate) orphan_count: u64,
    /// Closed connections that wait for stragglers.
    pub(crate) time_wait_count: u64,
    /// Buffers of all TCP sockets of the host, in bytes.
    pub(crate) tcp_buffer_bytes: u64,
}

/// Memory of the kernel's caches on the whole host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slab {
    /// All caches.
    pub(crate) total_bytes: u64,
    /// Of those, what can't be given back on demand. Sockets are here.
    pub(crate) unreclaimable_bytes: u64,
    /// The caches that sockets live in. Empty without the right to read /proc/slabinfo, which is root's.
    pub(crate) socket_caches: Vec<SlabCache>,
}

/// One cache of the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlabCache {
    pub(crate) name: String,
    /// Objects in use.
    pub(crate) object_count: u64,
    /// Size of an object.
    pub(crate) object_bytes: u64,
    /// Memory of the cache, with the places that are free.
    pub(crate) bytes: u64,
}

impl Slab {
    /// Memory of all caches that sockets live in; `None` when they may not be read.
    pub(crate) fn socket_bytes(&self) -> Option<u64> {
        (!self.socket_caches.is_empty()).then(|| self.socket_caches.iter().map(|cache| cache.bytes).sum())
    }
}

/// Things that should not happen in a good run, counted by the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Connections that found a listener's queue full (ListenOverflows).
    pub(crate) listen_overflows: u64,
    /// Handshakes that a listener dropped for any reason (ListenDrops).
    pub(crate) listen_drops: u64,
    /// First handshake packets dropped because the queue of handshakes was full (TCPReqQFullDrop).
    pub(crate) request_queue_full_drops: u64,
    /// Segments sent again (RetransSegs).
    pub(crate) retransmits: u64,
    /// Retransmission timers that ran out (TCPTimeouts).
    pub(crate) timeouts: u64,
    /// Times TCP came under memory pressure (TCPMemoryPressures).
    pub(crate) memory_pressures: u64,
    /// Connections ended for want of memory (TCPAbortOnMemory).
    pub(crate) aborts_on_memory: u64,
    /// Segments dropped because a socket's backlog was full (TCPBacklogDrop).
    pub(crate) backlog_drops: u64,
    /// Segments dropped because a receive queue was full (TCPRcvQDrop).
    pub(crate) receive_queue_drops: u64,
    /// Connections reset while established (EstabResets).
    pub(crate) resets: u64,
    /// Packets dropped between card and stack (softnet_stat, second column).
    pub(crate) softnet_drops: u64,
    /// Times the receive loop of the kernel ran out of its budget (softnet_stat, third column).
    pub(crate) softnet_squeezes: u64,
}

impl Counters {
    /// What was counted from `earlier` until now.
    pub(crate) const fn since(&self, earlier: &Self) -> Self {
        const fn d(now: u64, earlier: u64) -> u64 {
            now.saturating_sub(earlier)
        }
        Self {
            listen_overflows: d(self.listen_overflows, earlier.listen_overflows),
            listen_drops: d(self.listen_drops, earlier.listen_drops),
            request_queue_full_drops: d(self.request_queue_full_drops, earlier.request_queue_full_drops),
            retransmits: d(self.retransmits, earlier.retransmits),
            timeouts: d(self.timeouts, earlier.timeouts),
            memory_pressures: d(self.memory_pressures, earlier.memory_pressures),
            aborts_on_memory: d(self.aborts_on_memory, earlier.aborts_on_memory),
            backlog_drops: d(self.backlog_drops, earlier.backlog_drops),
            receive_queue_drops: d(self.receive_queue_drops, earlier.receive_queue_drops),
            resets: d(self.resets, earlier.resets),
            softnet_drops: d(self.softnet_drops, earlier.softnet_drops),
            softnet_squeezes: d(self.softnet_squeezes, earlier.softnet_squeezes),
        }
    }

    /// The counters that say that the host or the broker lost something, with their kernel names; zeros left out.
    pub(crate) fn alarms(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("ListenOverflows", self.listen_overflows),
            ("ListenDrops", self.listen_drops),
            ("TCPReqQFullDrop", self.request_queue_full_drops),
            ("RetransSegs", self.retransmits),
            ("TCPMemoryPressures", self.memory_pressures),
            ("TCPAbortOnMemory", self.aborts_on_memory),
            ("TCPBacklogDrop", self.backlog_drops),
            ("TCPRcvQDrop", self.receive_queue_drops),
            ("softnet drops", self.softnet_drops),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// One core at one moment, in nanoseconds since the host's start. Counted in ticks of 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CoreReading {
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
    /// Handling interrupts and what follows them: most of TCP's receive path.
    pub(crate) interrupts_ns: u64,
    /// Taken by the hypervisor for others.
    pub(crate) stolen_ns: u64,
    /// Doing nothing, also while a disk is waited for.
    pub(crate) idle_ns: u64,
}

/// Reads the host. `net`: the folder with the figures of the network namespace that is meant. `caches`: with the caches that
/// sockets live in; the kernel counts the objects of all its caches for that.
pub(crate) fn read_kernel(host: &Host, net: &Path, page_bytes: u64, caches: bool) -> KernelReading {
    let text = |path: &Path| read(path).unwrap_or_default();
    let slabinfo = if caches { text(&host.proc("slabinfo")) } else { String::new() };
    KernelReading {
        sockets: parse_sockets(&text(&net.join("sockstat")), &text(&net.join("sockstat6")), page_bytes),
        slab: parse_slab(&text(&host.proc("meminfo")), &slabinfo, page_bytes),
        counters: parse_counters(
            &text(&net.join("snmp")),
            &text(&net.join("netstat")),
            &text(&host.proc("net/softnet_stat")),
        ),
        cores: parse_cores(&text(&host.proc("stat"))),
    }
}

/// Bytes of kernel memory in slab caches of the whole host (sockets live there), from /proc/meminfo.
pub(crate) fn slab_bytes(host: &Host) -> u64 {
    read(&host.proc("meminfo")).ok().and_then(|text| kibibytes(&text, "Slab:")).unwrap_or(0)
}

/// The size of a page of memory, from the vector that the kernel hands to every program; 4 KiB if it can't be read.
#[expect(clippy::disallowed_methods, reason = "the generator's edge to /proc")]
pub(crate) fn page_bytes(host: &Host) -> u64 {
    const WORD: usize = size_of::<usize>();
    let vector = std::fs::read(host.proc("self/auxv")).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    let found = vector.chunks_exact(2 * WORD).find_map(|entry| {
        let (key, value) = entry.split_at(WORD);
        if word(key)? == AT_PAGESZ { word(value) } else { None }
    });
    found.map_or(4_096, |bytes| bytes as u64)
}

fn parse_sockets(sockstat: &str, sockstat6: &str, page_bytes: u64) -> Sockets {
    let tcp = |key| pair(sockstat, "TCP:", key).unwrap_or(0);
    Sockets {
        tcp_count: tcp("inuse") + pair(sockstat6, "TCP6:", "inuse").unwrap_or(0),
        orphan_count: tcp("orphan"),
        time_wait_count: tcp("tw"),
        tcp_buffer_bytes: tcp("mem").saturating_mul(page_bytes),
    }
}

fn parse_slab(meminfo: &str, slabinfo: &str, page_bytes: u64) -> Slab {
    Slab {
        total_bytes: kibibytes(meminfo, "Slab:").unwrap_or(0),
        unreclaimable_bytes: kibibytes(meminfo, "SUnreclaim:").unwrap_or(0),
        socket_caches: slabinfo.lines().filter_map(|line| parse_cache(line, page_bytes)).collect(),
    }
}

/// `name active total size per-slab pages-per-slab : tunables … : slabdata active-slabs slabs shared`.
fn parse_cache(line: &str, page_bytes: u64) -> Option<SlabCache> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let name = *words.first()?;
    if !SOCKET_CACHES.contains(&name) {
        return None;
    }
    let field = |place: usize| words.get(place)?.parse::<u64>().ok();
    let slabs = field(14)?;
    Some(SlabCache {
        name: name.to_owned(),
        object_count: field(1)?,
        object_bytes: field(3)?,
        bytes: slabs.saturating_mul(field(5)?).saturating_mul(page_bytes),
    })
}

fn parse_counters(snmp: &str, netstat: &str, softnet: &str) -> Counters {
    let tcp = |key| column(snmp, "Tcp:", key).unwrap_or(0);
    let more = |key| column(netstat, "TcpExt:", key).unwrap_or(0);
    // One line per core, in hexadecimal.
    let softnet = |place: usize| {
        let cell = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(place)?, 16).ok();
        softnet.lines().filter_map(cell).sum()
    };
    Counters {
        listen_overflows: more("ListenOverflows"),
        listen_drops: more("ListenDrops"),
        request_queue_full_drops: more("TCPReqQFullDrop"),
        retransmits: tcp("RetransSegs"),
        timeouts: more("TCPTimeouts"),
        memory_pressures: more("TCPMemoryPressures"),
        aborts_on_memory: more("TCPAbortOnMemory"),
        backlog_drops: more("TCPBacklogDrop"),
        receive_queue_drops: more("TCPRcvQDrop"),
        resets: tcp("EstabResets"),
        softnet_drops: softnet(1),
        softnet_squeezes: softnet(2),
    }
}

/// Lines `cpuN user nice system idle iowait irq softirq steal …`; the one without a number is the sum.
fn parse_cores(stat: &str) -> Vec<CoreReading> {
    let core = |line: &str| {
        let rest = line.strip_prefix("cpu").filter(|rest| !rest.starts_with(' '))?;
        let ticks: Vec<u64> =
            rest.split_ascii_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or(0).saturating_mul(TICK_NS);
        Some(CoreReading {
            user_ns: at(0) + at(1),
            system_ns: at(2),
            idle_ns: at(3) + at(4),
            interrupts_ns: at(5) + at(6),
            stolen_ns: at(7),
        })
    };
    stat.lines().filter_map(core).collect()
}

/// The caches that a TCP connection takes objects from. The kernel merges caches of like size unless it is told not to
/// (`slab_nomerge`), and a merged one is listed under one of its names only.
const SOCKET_CACHES: [&str; 9] = [
    "TCP",
    "TCPv6",
    "tw_sock_TCP",
    "tw_sock_TCPv6",
    "request_sock_TCP",
    "request_sock_TCPv6",
    "sock_inode_cache",
    "skbuff_small_head",
    "skbuff_head_cache",
];
/// The entry of the auxiliary vector with the size of a page.
const AT_PAGESZ: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> KernelReading {
        let host = Host::recorded();
        read_kernel(&host, &host.proc("4711/net"), 4_096, true)
    }

    #[test]
    fn a_recorded_host_is_read() {
        let reading = recorded();
        assert_eq!((reading.sockets.tcp_count, reading.sockets.time_wait_count), (10, 1));
        assert_eq!(
            (reading.slab.total_bytes, reading.slab.unreclaimable_bytes),
            (654_248 << 10, 104_528 << 10)
        );
        let tcp = reading.slab.socket_caches.iter().find(|cache| cache.name == "TCP").unwrap();
        assert_eq!(tcp.object_bytes, 2_368);
        assert_eq!(tcp.bytes % (8 * 4_096), 0);
        assert!(!reading.slab.socket_caches.iter().any(|cache| cache.name == "dentry"));
        assert!(reading.slab.socket_bytes().unwrap() >= tcp.bytes);
        assert_eq!(reading.cores.len(), 2);
        assert_eq!(reading.cores[0].user_ns, (596_246 + 57_252) * TICK_NS);
        assert_eq!(reading.cores[0].interrupts_ns, 42_267 * TICK_NS);
        assert_eq!(reading.cores[1].stolen_ns, 2_895 * TICK_NS);
        assert!(reading.counters.retransmits >= 130_343);
    }

    #[test]
    fn sockets_of_both_families_count_and_buffers_are_pages() {
        let four = "sockets: used 30\nTCP: inuse 7 orphan 1 tw 1002 alloc 9 mem 228\nUDP: inuse 5 mem 9\n";
        let expected =
            Sockets { tcp_count: 10, orphan_count: 1, time_wait_count: 1_002, tcp_buffer_bytes: 228 * 4_096 };
        assert_eq!(parse_sockets(four, "TCP6: inuse 3\n", 4_096), expected);
        assert_eq!(parse_sockets("", "", 4_096), Sockets::default());
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let snmp = "Tcp: MaxConn RetransSegs EstabResets\nTcp: -1 5 6\n";
        let netstat =
            "TcpExt: ListenOverflows ListenDrops TCPReqQFullDrop TCPMemoryPressures\nTcpExt: 1 2 3 4\n";
        let softnet = "0a 02 03 0\n0b 10 01 0\n";
        let counters = parse_counters(snmp, netstat, softnet);
        let expected = Counters {
            listen_overflows: 1,
            listen_drops: 2,
            request_queue_full_drops: 3,
            memory_pressures: 4,
            retransmits: 5,
            resets: 6,
            softnet_drops: 0x12,
            softnet_squeezes: 4,
            ..Counters::default()
        };
        assert_eq!(counters, expected);
        assert_eq!(counters.since(&counters), Counters::default());
        assert_eq!(counters.alarms().first(), Some(&("ListenOverflows", 1)));
        assert!(Counters::default().alarms().is_empty());
    }

    #[test]
    fn what_may_not_be_read_is_absent() {
        let slab = parse_slab("", "", 4_096);
        assert_eq!(slab.socket_bytes(), None);
        assert_eq!(parse_cores("ctxt 5\ncpu  1 2 3\n"), []);
    }

    #[test]
    fn the_page_size_of_this_host_is_a_power_of_two() {
        assert!(page_bytes(&Host::live()).is_power_of_two());
    }
}

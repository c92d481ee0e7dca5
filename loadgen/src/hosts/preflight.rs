//! How many connections this host can open, what stops it first, and what to change.
//!
//! The calculation is pure: facts and a wish go in, a list of limits comes out. A *limit* stops the run; an *advice*
//! may slow it down or bite later. Each says what was found, how many connections it allows, and the
//! command that raises it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use dunlin_ring::RingConfig;

use super::facts::Facts;
use super::port::PortChoice;
use super::route::{PER_SOURCE, RoutePlan};
use super::source::SourceList;
use crate::engine::ring_sizes;

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Connections at the same time.
    pub(crate) connections: u32,
    /// Where they go to and come from.
    pub(crate) route: RoutePlan,
    /// Connections per ring at most.
    pub(crate) per_ring: u32,
    /// Connections that are being opened at the same time.
    pub(crate) concurrency: u32,
    /// The broker's process, if it is known.
    pub(crate) broker_pid: Option<u32>,
}

/// One thing that bounds the number of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Limit {
    /// What.
    pub(crate) name: &'static str,
    /// Connections that it allows.
    pub(crate) allows: u64,
    /// Whether more than that is impossible, not merely unwise.
    pub(crate) hard: bool,
    /// What was found.
    pub(crate) found: String,
    /// How to allow more.
    pub(crate) change: String,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Preflight {
    /// Connections that were asked for.
    pub(crate) connections: u32,
    /// Connections that this host can open.
    pub(crate) possible: u64,
    /// Whether that suffices.
    pub(crate) enough: bool,
    /// Bytes of this host's memory that one connection takes, and for what.
    pub(crate) connection_bytes: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// All that bounds, the tightest first; hard ones before advice.
    pub(crate) limits: Vec<Limit>,
}

impl Preflight {
    /// Weighs a wish against this host.
    pub(crate) fn here(wish: &Wish) -> Self {
        Self::of(&Facts::read(Path::new("/"), wish.broker_pid), wish)
    }

    /// Weighs a wish against a host.
    pub(crate) fn of(facts: &Facts, wish: &Wish) -> Self {
        let connection_bytes = connection_bytes(facts, &wish.route.targets);
        let mut limits = tuple_limits(facts, wish);
        limits.extend(ring_limits(facts, wish));
        limits.extend(file_limits(facts, wish));
        limits.extend(memory_limits(facts, wish, connection_bytes));
        limits.extend(network_advice(facts, wish));
        limits.sort_by_key(|limit| (!limit.hard, limit.allows));
        let possible = limits.iter().find(|limit| limit.hard).map_or(u64::MAX, |limit| limit.allows);
        let enough = possible >= u64::from(wish.connections);
        let kernel = facts.kernel.clone();
        Self { connections: wish.connections, possible, enough, connection_bytes, kernel, limits }
    }

    /// What stands in the way of the wish, and what may slow it down.
    pub(crate) fn in_the_way(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter().filter(|limit| limit.allows < u64::from(self.connections))
    }

    /// The answer for people.
    pub(crate) fn text(&self) -> String {
        let verdict = if self.enough { "can be opened" } else { "CANNOT be opened" };
        let mut text = format!(
            "{} connections {verdict} from this host (Linux {}): {} are possible, at {} B of memory each\n\n",
            self.connections, self.kernel, self.possible, self.connection_bytes
        );
        for limit in &self.limits {
            let short = limit.allows < u64::from(self.connections);
            let mark = match (short, limit.hard) {
                (true, true) => "STOP",
                (true, false) => "warn",
                (false, _) => "ok",
            };
            let row = writeln!(text, "{mark:<5} {:<22} {:>14}  {}", limit.name, limit.allows, limit.found);
            row.expect("writing to a String can't fail");
            if short {
                writeln!(text, "      change: {}", limit.change).expect("writing to a String can't fail");
            }
        }
        text
    }
}

/// Weighs this host before `connections` are opened, if they are many: refuses what is impossible and prints what may
/// slow it down on the standard error stream.
///
/// # Errors
/// When the host can't open that many; the text says what to change.
pub(crate) fn before(route: &RoutePlan, connections: u32, per_ring: u32) -> io::Result<()> {
    if connections < CHECKED_FROM || route.unchecked {
        return Ok(());
    }
    let wish = Wish { connections, route: route.clone(), per_ring, concurrency: 0, broker_pid: None };
    let preflight = Preflight::here(&wish);
    let mut text = String::new();
    for limit in preflight.in_the_way() {
        let (name, found, change) = (limit.name, &limit.found, &limit.change);
        writeln!(text, "  {name}: {found}; change: {change}").expect("writing to a String can't fail");
    }
    if preflight.enough {
        return io::stderr().write_all(text.as_bytes());
    }
    let possible = preflight.possible;
    Err(io::Error::other(format!(
        "this host can open {possible} of {connections} connections (--no-preflight tries nevertheless)\n{text}"
    )))
}

/// Kernel memory of a ring, which counts as locked: requests, completions, the list of receive buffers, and pages for
/// their heads.
fn ring_bytes(sizes: RingConfig) -> u64 {
    u64::from(sizes.requests) * (64 + 4)
        + u64::from(sizes.completions) * 16
        + u64::from(sizes.buffers) * 16
        + 4 * 4096
}

/// Memory that a connection takes on this host: its socket and the generator's part, and if the broker is here too,
/// the broker's socket and its part.
fn connection_bytes(facts: &Facts, targets: &[SocketAddr]) -> u64 {
    let here = targets.iter().any(|target| facts.is_local(target.ip()));
    let near = SOCKET_BYTES + GENERATOR_BYTES;
    if here { near + SOCKET_BYTES + BROKER_BYTES } else { near }
}

fn tuple_limits(facts: &Facts, wish: &Wish) -> Vec<Limit> {
    let route = &wish.route;
    let targets = u64::try_from(route.targets.len()).unwrap_or(u64::MAX);
    let ports = ports_per_source(facts, route);
    let mut fewest = u64::MAX;
    let mut unusable = 0;
    let mut sources = 0;
    for target in &route.targets {
        let list = SourceList::for_peer(&route.sources, target.ip());
        let count = u64::from(list.count());
        let usable = if route.free_bind { count } else { usable(facts, &list) };
        let addresses = if route.sources.is_empty() { 1 } else { usable };
        unusable = unusable.max(count - usable);
        sources = sources.max(addresses);
        fewest = fewest.min(addresses.saturating_mul(ports));
    }
    let change = if route.ports == PortChoice::Kernel {
        "--ports 1024-65535 (the generator then walks through them), a wider --source, or more --target addresses"
    } else {
        "a wider --source (127.1.0.0/16 on the loopback device), --ports 1024-65535, or more --target addresses"
    };
    let mut limits = vec![Limit {
        name: "source × port × target",
        allows: fewest.saturating_mul(targets),
        hard: true,
        found: format!("{sources} local addresses × {ports} ports × {targets} destinations"),
        change: change.to_owned(),
    }];
    if let Some(resting) = facts.time_wait.filter(|_| route.ports == PortChoice::Kernel) {
        limits.push(Limit {
            name: "ports at rest",
            allows: fewest.saturating_mul(targets).saturating_sub(resting),
            hard: false,
            found: format!("{resting} sockets are in TIME_WAIT, and the kernel does not pick their ports"),
            change: "--ports ephemeral passes over them and uses what may be used; or wait for a minute"
                .to_owned(),
        });
    }
    if unusable > 0 {
        limits.push(Limit {
            name: "local addresses",
            allows: 0,
            hard: false,
            found: format!(
                "{unusable} of the --source addresses do not belong to this host; they were not counted"
            ),
            change:
                "`ip address add ADDRESS/32 dev DEVICE`, or `ip route add local BLOCK dev lo`, or --free-bind"
                    .to_owned(),
        });
    }
    limits
}

/// Connections that one local address can have to one destination.
fn ports_per_source(facts: &Facts, route: &RoutePlan) -> u64 {
    let (first, last) = match route.ports {
        PortChoice::Kernel | PortChoice::Ephemeral => facts.ephemeral,
        PortChoice::Range { first, last } => (first, last),
    };
    let is_free = |port: &u16| !facts.reserved.iter().any(|(from, to)| (*from..=*to).contains(port));
    let ports = (first..=last).filter(is_free).count();
    let ports = u64::try_from(ports).unwrap_or(u64::MAX);
    let unasked =
        if route.ports == PortChoice::Kernel && !route.sources.is_empty() { PER_SOURCE } else { u32::MAX };
    ports.min(route.per_source.unwrap_or(unasked).into())
}

/// How many addresses of a list belong to this host.
fn usable(facts: &Facts, list: &SourceList) -> u64 {
    if list.count() == 0 {
        return 0;
    }
    // Whole blocks are inside one local network or they are not; asking one address in a few is enough for
    // lists that are too long to ask for each.
    let step = (list.count() / LOOKED_AT_MAX).max(1);
    let mut asked = 0_u64;
    let mut local = 0_u64;
    for index in (0..list.count()).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        asked += 1;
        local += u64::from(facts.is_local(list.nth(index)));
    }
    u64::from(list.count()) * local / asked
}

fn ring_limits(facts: &Facts, wish: &Wish) -> Vec<Limit> {
    let mut limits = Vec::new();
    let rings = u64::from(wish.connections.div_ceil(wish.per_ring.max(1)).max(1));
    let (soft, hard) = facts.open_files;
    if let Some(soft) = soft {
        let per_ring = u64::from(wish.per_ring).min(soft);
        limits.push(Limit {
            name: "open files per ring",
            allows: soft.saturating_sub(FILES_BESIDES).saturating_mul(per_ring),
            hard: true,
            found: format!(
                "RLIMIT_NOFILE {soft}: a ring holds {per_ring} sockets and costs one file, {rings} rings are needed"
            ),
            change: format!(
                "`ulimit -n {}` in the shell that starts the run{}",
                raised(soft, hard),
                hard.map_or_else(String::new, |hard| format!(" (the hard limit is {hard})"))
            ),
        });
        if per_ring < u64::from(wish.per_ring) {
            limits.push(Limit {
                name: "connections per ring",
                allows: per_ring,
                hard: true,
                found: format!("--per-ring {} is more than RLIMIT_NOFILE, {soft}", wish.per_ring),
                change: format!(
                    "--per-ring {}, or `ulimit -n {}`",
                    soft - 100.min(soft),
                    wish.per_ring + 100
                ),
            });
        }
    }
    if let Some(locked) = facts.locked_bytes_max {
        let ring_bytes = ring_bytes(ring_sizes(wish.connections, wish.per_ring));
        limits.push(Limit {
            name: "locked memory",
            allows: (locked / ring_bytes).saturating_mul(wish.per_ring.into()),
            hard: true,
            found: format!("RLIMIT_MEMLOCK {locked} B, and each ring takes {ring_bytes} B"),
            change: format!("`ulimit -l {}` (KiB), or run as root", rings * ring_bytes / 1024 + 64),
        });
    }
    if let Some(disabled @ 1..) = facts.io_uring_disabled {
        limits.push(Limit {
            name: "io_uring",
            allows: 0,
            hard: disabled > 1,
            found: format!("kernel.io_uring_disabled is {disabled}"),
            change: "`sysctl -w kernel.io_uring_disabled=0`".to_owned(),
        });
    }
    limits
}

fn file_limits(facts: &Facts, wish: &Wish) -> Vec<Limit> {
    let sides = sides(facts, wish);
    let mut limits = Vec::new();
    if let Some((most, open)) = facts.file_max {
        limits.push(Limit {
            name: "files of the host",
            allows: most.saturating_sub(open) / sides,
            hard: true,
            found: format!("fs.file-max {most}, {open} open; {sides} per connection on this host"),
            change: format!(
                "`sysctl -w fs.file-max={}`",
                (u64::from(wish.connections) * sides + open) / 10 * 11
            ),
        });
    }
    if let Some(most) = facts.broker_files_max {
        let nr_open =
            facts.nr_open.map_or_else(String::new, |nr| format!("; fs.nr_open {nr} is the highest"));
        limits.push(Limit {
            name: "open files of broker",
            allows: most,
            hard: false,
            found: format!("RLIMIT_NOFILE of the broker is {most}{nr_open}: a broker with a descriptor per socket takes no more"),
            change: format!(
                "`sysctl -w fs.nr_open={0}` and LimitNOFILE={0} in the broker's unit",
                u64::from(wish.connections) / 10 * 11 + 1024
            ),
        });
    }
    limits
}

fn memory_limits(facts: &Facts, wish: &Wish, connection_bytes: u64) -> Vec<Limit> {
    let needed = (u64::from(wish.connections) * connection_bytes) >> 20;
    let bounds = [
        ("memory", facts.memory_available_bytes, "available", "a host with more memory; fewer connections"),
        (
            "memory of the group",
            facts.cgroup_left_bytes,
            "left to this control group",
            "raise memory.max of the group (systemd: `MemoryMax=`, containers: the memory limit)",
        ),
    ];
    bounds
        .into_iter()
        .filter_map(|(name, bytes, what, change)| {
            let bytes = bytes?;
            Some(Limit {
                name,
                allows: bytes / connection_bytes,
                hard: true,
                found: format!("{} MiB {what}, {needed} MiB needed", bytes >> 20),
                change: change.to_owned(),
            })
        })
        .collect()
}

fn network_advice(facts: &Facts, wish: &Wish) -> Vec<Limit> {
    let mut limits = Vec::new();
    let sides = sides(facts, wish);
    if let Some(pages) = facts.tcp_pages_max {
        let wanted = u64::from(wish.connections) * sides;
        limits.push(Limit {
            name: "TCP buffers",
            allows: pages / sides,
            hard: false,
            found: format!(
                "net.ipv4.tcp_mem ends at {pages} pages: so many sockets can hold data at the same time"
            ),
            change: format!("`sysctl -w net.ipv4.tcp_mem=\"{} {} {wanted}\"`", wanted / 2, wanted / 4 * 3),
        });
    }
    if let Some((most, now)) = facts.tracked {
        limits.push(Limit {
            name: "tracked connections",
            allows: most.saturating_sub(now),
            // With no connection tracked no rule asks for tracking, and then none will be.
            hard: now > 0,
            found: format!("nf_conntrack_max {most}, {now} tracked now"),
            change: format!(
                "`sysctl -w net.netfilter.nf_conntrack_max={}`, or a NOTRACK rule for the broker's port",
                u64::from(wish.connections) * 2 + now
            ),
        });
    }
    if sides == 2 {
        let queues =
            [("net.core.somaxconn", facts.somaxconn), ("net.ipv4.tcp_max_syn_backlog", facts.syn_backlog)];
        for (setting, length) in queues {
            let Some(length) = length.filter(|length| *length < u64::from(wish.concurrency)) else {
                continue;
            };
            limits.push(Limit {
                name: "accept queue",
                allows: length,
                hard: false,
                found: format!("{setting} {length} is less than --concurrency {}: connections are dropped and tried again after a second", wish.concurrency),
                change: format!("`sysctl -w {setting}={}` before the broker starts, or a lower --concurrency", wish.concurrency.next_power_of_two()),
            });
        }
    }
    limits
}

/// Sockets of one connection that are on this host: the generator's, and the broker's if it runs here.
fn sides(facts: &Facts, wish: &Wish) -> u64 {
    1 + u64::from(wish.route.targets.iter().any(|target| facts.is_local(target.ip())))
}

fn raised(soft: u64, hard: Option<u64>) -> u64 {
    hard.filter(|hard| *hard > soft).unwrap_or(soft * 4)
}

/// Kernel memory of one side of an idle TCP connection: 13.7 GB for the 4,000,000 sockets of 2,000,000 loopback
/// connections, with its file, on Linux 6.18.
const SOCKET_BYTES: u64 = 3_425;
/// What the generator keeps of a connection at most.
const GENERATOR_BYTES: u64 = 300;
/// What a broker keeps of a connection at least, if it runs here: Dunlin's own bound. Others need more.
const BROKER_BYTES: u64 = 600;
/// Runs of fewer connections are not checked.
const CHECKED_FROM: u32 = 1_000;
/// Files of the generator besides its rings.
const FILES_BESIDES: u64 = 32;
/// Addresses that are looked up one by one.
const LOOKED_AT_MAX: u32 = 10_000;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::Path;

    /// The facts of a recorded host.
    pub(in crate::hosts) fn recording(name: &str) -> Facts {
        let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hosts");
        Facts::read(&recordings.join(name), Some(1_234))
    }

    fn wish(connections: u32, source: &str, ports: &str, target: &str) -> Wish {
        let list = |text: &str| {
            text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        Wish {
            connections,
            route: RoutePlan {
                targets: list(target).iter().map(|text| text.parse().unwrap()).collect(),
                sources: list(source).iter().map(|text| text.parse().unwrap()).collect(),
                ports: ports.parse().unwrap(),
                per_source: None,
                free_bind: false,
                unchecked: false,
            },
            per_ring: 19_900,
            concurrency: 64,
            broker_pid: None,
        }
    }

    fn answer(host: &str, wish: &Wish) -> Preflight {
        Preflight::of(&recording(host), wish)
    }

    #[track_caller]
    fn allows(preflight: &Preflight, name: &str) -> u64 {
        preflight.limits.iter().find(|limit| limit.name == name).unwrap_or_else(|| panic!("{name}")).allows
    }

    #[test]
    fn two_million_on_two_cores_are_possible_and_memory_is_what_ends_it() {
        let preflight = answer("two-cores", &wish(2_000_000, "127.1.0.0/16", "kernel", "127.0.0.1:1883"));
        assert!(preflight.enough, "{}", preflight.text());
        assert_eq!(preflight.connection_bytes, 2 * 3_425 + 300 + 600);
        assert_eq!(allows(&preflight, "source × port × target"), 65_534 * 3_500);
        let tightest = &preflight.limits[0];
        assert_eq!((tightest.name, tightest.hard), ("memory", true), "{}", preflight.text());
        let beyond = answer("two-cores", &wish(4_000_000, "127.1.0.0/16", "kernel", "127.0.0.1:1883"));
        let stops: Vec<_> = beyond.in_the_way().filter(|limit| limit.hard).map(|limit| limit.name).collect();
        assert_eq!((beyond.enough, stops), (false, vec!["memory"]));
    }

    #[test]
    fn one_address_ends_at_the_ports() {
        let kernel = answer("two-cores", &wish(30_000, "", "kernel", "127.0.0.1:1883"));
        assert_eq!((kernel.possible, kernel.enough), (28_232, false));
        assert!(kernel.text().contains("STOP  source × port × target"), "{}", kernel.text());
        assert!(kernel.text().contains("--ports 1024-65535"));
        let walked = answer("two-cores", &wish(30_000, "127.0.0.1", "1024-65535", "127.0.0.1:1883"));
        assert_eq!((walked.possible, walked.enough), (64_512, true));
        let two = answer("two-cores", &wish(30_000, "", "kernel", "127.0.0.1:1883,127.0.0.2:1883"));
        assert_eq!((two.possible, two.enough), (2 * 28_232, true));
    }

    #[test]
    fn reserved_ports_are_not_counted() {
        let preflight = answer("small", &wish(100, "127.0.0.1", "1024-65535", "127.0.0.1:1883"));
        assert_eq!(allows(&preflight, "source × port × target"), 64_512 - 101);
    }

    #[test]
    fn addresses_of_others_are_not_counted_unless_bound_freely() {
        let mut wish = wish(1_000, "192.0.2.7-192.0.2.10", "1024-65535", "198.51.100.1:1883");
        let preflight = answer("small", &wish);
        assert_eq!(allows(&preflight, "source × port × target"), 64_411);
        assert!(
            preflight
                .in_the_way()
                .any(|limit| limit.name == "local addresses" && limit.found.starts_with('3'))
        );
        wish.route.free_bind = true;
        assert_eq!(allows(&answer("small", &wish), "source × port × target"), 4 * 64_411);
    }

    #[test]
    fn a_plain_account_ends_at_locked_memory_and_its_group() {
        let preflight = answer("small", &wish(200_000, "127.1.0.0/16", "kernel", "127.0.0.1:1883"));
        assert_eq!(allows(&preflight, "locked memory"), 4 * 19_900);
        assert_eq!(allows(&preflight, "tracked connections"), 60_000);
        assert_eq!(allows(&preflight, "memory of the group"), (512 << 20) / 7_750);
        assert_eq!(allows(&preflight, "connections per ring"), 1_024);
        assert_eq!((preflight.possible, preflight.enough), (1_024, false));
        for limit in preflight.in_the_way() {
            assert!(!limit.change.is_empty() && !limit.found.is_empty(), "{limit:?}");
        }
    }

    #[test]
    fn a_broker_elsewhere_costs_this_host_one_side() {
        let preflight = answer("two-cores", &wish(1_000, "", "kernel", "198.51.100.1:1883"));
        assert_eq!(preflight.connection_bytes, 3_425 + 300);
        assert!(preflight.limits.iter().all(|limit| limit.name != "accept queue"));
    }

    #[test]
    fn the_broker_and_its_queue_are_advice_and_stop_nothing() {
        let mut wish = wish(10_000, "", "kernel", "127.0.0.1:1883");
        wish.concurrency = 8_192;
        let preflight = answer("two-cores", &wish);
        let names: Vec<_> = preflight.in_the_way().map(|limit| limit.name).collect();
        assert_eq!(names, ["open files of broker", "accept queue", "accept queue"]);
        assert!(preflight.enough && preflight.text().contains("warn  open files of broker"));
    }
}

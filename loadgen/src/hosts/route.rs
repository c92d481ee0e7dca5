//! Gives each connection its destination and its local address and port.
//!
//! Connection i always goes to destination i modulo their number, so the spread is even and a client that comes
//! again meets the same address. Its local end is new each time: the next one of that destination's [`Walk`],
//! or the next source with a port that the kernel picks.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use dunlin_ring::{Errno, OpenOptions};

use super::port::PortChoice;
use super::source::{Block, SourceList};
use super::walk::{Tuple, Walk};

/// The ways that were asked for.
#[derive(Clone, Debug)]
pub(crate) struct RoutePlan {
    /// Destinations; at least one.
    pub(crate) targets: Vec<SocketAddr>,
    /// Local addresses; empty leaves the choice to the kernel.
    pub(crate) sources: Vec<Block>,
    /// Who chooses local ports.
    pub(crate) ports: PortChoice,
    /// Connections on each local address to each destination at most; `None`: what the ports allow, and
    /// [`PER_SOURCE`] where the kernel picks them.
    pub(crate) per_source: Option<u32>,
    /// Whether local addresses are bound even if no interface has them.
    pub(crate) free_bind: bool,
    /// Whether to go on even if the host does not allow as many connections as are asked for.
    pub(crate) unchecked: bool,
}

/// Why the ways do not suffice.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    /// There is no local address of a destination's family.
    #[error("no --source address is of the family of {0}; add some, or leave --source out")]
    NoSource(SocketAddr),
    /// Too few tuples.
    #[error(
        "{wanted} connections to {target} need more than the {allowed} that the local addresses and ports \
         allow; widen --source, use --ports 1024-65535, raise --per-source, or name more --target addresses"
    )]
    TooFew {
        /// The destination.
        target: SocketAddr,
        /// Connections to it.
        wanted: u32,
        /// What is possible.
        allowed: u64,
    },
    /// /proc did not say.
    #[error("reading the range of local ports: {0}")]
    Ports(#[from] io::Error),
}

/// What happened to addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteCounters {
    /// Openings that met an address or port in use, or resting after a close, and went on to the next.
    pub(crate) collided: u64,
    /// Openings that were given up after [`ATTEMPTS_MAX`] such collisions.
    pub(crate) exhausted: u64,
}

/// The ways of all connections of an engine. 4 bytes per connection where the generator chooses the ports.
#[derive(Debug)]
pub(crate) struct Route {
    lanes: Vec<Lane>,
    free_bind: bool,
    /// The tuple of each connection; empty where the kernel chooses.
    held: Vec<u32>,
    /// Connections whose last openings collided, and how many did.
    attempts: BTreeMap<u32, u32>,
    counters: RouteCounters,
}

/// The ways to one destination.
#[derive(Debug)]
struct Lane {
    target: SocketAddr,
    local: Local,
}

#[derive(Debug)]
enum Local {
    /// All is left to the kernel.
    Any,
    /// The next source in turn; the kernel picks the port when it connects.
    Source { sources: SourceList, next: u32 },
    /// The next tuple in turn.
    Tuple { sources: SourceList, ports: Rc<[u16]>, walk: Walk },
}

impl Route {
    /// The ways for `connections` connections.
    ///
    /// # Errors
    /// When there are too few.
    pub(crate) fn new(plan: &RoutePlan, connections: u32) -> Result<Self, RouteError> {
        let ports = plan.ports.ports()?;
        let count = u32::try_from(plan.targets.len()).unwrap_or(u32::MAX);
        let mut lanes = Vec::new();
        for (target, index) in plan.targets.iter().zip(0_u32..) {
            let wanted = (connections + count - 1 - index) / count;
            lanes.push(Lane::new(plan, *target, ports.as_ref(), wanted)?);
        }
        let walks = ports.is_some();
        Ok(Self {
            lanes,
            free_bind: plan.free_bind,
            held: if walks { vec![NONE; connections as usize] } else { Vec::new() },
            attempts: BTreeMap::new(),
            counters: RouteCounters::default(),
        })
    }

    /// Where a connection goes to.
    pub(crate) fn target(&self, conn: u32) -> SocketAddr {
        self.lanes[conn as usize % self.lanes.len()].target
    }

    /// How to open a connection, which gives up the local end that it had before.
    pub(crate) fn take(&mut self, conn: u32) -> OpenOptions {
        self.release(conn);
        let count = self.lanes.len();
        let lane = &mut self.lanes[conn as usize % count];
        let source = match &mut lane.local {
            Local::Any => None,
            Local::Source { sources, next } => {
                let address = sources.nth(*next);
                *next = (*next + 1) % sources.count();
                Some(SocketAddr::new(address, 0))
            }
            Local::Tuple { sources, ports, walk } => {
                let taken = walk.take();
                // With nothing left the kernel is asked, whose answer says so better than a guess here.
                let held = taken.map_or(NONE, |tuple| tuple.0);
                self.held[conn as usize] = held;
                let end = taken.map(|tuple| walk.parts(tuple));
                let end = end.map_or((0, 0), |(source, port)| (source, ports[port]));
                Some(SocketAddr::new(sources.nth(end.0), end.1))
            }
        };
        OpenOptions { target: lane.target, source, no_delay: true, free_bind: self.free_bind }
    }

    /// Whether a failed opening is tried again with another local end, because this one was in use or rests
    /// after a close.
    pub(crate) fn retries(&mut self, conn: u32, errno: Errno) -> bool {
        let in_use = errno == Errno::ADDRESS_IN_USE;
        if !in_use && errno != Errno::ADDRESS_NOT_AVAILABLE {
            return false;
        }
        let count = self.lanes.len();
        match &mut self.lanes[conn as usize % count].local {
            Local::Any => return false,
            Local::Source { sources, .. } if sources.count() == 1 => return false,
            Local::Source { .. } => {}
            Local::Tuple { walk, .. } => {
                if in_use && self.held[conn as usize] != NONE {
                    walk.strike(Tuple(self.held[conn as usize]));
                }
            }
        }
        let attempts = self.attempts.entry(conn).or_insert(0);
        *attempts += 1;
        if *attempts > ATTEMPTS_MAX {
            self.attempts.remove(&conn);
            self.counters.exhausted += 1;
            return false;
        }
        self.counters.collided += 1;
        true
    }

    /// The connection is up.
    pub(crate) fn settled(&mut self, conn: u32) {
        if !self.attempts.is_empty() {
            self.attempts.remove(&conn);
        }
    }

    /// The connection is gone; its local end is free for others.
    pub(crate) fn release(&mut self, conn: u32) {
        let Some(held) = self.held.get_mut(conn as usize) else { return };
        let tuple = std::mem::replace(held, NONE);
        let count = self.lanes.len();
        if tuple != NONE
            && let Local::Tuple { walk, .. } = &mut self.lanes[conn as usize % count].local
        {
            walk.release(Tuple(tuple));
        }
    }

    /// What has been counted so far.
    pub(crate) const fn counters(&self) -> RouteCounters {
        self.counters
    }
}

impl Lane {
    fn new(
        plan: &RoutePlan,
        target: SocketAddr,
        ports: Option<&Rc<[u16]>>,
        wanted: u32,
    ) -> Result<Self, RouteError> {
        if plan.sources.is_empty() {
            let Some(ports) = ports else { return Ok(Self { target, local: Local::Any }) };
            let local = Local::walk(SourceList::unspecified(target.ip()), ports, plan.per_source);
            return Self { target, local }.with_room_for(wanted, u64::MAX);
        }
        let sources = SourceList::for_peer(&plan.sources, target.ip());
        if sources.count() == 0 {
            return Err(RouteError::NoSource(target));
        }
        if let Some(ports) = ports {
            let local = Local::walk(sources, ports, plan.per_source);
            return Self { target, local }.with_room_for(wanted, u64::MAX);
        }
        let allowed = u64::from(sources.count()) * u64::from(plan.per_source.unwrap_or(PER_SOURCE));
        Self { target, local: Local::Source { sources, next: 0 } }.with_room_for(wanted, allowed)
    }

    /// Refuses when `wanted` connections are more than the tuples, or than `allowed`.
    fn with_room_for(self, wanted: u32, allowed: u64) -> Result<Self, RouteError> {
        let tuples = match &self.local {
            Local::Any | Local::Source { .. } => u64::MAX,
            Local::Tuple { walk, .. } => u64::from(walk.capacity()),
        };
        let allowed = allowed.min(tuples);
        if u64::from(wanted) > allowed {
            return Err(RouteError::TooFew { target: self.target, wanted, allowed });
        }
        Ok(self)
    }
}

impl Local {
    fn walk(sources: SourceList, ports: &Rc<[u16]>, per_source: Option<u32>) -> Self {
        let available = u32::try_from(ports.len()).expect("there are 65,535 ports");
        let used = available.min(per_source.unwrap_or(u32::MAX));
        let walk = Walk::new(sources.count(), used);
        Self::Tuple { sources, ports: ports.clone(), walk }
    }
}

/// Connections per local address unless told otherwise, where the kernel picks the ports: an eighth of its
/// default range, so that finding a free one stays cheap.
pub(crate) const PER_SOURCE: u32 = 3_500;
/// Local ends that one opening tries.
const ATTEMPTS_MAX: u32 = 64;
/// No tuple: a walk has fewer than this.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn plan(targets: &[&str], sources: &[&str], ports: &str) -> RoutePlan {
        RoutePlan {
            targets: targets.iter().map(|text| text.parse().unwrap()).collect(),
            sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
            ports: ports.parse().unwrap(),
            per_source: None,
            free_bind: false,
            unchecked: false,
        }
    }

    fn local(route: &mut Route, conn: u32) -> String {
        route.take(conn).source.map_or_else(String::new, |source| source.to_string())
    }

    #[test]
    fn destinations_share_the_connections_evenly_and_for_good() {
        let plan = plan(&["10.0.0.1:1883", "10.0.0.2:1883", "[::1]:1883"], &[], "kernel");
        let mut route = Route::new(&plan, 7).unwrap();
        let targets: Vec<String> = (0..7).map(|conn| route.take(conn).target.to_string()).collect();
        assert_eq!(targets.iter().filter(|target| *target == "[::1]:1883").count(), 2);
        assert_eq!(route.take(4).target.to_string(), targets[4]);
        assert_eq!(route.target(4).to_string(), "10.0.0.2:1883");
    }

    #[test]
    fn the_kernel_picks_ports_on_sources_in_turn() {
        let plan = plan(&["127.0.0.1:1883"], &["127.0.0.5-127.0.0.6"], "kernel");
        let mut route = Route::new(&plan, 7_000).unwrap();
        assert_eq!(
            [0, 1, 2].map(|conn| local(&mut route, conn)),
            ["127.0.0.5:0", "127.0.0.6:0", "127.0.0.5:0"]
        );
        assert!(matches!(Route::new(&plan, 7_001), Err(RouteError::TooFew { allowed: 7_000, .. })));
    }

    #[test]
    fn a_walk_uses_every_port_of_every_source_to_every_destination() {
        let plan = plan(&["10.0.0.1:1", "10.0.0.1:2"], &["10.9.0.1", "10.9.0.2"], "60001-60100");
        let mut route = Route::new(&plan, 400).unwrap();
        let ends: BTreeSet<_> =
            (0..400).map(|conn| (route.take(conn).target, local(&mut route, conn))).collect();
        assert!(ends.len() >= 396, "taking twice moves on, and all {} are different", ends.len());
        assert!(matches!(Route::new(&plan, 401), Err(RouteError::TooFew { wanted: 201, allowed: 200, .. })));
    }

    #[test]
    fn each_family_of_destinations_has_its_own_sources() {
        let targets = ["10.0.0.1:1883", "[2001:db8::1]:1883"];
        let both = plan(&targets, &["10.9.0.1", "2001:db8::9"], "1024-1030");
        let mut route = Route::new(&both, 4).unwrap();
        assert_eq!(local(&mut route, 0), "10.9.0.1:1024");
        assert_eq!(local(&mut route, 1), "[2001:db8::9]:1024");
        let one = plan(&targets, &["10.9.0.1"], "1024-1030");
        assert!(matches!(Route::new(&one, 1), Err(RouteError::NoSource(target)) if target.is_ipv6()));
    }

    #[test]
    fn without_sources_ports_can_still_be_walked() {
        let mut route = Route::new(&plan(&["127.0.0.1:1883"], &[], "50000-50009"), 10).unwrap();
        assert_eq!(local(&mut route, 0), "0.0.0.0:50000");
    }

    #[test]
    fn a_collision_is_tried_again_and_counted_up_to_a_bound() {
        let mut route = Route::new(&plan(&["127.0.0.1:1883"], &["127.0.0.9"], "50000-50200"), 1).unwrap();
        let mut tried = BTreeSet::new();
        loop {
            tried.insert(local(&mut route, 0));
            if !route.retries(0, Errno::ADDRESS_NOT_AVAILABLE) {
                break;
            }
        }
        assert_eq!(tried.len(), ATTEMPTS_MAX as usize + 1);
        assert_eq!(route.counters(), RouteCounters { collided: 64, exhausted: 1 });
        assert!(!route.retries(0, Errno(111)), "a refused connection is no collision");
    }

    #[test]
    fn a_closed_connection_gives_its_port_back() {
        let mut route = Route::new(&plan(&["127.0.0.1:1883"], &["127.0.0.9"], "50000-50001"), 2).unwrap();
        assert_eq!([0, 1].map(|conn| local(&mut route, conn)), ["127.0.0.9:50000", "127.0.0.9:50001"]);
        route.release(1);
        assert_eq!(local(&mut route, 1), "127.0.0.9:50001");
    }
}

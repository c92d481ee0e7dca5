//! Who may begin to connect: a budget for each address, and a bound on connections that have not been accepted.
//!
//! Both are kept per shard, in memory that does not grow with the number of peers.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{Refusal, State};
use crate::action::Actions;
use crate::config::Mqtt;
use crate::core::ShardCore;
use crate::ids::ConnId;
use crate::metrics::Counter;
use crate::peer::Peer;
use crate::time::Mono;
use crate::topics::HashKey;

/// What a shard keeps to decide who may begin. One per shard; [`BUDGETS_BYTES`] more once there are budgets.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Connections that were not accepted when they were looked at last, the oldest first.
    greeting: VecDeque<ConnId>,
    /// Made with the first connection that has a budget.
    budgets: Option<Box<[Set]>>,
    /// Spreads addresses over the sets so that peers cannot choose theirs.
    key: HashKey,
}

/// Budgets whose addresses fall together.
type Set = [Budget; WAYS];

/// The budget of one address, as the time at which it is whole again: each connection moves that time on.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    /// The address, hashed: two addresses that share all 64 bits share a budget.
    address: u64,
    whole_at: Mono,
}

/// How fast connections of one address may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// Between two connections, in the long run.
    interval_ns: u64,
    /// How far ahead of that pace an address may be.
    ahead_ns: u64,
}

impl Pace {
    /// This shard's part of what all shards together allow: the kernel spreads the connections of one address evenly.
    fn of(mqtt: &Mqtt, shard_count: u16) -> Option<Self> {
        let rate = mqtt.max_conn_rate_per_address?.max(1).div_ceil(u32::from(shard_count));
        let burst = mqtt.max_conn_burst_per_address.max(1).div_ceil(u32::from(shard_count));
        let interval_ns = NS_PER_SECOND / u64::from(rate);
        Some(Self { interval_ns, ahead_ns: interval_ns.saturating_mul(u64::from(burst) - 1) })
    }
}

impl Admission {
    /// Nobody has come yet.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { greeting: VecDeque::new(), budgets: None, key: HashKey::new(seed) }
    }

    /// Takes one connection out of the budget of an address, if there is one in it. O(1).
    fn spend(&mut self, ip: IpAddr, pace: Pace, now: Mono) -> bool {
        let address = self.key.hash(&network(ip));
        let sets = self.budgets.get_or_insert_with(|| vec![Set::default(); SETS].into_boxed_slice());
        #[expect(clippy::cast_possible_truncation, reason = "some bits of a hash")]
        let set = &mut sets[address as usize % SETS];
        let at = set.iter().position(|budget| budget.address == address).unwrap_or_else(|| {
            // The one that has spent least gives way; an address that spends much stays.
            let least = (0..WAYS).min_by_key(|at| set[*at].whole_at).unwrap_or(0);
            set[least] = Budget { address, whole_at: now };
            least
        });
        let whole_at = set[at].whole_at.max(now);
        if whole_at.since(now) > pace.ahead_ns {
            return false;
        }
        set[at].whole_at = Mono(whole_at.0.saturating_add(pace.interval_ns));
        true
    }
}

/// What counts as one address: all of IPv4, the network half of IPv6.
fn network(ip: IpAddr) -> [u8; 9] {
    let mut bytes = [0; 9];
    match ip {
        IpAddr::V4(ip) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&ip.octets()[..8]);
        }
    }
    bytes
}

impl ShardCore {
    /// Whether the address of a connection that was just accepted has something left in its budget. One branch if there
    /// are no budgets.
    pub(super) fn has_budget(&mut self, peer: Peer) -> bool {
        let Some(pace) = Pace::of(self.configs.current(), self.shard_count) else { return true };
        let has_some = self.admission.spend(peer.ip(), pace, self.now.mono);
        if !has_some {
            self.metrics.count(Counter::RefusedConnectRate);
        }
        has_some
    }

    /// Notes a connection that greets. When there are too many of them, the one that has had the most time gives way.
    pub(super) fn note_greeting(&mut self, conn: ConnId, actions: &mut Actions) {
        let is_greeting = |of: &ConnId, connections: &super::Connections| {
            connections
                .get(*of)
                .is_some_and(|found| !matches!(found.state, State::Connected | State::Closing))
        };
        let queue = &mut self.admission.greeting;
        queue.push_back(conn);
        while queue.front().is_some_and(|first| !is_greeting(first, &self.connections)) {
            queue.pop_front();
        }
        let greeting_count = (self.connections.len() as u64).saturating_sub(self.live_count);
        if queue.len() as u64 > 2 * greeting_count + STALE_COUNT_MAX {
            queue.retain(|of| is_greeting(of, &self.connections));
        }
        if greeting_count > u64::from(self.configs.current().max_greeting_connections)
            && let Some(oldest) = queue.pop_front()
        {
            self.refuse(oldest, Refusal::GreetingCount, actions);
        }
    }
}

/// Sets of budgets of a shard.
const SETS: usize = 1_024;
/// Budgets of one set.
const WAYS: usize = 4;
/// All budgets of a shard, bytes.
const BUDGETS_BYTES: usize = SETS * size_of::<Set>();
/// Connections that may stand in line beyond those that greet before the line is gone through.
const STALE_COUNT_MAX: u64 = 1_024;
const NS_PER_SECOND: u64 = 1_000_000_000;

const _: () = assert!(BUDGETS_BYTES == 64 << 10, "memory that does not grow");

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use dunlin_wire::packet::Packet;
    use dunlin_wire::types::Version;

    use super::*;
    use crate::action::Action;
    use crate::event::Event;
    use crate::ids::ListenerId;
    use crate::testing::{World, connect};

    const PACE: Pace = Pace { interval_ns: 1_000, ahead_ns: 4_000 };

    fn v4(last: u32) -> IpAddr {
        Ipv4Addr::from(0x0A00_0000 + last).into()
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_pace() {
        let mut admission = Admission::new(1);
        let mut let_in = |now: u64, ip| admission.spend(ip, PACE, Mono(now));
        assert_eq!((0..8).filter(|_| let_in(10, v4(1))).count(), 5);
        assert!(let_in(10, v4(2)), "another address has its own");
        assert!(!let_in(1_009, v4(1)));
        assert!(let_in(1_010, v4(1)));
        assert!(!let_in(1_010, v4(1)));
        assert_eq!((0..8).filter(|_| let_in(1_000_000, v4(1))).count(), 5, "never more than the burst");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let mut admission = Admission::new(1);
        let hosts = (0..8_u128).map(|n| IpAddr::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | n)));
        assert_eq!(hosts.filter(|ip| admission.spend(*ip, PACE, Mono(10))).count(), 5);
    }

    #[test]
    fn many_addresses_cost_no_memory_and_do_not_free_the_one_that_spends() {
        let mut admission = Admission::new(1);
        let mut allowed = 0;
        for n in 0..200_000 {
            allowed += u32::from(admission.spend(v4(1), PACE, Mono(10)));
            assert!(admission.spend(v4(1_000 + n), PACE, Mono(10)));
        }
        assert_eq!(admission.budgets.as_ref().map(|sets| sets.len()), Some(SETS));
        assert_eq!(allowed, 5);
    }

    #[test]
    fn shards_share_what_is_allowed() {
        let mqtt = Mqtt {
            max_conn_rate_per_address: Some(1_000),
            max_conn_burst_per_address: 100,
            ..Mqtt::default()
        };
        assert_eq!(Pace::of(&Mqtt::default(), 4), None);
        let alone = Pace { interval_ns: 1_000_000, ahead_ns: 99_000_000 };
        assert_eq!(Pace::of(&mqtt, 1), Some(alone));
        assert_eq!(Pace::of(&mqtt, 4), Some(Pace { interval_ns: 4_000_000, ahead_ns: 96_000_000 }));
    }

    #[test]
    fn connections_above_the_pace_are_closed_and_counted() {
        let mqtt =
            Mqtt { max_conn_rate_per_address: Some(10), max_conn_burst_per_address: 3, ..Mqtt::default() };
        let mut world = World::with(mqtt);
        let bystander = world.join(Version::V5, "bystander");
        let clients: Vec<_> = (0..50).map(|_| world.open()).collect();
        assert_eq!(clients.iter().filter(|client| !world.is_closed(**client)).count(), 2);
        assert_eq!(world.core().metrics().get(Counter::RefusedConnectRate), 48);
        // Another address is not concerned.
        let peer = Peer::from(SocketAddr::from(([192, 0, 2, 1], 4_000)));
        let conn = ConnId { slot: 999, generation: 1 };
        let mut actions = Actions::default();
        let now = world.now;
        world.core().handle(Event::Opened { conn, peer, listener: ListenerId(0) }, now, &mut actions);
        assert!(actions.list.iter().all(|action| !matches!(action, Action::Close { .. })));
        world.send(bystander, &Packet::PingReq);
        assert_eq!(world.heard(bystander).only(), Packet::PingResp);
        world.advance_ms(100);
        let client = world.open();
        assert!(!world.is_closed(client));
    }

    #[test]
    fn when_too_many_greet_the_oldest_gives_way() {
        let mut world = World::with(Mqtt { max_greeting_connections: 10, ..Mqtt::default() });
        let bystander = world.join(Version::V5, "bystander");
        let silent: Vec<_> = (0..25).map(|_| world.open()).collect();
        let is_closed: Vec<bool> = silent.iter().map(|client| world.is_closed(*client)).collect();
        assert_eq!(is_closed, [[true; 15].as_slice(), &[false; 10]].concat());
        assert_eq!(world.core().metrics().get(Counter::RefusedGreetingCount), 15);
        // One that says CONNECT makes room, and is not concerned any more.
        world.send(silent[15], &Packet::Connect(connect(Version::V5, "c")));
        let more = world.open();
        assert!(!world.is_closed(silent[16]) && !world.is_closed(more));
        world.open();
        assert!(world.is_closed(silent[16]) && !world.is_closed(silent[15]));
        world.send(bystander, &Packet::PingReq);
        assert_eq!(world.heard(bystander).only(), Packet::PingResp);
    }

    #[test]
    fn the_line_of_those_who_greet_stays_short() {
        let mut world = World::new();
        let first = world.open();
        for n in 0..5_000 {
            world.join(Version::V311, &format!("c{n}"));
        }
        assert!(!world.is_closed(first));
        let count_max = usize::try_from(STALE_COUNT_MAX).unwrap() + 4;
        assert!(world.core().admission.greeting.len() <= count_max);
    }
}

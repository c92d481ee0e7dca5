//! Where connections come from: local addresses, each used for a bounded number of connections.
//!
//! A connection is told apart by its four-tuple, and the kernel hands out some 28,000 ports per local address,
//! searching longer the fuller it gets. A pool of addresses (all of 127.0.0.0/8 belongs to the loopback
//! device) keeps each address far from that border.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// A block of IPv4 addresses, as `127.1.0.0/16` or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourcePool {
    first: Ipv4Addr,
    count: u32,
    per_address: u32,
}

impl SourcePool {
    /// The same block with at most `per_address` connections on each address.
    pub(crate) const fn with_per_address(self, per_address: u32) -> Self {
        Self { per_address, ..self }
    }

    /// Connections that the pool can open at the same time.
    pub(crate) fn capacity(&self) -> u64 {
        u64::from(self.count) * u64::from(self.per_address)
    }

    /// The local address of connection `index`, port left to the kernel. Wraps around at the capacity.
    pub(crate) fn address(&self, index: u64) -> SocketAddr {
        let nth = u32::try_from(index % u64::from(self.count)).expect("below count, which is 32 bits");
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from(u32::from(self.first).wrapping_add(nth))), 0)
    }
}

impl FromStr for SourcePool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let first: Ipv4Addr = address.parse().map_err(|_| format!("{address:?} is not an IPv4 address"))?;
        let prefix: u32 = prefix.parse().map_err(|_| format!("{prefix:?} is not a prefix length"))?;
        if !(8..=32).contains(&prefix) {
            return Err(format!("a prefix of {prefix} bits is outside 8 to 32"));
        }
        let host_bits = 32 - prefix;
        let base = u32::from(first) >> host_bits.min(31) << host_bits.min(31);
        // In a block the lowest and the highest address are left out: on a loopback block they are the
        // network and broadcast addresses.
        let (first, count) = match host_bits {
            0 | 1 => (first, 1 << host_bits),
            _ => (Ipv4Addr::from(base + 1), (1 << host_bits) - 2),
        };
        Ok(Self { first, count, per_address: PER_ADDRESS })
    }
}

/// Connections per address unless told otherwise: an eighth of the kernel's default port range, so that
/// finding a free port stays cheap.
pub(crate) const PER_ADDRESS: u32 = 3_500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_address_is_a_pool_of_one() {
        let pool: SourcePool = "127.0.0.1".parse().unwrap();
        assert_eq!(pool.capacity(), u64::from(PER_ADDRESS));
        assert_eq!(pool.address(5).to_string(), "127.0.0.1:0");
    }

    #[test]
    fn a_block_leaves_out_its_ends() {
        let pool: SourcePool = "127.7.1.200/24".parse().unwrap();
        let pool = pool.with_per_address(10);
        assert_eq!(pool.capacity(), 2540);
        assert_eq!(pool.address(0).to_string(), "127.7.1.1:0");
        assert_eq!(pool.address(253).to_string(), "127.7.1.254:0");
        assert_eq!(pool.address(254).to_string(), "127.7.1.1:0");
    }

    #[test]
    fn nonsense_is_refused_with_the_value() {
        assert!("127.0.0/8".parse::<SourcePool>().unwrap_err().contains("127.0.0"));
        assert!("10.0.0.0/4".parse::<SourcePool>().unwrap_err().contains('4'));
    }
}

//! Local addresses to connect from: single ones, ranges and blocks of both families, counted as one list.
//!
//! A connection is told apart by its four-tuple, so one local address gives some 64,000 connections to one
//! address and port at most. All of 127.0.0.0/8 belongs to the loopback device; other addresses must be
//! assigned to an interface, be made local by a route (`ip route add local … dev lo`), or be bound freely.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that follow each other: `10.0.0.7`, `10.0.0.5-10.0.0.80`, `127.1.0.0/16`, `2001:db8::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    first: IpAddr,
    count: u32,
}

impl Block {
    /// The address at `index`, which must be below the count.
    fn nth(self, index: u32) -> IpAddr {
        assert!(index < self.count, "address {index} of a block of {}", self.count);
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + index).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + u128::from(index)).into(),
        }
    }

    fn range(first: IpAddr, last: IpAddr) -> Result<Self, String> {
        let beyond = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                u32::from(last).checked_sub(first.into()).map(u128::from)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => u128::from(last).checked_sub(first.into()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(format!("{first} and {last} are of different families"));
            }
        };
        let beyond = beyond.ok_or_else(|| format!("{last} comes before {first}"))?;
        let count = u32::try_from(beyond).ok().and_then(|beyond| beyond.checked_add(1));
        let count = count.filter(|count| *count <= BLOCK_ADDRESSES_MAX);
        Ok(Self { first, count: count.unwrap_or(BLOCK_ADDRESSES_MAX) })
    }

    /// A block by its prefix. Its lowest address is left out (network address, subnet-router anycast), and in
    /// IPv4 the highest (broadcast), unless there are only two or one.
    fn prefix(address: IpAddr, bits: &str) -> Result<Self, String> {
        let bits: u32 = bits.parse().map_err(|_| format!("{bits:?} is not a prefix length"))?;
        let (width, least) = if address.is_ipv4() { (32, 8) } else { (128, 16) };
        if !(least..=width).contains(&bits) {
            return Err(format!("a prefix of {bits} bits is outside {least} to {width}"));
        }
        let host_bits = width - bits;
        let inside = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        let (low, high) = if host_bits > 1 { (1, 1) } else { (0, 0) };
        match address {
            IpAddr::V4(address) => {
                let inside = u32::try_from(inside).expect("at most 24 bits");
                let base = u32::from(address) & !inside;
                Self::range(Ipv4Addr::from(base + low).into(), Ipv4Addr::from(base + inside - high).into())
            }
            IpAddr::V6(address) => {
                let base = u128::from(address) & !inside;
                Self::range(
                    Ipv6Addr::from(base + u128::from(low)).into(),
                    Ipv6Addr::from(base + inside).into(),
                )
            }
        }
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let address = |text: &str| -> Result<IpAddr, String> {
            text.trim().parse().map_err(|_| format!("{text:?} is not an IP address"))
        };
        if let Some((base, bits)) = text.split_once('/') {
            return Self::prefix(address(base)?, bits);
        }
        if let Some((first, last)) = text.split_once('-') {
            return Self::range(address(first)?, address(last)?);
        }
        Ok(Self { first: address(text)?, count: 1 })
    }
}

/// All local addresses that were given, of one family, as one list. Addresses named twice are in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceList {
    blocks: Vec<Block>,
    /// For each block, how many addresses come before it.
    starts: Vec<u32>,
    count: u32,
}

impl SourceList {
    /// The addresses of `blocks` that a connection to `peer` can come from: those of its family.
    pub(crate) fn for_peer(blocks: &[Block], peer: IpAddr) -> Self {
        let mut list = Self::default();
        for block in blocks.iter().filter(|block| block.first.is_ipv4() == peer.is_ipv4()) {
            list.blocks.push(*block);
            list.starts.push(list.count);
            list.count = list.count.saturating_add(block.count);
        }
        list
    }

    /// The one address that leaves the choice to the kernel.
    pub(crate) fn unspecified(peer: IpAddr) -> Self {
        let first = match peer {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::for_peer(&[Block { first, count: 1 }], peer)
    }

    /// Addresses in the list.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// The address at `index`. O(log blocks).
    ///
    /// # Panics
    /// When there are not that many.
    pub(crate) fn nth(&self, index: u32) -> IpAddr {
        let block = self.starts.partition_point(|start| *start <= index) - 1;
        self.blocks[block].nth(index - self.starts[block])
    }
}

/// A larger block is cut to this many addresses: more than anybody has connections.
const BLOCK_ADDRESSES_MAX: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> SourceList {
        let blocks: Vec<Block> = text.split(',').map(|block| block.parse().unwrap()).collect();
        SourceList::for_peer(&blocks, blocks[0].first)
    }

    #[test]
    fn a_single_address_is_a_list_of_one() {
        for text in ["127.0.0.1", "::1"] {
            let list = list(text);
            assert_eq!((list.count(), list.nth(0).to_string()), (1, text.to_owned()));
        }
    }

    #[test]
    fn a_block_leaves_out_its_ends() {
        let block = list("127.7.1.200/24");
        assert_eq!(block.count(), 254);
        assert_eq!(block.nth(0).to_string(), "127.7.1.1");
        assert_eq!(block.nth(253).to_string(), "127.7.1.254");
        assert_eq!(list("10.0.0.4/31").count(), 2);
        assert_eq!(list("127.0.0.0/8").count(), (1 << 24) - 2);
    }

    #[test]
    fn a_range_has_both_ends() {
        let list = list("10.0.0.5-10.0.1.4");
        assert_eq!(list.count(), 256);
        assert_eq!(list.nth(255).to_string(), "10.0.1.4");
    }

    #[test]
    fn blocks_of_ipv6_are_counted_without_the_first_and_up_to_a_bound() {
        let list = list("2001:db8::/64");
        assert_eq!(list.count(), BLOCK_ADDRESSES_MAX);
        assert_eq!(list.nth(0).to_string(), "2001:db8::1");
        assert_eq!(list.nth(65_535).to_string(), "2001:db8::1:0");
    }

    #[test]
    fn a_list_goes_through_its_blocks_in_order_and_keeps_to_one_family() {
        let list = list("10.0.0.1,10.1.0.1-10.1.0.3,::1,10.2.0.9");
        let all: Vec<String> = (0..list.count()).map(|index| list.nth(index).to_string()).collect();
        assert_eq!(all, ["10.0.0.1", "10.1.0.1", "10.1.0.2", "10.1.0.3", "10.2.0.9"]);
    }

    #[test]
    fn nonsense_is_refused_with_the_value() {
        for (text, hint) in [
            ("127.0.0/8", "127.0.0"),
            ("10.0.0.0/4", "outside 8 to 32"),
            ("::/0", "outside 16 to 128"),
            ("10.0.0.9-10.0.0.1", "comes before"),
            ("10.0.0.9-::1", "different families"),
        ] {
            assert!(text.parse::<Block>().unwrap_err().contains(hint), "{text}");
        }
    }
}

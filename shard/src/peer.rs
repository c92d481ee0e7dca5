//! The other end of a connection, in 18 bytes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Address and port of a peer. IPv4 addresses are kept in their mapped form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    address: [u8; 16],
    port: [u8; 2],
}

impl Peer {
    /// The peer's address; IPv4 where it is one.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.address).to_canonical()
    }

    /// The peer's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { address: ip.octets(), port: address.port().to_be_bytes() }
    }
}

impl From<Peer> for SocketAddr {
    fn from(peer: Peer) -> Self {
        Self::new(peer.ip(), peer.port())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_peer_reads_back_as_ipv4() {
        let address: SocketAddr = "192.0.2.7:40001".parse().unwrap();
        let peer = Peer::from(address);
        assert_eq!(SocketAddr::from(peer), address);
        assert_eq!(peer.to_string(), "192.0.2.7:40001");
        assert_eq!(size_of::<Peer>(), 18);
    }
}

//! PROXY headers (versions 1 and 2): each connection claims to come from a client behind a load balancer.
//!
//! So a broker can be shown millions of client addresses from one. Connection i claims the i-th address of a
//! list, and when the list is used up the next port. The format is that of HAProxy's `proxy-protocol.txt`.

use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;

use super::source::{Block, SourceList};

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyVersion {
    /// One line of text.
    V1,
    /// Sixteen bytes and two addresses.
    V2,
}

/// Writes the headers of a run.
#[derive(Clone, Debug)]
pub(crate) struct ProxyHeader {
    version: ProxyVersion,
    v4: SourceList,
    v6: SourceList,
}

impl ProxyHeader {
    /// Headers with client addresses of `clients`; where these have none of a destination's family, of the
    /// networks that are set aside for benchmarks (198.18.0.0/15, 2001:2::/48).
    pub(crate) fn new(version: ProxyVersion, clients: &[Block]) -> Self {
        let of = |network: &str| -> SourceList {
            let benchmark: Block = network.parse().expect("a constant network");
            let peer = if network.contains(':') { IpAddr::from([0_u16; 8]) } else { IpAddr::from([0_u8; 4]) };
            let given = SourceList::for_peer(clients, peer);
            if given.count() > 0 { given } else { SourceList::for_peer(&[benchmark], peer) }
        };
        Self { version, v4: of("198.18.0.0/15"), v6: of("2001:2::/48") }
    }

    /// Appends the header of connection `index` to `target`.
    pub(crate) fn write(&self, index: u32, target: SocketAddr, out: &mut Vec<u8>) {
        let list = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        let turn = index / list.count() % u32::from(u16::MAX - FIRST_PORT);
        let port = FIRST_PORT + u16::try_from(turn).expect("below the number of ports");
        let client = SocketAddr::new(list.nth(index % list.count()), port);
        match self.version {
            ProxyVersion::V1 => write_v1(client, target, out),
            ProxyVersion::V2 => write_v2(client, target, out),
        }
    }
}

fn write_v1(client: SocketAddr, target: SocketAddr, out: &mut Vec<u8>) {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (client.ip(), target.ip());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), target.port());
    out.extend_from_slice(line.as_bytes());
}

fn write_v2(client: SocketAddr, target: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&SIGNATURE);
    out.push(VERSION_2_PROXY);
    out.push(if client.is_ipv4() { STREAM_V4 } else { STREAM_V6 });
    let length: u16 = if client.is_ipv4() { 2 * 4 + 4 } else { 2 * 16 + 4 };
    out.extend_from_slice(&length.to_be_bytes());
    for address in [client.ip(), target.ip()] {
        match address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    for port in [client.port(), target.port()] {
        out.extend_from_slice(&port.to_be_bytes());
    }
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const VERSION_2_PROXY: u8 = 0x21;
/// AF_INET and SOCK_STREAM.
const STREAM_V4: u8 = 0x11;
/// AF_INET6 and SOCK_STREAM.
const STREAM_V6: u8 = 0x21;
/// The port that the first client of each address claims.
const FIRST_PORT: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: ProxyVersion, clients: &[&str], index: u32, target: &str) -> Vec<u8> {
        let clients: Vec<Block> = clients.iter().map(|text| text.parse().unwrap()).collect();
        let mut out = Vec::new();
        ProxyHeader::new(version, &clients).write(index, target.parse().unwrap(), &mut out);
        out
    }

    #[test]
    fn version_1_is_a_line() {
        let line = header(ProxyVersion::V1, &["203.0.113.5-203.0.113.6"], 3, "127.0.0.1:1883");
        assert_eq!(line, b"PROXY TCP4 203.0.113.6 127.0.0.1 1025 1883\r\n");
        let line = header(ProxyVersion::V1, &[], 0, "[::1]:1883");
        assert_eq!(line, b"PROXY TCP6 2001:2::1 ::1 1024 1883\r\n");
    }

    #[test]
    fn version_2_is_a_signature_and_two_addresses() {
        let bytes = header(ProxyVersion::V2, &["203.0.113.5"], 0, "127.0.0.1:1883");
        assert_eq!(bytes[..12], *b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A");
        assert_eq!(bytes[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(bytes[16..], [203, 0, 113, 5, 127, 0, 0, 1, 4, 0, 7, 0x5B]);
        let bytes = header(ProxyVersion::V2, &["2001:db8::7"], 0, "[::1]:1883");
        assert_eq!(bytes[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(bytes.len(), 16 + 36);
        assert_eq!(bytes[31], 7);
    }

    #[test]
    fn clients_of_the_other_family_leave_the_benchmark_network() {
        let line = header(ProxyVersion::V1, &["2001:db8::7"], 0, "127.0.0.1:1");
        assert!(line.starts_with(b"PROXY TCP4 198.18.0.1 "));
    }
}

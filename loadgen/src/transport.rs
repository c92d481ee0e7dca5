//! The border between the bytes of a client and the bytes of a connection.
//!
//! An endpoint's URL names the transport. Here is TCP (`mqtt://`), plain or with a PROXY header before the
//! client's first byte. What needs a dialogue of its own before the client may speak (TLS, WebSocket) belongs
//! behind the same border, as a variant of [`Transport`] that the engine asks at four moments:
//!
//! 1. the socket is connected: [`Transport::connected`] writes the first bytes, and the client's turn
//!    (`Script::opened`) comes when the last leg is done;
//! 2. bytes have come: they are decoded before `Script::received` sees them;
//! 3. the client has written: its output is encoded before it is sent;
//! 4. the client closes: the farewell of the transport precedes the close of the socket.
//!
//! Each step that takes a round trip is a [`crate::record::Leg`], which the script is told of when it is done.

use std::net::{SocketAddr, ToSocketAddrs as _};

use crate::engine::ConnId;
use crate::hosts::proxy::ProxyHeader;

/// What carries the clients' bytes.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    /// TCP and nothing else.
    Tcp,
    /// TCP, where each connection begins with a PROXY header that names a made-up client.
    ProxiedTcp(ProxyHeader),
}

impl Transport {
    /// Whether something is sent before the client's first byte.
    pub(crate) const fn speaks_first(&self) -> bool {
        match self {
            Self::Tcp => false,
            Self::ProxiedTcp(_) => true,
        }
    }

    /// Writes what comes before the client's first byte on a connection to `target`.
    pub(crate) fn connected(&self, conn: ConnId, target: SocketAddr, out: &mut Vec<u8>) {
        match self {
            Self::Tcp => {}
            Self::ProxiedTcp(header) => header.write(conn.0, target, out),
        }
    }
}

/// The addresses that one endpoint stands for: `mqtt://host:port`, `host`, `host:first-last` (several ports).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// At least one.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Endpoint {
    /// Reads an endpoint and resolves its host (to the first address of a name); the port is 1883 unless it is
    /// given. May ask the name service.
    ///
    /// # Errors
    /// When the transport is not supported, the text is no endpoint, or the host has no address.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or_else(|| ("mqtt", text.trim()));
        if !SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "the transport {scheme}:// is not supported; supported is mqtt:// (MQTT over TCP)"
            ));
        }
        let authority = rest.trim_end_matches('/');
        let is_bare_v6 = authority.parse::<std::net::Ipv6Addr>().is_ok();
        let with_ports =
            authority.rsplit_once(':').and_then(|(host, ports)| Some((host, port_range(ports)?)));
        let (host, (first, last)) = match with_ports {
            Some(split) if !is_bare_v6 => split,
            Some(_) | None => (authority, (DEFAULT_PORT, DEFAULT_PORT)),
        };
        let host = host.trim_matches(['[', ']']);
        let mut resolved = (host, first).to_socket_addrs().map_err(|error| format!("{host:?}: {error}"))?;
        let address = resolved.next().ok_or_else(|| format!("{host:?} has no address"))?;
        Ok(Self { addresses: (first..=last).map(|port| SocketAddr::new(address.ip(), port)).collect() })
    }
}

/// One port, or the first and the last of several.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Schemes of MQTT over plain TCP.
const SCHEMES: [&str; 2] = ["mqtt", "tcp"];
/// The port of MQTT without TLS.
const DEFAULT_PORT: u16 = 1883;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_in_all_forms() {
        for (text, expected) in [
            ("127.0.0.1:1884", "127.0.0.1:1884"),
            ("mqtt://127.0.0.1:1884/", "127.0.0.1:1884"),
            ("tcp://127.0.0.1", "127.0.0.1:1883"),
            ("127.0.0.1", "127.0.0.1:1883"),
            ("[::1]:7", "[::1]:7"),
            ("::1", "[::1]:1883"),
            ("[::1]", "[::1]:1883"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.addresses, [expected.parse().unwrap()], "{text}");
        }
        assert!(Endpoint::parse("").is_err());
    }

    #[test]
    fn a_range_of_ports_is_several_addresses() {
        let endpoint = Endpoint::parse("127.0.0.1:1883-1886").unwrap();
        assert_eq!(endpoint.addresses.len(), 4);
        assert_eq!(endpoint.addresses[3].to_string(), "127.0.0.1:1886");
        assert!(Endpoint::parse("127.0.0.1:9-8").is_err());
    }

    #[test]
    fn a_transport_that_is_not_there_is_named_with_what_is() {
        for scheme in ["mqtts", "ws", "wss", "quic", "http"] {
            let error = Endpoint::parse(&format!("{scheme}://127.0.0.1")).unwrap_err();
            assert!(error.contains(scheme) && error.contains("supported is mqtt://"), "{error}");
        }
    }
}

//! Listener URLs: `mqtt://ADDRESS:PORT`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the broker listens, and what is spoken there. Later transports add a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListenerUrl {
    /// Address and port; port 0 asks the kernel for a free one.
    pub(crate) address: SocketAddr,
}

impl ListenerUrl {
    /// MQTT over TCP at this address.
    pub(crate) const fn mqtt(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong and what to write instead, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; write mqtt://127.0.0.1:1883 for clients on this host".to_owned());
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("has no scheme; write mqtt://{text}"));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => {}
            "mqtts" | "ssl" | "tls" | "ws" | "wss" | "quic" => {
                return Err(format!(
                    "asks for {scheme}, which this version does not serve yet; it serves mqtt:// (MQTT over TCP). \
                     Put a TLS or WebSocket proxy in front, or use mqtt://{rest}"
                ));
            }
            _ => return Err(format!("has the scheme '{scheme}', which is not known; write mqtt://{rest}")),
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#', '@']) {
            return Err(format!("has '{}' after the address; write mqtt://{}", &rest[at..], &rest[..at]));
        }
        address(rest).map(Self::mqtt)
    }

    /// Whether only programs on this host can reach it.
    pub(crate) fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

impl fmt::Display for ListenerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}", self.address)
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `[IPv6]`, `[IPv6]:PORT` or `localhost[:PORT]`.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bracketed = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    match bracketed.unwrap_or(text).parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) if bracketed.is_none() => return Err(unbracketed(text)),
        Ok(ip) => return Ok(SocketAddr::new(ip, MQTT_PORT)),
        Err(_) => {}
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "1883"));
    let Ok(port) = port.parse::<u16>() else {
        return Err(format!("has the port '{port}', which is not a number from 0 to 65535"));
    };
    match host {
        "localhost" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        "" | "*" => Err(format!(
            "has no address; write mqtt://0.0.0.0:{port} for every IPv4 address or mqtt://[::]:{port} for IPv4 and IPv6"
        )),
        _ => Err(format!(
            "has the host '{host}', which is not an IP address; a listener needs the address of an interface, for \
             example mqtt://127.0.0.1:{port} or mqtt://[::1]:{port}"
        )),
    }
}

/// What to say of an IPv6 address without brackets: whether it ends with a port can only be guessed.
fn unbracketed(text: &str) -> String {
    let (host, port) = text
        .rsplit_once(':')
        .filter(|(host, port)| host.parse::<IpAddr>().is_ok() && port.parse::<u16>().is_ok())
        .unwrap_or((text, "1883"));
    format!("has an IPv6 address without brackets; write mqtt://[{host}]:{port}")
}

/// The port registered for MQTT over TCP, taken when a URL has none.
const MQTT_PORT: u16 = 1883;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_taken() {
        for (text, shown, loopback) in [
            ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883", true),
            ("mqtt://127.8.7.6:0", "mqtt://127.8.7.6:0", true),
            ("mqtt://[::1]:1884", "mqtt://[::1]:1884", true),
            ("mqtt://[::ffff:127.0.0.1]:1", "mqtt://[::ffff:127.0.0.1]:1", true),
            ("mqtt://localhost", "mqtt://127.0.0.1:1883", true),
            ("mqtt://localhost:99/", "mqtt://127.0.0.1:99", true),
            ("MQTT://[::]", "mqtt://[::]:1883", false),
            ("tcp://0.0.0.0:1883", "mqtt://0.0.0.0:1883", false),
            ("mqtt://192.0.2.1", "mqtt://192.0.2.1:1883", false),
        ] {
            let url = ListenerUrl::parse(text).unwrap_or_else(|problem| panic!("{text} {problem}"));
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn a_wrong_url_says_what_to_write() {
        for (text, advice) in [
            ("127.0.0.1:1883", "write mqtt://127.0.0.1:1883"),
            ("mqtts://0.0.0.0:8883", "does not serve yet"),
            ("ws://0.0.0.0:8083/mqtt", "does not serve yet"),
            ("http://127.0.0.1:1883", "scheme 'http', which is not known"),
            ("", "is empty; write mqtt://127.0.0.1:1883"),
            ("mqtt://::1:1884", "without brackets; write mqtt://[::1]:1884"),
            ("mqtt://::1", "without brackets; write mqtt://[::1]:1883"),
            ("mqtt://::", "without brackets; write mqtt://[::]:1883"),
            ("mqtt://:1883", "write mqtt://0.0.0.0:1883"),
            ("mqtt://*:1883", "[::]:1883"),
            ("mqtt://broker.example:1883", "not an IP address"),
            ("mqtt://127.0.0.1:99999", "not a number from 0 to 65535"),
            ("mqtt://127.0.0.1:1883/path", "has '/path' after the address"),
            ("mqtt://user@127.0.0.1", "has '@127.0.0.1' after the address"),
        ] {
            let problem = ListenerUrl::parse(text).expect_err(text);
            assert!(problem.contains(advice), "{text}: {problem}");
        }
    }
}

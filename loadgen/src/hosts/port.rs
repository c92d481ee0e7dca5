//! Who chooses the local port of a connection: the kernel, or the generator from a list of ports.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::str::FromStr;

/// Where local ports come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PortChoice {
    /// The kernel picks one when it connects.
    #[default]
    Kernel,
    /// The generator walks through the kernel's own range, net.ipv4.ip_local_port_range.
    Ephemeral,
    /// The generator walks through these ports, both ends included.
    Range {
        /// The lowest.
        first: u16,
        /// The highest.
        last: u16,
    },
}

impl PortChoice {
    /// The ports to walk through, without those that the host reserves; `None`: the kernel picks.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub(crate) fn ports(self) -> io::Result<Option<Rc<[u16]>>> {
        let (first, last) = match self {
            Self::Kernel => return Ok(None),
            Self::Ephemeral => ephemeral_range(Path::new("/proc"))?,
            Self::Range { first, last } => (first, last),
        };
        let reserved = reserved_ports(Path::new("/proc"))?;
        let is_free = |port: &u16| !reserved.iter().any(|(first, last)| (*first..=*last).contains(port));
        Ok(Some((first..=last).filter(is_free).collect()))
    }
}

impl FromStr for PortChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kernel" => return Ok(Self::Kernel),
            "ephemeral" => return Ok(Self::Ephemeral),
            _ => {}
        }
        let range = text
            .split_once('-')
            .and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?)));
        match range {
            Some((first, last)) if 0 < first && first <= last => Ok(Self::Range { first, last }),
            _ => Err(format!("{text:?} is neither `kernel`, `ephemeral` nor a range such as 1024-65535")),
        }
    }
}

/// The range that the kernel picks local ports from, as `proc` says.
///
/// # Errors
/// When it can't be read.
pub(crate) fn ephemeral_range(proc: &Path) -> io::Result<(u16, u16)> {
    let text = read(&proc.join("sys/net/ipv4/ip_local_port_range"))?;
    let mut words = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Ok((first, last)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("ip_local_port_range reads {text:?}"))),
    }
}

/// Ports that the host keeps for listeners, as ranges; a kernel without the setting reserves none.
///
/// # Errors
/// When the setting exists and is not a list of ports.
pub(crate) fn reserved_ports(proc: &Path) -> io::Result<Vec<(u16, u16)>> {
    let text = read(&proc.join("sys/net/ipv4/ip_local_reserved_ports")).unwrap_or_default();
    let items = text.trim().split(',').filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            first.parse().ok().zip(last.parse().ok()).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("ip_local_reserved_ports has {item:?}"))
            })
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the generator's edge to /proc")]
fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_in_all_forms() {
        for (text, expected) in [
            ("kernel", PortChoice::Kernel),
            ("ephemeral", PortChoice::Ephemeral),
            ("1024-65535", PortChoice::Range { first: 1024, last: 65_535 }),
            ("7-7", PortChoice::Range { first: 7, last: 7 }),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "1024", "0-9", "9-8", "1-65536", "any"] {
            assert!(text.parse::<PortChoice>().unwrap_err().contains("ephemeral"), "{text}");
        }
    }

    #[test]
    fn the_ports_of_a_range_are_all_of_it() {
        let ports = PortChoice::Range { first: 60_001, last: 60_100 }.ports().unwrap().unwrap();
        assert!(ports.len() <= 100 && ports.iter().all(|port| (60_001..=60_100).contains(port)));
        assert_eq!(PortChoice::Kernel.ports().unwrap(), None);
    }
}

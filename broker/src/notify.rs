//! Tells systemd how far the broker is: sd_notify(3) over a datagram socket, when the unit has `Type=notify`.
//!
//! A broker that was not started so has no such socket, and nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to whoever started the process. One per process.
#[derive(Debug)]
pub(crate) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// To the socket that the environment names.
    ///
    /// # Errors
    /// When it names one that cannot be: the service would be waited for in vain.
    pub(crate) fn new(socket: Option<&OsStr>) -> io::Result<Self> {
        let Some(name) = socket.filter(|name| !name.is_empty()) else {
            return Ok(Self { to: None });
        };
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        Ok(Self { to: Some((UnixDatagram::unbound()?, address)) })
    }

    /// The broker listens and serves.
    ///
    /// # Errors
    /// What the kernel says; systemd then ends the service when its time to start is over.
    pub(crate) fn ready(&self, status: &str) -> io::Result<()> {
        self.send(&format!("READY=1\nSTATUS={}\n", status.replace('\n', " ")))
    }

    /// The start takes longer: it has come so far, and wants so much time until the next word.
    ///
    /// # Errors
    /// What the kernel says; systemd then ends the service when its time to start is over.
    pub(crate) fn patience(&self, status: &str, time: Duration) -> io::Result<()> {
        let status = status.replace('\n', " ");
        self.send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={status}\n", time.as_micros()))
    }

    /// The broker begins to stop.
    ///
    /// # Errors
    /// What the kernel says; it changes nothing about the stop.
    pub(crate) fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1\nSTATUS=saying goodbye to clients\n")
    }

    fn send(&self, text: &str) -> io::Result<()> {
        let Some((socket, address)) = &self.to else {
            return Ok(());
        };
        socket.send_to_addr(text.as_bytes(), address).map(drop)
    }
}

/// The socket that an environment names.
pub(crate) fn socket_of(env: &[(OsString, OsString)]) -> Option<&OsStr> {
    env.iter().find(|(name, _)| name == "NOTIFY_SOCKET").map(|(_, value)| value.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).expect("a datagram");
        String::from_utf8(bytes[..length].to_vec()).expect("text")
    }

    #[test]
    fn a_socket_of_a_path_hears_both_states() {
        let path = std::env::temp_dir().join(format!("dunlin-notify-{}", std::process::id()));
        let heard = UnixDatagram::bind(&path).expect("a socket");
        let notify = Notify::new(Some(path.as_os_str())).expect("an address");
        notify.ready("two\nlines").expect("sent");
        assert_eq!(received(&heard), "READY=1\nSTATUS=two lines\n");
        notify.patience("half", Duration::from_secs(30)).expect("sent");
        assert_eq!(received(&heard), "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=half\n");
        notify.stopping().expect("sent");
        assert!(received(&heard).starts_with("STOPPING=1\n"));
        drop(std::fs::remove_file(path));
    }

    #[test]
    fn an_abstract_socket_is_named_with_an_at_sign() {
        let name = format!("dunlin-notify-abstract-{}", std::process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name"))
            .expect("a socket");
        let notify = Notify::new(Some(OsStr::new(&format!("@{name}")))).expect("an address");
        notify.ready("up").expect("sent");
        assert!(received(&heard).starts_with("READY=1\n"));
    }

    #[test]
    fn without_a_socket_nothing_is_sent() {
        let notify = Notify::new(socket_of(&[])).expect("nothing to do");
        notify.ready("up").expect("nothing is sent");
        let env = [(OsString::from("NOTIFY_SOCKET"), OsString::from("/nowhere/at/all"))];
        let lost = Notify::new(socket_of(&env)).expect("an address");
        assert!(lost.ready("up").is_err());
        assert!(Notify::new(Some(OsStr::new(&"x".repeat(200)))).is_err());
    }
}

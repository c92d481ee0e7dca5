//! Starts a contender on its core, waits until it accepts, and ends it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::{Bench, Error};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The floor tool: the machine's own price.
    Floor,
    /// This broker.
    Dunlin,
    /// The yardstick: Debian's mosquitto.
    Mosquitto,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Floor => "floor",
            Self::Dunlin => "dunlin",
            Self::Mosquitto => "mosquitto",
        })
    }
}

/// A contender that is running; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Contender {
    child: Child,
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    scratch: Option<PathBuf>,
}

impl Contender {
    /// Starts a contender and waits until it accepts connections.
    ///
    /// # Errors
    /// When it can't be started or does not accept in time.
    pub(crate) fn start(bench: &Bench, kind: Kind, shards: u16) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, bench.port));
        await_free(address)?;
        let mut scratch = None;
        let mut command = match kind {
            Kind::Floor => {
                let mut command = Command::new(&bench.floor);
                command.args(["floor", "--listen", &address.to_string()]);
                command
            }
            Kind::Dunlin => {
                let mut command = Command::new(&bench.dunlin);
                command.args(["--listen", &format!("mqtt://{address}"), "--shards", &shards.to_string()]);
                command.args(["--cores", &bench.dunlin_cores, "--memory-only"]);
                command.args(&bench.dunlin_arguments);
                command
            }
            Kind::Mosquitto => {
                let config = mosquitto_config(bench.port)?;
                let mut command = Command::new(mosquitto_program()?);
                command.arg("-c").arg(&config);
                scratch = Some(config);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child inherits the cores of the thread that starts it.
        dunlin_ring::pin_to_core(bench.broker_core)
            .map_err(|source| Error::host("pinning to the contender's core", source))?;
        let child = command.spawn().map_err(|source| Error::host(format!("starting {kind}"), source))?;
        let mut contender = Self { child, kind, address, scratch };
        contender.await_ready()?;
        Ok(contender)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn await_ready(&mut self) -> Result<(), Error> {
        for _ in 0..READY_TRIES {
            if TcpStream::connect(self.address).is_ok() {
                // The probe's own connection is over before anything is measured.
                pause();
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Error::Advice(format!("{} ended at once with {status}", self.kind)));
            }
            pause();
        }
        Err(Error::Advice(format!("{} does not accept connections on {}", self.kind, self.address)))
    }
}

/// Waits until nothing listens on the address: the kernel takes apart the rings of a process, and with them
/// its sockets, some time after the process has ended.
fn await_free(address: SocketAddr) -> Result<(), Error> {
    for _ in 0..READY_TRIES {
        if TcpStream::connect(address).is_err() {
            return Ok(());
        }
        pause();
    }
    Err(Error::Advice(format!("something already listens on {address}; choose another --port")))
}

impl Drop for Contender {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(file) = &self.scratch {
            drop(std::fs::remove_file(file));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool may sleep while a process starts")]
fn pause() {
    std::thread::sleep(READY_PAUSE);
}

/// Settings under which mosquitto drops nothing and delays nothing.
fn mosquitto_config(port: u16) -> Result<PathBuf, Error> {
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
         max_queued_messages 0\nmax_inflight_messages 0\nlog_type none\n"
    );
    let file = std::env::temp_dir().join(format!("dunlin-perf-mosquitto-{}.conf", std::process::id()));
    super::write(&file, &text)?;
    Ok(file)
}

/// Finds mosquitto, installing Debian's package when it is missing.
fn mosquitto_program() -> Result<PathBuf, Error> {
    if let Some(found) = mosquitto_installed() {
        return Ok(found);
    }
    let installed = Command::new("apt-get")
        .args(["install", "--yes", "--quiet", "mosquitto"])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    match mosquitto_installed() {
        Some(found) if installed => Ok(found),
        _ => {
            Err(Error::Advice("mosquitto is missing; install it with: apt-get install mosquitto".to_owned()))
        }
    }
}

fn mosquitto_installed() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_file())
        .map(Path::to_path_buf)
}

/// Version line of the installed mosquitto, for the report.
pub(crate) fn mosquitto_version() -> Option<String> {
    let program = mosquitto_installed()?;
    let output: io::Result<_> = Command::new(program).arg("-h").output();
    let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

const READY_TRIES: u32 = 100;
const READY_PAUSE: Duration = Duration::from_millis(50);

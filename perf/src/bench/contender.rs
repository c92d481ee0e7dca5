//! Starts a contender on its cores, waits until it accepts, and ends it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Bench;
use super::scenario::Scenario;
use crate::error::Error;
use crate::files;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The floor tool: the machine's own price.
    Floor,
    /// This broker.
    Dunlin,
    /// The yardstick: Debian's mosquitto.
    Mosquitto,
    /// rumqttd, from crates.io.
    Rumqttd,
    /// RMQTT's server, from crates.io.
    Rmqttd,
    /// aedes, from npm.
    Aedes,
}

impl Kind {
    /// All of them, in the order of tables.
    pub(crate) const ALL: [Self; 6] =
        [Self::Floor, Self::Dunlin, Self::Mosquitto, Self::Rumqttd, Self::Rmqttd, Self::Aedes];

    /// Whether it is somebody else's broker.
    pub(crate) const fn is_rival(self) -> bool {
        !matches!(self, Self::Floor | Self::Dunlin)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Floor => "floor",
            Self::Dunlin => "dunlin",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::Rmqttd => "rmqttd",
            Self::Aedes => "aedes",
        })
    }
}

/// A contender that is running; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Contender {
    child: Child,
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    scratch: PathBuf,
}

impl Contender {
    /// Starts a contender for a scenario and waits until it accepts connections.
    ///
    /// # Errors
    /// When it can't be started or does not accept in time.
    pub(crate) fn start(bench: &Bench, kind: Kind, scenario: &Scenario) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, bench.port));
        await_free(address)?;
        let scratch = scratch_folder()?;
        let cores = bench.cores_of(kind, scenario);
        let mut command = match kind {
            Kind::Floor => {
                let mut command = Command::new(&bench.floor);
                command.args(["floor", "--listen", &address.to_string()]);
                command
            }
            Kind::Dunlin => {
                let list: Vec<String> = cores.iter().map(usize::to_string).collect();
                let mut command = Command::new(&bench.dunlin);
                command.args(["--listen", &format!("mqtt://{address}")]);
                command.args(["--shards", &bench.shards_of(scenario).to_string(), "--memory-only"]);
                command.args(["--cores", &list.join(",")]).args(&bench.dunlin_arguments);
                command
            }
            Kind::Mosquitto | Kind::Rumqttd | Kind::Rmqttd | Kind::Aedes => {
                let rival = bench.rivals.iter().find(|rival| rival.kind == kind);
                let rival = rival.ok_or_else(|| Error::Advice(format!("{kind} is not installed")))?;
                rival.command(bench.port, &scratch)?
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints(&scratch)?);
        // A child inherits the cores of the thread that starts it.
        dunlin_ring::pin_to_cores(&cores)
            .map_err(|source| Error::host(format!("pinning to the contender's cores {cores:?}"), source))?;
        let child = command.spawn().map_err(|source| Error::host(format!("starting {kind}"), source))?;
        let mut contender = Self { child, kind, address, scratch };
        contender.await_ready()?;
        Ok(contender)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it is not running any more.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let complaint = files::read(&self.scratch.join(COMPLAINTS)).unwrap_or_default();
        let last: Vec<&str> = complaint.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = last.last().map_or(String::new(), |line| format!(": {}", line.trim()));
        Some(format!("{} ended with {status}{last}", self.kind))
    }

    fn is_ready(&self) -> bool {
        let Ok(stream) = TcpStream::connect(self.address) else { return false };
        self.kind == Kind::Floor || accepts_client(&stream).unwrap_or(false)
    }

    fn await_ready(&mut self) -> Result<(), Error> {
        for _ in 0..READY_TRIES {
            if self.is_ready() {
                // The probe's own connection is over before anything is measured.
                pause();
                return Ok(());
            }
            if let Some(how) = self.ended() {
                return Err(Error::Advice(how));
            }
            pause();
        }
        Err(Error::Advice(format!("{} does not accept clients on {}", self.kind, self.address)))
    }
}

/// Whether a broker accepts an MQTT client on this connection. Some listen before they can.
fn accepts_client(mut stream: &TcpStream) -> io::Result<bool> {
    let mut answer = [0; 4];
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(CONNECT)?;
    stream.read_exact(&mut answer)?;
    stream.write_all(DISCONNECT)?;
    Ok(answer == CONNACK)
}

/// Waits until nothing listens on the address: the kernel takes apart the rings of a process, and with them
/// its sockets, some time after the process has ended.
fn await_free(address: SocketAddr) -> Result<(), Error> {
    for _ in 0..FREE_TRIES {
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
        drop(std::fs::remove_dir_all(&self.scratch));
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool may sleep while a process starts or works")]
pub(super) fn pause() {
    std::thread::sleep(READY_PAUSE);
}

/// A folder for the files of one contender's run.
fn scratch_folder() -> Result<PathBuf, Error> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("dunlin-perf-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .map_err(|source| Error::host(format!("creating {}", folder.display()), source))?;
    Ok(folder)
}

#[expect(clippy::disallowed_methods, reason = "the tool's edge to the file system")]
fn complaints(scratch: &std::path::Path) -> Result<File, Error> {
    let file = scratch.join(COMPLAINTS);
    File::create(&file).map_err(|source| Error::host(format!("creating {}", file.display()), source))
}

/// Where a contender's standard error goes.
const COMPLAINTS: &str = "stderr";
/// An MQTT 3.1.1 client `probe` with a clean session and a Keep Alive of a minute, its acceptance, and its goodbye.
const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3C\x00\x05probe";
const CONNACK: [u8; 4] = [0x20, 0x02, 0x00, 0x00];
const DISCONNECT: &[u8] = b"\xE0\x00";
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
const READY_TRIES: u32 = 100;
/// Taking apart tens of thousands of sockets takes a busy kernel many seconds.
const FREE_TRIES: u32 = 600;
const READY_PAUSE: Duration = Duration::from_millis(50);

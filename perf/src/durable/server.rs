//! A broker with a data directory: started, asked for the numbers of its log, killed, started again.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::disk::folder_bytes;
use crate::error::Error;
use crate::files;

/// Who serves, and what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Dunlin: nothing on disk.
    Memory,
    /// Dunlin: synced a few times a second, acknowledgements do not wait.
    Interval,
    /// Dunlin: acknowledgements wait for the disk.
    Commit,
    /// mosquitto with persistence.
    Mosquitto,
}

impl Level {
    /// All of them, in the order of tables.
    pub(crate) const ALL: [Self; 4] = [Self::Memory, Self::Interval, Self::Commit, Self::Mosquitto];

    /// The name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "dunlin memory",
            Self::Interval => "dunlin interval",
            Self::Commit => "dunlin commit",
            Self::Mosquitto => "mosquitto",
        }
    }

    const fn durability(self) -> &'static str {
        match self {
            Self::Memory | Self::Mosquitto => "memory",
            Self::Interval => "interval",
            Self::Commit => "commit",
        }
    }
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) dunlin: PathBuf,
    pub(crate) port: u16,
    pub(crate) core: usize,
    /// The run's folder.
    pub(crate) folder: PathBuf,
}

/// A broker that runs; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    site: Site,
    level: Level,
    /// From starting the process to its answer to a CONNECT.
    pub(crate) ready: Duration,
}

impl Server {
    /// Starts a broker on the run's data folder and waits until it has accepted a client.
    ///
    /// # Errors
    /// When it can't be started or does not answer in time.
    #[expect(clippy::disallowed_methods, reason = "the tool's edge to the clock")]
    pub(crate) fn start(site: &Site, level: Level, patience: Duration) -> Result<Self, Error> {
        site.await_free()?;
        let mut command = site.command(level)?;
        dunlin_ring::pin_to_cores(&[site.core])
            .map_err(|source| Error::host(format!("pinning to core {}", site.core), source))?;
        let began = Instant::now();
        let child =
            command.spawn().map_err(|source| Error::host(format!("starting {}", level.name()), source))?;
        let mut server = Self { child, site: site.clone(), level, ready: Duration::ZERO };
        while began.elapsed() < patience {
            if accepts(site.address()) {
                server.ready = began.elapsed();
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                let said = files::read(&site.output()).unwrap_or_default();
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                return Err(Error::Advice(format!("{} ended with {status}: {last}", level.name())));
            }
            pause(Duration::from_millis(5));
        }
        Err(Error::Advice(format!("{} does not accept clients within {patience:?}", level.name())))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory now, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = files::read(Path::new(&format!("/proc/{}/status", self.pid()))).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        field("VmRSS:").unwrap_or(0) * 1024
    }

    /// The numbers of its log since it started: what a dump (SIGUSR1) tells. Empty where there is no log.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub(crate) fn log_numbers(&self) -> Result<BTreeMap<String, u64>, Error> {
        if matches!(self.level, Level::Memory | Level::Mosquitto) {
            return Ok(BTreeMap::new());
        }
        let seen = dumps(&files::read(&self.site.output()).unwrap_or_default()).len();
        let status = Command::new("kill").args(["-USR1", &self.pid().to_string()]).status();
        status.map_err(|source| Error::host("sending SIGUSR1", source))?;
        for _ in 0..DUMP_TRIES {
            pause(Duration::from_millis(20));
            let said = files::read(&self.site.output()).unwrap_or_default();
            let mut all = dumps(&said);
            if all.len() > seen {
                return Ok(all.pop().unwrap_or_default());
            }
        }
        Err(Error::Advice("dunlin did not answer SIGUSR1 with the numbers of its log".to_owned()))
    }

    /// What it said of its recovery, if anything.
    pub(crate) fn recovery(&self) -> Option<Recovery> {
        let said = files::read(&self.site.output()).ok()?;
        let line = said.lines().rfind(|line| line.contains("data directory opened"))?;
        let fields = numbers(line);
        Some(Recovery {
            sessions: *fields.get("sessions")?,
            queued: *fields.get("queued")?,
            bytes: *fields.get("bytes")?,
            ms: *fields.get("ms")?,
        })
    }

    /// Bytes of its data on the disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        folder_bytes(&self.site.data())
    }

    /// The same when segments that are made ahead have been made: as soon as it is the same twice.
    pub(crate) fn settled_disk_bytes(&self) -> u64 {
        let mut last = self.disk_bytes();
        for _ in 0..SETTLE_TRIES {
            pause(Duration::from_millis(500));
            let now = self.disk_bytes();
            if now == last {
                break;
            }
            last = now;
        }
        last
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a start found in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Recovery {
    pub(crate) sessions: u64,
    /// Deliveries that wait.
    pub(crate) queued: u64,
    pub(crate) bytes: u64,
    pub(crate) ms: u64,
}

impl Site {
    /// Where brokers listen.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Waits until nobody listens: the kernel takes apart the rings of a broker some time after it was killed.
    fn await_free(&self) -> Result<(), Error> {
        let address = self.address();
        for _ in 0..FREE_TRIES {
            if TcpStream::connect(address).is_err() {
                return Ok(());
            }
            pause(Duration::from_millis(50));
        }
        Err(Error::Advice(format!("something already listens on {address}; choose another --port")))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn output(&self) -> PathBuf {
        self.folder.join("output")
    }

    /// Removes what the last broker left.
    pub(crate) fn clear(&self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }

    fn command(&self, level: Level) -> Result<Command, Error> {
        let host = |source| Error::host(format!("preparing {}", self.folder.display()), source);
        std::fs::create_dir_all(self.data()).map_err(host)?;
        let mut command = if level == Level::Mosquitto {
            let text = include_str!("../../rivals/mosquitto-durable.conf")
                .replace("{port}", &self.port.to_string())
                .replace("{folder}", &self.data().display().to_string());
            let file = self.folder.join("mosquitto.conf");
            files::write(&file, &text)?;
            let mut command = Command::new("mosquitto");
            command.arg("-c").arg(file);
            command
        } else {
            let mut command = Command::new(&self.dunlin);
            command.args(["--listen", &format!("mqtt://{}", self.address()), "--shards", "1"]);
            command.args(["--cores", &self.core.to_string(), "--durability", level.durability()]);
            command.arg("--data-dir").arg(self.data());
            command
        };
        let output = OpenOptions::new().create(true).append(true).open(self.output()).map_err(host)?;
        let error = output.try_clone().map_err(host)?;
        command.stdin(Stdio::null()).stdout(output).stderr(error);
        Ok(command)
    }
}

/// The numbers of each dump of a log in an output.
fn dumps(output: &str) -> Vec<BTreeMap<String, u64>> {
    output.lines().filter(|line| line.contains(" store.")).map(numbers).collect()
}

/// The fields `name=number` of a line.
fn numbers(line: &str) -> BTreeMap<String, u64> {
    let fields = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
    fields.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// Whether a broker accepts an MQTT client at this address.
fn accepts(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(CONNECT)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        stream.write_all(b"\xE0\x00")?;
        Ok(answer == [0x20, 2, 0, 0])
    };
    ask().unwrap_or(false)
}

#[expect(clippy::disallowed_methods, reason = "a tool may sleep while others work")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// An MQTT 3.1.1 client `probe` with a clean session.
const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3C\x00\x05probe";
/// A dump takes milliseconds; a shard that is busy answers a little later.
const DUMP_TRIES: u32 = 150;
const FREE_TRIES: u32 = 200;
const SETTLE_TRIES: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_dump_and_of_a_start_are_read() {
        let output = "ready\n\
            2026-01-01T00:00:00.000Z info  store store.syncs=7 store.sync_us.p50=127\n\
            2026-01-01T00:00:01.000Z info  store store.syncs=9\n";
        let all = dumps(output);
        assert_eq!((all.len(), all[0]["store.sync_us.p50"], all[1]["store.syncs"]), (2, 127, 9));
        let line =
            "info  data directory opened path=/d sessions=24 queued=931 records=9 bytes=21909600 ms=711";
        let fields = numbers(line);
        assert_eq!((fields["sessions"], fields["bytes"], fields.get("path")), (24, 21_909_600, None));
    }
}

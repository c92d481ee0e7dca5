//! A broker of a test's own.

use crate::folder::Folder;
use crate::program::{Ended, Program};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A broker to be started.
#[derive(Debug, Default)]
pub struct Start {
    shards: Option<u32>,
    port: u16,
    data_dir: Option<PathBuf>,
    under: Vec<OsString>,
    config: Option<String>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
}

/// A running broker; it ends with this value.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    program: Program,
    folder: Folder,
}

impl Start {
    /// With the defaults: one shard, a free port of the loopback address, a data directory of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this many shards.
    #[must_use]
    pub const fn shards(mut self, count: u32) -> Self {
        self.shards = Some(count);
        self
    }

    /// On this port, such as that of a broker that has ended.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// With this data directory, which outlives the broker.
    #[must_use]
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// As the arguments of another program, which becomes the broker: `unshare`, `setpriv`, `sh -c`.
    #[must_use]
    pub fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(OsString::from).collect();
        self
    }

    /// With this text as its configuration file.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With one more environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it listens.
    #[must_use]
    pub fn start(self) -> Broker {
        let (mut program, folder) = self.spawn();
        let line = program.line("line that says where it listens", |line| listening_at(line).is_some());
        let address = listening_at(&line).expect("the line was accepted for its address");
        program.line("line that says that it is ready", |line| line == "ready");
        Broker { address, process: Some(Process { program, folder }) }
    }

    /// Starts it where it cannot start, and waits for its end.
    #[must_use]
    pub fn fail(self) -> Ended {
        let (program, _folder) = self.spawn();
        let ended = program.end();
        assert!(!ended.status.success(), "it started and ended well\n{}{}", ended.out, ended.err);
        ended
    }

    /// Starts it where it may not start.
    ///
    /// # Errors
    /// How it ended, if it did so instead of listening.
    pub fn try_start(self) -> Result<Broker, Ended> {
        let (mut program, folder) = self.spawn();
        let Some(line) =
            program.line_or_end("line that says where it listens", |line| listening_at(line).is_some())
        else {
            return Err(program.end());
        };
        let address = listening_at(&line).expect("the line was accepted for its address");
        program.line("line that says that it is ready", |line| line == "ready");
        Ok(Broker { address, process: Some(Process { program, folder }) })
    }

    fn spawn(self) -> (Program, Folder) {
        assert!(external().is_none(), "this test needs a broker of its own; unset DUNLIN_E2E_BROKER");
        let folder = Folder::new();
        let mut command = dunlin();
        if let Some((wrapper, arguments)) = self.under.split_first() {
            let mut wrapped = Command::new(wrapper);
            wrapped.args(arguments).arg(command.get_program());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => wrapped.env(name, value),
                    None => wrapped.env_remove(name),
                };
            }
            command = wrapped;
        }
        let own = folder.path().join("data");
        command
            .args(["--listen", &format!("mqtt://127.0.0.1:{}", self.port), "--data-dir"])
            .arg(self.data_dir.as_ref().unwrap_or(&own))
            .args(["--shards", &self.shards.unwrap_or(1).to_string()]);
        if let Some(text) = &self.config {
            command.arg("--config").arg(folder.write("dunlin.toml", text));
        }
        // Many brokers at a time, each with little to store.
        command.env("DUNLIN_STORAGE__SEGMENT_SIZE", "4MB");
        command.args(&self.arguments).envs(self.environment);
        let program = Program::start(command.current_dir(folder.path()));
        (program, folder)
    }
}

impl Broker {
    /// Starts one with the defaults, or takes the one that `DUNLIN_E2E_BROKER` names.
    #[must_use]
    pub fn start() -> Self {
        Self::with_shards(1)
    }

    /// Starts one with this many shards, or takes the one that `DUNLIN_E2E_BROKER` names.
    #[must_use]
    pub fn with_shards(count: u32) -> Self {
        match external() {
            Some(address) => Self { address, process: None },
            None => Start::new().shards(count).start(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port as an argument for other programs.
    #[must_use]
    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// The running program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.process.as_mut().expect("a broker of the test's own").program
    }

    /// The folder of this broker.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.process.as_ref().expect("a broker of the test's own").folder
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("a broker of the test's own").program.signal(name);
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub fn kill(self) {
        self.signal("KILL");
        let _killed = self.end();
    }

    /// Stops it gracefully and returns what it said.
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        self.end().ok()
    }

    /// Waits for its end.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let process = self.process.take().expect("a broker of the test's own");
        process.program.end()
    }

    /// Fails with its log if it no longer runs.
    pub fn assert_alive(&mut self) {
        if let Some(process) = &mut self.process {
            assert!(process.program.is_running(), "the broker ended\n{}", process.program.text());
        }
    }

    /// The resident memory of the process, bytes.
    #[must_use]
    pub fn memory_bytes(&mut self) -> u64 {
        let path = format!("/proc/{}/status", self.program().id());
        let status = std::fs::read_to_string(path).expect("the status of the broker");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kibibytes * 1024
    }
}

/// The program under test, ready for arguments. Its environment has no `DUNLIN_` settings of the caller.
#[must_use]
pub fn dunlin() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DUNLIN_") {
            command.env_remove(name);
        }
    }
    command
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DUNLIN_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the path of the test");
    // target/debug/deps/TEST → target/debug/dunlin
    let beside = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").join("dunlin");
    if !beside.exists() {
        build(&beside);
    }
    beside
}

fn build(wanted: &Path) {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--package", "dunlin"]);
    if wanted.components().any(|part| part.as_os_str() == "release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be run");
    assert!(status.success() && wanted.exists(), "{} could not be built", wanted.display());
}

fn external() -> Option<SocketAddr> {
    let text = std::env::var("DUNLIN_E2E_BROKER").ok()?;
    Some(text.parse().expect("DUNLIN_E2E_BROKER is ADDRESS:PORT"))
}

/// The address in a line such as `… listening on mqtt://127.0.0.1:41234 …`.
fn listening_at(line: &str) -> Option<SocketAddr> {
    if !line.to_ascii_lowercase().contains("listen") {
        return None;
    }
    let (_, rest) = line.split_once("mqtt://")?;
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | ':' | '[' | ']'))
        .unwrap_or(rest.len());
    let address: SocketAddr = rest.get(..end)?.parse().ok()?;
    (address.port() != 0).then_some(address)
}

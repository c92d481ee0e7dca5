//! Configuration: defaults < file < environment < flags, checked as a whole.
//!
//! Reading order: `schema.rs` (the keys), `codec.rs` (what they take), then this file (how the layers meet).

pub(crate) mod check;
mod codec;
pub(crate) mod data_dir;
pub(crate) mod env;
pub(crate) mod file;
pub(crate) mod listen;
mod nearest;
pub(crate) mod print;
pub(crate) mod reload;
pub(crate) mod schema;
mod units;
pub(crate) mod value;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use dunlin_shard::config::{Durability, Mqtt};

use self::listen::ListenerUrl;
use self::schema::{SETTINGS, Setting};
use self::value::Raw;
use crate::log::Level;
use crate::topology::CoreList;

/// All settings of the process. One per node, replaced by a reload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// Listeners, shards and cores.
    pub(crate) server: Server,
    /// This broker among others.
    pub(crate) node: Node,
    /// Who may connect.
    pub(crate) auth: Auth,
    /// Where what outlives the process is kept.
    pub(crate) storage: Storage,
    /// What outlives the process, and what an acknowledgement promises of it.
    pub(crate) durability: DurabilitySettings,
    /// What is logged and how.
    pub(crate) log: LogSettings,
    /// How the process stops.
    pub(crate) shutdown: Shutdown,
    /// `$SYS`.
    pub(crate) sys_topics: SysTopics,
    /// The protocol, as the shards take it.
    pub(crate) mqtt: Mqtt,
}

/// `server.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// At least one.
    pub(crate) listen: Vec<ListenerUrl>,
    /// `None`: one per core.
    pub(crate) shards: Option<u16>,
    /// `None`: all that the process may use.
    pub(crate) cores: Option<CoreList>,
    /// `None`: what the open-file limit allows.
    pub(crate) max_connections: Option<u32>,
}

impl Default for Server {
    fn default() -> Self {
        let listen = vec![ListenerUrl::mqtt(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)))];
        Self { listen, shards: None, cores: None, max_connections: None }
    }
}

/// `node.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// The level of `$SYS/brokers/NAME/…`.
    pub(crate) name: String,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "dunlin@127.0.0.1".to_owned() }
    }
}

/// `auth.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Auth {
    /// Serve other hosts without authentication.
    pub(crate) allow_anonymous: bool,
}

/// `storage.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Storage {
    /// `None`: the usual place, see `data_dir.rs`.
    pub(crate) data_dir: Option<PathBuf>,
    /// Store nothing, whatever `durability.level` says.
    pub(crate) memory_only: bool,
    /// Most bytes of the logs; `None`: what the disk has.
    pub(crate) max_bytes: Option<u64>,
    /// Bytes of one piece of a log; `None`: by the number of shards.
    pub(crate) segment_bytes: Option<u64>,
}

/// `durability.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DurabilitySettings {
    /// What an acknowledgement promises.
    pub(crate) level: Durability,
    /// How often the disk is written at level `interval`, milliseconds.
    pub(crate) interval_ms: u64,
}

impl Default for DurabilitySettings {
    fn default() -> Self {
        Self { level: Durability::Commit, interval_ms: 100 }
    }
}

impl Settings {
    /// The level in force.
    pub(crate) const fn durability(&self) -> Durability {
        if self.storage.memory_only { Durability::Memory } else { self.durability.level }
    }
}

/// `log.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// Lowest level written.
    pub(crate) level: Level,
    /// Form of a line.
    pub(crate) format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Time, level, event, then key=value.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// `shutdown.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shutdown {
    /// Longest graceful stop, milliseconds.
    pub(crate) timeout_ms: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout_ms: 10_000 }
    }
}

/// `sys_topics.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SysTopics {
    /// Milliseconds; 0: off.
    pub(crate) sys_msg_interval_ms: u64,
    /// Milliseconds; 0: off.
    pub(crate) sys_heartbeat_interval_ms: u64,
    /// Which events of clients are told.
    pub(crate) sys_event_messages: SysEventMessages,
}

/// `sys_topics.sys_event_messages.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent switches, as in the configuration")]
pub(crate) struct SysEventMessages {
    /// `…/connected`.
    pub(crate) client_connected: bool,
    /// `…/disconnected`.
    pub(crate) client_disconnected: bool,
    /// `…/subscribed`.
    pub(crate) client_subscribed: bool,
    /// `…/unsubscribed`.
    pub(crate) client_unsubscribed: bool,
}

impl Default for SysEventMessages {
    fn default() -> Self {
        Self {
            client_connected: true,
            client_disconnected: true,
            client_subscribed: false,
            client_unsubscribed: false,
        }
    }
}

impl Default for SysTopics {
    fn default() -> Self {
        Self {
            sys_msg_interval_ms: 60_000,
            sys_heartbeat_interval_ms: 30_000,
            sys_event_messages: SysEventMessages::default(),
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// A configuration file.
    File {
        /// As given on the command line.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// A command-line flag.
    Flag {
        /// With its dashes.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env { name } => write!(f, "environment {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// One value that a layer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// Which key; a known one.
    pub(crate) name: &'static str,
    /// The value, unread.
    pub(crate) raw: Raw,
    /// Where it stands.
    pub(crate) origin: Origin,
}

/// What the layers are read from. Kept for the life of the process, so that a reload reads the same places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The environment of the process.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The flags that were given.
    pub(crate) flags: Vec<Given>,
}

/// The settings in force, and where each came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effective {
    /// The values.
    pub(crate) settings: Settings,
    /// One per key, in the order of [`SETTINGS`].
    pub(crate) origins: Vec<Origin>,
    /// What looks like a slip but is not an error.
    pub(crate) warnings: Vec<String>,
    /// Where data goes: as configured, or the usual place. `None` when neither is known.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Effective {
    /// Where the value of a key came from.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        let at = SETTINGS.iter().position(|setting| setting.name == name);
        at.and_then(|at| self.origins.get(at)).cloned().unwrap_or_default()
    }
}

/// All that is wrong with a configuration, each problem with its place and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub(crate) struct ConfigError {
    /// At least one.
    pub(crate) problems: Vec<String>,
}

/// Reads all layers and checks the whole.
///
/// # Errors
/// Every problem of every layer at once, so that one round of edits is enough.
pub(crate) fn load(sources: &Sources) -> Result<Effective, ConfigError> {
    let mut problems = Vec::new();
    let mut effective = Effective { origins: vec![Origin::Default; SETTINGS.len()], ..Effective::default() };
    let mut given = Vec::new();
    if let Some(path) = &sources.file {
        given.extend(file::read(path, &mut problems));
    }
    given.extend(env::read(&sources.env, &mut problems, &mut effective.warnings));
    given.extend(sources.flags.iter().cloned());
    for value in given {
        apply(&mut effective, &value, &mut problems);
    }
    let configured = effective.settings.storage.data_dir.clone();
    effective.data_dir = configured.or_else(|| data_dir::usual(&sources.env, data_dir::is_root()));
    if problems.is_empty() {
        problems = check::problems(&effective);
        effective.warnings.extend(check::warnings(&effective));
    }
    if problems.is_empty() { Ok(effective) } else { Err(ConfigError { problems }) }
}

fn apply(effective: &mut Effective, given: &Given, problems: &mut Vec<String>) {
    let at = SETTINGS.iter().position(|setting| setting.name == given.name);
    let (at, setting): (usize, &Setting) =
        at.map(|at| (at, &SETTINGS[at])).expect("layers only give names that schema::find knew");
    match (setting.apply)(&mut effective.settings, &given.raw) {
        Ok(()) => effective.origins[at] = given.origin.clone(),
        Err(problem) => problems.push(format!(
            "{}: {} = {} {problem}; it takes {}.",
            given.origin,
            given.name,
            given.raw,
            (setting.takes)()
        )),
    }
}

/// What to say of a key that no layer may have.
fn unknown_key(origin: &Origin, name: &str) -> String {
    if let Some(advice) = schema::known_elsewhere(name) {
        return format!("{origin}: {name} is a key of EMQX that Dunlin does not have: {advice}.");
    }
    let names = SETTINGS.iter().map(|setting| setting.name);
    match nearest::nearest(name, names) {
        Some(meant) => format!("{origin}: there is no key {name}; did you mean {meant}?"),
        None => {
            format!(
                "{origin}: there is no key {name}; `dunlin --print-config` without a file shows all keys."
            )
        }
    }
}

/// What to say of a section that the file has and the schema has not.
fn unknown_section(origin: &Origin, name: &str) -> String {
    if let Some(advice) = schema::known_elsewhere(name) {
        return format!("{origin}: [{name}] is a section of EMQX that Dunlin does not have: {advice}.");
    }
    match nearest::nearest(name, SETTINGS.iter().map(Setting::section)) {
        Some(meant) => format!("{origin}: there is no section [{name}]; did you mean [{meant}]?"),
        None => format!(
            "{origin}: there is no section [{name}]; `dunlin --print-config` without a file shows all of them."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(name: &'static str, flag: &'static str, value: &str) -> Given {
        Given { name, raw: Raw::Text(value.to_owned()), origin: Origin::Flag { name: flag } }
    }

    #[test]
    fn flags_win_over_the_environment_and_it_over_defaults() {
        let env = vec![
            (OsString::from("DUNLIN_LOG__LEVEL"), OsString::from("debug")),
            (OsString::from("DUNLIN_MQTT__MAX_INFLIGHT"), OsString::from("7")),
        ];
        let sources = Sources { file: None, env, flags: vec![flag("log.level", "--log-level", "error")] };
        let effective = load(&sources).expect("a configuration");
        assert_eq!(effective.settings.log.level, Level::Error);
        assert_eq!(effective.settings.mqtt.max_inflight, 7);
        assert_eq!(effective.settings.mqtt.max_awaiting_rel, Mqtt::default().max_awaiting_rel);
        assert_eq!(effective.origin("log.level").to_string(), "flag --log-level");
        assert_eq!(
            effective.origin("mqtt.max_inflight").to_string(),
            "environment DUNLIN_MQTT__MAX_INFLIGHT"
        );
        assert_eq!(effective.origin("mqtt.max_awaiting_rel"), Origin::Default);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let env = vec![
            (OsString::from("DUNLIN_MQTT__MAX_QOS_ALLOWED"), OsString::from("3")),
            (OsString::from("DUNLIN_MQTT__MAX_PAKET_SIZE"), OsString::from("1MB")),
        ];
        let sources = Sources { file: None, env, flags: vec![flag("server.shards", "--shards", "0")] };
        let error = load(&sources).expect_err("three problems");
        assert_eq!(error.problems.len(), 3);
        let text = error.to_string();
        assert!(text.contains(
            "environment DUNLIN_MQTT__MAX_QOS_ALLOWED: mqtt.max_qos_allowed = \"3\" is not a QoS; it takes 0, 1 or 2."
        ));
        assert!(text.contains("there is no key mqtt.max_paket_size; did you mean mqtt.max_packet_size?"));
        assert!(
            text.contains(
                "flag --shards: server.shards = \"0\" is out of range; it takes 1 to 1024, or auto."
            )
        );
    }

    #[test]
    fn a_key_of_emqx_without_counterpart_says_so() {
        let text = unknown_key(&Origin::Default, "mqtt.keepalive_check_interval");
        assert!(text.contains("is a key of EMQX that Dunlin does not have"));
    }
}

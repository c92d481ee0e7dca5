//! The command line: `dunlin [run]`, `dunlin check`, `dunlin tune` and `dunlin store`.
//!
//! Flags are texts here; what they may be is said once, in the configuration's schema.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::value::Raw;
use crate::config::{Given, Origin, Sources, env, schema};
use crate::store::StoreCommand;

/// An MQTT broker (3.1, 3.1.1, 5.0) whose cores share nothing.
#[derive(Debug, Parser)]
#[command(name = "dunlin", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunFlags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker (what `dunlin` does without a command).
    Run(RunFlags),
    /// Check the configuration and this host, and say what to change.
    Check(CheckFlags),
    /// Compare the kernel's settings with a profile, change them, change them back.
    #[command(subcommand, after_help = TUNE_HELP)]
    Tune(TuneCommand),
    /// Look into a data directory, compact it, carry it elsewhere.
    #[command(subcommand, after_help = crate::store::HELP)]
    Store(StoreCommand),
}

/// What `dunlin tune` does.
#[derive(Debug, Subcommand)]
pub(crate) enum TuneCommand {
    /// Compare this host with a profile; 1 when something is not as wanted.
    Check(TuneFlags),
    /// Change what is not as wanted, and remember what it was. A second time changes nothing.
    Apply(TuneApply),
    /// Put back everything as it was before the first apply.
    Revert(TuneRevert),
    /// Say why a setting matters, what it costs, how to undo it, and who says so.
    Explain(TuneExplain),
}

/// Flags of `dunlin tune check` and `apply`.
#[derive(Debug, Args)]
pub(crate) struct TuneFlags {
    /// throughput, latency, density, edge or container; the one that was applied last, else density.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Connections that the host is to hold; each profile has a number of its own.
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<u64>,
    /// The folder of an image instead of this host: only files are written there.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `dunlin tune apply`.
#[derive(Debug, Args)]
pub(crate) struct TuneApply {
    #[command(flatten)]
    pub(crate) flags: TuneFlags,
    /// Show what would be changed and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Flags of `dunlin tune revert`.
#[derive(Debug, Args)]
pub(crate) struct TuneRevert {
    /// The folder of an image instead of this host.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Show what would be changed and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `dunlin tune explain`.
#[derive(Debug, Args)]
pub(crate) struct TuneExplain {
    /// A setting, or a part of its name: `net.core.somaxconn`, `conntrack`.
    #[arg(value_name = "SETTING", required_unless_present = "all")]
    pub(crate) setting: Option<String>,
    /// All settings.
    #[arg(long, conflicts_with = "setting")]
    pub(crate) all: bool,
    /// Show how this host compares with this profile.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `dunlin run`.
#[derive(Debug, Args)]
pub(crate) struct RunFlags {
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    /// Print the effective configuration as TOML, with where each value comes from, and end.
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// Flags of `dunlin check`.
#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    /// Print the findings as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags that set a key of the configuration. They win over the environment and the file.
#[derive(Debug, Args)]
pub(crate) struct SettingFlags {
    /// Configuration file (TOML); also DUNLIN_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, for example mqtt://127.0.0.1:1883; may be repeated. Port 0 takes a free one.
    #[arg(long, value_name = "URL", num_args = 1..)]
    listen: Option<Vec<String>>,
    /// Number of shards; auto is one per core.
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// CPUs that shards are pinned to, for example 0-3,8.
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Most connections of all listeners together.
    #[arg(long, value_name = "N")]
    max_connections: Option<String>,
    /// Folder for sessions and messages that outlive the process; `--print-config` shows the usual one.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Keep sessions and messages in memory only.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    memory_only: Option<String>,
    /// What an acknowledgement promises: commit (it is on the disk), interval (it soon is) or memory.
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
    /// Serve clients without authentication on listeners that other hosts can reach.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_anonymous: Option<String>,
    /// Lowest level that is logged: error, warn, info or debug.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Form of a log line: text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Cli {
    /// The command; `run` when none is named.
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// Reads the command line of the process.
///
/// # Errors
/// How the process ends instead: 0 after `--help` or `--version`, 2 when the command line is wrong. It has been printed.
pub(crate) fn parse() -> Result<Command, ExitCode> {
    Cli::try_parse().map(Cli::into_command).map_err(|error| {
        drop(error.print());
        if let Some(tip) = tip(error.kind()) {
            drop(writeln!(std::io::stderr(), "\n  tip: {tip}"));
        }
        u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
    })
}

/// What the parser does not know of our conventions.
fn tip(kind: ErrorKind) -> Option<&'static str> {
    (kind == ErrorKind::ArgumentConflict).then_some(
        "flags stand after the command (`dunlin check --shards 4`), and a switch takes its value after '=' \
         (`--allow-anonymous=false`)",
    )
}

impl SettingFlags {
    /// Where the configuration comes from: these flags, the environment, and the file that either of them names.
    pub(crate) fn into_sources(self, env: Vec<(OsString, OsString)>) -> Sources {
        let file = self.config.clone().or_else(|| env::config_file(&env).map(PathBuf::from));
        Sources { file, env, flags: self.given() }
    }

    /// The flags that were given, as values of their keys.
    fn given(self) -> Vec<Given> {
        let list = self.listen.map(|urls| Raw::List(urls.into_iter().map(Raw::Text).collect()));
        let texts = [
            ("--shards", self.shards),
            ("--cores", self.cores),
            ("--max-connections", self.max_connections),
            ("--data-dir", self.data_dir),
            ("--memory-only", self.memory_only),
            ("--durability", self.durability),
            ("--allow-anonymous", self.allow_anonymous),
            ("--log-level", self.log_level),
            ("--log-format", self.log_format),
        ];
        let texts = texts.into_iter().filter_map(|(flag, text)| Some((flag, Raw::Text(text?))));
        let all = list.into_iter().map(|list| ("--listen", list)).chain(texts);
        all.map(|(flag, raw)| Given { name: key_of(flag), raw, origin: Origin::Flag { name: flag } })
            .collect()
    }
}

/// The key that a flag sets.
fn key_of(flag: &str) -> &'static str {
    let setting = schema::SETTINGS.iter().find(|setting| setting.flag == Some(flag));
    setting
        .map(|setting| setting.name)
        .expect("each flag of SettingFlags stands in the schema; a test counts them")
}

const TUNE_HELP: &str = "\
Profiles: throughput (busy clients), latency (steady delay; sets a core aside from four CPUs on), density (very many \
silent connections), edge (a small host behind a radio link), container (what a network namespace has of its own).

  dunlin tune check --profile density            what differs, and how
  sudo dunlin tune apply --profile density       change it; values are remembered in /var/lib/dunlin/tune.json
  sudo dunlin tune revert                        exactly as it was before
  dunlin tune explain somaxconn                  why

What a host does not have (a card, a governor, a firewall) is 'n/a' with the reason, and no error. Exit codes: 0 all as \
wanted, or done; 1 not, or something failed; 2 the command line was wrong.";

const AFTER_HELP: &str = "\
Every flag has a key in the configuration file and an environment variable DUNLIN_SECTION__KEY; flags win over the \
environment, which wins over the file. `dunlin --print-config` shows all keys and where their values come from.

Exit codes: 0 stopped gracefully, or nothing that must change was found; 1 could not start, or had to be cut short; 2 the \
command line was wrong.

Signals: SIGTERM and SIGINT stop gracefully (a second one at once), SIGHUP reads the configuration again, SIGUSR1 writes \
counters to the log.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn sources(args: &[&str]) -> Sources {
        let cli = Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"));
        match cli.into_command() {
            Command::Run(flags) => flags.settings.into_sources(Vec::new()),
            Command::Check(flags) => flags.settings.into_sources(Vec::new()),
            Command::Tune(_) | Command::Store(_) => panic!("this command reads no configuration"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_may_be_left_out() {
        let with =
            sources(&["dunlin", "run", "--shards", "2", "--listen", "mqtt://127.0.0.1:1", "mqtt://[::1]:2"]);
        let without = sources(&[
            "dunlin",
            "--shards=2",
            "--listen",
            "mqtt://127.0.0.1:1",
            "--listen",
            "mqtt://[::1]:2",
        ]);
        assert_eq!(with.flags, without.flags);
        assert_eq!(with.flags.len(), 2);
    }

    #[test]
    fn every_flag_of_the_schema_is_on_the_command_line_and_the_other_way_round() {
        let command = Cli::command();
        let own = ["config", "print-config", "json", "help", "version"];
        let mut on_line: Vec<String> = command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .filter(|name| !own.contains(name))
            .map(|name| format!("--{name}"))
            .collect();
        let mut in_schema: Vec<String> =
            schema::SETTINGS.iter().filter_map(|setting| setting.flag).map(str::to_owned).collect();
        on_line.sort();
        in_schema.sort();
        assert_eq!(on_line, in_schema);
        let all = "dunlin check --listen mqtt://127.0.0.1:1 --shards 1 --cores 0 --max-connections 5 --data-dir d \
                   --memory-only --durability memory --allow-anonymous --log-level warn --log-format json";
        let args: Vec<&str> = all.split_whitespace().collect();
        assert_eq!(sources(&args).flags.len(), in_schema.len());
    }

    #[test]
    fn a_switch_can_be_turned_off_over_the_file() {
        let on = sources(&["dunlin", "--allow-anonymous"]);
        let off = sources(&["dunlin", "--allow-anonymous=false"]);
        assert_eq!(on.flags[0].raw, Raw::Text("true".to_owned()));
        assert_eq!(off.flags[0].raw, Raw::Text("false".to_owned()));
        assert_eq!(off.flags[0].name, "auth.allow_anonymous");
    }

    #[test]
    fn the_environment_may_name_the_file() {
        let env = vec![(OsString::from("DUNLIN_CONFIG"), OsString::from("a.toml"))];
        let from_env =
            Cli::try_parse_from(["dunlin"]).expect("no flags").run.settings.into_sources(env.clone());
        assert_eq!(from_env.file, Some(PathBuf::from("a.toml")));
        let both = Cli::try_parse_from(["dunlin", "--config", "b.toml"]).expect("a flag");
        assert_eq!(both.run.settings.into_sources(env).file, Some(PathBuf::from("b.toml")));
    }
}

//! The command line of `dunlin store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What `dunlin store` does.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read everything and say whether it is sound; 1 when something is damaged. Changes nothing, also beside a running broker.
    Check(CheckFlags),
    /// Count sessions, messages, records and bytes. Changes nothing, also beside a running broker.
    Stats(StatsFlags),
    /// Print the records in the order of the log, one a line. Changes nothing, also beside a running broker.
    Dump(DumpFlags),
    /// Write the logs anew without what nobody needs any more. The broker must be stopped.
    Compact(CompactFlags),
    /// Write all sessions and messages as JSON lines. The broker must be stopped.
    Export(ExportFlags),
    /// Fill an empty data directory from JSON lines that export has written. The broker must be stopped.
    Import(ImportFlags),
}

/// Which data directory.
#[derive(Debug, Args)]
pub(crate) struct PlaceFlags {
    /// The data directory; else the one that the configuration names, else the usual one.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Configuration file (TOML); also DUNLIN_CONFIG.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Flags of `dunlin store check`.
#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `dunlin store stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    /// How many of the sessions with the longest queues to name.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    /// Only this client's session: what it has subscribed and how much waits. Found by the index where that can be opened, so
    /// not all of the log is read.
    #[arg(long, value_name = "ID", conflicts_with = "top")]
    pub(crate) client: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `dunlin store dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    /// Only records of this shard.
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u16>,
    /// Only records of this client's sessions.
    #[arg(long, value_name = "ID")]
    pub(crate) client: Option<String>,
    /// Only messages published to this topic, retained or not.
    #[arg(long, value_name = "TOPIC", conflicts_with = "client")]
    pub(crate) topic: Option<String>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print JSON lines, with payloads.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `dunlin store compact`.
#[derive(Debug, Args)]
pub(crate) struct CompactFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `dunlin store export`.
#[derive(Debug, Args)]
pub(crate) struct ExportFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    /// Write to this file, which must not be there yet; else to standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Flags of `dunlin store import`.
#[derive(Debug, Args)]
pub(crate) struct ImportFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    /// What export has written.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Shards that the directory is written for. A broker with another number re-homes it at its first start.
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The end of the help of `dunlin store`.
pub(crate) const HELP: &str = "\
  dunlin store check                                is all of it sound?
  dunlin store stats --json                         how much of what
  dunlin store stats --client sensor-7              one client's session: subscriptions, what waits
  dunlin store dump --client sensor-7               what was recorded of a client, in order
  dunlin store export -o all.jsonl                  everything, one JSON object a line
  dunlin store import all.jsonl --data-dir /new     and back

Beside a running broker, check, stats and dump read what is on the disk while it changes, and without the index, which the broker has; compact, export and import refuse. \
Long work says on standard error how far it is.

Exit codes: 0 sound, or done; 1 damaged, not readable, or failed; 2 the command line was wrong.";

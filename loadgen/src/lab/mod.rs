//! Several hosts as one generator: agents that wait for work, and a coordinator that hands it out.
//!
//! An agent runs the generator's own command line as a process of its own, with a share of the clients. Each share is
//! a world for itself: its topics stand under a level of their own and its client ids differ, so that publisher and
//! subscriber of a message are always on one agent and every latency is measured with one clock. The clocks of the
//! agents are compared all the same: for a common start, and so that times in their records can be put side by side.
//!
//! Reading order: `message.rs` (what is said), `secret.rs` (to whom), `offset.rs` (what time it is there), `share.rs` and
//! `cut.rs` (who does what), `parcel.rs` (a scenario's files), `agent.rs`, `coordinator.rs`, `result.rs` (what comes back).

mod agent;
mod coordinator;
mod cut;
mod message;
mod offset;
mod parcel;
mod result;
mod secret;
mod share;

pub(crate) use agent::{House, serve};
pub(crate) use coordinator::{LabPlan, LossPolicy, run};
pub(crate) use cut::cut;
pub(crate) use result::LabReport;
pub(crate) use secret::Token;
pub(crate) use share::Share;

use std::io;
use std::time::SystemTime;

use clap::Parser as _;

use crate::cli::{Cli, Command, Scenario};

/// Why agents could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    /// The network failed.
    #[error("{who}: {source}")]
    Network {
        /// The agent, or the address to listen on.
        who: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The other side is not what it should be.
    #[error("{who}: {why}")]
    Refused {
        /// The other side.
        who: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The token can't be used.
    #[error("token file {file}: {why}")]
    Token {
        /// Where it was read from.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// An agent was lost, and the run was to end then.
    #[error(
        "{lost} was lost after {seconds} s ({why}); the run was ended on all agents (--on-agent-loss continue goes on)"
    )]
    Lost {
        /// Which.
        lost: String,
        /// Since the start.
        seconds: u64,
        /// How.
        why: String,
    },
}

/// Whether a command can be run in parts.
pub(crate) const fn is_divisible(command: &Command) -> bool {
    match command {
        // What is retained of all parts would be one set of topics.
        Command::Quick(Scenario::Retained { .. }) => false,
        Command::Quick(_) | Command::Run(_) => true,
        Command::Scenarios { .. }
        | Command::Explain(_)
        | Command::Hold(_)
        | Command::Observe
        | Command::Agent { .. }
        | Command::Preflight { .. }
        | Command::Search(_)
        | Command::Report(_)
        | Command::Crash(_)
        | Command::Merge(_) => false,
    }
}

/// Says what is wrong with a command line that an agent is to run: it must be a run, and have nothing of a
/// coordinator's.
pub(crate) fn is_run(arguments: &[String]) -> Result<(), String> {
    let words = std::iter::once("dunlin-loadgen").chain(arguments.iter().map(String::as_str));
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let output = &cli.settings.output;
    if output.out.is_some() || output.prometheus.is_some() {
        return Err("leave out --out and --prometheus: an agent writes no files, and serves what its own command line says".to_owned());
    }
    if is_divisible(&cli.command) && cli.settings.lab.agents.is_empty() {
        return Ok(());
    }
    Err("agents carry out `run` and the quick commands (p2p, idle, connect, … but not retained) and nothing else".to_owned())
}

/// Nanoseconds since 1970 by the clock that NTP and PTP keep.
#[expect(clippy::disallowed_methods, reason = "the generator's edge to the clock")]
fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

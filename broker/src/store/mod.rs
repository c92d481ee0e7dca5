//! `dunlin store`: looks into a data directory, cleans it, and carries what is in it elsewhere.

mod check;
mod client;
mod compact;
mod dump;
mod export;
mod flags;
mod import;
mod json;
mod place;
mod progress;
mod stats;

use std::process::ExitCode;

use dunlin_persist::Options;
use dunlin_shard::home::{shard_of_client, shard_of_topic};

pub(crate) use self::flags::{HELP, StoreCommand};
use crate::clock;

/// `dunlin store …`: 0 when all is sound or done, 1 when not, 2 for a wrong command line.
pub(crate) fn store(command: StoreCommand) -> ExitCode {
    let outcome = match command {
        StoreCommand::Check(flags) => check::check(&flags),
        StoreCommand::Stats(flags) => stats::stats(&flags),
        StoreCommand::Dump(flags) => dump::dump(&flags),
        StoreCommand::Compact(flags) => compact::compact(&flags),
        StoreCommand::Export(flags) => export::export(&flags),
        StoreCommand::Import(flags) => import::import(&flags),
    };
    match outcome {
        Ok(code) => code,
        Err(problem) => {
            crate::boot::complain_of(&problem);
            ExitCode::FAILURE
        }
    }
}

/// The shard of a client id, as a broker has it.
fn client_home(client_id: &str, shard_count: u16) -> u16 {
    shard_of_client(client_id, shard_count).0
}

/// How the logs are opened for so many shards: as a broker would.
fn options(shard_count: u16) -> Options {
    let topic = |name: &str, shards| shard_of_topic(name, shards).0;
    Options { now_ms: clock::wall().0, ..Options::new(shard_count, client_home, topic) }
}

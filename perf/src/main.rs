//! `dunlin-perf`: the floor tool, side-by-side runs and the record sheet.
//!
//! `floor/` is the machine's floor: a broker's socket pattern without MQTT. `bench/` runs contenders in turn under the
//! same generator; `rivals/` installs and configures the other brokers. `compare/` holds Dunlin against its bars, and an
//! old result against a new one; `sheet/` makes the record sheet and its reports. `icount/` counts
//! instructions, as the gate of benchmark CI. Micro benchmarks are in `benches/`.
//! `million/` and `durable/` are proofs of their own. `README.md` says what makes a number honest.

#![forbid(unsafe_code)]

mod bench;
mod compare;
mod durable;
mod error;
mod files;
mod floor;
mod icount;
mod million;
mod rivals;
mod sheet;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Error;

/// Measures Dunlin against the machine's floor and against other brokers.
#[derive(Debug, Parser)]
#[command(name = "dunlin-perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the floor: forward bytes by routes agreed upon beforehand (dunlin-loadgen --floor drives it).
    Floor {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:1882")]
        listen: SocketAddr,
        /// Core to run on.
        #[arg(long)]
        core: Option<usize>,
        /// Sockets at most; no more than RLIMIT_NOFILE.
        #[arg(long, default_value_t = 19_900)]
        sockets: u32,
    },
    /// Count the instructions of the hot paths under callgrind and hold them against the baseline.
    Icount(icount::Options),
    /// Run the floor, Dunlin and mosquitto in turn against the bars; with two files, an old result against a new one.
    Compare(Box<compare::Options>),
    /// Run the record sheet: every broker that can be installed here, in turn, as a report with medians, ratios and spread.
    Sheet(Box<sheet::Options>),
    /// Prove that one host holds millions of connections: connect, hold, storm, verify.
    ///
    /// Starts Dunlin, connects --connections MQTT 5 clients, each with a session and a subscription to its own topic, holds
    /// them with keep-alives and a stream of QoS 0 and QoS 1 messages to clients at random, closes --storm of them at once and
    /// waits until they are back. Every message is accounted for. 2,000,000 need some 16 GiB of free memory and a quarter of
    /// an hour; --connections 200000 --hold 20 shows the same in a minute.
    Million(million::Options),
    /// Measure what durability costs: levels and mosquitto side by side, a start with stored sessions.
    ///
    /// Each row is a fresh broker on a fresh folder of the disk that --folder is on. All rows with their full sizes take some ten
    /// minutes and some GiB of disk; --row p2p ack takes one.
    Durable(Box<durable::Options>),
    /// Measure what one fdatasync costs on a disk.
    Fsync(durable::disk::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Icount(options) => return count_instructions(&options),
        Command::Floor { listen, core, sockets } => serve_floor(listen, core, sockets),
        Command::Compare(options) => compare::run(&options),
        Command::Sheet(options) => sheet::run(&options),
        Command::Million(options) => million::run(&options),
        Command::Durable(options) => durable::run(&options),
        Command::Fsync(options) => durable::fsync(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "dunlin-perf: {error}"));
            ExitCode::from(2)
        }
    }
}

fn count_instructions(options: &icount::Options) -> ExitCode {
    icount::run(options).unwrap_or_else(|error| {
        drop(writeln!(std::io::stderr(), "dunlin-perf: {error}"));
        ExitCode::from(2)
    })
}

fn serve_floor(listen: SocketAddr, core: Option<usize>, sockets: u32) -> Result<ExitCode, Error> {
    if let Some(core) = core {
        dunlin_ring::pin_to_core(core).map_err(|source| Error::host("pinning to the core", source))?;
    }
    floor::serve(listen, sockets).map_err(|source| Error::host("serving the floor", source))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn compare_takes_two_files_or_none() {
        let parse =
            |arguments: &[&str]| Cli::try_parse_from([&["dunlin-perf", "compare"], arguments].concat());
        assert!(parse(&[]).is_ok() && parse(&["old.json", "new.json", "--check"]).is_ok());
        assert!(parse(&["--scenario", "p2p0", "fanout0", "-n", "5"]).is_ok());
        assert!(parse(&["old.json"]).is_err() && parse(&["-n", "0"]).is_err());
    }
}

//! `dunlin-perf`: the floor tool and side-by-side runs.
//!
//! `floor/` is the machine's floor: a broker's socket pattern without MQTT. `compare/` runs the floor, Dunlin
//! and mosquitto in turn under the same generator and holds the results against the bars. `icount/` counts instructions,
//! as the gate of benchmark CI. Micro benchmarks are in `benches/`. `README.md` says what makes a number honest.

#![forbid(unsafe_code)]

mod compare;
mod floor;
mod icount;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Dunlin against the machine's floor and against mosquitto.
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
    /// Run the floor, Dunlin and mosquitto in turn and print one table.
    Compare(compare::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Icount(options) => return count_instructions(&options),
        Command::Floor { listen, core, sockets } => serve_floor(listen, core, sockets),
        Command::Compare(options) => compare::run(&options),
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

fn serve_floor(listen: SocketAddr, core: Option<usize>, sockets: u32) -> Result<ExitCode, compare::Error> {
    if let Some(core) = core {
        dunlin_ring::pin_to_core(core)
            .map_err(|source| compare::Error::host("pinning to the core", source))?;
    }
    floor::serve(listen, sockets).map_err(|source| compare::Error::host("serving the floor", source))?;
    Ok(ExitCode::SUCCESS)
}

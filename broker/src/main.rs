//! The program `dunlin`: allocator, arguments, exit code. `boot.rs` is the wiring page.
#![forbid(unsafe_code)]

mod boot;
mod broker;
mod cli;
mod client_events;
mod clock;
mod config;
mod log;
mod log_numbers;
#[cfg(test)]
mod manual;
mod notify;
mod recovery;
mod selfcheck;
mod signals;
mod store;
mod sys_topics;
mod telemetry;
mod topology;
mod tune;

use std::process::ExitCode;

/// Each shard's memory stays in its own thread's heap, so that cores do not meet in the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(cli::Command::Run(flags)) => boot::run(flags),
        Ok(cli::Command::Check(flags)) => boot::check(flags),
        Ok(cli::Command::Tune(command)) => tune::tune(command),
        Ok(cli::Command::Store(command)) => store::store(command),
        Err(ended) => ended,
    }
}

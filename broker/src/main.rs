//! The program `dunlin`: allocator, arguments, exit code. `boot.rs` is the wiring page.
#![forbid(unsafe_code)]

//mod boot;
mod cli;
mod clock;
mod config;
mod log;
//mod selfcheck;
mod signals;
mod sys_topics;
//mod telemetry;
mod topology;

use std::process::ExitCode;

use clap::Parser as _;

/// Freed memory of a shard stays with its thread, so that cores do not meet in the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::parse().into_command() {
        cli::Command::Run(flags) => {
            drop(flags);
            ExitCode::SUCCESS
        }
        cli::Command::Check(flags) => {
            drop(flags);
            ExitCode::SUCCESS
        }
    }
}

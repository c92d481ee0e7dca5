//! Signals of the operating system as values of a channel.

use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// What an operator may tell the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// End gracefully; a second one ends at once.
    Stop {
        /// Which signal said so.
        name: &'static str,
    },
    /// Read the configuration again.
    Reload,
    /// Write counters to the log.
    Dump,
}

/// Takes over SIGTERM, SIGINT, SIGHUP and SIGUSR1 for the rest of the process's life.
///
/// # Errors
/// When the kernel refuses the handlers or the thread.
pub(crate) fn listen() -> std::io::Result<Receiver<Signal>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let (arrived, receiver) = bounded(WAITING_MAX);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for number in signals.forever() {
            let signal = match number {
                SIGHUP => Signal::Reload,
                SIGUSR1 => Signal::Dump,
                SIGINT => Signal::Stop { name: "SIGINT" },
                _ => Signal::Stop { name: "SIGTERM" },
            };
            if arrived.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Signals that may wait while one is acted on; the thread then waits, and the kernel merges what comes meanwhile.
const WAITING_MAX: usize = 8;

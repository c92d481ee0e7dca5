//! The running broker: acts on signals until one ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use dunlin_shard::Control;
use dunlin_shard::runtime::Runtime;

use crate::boot::shard_config;
use crate::config::reload::{self, Change, Reloaded};
use crate::config::{Effective, Sources};
use crate::log::Log;
use crate::signals::Signal;
use crate::telemetry::Telemetry;

/// Everything that runs, and what it was made from. One per process, on the main thread.
pub(crate) struct Broker {
    /// Where the configuration is read again.
    pub(crate) sources: Sources,
    /// The configuration in force.
    pub(crate) effective: Effective,
    /// The shards.
    pub(crate) runtime: Runtime,
    /// `$SYS` and dumps.
    pub(crate) telemetry: Telemetry,
    /// The log.
    pub(crate) log: Log,
}

impl Broker {
    /// Acts on signals until one says stop, then stops. 0 after a graceful stop in time, else 1.
    pub(crate) fn until_stopped(mut self, signals: &Receiver<Signal>) -> ExitCode {
        loop {
            match signals.recv() {
                Ok(Signal::Stop { name }) => return self.stop(name, signals),
                Ok(Signal::Reload) => self.reload(),
                Ok(Signal::Dump) => self.telemetry.dump(),
                Err(_) => {
                    self.log.error("the signal thread has ended; stopping", &[]);
                    return self.stop("none", signals);
                }
            }
        }
    }

    /// Reads the configuration again: all of it acts, or none.
    fn reload(&mut self) {
        match reload::reload(&self.sources, &self.effective) {
            Ok(reloaded) => self.apply(reloaded),
            Err(error) => {
                for problem in error.problems {
                    self.log.error("configuration", &[("problem", problem.into())]);
                }
                self.log.error("configuration not reloaded: nothing was changed", &[]);
            }
        }
    }

    fn apply(&mut self, reloaded: Reloaded) {
        let Reloaded { effective, applied, waiting } = reloaded;
        self.effective = effective;
        let settings = &self.effective.settings;
        self.log.set_level(settings.log.level);
        self.telemetry.set_intervals(settings.sys_topics.clone());
        let config = Arc::new(shard_config(settings));
        for shard in self.runtime.handles() {
            if let Err(error) = shard.send(Control::Reconfigure(Arc::clone(&config))) {
                self.log.error("a shard keeps its old settings; reload again", &[("problem", error.to_string().into())]);
            }
        }
        for warning in &self.effective.warnings {
            self.log.warn("configuration", &[("problem", warning.as_str().into())]);
        }
        self.log_changes("setting changed", &applied);
        self.log_changes("setting changes at the next start", &waiting);
        let counts = [("applied", applied.len().into()), ("at_next_start", waiting.len().into())];
        self.log.info("configuration reloaded", &counts);
    }

    fn log_changes(&self, event: &'static str, changes: &[Change]) {
        for change in changes {
            let (from, to) = (change.from.as_str(), change.to.as_str());
            self.log.info(event, &[("key", change.name.into()), ("from", from.into()), ("to", to.into())]);
        }
    }

    /// Ends the telemetry, then the shards, in bounded time. A second signal ends the process at once.
    fn stop(self, signal: &'static str, signals: &Receiver<Signal>) -> ExitCode {
        let Self { runtime, telemetry, log, effective, .. } = self;
        let timeout = Duration::from_millis(effective.settings.shutdown.timeout_ms);
        log.info("stopping", &[("signal", signal.into()), ("timeout_ms", effective.settings.shutdown.timeout_ms.into())]);
        telemetry.stop();
        let (finished, done) = bounded(1);
        let stopping = thread::Builder::new().name("stop".to_owned()).spawn(move || {
            let _receiver_may_have_gone = finished.send(runtime.stop());
        });
        if let Err(error) = stopping {
            log.error("cannot stop gracefully", &[("problem", error.to_string().into())]);
            return ExitCode::FAILURE;
        }
        let deadline = crossbeam_channel::after(timeout + GRACE);
        loop {
            select! {
                recv(done) -> outcome => return report(outcome, &log),
                recv(deadline) -> _ => {
                    log.error("not stopped in time; connections that are left are cut", &[]);
                    return ExitCode::FAILURE;
                }
                recv(signals) -> signal => if let Ok(Signal::Stop { name }) = signal {
                    log.warn("stopped at once by a second signal", &[("signal", name.into())]);
                    return ExitCode::FAILURE;
                },
            }
        }
    }
}

/// The shards end by themselves within the timeout; this is for one that does not.
const GRACE: Duration = Duration::from_secs(2);

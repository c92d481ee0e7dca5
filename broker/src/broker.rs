//! The running broker: acts on signals until one ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, after, never, select};
use dunlin_persist::StoreState;
use dunlin_persist::index::Writer;
use dunlin_shard::runtime::{EdgeMetrics, InboxError, LogNotice, RunError, ShardHandle};
use dunlin_shard::{Control, ShardId};

use crate::boot::shard_config;
use crate::clock;
use crate::config::reload::{self, Change, Reloaded};
use crate::config::{Effective, Sources};
use crate::log::Log;
use crate::notify::Notify;
use crate::signals::Signal;
use crate::telemetry::Telemetry;

/// Everything that runs, and what it was made from. One per process, on the main thread.
pub(crate) struct Broker {
    /// Where the configuration is read again.
    pub(crate) sources: Sources,
    /// The configuration in force.
    pub(crate) effective: Effective,
    /// The way into each shard.
    pub(crate) shards: Vec<ShardHandle>,
    /// Names a shard when it has ended.
    pub(crate) shard_ended: Receiver<ShardId>,
    /// Tells once, when all shards have ended, how.
    pub(crate) all_ended: Receiver<Outcome>,
    /// Tells when a shard's log becomes full, has room again, or fails.
    pub(crate) notices: Receiver<LogNotice>,
    /// `$SYS` and dumps.
    pub(crate) telemetry: Telemetry,
    /// The log.
    pub(crate) log: Log,
    /// The way to systemd.
    pub(crate) notify: Notify,
    /// The thread of the index, if one is kept.
    pub(crate) index: Option<Writer>,
}

/// How the shards ended: the last counters of each edge, or the first failure.
pub(crate) type Outcome = Result<Vec<EdgeMetrics>, RunError>;

impl Broker {
    /// Acts on signals until one says stop, then stops. 0 after a graceful stop in time, else 1.
    pub(crate) fn until_stopped(mut self, signals: &Receiver<Signal>) -> ExitCode {
        loop {
            select! {
                recv(signals) -> signal => match signal {
                    Ok(Signal::Stop { name }) => return self.stop(name, signals),
                    Ok(Signal::Reload) => self.reload(),
                    Ok(Signal::Dump) => self.telemetry.dump(),
                    Err(_) => return self.stop("none: the signal thread has ended", signals),
                },
                recv(self.notices) -> notice => match notice {
                    Ok(notice) => self.tell(&notice),
                    // The shards have ended, which is told next.
                    Err(_) => self.notices = never(),
                },
                recv(self.shard_ended) -> shard => {
                    let shard = shard.map_or_else(|_| "unknown".to_owned(), |shard| shard.0.to_string());
                    self.log.error("a shard has ended although nobody asked it to; stopping", &[("shard", shard.into())]);
                    let _failure_even_if_the_others_end_well = self.stop("none", signals);
                    return ExitCode::FAILURE;
                }
            }
        }
    }

    /// Says what a log takes from now on, and what to do.
    fn tell(&self, LogNotice { shard, state, failure }: &LogNotice) {
        let shard = ("shard", u64::from(shard.0).into());
        match state {
            StoreState::Open => self.log.info("the log has room again", &[shard]),
            StoreState::Full => self.log.error(
                "the log is full: publishers of QoS 1 and 2 get 0x97 and new sessions are refused until there is room",
                &[shard, ("problem", failure.as_str().into()), ("advice", FULL_ADVICE.into())],
            ),
            StoreState::Failed => self.log.error(
                "the log has failed: nothing that should outlive the process is taken any more",
                &[shard, ("problem", failure.as_str().into()), ("advice", FAILED_ADVICE.into())],
            ),
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
        self.telemetry.set(settings.sys_topics.clone());
        let config = Arc::new(shard_config(settings));
        for shard in &self.shards {
            if let Err(error) = shard.send(Control::Reconfigure(Arc::clone(&config))) {
                self.log.error(
                    "a shard keeps its old settings; reload again",
                    &[("problem", error.to_string().into())],
                );
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
        let Self { shards, all_ended, telemetry, log, effective, notify, index, .. } = self;
        let timeout_ms = effective.settings.shutdown.timeout_ms;
        log.info("stopping", &[("signal", signal.into()), ("timeout_ms", timeout_ms.into())]);
        if let Err(error) = notify.stopping() {
            log.warn("systemd was not told", &[("problem", error.to_string().into())]);
        }
        let began = clock::now();
        telemetry.stop();
        let cut = after(Duration::from_millis(timeout_ms) + GRACE);
        let mut untold = shards;
        loop {
            untold.retain(|shard| matches!(shard.send(Control::Stop), Err(InboxError::Full { .. })));
            let again = if untold.is_empty() { never() } else { after(TELL_AGAIN) };
            select! {
                recv(all_ended) -> outcome => {
                    end_index(index, &log);
                    return ended(outcome, &log);
                }
                recv(again) -> _ => {}
                recv(cut) -> _ => {
                    log.error("not stopped in time: what is left is cut off", &[]);
                    return ExitCode::FAILURE;
                }
                recv(signals) -> signal => if let Ok(Signal::Stop { name }) = signal
                    && !is_echo(clock::now().duration_since(began))
                {
                    log.warn("stopped at once by a second signal", &[("signal", name.into())]);
                    return ExitCode::FAILURE;
                },
            }
        }
    }
}

/// Lets the index write what the shards have said last.
fn end_index(index: Option<Writer>, log: &Log) {
    if index.is_some_and(|index| !index.stop(INDEX_GRACE)) {
        log.warn("the index was not closed in time; the next start brings it up to date", &[]);
    }
}

/// Whether a second signal so long after the first is the same wish: shells, `timeout` and `cargo run` signal a process and
/// its group, which is one signal twice.
fn is_echo(after_first: Duration) -> bool {
    after_first < ECHO_MAX
}

/// Says how the shards ended; 0 when they ended as asked.
fn ended(outcome: Result<Outcome, RecvError>, log: &Log) -> ExitCode {
    match outcome {
        Ok(Ok(edges)) => {
            let panics: u64 = edges.iter().map(|edge| edge.panics_contained).sum();
            let connections: u64 = edges.iter().map(|edge| edge.accepted).sum();
            log.info(
                "stopped",
                &[("connections_served", connections.into()), ("panics_contained", panics.into())],
            );
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            log.error("a shard failed", &[("problem", error.to_string().into())]);
            ExitCode::FAILURE
        }
        Err(RecvError) => {
            log.error("the thread that waits for the shards has ended", &[]);
            ExitCode::FAILURE
        }
    }
}

/// What the index gets to sync and close its files.
const INDEX_GRACE: Duration = Duration::from_secs(5);

/// The shards end by themselves within the timeout; this is for one that does not.
const GRACE: Duration = Duration::from_secs(2);

const FULL_ADVICE: &str =
    "make room on the disk, raise storage.max_size, or let the clients fetch what waits for them";

const FAILED_ADVICE: &str =
    "check the disk (dmesg), then restart the broker; what was acknowledged before is kept";

/// Nobody who wants to stop at once presses the keys this fast.
const ECHO_MAX: Duration = Duration::from_millis(250);

/// How soon a shard whose inbox was full is told again.
const TELL_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;
    use crate::client_events::ClientEvents;
    use crate::config::load;
    use crate::log;

    /// What a broker without shards returns, which hears these signals and these ends of shards.
    fn outcome(signals: &[Signal], shard_ended: Receiver<ShardId>, all_ended: Receiver<Outcome>) -> ExitCode {
        let mut effective = load(&Sources::default()).expect("defaults");
        effective.settings.shutdown.timeout_ms = 100;
        let (log, writer) = log::start(effective.settings.log.format, log::Level::Error).expect("a thread");
        let settings = &effective.settings;
        let events = ClientEvents::new(&settings.sys_topics.sys_event_messages);
        let telemetry = Telemetry::start(Vec::new(), never(), (settings, Vec::new()), events, log.clone());
        let telemetry = telemetry.expect("a thread");
        let (sources, shards) = (Sources::default(), Vec::new());
        let notify = Notify::new(None).expect("nothing to open");
        let notices = never();
        let broker = Broker {
            sources,
            effective,
            shards,
            shard_ended,
            all_ended,
            notices,
            telemetry,
            log,
            notify,
            index: None,
        };
        let (sender, receiver) = bounded(8);
        for signal in signals {
            sender.send(*signal).expect("room");
        }
        let code = broker.until_stopped(&receiver);
        writer.close();
        code
    }

    /// A channel that has this one value, or never any.
    fn once<T>(value: Option<T>) -> Receiver<T> {
        let Some(value) = value else {
            return never();
        };
        let (sender, receiver) = bounded(1);
        sender.send(value).expect("room");
        receiver
    }

    const STOP: Signal = Signal::Stop { name: "SIGTERM" };

    #[test]
    fn a_stop_is_good_when_the_shards_end() {
        assert_eq!(outcome(&[STOP], never(), once(Some(Ok(Vec::new())))), ExitCode::SUCCESS);
    }

    #[test]
    fn the_same_signal_twice_at_once_is_one_wish() {
        assert_eq!(outcome(&[STOP, STOP], never(), once(Some(Ok(Vec::new())))), ExitCode::SUCCESS);
        assert!(is_echo(Duration::ZERO) && is_echo(Duration::from_millis(100)));
        assert!(!is_echo(Duration::from_millis(300)));
    }

    #[test]
    fn shards_that_do_not_end_are_cut_off() {
        assert_eq!(outcome(&[STOP], never(), never()), ExitCode::FAILURE);
    }

    #[test]
    fn a_shard_that_ends_unasked_ends_the_process() {
        assert_eq!(outcome(&[], once(Some(ShardId(1))), once(Some(Ok(Vec::new())))), ExitCode::FAILURE);
    }

    #[test]
    fn a_shard_that_failed_while_stopping_is_a_failure() {
        let failure = RunError::Shard { shard: ShardId(0), reason: "the ring is gone".to_owned() };
        assert_eq!(outcome(&[STOP], never(), once(Some(Err(failure)))), ExitCode::FAILURE);
    }
}

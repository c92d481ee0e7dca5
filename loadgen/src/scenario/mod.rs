//! The scenarios: what the connections do, and how the run is measured.

pub(crate) mod connect;
pub(crate) mod cycle;
pub(crate) mod drain;
pub(crate) mod fill;
mod found;
pub(crate) mod hold;
mod opening;
pub(crate) mod quick;
pub(crate) mod retained;
pub(crate) mod subscribe;
pub(crate) mod traffic;

use std::io;

use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::engine::{Engine, Script};
use crate::failures::Failures;
use crate::hosts::route::RoutePlan;
use crate::observe::Observer;
use crate::output::OutputError;
use crate::record::{Live, Watch};
use crate::report::{Figure, Report, ratio};
use crate::roster::Protocol;
use crate::transport::Transport;

/// What all scenarios share.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where connections go to and come from.
    pub(crate) route: RoutePlan,
    /// What carries the clients' bytes.
    pub(crate) transport: Transport,
    pub(crate) protocol: Protocol,
    pub(crate) per_ring: u32,
    /// Process to read processor time and memory of.
    pub(crate) broker_pid: Option<u32>,
    /// Whether processes and kernel are looked at each second.
    pub(crate) observes: bool,
    pub(crate) seed: u64,
    /// Tells this run's payloads and client ids from others'.
    pub(crate) run: u32,
    /// Connections under way at the same time while connecting.
    pub(crate) concurrency: u32,
    /// What all topics and filters of messages begin with: a part of a run has a level of its own.
    pub(crate) topic_level: String,
    /// Seconds without progress after which set-up is given up.
    pub(crate) patience_seconds: u64,
    pub(crate) warm_up_ns: u64,
    pub(crate) duration_ns: u64,
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The host refused something.
    #[error("{doing}: {source}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No client of a plan could connect.
    #[error("{what}; is the broker there? first failures: {examples:?}")]
    Nobody {
        /// Which stage waited for them.
        what: String,
        /// Failures in words.
        examples: Vec<String>,
    },
    /// What was found can't be shown or kept.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Setting up got stuck.
    #[error("{done} of {wanted} {what} after {seconds} s without progress; first failures: {examples:?}")]
    Stuck {
        /// What was being set up.
        what: &'static str,
        /// How far it came.
        done: u64,
        /// How far it should have come.
        wanted: u64,
        /// How long nothing moved.
        seconds: u64,
        /// Failures in words.
        examples: Vec<String>,
    },
}

/// Adds what was being done to an error of the host.
pub(crate) fn host(doing: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Host { doing, source }
}

/// Adds how often a local address or port was in use, if it was.
pub(crate) fn add_collisions(report: &mut Report, engine: &Engine) {
    let counters = engine.route_counters();
    for (name, count) in
        [("local addresses in use", counters.collided), ("openings without address", counters.exhausted)]
    {
        if count > 0 {
            report.extra.push(Figure { name, value: ratio(count, 1), unit: "times" });
        }
    }
}

/// What is recorded of a run, and who looks on.
///
/// # Errors
/// When the broker is to be observed and can't be.
pub(crate) fn live(settings: &Settings, clock: &Clock, watch: Box<dyn Watch>) -> Result<Live, RunError> {
    let observer = settings.observes.then(|| Observer::start(settings.broker_pid, *clock));
    let observer = observer.transpose().map_err(host("observing the broker"))?;
    Ok(Live::new(clock.now(), watch, observer))
}

/// A script that sets itself up before it can be measured.
pub(crate) trait SetUp: Script {
    /// Opens what may be opened now.
    fn pump(&mut self, now: Nanos, engine: &mut Engine);
    /// How much of the set-up is done and how much there is.
    fn progress(&self) -> (u64, u64);
    /// What has failed so far.
    fn failures(&self) -> &Failures;
    /// What is recorded, and who looks on.
    fn live(&mut self) -> &mut Live;
}

/// Turns the engine until the script has set itself up.
///
/// # Errors
/// When nothing moves for as long as patience lasts.
pub(crate) fn set_up<S: SetUp>(
    what: &'static str,
    script: &mut S,
    engine: &mut Engine,
    clock: &Clock,
    patience_seconds: u64,
) -> Result<(), RunError> {
    let mut moved_at = clock.now();
    let mut seen = 0;
    loop {
        let (done, wanted) = script.progress();
        if done == wanted {
            return Ok(());
        }
        let now = clock.now();
        let failed = script.failures().count();
        let live = script.live();
        live.recorder.set_progress(done, wanted);
        live.recorder.counters().failures = failed;
        live.turn(now);
        if done != seen {
            seen = done;
            moved_at = now;
        } else if now.since(moved_at) > patience_seconds * SECOND_NS {
            let examples = script.failures().examples().to_vec();
            return Err(RunError::Stuck { what, done, wanted, seconds: patience_seconds, examples });
        }
        script.pump(now, engine);
        engine.turn(script, clock, Some(now.after(SET_UP_TURN_NS))).map_err(host("waiting for the rings"))?;
    }
}

/// Turns the engine until `deadline` without doing anything else.
///
/// # Errors
/// When the kernel refuses to wait.
pub(crate) fn settle<S: SetUp>(
    script: &mut S,
    engine: &mut Engine,
    clock: &Clock,
    deadline: Nanos,
) -> Result<(), RunError> {
    loop {
        let now = clock.now();
        if now >= deadline {
            return Ok(());
        }
        script.live().turn(now);
        let wake_at = deadline.min(now.after(SECOND_NS));
        engine.turn(script, clock, Some(wake_at)).map_err(host("waiting for the rings"))?;
    }
}

/// Keep Alive of clients whose scenario is not about it: longer than any run, so that nothing is sent for it. Not 0, which
/// some brokers refuse.
pub(crate) const KEEP_ALIVE_SECONDS: u16 = u16::MAX;

/// The longest sleep while setting up.
const SET_UP_TURN_NS: u64 = SECOND_NS / 10;

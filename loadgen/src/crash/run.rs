//! The cycles: start, load, kill, and every so often an audit.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::arguments::{CrashArgs, Signal};
use super::broker::Broker;
use super::findings::Progress;
use super::flaw::Flaw;
use super::moves::Load;
use super::party::{Phase, Side};
use super::stage::Stage;
use crate::clock::{Clock, MILLISECOND_NS, Nanos, SECOND_NS};
use crate::engine::{Engine, EngineConfig};

/// Why a run could not be carried out, or not be carried on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrashError {
    /// The host refused something.
    #[error("{doing}: {source}")]
    Host {
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("something already listens on {0}; end it, or let {{port}} in the command choose a free port")]
    Taken(SocketAddr),
    /// The broker could not be started in the first place.
    #[error("the broker never served a client: {how}\n  command: {command}\n  its last words: {words}")]
    NeverServed {
        /// What happened.
        how: String,
        /// The command line.
        command: String,
        /// What it wrote.
        words: String,
    },
}

/// A run under way.
pub(crate) struct Run<'a> {
    arguments: &'a CrashArgs,
    patience_ns: u64,
    pub(crate) broker: Broker,
    pub(crate) stage: Stage,
    engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) tally: Tally,
    progress: Progress,
}

/// What the cycles came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Times that the broker was killed.
    pub(crate) kills: u32,
    pub(crate) audits: u32,
    /// Starts with another number of shards than the one before.
    pub(crate) rehomed: u32,
    /// Milliseconds from each start to the first CONNACK.
    pub(crate) start_ms: Vec<f64>,
    /// Why the run ended before all cycles were done.
    pub(crate) cut_short: Option<String>,
}

impl<'a> Run<'a> {
    /// Gets everything ready; nothing is started yet.
    ///
    /// # Errors
    /// When the kernel refuses a ring.
    pub(crate) fn new(
        arguments: &'a CrashArgs,
        patience_ns: u64,
        broker: Broker,
        stage: Stage,
        config: EngineConfig,
    ) -> Result<Self, CrashError> {
        let engine = Engine::new(config)
            .map_err(|source| CrashError::Host { doing: "setting up io_uring".to_owned(), source })?;
        Ok(Self {
            arguments,
            patience_ns,
            broker,
            stage,
            engine,
            clock: Clock::start(),
            tally: Tally::default(),
            progress: Progress::stderr(),
        })
    }

    /// Runs all cycles and the last audit.
    ///
    /// # Errors
    /// When the broker never served anybody, or the host refuses something.
    pub(crate) fn play(&mut self) -> Result<(), CrashError> {
        let limit = self.clock.now().after(self.arguments.time_limit.saturating_mul(SECOND_NS));
        for cycle in 1..=self.arguments.cycles {
            if self.clock.now() >= limit {
                self.tally.cut_short = Some(format!("time limit of {} s", self.arguments.time_limit));
                break;
            }
            if !self.cycle(cycle)? {
                return Ok(());
            }
            self.progress.show(&self.stage, &self.tally, self.arguments.cycles, self.clock.now());
        }
        self.stage.plan_cycle(self.tally.kills + 1, self.clock.now(), 0);
        self.start()?;
        if self.await_service()? {
            self.audit()?;
        }
        self.progress.end();
        self.kill(false)
    }

    /// One cycle; `false` when the broker does not come back.
    fn cycle(&mut self, cycle: u32) -> Result<bool, CrashError> {
        let span = self.arguments.kill_after;
        let width = u32::try_from((span.most - span.least).as_millis()).unwrap_or(u32::MAX);
        let after = span.least + Duration::from_millis(u64::from(self.stage.dice.below(width.max(1))));
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.stage.plan_cycle(cycle, self.clock.now(), after_ns.saturating_add(ACT_EARLIEST_NS));
        self.choose_shards();
        self.start()?;
        let kills_early = cycle > 1 && self.stage.dice.below(EARLY_ONE_IN) == 0;
        if kills_early {
            let moment =
                self.clock.now().after(u64::from(self.stage.dice.below(EARLY_SPAN_MS)) * MILLISECOND_NS);
            self.turn_until(moment, |_| false)?;
        } else {
            if !self.await_service()? {
                return Ok(false);
            }
            if cycle.is_multiple_of(self.arguments.audit_every) {
                self.audit()?;
            }
            let moment = self.clock.now().after(after_ns);
            self.stage.plan_deafness(moment);
            self.turn_until(moment, |_| false)?;
            if cycle.is_multiple_of(READ_EVERY) {
                self.await_reading()?;
            }
        }
        self.kill(true)?;
        Ok(true)
    }

    /// Now and then the next start gets another number of shards.
    fn choose_shards(&mut self) {
        let choices = &self.arguments.shards;
        let count = u32::try_from(choices.len()).unwrap_or(u32::MAX);
        let is_first = self.tally.kills == 0;
        if count > 0 && (is_first || self.stage.dice.below(SHARDS_ONE_IN) == 0) {
            let chosen = choices[self.stage.dice.below(count) as usize];
            let is_other = self.broker.set_shards(chosen);
            self.tally.rehomed += u32::from(is_other && !is_first);
        }
    }

    fn start(&mut self) -> Result<(), CrashError> {
        if let Err(source) = self.broker.start() {
            let doing = format!("starting {:?}", self.broker.command_line());
            return Err(CrashError::Host { doing, source });
        }
        self.stage.served_at = None;
        self.stage.reading = None;
        self.stage.is_up = true;
        Ok(())
    }

    /// Waits until a client is served; `false` when none is, although others were before.
    fn await_service(&mut self) -> Result<bool, CrashError> {
        let started = self.clock.now();
        let deadline = started.after(self.arguments.start_patience.saturating_mul(SECOND_NS));
        let mut restarts = 0;
        while self.stage.served_at.is_none() {
            self.turn_until(deadline, |stage| stage.served_at.is_some())?;
            if self.stage.served_at.is_some() {
                break;
            }
            let how = if self.stage.is_up {
                format!("no CONNACK within {} s", self.arguments.start_patience)
            } else {
                "it ended by itself".to_owned()
            };
            if self.tally.start_ms.is_empty() {
                return Err(CrashError::NeverServed {
                    how,
                    command: self.broker.command_line(),
                    words: self.broker.last_words(),
                });
            }
            restarts += 1;
            if restarts > RESTARTS_MAX || self.clock.now() >= deadline {
                let words = self.broker.last_words();
                self.stage.flaws.add(Flaw::Unserved, || format!("everybody: {how}; its last words: {words}"));
                self.tally.cut_short = Some("the broker does not come back".to_owned());
                self.kill(false)?;
                return Ok(false);
            }
            self.start()?;
        }
        let took_ns = self.stage.served_at.unwrap_or(started).since(started);
        self.tally.start_ms.push(Duration::from_nanos(took_ns).as_secs_f64() * 1_000.0);
        Ok(true)
    }

    /// Nobody publishes any more; everybody comes and gets what is owed. What does not come then is lost.
    fn audit(&mut self) -> Result<(), CrashError> {
        self.stage.assemble(self.clock.now());
        self.await_progress(|stage| stage.is_settled())?;
        // What should not come at all may take a moment longer.
        let linger = self.clock.now().after(LINGER_NS);
        self.turns(linger, |_| false, false)?;
        self.tally.audits += 1;
        self.stage.audit(self.engine.outbox());
        Ok(())
    }

    /// Waits until the reader has everything: what does not come within the patience is missing.
    fn await_reading(&mut self) -> Result<(), CrashError> {
        self.await_progress(Stage::is_read)?;
        self.stage.judge_reading();
        Ok(())
    }

    /// Waits without new messages until `done`, or nothing has come forward for the patience.
    fn await_progress(&mut self, done: impl Fn(&Stage) -> bool) -> Result<(), CrashError> {
        self.stage.progress_at = self.clock.now();
        loop {
            let deadline = self.stage.progress_at.after(self.patience_ns);
            self.turns(deadline, &done, false)?;
            let now = self.clock.now();
            if done(&self.stage) || now >= self.stage.progress_at.after(self.patience_ns) {
                return Ok(());
            }
            if !self.stage.is_up {
                self.start()?;
            }
        }
    }

    fn turn_until(&mut self, moment: Nanos, done: impl Fn(&Stage) -> bool) -> Result<(), CrashError> {
        self.turns(moment, done, true)
    }

    /// Turns until a moment has come, `done`, or the broker has ended by itself.
    fn turns(
        &mut self,
        moment: Nanos,
        done: impl Fn(&Stage) -> bool,
        publishes: bool,
    ) -> Result<(), CrashError> {
        let load = Load {
            window: usize::try_from(self.arguments.window).unwrap_or(usize::MAX),
            backlog: usize::try_from(self.arguments.backlog).unwrap_or(usize::MAX),
        };
        let mut looked_at = Nanos::default();
        loop {
            let now = self.clock.now();
            if now >= moment || done(&self.stage) {
                return Ok(());
            }
            if now.since(looked_at) >= MILLISECOND_NS {
                looked_at = now;
                self.stage.tend(now, self.engine.outbox());
                if let Some(how) = self.broker.ended() {
                    self.broker_ended(&how)?;
                    return Ok(());
                }
            }
            if publishes {
                self.stage.publish(load, self.engine.outbox());
            }
            self.turn(now.after(MILLISECOND_NS).min(moment))?;
        }
    }

    fn turn(&mut self, wake_at: Nanos) -> Result<(), CrashError> {
        self.engine
            .turn(&mut self.stage, &self.clock, Some(wake_at))
            .map_err(|source| CrashError::Host { doing: "waiting for the kernel".to_owned(), source })
    }

    fn broker_ended(&mut self, how: &str) -> Result<(), CrashError> {
        if !self.tally.start_ms.is_empty() {
            let words = self.broker.last_words();
            let cycle = self.stage.cycle;
            self.stage
                .flaws
                .add(Flaw::BrokerEnded, || format!("{how} in cycle {cycle}; its last words: {words}"));
        }
        self.stage.broker_gone(self.clock.now());
        self.drain()
    }

    /// Ends the broker. What it has sent before is still read: an acknowledgement that left it counts.
    fn kill(&mut self, counts: bool) -> Result<(), CrashError> {
        self.stage.broker_gone(self.clock.now());
        if self.arguments.signal == Signal::Term {
            self.let_it_end()?;
        }
        self.broker
            .kill()
            .map_err(|source| CrashError::Host { doing: "killing the broker".to_owned(), source })?;
        self.tally.kills += u32::from(counts);
        self.drain()
    }

    /// Asks the broker to end, and goes on listening to it meanwhile.
    fn let_it_end(&mut self) -> Result<(), CrashError> {
        self.broker.ask_to_end().map_err(|source| CrashError::Host {
            doing: "sending SIGTERM to the broker".to_owned(),
            source,
        })?;
        let until = self.clock.now().after(self.arguments.start_patience.saturating_mul(SECOND_NS));
        while self.broker.ended().is_none() {
            let now = self.clock.now();
            if now >= until {
                let seconds = self.arguments.start_patience;
                self.stage.flaws.add(Flaw::Unserved, || format!("the broker runs {seconds} s after SIGTERM"));
                break;
            }
            self.turn(now.after(MILLISECOND_NS))?;
        }
        Ok(())
    }

    /// Waits until no connection is left.
    fn drain(&mut self) -> Result<(), CrashError> {
        let until = self.clock.now().after(DRAIN_NS);
        let mut hung_up = false;
        loop {
            let now = self.clock.now();
            let open = |one: &super::party::Party| one.sides.iter().any(|side| *side != Side::Free);
            if !self.stage.parties.iter().any(open) {
                break;
            }
            if now >= until && !hung_up {
                hung_up = true;
                self.close_all();
            }
            self.turn(now.after(MILLISECOND_NS))?;
        }
        for one in &mut self.stage.parties {
            debug_assert_eq!(one.phase, Phase::Absent, "a client without a connection is absent");
            one.retry_at = Nanos::default();
            one.deaf_from = None;
        }
        Ok(())
    }

    fn close_all(&mut self) {
        let now = self.clock.now();
        for number in 0..self.stage.parties.len() {
            for side in 0..2 {
                let one = &mut self.stage.parties[number];
                if matches!(one.sides[side], Side::Open | Side::Abandoned | Side::Parting) {
                    one.sides[side] = Side::Closing;
                    self.stage.let_go(super::cast::PartyId(number), now, now);
                    self.engine.outbox().close(Stage::conn(super::cast::PartyId(number), side));
                }
            }
        }
    }
}

/// One cycle in so many is killed without waiting for a client.
const EARLY_ONE_IN: u32 = 10;
/// One start in so many takes a number of shards anew.
const SHARDS_ONE_IN: u32 = 8;
/// Such a kill comes within so many milliseconds of the start.
const EARLY_SPAN_MS: u32 = 40;
/// Clients act until the kill, and a little beyond: some acts meet it.
const ACT_EARLIEST_NS: u64 = 10 * MILLISECOND_NS;
/// Every so many cycles the kill waits until all retained messages have been read.
const READ_EVERY: u32 = 5;
/// Starts after which a broker that ends by itself is given up.
const RESTARTS_MAX: u32 = 3;
/// How long an audit stays after everything has come.
const LINGER_NS: u64 = 50 * MILLISECOND_NS;
/// A killed broker's connections that live on for so long are closed from here.
const DRAIN_NS: u64 = SECOND_NS;

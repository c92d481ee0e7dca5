//! Searches over several runs: the highest rate that keeps a bound, the knee of a curve, a long soak.
//!
//! Reading order: `arguments.rs` (what can be asked), `rate.rs`, `knee.rs` and `slope.rs` (the logic, pure: told what came of a
//! run, they say what to do next or what it means), `trial.rs` (one run and its worth), `soak.rs` (what a long run shows),
//! `screen.rs` and `journal.rs` (all runs as one, for those who look on and for the result). The result is a
//! `record::Outcome`, so it is shown, kept and plotted like that of any run.

pub(crate) mod arguments;
mod journal;
mod knee;
mod rate;
mod screen;
mod slope;
mod soak;
mod trial;

use std::io::Write as _;

use arguments::{Bound, KneeArgs, RateArgs, SearchCommand, SoakArgs};
use journal::Journal;
use rate::{Answer, Goal, Limit, RateSearch, Step, float, whole};
use screen::Screen;
use soak::{Findings, Slice, slices};
use trial::{Load, Tried};

use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::observe::Observer;
use crate::output::{OutputArgs, OutputError, TRIALS_HEAD, span, trial_line};
use crate::record::{Outcome, ResourcePoint, Search, Trial, Value, Verdict};
use crate::scenario::quick::Quick;
use crate::scenario::{RunError, Settings, host};

/// Why a search could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    /// A run could not be carried out.
    #[error("at {rate} messages/s: {source}")]
    Run {
        /// The rate of the run.
        rate: u64,
        /// What went wrong.
        source: RunError,
    },
    /// Nothing could be run.
    #[error(transparent)]
    Settings(#[from] RunError),
    /// The load has no rate.
    #[error("{0}")]
    Unfit(&'static str),
    /// The result can't be shown or kept.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl SearchCommand {
    /// The load that is asked for.
    const fn load(&self) -> &crate::cli::Scenario {
        match self {
            Self::Rate(arguments) => &arguments.load,
            Self::Knee(arguments) => &arguments.load,
            Self::Soak(arguments) => &arguments.load,
        }
    }
}

/// Carries out a search and writes the files that were asked for.
///
/// # Errors
/// When a run could not be carried out, or a file not be written.
pub(crate) fn run(
    command: &SearchCommand,
    settings: Settings,
    output: &OutputArgs,
) -> Result<Outcome, SearchError> {
    let Quick::Traffic(plan) = Quick::of(command.load()) else {
        return Err(SearchError::Unfit(
            "a search needs messages at a rate: give p2p, fanin, fanout, shared, wild, lat or idle",
        ));
    };
    if plan.topology.senders == 0 {
        return Err(SearchError::Unfit(
            "a search needs a sender: give idle a --rate (which one does not matter)",
        ));
    }
    let name = plan.name;
    let load = Load::new(plan, settings);
    let about = load.describe();
    let mut course = Course {
        load,
        screen: Screen::new(output.watch()?),
        journal: Journal::new(),
        trials: Vec::new(),
        is_quiet: output.quiet,
    };
    let mut outcome = match command {
        SearchCommand::Rate(arguments) => {
            let (answer, search, verdict) = seek_rate(arguments, &mut course)?;
            course.journal.finish(answer, search, verdict)
        }
        SearchCommand::Knee(arguments) => {
            let (answer, search, verdict) = seek_knee(arguments, &mut course)?;
            course.journal.finish(answer, search, verdict)
        }
        SearchCommand::Soak(arguments) => soak(arguments, course)?,
    };
    if let Some(search) = &outcome.search {
        outcome.plan.name = format!("search {} {name}", search.kind);
    }
    outcome.plan.about = about;
    output.write(&outcome)?;
    Ok(outcome)
}

/// A search under way: what is run, who looks on, what came of it.
struct Course {
    load: Load,
    screen: Screen,
    journal: Journal,
    trials: Vec<Trial>,
    is_quiet: bool,
}

impl Course {
    /// Runs the load at a rate and takes it down; `missed` says why the run did not keep what was asked, if it did not.
    fn run(&mut self, rate: u64, missed: impl Fn(&Tried) -> Option<String>) -> Result<Tried, SearchError> {
        let start = self.journal.now();
        let title = format!("run {}, {rate}/s", self.journal.run_count() + 1);
        let watch = self.screen.of_run(start.0, title);
        let (tried, outcome) =
            self.load.run(rate, watch).map_err(|source| SearchError::Run { rate, source })?;
        let missed = missed(&tried);
        self.screen.keep(&outcome);
        self.journal.keep(start, rate, outcome, missed.is_none());
        let trial = tried.trial(missed);
        self.tell(&trial);
        self.trials.push(trial);
        Ok(tried)
    }

    /// Tells whoever waits.
    fn tell(&self, trial: &Trial) {
        if self.is_quiet {
            return;
        }
        let mut text = if self.trials.is_empty() { TRIALS_HEAD.to_owned() } else { String::new() };
        text.push_str(&trial_line(trial));
        // There is nobody else to tell if the standard error stream is closed.
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

/// What a search found: the rate whose runs are the result, the search, and what it is worth.
type Found = (Option<u64>, Search, Verdict);

fn seek_rate(arguments: &RateArgs, course: &mut Course) -> Result<Found, SearchError> {
    let bound = arguments.bound.bound().ok_or(SearchError::Unfit("give a latency to keep, as --p99 2ms"))?;
    let goal = Goal {
        from: arguments.range.from,
        to: arguments.range.to,
        bound_ns: bound.bound_ns,
        precision: arguments.precision / 100.0,
        runs_max: arguments.runs,
    };
    let mut search = RateSearch::new(goal);
    let answer = loop {
        let rate = match search.step() {
            Step::Try(rate) => rate,
            Step::Done(answer) => break answer,
        };
        let tried = course.run(rate, |tried| tried.missed(&bound))?;
        search.hear(rate, tried.heard(&bound));
    };
    let verdict = match (answer.rate, answer.limit) {
        (_, Limit::Generator) => Verdict::Uncertified(vec![
            "above this rate the generator was the limit: the broker may be able to do more".to_owned(),
        ]),
        (None, Limit::Broker | Limit::Range | Limit::Runs) => {
            Verdict::Failed(vec![format!("not even {} messages/s kept the bound", goal.from)])
        }
        (Some(_), Limit::Runs) => Verdict::Uncertified(vec![
            "the runs were used up before the gap was as narrow as asked for".to_owned(),
        ]),
        (Some(_), Limit::Broker | Limit::Range) => Verdict::Certified,
    };
    let found = Search {
        kind: "rate".to_owned(),
        question: format!("highest rate with {} of delivery at most {}", bound.name, span(bound.bound_ns)),
        answer: rate_answer(&answer, &bound, &search),
        figures: rate_figures(&answer),
        trials: std::mem::take(&mut course.trials),
    };
    Ok((answer.rate, found, verdict))
}

fn rate_answer(answer: &Answer, bound: &Bound, search: &RateSearch) -> String {
    let votes = |rate| {
        let (passed, missed) = search.votes(rate);
        format!("{passed} of {} runs passed", passed + missed)
    };
    let above = answer.above.map(|above| match answer.limit {
        Limit::Generator => format!("at {above} the generator was the limit"),
        Limit::Broker | Limit::Range | Limit::Runs => format!("{above} did not ({})", votes(above)),
    });
    let kept = format!("{} ≤ {}", bound.name, span(bound.bound_ns));
    match (answer.rate, above) {
        (Some(rate), above) => format!(
            "{rate} messages/s kept {kept} ({}); {}; {:.0} % sure of both ends",
            votes(rate),
            above.unwrap_or_else(|| "higher rates were not asked for".to_owned()),
            answer.certainty * 100.0
        ),
        (None, Some(above)) => format!("no rate that was tried kept {kept}: {above}"),
        (None, None) => "nothing was run".to_owned(),
    }
}

fn rate_figures(answer: &Answer) -> Vec<Value> {
    let certainty =
        Value { name: "certainty".to_owned(), value: answer.certainty, unit: "probability".to_owned() };
    let ends = [per_second("highest rate kept", answer.rate), per_second("lowest rate missed", answer.above)];
    ends.into_iter().flatten().chain([certainty]).collect()
}

fn seek_knee(arguments: &KneeArgs, course: &mut Course) -> Result<Found, SearchError> {
    let mut points = Vec::new();
    let mut overloaded = 0;
    for rate in knee::steps(arguments.range.from, arguments.range.to, arguments.steps) {
        let mut runs = Vec::new();
        for _ in 0..arguments.repeat {
            runs.push(course.run(rate, Tried::not_carried)?);
        }
        let p99 = |tried: &Tried| tried.deliver.map_or(u64::MAX, |summary| summary.p99_ns);
        runs.sort_by_key(p99);
        let Some(middle) = runs.get(runs.len() / 2) else { continue };
        points.push(knee::Point { rate, latency_ns: p99(middle), carried: middle.carried() });
        overloaded = if middle.overloads_the_broker() { overloaded + 1 } else { 0 };
        if overloaded >= OVERLOADED_MAX {
            break;
        }
    }
    let (found, power) = (knee::knee(&points), knee::power(&points));
    let carried = points.iter().filter(|point| point.carried).map(|point| point.rate).max();
    let answer = found.map_or_else(
        || "the curve has no knee: too few rates were carried, or latency hardly rises; widen --from and --to".to_owned(),
        |knee| format!("the knee is at {} messages/s, {:.2} below the diagonal (Kneedle on p99)", knee.rate, knee.depth),
    );
    let figures = [
        per_second("knee", found.map(|knee| knee.rate)),
        per_second("greatest power", power),
        per_second("highest carried", carried),
    ];
    let verdict = if found.is_some() {
        Verdict::Certified
    } else {
        let unclear = points.iter().filter(|point| !point.carried).count();
        Verdict::Uncertified(vec![format!(
            "no knee was found; {unclear} of {} rates were not carried, or the generator was the limit there",
            points.len()
        )])
    };
    let search = Search {
        kind: "knee".to_owned(),
        question: "where latency begins to grow faster than the rate".to_owned(),
        answer,
        figures: figures.into_iter().flatten().collect(),
        trials: std::mem::take(&mut course.trials),
    };
    Ok((found.map(|knee| knee.rate), search, verdict))
}

/// One run, whose outcome is the result.
fn soak(arguments: &SoakArgs, course: Course) -> Result<Outcome, SearchError> {
    let Course { load, screen, .. } = course;
    let rate = arguments.per_second;
    let failed = |source| SearchError::Run { rate, source };
    let mut load = load.unobserved(whole(arguments.hours * 3_600.0 * float(SECOND_NS)));
    let observer = Observer::start(load.broker_pid(), Clock::start());
    let observer = observer.map_err(host("observing the broker")).map_err(failed)?;
    observer.begin();
    let (tried, mut outcome) = load.run(rate, screen.of_run(0, "soak".to_owned())).map_err(failed)?;
    let observed = observer.finish();
    let slices = slices(&outcome, arguments.slices);
    let findings = Findings::of(observed.as_ref(), &slices);
    let mut faults = tried.faults;
    if findings.is_bad() {
        faults.extend(findings.sentences.iter().cloned());
    }
    outcome.verdict = if !faults.is_empty() {
        Verdict::Failed(faults)
    } else if !tried.doubts.is_empty() {
        Verdict::Uncertified(tried.doubts)
    } else {
        Verdict::Certified
    };
    outcome.search = Some(Search {
        kind: "soak".to_owned(),
        question: format!(
            "does memory grow or latency drift in {} hours at {rate} messages/s",
            arguments.hours
        ),
        answer: findings.sentences.join("; "),
        figures: findings.figures(),
        trials: slices.iter().map(|slice| slice_trial(rate, slice)).collect(),
    });
    if let Some(observed) = observed {
        outcome.notes.extend(observed.notes());
        for point in &observed.points {
            outcome.resources.observe(ResourcePoint::of(point, Nanos(0)));
        }
    }
    Ok(outcome)
}

/// A slice of a soak as a line of its table.
fn slice_trial(rate: u64, slice: &Slice) -> Trial {
    Trial {
        offered_per_second: float(rate),
        sent_per_second: float(rate),
        delivered_per_second: float(slice.deliver.samples) * float(SECOND_NS) / float(slice.width_ns.max(1)),
        deliver: Some(slice.deliver),
        passed: true,
        note: format!("until {}", span(slice.end_ns)),
        ..Trial::default()
    }
}

fn per_second(name: &str, value: Option<u64>) -> Option<Value> {
    value.map(|value| Value { name: name.to_owned(), value: float(value), unit: "messages/s".to_owned() })
}

/// Steps in a row that were not carried, after which a curve is over.
const OVERLOADED_MAX: u32 = 2;

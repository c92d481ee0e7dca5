//! Which plots a report has: what of the outcomes is drawn.

use super::csv::occurring;
use super::figures::{bytes, digits, rate};
use super::markdown::name;
use super::plot::{Axis, Line, Plot, last_percentile};
use crate::record::{Leg, Outcome, Point, ResourcePoint, Times};
use crate::report::ratio;

/// A figure of a sample of the processes.
type Figure = fn(&ResourcePoint) -> Option<f64>;

/// The percentile curves, one plot per leg.
pub(super) fn curves(outcomes: &[Outcome]) -> Vec<Plot> {
    occurring(outcomes).into_iter().map(|leg| curve(outcomes, leg)).filter(|plot| !plot.is_empty()).collect()
}

/// What changes over time.
pub(super) fn over_time(outcomes: &[Outcome]) -> Vec<Plot> {
    let plots = [
        throughput(outcomes),
        percentiles(outcomes),
        connections(outcomes),
        cores(outcomes),
        memory(outcomes),
    ];
    plots.into_iter().filter(|plot| !plot.is_empty()).collect()
}

/// What a search has tried: times against rates.
pub(super) fn trials(outcomes: &[Outcome]) -> Option<Plot> {
    let mut lines = Vec::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let Some(search) = &outcome.search else { continue };
        let mut trials: Vec<_> = search.trials.iter().filter(|trial| trial.deliver.is_some()).collect();
        trials.sort_by(|one, other| one.sent_per_second.total_cmp(&other.sent_per_second));
        for (title, dashed) in [("p99", false), ("p50", true)] {
            let points = trials.iter().filter_map(|trial| {
                let times = trial.deliver?;
                let value = if dashed { times.p50_ns } else { times.p99_ns };
                Some((trial.sent_per_second, Some(ratio(value, 1))))
            });
            lines.push(Line {
                label: label(outcomes, number, title),
                color: number,
                dashed,
                points: points.collect(),
            });
        }
    }
    let plot = Plot {
        title: "Delivery against rate".to_owned(),
        about: "corrected times of each rate that was tried".to_owned(),
        x: Axis::linear(values(&lines, |point| Some(point.0)), rate),
        y: Axis::log_time(values(&lines, |point| point.1)),
        lines,
        bands: Vec::new(),
    };
    (!plot.is_empty()).then_some(plot)
}

fn curve(outcomes: &[Outcome], leg: Leg) -> Plot {
    let mut lines = Vec::new();
    let samples = outcomes.iter().filter_map(|outcome| Some(outcome.legs.of(leg)?.corrected.samples())).max();
    let end = last_percentile(samples.unwrap_or(0));
    for (number, outcome) in outcomes.iter().enumerate() {
        let Some(times) = outcome.legs.of(leg) else { continue };
        let color = if outcomes.len() == 1 { 0 } else { number };
        lines.push(Line {
            label: label(outcomes, number, "corrected"),
            color,
            dashed: false,
            points: quantiles(&times.corrected, end),
        });
        if times.raw.samples() > 0 && times.raw != times.corrected {
            lines.push(Line {
                label: label(outcomes, number, "raw"),
                color: if outcomes.len() == 1 { 1 } else { number },
                dashed: true,
                points: quantiles(&times.raw, end),
            });
        }
    }
    let about = match leg {
        Leg::Deliver | Leg::PubAck | Leg::PubComp => {
            "corrected counts from when the message should have been sent, raw from when it was"
        }
        Leg::TcpConnect | Leg::Tls | Leg::ConnAck | Leg::SubAck | Leg::ReconnectToFirstMessage => {
            "from when it should have begun"
        }
    };
    Plot {
        title: leg.title().to_owned(),
        about: about.to_owned(),
        x: Axis::Nines(end),
        y: Axis::log_time(values(&lines, |point| point.1)),
        lines,
        bands: Vec::new(),
    }
}

fn quantiles(times: &Times, end: f64) -> Vec<(f64, Option<f64>)> {
    let steps = times.histogram().iter_quantiles(8);
    let mut points: Vec<_> = steps
        .map(|step| (100.0 * step.quantile_iterated_to(), Some(ratio(step.value_iterated_to(), 1))))
        .take_while(|(percentile, _)| *percentile < end)
        .collect();
    points.push((end, Some(ratio(times.histogram().max(), 1))));
    points
}

fn throughput(outcomes: &[Outcome]) -> Plot {
    let mut lines = Vec::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let alone = outcomes.len() == 1;
        let mut line = |title: &str, color: usize, dashed: bool, of: fn(&Point) -> u64| {
            let points = per_second(outcome, of);
            if points.iter().any(|(_, y)| *y != Some(0.0)) {
                lines.push(Line { label: label(outcomes, number, title), color, dashed, points });
            }
        };
        line("delivered", number, false, |point| point.counters.delivered);
        line("sent", if alone { 1 } else { number }, true, |point| point.counters.sent);
        if alone {
            line("connects", 2, false, |point| point.counters.connects);
        }
    }
    let y = Axis::linear(values(&lines, |point| point.1), rate);
    timed(outcomes, "Throughput", "per second", y, lines)
}

fn percentiles(outcomes: &[Outcome]) -> Plot {
    let of_messages = occurring(outcomes).contains(&Leg::Deliver);
    let leg = if of_messages { Leg::Deliver } else { Leg::ConnAck };
    let mut lines = Vec::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let points = outcome.series.points();
        let times: Vec<_> = points
            .iter()
            .map(|point| (middle(point), point.times(leg).and_then(|times| times.summary())))
            .collect();
        let alone = outcomes.len() == 1;
        for (title, dashed, color) in [("p99", false, number), ("p50", true, if alone { 1 } else { number })]
        {
            let value =
                |summary: crate::record::Summary| if dashed { summary.p50_ns } else { summary.p99_ns };
            let points =
                times.iter().map(|(at, summary)| (*at, summary.map(|summary| ratio(value(summary), 1))));
            lines.push(Line {
                label: label(outcomes, number, title),
                color,
                dashed,
                points: points.collect(),
            });
        }
    }
    let y = Axis::log_time(values(&lines, |point| point.1));
    timed(outcomes, "Times of each second", leg.title(), y, lines)
}

fn connections(outcomes: &[Outcome]) -> Plot {
    let lines: Vec<Line> = outcomes
        .iter()
        .enumerate()
        .map(|(number, outcome)| {
            let ends = whole_points(outcome)
                .map(|point| (ratio(point.end_seconds(), 1), Some(ratio(point.open, 1))));
            let points = std::iter::once((0.0, Some(0.0))).chain(ends);
            Line {
                label: label(outcomes, number, "open"),
                color: number,
                dashed: false,
                points: points.collect(),
            }
        })
        .filter(|line| line.points.iter().any(|(_, y)| *y != Some(0.0)))
        .collect();
    let y = Axis::linear(values(&lines, |point| point.1), rate);
    timed(outcomes, "Connections", "up at the end of each second", y, lines)
}

fn cores(outcomes: &[Outcome]) -> Plot {
    let figures: [(&str, Figure); 2] =
        [("broker", |point| point.broker_cores), ("generator", |point| point.generator_cores)];
    let mut lines = Vec::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        for (place, (title, of)) in figures.into_iter().enumerate() {
            let points = outcome.resources.points.iter();
            let cores = points.filter_map(|point| Some((ratio(point.at_ms, 1_000), Some(of(point)?))));
            push_line(&mut lines, outcomes, (number, place), title, cores.collect());
        }
    }
    let y = Axis::linear(values(&lines, |point| point.1), digits);
    timed(outcomes, "Processor", "cores in use", y, lines)
}

fn memory(outcomes: &[Outcome]) -> Plot {
    let figures: [(&str, Figure); 3] = [
        ("broker", |point| point.broker_rss_bytes.map(mebibytes)),
        ("generator", |point| point.generator_rss_bytes.map(mebibytes)),
        ("kernel (sockets, both ends)", |point| point.kernel_bytes.map(mebibytes)),
    ];
    let mut lines = Vec::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        for (place, (title, of)) in figures.into_iter().enumerate() {
            let points = outcome.resources.points.iter();
            let points = points.filter_map(|point| Some((ratio(point.at_ms, 1_000), Some(of(point)?))));
            push_line(&mut lines, outcomes, (number, place), title, points.collect());
        }
    }
    let y = Axis::linear(values(&lines, |point| point.1), |mebibytes| bytes(mebibytes * f64::from(1 << 20)));
    timed(outcomes, "Memory", "resident, and the kernel's for sockets", y, lines)
}

/// Adds a line of a set that one outcome has several of: a colour each when it is alone, else one colour per outcome and
/// the first line solid.
fn push_line(
    lines: &mut Vec<Line>,
    outcomes: &[Outcome],
    (number, place): (usize, usize),
    title: &str,
    points: Vec<(f64, Option<f64>)>,
) {
    if !points.is_empty() {
        let alone = outcomes.len() == 1;
        let color = if alone { place } else { number };
        lines.push(Line {
            label: label(outcomes, number, title),
            color,
            dashed: !alone && place > 0,
            points,
        });
    }
}

/// A plot over time, with the stages that are not measured shaded when there is one outcome.
fn timed(outcomes: &[Outcome], title: &str, about: &str, y: Axis, lines: Vec<Line>) -> Plot {
    let end = outcomes.iter().map(Outcome::length_ns).max().unwrap_or(0);
    let mut bands = Vec::new();
    if let [outcome] = outcomes {
        for stage in outcome.stages.iter().filter(|stage| !stage.measured) {
            let at = |nanoseconds| ratio(nanoseconds, 1_000_000_000);
            bands.push((at(stage.start_ns), at(stage.end_ns), format!("{} (not measured)", stage.name)));
        }
    }
    Plot {
        title: title.to_owned(),
        about: about.to_owned(),
        x: Axis::Elapsed(ratio(end.max(1_000_000_000), 1_000_000_000)),
        y,
        lines,
        bands,
    }
}

/// Bytes as a place on an axis: round figures are round in binary units.
fn mebibytes(count: u64) -> f64 {
    ratio(count, 1 << 20)
}

fn per_second(outcome: &Outcome, of: fn(&Point) -> u64) -> Vec<(f64, Option<f64>)> {
    whole_points(outcome).map(|point| (middle(point), Some(ratio(of(point), point.width_seconds)))).collect()
}

/// The points without the last, if the run ended in the middle of it: its rate would be too low.
fn whole_points(outcome: &Outcome) -> impl Iterator<Item = &Point> {
    let end_seconds = outcome.length_ns() / 1_000_000_000;
    let points = outcome.series.points();
    let few = points.len() < 2;
    points.iter().filter(move |point| few || point.end_seconds() <= end_seconds)
}

fn middle(point: &Point) -> f64 {
    ratio(point.at_seconds * 2 + point.width_seconds, 2)
}

/// The words for a line: with several outcomes, the run's name too.
fn label(outcomes: &[Outcome], number: usize, title: &str) -> String {
    if outcomes.len() == 1 { title.to_owned() } else { format!("{} {title}", name(outcomes, number)) }
}

fn values<'a>(
    lines: &'a [Line],
    of: impl Fn(&(f64, Option<f64>)) -> Option<f64> + 'a,
) -> impl Iterator<Item = f64> + 'a {
    lines.iter().flat_map(|line| &line.points).filter_map(of)
}

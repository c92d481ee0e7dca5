//! Line plots as inline SVG: axes, lines, shaded bands. Knows nothing of outcomes.

use std::fmt::Write as _;

use super::figures::{clock, time};
use super::html::Escaped;

/// A plot.
pub(super) struct Plot {
    pub(super) title: String,
    /// What is shown, in a few words.
    pub(super) about: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Pieces of the x axis to be shaded, with what they are.
    pub(super) bands: Vec<(f64, f64, String)>,
}

/// A line of a plot.
pub(super) struct Line {
    pub(super) label: String,
    /// Number of its colour.
    pub(super) color: usize,
    pub(super) dashed: bool,
    /// Places; the line is broken where y is absent.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// How values become places and words.
#[derive(Clone, Copy)]
pub(super) enum Axis {
    /// Seconds from 0 to this.
    Elapsed(f64),
    /// Percentiles from 0 to this one, each nine as wide as the one before.
    Nines(f64),
    /// Nanoseconds between two powers of ten, each as high as the one before.
    LogTime(f64, f64),
    /// From 0 to this, in words by the function.
    Linear(f64, fn(f64) -> String),
}

impl Axis {
    /// An axis for nanoseconds that has all these on it.
    pub(super) fn log_time(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        if high <= 0.0 {
            return Self::LogTime(3.0, 6.0);
        }
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Self::LogTime(low, if high > low { high } else { low + 1.0 })
    }

    /// An axis from 0 that has all these on it.
    pub(super) fn linear(values: impl Iterator<Item = f64>, words: fn(f64) -> String) -> Self {
        let high = values.fold(0.0_f64, f64::max);
        let step = step(high);
        Self::Linear(if high > 0.0 { (high / step).ceil() * step } else { 1.0 }, words)
    }

    /// The place of a value: 0 at the beginning, 1 at the end.
    fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Elapsed(end) | Self::Linear(end, _) => value / end,
            Self::Nines(end) => nines(value) / nines(end),
            Self::LogTime(low, high) => (value.max(1.0).log10() - low) / (high - low),
        };
        place.clamp(0.0, 1.0)
    }

    /// A value in words.
    fn words(self, value: f64) -> String {
        match self {
            Self::Elapsed(_) => clock(whole(value * 1e9)),
            Self::Nines(_) => format!("p{}", percentile(value)),
            Self::LogTime(..) => time(whole(value)),
            Self::Linear(_, words) => words(value),
        }
    }

    /// Values that get a line and words.
    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Elapsed(end) => {
                let step = TIME_STEPS.into_iter().find(|step| end / step <= 6.0).unwrap_or(end / 6.0);
                multiples(step, end)
            }
            Self::Linear(end, _) => multiples(step(end), end),
            Self::Nines(end) => {
                let ticks = [0.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
                ticks.into_iter().filter(|tick| *tick <= end).collect()
            }
            Self::LogTime(low, high) => {
                let inner: &[f64] = if high - low <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let mut ticks: Vec<f64> = Vec::new();
                let mut decade = low;
                while decade < high {
                    ticks.extend(inner.iter().map(|digit| digit * 10_f64.powf(decade)));
                    decade += 1.0;
                }
                ticks.push(10_f64.powf(high));
                ticks
            }
        }
    }
}

impl Plot {
    /// Whether there is anything to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.iter().all(|(_, y)| y.is_none()))
    }

    /// The plot as a figure with its title and its legend.
    pub(super) fn figure(&self) -> String {
        let mut text = String::new();
        let (title, about) = (Escaped(&self.title), Escaped(&self.about));
        push(
            &mut text,
            format_args!(
                "<figure class=\"plot\"><figcaption><b>{title}</b> <span>{about}</span></figcaption>"
            ),
        );
        push(
            &mut text,
            format_args!(
                "<div class=\"stage\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
            ),
        );
        self.grid(&mut text);
        for line in &self.lines {
            self.line(&mut text, line);
        }
        text.push_str("<line class=\"cross\" y1=\"12\" y2=\"262\" x1=\"0\" x2=\"0\"></line></svg><div class=\"tip\" hidden=\"\"></div></div>");
        text.push_str("<ul class=\"legend\">");
        for line in &self.lines {
            let style = if line.dashed { " dashed" } else { "" };
            let (color, label) = (line.color % COLORS, Escaped(&line.label));
            push(&mut text, format_args!("<li class=\"c{color}{style}\"><i></i>{label}</li>"));
        }
        text.push_str("</ul></figure>\n");
        text
    }

    fn grid(&self, text: &mut String) {
        for (from, to, label) in &self.bands {
            let (left, right) = (self.across(*from), self.across(*to));
            let (width, label) = (right - left, Escaped(label));
            push(
                text,
                format_args!(
                    "<rect class=\"band\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{DEPTH}\"><title>{label}</title></rect>"
                ),
            );
        }
        for value in self.y.ticks() {
            let (at, words) = (self.down(value), self.y.words(value));
            let (right, beside, below) = (LEFT + BREADTH, LEFT - 8.0, at + 4.0);
            push(
                text,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"></line>\
                     <text x=\"{beside}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>",
                    Escaped(&words)
                ),
            );
        }
        let bottom = TOP + DEPTH;
        for value in self.x.ticks() {
            let (at, words) = (self.across(value), self.x.words(value));
            let (notch, below) = (bottom + 5.0, bottom + 21.0);
            push(
                text,
                format_args!(
                    "<line class=\"notch\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{notch}\"></line>\
                     <text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
                    Escaped(&words)
                ),
            );
        }
    }

    fn line(&self, text: &mut String, line: &Line) {
        let (mut path, mut words, mut heads) = (String::new(), Vec::new(), Vec::new());
        let mut pen_down = false;
        for (x, y) in &line.points {
            let Some(y) = y else {
                pen_down = false;
                continue;
            };
            let verb = if pen_down { 'L' } else { 'M' };
            push(&mut path, format_args!("{verb}{:.1} {:.1}", self.across(*x), self.down(*y)));
            words.push(self.y.words(*y));
            heads.push(self.x.words(*x));
            pen_down = true;
        }
        let style = if line.dashed { " dashed" } else { "" };
        let (heads, words) = (heads.join("|"), words.join("|"));
        push(
            text,
            format_args!(
                "<path class=\"c{}{style}\" d=\"{path}\" data-label=\"{}\" data-x=\"{}\" data-y=\"{}\"></path>",
                line.color % COLORS,
                Escaped(&line.label),
                Escaped(&heads),
                Escaped(&words)
            ),
        );
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + BREADTH * self.x.place(x)
    }

    fn down(&self, y: f64) -> f64 {
        TOP + DEPTH * (1.0 - self.y.place(y))
    }
}

/// How many nines a percentile has: 90 has one, 99 two.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

/// The highest percentile that this many samples say something about, with a little room.
pub(super) fn last_percentile(samples: u64) -> f64 {
    let share = 1.0 / crate::report::ratio(samples.max(10), 1);
    (100.0 * (1.0 - share)).min(99.9999)
}

/// A percentile with as many digits as it needs.
fn percentile(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A round step that gives some five of them up to `high`.
fn step(high: f64) -> f64 {
    if high <= 0.0 {
        return 1.0;
    }
    let rough = high / 5.0;
    let size = 10_f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|digit| digit * size >= rough * 0.999);
    digit.unwrap_or(10.0) * size
}

fn multiples(step: f64, end: f64) -> Vec<f64> {
    (0..=20).map(|index| f64::from(index) * step).take_while(|value| *value <= end * 1.000_1).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people; not negative"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("writing to a String can't fail");
}

/// Seconds between two words of a time axis.
const TIME_STEPS: [f64; 15] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0,
];
/// Colours that lines can have.
const COLORS: usize = 6;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 296.0;
const LEFT: f64 = 68.0;
const TOP: f64 = 12.0;
const BREADTH: f64 = 472.0;
const DEPTH: f64 = 250.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn nines_are_equally_wide() {
        let axis = Axis::Nines(99.9);
        assert!(near(axis.place(90.0), 1.0 / 3.0) && near(axis.place(99.0), 2.0 / 3.0));
        assert_eq!(axis.ticks(), [0.0, 90.0, 99.0, 99.9]);
        assert_eq!(axis.words(99.99), "p99.99");
        assert!(near(last_percentile(1_000), 99.9));
    }

    #[test]
    fn axes_have_room_for_all_and_round_words() {
        let Axis::LogTime(low, high) = Axis::log_time([5e3, 2.5e6].into_iter()) else { panic!() };
        assert!(near(low, 3.0) && near(high, 7.0));
        let Axis::Linear(end, _) = Axis::linear([437.0].into_iter(), super::super::figures::rate) else {
            panic!()
        };
        assert!(near(end, 500.0));
        assert_eq!(Axis::Elapsed(61.0).ticks().len(), 5);
        assert_eq!(Axis::Elapsed(90.0).words(75.0), "1:15");
        assert!(matches!(Axis::log_time(std::iter::empty()), Axis::LogTime(..)));
    }

    #[test]
    fn a_line_is_broken_where_there_is_nothing() {
        let points = vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(2.0)), (3.0, Some(2.0))];
        let line = Line { label: "<x>".to_owned(), color: 7, dashed: true, points };
        let plot = Plot {
            title: "t".to_owned(),
            about: String::new(),
            x: Axis::Elapsed(3.0),
            y: Axis::Linear(2.0, super::super::figures::rate),
            lines: vec![line],
            bands: vec![(0.0, 1.0, "warm & up".to_owned())],
        };
        let text = plot.figure();
        assert!(text.contains("d=\"M68.0 137.0M382.7 12.0L540.0 12.0\""), "{text}");
        assert!(
            text.contains("class=\"c1 dashed\"")
                && text.contains("&lt;x&gt;")
                && text.contains("warm &amp; up")
        );
        assert!(!plot.is_empty());
    }
}

//! What a command has measured, as it is written to and read from JSON: every single run, and what is needed to repeat it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Kind;
use super::machine::Environment;
use super::scenario::{Measure, Scenario};
use crate::error::Error;
use crate::files;

/// Everything that one command has measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Version of this form.
    pub(crate) format: u32,
    /// The command line.
    pub(crate) command: String,
    pub(crate) environment: Environment,
    pub(crate) conditions: Conditions,
    pub(crate) contenders: Vec<Participant>,
    pub(crate) rows: Vec<Row>,
    pub(crate) runs: Vec<Run>,
}

/// How was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conditions {
    /// Seconds measured in each run, unless the scenario ends by itself.
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
    pub(crate) repetitions: u32,
    pub(crate) broker_core: usize,
    pub(crate) generator_core: usize,
}

/// A contender: what it is, or why it is not here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Participant {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    /// Why it could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) absent: Option<String>,
}

/// A scenario, as far as a reader of the results needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) measure: Measure,
    /// Arguments of dunlin-loadgen.
    pub(crate) arguments: String,
}

/// One run of one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) scenario: String,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
}

/// What a run has given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Processor time of the contender per unit, in microseconds.
    pub(crate) cpu_us: Option<f64>,
    /// Share of a core that the contender used.
    pub(crate) cores: Option<f64>,
    pub(crate) per_second: Option<f64>,
    pub(crate) generator_cpu_us: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p99_9_us: Option<f64>,
    /// User memory of the contender per connection or subscription.
    pub(crate) bytes_per_item: Option<f64>,
    /// What the contender's user memory grew by, while connections were held or from round to round.
    pub(crate) growth_bytes: Option<f64>,
    /// Everything was accounted for.
    pub(crate) clean: bool,
    /// Why there is no result.
    pub(crate) error: Option<String>,
    /// The generator's whole report.
    pub(crate) report: Value,
}

impl From<&Scenario> for Row {
    fn from(scenario: &Scenario) -> Self {
        let mut arguments = scenario.arguments.join(" ");
        if scenario.half_of.is_some() {
            arguments.push_str(" --rate HALF");
        }
        Self {
            name: scenario.name.to_owned(),
            what: scenario.what.to_owned(),
            measure: scenario.measure,
            arguments,
        }
    }
}

impl Outcome {
    /// Whether the run has a result in which nothing was lost, repeated or harmed.
    pub(crate) const fn is_clean(&self) -> bool {
        self.clean && self.error.is_none()
    }

    /// What is wrong with the run.
    pub(crate) fn flaw(&self) -> Option<String> {
        if self.is_clean() {
            return None;
        }
        if let Some(error) = &self.error {
            return Some(error.clone());
        }
        let mut flaws = Vec::new();
        for (kind, count) in
            self.report.pointer("/violations").and_then(Value::as_object).into_iter().flatten()
        {
            if count.as_u64().is_some_and(|count| count > 0) {
                flaws.push(format!("{kind} {count}"));
            }
        }
        let failures = self.report.pointer("/failures").and_then(Value::as_u64).unwrap_or(0);
        if failures > 0 {
            let example = self.report.pointer("/failure_examples/0").and_then(Value::as_str).unwrap_or("");
            let plural = if failures == 1 { "" } else { "s" };
            flaws.push(format!("{failures} failure{plural}: {example}"));
        }
        Some(if flaws.is_empty() { "not everything was accounted for".to_owned() } else { flaws.join("; ") })
    }

    /// One line while the comparison is running.
    pub(crate) fn brief(&self) -> String {
        let mut text = String::new();
        if let Some(cpu) = self.cpu_us {
            text.push_str(&format!("{cpu:.2} CPU-us "));
        }
        if let Some(rate) = self.per_second.filter(|rate| *rate > 0.0) {
            text.push_str(&format!("{rate:.0}/s "));
        }
        if let Some(bytes) = self.bytes_per_item {
            text.push_str(&format!("{bytes:.0} B each "));
        }
        if let Some(flaw) = self.flaw() {
            text.push_str(&format!("FAILED: {flaw}"));
        }
        text.trim_end().to_owned()
    }
}

/// A figure over the clean repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// The spread of some values; `None` if there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { least, median: f64::midpoint(lower, upper), most })
    }

    /// From the least to the most, as a share of the median.
    pub(crate) fn share(self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.most - self.least) / self.median }
    }
}

impl Results {
    /// The outcomes of a contender in a scenario.
    pub(crate) fn outcomes<'a>(
        &'a self,
        scenario: &'a str,
        kind: Kind,
    ) -> impl Iterator<Item = &'a Outcome> + Clone + 'a {
        self.runs
            .iter()
            .filter(move |run| run.scenario == scenario && run.kind == kind)
            .map(|run| &run.outcome)
    }

    /// A figure of a contender in a scenario, over its clean runs.
    pub(crate) fn values(&self, scenario: &str, kind: Kind, field: Field) -> Vec<f64> {
        let outcomes = self.outcomes(scenario, kind).filter(|outcome| outcome.is_clean());
        outcomes.filter_map(field).collect()
    }

    /// The same, as a spread.
    pub(crate) fn spread(&self, scenario: &str, kind: Kind, field: Field) -> Option<Spread> {
        Spread::of(self.values(scenario, kind, field))
    }

    /// What went wrong for a contender in a scenario: how many of how many runs, and the first flaw.
    pub(crate) fn flaw(&self, scenario: &str, kind: Kind) -> Option<String> {
        let outcomes = self.outcomes(scenario, kind);
        let flaws: Vec<String> = outcomes.clone().filter_map(Outcome::flaw).collect();
        let first = flaws.first()?;
        Some(format!("{} of {}: {first}", flaws.len(), outcomes.count()))
    }

    /// Reads results back.
    ///
    /// # Errors
    /// When the file can't be read, or is something else.
    pub(crate) fn load(file: &Path) -> Result<Self, Error> {
        let text =
            files::read(file).map_err(|source| Error::host(format!("reading {}", file.display()), source))?;
        let results: Self = serde_json::from_str(&text).map_err(|error| {
            Error::Advice(format!(
                "{}: {error}; it takes what `cargo perf sheet --out` or `cargo perf compare --out` has written",
                file.display()
            ))
        })?;
        if results.format == FORMAT {
            return Ok(results);
        }
        Err(Error::Advice(format!(
            "{} has form {}, this program reads form {FORMAT}; measure again",
            file.display(),
            results.format
        )))
    }

    /// The results as JSON: what they are about first, then a line for each run.
    pub(crate) fn to_json(&self) -> String {
        let about = Self { runs: Vec::new(), ..self.clone() };
        let mut text = serde_json::to_string_pretty(&about).expect("strings, numbers and lists");
        let end = text.rfind("[]").expect("the runs are last, and none");
        text.truncate(end);
        text.push_str("[\n");
        for (index, run) in self.runs.iter().enumerate() {
            text.push_str(if index == 0 { "    " } else { ",\n    " });
            text.push_str(&serde_json::to_string(run).expect("strings, numbers and lists"));
        }
        text.push_str("\n  ]\n}\n");
        text
    }
}

/// A figure of a run.
pub(crate) type Field = fn(&Outcome) -> Option<f64>;

/// Version of the form of [`Results`].
pub(crate) const FORMAT: u32 = 1;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Results with one row, `p2p0`, and these processor times of clean runs.
    pub(crate) fn results(runs: &[(Kind, f64)]) -> Results {
        let run = |&(kind, cpu): &(Kind, f64)| Run {
            scenario: "p2p0".to_owned(),
            kind,
            outcome: Outcome { cpu_us: Some(cpu), clean: true, ..Outcome::default() },
        };
        Results {
            format: FORMAT,
            command: "cargo perf sheet".to_owned(),
            environment: Environment::default(),
            conditions: Conditions {
                seconds: 1.0,
                warm_up_seconds: 0.5,
                repetitions: 3,
                broker_core: 0,
                generator_core: 1,
            },
            contenders: Kind::ALL
                .iter()
                .map(|kind| Participant { kind: *kind, version: "1".to_owned(), absent: None })
                .collect(),
            rows: Scenario::named("p2p0").map(Row::from).into_iter().collect(),
            runs: runs.iter().map(run).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for runs in [&[][..], &[(Kind::Dunlin, 6.0)], &[(Kind::Dunlin, 6.0), (Kind::Floor, 4.5)]] {
            let written = results(runs).to_json();
            let read: Results = serde_json::from_str(&written).unwrap();
            assert_eq!(read.to_json(), written);
            assert_eq!(written.lines().filter(|line| line.contains("\"outcome\"")).count(), runs.len());
        }
    }

    #[test]
    fn a_spread_has_a_median_of_odd_and_even_numbers() {
        let spread = Spread::of(vec![4.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.least, spread.median, spread.most), (2.0, 3.0, 4.0));
        assert_eq!(Spread::of(vec![1.0, 2.0]).unwrap().median, 1.5);
        assert!((spread.share() - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn runs_that_were_not_clean_count_as_flaws_and_not_as_figures() {
        let mut results = results(&[(Kind::Dunlin, 6.0), (Kind::Dunlin, 1.0)]);
        results.runs[1].outcome.clean = false;
        assert_eq!(results.values("p2p0", Kind::Dunlin, |outcome| outcome.cpu_us), [6.0]);
        assert_eq!(
            results.flaw("p2p0", Kind::Dunlin).as_deref(),
            Some("1 of 2: not everything was accounted for")
        );
        assert_eq!(results.flaw("p2p0", Kind::Floor), None);
    }

    #[test]
    fn another_file_is_refused_with_what_to_do() {
        let error = Results::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).unwrap_err();
        assert!(error.to_string().contains("cargo perf sheet --out"), "{error}");
    }
}

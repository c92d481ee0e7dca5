//! Runs the generator once against a contender and reads its JSON.

use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

use super::contender::{Contender, Kind};
use super::scenario::Scenario;
use super::{Bench, Error};

/// One run of one contender.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) scenario: &'static str,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
}

/// What a run has given.
#[derive(Debug, Serialize)]
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

impl Outcome {
    /// Whether the run has a result in which nothing was lost, repeated or harmed.
    pub(crate) const fn is_clean(&self) -> bool {
        self.clean && self.error.is_none()
    }

    /// One line while the comparison is running.
    pub(crate) fn brief(&self) -> String {
        if let Some(error) = &self.error {
            return format!("no result: {error}");
        }
        let mut text = String::new();
        if let Some(cpu) = self.cpu_us {
            text.push_str(&format!("{cpu:.2} CPU-us "));
        }
        if let Some(rate) = self.per_second {
            text.push_str(&format!("{rate:.0}/s"));
        }
        if !self.clean {
            text.push_str(" VIOLATED");
        }
        text
    }
}

/// Runs the generator for one scenario.
///
/// # Errors
/// When the generator can't be started; a run that fails is an [`Outcome`] with its error.
pub(crate) fn run(bench: &Bench, scenario: &Scenario, contender: &Contender) -> Result<Outcome, Error> {
    let mut command = Command::new(&bench.loadgen);
    command.args(scenario.arguments).arg("--json");
    command.args(["--target", &contender.address.to_string()]);
    command.args(["--core", &bench.generator_core.to_string()]);
    command.args(["--broker-pid", &contender.pid().to_string()]);
    if !scenario.arguments.contains(&"--seconds") {
        let seconds = if scenario.timed { bench.seconds } else { 1.0 };
        command.args(["--seconds", &seconds.to_string()]);
    }
    if contender.kind == Kind::Floor {
        command.arg("--floor");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::host(format!("starting {}", bench.loadgen.display()), source))?;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let error = report.is_null().then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned());
    Ok(read(report, output.status.success(), error))
}

fn read(report: Value, clean: bool, error: Option<String>) -> Outcome {
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    Outcome {
        cpu_us: number("/broker_cpu_us"),
        cores: number("/broker_cores"),
        per_second: number("/per_second"),
        generator_cpu_us: number("/generator_cpu_us"),
        p50_us: number("/latency_us/p50"),
        p99_us: number("/latency_us/p99"),
        p99_9_us: number("/latency_us/p99_9"),
        bytes_per_item: number("/memory/broker_pss_per_item_bytes"),
        growth_bytes: number("/growth_bytes"),
        clean,
        error,
        report,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_and_its_absence_is_an_error() {
        let report = serde_json::json!({
            "broker_cpu_us": 7.5, "per_second": 100.0, "latency_us": {"p50": 50.0, "p99": 90.0, "p99_9": 99.0}
        });
        let outcome = read(report, true, None);
        assert_eq!((outcome.cpu_us, outcome.p99_us, outcome.bytes_per_item), (Some(7.5), Some(90.0), None));
        assert!(outcome.is_clean());
        assert!(!read(Value::Null, false, Some("refused".to_owned())).is_clean());
    }
}

//! Runs the generator once against a contender and reads its JSON.

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Bench;
use super::contender::{Contender, Kind, pause};
use super::results::Outcome;
use super::scenario::Scenario;
use crate::error::Error;

/// Runs the generator for one scenario. `rate` is added to its arguments.
///
/// # Errors
/// When the generator can't be started; a run that fails is an [`Outcome`] with its error.
pub(crate) fn run(
    bench: &Bench,
    scenario: &Scenario,
    contender: &mut Contender,
    rate: Option<u64>,
) -> Result<Outcome, Error> {
    let mut command = Command::new(&bench.loadgen);
    command.args(scenario.arguments).arg("--json");
    command.args(["--target", &contender.address.to_string()]);
    command.args(["--core", &bench.generator_core.to_string()]);
    command.args(["--broker-pid", &contender.pid().to_string()]);
    command.args(["--warm-up", &bench.warm_up.to_string()]);
    if !scenario.arguments.contains(&"--seconds") {
        let seconds = if scenario.timed { bench.seconds } else { 1.0 };
        command.args(["--seconds", &seconds.to_string()]);
    }
    if let Some(rate) = rate {
        command.args(["--rate", &rate.to_string()]);
    }
    if contender.kind == Kind::Floor {
        command.arg("--floor");
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::host(format!("starting {}", bench.loadgen.display()), source))?;
    let Some(output) = output(child, bench.patience)? else {
        return Ok(failed(format!("not done after {} s", bench.patience.as_secs())));
    };
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    if report.is_null() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("dunlin-loadgen: ");
        let ended = contender.ended().map_or(String::new(), |how| format!("{how}; "));
        return Ok(failed(format!("{ended}{said}")));
    }
    Ok(read(report, output.status.success()))
}

/// Waits for the generator; `None` if it had to be ended.
#[expect(clippy::disallowed_methods, reason = "the tool's edge to the clock")]
fn output(mut child: Child, patience: Duration) -> Result<Option<Output>, Error> {
    let waiting = |source| Error::host("waiting for the generator", source);
    let began = Instant::now();
    loop {
        // A report is smaller than a pipe, so that the generator does not wait for a reader.
        let Some(status) = child.try_wait().map_err(waiting)? else {
            if began.elapsed() > patience {
                drop(child.kill());
                drop(child.wait());
                return Ok(None);
            }
            pause();
            continue;
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let Some(mut pipe) = child.stdout.take() {
            pipe.read_to_end(&mut stdout).map_err(waiting)?;
        }
        if let Some(mut pipe) = child.stderr.take() {
            pipe.read_to_end(&mut stderr).map_err(waiting)?;
        }
        return Ok(Some(Output { status, stdout, stderr }));
    }
}

/// A run without a result.
pub(crate) fn failed(error: String) -> Outcome {
    Outcome { clean: false, error: Some(error), ..Outcome::default() }
}

fn read(report: Value, clean: bool) -> Outcome {
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
        error: None,
        report,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = serde_json::json!({
            "broker_cpu_us": 6.5,
            "per_second": 1000.0,
            "latency_us": { "p50": 31.0, "p99": 60.0 },
            "violations": { "lost": 3, "duplicated": 0 },
            "failures": 1,
            "failure_examples": ["connection refused: ServerBusy"],
        });
        let outcome = read(report, false);
        assert_eq!((outcome.cpu_us, outcome.p99_us, outcome.bytes_per_item), (Some(6.5), Some(60.0), None));
        assert!(!outcome.is_clean());
        assert_eq!(outcome.flaw().as_deref(), Some("lost 3; 1 failure: connection refused: ServerBusy"));
    }

    #[test]
    fn a_generator_that_does_not_end_is_ended() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(output(child, Duration::from_millis(1)).unwrap().is_none());
        let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(output(child, Duration::from_secs(60)).unwrap().unwrap().stdout, b"hello\n");
        assert_eq!(failed("stuck".to_owned()).flaw().as_deref(), Some("stuck"));
    }
}

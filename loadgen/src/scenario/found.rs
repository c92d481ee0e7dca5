//! From what a scenario's recorder and its report know to the outcome that is kept.

use super::Settings;
use crate::record::{Environment, FailureCounts, Leg, Outcome, PerConnection, Standard, Value, Violation};
use crate::report::{Percentiles, Report};

/// The percentiles of a leg, for the report.
pub(crate) fn percentiles(outcome: &Outcome, leg: Leg) -> Option<Percentiles> {
    Percentiles::of(outcome.legs.of(leg)?.corrected.histogram())
}

/// Puts into the outcome what only the report knows, and the outcome into the report.
pub(crate) fn complete(report: &mut Report, mut outcome: Outcome, settings: &Settings) {
    outcome.plan.name.clone_from(&report.scenario);
    let targets: Vec<String> = settings.route.targets.iter().map(ToString::to_string).collect();
    let parameters = [
        ("target", targets.join(", ")),
        ("protocol", report.protocol.clone()),
        ("connections", report.connections.to_string()),
        ("counted", format!("{}s", report.unit)),
        ("QoS", report.qos.to_string()),
        ("payload", format!("{} B", report.payload_bytes)),
    ];
    // Where nothing is published, QoS and payload mean nothing.
    let count = if report.unit == "message" { parameters.len() } else { parameters.len() - 2 };
    outcome.plan.parameters =
        parameters.into_iter().take(count).map(|(name, value)| (name.to_owned(), value)).collect();
    if let Some(found) = report.violations {
        let kinds = [
            (Violation::Lost, found.lost),
            (Violation::Duplicated, found.duplicated),
            (Violation::Reordered, found.reordered),
            (Violation::Misdelivered, found.misdelivered),
            (Violation::Corrupted, found.corrupted),
        ];
        for (kind, count) in kinds {
            outcome.violations.set(kind, count);
        }
        if report.scenario == "retained" {
            outcome.violations.set(Violation::StaleRetained, found.stale);
        }
        if ["retained", "shared"].contains(&report.scenario.as_str()) {
            outcome.violations.leave_out(Violation::Reordered, "messages come in no particular order");
        }
    }
    outcome.failures = FailureCounts::of(FAILED, report.failures, &report.failure_examples);
    outcome.counters.failures = report.failures;
    outcome.limits.clone_from(&report.limits);
    outcome.notes.clone_from(&report.notes);
    outcome.figures = report
        .extra
        .iter()
        .map(|figure| Value {
            name: figure.name.to_owned(),
            value: figure.value,
            unit: figure.unit.to_owned(),
        })
        .collect();
    let resources = &mut outcome.resources;
    resources.broker_cores = report.broker_cores;
    resources.broker_cpu_us = report.broker_cpu_us;
    resources.generator_cores = Some(report.generator_cores);
    resources.generator_cpu_us = Some(report.generator_cpu_us);
    resources.per_connection =
        report.memory.as_ref().filter(|memory| memory.item == "connection").map(|memory| PerConnection {
            connections: memory.items,
            broker_bytes: memory.broker_rss_per_item_bytes,
            kernel_bytes: memory.kernel_slab_per_item_bytes,
            generator_bytes: memory.generator_rss_per_item_bytes,
        });
    outcome.environment = Environment::of_this_host(settings.seed, settings.broker_pid);
    outcome.environment.started_unix_ms =
        outcome.environment.started_unix_ms.saturating_sub(outcome.length_ns() / 1_000_000);
    outcome.judge(&Standard::default());
    report.outcome = Some(Box::new(outcome));
}

/// The reason of a scenario's failures, which are told apart in their words only.
const FAILED: &str = "failed connections, refusals and protocol errors";

//! What the run cost: processor time and memory of the broker, of the kernel, and of the generator.
//!
//! Plain figures; where they come from is the business of whoever reads /proc.

use serde::{Deserialize, Serialize};

use super::Value;

/// Figures over time and what they come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    /// Samples in the order of time, each second or rarer; at most [`POINTS_MAX`].
    pub(crate) points: Vec<ResourcePoint>,
    /// Cores that the broker used, on average over the measured stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_cores: Option<f64>,
    /// Processor time of the broker per delivered message (or per connection, if there are none), in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_cpu_us: Option<f64>,
    /// Cores that the generator used, on average over the measured stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generator_cores: Option<f64>,
    /// Processor time of the generator per delivered message, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generator_cpu_us: Option<f64>,
    /// What a connection costs in memory, once all are up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) per_connection: Option<PerConnection>,
    /// Further figures of the host: drops, resets, energy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) figures: Vec<Value>,
}

/// One look at the processes and the kernel. Absent figures could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ResourcePoint {
    /// Since the start of the run.
    pub(crate) at_ms: u64,
    /// Run time of all the broker's threads since they started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_cpu_ns: Option<u64>,
    /// Resident memory of the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_rss_bytes: Option<u64>,
    /// Kernel memory of sockets: slab caches, and buffers of TCP, of the whole host (both ends, if both are here).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_bytes: Option<u64>,
    /// Run time of all the generator's threads since they started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generator_cpu_ns: Option<u64>,
    /// Resident memory of the generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generator_rss_bytes: Option<u64>,
}

/// Memory per connection: growth from before the first to after the last, divided by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PerConnection {
    pub(crate) connections: u64,
    /// Resident memory of the broker.
    pub(crate) broker_bytes: f64,
    /// Kernel memory of both ends.
    pub(crate) kernel_bytes: f64,
    /// Resident memory of the generator.
    pub(crate) generator_bytes: f64,
}

impl Resources {
    /// Keeps a sample; when there are too many, every second one goes.
    pub(crate) fn observe(&mut self, point: ResourcePoint) {
        if self.points.len() >= POINTS_MAX {
            let mut index = 0_usize;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.points.push(point);
    }

    /// Takes over what another part of the run has seen. The broker and the kernel are seen whole by whoever sees them;
    /// several generators are each listed.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.points.is_empty() {
            self.points.clone_from(&other.points);
        }
        self.broker_cores = self.broker_cores.or(other.broker_cores);
        self.broker_cpu_us = self.broker_cpu_us.or(other.broker_cpu_us);
        // The busiest generator is the one that could have been the limit.
        self.generator_cores = larger(self.generator_cores, other.generator_cores);
        self.generator_cpu_us = larger(self.generator_cpu_us, other.generator_cpu_us);
        self.per_connection = self.per_connection.or(other.per_connection);
        for figure in &other.figures {
            if !self.figures.contains(figure) {
                self.figures.push(figure.clone());
            }
        }
    }

    /// Cores in use between two samples of processor time that follow each other: `(at_ms, cores)`.
    pub(crate) fn cores(&self, of: impl Fn(&ResourcePoint) -> Option<u64>) -> Vec<(u64, f64)> {
        let pairs = self.points.windows(2);
        pairs
            .filter_map(|pair| {
                let [before, after] = pair else { return None };
                let used_ns = of(after)?.saturating_sub(of(before)?);
                let elapsed_ns = after.at_ms.checked_sub(before.at_ms)?.checked_mul(1_000_000)?;
                (elapsed_ns > 0).then(|| (after.at_ms, crate::report::ratio(used_ns, elapsed_ns)))
            })
            .collect()
    }
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

/// Samples kept.
const POINTS_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_bounded_and_keep_their_ends() {
        let mut resources = Resources::default();
        for at_ms in 0..10_000 {
            resources.observe(ResourcePoint { at_ms, ..ResourcePoint::default() });
        }
        assert!(resources.points.len() <= POINTS_MAX);
        assert_eq!(resources.points.first().unwrap().at_ms, 0);
        assert_eq!(resources.points.last().unwrap().at_ms, 9_999);
        assert!(resources.points.is_sorted_by_key(|point| point.at_ms));
    }

    #[test]
    fn cores_are_run_time_over_time() {
        let point =
            |at_ms, cpu| ResourcePoint { at_ms, broker_cpu_ns: Some(cpu), ..ResourcePoint::default() };
        let points = vec![point(0, 5), point(1_000, 1_500_000_005), point(1_000, 9)];
        let cores = Resources { points, ..Resources::default() }.cores(|point| point.broker_cpu_ns);
        assert_eq!(cores, [(1_000, 1.5)]);
    }
}

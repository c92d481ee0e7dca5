//! What the run cost: processor time and memory of the broker, of the kernel, and of the generator.
//!
//! Plain figures; where they come from is the business of whoever reads /proc.

use serde::{Deserialize, Serialize};

use super::Value;
use crate::clock::{MILLISECOND_NS, Nanos};
use crate::observe::Point;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ResourcePoint {
    /// Since the start of the run.
    pub(crate) at_ms: u64,
    /// Cores that the broker used since the sample before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_cores: Option<f64>,
    /// Resident memory of the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_rss_bytes: Option<u64>,
    /// Kernel memory of sockets: slab caches, and buffers of TCP, of the whole host (both ends, if both are here).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_bytes: Option<u64>,
    /// Cores that the generator used since the sample before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generator_cores: Option<f64>,
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
}

impl ResourcePoint {
    /// What was observed, on the clock of a run that started at `start`.
    pub(crate) fn of(point: &Point, start: Nanos) -> Self {
        Self {
            at_ms: Nanos(point.at_ns).since(start) / MILLISECOND_NS,
            broker_cores: point.broker.map(|broker| broker.cores),
            broker_rss_bytes: point.broker.map(|broker| broker.rss_bytes),
            kernel_bytes: Some(point.slab_bytes.saturating_add(point.tcp_buffer_bytes)),
            generator_cores: Some(point.generator.cores),
            generator_rss_bytes: Some(point.generator.rss_bytes),
        }
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
}

//! Measures a window: processor time of the broker and of the generator between two moments.

use std::io;

use super::figures::Host;
use super::kernel::slab_bytes;
use super::process::{Memory, Process};
use crate::clock::{Clock, Nanos};
use crate::report::{MemoryReport, Report, ratio};

/// Reads the broker (if its process id is known) and the generator.
#[derive(Debug)]
pub(crate) struct Meter {
    host: Host,
    broker: Option<Process>,
    own: Process,
}

/// Readings at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Nanos,
    broker_cpu_ns: Option<u64>,
    own_cpu_ns: u64,
}

/// Memory readings at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    broker: Option<Memory>,
    own: Memory,
    slab_bytes: u64,
}

/// What was used between two readings. The broker's is known as long as it was in both.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) elapsed_ns: u64,
    pub(crate) broker_ns: Option<u64>,
    pub(crate) own_ns: u64,
}

impl Used {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let broker_ns = match (self.broker_ns, other.broker_ns) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        let elapsed_ns = self.elapsed_ns + other.elapsed_ns;
        Self { elapsed_ns, broker_ns, own_ns: self.own_ns + other.own_ns }
    }
}

impl Reading {
    /// What was used from this reading to a later one.
    pub(crate) fn until(self, later: Self) -> Used {
        let broker = self.broker_cpu_ns.zip(later.broker_cpu_ns);
        Used {
            elapsed_ns: later.at.since(self.at),
            broker_ns: broker.map(|(before, after)| after.saturating_sub(before)),
            own_ns: later.own_cpu_ns.saturating_sub(self.own_cpu_ns),
        }
    }
}

/// What memory grew by between two readings; 0 for a broker that is not known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    pub(crate) broker_bytes: u64,
    pub(crate) own_bytes: u64,
    pub(crate) kernel_bytes: u64,
}

impl Footprint {
    /// What memory grew by from this reading to a later one.
    pub(crate) fn until(self, later: Self) -> Growth {
        let broker = self.broker.zip(later.broker);
        Growth {
            broker_bytes: broker
                .map_or(0, |(before, after)| after.rss_bytes.saturating_sub(before.rss_bytes)),
            own_bytes: later.own.rss_bytes.saturating_sub(self.own.rss_bytes),
            kernel_bytes: later.slab_bytes.saturating_sub(self.slab_bytes),
        }
    }

    /// Resident memory of the broker, if it is known.
    pub(crate) fn broker_bytes(&self) -> Option<u64> {
        Some(self.broker?.rss_bytes)
    }

    /// Resident memory of the generator.
    pub(crate) const fn own_bytes(&self) -> u64 {
        self.own.rss_bytes
    }

    /// Slab memory of the kernel, in which sockets live.
    pub(crate) const fn kernel_bytes(&self) -> u64 {
        self.slab_bytes
    }

    /// Resident memory of the broker, if it is known. Signed, for differences.
    pub(crate) fn broker_rss_bytes(&self) -> Option<i64> {
        i64::try_from(self.broker?.rss_bytes).ok()
    }
}

impl Meter {
    /// A meter for the broker with this process id.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn new(broker_pid: Option<u32>) -> io::Result<Self> {
        let host = Host::live();
        let broker = broker_pid.map(|pid| Process::new(&host, pid)).transpose()?;
        Ok(Self { broker, own: Process::own(&host), host })
    }

    /// Reads processor times.
    ///
    /// # Errors
    /// When the broker has ended.
    pub(crate) fn read(&self, clock: &Clock) -> io::Result<Reading> {
        let broker_cpu_ns = self.broker.as_ref().map(Process::cpu_ns).transpose()?;
        Ok(Reading { at: clock.now(), broker_cpu_ns, own_cpu_ns: self.own.cpu_ns()? })
    }

    /// Resident memory of the broker, if it is known and runs. Cheap enough for ten times a second.
    pub(crate) fn broker_resident_bytes(&self) -> Option<u64> {
        Some(self.broker.as_ref()?.resident().ok()?.rss_bytes)
    }

    /// Reads memory.
    ///
    /// # Errors
    /// When the broker has ended.
    pub(crate) fn footprint(&self) -> io::Result<Footprint> {
        let broker = self.broker.as_ref().map(Process::memory).transpose()?;
        Ok(Footprint { broker, own: self.own.memory()?, slab_bytes: slab_bytes(&self.host) })
    }
}

/// Fills in what a window between two readings says about `report.count` units.
pub(crate) fn fill_window(report: &mut Report, from: Reading, to: Reading) {
    let elapsed = to.at.since(from.at);
    report.seconds = ratio(elapsed, 1_000_000_000);
    report.per_second = ratio(report.count.saturating_mul(1_000_000_000), elapsed);
    if let (Some(before), Some(after)) = (from.broker_cpu_ns, to.broker_cpu_ns) {
        let used = after.saturating_sub(before);
        report.broker_cpu_us = (report.count > 0).then(|| ratio(used, report.count) / 1_000.0);
        report.broker_cores = Some(ratio(used, elapsed));
    }
    let own = to.own_cpu_ns.saturating_sub(from.own_cpu_ns);
    report.generator_cpu_us = ratio(own, report.count) / 1_000.0;
    report.generator_cores = ratio(own, elapsed);
}

/// What `items` cost in memory, if the broker is known.
pub(crate) fn memory_report(
    item: &'static str,
    items: u64,
    before: Footprint,
    after: Footprint,
) -> Option<MemoryReport> {
    let (broker_before, broker_after) = (before.broker?, after.broker?);
    let per_item = |from: u64, to: u64| ratio(to.saturating_sub(from), items);
    Some(MemoryReport {
        item,
        items,
        broker_rss_before_bytes: broker_before.rss_bytes,
        broker_rss_after_bytes: broker_after.rss_bytes,
        broker_rss_per_item_bytes: per_item(broker_before.rss_bytes, broker_after.rss_bytes),
        broker_pss_per_item_bytes: per_item(broker_before.pss_bytes, broker_after.pss_bytes),
        kernel_slab_per_item_bytes: per_item(before.slab_bytes, after.slab_bytes),
        generator_rss_per_item_bytes: per_item(before.own.rss_bytes, after.own.rss_bytes),
    })
}

//! What a run costs: processor time over its measured stages, and memory per connection once all are up.

use std::io;

use crate::clock::Clock;
use crate::observe::meter::{Footprint, Meter, Reading, Used};
use crate::plan::{Stage, Until};
use crate::record::{PerConnection, Resources};
use crate::report::ratio;

/// Collects the costs of a run.
#[derive(Debug)]
pub(crate) struct Costs {
    meter: Meter,
    /// Memory before the first connection.
    before: Footprint,
    /// When the measured stage under way began.
    from: Option<Reading>,
    used: Used,
    per_connection: Option<PerConnection>,
}

impl Costs {
    /// Reads what there is before the run.
    ///
    /// # Errors
    /// When the broker's process can't be read.
    pub(crate) fn begin(broker_pid: Option<u32>) -> io::Result<Self> {
        let meter = Meter::new(broker_pid)?;
        let before = meter.footprint()?;
        Ok(Self { meter, before, from: None, used: Used::default(), per_connection: None })
    }

    /// A stage begins.
    ///
    /// # Errors
    /// When the broker's process can't be read.
    pub(crate) fn begin_stage(&mut self, stage: &Stage, clock: &Clock) -> io::Result<()> {
        self.from = if stage.measure { Some(self.meter.read(clock)?) } else { None };
        Ok(())
    }

    /// A stage is over, with so many connections open. A broker that has gone meanwhile leaves what was read before.
    pub(crate) fn end_stage(&mut self, stage: &Stage, open: u64, clock: &Clock) {
        if let Some(from) = self.from.take()
            && let Ok(to) = self.meter.read(clock)
        {
            self.used = self.used.and(from.until(to));
        }
        let all_are_up = matches!(stage.until, Some(Until::Connected | Until::Subscribed));
        if all_are_up
            && self.per_connection.is_none()
            && open >= CONNECTIONS_MIN
            && let Ok(after) = self.meter.footprint()
        {
            let growth = self.before.until(after);
            let each = |bytes: u64| ratio(bytes, open);
            self.per_connection = Some(PerConnection {
                connections: open,
                broker_bytes: each(growth.broker_bytes),
                kernel_bytes: each(growth.kernel_bytes),
                generator_bytes: each(growth.own_bytes),
            });
        }
    }

    /// Writes down what a run that delivered so many messages in its measured stages has cost.
    pub(crate) fn report(&self, delivered: u64, resources: &mut Resources) {
        resources.per_connection = self.per_connection;
        let Used { elapsed_ns, broker_ns, own_ns } = self.used;
        if elapsed_ns == 0 {
            return;
        }
        let each = |nanoseconds: u64| (delivered > 0).then(|| ratio(nanoseconds, delivered) / 1_000.0);
        resources.generator_cores = Some(ratio(own_ns, elapsed_ns));
        resources.generator_cpu_us = each(own_ns);
        resources.broker_cores = broker_ns.map(|broker_ns| ratio(broker_ns, elapsed_ns));
        resources.broker_cpu_us = broker_ns.and_then(each);
    }
}

/// With fewer connections, what is paid once would hide what each costs.
const CONNECTIONS_MIN: u64 = 1_000;

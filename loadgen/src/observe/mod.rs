//! What the kernel knows of the broker, of the generator and of the host while a run goes on.
//!
//! Reading order: `observer.rs` (a thread that samples), `observed.rs` (what it found, plain data), `process.rs`,
//! `kernel.rs`, `cgroup.rs` and `energy.rs` (what is read), `limit.rs` (whether the generator was the limit). `meter.rs` is the
//! lean reading of the quick commands: processor time and memory at the ends of the window, no thread.

mod cgroup;
mod energy;
mod figures;
mod kernel;
pub(crate) mod limit;
pub(crate) mod meter;
mod observed;
mod observer;
mod process;

#[cfg(test)]
pub(crate) use observed::ProcessPoint;
pub(crate) use observed::{Observed, Point};
pub(crate) use observer::Observer;

use std::io;
use std::time::Duration;

use crate::clock::{Clock, SECOND_NS};
use crate::report::ratio;

/// Observes a broker for a while, without any load of our own; `each` is told of every sample.
///
/// # Errors
/// When there is no such process.
pub(crate) fn observe(
    broker_pid: Option<u32>,
    duration_ns: u64,
    each: &mut dyn FnMut(&Point),
) -> io::Result<Observed> {
    let clock = Clock::start();
    let mut observer = Observer::start(broker_pid, clock)?;
    observer.begin();
    let end = clock.now().after(duration_ns);
    let mut told = None;
    while clock.now() < end {
        // Nothing is to be done meanwhile: the observer's thread does it all.
        std::thread::park_timeout(Duration::from_nanos(end.since(clock.now()).min(LOOK_NS)));
        if let Some(point) = observer.latest().filter(|point| told != Some(point.at_ns)) {
            told = Some(point.at_ns);
            each(&point);
        }
    }
    observer.end();
    Ok(observer.finish().unwrap_or_default())
}

/// The table of what was observed.
pub(crate) fn table(observed: &Observed) -> String {
    observed.rows().iter().map(|(name, value)| format!("{name:<28} {value}\n")).collect()
}

/// One sample as a line.
pub(crate) fn line(point: &Point) -> String {
    let broker = point.broker.map_or_else(String::new, |broker| {
        let percent = broker.cores * 100.0;
        format!("broker {percent:.1} % of a core, RSS {} KiB; ", broker.rss_bytes >> 10)
    });
    format!(
        "{:.0} s: {broker}{} TCP sockets, buffers {} KiB, slab {} KiB; host {:.0} % busy, {:.0} % interrupts",
        ratio(point.at_ns, SECOND_NS),
        point.tcp_count,
        point.tcp_buffer_bytes >> 10,
        point.slab_bytes >> 10,
        point.host_busy * 100.0,
        point.host_interrupts * 100.0
    )
}

/// How often a watcher looks for a new sample.
const LOOK_NS: u64 = SECOND_NS / 10;

//! What was observed in a window: the differences of two readings, and one point a second between them.
//!
//! Plain data, meant to be a part of a run's outcome and to travel between hosts. Every `…_cores` is a share of one core:
//! 1.5 is a core and a half.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::cgroup::CgroupReading;
use super::energy::EnergyReading;
use super::kernel::{CoreReading, Counters, KernelReading, Slab, Sockets};
use super::limit::FULL_CORE;
use super::process::{Memory, ProcessReading, ThreadReading};
use crate::clock::Nanos;
use crate::report::ratio;

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) at: Nanos,
    /// `None` without a broker to observe. After its end: as it was last seen.
    pub(crate) broker: Option<ProcessReading>,
    /// When the broker was found to have ended.
    pub(crate) broker_ended: Option<Nanos>,
    pub(crate) generator: ProcessReading,
    pub(crate) cgroup: Option<CgroupReading>,
    pub(crate) kernel: KernelReading,
    pub(crate) energy: Option<EnergyReading>,
}

/// What the kernel knew about a window of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observed {
    /// Length of the window.
    pub(crate) elapsed_ns: u64,
    /// The broker, if its process id was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker: Option<ProcessUse>,
    /// When the broker's process was found to have ended, on the generator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker_ended_ns: Option<u64>,
    /// This program.
    pub(crate) generator: ProcessUse,
    /// The broker's cgroup, if it has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<CgroupUse>,
    /// Sockets at the begin and at the end.
    pub(crate) sockets: [Sockets; 2],
    /// Memory of the kernel's caches at the begin and at the end.
    pub(crate) slab: [Slab; 2],
    /// What the kernel counted in the window.
    pub(crate) counters: Counters,
    /// Each core of the host.
    pub(crate) cores: Vec<CoreUse>,
    /// Energy of all processors of the host, where it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) energy_microjoules: Option<u64>,
    /// A point a second, or fewer of a very long run.
    pub(crate) points: Vec<Point>,
}

/// What a process used in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessUse {
    /// Exact run time of the threads that lived to the end.
    pub(crate) cpu_ns: u64,
    pub(crate) cores: f64,
    /// Of those, in user mode. To 10 ms.
    pub(crate) user_cores: f64,
    /// Of those, in the kernel. To 10 ms.
    pub(crate) system_cores: f64,
    /// Time in which its threads could have run and others ran instead. A large share means that it had to share its cores.
    pub(crate) waiting_cores: f64,
    /// The thread that ran most. At 1.0 it is the limit, whatever the others do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) busiest_thread: Option<ThreadUse>,
    pub(crate) thread_count: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    /// Memory at the begin and at the end.
    pub(crate) memory: [Memory; 2],
    /// The largest resident set that was seen.
    pub(crate) rss_bytes_max: u64,
    /// Descriptors at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_files: Option<u64>,
}

/// What a thread used in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadUse {
    pub(crate) name: String,
    pub(crate) cores: f64,
}

/// What a cgroup used in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CgroupUse {
    pub(crate) cores: f64,
    /// Share of the time in which it was held back by its quota.
    pub(crate) throttled_cores: f64,
    /// At the begin and at the end.
    pub(crate) readings: [CgroupReading; 2],
}

/// Shares of one core's time in a window, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreUse {
    /// All that is not idle and not stolen.
    pub(crate) busy: f64,
    /// Of that, interrupts and what follows them.
    pub(crate) interrupts: f64,
    /// Taken by the hypervisor for others.
    pub(crate) stolen: f64,
}

/// One sample of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// On the generator's clock.
    pub(crate) at_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker: Option<ProcessPoint>,
    pub(crate) generator: ProcessPoint,
    pub(crate) tcp_count: u64,
    pub(crate) tcp_buffer_bytes: u64,
    pub(crate) slab_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup_memory_bytes: Option<u64>,
    /// Segments sent again since the point before.
    pub(crate) retransmits: u64,
    /// Mean over all cores since the point before, from 0 to 1.
    pub(crate) host_busy: f64,
    /// Of that, interrupts and what follows them.
    pub(crate) host_interrupts: f64,
}

/// A process in one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessPoint {
    /// Since the point before.
    pub(crate) cores: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) anonymous_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_files: Option<u64>,
}

impl Observed {
    /// The window between two snapshots. `points`: what was sampled, of which those in the window are kept.
    pub(crate) fn between(from: &Snapshot, to: &Snapshot, points: &[Point]) -> Self {
        let elapsed_ns = to.at.since(from.at);
        let points: Vec<Point> =
            points.iter().filter(|point| (from.at.0..=to.at.0).contains(&point.at_ns)).copied().collect();
        let peak = |rss: &dyn Fn(&Point) -> u64| points.iter().map(rss).max().unwrap_or(0);
        let broker_peak = peak(&|point| point.broker.map_or(0, |broker| broker.rss_bytes));
        let generator_peak = peak(&|point| point.generator.rss_bytes);
        let broker = from.broker.as_ref().zip(to.broker.as_ref());
        // A broker that has ended has used nothing since.
        let lived_ns = to.broker_ended.map_or(elapsed_ns, |ended| ended.since(from.at));
        Self {
            elapsed_ns,
            broker: broker.map(|(before, now)| ProcessUse::between(before, now, lived_ns, broker_peak)),
            broker_ended_ns: to.broker_ended.map(|ended| ended.0),
            generator: ProcessUse::between(&from.generator, &to.generator, elapsed_ns, generator_peak),
            cgroup: from.cgroup.zip(to.cgroup).map(|readings| CgroupUse::between(readings, elapsed_ns)),
            sockets: [from.kernel.sockets, to.kernel.sockets],
            slab: [from.kernel.slab.clone(), to.kernel.slab.clone()],
            counters: to.kernel.counters.since(&from.kernel.counters),
            cores: core_uses(&from.kernel.cores, &to.kernel.cores),
            energy_microjoules: energy(from, to),
            points,
        }
    }

    /// Share of a core that the broker's busiest thread used, if the broker was observed.
    pub(crate) fn broker_busiest(&self) -> Option<f64> {
        self.broker.as_ref()?.busiest_thread.as_ref().map(|thread| thread.cores)
    }

    /// What a reader of the figures must know, in whole sentences.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(ended) = self.broker_ended_ns {
            let seconds = ratio(ended, 1_000_000_000);
            notes.push(format!(
                "the broker's process ended {seconds:.1} s after the start: its figures end there"
            ));
        }
        if let Some(busy) = self.broker_busiest().filter(|busy| *busy >= FULL_CORE) {
            let percent = busy * 100.0;
            notes.push(format!(
                "the broker's busiest thread used {percent:.0} % of a core: it was at its limit"
            ));
        }
        for (name, count) in self.counters.alarms() {
            notes.push(format!("the kernel counted {count} {name} during the run"));
        }
        for (core, number) in self.cores.iter().zip(0_u32..) {
            if core.stolen > STOLEN_SHARE {
                let percent = core.stolen * 100.0;
                notes.push(format!("the hypervisor took {percent:.0} % of core {number} for others"));
            }
        }
        if let Some(broker) = self.broker.as_ref().filter(|broker| broker.waiting_cores > WAITING_SHARE) {
            let percent = broker.waiting_cores * 100.0;
            notes.push(format!(
                "the broker's threads waited for a core for {percent:.0} % of the time: others ran on its cores"
            ));
        }
        if let Some(cgroup) = self.cgroup {
            if cgroup.throttled_cores > 0.0 {
                notes.push("the broker's cgroup was held back by its processor quota".to_owned());
            }
            if cgroup.readings[1].process_count > 1 {
                notes.push("the broker's cgroup holds other processes too".to_owned());
            }
        }
        notes
    }

    /// Names and values for a table, one pair per line.
    pub(crate) fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        for (who, process) in [("broker", self.broker.as_ref()), ("generator", Some(&self.generator))] {
            let Some(process) = process else { continue };
            row(&format!("{who} CPU"), process.cpu_text());
            row(&format!("{who} memory"), process.memory_text());
            row(&format!("{who} events"), process.events_text(self.elapsed_ns));
        }
        if let Some(cgroup) = self.cgroup {
            let now = cgroup.readings[1];
            row(
                "broker cgroup",
                format!(
                    "{} KiB, of which sockets {} KiB and slab {} KiB; {:.1} % of a core",
                    now.memory_bytes >> 10,
                    now.socket_bytes >> 10,
                    now.slab_bytes >> 10,
                    cgroup.cores * 100.0
                ),
            );
        }
        let [_, sockets] = self.sockets;
        row(
            "kernel TCP",
            format!(
                "{} sockets, {} in TIME-WAIT, buffers {} KiB",
                sockets.tcp_count,
                sockets.time_wait_count,
                sockets.tcp_buffer_bytes >> 10
            ),
        );
        let [_, slab] = &self.slab;
        let caches = slab
            .socket_bytes()
            .map_or_else(|| "not readable (root only)".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
        row("kernel slab", format!("{} KiB, of which caches of sockets {caches}", slab.total_bytes >> 10));
        let mut cores = String::new();
        for core in &self.cores {
            let (busy, interrupts) = (core.busy * 100.0, core.interrupts * 100.0);
            write!(cores, "{busy:.0} % ({interrupts:.0} %)  ").expect("writing to a String can't fail");
        }
        row("cores busy (interrupts)", cores.trim_end().to_owned());
        if let Some(microjoules) = self.energy_microjoules {
            row("energy", format!("{:.3} J", ratio(microjoules, 1_000_000)));
        }
        for note in self.notes() {
            row("note", note);
        }
        rows
    }
}

impl ProcessUse {
    fn between(before: &ProcessReading, now: &ProcessReading, elapsed_ns: u64, rss_bytes_max: u64) -> Self {
        let threads: Vec<(ThreadReading, &str)> =
            now.threads.iter().map(|thread| (since(thread, &before.threads), thread.name.as_str())).collect();
        let total =
            |field: &dyn Fn(&ThreadReading) -> u64| threads.iter().map(|(used, _)| field(used)).sum::<u64>();
        let cpu_ns = total(&|thread| thread.run_ns);
        let busiest = threads.iter().max_by_key(|(used, _)| used.run_ns);
        Self {
            cpu_ns,
            cores: ratio(cpu_ns, elapsed_ns),
            user_cores: ratio(now.user_ns.saturating_sub(before.user_ns), elapsed_ns),
            system_cores: ratio(now.system_ns.saturating_sub(before.system_ns), elapsed_ns),
            waiting_cores: ratio(total(&|thread| thread.wait_ns), elapsed_ns),
            busiest_thread: busiest.map(|(used, name)| ThreadUse {
                name: (*name).to_owned(),
                cores: ratio(used.run_ns, elapsed_ns),
            }),
            thread_count: now.threads.len() as u64,
            voluntary_switches: total(&|thread| thread.voluntary_switches),
            involuntary_switches: total(&|thread| thread.involuntary_switches),
            minor_faults: now.minor_faults.saturating_sub(before.minor_faults),
            major_faults: now.major_faults.saturating_sub(before.major_faults),
            rss_bytes_max: rss_bytes_max.max(before.memory.rss_bytes).max(now.memory.rss_bytes),
            memory: [before.memory, now.memory],
            open_files: now.open_files,
        }
    }

    fn cpu_text(&self) -> String {
        let percent = |cores: f64| cores * 100.0;
        let mut text = format!(
            "{:.1} % of a core (user {:.0} %, kernel {:.0} %, waiting {:.0} %)",
            percent(self.cores),
            percent(self.user_cores),
            percent(self.system_cores),
            percent(self.waiting_cores)
        );
        if let Some(thread) = self.busiest_thread.as_ref().filter(|_| self.thread_count > 1) {
            write!(
                text,
                "; {} threads, the busiest {} with {:.0} %",
                self.thread_count,
                thread.name,
                percent(thread.cores)
            )
            .expect("writing to a String can't fail");
        }
        text
    }

    fn memory_text(&self) -> String {
        let [before, now] = self.memory;
        format!(
            "RSS {} KiB ({:+} KiB), PSS {} KiB, anonymous {} KiB, swap {} KiB, peak {} KiB",
            now.rss_bytes >> 10,
            (now.rss_bytes >> 10).cast_signed() - (before.rss_bytes >> 10).cast_signed(),
            now.pss_bytes >> 10,
            now.anonymous_bytes >> 10,
            now.swap_bytes >> 10,
            self.rss_bytes_max >> 10
        )
    }

    fn events_text(&self, elapsed_ns: u64) -> String {
        let per_second = |count: u64| ratio(count.saturating_mul(1_000_000_000), elapsed_ns);
        let files = self.open_files.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        format!(
            "switches {:.0}/s by itself, {:.0}/s forced; faults {} minor, {} major; open files {files}",
            per_second(self.voluntary_switches),
            per_second(self.involuntary_switches),
            self.minor_faults,
            self.major_faults
        )
    }
}

impl CgroupUse {
    fn between(readings: (CgroupReading, CgroupReading), elapsed_ns: u64) -> Self {
        let (before, now) = readings;
        Self {
            cores: ratio(now.cpu_ns.saturating_sub(before.cpu_ns), elapsed_ns),
            throttled_cores: ratio(now.throttled_ns.saturating_sub(before.throttled_ns), elapsed_ns),
            readings: [before, now],
        }
    }
}

impl Point {
    /// The sample at `now`; what grows is counted from `before`.
    pub(crate) fn between(before: &Snapshot, now: &Snapshot) -> Self {
        let elapsed_ns = now.at.since(before.at);
        let point = |earlier: &ProcessReading, process: &ProcessReading| ProcessPoint {
            cores: ratio(run_ns_since(process, earlier), elapsed_ns),
            rss_bytes: process.memory.rss_bytes,
            anonymous_bytes: process.memory.anonymous_bytes,
            open_files: process.open_files,
        };
        let cores = core_uses(&before.kernel.cores, &now.kernel.cores);
        let broker = before.broker.as_ref().zip(now.broker.as_ref()).filter(|_| now.broker_ended.is_none());
        Self {
            at_ns: now.at.0,
            broker: broker.map(|(earlier, broker)| point(earlier, broker)),
            generator: point(&before.generator, &now.generator),
            tcp_count: now.kernel.sockets.tcp_count,
            tcp_buffer_bytes: now.kernel.sockets.tcp_buffer_bytes,
            slab_bytes: now.kernel.slab.total_bytes,
            cgroup_memory_bytes: now.cgroup.map(|cgroup| cgroup.memory_bytes),
            retransmits: now.kernel.counters.since(&before.kernel.counters).retransmits,
            host_busy: mean(&cores, |core| core.busy),
            host_interrupts: mean(&cores, |core| core.interrupts),
        }
    }
}

/// What a thread has used since it was in `earlier`; all of it if it is new.
fn since(thread: &ThreadReading, earlier: &[ThreadReading]) -> ThreadReading {
    let blank = ThreadReading::default();
    let before = earlier.iter().find(|before| before.id == thread.id).unwrap_or(&blank);
    ThreadReading {
        id: thread.id,
        name: String::new(),
        run_ns: thread.run_ns.saturating_sub(before.run_ns),
        wait_ns: thread.wait_ns.saturating_sub(before.wait_ns),
        voluntary_switches: thread.voluntary_switches.saturating_sub(before.voluntary_switches),
        involuntary_switches: thread.involuntary_switches.saturating_sub(before.involuntary_switches),
    }
}

fn run_ns_since(now: &ProcessReading, earlier: &ProcessReading) -> u64 {
    now.threads.iter().map(|thread| since(thread, &earlier.threads).run_ns).sum()
}

fn core_uses(from: &[CoreReading], to: &[CoreReading]) -> Vec<CoreUse> {
    from.iter().zip(to).map(|(before, now)| core_use(before, now)).collect()
}

fn core_use(before: &CoreReading, now: &CoreReading) -> CoreUse {
    let used = |field: fn(&CoreReading) -> u64| field(now).saturating_sub(field(before));
    let interrupts = used(|core| core.interrupts_ns);
    let busy = used(|core| core.user_ns) + used(|core| core.system_ns) + interrupts;
    let stolen = used(|core| core.stolen_ns);
    let all = busy + stolen + used(|core| core.idle_ns);
    CoreUse { busy: ratio(busy, all), interrupts: ratio(interrupts, all), stolen: ratio(stolen, all) }
}

fn mean(cores: &[CoreUse], share: fn(&CoreUse) -> f64) -> f64 {
    let count = u32::try_from(cores.len()).unwrap_or(u32::MAX).max(1);
    cores.iter().map(share).sum::<f64>() / f64::from(count)
}

fn energy(from: &Snapshot, to: &Snapshot) -> Option<u64> {
    Some(to.energy.as_ref()?.microjoules_since(from.energy.as_ref()?))
}

/// A core of which the hypervisor took more than this deserves a note.
const STOLEN_SHARE: f64 = 0.02;
/// A broker whose threads waited for a core for more than this share of the time deserves a note.
const WAITING_SHARE: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND_NS;

    fn process(run: &[(u32, u64)]) -> ProcessReading {
        let thread = |&(id, run_ns): &(u32, u64)| ThreadReading {
            id,
            name: format!("t{id}"),
            run_ns,
            ..ThreadReading::default()
        };
        ProcessReading { threads: run.iter().map(thread).collect(), ..ProcessReading::default() }
    }

    fn snapshot(at: u64, run: &[(u32, u64)]) -> Snapshot {
        Snapshot { at: Nanos(at), broker: Some(process(run)), ..Snapshot::default() }
    }

    #[test]
    fn threads_are_matched_by_id_and_new_ones_count_in_full() {
        let from = snapshot(0, &[(1, 100), (2, 5_000_000_000)]);
        let to = snapshot(2 * SECOND_NS, &[(1, 100 + SECOND_NS), (3, SECOND_NS / 2)]);
        let broker = Observed::between(&from, &to, &[]).broker.unwrap();
        assert_eq!(broker.cpu_ns, SECOND_NS + SECOND_NS / 2);
        assert!((broker.cores - 0.75).abs() < 1e-9);
        assert_eq!(broker.busiest_thread, Some(ThreadUse { name: "t1".to_owned(), cores: 0.5 }));
    }

    #[test]
    fn a_broker_that_has_ended_is_measured_until_its_end_and_noted() {
        let from = snapshot(0, &[(1, 0)]);
        let mut to = snapshot(4 * SECOND_NS, &[(1, SECOND_NS)]);
        to.broker_ended = Some(Nanos(2 * SECOND_NS));
        let observed = Observed::between(&from, &to, &[]);
        assert!((observed.broker.as_ref().unwrap().cores - 0.5).abs() < 1e-9);
        assert!(observed.notes()[0].contains("ended 2.0 s"), "{:?}", observed.notes());
        assert!(Point::between(&from, &to).broker.is_none());
    }

    #[test]
    fn cores_are_shares_of_all_time() {
        let now = CoreReading { user_ns: 30, system_ns: 20, interrupts_ns: 10, stolen_ns: 20, idle_ns: 20 };
        let used = core_use(&CoreReading::default(), &now);
        assert_eq!(used, CoreUse { busy: 0.6, interrupts: 0.1, stolen: 0.2 });
        assert_eq!(core_use(&now, &now), CoreUse::default());
    }

    #[test]
    fn points_outside_of_the_window_are_left_out_and_the_peak_is_theirs() {
        let point = |at_ns, rss_bytes| Point {
            at_ns,
            broker: Some(ProcessPoint { rss_bytes, ..ProcessPoint::default() }),
            ..Point::default()
        };
        let points = [point(5, 900), point(10, 700), point(20, 800), point(21, 900)];
        let observed = Observed::between(&snapshot(10, &[]), &snapshot(20, &[]), &points);
        assert_eq!(observed.points.len(), 2);
        assert_eq!(observed.broker.unwrap().rss_bytes_max, 800);
    }

    #[test]
    fn it_travels_as_json() {
        let observed = Observed::between(&snapshot(0, &[(1, 0)]), &snapshot(9, &[(1, 3)]), &[]);
        let text = serde_json::to_string(&observed).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), observed);
    }
}

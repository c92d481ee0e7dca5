//! A thread that samples the broker, the generator and the host while a run goes on.
//!
//! The thread that makes the load never reads /proc: it asks for a snapshot and goes on. A sample costs the observer some
//! tenths of a millisecond per second, on a core of the generator's.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::energy::EnergyMeter;
use super::figures::Host;
use super::kernel::{page_bytes, read_kernel};
use super::observed::{Observed, Point, Snapshot};
use super::process::{Process, ProcessReading};
use crate::clock::{Clock, Nanos, SECOND_NS};

/// Samples once a second until it is dropped.
#[derive(Debug)]
pub(crate) struct Observer {
    asks: Option<Sender<Ask>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    points: Vec<Point>,
    /// One of this many points is kept.
    keep_every: u64,
    seen_count: u64,
    from: Option<Box<Snapshot>>,
    to: Option<Box<Snapshot>>,
}

/// What the thread is asked for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Begin,
    End,
}

/// What the thread tells.
#[derive(Debug)]
enum Answer {
    Point(Point),
    Begun(Box<Snapshot>),
    Ended(Box<Snapshot>),
}

impl Observer {
    /// Starts to observe the broker with this process id, if there is one, and the host.
    ///
    /// # Errors
    /// When there is no such process, or no thread can be started.
    pub(crate) fn start(broker_pid: Option<u32>, clock: Clock) -> io::Result<Self> {
        let eye = Eye::new(Host::live(), broker_pid, clock)?;
        let (asks, inbox) = channel();
        let (outbox, answers) = channel();
        let thread = std::thread::Builder::new()
            .name("observer".to_owned())
            .spawn(move || watch(eye, &inbox, &outbox))?;
        Ok(Self {
            asks: Some(asks),
            answers,
            thread: Some(thread),
            points: Vec::new(),
            keep_every: 1,
            seen_count: 0,
            from: None,
            to: None,
        })
    }

    /// The window begins now. Does not wait.
    pub(crate) fn begin(&self) {
        self.ask(Ask::Begin);
    }

    /// The window ends now. Does not wait.
    pub(crate) fn end(&self) {
        self.ask(Ask::End);
    }

    /// The last sample, for a display.
    pub(crate) fn latest(&mut self) -> Option<Point> {
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer);
        }
        self.points.last().copied()
    }

    /// What was observed between `begin` and `end`; waits for the last reading. `None` when no window was begun.
    pub(crate) fn finish(mut self) -> Option<Observed> {
        if self.to.is_none() {
            // For a caller that did not say when: the window ends now. A second end is not looked at.
            self.end();
        }
        drop(self.asks.take());
        while let Ok(answer) = self.answers.recv() {
            self.take(answer);
        }
        let (from, to) = self.from.take().zip(self.to.take())?;
        Some(Observed::between(&from, &to, &self.points))
    }

    fn ask(&self, ask: Ask) {
        // Fails only when the thread is gone, and then `finish` finds nothing.
        let heard = self.asks.as_ref().is_some_and(|asks| asks.send(ask).is_ok());
        debug_assert!(heard, "the thread lives as long as it can be asked");
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Point(point) => self.keep(point),
            Answer::Begun(snapshot) => {
                self.from = Some(snapshot);
                self.to = None;
            }
            Answer::Ended(snapshot) => {
                self.to.get_or_insert(snapshot);
            }
        }
    }

    /// Keeps a point. A series that has become too long loses every second one, and takes fewer from then on.
    fn keep(&mut self, point: Point) {
        if self.seen_count.is_multiple_of(self.keep_every) {
            self.points.push(point);
        }
        self.seen_count += 1;
        if self.points.len() >= POINTS_MAX {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.keep_every *= 2;
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing to add.
            drop(thread.join());
        }
    }
}

/// What the thread reads with.
#[derive(Debug)]
struct Eye {
    host: Host,
    clock: Clock,
    broker: Option<Process>,
    broker_last: Option<ProcessReading>,
    broker_ended: Option<Nanos>,
    generator: Process,
    cgroup: Option<Cgroup>,
    energy: Option<EnergyMeter>,
    net: PathBuf,
    page_bytes: u64,
}

impl Eye {
    fn new(host: Host, broker_pid: Option<u32>, clock: Clock) -> io::Result<Self> {
        let broker = broker_pid.map(|pid| Process::new(&host, pid)).transpose()?;
        let generator = Process::own(&host);
        let net = broker.as_ref().unwrap_or(&generator).net_folder();
        Ok(Self {
            broker_last: None,
            broker_ended: None,
            cgroup: broker.as_ref().and_then(|broker| Cgroup::of(&host, broker)),
            energy: EnergyMeter::find(&host),
            page_bytes: page_bytes(&host),
            host,
            clock,
            broker,
            generator,
            net,
        })
    }

    /// Everything now. `exact`: with what takes milliseconds, for the ends of a window.
    fn snapshot(&mut self, exact: bool) -> Snapshot {
        if let Some(broker) = &self.broker {
            match broker.read(exact) {
                Ok(reading) => self.broker_last = Some(reading),
                Err(_) => {
                    self.broker = None;
                    self.broker_ended = Some(self.clock.now());
                    // Its view of the network is gone with it; ours is the same unless it had a namespace of its own.
                    self.net = self.generator.net_folder();
                }
            }
        }
        Snapshot {
            at: self.clock.now(),
            broker: self.broker_last.clone(),
            broker_ended: self.broker_ended,
            generator: self.generator.read(exact).unwrap_or_default(),
            cgroup: self.cgroup.as_ref().and_then(Cgroup::read),
            kernel: read_kernel(&self.host, &self.net, self.page_bytes, exact),
            energy: self.energy.as_ref().map(EnergyMeter::read),
        }
    }
}

/// Samples every second and answers, until nobody asks any more.
fn watch(mut eye: Eye, asks: &Receiver<Ask>, answers: &Sender<Answer>) {
    let mut last = eye.snapshot(false);
    let mut due = last.at.after(INTERVAL_NS);
    loop {
        let wait = Duration::from_nanos(due.since(eye.clock.now()));
        let answer = match asks.recv_timeout(wait) {
            Ok(Ask::Begin) => Answer::Begun(Box::new(eye.snapshot(true))),
            Ok(Ask::End) => Answer::Ended(Box::new(eye.snapshot(true))),
            Err(RecvTimeoutError::Timeout) => {
                let now = eye.snapshot(false);
                let point = Point::between(&last, &now);
                last = now;
                due = due.after(INTERVAL_NS).max(last.at);
                Answer::Point(point)
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// Time between two samples.
const INTERVAL_NS: u64 = SECOND_NS;
/// Points kept at most: two hours of seconds, then a day and more with gaps. Some 150 bytes each.
const POINTS_MAX: usize = 7_200;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a process to observe, and time for it to work in")]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn busy_process() -> Child {
        Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_busy_process_is_seen_busy_and_its_end_is_no_panic() {
        let mut child = busy_process();
        let observer = Observer::start(Some(child.id()), Clock::start()).unwrap();
        observer.begin();
        std::thread::sleep(Duration::from_millis(1_300));
        child.kill().unwrap();
        child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(900));
        observer.end();
        let observed = observer.finish().unwrap();
        let broker = observed.broker.as_ref().unwrap();
        assert!(broker.cpu_ns > 0, "{broker:?}");
        assert!(broker.memory[0].rss_bytes > 0);
        assert!(observed.broker_ended_ns.is_some());
        assert!(observed.notes().iter().any(|note| note.contains("process ended")));
        assert_eq!(observed.points.len(), 2);
        assert!(observed.points[0].broker.unwrap().cores > 0.0 && observed.points[1].broker.is_none());
    }

    #[test]
    fn without_a_broker_the_host_and_the_generator_are_observed() {
        let observer = Observer::start(None, Clock::start()).unwrap();
        observer.begin();
        let observed = observer.finish().unwrap();
        assert!(observed.broker.is_none() && observed.broker_ended_ns.is_none());
        assert!(observed.generator.memory[1].rss_bytes > 0 && !observed.cores.is_empty());
    }

    #[test]
    fn without_a_window_there_is_nothing() {
        assert!(Observer::start(None, Clock::start()).unwrap().finish().is_none());
        assert!(Observer::start(Some(u32::MAX), Clock::start()).is_err());
    }

    #[test]
    fn a_long_series_is_thinned_evenly() {
        let mut observer = Observer::start(None, Clock::start()).unwrap();
        for at_ns in 0..30_000 {
            observer.keep(Point { at_ns, ..Point::default() });
        }
        assert!(observer.points.len() < POINTS_MAX);
        let steps: Vec<u64> = observer.points.windows(2).map(|pair| pair[1].at_ns - pair[0].at_ns).collect();
        assert!(steps.iter().all(|step| *step == steps[0]), "{:?}", &steps[..4]);
    }
}

//! The telemetry thread: asks the shards for their numbers, publishes `$SYS`, and writes dumps to the log.
//!
//! Lives on the control plane; a shard only hands out a copy of its counters between two ticks.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use dunlin_persist::StoreMetrics;
use dunlin_shard::metrics::{Gauges, Metrics};
use dunlin_shard::runtime::{EdgeMetrics, ShardAnswer, ShardHandle};
use dunlin_shard::{Answered, Control, Message, Token};

use crate::client_events::ClientEvents;
use crate::clock;
use crate::config::{Settings, SysTopics as Wanted};
use crate::log::{Field, Log};
use crate::log_numbers;
use crate::sys_topics::SysTopics;

/// What the wiring may ask of the telemetry thread.
#[derive(Debug)]
enum Wish {
    /// New intervals and kinds of events.
    Settings(Wanted),
    /// Write counters to the log.
    Dump,
}

/// The way to the telemetry thread; dropping it with [`Telemetry::stop`] ends the thread.
#[derive(Debug)]
pub(crate) struct Telemetry {
    wishes: Sender<Wish>,
    thread: JoinHandle<()>,
}

impl Telemetry {
    /// Starts the thread; it publishes the first `$SYS` messages at once. `ports` are those of the listeners, `events` come
    /// from the hooks of the shards.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        shards: Vec<ShardHandle>,
        answers: Receiver<ShardAnswer>,
        (settings, ports): (&Settings, Vec<u16>),
        events: ClientEvents,
        log: Log,
    ) -> std::io::Result<Self> {
        let (wishes, wanted) = bounded(WISHES_MAX);
        let now = clock::now();
        let reporter = Reporter {
            shards,
            answers,
            log,
            topics: SysTopics::new(settings.node.name.clone(), ports),
            events,
            lost_told: 0,
            loss: Beat::new(LOSS_EVERY_MS, now),
            started: now,
            report: Beat::new(settings.sys_topics.sys_msg_interval_ms, now),
            heartbeat: Beat::new(settings.sys_topics.sys_heartbeat_interval_ms, now),
            questions: 0,
        };
        let thread =
            thread::Builder::new().name("telemetry".to_owned()).spawn(move || reporter.run(&wanted))?;
        Ok(Self { wishes, thread })
    }

    /// Changes the intervals and the kinds of events. Lost only when the thread is stuck behind eight other wishes.
    pub(crate) fn set(&self, wanted: Wanted) {
        drop(self.wishes.try_send(Wish::Settings(wanted)));
    }

    /// Writes the counters that are not zero to the log.
    pub(crate) fn dump(&self) {
        drop(self.wishes.try_send(Wish::Dump));
    }

    /// Ends the thread; takes at most [`ANSWER_MAX`].
    pub(crate) fn stop(self) {
        drop(self.wishes);
        // A panic of the thread has been printed; there is nothing to add.
        drop(self.thread.join());
    }
}

/// The thread's own state.
struct Reporter {
    shards: Vec<ShardHandle>,
    answers: Receiver<ShardAnswer>,
    log: Log,
    topics: SysTopics,
    events: ClientEvents,
    /// Lost messages that the log has told of.
    lost_told: u64,
    /// When it may tell again.
    loss: Beat,
    started: Instant,
    report: Beat,
    heartbeat: Beat,
    questions: u64,
}

impl Reporter {
    fn run(mut self, wishes: &Receiver<Wish>) {
        loop {
            let now = clock::now();
            if self.heartbeat.is_due(now) {
                let uptime = now.duration_since(self.started).as_millis();
                let messages =
                    self.topics.heartbeat(u64::try_from(uptime).unwrap_or(u64::MAX), clock::wall());
                self.publish_all(messages);
            }
            if self.report.is_due(now) {
                self.publish_all(self.topics.identity(clock::wall()));
                self.report_numbers();
            }
            self.publish_events();
            self.tell_losses(now);
            let mut wait = self.report.wait(now).min(self.heartbeat.wait(now));
            if self.events.is_watched() {
                wait = wait.min(EVENTS_EVERY);
            }
            select! {
                recv(wishes) -> wish => match wish {
                    Ok(Wish::Settings(wanted)) => self.take(&wanted),
                    Ok(Wish::Dump) => self.dump(),
                    Err(_) => return,
                },
                recv(self.events.bell()) -> _ => {}
                default(wait) => {}
            }
        }
    }

    fn take(&mut self, wanted: &Wanted) {
        self.report = Beat::new(wanted.sys_msg_interval_ms, clock::now());
        self.heartbeat = Beat::new(wanted.sys_heartbeat_interval_ms, clock::now());
        self.events.switch(&wanted.sys_event_messages);
    }

    /// What clients did since the last look.
    fn publish_events(&self) {
        let mut too_long = 0;
        let mut messages = Vec::new();
        for event in self.events.take(EVENTS_PER_LOOK) {
            match self.topics.client_event(&event) {
                Some(message) => messages.push(message),
                None => too_long += 1,
            }
        }
        let lost = self.publish(messages);
        self.events.count_dropped(too_long + lost);
    }

    /// One line at most every [`LOSS_EVERY_MS`], however many are lost.
    fn tell_losses(&mut self, now: Instant) {
        let lost = self.events.dropped();
        if lost > self.lost_told && self.loss.is_due(now) {
            let count = lost - self.lost_told;
            self.log.warn("$SYS messages were dropped for want of room", &[("count", count.into())]);
            self.lost_told = lost;
        }
    }

    fn report_numbers(&mut self) {
        let Some((metrics, gauges)) = self.gather() else {
            return;
        };
        let logs = logs_of(self.edges());
        let own = [(DROPPED, self.events.dropped())];
        let gauges: Vec<_> = gauges.entries().chain(log_numbers::gauges(&logs)).collect();
        let counters: Vec<_> = metrics.entries().chain(own).chain(log_numbers::counters(&logs)).collect();
        let messages = self.topics.report(&gauges, &counters, clock::wall());
        self.publish_all(messages);
    }

    /// One line per kind of number, zeros left out.
    fn dump(&mut self) {
        let Some((metrics, gauges)) = self.gather() else {
            return;
        };
        let fields = |entries: &mut dyn Iterator<Item = (&'static str, u64)>| -> Vec<Field> {
            entries.filter(|(_, value)| *value > 0).map(|(name, value)| (name, value.into())).collect()
        };
        self.log.info("gauges", &fields(&mut gauges.entries()));
        let own = [(DROPPED, self.events.dropped())];
        self.log.info("counters", &fields(&mut metrics.entries().chain(own)));
        self.log.info("connections ended by the broker, by reason", &fields(&mut metrics.ended_entries()));
        let edges = self.edges();
        let sums = EDGE_FIELDS.iter().map(|(name, field)| (*name, edges.iter().map(field).sum::<u64>()));
        self.log.info("edge", &fields(&mut sums.into_iter()));
        let logs = logs_of(edges);
        if !logs.is_empty() {
            let numbers = log_numbers::gauges(&logs).into_iter().chain(log_numbers::counters(&logs));
            self.log.info("store", &fields(&mut { numbers }));
        }
    }

    /// The counters of the edges that answer in time.
    fn edges(&self) -> Vec<EdgeMetrics> {
        let asked: Vec<_> = self.shards.iter().filter_map(|shard| shard.edge_metrics().ok()).collect();
        let deadline = clock::now() + ANSWER_MAX;
        asked.iter().filter_map(|answer| answer.recv_deadline(deadline).ok()).collect()
    }

    /// The sums over all shards; `None`, with a line in the log, when a shard does not answer in time.
    fn gather(&mut self) -> Option<(Metrics, Gauges)> {
        self.questions += 1;
        let token = Token(self.questions);
        for shard in &self.shards {
            if let Err(error) = shard.send(Control::Snapshot { token }) {
                self.log.warn(
                    "a shard cannot be asked for its counters",
                    &[("problem", error.to_string().into())],
                );
                return None;
            }
        }
        let (mut metrics, mut gauges) = (Metrics::default(), Gauges::default());
        let deadline = clock::now() + ANSWER_MAX;
        let mut missing = self.shards.len();
        while missing > 0 {
            let Ok(answer) = self.answers.recv_deadline(deadline) else {
                self.log.warn(
                    "shards do not answer when asked for their counters",
                    &[("shards", missing.into())],
                );
                return None;
            };
            if answer.token != token {
                // Late answer to an earlier question.
                continue;
            }
            let Answered::Snapshot { metrics: theirs, gauges: sizes } = *answer.answer;
            metrics.merge(&theirs);
            gauges.merge(&sizes);
            missing -= 1;
        }
        Some((metrics, gauges))
    }

    fn publish_all(&self, messages: Vec<Message>) {
        let lost = self.publish(messages);
        self.events.count_dropped(lost);
    }

    /// Hands messages to the first shard, which routes them like any other; how many it had no room for.
    fn publish(&self, messages: Vec<Message>) -> u64 {
        let Some(shard) = self.shards.first() else {
            return 0;
        };
        messages.into_iter().map(|message| u64::from(shard.send(Control::Publish(message)).is_err())).sum()
    }
}

/// The counters of the logs, where there are any.
fn logs_of(edges: Vec<EdgeMetrics>) -> Vec<StoreMetrics> {
    edges.into_iter().filter_map(|edge| edge.log).collect()
}

/// Something that is due at equal distances, or never.
#[derive(Clone, Copy, Debug)]
struct Beat {
    every: Duration,
    /// `None`: off.
    next: Option<Instant>,
}

impl Beat {
    /// Due now and then every `interval_ms`; never if that is 0.
    fn new(interval_ms: u64, now: Instant) -> Self {
        Self { every: Duration::from_millis(interval_ms), next: (interval_ms > 0).then_some(now) }
    }

    /// Whether it is due; then it is due again one interval later.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|next| next <= now);
        if due {
            self.next = Some(now + self.every);
        }
        due
    }

    /// How long until it is due.
    fn wait(&self, now: Instant) -> Duration {
        self.next.map_or(FOREVER, |next| next.saturating_duration_since(now))
    }
}

/// A name, and where its number stands.
type EdgeField = (&'static str, fn(&EdgeMetrics) -> u64);

/// What a dump tells of the edges: sums over the shards.
const EDGE_FIELDS: [EdgeField; 19] = [
    ("connections", |edge| edge.connections),
    ("rings", |edge| edge.rings),
    ("accepted", |edge| edge.accepted),
    ("refused_limit", |edge| edge.refused_limit),
    ("accept_exhausted", |edge| edge.accept_exhausted),
    ("accept_failed", |edge| edge.accept_failed),
    ("accept_moved", |edge| edge.accept_moved),
    ("closed", |edge| edge.closed),
    ("bytes_in", |edge| edge.bytes_in),
    ("bytes_out", |edge| edge.bytes_out),
    ("sends", |edge| edge.sends),
    ("handoffs_in", |edge| edge.handoffs_in),
    ("handoffs_refused", |edge| edge.handoffs_refused),
    ("sends_failed", |edge| edge.sends_failed),
    ("mesh_in", |edge| edge.mesh_in),
    ("lanes_full", |edge| edge.lanes_full),
    ("buffers_exhausted", |edge| edge.buffers_exhausted),
    ("completions_overflowed", |edge| edge.completions_overflowed),
    ("panics_contained", |edge| edge.panics_contained),
];

/// The counter of `$SYS` messages that were dropped before they reached a shard.
const DROPPED: &str = "sys_topics.dropped";

/// How often the thread looks for events of clients while somebody watches them: a shard need not wake it for each.
const EVENTS_EVERY: Duration = Duration::from_millis(10);

/// Events published in one go: an inbox of 1,024 letters has room for others beside them.
const EVENTS_PER_LOOK: usize = 768;

/// Least distance between two lines about losses, milliseconds.
const LOSS_EVERY_MS: u64 = 10_000;

/// Longest wait for the shards' answers. A tick takes milliseconds; a second means that something is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Wishes that may wait while the thread asks the shards.
const WISHES_MAX: usize = 8;

/// As good as never, and far from the end of the clock.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_due_at_once_and_then_at_equal_distances() {
        let start = clock::now();
        let mut beat = Beat::new(1_000, start);
        assert!(beat.is_due(start));
        assert!(!beat.is_due(start + Duration::from_millis(999)));
        assert_eq!(beat.wait(start + Duration::from_millis(400)), Duration::from_millis(600));
        assert!(beat.is_due(start + Duration::from_millis(1_000)));
    }

    #[test]
    fn a_beat_of_zero_is_never_due() {
        let start = clock::now();
        let mut beat = Beat::new(0, start);
        assert!(!beat.is_due(start + Duration::from_secs(1_000_000)));
        assert_eq!(beat.wait(start), FOREVER);
    }
}

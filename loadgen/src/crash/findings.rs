//! What is printed: how a run is going, and what it came to.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use super::flaw::Flaw;
use super::run::{Run, Tally};
use super::stage::Stage;
use crate::clock::{Nanos, SECOND_NS};

/// What a run came to. The names in JSON are stable.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    /// Whether all promises were kept.
    pub(crate) clean: bool,
    /// Times that the broker was killed.
    pub(crate) kills: u32,
    /// Times that everything was accounted for.
    pub(crate) audits: u32,
    pub(crate) seconds: f64,
    /// Messages sent, without those sent again.
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_qos_1: u64,
    pub(crate) acknowledged_qos_2: u64,
    /// First arrivals at subscribers.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Second arrivals at QoS 2, which are not allowed.
    pub(crate) duplicated_qos_2: u64,
    /// Further arrivals at QoS 1, which are.
    pub(crate) repeated_qos_1: u64,
    pub(crate) out_of_order: u64,
    pub(crate) refused: u64,
    pub(crate) retained_read: u64,
    /// Retained messages that the reader got as live ones only, since newer ones were published while it subscribed.
    pub(crate) retained_live_only: u64,
    pub(crate) sessions_resumed: u64,
    pub(crate) sent_again: u64,
    pub(crate) takeovers: u64,
    pub(crate) clean_starts: u64,
    /// Sessions that had ended by their expiry, as they should.
    pub(crate) sessions_expired: u64,
    pub(crate) subscriptions_confirmed: u64,
    /// First arrivals at shared groups.
    pub(crate) delivered_shared: u64,
    /// Wills that had to be published, and that must not be.
    pub(crate) wills_due: u64,
    pub(crate) wills_void: u64,
    /// Wills that came, at each subscriber.
    pub(crate) wills_delivered: u64,
    /// Starts with another number of shards than the one before.
    pub(crate) shards_changed: u32,
    pub(crate) closed_by_broker: u64,
    /// From the start of the broker to the first CONNACK, in milliseconds.
    pub(crate) start_ms: StartTimes,
    /// By kind: everything that was found wrong.
    pub(crate) violations: Vec<(Flaw, u64)>,
    pub(crate) examples: Vec<String>,
    /// Why not all cycles were run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cut_short: Option<String>,
    pub(crate) seed: u64,
    pub(crate) command: String,
    /// The folder that was kept, with the broker's data and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<String>,
}

/// Percentiles of the times that the broker took to start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct StartTimes {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

impl StartTimes {
    fn of(times: &[f64]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied();
        Self { p50: at(50).unwrap_or(0.0), p99: at(99).unwrap_or(0.0), most: at(100).unwrap_or(0.0) }
    }
}

impl Findings {
    /// What a run has found.
    pub(crate) fn of(run: &Run<'_>, seed: u64) -> Self {
        let Stage { books, flaws, counts, .. } = &run.stage;
        let totals = books.totals;
        Self {
            clean: flaws.total() == 0 && totals.delivered > 0,
            kills: run.tally.kills,
            audits: run.tally.audits,
            seconds: std::time::Duration::from_nanos(run.clock.now().0).as_secs_f64(),
            sent: totals.sent,
            acknowledged: totals.acknowledged.iter().sum(),
            acknowledged_qos_1: totals.acknowledged[0],
            acknowledged_qos_2: totals.acknowledged[1],
            delivered: totals.delivered,
            lost: flaws.count(Flaw::Lost),
            duplicated_qos_2: flaws.count(Flaw::Duplicated),
            repeated_qos_1: totals.repeated,
            out_of_order: flaws.count(Flaw::OutOfOrder),
            refused: totals.refused,
            retained_read: counts.retained,
            retained_live_only: counts.live_only,
            sessions_resumed: counts.resumed,
            sent_again: counts.sent_again,
            takeovers: counts.takeovers,
            clean_starts: counts.renewed,
            sessions_expired: counts.expired,
            delivered_shared: totals.shared,
            wills_due: counts.wills_due,
            wills_void: counts.wills_void,
            wills_delivered: totals.wills,
            shards_changed: run.tally.rehomed,
            subscriptions_confirmed: counts.subscriptions,
            closed_by_broker: counts.closed_by_broker,
            start_ms: StartTimes::of(&run.tally.start_ms),
            violations: Flaw::ALL.into_iter().map(|flaw| (flaw, flaws.count(flaw))).collect(),
            examples: flaws.examples().to_vec(),
            cut_short: run.tally.cut_short.clone(),
            seed,
            command: run.broker.command_line(),
            folder: None,
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            text.push_str(&format!("{name:<28} {value}\n"));
        };
        row("command", self.command.clone());
        let per_second = f64::from(self.kills) / self.seconds.max(0.001);
        row(
            "cycles (killed, restarted)",
            format!("{} in {:.1} s, {per_second:.1}/s, seed {}", self.kills, self.seconds, self.seed),
        );
        row("audits", self.audits.to_string());
        row("start to first CONNACK", {
            let StartTimes { p50, p99, most } = self.start_ms;
            format!("p50 {p50:.0}  p99 {p99:.0}  max {most:.0} ms")
        });
        row("sent", format!("{} messages, {} packets sent again", self.sent, self.sent_again));
        row(
            "acknowledged",
            format!(
                "{} (QoS 1 {}, QoS 2 {})",
                self.acknowledged, self.acknowledged_qos_1, self.acknowledged_qos_2
            ),
        );
        row(
            "delivered",
            format!(
                "{} and {} again at QoS 1; {} to shared groups",
                self.delivered, self.repeated_qos_1, self.delivered_shared
            ),
        );
        row(
            "wills",
            format!(
                "{} due, {} not to be published; {} delivered",
                self.wills_due, self.wills_void, self.wills_delivered
            ),
        );
        row(
            "retained messages read",
            format!("{}; {} came as live ones only", self.retained_read, self.retained_live_only),
        );
        row(
            "sessions",
            format!(
                "{} resumed, {} taken over, {} begun anew, {} expired",
                self.sessions_resumed, self.takeovers, self.clean_starts, self.sessions_expired
            ),
        );
        row("subscriptions confirmed", self.subscriptions_confirmed.to_string());
        if self.shards_changed > 0 {
            row("starts with other shards", self.shards_changed.to_string());
        }
        if self.refused > 0 {
            row("refused by the broker", format!("{} messages", self.refused));
        }
        if self.closed_by_broker > 0 {
            row("closed by the broker", format!("{} connections", self.closed_by_broker));
        }
        text + &self.judgement()
    }

    /// The end of the table: what was wrong.
    fn judgement(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &str| text.push_str(&format!("{name:<28} {value}\n"));
        for (flaw, count) in &self.violations {
            row(flaw.meaning(), &count.to_string());
        }
        for example in &self.examples {
            row("", example);
        }
        if let Some(why) = &self.cut_short {
            row("cut short", why);
        }
        if let Some(folder) = &self.folder {
            row("kept", folder);
        }
        row("verdict", if self.clean { "clean" } else { "FAILED" });
        text
    }
}

/// How a run is going, on standard error: a line that is redrawn, or one every few seconds where nobody can redraw.
#[derive(Debug)]
pub(crate) struct Progress {
    redraws: bool,
    shown_at: Option<Nanos>,
}

impl Progress {
    pub(crate) fn stderr() -> Self {
        Self { redraws: std::io::stderr().is_terminal(), shown_at: None }
    }

    /// Shows it if it is time to.
    pub(crate) fn show(&mut self, stage: &Stage, tally: &Tally, cycles: u32, now: Nanos) {
        let pause = if self.redraws { SECOND_NS / 4 } else { 10 * SECOND_NS };
        if self.shown_at.is_some_and(|at| now.since(at) < pause) {
            return;
        }
        self.shown_at = Some(now);
        let totals = stage.books.totals;
        let acknowledged: u64 = totals.acknowledged.iter().sum();
        let line = format!(
            "{:>5} s  cycle {} of {cycles}, {acknowledged} acknowledged, {} delivered, {} violations",
            now.0 / SECOND_NS,
            tally.kills,
            totals.delivered,
            stage.flaws.total(),
        );
        let (begin, end) = if self.redraws { ("\r\x1b[K", "") } else { ("", "\n") };
        drop(write!(std::io::stderr(), "{begin}{line}{end}"));
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        if self.redraws && self.shown_at.is_some() {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}

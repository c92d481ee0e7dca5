//! What was measured, as tables and as JSON.

use serde::Serialize;

use super::disk::SyncTimes;
use super::rows::{Backlog, Boot, Run, float};
use crate::bench::machine::Environment;

/// Everything that a run has measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Results {
    /// What was asked for.
    pub(crate) command: String,
    pub(crate) environment: Environment,
    /// One fdatasync of this disk, without any broker.
    pub(crate) sync: SyncTimes,
    pub(crate) p2p: Vec<Run>,
    /// The same with the data directory in memory.
    pub(crate) core: Vec<Run>,
    pub(crate) ack: Vec<Run>,
    pub(crate) backlog: Option<Backlog>,
    pub(crate) boot: Option<Boot>,
}

impl Results {
    /// Whether every message was accounted for.
    pub(crate) fn is_clean(&self) -> bool {
        self.p2p.iter().chain(&self.core).chain(&self.ack).all(|run| run.clean)
            && self.backlog.iter().all(|backlog| backlog.clean)
            && self.boot.iter().all(|boot| boot.clean)
    }

    /// Everything as JSON.
    pub(crate) fn json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("results have only strings, numbers and lists");
        text.push('\n');
        text
    }

    /// The tables.
    pub(crate) fn markdown(&self) -> String {
        let headline = self.environment.headline();
        let mut text = format!("## What durability costs\n\n`{}`\n\n{headline}\n\n", self.command);
        text.push_str(&format!("The disk: {}.\n", self.sync.line()));
        if !self.p2p.is_empty() {
            text.push_str(&heading("Durable QoS 1, point to point, one message under way in each pair"));
            self.p2p.iter().for_each(|run| text.push_str(&self.line(run, true)));
        }
        if !self.core.is_empty() {
            text.push_str(&heading(
                "The same with the data directory in memory, where no sync is waited for",
            ));
            self.core.iter().for_each(|run| text.push_str(&self.line(run, false)));
        }
        if !self.ack.is_empty() {
            text.push_str(&heading("1,000 messages a second over 50 pairs: the time to PUBACK"));
            self.ack.iter().for_each(|run| text.push_str(&self.line(run, true)));
        }
        if let Some(backlog) = &self.backlog {
            text.push_str(&backlog.text());
        }
        if let Some(boot) = &self.boot {
            text.push_str(&boot.text());
        }
        text.push_str(NOTE);
        text
    }

    fn line(&self, run: &Run, is_on_disk: bool) -> String {
        let some = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let times = run.ack_p99_us / self.sync.p99_us.max(1.0);
        let syncs = if is_on_disk { format!("{times:.1}") } else { "-".to_owned() };
        let flaw = if run.clean { "" } else { " (not everything was accounted for)" };
        format!(
            "| {}{flaw} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {syncs} | {} | {} |\n",
            run.who,
            run.cpu_us,
            // Each message comes in and goes out.
            2e6 / run.cpu_us.max(0.01),
            run.per_second,
            run.deliver_p99_us,
            run.ack_p50_us,
            run.ack_p99_us,
            some(run.syncs_per_second),
            some(run.records_per_sync),
        )
    }
}

fn heading(title: &str) -> String {
    format!(
        "\n### {title}\n\n| who | CPU us/message | in + out/s and core | messages/s | delivered p99 us | PUBACK p50 us | PUBACK p99 us | in fdatasync p99 | \
         syncs/s | records/sync |\n|---|---|---|---|---|---|---|---|---|---|\n"
    )
}

impl Backlog {
    fn text(&self) -> String {
        let deliveries = f64::from(self.sessions) * f64::from(self.messages);
        let payload = f64::from(self.messages) * f64::from(self.payload_bytes);
        let beside = (float(self.disk_bytes) - payload * 1.2).max(0.0) / deliveries.max(1.0);
        let checked = if self.clean { "each once, in order" } else { "not everything was accounted for" };
        format!(
            "\n### {} sessions that are away, {} messages of {} B to all of them\n\n\
             | disk | at most | beside 1.2 x payload | taken | deliveries/s | CPU us/delivery | resident before | at most | disk after |\n\
             |---|---|---|---|---|---|---|---|---|\n\
             | {} | {:.1} MiB | {beside:.1} B per session and message | {checked} | {:.0} | {:.2} | {:.1} MiB | {:.1} MiB | {} |\n",
            self.sessions,
            self.messages,
            self.payload_bytes,
            mib(self.disk_bytes),
            self.disk_bar_bytes() / float(1 << 20),
            self.drained_per_second,
            self.drain_cpu_us,
            self.resident_mib,
            self.resident_max_mib,
            mib(self.disk_after_bytes),
        )
    }
}

impl Boot {
    fn text(&self) -> String {
        let found = self.recovery.map_or_else(
            || "-".to_owned(),
            |found| {
                let rate = float(found.bytes) / 1e3 / float(found.ms.max(1));
                format!("{} of log in {} ms, {rate:.0} MB/s", mib(found.bytes), found.ms)
            },
        );
        format!(
            "\n### Start with {} stored sessions, {} messages waiting for each\n\n\
             | ready after | resident | per session | on disk | recovery |\n|---|---|---|---|---|\n\
             | {:.2} s | {} | {:.0} B | {} | {found} |\n",
            self.sessions,
            self.messages,
            float(self.ready_ms) / 1e3,
            mib(self.resident_bytes),
            float(self.resident_bytes) / float(u64::from(self.sessions).max(1)),
            mib(self.disk_bytes),
        )
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", float(bytes) / float(1 << 20))
}

const NOTE: &str = "\nAt `commit` PUBACK waits for fdatasync; at `interval` the log is synced a few times a second; at `memory` nothing is \
stored. mosquitto writes its whole database each second (`autosave_interval 1`) and syncs nothing: none of its acknowledgements \
waits for the disk. Messages are delivered before they are synced at QoS 1, so the time to arrival does not contain the disk.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_in_the_tables() {
        let run = Run { who: "dunlin commit".to_owned(), ack_p99_us: 900.0, clean: true, ..Run::default() };
        let sync = SyncTimes { p99_us: 300.0, ..SyncTimes::default() };
        let results = Results {
            sync,
            p2p: vec![run.clone()],
            ack: vec![Run { clean: false, ..run }],
            backlog: Some(Backlog {
                sessions: 1_000,
                messages: 1_000,
                payload_bytes: 1_024,
                disk_bytes: 20 << 20,
                ..Backlog::default()
            }),
            boot: Some(Boot { sessions: 1_000, ready_ms: 1_500, resident_bytes: 1 << 20, ..Boot::default() }),
            ..Results::default()
        };
        let text = results.markdown();
        for part in [
            "| 3.0 |",
            "not everything",
            "| 20.0 MiB | 31.7 MiB | 19.7 B per",
            "| 1.50 s | 1.0 MiB | 1049 B |",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!results.is_clean() && results.json().contains("\"ack_p99_us\": 900.0"));
    }
}

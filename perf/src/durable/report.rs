//! What was measured, as tables and as JSON.

use serde::Serialize;

use super::disk::SyncTimes;
use super::rows::{Boot, Run, float};
use crate::bench::machine::Environment;

/// Everything that a run has measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Results {
    pub(crate) environment: Environment,
    /// One fdatasync of this disk, without any broker.
    pub(crate) sync: SyncTimes,
    pub(crate) p2p: Vec<Run>,
    pub(crate) ack: Vec<Run>,
    pub(crate) boot: Option<Boot>,
}

impl Results {
    /// Whether every message was accounted for.
    pub(crate) fn is_clean(&self) -> bool {
        self.p2p.iter().chain(&self.ack).all(|run| run.clean) && self.boot.iter().all(|boot| boot.clean)
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
        let mut text = format!("## What durability costs\n\n{}\n\n", self.environment.headline());
        text.push_str(&format!("The disk: {}.\n", self.sync.line()));
        if !self.p2p.is_empty() {
            text.push_str(&heading("Durable QoS 1, point to point, one message under way in each pair"));
            self.p2p.iter().for_each(|run| text.push_str(&self.line(run)));
        }
        if !self.ack.is_empty() {
            text.push_str(&heading("1,000 messages a second over 50 pairs: the time to PUBACK"));
            self.ack.iter().for_each(|run| text.push_str(&self.line(run)));
        }
        if let Some(boot) = &self.boot {
            text.push_str(&boot.text());
        }
        text.push_str(NOTE);
        text
    }

    fn line(&self, run: &Run) -> String {
        let some = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let syncs = run.ack_p99_us / self.sync.p99_us.max(1.0);
        let flaw = if run.clean { "" } else { " (not everything was accounted for)" };
        format!(
            "| {}{flaw} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {syncs:.1} | {} | {} |\n",
            run.who,
            run.cpu_us,
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
        "\n### {title}\n\n| who | CPU us/message | messages/s | delivered p99 us | PUBACK p50 us | PUBACK p99 us | in fdatasync p99 | \
         syncs/s | records/sync |\n|---|---|---|---|---|---|---|---|---|\n"
    )
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
            boot: Some(Boot { sessions: 1_000, ready_ms: 1_500, resident_bytes: 1 << 20, ..Boot::default() }),
            ..Results::default()
        };
        let text = results.markdown();
        for part in ["| 3.0 |", "not everything", "| 1.50 s | 1.0 MiB | 1049 B |"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!results.is_clean() && results.json().contains("\"ack_p99_us\": 900.0"));
    }
}

//! `dunlin store stats`: how much of what.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::process::ExitCode;

use dunlin_persist::inspect::{Directory, Log};
use dunlin_persist::record::Session;
use serde_json::{Value, json};

use super::check::look;
use super::flags::StatsFlags;
use super::place::Place;
use super::progress::size;
use crate::boot::say;

pub(super) fn stats(flags: &StatsFlags) -> Result<ExitCode, String> {
    let place = Place::to_look(&flags.place)?;
    if let Some(client_id) = &flags.client {
        return super::client::client(&place, client_id, flags.json);
    }
    let found = look(&place)?;
    let logs = found.as_ref().map_or(&[][..], |directory| &directory.logs);
    let total = Total::of(logs);
    let top = longest(logs, flags.top);
    say(&if flags.json {
        format!("{}\n", page_json(&place, found.as_ref(), &total, &top))
    } else {
        page(&place, &total, logs, &top)
    });
    Ok(ExitCode::SUCCESS)
}

/// Sums over all logs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    sessions: u64,
    connected: u64,
    expired: u64,
    subscriptions: u64,
    queued: u64,
    outgoing: u64,
    incoming: u64,
    wills: u64,
    messages: u64,
    retained: u64,
    retained_bytes: u64,
    records: u64,
    bytes: u64,
    disk_bytes: u64,
    segments: u64,
    spare_segments: u64,
}

impl Total {
    fn of(logs: &[Log]) -> Self {
        let mut total = Self::default();
        for log in logs {
            total.sessions += count(log.sessions.len());
            total.connected += log.connected;
            total.expired += log.expired;
            for one in &log.sessions {
                total.subscriptions += count(one.subscriptions.len());
                total.queued += count(one.queue.len());
                total.outgoing += count(one.outgoing.len());
                total.incoming += count(one.incoming.len());
                total.wills += u64::from(one.will.is_some());
            }
            total.messages += log.messages;
            total.retained += log.retained.0;
            total.retained_bytes += log.retained.1;
            total.records += log.records;
            total.bytes += log.bytes;
            total.disk_bytes += log.disk_bytes;
            total.segments += count(log.segments.len());
            total.spare_segments += log.spare_segments;
        }
        total
    }

    fn lines(&self) -> [(&'static str, String); 12] {
        let number = |number: u64| number.to_string();
        [
            ("sessions", number(self.sessions)),
            ("  left connected", number(self.connected)),
            ("  expired, not yet dropped", number(self.expired)),
            ("subscriptions", number(self.subscriptions)),
            ("wills that wait", number(self.wills)),
            (
                "messages that wait",
                format!("{} in queues, {} sent and not acknowledged", self.queued, self.outgoing),
            ),
            ("messages stored", format!("{}, each once per shard", self.messages)),
            ("QoS 2 identifiers of clients", number(self.incoming)),
            ("retained messages", format!("{}, {} of payload", self.retained, size(self.retained_bytes))),
            ("records", format!("{}, {}", self.records, size(self.bytes))),
            ("segments", format!("{}, and {} that wait for use", self.segments, self.spare_segments)),
            ("on the disk", size(self.disk_bytes)),
        ]
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The sessions with the longest queues.
fn longest(logs: &[Log], top: usize) -> Vec<(u16, &Session)> {
    let mut sessions: Vec<(u16, &Session)> = Vec::new();
    for log in logs {
        sessions.extend(log.sessions.iter().filter(|one| waiting(one) > 0).map(|one| (log.shard, one)));
    }
    sessions.sort_by_key(|(_, one)| (Reverse(waiting(one)), one.client_id.clone()));
    sessions.truncate(top);
    sessions
}

fn waiting(one: &Session) -> usize {
    one.queue.len() + one.outgoing.len()
}

fn page(place: &Place, total: &Total, logs: &[Log], top: &[(u16, &Session)]) -> String {
    let mut page = format!("{}\n", place.path.display());
    let mut push = |line: std::fmt::Arguments<'_>| {
        writeln!(page, "{line}").expect("writing to a String does not fail");
    };
    if place.is_online {
        push(format_args!("a broker uses it: what follows is of no single moment"));
    }
    if logs.is_empty() {
        push(format_args!("never used"));
        return page;
    }
    for (name, value) in total.lines() {
        push(format_args!("{name:<30}{value}"));
    }
    for log in logs {
        push(format_args!(
            "shard {:<24}{} sessions, {} messages, {} records, {} on the disk",
            log.shard,
            log.sessions.len(),
            log.messages,
            log.records,
            size(log.disk_bytes)
        ));
    }
    if !top.is_empty() {
        push(format_args!("longest queues"));
    }
    for (shard, one) in top {
        push(format_args!("  {:>9} messages  {} (shard {shard})", waiting(one), one.client_id));
    }
    page
}

fn page_json(place: &Place, directory: Option<&Directory>, total: &Total, top: &[(u16, &Session)]) -> Value {
    let shard = |log: &Log| {
        json!({
            "shard": log.shard,
            "sessions": log.sessions.len(),
            "messages": log.messages,
            "retained": log.retained.0,
            "records": log.records,
            "record_bytes": log.bytes,
            "disk_bytes": log.disk_bytes,
            "segments": log.segments.len(),
            "spare_segments": log.spare_segments,
        })
    };
    let top = top.iter().map(|(shard, one)| {
        json!({"client_id": one.client_id, "shard": shard, "queued": one.queue.len(), "outgoing": one.outgoing.len()})
    });
    json!({
        "directory": place.path,
        "online": place.is_online,
        "used": directory.is_some(),
        "epoch": directory.map(|directory| directory.epoch),
        "sessions": total.sessions,
        "connected": total.connected,
        "expired": total.expired,
        "subscriptions": total.subscriptions,
        "wills": total.wills,
        "queued": total.queued,
        "outgoing": total.outgoing,
        "incoming": total.incoming,
        "messages": total.messages,
        "retained": total.retained,
        "retained_bytes": total.retained_bytes,
        "records": total.records,
        "record_bytes": total.bytes,
        "disk_bytes": total.disk_bytes,
        "segments": total.segments,
        "spare_segments": total.spare_segments,
        "shards": directory.map_or_else(Vec::new, |directory| directory.logs.iter().map(shard).collect()),
        "longest_queues": top.collect::<Vec<_>>(),
    })
}

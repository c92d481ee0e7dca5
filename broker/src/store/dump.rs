//! `dunlin store dump`: the records, in the order of the log.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use dunlin_persist::inspect::{self, Standing};
use dunlin_persist::record::{Message, Published};
use dunlin_persist::{Record, SessionNo};
use serde_json::json;

use super::flags::DumpFlags;
use super::json;
use super::place::Place;

pub(super) fn dump(flags: &DumpFlags) -> Result<ExitCode, String> {
    let place = Place::to_look(&flags.place)?;
    let mut wanted = Wanted { flags, sessions: BTreeSet::new() };
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut left, mut written) = (flags.limit.unwrap_or(u64::MAX), Ok(()));
    let shards = inspect::records(place.disk.as_ref(), flags.shard, &mut |standing| {
        if left == 0 || written.is_err() || !wanted.takes(&standing.record) {
            return;
        }
        left -= 1;
        written = writeln!(out, "{}", if flags.json { line_json(&standing) } else { line(&standing) });
    });
    let shards = shards.map_err(|error| error.to_string())?;
    if let Some(shard) = flags.shard
        && let Some(count) = shards
        && shard >= count
    {
        return Err(format!("there is no shard {shard}: the directory has {count}, counted from 0"));
    }
    match written.and_then(|()| out.flush()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(format!("standard output: {error}")),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// Which records are wanted.
struct Wanted<'a> {
    flags: &'a DumpFlags,
    /// The client's sessions so far, if only they are.
    sessions: BTreeSet<SessionNo>,
}

impl Wanted<'_> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "of all records only two name a client")]
    fn takes(&mut self, record: &Record) -> bool {
        if let Some(topic) = &self.flags.topic {
            return topic_of(record) == Some(topic.as_str());
        }
        let Some(client) = &self.flags.client else { return true };
        let begun = match record {
            Record::Attached(attached) => Some((&attached.client_id, attached.session)),
            Record::Session(image) => Some((&image.client_id, image.session)),
            _ => None,
        };
        if let Some((_, session)) = begun.filter(|(client_id, _)| ***client_id == **client) {
            self.sessions.insert(session);
        }
        concerns(record, &self.sessions)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of all records only three name a topic")]
fn topic_of(record: &Record) -> Option<&str> {
    match record {
        Record::Published(published) => Some(&published.message.topic),
        Record::Retained(message) => Some(&message.topic),
        Record::RetainedCleared { topic } => Some(topic),
        _ => None,
    }
}

/// Whether a record says something of one of these sessions.
fn concerns(record: &Record, sessions: &BTreeSet<SessionNo>) -> bool {
    if let Record::Published(published) = record {
        let arrived = published.arrived.is_some_and(|(session, _)| sessions.contains(&session));
        return arrived || published.receivers.iter().any(|receiver| sessions.contains(&receiver.session));
    }
    record.session().is_some_and(|session| sessions.contains(&session))
}

fn line_json(standing: &Standing) -> String {
    let mut value = json::record(&standing.record);
    let place = json!({
        "shard": standing.shard,
        "sequence": standing.at.sequence,
        "segment": standing.at.segment,
        "offset": standing.at.offset,
        "bytes": standing.bytes,
        "moved": standing.was_moved,
    });
    if let (Some(value), Some(place)) = (value.as_object_mut(), place.as_object()) {
        value.extend(place.clone());
    }
    value.to_string()
}

fn line(standing: &Standing) -> String {
    let moved = if standing.was_moved { " (moved)" } else { "" };
    format!(
        "{}/{:<8} {:>8}:{:<10} {}{moved}",
        standing.shard,
        standing.at.sequence,
        standing.at.segment,
        standing.at.offset,
        words(&standing.record)
    )
}

/// A record in words.
fn words(record: &Record) -> String {
    match record {
        Record::Session(one) => format!(
            "session {} {:?}: {} subscriptions, {} sent, {} wait",
            one.session.0,
            one.client_id,
            one.subscriptions.len(),
            one.outgoing.len(),
            one.queue.len()
        ),
        Record::SessionEnded { session } => format!("session {} ended", session.0),
        Record::Attached(one) => {
            let will = if one.will.is_some() { ", with a will" } else { "" };
            format!(
                "session {} {:?}: connected, expiry {}{will}",
                one.session.0,
                one.client_id,
                expiry(one.expiry_seconds)
            )
        }
        Record::Detached { session, at_ms, expiry_seconds, keeps_will } => {
            let will = if *keeps_will { ", its will waits" } else { "" };
            let at = crate::clock::rfc3339(dunlin_shard::WallMs(*at_ms));
            format!("session {}: disconnected at {at}, expiry {}{will}", session.0, expiry(*expiry_seconds))
        }
        Record::WillGone { session } => format!("session {}: will published or withdrawn", session.0),
        Record::Subscribed { session, subscription } => {
            format!(
                "session {}: subscribed {:?}, options {:#04x}",
                session.0, subscription.filter, subscription.options
            )
        }
        Record::Unsubscribed { session, filter } => format!("session {}: unsubscribed {filter:?}", session.0),
        Record::Published(one) => published(one),
        Record::Sent { session, messages } => {
            let sent = messages.iter().map(|(id, packet_id)| format!("{} as {packet_id}", id.0));
            format!("session {}: sent {}", session.0, sent.collect::<Vec<_>>().join(", "))
        }
        Record::Done { session, messages } => {
            let done = messages.iter().map(|id| id.0.to_string());
            format!("session {}: done with {}", session.0, done.collect::<Vec<_>>().join(", "))
        }
        Record::Received { session, message, packet_id } => {
            format!("session {}: PUBREC of {packet_id}, message {}", session.0, message.0)
        }
        Record::Completed { session, packet_id } => format!("session {}: PUBCOMP of {packet_id}", session.0),
        Record::Arrived { session, packet_id } => format!("session {}: QoS 2 {packet_id} came", session.0),
        Record::Released { session, packet_id } => {
            format!("session {}: QoS 2 {packet_id} released", session.0)
        }
        Record::Retained(message) => format!("retained {}", message_words(message)),
        Record::RetainedCleared { topic } => format!("retained {topic:?} cleared"),
    }
}

fn published(one: &Published) -> String {
    let receivers = match one.receivers.as_slice() {
        [receiver] => format!("session {}", receiver.session.0),
        receivers => format!("{} sessions", receivers.len()),
    };
    let arrived =
        one.arrived.map(|(session, packet_id)| format!(", QoS 2 {packet_id} of session {}", session.0));
    format!(
        "message {} {} for {receivers}{}",
        one.id.0,
        message_words(&one.message),
        arrived.unwrap_or_default()
    )
}

fn message_words(message: &Message) -> String {
    let payload = match json::text(&message.payload) {
        Some(text) if text.chars().count() <= 40 => format!("{text:?}"),
        _ => format!("{} B", message.payload.len()),
    };
    format!("{:?} QoS {} {payload}", message.topic, message.qos)
}

fn expiry(seconds: u32) -> String {
    if seconds == u32::MAX { "never".to_owned() } else { format!("{seconds} s") }
}

#[cfg(test)]
mod tests {
    use dunlin_persist::MessageId;
    use dunlin_persist::index::Place as At;

    use super::*;

    #[test]
    fn a_line_says_where_and_what() {
        let record = Record::Done { session: SessionNo(7), messages: vec![MessageId(3), MessageId(4)] };
        let at = At { segment: 2, offset: 640, sequence: 12 };
        let standing = Standing { shard: 1, at, bytes: 64, was_moved: false, record };
        assert_eq!(line(&standing), "1/12              2:640        session 7: done with 3, 4");
        let value: serde_json::Value = serde_json::from_str(&line_json(&standing)).unwrap();
        assert_eq!(value["kind"], "done");
        assert_eq!((value["shard"].as_u64(), value["offset"].as_u64()), (Some(1), Some(640)));
    }

    #[test]
    fn long_and_binary_payloads_are_counted() {
        let message =
            |payload: &[u8]| Message { topic: "t".into(), payload: payload.into(), ..Message::default() };
        assert_eq!(message_words(&message(b"hi")), "\"t\" QoS 0 \"hi\"");
        assert_eq!(message_words(&message(&[0; 3])), "\"t\" QoS 0 3 B");
        assert_eq!(message_words(&message(&[b'x'; 41])), "\"t\" QoS 0 41 B");
    }
}

//! `dunlin store export`: everything as JSON lines.
//!
//! The first line says what it is. Then, shard by shard and session by session: a line for each message when the first session
//! that waits for it comes, then the session, which names its messages. Retained messages end a shard, a count ends the file.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dunlin_persist::record::Session;
use dunlin_persist::told::FoundMessage;
use dunlin_persist::{FetchedMessage, MessageId, Opened, Recovered, Store, Told};
use serde_json::{Value, json};

use super::flags::ExportFlags;
use super::json::{head, message};
use super::place::Place;
use super::progress::ProgressLine;

/// Version of the lines.
pub(super) const FORMAT: u64 = 1;
/// Messages that are fetched at once.
const PAGE: usize = 64;

pub(super) fn export(flags: &ExportFlags) -> Result<ExitCode, String> {
    let place = Place::to_read(&flags.place)?;
    let mut out = writer(flags.output.as_deref())?;
    let mut exported = Exported::default();
    let written = write_all(&place, &mut out, &mut exported).and_then(|()| finish(&mut out, &exported));
    if let Err(problem) = written {
        return Err(match &flags.output {
            Some(path) => format!("{problem}; {} is incomplete", path.display()),
            None => problem,
        });
    }
    let Exported { sessions, messages, retained, lost } = exported;
    crate::boot::complain_of(&format!(
        "{sessions} sessions, {messages} messages, {retained} retained messages exported"
    ));
    if lost > 0 {
        crate::boot::complain_of(&format!(
            "{lost} messages could not be read and are not in the export; see dunlin store check"
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What was written.
#[derive(Default)]
struct Exported {
    sessions: u64,
    messages: u64,
    retained: u64,
    lost: u64,
}

fn writer(path: Option<&Path>) -> Result<Box<dyn Write>, String> {
    let Some(path) = path else { return Ok(Box::new(BufWriter::new(io::stdout().lock()))) };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Box::new(BufWriter::with_capacity(1 << 20, file)))
}

fn write_all(place: &Place, out: &mut dyn Write, exported: &mut Exported) -> Result<(), String> {
    let looked =
        dunlin_persist::inspect::shard_count(place.disk.as_ref()).map_err(|error| error.to_string())?;
    let shards =
        looked.ok_or_else(|| format!("{}: never used, there is nothing to export", place.path.display()))?;
    let mut line = ProgressLine::new();
    let opened = dunlin_persist::open(Arc::clone(&place.disk), &super::options(shards), &mut |progress| {
        line.at("reading", progress.done_bytes, progress.total_bytes);
    });
    let Opened { stores, recovered, .. } = opened.map_err(|error| error.to_string())?;
    put(out, &json!({"type": "dunlin-export", "format": FORMAT, "shards": shards}))?;
    let total: u64 = recovered.iter().map(|one| u64::try_from(one.sessions.len()).unwrap_or(0)).sum();
    for (shard, (store, recovered)) in (0..shards).zip(stores.into_iter().zip(recovered)) {
        let mut exporter = Exporter { shard, store, seen: BTreeSet::new(), out, exported };
        exporter.shard(recovered, &mut |done| line.at("exporting sessions", done, total))?;
    }
    line.end();
    Ok(())
}

fn finish(out: &mut dyn Write, exported: &Exported) -> Result<(), String> {
    let Exported { sessions, messages, retained, lost } = exported;
    put(
        out,
        &json!({"type": "end", "sessions": sessions, "messages": messages, "retained": retained, "lost": lost}),
    )?;
    out.flush().map_err(|error| error.to_string())
}

fn put(out: &mut dyn Write, value: &Value) -> Result<(), String> {
    writeln!(out, "{value}").map_err(|error| error.to_string())
}

/// One shard on its way out.
struct Exporter<'a> {
    shard: u16,
    store: Store,
    /// Messages that were written.
    seen: BTreeSet<MessageId>,
    out: &'a mut dyn Write,
    exported: &'a mut Exported,
}

impl Exporter<'_> {
    fn shard(&mut self, recovered: Recovered, progress: &mut dyn FnMut(u64)) -> Result<(), String> {
        for session in recovered.sessions {
            self.session(&session)?;
            progress(self.exported.sessions);
        }
        for retained in recovered.retained {
            put(self.out, &json!({"type": "retained", "message": message(&retained)}))?;
            self.exported.retained += 1;
        }
        Ok(())
    }

    fn session(&mut self, session: &Session) -> Result<(), String> {
        let mut outgoing = Vec::new();
        for sent in &session.outgoing {
            let mut value = json!({"packet_id": sent.packet_id});
            if let Some(id) = sent.message {
                let Some(waiting) = self.waiting(session, &[id])?.pop() else { continue };
                merge(&mut value, waiting);
            }
            outgoing.push(value);
        }
        let mut queue = Vec::new();
        for page in session.queue.chunks(PAGE) {
            queue.extend(self.waiting(session, page)?);
        }
        let mut map = head(session);
        map.insert("type".to_owned(), json!("session"));
        map.insert("outgoing".to_owned(), Value::Array(outgoing));
        map.insert("queue".to_owned(), Value::Array(queue));
        self.exported.sessions += 1;
        put(self.out, &Value::Object(map))
    }

    /// These messages as their session names them. Those that nobody has named yet are written first; those that are lost are
    /// counted.
    fn waiting(&mut self, session: &Session, ids: &[MessageId]) -> Result<Vec<Value>, String> {
        self.store.fetch(session.session, ids);
        let mut told = Vec::new();
        let fetched = loop {
            let has_worked = self.store.disk_step();
            self.store.poll(&mut told);
            let answer = told.drain(..).find_map(|one| match one {
                Told::Fetched { messages, .. } => Some(messages),
                Told::Stored { .. } | Told::State(_) => None,
            });
            match answer {
                Some(messages) => break messages,
                None if has_worked => {}
                None => return Err(format!("shard {}: the log does not answer", self.shard)),
            }
        };
        let mut values = Vec::new();
        for one in fetched {
            match one {
                FetchedMessage::Found(found) => values.push(self.found(&found)?),
                FetchedMessage::Lost(_) => self.exported.lost += 1,
            }
        }
        Ok(values)
    }

    fn found(&mut self, found: &FoundMessage) -> Result<Value, String> {
        let name = format!("{}-{}", self.shard, found.id.0);
        if self.seen.insert(found.id) {
            put(self.out, &json!({"type": "message", "id": name, "message": message(&found.message)}))?;
            self.exported.messages += 1;
        }
        let mut value = json!({"message": name, "qos": found.qos, "retain": found.retain});
        if !found.subscription_ids.is_empty() {
            merge(&mut value, json!({"subscription_ids": found.subscription_ids}));
        }
        if let Some(group) = &found.group {
            merge(&mut value, json!({"group": group}));
        }
        Ok(value)
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

//! `dunlin store import`: fills an empty data directory from an export.
//!
//! The file is read twice: once for the sessions and what each waits for, once for the messages, each of which is then stored once
//! for all its receivers. It takes about 50 B of memory for each message that each session waits for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dunlin_persist::record::{Message, Outgoing, Published, Receiver};
use dunlin_persist::{
    AppendError, MessageId, Opened, Options, Record, SessionNo, Store, StoreState, SyncMode,
};
use serde_json::{Value, json};

use super::export::FORMAT;
use super::flags::ImportFlags;
use super::json::{Object, to_head, to_message};
use super::place::{Place, meant};
use super::progress::ProgressLine;
use crate::boot::say;

pub(super) fn import(flags: &ImportFlags) -> Result<ExitCode, String> {
    let count = shards_of(&flags.file)?;
    let count = flags.shards.unwrap_or(count);
    if count == 0 || count > dunlin_shard::limits::SHARD_COUNT_MAX {
        return Err(format!(
            "--shards {count}: a directory has 1 to {} shards",
            dunlin_shard::limits::SHARD_COUNT_MAX
        ));
    }
    let path = meant(&flags.place)?;
    let place = Place::to_change(&path)?;
    let used =
        dunlin_persist::inspect::shard_count(place.disk.as_ref()).map_err(|error| error.to_string())?;
    if used.is_some() {
        return Err(format!(
            "the data directory {} is in use already: import fills an empty one. Name another with --data-dir, or move this \
             one aside",
            path.display()
        ));
    }
    let options = Options { sync_mode: SyncMode::Threads, ..super::options(count) };
    let imported = Importer::open(&place, &options)?.run(&flags.file).map_err(|problem| {
        format!(
            "{problem}\nthe data directory {} is incomplete: remove it before you try again",
            path.display()
        )
    })?;
    let Imported { sessions, messages, retained } = imported;
    say(&if flags.json {
        let value = json!({"directory": path, "shards": count, "sessions": sessions, "messages": messages, "retained": retained});
        format!("{value}\n")
    } else {
        format!(
            "{}: {sessions} sessions, {messages} messages, {retained} retained messages for {count} shards\n",
            path.display()
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// What was stored.
#[derive(Default)]
struct Imported {
    sessions: u64,
    messages: u64,
    retained: u64,
}

/// The shards that the export came from.
fn shards_of(file: &Path) -> Result<u16, String> {
    let mut first = None;
    lines(file, &mut ProgressLine::new(), "reading", &mut |object| {
        if first.is_none() {
            first = Some(if object.text("type")? == "dunlin-export" {
                (object.number::<u64>("format")?, object.number::<u16>("shards")?)
            } else {
                return Err("this is no export of dunlin".to_owned());
            });
        }
        Ok(false)
    })?;
    match first {
        Some((FORMAT, shards)) => Ok(shards),
        Some((format, _)) => Err(format!(
            "{}: format {format}, and this program reads format {FORMAT}: use the newer version that wrote it",
            file.display()
        )),
        None => Err(format!("{}: empty, this is no export of dunlin", file.display())),
    }
}

/// Calls for each line until the callee says `false`; errors name the line.
fn lines(
    file: &Path,
    progress: &mut ProgressLine,
    what: &str,
    each: &mut dyn FnMut(Object<'_>) -> Result<bool, String>,
) -> Result<(), String> {
    let at_file = |error: std::io::Error| format!("{}: {error}", file.display());
    #[expect(clippy::disallowed_methods, reason = "a file that the operator names is read")]
    let opened = File::open(file).map_err(at_file)?;
    let total = opened.metadata().map_err(at_file)?.len();
    let mut reader = BufReader::with_capacity(1 << 20, opened);
    let (mut text, mut number, mut done) = (String::new(), 0_u64, 0);
    loop {
        text.clear();
        let bytes = reader.read_line(&mut text).map_err(at_file)?;
        if bytes == 0 {
            progress.end();
            return Ok(());
        }
        number += 1;
        done += u64::try_from(bytes).unwrap_or(0);
        progress.at(what, done, total);
        if text.trim().is_empty() {
            continue;
        }
        let at_line = |problem: String| format!("{}: line {number}: {problem}", file.display());
        let value: Value = serde_json::from_str(&text).map_err(|error| at_line(error.to_string()))?;
        if !Object::of(&value).and_then(&mut *each).map_err(at_line)? {
            progress.end();
            return Ok(());
        }
    }
}

/// Who waits for a message, in one shard.
struct Waiting {
    receiver: Receiver,
    subscription_ids: Box<[u32]>,
    group: Option<Box<str>>,
}

/// One shard on its way in.
struct Shard {
    store: Store,
    next_seq: u64,
    next_session: SessionNo,
    next_message: MessageId,
    /// By the names that the export gives, which are in the order of delivery.
    waiting: BTreeMap<(u16, u64), Vec<Waiting>>,
    /// Messages that are stored twice in another order than they were: their new names, in the order of the old ones.
    names: BTreeMap<(u16, u64), MessageId>,
}

struct Importer {
    shards: Vec<Shard>,
    options: Options,
    imported: Imported,
}

impl Importer {
    fn open(place: &Place, options: &Options) -> Result<Self, String> {
        let opened = dunlin_persist::open(Arc::clone(&place.disk), options, &mut |_| {});
        let Opened { stores, recovered, .. } = opened.map_err(|error| error.to_string())?;
        let shard = |(store, recovered): (Store, dunlin_persist::Recovered)| Shard {
            store,
            next_seq: 1,
            next_session: recovered.next_session,
            next_message: recovered.next_message,
            waiting: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let shards = stores.into_iter().zip(recovered).map(shard).collect();
        Ok(Self { shards, options: options.clone(), imported: Imported::default() })
    }

    fn run(mut self, file: &Path) -> Result<Imported, String> {
        let mut line = ProgressLine::new();
        let mut end = None;
        lines(file, &mut line, "importing sessions", &mut |object| {
            match object.text("type")? {
                "session" => self.session(object)?,
                "end" => end = Some((object.number::<u64>("sessions")?, object.number::<u64>("messages")?)),
                "retained" | "message" | "dunlin-export" => {}
                other => return Err(format!("\"type\" is {other:?}, which is not known")),
            }
            Ok(true)
        })?;
        self.name_messages();
        lines(file, &mut line, "importing messages", &mut |object| {
            match object.text("type")? {
                "message" => self.message(object)?,
                "retained" => self.retained(object)?,
                _ => {}
            }
            Ok(true)
        })?;
        self.check_complete(end)?;
        for shard in self.shards {
            shard.store.close().map_err(|error| error.to_string())?;
        }
        Ok(self.imported)
    }

    fn session(&mut self, object: Object<'_>) -> Result<(), String> {
        let mut session = to_head(object)?;
        let home = (self.options.client_home)(&session.client_id, self.options.shard_count);
        let shard = &mut self.shards[usize::from(home)];
        session.session = shard.next_session;
        shard.next_session.0 += 1;
        // A broker that reads this takes an attached session for one that it cut off just now.
        for one in object.list("outgoing")? {
            let one = Object::of(one)?;
            let packet_id: u16 = one.number("packet_id")?;
            match one.get("message") {
                None => session.outgoing.push(Outgoing { packet_id, message: None }),
                Some(_) => shard.wait(session.session, packet_id, one)?,
            }
        }
        for one in object.list("queue")? {
            shard.wait(session.session, 0, Object::of(one)?)?;
        }
        shard.append(&Record::Session(Box::new(session)))?;
        self.imported.sessions += 1;
        Ok(())
    }

    /// Gives the messages of each shard new names, in the order of the old ones.
    fn name_messages(&mut self) {
        for shard in &mut self.shards {
            for name in shard.waiting.keys() {
                shard.names.insert(*name, shard.next_message);
                shard.next_message.0 += 1;
            }
        }
    }

    fn message(&mut self, object: Object<'_>) -> Result<(), String> {
        let name = name_of(object.text("id")?)?;
        let body = object.get("message").ok_or_else(|| "\"message\" is missing".to_owned())?;
        let message = to_message(Object::of(body)?)?;
        let mut has_receivers = false;
        for shard in &mut self.shards {
            if let Some(waiting) = shard.waiting.remove(&name) {
                has_receivers = true;
                shard.publish(name, message.clone(), waiting)?;
            }
        }
        self.imported.messages += u64::from(has_receivers);
        Ok(())
    }

    fn retained(&mut self, object: Object<'_>) -> Result<(), String> {
        let body = object.get("message").ok_or_else(|| "\"message\" is missing".to_owned())?;
        let message = to_message(Object::of(body)?)?;
        let home = (self.options.topic_home)(&message.topic, self.options.shard_count);
        self.imported.retained += 1;
        self.shards[usize::from(home)].append(&Record::Retained(Box::new(message)))
    }

    /// An export that was cut short, or edited so that messages are missing, is not taken for whole.
    fn check_complete(&self, end: Option<(u64, u64)>) -> Result<(), String> {
        let missing: usize = self.shards.iter().map(|shard| shard.waiting.len()).sum();
        if missing > 0 {
            return Err(format!("the export lacks {missing} messages that sessions wait for"));
        }
        let Some((sessions, _)) = end else {
            return Err("the export has no end: it was cut short".to_owned());
        };
        if sessions != self.imported.sessions {
            return Err(format!(
                "the export says that it has {sessions} sessions, and has {}: it was changed or cut",
                self.imported.sessions
            ));
        }
        Ok(())
    }
}

impl Shard {
    fn wait(&mut self, session: SessionNo, packet_id: u16, object: Object<'_>) -> Result<(), String> {
        let mut subscription_ids = Vec::new();
        for one in object.list("subscription_ids")? {
            let id = one.as_u64().and_then(|number| u32::try_from(number).ok());
            subscription_ids.push(id.ok_or_else(|| format!("{one} is no subscription identifier"))?);
        }
        let qos = object.number("qos")?;
        if !(1..=2).contains(&qos) {
            return Err(format!("\"qos\" of a waiting message is {qos}, and only 1 and 2 are stored"));
        }
        let receiver = Receiver { session, packet_id, qos, retain: object.flag("retain")? };
        let group = object.text_or_none("group")?.map(Into::into);
        let name = name_of(object.text("message")?)?;
        let waiting = Waiting { receiver, subscription_ids: subscription_ids.into(), group };
        self.waiting.entry(name).or_default().push(waiting);
        Ok(())
    }

    fn publish(
        &mut self,
        name: (u16, u64),
        message: Message,
        mut waiting: Vec<Waiting>,
    ) -> Result<(), String> {
        let id = *self.names.get(&name).expect("name_messages has named all that are waited for");
        waiting.sort_by_key(|one| one.receiver.session);
        let mut published = Published {
            id,
            message,
            receivers: Vec::with_capacity(waiting.len()),
            subscription_ids: Vec::new(),
            groups: Vec::new(),
            arrived: None,
        };
        for (index, one) in (0..).zip(waiting) {
            published.receivers.push(one.receiver);
            published.subscription_ids.extend(one.subscription_ids.iter().map(|id| (index, *id)));
            published.groups.extend(one.group.map(|group| (index, group)));
        }
        self.append(&Record::Published(Box::new(published)))
    }

    fn append(&mut self, record: &Record) -> Result<(), String> {
        if self.store.state() != StoreState::Open {
            let why = self.store.failure().map_or_else(|| "the disk is full".to_owned(), str::to_owned);
            return Err(format!("not everything could be stored: {why}"));
        }
        let appended = self.store.append(self.next_seq, record);
        appended.map_err(|error: AppendError| format!("not everything could be stored: {error}"))?;
        self.next_seq += 1;
        if self.next_seq.is_multiple_of(1_024) {
            self.store.commit();
            self.store.poll(&mut Vec::new());
        }
        Ok(())
    }
}

/// The shard and number of a message's name in an export.
fn name_of(text: &str) -> Result<(u16, u64), String> {
    let parsed = text.split_once('-').and_then(|(shard, id)| Some((shard.parse().ok()?, id.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is no name of a message, which looks like 0-17"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_messages() {
        assert_eq!(name_of("3-17"), Ok((3, 17)));
        for text in ["", "3", "-1", "3-", "x-1", "70000-1"] {
            assert!(name_of(text).is_err(), "{text}");
        }
    }
}

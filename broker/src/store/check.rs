//! `dunlin store check`: is all of it sound?

use std::fmt::Write as _;
use std::process::ExitCode;

use dunlin_persist::index::{self, Index, IndexError, Stand, stand};
use dunlin_persist::inspect::{self, Directory, Log};
use serde_json::{Value, json};

use super::flags::CheckFlags;
use super::place::Place;
use super::progress::{ProgressLine, size};
use crate::boot::say;
use crate::clock;

/// Times that a directory is read beside a broker before damage is believed: a segment may be freed while it is read.
const LOOKS_BESIDE_BROKER: usize = 3;

pub(super) fn check(flags: &CheckFlags) -> Result<ExitCode, String> {
    let place = Place::to_look(&flags.place)?;
    let Some(directory) = look(&place)? else {
        say(&if flags.json {
            format!("{}\n", json!({"directory": place.path, "sound": true, "used": false}))
        } else {
            format!("{}: sound, and never used\n", place.path.display())
        });
        return Ok(ExitCode::SUCCESS);
    };
    let index = IndexState::of(&place, &directory);
    let is_sound = directory.logs.iter().all(|log| log.damaged.is_empty() && log.missing == 0)
        && !matches!(index, IndexState::LogLacks(_));
    say(&if flags.json {
        format!("{}\n", page_json(&place, &directory, &index, is_sound))
    } else {
        page(&place, &directory, &index, is_sound)
    });
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the directory; beside a broker, what looks damaged is looked at again.
pub(super) fn look(place: &Place) -> Result<Option<Directory>, String> {
    let mut line = ProgressLine::new();
    let mut looks = 1;
    loop {
        let found = inspect::read(place.disk.as_ref(), clock::wall().0, &mut |done, total| {
            line.at("reading", done, total);
        });
        line.end();
        let is_sound = match &found {
            Ok(None) => true,
            Ok(Some(directory)) => {
                directory.logs.iter().all(|log| log.damaged.is_empty() && log.missing == 0)
            }
            Err(_) => false,
        };
        if is_sound || !place.is_online || looks == LOOKS_BESIDE_BROKER {
            return found.map_err(|error| error.to_string());
        }
        looks += 1;
    }
}

/// How the index stands to the logs.
enum IndexState {
    /// A broker has it, or there is none.
    NotLookedAt(&'static str),
    Same,
    Behind {
        records: u64,
    },
    /// It knows what the log has lost.
    LogLacks(String),
    /// The next start builds it again.
    Useless(String),
}

impl IndexState {
    fn of(place: &Place, directory: &Directory) -> Self {
        if place.is_online {
            return Self::NotLookedAt("a broker has it");
        }
        match index::look(&place.path) {
            Ok(None) => Self::NotLookedAt("there is none"),
            Ok(Some(index)) => {
                Self::compared(&index, directory).unwrap_or_else(|error| Self::Useless(error.to_string()))
            }
            Err(error) => Self::Useless(error.to_string()),
        }
    }

    fn compared(index: &Index, directory: &Directory) -> Result<Self, IndexError> {
        index.verify()?;
        let mut behind = 0;
        for log in &directory.logs {
            match stand(index, directory.header, &log.truth)? {
                Stand::Same => {}
                Stand::Behind { records } => behind += records,
                Stand::OfOtherLogs => return Ok(Self::Useless("it is of other logs".to_owned())),
                Stand::Differs => return Ok(Self::Useless("it contradicts the log".to_owned())),
                Stand::LogLacks(lack) => return Ok(Self::LogLacks(lack.to_string())),
            }
        }
        Ok(if behind == 0 { Self::Same } else { Self::Behind { records: behind } })
    }

    /// One word, for programs.
    const fn word(&self) -> &'static str {
        match self {
            Self::NotLookedAt(_) => "none",
            Self::Same => "same",
            Self::Behind { .. } => "behind",
            Self::LogLacks(_) => "log_lacks",
            Self::Useless(_) => "wrong",
        }
    }
}

impl std::fmt::Display for IndexState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLookedAt(why) => write!(f, "index: {why}"),
            Self::Same => f.write_str("index: says what the logs say"),
            Self::Behind { records } => {
                write!(f, "index: {records} records behind the logs; the next start brings it up to date")
            }
            Self::LogLacks(what) => write!(f, "LOST, as the index knows: {what}"),
            Self::Useless(why) => write!(f, "index: {why}; the next start builds it again. Nothing is lost"),
        }
    }
}

fn page(place: &Place, directory: &Directory, index: &IndexState, is_sound: bool) -> String {
    let mut page = format!("{}\n", place.path.display());
    if place.is_online {
        page.push_str("  a broker uses it: what follows is of no single moment\n");
    }
    for log in &directory.logs {
        push_log(&mut page, log);
    }
    push(&mut page, format_args!("  {index}"));
    let verdict = match (is_sound, directory.logs.iter().any(|log| log.torn.is_some())) {
        (true, false) => "sound",
        (true, true) if place.is_online => "sound",
        (true, true) => "sound; the unfinished end is cut at the next start",
        (false, _) => {
            "DAMAGED: what is readable is kept at the next start, the rest is put aside in damaged/; check the disk"
        }
    };
    push(&mut page, format_args!("{verdict}"));
    page
}

fn push_log(page: &mut String, log: &Log) {
    push(
        page,
        format_args!(
            "  shard {}: {} records, {} in {} segments; {} sessions, {} messages, {} retained",
            log.shard,
            log.records,
            size(log.bytes),
            log.segments.len(),
            log.sessions.len(),
            log.messages,
            log.retained.0
        ),
    );
    if let Some(torn) = &log.torn {
        push(page, format_args!("    unfinished: {}: ends at byte {}", torn.path, torn.offset));
    }
    for damage in &log.damaged {
        push(
            page,
            format_args!(
                "    DAMAGED: {}: {} bytes at byte {}, {} records lost",
                damage.path, damage.bytes, damage.offset, damage.lost_records
            ),
        );
    }
    if log.missing > 0 {
        push(
            page,
            format_args!("    LOST: {} messages that sessions wait for are in no record", log.missing),
        );
    }
}

fn push(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("writing to a String does not fail");
}

fn page_json(place: &Place, directory: &Directory, index: &IndexState, is_sound: bool) -> Value {
    let shards: Vec<Value> = directory.logs.iter().map(log_json).collect();
    json!({
        "directory": place.path,
        "sound": is_sound,
        "used": true,
        "online": place.is_online,
        "epoch": directory.epoch,
        "index": index.word(),
        "shards": shards,
    })
}

fn log_json(log: &Log) -> Value {
    let torn = log.torn.as_ref().map(
        |torn| json!({"file": torn.path, "offset": torn.offset, "dropped_records": torn.dropped_records}),
    );
    let damage = |damage: &dunlin_persist::report::Damage| {
        json!({
            "file": damage.path,
            "offset": damage.offset,
            "bytes": damage.bytes,
            "lost_records": damage.lost_records,
        })
    };
    json!({
        "shard": log.shard,
        "segments": log.segments.len(),
        "records": log.records,
        "bytes": log.bytes,
        "sessions": log.sessions.len(),
        "messages": log.messages,
        "missing_messages": log.missing,
        "retained": log.retained.0,
        "unfinished": torn,
        "damaged": log.damaged.iter().map(damage).collect::<Vec<_>>(),
    })
}

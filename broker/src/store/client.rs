//! `dunlin store stats --client`: one client's session.

use std::fmt::Write as _;
use std::process::ExitCode;

use dunlin_persist::index::{self, Index};
use dunlin_persist::inspect::{self, Client, Hint};
use dunlin_persist::record::Session;
use dunlin_shard::WallMs;
use serde_json::{Value, json};

use super::json::head;
use super::place::Place;
use super::progress::size;
use crate::boot::say;
use crate::clock;

/// Prints what is stored of a client; 1 if nothing is.
pub(super) fn client(place: &Place, client_id: &str, as_json: bool) -> Result<ExitCode, String> {
    let index = if place.is_online { Ok(None) } else { index::look(&place.path) };
    let (index, problem): (Option<Index>, _) = match index {
        Ok(index) => (index, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let now_ms = clock::wall().0;
    let disk = place.disk.as_ref();
    let found = inspect::client(disk, client_id, super::client_home, index.as_ref(), now_ms);
    let Some(mut found) = found.map_err(|error| error.to_string())? else {
        return Err(format!("{}: never used", place.path.display()));
    };
    if let Some(problem) = problem {
        found.hint = Hint::Wrong(problem);
    }
    say(&if as_json {
        format!("{}\n", page_json(place, client_id, &found))
    } else {
        page(place, client_id, &found)
    });
    Ok(if found.session.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(place: &Place, client_id: &str, found: &Client) -> String {
    let mut page = format!("{}\n", place.path.display());
    let mut push = |name: &str, value: String| {
        writeln!(page, "{name:<30}{value}").expect("writing to a String does not fail");
    };
    push("client", client_id.to_owned());
    match &found.session {
        Some(session) => lines(session, found).into_iter().for_each(|(name, value)| push(name, value)),
        None if found.is_expired => push("session", "its time is over: the next start drops it".to_owned()),
        None => push("session", "none is stored".to_owned()),
    }
    push(
        "read",
        format!(
            "{} of {} of log files: {}",
            size(found.read_bytes),
            size(found.log_bytes),
            why(place, found)
        ),
    );
    page
}

fn lines(session: &Session, found: &Client) -> Vec<(&'static str, String)> {
    let state = if found.is_connected {
        "connected, or left so at the last end".to_owned()
    } else {
        let since = session.detached_at_ms.unwrap_or_default();
        format!("away since {}", clock::rfc3339(WallMs(since)))
    };
    let mut lines = vec![
        ("session", format!("{}, shard {}", session.session.0, found.shard)),
        ("state", format!("{state}; {}", ends(session))),
    ];
    let mut name = "subscriptions";
    if session.subscriptions.is_empty() {
        lines.push((name, "none".to_owned()));
    }
    for one in &session.subscriptions {
        lines.push((name, format!("{:?}, QoS {}", one.filter, one.options & 0b11)));
        name = "";
    }
    let will =
        session.will.as_ref().map_or_else(|| "none".to_owned(), |will| format!("{:?}", will.message.topic));
    lines.extend([
        (
            "messages that wait",
            format!(
                "{} in the queue, {} sent and not acknowledged",
                session.queue.len(),
                session.outgoing.len()
            ),
        ),
        ("QoS 2 identifiers it has open", session.incoming.len().to_string()),
        ("will", will),
    ]);
    lines
}

fn ends(session: &Session) -> String {
    match session.expiry_seconds {
        u32::MAX => "never ends by itself".to_owned(),
        seconds => format!("ends {seconds} s after its client has gone"),
    }
}

/// Why so much was read.
fn why(place: &Place, found: &Client) -> String {
    match &found.hint {
        Hint::Began => "the index said where to begin".to_owned(),
        Hint::Without if place.is_online => "a broker has the index".to_owned(),
        Hint::Without => "there is no index".to_owned(),
        Hint::Wrong(why) => format!("without the index: {why}; the next start of the broker builds it again"),
    }
}

fn page_json(place: &Place, client_id: &str, found: &Client) -> Value {
    let session = found.session.as_ref().map(|session| {
        let mut map = head(session);
        map.insert("session".to_owned(), json!(session.session.0));
        map.insert("queued".to_owned(), json!(session.queue.len()));
        map.insert("outgoing".to_owned(), json!(session.outgoing.len()));
        Value::Object(map)
    });
    let index = match &found.hint {
        Hint::Began => "used",
        Hint::Without => "none",
        Hint::Wrong(_) => "wrong",
    };
    json!({
        "directory": place.path,
        "online": place.is_online,
        "client_id": client_id,
        "shard": found.shard,
        "connected": found.is_connected,
        "expired": found.is_expired,
        "session": session,
        "read_bytes": found.read_bytes,
        "log_bytes": found.log_bytes,
        "index": index,
    })
}

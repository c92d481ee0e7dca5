//! Records, sessions and messages as JSON, and back.
//!
//! Bytes that are text stand as they are (`payload`), others in base64 (`payload_base64`). Absent and empty are the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dunlin_persist::record::{Attached, Message, Published, Session, Subscription, Will};
use dunlin_persist::{MessageId, Record, SessionNo};
use serde_json::{Map, Value, json};

/// One record: its kind and all that it says.
pub(crate) fn record(record: &Record) -> Value {
    let (kind, value) = match record {
        Record::Session(image) => ("session", session(image)),
        Record::SessionEnded { session } => ("session_ended", of(*session)),
        Record::Attached(one) => ("attached", attached(one)),
        Record::Detached { session, at_ms, expiry_seconds, keeps_will } => (
            "detached",
            json!({"session": session.0, "at_ms": at_ms, "expiry_seconds": expiry_seconds, "keeps_will": keeps_will}),
        ),
        Record::WillGone { session } => ("will_gone", of(*session)),
        Record::Subscribed { session, subscription: one } => {
            ("subscribed", json!({"session": session.0, "subscription": subscription(one)}))
        }
        Record::Unsubscribed { session, filter } => {
            ("unsubscribed", json!({"session": session.0, "filter": filter}))
        }
        Record::Published(one) => ("published", published(one)),
        Record::Sent { session, messages } => {
            let sent = |(id, packet_id): &(MessageId, u16)| json!({"message": id.0, "packet_id": packet_id});
            let messages: Vec<Value> = messages.iter().map(sent).collect();
            ("sent", json!({"session": session.0, "messages": messages}))
        }
        Record::Done { session, messages } => {
            ("done", json!({"session": session.0, "messages": ids(messages)}))
        }
        Record::Received { session, message, packet_id } => {
            ("received", json!({"session": session.0, "message": message.0, "packet_id": packet_id}))
        }
        Record::Completed { session, packet_id } => ("completed", packet(*session, *packet_id)),
        Record::Arrived { session, packet_id } => ("arrived", packet(*session, *packet_id)),
        Record::Released { session, packet_id } => ("released", packet(*session, *packet_id)),
        Record::Retained(one) => ("retained", message(one)),
        Record::RetainedCleared { topic } => ("retained_cleared", json!({"topic": topic})),
    };
    json!({"kind": kind, "record": value})
}

fn of(session: SessionNo) -> Value {
    json!({"session": session.0})
}

fn packet(session: SessionNo, packet_id: u16) -> Value {
    json!({"session": session.0, "packet_id": packet_id})
}

fn ids(messages: &[MessageId]) -> Vec<u64> {
    messages.iter().map(|id| id.0).collect()
}

fn attached(one: &Attached) -> Value {
    let mut map = Map::new();
    map.insert("session".to_owned(), json!(one.session.0));
    map.insert("client_id".to_owned(), json!(one.client_id));
    put(&mut map, "user_name", one.user_name.as_deref());
    map.insert("expiry_seconds".to_owned(), json!(one.expiry_seconds));
    put(&mut map, "will", one.will.as_ref().map(will));
    Value::Object(map)
}

/// A whole session.
fn session(one: &Session) -> Value {
    let mut map = head(one);
    map.insert("session".to_owned(), json!(one.session.0));
    let outgoing = one
        .outgoing
        .iter()
        .map(|sent| json!({"packet_id": sent.packet_id, "message": sent.message.map(|id| id.0)}));
    map.insert("outgoing".to_owned(), outgoing.collect());
    map.insert("queue".to_owned(), json!(ids(&one.queue)));
    Value::Object(map)
}

/// What a session is, without its messages.
pub(crate) fn head(one: &Session) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("client_id".to_owned(), json!(one.client_id));
    put(&mut map, "user_name", one.user_name.as_deref());
    map.insert("expiry_seconds".to_owned(), json!(one.expiry_seconds));
    put(&mut map, "detached_at_ms", one.detached_at_ms);
    put(&mut map, "will", one.will.as_ref().map(will));
    map.insert("subscriptions".to_owned(), one.subscriptions.iter().map(subscription).collect());
    if !one.incoming.is_empty() {
        map.insert("incoming".to_owned(), json!(one.incoming));
    }
    map
}

fn subscription(one: &Subscription) -> Value {
    let mut map = Map::new();
    map.insert("filter".to_owned(), json!(one.filter));
    map.insert("options".to_owned(), json!(one.options));
    put(&mut map, "identifier", (one.identifier > 0).then_some(one.identifier));
    Value::Object(map)
}

fn will(one: &Will) -> Value {
    json!({"delay_seconds": one.delay_seconds, "peer": one.peer, "message": message(&one.message)})
}

fn published(one: &Published) -> Value {
    let receivers = one.receivers.iter().map(|receiver| {
        json!({"session": receiver.session.0, "packet_id": receiver.packet_id, "qos": receiver.qos, "retain": receiver.retain})
    });
    let mut map = Map::new();
    map.insert("id".to_owned(), json!(one.id.0));
    map.insert("message".to_owned(), message(&one.message));
    map.insert("receivers".to_owned(), receivers.collect());
    if !one.subscription_ids.is_empty() {
        map.insert("subscription_ids".to_owned(), json!(one.subscription_ids));
    }
    if !one.groups.is_empty() {
        map.insert("groups".to_owned(), json!(one.groups));
    }
    let arrived = one.arrived.map(|(session, packet_id)| packet(session, packet_id));
    put(&mut map, "arrived", arrived);
    Value::Object(map)
}

/// A message.
pub(crate) fn message(one: &Message) -> Value {
    let mut map = Map::new();
    map.insert("topic".to_owned(), json!(one.topic));
    put(&mut map, "publisher", (!one.publisher.is_empty()).then_some(&*one.publisher));
    map.insert("qos".to_owned(), json!(one.qos));
    map.insert("retain".to_owned(), json!(one.retain));
    map.insert("received_at_ms".to_owned(), json!(one.received_at_ms));
    put(&mut map, "expiry_seconds", one.expiry_seconds);
    if !one.properties.is_empty() {
        map.insert("properties_base64".to_owned(), json!(STANDARD.encode(&one.properties)));
    }
    match text(&one.payload) {
        Some(text) => map.insert("payload".to_owned(), json!(text)),
        None => map.insert("payload_base64".to_owned(), json!(STANDARD.encode(&one.payload))),
    };
    Value::Object(map)
}

/// Bytes that can be read on a screen.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.chars().all(|letter| !letter.is_control() || letter == '\n' || letter == '\t').then_some(text)
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), json!(value));
    }
}

/// An object of an export, read field by field. Errors name the field.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    /// The object that a value is.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn of(value: &'a Value) -> Result<Self, String> {
        value.as_object().map(Self).ok_or_else(|| format!("expected an object, found {value}"))
    }

    /// A field that may be missing or null.
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A text that must be there.
    pub(crate) fn text(self, key: &str) -> Result<&'a str, String> {
        self.text_or_none(key)?.ok_or_else(|| format!("{key:?} is missing"))
    }

    /// A text that may be missing.
    pub(crate) fn text_or_none(self, key: &str) -> Result<Option<&'a str>, String> {
        let read = |value: &'a Value| value.as_str().ok_or_else(|| format!("{key:?} is no text: {value}"));
        self.get(key).map(read).transpose()
    }

    /// A number that must be there and fit.
    pub(crate) fn number<T: TryFrom<u64>>(self, key: &str) -> Result<T, String> {
        self.number_or_none(key)?.ok_or_else(|| format!("{key:?} is missing"))
    }

    /// A number that may be missing.
    pub(crate) fn number_or_none<T: TryFrom<u64>>(self, key: &str) -> Result<Option<T>, String> {
        let read = |value: &Value| {
            let number = value.as_u64().and_then(|number| T::try_from(number).ok());
            number.ok_or_else(|| format!("{key:?} is no number that fits: {value}"))
        };
        self.get(key).map(read).transpose()
    }

    /// A switch; off when it is missing.
    pub(crate) fn flag(self, key: &str) -> Result<bool, String> {
        let read = |value: &Value| {
            value.as_bool().ok_or_else(|| format!("{key:?} is neither true nor false: {value}"))
        };
        self.get(key).map_or(Ok(false), read)
    }

    /// A list; empty when it is missing.
    pub(crate) fn list(self, key: &str) -> Result<&'a [Value], String> {
        let read = |value: &'a Value| {
            value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{key:?} is no list: {value}"))
        };
        self.get(key).map_or(Ok(&[]), read)
    }

    /// Bytes, as text or in base64; empty when both are missing.
    fn bytes(self, key: &str) -> Result<Box<[u8]>, String> {
        if let Some(text) = self.text_or_none(key)? {
            return Ok(text.as_bytes().into());
        }
        let key = format!("{key}_base64");
        match self.text_or_none(&key)? {
            Some(text) => STANDARD.decode(text).map(Into::into).map_err(|error| format!("{key:?}: {error}")),
            None => Ok(Box::default()),
        }
    }
}

/// A session of an export, without its messages.
///
/// # Errors
/// What is missing or does not fit.
pub(crate) fn to_head(object: Object<'_>) -> Result<Session, String> {
    let mut subscriptions = Vec::new();
    for one in object.list("subscriptions")? {
        let one = Object::of(one)?;
        subscriptions.push(Subscription {
            filter: one.text("filter")?.into(),
            options: one.number("options")?,
            identifier: one.number_or_none("identifier")?.unwrap_or(0),
        });
    }
    subscriptions.sort_by(|one, other| one.filter.cmp(&other.filter));
    let mut incoming = Vec::new();
    for one in object.list("incoming")? {
        let packet_id = one.as_u64().and_then(|number| u16::try_from(number).ok());
        incoming
            .push(packet_id.ok_or_else(|| format!("\"incoming\" has {one}, which is no packet identifier"))?);
    }
    Ok(Session {
        client_id: object.text("client_id")?.into(),
        user_name: object.text_or_none("user_name")?.map(Into::into),
        expiry_seconds: object.number("expiry_seconds")?,
        detached_at_ms: object.number_or_none("detached_at_ms")?,
        will: object.get("will").map(to_will).transpose()?,
        subscriptions,
        incoming,
        ..Session::default()
    })
}

fn to_will(value: &Value) -> Result<Will, String> {
    let object = Object::of(value)?;
    let message = object.get("message").ok_or_else(|| "\"message\" of a will is missing".to_owned())?;
    Ok(Will {
        message: to_message(Object::of(message)?)?,
        delay_seconds: object.number("delay_seconds")?,
        peer: object.text("peer")?.into(),
    })
}

/// A message of an export.
///
/// # Errors
/// What is missing or does not fit.
pub(crate) fn to_message(object: Object<'_>) -> Result<Message, String> {
    Ok(Message {
        topic: object.text("topic")?.into(),
        publisher: object.text_or_none("publisher")?.unwrap_or_default().into(),
        properties: object.bytes("properties")?,
        payload: object.bytes("payload")?,
        received_at_ms: object.number("received_at_ms")?,
        expiry_seconds: object.number_or_none("expiry_seconds")?,
        qos: object.number("qos")?,
        retain: object.flag("retain")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_message(payload: &[u8]) -> Message {
        Message {
            topic: "a/ü".into(),
            publisher: "p".into(),
            properties: Box::from(&b"\x01\x01"[..]),
            payload: payload.into(),
            received_at_ms: 1_700_000_000_000,
            expiry_seconds: Some(60),
            qos: 2,
            retain: true,
        }
    }

    #[test]
    fn messages_come_back_as_they_were() {
        for payload in [&b""[..], b"plain", b"line\nline", b"\0\xFF", "grüße".as_bytes(), b"bell\x07"] {
            let before = a_message(payload);
            let value = message(&before);
            let text = value.to_string();
            let back: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(to_message(Object::of(&back).unwrap()), Ok(before), "{text}");
        }
        let bare = Message { topic: "t".into(), ..Message::default() };
        assert_eq!(to_message(Object::of(&message(&bare)).unwrap()), Ok(bare));
    }

    #[test]
    fn sessions_come_back_as_they_were() {
        let before = Session {
            client_id: "c".into(),
            user_name: Some("u".into()),
            expiry_seconds: u32::MAX,
            detached_at_ms: Some(7),
            will: Some(Will { message: a_message(b"gone"), delay_seconds: 3, peer: "[::1]:1".into() }),
            subscriptions: vec![Subscription { filter: "$share/g/a/#".into(), options: 0x2A, identifier: 9 }],
            incoming: vec![1, 65_535],
            ..Session::default()
        };
        let value = Value::Object(head(&before));
        assert_eq!(to_head(Object::of(&value).unwrap()), Ok(before));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (json!({"qos": 1}), "\"topic\" is missing"),
            (json!({"topic": "t", "qos": 300, "received_at_ms": 1}), "\"qos\" is no number that fits: 300"),
            (json!({"topic": 5}), "\"topic\" is no text: 5"),
            (json!({"topic": "t", "payload_base64": "!"}), "\"payload_base64\": "),
        ];
        for (value, wanted) in cases {
            let error = to_message(Object::of(&value).unwrap()).unwrap_err();
            assert!(error.starts_with(wanted), "{value}: {error}");
        }
        assert!(Object::of(&json!([1])).is_err());
    }

    #[test]
    fn every_record_has_a_kind() {
        let value = record(&Record::Done { session: SessionNo(3), messages: vec![MessageId(4)] });
        assert_eq!(value, json!({"kind": "done", "record": {"session": 3, "messages": [4]}}));
        let value = record(&Record::Retained(Box::new(a_message(b"x"))));
        assert_eq!(value["kind"], "retained");
        assert_eq!(value["record"]["payload"], "x");
    }
}

//! Every data directory that a released version has written must load for ever.
//!
//! `formats/v1/` is one that format 1 has written, file by file, with what it must come to in `expected.txt`. A second test writes
//! the same directory again and compares the bytes: a change of the format is a new version beside the old one, never a change of
//! what an old version means.
//!
//! `DUNLIN_BLESS=1 cargo test -p dunlin-persist --test formats` writes the folder of the newest format. That is right only before
//! the first release that has it.
#![expect(clippy::disallowed_methods, reason = "golden data lies in files")]
#![expect(clippy::unwrap_used, reason = "a test that cannot read its files fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunlin_persist::fault::{Crash, FaultDisk};
use dunlin_persist::record::{Attached, Message, Outgoing, Published, Receiver, Session, Subscription, Will};
use dunlin_persist::{MessageId, Opened, Options, Record, SessionNo, Store, Told, open};

/// The folder of the format that this version writes.
const NEWEST: &str = "v1";

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(version)
}

fn home(name: &str, shard_count: u16) -> u16 {
    u16::try_from(name.len()).unwrap() % shard_count
}

fn options(shard_count: u16) -> Options {
    Options { now_ms: 2_000_000_000_000, segment_bytes: 8 << 10, ..Options::new(shard_count, home, home) }
}

fn message(topic: &str, payload: &[u8]) -> Message {
    Message {
        topic: topic.into(),
        publisher: "publisher-ü".into(),
        properties: Box::from(&b"\x01\x01\x03\x00\x04text"[..]),
        payload: payload.into(),
        received_at_ms: 1_763_800_000_123,
        expiry_seconds: Some(4_000_000_000),
        qos: 2,
        retain: true,
    }
}

fn will() -> Will {
    Will {
        message: message("will/topic", b"last words"),
        delay_seconds: 30,
        peer: "[2001:db8::1]:50123".into(),
    }
}

fn subscription(filter: &str, options: u8, identifier: u32) -> Subscription {
    Subscription { filter: filter.into(), options, identifier }
}

fn attached(session: SessionNo, client_id: &str, full: bool) -> Record {
    Record::Attached(Box::new(Attached {
        session,
        client_id: client_id.into(),
        user_name: full.then(|| "user".into()),
        expiry_seconds: u32::MAX,
        will: full.then(will),
    }))
}

fn published(id: u64, message: Message, receivers: &[(SessionNo, u16, u8)], full: bool) -> Record {
    let receiver = |(session, packet_id, qos): &(SessionNo, u16, u8)| Receiver {
        session: *session,
        packet_id: *packet_id,
        qos: *qos,
        retain: full,
    };
    Record::Published(Box::new(Published {
        id: MessageId(id),
        message,
        receivers: receivers.iter().map(receiver).collect(),
        subscription_ids: if full { vec![(0, 1), (0, 268_435_455), (1, 7)] } else { Vec::new() },
        groups: if full { vec![(1, "$share/group/a/#".into())] } else { Vec::new() },
        arrived: full.then(|| (receivers[0].0, 65_535)),
    }))
}

/// Every kind of record, with every optional part there and not there. `first` is the shard's first session number.
fn story(shard: u16, first: SessionNo) -> Vec<Record> {
    let session = |n: u64| SessionNo(first.0 + n);
    // Names whose length puts them into this shard of two.
    let name = |text: &str| format!("{text}{}", if text.len() % 2 == usize::from(shard) { "" } else { "-" });
    let (a, b, c, d, e) = (session(0), session(1), session(2), session(3), session(4));
    let bare = Message { topic: "t".into(), qos: 1, ..Message::default() };
    vec![
        attached(a, &name("client-a"), true),
        attached(b, &name("client-b"), false),
        attached(c, &name("client-c"), true),
        attached(d, &name("client-d"), false),
        Record::Subscribed { session: a, subscription: subscription("a/+/#", 0x2E, 268_435_455) },
        Record::Subscribed { session: a, subscription: subscription("$share/group/a/#", 1, 0) },
        Record::Subscribed { session: b, subscription: subscription("gone", 2, 0) },
        Record::Unsubscribed { session: b, filter: "gone".into() },
        published(1, message("a/b/c", b"payload \x00\xFF"), &[(a, 0, 2), (b, 9, 1)], true),
        published(2, bare.clone(), &[(a, 0, 1)], false),
        published(3, message("a/long", &[0xA5; 700]), &[(a, 0, 1), (b, 0, 1), (d, 0, 2), (e, 0, 2)], false),
        published(4, bare, &[(a, 0, 2), (b, 0, 2), (e, 0, 1)], false),
        Record::Sent {
            session: a,
            messages: vec![(MessageId(1), 1), (MessageId(2), 2), (MessageId(4), 65_535)],
        },
        Record::Received { session: a, message: MessageId(1), packet_id: 1 },
        Record::Done { session: a, messages: vec![MessageId(2)] },
        Record::Sent { session: d, messages: vec![(MessageId(3), 77)] },
        Record::Received { session: d, message: MessageId(3), packet_id: 77 },
        Record::Completed { session: d, packet_id: 77 },
        Record::Arrived { session: b, packet_id: 10 },
        Record::Arrived { session: b, packet_id: 11 },
        Record::Released { session: b, packet_id: 10 },
        Record::Retained(Box::new(message(&name("kept"), b"retained"))),
        Record::Retained(Box::new(message(&name("cleared"), b"retained"))),
        Record::RetainedCleared { topic: name("cleared").into() },
        Record::WillGone { session: a },
        Record::Detached {
            session: a,
            at_ms: 1_999_999_000_000,
            expiry_seconds: 7_000_000,
            keeps_will: false,
        },
        Record::Detached { session: c, at_ms: 1_999_999_000_001, expiry_seconds: u32::MAX, keeps_will: true },
        Record::SessionEnded { session: d },
        Record::Session(Box::new(Session {
            session: e,
            client_id: name("client-e").into(),
            user_name: Some("user".into()),
            expiry_seconds: u32::MAX,
            detached_at_ms: Some(1_999_999_000_002),
            will: Some(will()),
            subscriptions: vec![subscription("$exclusive/x", 1, 3)],
            incoming: vec![1, 2, 65_535],
            outgoing: vec![
                Outgoing { packet_id: 5, message: None },
                Outgoing { packet_id: 6, message: Some(MessageId(3)) },
            ],
            queue: vec![MessageId(4)],
        })),
    ]
}

/// Lets the disk do everything, and takes what is told.
fn settle(store: &mut Store, told: &mut Vec<Told>) {
    store.commit();
    while store.disk_step() {
        store.poll(told);
        store.commit();
    }
    store.poll(told);
}

/// The directory that this version writes.
fn written() -> FaultDisk {
    let disk = FaultDisk::new(0x00DD_1234);
    let opened = open(Arc::new(disk.clone()), &options(2), &mut |_| {}).unwrap();
    for ((shard, mut store), recovered) in (0..).zip(opened.stores).zip(opened.recovered) {
        for (seq, record) in (1..).zip(story(shard, recovered.next_session)) {
            store.append(seq, &record).unwrap();
            settle(&mut store, &mut Vec::new());
        }
    }
    disk.crash(Crash::PowerCut)
}

/// What a directory comes to, in words.
fn told(disk: &FaultDisk) -> String {
    let Opened { stores, recovered, report, .. } =
        open(Arc::new(disk.clone()), &options(2), &mut |_| {}).unwrap();
    let mut text = String::new();
    assert_eq!((&report.torn[..], &report.damaged[..]), (&[][..], &[][..]));
    for (mut store, recovered) in stores.into_iter().zip(recovered) {
        writeln!(text, "next {:?} {:?}", recovered.next_session, recovered.next_message).unwrap();
        for session in recovered.sessions {
            writeln!(text, "{session:?}").unwrap();
            let mut ids: Vec<MessageId> = session.outgoing.iter().filter_map(|sent| sent.message).collect();
            ids.extend(&session.queue);
            let mut told = Vec::new();
            store.fetch(session.session, &ids);
            settle(&mut store, &mut told);
            told.retain(|one| matches!(one, Told::Fetched { .. }));
            writeln!(text, "{told:?}").unwrap();
        }
        writeln!(text, "retained {:?}", recovered.retained).unwrap();
    }
    text
}

fn read_all(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

fn bless(disk: &FaultDisk) {
    let root = folder(NEWEST);
    drop(fs::remove_dir_all(&root));
    for (path, bytes) in disk.files() {
        let path = root.join("data").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(root.join("expected.txt"), told(disk)).unwrap();
}

fn is_blessing() -> bool {
    std::env::var("DUNLIN_BLESS").is_ok_and(|value| value == "1")
}

#[test]
fn the_directories_of_all_formats_load() {
    if is_blessing() {
        bless(&written());
    }
    let mut versions = 0;
    for entry in fs::read_dir(folder("")).unwrap() {
        let root = entry.unwrap().path();
        let disk = FaultDisk::new(1);
        for (path, bytes) in read_all(&root.join("data")) {
            disk.put(&path, &bytes);
        }
        let expected = fs::read_to_string(root.join("expected.txt")).unwrap();
        let found = told(&disk);
        assert!(
            found == expected,
            "{}: loads as something else:\n{}",
            root.display(),
            first_difference(&expected, &found)
        );
        // What this version makes of it loads as well.
        assert!(
            told(&disk.crash(Crash::PowerCut)) == expected,
            "{}: the second boot differs",
            root.display()
        );
        versions += 1;
    }
    assert!(versions >= 1);
}

#[test]
fn this_version_still_writes_its_format() {
    if is_blessing() {
        return;
    }
    let golden = read_all(&folder(NEWEST).join("data"));
    let now: BTreeMap<String, Vec<u8>> = written().files().into_iter().collect();
    assert_eq!(now.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    for (path, bytes) in &now {
        let wanted = &golden[path];
        let at = bytes.iter().zip(wanted).position(|(one, other)| one != other);
        assert!(
            bytes == wanted,
            "{path} differs at byte {at:?}: the format has changed; that is a new version with a folder of its own"
        );
    }
}

fn first_difference(wanted: &str, found: &str) -> String {
    let pair = wanted.lines().zip(found.lines()).enumerate().find(|(_, (one, other))| one != other);
    pair.map_or_else(
        || format!("{} lines and {}", wanted.lines().count(), found.lines().count()),
        |(line, (one, other))| format!("line {}:\n  wanted {one}\n  found  {other}", line + 1),
    )
}

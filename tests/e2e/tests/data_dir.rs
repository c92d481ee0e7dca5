//! The data directory as operators meet it: in use, not writable, full, torn, damaged, from another version.

use dunlin_e2e::folder::{Folder, change, files, find, read, write};
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::Connect;
use dunlin_wire::{QoS, ReasonCode, Version};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = login(Version::V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(600);
    connect
}

fn leave_session(broker: &Broker, client_id: &str, filter: &str) {
    let (mut client, _) = Client::connect_with(broker, lasting(client_id));
    client.subscribe(filter, QoS::AtLeastOnce);
    client.goodbye();
}

#[test]
fn files_are_for_their_owner_only() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let broker = Start::new().data_dir(&data).start();
    leave_session(&broker, "client", "t");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files = files(&data);
    assert!(!files.is_empty());
    // The index's library makes its files as it likes, in a folder that nobody else may enter.
    assert_eq!(mode(&data.join("index")), 0o700);
    for file in files.iter().filter(|file| !file.starts_with(data.join("index"))) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let mut broker = Start::new().data_dir(&data).start();
    let ended = Start::new().data_dir(&data).fail();
    assert_eq!(ended.status.code(), Some(1));
    for part in [&*data.to_string_lossy(), "in use", "--data-dir", "--memory-only"] {
        assert!(ended.err.contains(part), "{part} is not in: {}", ended.err);
    }
    assert!(!ended.out.contains("ready"));
    broker.assert_alive();
    Client::connect(&broker, Version::V5, "c").goodbye();
    // With what the message says it works; and when the first has gone, the second may have it.
    drop(Start::new().data_dir(&data).argument("--memory-only").start());
    broker.kill();
    drop(Start::new().data_dir(&data).start());
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_what_to_do() {
    let folder = Folder::new();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    let as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let ended = Start::new().under(&as_nobody).data_dir(&locked.join("data")).fail();
    for part in [&*locked.to_string_lossy(), "Permission denied", "--data-dir", "--memory-only"] {
        assert!(ended.err.contains(part), "{part} is not in: {}", ended.err);
    }
    let file = folder.write("file", "not a folder");
    let ended = Start::new().data_dir(&file.join("data")).fail();
    for part in [&*file.to_string_lossy(), "not a directory", "--data-dir"] {
        assert!(ended.err.contains(part), "{part} is not in: {}", ended.err);
    }
}

/// Starts the broker in a mount namespace of its own, in which `data` is a file system of this size.
fn on_small_disk(data: &Path, megabytes: u32, config: &str) -> Broker {
    let script =
        format!("mount -t tmpfs -o size={megabytes}m,mode=700 none '{}' && exec \"$@\"", data.display());
    std::fs::create_dir_all(data).expect("a folder to mount on");
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    Start::new().under(&unshare).data_dir(data).config(config).start()
}

#[test]
fn a_full_disk_refuses_publishers_and_takes_them_again_when_there_is_room() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let config = "[storage]\nsegment_size = \"4MB\"\n[mqtt]\nmax_mqueue_len = \"infinity\"\nmax_mqueue_bytes = \"infinity\"\n";
    let mut broker = on_small_disk(&data, 48, config);
    leave_session(&broker, "away", "t");
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    let payload = [b'x'; 8 << 10];
    let refused = (0..=(48 << 20) / payload.len()).find_map(|number| {
        let code = publisher.publish("t", &payload, QoS::AtLeastOnce);
        (code != ReasonCode::Success).then_some((number, code))
    });
    let (taken, code) = refused.expect("a disk that is full at last");
    assert_eq!(code, ReasonCode::QuotaExceeded);
    assert!(taken > 1_000, "only {taken} messages of 8 KiB fit on 48 MB");
    let line = broker.program().line("line about the full log", |line| line.contains("the log is full"));
    assert!(line.contains("0x97") && line.contains("storage.max_size"), "{line}");

    // Nothing else suffers: QoS 0 goes on, so do sessions without an expiry, and a new durable one is told.
    let mut other = Client::connect(&broker, Version::V5, "other");
    other.subscribe("live", QoS::AtLeastOnce);
    publisher.publish("live", b"0", QoS::AtMostOnce);
    assert_eq!(other.message().publish().payload, b"0");
    let (_client, answer) = Client::try_connect(&broker, lasting("late"));
    assert_eq!(answer.connack().code, ReasonCode::QuotaExceeded);

    // A killed broker starts on the full disk and knows all that it had acknowledged; then the client takes it away.
    let (mut away, answer) = Client::connect_with(&broker, lasting("away"));
    assert!(answer.connack().session_present);
    for number in 0..taken {
        assert_eq!(away.message().publish().payload, payload, "message {number} of {taken}");
    }
    away.expect_quiet();
    broker.program().line("line about room", |line| line.contains("the log has room again"));
    assert_eq!(publisher.publish("t", b"again", QoS::AtLeastOnce), ReasonCode::Success);
    assert_eq!(away.message().publish().payload, b"again");
    let (_client, _) = Client::connect_with(&broker, lasting("late"));
}

#[test]
fn a_full_disk_takes_messages_again_when_somebody_makes_room() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let config = "[storage]\nsegment_size = \"4MB\"\n[mqtt]\nmax_mqueue_len = \"infinity\"\nmax_mqueue_bytes = \"infinity\"\n";
    let mut broker = on_small_disk(&data, 96, config);
    // Somebody else's file on the same disk, seen through the broker's own view of it.
    let ballast = PathBuf::from(format!("/proc/{}/root{}/ballast", broker.program().id(), data.display()));
    write(&ballast, &vec![0; 56 << 20]);
    leave_session(&broker, "away", "t");
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    let payload = [b'x'; 8 << 10];
    let taken = (0..12_000)
        .find(|_| publisher.publish("t", &payload, QoS::AtLeastOnce) != ReasonCode::Success)
        .expect("a full disk");
    broker.program().line("line about the full log", |line| line.contains("the log is full"));
    std::fs::remove_file(&ballast).unwrap();
    broker.program().line("line about room", |line| line.contains("the log has room again"));
    assert_eq!(publisher.publish("t", b"last", QoS::AtLeastOnce), ReasonCode::Success);
    let (mut away, _) = Client::connect_with(&broker, lasting("away"));
    for _ in 0..taken {
        assert_eq!(away.message().publish().payload, payload);
    }
    assert_eq!(away.message().publish().payload, b"last");
}

/// The Castagnoli checksum, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}

/// Stores twenty messages for one session, and kills the broker.
fn store_twenty(data: &Path) {
    let broker = Start::new().data_dir(data).start();
    leave_session(&broker, "away", "t");
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    for number in 0..20 {
        let payload = format!("payload-{number:02}-end");
        assert_eq!(publisher.publish("t", payload.as_bytes(), QoS::AtLeastOnce), ReasonCode::Success);
    }
    broker.kill();
}

/// The numbers of the messages that the session gets.
fn fetch(broker: &Broker) -> Vec<u32> {
    let (mut away, answer) = Client::connect_with(broker, lasting("away"));
    assert!(answer.connack().session_present);
    let mut publisher = Client::connect(broker, Version::V5, "pub");
    publisher.publish("t", b"payload-99-end", QoS::AtLeastOnce);
    let mut got = Vec::new();
    while got.last() != Some(&99) {
        let message = away.message();
        let text = std::str::from_utf8(message.publish().payload).expect("text");
        got.push(text["payload-".len()..][..2].parse().expect("a number"));
    }
    got
}

fn but(left_out: Option<u32>) -> Vec<u32> {
    (0..20).chain([99]).filter(|number| Some(*number) != left_out).collect()
}

#[test]
fn a_torn_end_is_cut_and_told_and_nothing_acknowledged_is_lost() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    store_twenty(&data);
    // One more, of whose last write a part never came to the disk, as if the power had failed before its acknowledgement.
    let broker = Start::new().data_dir(&data).start();
    Client::connect(&broker, Version::V5, "pub").publish("t", b"payload-20-end", QoS::AtLeastOnce);
    broker.kill();
    let (path, at) = find(&data, b"payload-20-end");
    change(&path, |bytes| bytes[at + 4..at + 14].fill(0));
    let mut broker = Start::new().data_dir(&data).start();
    let text = broker.program().text();
    assert!(text.contains("1 unfinished end of a log was cut: nothing in it is known"), "{text}");
    assert!(text.contains(&*path.file_name().unwrap().to_string_lossy()), "the log names the file: {text}");
    assert_eq!(fetch(&broker), but(None));
    broker.kill();
    let mut broker = Start::new().data_dir(&data).start();
    assert!(!broker.program().text().contains("unfinished"), "it was cut for good");
}

#[test]
fn damage_in_the_middle_is_told_and_the_rest_is_kept() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    store_twenty(&data);
    let (path, at) = find(&data, b"payload-07-end");
    change(&path, |bytes| bytes[at] ^= 1);
    let mut broker = Start::new().data_dir(&data).start();
    let text = broker.program().text();
    assert!(text.contains("DAMAGED: 1 place of the log cannot be read, 1 record lost"), "{text}");
    let line = text.lines().find(|line| line.contains("damaged log")).expect("a line in the log");
    assert!(line.contains(&*path.file_name().unwrap().to_string_lossy()), "{line}");
    assert_eq!(fetch(&broker), but(Some(7)));
}

#[test]
fn a_directory_of_an_unknown_version_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    store_twenty(&data);
    // The version, and the checksum over it.
    let stamp = |version: u32| {
        change(&data.join("manifest"), |bytes| {
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
            bytes[12..16].fill(0);
            let sum = crc32c(bytes);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        });
    };
    stamp(99);
    let contents = || -> Vec<Vec<u8>> {
        let mut files = files(&data);
        files.retain(|path| !path.ends_with("lock"));
        files.iter().map(|path| read(path)).collect()
    };
    let before = contents();
    let ended = Start::new().data_dir(&data).fail();
    assert_eq!(ended.status.code(), Some(1));
    for part in [&*data.to_string_lossy(), "manifest", "version 99", "newer version"] {
        assert!(ended.err.contains(part), "{part} is not in: {}", ended.err);
    }
    assert!(before == contents(), "something was changed");
    stamp(1);
    assert_eq!(fetch(&Start::new().data_dir(&data).start()), but(None));
}

#[test]
fn a_reload_says_that_the_directory_changes_at_the_next_start() {
    let mut broker = Start::new().config("").start();
    let _written = broker.folder().write("dunlin.toml", "[durability]\nlevel = \"interval\"\n");
    broker.signal("HUP");
    let line = broker.program().line("line about the level", |line| line.contains("durability.level"));
    assert!(line.contains("setting changes at the next start") && line.contains("interval"), "{line}");
}

#[test]
fn the_numbers_of_the_log_are_told() {
    let mut broker = Start::new().config("[sys_topics]\nsys_msg_interval = \"1s\"\n").start();
    let mut watcher = Client::connect(&broker, Version::V5, "watcher");
    leave_session(&broker, "away", "t");
    Client::connect(&broker, Version::V5, "pub").publish("t", b"x", QoS::AtLeastOnce);
    watcher.subscribe("$SYS/brokers/+/metrics/store/#", QoS::AtMostOnce);
    let syncs = |watcher: &mut Client, name: &str| loop {
        let message = watcher.message();
        if message.publish().topic.ends_with(name) {
            break std::str::from_utf8(message.publish().payload).unwrap().parse::<u64>().unwrap();
        }
    };
    assert!(syncs(&mut watcher, "/store/syncs") > 0);
    assert!(syncs(&mut watcher, "/store/appended_bytes") > 0);
    assert!(syncs(&mut watcher, "/store/sync_us/p99") > 0);
    broker.signal("USR1");
    let line = broker.program().line("dump of the log's numbers", |line| line.contains(" store "));
    assert!(line.contains("store.syncs=") && line.contains("store.disk_bytes.count="), "{line}");
}

/// The numbers of the messages that wait for the session; `None` if there is no session.
fn all_that_waits(broker: &Broker) -> Option<Vec<u32>> {
    let (mut away, answer) = Client::connect_with(broker, lasting("away"));
    if !answer.connack().session_present {
        return None;
    }
    // What waits comes before the answer to a message of its own.
    away.subscribe("end", QoS::AtLeastOnce);
    let mut publisher = Client::connect(broker, Version::V5, "pub");
    publisher.publish("end", b"payload-99-end", QoS::AtLeastOnce);
    let mut got = Vec::new();
    loop {
        let message = away.message();
        let text = std::str::from_utf8(message.publish().payload).expect("text");
        match text["payload-".len()..][..2].parse().expect("a number") {
            99 => break,
            number => got.push(number),
        }
    }
    away.goodbye();
    assert!(got.is_sorted() && got.iter().all(|number| *number < 20), "{got:?}");
    Some(got)
}

/// How a file is spoiled, in words and in deed.
type Spoiling = (&'static str, fn(&mut Vec<u8>));

const SPOILINGS: [Spoiling; 5] = [
    ("its first byte flipped", |bytes| bytes[0] ^= 0x55),
    ("a byte of its head flipped", |bytes| bytes[20] ^= 0x55),
    ("the middle of what is written flipped", |bytes| {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[used / 2] ^= 0x55;
    }),
    ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("emptied", Vec::clear),
];

/// Each kind of file: manifest and copy, segments, the index. The program starts and says what is wrong, or refuses and names
/// what; it never panics, hands out nothing that was never sent, and what it took over is there at the next start.
#[test]
fn whatever_file_is_spoiled_the_program_starts_or_says_why_not() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    store_twenty(&data);
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files(&data).into_iter().map(|path| (path.clone(), read(&path))).collect();
    let (mut started, mut hurt) = (0, 0);
    for (path, bytes) in whole.iter().filter(|(_, bytes)| bytes.len() > 20) {
        for (how, spoil) in SPOILINGS {
            let what = format!("{}: {how}", path.display());
            std::fs::remove_dir_all(&data).unwrap();
            for (path, bytes) in &whole {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                write(path, bytes);
            }
            let mut spoiled = bytes.clone();
            spoil(&mut spoiled);
            write(path, &spoiled);
            let mut broker = match Start::new().data_dir(&data).try_start() {
                Ok(broker) => broker,
                Err(ended) => {
                    assert_eq!(ended.status.code(), Some(1), "{what}: {}", ended.err);
                    let name = path.file_name().unwrap().to_string_lossy();
                    let text = &ended.err;
                    assert!(text.contains("dunlin: ") && text.contains(&*name), "{what}: {text}");
                    continue;
                }
            };
            started += 1;
            let got = all_that_waits(&broker);
            let text = broker.program().text();
            assert!(!text.contains("panicked"), "{what}: {text}");
            if got != Some((0..20).collect()) {
                hurt += 1;
                // Of a log whose only segment is empty nothing can tell that it was not new, unless the index had got that far.
                let is_told = text.contains("DAMAGED") || text.contains("was cut") || how == "emptied";
                assert!(is_told, "{what}: {got:?} without a word: {text}");
            }
            broker.kill();
            let broker = Start::new().data_dir(&data).start();
            let again = all_that_waits(&broker);
            assert!(again.as_ref().is_none_or(Vec::is_empty), "{what}: taken and here again: {again:?}");
        }
    }
    assert!(started > 20 && hurt > 0, "{started} started, {hurt} of them with losses");
}

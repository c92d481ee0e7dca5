//! Recovery: whatever bytes stand in a data directory, it opens or says why not, and what it then takes it keeps.

use std::sync::Arc;
use std::sync::OnceLock;

use dunlin_persist::fault::{Crash, FaultDisk};
use dunlin_persist::record::{Attached, Message, Published, Receiver, Session, Subscription};
use dunlin_persist::{MessageId, Opened, Options, Record, SessionNo, StoreState, open};

/// The input is a list of changes to the files of a data directory that two shards have written: bytes that are overwritten,
/// turned over, copied, cut, and checksums that are made right again, so that what is behind them is reached.
///
/// # Panics
/// If a boot panics, or a second boot differs from the first, or what is said afterwards is not found.
pub fn log_recover(data: &[u8]) {
    let disk = FaultDisk::new(1);
    for (path, bytes) in changed(data) {
        disk.put(&path, &bytes);
    }
    let Some((sessions, _)) = boot(&disk, &[]) else { return };
    let after = disk.crash(Crash::PowerCut);
    let more = Record::Attached(Box::new(attached(next_session(&after), "fuzzed")));
    let (again, stored) = boot(&after, &[more]).expect("what opened once opens again");
    assert_eq!(again, sessions, "the second boot finds what the first did");
    if stored {
        let (last, _) = boot(&after.crash(Crash::PowerCut), &[]).expect("and again");
        assert!(last.iter().any(|session| &*session.client_id == "fuzzed"), "what was stored is found");
    }
}

fn options() -> Options {
    let home = |name: &str, shards: u16| name.len() as u16 % shards;
    Options { now_ms: 1 << 40, segment_bytes: 8 << 10, ..Options::new(2, home, home) }
}

/// Opens the directory, lets the first shard say these records; returns the sessions that were found, and whether the records
/// were told to be stored.
fn boot(disk: &FaultDisk, records: &[Record]) -> Option<(Vec<Session>, bool)> {
    let Opened { stores, recovered, .. } = open(Arc::new(disk.clone()), &options(), &mut |_| {}).ok()?;
    let sessions: Vec<Session> = recovered.into_iter().flat_map(|one| one.sessions).map(|one| *one).collect();
    let mut stores = stores.into_iter();
    let mut store = stores.next().expect("two shards");
    for (seq, record) in (1..).zip(records) {
        if store.state() != StoreState::Open || store.append(seq, record).is_err() {
            return Some((sessions, false));
        }
    }
    store.commit();
    while store.disk_step() {
        store.poll(&mut Vec::new());
        store.commit();
    }
    store.poll(&mut Vec::new());
    let wanted = records.len() as u64;
    Some((sessions, wanted > 0 && store.stored_seq() == wanted))
}

fn next_session(disk: &FaultDisk) -> SessionNo {
    let copy = disk.crash(Crash::Killed);
    let opened = open(Arc::new(copy), &options(), &mut |_| {}).expect("it opened before");
    opened.recovered[0].next_session
}

fn attached(session: SessionNo, client_id: &str) -> Attached {
    Attached { session, client_id: client_id.into(), user_name: None, expiry_seconds: u32::MAX, will: None }
}

/// The files of a sound directory, changed as the input says.
fn changed(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = template().clone();
    let key = key_of(&files);
    let mut from = data.iter().copied();
    let mut next = || from.next();
    while let (Some(what), Some(file), Some(high), Some(low), Some(value)) =
        (next(), next(), next(), next(), next())
    {
        let count = files.len();
        let (path, bytes) = &mut files[usize::from(file) % count];
        if bytes.is_empty() {
            continue;
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = usize::from(u16::from_be_bytes([high, low])) % used;
        match what % 6 {
            0 => bytes[at] = value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + usize::from(value)).min(bytes.len());
                bytes[at..end].fill(0);
            }
            4 => {
                // What stands here stands there too.
                let to = usize::from(value) * 32 % bytes.len();
                let count = (bytes.len() - at.max(to)).min(256);
                bytes.copy_within(at..at + count, to);
            }
            _ => mend(path, bytes, key, at),
        }
    }
    files
}

/// The two shards' files, with all kinds of records; made once.
fn template() -> &'static Vec<(String, Vec<u8>)> {
    static TEMPLATE: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let disk = FaultDisk::new(3);
        let opened = open(Arc::new(disk.clone()), &options(), &mut |_| {}).expect("an empty disk opens");
        for (mut store, recovered) in opened.stores.into_iter().zip(opened.recovered) {
            for (seq, record) in (1..).zip(story(recovered.next_session)) {
                store.append(seq, &record).expect("it is open");
                store.commit();
                while store.disk_step() {
                    store.poll(&mut Vec::new());
                }
            }
        }
        disk.crash(Crash::PowerCut).files()
    })
}

fn story(session: SessionNo) -> Vec<Record> {
    let mut records = vec![
        Record::Attached(Box::new(attached(session, "client"))),
        Record::Subscribed {
            session,
            subscription: Subscription { filter: "a/#".into(), options: 1, identifier: 3 },
        },
    ];
    for id in 1..12 {
        let message =
            Message { topic: "a/b".into(), payload: vec![id as u8; 40].into(), ..Message::default() };
        let packet_id = if id < 4 { id as u16 } else { 0 };
        records.push(Record::Published(Box::new(Published {
            id: MessageId(id),
            message,
            receivers: vec![Receiver { session, packet_id, qos: 2, retain: false }],
            subscription_ids: vec![(0, 3)],
            groups: vec![(0, "$share/g/a/#".into())],
            arrived: Some((session, id as u16)),
        })));
    }
    records.extend([
        Record::Sent { session, messages: vec![(MessageId(4), 9)] },
        Record::Done { session, messages: vec![MessageId(1), MessageId(5)] },
        Record::Received { session, message: MessageId(2), packet_id: 2 },
        Record::Released { session, packet_id: 1 },
        Record::Retained(Box::new(Message { topic: "r".into(), ..Message::default() })),
        Record::Detached { session, at_ms: 5, expiry_seconds: u32::MAX, keeps_will: false },
        Record::Session(Box::new(Session {
            session,
            client_id: "client".into(),
            expiry_seconds: 9,
            ..Session::default()
        })),
        Record::SessionEnded { session: SessionNo(session.0 + 1) },
    ]);
    records
}

/// The logs' key, as the manifest says it.
fn key_of(files: &[(String, Vec<u8>)]) -> u64 {
    let (_, manifest) = files.iter().find(|(path, _)| path == "manifest").expect("a manifest");
    u64::from_le_bytes(manifest[24..32].try_into().expect("eight bytes"))
}

/// Makes the checksum of the frame right that begins at or before `at`: changed fields and records then pass for written ones.
/// Follows the drawing in the README of `persist`, not its code.
fn mend(path: &str, bytes: &mut [u8], key: u64, at: usize) {
    let Some((folder, name)) = path.rsplit_once('/') else { return };
    let shard = folder.rsplit_once("shard-").and_then(|(_, number)| number.parse::<u16>().ok());
    let segment = name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok());
    let (Some(shard), Some(segment)) = (shard, segment) else { return };
    let seed =
        crc32c::crc32c(&[&key.to_le_bytes()[..], &shard.to_le_bytes(), &segment.to_le_bytes()].concat());
    if bytes.len() < 64 || bytes[..8] == [0; 8] {
        // Made ready and never used: there is nothing to make right.
        return;
    }
    if at < 64 {
        seal(&mut bytes[..64], 12, seed);
        return;
    }
    let mut offset = 64;
    while offset + 32 <= bytes.len() {
        let body = u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes")) as usize;
        let end = offset.saturating_add(32).saturating_add(body);
        if body == 0 || end > bytes.len() {
            return;
        }
        if at < end {
            seal(&mut bytes[offset..end], 4, seed);
            return;
        }
        offset = end.next_multiple_of(8);
    }
}

fn seal(frame: &mut [u8], sum_at: usize, seed: u32) {
    frame[sum_at..sum_at + 4].fill(0);
    let sum = crc32c::crc32c_append(seed, frame);
    frame[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_changed_opens_and_a_mended_one_too() {
        let disk = FaultDisk::new(1);
        for (path, bytes) in template() {
            disk.put(path, bytes);
        }
        assert_eq!(boot(&disk, &[]).expect("it opens").0.len(), 2);
        // Mending what is whole changes nothing.
        let mut files = template().clone();
        let key = key_of(&files);
        for (path, bytes) in &mut files {
            for at in [0, 64, 100, 300] {
                mend(path, bytes, key, at);
            }
        }
        assert!(&files == template());
    }
}

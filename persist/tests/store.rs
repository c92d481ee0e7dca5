//! A store from outside: append, commit, fetch, roll, clean, run full, fail, and open again.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod stand;

use std::collections::BTreeMap;

use dunlin_persist::fault::{Crash, FaultDisk, Faults, SyncFault};
use dunlin_persist::record::Session;
use dunlin_persist::{Disk, FetchedMessage, MessageId, OpenError, Record, SessionNo, StoreState};
use stand::{SEGMENT_BYTES, Stand, attached, done, message, open_all, options, published, queue};

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append_all(&[attached(1, "a"), published(1, b"one", &[1]), published(2, b"two", &[1])]);
    stand.settle();
    assert_eq!(stand.stored, 3);
    let mut stand = stand.reopen();
    assert_eq!((stand.report.sessions, stand.report.queued, stand.report.messages), (1, 2, 2));
    assert_eq!((&*stand.sessions[0].client_id, queue(&stand.sessions[0])), ("a", vec![1, 2]));
    assert_eq!(stand.payloads(1, &[2, 1]), [b"two", b"one"]);
    stand.append(&done(1, &[1, 2]));
    stand.settle();
    let stand = stand.reopen();
    assert_eq!((stand.report.queued, stand.report.messages), (0, 0));
}

#[test]
fn nothing_counts_as_stored_before_its_sync() {
    let mut stand = Stand::new(FaultDisk::new(1));
    while stand.store.disk_step() {}
    stand.append(&attached(1, "a"));
    stand.store.commit();
    stand.poll();
    assert_eq!(stand.stored, 0);
    // What is committed before the sync begins is part of it; what is not, is not.
    stand.append(&attached(2, "b"));
    stand.store.commit();
    stand.append(&attached(3, "c"));
    assert!(stand.store.disk_step());
    stand.poll();
    assert_eq!(stand.stored, 2);
    assert!(!stand.store.disk_step(), "there is nothing to sync");
    stand.store.commit();
    assert!(stand.store.disk_step());
    stand.poll();
    assert_eq!(stand.stored, 3);
    let metrics = stand.store.metrics();
    assert_eq!((metrics.syncs, metrics.group_records.sum), (2, 3));
}

#[test]
fn a_sync_that_waits_does_not_speak_for_the_segment_that_was_begun_meanwhile() {
    let mut stand = Stand::new(FaultDisk::new(1));
    while stand.store.disk_step() {}
    stand.poll();
    stand.append(&attached(1, "a"));
    stand.store.commit();
    // Messages of a tenth of a segment: the last one stands in the next segment.
    let payload = vec![7; usize::try_from(SEGMENT_BYTES / 10).unwrap()];
    for id in 1..=12 {
        stand.append(&published(id, &payload, &[1]));
    }
    stand.store.commit();
    assert!(stand.store.disk_step());
    stand.poll();
    assert_eq!(stand.stored, 1, "the sync was asked for before the segment ended");
    while stand.store.disk_step() {}
    stand.poll();
    assert_eq!(stand.stored, 13);
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.settle();
    stand.append(&attached(1, "a"));
    stand.disk.next_syncs(&[SyncFault::Failed]);
    stand.settle();
    assert_eq!((stand.state, stand.stored), (StoreState::Failed, 0));
    assert!(stand.store.failure().unwrap().contains("sync"));
    let syncs = stand.disk.counts().syncs;
    assert!(stand.store.append(2, &attached(2, "b")).is_err());
    stand.settle();
    assert_eq!(stand.disk.counts().syncs, syncs);
    assert_eq!(stand.stored, 0);
}

#[test]
fn what_a_failed_sync_left_in_memory_is_written_again_by_the_next_start() {
    // A sync fails, the process is killed, and the next one finds in memory what the disk never got: the system holds those
    // pages for written. What is acknowledged upon them must survive a power cut.
    for seed in 0..20 {
        let mut stand = Stand::new(FaultDisk::new(seed));
        stand.append(&attached(1, "a"));
        stand.settle();
        for id in 1..=20 {
            stand.append(&published(id, &[7; 3_000], &[1]));
        }
        stand.disk.next_syncs(&[SyncFault::Failed]);
        stand.settle();
        assert_eq!(stand.state, StoreState::Failed);
        let stand = stand.reopen();
        let found = stand.report.queued;
        let stand = Stand::new(stand.disk.crash(Crash::PowerCut));
        assert_eq!((stand.report.queued, &*stand.report.damaged), (found, [].as_slice()), "seed {seed}");
    }
}

#[test]
fn a_log_rolls_into_segments_that_were_made_ahead() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    for id in 1..=1_000 {
        stand.append(&published(id, &[7; 500], &[1]));
        if id % 50 == 0 {
            stand.settle();
        }
    }
    stand.settle();
    let metrics = stand.store.metrics();
    assert!(metrics.segments >= 8, "{metrics:?}");
    assert_eq!((metrics.messages, metrics.waited_rolls, metrics.spare_segments), (1_000, 0, 2));
    let mut stand = stand.reopen();
    assert_eq!(stand.report.queued, 1_000);
    assert_eq!(stand.payloads(1, &[1, 500, 1_000]), [[7; 500], [7; 500], [7; 500]]);
}

#[test]
fn a_roll_that_outruns_the_disk_waits() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    for id in 1..=1_000 {
        stand.append(&published(id, &[7; 500], &[1]));
    }
    assert!(stand.store.metrics().waited_rolls > 0);
    stand.settle();
    assert_eq!(stand.stored, 1_001);
    assert_eq!(stand.reopen().report.queued, 1_000);
}

#[test]
fn a_record_longer_than_a_segment_gets_its_own() {
    let mut stand = Stand::new(FaultDisk::new(1));
    let large = vec![5; 200_000];
    stand.append_all(&[attached(1, "a"), published(1, &large, &[1]), published(2, b"small", &[1])]);
    stand.settle();
    stand.append(&published(3, &large, &[1]));
    stand.settle();
    assert_eq!(stand.stored, 4);
    let mut stand = stand.reopen();
    assert_eq!(stand.payloads(1, &[1, 2, 3]), [large.clone(), b"small".to_vec(), large]);
}

#[test]
fn sessions_that_were_connected_count_as_detached_and_stay_so() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    stand.settle();
    let mut stand = stand.reopen();
    assert_eq!((stand.report.cut_off_sessions, stand.sessions[0].detached_at_ms), (1, Some(1_000_000)));
    stand.append(&attached(2, "b"));
    stand.settle();
    let disk = stand.disk.clone();
    drop(stand);
    let mut later = options(1);
    later.now_ms = 2_000_000;
    let stand = Stand::with(disk, &later);
    let since: Vec<_> = stand.sessions.iter().map(|session| session.detached_at_ms).collect();
    assert_eq!(since, [Some(1_000_000), Some(2_000_000)], "a second crash makes nobody younger");
}

#[test]
fn numbers_are_never_given_twice() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append_all(&[
        attached(7, "a"),
        published(9, b"x", &[7]),
        Record::SessionEnded { session: SessionNo(7) },
    ]);
    stand.settle();
    let disk = stand.disk.clone();
    drop(stand);
    let opened = open_all(&disk, &options(1)).unwrap();
    assert_eq!(
        (opened.recovered[0].next_session, opened.recovered[0].next_message),
        (SessionNo(8), MessageId(10))
    );
}

#[test]
fn what_is_known_of_other_shards_messages_ends_with_their_sessions() {
    let disk = FaultDisk::new(1);
    let add = |shard: usize, records: &[Record]| {
        let mut opened = open_all(&disk, &options(2)).unwrap();
        let taken = opened.recovered[1].taken.clone();
        let store = &mut opened.stores[shard];
        for (seq, record) in (1..).zip(records) {
            store.append(seq, record).unwrap();
        }
        store.commit();
        while store.disk_step() {
            store.poll(&mut Vec::new());
        }
        taken
    };
    let arrived = |session, packet_id| Record::Arrived { session: SessionNo(session), packet_id };
    assert_eq!(add(0, &[attached(7, "a")]), []);
    // Nobody has the number 9: its session ended when this shard was down.
    assert_eq!(add(1, &[attached(8, "b"), arrived(7, 1), arrived(8, 2), arrived(9, 3)]), []);
    assert_eq!(add(0, &[Record::SessionEnded { session: SessionNo(7) }]), [(SessionNo(7), 1)]);
    assert_eq!(add(0, &[]), []);
}

/// The part of a core that cleaning needs: who holds what.
#[derive(Default)]
struct Holder {
    sessions: BTreeMap<u64, Vec<u64>>,
    images: u32,
}

impl Holder {
    /// Says again what of a record still holds.
    fn answer(&mut self, record: &Record) -> Option<Record> {
        match record {
            Record::Published(published) => {
                let mut published = published.clone();
                published.receivers.retain(|receiver| {
                    self.sessions.get(&receiver.session.0).is_some_and(|ids| ids.contains(&published.id.0))
                });
                (!published.receivers.is_empty()).then_some(Record::Published(published))
            }
            Record::Attached(attached) => self.image(attached.session),
            Record::Session(session) => self.image(session.session),
            Record::Detached { session, .. } => self.image(*session),
            other => panic!("{other:?} is not offered"),
        }
    }

    fn image(&mut self, session: SessionNo) -> Option<Record> {
        let ids = self.sessions.get(&session.0)?;
        self.images += 1;
        Some(Record::Session(Box::new(Session {
            session,
            client_id: format!("client-{}", session.0).into(),
            expiry_seconds: u32::MAX,
            queue: ids.iter().map(|id| MessageId(*id)).collect(),
            ..Session::default()
        })))
    }
}

/// Publishes, acknowledges and cleans for a long time; one session keeps its first message for ever.
fn churn(stand: &mut Stand, holder: &mut Holder, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        stand.append(&published(id, &[9; 700], &[1, 2]));
        for session in [1, 2] {
            holder.sessions.entry(session).or_default().push(id);
        }
        for (session, keep) in [(1, 1), (2, 10)] {
            let waiting = holder.sessions.get_mut(&session).unwrap();
            if waiting.len() > keep {
                let first = waiting.remove(if session == 1 { 1 } else { 0 });
                stand.append(&done(session, &[first]));
            }
        }
        if id % 20 == 0 {
            stand.settle();
        }
        while let Some(record) = stand.store.next_reclaimable() {
            if let Some(again) = holder.answer(&record) {
                stand.append(&again);
            }
        }
    }
    stand.settle();
}

#[test]
fn cleaning_keeps_up_and_loses_nothing() {
    let mut stand = Stand::new(FaultDisk::new(1));
    let mut holder = Holder::default();
    stand.append_all(&[attached(1, "client-1"), attached(2, "client-2")]);
    churn(&mut stand, &mut holder, 1..=5_000);
    let metrics = stand.store.metrics();
    assert!(metrics.cleaned_segments > 30, "{metrics:?}");
    assert!(metrics.disk_bytes <= 9 * SEGMENT_BYTES, "{metrics:?}");
    assert!(metrics.moved_bytes < metrics.appended_bytes / 5, "{metrics:?}");
    assert_eq!(metrics.lost_messages, 0);
    let mut stand = stand.reopen();
    assert_eq!(stand.report.damaged, []);
    assert_eq!(stand.report.torn, []);
    let expected: Vec<_> = holder.sessions.values().cloned().collect();
    assert_eq!(stand.sessions.iter().map(queue).collect::<Vec<_>>(), expected);
    assert_eq!(stand.payloads(1, &expected[0]), vec![vec![9; 700]; expected[0].len()]);
    assert!(stand.store.metrics().disk_bytes <= 9 * SEGMENT_BYTES);
    churn(&mut stand, &mut holder, 5_001..=6_000);
    let stand = stand.reopen();
    assert_eq!(
        stand.sessions.iter().map(queue).collect::<Vec<_>>(),
        holder.sessions.into_values().collect::<Vec<_>>()
    );
}

/// Lets a store clean while nothing else is appended; how often it wanted to.
fn rest(stand: &mut Stand, holder: &mut Holder) -> u32 {
    let mut count = 0;
    while stand.store.rest() {
        count += 1;
        assert!(count < 1_000, "it comes to an end: {:?}", stand.store.metrics());
        while let Some(record) = stand.store.next_reclaimable() {
            if let Some(again) = holder.answer(&record) {
                stand.append(&again);
            }
        }
        stand.settle();
    }
    count
}

#[test]
fn a_log_that_rests_is_cleaned_until_it_is_short() {
    let mut stand = Stand::new(FaultDisk::new(1));
    let mut holder = Holder::default();
    stand.append(&attached(1, "client-1"));
    holder.sessions.insert(1, Vec::new());
    for id in 1..=2_000 {
        stand.append(&published(id, &[9; 700], &[1]));
        holder.sessions.get_mut(&1).unwrap().push(id);
    }
    stand.settle();
    let before = stand.store.metrics();
    rest(&mut stand, &mut holder);
    let moved = stand.store.metrics().moved_bytes;
    assert!(moved < before.appended_bytes / 4, "what all waits is left alone: {moved}");
    let last = holder.sessions.get_mut(&1).unwrap().split_off(1_990);
    let taken = holder.sessions.insert(1, last.clone()).unwrap();
    stand.append(&done(1, &taken));
    stand.settle();
    assert!(stand.store.metrics().segments > 15, "{:?}", stand.store.metrics());
    assert!(rest(&mut stand, &mut holder) > 10);
    assert!(stand.store.metrics().segments <= 6, "{:?}", stand.store.metrics());
    assert_eq!(rest(&mut stand, &mut holder), 0);
    let stand = stand.reopen();
    assert_eq!(queue(&stand.sessions[0]), last);
}

#[test]
fn a_log_of_waiting_messages_is_not_moved_round_and_round() {
    let mut stand = Stand::new(FaultDisk::new(1));
    let mut holder = Holder::default();
    stand.append(&attached(1, "client-1"));
    holder.sessions.insert(1, Vec::new());
    for id in 1..=2_000 {
        stand.append(&published(id, &[9; 700], &[1]));
        holder.sessions.get_mut(&1).unwrap().push(id);
        if id % 20 == 0 {
            stand.settle();
        }
        while let Some(record) = stand.store.next_reclaimable() {
            if let Some(again) = holder.answer(&record) {
                stand.append(&again);
            }
        }
    }
    stand.settle();
    let metrics = stand.store.metrics();
    assert!(metrics.moved_bytes < metrics.appended_bytes * 2 / 3, "{metrics:?}");
    assert_eq!(stand.reopen().report.queued, 2_000);
}

#[test]
fn a_message_that_cleaning_moves_while_it_is_read_is_read_where_it_is() {
    let mut stand = Stand::new(FaultDisk::new(1));
    let mut holder = Holder::default();
    stand.append_all(&[attached(1, "client-1"), attached(2, "client-2")]);
    churn(&mut stand, &mut holder, 1..=400);
    // Asked with the old place, answered after the file behind it has become another.
    stand.store.fetch(SessionNo(1), &[MessageId(1)]);
    churn(&mut stand, &mut holder, 401..=3_000);
    let told = std::mem::take(&mut stand.told);
    assert_eq!(told.len(), 1);
    assert_eq!(stand.store.metrics().lost_messages, 0, "{told:?}");
}

#[test]
fn a_full_disk_is_told_before_anything_is_refused_and_cleaning_opens_it_again() {
    let disk = FaultDisk::new(1);
    disk.set_faults(Faults { capacity_bytes: 10 * SEGMENT_BYTES, ..Faults::default() });
    let mut stand = Stand::new(disk);
    stand.append(&attached(1, "client-1"));
    let mut id = 0;
    while stand.state == StoreState::Open {
        id += 1;
        stand.append(&published(id, &[9; 700], &[1]));
        stand.settle();
        assert!(id < 10_000, "a disk of ten segments is full at some time");
    }
    assert_eq!((stand.state, stand.store.metrics().full_count), (StoreState::Full, 1));
    assert_eq!(stand.stored, stand.seq(), "all that was taken is stored");
    // Acknowledgements are taken, and make room.
    let mut holder = Holder::default();
    holder.sessions.insert(1, Vec::new());
    for id in 1..=id {
        stand.append(&done(1, &[id]));
    }
    for _ in 0..2_000 {
        stand.settle();
        while let Some(record) = stand.store.next_reclaimable() {
            if let Some(again) = holder.answer(&record) {
                stand.append(&again);
            }
        }
    }
    assert_eq!(stand.state, StoreState::Open, "{:?}", stand.store.metrics());
    assert_eq!(stand.reopen().report.queued, 0);
}

#[test]
fn a_quota_is_kept() {
    let mut options = options(1);
    options.quota_bytes = Some(8 * SEGMENT_BYTES);
    let mut stand = Stand::with(FaultDisk::new(1), &options);
    stand.append(&attached(1, "client-1"));
    let mut id = 0;
    while stand.state == StoreState::Open && id < 10_000 {
        id += 1;
        stand.append(&published(id, &[9; 700], &[1]));
        stand.settle();
        assert!(stand.store.metrics().disk_bytes <= 8 * SEGMENT_BYTES);
    }
    assert_eq!(stand.state, StoreState::Full);
    assert!(stand.store.failure().unwrap().contains("quota"));
    // The reserve ends some time; what was not taken is not in the log.
    let mut taken = stand.seq();
    let error = loop {
        match stand.store.append(taken + 1, &done(1, &[1])) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("reserve"), "{error}");
    assert!(taken > 1_000, "a segment of acknowledgements fits");
    stand.poll();
    assert_eq!(stand.state, StoreState::Failed);
}

#[test]
fn a_damaged_record_is_isolated_and_reported() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    for id in 1..=20 {
        stand.append(&published(id, &[9; 700], &[1]));
        stand.settle();
    }
    let path =
        stand.disk.files().into_iter().map(|(path, _)| path).find(|path| path.ends_with("1.log")).unwrap();
    stand.disk.rot(&path, 4_000, 0b100);
    let mut stand = stand.reopen();
    assert_eq!(stand.report.damaged.len(), 1);
    let damage = &stand.report.damaged[0];
    assert_eq!((damage.lost_records, &damage.path), (1, &path));
    assert!(damage.offset <= 4_000 && damage.offset + damage.bytes > 4_000);
    let kept = damage.kept_as.clone().unwrap();
    assert!(stand.disk.files().iter().any(|(path, bytes)| *path == kept && !bytes.is_empty()));
    assert_eq!(queue(&stand.sessions[0]).len(), 19, "all others are kept");
    let ids = queue(&stand.sessions[0]);
    assert_eq!(stand.payloads(1, &ids).len(), 19);
    assert_eq!(stand.fetch(1, &[99]), [FetchedMessage::Lost(MessageId(99))]);
    assert_eq!(stand.store.metrics().lost_messages, 1);
}

#[test]
fn a_later_programs_records_are_refused_with_their_place() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    stand.settle();
    let (path, mut bytes) = stand.disk.files().into_iter().find(|(path, _)| path == "manifest").unwrap();
    bytes[8] = 9;
    bytes[12..16].fill(0);
    let sum = crc32c::crc32c(&bytes);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    stand.disk.put(&path, &bytes);
    let error = open_all(&stand.disk, &options(1)).unwrap_err();
    assert!(matches!(error, OpenError::UnknownVersion { found: 9, .. }), "{error}");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn a_lost_folder_is_reported_and_made_anew() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    stand.settle();
    stand.disk.remove("epoch-00000001/shard-0000").unwrap();
    let mut stand = stand.reopen();
    assert_eq!((stand.report.sessions, stand.report.damaged.len()), (0, 1));
    stand.append(&attached(1, "a"));
    stand.settle();
    let stand = stand.reopen();
    assert_eq!((stand.report.sessions, stand.report.damaged.len()), (1, 0));
}

#[test]
fn a_damaged_manifest_is_read_from_its_copy() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    stand.settle();
    stand.disk.rot("manifest", 20, 1);
    let stand = stand.reopen();
    assert_eq!(stand.report.sessions, 1);
    stand.disk.rot("manifest.copy", 20, 1);
    let error = open_all(&stand.disk, &options(1)).unwrap_err();
    assert!(matches!(error, OpenError::Manifest { .. }), "{error}");
}

#[test]
fn another_number_of_shards_rehomes_everything() {
    let disk = FaultDisk::new(1);
    let mut stand = Stand::new(disk.clone());
    for session in 1..=9 {
        stand.append(&attached(session, &format!("client-{session}")));
    }
    for id in 1..=200 {
        stand.append(&published(id, format!("payload {id}").as_bytes(), &[1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }
    for session in 1..=9 {
        stand.append(&done(session, &(1..=session * 10).collect::<Vec<_>>()));
    }
    stand.append(&Record::Retained(Box::new(message(b"kept"))));
    stand.settle();
    drop(stand);
    for shard_count in [4, 3, 1] {
        let mut options = options(shard_count);
        options.now_ms = 5_000_000;
        let opened = open_all(&disk, &options).unwrap();
        assert_eq!(opened.stores.len(), usize::from(shard_count));
        assert_eq!((opened.report.sessions, opened.report.retained), (9, 1));
        assert!(opened.report.rehomed_from.is_some());
        for (shard, (recovered, mut store)) in opened.recovered.into_iter().zip(opened.stores).enumerate() {
            assert!(recovered.next_session.count() > 9);
            for session in recovered.sessions {
                assert_eq!(usize::from(stand::home(&session.client_id, shard_count)), shard);
                let ids = session.queue.clone();
                assert_eq!(ids.len() as u64, 200 - session.session.0 * 10);
                assert!(ids.iter().all(|id| *id < recovered.next_message));
                store.fetch(session.session, &ids);
                while store.disk_step() {}
                let mut told = Vec::new();
                store.poll(&mut told);
                let Some(dunlin_persist::Told::Fetched { messages, .. }) = told.pop() else {
                    panic!("{told:?}")
                };
                let payload = |found: &FetchedMessage| match found {
                    FetchedMessage::Found(found) => {
                        String::from_utf8(found.message.payload.to_vec()).unwrap()
                    }
                    FetchedMessage::Lost(id) => panic!("{id:?} is lost"),
                };
                let first = session.session.0 * 10 + 1;
                let expected: Vec<_> = (first..=200).map(|id| format!("payload {id}")).collect();
                assert_eq!(messages.iter().map(payload).collect::<Vec<_>>(), expected);
            }
        }
        assert_eq!(disk.files().iter().filter(|(path, _)| path.starts_with("epoch-00000001")).count(), 0);
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    let mut id = 0;
    for _ in 0..30 {
        for _ in 0..10 {
            id += 1;
            stand.append(&published(id, b"x", &[1]));
        }
        // Neither commit nor settle: the process is gone, the kernel has what was written.
        stand = stand.reopen();
        assert_eq!(stand.report.queued, id);
        assert_eq!(stand.report.torn, []);
    }
    let metrics = stand.store.metrics();
    assert!(metrics.disk_bytes < 5 * SEGMENT_BYTES, "short ends take no whole segments: {metrics:?}");
}

/// The path and bytes of the only segment that has begun.
fn begun(disk: &FaultDisk) -> (String, Vec<u8>) {
    let mut files = disk.files();
    files.retain(|(path, bytes)| path.ends_with(".log") && bytes.starts_with(b"DUNLINLG"));
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// Pages of an unfinished group reach the disk in any order, and the first one may be missing, with the segment's header: what stands
/// behind it is no log that begins in its middle.
#[test]
fn a_log_whose_first_page_never_came_to_the_disk_is_empty() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append(&attached(1, "a"));
    for id in 1..=20 {
        stand.append(&published(id, &[9; 700], &[1]));
    }
    stand.append(&attached(2, "b"));
    let disk = stand.disk.clone();
    drop(stand);
    let (path, mut bytes) = begun(&disk);
    bytes[..4_096].fill(0);
    disk.put(&path, &bytes);
    let mut stand = Stand::new(disk);
    assert_eq!((stand.report.sessions, stand.report.records), (0, 0), "{:?}", stand.report);
    assert_eq!((stand.report.torn.len(), &*stand.report.damaged), (1, [].as_slice()));
    assert!(stand.report.torn[0].dropped_records > 10);
    // It is gone for good, and the log goes on.
    stand.append(&attached(3, "c"));
    stand.settle();
    let stand = stand.reopen();
    assert_eq!((stand.report.sessions, stand.report.torn.len()), (1, 0));
}

/// The same, of records that were on the disk: that is damage, and what stands behind it is kept.
#[test]
fn a_log_whose_first_page_rots_keeps_what_stands_behind_it() {
    let mut stand = Stand::new(FaultDisk::new(1));
    for session in 1..=40 {
        stand.append(&attached(session, &format!("client-{session}-{}", "x".repeat(200))));
        stand.settle();
    }
    let disk = stand.disk.clone();
    drop(stand);
    let (path, mut bytes) = begun(&disk);
    bytes[..4_096].fill(0);
    disk.put(&path, &bytes);
    let stand = Stand::new(disk);
    assert_eq!((stand.report.torn.len(), stand.report.damaged.len()), (0, 1), "{:?}", stand.report);
    let lost = stand.report.damaged[0].lost_records;
    assert!((5..30).contains(&lost), "{lost}");
    assert_eq!(stand.report.sessions + lost, 40);
    assert!(stand.sessions.iter().all(|session| session.session.0 > lost));
}

/// Only the header is lost: every frame is there, and so is everything that it says.
#[test]
fn a_log_whose_first_header_rots_is_whole() {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append_all(&[attached(1, "a"), published(1, b"x", &[1])]);
    stand.settle();
    let disk = stand.disk.clone();
    drop(stand);
    let (path, mut bytes) = begun(&disk);
    bytes[..64].fill(0);
    disk.put(&path, &bytes);
    let stand = Stand::new(disk);
    assert_eq!((stand.report.sessions, stand.report.queued), (1, 1));
    assert_eq!((stand.report.torn.len(), stand.report.damaged.len()), (0, 0));
}

//! One client is found where the index says, and found all the same when the index is behind, wrong, or not there.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod stand;

use dunlin_persist::fault::FaultDisk;
use dunlin_persist::index::{Batch, Change, Index, MemoryTable, Place, Truth as _, agree};
use dunlin_persist::inspect::{self, Client, Hint};
use dunlin_persist::{Record, SessionNo};
use stand::{Stand, attached, done, home, options, published, queue};

/// A log of several segments: `early` begins it, `late` comes at its end, `gone` has ended.
fn filled() -> FaultDisk {
    let mut stand = Stand::new(FaultDisk::new(1));
    stand.append_all(&[attached(1, "early"), attached(2, "gone"), attached(3, "filler")]);
    for id in 1..=300 {
        stand.append(&published(id, &[7; 700], &[3]));
        if id % 20 == 0 {
            stand.settle();
        }
    }
    stand.append(&Record::SessionEnded { session: SessionNo(2) });
    stand.append_all(&[attached(4, "late"), published(301, b"x", &[1, 4]), published(302, b"y", &[4])]);
    stand.append(&done(4, &[301]));
    stand.settle();
    stand.disk.clone()
}

/// An index that has followed the logs on this disk.
fn index_of(disk: &FaultDisk) -> Index {
    let logs = stand::open_all(disk, &options(1)).unwrap().logs;
    let mut index = Index::new(Box::new(MemoryTable::default()));
    agree(&mut index, &logs, &|| false).unwrap();
    index
}

fn find(disk: &FaultDisk, client_id: &str, index: Option<&Index>) -> Client {
    inspect::client(disk, client_id, home, index, 1_000_000).unwrap().unwrap()
}

fn waiting(client: &Client) -> Vec<u64> {
    client.session.as_ref().map(queue).unwrap()
}

#[test]
fn a_client_is_found_where_the_index_says() {
    let disk = filled();
    let index = index_of(&disk);
    for (client_id, ids) in [("early", vec![301]), ("late", vec![302])] {
        let (with, without) = (find(&disk, client_id, Some(&index)), find(&disk, client_id, None));
        assert_eq!((&with.hint, &without.hint), (&Hint::Began, &Hint::Without), "{client_id}");
        assert_eq!(with.session, without.session);
        assert_eq!(waiting(&with), ids);
    }
    let (late, all) = (find(&disk, "late", Some(&index)).read_bytes, find(&disk, "late", None).read_bytes);
    assert!(late * 3 < all, "{late} of {all} bytes were read");
    for nobody in ["gone", "never"] {
        let found = find(&disk, nobody, Some(&index));
        assert_eq!((found.session, found.hint), (None, Hint::Began));
        assert!(found.read_bytes * 3 < all, "{} of {all} bytes were read", found.read_bytes);
    }
}

#[test]
fn an_index_that_is_behind_costs_nothing_but_time() {
    let disk = filled();
    let index = index_of(&disk);
    let mut stand = Stand::new(disk);
    stand.append_all(&[attached(9, "new"), published(400, b"z", &[1, 9])]);
    stand.append(&Record::SessionEnded { session: SessionNo(4) });
    stand.settle();
    let disk = &stand.disk;
    assert_eq!(waiting(&find(disk, "new", Some(&index))), [400]);
    assert_eq!(waiting(&find(disk, "early", Some(&index))), [301, 400]);
    assert_eq!(find(disk, "late", Some(&index)).session, None);
}

#[test]
fn an_index_that_is_wrong_is_told_and_the_log_is_read() {
    let disk = filled();
    let mut index = index_of(&disk);
    let at = index.session("late").unwrap().unwrap().at;
    let places = [
        Place { offset: at.offset + 8, ..at },
        Place { segment: 99, ..at },
        Place { sequence: at.sequence - 1, ..at },
        Place { sequence: 1 << 40, ..at },
        Place::default(),
    ];
    for at in places {
        let change = Change::Image { client_id: "late".into(), session: SessionNo(4), at };
        index.follow(&Batch { shard: 0, up_to: 0, changes: vec![change] }).unwrap();
        let found = find(&disk, "late", Some(&index));
        assert!(matches!(found.hint, Hint::Wrong(_)), "{at:?}");
        assert_eq!(waiting(&found), [302], "{at:?}");
    }
    // Of another client, or of other logs.
    let early = index.session("early").unwrap().unwrap().at;
    let change = Change::Image { client_id: "late".into(), session: SessionNo(4), at: early };
    index.follow(&Batch { shard: 0, up_to: 0, changes: vec![change] }).unwrap();
    assert_eq!(waiting(&find(&disk, "late", Some(&index))), [302]);
    let mut header = stand::open_all(&disk, &options(1)).unwrap().logs.header();
    header.logs ^= 1;
    index.begin(header).unwrap();
    let found = find(&disk, "late", Some(&index));
    assert!(matches!(&found.hint, Hint::Wrong(why) if why.contains("other logs")), "{:?}", found.hint);
    assert_eq!(waiting(&found), [302]);
}

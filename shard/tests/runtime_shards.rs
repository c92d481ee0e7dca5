//! Several shards: connections that go home, messages over lanes, letters from outside, and panics that end one connection.
#![cfg(feature = "runtime")]
#![allow(clippy::disallowed_methods, reason = "tests are ordinary threads with a clock")]

mod stand;

use std::io::Read as _;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use dunlin_shard::{Control, ShardId, Token};
use stand::{Client, PATIENCE, Stand, numbered, order};

#[test]
fn a_connection_goes_home_with_all_its_bytes() {
    let stand = Stand::new(3, |_| {});
    let mut clients = stand.connect_in_turn(60);
    for client in &mut clients {
        client.write(&[&numbered(order::HOME, 0), b"unread".as_slice()].concat());
        client.expect(b"unread");
        client.echo(b"at home");
    }
    let moved = stand.total(|m| m.handoffs_out);
    assert!(moved >= 20, "{moved} of 60 were elsewhere");
    assert_eq!(stand.seen.arrived.load(SeqCst), moved);
    assert_eq!(stand.metrics()[0].handoffs_in, moved);
    assert_eq!(stand.total(|m| m.handoffs_refused), 0);
    drop(clients);
    stand.wait_for("all closed", |stand| stand.total(|m| m.connections) == 0);
}

/// A client that landed on a shard other than `home`.
fn connect_elsewhere(stand: &Stand, home: usize) -> Client {
    for _ in 0..200 {
        let before: Vec<_> = stand.metrics().iter().map(|m| m.accepted).collect();
        let mut client = stand.connect();
        client.echo(b"?");
        let after: Vec<_> = stand.metrics().iter().map(|m| m.accepted).collect();
        if before[home] == after[home] {
            return client;
        }
    }
    panic!("the kernel gave all connections to shard {home}");
}

#[test]
fn bytes_that_arrive_during_the_move_are_not_lost() {
    let stand = Stand::new(2, |_| {});
    for round in 0..40 {
        let mut client = connect_elsewhere(&stand, 1);
        // Busy enough for an armed multishot receive, so that the move must end one.
        for _ in 0..5 {
            client.echo(b"busy");
        }
        let mut writer = Client(client.0.try_clone().unwrap());
        let text: Vec<u8> =
            (0..20_000_usize).map(|n| b'a' + u8::try_from((n + round) % 26).unwrap()).collect();
        let sent = text.clone();
        let stream = thread::spawn(move || {
            writer.write(&numbered(order::HOME, 1));
            for part in sent.chunks(777) {
                writer.write(part);
            }
        });
        client.expect(&text);
        stream.join().unwrap();
        client.echo(b"at home");
    }
    assert_eq!(stand.total(|m| m.handoffs_in), 40);
    assert_eq!(stand.total(|m| m.handoffs_refused), 0);
}

#[test]
fn a_connection_whose_home_is_full_is_closed_and_counted() {
    // A shard of two holds a quarter more than half of all, and a little: 314 here, in 21 rings of 16 slots.
    let stand = Stand::new(2, |config| {
        config.connection_count_max = 400;
        config.rings.table_entries_max = 16;
    });
    let mut clients = stand.connect_in_turn(400);
    for client in &mut clients {
        client.write(&[&numbered(order::HOME, 1), b"x".as_slice()].concat());
    }
    stand.wait_for("all are at home or refused", |stand| {
        stand.metrics()[0].connections == 0
            && stand.total(|m| m.handoffs_in) == stand.total(|m| m.handoffs_out)
    });
    let alive = clients.iter_mut().filter_map(|client| client.0.read_exact(&mut [0]).ok()).count() as u64;
    assert_eq!(alive, stand.metrics()[1].connections);
    assert!((250..=21 * 16).contains(&alive), "{alive}");
    assert_eq!(stand.total(|m| m.handoffs_refused), 400 - alive);
    // There is room again when some leave.
    clients.clear();
    stand.wait_for("all closed", |stand| stand.total(|m| m.connections) == 0);
    let mut late = connect_elsewhere(&stand, 1);
    late.write(&[&numbered(order::HOME, 1), b"x".as_slice()].concat());
    late.expect(b"x");
}

#[test]
fn shards_speak_and_wake_each_other() {
    let stand = Stand::new(4, |_| {});
    let mut client = stand.connect();
    for round in 1..=50 {
        client.write(&[order::MESH]);
        client.expect(b"m");
        stand.wait_for("all answers", |stand| stand.seen.credits.load(SeqCst) == 3 * round);
    }
    assert_eq!(stand.total(|m| m.mesh_out), 300);
    assert_eq!(stand.total(|m| m.mesh_in), 300);
    assert!(stand.total(|m| m.wakes_out) > 0);
}

#[test]
fn letters_wake_a_sleeping_shard_and_are_answered() {
    let stand = Stand::new(2, |_| {});
    for token in 0..20 {
        for shard in stand.runtime.shards() {
            shard.send(Control::Snapshot { token: Token(token) }).unwrap();
            let answer = stand.runtime.answers().recv_timeout(PATIENCE).unwrap();
            assert_eq!((answer.shard, answer.token), (shard.shard(), Token(token)));
        }
    }
}

#[test]
fn a_panic_ends_one_connection_and_nothing_else() {
    let stand = Stand::new(1, |_| {});
    let mut good = stand.connect();
    good.echo(b"before");
    for round in 1..=3 {
        let mut bad = stand.connect();
        bad.echo(b"innocent");
        bad.write(&[order::PANIC]);
        assert_eq!(bad.rest(), b"");
        stand.wait_for("counted", |stand| stand.total(|m| m.panics_contained) == round);
        good.echo(b"after");
    }
    assert_eq!(stand.seen.closed.load(SeqCst), 3, "the core was told");
    assert_eq!(stand.total(|m| m.connections), 1);
}

#[test]
fn an_idle_edge_does_nothing() {
    let stand = Stand::new(2, |_| {});
    let mut clients: Vec<_> = (0..50).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client.echo(b"hello");
    }
    // The sweep of busy connections ends once all are quiet.
    thread::sleep(Duration::from_millis(100));
    let before = stand.total(|m| m.enters);
    thread::sleep(Duration::from_millis(400));
    let spent = stand.total(|m| m.enters) - before;
    assert!(spent < 40, "{spent} entries into the kernel while idle");
    assert_eq!(stand.runtime.shards()[1].shard(), ShardId(1));
}

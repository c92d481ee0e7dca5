//! Stopping: nobody new, last words to everybody, and an end in bounded time.
#![cfg(feature = "runtime")]
#![allow(clippy::disallowed_methods, reason = "tests are ordinary threads with a clock")]

mod stand;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use stand::{Stand, order};

#[test]
fn everybody_hears_the_last_words_and_nobody_new_comes() {
    let stand = Stand::new(2, |_| {});
    let address = stand.address();
    let mut clients: Vec<_> = (0..50).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client.echo(b"hello");
    }
    let begun = Instant::now();
    let metrics = stand.stop();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for client in &mut clients {
        assert_eq!(client.rest(), b"stop");
    }
    assert_eq!(metrics.iter().map(|m| m.closed).sum::<u64>(), 50);
    assert!(TcpStream::connect(address).is_err(), "the port is free again");
}

#[test]
fn a_client_that_does_not_read_cannot_hold_the_stop() {
    let stand = Stand::new(1, |config| {
        config.close_flush_ms_max = 200;
        config.stop_ms_max = 5_000;
    });
    let mut deaf = stand.connect();
    deaf.order(order::BIG, stand::TOO_MUCH);
    stand.wait_for("a short send", |stand| stand.total(|m| m.sends_short) == 1);
    let begun = Instant::now();
    let metrics = stand.stop();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(3), "{took:?} {metrics:#?}");
    assert_eq!(metrics[0].flushes_expired, 1);
}

#[test]
fn the_end_of_each_shard_is_told() {
    let stand = Stand::new(3, |_| {});
    let ended = stand.runtime.ended().clone();
    assert!(ended.is_empty());
    stand.runtime.stop();
    stand.runtime.stop();
    let mut shards: Vec<_> = (0..3).map(|_| ended.recv_timeout(stand::PATIENCE).unwrap().0).collect();
    shards.sort_unstable();
    assert_eq!(shards, [0, 1, 2]);
    stand.runtime.join().unwrap();
}

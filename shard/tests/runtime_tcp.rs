//! The edge over real sockets: bytes in, bytes out, and every way in which the kernel gives less than was asked for.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "tests are ordinary threads with a clock")]

mod stand;

use std::io::Read as _;
use std::net::Shutdown;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use dunlin_shard::ListenerId;
use dunlin_shard::runtime::{Listener, Park};
use stand::{Client, PATIENCE, Stand, big_byte, order};

fn noise(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|index| b'a' + u8::try_from((index * 7 + seed * 13 + index / 251) % 26).unwrap())
        .collect()
}

#[test]
fn every_byte_comes_back_in_order_on_every_connection() {
    let stand = Stand::new(1, |_| {});
    let address = stand.address();
    let clients: Vec<_> = (0..40)
        .map(|seed| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for length in [1, 63, 4_095, 4_096, 4_097, 100_000, 3] {
                    client.echo(&noise(length, seed));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    stand.wait_for("all closed", |stand| stand.seen.closed.load(SeqCst) == 40);
    assert_eq!(stand.total(|m| m.connections), 0);
    assert_eq!(stand.total(|m| m.bytes_in), stand.total(|m| m.bytes_out));
}

#[test]
fn a_slow_reader_gets_everything_and_the_core_hears_of_every_byte() {
    let stand = Stand::new(1, |_| {});
    let mut client = stand.connect();
    let length = stand::TOO_MUCH;
    client.order(order::BIG, length);
    stand.wait_for("a short send", |stand| stand.total(|m| m.sends_short) == 1);
    // What follows queues behind it.
    client.write(b"after");
    thread::sleep(Duration::from_millis(50));
    assert!(stand.seen.sent_bytes.load(SeqCst) < length as u64, "the socket cannot have taken all");
    let mut got = vec![0; length];
    client.0.read_exact(&mut got).unwrap();
    assert!(got.iter().enumerate().all(|(index, byte)| *byte == big_byte(index)));
    client.expect(b"after");
    stand.wait_for("the core heard of all", |stand| stand.seen.sent_bytes.load(SeqCst) == length as u64 + 5);
    client.echo(b"and it goes on");
}

#[test]
fn a_flush_close_sends_everything_first() {
    let stand = Stand::new(1, |_| {});
    let mut client = stand.connect();
    let length = 8 << 20;
    client.order(order::BIG_CLOSE, length);
    thread::sleep(Duration::from_millis(50));
    let got = client.rest();
    assert_eq!(got.len(), length);
    assert!(got.iter().enumerate().all(|(index, byte)| *byte == big_byte(index)));
    let mut client = stand.connect();
    client.write(&[order::CLOSE]);
    assert_eq!(client.rest(), b"bye");
    stand.wait_for("closed", |stand| stand.total(|m| m.connections) == 0);
}

#[test]
fn a_flush_that_nobody_reads_is_given_up_in_time() {
    let stand = Stand::new(1, |config| config.close_flush_ms_max = 150);
    let mut client = stand.connect();
    client.order(order::BIG_CLOSE, stand::TOO_MUCH);
    stand.wait_for("given up", |stand| stand.total(|m| m.flushes_expired) == 1);
    assert_eq!(stand.total(|m| m.connections), 0);
    assert!(client.rest().len() < stand::TOO_MUCH);
}

#[test]
fn a_close_at_once_and_a_reset_free_the_slot() {
    let stand = Stand::new(1, |_| {});
    let mut client = stand.connect();
    client.echo(b"hello");
    client.write(&[order::DROP]);
    assert_eq!(client.rest(), b"");
    let client = stand.connect();
    let socket = socket_of(&client);
    reset_on_close(&socket);
    drop((client, socket));
    stand.wait_for("all gone", |stand| {
        stand.total(|m| m.accepted) == 2 && stand.total(|m| m.connections) == 0
    });
}

#[test]
fn a_peer_that_only_closed_its_sending_side_still_gets_its_answer() {
    let stand = Stand::new(1, |_| {});
    let mut client = stand.connect();
    client.write(b"question");
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"question");
}

#[test]
fn too_few_receive_buffers_cost_time_and_nothing_else() {
    let stand = Stand::new(1, |config| {
        config.rings.buffer_count = 2;
        config.rings.buffer_bytes = 64;
    });
    let address = stand.address();
    let clients: Vec<_> = (0..30)
        .map(|seed| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..20 {
                    client.echo(&noise(3_000, seed));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert!(stand.total(|m| m.buffers_exhausted) > 0, "{:#?}", stand.metrics());
    // An exhausted receive is armed again after buffers came back, so that it does not spin.
    let mut idle = stand.connect();
    idle.echo(b"x");
    let before = stand.total(|m| m.enters);
    thread::sleep(Duration::from_millis(300));
    let after = stand.total(|m| m.enters);
    assert!(after - before < 50, "{} entries while idle", after - before);
}

#[test]
fn a_full_completion_queue_loses_nothing() {
    let stand = Stand::new(1, |config| {
        config.rings.submission_entries = 4;
        config.rings.completion_entries = 4;
    });
    let mut clients: Vec<_> = (0..200).map(|_| stand.connect()).collect();
    for round in 0..5 {
        for client in &mut clients {
            client.write(&noise(100, round));
        }
        for client in &mut clients {
            client.expect(&noise(100, round));
        }
    }
    // Slow readers at the same time: the failures of their sends must come through too.
    for client in &mut clients[..8] {
        client.order(order::BIG, 6 << 20);
    }
    stand.wait_for("short sends", |stand| stand.total(|m| m.sends_short) == 8);
    for client in &mut clients[..8] {
        let mut got = vec![0; 6 << 20];
        client.0.read_exact(&mut got).unwrap();
        assert!(got.iter().enumerate().all(|(index, byte)| *byte == big_byte(index)));
    }
    assert!(stand.total(|m| m.completions_overflowed) > 0, "{:#?}", stand.metrics());
}

#[test]
fn busy_connections_are_armed_and_quiet_ones_are_parked() {
    let stand = Stand::new(1, |config| config.quiet_ms = 80);
    let mut client = stand.connect();
    for _ in 0..10 {
        client.echo(b"busy");
    }
    assert_eq!(stand.total(|m| m.receive_promoted), 0, "a new connection counts as busy");
    for round in 1..=2 {
        stand.wait_for("parked", |stand| stand.total(|m| m.receive_parked) == round);
        client.echo(b"once more");
        for _ in 0..10 {
            client.echo(&noise(9_000, 1));
        }
        assert_eq!(stand.total(|m| m.receive_promoted), round);
    }
}

#[test]
fn more_connections_than_one_look_takes_are_all_parked() {
    let stand = Stand::new(1, |config| config.quiet_ms = 80);
    let mut clients: Vec<_> = (0..300).map(|_| stand.connect()).collect();
    stand.wait_for("parked", |stand| stand.total(|m| m.receive_parked) >= 300);
    for client in &mut clients {
        client.echo(b"still there");
    }
}

#[test]
fn acknowledgements_are_delayed_for_a_connection_that_sends_often_and_now_and_then_only() {
    let stand = Stand::new(1, |config| config.quiet_ms = 100);
    let mut client = stand.connect();
    let start = Instant::now();
    let mut delays = 0;
    while start.elapsed() < Duration::from_millis(1_600) || (delays == 0 && start.elapsed() < PATIENCE) {
        for _ in 0..100 {
            client.echo(b"often");
        }
        delays = stand.total(|m| m.acks_delayed);
    }
    let periods = start.elapsed().as_millis() / 100 + 1;
    assert!((1..=u64::from(periods.ilog2()) + 2).contains(&delays), "{delays} in {periods} periods");
}

#[test]
fn bytes_survive_every_change_of_the_reader() {
    // So short a quiet time that the reader changes all the time, in the middle of the bytes.
    let stand = Stand::new(1, |config| config.quiet_ms = 1);
    let address = stand.address();
    let clients: Vec<_> = (0..8)
        .map(|seed| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..300 {
                    client.echo(&noise(1 + round * 37 % 9_000, seed));
                    if round % 10 == 0 {
                        thread::sleep(Duration::from_millis(3));
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert!(stand.total(|m| m.receive_parked) > 10, "{:#?}", stand.metrics());
}

#[test]
fn a_paused_connection_is_not_read_until_the_core_wants_it() {
    let stand = Stand::new(1, |_| {});
    let mut client = stand.connect();
    client.echo(b"before");
    client.write(&[order::PAUSE]);
    thread::sleep(Duration::from_millis(20));
    let before = stand.total(|m| m.bytes_in);
    client.write(b"while paused");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(stand.total(|m| m.bytes_in), before, "bytes were read from a paused connection");
    client.expect(b"while paused");
    assert_eq!(stand.seen.timers.load(SeqCst), 1);
    client.echo(b"after");
}

#[test]
fn the_core_learns_the_peer_of_both_families() {
    let stand = Stand::new(1, |config| {
        let address = "[::1]:0".parse().unwrap();
        config.listeners.push(Listener { id: ListenerId(1), address, backlog: 16 });
    });
    for (_, address) in stand.runtime.listening().to_vec() {
        let mut client = Client::connect(address);
        client.echo(b"x");
        let port = client.0.local_addr().unwrap().port();
        assert_eq!(stand.seen.last_port.load(SeqCst), u32::from(port));
    }
}

#[test]
fn a_shard_may_sleep_in_its_executor() {
    let stand = Stand::new(2, |config| {
        config.park = Park::Executor;
        config.rings.table_entries_max = 8;
        config.connection_count_max = 100;
    });
    let mut clients = stand.connect_in_turn(40);
    for _ in 0..3 {
        for client in &mut clients {
            client.echo(b"hello");
        }
        thread::sleep(Duration::from_millis(30));
    }
    clients[0].write(&[order::MESH]);
    clients[0].expect(b"m");
    clients[1].write(&[order::PAUSE]);
    thread::sleep(Duration::from_millis(20));
    clients[1].write(b"later");
    clients[1].expect(b"later");
    assert!(stand.total(|m| m.sleeps) > 0);
    drop(clients);
    stand.stop();
}

fn socket_of(client: &Client) -> std::net::TcpStream {
    client.0.try_clone().unwrap()
}

/// Makes the close of a socket send RST.
fn reset_on_close(socket: &std::net::TcpStream) {
    use std::os::fd::AsRawFd as _;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap();
    #[expect(unsafe_code, reason = "the standard library has no stable call for it")]
    // SAFETY: `linger` is readable for `length` bytes.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            length,
        )
    };
    assert_eq!(set, 0);
}

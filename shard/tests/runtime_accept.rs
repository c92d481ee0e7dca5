//! Accepting: more connections than a table has slots, more than the process may have, and storms.
#![cfg(feature = "runtime")]
#![allow(clippy::disallowed_methods, reason = "tests are ordinary threads with a clock")]

mod stand;

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use dunlin_shard::runtime::{EdgeConfig, Listener, StartError, start_with};
use dunlin_shard::{ListenerId, ShardId};
use stand::{Client, Obedient, Seen, Stand, numbered, order};

#[test]
fn connections_spread_over_as_many_rings_as_they_need() {
    let stand = Stand::new(1, |config| {
        config.rings.table_entries_max = 16;
        config.connection_count_max = 200;
    });
    let mut clients = stand.connect_in_turn(200);
    for _ in 0..3 {
        for client in &mut clients {
            client.echo(b"hello");
        }
    }
    let metrics = stand.metrics().remove(0);
    assert!(metrics.rings >= 13, "{metrics:#?}");
    assert!(metrics.accept_moved >= 12, "{metrics:#?}");
    // All leave, all come again: no slot was lost.
    drop(clients);
    stand.wait_for("all closed", |stand| stand.total(|m| m.connections) == 0);
    let mut clients = stand.connect_in_turn(200);
    for client in &mut clients {
        client.echo(b"again");
    }
    assert_eq!(stand.total(|m| m.rings), metrics.rings);
    assert_eq!(stand.total(|m| m.accept_exhausted), 0);
}

#[test]
fn a_storm_on_small_tables_costs_no_connection() {
    let stand = Stand::new(1, |config| {
        config.rings.table_entries_max = 16;
        config.connection_count_max = 2_000;
    });
    let mut clients: Vec<_> = (0..400).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client.echo(b"hello");
    }
    assert_eq!(stand.total(|m| m.accepted), 400);
    assert_eq!(stand.total(|m| m.accept_exhausted), 0);
    assert!(stand.total(|m| m.rings) >= 25);
}

#[test]
fn a_storm_of_connections_that_go_home_costs_none() {
    // Accepts and arrivals fill the same tables, at the same time.
    for table in [16, 64, 300] {
        let stand = Stand::new(4, |config| {
            config.rings.table_entries_max = table;
            config.connection_count_max = 10_000;
        });
        let address = stand.address();
        let storms = (0..8_u32).map(|storm| {
            thread::spawn(move || {
                let mut clients: Vec<_> = (0..150).map(|_| Client::connect(address)).collect();
                for (client, home) in clients.iter_mut().zip(storm..) {
                    client.write(&[&numbered(order::HOME, home as usize % 4), b"x".as_slice()].concat());
                }
                for client in &mut clients {
                    client.expect(b"x");
                }
                clients
            })
        });
        let storms: Vec<_> = storms.collect();
        let mut clients: Vec<Client> = Vec::new();
        for storm in storms {
            clients.extend(storm.join().unwrap());
        }
        for client in &mut clients {
            client.echo(b"at home");
        }
        assert_eq!(stand.total(|m| m.accepted), 1_200);
        assert_eq!(stand.total(|m| m.connections), 1_200);
        assert_eq!(stand.total(|m| m.accept_exhausted + m.handoffs_refused), 0);
    }
}

#[test]
fn one_connection_too_many_is_closed_and_counted() {
    let stand = Stand::new(2, |config| config.connection_count_max = 5);
    let mut clients: Vec<_> = (0..5).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client.echo(b"in");
    }
    let mut sixth = stand.connect();
    assert_eq!(sixth.rest(), b"");
    stand.wait_for("refused", |stand| stand.total(|m| m.refused_limit) == 1);
    clients.pop();
    stand.wait_for("room", |stand| stand.total(|m| m.connections) == 4);
    stand.connect().echo(b"in again");
}

#[test]
fn storms_of_connections_leave_nothing_behind() {
    let stand = Stand::new(2, |_| {});
    let address = stand.address();
    let storms: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                for round in 0..250 {
                    let mut client = Client::connect(address);
                    match round % 4 {
                        0 => client.echo(b"hello"),
                        1 => client.write(&[order::DROP]),
                        2 => {
                            client.echo(b"hello");
                            client.write(&[order::DROP]);
                        }
                        _ => {}
                    }
                }
            })
        })
        .collect();
    for storm in storms {
        storm.join().unwrap();
    }
    stand.wait_for("all accepted", |stand| stand.total(|m| m.accepted) == 1_000);
    stand.wait_for("all closed", |stand| stand.total(|m| m.connections) == 0);
    // A receive that is armed when the core closes its connection completes late, under an old generation.
    assert!(stand.total(|m| m.completions_stale) > 0);
    stand.connect().echo(b"still here");
}

#[test]
fn a_connection_that_says_nothing_is_known_to_the_core() {
    let stand = Stand::new(1, |_| {});
    let silent = stand.connect();
    stand.wait_for("opened", |stand| stand.seen.opened.load(SeqCst) == 1);
    drop(silent);
    stand.wait_for("closed", |stand| stand.seen.closed.load(SeqCst) == 1);
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listeners = vec![Listener { id: ListenerId(0), address, backlog: 16 }];
    let config = EdgeConfig { listeners, ..EdgeConfig::default() };
    let maker = || Obedient::new(ShardId(0), 1, Seen::default().into());
    match start_with(config, vec![maker]) {
        Err(error @ StartError::Listen { .. }) => assert!(error.to_string().contains(&address.to_string())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_core_that_this_host_lacks_is_an_error_and_nothing_runs() {
    let config = EdgeConfig { cores: vec![None, Some(100_000)], ..EdgeConfig::default() };
    let makers = (0..2).map(|n| move || Obedient::new(ShardId(n), 2, Seen::default().into())).collect();
    assert!(matches!(start_with(config, makers), Err(StartError::Shard { shard: ShardId(1), .. })));
}

#[test]
fn shards_and_cores_must_match() {
    let maker = || Obedient::new(ShardId(0), 1, Seen::default().into());
    let config = EdgeConfig { cores: vec![None; 2], ..EdgeConfig::default() };
    assert!(matches!(start_with(config, vec![maker]), Err(StartError::Count { setups: 1, shards: 2 })));
}

//! Where the generator's connections come from and go to, as a listener sees it.

#![expect(clippy::disallowed_methods, reason = "a listener with blocking sockets needs threads")]
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at what it did not expect"
)]

mod listener;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use listener::listen;
use serde_json::Value;

fn run(arguments: &str) -> Output {
    let fixed = "--settle 0 --warm-up 0 --seconds 0 --json --patience 5";
    Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(["idle", "--keep-alive", "0"])
        .args(arguments.split(' '))
        .args(fixed.split(' '))
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn figure(report: &Value, name: &str) -> f64 {
    let extra = report["extra"].as_array().unwrap();
    let found = extra.iter().find(|figure| figure["name"] == name);
    found.map_or(0.0, |figure| figure["value"].as_f64().unwrap())
}

#[test]
fn every_port_of_every_source_is_used_once() {
    let (address, accepted, _) = listen("127.0.0.1:0", false);
    let output = run(&format!("--target {address} -n 80 --source 127.61.0.1-127.61.0.2 --ports 11000-11039"));
    assert_eq!(report(&output)["failures"], 0);
    let peers: BTreeSet<SocketAddr> = accepted.try_iter().collect();
    assert_eq!(peers.len(), 80);
    assert!(peers.iter().all(|peer| (11_000..11_040).contains(&peer.port())), "{peers:?}");
}

#[test]
fn one_connection_more_than_there_are_ports_is_refused_with_what_to_do() {
    let output = run("-n 81 --source 127.61.1.1-127.61.1.2 --ports 11000-11039");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("81 connections") && text.contains("80") && text.contains("--source"), "{text}");
}

#[test]
fn a_port_that_somebody_else_has_is_passed_over_and_counted() {
    let (address, accepted, _) = listen("127.0.0.1:0", false);
    let _held = TcpListener::bind("0.0.0.0:11100").unwrap();
    let output =
        run(&format!("--target {address} -n 300 --source 127.62.0.1-127.62.0.100 --ports 11100-11109"));
    let report = report(&output);
    assert_eq!(report["failures"], 0, "{report}");
    let collided = figure(&report, "local addresses in use");
    assert!((8.0..=100.0).contains(&collided), "after some tries the port is left out: {collided}");
    assert_eq!(accepted.try_iter().count(), 300);
}

#[test]
fn several_destinations_share_the_connections() {
    let (first, at_first, _) = listen("127.0.0.1:0", false);
    let (second, at_second, _) = listen("127.0.0.2:0", false);
    let output = run(&format!("--target {first},{second} -n 31"));
    assert_eq!(report(&output)["failures"], 0);
    assert_eq!((at_first.try_iter().count(), at_second.try_iter().count()), (16, 15));
}

#[test]
fn destinations_of_both_families_have_sources_of_their_own() {
    let (first, at_first, _) = listen("127.0.0.1:0", false);
    let (second, at_second, _) = listen("[::1]:0", false);
    let output = run(&format!(
        "--target {first} --target {second} -n 8 --source 127.63.0.0/24,::1 --ports 11200-11209"
    ));
    assert_eq!(report(&output)["failures"], 0);
    assert!(at_first.try_iter().all(|accepted| accepted.ip().to_string().starts_with("127.63.0.")));
    let ports: Vec<u16> = at_second.try_iter().map(|accepted| accepted.port()).collect();
    assert_eq!(ports.len(), 4);
    assert!(ports.iter().all(|port| (11_200..11_210).contains(port)), "{ports:?}");
}

#[test]
fn a_proxy_header_names_another_client_for_each_connection() {
    let (address, accepted, _) = listen("127.0.0.1:0", true);
    let output = run(&format!(
        "--target {address} -n 20 --proxy-protocol v2 --proxy-clients 203.0.113.1-203.0.113.20"
    ));
    assert_eq!(report(&output)["failures"], 0);
    let clients: BTreeSet<SocketAddr> = accepted.try_iter().collect();
    let named: BTreeSet<String> = clients.iter().map(|client| client.ip().to_string()).collect();
    assert_eq!(named.len(), 20);
    assert!(named.contains("203.0.113.20"), "{named:?}");
}

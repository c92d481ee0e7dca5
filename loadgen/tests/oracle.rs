//! The generator against a broker with planted faults: each must be found, and nothing else.
//!
//! The broker here is as small as a broker can be (exact topics, QoS 0 and 1, one thread that routes) and
//! commits exactly one fault per run, so that the figures of the report are known beforehand.

#![expect(clippy::disallowed_methods, reason = "a broker with blocking sockets needs threads")]
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at what it did not expect"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use dunlin_wire::packet::{Ack, ConnAck, Publish, ReasonCodes, ReasonProperties, SubAck};
use dunlin_wire::{Limits, Packet, ReasonCode, Version, decode_one};
use serde_json::Value;

/// The one thing that the broker does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Lose,
    Duplicate,
    Swap,
    Misdeliver,
    Corrupt,
    Foreign,
    Hang,
    WrongId,
}

/// What the reader of a connection tells the router.
enum Told {
    Joined(TcpStream),
    Bytes(usize, Vec<u8>),
}

struct Broker {
    fault: Fault,
    writers: Vec<TcpStream>,
    filters: Vec<(String, usize)>,
    messages: u32,
    kept: Option<(usize, Vec<u8>)>,
}

impl Broker {
    fn start(fault: Fault) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || accept(&listener, &tell));
        let broker = Self { fault, writers: Vec::new(), filters: Vec::new(), messages: 0, kept: None };
        std::thread::spawn(move || broker.route(&told));
        address
    }

    fn route(mut self, told: &Receiver<Told>) {
        for news in told {
            match news {
                Told::Joined(stream) => self.writers.push(stream),
                Told::Bytes(from, bytes) => self.handle(from, &bytes),
            }
        }
    }

    fn handle(&mut self, from: usize, bytes: &[u8]) {
        let (packet, _) = decode_one(bytes, Version::V311, &Limits::SERVER).unwrap().unwrap();
        match packet {
            Packet::Connect(_) => self.write(from, &Packet::ConnAck(ConnAck::default())),
            Packet::Subscribe(subscribe) => {
                let filters: Vec<_> = subscribe.filters().map(|asked| asked.filter.to_owned()).collect();
                let codes = vec![ReasonCode::Success; filters.len()];
                self.filters.extend(filters.into_iter().map(|filter| (filter, from)));
                let suback = SubAck {
                    packet_id: subscribe.packet_id,
                    properties: ReasonProperties::NONE,
                    codes: ReasonCodes::from_slice(&codes),
                };
                self.write(from, &Packet::SubAck(suback));
            }
            Packet::Publish(publish) => self.publish(from, publish),
            Packet::PubAck(_) => {}
            other => panic!("the generator sent {other:?}"),
        }
    }

    fn publish(&mut self, from: usize, publish: Publish<'_>) {
        self.messages += 1;
        let now = self.messages == FAULT_AT;
        if let Some(id) = publish.packet_id {
            let wrong = if now && self.fault == Fault::WrongId { id.next().next() } else { id };
            self.write(from, &Packet::PubAck(Ack::success(wrong)));
        }
        let to = self.filters.iter().find(|(filter, _)| filter == publish.topic).unwrap().1;
        let mut bytes = Vec::new();
        Packet::Publish(publish).encode(Version::V311, &mut bytes).unwrap();
        match self.fault {
            Fault::Lose if now => return,
            Fault::Duplicate if now => self.raw(to, &bytes),
            Fault::Swap if now => {
                self.kept = Some((to, bytes));
                return;
            }
            Fault::Misdeliver if now => {
                let other = self.filters.iter().find(|(_, other)| *other != to).unwrap().1;
                self.raw(other, &bytes);
            }
            Fault::Corrupt if now => *bytes.last_mut().unwrap() ^= 1,
            Fault::Foreign if now => {
                // The first four bytes of the payload say which run a message belongs to. The checksum
                // would have to be right as well, so this is found as damage too.
                let run = bytes.len() - publish.payload.len();
                bytes[run] ^= 0xFF;
            }
            Fault::Hang if self.messages >= FAULT_AT => {
                self.writers[to].shutdown(std::net::Shutdown::Both).ok();
                return;
            }
            _ => {}
        }
        self.raw(to, &bytes);
        if self.kept.as_ref().is_some_and(|(kept_for, _)| *kept_for == to) {
            let (to, late) = self.kept.take().unwrap();
            self.raw(to, &late);
        }
    }

    fn write(&mut self, to: usize, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(Version::V311, &mut bytes).unwrap();
        self.raw(to, &bytes);
    }

    fn raw(&mut self, to: usize, bytes: &[u8]) {
        // A connection that was shut down on purpose refuses bytes.
        self.writers[to].write_all(bytes).ok();
    }
}

fn accept(listener: &TcpListener, tell: &Sender<Told>) {
    for (index, stream) in listener.incoming().enumerate() {
        let stream = stream.unwrap();
        tell.send(Told::Joined(stream.try_clone().unwrap())).unwrap();
        let tell = tell.clone();
        std::thread::spawn(move || read(index, stream, &tell));
    }
}

/// Cuts what a client sends into packets.
fn read(index: usize, mut stream: TcpStream, tell: &Sender<Told>) {
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        pending.extend_from_slice(&chunk[..count]);
        while let Some((_, used)) = decode_one(&pending, Version::V311, &Limits::SERVER).unwrap() {
            let packet = pending.drain(..used).collect();
            if tell.send(Told::Bytes(index, packet)).is_err() {
                return;
            }
        }
    }
}

/// Runs the generator against a broker with this fault; returns its exit code and report.
fn run(fault: Fault, qos: &str) -> (i32, Value) {
    let address = Broker::start(fault).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(["p2p", "--pairs", "4", "--rate", "400", "--qos", qos, "--json", "--target", &address])
        .args(["--warm-up", "0.1", "--seconds", "0.4", "--concurrency", "1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().unwrap(), report)
}

/// Expects exactly these violations.
#[track_caller]
fn check(fault: Fault, expected: &[(&str, u64)]) {
    let (code, report) = run(fault, "0");
    for kind in ["lost", "duplicated", "reordered", "misdelivered", "corrupted"] {
        let wanted = expected.iter().find(|(name, _)| *name == kind).map_or(0, |(_, count)| *count);
        assert_eq!(report["violations"][kind], wanted, "{kind} with {fault:?}: {report}");
    }
    assert_eq!(code, i32::from(!expected.is_empty()), "{report}");
}

#[test]
fn a_faultless_broker_passes_with_all_messages_counted() {
    for qos in ["0", "1"] {
        let (code, report) = run(Fault::None, qos);
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["failures"], 0);
        let count = report["count"].as_u64().unwrap();
        assert!((120..=200).contains(&count), "400 a second for 0.4 s: {report}");
        assert!(report["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_lost_message_is_found() {
    check(Fault::Lose, &[("lost", 1)]);
}

#[test]
fn a_message_that_comes_twice_is_found() {
    check(Fault::Duplicate, &[("duplicated", 1)]);
}

#[test]
fn two_messages_that_change_places_are_found() {
    check(Fault::Swap, &[("reordered", 1)]);
}

#[test]
fn a_message_for_somebody_else_is_found() {
    check(Fault::Misdeliver, &[("misdelivered", 1)]);
}

#[test]
fn a_damaged_payload_is_found_and_its_message_is_lost() {
    check(Fault::Corrupt, &[("corrupted", 1), ("lost", 1)]);
    check(Fault::Foreign, &[("corrupted", 1), ("lost", 1)]);
}

#[test]
fn a_connection_that_the_broker_closes_is_a_failure() {
    let (code, report) = run(Fault::Hang, "0");
    assert_eq!(code, 1);
    assert!(report["failures"].as_u64().unwrap() >= 1, "{report}");
    assert!(report["violations"]["lost"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn an_acknowledgement_with_another_packet_id_is_a_failure() {
    let (code, report) = run(Fault::WrongId, "1");
    assert_eq!(code, 1);
    let examples = report["failure_examples"].to_string();
    assert!(examples.contains("PUBACK"), "{report}");
}

#[test]
fn a_broker_that_is_not_there_ends_the_run_with_another_code() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let status = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(["p2p", "--pairs", "1", "--patience", "1", "--target", &unused])
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), Some(2));
}

/// Which message the fault strikes: after the warm-up, well before the end.
const FAULT_AT: u32 = 100;

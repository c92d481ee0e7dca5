//! The generator against a broker with planted faults: each must be found, and nothing else.
//!
//! The broker here is as small as a broker can be (exact topics, QoS 0 and 1, retained messages, shared subscriptions,
//! one thread that routes) and commits exactly one fault per run, so that the figures of the report are known
//! beforehand. The quick scenarios and the plans of scenario files are put to the same test.

#![expect(clippy::disallowed_methods, reason = "a broker with blocking sockets needs threads")]
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at what it did not expect"
)]

use std::collections::{BTreeMap, BTreeSet};
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
    SharedTwice,
    SharedNever,
    StaleRetained,
    MissingRetained,
    /// Hands out retained messages without their flag.
    UnflaggedRetained,
    NoWill,
    WillAnyway,
    /// Says of every session that it is new.
    SessionForgotten,
    /// Keeps the sessions of those who ask for a new one.
    SessionKept,
    /// Answers a malformed packet like a PINGREQ.
    Tolerant,
    /// None: keeps messages for sessions whose clients are away.
    Keep,
    /// The same, all but one.
    KeepLess,
    /// The same, and one of them twice.
    KeepMore,
}

impl Fault {
    fn keeps(self) -> bool {
        matches!(self, Self::Keep | Self::KeepLess | Self::KeepMore)
    }
}

/// What the reader of a connection tells the router.
enum Told {
    Joined(TcpStream),
    Bytes(usize, Vec<u8>),
    Left(usize),
}

struct Broker {
    fault: Fault,
    writers: Vec<TcpStream>,
    filters: Vec<(String, usize)>,
    messages: u32,
    kept: Option<(usize, Vec<u8>)>,
    /// Members of shared subscriptions by name and topic; the first is next.
    shares: Vec<(String, Vec<usize>)>,
    /// By topic: the PUBLISH as it is sent to new subscribers.
    retained: Vec<(String, Vec<u8>)>,
    /// By connection: topic and PUBLISH.
    wills: Vec<Option<(String, Vec<u8>)>>,
    /// Client ids of all who ever connected.
    known: BTreeSet<String>,
    /// By connection: its client id.
    names: Vec<String>,
    /// By client id: the filter of one who is away, and what waits.
    away: BTreeMap<String, (String, Vec<Vec<u8>>)>,
}

impl Broker {
    fn start(fault: Fault) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || accept(&listener, &tell, fault));
        let broker = Self {
            fault,
            writers: Vec::new(),
            filters: Vec::new(),
            messages: 0,
            kept: None,
            shares: Vec::new(),
            retained: Vec::new(),
            wills: Vec::new(),
            known: BTreeSet::new(),
            names: Vec::new(),
            away: BTreeMap::new(),
        };
        std::thread::spawn(move || broker.route(&told));
        address
    }

    fn route(mut self, told: &Receiver<Told>) {
        for news in told {
            match news {
                Told::Joined(stream) => {
                    self.writers.push(stream);
                    self.wills.push(None);
                    self.names.push(String::new());
                }
                Told::Bytes(from, bytes) => self.handle(from, &bytes),
                Told::Left(from) => self.left(from),
            }
        }
    }

    fn handle(&mut self, from: usize, bytes: &[u8]) {
        let (packet, _) = decode_one(bytes, Version::V311, &Limits::SERVER).unwrap().unwrap();
        match packet {
            Packet::Connect(connect) => {
                self.wills[from] = connect.will.map(|will| {
                    let publish = Publish { topic: will.topic, payload: will.payload, ..Publish::default() };
                    (will.topic.to_owned(), encoded(&Packet::Publish(publish)))
                });
                let is_known = !self.known.insert(connect.client_id.to_owned());
                let session_present = match self.fault {
                    Fault::SessionForgotten => false,
                    Fault::SessionKept => is_known,
                    _ => is_known && !connect.clean_start,
                };
                self.write(from, &Packet::ConnAck(ConnAck { session_present, ..ConnAck::default() }));
                connect.client_id.clone_into(&mut self.names[from]);
                for bytes in
                    self.away.remove(connect.client_id).map(|(_, waiting)| waiting).unwrap_or_default()
                {
                    self.raw(from, &bytes);
                }
            }
            Packet::Subscribe(subscribe) => {
                let filters: Vec<_> = subscribe.filters().map(|asked| asked.filter.to_owned()).collect();
                let codes = vec![ReasonCode::Success; filters.len()];
                let suback = SubAck {
                    packet_id: subscribe.packet_id,
                    properties: ReasonProperties::NONE,
                    codes: ReasonCodes::from_slice(&codes),
                };
                self.write(from, &Packet::SubAck(suback));
                for filter in filters {
                    self.join(filter, from);
                }
            }
            Packet::Publish(publish) => self.publish(from, publish),
            Packet::PubAck(_) => {}
            Packet::PingReq => self.write(from, &Packet::PingResp),
            Packet::Disconnect(_) => {
                let will = self.wills[from].take();
                if let Some((topic, bytes)) = will.filter(|_| self.fault == Fault::WillAnyway) {
                    self.deliver_all(&topic, &bytes);
                }
                self.writers[from].shutdown(std::net::Shutdown::Both).ok();
            }
            other => panic!("the generator sent {other:?}"),
        }
    }

    fn join(&mut self, filter: String, from: usize) {
        if let Some(shared) = filter.strip_prefix("$share/") {
            match self.shares.iter_mut().find(|(known, _)| known == shared) {
                Some((_, members)) => members.push(from),
                None => self.shares.push((shared.to_owned(), vec![from])),
            }
            return;
        }
        let kept = self.retained.iter().filter(|(topic, _)| matches(&filter, topic));
        let kept: Vec<_> = kept.map(|(_, bytes)| bytes.clone()).collect();
        let fault = self.fault;
        for mut bytes in kept.into_iter().filter(|_| fault != Fault::MissingRetained) {
            if fault == Fault::UnflaggedRetained {
                bytes[0] &= !1;
            }
            self.raw(from, &bytes);
        }
        self.filters.push((filter, from));
    }

    fn left(&mut self, from: usize) {
        if self.fault.keeps()
            && let Some((filter, _)) = self.filters.iter().find(|(_, member)| *member == from)
        {
            self.away.insert(self.names[from].clone(), (filter.clone(), Vec::new()));
        }
        self.filters.retain(|(_, member)| *member != from);
        if let Some((topic, bytes)) = self.wills[from].take()
            && self.fault != Fault::NoWill
        {
            self.deliver_all(&topic, &bytes);
        }
    }

    fn deliver_all(&mut self, topic: &str, bytes: &[u8]) {
        let takers: Vec<usize> =
            self.filters.iter().filter(|(filter, _)| filter == topic).map(|(_, to)| *to).collect();
        for to in takers {
            self.raw(to, bytes);
        }
    }

    fn publish(&mut self, from: usize, publish: Publish<'_>) {
        self.messages += 1;
        let now = self.messages == FAULT_AT;
        if let Some(id) = publish.packet_id {
            let wrong = if now && self.fault == Fault::WrongId { id.next().next() } else { id };
            self.write(from, &Packet::PubAck(Ack::success(wrong)));
        }
        if publish.retain {
            let known = self.retained.iter().position(|(topic, _)| topic == publish.topic);
            let bytes = encoded(&Packet::Publish(publish));
            match known {
                Some(_) if self.fault == Fault::StaleRetained => {}
                Some(place) => self.retained[place].1 = bytes,
                None => self.retained.push((publish.topic.to_owned(), bytes)),
            }
        }
        let publish = Publish { retain: false, ..publish };
        let mut bytes = encoded(&Packet::Publish(publish));
        self.keep_for_those_away(publish.topic, &bytes, now);
        for share in 0..self.shares.len() {
            let (name, members) = &mut self.shares[share];
            if name.split_once('/').is_none_or(|(_, filter)| !matches(filter, publish.topic)) {
                continue;
            }
            members.rotate_left(1);
            let (chosen, other) = (members[0], members[1]);
            if now && self.fault == Fault::SharedNever {
                continue;
            }
            self.raw(chosen, &bytes);
            if now && self.fault == Fault::SharedTwice {
                self.raw(other, &bytes);
            }
        }
        let Some(to) = self.filters.iter().find(|(filter, _)| filter == publish.topic).map(|(_, to)| *to)
        else {
            return;
        };
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

    fn keep_for_those_away(&mut self, topic: &str, bytes: &[u8], now: bool) {
        let away = self.away.values_mut().filter(|(filter, _)| filter == topic);
        for (nth, (_, waiting)) in away.enumerate() {
            let copies = match self.fault {
                Fault::KeepLess if now && nth == 0 => 0,
                Fault::KeepMore if now && nth == 0 => 2,
                _ => 1,
            };
            waiting.extend(std::iter::repeat_n(bytes.to_vec(), copies));
        }
    }

    fn write(&mut self, to: usize, packet: &Packet<'_>) {
        self.raw(to, &encoded(packet));
    }

    fn raw(&mut self, to: usize, bytes: &[u8]) {
        // A connection that was shut down on purpose refuses bytes.
        self.writers[to].write_all(bytes).ok();
    }
}

/// Whether a filter of these tests matches: an exact topic, or everything below `prefix/#`.
fn matches(filter: &str, topic: &str) -> bool {
    filter == topic || filter.strip_suffix('#').is_some_and(|prefix| topic.starts_with(prefix))
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V311, &mut bytes).unwrap();
    bytes
}

fn accept(listener: &TcpListener, tell: &Sender<Told>, fault: Fault) {
    for (index, stream) in listener.incoming().enumerate() {
        let stream = stream.unwrap();
        tell.send(Told::Joined(stream.try_clone().unwrap())).unwrap();
        let tell = tell.clone();
        std::thread::spawn(move || read(index, stream, &tell, fault));
    }
}

/// Cuts what a client sends into packets. What is none ends the connection.
fn read(index: usize, mut stream: TcpStream, tell: &Sender<Told>, fault: Fault) {
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    'connection: while let Ok(count @ 1..) = stream.read(&mut chunk) {
        pending.extend_from_slice(&chunk[..count]);
        loop {
            match decode_one(&pending, Version::V311, &Limits::SERVER) {
                Ok(Some((_, used))) => {
                    let packet = pending.drain(..used).collect();
                    if tell.send(Told::Bytes(index, packet)).is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(_) if fault == Fault::Tolerant => {
                    pending.clear();
                    stream.write_all(&encoded(&Packet::PingResp)).ok();
                    break;
                }
                Err(_) => {
                    stream.shutdown(std::net::Shutdown::Both).ok();
                    break 'connection;
                }
            }
        }
    }
    tell.send(Told::Left(index)).ok();
}

/// Runs the generator against a broker with this fault; returns its exit code and report.
fn run(fault: Fault, qos: &str) -> (i32, Value) {
    run_scenario(fault, &["p2p", "--pairs", "4", "--rate", "400", "--qos", qos])
}

/// The same with further arguments.
fn run_with(fault: Fault, qos: &str, further: &[&str]) -> (i32, Value) {
    let scenario = ["p2p", "--pairs", "4", "--rate", "400", "--qos", qos];
    run_scenario(fault, &[&scenario, further].concat())
}

fn run_scenario(fault: Fault, scenario: &[&str]) -> (i32, Value) {
    let address = Broker::start(fault).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(scenario)
        .args(["--warm-up", "0.1", "--seconds", "0.4", "--concurrency", "1", "--patience", "1"])
        .args(["--json", "--target", &address])
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
    check_scenario(fault, &["p2p", "--pairs", "4", "--rate", "400", "--qos", "0"], expected);
}

#[track_caller]
fn check_scenario(fault: Fault, scenario: &[&str], expected: &[(&str, u64)]) {
    let (code, report) = run_scenario(fault, scenario);
    for kind in ["lost", "duplicated", "reordered", "misdelivered", "corrupted", "stale"] {
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
fn a_message_that_reaches_two_members_or_none_is_found() {
    let shared = ["shared", "--publishers", "4", "--subscribers", "3", "--rate", "400"];
    check_scenario(Fault::None, &shared, &[]);
    check_scenario(Fault::SharedTwice, &shared, &[("duplicated", 1)]);
    check_scenario(Fault::SharedNever, &shared, &[("lost", 1)]);
}

#[test]
fn a_retained_message_that_is_stale_or_missing_is_found_in_the_quick_scenario() {
    let retained = ["retained", "--publishers", "2", "--topics", "3", "--subscribers", "4", "--qos", "0"];
    check_scenario(Fault::None, &retained, &[]);
    check_scenario(Fault::StaleRetained, &retained, &[("stale", 24)]);
    check_scenario(Fault::MissingRetained, &retained, &[("lost", 24)]);
}

#[test]
fn a_retained_message_without_its_flag_is_a_failure() {
    let retained = ["retained", "--publishers", "2", "--topics", "3", "--subscribers", "1", "--qos", "0"];
    let (code, report) = run_scenario(Fault::UnflaggedRetained, &retained);
    assert_eq!((code, &report["failures"]), (1, &Value::from(6)), "{report}");
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

/// What `dunlin-loadgen` with these arguments writes on standard output.
#[track_caller]
fn output_of(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_kept_says_the_same_as_the_report() {
    let folder = std::env::temp_dir().join(format!("dunlin-loadgen-kept-{}", std::process::id()));
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (code, report) = run_with(Fault::Lose, "0", &["--out", folder.to_str().unwrap()]);
    assert_eq!(code, 1, "{report}");
    let outcome: Value = serde_json::from_slice(&std::fs::read(file("outcome.json")).unwrap()).unwrap();
    assert_eq!((&outcome["format_version"], &outcome["verdict"]), (&1.into(), &"failed".into()));
    assert_eq!(outcome["violations"]["found"]["lost"], 1);
    assert_eq!(outcome["legs"]["deliver"]["corrected"]["samples"], report["latency_us"]["samples"]);
    let p99_us = outcome["legs"]["deliver"]["corrected"]["p99_ns"].as_f64().unwrap() / 1e3;
    assert!((p99_us - report["latency_us"]["p99"].as_f64().unwrap()).abs() < 1e-6);
    let stages: Vec<&str> =
        outcome["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(stages, ["connecting", "settling", "warming up", "measuring", "draining"]);

    for name in ["report.html", "report.md", "series.csv", "percentiles.csv"] {
        assert!(std::fs::metadata(file(name)).unwrap().len() > 100, "{name}");
    }
    assert!(output_of(&["report", &file("outcome.json")]).contains("FAILED"));
    let (one, all) = (file("times.hlog"), file("all.hlog"));
    output_of(&["merge", &one, &one, "-o", &all]);
    assert!(std::fs::read_to_string(&all).unwrap().contains("Tag=deliver,"));
    output_of(&["merge", &file("outcome.json"), &file("outcome.json"), "-o", &file("all.json")]);
    let merged: Value = serde_json::from_slice(&std::fs::read(file("all.json")).unwrap()).unwrap();
    assert_eq!(merged["violations"]["found"]["lost"], 2);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Which message the fault strikes: after the warm-up, well before the end.
const FAULT_AT: u32 = 100;

/// Runs a plan against a broker with this fault; returns the exit code and the outcome.
fn run_plan(fault: Fault, name: &str, plan: &str) -> (i32, Value) {
    let address = Broker::start(fault).to_string();
    let path =
        std::env::temp_dir().join(format!("dunlin-oracle-{}-{name}-{fault:?}.toml", std::process::id()));
    std::fs::write(&path, plan).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .arg("run")
        .arg(&path)
        .args(["--json", "--concurrency", "1", "--target", &address])
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let outcome = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().unwrap(), outcome)
}

/// Expects exactly these violations from a plan, and that each is told in words.
#[track_caller]
fn check_plan(fault: Fault, name: &str, plan: &str, expected: &[(&str, u64)]) {
    let (code, outcome) = run_plan(fault, name, plan);
    let short = format!("{} {} {}", outcome["violations"], outcome["failures"], outcome["notes"]);
    for (kind, count) in outcome["violations"]["found"].as_object().unwrap() {
        let wanted = expected.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count);
        assert_eq!(*count, wanted, "{kind} with {fault:?}: {short}");
    }
    for (kind, _) in expected {
        assert!(outcome["notes"].to_string().contains(kind), "{kind} in words: {short}");
    }
    assert_eq!(code == 1, !expected.is_empty(), "{code}: {short}");
    assert!(outcome["counters"]["sent"].as_u64().unwrap() > 0, "{short}");
}

/// Four pairs, 400 messages a second.
fn pairs(qos: u8) -> String {
    format!(
        r#"
        version = 1
        name = "pairs"
        about = "Four pairs, each on a topic of its own."
        [[group]]
        name = "listeners"
        count = 4
        protocol = "3.1.1"
        subscribe = [{{ filter = "p/{{index}}", qos = {qos} }}]
        [[group]]
        name = "speakers"
        count = 4
        protocol = "3.1.1"
        publish = [{{ topic = "p/{{index}}", qos = {qos}, rate = 400 }}]
        {stages}
        "#,
        stages = STAGES.replace("LISTENERS", "listeners")
    )
}

/// Three members of a shared subscription.
fn shared() -> String {
    format!(
        r#"
        version = 1
        name = "shared"
        about = "One publisher, three members of a shared subscription."
        [[group]]
        name = "members"
        count = 3
        protocol = "3.1.1"
        subscribe = [{{ filter = "$share/crew/jobs" }}]
        [[group]]
        name = "speakers"
        count = 1
        protocol = "3.1.1"
        publish = [{{ topic = "jobs", rate = 400 }}]
        {stages}
        "#,
        stages = STAGES.replace("LISTENERS", "members")
    )
}

const STAGES: &str = r#"
        [[stage]]
        name = "connect"
        start = ["LISTENERS", "speakers"]
        until = "subscribed"
        timeout = "10s"
        [[stage]]
        name = "send"
        duration = "400ms"
        rate = 1.0
        measure = true
        [[stage]]
        name = "drain"
        until = "drained"
        timeout = "2s"
"#;

/// Retained messages, and clients who subscribe when they are there.
const RETAINED: &str = r#"
        version = 1
        name = "retained"
        about = "Retained messages that are replaced before somebody subscribes."
        [[group]]
        name = "speakers"
        count = 2
        protocol = "3.1.1"
        publish = [{ topic = "state/{index}", qos = 1, retain = true, rate = 40, messages = 5 }]
        [[group]]
        name = "latecomers"
        count = 2
        protocol = "3.1.1"
        subscribe = [{ filter = "state/{index}", qos = 1 }]
        [[stage]]
        name = "connect"
        start = ["speakers"]
        until = "connected"
        timeout = "10s"
        [[stage]]
        name = "retain"
        until = "published"
        timeout = "10s"
        rate = 1.0
        [[stage]]
        name = "come late"
        start = ["latecomers"]
        until = "subscribed"
        timeout = "10s"
        [[stage]]
        name = "listen"
        duration = "200ms"
        measure = true
"#;

/// Clients with a will, half of which lose their connection and half of which leave in order.
const WILLS: &str = r#"
        version = 1
        name = "wills"
        about = "Wills of those who fall and of those who say goodbye."
        [[group]]
        name = "listeners"
        count = 1
        protocol = "3.1.1"
        subscribe = [{ filter = "gone" }, { filter = "tick" }]
        [[group]]
        name = "fallers"
        count = 2
        protocol = "3.1.1"
        will = { topic = "gone" }
        publish = [{ topic = "tick", rate = 100 }]
        [[group]]
        name = "leavers"
        count = 2
        protocol = "3.1.1"
        will = { topic = "gone" }
        [[stage]]
        name = "connect"
        start = ["listeners", "fallers", "leavers"]
        until = "subscribed"
        timeout = "10s"
        [[stage]]
        name = "send"
        duration = "200ms"
        rate = 1.0
        measure = true
        [[stage]]
        name = "part"
        duration = "300ms"
        stop = ["leavers"]
        drop = [{ group = "fallers" }]
"#;

/// Clients who come back, half of them to a session that is kept and half of them to a new one.
const SESSIONS: &str = r#"
        version = 1
        name = "sessions"
        about = "Clients that lose their connection and come back."
        [[group]]
        name = "listeners"
        count = 1
        protocol = "3.1.1"
        subscribe = [{ filter = "tick" }]
        [[group]]
        name = "speakers"
        count = 1
        protocol = "3.1.1"
        publish = [{ topic = "tick", rate = 100 }]
        [[group]]
        name = "keepers"
        count = 2
        protocol = "3.1.1"
        clean_start = false
        reconnect = { delay = "50ms" }
        [[group]]
        name = "beginners"
        count = 3
        protocol = "3.1.1"
        reconnect = { delay = "50ms" }
        [[stage]]
        name = "connect"
        start = ["listeners", "speakers", "keepers", "beginners"]
        until = "subscribed"
        timeout = "10s"
        [[stage]]
        name = "come back"
        duration = "400ms"
        rate = 1.0
        measure = true
        drop = [{ group = "keepers" }, { group = "beginners" }]
        [[stage]]
        name = "all here"
        until = "subscribed"
        timeout = "10s"
"#;

/// Clients who send what no client may send.
const MALFORMED: &str = r#"
        version = 1
        name = "malformed"
        about = "Packets that no client may send, beside an honest pair."
        [[group]]
        name = "listeners"
        count = 1
        protocol = "3.1.1"
        subscribe = [{ filter = "tick" }]
        [[group]]
        name = "speakers"
        count = 1
        protocol = "3.1.1"
        publish = [{ topic = "tick", rate = 100 }]
        [[group]]
        name = "hostile"
        count = 5
        protocol = "3.1.1"
        behaviour = { malformed = { kinds = ["reserved_flags", "qos_three", "bad_utf8"], rate = 50 } }
        [[stage]]
        name = "connect"
        start = ["listeners", "speakers", "hostile"]
        until = "subscribed"
        timeout = "10s"
        [[stage]]
        name = "attacked"
        duration = "400ms"
        rate = 1.0
        measure = true
        [[stage]]
        name = "drain"
        stop = ["hostile"]
        until = "drained"
        timeout = "20s"
"#;

#[test]
fn a_plan_passes_with_a_faultless_broker() {
    for (name, plan) in [
        ("p0", pairs(0)),
        ("p1", pairs(1)),
        ("s", shared()),
        ("r", RETAINED.to_owned()),
        ("w", WILLS.to_owned()),
        ("b", SESSIONS.to_owned()),
        ("m", MALFORMED.to_owned()),
    ] {
        check_plan(Fault::None, name, &plan, &[]);
    }
}

#[test]
fn a_plan_finds_each_fault_of_delivery() {
    for (fault, expected) in [
        (Fault::Lose, [("lost", 1)].as_slice()),
        (Fault::Duplicate, &[("duplicated", 1)]),
        (Fault::Swap, &[("reordered", 1)]),
        (Fault::Misdeliver, &[("misdelivered", 1)]),
        (Fault::Corrupt, &[("corrupted", 1), ("lost", 1)]),
        (Fault::Foreign, &[("corrupted", 1), ("lost", 1)]),
    ] {
        for qos in [0, 1] {
            check_plan(fault, &format!("p{qos}"), &pairs(qos), expected);
        }
    }
}

#[test]
fn a_plan_finds_faults_of_shared_subscriptions() {
    for (fault, expected) in
        [(Fault::SharedTwice, ("shared_twice", 1)), (Fault::SharedNever, ("shared_never", 1))]
    {
        check_plan(fault, "shared", &shared(), &[expected]);
    }
}

#[test]
fn a_plan_finds_retained_messages_that_are_stale_or_missing() {
    check_plan(Fault::StaleRetained, "retained", RETAINED, &[("stale_retained", 2)]);
    check_plan(Fault::MissingRetained, "retained", RETAINED, &[("missing_retained", 2)]);
}

#[test]
fn a_plan_finds_wills_that_are_missing_or_came_anyway() {
    check_plan(Fault::NoWill, "wills", WILLS, &[("will_missing", 2)]);
    check_plan(Fault::WillAnyway, "wills", WILLS, &[("will_unexpected", 2)]);
}

#[test]
fn a_plan_finds_sessions_that_are_gone_or_kept_against_the_rules() {
    check_plan(Fault::SessionForgotten, "sessions", SESSIONS, &[("session_wrong", 2)]);
    check_plan(Fault::SessionKept, "sessions", SESSIONS, &[("session_wrong", 3)]);
}

#[test]
fn a_plan_finds_a_broker_that_tolerates_malformed_packets() {
    let (code, outcome) = run_plan(Fault::Tolerant, "malformed", MALFORMED);
    let figure = |name: &str| {
        let figures = outcome["figures"].as_array().unwrap();
        figures
            .iter()
            .find(|figure| figure["name"] == name)
            .map_or(0.0, |figure| figure["value"].as_f64().unwrap())
    };
    let found = outcome["violations"]["found"]["malformed_tolerated"].as_f64().unwrap();
    assert!(found > 10.0, "50 a second for 0.4 s: {found}");
    assert_eq!((code, figure("malformed packets sent")), (1, found), "each of them, and without waiting");
    assert_eq!(figure("malformed packets that ended their connection"), 0.0);
    let notes = outcome["notes"].to_string();
    assert!(notes.contains("reserved_flags of hostile[") && notes.contains("answered"), "{notes}");
}

#[test]
fn sessions_are_left_behind_and_messages_with_them() {
    let address = Broker::start(Fault::None).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(["fill", "--sessions", "1000", "--per-topic", "50", "--messages", "3", "--patience", "5"])
        .args(["--json", "--target", &address])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["count"], &report["failures"]), (&Value::from(60), &Value::from(0)), "{report}");
    assert_eq!(output.status.code(), Some(0));
}

/// Leaves 20 sessions with 30 messages each at a broker, and brings them back: exit code and report of that.
fn left_and_drained(fault: Fault) -> (i32, Value) {
    let address = Broker::start(fault).to_string();
    let stock =
        ["--sessions", "20", "--per-topic", "5", "--messages", "30", "--name", "7", "--patience", "5"];
    let run = |verb: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
            .args([&[verb], &stock[..], &["--concurrency", "3", "--json", "--target", &address]].concat())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), report)
    };
    let (code, report) = run("fill");
    assert_eq!((code, &report["failures"]), (0, &Value::from(0)), "{report}");
    run("drain")
}

#[test]
fn sessions_that_come_back_get_each_message_once() {
    let (code, report) = left_and_drained(Fault::Keep);
    assert_eq!(
        (code, &report["count"], &report["failures"]),
        (0, &Value::from(600), &Value::from(0)),
        "{report}"
    );
    let (code, report) = left_and_drained(Fault::KeepLess);
    let lost = &report["violations"]["lost"];
    assert_eq!((code, &report["count"], lost), (1, &Value::from(599), &Value::from(1)), "{report}");
    let (code, report) = left_and_drained(Fault::KeepMore);
    let again = &report["violations"]["duplicated"];
    assert_eq!((code, &report["count"], again), (1, &Value::from(600), &Value::from(1)), "{report}");
}

#[test]
fn acknowledgements_are_timed() {
    let (_, report) = run(Fault::None, "1");
    let samples = |field: &str| report[field]["samples"].as_u64();
    assert_eq!(samples("acknowledged_us"), samples("latency_us"), "{report}");
    let (_, report) = run(Fault::None, "0");
    assert!(report["acknowledged_us"].is_null(), "{report}");
}

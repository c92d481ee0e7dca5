//! A durable broker as small as one can be, with one planted fault.
//!
//! It appends every packet of every client to a journal before it acts upon it, and acts on the journal again when it is
//! started: state is a function of the journal. One thread routes. Each fault is a way in which brokers lose what they
//! have acknowledged, mostly a record that recovery leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use dunlin_wire::packet::{Ack, ConnAck, Connect, Publish, ReasonCodes, ReasonProperties, SubAck, UnsubAck};
use dunlin_wire::{Limits, Packet, PacketId, PublishHead, QoS, ReasonCode, TopicFilter, TopicName, Version};
use dunlin_wire::{decode_one, encoder};

/// The one thing that the broker does wrong. The names are arguments of its process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Writes the journal some packets after it has answered them.
    AnswersFirst,
    /// Recovers without some messages.
    SkipsMessages,
    /// Recovers without the packet ids of QoS 2 messages that it has received.
    ForgetsReceived,
    /// Recovers queues in the wrong order.
    Reverses,
    /// Recovers older retained messages.
    StaleRetained,
    /// Recovers no retained messages.
    NoRetained,
    /// Recovers removed retained messages.
    KeepsRemoved,
    /// Recovers without some sessions.
    ForgetsSessions,
    /// Recovers without unsubscriptions.
    ForgetsUnsubscribes,
    /// Recovers without subscriptions.
    ForgetsSubscribes,
    /// Recovers sessions that a clean start had ended.
    ForgetsCleanStarts,
    /// Recovers payloads with a wrong byte.
    Corrupts,
    /// Keeps the first connection when a second one takes over.
    KeepsBoth,
    /// Ends by itself after a while.
    Dies,
    /// Recovers without Wills.
    ForgetsWills,
    /// Recovers Wills that a DISCONNECT had taken back.
    KeepsWills,
    /// Publishes a delayed Will although its client is back.
    WillsOfTheReturned,
    /// Counts the end of a session anew from each start.
    CountsAnew,
    /// Recovers without sessions that are to end at some time.
    EndsEarly,
    /// Recovers without what waits for members of shared groups.
    DropsShared,
    /// Drops what a member of a shared group had not acknowledged when its session ends.
    DropsOrphans,
    /// Gives some messages to two members of a shared group.
    SharesTwice,
    /// Answers some messages of QoS 1 after later ones.
    AnswersLate,
}

impl Fault {
    pub(crate) const ALL: [Self; 24] = [
        Self::None,
        Self::AnswersFirst,
        Self::SkipsMessages,
        Self::ForgetsReceived,
        Self::Reverses,
        Self::StaleRetained,
        Self::NoRetained,
        Self::KeepsRemoved,
        Self::ForgetsSessions,
        Self::ForgetsUnsubscribes,
        Self::ForgetsSubscribes,
        Self::ForgetsCleanStarts,
        Self::Corrupts,
        Self::KeepsBoth,
        Self::Dies,
        Self::ForgetsWills,
        Self::KeepsWills,
        Self::WillsOfTheReturned,
        Self::CountsAnew,
        Self::EndsEarly,
        Self::DropsShared,
        Self::DropsOrphans,
        Self::SharesTwice,
        Self::AnswersLate,
    ];

    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|fault| format!("{fault:?}") == name).unwrap()
    }
}

#[derive(Clone)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
}

/// What a client is owed: a message, or (with `released`) only its PUBREL.
struct Owed {
    message: Message,
    released: bool,
    /// Its shared subscription, if it came by one.
    group: Option<String>,
}

struct Will {
    message: Message,
    delay_ms: u64,
}

struct Session {
    version: Version,
    /// A 3.1.1 session that began clean: gone with the next CONNECT.
    passing: bool,
    filters: BTreeMap<String, QoS>,
    /// In the order of sending.
    owed: Vec<(PacketId, Owed)>,
    received: BTreeSet<PacketId>,
    next_id: PacketId,
    will: Option<Will>,
    expiry_ms: u64,
    /// When its connection ended; `None` while there is one.
    left_at: Option<u64>,
    /// A PUBACK that is held back.
    late: Option<PacketId>,
}

/// Everything that the journal says.
struct State {
    fault: Fault,
    recovers: bool,
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Message>,
    count: u32,
    turn: usize,
}

/// Bytes for a client.
type Output = Vec<(String, Vec<u8>)>;

impl State {
    fn skips(&mut self, fault: Fault, one_in: u32) -> bool {
        self.count += 1;
        self.recovers && self.fault == fault && self.count.is_multiple_of(one_in)
    }

    fn handle(&mut self, client: &str, packet: &Packet<'_>, out: &mut Output) {
        if let Packet::Connect(connect) = packet {
            return self.connect(client, connect, out);
        }
        let Some(session) = self.sessions.get_mut(client) else { return };
        let version = session.version;
        let mut answer = |packet: Packet<'_>| out.push((client.to_owned(), encoded(version, &packet)));
        match packet {
            Packet::Publish(publish) => self.publish(client, publish, out),
            Packet::Disconnect(_) if !(self.recovers && self.fault == Fault::KeepsWills) => {
                session.will = None
            }
            Packet::PubAck(ack) => session.owed.retain(|(id, _)| *id != ack.packet_id),
            Packet::PubRec(ack) => {
                for (id, owed) in &mut session.owed {
                    owed.released |= *id == ack.packet_id;
                }
                answer(Packet::PubRel(Ack::success(ack.packet_id)));
            }
            Packet::PubComp(ack) => session.owed.retain(|(id, _)| *id != ack.packet_id),
            Packet::PubRel(ack) => {
                session.received.remove(&ack.packet_id);
                answer(Packet::PubComp(Ack::success(ack.packet_id)));
            }
            Packet::Subscribe(subscribe) => {
                let asked = subscribe.filters().next().unwrap();
                let codes = [ReasonCode::Success];
                answer(Packet::SubAck(SubAck {
                    packet_id: subscribe.packet_id,
                    properties: ReasonProperties::NONE,
                    codes: ReasonCodes::from_slice(&codes),
                }));
                let (filter, qos) = (asked.filter.to_owned(), asked.options.qos);
                if !self.skips(Fault::ForgetsSubscribes, 2) {
                    self.subscribe(client, filter, qos, out);
                }
            }
            Packet::Unsubscribe(unsubscribe) => {
                let filter = unsubscribe.filters.iter().next().unwrap();
                let is_known = session.filters.contains_key(filter);
                let codes = [if is_known { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted }];
                answer(Packet::UnsubAck(UnsubAck {
                    packet_id: unsubscribe.packet_id,
                    properties: ReasonProperties::NONE,
                    codes: ReasonCodes::from_slice(&codes),
                }));
                if !(self.recovers && self.fault == Fault::ForgetsUnsubscribes) {
                    session.filters.remove(filter);
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, client: &str, connect: &Connect<'_>, out: &mut Output) {
        let (version, clean) = (connect.version, connect.clean_start);
        let forgets = self.recovers && self.fault == Fault::ForgetsCleanStarts;
        let ends = |session: &Session| (clean && !forgets) || session.passing;
        if let Some(session) = self.sessions.get(client) {
            let ends = ends(session);
            let is_delayed = session.will.as_ref().is_some_and(|will| will.delay_ms > 0);
            if ends || !is_delayed || self.fault == Fault::WillsOfTheReturned {
                self.publish_will(client, out);
            }
            if ends {
                self.end(client, out);
            }
        }
        let present = self.sessions.contains_key(client);
        let session = self.sessions.entry(client.to_owned()).or_insert_with(|| Session {
            version,
            passing: clean && version == Version::V311,
            filters: BTreeMap::new(),
            owed: Vec::new(),
            received: BTreeSet::new(),
            next_id: PacketId::FIRST,
            will: None,
            expiry_ms: 0,
            left_at: None,
            late: None,
        });
        session.left_at = None;
        session.late = None;
        let seconds = connect.properties.session_expiry_interval.unwrap_or(0);
        session.expiry_ms = if version == Version::V311 { u64::MAX } else { u64::from(seconds) * 1_000 };
        session.will = connect.will.map(|will| Will {
            message: Message {
                topic: will.topic.to_owned(),
                payload: will.payload.to_vec(),
                qos: will.qos,
                retain: false,
            },
            delay_ms: u64::from(will.properties.will_delay_interval.unwrap_or(0)) * 1_000,
        });
        let connack = ConnAck { session_present: present, ..ConnAck::default() };
        let mut bytes = encoded(version, &Packet::ConnAck(connack));
        for (id, owed) in &session.owed {
            if owed.released {
                bytes.extend(encoded(version, &Packet::PubRel(Ack::success(*id))));
            } else {
                bytes.extend(delivery(version, &owed.message, *id, true));
            }
        }
        out.push((client.to_owned(), bytes));
    }

    /// Its connection has ended.
    fn left(&mut self, client: &str, now_ms: u64, out: &mut Output) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.left_at = Some(now_ms);
        }
        self.pass(now_ms, out);
    }

    /// The broker starts: whoever was connected is not any more.
    fn started(&mut self, now_ms: u64, out: &mut Output) {
        for session in self.sessions.values_mut() {
            if session.left_at.is_none() || self.fault == Fault::CountsAnew {
                session.left_at = Some(now_ms);
            }
        }
        self.pass(now_ms, out);
    }

    /// Time passes: Wills that are due are published, sessions that have lived for long enough end.
    fn pass(&mut self, now_ms: u64, out: &mut Output) {
        let away: Vec<(String, u64)> = self
            .sessions
            .iter()
            .filter_map(|(name, session)| Some((name.clone(), now_ms.saturating_sub(session.left_at?))))
            .collect();
        for (client, away_ms) in away {
            let session = &self.sessions[&client];
            let ends = away_ms >= session.expiry_ms;
            if ends || session.will.as_ref().is_some_and(|will| away_ms >= will.delay_ms) {
                self.publish_will(&client, out);
            }
            if ends {
                self.end(&client, out);
            }
        }
    }

    fn publish_will(&mut self, client: &str, out: &mut Output) {
        if let Some(will) = self.sessions.get_mut(client).and_then(|session| session.will.take()) {
            self.hand_out(&will.message, out);
        }
    }

    /// A session ends; what it had of shared groups goes on to others.
    fn end(&mut self, client: &str, out: &mut Output) {
        let session = self.sessions.remove(client).unwrap();
        for (_, owed) in session.owed {
            if let Some(group) = owed.group.filter(|_| self.fault != Fault::DropsOrphans) {
                self.share(&group, &owed.message, out);
            }
        }
    }

    fn publish(&mut self, client: &str, publish: &Publish<'_>, out: &mut Output) {
        let session = self.sessions.get_mut(client).unwrap();
        let id = publish.packet_id.unwrap();
        let exactly_once = publish.qos == QoS::ExactlyOnce;
        let answer =
            if exactly_once { Packet::PubRec(Ack::success(id)) } else { Packet::PubAck(Ack::success(id)) };
        let bytes = encoded(session.version, &answer);
        if self.fault == Fault::AnswersLate
            && !exactly_once
            && session.late.is_none()
            && id.get().is_multiple_of(16)
        {
            session.late = Some(id);
        } else {
            out.push((client.to_owned(), bytes));
            if let Some(id) = session.late.take_if(|_| !exactly_once) {
                out.push((client.to_owned(), encoded(session.version, &Packet::PubAck(Ack::success(id)))));
            }
        }
        if exactly_once && !session.received.insert(id) {
            return;
        }
        if self.skips(Fault::SkipsMessages, 10) {
            return;
        }
        let mut payload = publish.payload.to_vec();
        if self.skips(Fault::Corrupts, 10)
            && let Some(last) = payload.last_mut()
        {
            *last ^= 1;
        }
        let mut message =
            Message { topic: publish.topic.to_owned(), payload, qos: publish.qos, retain: publish.retain };
        if message.retain {
            self.retain(&message);
        }
        message.retain = false;
        self.hand_out(&message, out);
    }

    fn hand_out(&mut self, message: &Message, out: &mut Output) {
        let takers: Vec<(String, QoS)> = self.takers(&message.topic);
        for (taker, granted) in takers {
            self.owe(&taker, message, granted, None, out);
        }
        let topic = TopicName::new(&message.topic).unwrap();
        let filters = self.sessions.values().flat_map(|session| session.filters.keys());
        let matches = |filter: &&String| {
            shared(filter).is_some_and(|filter| TopicFilter::new(filter).unwrap().matches(topic))
        };
        let groups: BTreeSet<String> = filters.filter(matches).cloned().collect();
        for group in groups {
            self.share(&group, message, out);
            if self.fault == Fault::SharesTwice && message.payload.len().is_multiple_of(8) {
                self.share(&group, message, out);
            }
        }
    }

    /// One member of a group gets it, in turns.
    fn share(&mut self, group: &str, message: &Message, out: &mut Output) {
        let members: Vec<(String, QoS)> = self
            .sessions
            .iter()
            .filter_map(|(name, session)| Some((name.clone(), *session.filters.get(group)?)))
            .collect();
        self.turn += 1;
        if let Some((member, granted)) = members.get(self.turn % members.len().max(1)) {
            self.owe(member, message, *granted, Some(group.to_owned()), out);
        }
    }

    fn retain(&mut self, message: &Message) {
        if self.skips(Fault::StaleRetained, 2) {
            return;
        }
        if !message.payload.is_empty() {
            self.retained.insert(message.topic.clone(), message.clone());
        } else if !(self.recovers && self.fault == Fault::KeepsRemoved) {
            self.retained.remove(&message.topic);
        }
    }

    fn takers(&self, topic: &str) -> Vec<(String, QoS)> {
        let topic = TopicName::new(topic).unwrap();
        let wants = |session: &Session| {
            let mut filters = session.filters.iter().filter(|(filter, _)| shared(filter).is_none());
            filters.find(|(filter, _)| TopicFilter::new(filter).unwrap().matches(topic)).map(|(_, qos)| *qos)
        };
        self.sessions.iter().filter_map(|(name, session)| Some((name.clone(), wants(session)?))).collect()
    }

    fn owe(&mut self, taker: &str, message: &Message, granted: QoS, group: Option<String>, out: &mut Output) {
        let session = self.sessions.get_mut(taker).unwrap();
        let message = Message { qos: message.qos.min(granted), ..message.clone() };
        while session.owed.iter().any(|(id, _)| *id == session.next_id) {
            session.next_id = session.next_id.next();
        }
        let id = session.next_id;
        session.next_id = id.next();
        out.push((taker.to_owned(), delivery(session.version, &message, id, false)));
        session.owed.push((id, Owed { message, released: false, group }));
    }

    fn subscribe(&mut self, client: &str, filter: String, qos: QoS, out: &mut Output) {
        if shared(&filter).is_some() {
            self.sessions.get_mut(client).unwrap().filters.insert(filter, qos);
            return;
        }
        let matches =
            |topic: &str| TopicFilter::new(&filter).unwrap().matches(TopicName::new(topic).unwrap());
        let kept: Vec<Message> =
            self.retained.values().filter(|message| matches(&message.topic)).cloned().collect();
        for message in kept {
            self.owe(client, &message, qos, None, out);
        }
        self.sessions.get_mut(client).unwrap().filters.insert(filter, qos);
    }

    /// The journal has been read.
    fn recovered(&mut self) {
        match self.fault {
            Fault::ForgetsReceived => self.sessions.values_mut().for_each(|session| session.received.clear()),
            Fault::Reverses => self.sessions.values_mut().for_each(|session| session.owed.reverse()),
            Fault::NoRetained => self.retained.clear(),
            Fault::ForgetsSessions => {
                let mut count = 0_u32;
                self.sessions.retain(|_, _| {
                    count += 1;
                    !count.is_multiple_of(5)
                });
            }
            Fault::ForgetsWills => self.sessions.values_mut().for_each(|session| session.will = None),
            Fault::EndsEarly => self.sessions.retain(|_, session| session.expiry_ms > 60_000),
            Fault::DropsShared => {
                for session in self.sessions.values_mut() {
                    session.owed.retain(|(_, owed)| owed.group.is_none() || owed.released);
                }
            }
            _ => {}
        }
        self.recovers = false;
    }
}

/// The filter of a shared subscription.
fn shared(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, filter)| filter)
}

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).unwrap();
    bytes
}

fn delivery(version: Version, message: &Message, id: PacketId, dup: bool) -> Vec<u8> {
    let head = PublishHead {
        dup,
        qos: message.qos,
        retain: message.retain,
        topic: &message.topic,
        packet_id: Some(id),
        topic_alias: None,
        message_expiry_interval: None,
        subscription_ids: &[],
        forwarded: &[],
        payload_len: message.payload.len(),
    };
    let mut bytes = Vec::new();
    encoder::publish(&mut bytes, version, &head).unwrap();
    bytes.extend_from_slice(&message.payload);
    bytes
}

/// What the reader of a connection tells the router.
enum Told {
    Joined(TcpStream),
    Packet(usize, Version, Vec<u8>),
    Left(usize),
}

/// Serves until it is killed.
pub(crate) fn serve(fault: Fault, port: u16, folder: &Path) {
    let path = folder.join("journal");
    let mut state = State {
        fault,
        recovers: true,
        sessions: BTreeMap::new(),
        retained: BTreeMap::new(),
        count: 0,
        turn: 0,
    };
    let mut journal = OpenOptions::new().create(true).read(true).append(true).open(path).unwrap();
    replay(&mut journal, &mut state);
    state.recovered();
    // Nobody is connected yet who could get anything of it.
    write(&mut journal, &entry(STARTED, "", now_ms(), b""));
    state.started(now_ms(), &mut Output::new());
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || accept(&listener, &tell));
    route(&mut state, &mut journal, &told);
}

/// Entries: kind, length of the client id, length of the packet, milliseconds, and both. Time is part of what is replayed.
fn replay(journal: &mut File, state: &mut State) {
    let mut bytes = Vec::new();
    journal.read_to_end(&mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    while let Some((head, body)) = rest.split_first_chunk::<16>() {
        let name = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let at_ms = u64::from_le_bytes(head[8..].try_into().unwrap());
        if body.len() < name + size {
            break; // Killed while it wrote.
        }
        let client = std::str::from_utf8(&body[..name]).unwrap();
        let packet = &body[name..name + size];
        act(state, (head[0], client, at_ms), packet, &mut Vec::new());
        rest = &body[name + size..];
    }
}

/// Acts on an entry.
fn act(state: &mut State, (kind, client, at_ms): (u8, &str, u64), packet: &[u8], out: &mut Output) {
    state.pass(at_ms, out);
    match kind {
        STARTED => state.started(at_ms, out),
        LEFT => state.left(client, at_ms, out),
        PASSED => {}
        _ => {
            let version = if kind == 5 { Version::V5 } else { Version::V311 };
            let (packet, _) = decode_one(packet, version, &Limits::SERVER).unwrap().unwrap();
            state.handle(client, &packet, out);
        }
    }
}

/// Kinds of entries beside packets of version 4 and 5: a start, the end of a connection, time.
const STARTED: u8 = 0;
const LEFT: u8 = 1;
const PASSED: u8 = 2;

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn entry(kind: u8, client: &str, at_ms: u64, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend(u16::try_from(client.len()).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(packet.len()).unwrap().to_le_bytes());
    bytes.extend(at_ms.to_le_bytes());
    bytes.extend(client.as_bytes());
    bytes.extend(packet);
    bytes
}

fn write(journal: &mut File, entry: &[u8]) {
    journal.write_all(entry).unwrap();
}

fn route(state: &mut State, journal: &mut File, told: &Receiver<Told>) {
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut owners: Vec<String> = Vec::new();
    let mut current: BTreeMap<String, usize> = BTreeMap::new();
    let mut unwritten: Vec<Vec<u8>> = Vec::new();
    let mut count = 0;
    loop {
        let (kind, from, bytes) = match told.recv_timeout(Duration::from_millis(20)) {
            Ok(Told::Joined(stream)) => {
                streams.push(stream);
                owners.push(String::new());
                continue;
            }
            Ok(Told::Packet(from, version, bytes)) => {
                (if version == Version::V5 { 5 } else { 4 }, from, bytes)
            }
            Ok(Told::Left(from)) => (LEFT, from, Vec::new()),
            Err(_) => (PASSED, usize::MAX, Vec::new()),
        };
        count += 1;
        if state.fault == Fault::Dies && count == 500 {
            std::process::exit(7);
        }
        let owner = owners.get(from).cloned().unwrap_or_default();
        let owner = if kind < 4 { owner } else { joined(&bytes, kind).unwrap_or(owner) };
        if kind >= 4 && owners[from].is_empty() {
            owners[from].clone_from(&owner);
            if let Some(old) = current.insert(owner.clone(), from)
                && state.fault != Fault::KeepsBoth
            {
                streams[old].shutdown(Shutdown::Both).ok();
            }
        }
        if kind != PASSED && current.get(&owner) != Some(&from) {
            continue; // It was taken over.
        }
        let at_ms = now_ms();
        unwritten.push(entry(kind, &owner, at_ms, &bytes));
        let late = if state.fault == Fault::AnswersFirst { 200 } else { 0 };
        while unwritten.len() > late {
            write(journal, &unwritten.remove(0));
        }
        let mut output = Output::new();
        act(state, (kind, &owner, at_ms), &bytes, &mut output);
        if kind == LEFT {
            current.remove(&owner);
        }
        for (client, bytes) in output {
            if let Some(to) = current.get(&client) {
                streams[*to].write_all(&bytes).ok();
            }
        }
    }
}

/// Whose CONNECT this is.
fn joined(bytes: &[u8], kind: u8) -> Option<String> {
    let version = if kind == 5 { Version::V5 } else { Version::V311 };
    match decode_one(bytes, version, &Limits::SERVER).unwrap()?.0 {
        Packet::Connect(connect) => Some(connect.client_id.to_owned()),
        _ => None,
    }
}

fn accept(listener: &TcpListener, tell: &Sender<Told>) {
    for (index, stream) in listener.incoming().enumerate() {
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        tell.send(Told::Joined(stream.try_clone().unwrap())).unwrap();
        let tell = tell.clone();
        std::thread::spawn(move || read(index, stream, &tell));
    }
}

/// Cuts what a client sends into packets.
fn read(index: usize, mut stream: TcpStream, tell: &Sender<Told>) {
    let mut version = Version::V5;
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        pending.extend_from_slice(&chunk[..count]);
        loop {
            let used = match decode_one(&pending, version, &Limits::SERVER).unwrap() {
                Some((Packet::Connect(connect), used)) => {
                    version = connect.version;
                    used
                }
                Some((_, used)) => used,
                None => break,
            };
            let packet: Vec<u8> = pending.drain(..used).collect();
            let is_goodbye =
                matches!(decode_one(&packet, version, &Limits::SERVER), Ok(Some((Packet::Disconnect(_), _))));
            if tell.send(Told::Packet(index, version, packet)).is_err() {
                return;
            }
            if is_goodbye {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    }
    tell.send(Told::Left(index)).ok();
}

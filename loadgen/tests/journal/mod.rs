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

use dunlin_wire::packet::{Ack, ConnAck, Publish, ReasonCodes, ReasonProperties, SubAck, UnsubAck};
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
}

impl Fault {
    pub(crate) const ALL: [Self; 15] = [
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
}

/// Everything that the journal says.
struct State {
    fault: Fault,
    recovers: bool,
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Message>,
    count: u32,
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
            return self.connect(client, connect.version, connect.clean_start, out);
        }
        let Some(session) = self.sessions.get_mut(client) else { return };
        let version = session.version;
        let mut answer = |packet: Packet<'_>| out.push((client.to_owned(), encoded(version, &packet)));
        match packet {
            Packet::Publish(publish) => self.publish(client, publish, out),
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
                let codes = [ReasonCode::Success];
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

    fn connect(&mut self, client: &str, version: Version, clean: bool, out: &mut Output) {
        let forgets = self.recovers && self.fault == Fault::ForgetsCleanStarts;
        let ends = |session: &Session| (clean && !forgets) || session.passing;
        if self.sessions.get(client).is_some_and(ends) {
            self.sessions.remove(client);
        }
        let present = self.sessions.contains_key(client);
        let session = self.sessions.entry(client.to_owned()).or_insert_with(|| Session {
            version,
            passing: clean && version == Version::V311,
            filters: BTreeMap::new(),
            owed: Vec::new(),
            received: BTreeSet::new(),
            next_id: PacketId::FIRST,
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

    fn publish(&mut self, client: &str, publish: &Publish<'_>, out: &mut Output) {
        let session = self.sessions.get_mut(client).unwrap();
        let id = publish.packet_id.unwrap();
        let exactly_once = publish.qos == QoS::ExactlyOnce;
        let answer =
            if exactly_once { Packet::PubRec(Ack::success(id)) } else { Packet::PubAck(Ack::success(id)) };
        out.push((client.to_owned(), encoded(session.version, &answer)));
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
        let takers: Vec<(String, QoS)> = self.takers(&message.topic);
        for (taker, granted) in takers {
            self.owe(&taker, &message, granted, out);
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
            let mut filters = session.filters.iter();
            filters.find(|(filter, _)| TopicFilter::new(filter).unwrap().matches(topic)).map(|(_, qos)| *qos)
        };
        self.sessions.iter().filter_map(|(name, session)| Some((name.clone(), wants(session)?))).collect()
    }

    fn owe(&mut self, taker: &str, message: &Message, granted: QoS, out: &mut Output) {
        let session = self.sessions.get_mut(taker).unwrap();
        let message = Message { qos: message.qos.min(granted), ..message.clone() };
        while session.owed.iter().any(|(id, _)| *id == session.next_id) {
            session.next_id = session.next_id.next();
        }
        let id = session.next_id;
        session.next_id = id.next();
        out.push((taker.to_owned(), delivery(session.version, &message, id, false)));
        session.owed.push((id, Owed { message, released: false }));
    }

    fn subscribe(&mut self, client: &str, filter: String, qos: QoS, out: &mut Output) {
        let matches =
            |topic: &str| TopicFilter::new(&filter).unwrap().matches(TopicName::new(topic).unwrap());
        let kept: Vec<Message> =
            self.retained.values().filter(|message| matches(&message.topic)).cloned().collect();
        for message in kept {
            self.owe(client, &message, qos, out);
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
            _ => {}
        }
        self.recovers = false;
    }
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
}

/// Serves until it is killed.
pub(crate) fn serve(fault: Fault, port: u16, folder: &Path) {
    let path = folder.join("journal");
    let mut state =
        State { fault, recovers: true, sessions: BTreeMap::new(), retained: BTreeMap::new(), count: 0 };
    let mut journal = OpenOptions::new().create(true).read(true).append(true).open(path).unwrap();
    replay(&mut journal, &mut state);
    state.recovered();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || accept(&listener, &tell));
    route(&mut state, &mut journal, &told);
}

/// Entries: version, length of the client id, length of the packet, and both.
fn replay(journal: &mut File, state: &mut State) {
    let mut bytes = Vec::new();
    journal.read_to_end(&mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let name = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if body.len() < name + size {
            break; // Killed while it wrote.
        }
        let version = if head[0] == 5 { Version::V5 } else { Version::V311 };
        let client = std::str::from_utf8(&body[..name]).unwrap();
        let (packet, _) = decode_one(&body[name..name + size], version, &Limits::SERVER).unwrap().unwrap();
        state.handle(client, &packet, &mut Vec::new());
        rest = &body[name + size..];
    }
}

fn entry(version: Version, client: &str, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if version == Version::V5 { 5 } else { 4 }, 0];
    bytes.extend(u16::try_from(client.len()).unwrap().to_le_bytes());
    bytes.extend(u32::try_from(packet.len()).unwrap().to_le_bytes());
    bytes.extend(client.as_bytes());
    bytes.extend(packet);
    bytes
}

fn route(state: &mut State, journal: &mut File, told: &Receiver<Told>) {
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut owners: Vec<String> = Vec::new();
    let mut current: BTreeMap<String, usize> = BTreeMap::new();
    let mut unwritten: Vec<Vec<u8>> = Vec::new();
    let mut count = 0;
    for news in told {
        let (from, version, bytes) = match news {
            Told::Joined(stream) => {
                streams.push(stream);
                owners.push(String::new());
                continue;
            }
            Told::Packet(from, version, bytes) => (from, version, bytes),
        };
        count += 1;
        if state.fault == Fault::Dies && count == 3_000 {
            std::process::exit(7);
        }
        let (packet, _) = decode_one(&bytes, version, &Limits::SERVER).unwrap().unwrap();
        if let Packet::Connect(connect) = &packet {
            owners[from] = connect.client_id.to_owned();
            if let Some(old) = current.insert(owners[from].clone(), from)
                && state.fault != Fault::KeepsBoth
            {
                streams[old].shutdown(Shutdown::Both).ok();
            }
        }
        if current.get(&owners[from]) != Some(&from) {
            continue; // It was taken over.
        }
        unwritten.push(entry(version, &owners[from], &bytes));
        let late = if state.fault == Fault::AnswersFirst { 200 } else { 0 };
        while unwritten.len() > late {
            journal.write_all(&unwritten.remove(0)).unwrap();
        }
        let mut output = Output::new();
        state.handle(&owners[from], &packet, &mut output);
        for (client, bytes) in output {
            if let Some(to) = current.get(&client) {
                streams[*to].write_all(&bytes).ok();
            }
        }
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
            let packet = pending.drain(..used).collect();
            if tell.send(Told::Packet(index, version, packet)).is_err() {
                return;
            }
        }
    }
}

//! The script of a held fleet.
//!
//! Devices are connections `0..connections`, each with a session that outlives it and a subscription to its own topic.
//! Two publishers follow: one sends QoS 0, the other QoS 1. The devices that will fall in the storm are the first; QoS 0
//! goes only to the others, because what is under way to a socket that is closed is lost by right.

use std::collections::BTreeMap;

use dunlin_ring::Errno;
use dunlin_wire::packet::{Connect, ConnectProperties};
use dunlin_wire::{QoS, ReasonCode, Version};

use super::super::{RunError, Settings, host};
use super::Plan;
use crate::client::{Client, Notice};
use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::dice::Dice;
use crate::engine::{ConnId, Engine, EngineConfig, Outbox, Script};
use crate::keep_alive::Sweep;
use crate::pace::{LATE_NS, Schedule};
use crate::record::{Leg, Recorder, Violation, Watch};
use crate::stamp::Stamp;
use crate::verify::Ledger;

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A subscriber of its own topic.
    Device,
    /// A publisher of this QoS.
    Publisher(QoS),
}

/// The script.
pub(super) struct Fleet {
    plan: Plan,
    run: u32,
    concurrency: u32,
    clients: Vec<Client>,
    /// Connections that are to be opened: from here on, and those that fell.
    opened_next: u32,
    fallen: Vec<ConnId>,
    /// Connections on their way, and since when.
    opening: BTreeMap<u32, Nanos>,
    /// Devices that are connected and subscribed, with the publishers.
    ready: u32,
    storming: bool,
    dice: Dice,
    schedule: Option<Schedule>,
    sweep: Option<Sweep>,
    /// The sweep, while keep-alives are paused.
    paused: Option<Sweep>,
    pongs: u64,
    tickets: u32,
    /// When each QoS 1 message that is not acknowledged was due and was sent; by its ticket.
    unacknowledged: BTreeMap<u32, (Nanos, Nanos)>,
    /// Messages sent per stream: two of each device.
    sent: Vec<u32>,
    ledger: Ledger,
    payload: Vec<u8>,
    topic: String,
    pub(super) recorder: Recorder,
}

impl Fleet {
    /// A fleet that has not begun to connect.
    pub(super) fn new(plan: Plan, settings: &Settings, start: Nanos) -> Self {
        let mut recorder = Recorder::new(start);
        for kind in [
            Violation::Lost,
            Violation::Duplicated,
            Violation::Reordered,
            Violation::Misdelivered,
            Violation::Corrupted,
            Violation::SessionWrong,
        ] {
            recorder.violations().check(kind);
        }
        let streams = plan.connections as usize * 2;
        let clients = plan.connections + PUBLISHERS;
        Self {
            plan,
            run: settings.run,
            concurrency: settings.concurrency,
            clients: (0..clients).map(|_| Client::new(Version::V5)).collect(),
            opened_next: 0,
            fallen: Vec::new(),
            opening: BTreeMap::new(),
            ready: 0,
            storming: false,
            dice: Dice::new(settings.seed),
            schedule: None,
            sweep: Sweep::new(clients, plan.keep_alive_seconds, start),
            paused: None,
            pongs: 0,
            tickets: 0,
            unacknowledged: BTreeMap::new(),
            sent: vec![0; streams],
            ledger: Ledger::new(streams),
            payload: vec![0; plan.payload_bytes],
            topic: String::new(),
            recorder,
        }
    }

    /// An engine for it.
    ///
    /// # Errors
    /// When the kernel refuses the rings, or the local addresses do not suffice.
    pub(super) fn engine(&self, settings: &Settings) -> Result<Engine, RunError> {
        let config = EngineConfig {
            route: settings.route.clone(),
            transport: settings.transport.clone(),
            connections: self.plan.connections + PUBLISHERS,
            per_ring: settings.per_ring,
            one_answer: false,
        };
        Engine::new(config).map_err(host("setting up io_uring"))
    }

    /// Turns the engine until `done` says so; fails when nothing moves for `patience_seconds`.
    ///
    /// # Errors
    /// When the kernel refuses to wait, or nothing moves.
    pub(super) fn turn_until(
        &mut self,
        engine: &mut Engine,
        clock: &Clock,
        watch: &mut dyn Watch,
        patience_seconds: u64,
        done: impl Fn(&Self, Nanos) -> bool,
    ) -> Result<(), RunError> {
        let mut seen = (0, 0);
        let mut moved_at = clock.now();
        loop {
            let now = clock.now();
            if done(self, now) {
                return Ok(());
            }
            let moves = (self.ready, self.recorder.counted().delivered + self.pongs);
            if moves != seen {
                (seen, moved_at) = (moves, now);
            } else if now.since(moved_at) > patience_seconds * SECOND_NS {
                return Err(self.stuck(patience_seconds));
            }
            self.recorder.turn(now, watch);
            self.open_more(now, engine.outbox());
            let wake_at = self.send_due(now, engine.outbox()).min(now.after(TURN_NS));
            engine.turn(self, clock, Some(wake_at)).map_err(host("waiting for the rings"))?;
        }
    }

    /// Whether every client is connected, and every device subscribed.
    pub(super) fn is_up(&self) -> bool {
        self.ready == self.plan.connections + PUBLISHERS
    }

    /// Begins to send.
    pub(super) fn begin_stream(&mut self, now: Nanos) {
        self.schedule = (self.plan.per_second > 0).then(|| Schedule::new(now, self.plan.per_second));
    }

    /// Closes the sockets of the devices that fall, without a word. They come back at once, `concurrency` at a time.
    pub(super) fn begin_storm(&mut self, outbox: &mut Outbox) {
        self.storming = true;
        for device in 0..self.plan.storm {
            outbox.close(ConnId(device));
            self.ready -= 1;
            self.recorder.disconnected();
        }
    }

    /// Stops keep-alives until [`Self::resume_keep_alive`], so that the answers can catch up.
    pub(super) fn pause_keep_alive(&mut self) {
        self.paused = self.sweep.take();
    }

    /// Goes on with keep-alives.
    pub(super) fn resume_keep_alive(&mut self) {
        self.sweep = self.paused.take();
    }

    /// Ends the stream; what is under way may still come.
    pub(super) fn end_stream(&mut self) {
        self.schedule = None;
    }

    /// Whether every message has come and every acknowledgement and keep-alive was answered.
    pub(super) fn is_drained(&self) -> bool {
        let counted = self.recorder.counted();
        counted.delivered >= counted.sent && self.unacknowledged.is_empty() && self.pongs_missing() == 0
    }

    /// Keep-alives without an answer.
    pub(super) fn pongs_missing(&self) -> u64 {
        self.recorder.counted().pinged.saturating_sub(self.pongs)
    }

    /// Closes the books: what did not come is lost.
    pub(super) fn close_books(&mut self) {
        let found = self.ledger.close(|stream| self.sent[stream]);
        let violations = self.recorder.violations();
        violations.add(Violation::Lost, found.lost);
        violations.add(Violation::Reordered, found.reordered);
        let unanswered = self.pongs_missing();
        if unanswered > 0 {
            self.recorder.fail("keep-alives without an answer", unanswered);
        }
    }

    fn stuck(&self, seconds: u64) -> RunError {
        RunError::Stuck {
            what: "connections and subscriptions",
            done: u64::from(self.ready),
            wanted: u64::from(self.plan.connections + PUBLISHERS),
            seconds,
            examples: Vec::new(),
        }
    }

    fn role(&self, conn: ConnId) -> Role {
        match conn.0.checked_sub(self.plan.connections) {
            None => Role::Device,
            Some(0) => Role::Publisher(QoS::AtMostOnce),
            Some(_) => Role::Publisher(QoS::AtLeastOnce),
        }
    }

    fn open_more(&mut self, now: Nanos, outbox: &mut Outbox) {
        self.recorder.set_progress(u64::from(self.ready), u64::from(self.plan.connections + PUBLISHERS));
        while self.opening.len() < self.concurrency as usize {
            let conn = match self.fallen.pop() {
                Some(conn) => conn,
                None if self.opened_next < self.plan.connections + PUBLISHERS => {
                    self.opened_next += 1;
                    ConnId(self.opened_next - 1)
                }
                None => return,
            };
            self.opening.insert(conn.0, now);
            outbox.open(conn);
        }
    }

    /// Sends what the schedules ask for by now; returns when they ask again.
    fn send_due(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        let mut wake_at = Nanos(u64::MAX);
        if let Some(mut sweep) = self.sweep.take() {
            while let Some(conn) = sweep.take_due(now) {
                let falls = self.storming && conn.0 < self.plan.storm;
                if !falls && outbox.is_open(conn) && !self.opening.contains_key(&conn.0) {
                    self.clients[conn.index()].ping(outbox.buffer(conn));
                    self.recorder.counters().pinged += 1;
                }
            }
            wake_at = sweep.due_at();
            self.sweep = Some(sweep);
        }
        if let Some(mut schedule) = self.schedule.take() {
            while let Some(due) = schedule.take_due(now) {
                self.send(due, now, outbox);
            }
            wake_at = wake_at.min(schedule.due_at());
            self.schedule = Some(schedule);
        }
        wake_at
    }

    fn send(&mut self, due: Nanos, now: Nanos, outbox: &mut Outbox) {
        let flow = self.tickets % PUBLISHERS;
        let (qos, device) = if flow == 0 {
            let steady = self.plan.connections - self.plan.storm;
            (QoS::AtMostOnce, self.plan.storm + self.dice.below(steady))
        } else {
            (QoS::AtLeastOnce, self.dice.below(self.plan.connections))
        };
        let sequence = &mut self.sent[stream(flow, device)];
        let stamp = Stamp {
            run: self.run,
            flow,
            target: device,
            sequence: *sequence,
            ticket: self.tickets,
            intended_ns: due.0,
        };
        *sequence = sequence.wrapping_add(1);
        stamp.write(&mut self.payload);
        write_topic(device, &mut self.topic);
        let conn = ConnId(self.plan.connections + flow);
        let publisher = &mut self.clients[conn.index()];
        publisher.publish(&self.topic, &self.payload, qos, self.tickets, outbox.buffer(conn));
        if qos == QoS::AtLeastOnce {
            self.unacknowledged.insert(self.tickets, (due, now));
        }
        self.tickets = self.tickets.wrapping_add(1);
        self.recorder.sent(now.since(due) > LATE_NS);
    }

    /// Writes CONNECT, and SUBSCRIBE right behind it: a client need not wait for CONNACK.
    fn greet(&mut self, conn: ConnId, outbox: &mut Outbox) {
        let returns = self.storming && conn.0 < self.plan.storm;
        let role = self.role(conn);
        let client_id = format!("dl{:08x}-{}", self.run, conn.0);
        let connect = Connect {
            version: Version::V5,
            bridge: false,
            clean_start: !returns,
            keep_alive_seconds: self.plan.keep_alive_seconds,
            client_id: &client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: (role == Role::Device).then_some(SESSION_EXPIRY_SECONDS),
                ..ConnectProperties::default()
            },
        };
        let out = outbox.buffer(conn);
        let client = &mut self.clients[conn.index()];
        client.greet(&connect, out).expect("an identifier of letters and digits");
        if role == Role::Device && !returns {
            write_topic(conn.0, &mut self.topic);
            client.subscribe(std::slice::from_ref(&self.topic), QoS::AtLeastOnce, out);
        }
    }

    fn on_connected(&mut self, conn: ConnId, code: ReasonCode, session_present: bool, now: Nanos) {
        if code.is_error() {
            self.recorder.fail("connections refused", format_args!("{code:?}"));
            return;
        }
        let returns = self.storming && conn.0 < self.plan.storm;
        if session_present != returns {
            self.recorder.violation(Violation::SessionWrong);
        }
        self.recorder.connected();
        if let Some(began) = self.opening.get(&conn.0) {
            self.recorder.time(Leg::ConnAck, *began, *began, now);
        }
        if returns || self.role(conn) != Role::Device {
            self.finish(conn);
        }
    }

    /// The client is ready.
    fn finish(&mut self, conn: ConnId) {
        self.opening.remove(&conn.0);
        self.ready += 1;
    }

    fn on_delivered(&mut self, conn: ConnId, payload: &[u8], now: Nanos) {
        let stamp = Stamp::read(payload).filter(|stamp| stamp.run == self.run && stamp.flow < PUBLISHERS);
        let Some(stamp) = stamp else {
            self.recorder.violation(Violation::Corrupted);
            return;
        };
        if stamp.target != conn.0 || conn.0 >= self.plan.connections {
            self.recorder.violation(Violation::Misdelivered);
            return;
        }
        if self.ledger.arrived(stream(stamp.flow, conn.0), stamp.sequence) {
            self.recorder.delivered();
            let due = Nanos(stamp.intended_ns);
            self.recorder.time(Leg::Deliver, due, due, now);
        } else if self.storming && conn.0 < self.plan.storm && stamp.flow == 1 {
            // QoS 1: it was not acknowledged when the connection fell.
            self.recorder.counters().redelivered += 1;
        } else {
            self.recorder.violation(Violation::Duplicated);
        }
    }

    fn on_published(&mut self, ticket: u32, now: Nanos) {
        if let Some((due, sent)) = self.unacknowledged.remove(&ticket) {
            self.recorder.counters().acknowledged += 1;
            self.recorder.time(Leg::PubAck, due, sent, now);
        }
    }

    fn on_notice(&mut self, conn: ConnId, notice: &Notice<'_>, now: Nanos) {
        match *notice {
            Notice::Connected { code, session_present } => {
                self.on_connected(conn, code, session_present, now);
            }
            Notice::Subscribed { refused: 0, count } => {
                self.recorder.counters().subscribed += count as u64;
                self.finish(conn);
            }
            Notice::Subscribed { .. } => self.recorder.fail("subscriptions refused", conn.0),
            Notice::Delivered { payload, .. } => self.on_delivered(conn, payload, now),
            Notice::Published { ticket } => self.on_published(ticket, now),
            Notice::Refused { ticket, code } => {
                self.recorder.fail("messages refused", format_args!("{code:?}"));
                self.on_published(ticket, now);
            }
            Notice::Pong => self.pongs += 1,
            Notice::Disconnected { code } => {
                self.recorder.fail("disconnected by the broker", format_args!("{code:?}"))
            }
            Notice::Unsubscribed { .. } | Notice::Nothing => {}
        }
    }
}

impl Script for Fleet {
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, now: Nanos, outbox: &mut Outbox) {
        match result {
            Ok(()) => {
                if let Some(began) = self.opening.get_mut(&conn.0) {
                    self.recorder.time(Leg::TcpConnect, *began, *began, now);
                    *began = now;
                }
                self.greet(conn, outbox);
            }
            Err(errno) => self.recorder.fail("connections that could not be opened", errno),
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize {
        let mut used = 0;
        loop {
            match self.clients[conn.index()].take(&bytes[used..], || outbox.buffer(conn)) {
                Ok(Some((notice, length))) => {
                    used += length;
                    self.on_notice(conn, &notice, now);
                }
                Ok(None) => return used,
                Err(fault) => {
                    self.recorder.fail("the broker broke the protocol", fault);
                    outbox.close(conn);
                    return bytes.len();
                }
            }
        }
    }

    fn ended(&mut self, conn: ConnId, errno: Option<Errno>, _now: Nanos, _outbox: &mut Outbox) {
        let why = errno.map_or_else(|| "closed".to_owned(), |errno| errno.to_string());
        self.recorder.fail("connections ended by the broker", format_args!("connection {}: {why}", conn.0));
        self.recorder.disconnected();
    }

    fn freed(&mut self, conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {
        if self.storming && conn.0 < self.plan.storm && !self.opening.contains_key(&conn.0) {
            self.clients[conn.index()] = Client::new(Version::V5);
            self.fallen.push(conn);
        }
    }
}

/// The stream of a publisher's messages to a device.
const fn stream(flow: u32, device: u32) -> usize {
    device as usize * PUBLISHERS as usize + flow as usize
}

fn write_topic(device: u32, topic: &mut String) {
    use std::fmt::Write as _;
    topic.clear();
    write!(topic, "device/{device}/down").expect("writing to a String can't fail");
}

/// One of QoS 0, one of QoS 1.
const PUBLISHERS: u32 = 2;
/// Sessions outlive their connections by an hour: longer than any storm.
const SESSION_EXPIRY_SECONDS: u32 = 3_600;
/// The longest sleep.
const TURN_NS: u64 = SECOND_NS / 10;

//! Sessions that were left behind come back and take what waits for them: each message exactly once, in order.
//!
//! The clients take turns on `--concurrency` connections. One leaves when it has the last message of its topic and an answer to
//! a PINGREQ behind it, so that a message too many is seen.

use dunlin_ring::Errno;
use dunlin_wire::Version;

use super::fill::Stock;
use super::{
    KEEP_ALIVE_SECONDS, RunError, SetUp, Settings, Watch, add_collisions, found, host, live, set_up,
};
use crate::client::{Client, Notice};
use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::engine::{ConnId, Engine, EngineConfig, Outbox, Script};
use crate::failures::Failures;
use crate::observe::meter::{Meter, fill_window};
use crate::record::Live;
use crate::report::{Figure, Report, ratio};
use crate::stamp::Stamp;
use crate::verify::Ledger;

/// Takes what waits for the sessions of `fill`.
///
/// # Errors
/// When it could not be carried out, or nothing comes any more; what came wrongly is in the report.
pub(crate) fn run(stock: Stock, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let places = settings.concurrency.min(stock.sessions);
    let mut engine = Engine::new(EngineConfig {
        route: settings.route.clone(),
        transport: settings.transport.clone(),
        connections: places,
        per_ring: settings.per_ring,
        one_answer: false,
    })
    .map_err(host("setting up io_uring"))?;
    let mut drain = Drain::new(stock, places, settings, &meter, live(settings, &clock, watch)?);
    let before = meter.broker_resident_bytes();
    let from = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    drain.live.recorder.begin_stage(from.at, "draining", true);
    set_up("messages", &mut drain, &mut engine, &clock, settings.patience_seconds)?;
    let to = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    let violations = drain.ledger.close(|_| stock.messages);
    let most = drain.resident_max;
    let mut report = Report {
        scenario: "drain".to_owned(),
        protocol: settings.protocol.name().to_owned(),
        qos: 1,
        payload_bytes: stock.payload_bytes,
        connections: places,
        unit: "message".to_owned(),
        count: drain.arrived,
        violations: Some(violations),
        failures: drain.failures.count(),
        failure_examples: drain.failures.examples().to_vec(),
        ..Report::default()
    };
    let outcome = drain.live.finish(clock.now());
    fill_window(&mut report, from, to);
    let elapsed_ns = to.at.since(from.at);
    let per_second = ratio(u64::from(stock.sessions) * SECOND_NS, elapsed_ns);
    report.extra.push(Figure { name: "sessions drained", value: per_second, unit: "per second" });
    if let (Some(before), Some(most)) = (before, most) {
        let mib = |bytes| ratio(bytes, 1 << 20);
        report.extra.push(Figure { name: "broker memory before", value: mib(before), unit: "MiB" });
        report.extra.push(Figure { name: "broker memory at most", value: mib(most), unit: "MiB" });
    }
    add_collisions(&mut report, &engine);
    found::complete(&mut report, outcome, settings);
    Ok(report)
}

/// The script: places go through connecting, taking and leaving with one client after the other.
struct Drain<'meter> {
    stock: Stock,
    clients: Vec<Client>,
    free: Vec<ConnId>,
    version: Version,
    topic_level: String,
    /// The next client that has to come.
    next: u32,
    /// By place: the client that is there.
    numbers: Vec<u32>,
    /// By place: whether the client has asked for the answer behind its last message.
    asked: Vec<bool>,
    /// One stream per session.
    ledger: Ledger,
    /// Messages that came for the first time.
    arrived: u64,
    /// Sessions that have all.
    drained: u64,
    meter: &'meter Meter,
    /// When the broker's memory is read next.
    look_at: Nanos,
    /// The most that it was.
    resident_max: Option<u64>,
    failures: Failures,
    live: Live,
}

impl<'meter> Drain<'meter> {
    fn new(stock: Stock, places: u32, settings: &Settings, meter: &'meter Meter, live: Live) -> Self {
        let version = settings.protocol.version();
        Self {
            stock,
            clients: (0..places).map(|_| Client::new(version)).collect(),
            free: (0..places).rev().map(ConnId).collect(),
            version,
            topic_level: settings.topic_level.clone(),
            next: 0,
            numbers: vec![0; places as usize],
            asked: vec![false; places as usize],
            ledger: Ledger::new(stock.sessions as usize),
            arrived: 0,
            drained: 0,
            meter,
            look_at: Nanos(0),
            resident_max: None,
            failures: Failures::default(),
            live,
        }
    }

    fn notice(&mut self, conn: ConnId, notice: &Notice<'_>, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code, .. } if code.is_error() => {
                self.failures.note(format_args!("connection refused: {code:?}"));
                outbox.close(conn);
            }
            Notice::Connected { session_present, .. } => {
                self.live.recorder.connected();
                if !session_present {
                    self.failures.note("the broker has forgotten a session");
                }
                self.leave_if_complete(conn, outbox);
            }
            Notice::Delivered { topic, payload, .. } => {
                self.take(conn, topic, payload);
                self.leave_if_complete(conn, outbox);
            }
            Notice::Pong => {
                self.drained += 1;
                self.live.recorder.disconnected();
                self.clients[conn.index()].disconnect(outbox.buffer(conn));
                outbox.close(conn);
            }
            Notice::Disconnected { code } => {
                self.failures.note(format_args!("disconnected by the broker: {code:?}"));
            }
            Notice::Published { .. }
            | Notice::Refused { .. }
            | Notice::Subscribed { .. }
            | Notice::Unsubscribed { .. }
            | Notice::Nothing => {}
        }
    }

    /// Enters a message into the books.
    fn take(&mut self, conn: ConnId, topic: &str, payload: &[u8]) {
        let number = self.numbers[conn.index()];
        let Some(stamp) = Stamp::read(payload).filter(|_| payload.len() == self.stock.payload_bytes) else {
            return self.ledger.corrupted();
        };
        let target = self.stock.topic_of(number);
        if stamp.run != self.stock.name
            || stamp.target != target
            || topic != self.stock.topic(&self.topic_level, target)
        {
            return self.ledger.misdelivered();
        }
        if self.ledger.arrived(number as usize, stamp.sequence) {
            self.arrived += 1;
            self.live.recorder.delivered();
        }
    }

    /// A client that has its last message asks for one answer more.
    fn leave_if_complete(&mut self, conn: ConnId, outbox: &mut Outbox) {
        let number = self.numbers[conn.index()];
        let is_complete = self.ledger.next(number as usize) >= self.stock.messages;
        if is_complete && !std::mem::replace(&mut self.asked[conn.index()], true) {
            self.clients[conn.index()].ping(outbox.buffer(conn));
        }
    }
}

impl SetUp for Drain<'_> {
    fn pump(&mut self, now: Nanos, engine: &mut Engine) {
        if now >= self.look_at {
            self.look_at = now.after(LOOK_NS);
            self.resident_max = self.resident_max.max(self.meter.broker_resident_bytes());
        }
        let outbox = engine.outbox();
        while self.next < self.stock.sessions
            && let Some(conn) = self.free.pop()
        {
            self.numbers[conn.index()] = self.next;
            self.asked[conn.index()] = false;
            self.next += 1;
            outbox.open(conn);
        }
    }

    /// Counts messages and sessions, so that what moves is seen to move.
    fn progress(&self) -> (u64, u64) {
        let wanted = self.stock.deliveries() + u64::from(self.stock.sessions);
        if self.drained == u64::from(self.stock.sessions) {
            return (wanted, wanted);
        }
        (self.arrived + self.drained, wanted)
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn live(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Script for Drain<'_> {
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, _now: Nanos, outbox: &mut Outbox) {
        if let Err(errno) = result {
            return self.failures.note(format_args!("connecting: {errno}"));
        }
        let client = &mut self.clients[conn.index()];
        *client = Client::new(self.version);
        let client_id = self.stock.client_id(&self.topic_level, self.numbers[conn.index()]);
        client.come_back(&client_id, KEEP_ALIVE_SECONDS, outbox.buffer(conn));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], _now: Nanos, outbox: &mut Outbox) -> usize {
        let mut used = 0;
        loop {
            match self.clients[conn.index()].take(&bytes[used..], || outbox.buffer(conn)) {
                Ok(Some((notice, count))) => {
                    used += count;
                    self.notice(conn, &notice, outbox);
                }
                Ok(None) => return used,
                Err(fault) => {
                    self.failures.note(fault);
                    outbox.close(conn);
                    return bytes.len();
                }
            }
        }
    }

    fn ended(&mut self, conn: ConnId, errno: Option<Errno>, _now: Nanos, _outbox: &mut Outbox) {
        let number = self.numbers[conn.index()];
        match errno {
            None => self.failures.note(format_args!("client {number} was closed by the broker")),
            Some(errno) => self.failures.note(format_args!("client {number}: {errno}")),
        }
    }

    fn freed(&mut self, conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {
        self.free.push(conn);
    }
}

/// How often the broker's memory is read.
const LOOK_NS: u64 = SECOND_NS / 10;

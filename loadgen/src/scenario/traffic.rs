//! Messages from senders to receivers: point to point, fan-in, fan-out, wildcards, and idle fleets with a
//! trickle of messages.

use std::collections::VecDeque;

use dunlin_ring::Errno;
use dunlin_wire::{QoS, ReasonCode};

use super::opening::{Hears, Opening, engine, hear_all};
use super::{RunError, SetUp, Settings, Watch, add_collisions, found, host, live, set_up, settle};
use crate::client::{Client, Notice};
use crate::clock::{Clock, Nanos, SECOND_NS};
use crate::dice::Dice;
use crate::engine::{ConnId, Engine, Outbox, Script};
use crate::failures::Failures;
use crate::floor::Hello;
use crate::keep_alive::Sweep;
use crate::observe::meter::{Meter, fill_window, memory_report};
use crate::pace::Schedule;
use crate::record::{Leg, Live, Outcome};
use crate::report::{Figure, Report, ratio};
use crate::roster::{Protocol, Roster};
use crate::stamp::Stamp;
use crate::topology::Topology;
use crate::verify::Ledger;

/// How senders decide when to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// Each sender keeps this many messages under way: the next goes out when one is done.
    Closed {
        /// Messages per sender.
        window: u32,
        /// Poll instead of sleeping, so that the broker never pays for waking the generator.
        spin: bool,
    },
    /// An absolute schedule over all senders, whatever the broker does.
    Open {
        /// Messages per second in all.
        per_second: u64,
        /// Poll instead of sleeping, so that the generator's own wake-up is not in the latency.
        spin: bool,
    },
    /// Nothing is sent.
    Silent,
}

impl Pacing {
    /// Whether the generator polls while it waits.
    const fn polls(self) -> bool {
        matches!(self, Self::Closed { spin: true, .. } | Self::Open { spin: true, .. })
    }
}

/// A traffic scenario.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) topology: Topology,
    pub(crate) pacing: Pacing,
    pub(crate) qos: QoS,
    pub(crate) payload_bytes: usize,
    pub(crate) keep_alive_seconds: u16,
    /// Whether sessions outlive connections, so that a broker has to store what it takes over.
    pub(crate) durable: bool,
    /// Measure memory per connection, this long after the last one is up.
    pub(crate) settle_ns: u64,
}

impl Plan {
    /// The same with durable sessions, if so.
    pub(crate) const fn durable(self, durable: bool) -> Self {
        Self { durable, ..self }
    }

    /// The last packet of an exchange with the broker.
    fn answer(&self) -> Leg {
        if self.qos == QoS::ExactlyOnce { Leg::PubComp } else { Leg::PubAck }
    }
}

/// Runs a traffic scenario.
///
/// # Errors
/// When it could not be carried out; what the broker did wrong is in the report.
pub(crate) fn run(plan: Plan, settings: &Settings, watch: Box<dyn Watch>) -> Result<Report, RunError> {
    let clock = Clock::start();
    let meter = Meter::new(settings.broker_pid).map_err(host("reading the broker's process"))?;
    let before = meter.footprint().map_err(host("reading the broker's memory"))?;
    let mut engine = engine(plan.topology.connections(), settings)?;
    let mut traffic = Traffic::new(plan, settings, live(settings, &clock, watch)?);
    traffic.live.recorder.begin_stage(clock.now(), "connecting", false);
    set_up("connections and subscriptions", &mut traffic, &mut engine, &clock, settings.patience_seconds)?;
    let up_at = clock.now();
    traffic.live.recorder.begin_stage(up_at, "settling", false);
    let settled_at = up_at.after(traffic.plan.settle_ns);
    // Not `settle`: the connections must be kept alive meanwhile.
    traffic.run_until(&mut engine, &clock, settled_at)?;
    let after = meter.footprint().map_err(host("reading the broker's memory"))?;

    let start = clock.now();
    traffic.live.recorder.begin_stage(start, "warming up", false);
    traffic.begin(start, engine.outbox());
    traffic.run_until(&mut engine, &clock, start.after(settings.warm_up_ns))?;
    let from = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    let counted_from = traffic.delivered;
    let end = from.at.after(settings.duration_ns);
    traffic.window = (from.at, end);
    traffic.live.recorder.begin_stage(from.at, "measuring", true);
    traffic.run_until(&mut engine, &clock, end)?;
    traffic.live.recorder.begin_stage(clock.now(), "draining", false);
    let to = meter.read(&clock).map_err(host("reading the broker's processor time"))?;
    let held = meter.footprint().map_err(host("reading the broker's memory"))?;
    let counted = traffic.delivered - counted_from;
    traffic.drain(&mut engine, &clock)?;

    let (mut report, outcome) = traffic.report(settings, clock.now());
    report.count = counted;
    fill_window(&mut report, from, to);
    report.judge_generator(traffic.plan.pacing.polls());
    if traffic.plan.settle_ns > 0 {
        let items = u64::from(traffic.plan.topology.connections());
        report.memory = memory_report("connection", items, before, after);
        let per_second = ratio(items * SECOND_NS, up_at.0);
        report.extra.push(Figure { name: "connected and subscribed", value: per_second, unit: "per second" });
        let rss = after.broker_rss_bytes().zip(held.broker_rss_bytes());
        report.growth_bytes = rss.map(|(settled, held)| held - settled);
        report.extra.push(Figure { name: "keep-alives", value: ratio(traffic.pinged, 1), unit: "sent" });
        let rings = u32::try_from(engine.ring_count()).unwrap_or(u32::MAX);
        report.extra.push(Figure { name: "rings", value: f64::from(rings), unit: "" });
    }
    add_collisions(&mut report, &engine);
    found::complete(&mut report, outcome, settings);
    Ok(report)
}

/// The script of a traffic scenario.
struct Traffic {
    plan: Plan,
    roster: Roster,
    run: u32,
    topic_level: String,
    dice: Dice,
    // Set-up.
    opening: Opening,
    subscribed_count: u64,
    filters_wanted: u64,
    // Running.
    stopping: bool,
    schedule: Option<Schedule>,
    sweep: Option<Sweep>,
    /// PINGREQ packets written.
    pinged: u64,
    next_flow: u32,
    tickets: Vec<u32>,
    /// Per sender and place in its window: how many events are missing until the message is done.
    unfinished: Vec<u32>,
    unfinished_total: u64,
    /// Per sender: intended times of messages that the server's Receive Maximum holds back.
    held: Vec<VecDeque<Nanos>>,
    /// Per sender: intended times of messages that have no acknowledgement yet; those come in order.
    unanswered: Vec<VecDeque<Nanos>>,
    sent: Vec<u32>,
    topic: String,
    payload: Vec<u8>,
    // Measured.
    ledger: Ledger,
    window: (Nanos, Nanos),
    delivered: u64,
    failures: Failures,
    live: Live,
}

impl Traffic {
    fn new(plan: Plan, settings: &Settings, live: Live) -> Self {
        let topology = &plan.topology;
        let senders = topology.senders as usize;
        let window = match plan.pacing {
            Pacing::Closed { window, .. } => window as usize,
            Pacing::Open { .. } | Pacing::Silent => 0,
        };
        let subscribes = settings.protocol != Protocol::Floor;
        let filters_wanted = if subscribes {
            (0..topology.receivers).map(|receiver| topology.filters(receiver).len() as u64).sum()
        } else {
            0
        };
        Self {
            roster: Roster::new(
                topology.connections(),
                settings.protocol,
                plan.keep_alive_seconds,
                settings.run,
            )
            .durable(plan.durable),
            run: settings.run,
            topic_level: settings.topic_level.clone(),
            dice: Dice::new(settings.seed),
            opening: Opening::new(topology.connections(), settings),
            subscribed_count: 0,
            filters_wanted,
            stopping: false,
            schedule: None,
            sweep: Sweep::new(plan.topology.connections(), plan.keep_alive_seconds, Nanos(0)),
            pinged: 0,
            next_flow: 0,
            tickets: vec![0; senders],
            unfinished: vec![0; senders * window],
            unfinished_total: 0,
            held: vec![VecDeque::new(); senders],
            unanswered: vec![VecDeque::new(); senders],
            sent: vec![0; topology.send_streams()],
            topic: String::new(),
            payload: vec![0; plan.payload_bytes],
            ledger: Ledger::new(topology.receive_streams()),
            window: (Nanos(0), Nanos(0)),
            delivered: 0,
            failures: Failures::default(),
            live,
            plan,
        }
    }

    /// Starts sending.
    fn begin(&mut self, now: Nanos, outbox: &mut Outbox) {
        match self.plan.pacing {
            Pacing::Closed { window, .. } => {
                for _ in 0..window {
                    for flow in 0..self.plan.topology.senders {
                        self.send(flow, now, outbox);
                    }
                }
            }
            Pacing::Open { per_second, .. } => self.schedule = Some(Schedule::new(now, per_second)),
            Pacing::Silent => {}
        }
    }

    fn run_until(&mut self, engine: &mut Engine, clock: &Clock, deadline: Nanos) -> Result<(), RunError> {
        let spin = self.plan.pacing.polls();
        loop {
            let now = clock.now();
            if now >= deadline {
                return Ok(());
            }
            self.live.turn(now);
            let wake_at = self.send_due(now, engine.outbox()).min(deadline).min(now.after(SECOND_NS));
            let wake_at = (!spin).then_some(wake_at);
            engine.turn(self, clock, wake_at).map_err(host("waiting for the rings"))?;
        }
    }

    /// Sends what the schedules ask for by now; returns when they ask again.
    fn send_due(&mut self, now: Nanos, outbox: &mut Outbox) -> Nanos {
        let mut wake_at = Nanos(u64::MAX);
        if let Some(mut sweep) = self.sweep.take() {
            while let Some(conn) = sweep.take_due(now) {
                if outbox.is_open(conn) {
                    self.roster.client(conn).ping(outbox.buffer(conn));
                    self.pinged += 1;
                    self.live.recorder.counters().pinged += 1;
                }
            }
            wake_at = sweep.due_at();
            self.sweep = Some(sweep);
        }
        if let Some(mut schedule) = self.schedule.take() {
            while let Some(intended) = schedule.take_due(now) {
                let flow = self.next_flow;
                self.next_flow = (flow + 1) % self.plan.topology.senders;
                self.send(flow, intended, outbox);
            }
            wake_at = wake_at.min(schedule.due_at());
            self.live.recorder.counters().late = schedule.late_count();
            self.schedule = Some(schedule);
        }
        wake_at
    }

    /// Stops sending and waits for what is under way.
    fn drain(&mut self, engine: &mut Engine, clock: &Clock) -> Result<(), RunError> {
        self.stopping = true;
        let late = self.schedule.take();
        let mut quiet_since = clock.now();
        let mut seen = self.delivered;
        while self.unfinished_total > 0 && clock.now().since(quiet_since) < DRAIN_NS {
            let now = clock.now();
            self.live.turn(now);
            engine
                .turn(self, clock, Some(now.after(DRAIN_NS / 20)))
                .map_err(host("waiting for the rings"))?;
            if self.delivered != seen {
                seen = self.delivered;
                quiet_since = now;
            }
        }
        // A moment more, so that a duplicate of the last message is seen too.
        settle(self, engine, clock, clock.now().after(DRAIN_NS / 20))?;
        self.schedule = late;
        Ok(())
    }

    fn send(&mut self, flow: u32, intended: Nanos, outbox: &mut Outbox) {
        let conn = self.plan.topology.sender(flow);
        if !self.roster.client(conn).may_publish(self.plan.qos) {
            self.held[flow as usize].push_back(intended);
            return;
        }
        let topology = &self.plan.topology;
        let dice = if topology.picks_target() { self.dice.roll() } else { 0 };
        let target = if topology.picks_target() { self.dice.below(topology.receivers) } else { 0 };
        let sequence = &mut self.sent[topology.send_stream(flow, target)];
        let ticket = &mut self.tickets[flow as usize];
        let stamp = Stamp {
            run: self.run,
            flow,
            target,
            sequence: *sequence,
            ticket: *ticket,
            intended_ns: intended.0,
        };
        *sequence = sequence.wrapping_add(1);
        *ticket = ticket.wrapping_add(1);
        self.live.recorder.sent(false);
        topology.write_topic(flow, target, dice, &mut self.topic);
        if !self.topic_level.is_empty() {
            self.topic.insert_str(0, &self.topic_level);
        }
        stamp.write(&mut self.payload);
        let events = topology.copies() + u32::from(self.plan.qos != QoS::AtMostOnce);
        self.unfinished_total += u64::from(events);
        if let Some(place) = self.place(flow, stamp.ticket) {
            self.unfinished[place] = events;
        }
        if self.plan.qos != QoS::AtMostOnce {
            self.unanswered[flow as usize].push_back(intended);
        }
        let out = outbox.buffer(conn);
        self.roster.client(conn).publish(&self.topic, &self.payload, self.plan.qos, stamp.ticket, out);
    }

    /// The place of a message in its sender's window, in a closed loop.
    fn place(&self, flow: u32, ticket: u32) -> Option<usize> {
        match self.plan.pacing {
            Pacing::Closed { window, .. } => Some((flow * window + ticket % window) as usize),
            Pacing::Open { .. } | Pacing::Silent => None,
        }
    }

    /// One of the events that a message needs has happened; sends the next when it was the last.
    fn advance(&mut self, flow: u32, ticket: u32, now: Nanos, outbox: &mut Outbox) {
        self.unfinished_total = self.unfinished_total.saturating_sub(1);
        let Some(place) = self.place(flow, ticket) else { return };
        let missing = &mut self.unfinished[place];
        *missing = missing.saturating_sub(1);
        if *missing == 0 && !self.stopping {
            self.send(flow, now, outbox);
        }
    }

    fn on_delivered(&mut self, conn: ConnId, payload: &[u8], now: Nanos, outbox: &mut Outbox) {
        let Some(stamp) = Stamp::read(payload).filter(|stamp| stamp.run == self.run) else {
            self.ledger.corrupted();
            return;
        };
        let Some(stream) = self.plan.topology.receive_stream(stamp.flow, stamp.target, conn.0) else {
            self.ledger.misdelivered();
            return;
        };
        if !self.ledger.arrived(stream, stamp.sequence) {
            return;
        }
        self.delivered += 1;
        self.live.recorder.delivered();
        let intended = Nanos(stamp.intended_ns);
        if intended >= self.window.0 && intended < self.window.1 {
            self.live.recorder.time_corrected(Leg::Deliver, intended, now);
        }
        self.advance(stamp.flow, stamp.ticket, now, outbox);
    }

    fn on_published(&mut self, conn: ConnId, ticket: u32, now: Nanos, outbox: &mut Outbox) {
        let Some(flow) = self.plan.topology.flow_of(conn) else { return };
        if let Some(intended) = self.unanswered[flow as usize].pop_front()
            && intended >= self.window.0
            && intended < self.window.1
        {
            self.live.recorder.time_corrected(self.plan.answer(), intended, now);
        }
        if let Some(intended) = self.held[flow as usize].pop_front() {
            self.send(flow, intended, outbox);
        }
        self.advance(flow, ticket, now, outbox);
    }

    fn on_connected(&mut self, conn: ConnId, code: ReasonCode, outbox: &mut Outbox) {
        if code.is_error() {
            self.opening.failed();
            self.failures.note(format_args!("connection refused: {code:?}"));
            return;
        }
        self.opening.accepted();
        self.live.recorder.connected();
        if self.filters_wanted > 0 && self.plan.topology.flow_of(conn).is_none() {
            let mut filters = self.plan.topology.filters(conn.0);
            filters.iter_mut().for_each(|filter| {
                let begins_at = filter.strip_prefix(SHARED).map_or(0, |_| SHARED.len());
                filter.insert_str(begins_at, &self.topic_level);
            });
            self.roster.subscribe(conn, &filters, FILTERS_PER_PACKET, self.plan.qos, outbox);
        }
    }

    /// What was found, for the report and for the files.
    fn report(&mut self, settings: &Settings, now: Nanos) -> (Report, Outcome) {
        let outcome = self.live.finish(now);
        let topology = &self.plan.topology;
        let mut violations = self.ledger.close(|stream| self.sent[topology.source_of(stream)]);
        if !topology.is_ordered() {
            violations.reordered = 0;
        }
        let report = Report {
            scenario: self.plan.name.to_owned(),
            protocol: settings.protocol.name().to_owned(),
            qos: self.plan.qos.as_u8(),
            payload_bytes: self.plan.payload_bytes,
            connections: topology.connections(),
            unit: "message".to_owned(),
            latency_us: found::percentiles(&outcome, Leg::Deliver),
            acknowledged_us: found::percentiles(&outcome, self.plan.answer()),
            late: self.schedule.as_ref().map(|_| outcome.measured().late),
            violations: Some(violations),
            failures: self.failures.count(),
            failure_examples: self.failures.examples().to_vec(),
            ..Report::default()
        };
        (report, outcome)
    }
}

impl Hears for Traffic {
    fn clients(&mut self) -> (&mut Roster, &mut Failures) {
        (&mut self.roster, &mut self.failures)
    }

    fn hear(&mut self, conn: ConnId, notice: &Notice<'_>, now: Nanos, outbox: &mut Outbox) {
        match *notice {
            Notice::Connected { code, .. } => self.on_connected(conn, code, outbox),
            Notice::Delivered { payload, .. } => self.on_delivered(conn, payload, now, outbox),
            Notice::Published { ticket } => {
                self.live.recorder.counters().acknowledged += 1;
                self.on_published(conn, ticket, now, outbox);
            }
            Notice::Refused { ticket, code } => {
                self.failures.note(format_args!("message {ticket} refused: {code:?}"));
                self.on_published(conn, ticket, now, outbox);
            }
            Notice::Subscribed { count, refused } => {
                self.subscribed_count += count as u64;
                self.live.recorder.counters().subscribed += count as u64;
                for _ in 0..refused {
                    self.failures.note("a subscription was refused");
                }
            }
            Notice::Disconnected { code } => {
                self.failures.note(format_args!("disconnected by the broker: {code:?}"));
            }
            Notice::Unsubscribed { .. } | Notice::Pong | Notice::Nothing => {}
        }
    }
}

impl SetUp for Traffic {
    fn pump(&mut self, now: Nanos, engine: &mut Engine) {
        // The first connections must be kept alive while the last are still to be opened.
        self.send_due(now, engine.outbox());
        self.opening.pump(|conn| engine.outbox().open(conn));
    }

    fn progress(&self) -> (u64, u64) {
        let (up, total) = self.opening.progress();
        (up + self.subscribed_count, total + self.filters_wanted)
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn live(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Script for Traffic {
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, _now: Nanos, outbox: &mut Outbox) {
        match result {
            Ok(()) => {
                let plan = &self.plan;
                self.roster.greet(conn, &|| hello(plan, conn), outbox);
            }
            Err(errno) => {
                self.opening.failed();
                self.failures.note(format_args!("connecting: {errno}"));
            }
        }
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize {
        hear_all(self, conn, bytes, now, outbox)
    }

    fn ended(&mut self, conn: ConnId, errno: Option<Errno>, _now: Nanos, _outbox: &mut Outbox) {
        self.live.recorder.disconnected();
        match errno {
            None => self.failures.note(format_args!("connection {} was closed by the broker", conn.0)),
            Some(errno) => self.failures.note(format_args!("connection {} failed: {errno}", conn.0)),
        }
    }

    fn freed(&mut self, _conn: ConnId, _now: Nanos, _outbox: &mut Outbox) {}
}

/// How a connection introduces itself to the floor tool: its frames are the PUBLISH packets that it would send
/// to a broker.
fn hello(plan: &Plan, conn: ConnId) -> Hello {
    let sender = plan.topology.flow_of(conn);
    let mut topic = String::new();
    plan.topology.write_topic(sender.unwrap_or(conn.0), 0, 0, &mut topic);
    let mut frame = Vec::new();
    let payload = vec![0; plan.payload_bytes];
    Client::new(Protocol::Floor.version()).publish(&topic, &payload, plan.qos, 0, &mut frame);
    let id_offset = if plan.qos == QoS::AtMostOnce { 0 } else { frame.len() - payload.len() - 2 };
    Hello {
        receives: sender.is_none(),
        qos: plan.qos.as_u8(),
        id_offset: u16::try_from(id_offset).unwrap_or(u16::MAX),
        frame_bytes: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        channel: plan.topology.channel(conn),
    }
}

/// What the shared scenario's filter begins with.
const SHARED: &str = "$share/g/";
/// Filters in one SUBSCRIBE while setting up.
const FILTERS_PER_PACKET: usize = 100;
/// How long nothing may arrive before what is missing is given up.
const DRAIN_NS: u64 = 2 * SECOND_NS;

//! Connections by number, spread over rings: opens them, gathers their output, splits their input.
//!
//! The engine knows bytes and connections; a [`Script`] knows what they mean. In one *turn* the engine sends
//! what the script has written (one send per connection), waits, and hands over what has come. An idle
//! connection costs 72 bytes here (a [`Link`] and the ring's slot; 4 more where the generator walks through ports) and owns no buffer.

use std::io;
use std::time::Duration;

use dunlin_ring::{Bytes, Completion, Errno, Loan, Ring, RingConfig, SlotId, wait_any};

use crate::clock::{Clock, Nanos};
use crate::hosts::preflight;
use crate::hosts::route::{Route, RouteCounters, RoutePlan};
use crate::record::Leg;
use crate::transport::Transport;

/// A connection of the generator, counted over all rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u32);

impl ConnId {
    /// The connection's number as an index.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the connections of a scenario do.
pub(crate) trait Script {
    /// A leg of the way to a usable connection is done; `opened` follows the last one.
    fn leg(&mut self, _conn: ConnId, _leg: Leg, _now: Nanos) {}

    /// The client may speak, or the connection could not be opened (then `freed` follows).
    fn opened(&mut self, conn: ConnId, result: Result<(), Errno>, now: Nanos, outbox: &mut Outbox);

    /// Bytes have come; returns how many of them were used. The rest comes again with what follows.
    fn received(&mut self, conn: ConnId, bytes: &[u8], now: Nanos, outbox: &mut Outbox) -> usize;

    /// The other side has closed, in order (`None`) or not.
    fn ended(&mut self, conn: ConnId, errno: Option<Errno>, now: Nanos, outbox: &mut Outbox);

    /// The connection is gone and may be opened again.
    fn freed(&mut self, conn: ConnId, now: Nanos, outbox: &mut Outbox);
}

/// How the engine is set up.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    /// Where connections go to and come from.
    pub(crate) route: RoutePlan,
    /// What carries the clients' bytes.
    pub(crate) transport: Transport,
    /// Connections at most.
    pub(crate) connections: u32,
    /// Connections per ring at most.
    pub(crate) per_ring: u32,
    /// Whether a connection answers once and is closed then, so that its receive need not go on.
    pub(crate) one_answer: bool,
}

/// All rings and connections of a thread.
pub(crate) struct Engine {
    rings: Vec<Ring>,
    outbox: Outbox,
    config: EngineConfig,
    route: Route,
}

impl Engine {
    /// Makes the rings; nothing is opened yet.
    ///
    /// # Errors
    /// When the kernel refuses a ring of this size.
    pub(crate) fn new(config: EngineConfig) -> io::Result<Self> {
        let route = Route::new(&config.route, config.connections)
            .map_err(|error| io::Error::new(io::ErrorKind::AddrNotAvailable, error))?;
        preflight::before(&config.route, config.connections, config.per_ring)?;
        let ring_count = config.connections.div_ceil(config.per_ring).max(1);
        let sizes = ring_sizes(config.connections, config.per_ring);
        let rings = (0..ring_count).map(|_| Ring::new(sizes)).collect::<io::Result<Vec<_>>>()?;
        let count = config.connections as usize;
        Ok(Self { rings, outbox: Outbox::new(count), config, route })
    }

    /// What is written to connections.
    pub(crate) const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// What happened to local addresses and ports.
    pub(crate) const fn route_counters(&self) -> RouteCounters {
        self.route.counters()
    }

    /// Rings in use.
    pub(crate) const fn ring_count(&self) -> usize {
        self.rings.len()
    }

    /// Sends what is written, waits until something happens or `wake_at` (`None`: at once), and hands it over.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub(crate) fn turn<S: Script>(
        &mut self,
        script: &mut S,
        clock: &Clock,
        wake_at: Option<Nanos>,
    ) -> io::Result<()> {
        self.flush();
        let patience = wake_at.map(|at| Duration::from_nanos(at.since(clock.now())));
        self.wait(patience.unwrap_or_default())?;
        for index in 0..self.rings.len() {
            self.dispatch(index, script, clock);
        }
        Ok(())
    }

    fn wait(&mut self, patience: Duration) -> io::Result<()> {
        if let [ring] = self.rings.as_mut_slice() {
            return if patience.is_zero() { ring.submit() } else { ring.wait(Some(patience)) };
        }
        let mut ready = false;
        for ring in &mut self.rings {
            if ring.has_queued() || ring.may_complete() {
                ring.submit()?;
            }
            ready |= ring.has_completions();
        }
        if ready || patience.is_zero() { Ok(()) } else { wait_any(&self.rings, Some(patience)) }
    }

    fn flush(&mut self) {
        while let Some(conn) = self.outbox.opening.pop() {
            self.open(conn);
        }
        let per_ring = self.config.per_ring;
        for conn in self.outbox.dirty.drain(..) {
            let link = &mut self.outbox.links[conn.index()];
            link.state.clear(LinkState::DIRTY);
            if !link.state.has(LinkState::OPEN) {
                // Written to a connection that has gone meanwhile.
                link.output.clear();
                continue;
            }
            if link.state.has(LinkState::SENDING) {
                continue;
            }
            link.state.set(LinkState::SENDING);
            let bytes = std::mem::take(&mut link.output);
            let (ring, slot) = place(conn, per_ring);
            self.rings[ring].send(slot, Bytes::Own(bytes), 0);
        }
        for conn in self.outbox.listening.drain(..) {
            let state = &mut self.outbox.links[conn.index()].state;
            if state.has(LinkState::OPEN) && !state.has(LinkState::ARMED | LinkState::PAUSED) {
                state.set(LinkState::ARMED);
                let (ring, slot) = place(conn, per_ring);
                self.rings[ring].receive(slot, false);
            }
        }
        for conn in self.outbox.closing.drain(..) {
            let (ring, slot) = place(conn, per_ring);
            self.outbox.links[conn.index()].state.clear(LinkState::OPEN);
            self.rings[ring].close(slot);
        }
    }

    fn open(&mut self, conn: ConnId) {
        let options = self.route.take(conn.0);
        let (ring, slot) = place(conn, self.config.per_ring);
        self.rings[ring].open(slot, options);
    }

    fn opened<S: Script>(&mut self, conn: ConnId, result: Result<(), Errno>, now: Nanos, script: &mut S) {
        match result {
            Ok(()) => {
                let (ring, slot) = place(conn, self.config.per_ring);
                let state = &mut self.outbox.links[conn.index()].state;
                state.set(LinkState::OPEN | LinkState::ARMED);
                let multi = !self.config.one_answer && !state.has(LinkState::METERED);
                self.rings[ring].receive(slot, multi);
                self.route.settled(conn.0);
                if self.config.transport.speaks_first() {
                    let target = self.route.target(conn.0);
                    self.config.transport.connected(conn, target, self.outbox.buffer(conn));
                }
                script.leg(conn, Leg::TcpConnect, now);
            }
            Err(errno) if self.route.retries(conn.0, errno) => {
                self.outbox.links[conn.index()].state.set(LinkState::RETRYING);
                return;
            }
            Err(_) => {}
        }
        script.opened(conn, result, now, &mut self.outbox);
    }

    fn closed<S: Script>(&mut self, conn: ConnId, now: Nanos, script: &mut S) {
        let state = &mut self.outbox.links[conn.index()].state;
        if state.has(LinkState::RETRYING) {
            state.clear(LinkState::RETRYING);
            self.open(conn);
            return;
        }
        self.route.release(conn.0);
        self.outbox.forget(conn);
        script.freed(conn, now, &mut self.outbox);
    }

    fn dispatch<S: Script>(&mut self, ring_index: usize, script: &mut S, clock: &Clock) {
        if self.rings[ring_index].reap() == 0 {
            return;
        }
        let first = u32::try_from(ring_index).expect("rings are counted in u32") * self.config.per_ring;
        while let Some(completion) = self.rings[ring_index].poll_completion() {
            let now = clock.now();
            match completion {
                Completion::Opened { slot, result } => {
                    self.opened(ConnId(first + slot.0), result, now, script);
                }
                Completion::Received { slot, loan } => {
                    self.received(ring_index, ConnId(first + slot.0), loan, now, script);
                }
                Completion::Ended { slot, errno } => {
                    let conn = ConnId(first + slot.0);
                    script.ended(conn, errno, now, &mut self.outbox);
                    self.outbox.links[conn.index()].state.clear(LinkState::OPEN);
                    self.rings[ring_index].close(slot);
                }
                Completion::Sent { slot, result, bytes } => self.sent(ring_index, slot, result, bytes),
                Completion::Closed { slot } => self.closed(ConnId(first + slot.0), now, script),
                Completion::Accepted { .. } | Completion::AcceptFailed { .. } => {
                    unreachable!("the generator does not listen")
                }
            }
        }
    }

    fn received<S: Script>(&mut self, ring: usize, conn: ConnId, loan: Loan, now: Nanos, script: &mut S) {
        if self.outbox.links[conn.index()].state.has(LinkState::OPEN) {
            let fresh = self.rings[ring].view(&loan);
            match self.outbox.links[conn.index()].partial.take() {
                None => {
                    let used = script.received(conn, fresh, now, &mut self.outbox);
                    if let Some(rest) = fresh.get(used..).filter(|rest| !rest.is_empty()) {
                        self.outbox.links[conn.index()].partial = Some(Box::new(rest.to_vec()));
                    }
                }
                Some(mut whole) => {
                    whole.extend_from_slice(fresh);
                    let used = script.received(conn, &whole, now, &mut self.outbox);
                    whole.drain(..used.min(whole.len()));
                    if !whole.is_empty() {
                        self.outbox.links[conn.index()].partial = Some(whole);
                    }
                }
            }
        }
        self.rings[ring].recycle(loan);
        let state = &mut self.outbox.links[conn.index()].state;
        if state.has(LinkState::METERED) {
            state.clear(LinkState::ARMED);
            if state.has(LinkState::OPEN) && !state.has(LinkState::PAUSED) {
                self.outbox.listening.push(conn);
            }
        }
    }

    fn sent(&mut self, ring: usize, slot: SlotId, result: Result<usize, Errno>, bytes: Bytes) {
        let first = u32::try_from(ring).expect("rings are counted in u32") * self.config.per_ring;
        let conn = ConnId(first + slot.0);
        let Bytes::Own(mut buffer) = bytes else { unreachable!("the generator shares no output") };
        let link = &mut self.outbox.links[conn.index()];
        if let Ok(count) = result
            && count < buffer.len()
            && link.state.has(LinkState::OPEN)
        {
            buffer.drain(..count);
            self.rings[ring].send(slot, Bytes::Own(buffer), 0);
            return;
        }
        link.state.clear(LinkState::SENDING);
        if !link.output.is_empty() && !link.state.has(LinkState::DIRTY) {
            link.state.set(LinkState::DIRTY);
            self.outbox.dirty.push(conn);
        }
        self.outbox.keep(buffer);
    }
}

/// Where the script writes what connections are to send and do.
#[derive(Debug)]
pub(crate) struct Outbox {
    links: Vec<Link>,
    dirty: Vec<ConnId>,
    opening: Vec<ConnId>,
    closing: Vec<ConnId>,
    listening: Vec<ConnId>,
    spare: Vec<Vec<u8>>,
}

/// One connection as the engine sees it.
#[derive(Debug, Default)]
struct Link {
    output: Vec<u8>,
    #[expect(clippy::box_collection, reason = "8 bytes instead of 24 on each idle connection")]
    partial: Option<Box<Vec<u8>>>,
    state: LinkState,
}

const _: () = assert!(size_of::<Link>() <= 40, "a link exists for each idle connection");

impl Outbox {
    fn new(count: usize) -> Self {
        Self {
            links: std::iter::repeat_with(Link::default).take(count).collect(),
            dirty: Vec::new(),
            opening: Vec::new(),
            closing: Vec::new(),
            listening: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The output of a connection; what is appended goes out at the end of the turn, in one send.
    pub(crate) fn buffer(&mut self, conn: ConnId) -> &mut Vec<u8> {
        let link = &mut self.links[conn.index()];
        if !link.state.has(LinkState::DIRTY | LinkState::SENDING) {
            link.state.set(LinkState::DIRTY);
            self.dirty.push(conn);
        }
        if link.output.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            link.output = spare;
        }
        &mut link.output
    }

    /// Whether the connection is up.
    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.links[conn.index()].state.has(LinkState::OPEN)
    }

    /// Opens a connection that is free.
    pub(crate) fn open(&mut self, conn: ConnId) {
        self.opening.push(conn);
    }

    /// Opens a connection that reads one buffer at a time, so that [`Outbox::pause`] can stop it.
    pub(crate) fn open_metered(&mut self, conn: ConnId) {
        self.links[conn.index()].state.set(LinkState::METERED);
        self.opening.push(conn);
    }

    /// Reads no more from a metered connection; what is already armed may bring one more buffer.
    pub(crate) fn pause(&mut self, conn: ConnId) {
        self.links[conn.index()].state.set(LinkState::PAUSED);
    }

    /// Reads again from a metered connection.
    pub(crate) fn resume(&mut self, conn: ConnId) {
        self.links[conn.index()].state.clear(LinkState::PAUSED);
        self.listening.push(conn);
    }

    /// Bytes that wait because an earlier send is still under way.
    pub(crate) fn backlog(&self, conn: ConnId) -> usize {
        self.links[conn.index()].output.len()
    }

    /// Closes a connection after what has been written to it in this turn.
    pub(crate) fn close(&mut self, conn: ConnId) {
        self.closing.push(conn);
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    fn forget(&mut self, conn: ConnId) {
        let link = std::mem::take(&mut self.links[conn.index()]);
        self.keep(link.output);
    }
}

/// Flags of a link.
#[derive(Clone, Copy, Debug, Default)]
struct LinkState(u8);

impl LinkState {
    const OPEN: u8 = 1;
    const DIRTY: u8 = 1 << 1;
    const SENDING: u8 = 1 << 2;
    /// The opening failed on its local address; it begins again when the socket is gone.
    const RETRYING: u8 = 1 << 7;
    /// Receives one buffer at a time.
    const METERED: u8 = 1 << 3;
    /// A metered connection is not to receive now.
    const PAUSED: u8 = 1 << 4;
    /// A receive is armed; kept for metered connections only.
    const ARMED: u8 = 1 << 5;

    const fn has(self, flags: u8) -> bool {
        self.0 & flags != 0
    }

    const fn set(&mut self, flags: u8) {
        self.0 |= flags;
    }

    const fn clear(&mut self, flags: u8) {
        self.0 &= !flags;
    }
}

/// How large the rings are that hold this many connections.
pub(crate) fn ring_sizes(connections: u32, per_ring: u32) -> RingConfig {
    let alone = connections <= per_ring;
    RingConfig {
        requests: if alone { 4096 } else { 1024 },
        completions: if alone { 32_768 } else { 8192 },
        sockets: per_ring.min(connections),
        buffers: if alone { 1024 } else { 256 },
        buffer_bytes: if alone { 8192 } else { 2048 },
    }
}

fn place(conn: ConnId, per_ring: u32) -> (usize, SlotId) {
    ((conn.0 / per_ring) as usize, SlotId(conn.0 % per_ring))
}

/// Output buffers kept for reuse.
const SPARE_MAX: usize = 4096;
/// A larger output buffer is freed instead of kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// Connections per ring unless told otherwise: a file table holds at most RLIMIT_NOFILE entries, and 20,000
/// is a settings value of it.
pub(crate) const PER_RING: u32 = 19_900;

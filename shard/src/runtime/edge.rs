//! What a shard owns of the outside world: rings, connections, listeners, lanes. All of it lives on the shard's core.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::{Receiver, Sender};
use dunlin_persist::Store;

use super::capacity_per_shard;
use super::config::EdgeConfig;
use super::connection::{Connections, FlushDeadline, Life, Reader};
use super::disk::{Disk, LogNotice};
use super::handoff::Arrivals;
use super::inbox::{Doorbell, Letter, ShardAnswer};
use super::listener::Listeners;
use super::mesh::{Freight, Lanes};
use super::metrics::EdgeMetrics;
use super::output::Outputs;
use super::ring::{Completion, Ring, RingShape};
use super::tag::{Kind, Tag};
use crate::action::{Action, Actions};
use crate::ids::{ConnId, ShardId};
use crate::time::{Mono, NS_PER_MS};

/// Everything of one shard but its core.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) shard: ShardId,
    pub(super) config: Arc<EdgeConfig>,
    pub(super) rings: Vec<Ring>,
    /// Slots in use, per ring.
    pub(super) used: Vec<u32>,
    pub(super) rings_max: usize,
    pub(super) accept_burst_max: u32,
    pub(super) shape: RingShape,
    pub(super) conns: Connections,
    pub(super) outputs: Outputs,
    /// Memory of the tick before, for the next.
    pub(super) outputs_spare: Outputs,
    /// Completions to be handled.
    pub(super) ready: Vec<Completion>,
    pub(super) listeners: Listeners,
    pub(super) lanes: Lanes,
    pub(super) arrivals: Arrivals,
    pub(super) letters: Receiver<Letter>,
    pub(super) answers: Sender<ShardAnswer>,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) open_count: Arc<AtomicU32>,
    /// Busy connections, to be looked at for silence.
    pub(super) busy: VecDeque<ConnId>,
    pub(super) swept_at: Mono,
    /// Busy connections that the present look at them has still to see.
    pub(super) sweep_left: usize,
    pub(super) flushing: VecDeque<FlushDeadline>,
    /// Connections in [`Life::Closing`].
    pub(super) closing_count: u64,
    /// `None`: nothing outlives the process.
    pub(super) disk: Option<Box<Disk>>,
    pub(super) metrics: EdgeMetrics,
    pub(super) now: Mono,
    /// The current period of silence, modulo 256.
    pub(super) epoch: u8,
    pub(super) stopping: bool,
    /// The core has ended all its connections.
    pub(super) stopped: bool,
}

/// What a shard is made of, besides its core. Made by the thread that starts it.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) shard: ShardId,
    pub(super) config: Arc<EdgeConfig>,
    /// Entries of a ring's file table: what the kernel allows.
    pub(super) table_entries: u32,
    /// Connections that one entry into the kernel may accept.
    pub(super) accept_burst_max: u32,
    pub(super) lanes: Lanes,
    pub(super) letters: Receiver<Letter>,
    pub(super) answers: Sender<ShardAnswer>,
    pub(super) store: Option<Store>,
    pub(super) notices: Sender<LogNotice>,
    pub(super) doorbell: Arc<Doorbell>,
    /// Connections of the whole process.
    pub(super) open_count: Arc<AtomicU32>,
}

impl Edge {
    /// Makes the shard's first ring on this thread and begins to accept.
    ///
    /// # Errors
    /// When the ring cannot be made.
    pub(super) fn new(parts: Parts, listeners: Listeners) -> io::Result<Self> {
        let capacity = capacity_per_shard(&parts.config);
        let slack = TABLE_SLACK.saturating_add(parts.accept_burst_max.saturating_mul(2));
        let table_entries = parts.table_entries.min(capacity.saturating_add(slack));
        let rings_max = rings_for(capacity, table_entries) as usize;
        let mut shape = RingShape::new(&parts.config.rings, table_entries);
        shape.buffer_count =
            shared_buffer_count(shape.buffer_count, shards_beside(&parts.config.cores, parts.shard));
        let disk = parts.store.map(|store| {
            let doorbell = Arc::clone(&parts.doorbell);
            Box::new(Disk::new(store, parts.shard, parts.config.sync_every_ms, doorbell, parts.notices))
        });
        let mut edge = Self {
            shard: parts.shard,
            shape,
            rings: Vec::new(),
            used: Vec::new(),
            rings_max,
            accept_burst_max: parts.accept_burst_max,
            conns: Connections::new(table_entries),
            outputs: Outputs::default(),
            outputs_spare: Outputs::default(),
            ready: Vec::new(),
            listeners,
            disk,
            lanes: parts.lanes,
            arrivals: Arrivals::default(),
            letters: parts.letters,
            answers: parts.answers,
            doorbell: parts.doorbell,
            open_count: parts.open_count,
            config: parts.config,
            busy: VecDeque::new(),
            swept_at: Mono(0),
            sweep_left: 0,
            flushing: VecDeque::new(),
            closing_count: 0,
            metrics: EdgeMetrics::default(),
            now: Mono(0),
            epoch: 0,
            stopping: false,
            stopped: false,
        };
        edge.add_ring()?;
        edge.settle_accepts();
        Ok(edge)
    }

    /// Adds a ring. The first also watches the doorbell; the others ring it when they have something and the shard sleeps.
    pub(super) fn add_ring(&mut self) -> io::Result<()> {
        let index = self.rings.len();
        let mut shape = self.shape;
        if index > 0 {
            shape.buffer_count = shared_buffer_count(shape.buffer_count, self.rings_max);
        }
        let mut ring = Ring::new(&shape, index)?;
        let doorbell = self.doorbell.eventfd().as_fd();
        if index == 0 && self.parks_in_ring() {
            ring.poll_eventfd(doorbell);
        } else {
            ring.register_bell(doorbell)?;
        }
        self.rings.push(ring);
        self.used.push(0);
        self.metrics.rings += 1;
        Ok(())
    }

    /// Takes over what the core wants, at once: what goes out leaves at the end of the tick. `actions.list` is empty
    /// afterwards; the arena stays.
    pub(super) fn absorb(&mut self, actions: &mut Actions) {
        let Actions { arena, list } = actions;
        for action in list.drain(..) {
            match action {
                Action::Send { conn, head, payload } => {
                    let Some(state) = self.conns.of(conn) else { continue };
                    if state.is_backlogged() {
                        let backlog = &mut state.rare().backlog;
                        backlog.extend_from_slice(&arena[head.start as usize..head.end as usize]);
                        backlog.extend_from_slice(payload.as_ref().map_or(&[], |message| message.payload()));
                        continue;
                    }
                    let index = match state.output.checked_sub(1) {
                        Some(index) => {
                            self.outputs.extend(index as usize, head);
                            index as usize
                        }
                        None => {
                            let index = self.outputs.begin(conn, head);
                            state.output = u32::try_from(index + 1).unwrap_or(u32::MAX);
                            index
                        }
                    };
                    if let Some(payload) = payload {
                        self.outputs.extend_payload(index, payload);
                    }
                }
                Action::Close { conn, flush } => self.close(conn, flush),
                Action::PauseRead { conn } => self.pause(conn, true),
                Action::ResumeRead { conn } => self.pause(conn, false),
                Action::Handoff { conn, to, arrival } => self.leave(conn, to, arrival),
                Action::Mesh { to, message } => {
                    self.metrics.mesh_out += 1;
                    self.lanes.say(to, Freight::Message(message));
                }
                // A core that records nothing asks for neither.
                Action::Append { seq, record } => {
                    if let Some(disk) = &mut self.disk {
                        disk.append(seq, &record, self.now);
                    }
                }
                Action::Fetch { session, messages } => {
                    if let Some(disk) = &mut self.disk {
                        disk.fetch(session, &messages);
                    }
                }
                Action::Answer { token, answer } => {
                    let answer = ShardAnswer { shard: self.shard, token, answer };
                    self.metrics.answers_dropped += u64::from(self.answers.try_send(answer).is_err());
                }
                Action::Stopped => self.stopped = true,
            }
        }
    }

    /// Closes a connection that the core has forgotten: at once, or when its bytes have left.
    pub(super) fn close(&mut self, conn: ConnId, flush: bool) {
        let deadline = Mono(self.now.0 + self.config.close_flush_ms_max * NS_PER_MS);
        let Some(state) = self.conns.of(conn) else { return };
        if flush && (state.output != 0 || state.is_backlogged()) {
            state.life = Life::Closing;
            self.closing_count += 1;
            self.flushing.push_back(FlushDeadline { at: deadline, conn });
            self.want(conn, Reader::Off);
        } else {
            self.end_politely(conn);
        }
    }

    /// Ends a connection that the broker closes: what the peer still sent is thrown away first, because closing a socket with
    /// unread bytes resets the connection, and a reset may overtake the last bytes that were sent.
    pub(super) fn end_politely(&mut self, conn: ConnId) {
        let (ring, slot) = self.conns.place(conn.slot);
        if self.conns.of(conn).is_some_and(|state| !state.ended) {
            self.rings[ring].discard_input(slot, conn.generation);
        }
        self.tear_down(conn);
    }

    /// Ends a connection now: its operations, its socket, its slot. What it still had to send is dropped.
    pub(super) fn tear_down(&mut self, conn: ConnId) {
        let (ring_index, slot) = self.conns.place(conn.slot);
        let Some(state) = self.conns.of(conn) else { return };
        let ring = &mut self.rings[ring_index];
        if let Some(kind) = state.armed.kind()
            && !state.cancelling
        {
            ring.cancel(Tag::new(kind, slot, conn.generation));
        }
        if state.is_backlogged() {
            ring.cancel(Tag::new(Kind::SendLater, slot, conn.generation));
        }
        if let Some(index) = state.output.checked_sub(1) {
            self.outputs.take_back(index as usize);
        }
        self.closing_count -= u64::from(state.life == Life::Closing);
        ring.close(slot, conn.generation);
        self.conns.free(conn);
        self.slot_freed(ring_index);
        self.open_count.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections -= 1;
        self.metrics.closed += 1;
    }

    /// The time of the tick.
    pub(super) fn set_now(&mut self, now: Mono) {
        self.now = now;
        self.epoch = (now.0 / self.quiet_ns()).to_le_bytes()[0];
    }

    /// A slot of a ring is free again.
    pub(super) fn slot_freed(&mut self, ring: usize) {
        self.used[ring] = self.used[ring].saturating_sub(1);
        self.listeners.unsettle();
    }

    /// A slot of a ring was taken.
    pub(super) fn slot_taken(&mut self, ring: usize) {
        self.used[ring] += 1;
        let full = self.accept_burst_max.saturating_mul(2).saturating_add(self.reserve());
        if self.free_in(ring) <= full {
            self.listeners.unsettle();
        }
    }

    /// Free slots of a ring.
    pub(super) fn free_in(&self, ring: usize) -> u32 {
        self.shape.table_entries.saturating_sub(self.used[ring])
    }

    /// Slots that accepts leave to connections which come home.
    pub(super) fn reserve(&self) -> u32 {
        reserve_of(self.shape.table_entries)
    }

    /// A ring with room for one more: the first that has more than its reserve, or a new one. `None` when all are full.
    pub(super) fn ring_with_room(&mut self) -> Option<usize> {
        if let Some(ring) = (0..self.rings.len()).find(|&ring| self.free_for_accepts(ring) > 0) {
            return Some(ring);
        }
        self.another_ring()
    }

    /// A ring more, if the shard may have one.
    pub(super) fn another_ring(&mut self) -> Option<usize> {
        if self.rings.len() >= self.rings_max {
            return None;
        }
        if self.add_ring().is_err() {
            // The host gives no more: this is all that the shard will have.
            self.rings_max = self.rings.len();
            self.metrics.accept_exhausted += 1;
            return None;
        }
        Some(self.rings.len() - 1)
    }

    /// Takes all completions that are there, running deferred work until there is none or a good batch has come.
    ///
    /// The ring's flag for deferred work is only a hint. The kernel clears it before it runs the work, and work that it then
    /// runs too may set it again, so that it can stay set over an empty list. An entry that brought nothing is therefore the
    /// last.
    pub(super) fn gather(&mut self) {
        for ring in &mut self.rings {
            ring.take(&mut self.ready);
            while self.ready.len() < BATCH_COMPLETIONS && ring.has_hint() {
                ring.submit();
                if ring.take(&mut self.ready) == 0 {
                    self.metrics.hints_empty += 1;
                    break;
                }
            }
        }
    }

    /// The counters, with those that others keep.
    pub(super) fn counters(&self) -> EdgeMetrics {
        let mut metrics = self.metrics.clone();
        metrics.log = self.disk.as_ref().map(|disk| disk.metrics());
        metrics.enters = self.rings.iter().map(Ring::enters).sum();
        metrics.completions_overflowed = self.rings.iter().map(Ring::overflows).sum();
        metrics
    }

    pub(super) fn parks_in_ring(&self) -> bool {
        self.config.park == super::Park::Ring
    }
}

/// Rings that hold `capacity` connections in tables of `table_entries`.
pub(super) fn rings_for(capacity: u32, table_entries: u32) -> u32 {
    let usable = table_entries.saturating_sub(reserve_of(table_entries)).max(1);
    capacity.div_ceil(usable).max(1)
}

fn reserve_of(table_entries: u32) -> u32 {
    (table_entries / 16).clamp(1, RESERVE_MAX)
}

/// Buffers of each of `rings` that one core turns: of the rings of a shard after its first, and of the first rings of shards
/// on one core. They share what one ring would have, because the load is the same however many rings it comes through.
fn shared_buffer_count(alone: u16, rings: usize) -> u16 {
    let share = usize::from(alone) * 2 / rings.max(1);
    let share = u16::try_from(share).unwrap_or(u16::MAX).min(alone);
    let power = if share.is_power_of_two() { share } else { share.next_power_of_two() / 2 };
    power.clamp(alone.min(SHARED_BUFFERS_MIN), alone)
}

/// How many shards the core of this one turns. Shards without a core are spread by the scheduler.
fn shards_beside(cores: &[Option<usize>], shard: ShardId) -> usize {
    match cores.get(usize::from(shard.0)) {
        Some(Some(core)) => cores.iter().filter(|other| **other == Some(*core)).count(),
        Some(None) | None => 1,
    }
}

/// A tick takes in about so many completions before it lets output leave: enough to coalesce, few enough for the cache.
const BATCH_COMPLETIONS: usize = 256;

/// Most slots of a ring that accepts leave to connections which come home.
const RESERVE_MAX: u32 = 1_024;

/// Slots above a shard's capacity: the reserve, and connections on their way out. Besides, so many that accepts need not be counted
/// one by one before the shard is full.
const TABLE_SLACK: u32 = 2 * RESERVE_MAX;

/// Fewest receive buffers of a ring that shares.
const SHARED_BUFFERS_MIN: u16 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_shard_may_have_fits_into_its_rings() {
        for (capacity, table) in [(1, 2), (40, 8), (1_250_064, 20_000), (1 << 20, 1 << 20)] {
            let usable = rings_for(capacity, table) * (table - reserve_of(table));
            assert!(usable >= capacity, "{capacity} in tables of {table}");
        }
        assert_eq!(rings_for(18_900, 20_000), 1);
    }

    #[test]
    fn rings_of_one_core_share_the_buffers() {
        assert_eq!(shared_buffer_count(1_024, 1), 1_024);
        assert_eq!(shared_buffer_count(1_024, 4), 512);
        assert_eq!(shared_buffer_count(1_024, 6), 256);
        assert_eq!(shared_buffer_count(1_024, 57), 128);
        assert_eq!(shared_buffer_count(16, 57), 16);
    }

    #[test]
    fn shards_are_counted_by_their_core() {
        let cores = [Some(0), Some(1), Some(0), Some(1), Some(0), None, None];
        let counts: Vec<usize> = (0..7).map(|shard| shards_beside(&cores, ShardId(shard))).collect();
        assert_eq!(counts, [3, 2, 3, 2, 3, 1, 1]);
    }
}

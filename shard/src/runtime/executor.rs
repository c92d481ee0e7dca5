//! The tick: take everything that has come, tell the core, let everything that it wants leave at once.
//!
//! One loop per shard, inside one task of the shard's glommio executor. While there is work it goes round without sleeping and
//! yields when the executor asks; when there is none it sleeps.

use crossbeam_channel::{Receiver, Sender};

use super::clock::Clock;
use super::connection::{Life, Reader};
use super::contain::{Contained, Core, Handled};
use super::disk::{CLEANING_RECORDS_PER_TICK, event_of};
use super::edge::{Edge, Parts};
use super::inbox::Letter;
use super::listener::Listeners;
use super::mesh::Freight;
use super::metrics::EdgeMetrics;
use super::park::Parker;
use super::ring::Completion;
use super::sending::{flush, sent_later};
use super::tag::Kind;
use super::tcp::{received, tell};
use super::{handoff, ring};
use crate::action::Actions;
use crate::control::Control;
use crate::event::Event;
use crate::ids::{ConnId, ListenerId, ShardId};
use crate::limits::TICK_ARENA_BYTES;
use crate::time::{Mono, NS_PER_MS, Now};

/// How a shard and the thread that starts it agree on when to begin.
pub(super) struct Start {
    /// Two words: the core is made; connections are accepted. Or why not.
    pub(super) words: Sender<Result<(), String>>,
    /// Comes after the first word. Gone: another shard could not start.
    pub(super) listeners: Receiver<Listeners>,
}

/// Runs a shard on this thread until it is told to stop. Listens only after the core was made, which may read back what an
/// earlier process stored.
///
/// # Errors
/// When a ring cannot be made or fails, and when the log does not take the last records.
pub(super) async fn run<C: Core>(
    parts: Parts,
    maker: impl FnOnce() -> C,
    start: Start,
) -> Result<EdgeMetrics, String> {
    let Start { words, listeners } = start;
    let mut clock = Clock::new();
    let core = Contained::new(maker());
    let _told = words.send(Ok(()));
    let Ok(listeners) = listeners.recv() else {
        return Ok(EdgeMetrics::default());
    };
    let started = Edge::new(parts, listeners).and_then(|edge| {
        let parker = Parker::new(&edge)?;
        Ok((edge, parker))
    });
    let (edge, parker) = match started {
        Ok(started) => started,
        Err(error) => {
            let _told = words.send(Err(error.to_string()));
            return Err(error.to_string());
        }
    };
    let _told = words.send(Ok(()));
    let now = clock.now();
    let shard = Shard {
        edge,
        core,
        actions: Actions::default(),
        clock,
        now,
        batch: Vec::new(),
        timer_rests_until: Mono(0),
        stop_by: None,
    };
    Box::new(shard).live(parker).await
}

/// A shard: its core and its edge.
struct Shard<C> {
    edge: Edge,
    core: Contained<C>,
    actions: Actions,
    clock: Clock,
    now: Now,
    /// The completions of this tick.
    batch: Vec<Completion>,
    /// After a panic in it, the timer is not tried again before this.
    timer_rests_until: Mono,
    /// When the shard ends whatever still waits.
    stop_by: Option<Mono>,
}

impl<C: Core> Shard<C> {
    async fn live(mut self: Box<Self>, mut parker: Parker) -> Result<EdgeMetrics, String> {
        self.core.begin(self.now, &mut self.actions);
        self.edge.absorb(&mut self.actions);
        loop {
            self.tick();
            if let Some(failure) = self.edge.rings.iter().find_map(ring::Ring::failure) {
                return Err(format!("its ring failed: {failure}"));
            }
            if self.is_over() {
                // The last closes go to the kernel before the rings do.
                self.edge.gather();
                let counters = self.edge.counters();
                return self.edge.disk.take().map_or(Ok(()), |disk| disk.close()).map(|()| counters);
            }
            if self.has_work() {
                glommio::yield_if_needed().await;
            } else {
                self.sleep(&mut parker).await;
            }
        }
    }

    /// Takes in, then lets out.
    fn tick(&mut self) {
        self.read_clock();
        self.edge.metrics.ticks += 1;
        std::mem::swap(&mut self.batch, &mut self.edge.ready);
        self.edge.metrics.completions += self.batch.len() as u64;
        for index in 0..self.batch.len() {
            let completion = self.batch[index];
            self.complete(&completion);
            self.flush_if_large();
        }
        self.batch.clear();
        self.take_lanes();
        self.take_letters();
        self.take_news();
        self.look_at_deadlines();
        self.clean();
        // Before the sends, so that the disk and the network work at the same time.
        self.commit();
        flush(&mut self.edge, &mut self.core, &mut self.actions, self.now);
        self.edge.settle_accepts();
        let lanes = self.edge.lanes.flush();
        self.edge.metrics.wakes_out += lanes.wakes;
        self.edge.metrics.lanes_full += lanes.full;
        // What the core recorded when it heard what the sockets took.
        self.commit();
    }

    fn commit(&mut self) {
        let now = self.now.mono;
        if let Some(disk) = &mut self.edge.disk {
            disk.commit(now, self.core.awaited_record());
        }
    }

    /// What the disk has done.
    fn take_news(&mut self) {
        let Some(disk) = &mut self.edge.disk else { return };
        let mut told = disk.take_news(self.now.mono);
        for news in told.drain(..) {
            let event = event_of(news);
            let _handled = tell(&mut self.edge, &mut self.core, &mut self.actions, self.now, event);
            self.flush_if_large();
        }
        if let Some(disk) = &mut self.edge.disk {
            disk.put_back(told);
        }
    }

    /// Frees the oldest part of the log in small steps.
    fn clean(&mut self) {
        for _ in 0..CLEANING_RECORDS_PER_TICK {
            let Some(record) = self.edge.disk.as_mut().and_then(|disk| disk.next_reclaimable()) else {
                return;
            };
            let event = Event::Reclaim(Box::new(record));
            let _handled = tell(&mut self.edge, &mut self.core, &mut self.actions, self.now, event);
        }
    }

    fn complete(&mut self, completion: &Completion) {
        let Self { edge, core, actions, now, .. } = self;
        match completion.tag.kind {
            Kind::Accept => edge.accepted(completion),
            Kind::Name => self.named(completion),
            Kind::ReceiveOnce | Kind::ReceiveMany | Kind::ReceiveNow => {
                received(edge, core, actions, *now, completion);
            }
            Kind::Poll => edge.polled(completion),
            Kind::SendLater => sent_later(edge, core, actions, *now, completion),
            Kind::Doorbell if !completion.more() => edge.watch_doorbell(),
            Kind::HandoffOut => edge.handed_over(completion),
            Kind::HandoffIn => handoff::socket_came(edge, core, actions, *now, completion),
            // Sends are looked at when they are submitted; a cancel or close that fails found nothing to do.
            Kind::Send | Kind::Cancel | Kind::Close | Kind::Doorbell | Kind::Tune => {}
        }
    }

    /// A connection that was accepted has a name now: the core hears of it, and then of the bytes that came before.
    fn named(&mut self, completion: &Completion) {
        let edge = &mut self.edge;
        let (slot, generation, peer) = edge.rings[completion.ring].name(completion);
        let conn = ConnId { slot: edge.conns.index(completion.ring, slot), generation };
        let Some(state) = edge.conns.of(conn) else { return };
        let Some(peer) = peer else {
            // The peer has gone already.
            edge.metrics.accept_failed += 1;
            edge.tear_down(conn);
            return;
        };
        state.life = Life::Open;
        let early = state.rare.take().map(|rare| rare.backlog).unwrap_or_default();
        let listener = ListenerId(state.listener);
        self.about(conn, Event::Opened { conn, peer, listener });
        if !early.is_empty() {
            self.about(conn, Event::Bytes { conn, bytes: &early });
        }
    }

    /// Tells the core something about a connection; a panic ends the connection.
    fn about(&mut self, conn: ConnId, event: Event<'_>) {
        if tell(&mut self.edge, &mut self.core, &mut self.actions, self.now, event) == Handled::Panicked {
            self.edge.tear_down(conn);
        }
    }

    fn take_lanes(&mut self) {
        let words = self.edge.lanes.shard_count().div_ceil(64);
        for word in 0..words {
            let mut marks = self.edge.doorbell.take_lanes(word);
            while marks != 0 {
                let from = word * 64 + marks.trailing_zeros() as usize;
                marks &= marks - 1;
                while let Some(batch) = self.edge.lanes.next_from(from) {
                    for freight in batch {
                        self.unload(ShardId(u16::try_from(from).unwrap_or(u16::MAX)), freight);
                        self.flush_if_large();
                    }
                }
            }
        }
    }

    fn unload(&mut self, from: ShardId, freight: Freight) {
        let Self { edge, core, actions, now, .. } = self;
        match freight {
            Freight::Message(message) => {
                edge.metrics.mesh_in += 1;
                let _handled = tell(edge, core, actions, *now, Event::Mesh { from, message });
            }
            Freight::Arrival { ticket, arrival } => {
                handoff::news_came(edge, core, actions, *now, ((from, ticket), arrival));
            }
            Freight::Gone { ticket } => edge.forget_arrival((from, ticket)),
        }
    }

    fn take_letters(&mut self) {
        while let Ok(letter) = self.edge.letters.try_recv() {
            let event = match letter {
                Letter::Control(control) => {
                    if matches!(control, Control::Stop) {
                        self.begin_stop();
                    }
                    Event::Control(control)
                }
                Letter::HookDone { token, outcome } => Event::HookDone { token, outcome },
                Letter::Metrics(answer) => {
                    let _taken = answer.try_send(self.edge.counters());
                    continue;
                }
            };
            let _handled = tell(&mut self.edge, &mut self.core, &mut self.actions, self.now, event);
            self.flush_if_large();
        }
    }

    fn look_at_deadlines(&mut self) {
        if self.timer_due().is_some_and(|at| at <= self.now.mono) {
            let handled = tell(&mut self.edge, &mut self.core, &mut self.actions, self.now, Event::Timer);
            if handled == Handled::Panicked {
                self.timer_rests_until = Mono(self.now.mono.0 + TIMER_REST_MS * NS_PER_MS);
            }
        }
        self.edge.sweep();
        self.edge.give_up_arrivals();
        self.edge.repeat_offers();
        self.edge.expire_flushes();
    }

    /// When the core's timer is due, as late as its last panic demands.
    fn timer_due(&self) -> Option<Mono> {
        self.core.next_deadline().map(|at| at.max(self.timer_rests_until))
    }

    /// The output of a tick leaves early when it outgrows the cache.
    fn flush_if_large(&mut self) {
        if self.actions.arena.len() > TICK_ARENA_BYTES {
            flush(&mut self.edge, &mut self.core, &mut self.actions, self.now);
            // That took a while.
            self.read_clock();
        }
    }

    fn read_clock(&mut self) {
        self.now = self.clock.now();
        self.edge.set_now(self.now.mono);
    }

    /// Whether the next tick has something to do that nobody would wake the shard for.
    fn has_work(&self) -> bool {
        !self.edge.ready.is_empty()
            || !self.edge.outputs.is_empty()
            || self.edge.disk.as_ref().is_some_and(|disk| disk.is_cleaning())
    }

    async fn sleep(&mut self, parker: &mut Parker) {
        self.read_clock();
        let deadline = self.deadline();
        parker.sleep(&mut self.edge, deadline).await;
        self.edge.gather();
    }

    /// When the shard must be awake even if nothing comes.
    fn deadline(&self) -> Option<Mono> {
        let lanes = self.edge.lanes.is_loaded().then(|| Mono(self.now.mono.0 + LANE_RETRY_NS));
        let all = [
            self.timer_due(),
            self.edge.listeners.deadline(),
            self.edge.sweep_due(),
            self.edge.arrivals.deadline(),
            self.edge.flush_due(),
            self.stop_by,
            self.edge.disk.as_ref().and_then(|disk| disk.due()),
            lanes,
        ];
        all.into_iter().flatten().min()
    }

    fn begin_stop(&mut self) {
        self.edge.stopping = true;
        self.edge.listeners.unsettle();
        let by = Mono(self.now.mono.0 + self.edge.config.stop_ms_max * NS_PER_MS);
        self.stop_by.get_or_insert(by);
    }

    /// Whether the shard may end: the core has ended its connections and their last bytes have left, or time is up.
    fn is_over(&mut self) -> bool {
        let Some(by) = self.stop_by else { return false };
        if self.now.mono >= by {
            return true;
        }
        if !self.edge.stopped {
            return false;
        }
        self.edge.end_unfinished();
        self.edge.metrics.connections == 0 && self.edge.listeners.is_silent() && !self.edge.lanes.is_loaded()
    }
}

impl Edge {
    /// Ends connections whose last bytes did not leave in time.
    fn expire_flushes(&mut self) {
        while let Some(first) = self.flushing.front().copied() {
            if first.at > self.now {
                return;
            }
            self.flushing.pop_front();
            if self.conns.of(first.conn).is_some_and(|state| state.life == Life::Closing) {
                self.metrics.flushes_expired += 1;
                self.tear_down(first.conn);
            }
        }
    }

    fn flush_due(&self) -> Option<Mono> {
        self.flushing.front().map(|first| first.at)
    }

    /// The shard is stopping and the core is done: what is not flushing has nobody to speak for it. Looks at the whole table only if
    /// there are such connections.
    fn end_unfinished(&mut self) {
        if self.metrics.connections == self.closing_count {
            return;
        }
        for conn in self.conns.all() {
            if self.conns.of(conn).is_some_and(|state| state.life != Life::Closing) {
                self.want(conn, Reader::Off);
                self.tear_down(conn);
            }
        }
    }

    /// Watches the doorbell again. A ring of this shard that rings it ends the watch: the kernel fears a circle.
    fn watch_doorbell(&mut self) {
        use std::os::fd::AsFd as _;
        self.doorbell.hush();
        self.rings[0].poll_eventfd(self.doorbell.eventfd().as_fd());
    }
}

/// How long the timer rests after a panic in it.
const TIMER_REST_MS: u64 = 100;

/// How soon a full lane is tried again when nothing else happens.
const LANE_RETRY_NS: u64 = NS_PER_MS;

//! Moves a connection to its home shard (ADR 0007).
//!
//! The socket goes by ring message from a slot of this shard's file table to a free slot of the home's; what is known of the
//! connection, with all unread bytes, goes over the lane in the same tick under the same ticket, so that the home wakes once. It
//! waits for both halves, in either order. The receive here ends before the socket moves: no byte is lost and none is read
//! twice.

use std::collections::{BTreeMap, VecDeque};

use super::connection::{Leaving, Life, Reader};
use super::contain::{Contained, Core, Handled};
use super::edge::Edge;
use super::mesh::Freight;
use super::ring::Completion;
use super::tag::{Kind, Tag};
use super::tcp::tell;
use crate::action::{Actions, Arrival};
use crate::event::Event;
use crate::ids::{ConnId, ListenerId, ShardId};
use crate::time::{Mono, NS_PER_MS, Now};

/// Halves of connections that are coming home. One per shard, on its core.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    halves: BTreeMap<Ticket, Half>,
    /// Sockets in the order of their coming: one whose news never comes is closed.
    sockets: VecDeque<(Mono, Ticket)>,
    /// Connections that found no room at home, and when they are offered again.
    offers: BTreeMap<Mono, Vec<ConnId>>,
    next_ticket: u32,
    /// Sockets that have come since the start, modulo 2^32.
    came: u32,
}

/// Which connection of which shard.
type Ticket = (ShardId, u32);

#[derive(Debug)]
enum Half {
    Socket(ConnId),
    News(Box<Arrival>),
}

impl Arrivals {
    /// When the oldest socket without news is given up, or a connection is offered again.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let sockets = self.sockets.front().map(|(at, _)| *at);
        let offers = self.offers.first_key_value().map(|(at, _)| *at);
        sockets.into_iter().chain(offers).min()
    }
}

impl Edge {
    /// Begins to send a connection to its home: nothing is received here any more.
    pub(super) fn leave(&mut self, conn: ConnId, to: ShardId, arrival: Box<Arrival>) {
        let ticket = self.arrivals.next_ticket;
        let Some(state) = self.conns.of(conn) else { return };
        if to == self.shard || usize::from(to.0) >= self.lanes.shard_count() {
            self.refuse_leaving(conn);
            return;
        }
        self.arrivals.next_ticket = ticket.wrapping_add(1);
        state.life = Life::Leaving;
        let arrival = Some(arrival);
        state.rare().leaving = Some(Leaving { to, arrival, ticket, attempts: 0, moving: false });
        self.want(conn, Reader::Off);
    }

    /// Moves the socket, once nothing receives and nothing waits to be sent.
    pub(super) fn proceed_leaving(&mut self, conn: ConnId) {
        let (ring, slot) = self.conns.place(conn.slot);
        let Some(state) = self.conns.of(conn) else { return };
        if state.output != 0 || state.is_backlogged() {
            return;
        }
        let Some(leaving) = &mut state.rare().leaving else { return };
        if leaving.moving {
            return;
        }
        let there = Tag::new(Kind::HandoffIn, self.shard.0.into(), leaving.ticket);
        leaving.moving = true;
        let to = leaving.to;
        let Some(target) = self.lanes.doorbell(to).arrivals.take() else {
            self.offer_again(conn);
            return;
        };
        self.rings[ring].hand_over(slot, conn.generation, target, there);
        if let Some(arrival) = leaving.arrival.take() {
            self.lanes.say(to, Freight::Arrival { ticket: leaving.ticket, arrival });
        }
    }

    /// The socket is in the home's table, or could not be put there.
    pub(super) fn handed_over(&mut self, completion: &Completion) {
        let conn = self.name_of(completion);
        let Some(state) = self.conns.of(conn) else { return };
        if completion.result < 0 {
            // The host is out of memory, or the home ends.
            if let Some(leaving) = &state.rare().leaving {
                self.lanes.doorbell(leaving.to).arrivals.give_back();
            }
            self.offer_again(conn);
            return;
        }
        self.rings[completion.ring].close(completion.tag.slot, conn.generation);
        self.conns.free(conn);
        self.slot_freed(completion.ring);
        self.metrics.connections -= 1;
        self.metrics.handoffs_out += 1;
    }

    /// Offers a connection that found no room to its home again: after a while, and not for ever.
    fn offer_again(&mut self, conn: ConnId) {
        let Some(state) = self.conns.of(conn) else { return };
        let Some(leaving) = &mut state.rare().leaving else { return };
        if leaving.attempts >= HANDOFF_ATTEMPTS_MAX {
            self.refuse_leaving(conn);
            return;
        }
        let at = Mono(self.now.0 + (NS_PER_MS << leaving.attempts.min(HANDOFF_PAUSE_DOUBLINGS)));
        leaving.attempts += 1;
        self.arrivals.offers.entry(at).or_default().push(conn);
    }

    /// Tries the offers that are due.
    pub(super) fn repeat_offers(&mut self) {
        while let Some(first) = self.arrivals.offers.first_entry()
            && *first.key() <= self.now
        {
            for conn in first.remove() {
                if let Some(state) = self.conns.of(conn)
                    && let Some(leaving) = &mut state.rare().leaving
                {
                    leaving.moving = false;
                    self.proceed_leaving(conn);
                }
            }
        }
    }

    /// Names a ring that takes arrivals and gives permits for some of its slots.
    pub(super) fn settle_arrivals(&mut self) {
        if self.lanes.shard_count() == 1 {
            return;
        }
        let ring = if self.stopping { None } else { self.arrivals_ring() };
        let more = ring.map_or(0, |ring| self.room_for_arrivals(ring).min(PERMITS_MAX));
        self.doorbell.arrivals.offer(ring.map(|ring| self.rings[ring].descriptor()), more);
    }

    fn arrivals_ring(&mut self) -> Option<usize> {
        let with_room = (0..self.rings.len()).find(|&ring| self.room_for_arrivals(ring) > 0);
        with_room.or_else(|| self.another_ring())
    }

    /// Slots of a ring that are promised to nobody.
    fn room_for_arrivals(&self, ring: usize) -> u32 {
        let promised = self.kept_for_accepts(ring).saturating_add(self.arrivals_open());
        self.free_in(ring).saturating_sub(promised)
    }

    /// Connections that others may still send home.
    pub(super) fn arrivals_open(&self) -> u32 {
        self.doorbell.arrivals.open(self.arrivals.came)
    }

    /// Closes sockets that came without news for too long: the shard that sent them has ended.
    pub(super) fn give_up_arrivals(&mut self) {
        while let Some((at, ticket)) = self.arrivals.sockets.front().copied() {
            if at > self.now {
                return;
            }
            self.arrivals.sockets.pop_front();
            if let Some(Half::Socket(conn)) = self.arrivals.halves.get(&ticket) {
                let conn = *conn;
                self.arrivals.halves.remove(&ticket);
                self.metrics.handoffs_refused += 1;
                self.tear_down(conn);
            }
        }
    }

    fn refuse_leaving(&mut self, conn: ConnId) {
        self.metrics.handoffs_refused += 1;
        if let Some(leaving) = self.conns.of(conn).and_then(|state| state.rare().leaving.take())
            && leaving.arrival.is_none()
        {
            self.lanes.say(leaving.to, Freight::Gone { ticket: leaving.ticket });
        }
        self.tear_down(conn);
    }

    /// The other half of a connection that was coming home will not come.
    pub(super) fn forget_arrival(&mut self, ticket: Ticket) {
        if let Some(Half::Socket(conn)) = self.arrivals.halves.remove(&ticket) {
            self.tear_down(conn);
        }
    }
}

/// A socket came into a ring of this shard.
pub(super) fn socket_came<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    completion: &Completion,
) {
    let (Ok(slot), Ok(from)) = (u32::try_from(completion.result), u16::try_from(completion.tag.slot)) else {
        return;
    };
    let ticket = (ShardId(from), completion.tag.generation);
    edge.slot_taken(completion.ring);
    edge.arrivals.came = edge.arrivals.came.wrapping_add(1);
    // A permit is used up, another may be given.
    edge.listeners.unsettle();
    let conn = edge.conns.take(edge.conns.index(completion.ring, slot), ListenerId(0));
    edge.metrics.connections += 1;
    match edge.arrivals.halves.remove(&ticket) {
        Some(Half::News(arrival)) => arrive(edge, core, actions, now, conn, arrival),
        Some(Half::Socket(_)) | None => {
            edge.arrivals.halves.insert(ticket, Half::Socket(conn));
            let at = Mono(edge.now.0 + NEWS_MS_MAX * NS_PER_MS);
            edge.arrivals.sockets.push_back((at, ticket));
        }
    }
}

/// What another shard knew of a connection came over the lane.
pub(super) fn news_came<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    (ticket, arrival): (Ticket, Box<Arrival>),
) {
    match edge.arrivals.halves.remove(&ticket) {
        Some(Half::Socket(conn)) => arrive(edge, core, actions, now, conn, arrival),
        Some(Half::News(_)) | None => {
            edge.arrivals.halves.insert(ticket, Half::News(arrival));
        }
    }
}

fn arrive<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    conn: ConnId,
    arrival: Box<Arrival>,
) {
    let Some(state) = edge.conns.of(conn) else { return };
    state.life = Life::Open;
    edge.metrics.handoffs_in += 1;
    if tell(edge, core, actions, now, Event::Arrived { conn, arrival }) == Handled::Panicked {
        edge.tear_down(conn);
        return;
    }
    if edge.conns.of(conn).is_some_and(|state| state.life == Life::Open && !state.paused) {
        edge.watch_busy(conn);
    }
}

/// Times that a socket is offered to its home again: two seconds in all. A home that is only busy has room long before.
const HANDOFF_ATTEMPTS_MAX: u8 = 128;

/// Times that the pause between two offers doubles: to 16 ms.
const HANDOFF_PAUSE_DOUBLINGS: u8 = 4;

/// Permits that a shard gives at a time, for a tick or two: more handoffs than several busy shards begin meanwhile.
const PERMITS_MAX: u32 = 512;

/// How long a socket waits for its news, milliseconds: the lane is at most a few ticks behind unless its sender has ended.
const NEWS_MS_MAX: u64 = 10_000;

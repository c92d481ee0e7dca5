//! Listening sockets of one shard, and where what they accept goes.
//!
//! [MQTT311-7.1.1-1] [MQTT5-4.2.0-1]: TCP gives an ordered, lossless stream of bytes both ways.
//!
//! Each shard has its own socket per address (SO_REUSEPORT): the kernel spreads connections over the shards by a hash of their
//! addresses. Accepted sockets go straight into the file table of one ring; when that is full, accepting moves to another. When
//! nothing has room, or the host is out of descriptors or memory, accepting rests: connections wait in the kernel's backlog,
//! and nothing spins.
//!
//! The kernel accepts before it looks for a slot, and resets the connection if there is none. So a socket accepts *many* only while
//! the table has room for whole backlogs, and else a few, each counted, one by one.

use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;

use super::connection::Reader;
use super::edge::Edge;
use super::ring::Completion;
use super::tag::{Kind, Tag};
use crate::ids::ListenerId;
use crate::time::{Mono, NS_PER_MS};

/// The listening sockets of a shard. One per shard, on its core.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    list: Vec<Listening>,
    /// Where accepts should be may have changed.
    unsettled: bool,
    /// No accepting before this.
    rests_until: Option<Mono>,
}

/// One listening socket.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) id: ListenerId,
    pub(super) socket: TcpListener,
    pub(super) ipv6: bool,
    /// The ring that accepts for it, or did last.
    ring: Option<usize>,
    /// Accepts until told otherwise.
    many: bool,
    /// `many` was told to end.
    cancelling: bool,
    /// Accepts of one connection each that are under way, a bit each.
    ones: u32,
    /// Those that were told to end.
    ones_cancelling: u32,
}

/// How a ring accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Whatever comes.
    Many,
    /// So many on each listening socket.
    Ones(u32),
}

impl Listening {
    pub(super) fn new(id: ListenerId, socket: TcpListener, ipv6: bool) -> Self {
        Self { id, socket, ipv6, ring: None, many: false, cancelling: false, ones: 0, ones_cancelling: 0 }
    }

    /// Whether it accepts.
    fn is_armed(&self) -> bool {
        self.many || self.ones != 0
    }
}

impl Listeners {
    pub(super) fn new(list: Vec<Listening>) -> Self {
        Self { list, unsettled: true, rests_until: None }
    }

    /// Where accepts should be may have changed.
    pub(super) fn unsettle(&mut self) {
        self.unsettled = true;
    }

    /// When accepting wants to be looked at again.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.rests_until
    }

    /// Whether no socket accepts any more.
    pub(super) fn is_silent(&self) -> bool {
        !self.list.iter().any(Listening::is_armed)
    }
}

impl Edge {
    /// Brings accepting to where it should be: nowhere, or the ring with room. Cheap when nothing has changed.
    pub(super) fn settle_accepts(&mut self) {
        if self.listeners.rests_until.is_some_and(|until| until <= self.now) {
            self.listeners.rests_until = None;
            self.listeners.unsettled = true;
        }
        if !self.listeners.unsettled {
            return;
        }
        self.listeners.unsettled = false;
        if self.lanes.shard_count() > 1 {
            self.doorbell.arrivals.revoke();
        }
        // Slots that were closed are free before they are promised again.
        for ring in &mut self.rings {
            ring.submit();
        }
        let wanted =
            if self.stopping || self.listeners.rests_until.is_some() || self.listeners.list.is_empty() {
                None
            } else {
                let wanted = self.accept_place();
                if wanted.is_none() {
                    self.rest();
                }
                wanted
            };
        for index in 0..self.listeners.list.len() {
            self.settle_accept(index, wanted);
        }
        self.settle_arrivals();
    }

    fn settle_accept(&mut self, index: usize, wanted: Option<(usize, Pace)>) {
        let listening = &mut self.listeners.list[index];
        let is_here = wanted.is_some_and(|(ring, _)| listening.ring == Some(ring));
        if let Some(armed) = listening.ring {
            let many_goes_on = is_here && matches!(wanted, Some((_, Pace::Many)));
            if listening.many && !listening.cancelling && !many_goes_on {
                self.rings[armed].cancel(accept_tag(index, MANY));
                listening.cancelling = true;
            }
            // An arriving connection wakes one accept. If that one is being told to end, nobody hears of the connection until another
            // accept begins and looks for itself. So they end all together, and new ones begin.
            let ones_go_on = match wanted {
                Some((_, Pace::Ones(count))) => is_here && listening.ones.count_ones() <= count,
                Some((_, Pace::Many)) => is_here,
                None => false,
            };
            let ending = if ones_go_on { 0 } else { listening.ones & !listening.ones_cancelling };
            for one in (0..ONES_MAX).filter(|one| ending & 1 << one != 0) {
                self.rings[armed].cancel(accept_tag(index, one + 1));
            }
            listening.ones_cancelling |= ending;
        }
        let Some((ring, pace)) = wanted else { return };
        let is_ending = listening.cancelling || listening.ones_cancelling != 0;
        if !is_here && listening.is_armed() || is_ending {
            return;
        }
        self.metrics.accept_moved += u64::from(!is_here && listening.ring.is_some());
        listening.ring = Some(ring);
        match pace {
            Pace::Many if listening.many => {}
            Pace::Many => {
                self.rings[ring].accept_many(listening.socket.as_fd(), accept_tag(index, MANY));
                listening.many = true;
            }
            Pace::Ones(count) => {
                for one in 0..ONES_MAX {
                    if listening.ones.count_ones() >= count {
                        break;
                    }
                    if listening.ones & 1 << one == 0 {
                        self.rings[ring].accept_one(listening.socket.as_fd(), accept_tag(index, one + 1));
                        listening.ones |= 1 << one;
                    }
                }
            }
        }
    }

    /// The ring that accepts, as long as it has room, then another; and how.
    fn accept_place(&mut self) -> Option<(usize, Pace)> {
        let current = self.listeners.list.iter().filter(|listening| listening.is_armed());
        let current = current.filter_map(|listening| listening.ring).next();
        let current = current.filter(|&ring| self.free_for_accepts(ring) > 0);
        let ring = current.or_else(|| self.ring_with_room())?;
        let free = self.free_for_accepts(ring);
        // What one entry accepted may not be counted yet when the next accepts as many again.
        if free > self.accept_burst_max.saturating_mul(2) {
            return Some((ring, Pace::Many));
        }
        let sockets = u32::try_from(self.listeners.list.len()).unwrap_or(u32::MAX);
        // One half is left to those who come home.
        let each = (free / 2 / sockets).clamp(1, ONES_MAX);
        (free >= each * sockets).then_some((ring, Pace::Ones(each)))
    }

    /// Slots of a ring that accepts may fill.
    pub(super) fn free_for_accepts(&self, ring: usize) -> u32 {
        self.free_in(ring).saturating_sub(self.reserve().max(self.arrivals_open()))
    }

    /// Slots of a ring that accepts which are under way may fill.
    pub(super) fn kept_for_accepts(&self, ring: usize) -> u32 {
        let here = self.listeners.list.iter().filter(|listening| listening.ring == Some(ring));
        let kept = here.map(|listening| {
            let burst = if listening.many { self.accept_burst_max.saturating_mul(2) } else { 0 };
            (burst, listening.ones.count_ones())
        });
        // The burst is that of all sockets together.
        let (burst, ones) = kept.fold((0, 0), |(burst, ones), (one, count)| (one.max(burst), ones + count));
        burst.saturating_add(ones)
    }

    /// Takes what an accept brought: a connection, or the reason why it ended.
    pub(super) fn accepted(&mut self, completion: &Completion) {
        let index = completion.tag.slot as usize;
        let listening = &mut self.listeners.list[index];
        if let Some(one) = completion.tag.generation.checked_sub(1) {
            listening.ones &= !(1 << one);
            listening.ones_cancelling &= !(1 << one);
            self.listeners.unsettled = true;
        } else if !completion.more() {
            listening.many = false;
            listening.cancelling = false;
            self.listeners.unsettled = true;
        }
        match u32::try_from(completion.result) {
            Ok(slot) => self.admit(completion.ring, slot, index),
            Err(_) => match -completion.result {
                libc::ECANCELED => {}
                libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => {
                    self.metrics.accept_exhausted += 1;
                    self.rest();
                }
                _ => self.metrics.accept_failed += 1,
            },
        }
    }

    fn admit(&mut self, ring: usize, slot: u32, listener: usize) {
        let (id, ipv6) = {
            let listening = &self.listeners.list[listener];
            (listening.id, listening.ipv6)
        };
        self.slot_taken(ring);
        self.metrics.accepted += 1;
        let open_before = self.open_count.fetch_add(1, Ordering::Relaxed);
        let conn = self.conns.take(self.conns.index(ring, slot), id);
        self.metrics.connections += 1;
        if open_before >= self.config.connection_count_max || self.stopping {
            self.metrics.refused_limit += 1;
            self.tear_down(conn);
            return;
        }
        self.rings[ring].ask_name(slot, conn.generation, ipv6);
        if self.lanes.shard_count() == 1 {
            self.watch_busy(conn);
        } else {
            self.want(conn, Reader::Once);
        }
    }

    /// No accepting for a while.
    fn rest(&mut self) {
        self.listeners.rests_until = Some(Mono(self.now.0 + REST_MS * NS_PER_MS));
        self.listeners.unsettled = true;
    }
}

/// Names an accept of a listening socket: [`MANY`], or one of those that accept one connection, counted from 1.
fn accept_tag(listener: usize, accept: u32) -> Tag {
    Tag::new(Kind::Accept, u32::try_from(listener).unwrap_or(u32::MAX), accept)
}

/// The accept that goes on until told otherwise.
const MANY: u32 = 0;

/// Accepts of one connection each that a socket has under way at most.
const ONES_MAX: u32 = 32;

/// How long accepting rests when nothing has room: short enough for a backlog to survive, long enough to cost nothing.
const REST_MS: u64 = 50;

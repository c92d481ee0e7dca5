//! Listening sockets of one shard, and where what they accept goes.
//!
//! [MQTT311-7.1.1-1] [MQTT5-4.2.0-1]: TCP gives an ordered, lossless stream of bytes both ways.
//!
//! Each shard has its own socket per address (SO_REUSEPORT): the kernel spreads connections over the shards by a hash of their
//! addresses. Accepted sockets go straight into the file table of one ring; when that is nearly full, accepting moves to
//! another. When nothing has room, or the host is out of descriptors or memory, accepting rests: connections wait in the
//! kernel's backlog, and nothing spins.

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
    /// The ring that accepts for it.
    armed: Option<usize>,
    cancelling: bool,
}

impl Listening {
    pub(super) fn new(id: ListenerId, socket: TcpListener, ipv6: bool) -> Self {
        Self { id, socket, ipv6, armed: None, cancelling: false }
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
        self.list.iter().all(|listening| listening.armed.is_none())
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
        self.settle_arrivals();
        if self.listeners.list.is_empty() {
            return;
        }
        let wanted = if self.stopping || self.listeners.rests_until.is_some() {
            None
        } else {
            let wanted = self.accept_ring();
            if wanted.is_none() {
                self.rest();
            }
            wanted
        };
        for index in 0..self.listeners.list.len() {
            self.settle_accept(index, wanted);
        }
    }

    fn settle_accept(&mut self, index: usize, wanted: Option<usize>) {
        let listening = &mut self.listeners.list[index];
        let tag = accept_tag(index);
        match (listening.armed, wanted) {
            (None, Some(ring)) => {
                self.rings[ring].accept_many(listening.socket.as_fd(), tag);
                listening.armed = Some(ring);
            }
            (Some(armed), _) if Some(armed) != wanted && !listening.cancelling => {
                self.rings[armed].cancel(tag);
                listening.cancelling = true;
                self.metrics.accept_moved += u64::from(wanted.is_some());
            }
            _ => {}
        }
    }

    /// The ring that accepts, as long as it has room; then another.
    fn accept_ring(&mut self) -> Option<usize> {
        let current = self.listeners.list.iter().find_map(|listening| listening.armed);
        match current {
            Some(ring) if self.free_in(ring) > self.reserve() => Some(ring),
            _ => self.ring_with_room(),
        }
    }

    /// Takes what an accept brought: a connection, or the reason why it ended.
    pub(super) fn accepted(&mut self, completion: &Completion) {
        let index = completion.tag.slot as usize;
        if !completion.more() {
            let listening = &mut self.listeners.list[index];
            listening.armed = None;
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

fn accept_tag(listener: usize) -> Tag {
    Tag::new(Kind::Accept, u32::try_from(listener).unwrap_or(u32::MAX), 0)
}

/// How long accepting rests when nothing has room: short enough for a backlog to survive, long enough to cost nothing.
const REST_MS: u64 = 50;

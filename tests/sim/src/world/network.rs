//! The client's side of the network, and the operator's.

use std::collections::VecDeque;

use dunlin_shard::home::shard_of_client;
use dunlin_shard::{Control, Peer, Token};

use super::edge::hex;
use super::{Input, Item, Link, NS_PER_MS, World};

impl World {
    /// A client opens a connection; it lands on any shard, as with SO_REUSEPORT. Only while the process runs.
    pub(crate) fn connect(&mut self, client: usize) -> usize {
        let shard = self.network.index(self.shards.len());
        let link = self.links.len();
        let slot = self.free_slot(shard);
        self.links.push(Link {
            client,
            at: Some((shard, slot)),
            server_open: true,
            client_open: true,
            vanished: false,
            to_server_at: self.now,
            to_client_at: self.now,
            arrived: Vec::new(),
            unsent: VecDeque::new(),
            unread: 0,
            close_when_sent: false,
        });
        let conn = self.attach(shard, slot, link);
        let port = u16::try_from(link % 60_000).expect("below 60,000") + 1_024;
        let peer = Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        self.push(shard, Input::Opened { conn, peer });
        link
    }

    /// A client writes bytes.
    pub(crate) fn client_writes(&mut self, link: usize, mut bytes: &[u8]) {
        if !self.links[link].client_open || self.links[link].vanished || bytes.is_empty() {
            return;
        }
        self.log.note(format!(
            "{} client {} link {link} writes {}",
            self.now,
            self.links[link].client,
            hex(bytes)
        ));
        while !bytes.is_empty() {
            let chunked = !self.healed && self.network.chance(self.plan.faults.chunk_percent);
            let count = if chunked { 1 + self.network.index(bytes.len().min(40)) } else { bytes.len() };
            let (chunk, rest) = bytes.split_at(count.min(bytes.len()));
            let at = (self.now + self.latency()).max(self.links[link].to_server_at);
            self.links[link].to_server_at = at;
            let mut chunk = chunk.to_vec();
            self.canary.on_bytes(&mut chunk);
            self.plan_at(at, Item::ToServer(link, chunk));
            bytes = rest;
        }
    }

    /// A client has read bytes that were delivered to it.
    pub(crate) fn client_read(&mut self, link: usize, count: usize) {
        self.links[link].unread -= count;
        self.pump_out(link);
    }

    /// A client closes its end; what it wrote before still arrives.
    pub(crate) fn client_closes(&mut self, link: usize) {
        if !self.links[link].client_open {
            return;
        }
        self.links[link].client_open = false;
        let at = (self.now + self.latency()).max(self.links[link].to_server_at);
        self.links[link].to_server_at = at;
        if !self.links[link].vanished {
            self.plan_at(at, Item::ServerEnd(link));
        }
    }

    /// A client vanishes without a word: no end ever reaches the broker.
    pub(crate) fn client_vanishes(&mut self, link: usize) {
        self.links[link].vanished = true;
    }

    /// Whether the client may still use the link.
    pub(crate) fn is_open(&self, link: usize) -> bool {
        self.links[link].client_open && !self.links[link].vanished
    }

    /// Whether all that the client wrote has reached the broker's host, and a handoff behind it is over.
    pub(crate) fn has_delivered(&self, link: usize) -> bool {
        self.now > self.links[link].to_server_at + 50 * NS_PER_MS
    }

    /// Whether the broker has seen the end of the link, or all that a client wrote who vanished from it.
    pub(crate) fn is_over(&self, link: usize) -> bool {
        !self.links[link].server_open || (self.links[link].vanished && self.has_delivered(link))
    }

    /// Says something to all shards from the control plane.
    pub(crate) fn control(&mut self, make: impl Fn() -> Control) {
        for shard in 0..self.shards.len() {
            self.push(shard, Input::Control(make()));
        }
    }

    /// The operator ends a client's connection and discards its session; only its home shard is told.
    pub(crate) fn kick(&mut self, client_id: &str) {
        if !self.is_up() {
            return;
        }
        let home = shard_of_client(client_id, self.shard_count());
        self.push(usize::from(home.0), Input::Control(Control::Kick { client_id: client_id.into() }));
    }

    /// Asks all shards for their numbers; the answers come to `snapshots`.
    pub(crate) fn ask_snapshots(&mut self) {
        self.snapshots.clear();
        self.control(|| Control::Snapshot { token: Token(1) });
    }

    /// The faults are over: the network is fast and whole, and what waits flows.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.end_troubles();
        for link in 0..self.links.len() {
            self.pump_out(link);
        }
    }

    pub(super) fn latency(&mut self) -> u64 {
        if self.healed {
            return NS_PER_MS;
        }
        let stalled = self.network.chance(self.plan.faults.stall_percent);
        let most = self.plan.faults.latency_ms_max * if stalled { 50 } else { 1 };
        self.network.between(0, most.min(3_000)) * NS_PER_MS
    }
}

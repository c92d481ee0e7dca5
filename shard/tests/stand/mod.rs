//! A stand for tests of the edge: a core that does what the bytes say, and a client that checks what comes back.
//!
//! The first byte of what a client writes is an order; everything else is echoed.

#![allow(unreachable_pub, reason = "each test program has this file as a private module")]
#![allow(dead_code, reason = "each test program uses its part of the stand")]
#![allow(clippy::disallowed_methods, reason = "tests are ordinary threads with a clock")]
#![allow(clippy::unwrap_used, reason = "a stand that cannot stand fails its test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use dunlin_shard::mesh::MeshMessage;
use dunlin_shard::metrics::{Gauges, Metrics};
use dunlin_shard::runtime::{Core, EdgeConfig, EdgeMetrics, Listener, Runtime, start_with};
use dunlin_shard::{
    Action, Actions, Answered, Arrival, ConnId, Control, Event, ListenerId, Mono, Now, Peer, ShardId,
};

/// Orders to the core: one byte, sometimes followed by a number in 8 digits.
pub mod order {
    /// Panic.
    pub const PANIC: u8 = b'!';
    /// Say `bye` and close when it has left.
    pub const CLOSE: u8 = b'C';
    /// Close at once.
    pub const DROP: u8 = b'X';
    /// Send so many bytes.
    pub const BIG: u8 = b'B';
    /// Move to this shard if it is another; the rest of the bytes is read there.
    pub const HOME: u8 = b'H';
    /// Read no more; the core's timer reads again after 200 ms.
    pub const PAUSE: u8 = b'Z';
    /// Ask all other shards for a credit of 1 and answer `m` when one answers.
    pub const MESH: u8 = b'M';
    /// Close when so many bytes have left.
    pub const BIG_CLOSE: u8 = b'L';
}

/// What the cores of a test have seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub opened: AtomicU64,
    pub arrived: AtomicU64,
    pub closed: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub timers: AtomicU64,
    pub credits: AtomicU64,
    pub last_port: AtomicU32,
}

/// Does what the bytes say.
pub struct Obedient {
    shard: ShardId,
    shards: u16,
    seen: Arc<Seen>,
    conns: Vec<(ConnId, Peer, Mono)>,
    paused: Vec<ConnId>,
    asking: Vec<ConnId>,
    deadline: Option<Mono>,
}

impl Obedient {
    pub fn new(shard: ShardId, shards: u16, seen: Arc<Seen>) -> Self {
        Self { shard, shards, seen, conns: vec![], paused: vec![], asking: vec![], deadline: None }
    }

    fn bytes(&mut self, conn: ConnId, bytes: &[u8], now: Now, actions: &mut Actions) {
        match bytes.first() {
            Some(&order::PANIC) => panic!("ordered"),
            Some(&order::CLOSE) => {
                say(conn, b"bye", actions);
                self.forget(conn);
                actions.list.push(Action::Close { conn, flush: true });
            }
            Some(&order::DROP) => {
                self.forget(conn);
                actions.list.push(Action::Close { conn, flush: false });
            }
            Some(&order::BIG) => say_big(conn, number(bytes), actions),
            Some(&order::BIG_CLOSE) => {
                say_big(conn, number(bytes), actions);
                self.forget(conn);
                actions.list.push(Action::Close { conn, flush: true });
            }
            Some(&order::HOME) => {
                let to = ShardId(u16::try_from(number(bytes)).unwrap());
                if to == self.shard {
                    return self.bytes(conn, &bytes[9..], now, actions);
                }
                let (_, peer, opened_at) = *self.conns.iter().find(|(c, _, _)| *c == conn).unwrap();
                self.forget(conn);
                let arrival =
                    Arrival { peer, listener: ListenerId(0), opened_at, unread: bytes[9..].to_vec() };
                actions.list.push(Action::Handoff { conn, to, arrival: Box::new(arrival) });
            }
            Some(&order::PAUSE) => {
                self.paused.push(conn);
                self.deadline = Some(now.mono.plus_ms(200));
                actions.list.push(Action::PauseRead { conn });
            }
            Some(&order::MESH) => {
                self.asking.push(conn);
                for shard in (0..self.shards).map(ShardId).filter(|shard| *shard != self.shard) {
                    let message = MeshMessage::Credit { count: 1 };
                    actions.list.push(Action::Mesh { to: shard, message });
                }
            }
            _ => say(conn, bytes, actions),
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.conns.retain(|(known, _, _)| *known != conn);
    }
}

impl Core for Obedient {
    fn handle(&mut self, event: Event<'_>, now: Now, actions: &mut Actions) {
        match event {
            Event::Opened { conn, peer, .. } => {
                self.seen.opened.fetch_add(1, SeqCst);
                self.seen.last_port.store(peer.port().into(), SeqCst);
                self.conns.push((conn, peer, now.mono));
            }
            Event::Arrived { conn, arrival } => {
                self.seen.arrived.fetch_add(1, SeqCst);
                self.conns.push((conn, arrival.peer, arrival.opened_at));
                if !arrival.unread.is_empty() {
                    self.bytes(conn, &arrival.unread, now, actions);
                }
            }
            Event::Bytes { conn, bytes } => {
                assert!(
                    self.conns.iter().any(|(known, _, _)| *known == conn),
                    "bytes of a forgotten connection"
                );
                self.bytes(conn, bytes, now, actions);
            }
            Event::Sent { conn, bytes } => {
                assert!(
                    self.conns.iter().any(|(known, _, _)| *known == conn),
                    "news of a forgotten connection"
                );
                self.seen.sent_bytes.fetch_add(bytes.into(), SeqCst);
            }
            Event::Closed { conn } => {
                self.seen.closed.fetch_add(1, SeqCst);
                self.forget(conn);
            }
            Event::Mesh { from, message: MeshMessage::Credit { count: 1 } } => {
                let message = MeshMessage::Credit { count: 2 };
                actions.list.push(Action::Mesh { to: from, message });
            }
            Event::Mesh { .. } => {
                self.seen.credits.fetch_add(1, SeqCst);
                for conn in std::mem::take(&mut self.asking) {
                    say(conn, b"m", actions);
                }
            }
            Event::Timer => {
                self.seen.timers.fetch_add(1, SeqCst);
                if self.deadline.is_some_and(|at| at <= now.mono) {
                    self.deadline = None;
                    for conn in std::mem::take(&mut self.paused) {
                        actions.list.push(Action::ResumeRead { conn });
                    }
                }
            }
            Event::Control(Control::Snapshot { token }) => {
                let answer = Answered::Snapshot { metrics: Metrics::default(), gauges: Gauges::default() };
                actions.list.push(Action::Answer { token, answer: Box::new(answer) });
            }
            Event::Control(Control::Stop) => {
                for (conn, _, _) in std::mem::take(&mut self.conns) {
                    say(conn, b"stop", actions);
                    actions.list.push(Action::Close { conn, flush: true });
                }
                actions.list.push(Action::Stopped);
            }
            Event::Control(_)
            | Event::HookDone { .. }
            | Event::Stored { .. }
            | Event::StoreState(_)
            | Event::Fetched { .. }
            | Event::Reclaim(_) => {}
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.deadline
    }
}

/// A running edge with obedient cores.
pub struct Stand {
    pub runtime: Runtime,
    pub seen: Arc<Seen>,
}

impl Stand {
    /// Starts as many unpinned shards, on a free loopback port.
    pub fn new(shards: u16, change: impl FnOnce(&mut EdgeConfig)) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let mut config = EdgeConfig {
            cores: vec![None; shards.into()],
            listeners: vec![Listener { id: ListenerId(0), address, backlog: 4_096 }],
            connection_count_max: 10_000,
            ..EdgeConfig::default()
        };
        change(&mut config);
        let seen = Arc::new(Seen::default());
        let makers = (0..shards)
            .map(|shard| {
                let seen = Arc::clone(&seen);
                move || Obedient::new(ShardId(shard), shards, seen)
            })
            .collect();
        Self { runtime: start_with(config, makers).unwrap(), seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.runtime.listening()[0].1
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// So many clients, each accepted before the next connects.
    pub fn connect_in_turn(&self, count: usize) -> Vec<Client> {
        let mut clients: Vec<_> = Vec::new();
        for _ in 0..count {
            let mut client = self.connect();
            client.echo(b"in");
            clients.push(client);
        }
        clients
    }

    /// The counters of all shards, added up.
    pub fn total(&self, of: impl Fn(&EdgeMetrics) -> u64) -> u64 {
        self.metrics().iter().map(of).sum()
    }

    pub fn metrics(&self) -> Vec<EdgeMetrics> {
        let asked: Vec<_> = self.runtime.shards().iter().map(|shard| shard.edge_metrics().unwrap()).collect();
        asked.into_iter().map(|answer| answer.recv_timeout(PATIENCE).unwrap()).collect()
    }

    /// Waits until something is so.
    pub fn wait_for(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < PATIENCE, "never: {what}; {:#?} {:#?}", self.seen, self.metrics());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops and gives the last counters, added up by whoever asks.
    pub fn stop(self) -> Vec<EdgeMetrics> {
        self.runtime.stop();
        self.runtime.join().unwrap()
    }
}

/// A blocking client.
pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.0.read_exact(&mut got).unwrap();
        assert!(
            got == bytes,
            "got {:?}… for {:?}…",
            &got[..got.len().min(40)],
            &bytes[..bytes.len().min(40)]
        );
    }

    pub fn echo(&mut self, bytes: &[u8]) {
        self.write(bytes);
        self.expect(bytes);
    }

    /// An order with a number.
    pub fn order(&mut self, order: u8, number: usize) {
        self.write(&numbered(order, number));
    }

    /// Reads to the end, which may be a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut got = Vec::new();
        let _end = self.0.read_to_end(&mut got);
        got
    }
}

/// An order with a number, as bytes.
pub fn numbered(order: u8, number: usize) -> Vec<u8> {
    [&[order], format!("{number:08}").as_bytes()].concat()
}

/// Byte `index` of what [`order::BIG`] sends.
pub fn big_byte(index: usize) -> u8 {
    u8::try_from(index % 251).unwrap()
}

/// More bytes than a socket takes while nobody reads: the usual bounds of both buffers (`tcp_wmem`, `tcp_rmem`) are 4 MiB and
/// 32 MiB at most.
pub const TOO_MUCH: usize = 48 << 20;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

fn say(conn: ConnId, bytes: &[u8], actions: &mut Actions) {
    let start = actions.mark();
    actions.arena.extend_from_slice(bytes);
    actions.send_from(conn, start);
}

fn say_big(conn: ConnId, count: usize, actions: &mut Actions) {
    let start = actions.mark();
    let block: Vec<u8> = (0..251 << 10).map(big_byte).collect();
    let mut left = count;
    while left > 0 {
        let part = left.min(block.len());
        actions.arena.extend_from_slice(&block[..part]);
        left -= part;
    }
    actions.send_from(conn, start);
}

fn number(bytes: &[u8]) -> usize {
    std::str::from_utf8(&bytes[1..9]).unwrap().parse().unwrap()
}

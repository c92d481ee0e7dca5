//! One io_uring instance and the sockets in its file table.
//!
//! Everything queued is submitted by the next [`Ring::wait`] (or [`Ring::submit`]), and all that has completed
//! is handed out by [`Ring::poll_completion`]. Re-arming of receives, buffers that ran out, and the order of a close are
//! kept in here; the owner sees data, sent buffers, and one `Closed` per socket.

#![expect(unsafe_code, reason = "requests carry pointers that must outlive them")]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, DestinationSlot, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use crate::address::{Address, family, free_bind_option};
use crate::buffers::{BufferPool, GROUP, Loan};
use crate::slot::{Bytes, Slot, SlotId, State};

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Requests that fit before they have to be submitted; a power of two.
    pub requests: u32,
    /// Completions that fit before the kernel has to keep them aside; a power of two.
    pub completions: u32,
    /// Sockets at most; the kernel allows no more than RLIMIT_NOFILE.
    pub sockets: u32,
    /// Receive buffers; a power of two, at most 32,768.
    pub buffers: u16,
    /// Bytes of each receive buffer.
    pub buffer_bytes: u32,
}

/// How a client socket is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Where to connect to.
    pub target: SocketAddr,
    /// The local address; port 0 lets the kernel choose when it connects.
    pub source: Option<SocketAddr>,
    /// Whether TCP_NODELAY is set before connecting.
    pub no_delay: bool,
    /// Whether the local address may be one that no interface has (IP_FREEBIND).
    pub free_bind: bool,
}

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The local address and port belong to somebody else.
    pub const ADDRESS_IN_USE: Self = Self(libc::EADDRINUSE);
    /// The host does not have the local address, or has no free port on it, or this very four-tuple is in use
    /// or rests after a close.
    pub const ADDRESS_NOT_AVAILABLE: Self = Self(libc::EADDRNOTAVAIL);
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(formatter)
    }
}

/// Something that has happened.
#[derive(Debug)]
pub enum Completion {
    /// A listener has accepted a connection into this slot.
    Accepted {
        /// Where the kernel has put it.
        slot: SlotId,
    },
    /// A listener could not accept; it goes on with the next wait.
    AcceptFailed {
        /// Why, for example too many files.
        errno: Errno,
    },
    /// The socket is connected or listening. On an error `Closed` follows.
    Opened {
        /// Which.
        slot: SlotId,
        /// How it went.
        result: Result<(), Errno>,
    },
    /// Bytes have arrived; read them with [`Ring::view`], then give them back with [`Ring::recycle`].
    Received {
        /// From which socket.
        slot: SlotId,
        /// Where they lie.
        loan: Loan,
    },
    /// Nothing more will be received, except after [`Ring::receive`]. The socket is still to be closed.
    Ended {
        /// Which.
        slot: SlotId,
        /// None: the peer has closed in order.
        errno: Option<Errno>,
    },
    /// A send has finished; the bytes are the owner's again.
    Sent {
        /// On which socket.
        slot: SlotId,
        /// Bytes accepted by the kernel; fewer than asked only if the connection is failing.
        result: Result<usize, Errno>,
        /// What was sent.
        bytes: Bytes,
    },
    /// The slot is free again; nothing refers to it any more.
    Closed {
        /// Which.
        slot: SlotId,
    },
}

/// What a ring counts about itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// System calls made to submit or wait.
    pub enters: u64,
    /// Completions handed out or dealt with.
    pub completions: u64,
    /// Receives that ended because all buffers were on loan.
    pub starved: u64,
    /// Completions that did not fit and were kept aside by the kernel, as last seen.
    pub overflows: u64,
}

/// One io_uring with its file table, its buffer pool and the state of its sockets. Stays on the thread that
/// made it.
pub struct Ring {
    uring: IoUring,
    pool: BufferPool,
    slots: Vec<Slot>,
    /// Addresses that queued requests point to; a slot of it is reused only after a submission.
    addresses: Box<[Address]>,
    address_next: usize,
    reaped: Vec<Reaped>,
    reaped_next: usize,
    starved: Vec<SlotId>,
    /// Buffers that completions seen so far have brought and that were not given back yet.
    taken_count: usize,
    counters: Counters,
}

impl fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ring").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// A completion as the kernel wrote it.
#[derive(Clone, Copy, Debug)]
struct Reaped {
    token: u64,
    result: i32,
    flags: u32,
}

impl Ring {
    /// Makes a ring on the calling thread, which must stay its only user.
    ///
    /// # Errors
    /// When the kernel lacks io_uring or forbids it, or a limit is too low for the sizes.
    pub fn new(config: RingConfig) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(config.completions)
            .build(config.requests)?;
        uring.submitter().register_files_sparse(config.sockets)?;
        let mut pool = BufferPool::new(config.buffers, config.buffer_bytes);
        pool.register(&uring.submitter())?;
        Ok(Self {
            uring,
            pool,
            slots: std::iter::repeat_with(Slot::default).take(config.sockets as usize).collect(),
            addresses: vec![Address::unset(); config.requests as usize].into_boxed_slice(),
            address_next: 0,
            reaped: Vec::with_capacity(config.completions as usize),
            reaped_next: 0,
            starved: Vec::new(),
            taken_count: 0,
            counters: Counters::default(),
        })
    }

    /// Opens a client socket in a free slot; answers with one `Opened`.
    pub fn open(&mut self, slot: SlotId, options: OpenOptions) {
        self.take(slot);
        self.room(CHAIN_MAX);
        self.push_socket(slot, family(&options.target));
        if options.no_delay {
            self.push_option(slot, libc::IPPROTO_TCP, libc::TCP_NODELAY);
        }
        if let Some(source) = options.source {
            self.push_option(slot, libc::SOL_SOCKET, libc::SO_REUSEADDR);
            if source.port() == 0 {
                self.push_option(slot, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
            }
            if options.free_bind {
                let (level, name) = free_bind_option(&source);
                self.push_option(slot, level, name);
            }
            self.push_bind(slot, source);
        }
        let (address, length) = self.keep_address(options.target);
        self.push(&opcode::Connect::new(Fixed(slot.0), address, length).build(), Kind::Open, slot);
    }

    /// Opens a listening socket in a free slot and accepts on it for ever; answers with one `Opened`, then
    /// `Accepted` for each connection. Connections inherit TCP_NODELAY.
    pub fn listen(&mut self, slot: SlotId, address: SocketAddr, backlog: i32) {
        self.take(slot);
        self.room(CHAIN_MAX);
        self.push_socket(slot, family(&address));
        self.push_option(slot, libc::IPPROTO_TCP, libc::TCP_NODELAY);
        self.push_option(slot, libc::SOL_SOCKET, libc::SO_REUSEADDR);
        self.push_bind(slot, address);
        self.push(&opcode::Listen::new(Fixed(slot.0), backlog).build(), Kind::Listen, slot);
    }

    /// Arms a receive: `multi` goes on until the stream ends, otherwise one completion answers.
    ///
    /// # Panics
    /// When a receive is already armed on this socket.
    pub fn receive(&mut self, slot: SlotId, multi: bool) {
        let state = &mut self.slots[slot.index()].state;
        assert!(!state.has(State::RECEIVING), "one receive per socket");
        state.set(State::RECEIVING);
        let request = if multi {
            state.set(State::MULTI);
            opcode::RecvMulti::new(Fixed(slot.0), GROUP).build()
        } else {
            state.clear(State::MULTI);
            opcode::Recv::new(Fixed(slot.0), std::ptr::null_mut(), 0)
                .buf_group(GROUP)
                .build()
                .flags(Flags::BUFFER_SELECT)
        };
        self.push(&request, Kind::Receive, slot);
    }

    /// Sends `bytes` from `offset` on; answers with `Sent`.
    ///
    /// # Panics
    /// When a send is in flight on this socket: the owner gathers what follows until `Sent`.
    pub fn send(&mut self, slot: SlotId, bytes: Bytes, offset: usize) {
        let place = &mut self.slots[slot.index()];
        assert!(place.sending.is_none(), "one send per socket");
        let kept = place.sending.insert(bytes);
        let rest = &kept.as_slice()[offset..];
        let length = u32::try_from(rest.len()).expect("output of a tick stays far below 4 GiB");
        // The kernel reads from memory that `sending` keeps alive and unchanged until the completion.
        let request = opcode::Send::new(Fixed(slot.0), rest.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(&request, Kind::Send, slot);
    }

    /// Closes a socket whatever is pending on it; answers with `Closed` when the slot is free.
    pub fn close(&mut self, slot: SlotId) {
        let place = &mut self.slots[slot.index()];
        if place.state.has(State::CLOSING) || !place.state.has(State::TAKEN) {
            return;
        }
        place.state.set(State::CLOSING);
        let pending = State::RECEIVING | State::OPENING | State::ACCEPTING;
        if place.state.has(pending) || place.sending.is_some() {
            place.state.set(State::SHUTTING);
            let request = opcode::Shutdown::new(Fixed(slot.0), libc::SHUT_RDWR).build();
            self.push(&request, Kind::Shutdown, slot);
        }
        self.finish_close(slot);
    }

    /// The bytes of a loan.
    #[must_use]
    pub fn view(&self, loan: &Loan) -> &[u8] {
        self.pool.view(loan)
    }

    /// Gives a buffer back, and re-arms a receive that had found the pool empty.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "consuming the loan is what makes a second return impossible"
    )]
    pub fn recycle(&mut self, loan: Loan) {
        self.pool.recycle(&loan);
        self.taken_count -= 1;
        if let Some(slot) = self.starved.pop() {
            let state = self.slots[slot.index()].state;
            if state.has(State::TAKEN) && !state.has(State::CLOSING) && !state.has(State::RECEIVING) {
                self.receive(slot, state.has(State::MULTI));
            }
        }
    }

    /// Submits what is queued without waiting, and lets the kernel post what is ready.
    ///
    /// # Errors
    /// When the kernel refuses the call itself; single requests fail in their completions.
    pub fn submit(&mut self) -> io::Result<()> {
        self.counters.enters += 1;
        let outcome = self.uring.submitter().submit_and_wait(0);
        Self::tolerate(outcome)
    }

    /// Submits what is queued and waits for a completion or until `timeout` has passed (`None`: for ever).
    /// Returns at once if completions are already there.
    ///
    /// # Errors
    /// When the kernel refuses the call itself.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.counters.enters += 1;
        let outcome = match timeout {
            None => self.uring.submitter().submit_and_wait(1),
            Some(timeout) => {
                let until = Timespec::from(timeout);
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&until))
            }
        };
        Self::tolerate(outcome)
    }

    /// Whether something waits to be submitted.
    #[must_use]
    pub fn has_queued(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Whether completions wait to be reaped.
    #[must_use]
    pub fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Whether a call into the kernel may bring completions. The kernel can leave its flag set when it has
    /// already done the work, so this is a reason to call once, never a reason not to sleep.
    #[must_use]
    pub fn may_complete(&mut self) -> bool {
        self.uring.submission().taskrun()
    }

    /// Takes over all completions that the kernel has posted; returns how many wait in [`Ring::poll_completion`].
    pub fn reap(&mut self) -> usize {
        if self.reaped_next == self.reaped.len() {
            self.reaped.clear();
            self.reaped_next = 0;
        }
        let mut completions = self.uring.completion();
        self.counters.overflows = u64::from(completions.overflow());
        for entry in &mut completions {
            let reaped = Reaped { token: entry.user_data(), result: entry.result(), flags: entry.flags() };
            self.taken_count += usize::from(cqueue::buffer_select(reaped.flags).is_some());
            self.reaped.push(reaped);
        }
        drop(completions);
        self.reaped.len() - self.reaped_next
    }

    /// The next thing that has happened, among those reaped.
    pub fn poll_completion(&mut self) -> Option<Completion> {
        while let Some(reaped) = self.reaped.get(self.reaped_next).copied() {
            self.reaped_next += 1;
            self.counters.completions += 1;
            if let Some(completion) = self.interpret(reaped) {
                return Some(completion);
            }
        }
        None
    }

    /// What the ring has counted so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Sockets at most.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn interpret(&mut self, reaped: Reaped) -> Option<Completion> {
        let slot = SlotId(u32::try_from(reaped.token & SLOT_MASK).expect("masked to 32 bits"));
        match Kind::of(reaped.token) {
            Kind::Open => Some(self.on_opened(slot, reaped.result, false)),
            Kind::Listen => Some(self.on_opened(slot, reaped.result, true)),
            Kind::Accept => self.on_accepted(slot, reaped),
            Kind::Receive => self.on_received(slot, reaped),
            Kind::Send => self.on_sent(slot, reaped.result),
            Kind::Shutdown => {
                self.slots[slot.index()].state.clear(State::SHUTTING);
                self.finish_close(slot);
                None
            }
            Kind::Close => {
                self.slots[slot.index()].state.reset();
                Some(Completion::Closed { slot })
            }
        }
    }

    fn on_opened(&mut self, slot: SlotId, result: i32, listener: bool) -> Completion {
        self.slots[slot.index()].state.clear(State::OPENING);
        let result = if result < 0 { Err(Errno(-result)) } else { Ok(()) };
        if result.is_err() {
            self.slots[slot.index()].state.set(State::CLOSING);
        } else if listener {
            self.push_accept(slot);
        }
        self.finish_close(slot);
        Completion::Opened { slot, result }
    }

    fn on_accepted(&mut self, listener: SlotId, reaped: Reaped) -> Option<Completion> {
        if !cqueue::more(reaped.flags) {
            self.slots[listener.index()].state.clear(State::ACCEPTING);
            if self.slots[listener.index()].state.has(State::CLOSING) {
                self.finish_close(listener);
                return None;
            }
            self.push_accept(listener);
        }
        let Ok(slot) = u32::try_from(reaped.result) else {
            return Some(Completion::AcceptFailed { errno: Errno(-reaped.result) });
        };
        let slot = SlotId(slot);
        self.slots[slot.index()].state.set(State::TAKEN);
        Some(Completion::Accepted { slot })
    }

    fn on_received(&mut self, slot: SlotId, reaped: Reaped) -> Option<Completion> {
        let loan = cqueue::buffer_select(reaped.flags)
            .map(|buffer| Loan { buffer, length: u32::try_from(reaped.result).unwrap_or(0) });
        let state = &mut self.slots[slot.index()].state;
        let ended = !cqueue::more(reaped.flags);
        if ended {
            state.clear(State::RECEIVING);
        }
        if state.has(State::CLOSING) {
            if let Some(loan) = loan {
                self.recycle(loan);
            }
            self.finish_close(slot);
            return None;
        }
        match loan {
            Some(loan) if reaped.result > 0 => {
                if ended && self.slots[slot.index()].state.has(State::MULTI) {
                    self.receive(slot, true);
                }
                return Some(Completion::Received { slot, loan });
            }
            Some(loan) => self.recycle(loan),
            None => {}
        }
        if reaped.result == -libc::ENOBUFS {
            self.on_starved(slot);
            return None;
        }
        let errno = (reaped.result < 0).then_some(Errno(-reaped.result));
        Some(Completion::Ended { slot, errno })
    }

    /// Re-arms a receive that found the pool empty: with the next buffer that comes back, or at once if all
    /// have come back in the meantime.
    fn on_starved(&mut self, slot: SlotId) {
        self.counters.starved += 1;
        if self.taken_count > 0 {
            self.starved.push(slot);
        } else {
            self.receive(slot, self.slots[slot.index()].state.has(State::MULTI));
        }
    }

    fn on_sent(&mut self, slot: SlotId, result: i32) -> Option<Completion> {
        let bytes = self.slots[slot.index()].sending.take()?;
        self.finish_close(slot);
        let result = usize::try_from(result).map_err(|_| Errno(-result));
        Some(Completion::Sent { slot, result, bytes })
    }

    /// Closes the descriptor once nothing else is pending on it, so that neither a late completion nor a late shutdown
    /// can meet the slot's next tenant.
    fn finish_close(&mut self, slot: SlotId) {
        let place = &mut self.slots[slot.index()];
        let pending =
            State::OPENING | State::RECEIVING | State::ACCEPTING | State::SHUTTING | State::CLOSE_SENT;
        if !place.state.has(State::CLOSING) || place.state.has(pending) || place.sending.is_some() {
            return;
        }
        place.state.set(State::CLOSE_SENT);
        self.push(&opcode::Close::new(Fixed(slot.0)).build(), Kind::Close, slot);
    }

    fn take(&mut self, slot: SlotId) {
        let state = &mut self.slots[slot.index()].state;
        assert!(!state.has(State::TAKEN), "the owner opens free slots only");
        state.set(State::TAKEN | State::OPENING);
    }

    fn push_socket(&mut self, slot: SlotId, family: i32) {
        let place = DestinationSlot::try_from_slot_target(slot.0).expect("slots are below RLIMIT_NOFILE");
        let request = opcode::Socket::new(family, libc::SOCK_STREAM, 0).file_index(Some(place)).build();
        self.push(&request.flags(LINKED), Kind::Open, slot);
    }

    fn push_option(&mut self, slot: SlotId, level: i32, name: i32) {
        let value = std::ptr::from_ref(&ONE).cast();
        let length = u32::try_from(size_of_val(&ONE)).expect("4 bytes");
        let request = opcode::SetSockOpt::new(
            Fixed(slot.0),
            level.cast_unsigned(),
            name.cast_unsigned(),
            value,
            length,
        );
        self.push(&request.build().flags(LINKED), Kind::Open, slot);
    }

    fn push_bind(&mut self, slot: SlotId, source: SocketAddr) {
        let (address, length) = self.keep_address(source);
        self.push(&opcode::Bind::new(Fixed(slot.0), address, length).build().flags(LINKED), Kind::Open, slot);
    }

    fn push_accept(&mut self, slot: SlotId) {
        self.slots[slot.index()].state.set(State::ACCEPTING);
        let request = opcode::AcceptMulti::new(Fixed(slot.0)).allocate_file_index(true).build();
        self.push(&request, Kind::Accept, slot);
    }

    /// Stores an address where it stays put until the request that names it is submitted. Each request needs
    /// at most one, and there is one place per request.
    fn keep_address(&mut self, address: SocketAddr) -> (*const libc::sockaddr, libc::socklen_t) {
        let (encoded, length) = Address::encode(address);
        let index = self.address_next % self.addresses.len();
        self.address_next = index + 1;
        let place = &mut self.addresses[index];
        *place = encoded;
        (std::ptr::from_ref(place).cast(), length)
    }

    /// Makes sure that a chain of `count` requests goes out in one submission.
    fn room(&mut self, count: usize) {
        let queue = self.uring.submission();
        let free = queue.capacity() - queue.len();
        drop(queue);
        if free < count {
            self.submit_for_room();
        }
    }

    fn push(&mut self, request: &Entry, kind: Kind, slot: SlotId) {
        let request = request.clone().user_data(kind.token(slot));
        loop {
            let mut queue = self.uring.submission();
            // SAFETY: what the request points to stays valid until its completion (`Slot::sending`) or, for
            // addresses and options, until it is submitted (`addresses`, a static); the ring's Drop cancels
            // what is left before any of that is freed.
            let pushed = unsafe { queue.push(&request) };
            drop(queue);
            if pushed.is_ok() {
                return;
            }
            self.submit_for_room();
        }
    }

    fn submit_for_room(&mut self) {
        self.submit().expect("a ring that was set up accepts submissions");
    }

    /// A wait that timed out, was interrupted, or must first drain completions is no failure.
    fn tolerate(outcome: io::Result<usize>) -> io::Result<()> {
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let patience = Timespec::new().sec(5);
        let cancelled = self.uring.submitter().register_sync_cancel(Some(patience), CancelBuilder::any());
        let gone = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        if !gone {
            // The kernel may still read from or write to this memory, so it is given up instead of freed.
            let _kept = std::mem::ManuallyDrop::new(std::mem::take(&mut self.slots));
            let pool = std::mem::replace(&mut self.pool, BufferPool::new(1, 1));
            let _kept = std::mem::ManuallyDrop::new(pool);
        }
    }
}

/// What a completion answers; the top byte of its token.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Open = 1,
    Listen,
    Accept,
    Receive,
    Send,
    Shutdown,
    Close,
}

impl Kind {
    fn token(self, slot: SlotId) -> u64 {
        ((self as u64) << KIND_SHIFT) | u64::from(slot.0)
    }

    fn of(token: u64) -> Self {
        match token >> KIND_SHIFT {
            1 => Self::Open,
            2 => Self::Listen,
            3 => Self::Accept,
            4 => Self::Receive,
            5 => Self::Send,
            6 => Self::Shutdown,
            7 => Self::Close,
            other => unreachable!("the kernel returns tokens unchanged, got kind {other}"),
        }
    }
}

const KIND_SHIFT: u32 = 56;
const SLOT_MASK: u64 = 0xFFFF_FFFF;
/// The links of an opening chain report only failure, and a failure silences the rest of the chain: each
/// chain has exactly one completion.
const LINKED: Flags = Flags::IO_LINK.union(Flags::SKIP_SUCCESS);
/// SOCKET, four options, BIND, CONNECT.
const CHAIN_MAX: usize = 7;
static ONE: libc::c_int = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn config(buffers: u16) -> RingConfig {
        RingConfig { requests: 64, completions: 256, sockets: 16, buffers, buffer_bytes: 64 }
    }

    /// Waits for the next completion, at most five seconds.
    fn next(ring: &mut Ring) -> Completion {
        for _ in 0..50 {
            if let Some(completion) = ring.poll_completion() {
                return completion;
            }
            ring.wait(Some(Duration::from_millis(100))).unwrap();
            ring.reap();
        }
        panic!("nothing completed");
    }

    fn connected(ring: &mut Ring, slot: SlotId) -> std::net::TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let source = Some("127.0.9.9:0".parse().unwrap());
        ring.open(slot, OpenOptions { target, source, no_delay: true, free_bind: false });
        assert!(matches!(next(ring), Completion::Opened { result: Ok(()), .. }));
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.9.9");
        stream
    }

    #[test]
    fn a_socket_connects_sends_receives_and_frees_its_slot() {
        let mut ring = Ring::new(config(8)).unwrap();
        let slot = SlotId(3);
        let mut peer = connected(&mut ring, slot);
        ring.receive(slot, true);
        ring.send(slot, Bytes::Own(b"ping".to_vec()), 0);
        let Completion::Sent { result: Ok(4), .. } = next(&mut ring) else { panic!("not sent") };
        let mut received = [0; 4];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"ping");
        peer.write_all(b"pong!").unwrap();
        let Completion::Received { loan, .. } = next(&mut ring) else { panic!("not received") };
        assert_eq!(ring.view(&loan), b"pong!");
        ring.recycle(loan);
        drop(peer);
        assert!(matches!(next(&mut ring), Completion::Ended { errno: None, .. }));
        ring.close(slot);
        assert!(matches!(next(&mut ring), Completion::Closed { slot: SlotId(3) }));
        connected(&mut ring, slot);
    }

    #[test]
    fn a_stream_larger_than_the_pool_arrives_whole() {
        let mut ring = Ring::new(config(2)).unwrap();
        let mut peer = connected(&mut ring, SlotId(0));
        ring.receive(SlotId(0), true);
        let sent: Vec<u8> = (0..4096_u32).map(|index| index.to_le_bytes()[0]).collect();
        peer.write_all(&sent).unwrap();
        let mut received = Vec::new();
        let mut held = Vec::new();
        while received.len() < sent.len() {
            let Completion::Received { loan, .. } = next(&mut ring) else { panic!("not received") };
            received.extend_from_slice(ring.view(&loan));
            held.push(loan);
            if held.len() == 2 {
                // Both buffers are on loan: the receive has starved or is about to.
                ring.wait(Some(Duration::from_millis(1))).unwrap();
                ring.reap();
                for loan in held.drain(..) {
                    ring.recycle(loan);
                }
            }
        }
        assert_eq!(received, sent);
        assert!(ring.counters().starved > 0, "the test is meant to run out of buffers");
    }

    #[test]
    fn a_refused_connection_reports_and_closes() {
        let mut ring = Ring::new(config(2)).unwrap();
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        ring.open(SlotId(1), OpenOptions { target: unused, source: None, no_delay: true, free_bind: false });
        let Completion::Opened { result, .. } = next(&mut ring) else { panic!("no answer") };
        assert_eq!(result, Err(Errno(libc::ECONNREFUSED)));
        assert!(matches!(next(&mut ring), Completion::Closed { .. }));
    }

    #[test]
    fn an_address_that_no_interface_has_is_bound_only_when_asked() {
        for (target, source) in [("127.0.0.1:9", "198.51.100.7:0"), ("[::1]:9", "[2001:db8::7]:0")] {
            let options = OpenOptions {
                target: target.parse().unwrap(),
                source: Some(source.parse().unwrap()),
                no_delay: true,
                free_bind: false,
            };
            let mut ring = Ring::new(config(2)).unwrap();
            ring.open(SlotId(0), options);
            let Completion::Opened { result, .. } = next(&mut ring) else { panic!("no answer") };
            assert_eq!(result, Err(Errno::ADDRESS_NOT_AVAILABLE), "{source}");
            ring.open(SlotId(1), OpenOptions { free_bind: true, ..options });
            // Whether anything answers such an address is up to the host's routes; binding it is not refused.
            ring.wait(Some(Duration::from_millis(50))).unwrap();
            ring.reap();
            let second = std::iter::from_fn(|| ring.poll_completion());
            let refused = |completion: Completion| {
                matches!(completion, Completion::Opened { result: Err(Errno::ADDRESS_NOT_AVAILABLE), .. })
            };
            assert!(!second.into_iter().any(refused), "{source}");
        }
    }

    #[test]
    fn a_listener_accepts_and_shares_bytes() {
        let mut ring = Ring::new(config(2)).unwrap();
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        ring.listen(SlotId(0), address, 16);
        assert!(matches!(next(&mut ring), Completion::Opened { result: Ok(()), .. }));
        ring.submit().unwrap();
        let mut clients = Vec::new();
        let mut slots = Vec::new();
        for _ in 0..2 {
            clients.push(std::net::TcpStream::connect(address).unwrap());
            let Completion::Accepted { slot } = next(&mut ring) else { panic!("not accepted") };
            slots.push(slot);
        }
        let shared = std::rc::Rc::new(b"both".to_vec());
        for slot in slots {
            ring.send(slot, Bytes::Shared(shared.clone()), 0);
        }
        ring.submit().unwrap();
        for mut client in clients {
            let mut received = [0; 4];
            client.read_exact(&mut received).unwrap();
            assert_eq!(&received, b"both");
        }
    }

    #[test]
    fn closing_with_a_send_that_cannot_finish_still_ends() {
        let mut ring = Ring::new(config(2)).unwrap();
        let peer = connected(&mut ring, SlotId(0));
        ring.receive(SlotId(0), true);
        ring.send(SlotId(0), Bytes::Own(vec![0; 32 << 20]), 0);
        ring.wait(Some(Duration::from_millis(20))).unwrap();
        ring.close(SlotId(0));
        let mut closed = false;
        while !closed {
            closed = matches!(next(&mut ring), Completion::Closed { .. });
        }
        drop(peer);
    }
}

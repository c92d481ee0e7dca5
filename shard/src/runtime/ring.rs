//! One io_uring of a shard: every operation that the edge uses, as safe calls.
//!
//! A ring belongs to the thread that made it (SINGLE_ISSUER) and posts completions only when that thread asks
//! (DEFER_TASKRUN). Connections are entries of its fixed-file table, not descriptors of the process.
//!
//! One of the three files of this folder with `unsafe` (ADR 0012). What makes it sound: memory that the kernel reads or writes
//! is either owned by the ring until the completion (names, waiting sends, receive buffers) or borrowed by
//! [`Ring::send_all`] until the kernel has consumed it, which a send with MSG_DONTWAIT does inside the submission.
#![expect(unsafe_code, reason = "hands memory to the kernel; each block says why it is sound")]

use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::mem;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::{Buffers, GROUP};
use super::config::RingConfig;
use super::tag::{Kind, Tag};
use crate::peer::Peer;

/// One ring. One or more per shard, on its thread.
pub(super) struct Ring {
    io: IoUring,
    buffers: Buffers,
    names: Names,
    /// Bytes of sends that wait for room, until they complete; by tag.
    waiting: BTreeMap<u64, Vec<u8>>,
    headers: Vec<libc::msghdr>,
    /// This ring's place among those of its shard.
    index: usize,
    enters: u64,
    overflows: u64,
    /// Why it is of no more use. Operations on a failed ring do nothing; the shard looks once per tick.
    failure: Option<io::Error>,
}

/// Sizes of a ring as they are built.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingShape {
    pub(super) submission_entries: u32,
    pub(super) completion_entries: u32,
    pub(super) buffer_bytes: u32,
    pub(super) buffer_count: u16,
    pub(super) table_entries: u32,
}

impl RingShape {
    /// A small ring to try whether the host allows one.
    pub(super) const PROBE: Self = Self {
        submission_entries: 8,
        completion_entries: 32,
        buffer_bytes: 4_096,
        buffer_count: 2,
        table_entries: 8,
    };

    /// Sizes from the configuration, with tables of `table_entries`.
    pub(super) fn new(config: &RingConfig, table_entries: u32) -> Self {
        Self {
            submission_entries: config.submission_entries,
            completion_entries: config.completion_entries.max(config.submission_entries),
            buffer_bytes: config.buffer_bytes,
            buffer_count: config.buffer_count,
            table_entries,
        }
    }

    /// Makes the bare ring on this thread.
    pub(super) fn build(&self) -> io::Result<IoUring> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_taskrun_flag()
            .setup_cqsize(self.completion_entries)
            .dontfork()
            .build(self.submission_entries)
    }
}

/// One finished operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) tag: Tag,
    /// Which ring of the shard.
    pub(super) ring: usize,
    /// A count or a slot; below 0 a negated error number.
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Completion {
    /// Whether a multishot operation goes on.
    pub(super) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// Whether the socket had more data than was received.
    pub(super) fn nonempty(&self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }
}

/// One send of a tick.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) slot: u32,
    pub(super) generation: u32,
    pub(super) bytes: Pieces<'a>,
}

/// The bytes of a send.
#[derive(Debug)]
pub(super) enum Pieces<'a> {
    /// In one place.
    One(&'a [u8]),
    /// In several; at most 1,024 (UIO_MAXIOV).
    Many(&'a [IoSlice<'a>]),
}

impl Ring {
    /// Makes a ring with its file table and receive buffers on this thread.
    ///
    /// # Errors
    /// What the kernel says; `selfcheck.rs` turns it into advice.
    pub(super) fn new(shape: &RingShape, index: usize) -> io::Result<Self> {
        let io = shape.build()?;
        io.submitter().register_files_sparse(shape.table_entries)?;
        let buffers = Buffers::register(&io, shape.buffer_count, shape.buffer_bytes)?;
        let submission_entries = usize::try_from(shape.submission_entries).unwrap_or(usize::MAX);
        Ok(Self {
            io,
            buffers,
            names: Names::default(),
            waiting: BTreeMap::new(),
            headers: Vec::with_capacity(submission_entries),
            index,
            enters: 0,
            overflows: 0,
            failure: None,
        })
    }

    /// The ring's own descriptor: where other shards send connections.
    pub(super) fn descriptor(&self) -> RawFd {
        self.io.as_raw_fd()
    }

    /// The receive buffers.
    pub(super) fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// System calls made for this ring.
    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Times that the kernel had to keep completions because the queue was full.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Why the ring is of no more use, if it is.
    pub(super) fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// Lets completions of this ring ring an eventfd; off until [`Ring::set_bell`].
    pub(super) fn register_bell(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.io.submitter().register_eventfd(eventfd.as_raw_fd())?;
        self.set_bell(false);
        Ok(())
    }

    /// Switches the eventfd on (before sleeping) or off (while awake, when it would only cost).
    pub(super) fn set_bell(&mut self, on: bool) {
        let queue = self.io.completion();
        if on { queue.enable_eventfd() } else { queue.disable_eventfd() }
    }

    /// Accepts from a listening socket until told otherwise, into free slots of the table.
    pub(super) fn accept_many(&mut self, listener: BorrowedFd<'_>, tag: Tag) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .allocate_file_index(true)
            .build()
            .user_data(tag.pack());
        self.push(&entry);
    }

    /// Accepts one connection from a listening socket into a free slot of the table.
    pub(super) fn accept_one(&mut self, listener: BorrowedFd<'_>, tag: Tag) {
        let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), address, length)
            .file_index(Some(DestinationSlot::auto_target()))
            .build()
            .user_data(tag.pack());
        self.push(&entry);
    }

    /// Asks who is at the other end of a slot; [`Ring::name`] has the answer when it completes.
    pub(super) fn ask_name(&mut self, slot: u32, generation: u32, ipv6: bool) {
        let (cell, at) = self.names.take(slot, generation);
        let length = if ipv6 { size_of::<libc::sockaddr_in6>() } else { size_of::<libc::sockaddr_in>() };
        let tag = Tag::new(Kind::Name, slot, cell);
        let entry = peer_name(slot, at.cast(), u32::try_from(length).unwrap_or(0)).user_data(tag.pack());
        self.push(&entry);
    }

    /// The slot and generation that a completed question was about, and the answer if there is one.
    pub(super) fn name(&mut self, completion: &Completion) -> (u32, u32, Option<Peer>) {
        self.names.give_back(completion.tag.generation, completion.result)
    }

    /// Receives once into a buffer of the ring, when there is data.
    pub(super) fn receive_once(&mut self, slot: u32, generation: u32) {
        self.receive(slot, Tag::new(Kind::ReceiveOnce, slot, generation), 0);
    }

    /// Receives once into a buffer of the ring what is there now.
    pub(super) fn receive_now(&mut self, slot: u32, generation: u32) {
        self.receive(slot, Tag::new(Kind::ReceiveNow, slot, generation), libc::MSG_DONTWAIT);
    }

    /// Receives into buffers of the ring until told otherwise. About 860 B of kernel memory while it waits.
    pub(super) fn receive_many(&mut self, slot: u32, generation: u32) {
        let tag = Tag::new(Kind::ReceiveMany, slot, generation);
        self.push(&opcode::RecvMulti::new(Fixed(slot), GROUP).build().user_data(tag.pack()));
    }

    /// Reports data (or the end) of a slot each time some comes. About 260 B of kernel memory.
    pub(super) fn poll_many(&mut self, slot: u32, generation: u32) {
        let tag = Tag::new(Kind::Poll, slot, generation);
        let events = (libc::POLLIN | libc::POLLRDHUP).unsigned_abs().into();
        self.push(&opcode::PollAdd::new(Fixed(slot), events).multi(true).build().user_data(tag.pack()));
    }

    /// Lets TCP acknowledge every second segment of a slot's stream instead of each: see [`super::tcp`]. Completes only if
    /// the kernel knows no such command, and then nothing has changed.
    pub(super) fn delay_acks(&mut self, slot: u32, generation: u32) {
        let tag = Tag::new(Kind::Tune, slot, generation);
        let level = libc::IPPROTO_TCP.unsigned_abs();
        let length = u32::try_from(size_of::<libc::c_int>()).unwrap_or(0);
        let entry = opcode::SetSockOpt::new(
            Fixed(slot),
            level,
            libc::TCP_QUICKACK.unsigned_abs(),
            (&raw const OFF).cast(),
            length,
        );
        self.push(&entry.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(tag.pack()));
    }

    /// Reports each write to an eventfd that is not of the table.
    pub(super) fn poll_eventfd(&mut self, eventfd: BorrowedFd<'_>) {
        let tag = Tag::new(Kind::Doorbell, 0, 0);
        let events = libc::POLLIN.unsigned_abs().into();
        let entry = opcode::PollAdd::new(Fd(eventfd.as_raw_fd()), events).multi(true).build();
        self.push(&entry.user_data(tag.pack()));
    }

    /// Ends an operation of this ring by its tag. Its own completion says so; this one completes only if there was none.
    pub(super) fn cancel(&mut self, target: Tag) {
        let tag = Tag::new(Kind::Cancel, target.slot, target.generation);
        let entry = opcode::AsyncCancel::new(target.pack()).build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag.pack()));
    }

    /// Frees a slot of the table. Completes only if it fails.
    pub(super) fn close(&mut self, slot: u32, generation: u32) {
        let tag = Tag::new(Kind::Close, slot, generation);
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag.pack()));
    }

    /// Throws away what a slot has received, so that closing it sends FIN and not RST. Never completes with success.
    pub(super) fn discard_input(&mut self, slot: u32, generation: u32) {
        let tag = Tag::new(Kind::Close, slot, generation);
        // With MSG_TRUNC, TCP drops the bytes instead of copying them: the address is never used.
        let entry = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), DISCARD_BYTES)
            .flags(libc::MSG_TRUNC | libc::MSG_DONTWAIT)
            .build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag.pack()));
    }

    /// Puts the socket of a slot into a free slot of another ring of this process, whose completion has `there` for a tag and
    /// the new slot for a result. Completes here with 0 when that is done; the slot here stays until it is closed.
    pub(super) fn hand_over(&mut self, slot: u32, generation: u32, ring: RawFd, there: Tag) {
        let tag = Tag::new(Kind::HandoffOut, slot, generation);
        let to = DestinationSlot::auto_target();
        let entry = opcode::MsgRingSendFd::new(Fd(ring), Fixed(slot), to, there.pack()).build();
        self.push(&entry.user_data(tag.pack()));
    }

    /// Sends bytes that the ring keeps until they have left or failed; completes each time the socket took some, and
    /// [`Ring::take_waiting`] gives them back. One at a time per connection.
    pub(super) fn send_later(&mut self, slot: u32, generation: u32, bytes: Vec<u8>, skip: usize) {
        let tag = Tag::new(Kind::SendLater, slot, generation).pack();
        let rest = bytes.get(skip..).unwrap_or_default();
        let length = u32::try_from(rest.len().min(SEND_LATER_BYTES)).unwrap_or(0);
        let entry = opcode::Send::new(Fixed(slot), rest.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build();
        // Moving the vector does not move its heap block, which stays until the completion takes it out.
        let replaced = self.waiting.insert(tag, bytes);
        assert!(replaced.is_none(), "one waiting send per connection: the edge keeps the order");
        self.push(&entry.user_data(tag));
    }

    /// The bytes of a waiting send that completed.
    pub(super) fn take_waiting(&mut self, completion: &Completion) -> Option<Vec<u8>> {
        self.waiting.remove(&completion.tag.pack())
    }

    fn push_send(&mut self, send: &Outgoing<'_>) {
        // First, because a submission forgets the headers of the entries before it.
        self.make_room();
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let slot = Fixed(send.slot);
        let entry = match &send.bytes {
            Pieces::One(bytes) => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                opcode::Send::new(slot, bytes.as_ptr(), length).flags(flags).build()
            }
            Pieces::Many(pieces) => {
                assert!(
                    self.headers.len() < self.headers.capacity(),
                    "a header per submission entry at most"
                );
                self.headers.push(message_header(pieces));
                let header = self.headers.last().map_or(std::ptr::null(), std::ptr::from_ref);
                opcode::SendMsg::new(slot, header).flags(flags.unsigned_abs()).build()
            }
        };
        let tag = Tag::new(Kind::Send, send.slot, send.generation).pack();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag));
    }

    /// Enters the kernel if there is anything to submit, or deferred work to run, and shows it the buffers that were given
    /// back.
    pub(super) fn submit(&mut self) {
        self.buffers.publish();
        let mut refusals = 0;
        while self.failure.is_none() {
            let queue = self.io.submission();
            let overflown = queue.cq_overflow();
            if queue.is_empty() && !queue.taskrun() && !overflown {
                break;
            }
            drop(queue);
            self.enters += 1;
            self.overflows += u64::from(overflown);
            match self.io.submit() {
                Ok(_) => {}
                Err(error) if is_passing(&error) && refusals < SUBMIT_REFUSALS_MAX => refusals += 1,
                Err(error) => self.failure = Some(error),
            }
            if self.io.submission().is_empty() {
                break;
            }
        }
        self.headers.clear();
    }

    /// Submits and sleeps until something completes or `timeout` is over. Without a timeout, for as long as it takes.
    /// Returns at once when there is something to take already.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) {
        self.submit();
        if self.failure.is_some() || !self.io.completion().is_empty() {
            return;
        }
        self.enters += 1;
        let slept = match timeout {
            None => self.io.submit_and_wait(1),
            Some(timeout) => {
                let time = Timespec::from(timeout);
                self.io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        if let Err(error) = slept
            && error.raw_os_error() != Some(libc::ETIME)
            && !is_passing(&error)
        {
            self.failure = Some(error);
        }
    }

    /// Whether the kernel says that entering it would bring something: deferred work, or completions that did not fit.
    /// Deferred work may be done already; see [`super::edge::Edge::gather`].
    pub(super) fn has_hint(&mut self) -> bool {
        let queue = self.io.submission();
        self.failure.is_none() && (queue.taskrun() || queue.cq_overflow())
    }

    /// Whether there are completions to take or entries to submit.
    pub(super) fn has_entries(&mut self) -> bool {
        !self.io.submission().is_empty() || !self.io.completion().is_empty()
    }

    /// Whether the kernel holds completions that did not fit.
    pub(super) fn is_overflown(&mut self) -> bool {
        self.io.submission().cq_overflow()
    }

    /// Takes all completions that are there, in order. Returns how many.
    pub(super) fn take(&mut self, into: &mut Vec<Completion>) -> usize {
        let before = into.len();
        let ring = self.index;
        into.extend(self.io.completion().filter_map(|entry| {
            let tag = Tag::unpack(entry.user_data())?;
            Some(Completion { tag, ring, result: entry.result(), flags: entry.flags() })
        }));
        into.len() - before
    }

    fn receive(&mut self, slot: u32, tag: Tag, flags: i32) {
        let entry =
            opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), 0).flags(flags).buf_group(GROUP).build();
        self.push(&entry.flags(squeue::Flags::BUFFER_SELECT).user_data(tag.pack()));
    }

    fn make_room(&mut self) {
        if self.io.submission().is_full() {
            self.submit();
        }
    }

    fn push(&mut self, entry: &squeue::Entry) {
        self.make_room();
        if self.failure.is_some() {
            return;
        }
        // SAFETY: every entry that this file builds names memory that is valid until its operation completes: see the
        // module's doc.
        let pushed = unsafe { self.io.submission().push(entry) };
        if pushed.is_err() {
            self.failure = Some(io::Error::other("the submission queue stayed full after a submission"));
        }
    }
}

/// Sends now, without waiting, each on the ring that it names: what a socket takes at once leaves, and only a send that
/// failed or was cut short completes, with the error or the count. Submits everything else that was pushed on any ring.
///
/// MSG_WAITALL is what makes the kernel report a short send although success is silent: without it a part counts as
/// success.
pub(super) fn send_all<'a>(rings: &mut [Ring], sends: impl Iterator<Item = (usize, Outgoing<'a>)>) {
    for (ring, send) in sends {
        rings[ring].push_send(&send);
    }
    // Until the submissions below have returned, the kernel may read what the sends borrow for 'a. Afterwards nothing
    // refers to it: a send with MSG_DONTWAIT is never kept by the kernel, and a failed ring submits nothing any more.
    for ring in rings {
        ring.submit();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.buffers.unregister(&self.io);
        // Waiting sends may still be read by the kernel while it takes the ring down: their bytes stay.
        for bytes in mem::take(&mut self.waiting).into_values() {
            bytes.leak();
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}

/// Cells that the kernel writes peers' names to. As many as are asked for in one tick; they are used again.
#[derive(Debug, Default)]
struct Names {
    #[expect(clippy::vec_box, reason = "the kernel writes to a cell while the list may grow")]
    cells: Vec<Box<Name>>,
    free: Vec<u32>,
}

/// One question and the place of its answer.
#[derive(Debug)]
struct Name {
    slot: u32,
    generation: u32,
    /// A socket address of either family. The kernel writes it between the question and its completion.
    address: UnsafeCell<[u64; 4]>,
}

impl Names {
    /// A cell for a question, and where the answer goes.
    fn take(&mut self, slot: u32, generation: u32) -> (u32, *mut u64) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.cells.push(Box::new(Name { slot: 0, generation: 0, address: UnsafeCell::new([0; 4]) }));
            u32::try_from(self.cells.len() - 1).unwrap_or(u32::MAX)
        });
        let cell = &mut self.cells[index as usize];
        cell.slot = slot;
        cell.generation = generation;
        (index, cell.address.get().cast())
    }

    /// The answer of a completed question; its cell is free again.
    fn give_back(&mut self, index: u32, result: i32) -> (u32, u32, Option<Peer>) {
        let cell = &self.cells[index as usize];
        // SAFETY: the question completed, so that the kernel writes no more; the cell is not asked again before this
        // copy is made.
        let words = unsafe { *cell.address.get() };
        let answer = (result >= 0).then(|| read_address(words)).flatten();
        self.free.push(index);
        (cell.slot, cell.generation, answer)
    }
}

/// Reads an IPv4 or IPv6 socket address as the kernel writes it; ports and addresses are in network order.
fn read_address(words: [u64; 4]) -> Option<Peer> {
    let mut bytes = [0_u8; 32];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    if i32::from(family) == libc::AF_INET {
        return Some(SocketAddr::from(([bytes[4], bytes[5], bytes[6], bytes[7]], port)).into());
    }
    let mut address = [0_u8; 16];
    address.copy_from_slice(&bytes[8..24]);
    (i32::from(family) == libc::AF_INET6).then(|| SocketAddr::from((Ipv6Addr::from(address), port)).into())
}

/// A `getsockopt(SOL_SOCKET, SO_PEERNAME)` as a command of the ring: the only way to a direct descriptor's peer. The
/// kernel answers while it takes the submission.
fn peer_name(slot: u32, address: *mut libc::c_void, length: u32) -> squeue::Entry {
    let level = libc::SOL_SOCKET.unsigned_abs();
    let mut entry =
        opcode::SetSockOpt::new(Fixed(slot), level, libc::SO_PEERNAME.unsigned_abs(), address, length)
            .build();
    // The crate has a builder for the setter only; the getter differs in its command number alone.
    let words = (&raw mut entry).cast::<u32>();
    // SAFETY: an entry is the kernel's 64-byte `io_uring_sqe` (its size is checked below), so that word 2 lies inside.
    let command = unsafe { words.add(COMMAND_WORD) };
    // SAFETY: word 2 of the entry is `cmd_op`, a u32 that any value may be written to.
    unsafe { command.write(SOCKET_URING_OP_GETSOCKOPT) };
    entry
}

fn message_header(pieces: &[IoSlice<'_>]) -> libc::msghdr {
    // SAFETY: a header of zeroes is one without name, data and control messages.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    // `IoSlice` has the layout of `iovec` by its documentation; a send only reads through it.
    header.msg_iov = pieces.as_ptr().cast::<libc::iovec>().cast_mut();
    header.msg_iovlen = pieces.len();
    header
}

/// Errors of an enter that a second attempt may not meet.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// Times that one submission may be refused for a passing reason before the ring counts as broken.
const SUBMIT_REFUSALS_MAX: u32 = 1_000;

/// Most bytes of one waiting send: small enough that the core hears of progress.
const SEND_LATER_BYTES: usize = 64 << 10;

/// What one close throws away at most.
const DISCARD_BYTES: u32 = 1 << 20;

/// The value of a socket option that is switched off.
static OFF: libc::c_int = 0;

/// `cmd_op` in `io_uring_sqe`, in words of 4 bytes.
const COMMAND_WORD: usize = 2;

/// From `linux/io_uring.h`.
const SOCKET_URING_OP_GETSOCKOPT: u32 = 2;

const _: () = assert!(size_of::<squeue::Entry>() == 64);
const _: () = assert!(size_of::<IoSlice<'_>>() == size_of::<libc::iovec>());

#[cfg(test)]
mod tests;

//! Receive buffers that a ring's connections share: an idle connection owns none.
//!
//! The kernel takes a buffer from a ring of descriptors when data comes, fills it and names it in the completion; the shard
//! reads it and gives it back within the same tick. Classic buffers of one size: incremental consumption and bundles of
//! buffers still have open bugs in the kernel, and MQTT's packets are small.
//!
//! One of the three files of this folder with `unsafe` (ADR 0012).
#![expect(unsafe_code, reason = "memory that the kernel writes; each block says why it is sound")]

use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, types::BufRingEntry};

/// The receive buffers of one ring. `buffer_count × buffer_bytes` of address space; pages are used when data comes.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    bytes_each: u32,
    tail: u16,
}

/// A buffer that the kernel has filled and lent to the shard. Must go back by [`Buffers::give_back`]; one that is lost is
/// never used again, which is a leak and nothing worse.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost"]
pub(super) struct Lent {
    id: u16,
    length: u32,
}

impl Buffers {
    /// Maps the memory and tells the ring of it.
    ///
    /// # Errors
    /// When memory is short, or `count` is not a power of two up to 32,768 (the kernel refuses it).
    pub(super) fn register(ring: &IoUring, count: u16, bytes_each: u32) -> io::Result<Self> {
        let memory = Mapping::new(usize::from(count) * bytes_each as usize)?;
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let mut buffers = Self { entries, memory, count, bytes_each, tail: 0 };
        let at = buffers.entries.at as u64;
        // SAFETY: `entries` is page-aligned, as large as `count` entries, and lives until `unregister`, which `Ring`
        // calls before it drops `Buffers`.
        unsafe { ring.submitter().register_buf_ring_with_flags(at, count, GROUP, 0) }?;
        for id in 0..count {
            buffers.offer(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Takes the buffers away from the kernel; after this it writes to none of them.
    pub(super) fn unregister(&mut self, ring: &IoUring) {
        if ring.submitter().unregister_buf_ring(GROUP).is_err() {
            // The kernel may still write: the memory must outlive the ring, so it is never unmapped.
            self.memory.keep();
            self.entries.keep();
        }
    }

    /// The buffer that a completion names, if it names one.
    pub(super) fn lent(&self, flags: u32, result: i32) -> Option<Lent> {
        let id = cqueue::buffer_select(flags)?;
        assert!(id < self.count, "the kernel named buffer {id} of {}", self.count);
        let length = u32::try_from(result).unwrap_or(0).min(self.bytes_each);
        Some(Lent { id, length })
    }

    /// What the kernel wrote.
    pub(super) fn bytes<'a>(&'a self, lent: &'a Lent) -> &'a [u8] {
        let offset = usize::from(lent.id) * self.bytes_each as usize;
        // SAFETY: `lent.id < count` (checked when it was lent), so that its buffer lies inside the mapping.
        let start = unsafe { self.memory.start().as_ptr().add(offset) };
        // SAFETY: `lent` proves that the buffer is filled and not offered to the kernel, so nobody writes to its first
        // `length ≤ bytes_each` bytes while `lent` is borrowed.
        unsafe { slice::from_raw_parts(start, lent.length as usize) }
    }

    /// Gives a buffer back; the kernel sees it after the next [`Buffers::publish`].
    #[expect(clippy::needless_pass_by_value, reason = "the buffer must not be read again")]
    pub(super) fn give_back(&mut self, lent: Lent) {
        self.offer(lent.id);
    }

    /// Shows the kernel what was given back.
    pub(super) fn publish(&self) {
        let first = self.entries.start().as_ptr().cast::<BufRingEntry>();
        // SAFETY: `first` is the first entry of a registered buffer ring; the tail lies inside it.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail is a valid, aligned u16 in mapped memory that lives as long as `self`; the kernel reads it
        // with acquire semantics and nobody else writes it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Bytes of one buffer.
    pub(super) fn bytes_each(&self) -> u32 {
        self.bytes_each
    }

    fn offer(&mut self, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.memory.at as u64 + u64::from(id) * u64::from(self.bytes_each);
        // SAFETY: `index < count`, so that the entry lies inside the mapping.
        let entry = unsafe { self.entries.start().as_ptr().cast::<BufRingEntry>().add(index) };
        // SAFETY: the kernel reads entries only below the published tail; this one is above it. The entry's last field of
        // index 0 is the tail itself, which these three setters do not touch.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.bytes_each);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }
}

/// The buffer group's number; one group per ring.
pub(super) const GROUP: u16 = 0;

/// Anonymous memory, page-aligned and zeroed.
#[derive(Debug)]
struct Mapping {
    at: usize,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping touches no existing memory.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { at: at as usize, bytes })
    }

    fn start(&self) -> NonNull<u8> {
        NonNull::new(std::ptr::with_exposed_provenance_mut(self.at))
            .expect("mmap never answers with address 0")
    }

    /// Leaves the memory mapped for the life of the process.
    fn keep(&mut self) {
        self.bytes = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the range was mapped by `new` and nothing borrows from it any more: `self` is going.
            let _unmapped = unsafe { libc::munmap(self.start().as_ptr().cast(), self.bytes) };
        }
    }
}

//! The pool of receive buffers that the kernel borrows from.
//!
//! The kernel takes a buffer only when bytes have arrived, so an idle socket owns none.

#![expect(unsafe_code, reason = "the pool is memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// A filled buffer, on loan from the kernel until it is given back with [`crate::Ring::recycle`].
///
/// It can't be copied, so it can't be given back twice.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to the pool"]
pub struct Loan {
    pub(crate) buffer: u16,
    pub(crate) length: u32,
}

/// The pool: a ring of descriptions that the kernel consumes, and the bytes behind them.
///
/// Invariant: a buffer is described in the ring (the kernel may write to it) or on loan to us (only we read
/// it), never both; `recycle` consumes the loan.
pub(crate) struct BufferPool {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
}

impl BufferPool {
    /// Allocates `count` buffers (a power of two, at most 32,768) of `buffer_bytes` each; nothing is
    /// registered yet.
    pub(crate) fn new(count: u16, buffer_bytes: u32) -> Self {
        assert!(
            count.is_power_of_two() && count <= 1 << 15,
            "the kernel asks for a power of two up to 32,768"
        );
        assert!(buffer_bytes > 0, "an empty buffer receives nothing");
        Self {
            entries: allocate(entries_layout(count)).cast(),
            bytes: allocate(bytes_layout(count, buffer_bytes)),
            count,
            buffer_bytes,
            tail: 0,
        }
    }

    /// Makes the pool known to a ring and puts all of its buffers at the kernel's disposal.
    ///
    /// The ring must be closed, with nothing in flight, before the pool is dropped: `Ring` sees to that.
    pub(crate) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: the memory is page-aligned, `count` entries long, zeroed, and lives until the ring is gone.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0) }?;
        for buffer in 0..self.count {
            self.publish(buffer);
        }
        Ok(())
    }

    /// The bytes of a loan.
    pub(crate) fn view(&self, loan: &Loan) -> &[u8] {
        assert!(
            loan.buffer < self.count && loan.length <= self.buffer_bytes,
            "the kernel names our own buffers"
        );
        let start = self.start_of(loan.buffer);
        // SAFETY: the buffer lies inside the allocation (asserted above) and is initialised (zeroed, then
        // written by the kernel).
        // The kernel does not write to it while it is on loan (the invariant of this type).
        unsafe { std::slice::from_raw_parts(start.as_ptr(), loan.length as usize) }
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn recycle(&mut self, loan: &Loan) {
        assert!(loan.buffer < self.count, "the kernel names our own buffers");
        self.publish(loan.buffer);
    }

    fn publish(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.start_of(buffer).as_ptr() as u64;
        // SAFETY: `index` is below `count`, so the entry lies inside the allocation.
        let entry = unsafe { self.entries.add(index) };
        // SAFETY: the kernel reads entries below the tail only, and this one is at the tail, so nobody else
        // refers to it now.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.shared_tail().store(self.tail, Ordering::Release);
    }

    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the pointer is the start of the registered, zeroed ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is a 2-byte aligned field inside the allocation; the kernel and this thread
        // access it as an atomic only.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }

    fn start_of(&self, buffer: u16) -> NonNull<u8> {
        let offset = usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: callers pass a buffer below `count`, so the offset is inside the allocation.
        unsafe { self.bytes.add(offset) }
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.entries.as_ptr().cast(), entries_layout(self.count)) };
        // SAFETY: as above.
        unsafe { dealloc(self.bytes.as_ptr(), bytes_layout(self.count, self.buffer_bytes)) };
    }
}

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0, "both regions hold at least one buffer");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

fn entries_layout(count: u16) -> Layout {
    Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE_BYTES)
        .expect("at most 512 KiB with page alignment")
}

fn bytes_layout(count: u16, buffer_bytes: u32) -> Layout {
    Layout::from_size_align(usize::from(count) * buffer_bytes as usize, PAGE_BYTES)
        .expect("2^15 buffers of less than 2^32 bytes fit an isize of 64 bits")
}

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// The kernel asks for page alignment of the ring of descriptions.
const PAGE_BYTES: usize = 4096;

//! Maps of files, and the three system calls on files that the standard library does not have. The unsafe file of this crate (ADR 0021).
//!
//! A map is written by the one that owns it and read by nobody: what is read from a log is read from its file, where the kernel
//! shows what was written into the map, and where a fault of the disk is an error and not a signal.
#![expect(unsafe_code, reason = "maps files and calls libc; each block says why it is sound")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::disk::Region;

/// A file's bytes in memory, shared with the file. Unmapped when dropped.
///
/// Invariants: `address` is the beginning of a map of `bytes` bytes that nobody else has; the file behind it has at least that
/// length, with its blocks allocated, for as long as the map lives ([`crate::disk::DiskFile`] promises it).
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the map belongs to this value alone and is bound to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `bytes` bytes of a file and brings its pages in.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::InvalidInput`] for no bytes or more than the file has.
    pub(crate) fn new(file: &File, bytes: usize) -> io::Result<Self> {
        let file_bytes = file.metadata()?.len();
        if bytes == 0 || u64::try_from(bytes).map_or(true, |bytes| bytes > file_bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: a new map at an address that the kernel chooses touches no memory of ours; the length was checked against
        // the file's, and the descriptor is open.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::Other)?;
        let mapping = Self { address, bytes };
        mapping.populate();
        Ok(mapping)
    }

    /// Asks for the pages now, so that the shard that writes does not wait for them. A kernel that cannot leaves them for later.
    fn populate(&self) {
        // SAFETY: the range is exactly this map, which lives; the call changes no bytes.
        unsafe { libc::madvise(self.address.as_ptr().cast(), self.bytes, libc::MADV_POPULATE_READ) };
    }
}

impl Region for Mapping {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(
            end.is_some_and(|end| end <= self.bytes),
            "a write of {} at {offset} leaves the map",
            bytes.len()
        );
        // SAFETY: `offset` is within the map, as was just asserted.
        let target = unsafe { self.address.add(offset) };
        // SAFETY: all of the target lies within the map, which nobody else reads or writes; the source is a borrowed slice
        // and so lies elsewhere.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly this map, and nothing borrows from it: `write` is all that it offers.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.bytes) };
    }
}

/// Allocates a file's blocks up to a length.
///
/// # Errors
/// What the operating system says, [`io::ErrorKind::StorageFull`] above all.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the call takes an open descriptor and two numbers.
    let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Writes a stretch of a file to its disk and waits for that. No flush, no metadata: a sync has to follow.
///
/// # Errors
/// What the operating system says. A file system that cannot is left to write when it likes.
pub(crate) fn write_out(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let off = |number: u64| libc::off64_t::try_from(number).map_err(|_| io::ErrorKind::FileTooLarge);
    let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes an open descriptor and three numbers.
    let code = unsafe { libc::sync_file_range(file.as_raw_fd(), off(offset)?, off(bytes)?, flags) };
    match (code, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        (_, error) if matches!(error.raw_os_error(), Some(libc::ESPIPE | libc::EINVAL | libc::ENOSYS)) => {
            Ok(())
        }
        (_, error) => Err(error),
    }
}

/// Bytes that this process may still allocate on a file's file system.
///
/// # Errors
/// What the operating system says.
pub(crate) fn free_bytes(file: &File) -> io::Result<u64> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open and the target has the size that the call fills.
    let code = unsafe { libc::fstatvfs(file.as_raw_fd(), found.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so it has filled all of it.
    let found = unsafe { found.assume_init() };
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

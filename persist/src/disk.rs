//! The disk under the logs: what a data directory must be able to do, as two traits.
//!
//! `RealDisk` does it with files and maps (feature `files`); a disk in memory that lies, for the simulator and the crash
//! tests, does it with bytes. Paths are relative to the data directory, their parts joined by `/`.
//!
//! **What a disk promises**, and all that the log builds upon: what was written to a file before [`DiskFile::sync`] began is there
//! after a crash once it has returned `Ok`; a created, renamed or removed name once [`Disk::sync_folder`] of its folder has. Of
//! everything else any part may be there after a crash, in any order, torn at any sector.

use std::io;
use std::sync::Arc;

/// One data directory. Shared by all shards' stores and by the disk threads.
pub trait Disk: Send + Sync {
    /// Makes a folder and those above it; one that is there already is no error. Its name is durable after
    /// [`sync_folder`](Self::sync_folder) of the folder above.
    ///
    /// # Errors
    /// What the operating system says.
    fn make_folder(&self, path: &str) -> io::Result<()>;

    /// What stands in a folder, in the order of names. A folder that is not there is empty.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, folder: &str) -> io::Result<Vec<Entry>>;

    /// Makes a file of `bytes` zeros whose blocks are on the disk, not merely promised: a later write into it never finds
    /// the disk full. One of that name is replaced. The file's length is durable after [`DiskFile::sync`], its name after
    /// [`sync_folder`](Self::sync_folder).
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`] if there is no room, and then no file is left; else what
    /// the operating system says.
    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; else what the operating system says.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name; one of that name is replaced.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, or a folder with all that is in it. What is not there is no error.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable; `""` is the data directory itself.
    ///
    /// # Errors
    /// What the operating system says. The names are then as before a crash: known only after the next boot.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    /// Bytes that this process may still allocate on the file system.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// A number that nobody outside can guess: it makes stored bytes of one log worthless in another.
    ///
    /// # Errors
    /// What the operating system says.
    fn random(&self) -> io::Result<u64>;
}

/// One file of a data directory. Its length never changes while it is mapped.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn bytes(&self) -> u64;

    /// Fills `buffer` from `offset` on, with what was written last, synced or not.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] past the end; else what the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes bytes within the file's length, for what is small and rare.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was written before the call is on the disk, through regions too. Blocks: never called on a
    /// shard's thread.
    ///
    /// # Errors
    /// What the operating system says. The file's unsynced bytes are then lost even if a second call succeeds.
    fn sync(&self) -> io::Result<()>;

    /// Maps the file for its one writer, with its pages at hand.
    ///
    /// # Errors
    /// What the operating system says.
    fn map(&self) -> io::Result<Box<dyn Region>>;

    /// Shortens the file and frees the blocks behind. Never while it is mapped.
    ///
    /// # Errors
    /// What the operating system says.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// A mapped file, owned by the one that appends to it.
pub trait Region: Send {
    /// Its length in bytes; at most the file's.
    fn bytes(&self) -> usize;

    /// Copies bytes to `offset`. Not durable before [`DiskFile::sync`].
    ///
    /// # Panics
    /// If they do not fit.
    fn write(&mut self, offset: usize, bytes: &[u8]);
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The last part of its path.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// A file's length in bytes; 0 for a folder.
    pub bytes: u64,
}

//! What can go wrong with a data directory, each error for the one who must act.

use std::io;

/// Why [`crate::open`] did not open a data directory. Torn and damaged logs are no error: they are reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused something.
    #[error("data directory: {path}: cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what, relative to the data directory.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// No room for even one new segment.
    #[error(
        "data directory: no room for a log segment of {needed_bytes} bytes per shard ({free_bytes} bytes are free): \
         free some space, or raise the storage quota"
    )]
    NoRoom {
        /// What one needs.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// Written by a version that this one does not know.
    #[error(
        "data directory: {path} has format version {found}, and this program reads versions up to {known}: start it with the \
         newer version that wrote it, or give another data directory"
    )]
    UnknownVersion {
        /// Which file.
        path: String,
        /// Its version.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// A record of a kind or version that this program does not know, in a log that is otherwise sound.
    #[error(
        "data directory: {path}: the record at byte {offset} has kind {kind} and version {version}, which this program does not \
         know: start it with the newer version that wrote it"
    )]
    UnknownRecord {
        /// Which file.
        path: String,
        /// Where in it.
        offset: u64,
        /// Its kind byte.
        kind: u8,
        /// Its version byte.
        version: u8,
    },
    /// The manifest is there and cannot be understood.
    #[error(
        "data directory: the file manifest is damaged ({reason}): put back a copy of it, or move the data directory aside to \
         begin with an empty one"
    )]
    Manifest {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A record could not be written while the directory was made ready.
    #[error(
        "data directory: a log takes no more records ({source}): free some space, or raise the storage quota"
    )]
    Append {
        /// Why.
        source: AppendError,
    },
    /// Another process has it.
    #[error(
        "data directory {path} is in use by another process: stop it, or give this one its own with --data-dir, or run without \
         storage with --memory-only"
    )]
    InUse {
        /// Its path.
        path: String,
    },
}

impl OpenError {
    /// An error of the operating system, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Why a record was not appended. The store has then failed, and nothing of the record is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The store failed before; [`crate::Store::failure`] says why.
    #[error("the log has failed and takes no more records until the next start")]
    Failed,
    /// The store was full, which was told, and its reserve is used up.
    #[error("the disk is full and the log's reserve is used up")]
    ReserveUsedUp,
}

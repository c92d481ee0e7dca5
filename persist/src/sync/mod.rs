//! What blocks, and who does it: syncs, reads, the making and removing of files.
//!
//! A store never waits for the disk. It asks for a [`Job`] and is told the [`Outcome`] later: by the threads of the data directory,
//! or, in a simulator, when the driver says so. Both do the same work, in [`DiskSide::perform`].

#[cfg(feature = "files")]
pub(crate) mod threads;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::Waker;
use crate::disk::{Disk, DiskFile};
use crate::fetch::{Body, read_bodies};
use crate::limits::CLEAN_BYTES;
use crate::log::catalog::Place;
use crate::log::cleaning::{Scanned, scan};
use crate::log::segment::{Blank, LogId};
use crate::record::{MessageId, SessionNo};

/// Something that blocks.
pub(crate) enum Job {
    /// Sync these files, the oldest first; then every frame as far as `reach` went when that began is on the disk.
    Sync {
        /// What to sync.
        files: Vec<Arc<dyn DiskFile>>,
        /// How far, in the newest of them.
        reach: Arc<Reach>,
    },
    /// Make a segment ready, of the file of one that is needed no more if there is one.
    Prepare {
        /// Its number.
        segment: u64,
        /// Its length.
        bytes: u64,
        /// The number of the old one.
        recycle: Option<u64>,
    },
    /// Remove a segment that is needed no more.
    Remove {
        /// Its number.
        segment: u64,
    },
    /// Read messages for a session.
    Fetch {
        /// For whom.
        session: SessionNo,
        /// Which, and where they stand.
        wanted: Vec<(MessageId, Place)>,
    },
    /// Read a piece of the oldest segment, to clean it.
    Scan {
        /// Its number.
        segment: u64,
        /// Where the piece begins.
        from: u64,
        /// Where the segment's frames end.
        end: u64,
    },
}

/// What became of a job.
pub(crate) enum Outcome {
    /// Of a sync.
    Synced {
        /// The last frame that is on the disk now.
        upto: u64,
        /// What the disk said, if it failed.
        error: Option<String>,
        /// How long it took, microseconds, waiting included; 0 where time stands still.
        micros: u64,
    },
    /// Of making a segment.
    Prepared(Result<Blank, String>),
    /// Of removing one.
    Removed(Result<(), String>),
    /// Of reading messages, in the order asked. `None`: not where it should stand, or damaged.
    Fetched {
        /// For whom.
        session: SessionNo,
        /// What.
        bodies: Vec<(MessageId, Option<Arc<Body>>)>,
    },
    /// Of reading a piece.
    Scanned(Scanned),
}

/// How far the next sync of a segment reaches, as the store and whoever syncs see it. While one sync is under way another can
/// wait; what is appended until that begins is part of it, and it begins without the store's doing.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// The last frame that is to be on the disk.
    upto: AtomicU64,
    /// A sync was asked for and has not begun.
    is_waiting: AtomicBool,
}

impl Reach {
    /// The store wants every frame up to this one on the disk. Whether a sync has to be asked for: else the one that waits takes it.
    pub(crate) fn extend(&self, upto: u64) -> bool {
        self.upto.store(upto, Ordering::Release);
        // Whoever begins after this sees the line above.
        !self.is_waiting.swap(true, Ordering::AcqRel)
    }

    /// A sync begins: how far it reaches. What is said later needs another.
    fn begin(&self) -> u64 {
        self.is_waiting.swap(false, Ordering::AcqRel);
        self.upto.load(Ordering::Acquire)
    }
}

/// What a job needs to know.
pub(crate) struct DiskSide {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// The log.
    pub log: LogId,
    /// A sync has failed: none is tried again, for the kernel has forgotten what was dirty.
    has_failed: AtomicBool,
}

impl DiskSide {
    /// The other side of a log.
    pub(crate) fn new(disk: Arc<dyn Disk>, log: LogId) -> Self {
        Self { disk, log, has_failed: AtomicBool::new(false) }
    }

    fn sync(&self, files: &[Arc<dyn DiskFile>], reach: &Reach) -> Outcome {
        let upto = reach.begin();
        if self.has_failed.load(Ordering::Relaxed) {
            return Outcome::Synced { upto, error: Some("an earlier sync failed".to_owned()), micros: 0 };
        }
        let synced = files.iter().try_for_each(|file| file.sync());
        self.has_failed.store(synced.is_err(), Ordering::Relaxed);
        Outcome::Synced { upto, error: synced.err().map(|error| error.to_string()), micros: 0 }
    }

    /// Does a job. Blocks.
    pub(crate) fn perform(&self, job: Job) -> Outcome {
        let disk = &*self.disk;
        match job {
            Job::Sync { files, reach } => self.sync(&files, &reach),
            Job::Prepare { segment, bytes, recycle } => {
                let blank = match recycle {
                    Some(old) => Blank::recycle(disk, &self.log, old, segment),
                    None => Blank::make(disk, &self.log, segment, bytes),
                };
                Outcome::Prepared(blank.map_err(|error| error.to_string()))
            }
            Job::Remove { segment } => {
                let removed =
                    disk.remove(&self.log.path(segment)).and_then(|()| disk.sync_folder(&self.log.folder));
                Outcome::Removed(removed.map_err(|error| error.to_string()))
            }
            Job::Fetch { session, wanted } => {
                Outcome::Fetched { session, bodies: read_bodies(disk, &self.log, &wanted) }
            }
            Job::Scan { segment, from, end } => {
                Outcome::Scanned(scan(disk, &self.log, segment, from..end, CLEAN_BYTES))
            }
        }
    }
}

/// The other side of a store.
pub(crate) enum Backstage {
    /// Work waits until the driver does it.
    Manual {
        /// What it needs.
        side: DiskSide,
        /// In the order asked.
        waiting: VecDeque<Job>,
        /// In the order done.
        done: VecDeque<Outcome>,
    },
    /// Threads do it.
    #[cfg(feature = "files")]
    Threads(threads::Line),
}

impl Backstage {
    /// A side whose work waits for the driver.
    pub(crate) fn manual(side: DiskSide) -> Self {
        Self::Manual { side, waiting: VecDeque::new(), done: VecDeque::new() }
    }

    /// What blocks needs to know, for the rare things that a store must do itself.
    pub(crate) fn side(&self) -> &DiskSide {
        match self {
            Self::Manual { side, .. } => side,
            #[cfg(feature = "files")]
            Self::Threads(line) => line.side(),
        }
    }

    /// Asks for a job.
    pub(crate) fn ask(&mut self, job: Job, waker: Option<&Waker>) {
        match self {
            Self::Manual { waiting, .. } => {
                let _ = waker;
                waiting.push_back(job);
            }
            #[cfg(feature = "files")]
            Self::Threads(line) => line.ask(job, waker.cloned()),
        }
    }

    /// The next outcome, if there is one.
    pub(crate) fn take(&mut self) -> Option<Outcome> {
        match self {
            Self::Manual { done, .. } => done.pop_front(),
            #[cfg(feature = "files")]
            Self::Threads(line) => line.take(),
        }
    }

    /// The next outcome, waiting for it. `None` if nothing was asked, or nobody is there to do it.
    pub(crate) fn wait(&mut self) -> Option<Outcome> {
        match self {
            Self::Manual { side, waiting, done } => {
                done.pop_front().or_else(|| waiting.pop_front().map(|job| side.perform(job)))
            }
            #[cfg(feature = "files")]
            Self::Threads(line) => line.wait(),
        }
    }

    /// Does one job that waits, where the driver decides. Tells whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        match self {
            Self::Manual { side, waiting, done } => {
                let job = waiting.pop_front();
                let has_one = job.is_some();
                done.extend(job.map(|job| side.perform(job)));
                has_one
            }
            #[cfg(feature = "files")]
            Self::Threads(_) => false,
        }
    }
}

impl std::fmt::Debug for Backstage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manual { waiting, done, .. } => {
                write!(f, "Manual({} waiting, {} done)", waiting.len(), done.len())
            }
            #[cfg(feature = "files")]
            Self::Threads(_) => f.write_str("Threads"),
        }
    }
}

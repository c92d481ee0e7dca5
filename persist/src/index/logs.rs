//! The logs as a boot has read them, for the index to be compared with.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::agree::{Truth, TruthOfShard};
use super::entry::{Header, Place};
use super::{Change, IndexError};
use crate::disk::Disk;
use crate::log::recovery::read_log_from;
use crate::log::segment::{LogId, segment_of_name};
use crate::manifest::Manifest;
use crate::record::decode::View;

/// What the logs of a data directory came to when they were opened, and the way to read them again. Records that are appended later
/// are not looked at.
#[derive(Clone)]
pub struct Logs {
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    shards: Vec<ShardLog>,
}

/// One log as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardLog {
    /// What it came to.
    pub truth: TruthOfShard,
    /// Its oldest segment that held frames.
    pub oldest: Option<u64>,
}

impl Logs {
    /// The logs of this epoch.
    pub(crate) fn new(disk: Arc<dyn Disk>, manifest: Manifest, shards: Vec<ShardLog>) -> Self {
        Self { disk, manifest, shards }
    }

    fn log(&self, shard: u16) -> LogId {
        LogId::new(self.manifest.epoch, self.manifest.key, shard)
    }
}

/// Of which data directory an index of these logs is.
pub(crate) fn header_of(manifest: &Manifest) -> Header {
    // The key itself is the logs' secret.
    let logs = u64::from(crc32c::crc32c(&manifest.key.to_le_bytes()));
    Header { epoch: manifest.epoch, shard_count: manifest.shard_count, logs }
}

impl Truth for Logs {
    fn header(&self) -> Header {
        header_of(&self.manifest)
    }

    fn shards(&self) -> Vec<TruthOfShard> {
        self.shards.iter().map(|log| log.truth).collect()
    }

    fn changes(
        &self,
        shard: u16,
        after: u64,
        each: &mut dyn FnMut(u64, Change) -> bool,
    ) -> Result<(), IndexError> {
        let last = self.shards.get(usize::from(shard)).map_or(0, |log| log.truth.last);
        let read = read_log_from(&*self.disk, &self.log(shard), after.saturating_add(1), &mut |at, view| {
            let sequence = at.header.seq;
            if sequence > last {
                return ControlFlow::Break(());
            }
            let View::Other(record) = view else { return ControlFlow::Continue(()) };
            let place = Place { segment: at.segment, offset: at.offset, sequence };
            let change = Change::of(&record, place).filter(|_| sequence > after);
            if change.is_none_or(|change| each(sequence, change)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        read.map(drop).map_err(|error| IndexError::Log(error.to_string()))
    }

    fn has_moved_on(&self, shard: u16) -> bool {
        let Some(oldest) = self.shards.get(usize::from(shard)).and_then(|log| log.oldest) else {
            return false;
        };
        let entries = self.disk.list(&self.log(shard).folder).unwrap_or_default();
        !entries.iter().any(|entry| segment_of_name(&entry.name) == Some(oldest))
    }
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs")
            .field("epoch", &self.manifest.epoch)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

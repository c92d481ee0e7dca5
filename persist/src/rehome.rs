//! Another number of shards: every session and every retained message is written into the log of its new home.
//!
//! A new epoch of logs is written beside the old one; the manifest then names the new one, in one step; then the old one is
//! removed. A crash before that step leaves the old epoch, after it the new one.

use std::sync::Arc;

use crate::config::{Options, SyncMode};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::catalog::{Catalog, Place};
use crate::log::recovery::{LogRead, Mend, read_log};
use crate::log::segment::{LogId, epoch_folder};
use crate::manifest::Manifest;
use crate::open::{ShardRead, begin_log, new_epoch, read_logs};
use crate::record::decode::{PublishedView, View};
use crate::record::{Message, MessageId, Published, Receiver, Record, Session};
use crate::report::{Phase, Progress, Report};
use crate::state::State;
use crate::store::Store;
use crate::sync::{Backstage, DiskSide};

/// Writes a new epoch for `options.shard_count` shards and makes it the one that holds. Session numbers stay; names of messages
/// move up by all the names of the old shards before, so that each session's order stays.
///
/// # Errors
/// See [`OpenError`]; the old epoch holds then.
pub(crate) fn rehome(
    disk: &Arc<dyn Disk>,
    old: &Manifest,
    options: &Options,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, OpenError> {
    let old_logs: Vec<_> = (0..old.shard_count).map(|shard| LogId::new(old.epoch, old.key, shard)).collect();
    let mut shards = read_logs(&**disk, &old_logs, options.sync_mode, progress)?;
    let session_max = shards.iter().map(ShardRead::session_max).max().unwrap_or(0);
    let message_max = shards.iter().map(ShardRead::message_max).sum();
    let manifest = new_epoch(&**disk, old.epoch + 1, options.shard_count)?;
    let mut homes = Homes::begin(disk, &manifest, options, session_max, message_max)?;
    let total_bytes = shards.iter().map(|shard| shard.read.bytes).sum();
    let mut done_bytes = 0;
    let mut shift = 0;
    for (log, shard) in old_logs.iter().zip(&mut shards) {
        let next_shift = shift + shard.message_max();
        homes.move_shard(&**disk, log, shard, shift)?;
        shift = next_shift;
        done_bytes += shard.read.bytes;
        progress(Progress { phase: Phase::Rehoming, done_bytes, total_bytes });
        // What reading has found is told once: the new epoch is read again, and is sound.
        report.torn.extend(shard.read.torn.take());
        report.damaged.append(&mut shard.read.damaged);
    }
    homes.sync()?;
    manifest.write(&**disk)?;
    let folder = epoch_folder(old.epoch);
    disk.remove(&folder).map_err(OpenError::io("remove", &folder))?;
    Ok(manifest)
}

/// The logs of the new epoch while they are written.
struct Homes<'a> {
    options: &'a Options,
    stores: Vec<Store>,
}

impl<'a> Homes<'a> {
    fn begin(
        disk: &Arc<dyn Disk>,
        manifest: &Manifest,
        options: &'a Options,
        session_max: u64,
        message_max: u64,
    ) -> Result<Self, OpenError> {
        let quiet =
            Options { sync_mode: SyncMode::Manual, quota_bytes: None, index: None, ..options.clone() };
        let mut stores = Vec::new();
        for shard in 0..manifest.shard_count {
            let log = LogId::new(manifest.epoch, manifest.key, shard);
            let backstage = Backstage::manual(DiskSide::new(Arc::clone(disk), log));
            let empty =
                ShardRead { state: State::default(), catalog: Catalog::default(), read: LogRead::default() };
            let log = begin_log(backstage, empty, session_max, message_max, &quiet)?;
            stores.push(Store::new(log, 0));
        }
        Ok(Self { options, stores })
    }

    fn move_shard(
        &mut self,
        disk: &dyn Disk,
        log: &LogId,
        shard: &mut ShardRead,
        shift: u64,
    ) -> Result<(), OpenError> {
        let sessions = shard.state.take_sessions();
        shard.count_holders(&sessions);
        let mut result = Ok(());
        read_log(disk, log, Mend::No, &mut |at, view| {
            if let View::Published(view) = view
                && result.is_ok()
                && shard.catalog.place(view.id()) == Some(Place { segment: at.segment, offset: at.offset })
            {
                result = self.move_message(view, &sessions, shift);
            }
        })?;
        result?;
        for session in sessions {
            let home = (self.options.client_home)(&session.client_id, self.options.shard_count);
            self.write(home, &Record::Session(Box::new(shifted(*session, shift))))?;
        }
        for message in shard.state.take_retained() {
            let home = (self.options.topic_home)(&message.topic, self.options.shard_count);
            self.write(home, &Record::Retained(Box::new(message)))?;
        }
        Ok(())
    }

    /// Writes a message into the log of every shard where somebody still needs it.
    fn move_message(
        &mut self,
        view: PublishedView<'_>,
        sessions: &[Box<Session>],
        shift: u64,
    ) -> Result<(), OpenError> {
        let published = view.to_published();
        let mut holders: Vec<(u16, usize, Receiver)> = Vec::new();
        for (index, receiver) in published.receivers.iter().enumerate() {
            let Ok(at) = sessions.binary_search_by_key(&receiver.session, |session| session.session) else {
                continue;
            };
            if let Some(packet_id) = held(&sessions[at], published.id) {
                let home = (self.options.client_home)(&sessions[at].client_id, self.options.shard_count);
                holders.push((home, index, Receiver { packet_id, ..*receiver }));
            }
        }
        holders.sort_by_key(|(home, index, _)| (*home, *index));
        let message = &published.message;
        for group in holders.chunk_by(|one, other| one.0 == other.0) {
            let record = published_for(&published, message, group, shift);
            self.write(group[0].0, &Record::Published(Box::new(record)))?;
        }
        Ok(())
    }

    fn write(&mut self, home: u16, record: &Record) -> Result<(), OpenError> {
        let store = self.stores.get_mut(usize::from(home));
        let store = store.expect("a home is below the number of shards that it was asked with");
        store.write(record).map_err(|source| OpenError::Append { source })?;
        Ok(())
    }

    fn sync(self) -> Result<(), OpenError> {
        self.stores
            .into_iter()
            .try_for_each(|mut store| store.sync_now())
            .map_err(|source| OpenError::Append { source })
    }
}

/// The packet identifier under which a session has a message, 0 if it waits; `None` if it needs it no more.
fn held(session: &Session, id: MessageId) -> Option<u16> {
    if session.queue.binary_search(&id).is_ok() {
        return Some(0);
    }
    session.outgoing.iter().find(|out| out.message == Some(id)).map(|out| out.packet_id)
}

fn published_for(
    published: &Published,
    message: &Message,
    group: &[(u16, usize, Receiver)],
    shift: u64,
) -> Published {
    let new_index = |old: u32| {
        let at = group.iter().position(|(_, index, _)| u32::try_from(*index) == Ok(old))?;
        u32::try_from(at).ok()
    };
    Published {
        id: MessageId(published.id.0 + shift),
        message: message.clone(),
        receivers: group.iter().map(|(_, _, receiver)| *receiver).collect(),
        subscription_ids: published
            .subscription_ids
            .iter()
            .filter_map(|(index, identifier)| Some((new_index(*index)?, *identifier)))
            .collect(),
        groups: published
            .groups
            .iter()
            .filter_map(|(index, name)| Some((new_index(*index)?, name.clone())))
            .collect(),
        arrived: None,
    }
}

fn shifted(mut session: Session, shift: u64) -> Session {
    let shift_id = |id: &mut MessageId| id.0 += shift;
    session.queue.iter_mut().for_each(shift_id);
    session.outgoing.iter_mut().filter_map(|out| out.message.as_mut()).for_each(shift_id);
    session
}

//! The broker's process: boots from what the disk holds, stops, is killed, loses its power.

use std::sync::Arc;

use dunlin_persist::{AppendError, OpenError, Opened, Recovered, Store};
use dunlin_shard::home::{shard_of_client, shard_of_topic};
use dunlin_shard::{Actions, Control, Durability, Hooks, Setup, ShardCore, ShardId};

use super::{Fall, Input, Item, NS_PER_MS, Shard, ShardLog, World};
use crate::log::Moment;

/// Whether the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It does not; a boot is on the agenda.
    Down,
    /// It does.
    Up,
    /// It was asked to stop gracefully.
    Stopping,
}

impl World {
    /// Whether connections are taken.
    pub(crate) fn is_up(&self) -> bool {
        self.process == Process::Up
    }

    /// Shards of the process that runs.
    pub(crate) fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("few shards")
    }

    // ---- the beginning

    /// The process starts.
    pub(super) fn boot(&mut self) {
        if self.process != Process::Down {
            return;
        }
        self.boots += 1;
        let shard_count = self.draw_shard_count();
        let Some(opened) = self.open_logs(shard_count) else { return };
        self.process = Process::Up;
        self.stopped_count = 0;
        let config = Arc::new(self.canary.config(&self.plan.config));
        for (index, log) in (0..shard_count).zip(opened) {
            let mut core = ShardCore::new(Setup {
                shard: ShardId(index),
                shard_count,
                config: Arc::clone(&config),
                hooks: Hooks::default(),
                seed: self.seed ^ (self.boots - 1),
            });
            let log = log.map(|(store, recovered)| {
                self.restore(&mut core, index, shard_count, recovered);
                ShardLog::new(store)
            });
            self.shards.push(Shard {
                core,
                inbox: std::collections::VecDeque::new(),
                slots: Vec::new(),
                tick_planned: false,
                timer_at: None,
                stopped: false,
                log,
            });
        }
        self.begin_shards();
    }

    /// The first words of the cores, when all are there.
    fn begin_shards(&mut self) {
        let now = self.clocks();
        for index in 0..self.shards.len() {
            if self.shards[index].log.is_some() {
                let mut actions = Actions::default();
                self.shards[index].core.finish_restore(now, &mut actions);
                self.act(index, actions, &[]);
                self.plan_timer(index);
                self.push(index, Input::Wake);
            }
        }
    }

    fn draw_shard_count(&mut self) -> u16 {
        if let Some(storage) = &mut self.storage
            && storage.plan.reshards
            && self.boots > 1
            && storage.rng.chance(60)
        {
            return storage.rng.count(1, 4).try_into().expect("at most 4");
        }
        self.last_shard_count
    }

    /// One entry per shard; `None` if the process could not start and tries again later.
    fn open_logs(&mut self, shard_count: u16) -> Option<Vec<Option<(Store, Recovered)>>> {
        self.last_shard_count = shard_count;
        let now_ms = self.wall_ms();
        let Some(storage) = self.storage.as_mut().filter(|storage| storage.is_used()) else {
            return Some((0..shard_count).map(|_| None).collect());
        };
        let options = storage.options(shard_count, now_ms);
        if self.boots > 1 && storage.rng.chance(storage.plan.boot_cut_percent) {
            storage.cut_power_in_boot(&options);
            self.log.reported_loss |= storage.is_lying();
            self.mono_origin = self.now;
            self.log.note(format!("{} power cut in a boot", self.now));
            self.plan_boot();
            return None;
        }
        let failed_syncs = storage.disk.counts().failed_syncs;
        match storage.open(&options) {
            Ok(opened) => Some(self.take_logs(opened)),
            Err(error) => {
                let syncs_failed = storage.disk.counts().failed_syncs > failed_syncs;
                let is_full = storage.disk.counts().refused_files > 0;
                let excused = storage.is_lying()
                    || match &error {
                        OpenError::NoRoom { .. }
                        | OpenError::Append { source: AppendError::ReserveUsedUp, .. } => is_full,
                        OpenError::Io { .. } => syncs_failed || is_full,
                        OpenError::UnknownVersion { .. }
                        | OpenError::UnknownRecord { .. }
                        | OpenError::Manifest { .. }
                        | OpenError::Append { .. }
                        | OpenError::InUse { .. }
                        | _ => false,
                    };
                if storage.is_lying() {
                    // The operator begins with an empty disk.
                    storage.lose_all();
                }
                self.log.note(format!("{} boot refused: {error}", self.now));
                if !excused {
                    self.log.violation(format!("the process does not start: {error}"));
                }
                self.plan_at(self.now + 500 * NS_PER_MS, Item::RoomAgain);
                self.plan_at(self.now + 1_000 * NS_PER_MS, Item::Boot);
                None
            }
        }
    }

    /// Looks at what a boot found.
    fn take_logs(&mut self, opened: Opened) -> Vec<Option<(Store, Recovered)>> {
        let report = &opened.report;
        self.log.note(format!(
            "{} boot {} with {} shards: {report:?}",
            self.now,
            self.boots,
            opened.stores.len()
        ));
        if !report.damaged.is_empty() {
            if self.storage.as_ref().is_some_and(|storage| storage.is_damaged) {
                self.log.reported_loss = true;
            } else {
                self.log.violation(format!("damage reported on a sound disk: {:?}", report.damaged));
            }
        }
        opened.stores.into_iter().zip(opened.recovered).map(Some).collect()
    }

    fn restore(&mut self, core: &mut ShardCore, index: u16, shard_count: u16, recovered: Recovered) {
        let now = self.clocks();
        core.restore_ids(recovered.next_session, recovered.next_message);
        for session in recovered.sessions {
            self.log.note(format!("{} shard {index} restores {session:?}", self.now));
            if shard_of_client(&session.client_id, shard_count).0 != index {
                self.log.violation(format!("shard {index} of {shard_count} is given {session:?}"));
            }
            core.restore_session(*session, now);
        }
        for message in &recovered.retained {
            if shard_of_topic(&message.topic, shard_count).0 != index {
                self.log.violation(format!(
                    "shard {index} of {shard_count} is given retained {:?}",
                    message.topic
                ));
            }
            core.restore_retained(message);
        }
        for (session, packet_id) in recovered.taken {
            core.restore_taken(session, packet_id);
        }
    }

    fn plan_boot(&mut self) {
        let Some(storage) = &mut self.storage else { return };
        let most = if self.healed { 20 } else { storage.plan.down_ms_max };
        let at = self.now + storage.rng.between(1, most) * NS_PER_MS;
        self.plan_at(at, Item::Boot);
    }

    // ---- the end

    /// The host loses its power.
    pub(super) fn cut_power(&mut self) {
        let was = self.process;
        if was != Process::Down {
            self.fall(false, self.is_refusing());
        }
        if let Some(storage) = &mut self.storage {
            storage.cut_power();
            self.log.reported_loss |= storage.is_lying();
        }
        // The monotonic clock begins anew with the host.
        self.mono_origin = self.now;
        if was != Process::Down {
            self.plan_boot();
        }
    }

    /// The process is killed; the host goes on, and has not synced what was written.
    pub(super) fn kill(&mut self) {
        if self.process != Process::Down {
            self.fall(false, self.is_refusing());
            self.plan_boot();
        }
    }

    /// The operator stops the process gracefully.
    pub(super) fn restart(&mut self) {
        if self.process == Process::Up {
            self.control(|| Control::Stop);
            self.process = Process::Stopping;
            self.plan_at(self.now + STOP_MS_MAX * NS_PER_MS, Item::StopOver(self.boots));
        }
    }

    /// A shard has stopped; with the last one the process ends.
    pub(super) fn note_stopped(&mut self) {
        if self.process == Process::Stopping && self.stopped_count == self.shards.len() {
            self.plan_at(self.now, Item::StopOver(self.boots));
        }
    }

    /// A graceful stop is over, or should be.
    pub(super) fn stop_over(&mut self, boot: u64) {
        if self.process != Process::Stopping || boot != self.boots {
            return;
        }
        if self.stopped_count < self.shards.len() {
            self.log.violation(format!("{} of {} shards stopped", self.stopped_count, self.shards.len()));
        }
        let was_refusing = self.is_refusing();
        self.close_logs();
        self.fall(true, was_refusing);
        self.plan_boot();
    }

    /// Ends the process's logs gracefully, all that was appended being on the disk then.
    pub(super) fn close_logs(&mut self) {
        for index in 0..self.shards.len() {
            self.note_losses(index);
            let Some(log) = self.shards[index].log.take() else { continue };
            let had_failed = log.has_failed();
            let failed_syncs =
                |world: &Self| world.storage.as_ref().map_or(0, |storage| storage.disk.counts().failed_syncs);
            let before = failed_syncs(self);
            if let Err(error) = log.close()
                && !had_failed
                && failed_syncs(self) == before
            {
                self.log.violation(format!("shard {index} could not close its log: {error}"));
            }
        }
    }

    /// All of the process is gone: connections break, what was between the shards is lost.
    fn fall(&mut self, is_graceful: bool, was_refusing: bool) {
        let lost_since = self.unsafe_since();
        for index in 0..self.shards.len() {
            self.note_losses(index);
        }
        self.process = Process::Down;
        self.shards.clear();
        self.lanes.clear();
        self.agenda.retain(|_, item| match item {
            Item::Tick(_)
            | Item::Timer(_)
            | Item::Lane(..)
            | Item::ToServer(..)
            | Item::ServerEnd(_)
            | Item::Arrive(..)
            | Item::Disk(_)
            | Item::Commit(_)
            | Item::StopOver(_) => false,
            Item::ToClient(..)
            | Item::ClientEnd(_)
            | Item::Step(_)
            | Item::Trouble(_)
            | Item::Boot
            | Item::RoomAgain => true,
        });
        for link in 0..self.links.len() {
            // Also of a link whose end the shard had not seen yet: its slot is gone.
            self.links[link].at = None;
            if self.links[link].server_open || self.links[link].close_when_sent {
                let at = (self.now + self.latency()).max(self.links[link].to_client_at);
                let entry = &mut self.links[link];
                entry.server_open = false;
                entry.close_when_sent = false;
                entry.arrived.clear();
                entry.unsent.clear();
                self.plan_at(at, Item::ClientEnd(link));
            }
        }
        let level = self.plan.config.durability;
        if level == Durability::Interval
            && let Some(since) = lost_since
        {
            let until = self.log.moment();
            self.log.losses.push((since, until));
        }
        let at = self.log.moment();
        self.log.falls.push(at);
        let forgets_sessions = level == Durability::Memory;
        self.refusing_at = None;
        self.fallen.push(Fall { forgets_sessions, is_graceful, was_refusing });
    }

    /// When the first thing was said or recorded that is lost if the process ends now.
    fn unsafe_since(&self) -> Option<Moment> {
        let unsynced = self.shards.iter().filter_map(|shard| shard.log.as_ref()?.unsynced_since());
        let on_lanes = self.lanes.values().flat_map(|lane| lane.messages.iter().map(|(at, _)| *at));
        let in_boxes =
            self.shards.iter().flat_map(|shard| shard.inbox.iter()).filter_map(|input| match input {
                Input::Mesh { sent_at, .. } => Some(*sent_at),
                Input::Opened { .. }
                | Input::Arrived { .. }
                | Input::Bytes { .. }
                | Input::Sent { .. }
                | Input::Closed { .. }
                | Input::Control(_)
                | Input::Timer
                | Input::Wake => None,
            });
        unsynced.chain(on_lanes).chain(in_boxes).min()
    }

    /// After a graceful end of everything: what a last boot finds on the disk, power cut and all.
    pub(crate) fn check_last_boot(&mut self) {
        self.close_logs();
        self.shards.clear();
        self.process = Process::Down;
        let now_ms = self.wall_ms();
        let shard_count = self.last_shard_count;
        let Some(storage) = self.storage.as_mut().filter(|storage| storage.is_used()) else { return };
        storage.cut_power();
        let options = storage.options(shard_count, now_ms);
        match storage.open(&options) {
            Ok(opened) => {
                let (sessions, queued) = (opened.report.sessions, opened.report.queued);
                drop(self.take_logs(opened));
                if sessions + queued > 0 && !self.log.is_weak() {
                    self.log.violation(format!(
                        "all have left, but {sessions} sessions and {queued} messages are on the disk"
                    ));
                }
            }
            // A disk that lied may have lost the manifest: a clear refusal is all that is left.
            Err(error) if storage.is_lying() => self.log.note(format!("the last boot is refused: {error}")),
            Err(error) => self.log.violation(format!("the last boot fails: {error}")),
        }
    }
}

/// Virtual time within which a process stops gracefully.
const STOP_MS_MAX: u64 = 30_000;

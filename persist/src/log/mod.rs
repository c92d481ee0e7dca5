//! The append log of one shard: frames in segment files, written by one, synced in groups, cleaned from the oldest end.
//!
//! | file | noun |
//! |---|---|
//! | `frame.rs` | how a record stands in a segment (pure) |
//! | `segment.rs` | a segment file, its header, its making |
//! | `mapping.rs` | the map of a file; unsafe |
//! | `writer.rs` | the newest segment and the place for the next frame |
//! | `reader.rs` | frames read back |
//! | `catalog.rs` | what is known of each segment, and where each message stands |
//! | `supply.rs` | segments made ready ahead |
//! | `room.rs` | spare segments taken, made and used again; a log that is full |
//! | `cleaning.rs` | the oldest segment read, and when it is time for that |
//! | `oldest.rs` | its records offered, its file given back |
//! | `recovery.rs` | a whole log as a boot finds it |

pub(crate) mod catalog;
pub(crate) mod cleaning;
pub(crate) mod frame;
#[cfg(feature = "files")]
pub(crate) mod mapping;
mod oldest;
pub(crate) mod reader;
pub(crate) mod recovery;
mod room;
pub(crate) mod segment;
pub(crate) mod supply;
pub(crate) mod writer;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::config::Waker;
use crate::disk::DiskFile;
use crate::error::AppendError;
use crate::index::{self, Feed};
use crate::metrics::StoreMetrics;
use crate::record::encode::Encoded;
use crate::record::{MessageId, Record};
use crate::sync::{Backstage, Job, Outcome, Reach};
use crate::told::{StoreState, Told};

use self::catalog::{Catalog, Place};
use self::cleaning::{Cleaning, Pace};
use self::frame::FLAG_MOVED;
use self::oldest::Retiring;
use self::segment::{Blank, SegmentHeader};
use self::supply::Supply;
use self::writer::{Numbers, Writer};

/// One shard's log. Owned by the shard's store, on its thread; nothing here blocks but a roll that outruns the disk.
pub(crate) struct Log {
    /// The other side: what blocks.
    pub backstage: Backstage,
    /// What to call when the other side has something.
    pub waker: Option<Waker>,
    /// Counters.
    pub metrics: StoreMetrics,
    catalog: Catalog,
    writer: Writer,
    supply: Supply,
    pace: Pace,
    cleaning: Option<Cleaning>,
    /// The last cleaned segment was worth it: less than half of it was said again.
    is_worthwhile: bool,
    /// Cleaned segments, each free once the frame with this number is on the disk.
    retiring: VecDeque<Retiring>,
    /// Sealed segments with frames that are not known to be on the disk.
    unsynced: Vec<Arc<dyn DiskFile>>,
    /// The last frame written.
    appended_seq: u64,
    /// The last frame on the disk.
    durable_seq: u64,
    /// The last frame before this run: the core's records count from there.
    base_seq: u64,
    /// Answers that came while a roll waited.
    pub fetched: VecDeque<Outcome>,
    /// The last frame that a sync was asked for.
    asked_seq: u64,
    /// How far the next sync of the newest segment reaches.
    reach: Arc<Reach>,
    /// Syncs that were asked for and are not known to be done.
    sync_count: u32,
    /// What is appended answers a record that was offered for cleaning.
    is_moving: bool,
    state: StoreState,
    failure: Option<String>,
    session_max: u64,
    message_max: u64,
    segment_bytes: u64,
    full_polls: u32,
    /// Whether cleaning is due is looked at again when so much has been appended.
    next_look_bytes: u64,
    /// Tells the index, if there is one.
    feed: Option<Feed>,
}

/// Everything a log begins with.
pub(crate) struct Beginning {
    /// The other side.
    pub backstage: Backstage,
    /// Segments that hold frames, from recovery.
    pub catalog: Catalog,
    /// The segment to write into.
    pub blank: Blank,
    /// Where further segments come from.
    pub supply: Supply,
    /// The last frame that recovery found.
    pub last_seq: u64,
    /// The highest count in any session number seen.
    pub session_max: u64,
    /// The highest message name seen.
    pub message_max: u64,
    /// Length of a segment.
    pub segment_bytes: u64,
    /// Files of that length that can be made spare segments.
    pub leftovers: Vec<u64>,
    /// The way to the index, if there is one.
    pub feed: Option<Feed>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("writer", &self.writer)
            .field("appended_seq", &self.appended_seq)
            .field("durable_seq", &self.durable_seq)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Begins a segment behind what recovery found.
    pub(crate) fn begin(beginning: Beginning) -> Self {
        let Beginning { backstage, mut catalog, blank, supply, .. } = beginning;
        let header = SegmentHeader {
            segment: blank.segment,
            first_seq: beginning.last_seq + 1,
            next_session: beginning.session_max + 1,
            next_message: beginning.message_max + 1,
        };
        catalog.begin(blank.segment, blank.file.bytes());
        let writer = Writer::begin(&backstage.side().log, blank, &header);
        let mut log = Self {
            writer,
            backstage,
            waker: None,
            metrics: StoreMetrics::default(),
            catalog,
            supply,
            pace: Pace::new(beginning.segment_bytes),
            cleaning: None,
            is_worthwhile: true,
            retiring: VecDeque::new(),
            unsynced: Vec::new(),
            appended_seq: beginning.last_seq,
            durable_seq: beginning.last_seq,
            base_seq: beginning.last_seq,
            fetched: VecDeque::new(),
            asked_seq: beginning.last_seq,
            reach: Arc::default(),
            sync_count: 0,
            is_moving: false,
            state: StoreState::Open,
            failure: None,
            session_max: beginning.session_max,
            message_max: beginning.message_max,
            segment_bytes: beginning.segment_bytes,
            full_polls: 0,
            next_look_bytes: 0,
            feed: beginning.feed,
        };
        log.note_used();
        beginning.leftovers.into_iter().for_each(|leftover| log.reuse(leftover));
        log.replenish();
        log
    }

    /// Whether a sync is under way.
    pub(crate) fn is_syncing(&self) -> bool {
        self.sync_count > 0
    }

    /// Whether it takes what is new.
    pub(crate) fn state(&self) -> StoreState {
        self.state
    }

    /// Why it failed or is full.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref().or_else(|| match self.state {
            StoreState::Full => self.supply.trouble(),
            StoreState::Open | StoreState::Failed => None,
        })
    }

    /// The last of the core's records that was appended.
    pub(crate) fn appended(&self) -> u64 {
        self.appended_seq - self.base_seq
    }

    /// The last of the core's records that is on the disk.
    pub(crate) fn stored(&self) -> u64 {
        self.durable_seq.saturating_sub(self.base_seq)
    }

    /// From now on records count from 1: what was appended so far is the log's own.
    pub(crate) fn count_from_here(&mut self) {
        self.base_seq = self.appended_seq;
    }

    /// Where a message stands.
    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.catalog.place(id)
    }

    /// Appends a record that is already encoded.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub(crate) fn append(
        &mut self,
        record: &Record,
        encoded: &Encoded<'_>,
        told: &mut VecDeque<Told>,
    ) -> Result<(), AppendError> {
        if self.state == StoreState::Failed {
            return Err(AppendError::Failed);
        }
        let body_bytes = encoded.archive.len() + encoded.payload.len();
        if !self.writer.has_room(body_bytes) {
            self.roll(body_bytes, told)?;
        }
        let flags = if self.is_moving { FLAG_MOVED } else { 0 };
        let numbers = Numbers { seq: self.appended_seq + 1, durable_seq: self.durable_seq, flags };
        let (offset, bytes) = self.writer.write(encoded, numbers);
        self.appended_seq += 1;
        if let Some(feed) = &mut self.feed {
            feed.note(record, index::Place { segment: self.writer.number(), offset, sequence: numbers.seq });
        }
        self.account(record, offset, bytes);
        Ok(())
    }

    /// Asks for a sync of what is not on the disk, unless one waits to begin: that takes it along.
    pub(crate) fn commit(&mut self) {
        self.pace.note_commit();
        if self.asked_seq == self.appended_seq || self.state == StoreState::Failed {
            return;
        }
        self.asked_seq = self.appended_seq;
        if self.reach.extend(self.appended_seq) {
            let sealed = mem::take(&mut self.unsynced).into_iter();
            let files = sealed.chain([Arc::clone(self.writer.file())]).collect();
            self.sync_count += 1;
            self.backstage.ask(Job::Sync { files, reach: Arc::clone(&self.reach) }, self.waker.as_ref());
        }
    }

    /// Takes one outcome of the other side and tells what follows. Fetched messages are handed back.
    pub(crate) fn take_outcome(&mut self, outcome: Outcome, told: &mut VecDeque<Told>) -> Option<Outcome> {
        match outcome {
            Outcome::Synced { upto, error: None, micros } => self.finish_sync(upto, micros, told),
            Outcome::Synced { error: Some(error), .. } => {
                self.sync_count = self.sync_count.saturating_sub(1);
                // Those that waited behind it were not tried.
                self.metrics.sync_failures += u64::from(self.state != StoreState::Failed);
                let reason = format!(
                    "a sync of the log failed ({error}); what the disk has since is not known, so nothing more is \
                     acknowledged. Check the disk, then start again"
                );
                self.fail(reason, told);
            }
            Outcome::Prepared(made) => {
                if let Some(late) = self.supply.note_made(made) {
                    self.hand_back(late);
                }
                self.replenish();
                self.update_state(told);
            }
            Outcome::Removed(removed) => {
                // A file that stays is found at the next boot, and cleaned again.
                self.metrics.remove_failures += u64::from(removed.is_err());
                self.supply.try_again();
                self.replenish();
                self.update_state(told);
            }
            Outcome::Scanned(scanned) => {
                if let Some(cleaning) = &mut self.cleaning
                    && cleaning.segment == scanned.segment
                {
                    cleaning.is_reading = false;
                    cleaning.next = scanned.next;
                    cleaning.records.extend(scanned.records);
                    self.metrics.unreadable_bytes += scanned.unreadable_bytes;
                }
            }
            fetched @ Outcome::Fetched { .. } => return Some(fetched),
        }
        None
    }

    /// Counters and gauges as of now.
    pub(crate) fn metrics(&self) -> StoreMetrics {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        StoreMetrics {
            segments: count(self.catalog.segments().len() + self.retiring.len()),
            spare_segments: count(self.supply.ready_count()),
            disk_bytes: self.held_bytes() + self.supply.bytes(),
            live_bytes: self.pace.live_bytes(self.catalog.live_bytes()),
            messages: self.catalog.message_count(),
            index_stopped: self.feed.as_ref().is_some_and(Feed::has_stopped).into(),
            ..self.metrics.clone()
        }
    }

    fn account(&mut self, record: &Record, offset: u64, bytes: u64) {
        self.metrics.appended_records += 1;
        self.metrics.appended_bytes += bytes;
        if self.is_moving {
            self.metrics.moved_bytes += bytes;
            if let Some(cleaning) = &mut self.cleaning {
                cleaning.moved_bytes += bytes;
            }
        } else {
            self.pace.note_appended(bytes);
        }
        match record {
            Record::Published(published) => {
                self.message_max = self.message_max.max(published.id.0);
                let holders = u32::try_from(published.receivers.len()).unwrap_or(u32::MAX);
                self.catalog.add_published(published.id, offset, bytes, holders);
            }
            Record::Done { messages, .. } => messages.iter().for_each(|id| self.catalog.release(*id)),
            Record::Received { message, .. } => {
                self.catalog.release(*message);
                self.catalog.add_state(bytes);
            }
            Record::Session(session) => {
                self.session_max = self.session_max.max(session.session.count());
                self.catalog.add_state(bytes);
            }
            Record::Attached(attached) => {
                self.session_max = self.session_max.max(attached.session.count());
                self.catalog.add_state(bytes);
            }
            Record::Detached { .. }
            | Record::Subscribed { .. }
            | Record::Sent { .. }
            | Record::Arrived { .. }
            | Record::Retained(_) => self.catalog.add_state(bytes),
            Record::SessionEnded { .. }
            | Record::WillGone { .. }
            | Record::Unsubscribed { .. }
            | Record::Completed { .. }
            | Record::Released { .. }
            | Record::RetainedCleared { .. } => {}
        }
        self.note_used();
    }

    fn note_used(&mut self) {
        let used_bytes = self.writer.used_bytes();
        if let Some(segment) = self.catalog.last_mut() {
            segment.used_bytes = used_bytes;
        }
    }

    /// Begins the next segment. The old one is synced with the next group.
    fn roll(&mut self, body_bytes: usize, told: &mut VecDeque<Told>) -> Result<(), AppendError> {
        let needed =
            u64::try_from(frame::frame_bytes(body_bytes) + segment::SEGMENT_HEADER_BYTES).unwrap_or(u64::MAX);
        let blank = if needed > self.segment_bytes { self.make_large(needed) } else { self.take_spare(told) };
        let Some(blank) = blank else {
            self.fail("the disk is full and the log's reserve is used up".to_owned(), told);
            return Err(AppendError::ReserveUsedUp);
        };
        let header = SegmentHeader {
            segment: blank.segment,
            first_seq: self.appended_seq + 1,
            next_session: self.session_max + 1,
            next_message: self.message_max + 1,
        };
        self.catalog.begin(blank.segment, blank.file.bytes());
        let next = Writer::begin(&self.backstage.side().log, blank, &header);
        let sealed = mem::replace(&mut self.writer, next);
        self.unsynced.push(Arc::clone(sealed.file()));
        // A sync that waits knows nothing of the new segment.
        self.reach = Arc::default();
        self.is_worthwhile = true;
        self.note_used();
        self.replenish();
        self.update_state(told);
        Ok(())
    }

    fn finish_sync(&mut self, upto: u64, micros: u64, told: &mut VecDeque<Told>) {
        self.sync_count = self.sync_count.saturating_sub(1);
        if self.state == StoreState::Failed {
            return;
        }
        self.metrics.syncs += 1;
        self.metrics.sync_us.add(micros);
        self.metrics.group_records.add(upto - self.durable_seq);
        self.durable_seq = upto;
        if let Some(feed) = &mut self.feed {
            feed.note_stored(upto);
        }
        if self.stored() > 0 {
            told.push_back(Told::Stored { seq: self.stored() });
        }
        self.free_retiring();
    }

    fn fail(&mut self, reason: String, told: &mut VecDeque<Told>) {
        if self.state != StoreState::Failed {
            self.state = StoreState::Failed;
            self.failure = Some(reason);
            told.push_back(Told::State(StoreState::Failed));
        }
    }
}

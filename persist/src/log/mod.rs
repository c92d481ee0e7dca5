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
//! | `cleaning.rs` | the oldest segment, read and freed |
//! | `recovery.rs` | a whole log as a boot finds it |

pub(crate) mod catalog;
pub(crate) mod cleaning;
pub(crate) mod frame;
#[cfg(feature = "files")]
pub(crate) mod mapping;
pub(crate) mod reader;
pub(crate) mod recovery;
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
use crate::limits::{CLEANING_LOOK_BYTES, FULL_RETRY_POLLS, SPARE_COUNT};
use crate::metrics::StoreMetrics;
use crate::record::encode::Encoded;
use crate::record::{MessageId, Record};
use crate::sync::{Backstage, Job, Outcome, Reach};
use crate::told::{StoreState, Told};

use self::catalog::{Catalog, Place};
use self::cleaning::{Cleaning, Pace};
use self::frame::FLAG_MOVED;
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

#[derive(Clone, Copy, Debug)]
struct Retiring {
    segment: u64,
    disk_bytes: u64,
    free_after_seq: u64,
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

    /// What was appended since the last call answered the last record; offers the next one.
    pub(crate) fn next_reclaimable(&mut self) -> Option<Record> {
        self.is_moving = false;
        if self.state == StoreState::Failed {
            return None;
        }
        if self.cleaning.is_none() {
            self.begin_cleaning();
        }
        loop {
            let cleaning = self.cleaning.as_mut()?;
            if !self.pace.has_credit() {
                return None;
            }
            let Some(scanned) = cleaning.records.pop_front() else {
                self.read_on();
                return None;
            };
            self.pace.pay(scanned.bytes);
            let segment = cleaning.segment;
            if let Record::Published(published) = &scanned.record
                && self.catalog.place(published.id) != Some(Place { segment, offset: scanned.offset })
            {
                // Nobody waits for the message, but its publisher's identifier may still wait for PUBREL.
                let Some((session, packet_id)) = published.arrived else { continue };
                self.is_moving = true;
                return Some(Record::Arrived { session, packet_id });
            }
            self.is_moving = true;
            return Some(scanned.record);
        }
    }

    /// Nothing is appended for a while: a log that is longer than it should be is cleaned on, as long as that makes it shorter. Whether
    /// there is more to do.
    pub(crate) fn note_rest(&mut self) -> bool {
        if self.state == StoreState::Failed || !self.is_worthwhile {
            return false;
        }
        if self.cleaning.is_none() {
            self.next_look_bytes = 0;
            self.begin_cleaning();
        }
        self.pace.note_rest();
        self.cleaning.is_some()
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

    /// A segment that was made ahead; waits for one that is being made.
    fn take_spare(&mut self, told: &mut VecDeque<Told>) -> Option<Blank> {
        loop {
            if let Some(blank) = self.supply.take() {
                return Some(blank);
            }
            self.metrics.waited_rolls += 1;
            if !self.supply.is_making() {
                self.supply.try_again();
                self.replenish();
                if !self.supply.is_making() {
                    return None;
                }
            }
            while self.supply.is_making() && self.supply.ready_count() == 0 {
                let outcome = self.backstage.wait()?;
                // Only fetched messages come back; the store takes them later.
                let fetched = self.take_outcome(outcome, told);
                self.fetched.extend(fetched);
            }
            if self.supply.ready_count() == 0 {
                return None;
            }
        }
    }

    /// A segment for one record that is longer than a segment. Made on the spot: the one case in which a shard waits for a file.
    fn make_large(&mut self, bytes: u64) -> Option<Blank> {
        let (number, overtaken) = self.supply.overtake();
        overtaken.into_iter().for_each(|blank| self.hand_back(blank));
        self.metrics.waited_rolls += 1;
        let side = self.backstage.side();
        Blank::make(&*side.disk, &side.log, number, bytes.next_multiple_of(4 << 10)).ok()
    }

    /// Makes a new spare of one that can no longer be used under its number.
    fn hand_back(&mut self, blank: Blank) {
        let segment = blank.segment;
        drop(blank);
        self.reuse(segment);
    }

    /// Makes a spare of a file that is needed no more, or removes it.
    fn reuse(&mut self, segment: u64) {
        let job = match self.supply.next_to_make(self.held_bytes()) {
            Some(number) => {
                Job::Prepare { segment: number, bytes: self.segment_bytes, recycle: Some(segment) }
            }
            None => Job::Remove { segment },
        };
        self.backstage.ask(job, self.waker.as_ref());
    }

    /// Asks for spare segments until there are enough or there is trouble.
    fn replenish(&mut self) {
        while self.supply.trouble().is_none()
            && let Some(segment) = self.supply.next_to_make(self.held_bytes())
        {
            let job = Job::Prepare { segment, bytes: self.segment_bytes, recycle: None };
            self.backstage.ask(job, self.waker.as_ref());
        }
    }

    /// Bytes of segments that have begun.
    fn held_bytes(&self) -> u64 {
        self.catalog.disk_bytes() + self.retiring.iter().map(|retiring| retiring.disk_bytes).sum::<u64>()
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

    /// Gives back the files of cleaned segments whose records have all been said again on the disk.
    fn free_retiring(&mut self) {
        while let Some(retiring) = self.retiring.front().copied()
            && retiring.free_after_seq <= self.durable_seq
        {
            self.retiring.pop_front();
            self.metrics.reclaimed_bytes += retiring.disk_bytes;
            let segment = retiring.segment;
            if retiring.disk_bytes == self.segment_bytes {
                self.reuse(segment);
            } else {
                self.backstage.ask(Job::Remove { segment }, self.waker.as_ref());
            }
        }
    }

    fn begin_cleaning(&mut self) {
        let is_full = self.state == StoreState::Full;
        if !is_full && self.metrics.appended_bytes < self.next_look_bytes {
            return;
        }
        self.next_look_bytes = self.metrics.appended_bytes + CLEANING_LOOK_BYTES;
        let [oldest, ..] = self.catalog.segments().as_slices().0 else { return };
        if oldest.number == self.writer.number()
            || !self.pace.is_due(self.catalog.used_bytes(), self.catalog.live_bytes(), is_full)
        {
            return;
        }
        self.cleaning = Some(Cleaning {
            segment: oldest.number,
            end: oldest.used_bytes,
            next: FIRST_FRAME,
            records: VecDeque::new(),
            is_reading: false,
            counted_bytes: oldest.live_bytes(),
            moved_bytes: 0,
        });
    }

    /// Asks for the next piece of the segment that is being cleaned, or finishes it.
    fn read_on(&mut self) {
        let Some(cleaning) = &mut self.cleaning else { return };
        if cleaning.is_reading {
            return;
        }
        if cleaning.next < cleaning.end {
            cleaning.is_reading = true;
            let job = Job::Scan { segment: cleaning.segment, from: cleaning.next, end: cleaning.end };
            self.backstage.ask(job, self.waker.as_ref());
            return;
        }
        self.is_worthwhile = cleaning.moved_bytes < cleaning.end / 2;
        self.pace.note_cleaned(cleaning.counted_bytes, cleaning.moved_bytes);
        self.next_look_bytes = 0;
        self.cleaning = None;
        if let Some(cleaned) = self.catalog.take_oldest() {
            self.metrics.cleaned_segments += 1;
            self.retiring.push_back(Retiring {
                segment: cleaned.number,
                disk_bytes: cleaned.disk_bytes,
                free_after_seq: self.appended_seq,
            });
        }
        if self.durable_seq == self.appended_seq {
            self.free_retiring();
        }
    }

    /// A poll: a log that is full looks for room now and then.
    pub(crate) fn note_poll(&mut self, told: &mut VecDeque<Told>) {
        if self.state == StoreState::Full && !self.supply.is_making() {
            self.pace.note_commit();
            self.full_polls += 1;
            if self.full_polls >= FULL_RETRY_POLLS {
                self.full_polls = 0;
                self.supply.try_again();
                self.replenish();
            }
        }
        self.update_state(told);
    }

    /// Tells whether the log has become full, or is so no more.
    fn update_state(&mut self, told: &mut VecDeque<Told>) {
        let ready = self.supply.ready_count();
        let state = match self.state {
            StoreState::Failed => return,
            StoreState::Open if ready < SPARE_COUNT && self.supply.trouble().is_some() => StoreState::Full,
            StoreState::Full if ready >= SPARE_COUNT => StoreState::Open,
            StoreState::Open | StoreState::Full => return,
        };
        self.metrics.full_count += u64::from(state == StoreState::Full);
        self.state = state;
        told.push_back(Told::State(state));
    }

    fn fail(&mut self, reason: String, told: &mut VecDeque<Told>) {
        if self.state != StoreState::Failed {
            self.state = StoreState::Failed;
            self.failure = Some(reason);
            told.push_back(Told::State(StoreState::Failed));
        }
    }
}

/// Where the frames of a segment begin.
const FIRST_FRAME: u64 = 64;
const _: () = assert!(segment::SEGMENT_HEADER_BYTES == 64, "the first frame follows the header");

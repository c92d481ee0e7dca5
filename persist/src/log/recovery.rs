//! Reads a whole log as a boot finds it: which frames hold, where it ends, what is damaged.
//!
//! Frames are numbered without gaps, so a missing number is a hole. Every frame says which frame was known to be on the disk when it was
//! written. If a later frame says so of the first missing one, the disk has lost what it had: that is damage, and what stands
//! behind the hole is kept. If none does, the hole is where the last run was cut short: pages of an unfinished group reach the
//! disk in any order. Then the log ends there, and what stands behind was never acknowledged.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::log::frame::{HEADER_BYTES, Header};
use crate::log::reader::Reader;
use crate::log::segment::{Beginning, FORMAT, LogId, SEGMENT_HEADER_BYTES, SegmentHeader, segment_of_name};
use crate::record::decode::{DecodeError, View, decode};
use crate::report::{Damage, Torn};

/// What reading a log has found, apart from its records.
#[derive(Debug, Default)]
pub(crate) struct LogRead {
    /// Segments that hold frames, oldest first: number, length of the file, end of the frames.
    pub segments: Vec<ReadSegment>,
    /// Files that were made ready and hold nothing: number and length.
    pub blanks: Vec<(u64, u64)>,
    /// The highest number of any file; 0 if there is none.
    pub segment_max: u64,
    /// The first frame that was looked for; 0 if there is none.
    pub first_seq: u64,
    /// The last frame that holds.
    pub last_seq: u64,
    /// The highest that any segment's header says.
    pub next_session: u64,
    /// The highest that any segment's header says.
    pub next_message: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// The unfinished end, if there was one.
    pub torn: Option<Torn>,
    /// Damaged stretches.
    pub damaged: Vec<Damage>,
}

/// A segment that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadSegment {
    /// Its number.
    pub number: u64,
    /// Length of its file.
    pub disk_bytes: u64,
    /// Where its frames end.
    pub used_bytes: u64,
    /// The number of its last frame.
    pub last_seq: u64,
}

/// Where a record was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Number of the segment.
    pub segment: u64,
    /// Where the frame begins.
    pub offset: u64,
    /// Its header.
    pub header: Header,
}

/// Whether reading also mends: cuts the end, removes what is behind it, puts damaged bytes aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// For a boot.
    Yes,
    /// For tools that look at a directory, perhaps while a broker uses it.
    No,
}

/// Reads a log and shows each record that holds, in order.
///
/// # Errors
/// [`OpenError::Io`]; [`OpenError::UnknownVersion`] and [`OpenError::UnknownRecord`] for what a later program wrote.
pub(crate) fn read_log(
    disk: &dyn Disk,
    log: &LogId,
    mend: Mend,
    visit: &mut dyn FnMut(&At, View<'_>),
) -> Result<LogRead, OpenError> {
    let mut visit_all = |at: &At, view: View<'_>| {
        visit(at, view);
        ControlFlow::Continue(())
    };
    let mut reading = Reading::new(disk, log, mend);
    reading.open_files(0)?;
    reading.read_all(&mut visit_all)?;
    Ok(reading.read)
}

/// Reads a log from the segment on that has frame `from`, and changes nothing, until the callee breaks off. Costs a small read for each
/// older segment.
///
/// # Errors
/// As [`read_log`].
pub(crate) fn read_log_from(
    disk: &dyn Disk,
    log: &LogId,
    from: u64,
    visit: &mut dyn FnMut(&At, View<'_>) -> ControlFlow<()>,
) -> Result<LogRead, OpenError> {
    let mut reading = Reading::new(disk, log, Mend::No);
    reading.open_files(segment_of(disk, log, from)?)?;
    reading.read_all(visit)?;
    Ok(reading.read)
}

/// The segment in which frame `seq` stands, if any does; 0 if the headers do not tell.
fn segment_of(disk: &dyn Disk, log: &LogId, seq: u64) -> Result<u64, OpenError> {
    let mut found = 0;
    for entry in disk.list(&log.folder).map_err(OpenError::io("list", &log.folder))? {
        let Some(number) = segment_of_name(&entry.name) else { continue };
        let path = log.path(number);
        let file = disk.open(&path).map_err(OpenError::io("open", &path))?;
        let mut reader = Reader::new(file, log.seed(number)).with_window(SEGMENT_HEADER_BYTES);
        if read_header(log, number, &mut reader)?.is_some_and(|header| header.first_seq <= seq) {
            found = found.max(number);
        }
    }
    Ok(found)
}

struct Reading<'a> {
    disk: &'a dyn Disk,
    log: &'a LogId,
    mend: Mend,
    files: Vec<Segment>,
    read: LogRead,
    /// The number of the frame that comes next.
    expected: u64,
    /// The highest number that any frame says is on the disk.
    durable_max: u64,
    /// The callee has seen enough.
    is_broken_off: bool,
}

/// Hears of each record.
type Visit<'a> = &'a mut dyn FnMut(&At, View<'_>) -> ControlFlow<()>;

struct Segment {
    number: u64,
    /// Of its first frame; of the first that can be read, if its header is damaged.
    first_seq: u64,
    /// Its header is damaged, and so is what stood before that frame.
    is_beheaded: bool,
    file: Arc<dyn DiskFile>,
    reader: Reader,
}

impl Segment {
    /// The frame that a log begins with whose first segment this is. If its beginning is lost, nobody knows how much was there: one frame at
    /// least, and all from the first on if nothing was ever before it.
    fn begins_with(&self) -> u64 {
        match (self.is_beheaded, self.number) {
            (false, _) => self.first_seq,
            (true, 1) => 1,
            (true, _) => self.first_seq.saturating_sub(1).max(1),
        }
    }

    /// Writes what stands there already.
    fn write_again(&mut self, from: u64, to: u64) -> std::io::Result<()> {
        let mut at = from;
        while at < to {
            let piece = usize::try_from((to - at).min(PIECE_BYTES)).unwrap_or_default();
            let bytes = self.reader.view(at, piece).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            self.file.write_at(at, bytes)?;
            at += u64::try_from(piece).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

/// Bytes that are read and written at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// A place in the log: index of the file and offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    index: usize,
    offset: u64,
}

/// What stands behind a hole.
struct Behind {
    /// The next sound frame.
    next: Option<(Cursor, Header)>,
    /// How many sound frames there are.
    count: u64,
    /// Whether one of them says that the first missing frame was on the disk.
    is_damage: bool,
}

const FIRST: u64 = 64;
const _: () = assert!(SEGMENT_HEADER_BYTES == 64, "the first frame follows the header");

impl<'a> Reading<'a> {
    fn new(disk: &'a dyn Disk, log: &'a LogId, mend: Mend) -> Self {
        let (files, read) = (Vec::new(), LogRead::default());
        Self { disk, log, mend, files, read, expected: 1, durable_max: 0, is_broken_off: false }
    }

    /// Opens the files of this segment and all later ones.
    fn open_files(&mut self, from: u64) -> Result<(), OpenError> {
        let entries = self.disk.list(&self.log.folder).map_err(OpenError::io("list", &self.log.folder))?;
        for entry in entries {
            let Some(number) = segment_of_name(&entry.name).filter(|number| *number >= from) else {
                continue;
            };
            self.read.segment_max = self.read.segment_max.max(number);
            let path = self.log.path(number);
            let file = self.disk.open(&path).map_err(OpenError::io("open", &path))?;
            let mut reader = Reader::new(Arc::clone(&file), self.log.seed(number));
            let header = read_header(self.log, number, &mut reader)?;
            if let Some(header) = header {
                self.read.next_session = self.read.next_session.max(header.next_session);
                self.read.next_message = self.read.next_message.max(header.next_message);
            }
            let first = match header {
                Some(header) => Some((FIRST, header.first_seq)),
                None => reader.find(FIRST, 1..u64::MAX).map(|(offset, header)| (offset, header.seq)),
            };
            reader.rest();
            match first {
                Some((offset, first_seq)) => {
                    let is_beheaded = offset > FIRST;
                    self.files.push(Segment { number, first_seq, is_beheaded, file, reader });
                }
                None => self.read.blanks.push((number, entry.bytes)),
            }
        }
        Ok(())
    }

    fn read_all(&mut self, visit: Visit<'_>) -> Result<(), OpenError> {
        let mut cursor = Cursor { index: 0, offset: FIRST };
        self.expected = self.files.first().map_or(1, Segment::begins_with);
        self.read.first_seq = self.files.first().map_or(0, Segment::begins_with);
        loop {
            cursor = self.read_sound(cursor, visit)?;
            if cursor.index >= self.files.len() || self.is_broken_off {
                break;
            }
            if self.is_complete(cursor.index) {
                self.files[cursor.index].reader.rest();
                self.note_segment(cursor, self.expected.saturating_sub(1));
                cursor = Cursor { index: cursor.index + 1, offset: FIRST };
                continue;
            }
            let behind = self.look_behind(cursor);
            match behind.next {
                Some((next, header)) if behind.is_damage => {
                    self.note_damage(cursor, next, header.seq)?;
                    (cursor.index..next.index).for_each(|index| self.note_passed(index, cursor));
                    self.expected = header.seq;
                    cursor = next;
                }
                _ => {
                    self.end_at(cursor, behind.count)?;
                    break;
                }
            }
        }
        self.read.last_seq = self.expected.saturating_sub(1);
        if self.mend == Mend::Yes { self.renew_unproven() } else { Ok(()) }
    }

    /// The first number that is not this segment's, as far as the next one says.
    fn limit(&self, index: usize) -> u64 {
        self.files.get(index + 1).map_or(u64::MAX, |next| next.first_seq)
    }

    fn is_complete(&self, index: usize) -> bool {
        self.expected == self.limit(index)
    }

    /// Shows the frames from here on, as long as they are sound and in order. Returns where that ends.
    fn read_sound(&mut self, mut cursor: Cursor, visit: Visit<'_>) -> Result<Cursor, OpenError> {
        let limit = self.limit(cursor.index);
        let Some(segment) = self.files.get_mut(cursor.index) else { return Ok(cursor) };
        while self.expected < limit && !self.is_broken_off {
            let Some(sound) = segment.reader.frame(cursor.offset) else { break };
            let header = sound.header;
            if header.seq != self.expected {
                break;
            }
            let at = At { segment: segment.number, offset: cursor.offset, header };
            match decode(header.kind, header.version, sound.archive, sound.payload) {
                Ok(view) => self.is_broken_off = visit(&at, view).is_break(),
                Err(DecodeError::Unknown) => {
                    return Err(OpenError::UnknownRecord {
                        path: self.log.path(segment.number),
                        offset: cursor.offset,
                        kind: header.kind,
                        version: header.version,
                    });
                }
                Err(DecodeError::Damaged) => self.read.damaged.push(Damage {
                    path: self.log.path(segment.number),
                    offset: cursor.offset,
                    bytes: frame_bytes(&header),
                    lost_records: 1,
                    kept_as: None,
                }),
            }
            self.expected += 1;
            self.durable_max = self.durable_max.max(header.durable_seq);
            self.read.records += 1;
            self.read.bytes += frame_bytes(&header);
            cursor.offset += frame_bytes(&header);
        }
        Ok(cursor)
    }

    /// Looks at what is behind a hole until it is clear whether the hole is damage.
    fn look_behind(&mut self, hole: Cursor) -> Behind {
        let mut behind = Behind { next: None, count: 0, is_damage: false };
        let mut after = self.expected;
        for index in hole.index..self.files.len() {
            let limit = self.limit(index).min(after.saturating_add(self.gap_max(index)));
            let mut offset = if index == hole.index { hole.offset } else { FIRST };
            let reader = &mut self.files[index].reader;
            while let Some((found, header)) = reader.find(offset, after.saturating_add(1)..limit) {
                behind.next.get_or_insert((Cursor { index, offset: found }, header));
                behind.count += 1;
                behind.is_damage = header.durable_seq >= self.expected;
                if behind.is_damage {
                    return behind;
                }
                after = header.seq;
                offset = found + frame_bytes(&header);
            }
        }
        behind
    }

    /// How far ahead of the last number one in this segment can be: a frame takes 40 bytes at least.
    fn gap_max(&self, index: usize) -> u64 {
        let bytes: u64 = self.files[..=index].iter().map(|segment| segment.reader.bytes()).sum();
        let lost_files = self.files[index].number.saturating_sub(self.files[0].number);
        let longest = self.files.iter().map(|segment| segment.reader.bytes()).max().unwrap_or(0);
        bytes.saturating_add(lost_files.saturating_mul(longest)) / 40 + 1
    }

    fn note_segment(&mut self, end: Cursor, last_seq: u64) {
        let segment = &self.files[end.index];
        self.read.segments.push(ReadSegment {
            number: segment.number,
            disk_bytes: segment.reader.bytes(),
            used_bytes: end.offset,
            last_seq,
        });
    }

    /// Writes the frames again of which none says that they are on the disk, and syncs them. Everything from now on builds upon
    /// them, and after a kill they may stand in memory only. A sync alone is not enough: after one that failed, the system
    /// holds the pages for written, shows them, and never writes them.
    fn renew_unproven(&mut self) -> Result<(), OpenError> {
        let durable_max = self.durable_max;
        for read in self.read.segments.iter().filter(|segment| segment.last_seq > durable_max) {
            let Some(segment) = self.files.iter_mut().find(|file| file.number == read.number) else {
                continue;
            };
            let path = self.log.path(read.number);
            let from = if segment.first_seq > durable_max {
                0
            } else {
                let first = segment.reader.find(FIRST, durable_max.saturating_add(1)..u64::MAX);
                first.map_or(0, |(offset, _)| offset)
            };
            segment.write_again(from, read.used_bytes).map_err(OpenError::io("write again", &path))?;
            segment.file.sync().map_err(OpenError::io("sync", &path))?;
        }
        Ok(())
    }

    /// A segment that a damaged stretch reaches the end of.
    fn note_passed(&mut self, index: usize, hole: Cursor) {
        let offset = if index == hole.index { hole.offset } else { FIRST };
        self.note_segment(Cursor { index, offset }, self.expected.saturating_sub(1));
    }

    fn note_damage(&mut self, hole: Cursor, next: Cursor, next_seq: u64) -> Result<(), OpenError> {
        let segment = &self.files[hole.index];
        let end = if next.index == hole.index { next.offset } else { segment.reader.bytes() };
        let bytes = end.saturating_sub(hole.offset);
        let kept_as = match self.mend {
            Mend::Yes if bytes > 0 => Some(self.put_aside(hole, bytes)?),
            Mend::Yes | Mend::No => None,
        };
        self.read.damaged.push(Damage {
            path: self.log.path(self.files[hole.index].number),
            offset: hole.offset,
            bytes,
            lost_records: next_seq - self.expected,
            kept_as,
        });
        Ok(())
    }

    fn put_aside(&mut self, hole: Cursor, bytes: u64) -> Result<String, OpenError> {
        let segment = &mut self.files[hole.index];
        let path =
            format!("damaged/shard-{:04}-segment-{}-byte-{}", self.log.shard, segment.number, hole.offset);
        self.disk.make_folder("damaged").map_err(OpenError::io("make the folder", "damaged"))?;
        let file = self.disk.create(&path, bytes).map_err(OpenError::io("write", &path))?;
        let mut done = 0;
        while done < bytes {
            let piece = usize::try_from((bytes - done).min(1 << 20)).unwrap_or(1 << 20);
            let Some(view) = segment.reader.view(hole.offset + done, piece) else { break };
            file.write_at(done, view).map_err(OpenError::io("write", &path))?;
            done += u64::try_from(piece).unwrap_or(u64::MAX);
        }
        file.sync().map_err(OpenError::io("sync", &path))?;
        self.disk.sync_folder("damaged").map_err(OpenError::io("sync the folder", "damaged"))?;
        Ok(path)
    }

    /// The log ends here: frees the rest of this file, and removes later ones.
    fn end_at(&mut self, end: Cursor, dropped_records: u64) -> Result<(), OpenError> {
        let segment = &mut self.files[end.index];
        let expected = self.expected;
        let is_begun = segment.reader.header(end.offset).is_some_and(|(header, _)| header.seq == expected);
        let path = self.log.path(segment.number);
        if is_begun || dropped_records > 0 {
            self.read.torn = Some(Torn { path: path.clone(), offset: end.offset, dropped_records });
        }
        let is_empty = end.offset == FIRST;
        if !is_empty {
            self.note_segment(end, self.expected.saturating_sub(1));
        }
        if self.mend == Mend::Yes {
            if !is_empty && end.offset < self.files[end.index].reader.bytes() {
                let segment = &mut self.files[end.index];
                segment.file.truncate(end.offset).map_err(OpenError::io("shorten", &path))?;
                segment.reader.shorten(end.offset);
                segment.file.sync().map_err(OpenError::io("sync", &path))?;
                if let Some(noted) = self.read.segments.last_mut() {
                    noted.disk_bytes = end.offset;
                }
            }
            let keep = end.index + usize::from(!is_empty);
            for segment in &self.files[keep..] {
                let path = self.log.path(segment.number);
                self.disk.remove(&path).map_err(OpenError::io("remove", &path))?;
            }
            let folder = &self.log.folder;
            self.disk.sync_folder(folder).map_err(OpenError::io("sync the folder", folder))?;
        }
        Ok(())
    }
}

fn read_header(log: &LogId, number: u64, reader: &mut Reader) -> Result<Option<SegmentHeader>, OpenError> {
    let Some(bytes) = reader.view(0, SEGMENT_HEADER_BYTES) else { return Ok(None) };
    let bytes = bytes.try_into().expect("as many bytes were asked for");
    match SegmentHeader::parse(log, number, bytes) {
        Beginning::Begun(header) => Ok(Some(header)),
        Beginning::Nothing => Ok(None),
        Beginning::UnknownFormat(found) => {
            Err(OpenError::UnknownVersion { path: log.path(number), found, known: FORMAT })
        }
    }
}

fn frame_bytes(header: &Header) -> u64 {
    u64::try_from(header.frame_bytes()).unwrap_or(u64::MAX)
}

const _: () = assert!(HEADER_BYTES == 32, "a frame with any record takes 40 bytes at least");

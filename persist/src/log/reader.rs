//! Reads the frames of a segment from its file, and finds the next sound one behind a damaged stretch.

use std::sync::Arc;

use rkyv::util::AlignedVec;

use crate::disk::DiskFile;
use crate::limits::SCAN_BYTES;
use crate::log::frame::{ALIGN_BYTES, HEADER_BYTES, Header};

/// One segment's file under a window of a megabyte. What the disk cannot read counts as zeros, which are no frame.
pub(crate) struct Reader {
    file: Arc<dyn DiskFile>,
    /// Length of the file, as long as nobody shortens it but through [`Reader::shorten`].
    bytes: u64,
    seed: u32,
    /// Bytes from `window_at` on, aligned as archives must be.
    window: AlignedVec,
    window_at: u64,
    window_bytes: usize,
}

/// A frame whose checksum is right.
pub(crate) struct Sound<'a> {
    /// Its header.
    pub header: Header,
    /// The archive, aligned.
    pub archive: &'a [u8],
    /// What follows the archive.
    pub payload: &'a [u8],
}

impl Reader {
    /// Reads a segment whose checksums begin with `seed`.
    pub(crate) fn new(file: Arc<dyn DiskFile>, seed: u32) -> Self {
        Self {
            bytes: file.bytes(),
            file,
            seed,
            window: AlignedVec::new(),
            window_at: 0,
            window_bytes: SCAN_BYTES,
        }
    }

    /// The same with another window.
    pub(crate) fn with_window(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the window's memory back: a log has many segments. It comes again when something is asked for.
    pub(crate) fn rest(&mut self) {
        self.window = AlignedVec::new();
    }

    /// The file was cut here: nothing behind is asked for, which the disk would refuse together with the last bytes before.
    pub(crate) fn shorten(&mut self, bytes: u64) {
        self.bytes = self.bytes.min(bytes);
    }

    /// The frame at `offset`, if there is a sound one.
    pub(crate) fn frame(&mut self, offset: u64) -> Option<Sound<'_>> {
        let (header, sum) = self.header(offset)?;
        let seed = self.seed;
        let body_bytes = usize::try_from(header.body_bytes).ok()?;
        let frame = self.view(offset, HEADER_BYTES.checked_add(body_bytes)?)?;
        let body = &frame[HEADER_BYTES..];
        if !header.is_sound(sum, seed, body) {
            return None;
        }
        let (archive, payload) = body.split_at(usize::try_from(header.archive_bytes).ok()?);
        Some(Sound { header, archive, payload })
    }

    /// What looks like a header at `offset`, sound or not, and the checksum in it.
    pub(crate) fn header(&mut self, offset: u64) -> Option<(Header, u32)> {
        Header::parse(self.view(offset, HEADER_BYTES)?)
    }

    /// The first sound frame from `offset` on with a number in `seqs`, and where it stands. Costs a comparison for eight bytes.
    pub(crate) fn find(&mut self, mut offset: u64, seqs: std::ops::Range<u64>) -> Option<(u64, Header)> {
        let step = u64::try_from(ALIGN_BYTES).unwrap_or(8);
        while let Some(bytes) = self.view(offset, HEADER_BYTES) {
            let is_candidate = Header::parse(bytes).is_some_and(|(header, _)| seqs.contains(&header.seq));
            if is_candidate && let Some(sound) = self.frame(offset) {
                return Some((offset, sound.header));
            }
            offset = offset.checked_add(step)?;
        }
        None
    }

    /// Bytes of the file, through the window. `None` past its end.
    pub(crate) fn view(&mut self, offset: u64, bytes: usize) -> Option<&[u8]> {
        let end = offset.checked_add(u64::try_from(bytes).ok()?)?;
        if end > self.bytes {
            return None;
        }
        let window_end = self.window_at.checked_add(u64::try_from(self.window.len()).ok()?)?;
        if offset < self.window_at || end > window_end {
            self.fill(offset, bytes)?;
        }
        let from = usize::try_from(offset.checked_sub(self.window_at)?).ok()?;
        self.window.get(from..from.checked_add(bytes)?)
    }

    fn fill(&mut self, offset: u64, bytes: usize) -> Option<()> {
        let left = usize::try_from(self.bytes.checked_sub(offset)?).unwrap_or(usize::MAX);
        let take = bytes.max(self.window_bytes).min(left);
        self.window.resize(take, 0);
        self.window_at = offset;
        if self.file.read_at(offset, &mut self.window).is_err() {
            self.fill_by_pages(offset);
        }
        Some(())
    }

    /// Reads what can be read of a window that cannot be read as a whole.
    fn fill_by_pages(&mut self, offset: u64) {
        let mut at = offset;
        for page in self.window.chunks_mut(4 << 10) {
            if self.file.read_at(at, page).is_err() {
                page.fill(0);
            }
            at = at.saturating_add(page.len().try_into().unwrap_or(u64::MAX));
        }
    }
}

//! Bytes of a file as pages that copies share, so that a picture of a whole disk costs little.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The unit in which an operating system writes a mapped file back.
pub const PAGE_BYTES: usize = 4_096;
/// The unit in which a disk writes: a page may be torn between two of them.
pub const SECTOR_BYTES: usize = 512;

type Page = [u8; PAGE_BYTES];

/// A file's content. Pages that were never written are zeros and take no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    bytes: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    /// So many zeros.
    pub(super) fn zeros(bytes: u64) -> Self {
        Self { bytes, pages: BTreeMap::new() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets the length; what is new is zeros.
    pub(super) fn set_bytes(&mut self, bytes: u64) {
        if bytes < self.bytes {
            drop(self.pages.split_off(&bytes.div_ceil(PAGE_BYTES as u64)));
            let kept = usize::try_from(bytes % PAGE_BYTES as u64).expect("less than a page");
            if kept > 0
                && let Some(page) = self.pages.get_mut(&(bytes / PAGE_BYTES as u64))
            {
                Arc::make_mut(page)[kept..].fill(0);
            }
        }
        self.bytes = bytes;
    }

    /// Copies what stands at `offset`; the caller has checked the length.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        for (number, at, range) in parts(offset, buffer.len()) {
            let part = &mut buffer[range];
            match self.pages.get(&number) {
                Some(page) => part.copy_from_slice(&page[at..at + part.len()]),
                None => part.fill(0),
            }
        }
    }

    /// Writes to `offset`; what lies behind the end is dropped.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let room = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        for (number, at, range) in parts(offset, bytes.len()) {
            let part = &bytes[range];
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[at..at + part.len()].copy_from_slice(part);
        }
    }

    /// Everything.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(self.bytes).expect("a file in memory")];
        self.read(0, &mut all);
        all
    }
}

/// The pages that a stretch touches: page number, where in the page it begins, and which part of the stretch is there.
pub(super) fn parts(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == bytes {
            return None;
        }
        let at = offset + done as u64;
        let inside = usize::try_from(at % PAGE_BYTES as u64).expect("less than a page");
        let count = (PAGE_BYTES - inside).min(bytes - done);
        let range = done..done + count;
        done += count;
        Some((at / PAGE_BYTES as u64, inside, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_across_pages() {
        let mut pages = Pages::zeros(10_000);
        let bytes: Vec<u8> = (0..9_000_u32).map(|n| (n % 251) as u8).collect();
        pages.write(500, &bytes);
        let mut back = vec![1; 9_100];
        pages.read(450, &mut back);
        assert_eq!(back[..50], [0; 50]);
        assert_eq!(back[50..9_050], bytes);
        assert_eq!(back[9_050..], [0; 50]);
        // Copies do not see each other's writes.
        let copy = pages.clone();
        pages.write(500, &[0xFF; 4]);
        assert_eq!(copy.to_vec()[500..504], bytes[..4]);
        // Past the end nothing is written; shortened and lengthened, zeros stand there.
        pages.write(9_999, &[7, 7]);
        assert_eq!(pages.to_vec().len(), 10_000);
        pages.set_bytes(600);
        pages.set_bytes(10_000);
        assert_eq!(pages.to_vec()[500..504], [0xFF; 4]);
        assert!(pages.to_vec()[600..].iter().all(|byte| *byte == 0));
    }
}

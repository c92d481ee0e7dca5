//! A data directory that can be opened and is not changed: what is written goes into memory and is gone afterwards.
//!
//! The tools look at a directory with the same code that boots a broker from it, and so say what a boot would find.

use std::collections::BTreeSet;
use std::io;
#[expect(
    clippy::disallowed_types,
    reason = "a set of names, held for the length of a look-up; no shard uses it"
)]
use std::sync::Mutex;
use std::sync::{Arc, OnceLock, PoisonError};

use crate::disk::{Disk, DiskFile, Entry, Region};
use crate::fault::FaultDisk;

/// A disk over a disk.
pub struct Overlay {
    shared: Arc<Shared>,
}

struct Shared {
    below: Arc<dyn Disk>,
    above: FaultDisk,
    /// Names below that were removed or renamed.
    #[expect(clippy::disallowed_types, reason = "as above")]
    hidden: Mutex<BTreeSet<String>>,
}

impl Overlay {
    /// Lays memory over this disk, of which nothing is changed.
    #[must_use]
    pub fn new(below: Arc<dyn Disk>) -> Self {
        #[expect(clippy::disallowed_types, reason = "as above")]
        let hidden = Mutex::new(BTreeSet::new());
        Self { shared: Arc::new(Shared { below, above: FaultDisk::new(0), hidden }) }
    }
}

impl Shared {
    fn is_hidden(&self, path: &str) -> bool {
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        let parents = path.match_indices('/').map(|(index, _)| &path[..index]);
        parents.chain([path]).any(|part| hidden.contains(part))
    }

    fn hide(&self, path: &str) {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    /// Makes the folders of a path above, so that a file can stand there.
    fn make_parents(&self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.above.make_folder(parent),
            None => Ok(()),
        }
    }

    fn is_above(&self, path: &str) -> bool {
        self.above.open(path).is_ok()
    }

    /// Copies a file up, so that it can be changed.
    fn lift(&self, path: &str, below: &dyn DiskFile) -> io::Result<Arc<dyn DiskFile>> {
        self.make_parents(path)?;
        let copy = self.above.create(path, below.bytes())?;
        let mut offset = 0;
        let mut piece = vec![0; PIECE_BYTES];
        while offset < below.bytes() {
            let count =
                usize::try_from(below.bytes() - offset).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            below.read_at(offset, &mut piece[..count])?;
            if piece[..count].iter().any(|byte| *byte != 0) {
                copy.write_at(offset, &piece[..count])?;
                copy.sync()?;
            }
            offset += count as u64;
        }
        Ok(copy)
    }
}

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 64 << 10;

impl Disk for Overlay {
    fn make_folder(&self, path: &str) -> io::Result<()> {
        self.shared.above.make_folder(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let mut entries = self.shared.above.list(folder)?;
        for entry in self.shared.below.list(folder)? {
            let path =
                if folder.is_empty() { entry.name.clone() } else { format!("{folder}/{}", entry.name) };
            if !self.shared.is_hidden(&path) && entries.iter().all(|known| known.name != entry.name) {
                entries.push(entry);
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.make_parents(path)?;
        self.shared.above.create(path, bytes)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        if let Ok(file) = self.shared.above.open(path) {
            return Ok(file);
        }
        if self.shared.is_hidden(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let below = self.shared.below.open(path)?;
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(Seen { shared, path: path.to_owned(), below, above: OnceLock::new() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if !self.shared.is_above(from) {
            let below = self.open(from)?;
            self.shared.lift(from, below.as_ref())?;
        }
        self.shared.make_parents(to)?;
        self.shared.above.rename(from, to)?;
        self.shared.hide(from);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.shared.hide(path);
        self.shared.above.remove(path)
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.shared.above.free_bytes()
    }

    fn random(&self) -> io::Result<u64> {
        self.shared.below.random()
    }
}

/// A file of the disk below, until it is changed.
struct Seen {
    shared: Arc<Shared>,
    path: String,
    below: Arc<dyn DiskFile>,
    above: OnceLock<Arc<dyn DiskFile>>,
}

impl Seen {
    fn now(&self) -> &dyn DiskFile {
        self.above.get().unwrap_or(&self.below).as_ref()
    }

    fn lifted(&self) -> io::Result<&dyn DiskFile> {
        if self.above.get().is_none() {
            let copy = match self.shared.above.open(&self.path) {
                Ok(copy) => copy,
                Err(_) => self.shared.lift(&self.path, self.below.as_ref())?,
            };
            drop(self.above.set(copy));
        }
        Ok(self.now())
    }
}

impl DiskFile for Seen {
    fn bytes(&self) -> u64 {
        self.now().bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.now().read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.lifted()?.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self) -> io::Result<Box<dyn Region>> {
        self.lifted()?.map()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.lifted()?.truncate(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &dyn Disk, path: &str) -> io::Result<Vec<u8>> {
        let file = disk.open(path)?;
        let mut bytes = vec![0; usize::try_from(file.bytes()).unwrap()];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn what_is_changed_above_is_as_it_was_below() {
        let below = FaultDisk::new(1);
        below.put("a/one", b"one");
        below.put("a/two", b"two");
        below.put("three", b"three");
        let files = below.files();
        let over = Overlay::new(Arc::new(below.clone()));

        over.open("a/one").unwrap().write_at(0, b"ONE").unwrap();
        over.open("three").unwrap().map().unwrap().write(4, b"E");
        over.rename("a/two", "a/four").unwrap();
        over.create("a/five", 2).unwrap().write_at(0, b"55").unwrap();
        over.open("three").unwrap().truncate(4).unwrap();
        assert_eq!(read(&over, "a/one").unwrap(), b"ONE");
        assert_eq!(read(&over, "a/four").unwrap(), b"two");
        assert_eq!(read(&over, "three").unwrap(), b"thre");
        assert_eq!(read(&over, "a/two").unwrap_err().kind(), io::ErrorKind::NotFound);
        let names: Vec<String> = over.list("a").unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["five", "four", "one"]);
        over.remove("a").unwrap();
        assert_eq!(over.list("a").unwrap(), []);
        assert_eq!(read(&over, "a/one").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(below.files(), files, "nothing below has changed");
    }

    #[test]
    fn what_is_not_touched_is_read_from_below() {
        let below = FaultDisk::new(1);
        below.put("a/one", b"one");
        let over = Overlay::new(Arc::new(below.clone()));
        let file = over.open("a/one").unwrap();
        below.rot("a/one", 0, 1);
        let mut byte = [0];
        file.read_at(0, &mut byte).unwrap();
        assert_eq!(byte, [b'o' ^ 1]);
    }
}

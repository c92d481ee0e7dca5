//! A data directory of real files, locked against a second broker.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Entry, Region};
use crate::error::OpenError;
use crate::log::mapping::{Mapping, allocate, free_bytes, write_out};

/// A data directory. Its files are 0600, its folders 0700. The lock is held for as long as this lives.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    lock: File,
}

impl RealDisk {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another process has it; [`OpenError::Io`].
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let path = root.display().to_string();
        let io = |action| {
            let path = path.clone();
            move |source| OpenError::Io { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io("make the directory"))?;
        let lock = file_options()
            .create(true)
            .truncate(false)
            .open(root.join("lock"))
            .map_err(io("open its lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(io("lock it")(source)),
        }
    }

    /// Opens the directory for reading, beside a broker that has it. What is read is then of no single moment.
    ///
    /// # Errors
    /// [`OpenError::Io`], above all if it is not there.
    pub fn open_unlocked(root: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { action: "open its lock", path: root.display().to_string(), source };
        let lock = OpenOptions::new().read(true).open(root.join("lock")).map_err(io)?;
        Ok(Self { root: root.to_owned(), lock })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for RealDisk {
    fn make_folder(&self, path: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.path(path))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let found = match std::fs::read_dir(self.path(folder)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for entry in found {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let is_folder = metadata.is_dir();
            let bytes = if is_folder { 0 } else { metadata.len() };
            entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), is_folder, bytes });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = file_options().create(true).truncate(true).open(self.path(path))?;
        if let Err(error) = allocate(&file, bytes).and_then(|()| write_zeros(&file, bytes)) {
            std::fs::remove_file(self.path(path))?;
            return Err(error);
        }
        Ok(Arc::new(RealFile { file, bytes }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(path);
        let file = match file_options().open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                OpenOptions::new().read(true).open(&path)?
            }
            other => other?,
        };
        let bytes = file.metadata()?.len();
        Ok(Arc::new(RealFile { file, bytes }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        OpenOptions::new().read(true).open(self.path(folder))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.lock)
    }

    fn random(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        OpenOptions::new().read(true).open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// A file and its length, which is fixed but for [`DiskFile::truncate`].
#[derive(Debug)]
struct RealFile {
    file: File,
    bytes: u64,
}

impl DiskFile for RealFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self) -> io::Result<Box<dyn Region>> {
        let bytes = usize::try_from(self.bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(Box::new(Mapping::new(&self.file, bytes)?))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

fn file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Writes a file full of zeros. Blocks that are allocated and never written cost a commit of the file system's journal at the sync
/// that first writes them; these have cost it already. Page by page, because the kernel keeps what is written at once as one large page, and a
/// write through the map then dirties, and the sync writes, all of it: a megabyte at a time makes the shard's first write into a page four times dearer.
///
/// They go to the disk a stretch at a time, each before the next is begun: a log's sync that comes meanwhile stands behind one stretch in
/// the disk's queue and not behind a whole segment.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    static PIECE: [u8; 4 << 10] = [0; 4 << 10];
    let mut offset = 0;
    let mut written_out = 0;
    while offset < bytes {
        let piece = usize::try_from(bytes - offset).map_or(PIECE.len(), |left| left.min(PIECE.len()));
        file.write_all_at(&PIECE[..piece], offset)?;
        offset = offset.saturating_add(piece.try_into().unwrap_or(u64::MAX));
        if offset - written_out >= STRETCH_BYTES {
            write_out(file, written_out, offset - written_out)?;
            written_out = offset;
        }
    }
    Ok(())
}

/// Zeros that are in the disk's queue at a time: a millisecond of a disk that writes half a gigabyte a second.
const STRETCH_BYTES: u64 = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("dunlin-real-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&root));
        root
    }

    #[test]
    fn a_second_broker_is_refused_with_what_to_do() {
        let root = folder("lock");
        let first = RealDisk::open(&root).unwrap();
        let error = RealDisk::open(&root).unwrap_err();
        assert!(error.to_string().contains("--data-dir"), "{error}");
        drop(first);
        RealDisk::open(&root).unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_written_into_the_map_is_read_from_the_file() {
        let root = folder("map");
        let disk = RealDisk::open(&root).unwrap();
        disk.make_folder("a/b").unwrap();
        let file = disk.create("a/b/c.log", 8_192).unwrap();
        let mut region = file.map().unwrap();
        region.write(8_190, b"xy");
        file.sync().unwrap();
        let mut read = [0; 4];
        file.read_at(8_188, &mut read).unwrap();
        assert_eq!(&read, b"\0\0xy");
        drop(region);
        let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a/b/c.log"), mode("a/b"), mode("")), (0o600, 0o700, 0o700));
        assert_eq!(
            disk.list("a/b").unwrap(),
            [Entry { name: "c.log".into(), is_folder: false, bytes: 8_192 }]
        );
        assert_eq!(disk.list("none").unwrap(), []);
        disk.remove("a").unwrap();
        disk.remove("a").unwrap();
        assert!(disk.free_bytes().unwrap() > 0);
        assert_ne!(disk.random().unwrap(), disk.random().unwrap());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    #[should_panic(expected = "leaves the map")]
    fn a_write_beyond_the_map_panics() {
        let root = folder("beyond");
        let disk = RealDisk::open(&root).unwrap();
        let file = disk.create("c.log", 4_096).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        file.map().unwrap().write(4_095, b"xy");
    }
}

//! A disk in memory that lies: for the simulator and for tests of what survives a crash.
//!
//! It does what [`Disk`] promises and nothing more. What was not synced is there after [`FaultDisk::crash`] in part, in any order,
//! torn at any sector; names that were not synced as well. On demand it breaks even the promises: a sync that says it is done
//! and is not, a bit that rots, a file that cannot be read. And it fails as disks fail: full, or with an error of a sync, after
//! which the system has forgotten what was dirty.
//!
//! A recording disk keeps every operation, so that a run can be cut after each of them ([`FaultDisk::cuts`]).

mod crash;
mod dice;
mod pages;
mod world;

use std::io;
#[expect(
    clippy::disallowed_types,
    reason = "a disk is shared by the threads that use it; this one is for tests"
)]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};

pub use self::crash::Crash;
use self::dice::Dice;
pub use self::pages::{PAGE_BYTES, SECTOR_BYTES};
use self::world::{FileNo, Node, Op, World};
use crate::disk::{Disk, DiskFile, Entry, Region};

/// What goes wrong by chance, and how large the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Bytes that all files together may have.
    pub capacity_bytes: u64,
    /// Of a thousand syncs of files and folders, so many say that they are done and are not.
    pub lost_syncs: u16,
    /// Of a thousand syncs of files, so many fail.
    pub failed_syncs: u16,
    /// Of a thousand reads, so many fail.
    pub failed_reads: u16,
}

impl Default for Faults {
    /// None, on a disk of a tebibyte.
    fn default() -> Self {
        Self { capacity_bytes: 1 << 40, lost_syncs: 0, failed_syncs: 0, failed_reads: 0 }
    }
}

/// What the next sync of a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFault {
    /// It says that it is done, and the disk has nothing of it.
    Lost,
    /// It fails. Chance decides which pages the disk has; a second sync succeeds and adds nothing.
    Failed,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct FaultDisk {
    shared: Arc<Shared>,
}

struct Shared {
    #[expect(
        clippy::disallowed_types,
        reason = "a disk is shared by the threads that use it; this one is for tests"
    )]
    state: Mutex<State>,
}

struct State {
    world: World,
    /// What the disk held when the recording began, and what was done since.
    recording: Option<(World, Vec<Op>)>,
    /// How often each file is mapped now.
    mapped: Vec<usize>,
    faults: Faults,
    next_syncs: Vec<SyncFault>,
    dice: Dice,
    counts: Counts,
}

/// What was done to a disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes, through maps and without.
    pub writes: u64,
    /// Syncs of files, whatever came of them.
    pub syncs: u64,
    /// Of those, so many lied.
    pub lost_syncs: u64,
    /// Of those, so many failed.
    pub failed_syncs: u64,
    /// Syncs of folders.
    pub folder_syncs: u64,
    /// Files that were not made because the disk was full.
    pub refused_files: u64,
    /// Reads that failed.
    pub failed_reads: u64,
}

impl FaultDisk {
    /// An empty disk. All chance comes from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::holding(World::default(), seed)
    }

    fn holding(world: World, seed: u64) -> Self {
        #[expect(
            clippy::disallowed_types,
            reason = "a disk is shared by the threads that use it; this one is for tests"
        )]
        let state = Mutex::new(State {
            mapped: vec![0; world.files.len()],
            world,
            recording: None,
            faults: Faults::default(),
            next_syncs: Vec::new(),
            dice: Dice::new(seed),
            counts: Counts::default(),
        });
        Self { shared: Arc::new(Shared { state }) }
    }

    /// Lets this go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Lets the coming syncs of files go wrong, the first of them first; those after them are as the chance wills.
    pub fn next_syncs(&self, faults: &[SyncFault]) {
        self.state().next_syncs = faults.iter().rev().copied().collect();
    }

    /// Keeps every operation from now on.
    pub fn record(&self) {
        let mut state = self.state();
        let now = state.world.clone();
        state.recording = Some((now, Vec::new()));
    }

    /// Operations since [`record`](Self::record).
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.state().recording.as_ref().map_or(0, |(_, ops)| ops.len())
    }

    /// The disk after each recorded operation, the state before the first included: as many as [`recorded`](Self::recorded) plus one.
    #[must_use]
    pub fn cuts(&self) -> Cuts {
        let (world, ops) = self.state().recording.clone().unwrap_or_default();
        Cuts { world, ops: ops.into_iter(), begun: false }
    }

    /// What a reboot finds, as a disk of its own. This one goes on as if nothing had happened.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        let state = self.state();
        let seed = match crash {
            Crash::Torn { seed } => seed,
            Crash::Killed | Crash::PowerCut => 0,
        };
        let after = Self::holding(state.world.after(crash), seed);
        after.state().faults = Faults { capacity_bytes: state.faults.capacity_bytes, ..Faults::default() };
        after
    }

    /// Turns bits of a stored byte over, behind everybody's back.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn rot(&self, path: &str, offset: u64, bits: u8) {
        let mut state = self.state();
        let file = state.world.file(path).expect("a file to rot");
        let file = &mut state.world.files[file];
        assert!(offset < file.seen.bytes(), "{path} has {} bytes", file.seen.bytes());
        for pages in [&mut file.seen, &mut file.synced] {
            let mut byte = [0];
            pages.read(offset, &mut byte);
            pages.write(offset, &[byte[0] ^ bits]);
        }
    }

    /// Makes every read of a file fail, or none any more.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn set_unreadable(&self, path: &str, unreadable: bool) {
        let mut state = self.state();
        let file = state.world.file(path).expect("a file that cannot be read");
        state.world.files[file].unreadable = unreadable;
    }

    /// All files with their bytes, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let files = state.world.named_files();
        files.map(|(path, file)| (path.to_owned(), state.world.files[file].seen.to_vec())).collect()
    }

    /// Puts a file there, durable, with its folders; one of that name is replaced.
    ///
    /// # Panics
    /// If a file stands where a folder should.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let parent = world::parent(path);
        if !parent.is_empty() {
            self.make_folder(parent).expect("folders");
        }
        let file = self.create(path, bytes.len() as u64).expect("room for a file");
        file.write_at(0, bytes).expect("its bytes");
        let mut state = self.state();
        let number = state.world.file(path).expect("just made");
        state.did(Op::Sync { file: number, truly: true });
        let mut folder = path;
        while !folder.is_empty() {
            folder = world::parent(folder);
            state.did(Op::SyncFolder { folder: folder.to_owned(), truly: true });
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    /// A thread that panicked in here broke a rule of the disk; the others may still look.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Does something that cannot fail, and records it.
    fn did(&mut self, op: Op) {
        self.try_do(op).expect("this operation cannot fail");
    }

    fn try_do(&mut self, op: Op) -> io::Result<()> {
        self.world.apply(&op)?;
        self.mapped.resize(self.world.files.len(), 0);
        if let Some((_, ops)) = &mut self.recording {
            ops.push(op);
        }
        Ok(())
    }

    fn sync(&mut self, file: FileNo) -> io::Result<()> {
        self.counts.syncs += 1;
        let Faults { lost_syncs, failed_syncs, .. } = self.faults;
        let fault = match self.next_syncs.pop() {
            Some(fault) => Some(fault),
            None if self.dice.one_in_thousand(failed_syncs) => Some(SyncFault::Failed),
            None if self.dice.one_in_thousand(lost_syncs) => Some(SyncFault::Lost),
            None => None,
        };
        match fault {
            None => self.did(Op::Sync { file, truly: true }),
            Some(SyncFault::Lost) => {
                self.counts.lost_syncs += 1;
                self.did(Op::Sync { file, truly: false });
            }
            Some(SyncFault::Failed) => {
                self.counts.failed_syncs += 1;
                let seed = self.dice.number();
                self.did(Op::SyncFailed { file, seed });
                return Err(io::Error::other("input/output error (injected)"));
            }
        }
        Ok(())
    }

    fn read(&mut self, file: FileNo, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let failed = self.dice.one_in_thousand(self.faults.failed_reads);
        let file = &self.world.files[file];
        if failed || file.unreadable {
            self.counts.failed_reads += 1;
            return Err(io::Error::other("input/output error (injected)"));
        }
        if offset.saturating_add(buffer.len() as u64) > file.seen.bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.seen.read(offset, buffer);
        Ok(())
    }
}

impl Disk for FaultDisk {
    fn make_folder(&self, path: &str) -> io::Result<()> {
        self.state().try_do(Op::MakeFolder { path: path.to_owned() })
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let state = self.state();
        if matches!(state.world.names.get(folder), Some(Node::File(_))) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let inside = state.world.names.iter().filter(|(path, _)| world::parent(path) == folder);
        let entries = inside.map(|(path, node)| Entry {
            name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            is_folder: *node == Node::Folder,
            bytes: match node {
                Node::Folder => 0,
                Node::File(file) => state.world.files[*file].seen.bytes(),
            },
        });
        Ok(entries.collect())
    }

    fn create(&self, path: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.world.check_parent(path)?;
        let old = state.world.file(path).map_or(0, |file| state.world.files[file].seen.bytes());
        if state.world.used_bytes() - old + bytes > state.faults.capacity_bytes {
            state.counts.refused_files += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.try_do(Op::Create { path: path.to_owned(), bytes })?;
        let file = state.world.file(path)?;
        drop(state);
        Ok(Arc::new(Handle { disk: self.clone(), file }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.state().world.file(path)?;
        Ok(Arc::new(Handle { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state().try_do(Op::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.world.names.contains_key(path) {
            state.did(Op::Remove { path: path.to_owned() });
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.state();
        state.counts.folder_syncs += 1;
        let lost = state.faults.lost_syncs;
        let truly = !state.dice.one_in_thousand(lost);
        state.try_do(Op::SyncFolder { folder: folder.to_owned(), truly })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.faults.capacity_bytes.saturating_sub(state.world.used_bytes()))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().dice.number())
    }
}

/// An open file.
struct Handle {
    disk: FaultDisk,
    file: FileNo,
}

impl DiskFile for Handle {
    fn bytes(&self) -> u64 {
        self.disk.state().world.files[self.file].seen.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.state().read(self.file, offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        if offset.saturating_add(bytes.len() as u64) > state.world.files[self.file].seen.bytes() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        state.counts.writes += 1;
        state.did(Op::Write { file: self.file, offset, bytes: bytes.into() });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync(self.file)
    }

    fn map(&self) -> io::Result<Box<dyn Region>> {
        let mut state = self.disk.state();
        if state.world.files[self.file].unreadable {
            return Err(io::Error::other("input/output error (injected)"));
        }
        state.mapped[self.file] += 1;
        let bytes = state.world.files[self.file].seen.bytes();
        drop(state);
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Box::new(Map { disk: self.disk.clone(), file: self.file, bytes }))
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        assert_eq!(state.mapped[self.file], 0, "a mapped file is never shortened");
        assert!(bytes <= state.world.files[self.file].seen.bytes(), "truncate shortens");
        state.try_do(Op::Truncate { file: self.file, bytes })
    }
}

/// A mapped file.
struct Map {
    disk: FaultDisk,
    file: FileNo,
    bytes: usize,
}

impl Region for Map {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let fits = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.bytes);
        assert!(fits, "{} bytes at {offset} do not fit into a map of {}", bytes.len(), self.bytes);
        let mut state = self.disk.state();
        state.counts.writes += 1;
        state.did(Op::Write { file: self.file, offset: offset as u64, bytes: bytes.into() });
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.mapped[self.file] -= 1;
    }
}

/// A recorded run, cut after each operation in turn.
pub struct Cuts {
    world: World,
    ops: std::vec::IntoIter<Op>,
    begun: bool,
}

impl Cuts {
    /// The operation that the next cut stands behind, in words; for messages.
    #[must_use]
    pub fn upcoming(&self) -> String {
        match self.ops.as_slice().first() {
            None => "the end".to_owned(),
            Some(Op::Write { file, offset, bytes }) => {
                format!("write {} bytes at {offset} of file {file}", bytes.len())
            }
            Some(op) => format!("{op:?}"),
        }
    }
}

impl Iterator for Cuts {
    type Item = FaultDisk;

    /// The disk after one more operation; to be crashed.
    fn next(&mut self) -> Option<FaultDisk> {
        if self.begun {
            let op = self.ops.next()?;
            self.world.apply(&op).expect("it was possible when it was recorded");
        }
        self.begun = true;
        Some(FaultDisk::holding(self.world.clone(), 0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn bytes_of(disk: &FaultDisk, path: &str) -> Option<Vec<u8>> {
        disk.files().into_iter().find(|(name, _)| name == path).map(|(_, bytes)| bytes)
    }

    /// A durable file of two pages of `1`.
    fn disk_with_file() -> (FaultDisk, Arc<dyn DiskFile>) {
        let disk = FaultDisk::new(1);
        disk.put("a/file", &[1; 2 * PAGE_BYTES]);
        let file = disk.open("a/file").unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_everything() {
        let (disk, file) = disk_with_file();
        file.map().unwrap().write(100, &[2; 5_000]);
        file.sync().unwrap();
        for crash in
            [Crash::Killed, Crash::PowerCut].into_iter().chain((0..50).map(|seed| Crash::Torn { seed }))
        {
            let after = bytes_of(&disk.crash(crash), "a/file").unwrap();
            assert_eq!(after[100..5_100], [2; 5_000], "{crash:?}");
        }
    }

    #[test]
    fn what_was_not_synced_is_there_in_part_in_no_order_and_torn() {
        let (disk, file) = disk_with_file();
        let mut map = file.map().unwrap();
        map.write(0, &[2; PAGE_BYTES]);
        map.write(PAGE_BYTES, &[3; PAGE_BYTES]);
        map.write(0, &[4; PAGE_BYTES]);
        assert_eq!(bytes_of(&disk.crash(Crash::PowerCut), "a/file").unwrap(), [1; 2 * PAGE_BYTES]);
        assert_eq!(bytes_of(&disk.crash(Crash::Killed), "a/file").unwrap()[0], 4);
        let mut pairs = BTreeSet::new();
        let mut torn = 0;
        for seed in 0..500 {
            let after = bytes_of(&disk.crash(Crash::Torn { seed }), "a/file").unwrap();
            let again = bytes_of(&disk.crash(Crash::Torn { seed }), "a/file").unwrap();
            assert_eq!(after, again, "the same seed gives the same crash");
            let sectors: Vec<&[u8]> = after.chunks(SECTOR_BYTES).collect();
            assert!(
                sectors.iter().all(|sector| sector.iter().all(|byte| byte == &sector[0])),
                "a sector is whole"
            );
            let (first, second) = after.split_at(PAGE_BYTES);
            torn += u32::from(first.iter().any(|byte| *byte != first[0]));
            pairs.insert((first[0], second[0]));
        }
        // Old, middle and last version of the one page with old and new of the other.
        assert!(pairs.contains(&(1, 1)) && pairs.contains(&(2, 1)) && pairs.contains(&(1, 3)));
        assert!(pairs.contains(&(4, 3)) && pairs.contains(&(2, 3)) && pairs.contains(&(4, 1)));
        assert!(torn > 20, "{torn}");
    }

    #[test]
    fn a_name_needs_a_sync_of_its_folder() {
        let disk = FaultDisk::new(1);
        disk.make_folder("a").unwrap();
        disk.sync_folder("").unwrap();
        let file = disk.create("a/new", 10).unwrap();
        file.write_at(0, &[7; 10]).unwrap();
        file.sync().unwrap();
        assert_eq!(bytes_of(&disk.crash(Crash::PowerCut), "a/new"), None);
        let kept =
            (0..100).filter(|seed| bytes_of(&disk.crash(Crash::Torn { seed: *seed }), "a/new").is_some());
        assert!((10..90).contains(&kept.count()));
        disk.sync_folder("a").unwrap();
        assert_eq!(bytes_of(&disk.crash(Crash::PowerCut), "a/new"), Some(vec![7; 10]));
    }

    #[test]
    fn a_rename_is_whole_or_not_there() {
        let disk = FaultDisk::new(1);
        disk.put("manifest", b"old");
        let file = disk.create("manifest.new", 3).unwrap();
        file.write_at(0, b"new").unwrap();
        file.sync().unwrap();
        disk.rename("manifest.new", "manifest").unwrap();
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            seen.insert(bytes_of(&disk.crash(Crash::Torn { seed }), "manifest").unwrap());
        }
        assert_eq!(seen, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
        disk.sync_folder("").unwrap();
        assert_eq!(disk.crash(Crash::PowerCut).files(), [("manifest".to_owned(), b"new".to_vec())]);
    }

    #[test]
    fn a_lost_sync_keeps_nothing_and_a_failed_one_forgets() {
        let (disk, file) = disk_with_file();
        disk.next_syncs(&[SyncFault::Lost]);
        file.write_at(0, &[2; PAGE_BYTES]).unwrap();
        file.sync().unwrap();
        assert_eq!(bytes_of(&disk.crash(Crash::PowerCut), "a/file").unwrap()[0], 1);
        file.sync().unwrap();
        assert_eq!(bytes_of(&disk.crash(Crash::PowerCut), "a/file").unwrap()[0], 2);
        let mut lost = 0;
        for seed in 0..20 {
            let disk = FaultDisk::new(seed);
            disk.put("file", &[1; PAGE_BYTES]);
            let file = disk.open("file").unwrap();
            disk.next_syncs(&[SyncFault::Failed]);
            file.write_at(0, &[3; PAGE_BYTES]).unwrap();
            file.sync().unwrap_err();
            // The system has forgotten that the page was dirty: a sync that succeeds adds nothing.
            file.sync().unwrap();
            let mut byte = [0];
            file.read_at(0, &mut byte).unwrap();
            assert_eq!(byte, [3], "what the process sees");
            lost += u32::from(bytes_of(&disk.crash(Crash::PowerCut), "file").unwrap()[0] == 1);
        }
        assert!((1..20).contains(&lost), "{lost}");
        assert_eq!(disk.counts().lost_syncs, 1);
    }

    #[test]
    fn a_full_disk_refuses_files_and_takes_bytes_into_those_that_are_there() {
        let (disk, file) = disk_with_file();
        disk.set_faults(Faults { capacity_bytes: 3 * PAGE_BYTES as u64, ..Faults::default() });
        assert_eq!(disk.free_bytes().unwrap(), PAGE_BYTES as u64);
        let refused = disk.create("a/more", PAGE_BYTES as u64 + 1).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(bytes_of(&disk, "a/more"), None);
        file.write_at(0, &[5; 2 * PAGE_BYTES]).unwrap();
        file.truncate(PAGE_BYTES as u64).unwrap();
        disk.create("a/more", 2 * PAGE_BYTES as u64).unwrap();
        disk.remove("a").unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 3 * PAGE_BYTES as u64);
    }

    #[test]
    fn a_recorded_run_is_cut_after_each_operation() {
        let (disk, file) = disk_with_file();
        disk.record();
        file.write_at(0, b"x").unwrap();
        file.sync().unwrap();
        disk.rename("a/file", "b").unwrap();
        disk.sync_folder("").unwrap();
        assert_eq!(disk.recorded(), 4);
        let cuts: Vec<FaultDisk> = disk.cuts().collect();
        assert_eq!(cuts.len(), 5);
        let first =
            |cut: usize, path| bytes_of(&cuts[cut].crash(Crash::PowerCut), path).map(|bytes| bytes[0]);
        assert_eq!(
            (first(0, "a/file"), first(1, "a/file"), first(2, "a/file")),
            (Some(1), Some(1), Some(b'x'))
        );
        assert_eq!((first(3, "b"), first(4, "b"), first(4, "a/file")), (None, Some(b'x'), None));
    }

    #[test]
    fn rot_and_unreadable_files() {
        let (disk, file) = disk_with_file();
        disk.rot("a/file", 5_000, 0x80);
        let mut byte = [0];
        file.read_at(5_000, &mut byte).unwrap();
        assert_eq!(byte, [0x81]);
        assert_eq!(bytes_of(&disk.crash(Crash::PowerCut), "a/file").unwrap()[5_000], 0x81);
        disk.set_unreadable("a/file", true);
        file.read_at(0, &mut byte).unwrap_err();
        disk.set_unreadable("a/file", false);
        file.read_at(0, &mut byte).unwrap();
        assert_eq!(
            file.read_at(2 * PAGE_BYTES as u64, &mut byte).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    #[should_panic(expected = "never shortened")]
    fn a_mapped_file_is_not_shortened() {
        let (_disk, file) = disk_with_file();
        let _map = file.map().unwrap();
        drop(file.truncate(1));
    }
}

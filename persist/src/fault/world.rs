//! What a lying disk holds: files as the process sees them, and beside each what would be left of it without the unsynced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::dice::Dice;
use super::pages::{PAGE_BYTES, Pages, parts};

/// Names a file for as long as the disk exists, whatever its name in a folder.
pub(super) type FileNo = usize;

/// What was done to the disk. The recording of a run is a list of these.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A folder was made.
    MakeFolder { path: String },
    /// A file was made.
    Create { path: String, bytes: u64 },
    /// Bytes were written, through a map or not.
    Write { file: FileNo, offset: u64, bytes: Box<[u8]> },
    /// A sync said that it was done.
    Sync { file: FileNo, truly: bool },
    /// A sync failed. The system forgets that the pages were dirty; chance decides which of them the disk has.
    SyncFailed { file: FileNo, seed: u64 },
    /// A file was shortened.
    Truncate { file: FileNo, bytes: u64 },
    /// A name was changed.
    Rename { from: String, to: String },
    /// A name, and all below it, was removed.
    Remove { path: String },
    /// The names of a folder were synced.
    SyncFolder { folder: String, truly: bool },
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File(FileNo),
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// As the process sees it.
    pub(super) seen: Pages,
    /// As the last true sync left it.
    pub(super) synced: Pages,
    /// What was written since, in order.
    pub(super) unsynced: Vec<(u64, Box<[u8]>)>,
    /// Whether reading it fails.
    pub(super) unreadable: bool,
}

impl File {
    fn sync(&mut self) {
        self.synced.set_bytes(self.seen.bytes());
        for (offset, bytes) in self.unsynced.drain(..) {
            self.synced.write(offset, &bytes);
        }
    }

    /// The pages with unsynced writes, and which writes touch each, in order.
    pub(super) fn dirty(&self) -> BTreeMap<u64, Vec<usize>> {
        let mut dirty: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (index, (offset, bytes)) in self.unsynced.iter().enumerate() {
            for (page, _, _) in parts(*offset, bytes.len()) {
                dirty.entry(page).or_default().push(index);
            }
        }
        dirty
    }

    /// Writes to `into` what the first `count` of these writes put into a part of a page.
    pub(super) fn write_back(&self, writes: &[usize], into: &mut Pages, start: u64, bytes: usize) {
        let end = start + bytes as u64;
        for index in writes {
            let (offset, written) = &self.unsynced[*index];
            let from = start.max(*offset);
            let to = end.min(*offset + written.len() as u64);
            if from < to {
                let range = usize::try_from(from - offset).expect("in memory")
                    ..usize::try_from(to - offset).expect("in memory");
                into.write(from, &written[range]);
            }
        }
    }
}

/// A change of names that may not be durable yet.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    /// The folder whose sync makes it durable.
    pub(super) folder: String,
    /// What each name stands for afterwards.
    pub(super) names: Vec<(String, Option<Node>)>,
}

/// Everything on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) files: Vec<File>,
    /// Names as the process sees them.
    pub(super) names: BTreeMap<String, Node>,
    /// Names that are durable.
    pub(super) synced_names: BTreeMap<String, Node>,
    /// Changes of names since, in order.
    pub(super) unsynced_names: Vec<NameChange>,
}

impl World {
    /// Does what a recording says was done.
    pub(super) fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::MakeFolder { path } => self.make_folder(path),
            Op::Create { path, bytes } => self.create(path, *bytes).map(drop),
            Op::Write { file, offset, bytes } => {
                self.write(*file, *offset, bytes);
                Ok(())
            }
            Op::Sync { file, truly } => {
                if *truly {
                    self.files[*file].sync();
                }
                Ok(())
            }
            Op::SyncFailed { file, seed } => {
                self.fail_sync(*file, *seed);
                Ok(())
            }
            Op::Truncate { file, bytes } => {
                self.truncate(*file, *bytes);
                Ok(())
            }
            Op::Rename { from, to } => self.rename(from, to),
            Op::Remove { path } => {
                self.remove(path);
                Ok(())
            }
            Op::SyncFolder { folder, truly } => {
                if *truly {
                    self.sync_folder(folder);
                }
                Ok(())
            }
        }
    }

    pub(super) fn file(&self, path: &str) -> io::Result<FileNo> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether a file may stand under this path.
    pub(super) fn check_parent(&self, path: &str) -> io::Result<()> {
        let parent = parent(path);
        if parent.is_empty() || self.names.get(parent) == Some(&Node::Folder) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn make_folder(&mut self, path: &str) -> io::Result<()> {
        for (index, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let folder = &path[..index];
            match self.names.get(folder) {
                Some(Node::Folder) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => self.change_names(parent(folder), vec![(folder.to_owned(), Some(Node::Folder))]),
            }
        }
        Ok(())
    }

    fn create(&mut self, path: &str, bytes: u64) -> io::Result<FileNo> {
        self.check_parent(path)?;
        let file = self.files.len();
        self.files.push(File { seen: Pages::zeros(bytes), ..File::default() });
        self.change_names(parent(path), vec![(path.to_owned(), Some(Node::File(file)))]);
        Ok(file)
    }

    fn write(&mut self, file: FileNo, offset: u64, bytes: &[u8]) {
        let file = &mut self.files[file];
        file.seen.write(offset, bytes);
        file.unsynced.push((offset, bytes.into()));
    }

    fn truncate(&mut self, file: FileNo, bytes: u64) {
        let file = &mut self.files[file];
        file.seen.set_bytes(bytes);
        for (offset, written) in &mut file.unsynced {
            let room = usize::try_from(bytes.saturating_sub(*offset)).unwrap_or(usize::MAX);
            if written.len() > room {
                *written = written[..room].into();
            }
        }
    }

    fn fail_sync(&mut self, file: FileNo, seed: u64) {
        let file = &mut self.files[file];
        let mut dice = Dice::new(seed);
        let mut synced = file.synced.clone();
        synced.set_bytes(file.seen.bytes());
        for (page, writes) in file.dirty() {
            if dice.below(2) == 0 {
                file.write_back(&writes, &mut synced, page * PAGE_BYTES as u64, PAGE_BYTES);
            }
        }
        file.synced = synced;
        file.unsynced.clear();
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = *self.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.check_parent(to)?;
        let mut names = vec![(from.to_owned(), None)];
        if node == Node::Folder {
            if self.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            for (below, node) in self.below(from) {
                names.push((format!("{to}{}", &below[from.len()..]), Some(node)));
                names.push((below, None));
            }
        }
        names.push((to.to_owned(), Some(node)));
        self.change_names(parent(to), names);
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        let mut names: Vec<_> = self.below(path).into_iter().map(|(name, _)| (name, None)).collect();
        names.push((path.to_owned(), None));
        self.change_names(parent(path), names);
    }

    fn below(&self, folder: &str) -> Vec<(String, Node)> {
        let prefix = format!("{folder}/");
        let all = self.names.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        all.map(|(name, node)| (name.clone(), *node)).collect()
    }

    fn change_names(&mut self, folder: &str, names: Vec<(String, Option<Node>)>) {
        set_names(&mut self.names, &names);
        self.unsynced_names.push(NameChange { folder: folder.to_owned(), names });
    }

    /// Makes the changes in this folder durable, with the earlier ones of the same names that they build upon.
    fn sync_folder(&mut self, folder: &str) {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        let mut keep = vec![false; self.unsynced_names.len()];
        for (index, change) in self.unsynced_names.iter().enumerate().rev() {
            if change.folder == folder || change.names.iter().any(|(name, _)| wanted.contains(name.as_str()))
            {
                keep[index] = true;
                wanted.extend(change.names.iter().map(|(name, _)| name.as_str()));
            }
        }
        let mut keep = keep.into_iter();
        for change in std::mem::take(&mut self.unsynced_names) {
            if keep.next() == Some(true) {
                set_names(&mut self.synced_names, &change.names);
            } else {
                self.unsynced_names.push(change);
            }
        }
    }

    /// Bytes of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let files: BTreeSet<FileNo> = self.named_files().map(|(_, file)| file).collect();
        files.iter().map(|file| self.files[*file].seen.bytes()).sum()
    }

    pub(super) fn named_files(&self) -> impl Iterator<Item = (&str, FileNo)> {
        self.names.iter().filter_map(|(name, node)| match node {
            Node::File(file) => Some((name.as_str(), *file)),
            Node::Folder => None,
        })
    }
}

pub(super) fn set_names(names: &mut BTreeMap<String, Node>, changes: &[(String, Option<Node>)]) {
    for (name, node) in changes {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

/// The folder of a path; `""` is the data directory.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

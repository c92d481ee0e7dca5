//! A folder of a test's own, removed with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// An empty folder below the system's place for temporary files.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dunlin-e2e-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it and returns where it is.
    #[must_use]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, text).expect("a file in the test's folder");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is left to the system; the test has its result already.
        let _gone = std::fs::remove_dir_all(&self.path);
    }
}

/// All files below a folder, in the order of their paths.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The first file below a folder in which this text stands, and where in it.
#[must_use]
pub fn find(folder: &Path, text: &[u8]) -> (PathBuf, usize) {
    let mut found = files(folder).into_iter().filter_map(|path| {
        let at = read(&path).windows(text.len()).position(|window| window == text)?;
        Some((path, at))
    });
    found.next().expect("the text stands in a file")
}

/// What a file holds.
#[must_use]
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("the file can be read")
}

/// Makes a file hold this.
pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("the file can be written");
}

/// Changes what a file holds.
pub fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = read(path);
    change(&mut bytes);
    write(path, &bytes);
}

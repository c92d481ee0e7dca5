//! Where a scenario and the files that it names come from: a folder, the library, or another host of the run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::PlanError;
use super::library;
use super::limits::{FILE_BYTES_MAX, SCENARIO_BYTES_MAX};

/// A scenario file with all files that it names, so that it can be sent to another host and read there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The path of the file or the name in the library, for messages.
    pub(crate) name: String,
    /// The text of the scenario file.
    pub(crate) text: String,
    /// The files that it names, by the path that it has for them. Filled while the plan is loaded.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The folder that paths are relative to; `None` when nothing may be read but `files`.
    #[serde(skip)]
    folder: Option<PathBuf>,
}

impl Source {
    /// Reads the scenario file at this path, or takes the scenario of the library with this name. A file wins.
    ///
    /// # Errors
    /// If it is neither, or can't be read.
    pub(crate) fn open(name_or_path: &str) -> Result<Self, PlanError> {
        let path = PathBuf::from(name_or_path);
        if !path.is_file() {
            return library::find(name_or_path).map(|text| Self::of_text(name_or_path, text)).ok_or_else(
                || PlanError::Unknown {
                    name: name_or_path.to_owned(),
                    nearest: library::nearest(name_or_path),
                },
            );
        }
        let unreadable = |error| PlanError::Unreadable { file: name_or_path.to_owned(), error };
        let bytes = bounded_read(&path, SCENARIO_BYTES_MAX).map_err(unreadable)?;
        let text =
            String::from_utf8(bytes).map_err(|_| unreadable(std::io::Error::other("it is not UTF-8")))?;
        let folder = path.parent().map(PathBuf::from);
        Ok(Self { name: name_or_path.to_owned(), text, files: BTreeMap::new(), folder })
    }

    /// A scenario in memory, which can name no files but those that are added to it.
    pub(crate) fn of_text(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), files: BTreeMap::new(), folder: None }
    }

    /// Whether it is one of the library, which names no files and is on every host.
    pub(crate) const fn is_of_library(&self) -> bool {
        self.folder.is_none()
    }

    /// The contents of a file that the scenario names.
    ///
    /// # Errors
    /// What went wrong and what to do.
    pub(crate) fn file(&mut self, path: &str) -> Result<&[u8], String> {
        if !self.files.contains_key(path) {
            let folder = self
                .folder
                .as_ref()
                .ok_or_else(|| format!("the file {path:?} is not part of this scenario"))?;
            let full = folder.join(path);
            let bytes = bounded_read(&full, FILE_BYTES_MAX).map_err(|error| {
                format!("{}: {error}; paths are relative to the scenario file", full.display())
            })?;
            self.files.insert(path.to_owned(), bytes);
        }
        Ok(self.files.get(path).map(Vec::as_slice).unwrap_or_default())
    }
}

/// Reads a whole file, unless it is longer than `bytes_max`.
#[expect(clippy::disallowed_methods, reason = "a tool reads the files that it is given")]
fn bounded_read(path: &std::path::Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max) {
        Ok(bytes)
    } else {
        Err(std::io::Error::other(format!("it is longer than {bytes_max} bytes")))
    }
}

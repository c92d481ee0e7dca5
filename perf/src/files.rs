//! The tool's edge to the file system.

use std::io;
use std::path::Path;

use crate::error::Error;

/// Reads a text file.
///
/// # Errors
/// What the operating system answers.
#[expect(clippy::disallowed_methods, reason = "the tool's edge to the file system")]
pub(crate) fn read(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file)
}

/// Writes a text file, and the folders above it if they are missing.
///
/// # Errors
/// With the name of the file.
#[expect(clippy::disallowed_methods, reason = "the tool's edge to the file system")]
pub(crate) fn write(file: &Path, text: &str) -> Result<(), Error> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::host(format!("creating {}", folder.display()), source))?;
    }
    std::fs::write(file, text).map_err(|source| Error::host(format!("writing {}", file.display()), source))
}

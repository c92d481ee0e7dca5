//! Outcomes as files: the only place that reads and writes them.

use std::path::{Path, PathBuf};

use super::{OutputError, csv, hlog, html, markdown, trials};
use crate::record::{FORMAT_VERSION, Outcome};

/// Writes all forms of an outcome into a folder, which is made if it is not there; returns what was written.
///
/// # Errors
/// When the folder or a file can't be written.
pub(crate) fn write_all(folder: &Path, outcome: &Outcome) -> Result<Vec<PathBuf>, OutputError> {
    std::fs::create_dir_all(folder).map_err(OutputError::file("making the folder", folder))?;
    let forms = [
        ("outcome.json", json(outcome).into_bytes()),
        ("report.html", html::page(std::slice::from_ref(outcome)).into_bytes()),
        ("report.md", markdown::document(std::slice::from_ref(outcome)).into_bytes()),
        ("series.csv", csv::series(std::slice::from_ref(outcome)).into_bytes()),
        ("percentiles.csv", csv::percentiles(std::slice::from_ref(outcome)).into_bytes()),
        ("times.hlog", hlog::log(outcome)),
    ];
    let trials = trials::table(std::slice::from_ref(outcome));
    let trials = trials.map(|text| ("trials.csv", text.into_bytes()));
    let mut written = Vec::new();
    for (name, bytes) in forms.into_iter().chain(trials) {
        let path = folder.join(name);
        write(&path, &bytes)?;
        written.push(path);
    }
    Ok(written)
}

/// The whole outcome as one JSON object with a line end.
pub(crate) fn json(outcome: &Outcome) -> String {
    let mut text =
        serde_json::to_string_pretty(outcome).expect("an outcome has only names, numbers and lists");
    text.push('\n');
    text
}

/// Reads an outcome from a JSON file.
///
/// # Errors
/// When it can't be read, is something else, or is of a later format.
pub(crate) fn read_outcome(path: &Path) -> Result<Outcome, OutputError> {
    let bytes = read(path)?;
    parse_outcome(&bytes).map_err(|reason| OutputError::Malformed { path: path.to_owned(), reason })
}

/// Reads an outcome from the bytes of a JSON file.
///
/// # Errors
/// In words, when it is something else or of a later format.
pub(crate) fn parse_outcome(bytes: &[u8]) -> Result<Outcome, String> {
    // The version first: what a later format means is not for this reader to guess.
    let version: Version =
        serde_json::from_slice(bytes).map_err(|error| format!("not an outcome of a run ({error})"))?;
    match version.format_version {
        None => {
            Err("not an outcome of a run: it has no format_version. The files to give are outcome.json of \
                     `--out FOLDER`"
                .to_owned())
        }
        Some(version) if version > FORMAT_VERSION => Err(format!(
            "is of format {version}, and this program reads up to {FORMAT_VERSION}: use the newer dunlin-loadgen that \
             wrote it"
        )),
        Some(_) => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
    }
}

#[derive(serde::Deserialize)]
struct Version {
    format_version: Option<u32>,
}

/// Reads a file.
///
/// # Errors
/// When it can't be read.
#[expect(clippy::disallowed_methods, reason = "the generator's edge to files")]
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, OutputError> {
    std::fs::read(path).map_err(OutputError::file("reading", path))
}

/// Writes a file.
///
/// # Errors
/// When it can't be written.
#[expect(clippy::disallowed_methods, reason = "the generator's edge to files")]
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    std::fs::write(path, bytes).map_err(OutputError::file("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_back_and_anything_else_is_named() {
        let outcome = Outcome::default();
        assert_eq!(parse_outcome(json(&outcome).as_bytes()).unwrap(), outcome);
        let later = parse_outcome(br#"{"format_version": 9, "stages": "otherwise"}"#).unwrap_err();
        assert!(later.contains("format 9"), "{later}");
        assert!(parse_outcome(br#"{"scenario": "p2p"}"#).unwrap_err().contains("format_version"));
        assert!(parse_outcome(b"[1]").is_err() && parse_outcome(b"\xff").is_err());
    }
}

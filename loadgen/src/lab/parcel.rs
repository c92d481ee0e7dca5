//! A scenario file with the files that it names, as it travels to an agent and is laid out there.

use std::io;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::plan::Source;

/// A scenario file of the coordinator's with everything that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// Which of the arguments names the scenario file.
    place: usize,
    /// Its name, without folders.
    name: String,
    /// Its text.
    text: String,
    /// Data files, keys and payloads: the path that the scenario has for each, and its bytes as base64.
    files: Vec<(String, String)>,
}

impl Parcel {
    /// Packs a scenario that one of `arguments` names. `None` for one of the library, which agents have too.
    ///
    /// # Errors
    /// In words, when a file lies where it can't be laid out elsewhere, or all are too much.
    pub(super) fn pack(source: &Source, arguments: &[String]) -> Result<Option<Self>, String> {
        let place = arguments.iter().position(|argument| *argument == source.name);
        let Some(place) = place.filter(|_| !source.is_of_library()) else { return Ok(None) };
        let mut files = Vec::new();
        for (path, bytes) in &source.files {
            if !is_below(path) {
                return Err(format!(
                    "{path:?} can't be sent to agents: put it beside the scenario file, or in a folder there, and name it by a \
                     relative path"
                ));
            }
            files.push((path.clone(), STANDARD.encode(bytes)));
        }
        let length: usize = source.text.len() + files.iter().map(|(_, text)| text.len()).sum::<usize>();
        if length > PARCEL_BYTES_MAX {
            return Err(format!(
                "its files come to {} MiB as they are sent, at most {} MiB can be: use shorter data files, or run each share \
                 by hand with --share",
                length >> 20,
                PARCEL_BYTES_MAX >> 20
            ));
        }
        let name =
            Path::new(&source.name).file_name().map_or_else(|| PLAN.into(), |name| name.to_string_lossy());
        Ok(Some(Self { place, name: name.into_owned(), text: source.text.clone(), files }))
    }

    /// Writes everything to a new folder and puts the scenario's path there into `arguments`.
    ///
    /// # Errors
    /// When a file can't be written, or would lie outside of the folder.
    #[expect(clippy::disallowed_methods, reason = "the generator's edge to files")]
    pub(super) fn lay_out(&self, folder: &Path, arguments: &mut [String]) -> io::Result<()> {
        std::fs::create_dir(folder)?;
        for (path, text) in &self.files {
            if !is_below(path) {
                return Err(io::Error::other(format!("{path:?} is no path below a folder")));
            }
            let full = folder.join(path);
            full.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(full, STANDARD.decode(text).map_err(io::Error::other)?)?;
        }
        let plan = if is_below(&self.name) { folder.join(&self.name) } else { folder.join(PLAN) };
        std::fs::write(&plan, &self.text)?;
        if let Some(argument) = arguments.get_mut(self.place) {
            *argument = plan.display().to_string();
        }
        Ok(())
    }

    /// A folder for one parcel, on an agent's host.
    pub(super) fn folder(number: i64) -> PathBuf {
        std::env::temp_dir().join(format!("dunlin-agent-{}-{number}", std::process::id()))
    }
}

/// Whether a path stays in the folder that it is joined to.
fn is_below(path: &str) -> bool {
    let mut components = Path::new(path).components().peekable();
    components.peek().is_some() && components.all(|component| matches!(component, Component::Normal(_)))
}

/// What is sent at most: a message holds this and the command line.
const PARCEL_BYTES_MAX: usize = 60 << 20;
/// The scenario's name where its own can't be used.
const PLAN: &str = "plan.toml";

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read and write files")]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_is_laid_out_as_it_was_packed() {
        let mut source = Source::of_text("field/mine.toml", "version = 1\n");
        source.files.insert("keys/a.csv".to_owned(), vec![0, 255, 7]);
        let arguments = ["run", "field/mine.toml"].map(str::to_owned);
        assert_eq!(Parcel::pack(&source, &arguments), Ok(None), "in memory it is like one of the library");
        let parcel = Parcel {
            place: 1,
            name: "mine.toml".to_owned(),
            text: source.text.clone(),
            files: vec![("keys/a.csv".to_owned(), STANDARD.encode([0, 255, 7]))],
        };
        let folder = Parcel::folder(-1);
        let mut arguments = arguments;
        parcel.lay_out(&folder, &mut arguments).unwrap();
        assert_eq!(std::fs::read(folder.join("keys/a.csv")).unwrap(), [0, 255, 7]);
        assert_eq!(std::fs::read_to_string(&arguments[1]).unwrap(), "version = 1\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn nothing_is_written_outside_of_the_folder() {
        assert!(is_below("a.csv") && is_below("b/a.csv"));
        for path in ["", "/a.csv", "../a.csv", "b/../../a.csv", "."] {
            assert!(!is_below(path), "{path}");
        }
        let files = vec![("../x".to_owned(), String::new())];
        let parcel = Parcel { place: 0, name: "x".to_owned(), text: String::new(), files };
        let folder = Parcel::folder(-2);
        assert!(parcel.lay_out(&folder, &mut []).unwrap_err().to_string().contains("../x"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

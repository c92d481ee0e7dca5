//! The files of the workspace as they would be committed, loaded once.

use crate::Problem;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A text file of the tree.
#[derive(Clone, Debug)]
pub struct File {
    /// Path below the workspace, with `/` between its parts.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl File {
    /// The name of the file without its folders.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the name ends with a dot and `extension`.
    #[must_use]
    pub fn has_extension(&self, extension: &str) -> bool {
        self.name().rsplit_once('.').is_some_and(|(stem, found)| !stem.is_empty() && found == extension)
    }

    /// Whether one of the folders above the file is called `name`.
    #[must_use]
    pub fn is_below_folder(&self, name: &str) -> bool {
        let mut parts: Vec<&str> = self.path.split('/').collect();
        parts.pop();
        parts.contains(&name)
    }
}

/// Every file that git tracks or would track, in the order of their paths.
#[derive(Debug, Default)]
pub struct Tree {
    files: Vec<File>,
    paths: BTreeSet<String>,
    folders: BTreeSet<String>,
}

impl Tree {
    /// Loads the tree below `root`. Files that are not text are known by path only.
    ///
    /// # Errors
    /// When git is missing, `root` is not a repository, or a file can't be read.
    pub fn load(root: &Path) -> Result<Self, String> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("git ls-files can't be run ({error}); install git"))?;
        if !output.status.success() {
            return Err(format!(
                "git ls-files failed in {}: {}",
                root.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        let listing = String::from_utf8_lossy(&output.stdout);
        let mut tree = Self::default();
        for path in listing.split('\0').filter(|path| !path.is_empty()) {
            let full = root.join(path);
            if !full.is_file() {
                continue; // deleted in the work tree, or a link to a folder
            }
            let bytes = std::fs::read(&full).map_err(|error| format!("{path}: {error}"))?;
            tree.add(path, String::from_utf8(bytes).ok());
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// A tree of the given paths and texts, to try a check on.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, Some((*text).to_owned()));
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    fn add(&mut self, path: &str, text: Option<String>) {
        self.paths.insert(path.to_owned());
        for (index, _) in path.match_indices('/') {
            if let Some(folder) = path.get(..index) {
                self.folders.insert(folder.to_owned());
            }
        }
        if let Some(text) = text {
            self.files.push(File { path: path.to_owned(), text });
        }
    }

    /// All text files, by path.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    /// All Rust sources, by path.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files().filter(|file| file.has_extension("rs"))
    }

    /// The text of `path`, if it is a text file of the tree.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// Whether `path` is a file or a folder of the tree.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.paths.contains(path) || self.folders.contains(path)
    }

    /// Whether some file's path is `tail` or ends with a slash and `tail`.
    #[must_use]
    pub fn has_ending(&self, tail: &str) -> bool {
        self.paths
            .iter()
            .any(|path| path.strip_suffix(tail).is_some_and(|head| head.is_empty() || head.ends_with('/')))
    }

    /// Reads `path` as TOML into `T`; a missing or broken file is a problem of `check`.
    ///
    /// # Errors
    /// The problem to report.
    pub fn toml<T: serde::de::DeserializeOwned>(
        &self,
        check: &'static str,
        path: &str,
    ) -> Result<T, Problem> {
        let text = self
            .text(path)
            .ok_or_else(|| Problem::new(check, path, "the file is missing; the check needs it"))?;
        toml::from_str(text).map_err(|error| Problem::new(check, path, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_endings_are_known() {
        let tree = Tree::of(&[("a/b/c.rs", "x"), ("top.md", "y")]);
        assert!(tree.has("a/b"));
        assert!(tree.has("a/b/"));
        assert!(tree.has("a/b/c.rs"));
        assert!(!tree.has("a/c"));
        assert!(tree.has_ending("b/c.rs"));
        assert!(tree.has_ending("c.rs"));
        assert!(!tree.has_ending(".rs"));
        assert_eq!(tree.text("top.md"), Some("y"));
        assert_eq!(tree.rust().count(), 1);
    }

    #[test]
    fn the_folder_above_is_found() {
        let tree = Tree::of(&[("wire/tests/vectors/a.txt", "")]);
        let file = tree.files().next().unwrap();
        assert!(file.is_below_folder("tests"));
        assert!(!file.is_below_folder("a.txt"));
        assert_eq!(file.name(), "a.txt");
    }
}

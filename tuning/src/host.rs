//! The edge: one host's files below a root, and the program ethtool. Everything else in this crate is pure.
//!
//! The root is `/`, an image's folder, or a recorded tree. Nothing outside it is written, whatever links are in it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::limits::VALUE_BYTES_MAX;

/// A host, or a folder that stands for one.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    ethtool: Option<PathBuf>,
}

/// Why a root cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the root {path} cannot be used: {source}; --root takes the folder of an image or a recorded tree")]
pub struct RootError {
    /// What was given.
    pub path: String,
    /// What the kernel says.
    pub source: io::Error,
}

impl Host {
    /// The host or image below `root`. Only the running host has ethtool.
    ///
    /// # Errors
    /// When `root` is not a folder that can be entered.
    pub fn at(root: &Path) -> Result<Self, RootError> {
        let failed = |source| RootError { path: root.display().to_string(), source };
        let found = root.canonicalize().map_err(failed)?;
        if !found.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        let places = ["/usr/sbin/ethtool", "/sbin/ethtool", "/usr/bin/ethtool"];
        let ethtool = (found == Path::new("/"))
            .then(|| places.iter().map(PathBuf::from).find(|place| place.exists()))
            .flatten();
        Ok(Self { root: found, ethtool })
    }

    /// The same with this program as ethtool.
    #[must_use]
    pub fn with_ethtool(mut self, program: PathBuf) -> Self {
        self.ethtool = Some(program);
        self
    }

    /// Whether this is the machine that runs this program.
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether there is a kernel's tree to look at. An image has none until it runs.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.path("/proc/sys").is_dir()
    }

    /// Where a path of the host is seen from here.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether something is at this path.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's text without the blanks at its ends.
    ///
    /// # Errors
    /// What the kernel says; `InvalidData` when it is not text or has more than [`VALUE_BYTES_MAX`] bytes.
    pub fn read(&self, path: &str) -> io::Result<String> {
        Ok(self.read_text(path, VALUE_BYTES_MAX)?.trim().to_owned())
    }

    /// A file's whole text.
    ///
    /// # Errors
    /// As [`Host::read`], with this bound.
    #[expect(clippy::disallowed_methods, reason = "this is the crate's edge")]
    pub fn read_text(&self, path: &str, bytes_max: u64) -> io::Result<String> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(path))?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            let text = format!("it has more than {bytes_max} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text"))
    }

    /// The names in a folder, in order; none when it cannot be read.
    #[must_use]
    pub fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by_key(|name| natural(name));
        names
    }

    /// The paths that a pattern stands for: `*` is any part of one name.
    #[must_use]
    pub fn expand(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            let below = |folder: &String| -> Vec<String> {
                match part.split_once('*') {
                    None => vec![format!("{folder}/{part}")],
                    Some((head, tail)) => {
                        let fits = |name: &String| {
                            name.len() >= head.len() + tail.len()
                                && name.starts_with(head)
                                && name.ends_with(tail)
                        };
                        let names = self.list(folder).into_iter().filter(fits);
                        names.map(|name| format!("{folder}/{name}")).collect()
                    }
                }
            };
            found = found.iter().flat_map(below).collect();
        }
        found.retain(|path| self.exists(path));
        found
    }

    /// Gives the kernel a value: one write into a file that exists.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set(&self, path: &str, value: &str) -> io::Result<()> {
        let file = self.path(path).canonicalize()?;
        self.check_inside(&file)?;
        OpenOptions::new().write(true).truncate(true).open(file)?.write_all(format!("{value}\n").as_bytes())
    }

    /// Puts a whole file in place, or takes it away: at any moment either the old or the new text is there, and after the
    /// return it outlives a power failure.
    ///
    /// # Errors
    /// What the kernel says; nothing is changed then.
    pub fn replace(&self, path: &str, text: Option<&str>) -> io::Result<()> {
        let target = self.path(path);
        let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let Some(text) = text else {
            return match fs::remove_file(&target) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(&self.root);
        self.check_inside(&existing.canonicalize()?)?;
        fs::create_dir_all(folder)?;
        let mut beside_name = name.to_os_string();
        beside_name.push(".new");
        let beside = folder.join(beside_name);
        let written = write_synced(&beside, text).and_then(|()| fs::rename(&beside, &target));
        if let Err(error) = written {
            drop(fs::remove_file(&beside));
            return Err(error);
        }
        sync_folder(folder)
    }

    /// Runs ethtool; gives what it prints. `None` when there is none.
    ///
    /// # Errors
    /// What it complains about.
    #[must_use]
    pub fn ethtool(&self, arguments: &[&str]) -> Option<Result<String, String>> {
        let program = self.ethtool.as_ref()?;
        let output = match Command::new(program).args(arguments).output() {
            Ok(output) => output,
            Err(error) => return Some(Err(format!("{} cannot be run: {error}", program.display()))),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Some(if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr).lines().last().unwrap_or("it failed without a word").to_owned())
        })
    }

    /// Refuses what links lead out of the root.
    fn check_inside(&self, real: &Path) -> io::Result<()> {
        if real.starts_with(&self.root) {
            return Ok(());
        }
        let text = format!("a link leads out of {} to {}", self.root.display(), real.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// The user that this process acts as; 0 is root. `None` when the kernel does not tell.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the crate's edge")]
pub fn effective_user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    // What an earlier attempt left behind goes first, so that no link is followed.
    drop(fs::remove_file(path));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "this is the crate's edge")]
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Orders `cpu2` before `cpu10`.
fn natural(name: &str) -> (String, u64, String) {
    let head: String = name.chars().take_while(|c| !c.is_ascii_digit()).collect();
    let digits: String = name[head.len()..].chars().take_while(char::is_ascii_digit).collect();
    (head, digits.parse().unwrap_or(0), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let mut names = ["cpu10", "cpu2", "cpu", "state1"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["cpu", "cpu2", "cpu10", "state1"]);
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_user() {
        let host = Host::at(Path::new("/")).expect("a root");
        assert!(host.is_live() && host.is_this_machine());
        assert!(host.expand("/proc/sys/kernel/os*ease").contains(&"/proc/sys/kernel/osrelease".to_owned()));
        assert!(effective_user().is_some());
        assert!(Host::at(Path::new("/proc/version")).is_err());
    }
}

//! The few forms in which the kernel writes figures: `Name: value kB`, `name value`, tables of two lines.

use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel's figures are: /proc and /sys, or recordings of them.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    proc: PathBuf,
    sys: PathBuf,
}

impl Host {
    /// The host that the program runs on.
    pub(crate) fn live() -> Self {
        Self { proc: PathBuf::from("/proc"), sys: PathBuf::from("/sys") }
    }

    /// A recorded host, for tests.
    #[cfg(test)]
    pub(crate) fn recorded() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        Self { proc: folder.join("proc"), sys: folder.join("sys") }
    }

    /// A path below /proc.
    pub(crate) fn proc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.proc.join(path)
    }

    /// A path below /sys.
    pub(crate) fn sys(&self, path: impl AsRef<Path>) -> PathBuf {
        self.sys.join(path)
    }
}

/// The text of a file of the kernel's.
///
/// # Errors
/// When it is not there or may not be read.
#[expect(clippy::disallowed_methods, reason = "the generator's edge to /proc and /sys")]
pub(crate) fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// The only figure of a file, if it is there.
pub(crate) fn read_number(path: &Path) -> Option<u64> {
    read(path).ok()?.trim().parse().ok()
}

/// The first number behind `name`, which begins a line: `Name: 12 kB` gives 12 for `Name:`, `name 12` for `name`.
pub(crate) fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == name).and_then(|_| words.next()?.parse().ok())
    })
}

/// The value of a `Name:  123 kB` line, in bytes.
pub(crate) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    number(text, name).map(|kibibytes| kibibytes.saturating_mul(1024))
}

/// The number behind the word `key` in the line that begins with `section`: `TCP: inuse 7 orphan 0`.
pub(crate) fn pair(text: &str, section: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(section))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == key)?;
    words.next()?.parse().ok()
}

/// The figure under `key` in a table of two lines that both begin with `section`: names, then values.
///
/// A value below zero (some limits are −1) counts as absent.
pub(crate) fn column(text: &str, section: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(section));
    let at = lines.next()?.split_ascii_whitespace().position(|name| name == key)?;
    lines.next()?.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_name_and_a_unit_are_read() {
        let text = "Name:\tx\nVmRSS:\t   12 kB\nslab_x 1\nslab 7\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(12 * 1024));
        assert_eq!(number(text, "slab"), Some(7));
        assert_eq!((number(text, "Name:"), number(text, "VmR")), (None, None));
    }

    #[test]
    fn pairs_and_tables_are_read_by_name() {
        let pairs = "sockets: used 3\nTCP: inuse 7 orphan 0 tw 2\nTCP6: inuse 9\n";
        assert_eq!(pair(pairs, "TCP:", "tw"), Some(2));
        assert_eq!((pair(pairs, "TCP:", "mem"), pair(pairs, "UDP:", "inuse")), (None, None));
        let table = "Tcp: MaxConn InSegs\nTcp: -1 12\nTcpExt: A\nTcpExt: 5\n";
        assert_eq!(column(table, "Tcp:", "InSegs"), Some(12));
        assert_eq!(column(table, "TcpExt:", "A"), Some(5));
        assert_eq!((column(table, "Tcp:", "MaxConn"), column(table, "Tcp:", "None")), (None, None));
    }

    #[test]
    fn torn_text_is_absent_and_no_panic() {
        for text in ["", "\n", "Tcp:", "Tcp: A\n", "Tcp: A\nTcp:\n", "Tcp: A\nTcp: x\n"] {
            assert_eq!(column(text, "Tcp:", "A"), None);
            assert_eq!(pair(text, "Tcp:", "A"), None);
            assert_eq!(number(text, "A"), None);
        }
    }
}

//! Inputs to start from: the packets of `wire/tests/vectors`, and what once broke a target.

use std::path::{Path, PathBuf};

/// The folder of this package.
#[must_use]
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The name and bytes of every packet in the vector files.
///
/// # Panics
/// If the files are not there or not as their README says.
#[must_use]
pub fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut packets: Vec<(String, Vec<u8>)> = Vec::new();
    for path in files(&home().join("../../wire/tests/vectors"), "hex") {
        let stem = path.file_stem().expect("has a name").to_string_lossy().into_owned();
        for line in text_of(&path).lines() {
            if let Some(name) = line.strip_prefix("name:") {
                packets.push((format!("{stem}-{}", name.trim()), Vec::new()));
            } else if let Some(hex) = line.strip_prefix("hex:") {
                let (_, bytes) = packets.last_mut().expect("a name comes first");
                bytes.extend(bytes_of(hex));
            }
        }
    }
    packets
}

/// What once broke a target: `regressions/<target>/*.hex`.
#[must_use]
pub fn regressions(target: &str) -> Vec<Vec<u8>> {
    files(&home().join("regressions").join(target), "hex")
        .iter()
        .map(|path| bytes_of(&text_of(path)))
        .collect()
}

/// Bytes without meaning, always the same ones: choices for the targets that build their input.
#[must_use]
pub fn noise() -> Vec<Vec<u8>> {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..256).map(|_| (0..400).map(|_| byte()).collect()).collect()
}

/// The files of a folder with this ending, in order; none if there is no such folder.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == ending));
    paths.sort();
    paths
}

/// The text of a file.
fn text_of(path: &Path) -> String {
    #[expect(clippy::disallowed_methods, reason = "test data lies in files")]
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Bytes in hexadecimal, with text in quotes between them.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u32> = part.chars().filter_map(|c| c.to_digit(16)).collect();
        bytes.extend(digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_found() {
        let packets = vectors();
        assert!(packets.len() > 150);
        assert!(packets.iter().any(|(_, bytes)| bytes.starts_with(b"\x10\x0d\0\x04MQTT")));
    }
}

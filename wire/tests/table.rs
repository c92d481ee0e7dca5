//! Runs the packets in `vectors/*.hex`: each decodes to what is written beside it, or is refused for
//! the reason written there; what was decoded is encoded again to the same bytes.
//!
//! The form of these files is described in `vectors/README.md`.

use std::fmt::Write as _;
use std::path::Path;

use dunlin_wire::{DecodeError, Limits, Packet, Sender, Version, decode_one};

#[test]
fn connect() {
    assert!(run("connect.hex") >= 30);
}

#[test]
fn connack() {
    assert!(run("connack.hex") >= 12);
}

#[test]
fn publish() {
    assert!(run("publish.hex") >= 25);
}

#[test]
fn acknowledgements() {
    assert!(run("acknowledgements.hex") >= 20);
}

#[test]
fn subscriptions() {
    assert!(run("subscriptions.hex") >= 25);
}

#[test]
fn others() {
    assert!(run("others.hex") >= 20);
}

#[test]
fn framing() {
    assert!(run("framing.hex") >= 10);
}

/// One entry of a file.
#[derive(Default)]
struct Vector {
    name: String,
    line: usize,
    version: Option<Version>,
    sender: Sender,
    strict: bool,
    bytes: Vec<u8>,
    expect: Option<String>,
    error: Option<String>,
    /// The bytes are a longer form than the encoder writes.
    longer: bool,
}

/// Runs a file; returns how many vectors it has.
fn run(file: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    #[expect(clippy::disallowed_methods, reason = "test data lies in files")]
    let text = std::fs::read_to_string(&path).expect("the file is beside this one");
    let vectors = parse(&text);
    let mut failures = String::new();
    for vector in &vectors {
        if let Err(failure) = check(vector) {
            writeln!(failures, "{file}:{} {}: {failure}", vector.line, vector.name)
                .expect("a string takes all");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    vectors.len()
}

/// Reads the entries of a file.
fn parse(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("line {}", index + 1));
        let value = value.trim();
        if key == "name" {
            vectors.push(Vector { name: value.to_owned(), line: index + 1, ..Vector::default() });
            continue;
        }
        let vector = vectors.last_mut().expect("a name comes first");
        match (key, value) {
            ("version", "3.1") => vector.version = Some(Version::V31),
            ("version", "3.1.1") => vector.version = Some(Version::V311),
            ("version", "5.0") => vector.version = Some(Version::V5),
            ("from", "client") => vector.sender = Sender::Client,
            ("from", "server") => vector.sender = Sender::Server,
            ("from", "either") => vector.sender = Sender::Either,
            ("strict", "yes") => vector.strict = true,
            ("longer", "yes") => vector.longer = true,
            ("hex", _) => vector.bytes.extend(bytes_of(value)),
            ("packet", _) => vector.expect = Some(value.to_owned()),
            ("error", _) => vector.error = Some(value.to_owned()),
            _ => panic!("line {}: {line}", index + 1),
        }
    }
    vectors
}

/// Bytes in hexadecimal, with text in quotes between them.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<char> = part.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(digits.len().is_multiple_of(2), "odd number of digits in {part}");
        for pair in digits.chunks(2) {
            let pair: String = pair.iter().collect();
            bytes.push(u8::from_str_radix(&pair, 16).expect("hexadecimal digits"));
        }
    }
    bytes
}

/// Checks one entry.
fn check(vector: &Vector) -> Result<(), String> {
    let version = vector.version.ok_or("no version")?;
    let limits = Limits { sender: vector.sender, strict: vector.strict, ..Limits::SERVER };
    let result = decode_one(&vector.bytes, version, &limits);
    match (result, &vector.expect, &vector.error) {
        (Ok(Some((packet, size))), Some(expect), None) => {
            if size != vector.bytes.len() {
                return Err(format!("took {size} of {} bytes", vector.bytes.len()));
            }
            same("packet", &short(&packet), expect)?;
            check_encoding(vector, version, &packet)
        }
        (Ok(None), Some(expect), None) => same("packet", "incomplete", expect),
        (Err(error), None, Some(expect)) => same("error", &tell(error), expect),
        (result, ..) => Err(format!("got {}", result.map_or_else(tell, |p| format!("{p:?}")))),
    }
}

/// What was decoded is encoded again: to the same bytes, or to fewer if the vector says so.
fn check_encoding(vector: &Vector, version: Version, packet: &Packet<'_>) -> Result<(), String> {
    let mut again = Vec::new();
    packet.encode(version, &mut again).map_err(|error| error.to_string())?;
    if packet.encoded_len(version) != Ok(again.len()) {
        return Err("counted and written sizes differ".to_owned());
    }
    if !vector.longer {
        return same("encoded", &hex(&again), &hex(&vector.bytes));
    }
    let limits = Limits { sender: vector.sender, ..Limits::SERVER };
    let back = decode_one(&again, version, &limits);
    if again.len() > vector.bytes.len() || back != Ok(Some((*packet, again.len()))) {
        return Err(format!("encoded {} gives {back:?}", hex(&again)));
    }
    Ok(())
}

/// The name of an error and where it is.
fn tell(error: DecodeError) -> String {
    format!("{} at {}", error.name(), error.offset)
}

fn same(what: &str, got: &str, expect: &str) -> Result<(), String> {
    if got == expect { Ok(()) } else { Err(format!("\n  {what}: {got}\n  expect: {expect}")) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The packet as text, without what is absent, off or empty.
fn short(packet: &Packet<'_>) -> String {
    let mut text = format!("{packet:?}");
    loop {
        let Some(field) = empty_field(&text) else { return text };
        text.replace_range(field, "");
    }
}

/// Where a field stands that says nothing, with one of the commas beside it.
fn empty_field(text: &str) -> Option<std::ops::Range<usize>> {
    let (value, end) = [": None", ": false", ": []", "Properties { }", "Properties {  }"]
        .into_iter()
        .find_map(|value| text.find(value).map(|at| (at, at + value.len())))?;
    let start = if text[value..].starts_with(':') {
        text[..value].rfind([' ', '{'])? + 1
    } else {
        let name = text[..value].rfind(": ")?;
        text[..name].rfind([' ', '{'])? + 1
    };
    if text[end..].starts_with(", ") {
        return Some(start..end + 2);
    }
    let start = if text[..start].ends_with(", ") { start - 2 } else { start };
    Some(start..end)
}

//! What stands in the index, byte by byte.
//!
//! | key | value |
//! |---|---|
//! | `h` | [`Header`] |
//! | `m` shard | [`Mark`] |
//! | `n` session number | client id |
//! | `s` client id | [`SessionEntry`] |
//!
//! Numbers in keys are big endian, so that they sort; in values little endian. A value is a version byte, four bytes CRC32C over
//! key and fields, and the fields.

use super::IndexError;
use crate::record::SessionNo;

/// Version of all values.
const VERSION: u8 = 1;
/// Prefix of the marks.
pub(super) const MARKS: &[u8] = b"m";
/// Prefix of the client ids by number.
pub(super) const NUMBERS: &[u8] = b"n";
/// Prefix of the sessions by client id.
pub(super) const SESSIONS: &[u8] = b"s";

/// Where a record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the segment in its shard.
    pub segment: u64,
    /// Bytes from the beginning of the segment.
    pub offset: u64,
    /// Number of the frame in its shard.
    pub sequence: u64,
}

/// Of which data directory the index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The manifest's epoch: another one when the sessions were spread over shards anew.
    pub epoch: u64,
    /// Shards that the logs belong to.
    pub shard_count: u16,
    /// A fingerprint of the logs' key: another one in another directory.
    pub logs: u64,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// In whose log.
    pub shard: u16,
    /// Its number.
    pub session: SessionNo,
    /// Its last whole image; where it was begun, as long as there is none.
    pub at: Place,
}

/// How far the index has followed a shard's log, and what it then held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The last frame that was followed.
    pub up_to: u64,
    /// The sessions of this shard.
    pub sum: Sum,
}

/// A count and a fingerprint of a set of sessions; the order in which they come and go does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub sessions: u64,
    /// Exclusive or over a hash of each.
    pub fold: u64,
}

impl Sum {
    /// A session came.
    pub fn add(&mut self, client_id: &str, session: SessionNo) {
        self.sessions = self.sessions.wrapping_add(1);
        self.fold ^= hash(client_id, session);
    }

    /// A session that had come went.
    pub fn remove(&mut self, client_id: &str, session: SessionNo) {
        self.sessions = self.sessions.wrapping_sub(1);
        self.fold ^= hash(client_id, session);
    }
}

/// FNV-1a over number and name, its bits spread by a multiplication.
fn hash(client_id: &str, session: SessionNo) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in session.0.to_le_bytes().iter().chain(client_id.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

pub(super) fn header_key() -> Vec<u8> {
    b"h".to_vec()
}

pub(super) fn mark_key(shard: u16) -> Vec<u8> {
    [MARKS, &shard.to_be_bytes()].concat()
}

pub(super) fn number_key(session: SessionNo) -> Vec<u8> {
    [NUMBERS, &session.0.to_be_bytes()].concat()
}

pub(super) fn session_key(client_id: &str) -> Vec<u8> {
    [SESSIONS, client_id.as_bytes()].concat()
}

pub(super) fn client_of_key(key: &[u8]) -> Result<&str, IndexError> {
    let name = key.strip_prefix(SESSIONS).and_then(|name| std::str::from_utf8(name).ok());
    name.ok_or_else(|| damaged(key, "is no client id"))
}

pub(super) fn shard_of_mark_key(key: &[u8]) -> Result<u16, IndexError> {
    let shard = key.strip_prefix(MARKS).and_then(|rest| rest.try_into().ok());
    shard.map(u16::from_be_bytes).ok_or_else(|| damaged(key, "names no shard"))
}

pub(super) fn client_to_bytes(key: &[u8], client_id: &str) -> Vec<u8> {
    sealed(key, client_id.as_bytes())
}

pub(super) fn client_from(key: &[u8], value: &[u8]) -> Result<Box<str>, IndexError> {
    let name = std::str::from_utf8(fields(key, value)?);
    name.map(Into::into).map_err(|_| damaged(key, "is no text"))
}

impl Header {
    pub(super) fn to_bytes(self, key: &[u8]) -> Vec<u8> {
        sealed(key, &numbers(&[self.epoch, u64::from(self.shard_count), self.logs]))
    }

    pub(super) fn from_bytes(key: &[u8], value: &[u8]) -> Result<Self, IndexError> {
        let [epoch, shards, logs] = read(key, value)?;
        Ok(Self { epoch, shard_count: shard(key, shards)?, logs })
    }
}

impl Mark {
    pub(super) fn to_bytes(self, key: &[u8]) -> Vec<u8> {
        sealed(key, &numbers(&[self.up_to, self.sum.sessions, self.sum.fold]))
    }

    pub(super) fn from_bytes(key: &[u8], value: &[u8]) -> Result<Self, IndexError> {
        let [up_to, sessions, fold] = read(key, value)?;
        Ok(Self { up_to, sum: Sum { sessions, fold } })
    }
}

impl SessionEntry {
    pub(super) fn to_bytes(self, key: &[u8]) -> Vec<u8> {
        let Place { segment, offset, sequence } = self.at;
        sealed(key, &numbers(&[u64::from(self.shard), self.session.0, segment, offset, sequence]))
    }

    pub(super) fn from_bytes(key: &[u8], value: &[u8]) -> Result<Self, IndexError> {
        let [number, session, segment, offset, sequence] = read(key, value)?;
        let at = Place { segment, offset, sequence };
        Ok(Self { shard: shard(key, number)?, session: SessionNo(session), at })
    }
}

fn shard(key: &[u8], number: u64) -> Result<u16, IndexError> {
    u16::try_from(number).map_err(|_| damaged(key, "has a shard number out of range"))
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The numbers of a value, of which there are exactly `COUNT`.
fn read<const COUNT: usize>(key: &[u8], value: &[u8]) -> Result<[u64; COUNT], IndexError> {
    let (numbers, rest) = fields(key, value)?.as_chunks::<8>();
    match numbers.first_chunk::<COUNT>() {
        Some(found) if numbers.len() == COUNT && rest.is_empty() => Ok(found.map(u64::from_le_bytes)),
        _ => Err(damaged(key, "has another length")),
    }
}

fn sealed(key: &[u8], fields: &[u8]) -> Vec<u8> {
    let sum = crc(key, fields);
    [&[VERSION][..], &sum.to_le_bytes(), fields].concat()
}

fn fields<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], IndexError> {
    let Some((&[version, a, b, c, d], fields)) = value.split_first_chunk::<5>() else {
        return Err(damaged(key, "is too short"));
    };
    if version != VERSION {
        return Err(damaged(key, "is of another version"));
    }
    if u32::from_le_bytes([a, b, c, d]) != crc(key, fields) {
        return Err(damaged(key, "fails its checksum"));
    }
    Ok(fields)
}

fn crc(key: &[u8], fields: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), fields)
}

pub(super) fn damaged(key: &[u8], why: &'static str) -> IndexError {
    IndexError::Damaged { key: key.escape_ascii().to_string(), why }
}

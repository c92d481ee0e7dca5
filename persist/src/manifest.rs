//! The file `manifest`: which epoch of logs holds, for how many shards, and the logs' secret key.
//!
//! Replaced as a whole, by a rename, so that a crash leaves the old one or the new one. A copy stands beside it.

use crate::disk::Disk;
use crate::error::OpenError;

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Number of the folder whose logs hold.
    pub epoch: u64,
    /// Part of every checksum of that epoch.
    pub key: u64,
    /// How many logs there are.
    pub shard_count: u16,
}

const PATH: &str = "manifest";
const COPY: &str = "manifest.copy";
const NEW: &str = "manifest.new";
const MAGIC: [u8; 8] = *b"DUNLINMF";
/// Version of the data directory as a whole.
pub(crate) const FORMAT: u32 = 1;
const BYTES: usize = 64;

impl Manifest {
    /// Reads it; `None` in a directory that was never used.
    ///
    /// # Errors
    /// [`OpenError::UnknownVersion`], [`OpenError::Manifest`] if neither it nor its copy can be read, [`OpenError::Io`].
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        let names = disk.list("").map_err(OpenError::io("list the directory", "."))?;
        let has = |name: &str| names.iter().any(|entry| entry.name == name);
        let mut damage = None;
        for path in [PATH, COPY] {
            if !has(path) {
                continue;
            }
            match read_one(disk, path)? {
                Some(manifest) => return Ok(Some(manifest)),
                None => damage = Some("it fails its checksum, and so does its copy or there is none"),
            }
        }
        let mut epochs = names.iter().filter(|entry| entry.is_folder && entry.name.starts_with("epoch-"));
        if damage.is_none() && epochs.any(|epoch| has_logs(disk, &epoch.name)) {
            damage = Some("it is missing, though there are logs");
        }
        damage.map_or(Ok(None), |reason| Err(OpenError::Manifest { reason }))
    }

    /// Makes this the manifest. When it returns, a crash cannot take that back.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        for path in [PATH, COPY] {
            let io = |action| OpenError::io(action, path);
            let file = disk.create(NEW, BYTES.try_into().unwrap_or(u64::MAX)).map_err(io("write"))?;
            file.write_at(0, &self.encode()).map_err(io("write"))?;
            file.sync().map_err(io("sync"))?;
            disk.rename(NEW, path).map_err(io("replace"))?;
            disk.sync_folder("").map_err(io("sync the name of"))?;
        }
        Ok(())
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.key.to_le_bytes());
        bytes[32..34].copy_from_slice(&self.shard_count.to_le_bytes());
        let sum = crc32c::crc32c(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Whether an epoch has any segment. Its manifest is durable before the first is made; a boot that was cut short leaves folders only.
fn has_logs(disk: &dyn Disk, epoch: &str) -> bool {
    let shards = disk.list(epoch).unwrap_or_default();
    let folders = shards.iter().map(|shard| format!("{epoch}/{}", shard.name));
    folders.into_iter().any(|folder| disk.list(&folder).is_ok_and(|files| !files.is_empty()))
}

fn read_one(disk: &dyn Disk, path: &str) -> Result<Option<Manifest>, OpenError> {
    let file = disk.open(path).map_err(OpenError::io("open", path))?;
    let mut bytes = [0; BYTES];
    if file.bytes() < BYTES.try_into().unwrap_or(u64::MAX) || file.read_at(0, &mut bytes).is_err() {
        return Ok(None);
    }
    let mut bare = bytes;
    bare[12..16].fill(0);
    let [_, _, _, _, _, _, _, _, v0, v1, v2, v3, s0, s1, s2, s3, ..] = bytes;
    if bytes[0..8] != MAGIC || crc32c::crc32c(&bare) != u32::from_le_bytes([s0, s1, s2, s3]) {
        return Ok(None);
    }
    let found = u32::from_le_bytes([v0, v1, v2, v3]);
    if found != FORMAT {
        return Err(OpenError::UnknownVersion { path: path.to_owned(), found, known: FORMAT });
    }
    let u64_at = |at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were taken, all within the file"))
    };
    let shard_count = u16::from_le_bytes([bytes[32], bytes[33]]);
    Ok(Some(Manifest { epoch: u64_at(16), key: u64_at(24), shard_count }))
}

//! Finds the data directory, and opens it as a command needs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dunlin_persist::overlay::Overlay;
use dunlin_persist::{Disk, OpenError, RealDisk};

use super::flags::PlaceFlags;
use crate::config::value::Raw;
use crate::config::{Given, Origin, Sources, env, load};

/// A data directory that a command works on.
pub(super) struct Place {
    /// Where.
    pub(super) path: PathBuf,
    /// Its files.
    pub(super) disk: Arc<dyn Disk>,
    /// A broker uses it at the same time.
    pub(super) is_online: bool,
}

impl Place {
    /// For looking: with the lock where nobody has it, beside a broker where one has.
    pub(super) fn to_look(flags: &PlaceFlags) -> Result<Self, String> {
        let path = existing(flags)?;
        match RealDisk::open(&path) {
            Ok(disk) => Ok(Self { path, disk: Arc::new(disk), is_online: false }),
            Err(OpenError::InUse { .. }) => {
                let disk = RealDisk::open_unlocked(&path).map_err(|error| error.to_string())?;
                Ok(Self { path, disk: Arc::new(disk), is_online: true })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// For reading everything at one moment: nobody else may have it, and nothing in it is changed.
    pub(super) fn to_read(flags: &PlaceFlags) -> Result<Self, String> {
        let place = Self::to_change(&existing(flags)?)?;
        Ok(Self { disk: Arc::new(Overlay::new(place.disk)), ..place })
    }

    /// For changing: nobody else may have it. It is made if it is not there.
    pub(super) fn to_change(path: &Path) -> Result<Self, String> {
        match RealDisk::open(path) {
            Ok(disk) => Ok(Self { path: path.to_owned(), disk: Arc::new(disk), is_online: false }),
            Err(OpenError::InUse { path }) => Err(format!(
                "the data directory {path} is in use by a broker: stop it first, or use check, stats or dump, which read beside it"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The directory that is meant, if it is one that a broker has used.
pub(super) fn existing(flags: &PlaceFlags) -> Result<PathBuf, String> {
    let path = meant(flags)?;
    if path.join("manifest").is_file() || path.join("lock").is_file() {
        return Ok(path);
    }
    let what = if path.is_dir() { "holds no data of a broker" } else { "is not there" };
    Err(format!(
        "the data directory {} {what}: name another with --data-dir, or the configuration file of its broker with --config",
        path.display()
    ))
}

/// The directory that is meant: the flag's, the configuration's, the usual one.
pub(super) fn meant(flags: &PlaceFlags) -> Result<PathBuf, String> {
    let env = env::of_process();
    let file = flags.config.clone().or_else(|| env::config_file(&env).map(PathBuf::from));
    let flag = |path: &String| Given {
        name: "storage.data_dir",
        raw: Raw::Text(path.clone()),
        origin: Origin::Flag { name: "--data-dir" },
    };
    let sources = Sources { file, env, flags: flags.data_dir.iter().map(flag).collect() };
    let effective = load(&sources).map_err(|error| error.to_string())?;
    let unknown =
        || "no data directory is configured, and this user has no HOME: name one with --data-dir".to_owned();
    effective.data_dir.ok_or_else(unknown)
}

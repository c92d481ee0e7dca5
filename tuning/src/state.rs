//! What a host was like before it was tuned: the way back.
//!
//! The file is trusted as little as any input: it can only name settings of the catalogue and files that Dunlin owns, and
//! never says where a setting is.

use std::io;

use serde::{Deserialize, Serialize};

use crate::catalogue::Catalogue;
use crate::host::Host;
use crate::limits::{RESTORED_BYTES_MAX, STATE_BYTES_MAX};
use crate::owned::Owned;

/// What was changed, and what was there before the first change. One per host.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The format: [`VERSION`].
    version: u32,
    /// The profile that was applied last.
    pub profile: String,
    /// The connections that it was applied for, when the operator said how many.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Values of the kernel, in the order of their first change.
    previous: Vec<Value>,
    /// Files, in the order of their first change.
    files: Vec<Text>,
}

/// A value as it was before.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// The name of the place, as [`crate::survey::id`] makes it.
    pub id: String,
    /// What was in force.
    pub value: String,
}

/// A file as it was before.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
struct Text {
    /// Where, from the host's root.
    path: String,
    /// Its text; nothing when it was not there.
    text: Option<String>,
}

/// Why the state file cannot be used. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("the state file {PATH} cannot be read: {0}; nothing was changed. Run this as root")]
    Unreadable(io::Error),
    /// It cannot be written.
    #[error("the state file {PATH} cannot be written: {0}; without it there is no way back")]
    Unwritable(io::Error),
    /// It is no state file, or not a whole one.
    #[error(
        "the state file {PATH} is damaged ({0}); nothing was changed. It is the only record of the earlier values. To begin \
         anew, move it away: `dunlin tune apply` then takes what is in force now as the earlier values"
    )]
    Damaged(String),
    /// A newer Dunlin wrote it.
    #[error(
        "the state file {PATH} has version {found}, and this program knows version {VERSION}; nothing was changed. Revert \
         with the program that wrote it"
    )]
    Version {
        /// What it says.
        found: u64,
    },
}

impl State {
    /// The state of a host that was never tuned.
    #[must_use]
    pub fn new(profile: &str) -> Self {
        Self {
            version: VERSION,
            profile: profile.to_owned(),
            connections: None,
            previous: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Reads the state of a host; `None` when it was never tuned.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn load(host: &Host, catalogue: &Catalogue) -> Result<Option<Self>, StateError> {
        match host.read_text(PATH, STATE_BYTES_MAX) {
            Ok(text) => Self::parse(&text, catalogue).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(StateError::Damaged(error.to_string()))
            }
            Err(error) => Err(StateError::Unreadable(error)),
        }
    }

    /// Reads a text and believes none of it before it has looked.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn parse(text: &str, catalogue: &Catalogue) -> Result<Self, StateError> {
        let raw: serde_json::Value =
            serde_json::from_str(text).map_err(|error| StateError::Damaged(error.to_string()))?;
        match raw.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(found) => return Err(StateError::Version { found }),
            None => return Err(StateError::Damaged("it has no version".to_owned())),
        }
        let state: Self =
            serde_json::from_value(raw).map_err(|error| StateError::Damaged(error.to_string()))?;
        for value in &state.previous {
            check_value(value, catalogue).map_err(StateError::Damaged)?;
        }
        for file in &state.files {
            if !Owned::ALL.iter().any(|owned| owned.path() == file.path) {
                return Err(StateError::Damaged(format!("{:?} is none of Dunlin's files", file.path)));
            }
        }
        Ok(state)
    }

    /// Writes it, or takes it away when nothing is changed any more.
    ///
    /// # Errors
    /// [`StateError::Unwritable`].
    pub fn save(&self, host: &Host) -> Result<(), StateError> {
        if self.is_empty() {
            return host.replace(PATH, None).map_err(StateError::Unwritable);
        }
        let text =
            serde_json::to_string_pretty(self).map_err(|error| StateError::Unwritable(error.into()))?;
        host.replace(PATH, Some(&format!("{text}\n"))).map_err(StateError::Unwritable)
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.previous.is_empty() && self.files.is_empty()
    }

    /// Values as they were before, the first change first.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.previous
    }

    /// Remembers a value, unless an earlier one is remembered. Tells whether it was new.
    pub fn remember(&mut self, id: &str, value: &str) -> bool {
        let new = !self.previous.iter().any(|known| known.id == id);
        if new {
            self.previous.push(Value { id: id.to_owned(), value: value.to_owned() });
        }
        new
    }

    /// Forgets a value.
    pub fn forget(&mut self, id: &str) {
        self.previous.retain(|known| known.id != id);
    }

    /// Remembers a file, unless an earlier text is remembered. Tells whether it was new.
    pub fn remember_file(&mut self, file: Owned, text: Option<String>) -> bool {
        let new = self.file(file).is_none();
        if new {
            self.files.push(Text { path: file.path().to_owned(), text });
        }
        new
    }

    /// Forgets a file.
    pub fn forget_file(&mut self, file: Owned) {
        self.files.retain(|known| known.path != file.path());
    }

    /// The text that a file had before; the outer `None` says that it was not changed.
    #[must_use]
    pub fn file(&self, file: Owned) -> Option<Option<&str>> {
        self.files.iter().find(|known| known.path == file.path()).map(|known| known.text.as_deref())
    }
}

fn check_value(value: &Value, catalogue: &Catalogue) -> Result<(), String> {
    let key = value.id.split('@').next().unwrap_or_default();
    if catalogue.setting(key).is_none() {
        return Err(format!("{key:?} is no setting"));
    }
    if value.value.len() > RESTORED_BYTES_MAX || value.value.chars().any(char::is_control) {
        return Err(format!("the value of {key} is no value of a kernel"));
    }
    Ok(())
}

/// Where it is, from the host's root.
pub const PATH: &str = "/var/lib/dunlin/tune.json";

/// The format.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::CATALOGUE;

    fn whole() -> String {
        let mut state = State::new("density");
        state.remember("net.core.somaxconn", "4096");
        state.remember("nic.rps@eth0/rx-0", "00");
        state.remember_file(Owned::Sysctl, None);
        serde_json::to_string(&state).expect("it is plain data")
    }

    #[test]
    fn the_first_value_is_the_one_to_go_back_to() {
        let mut state = State::new("density");
        assert!(state.is_empty());
        assert!(state.remember("a", "1"));
        assert!(!state.remember("a", "2"));
        assert_eq!(state.values()[0].value, "1");
        state.forget("a");
        assert!(state.is_empty());
    }

    #[test]
    fn a_hostile_file_names_nothing_of_its_own() {
        let good = whole();
        assert!(State::parse(&good, &CATALOGUE).is_ok());
        let with = |from: &str, to: &str| State::parse(&good.replace(from, to), &CATALOGUE);
        let damaged = |from: &str, to: &str| match with(from, to) {
            Err(StateError::Damaged(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(damaged("/etc/sysctl.d/90-dunlin.conf", "/etc/shadow").contains("none of Dunlin's files"));
        assert!(damaged("net.core.somaxconn", "../../etc/shadow").contains("no setting"));
        assert!(damaged("\"4096\"", "\"40\\n96\"").contains("no value of a kernel"));
        assert!(damaged("\"previous\"", "\"earlier\"").contains("earlier"));
        assert!(damaged("\"version\":1,", "").contains("version"));
        let newer = with("\"version\":1", "\"version\":2").expect_err("a newer one");
        assert!(newer.to_string().contains("has version 2"), "{newer}");
    }

    proptest! {
        #[test]
        fn a_torn_file_is_damaged(length in 0usize..200) {
            let good = whole();
            prop_assume!(length < good.len());
            let torn = State::parse(&good[..length], &CATALOGUE);
            prop_assert!(matches!(torn, Err(StateError::Damaged(_))));
        }
    }
}

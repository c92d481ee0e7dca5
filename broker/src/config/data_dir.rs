//! Where data goes when nobody says: what the service manager gives, else the user's usual place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dunlin_tuning::host::effective_user;

/// The usual place for a process with this environment. `None` when it has neither root's rights nor a home.
pub(crate) fn usual(env: &[(OsString, OsString)], is_root: bool) -> Option<PathBuf> {
    let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str());
    // systemd joins several folders with colons; the first is the state itself.
    let given = value("STATE_DIRECTORY").and_then(|folders| std::env::split_paths(folders).next());
    if let Some(folder) = given.filter(|folder| folder.is_absolute()) {
        return Some(folder);
    }
    if is_root {
        return Some(PathBuf::from(OF_ROOT));
    }
    let absolute = |name| value(name).map(Path::new).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").map(Path::to_owned);
    let state = state.or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("dunlin"))
}

/// Whether this process has root's rights. Unknown counts as no: then the place is one that a user can write.
pub(crate) fn is_root() -> bool {
    effective_user() == Some(0)
}

/// Beside what `dunlin tune` remembers, and the same folder that the packaged unit gives to its user.
const OF_ROOT: &str = "/var/lib/dunlin/data";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_then_root_then_the_users_own_places() {
        let here = |pairs: &[(&str, &str)], is_root| {
            let env: Vec<_> = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
            usual(&env, is_root).map(|path| path.display().to_string())
        };
        let home = ("HOME", "/h/a");
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(here(&[("STATE_DIRECTORY", "/s/one:/s/two"), home], true), found("/s/one"));
        assert_eq!(here(&[home], true), found("/var/lib/dunlin/data"));
        assert_eq!(here(&[home], false), found("/h/a/.local/state/dunlin"));
        assert_eq!(here(&[home, ("XDG_STATE_HOME", "/x")], false), found("/x/dunlin"));
        // The base directory specification: paths that are not absolute are ignored.
        assert_eq!(here(&[home, ("XDG_STATE_HOME", "x")], false), found("/h/a/.local/state/dunlin"));
        assert_eq!(here(&[("STATE_DIRECTORY", "")], false), None);
        assert_eq!(here(&[], false), None);
    }
}

//! Checks that need more than one key.

use dunlin_shard::config::Durability;

use super::{Effective, Origin};

/// What is wrong with the configuration as a whole.
pub(crate) fn problems(effective: &Effective) -> Vec<String> {
    open_listeners(effective)
}

/// What looks like a slip.
pub(crate) fn warnings(effective: &Effective) -> Vec<String> {
    let settings = &effective.settings;
    let level = effective.origin("durability.level");
    if settings.storage.memory_only
        && settings.durability.level != Durability::Memory
        && level != Origin::Default
    {
        return vec![format!(
            "{level}: durability.level has no effect: storage.memory_only ({}) keeps everything in memory.",
            effective.origin("storage.memory_only")
        )];
    }
    Vec::new()
}

/// Without authentication only programs on this host may connect, unless the operator asked for it by name.
fn open_listeners(effective: &Effective) -> Vec<String> {
    let settings = &effective.settings;
    if settings.auth.allow_anonymous {
        return Vec::new();
    }
    let origin = effective.origin("server.listen");
    let open = settings.server.listen.iter().filter(|url| !url.is_loopback());
    open.map(|url| {
        format!(
            "{origin}: server.listen has {url}, which other hosts can reach, but no authentication is configured. Listen \
             on a loopback address such as mqtt://127.0.0.1:{port}, or let everybody in with --allow-anonymous \
             (auth.allow_anonymous = true).",
            port = url.address.port()
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::listen::ListenerUrl;
    use crate::config::value::Raw;
    use crate::config::{Given, Sources, load};

    fn with(urls: &[&str], allow_anonymous: bool) -> Vec<String> {
        let mut effective = Effective::default();
        effective.settings.server.listen = urls
            .iter()
            .map(|url| ListenerUrl::parse(url).unwrap_or_else(|problem| panic!("{problem}")))
            .collect();
        effective.settings.auth.allow_anonymous = allow_anonymous;
        problems(&effective)
    }

    #[test]
    fn a_level_that_memory_only_overrides_is_told() {
        let flag = |name, flag, value: &str| Given {
            name,
            raw: Raw::Text(value.to_owned()),
            origin: Origin::Flag { name: flag },
        };
        let level = |level| flag("durability.level", "--durability", level);
        let memory_only = flag("storage.memory_only", "--memory-only", "true");
        for (flags, expected) in [
            (vec![level("commit")], 0),
            (vec![memory_only.clone()], 0),
            (vec![memory_only.clone(), level("memory")], 0),
            (vec![memory_only, level("interval")], 1),
        ] {
            let effective = load(&Sources { flags, ..Sources::default() }).expect("a configuration");
            assert_eq!(effective.warnings.len(), expected, "{:?}", effective.warnings);
        }
    }

    #[test]
    fn an_open_listener_needs_authentication_or_a_word() {
        assert_eq!(with(&["mqtt://127.0.0.1:1883", "mqtt://[::1]:1883"], false), Vec::<String>::new());
        assert_eq!(with(&["mqtt://0.0.0.0:1883"], true), Vec::<String>::new());
        let problems = with(&["mqtt://0.0.0.0:1883", "mqtt://127.0.0.1:1884", "mqtt://[::]:1885"], false);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("mqtt://0.0.0.0:1883, which other hosts can reach"));
        assert!(problems[0].contains("--allow-anonymous"));
    }
}

//! Reload: what changed between two configurations, and what of it acts without a restart.

use super::schema::{Reload, SETTINGS};
use super::{ConfigError, Effective, Sources, load};

/// One key whose value changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which key.
    pub(crate) name: &'static str,
    /// Its value in force, in TOML.
    pub(crate) from: String,
    /// Its new value, in TOML.
    pub(crate) to: String,
}

/// The outcome of a reload that found no error.
#[derive(Clone, Debug)]
pub(crate) struct Reloaded {
    /// The new settings in force: new values of live keys, old values of all others.
    pub(crate) effective: Effective,
    /// Keys that act at once.
    pub(crate) applied: Vec<Change>,
    /// Keys that wait for a restart.
    pub(crate) waiting: Vec<Change>,
}

/// Reads the same places again and compares with what is in force. Nothing is half applied: an error anywhere leaves all
/// as it was.
///
/// # Errors
/// As [`load`].
pub(crate) fn reload(sources: &Sources, current: &Effective) -> Result<Reloaded, ConfigError> {
    let mut effective = load(sources)?;
    let (mut applied, mut waiting) = (Vec::new(), Vec::new());
    for (at, setting) in SETTINGS.iter().enumerate() {
        let (from, to) = ((setting.show)(&current.settings), (setting.show)(&effective.settings));
        if from == to {
            continue;
        }
        let change = Change { name: setting.name, from, to };
        match setting.reload {
            Reload::Live => applied.push(change),
            Reload::Restart => {
                (setting.copy)(&current.settings, &mut effective.settings);
                effective.origins[at] = current.origins[at].clone();
                waiting.push(change);
            }
        }
    }
    Ok(Reloaded { effective, applied, waiting })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Sources {
        let env = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Sources { env, ..Sources::default() }
    }

    #[test]
    fn live_keys_act_and_the_others_wait() {
        let current = load(&env(&[])).expect("defaults");
        let changed = env(&[("DUNLIN_MQTT__MAX_INFLIGHT", "64"), ("DUNLIN_SERVER__SHARDS", "7")]);
        let reloaded = reload(&changed, &current).expect("a configuration");
        let applied = Change { name: "mqtt.max_inflight", from: "32".to_owned(), to: "64".to_owned() };
        let waiting = Change { name: "server.shards", from: "\"auto\"".to_owned(), to: "7".to_owned() };
        assert_eq!(reloaded.applied, [applied]);
        assert_eq!(reloaded.waiting, vec![waiting.clone()]);
        assert_eq!(reloaded.effective.settings.mqtt.max_inflight, 64);
        assert_eq!(reloaded.effective.settings.server.shards, None);
        let again = reload(&changed, &reloaded.effective).expect("a configuration");
        assert_eq!((again.applied, again.waiting), (Vec::new(), vec![waiting]));
    }

    #[test]
    fn one_error_leaves_all_as_it_was() {
        let current = load(&env(&[])).expect("defaults");
        let broken = env(&[("DUNLIN_MQTT__MAX_INFLIGHT", "64"), ("DUNLIN_MQTT__MAX_QOS_ALLOWED", "9")]);
        assert!(reload(&broken, &current).is_err());
    }
}

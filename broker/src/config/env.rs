//! The environment layer: `DUNLIN_SECTION__KEY`.

use std::ffi::OsString;

use super::schema::SETTINGS;
use super::value::Raw;
use super::{Given, Origin, schema, unknown_key};

/// The environment of the process.
pub(crate) fn of_process() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// The configuration file that the environment names (`DUNLIN_CONFIG`), for containers that cannot change the command.
pub(crate) fn config_file(env: &[(OsString, OsString)]) -> Option<OsString> {
    env.iter().find(|(name, _)| name == "DUNLIN_CONFIG").map(|(_, value)| value.clone())
}

/// Takes the values out of an environment. Only names with `__` are keys, because orchestrators put variables such as
/// `DUNLIN_SERVICE_HOST` there for a service of this name. What is wrong is appended to `problems`, what looks like a slip
/// to `warnings`.
pub(crate) fn read(
    env: &[(OsString, OsString)],
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<Given> {
    let mut given = Vec::new();
    for (name, value) in env {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let origin = Origin::Env { name: name.to_owned() };
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        if !key.contains("__") {
            warnings.extend(meant(name).map(|meant| {
                format!("{origin}: is not a key and is ignored; a section and its key are joined by two underscores: {meant}.")
            }));
            continue;
        }
        let key = key.replace("__", ".");
        match (schema::find(&key), value.to_str()) {
            (Some(setting), Some(value)) => {
                given.push(Given { name: setting.name, raw: Raw::Text(value.to_owned()), origin });
            }
            (Some(_), None) => problems.push(format!("{origin}: the value is not UTF-8 text.")),
            (None, _) => problems.push(unknown_key(&origin, &key)),
        }
    }
    given
}

/// The variable that a name with single underscores was meant to be.
fn meant(name: &str) -> Option<String> {
    SETTINGS.iter().map(schema::Setting::env_name).find(|known| known.replace("__", "_") == name)
}

const PREFIX: &str = "DUNLIN_";

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(name: &str, value: &str) -> (Vec<Given>, Vec<String>, Vec<String>) {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let given = read(&[(name.into(), value.into())], &mut problems, &mut warnings);
        (given, problems, warnings)
    }

    #[test]
    fn a_variable_names_a_key() {
        let (given, problems, warnings) = read_one("DUNLIN_MQTT__MAX_PACKET_SIZE", "2MB");
        assert_eq!(given[0].name, "mqtt.max_packet_size");
        assert_eq!(given[0].raw, Raw::Text("2MB".to_owned()));
        assert_eq!((problems.len(), warnings.len()), (0, 0));
    }

    #[test]
    fn what_an_orchestrator_adds_is_left_alone() {
        for name in
            ["DUNLIN_SERVICE_HOST", "DUNLIN_PORT_1883_TCP", "DUNLIN_CONFIG", "PATH", "XDUNLIN_LOG__LEVEL"]
        {
            let (given, problems, warnings) = read_one(name, "x");
            assert_eq!((given.len(), problems.len(), warnings.len()), (0, 0, 0), "{name}");
        }
    }

    #[test]
    fn slips_are_named() {
        let (_, _, warnings) = read_one("DUNLIN_LOG_LEVEL", "warn");
        assert!(warnings[0].contains("two underscores: DUNLIN_LOG__LEVEL"), "{}", warnings[0]);
        let (_, problems, _) = read_one("DUNLIN_LOG__LEVELS", "warn");
        assert_eq!(
            problems,
            ["environment DUNLIN_LOG__LEVELS: there is no key log.levels; did you mean log.level?"]
        );
    }
}

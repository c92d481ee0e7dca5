//! All settings and all profiles, as shipped in `tuning/profiles/`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::rule::Rule;
use crate::setting::Setting;

/// The shipped settings and profiles. Read once per process from texts in the program.
pub static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue::parse(SETTINGS, &PROFILES).expect("a test reads the shipped texts"));

/// Settings and profiles.
#[derive(Debug)]
pub struct Catalogue {
    /// All settings, in the order of their file.
    pub settings: Vec<Setting>,
    /// All profiles, in the order of [`PROFILES`].
    pub profiles: Vec<Profile>,
}

/// What a kind of host should be like.
#[derive(Debug)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub about: String,
    /// Connections that such a host is meant for, unless the operator says how many.
    pub connections: u64,
    /// Whether CPUs are set aside for the kernel and everybody else.
    pub housekeeping: bool,
    wants: Vec<(Setting, Rule)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    setting: Vec<Setting>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    about: String,
    connections: u64,
    #[serde(default)]
    housekeeping: bool,
    want: BTreeMap<String, Rule>,
}

impl Catalogue {
    /// Reads the texts.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn parse(settings: &str, profiles: &[(&'static str, &str)]) -> Result<Self, String> {
        let settings: RawSettings =
            toml::from_str(settings).map_err(|error| format!("settings.toml: {error}"))?;
        let settings = settings.setting;
        let mut seen = BTreeMap::new();
        for setting in &settings {
            if seen.insert(setting.key.as_str(), ()).is_some() {
                return Err(format!("settings.toml: {} stands there twice", setting.key));
            }
        }
        let profiles = profiles.iter().map(|(name, text)| profile(name, text, &settings));
        let profiles = profiles.collect::<Result<_, _>>()?;
        Ok(Self { settings, profiles })
    }

    /// The profile of this name.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.name == name)
    }

    /// The setting of this key.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }
}

impl Profile {
    /// Its settings with their rules, in the order of the catalogue.
    pub fn wants(&self) -> impl Iterator<Item = (&Setting, &Rule)> {
        self.wants.iter().map(|(setting, rule)| (setting, rule))
    }

    /// The rule for a key.
    #[must_use]
    pub fn rule(&self, key: &str) -> Option<&Rule> {
        self.wants.iter().find(|(setting, _)| setting.key == key).map(|(_, rule)| rule)
    }
}

fn profile(name: &'static str, text: &str, settings: &[Setting]) -> Result<Profile, String> {
    let mut raw: RawProfile = toml::from_str(text).map_err(|error| format!("{name}.toml: {error}"))?;
    let wants = settings
        .iter()
        .filter_map(|setting| Some((setting.clone(), raw.want.remove(&setting.key)?)))
        .collect();
    if let Some(key) = raw.want.keys().next() {
        return Err(format!("{name}.toml: settings.toml has no {key:?}"));
    }
    let RawProfile { about, connections, housekeeping, .. } = raw;
    Ok(Profile { name, about, connections, housekeeping, wants })
}

const SETTINGS: &str = include_str!("../profiles/settings.toml");

/// The shipped profiles: name and text.
const PROFILES: [(&str, &str); 5] = [
    ("throughput", include_str!("../profiles/throughput.toml")),
    ("latency", include_str!("../profiles/latency.toml")),
    ("density", include_str!("../profiles/density.toml")),
    ("edge", include_str!("../profiles/edge.toml")),
    ("container", include_str!("../profiles/container.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::Place;

    #[test]
    fn the_shipped_texts_are_whole() {
        let catalogue = Catalogue::parse(SETTINGS, &PROFILES).unwrap_or_else(|problem| panic!("{problem}"));
        for setting in &catalogue.settings {
            for text in [&setting.why, &setting.without, &setting.costs, &setting.source, &setting.undo()] {
                assert!(text.len() > 3, "{} lacks a text", setting.key);
            }
            assert!(setting.why.ends_with('.') && setting.without.ends_with('.'), "{}", setting.key);
            let wanted = catalogue.profiles.iter().any(|profile| profile.rule(&setting.key).is_some());
            assert!(wanted, "no profile wants {}", setting.key);
            let prefix = if let Place::KernelArgument { name } = &setting.place {
                format!("kernel-argument.{name}")
            } else if let Place::Service { property } = &setting.place {
                format!("service.{property}")
            } else {
                String::new()
            };
            assert!(prefix.is_empty() || prefix == setting.key, "{} is not named {prefix}", setting.key);
        }
        for profile in &catalogue.profiles {
            assert!(profile.wants().count() >= 10, "{}", profile.name);
        }
    }

    #[test]
    fn containers_set_only_what_is_their_own_or_ask_for_it() {
        let container = CATALOGUE.profile("container").expect("it is shipped");
        for (setting, _) in container.wants() {
            let asked = ["kernel.io_uring_disabled"].contains(&setting.key.as_str());
            assert!(setting.namespaced || asked, "{}", setting.key);
        }
    }

    #[test]
    fn mistakes_in_a_text_are_named() {
        let setting =
            "[[setting]]\nkey = \"a.b\"\nwhy = \"x\"\nwithout = \"x\"\ncosts = \"x\"\nsource = \"x\"\n";
        let problem = |settings: &str, profile: &str| {
            Catalogue::parse(settings, &[("p", profile)]).expect_err("a mistake").replace('\n', " ")
        };
        let head = "about = \"x\"\nconnections = 1\n[want]\n";
        assert!(problem(&format!("{setting}{setting}"), head).contains("a.b stands there twice"));
        assert!(
            problem(setting, &format!("{head}\"c.d\" = {{ equals = \"1\" }}")).contains("has no \"c.d\"")
        );
        assert!(problem(setting, &format!("{head}\"a.b\" = {{ equal = \"1\" }}")).contains("equal"));
        assert!(problem("[[setting]]\nkey = \"a\"", head).contains("settings.toml"));
    }
}

//! `--print-config` and the reference of all keys.

use super::Effective;
use super::schema::SETTINGS;
#[cfg(test)]
use super::{
    Settings,
    schema::{Reload, Setting},
};

/// The settings in force as a TOML file that can be fed back with `--config`; comments say what each
/// key means and where its value came from.
pub(crate) fn effective_toml(effective: &Effective) -> String {
    let mut text = format!("# Effective configuration of dunlin {}.\n", env!("CARGO_PKG_VERSION"));
    let mut section = "";
    for (setting, origin) in SETTINGS.iter().zip(&effective.origins) {
        if setting.section() != section {
            section = setting.section();
            text.push_str(&format!("\n[{section}]\n"));
        }
        let value = (setting.show)(&effective.settings);
        let here = match &effective.data_dir {
            Some(path)
                if setting.name == "storage.data_dir" && effective.settings.storage.data_dir.is_none() =>
            {
                format!(": {}", path.display())
            }
            _ => String::new(),
        };
        text.push_str(&format!("# {}\n{} = {value}  # {origin}{here}\n", setting.meaning, setting.key()));
    }
    text
}

/// The reference of all keys in Markdown.
#[cfg(test)]
fn reference() -> String {
    let defaults = Settings::default();
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            text.push_str(&format!(
                "\n### `[{section}]`\n\n| key | default | takes | reload | meaning |\n|---|---|---|---|---|\n"
            ));
        }
        text.push_str(&row(setting, &(setting.show)(&defaults)));
    }
    text
}

#[cfg(test)]
fn row(setting: &Setting, default: &str) -> String {
    let flag = setting.flag.map(|flag| format!("<br>`{flag}`")).unwrap_or_default();
    let reload = match setting.reload {
        Reload::Live => "at once",
        Reload::Restart => "restart",
    };
    let takes = (setting.takes)().replace('|', "\\|");
    format!("| `{}`{flag} | `{default}` | {takes} | {reload} | {} |\n", setting.name, setting.meaning)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Origin, Sources, file, load};

    #[test]
    fn the_printed_configuration_can_be_fed_back() {
        let env =
            [("DUNLIN_MQTT__MQUEUE_PRIORITIES", "{ 'a \"b\"' = 3 }"), ("DUNLIN_MQTT__RETRY_INTERVAL", "90s")];
        let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let first = load(&Sources { env, ..Sources::default() }).expect("a configuration");
        let text = effective_toml(&first);
        assert!(text.contains("retry_interval = \"90s\"  # environment DUNLIN_MQTT__RETRY_INTERVAL"));
        assert!(text.contains("max_inflight = 32  # default"));
        let mut problems = Vec::new();
        let flags = file::parse(Path::new("printed.toml"), &text, &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(flags.len(), SETTINGS.len());
        let second = load(&Sources { flags, ..Sources::default() }).expect("the same configuration");
        assert_eq!(first.settings, second.settings);
        assert!(second.origins.iter().all(|origin| matches!(origin, Origin::File { .. })));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "compares a file of the repository with the schema")]
    fn the_readme_has_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).expect("broker/README.md");
        let (head, rest) = readme.split_once(BEGIN).expect("the begin marker");
        let (_, tail) = rest.split_once(END).expect("the end marker");
        let wanted = format!("{head}{BEGIN}\n{}\n{END}{tail}", reference());
        if std::env::var_os("DUNLIN_BLESS").is_some() {
            std::fs::write(path, wanted).expect("broker/README.md is writable");
            return;
        }
        assert!(
            readme == wanted,
            "broker/README.md differs from the schema; DUNLIN_BLESS=1 cargo test -p dunlin rewrites it"
        );
    }

    const BEGIN: &str = "<!-- reference -->";
    const END: &str = "<!-- /reference -->";
}

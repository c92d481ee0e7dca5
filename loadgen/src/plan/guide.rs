//! The examples of the guide are scenarios. Exists in tests only.

use super::load::{Overrides, load_from};
use super::source::Source;

const GUIDE: &str = include_str!("../../../docs/guide/load-scenarios.md");

/// A plan around the pieces that the guide shows by themselves.
const BEFORE: &str = "version = 1\nname = \"piece\"\nabout = \"Around a piece of the guide.\"\n\
    [[group]]\nname = \"honest\"\ncount = 1\npublish = [{ topic = \"t\", rate = 1 }]\n";
const STAGES: &str = "\n[[stage]]\nname = \"all\"\nduration = \"1s\"\nrate = 1.0\nmeasure = true\nstart = [";

#[test]
fn every_example_of_the_guide_is_loaded() {
    let mut whole = 0;
    let mut pieces = 0;
    for example in GUIDE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let text = if example.starts_with("version = 1") {
            whole += 1;
            example.to_owned()
        } else {
            pieces += 1;
            let in_group = example.strip_prefix("# in a group\n");
            let group = in_group
                .map(|piece| format!("[[group]]\nname = \"x\"\ncount = 1\n{piece}"))
                .unwrap_or_default();
            let started = if in_group.is_some() { "\"honest\", \"x\"]\n" } else { "\"honest\"]\n" };
            let top = example.strip_prefix("# in a plan\n").unwrap_or_default();
            assert!(in_group.is_some() || !top.is_empty(), "where does this belong?\n{example}");
            format!("{BEFORE}{group}{STAGES}{started}{top}")
        };
        load_from(Source::of_text("guide", &text), &Overrides::default())
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    assert_eq!((whole, pieces), (1, 4));
}

/// The keys of a struct as serde knows them, from a file with one that it doesn't know.
fn keys(text: &str) -> Vec<String> {
    let error = load_from(Source::of_text("x", text), &Overrides::default()).unwrap_err().to_string();
    let list = error.split("expected one of ").nth(1).unwrap_or_else(|| panic!("{error}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_guide_names_every_key() {
    let stage = "[[stage]]\nname = \"s\"\nduration = \"1s\"\n";
    for (what, text) in [
        ("plan", "zzz = 1\n".to_owned()),
        ("group", format!("{BEFORE}zzz = 1\n{stage}")),
        ("subscription", format!("{BEFORE}subscribe = [{{ filter = \"f\", zzz = 1 }}]\n{stage}")),
        ("publish", format!("{}{stage}", BEFORE.replace("rate = 1", "zzz = 1"))),
        ("stage", format!("{BEFORE}{stage}zzz = 1\n")),
        ("verify", format!("{BEFORE}{stage}[verify]\nzzz = true\n")),
        ("jwt", format!("{BEFORE}jwt = {{ zzz = 1 }}\n{stage}")),
        ("sparkplug", format!("{BEFORE}sparkplug = {{ zzz = 1 }}\n{stage}")),
        ("will", format!("{BEFORE}will = {{ zzz = 1 }}\n{stage}")),
        ("reconnect", format!("{BEFORE}reconnect = {{ zzz = 1 }}\n{stage}")),
        ("lifecycle", format!("{BEFORE}lifecycle = {{ zzz = 1 }}\n{stage}")),
    ] {
        let keys = keys(&text);
        assert!(keys.len() > 2, "{what}: {keys:?}");
        for key in keys {
            let is_named = [
                format!("`{key}`"),
                format!("[{key}]"),
                format!("`[{key}.NAME]`"),
                format!("{key} = "),
                format!(" {key},"),
                format!("{key} }}"),
            ]
            .iter()
            .any(|form| GUIDE.contains(form));
            assert!(is_named, "the guide does not name the key {key} of a {what}");
        }
    }
}

//! What the package ships of the broker's own knowledge: manual pages, a completion, and a configuration file with every
//! default. Exists in tests only, which compare it with the files in `tuning/package/`.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use dunlin_manual::{Page, Program, bash_completion, check};

use crate::cli::Cli;
use crate::config::schema::{Reload, SETTINGS, Setting};
use crate::config::{Settings, Sources, file, load};

/// Columns of the text in the configuration file.
const COLUMNS: usize = 100;

fn package(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/package").join(file)
}

fn program_page() -> String {
    let mut page = Program::new(Cli::command()).page();
    page.section("FILES");
    page.item(
        "`/etc/dunlin/dunlin.toml`",
        &["What the packaged service reads: `dunlin --config /etc/dunlin/dunlin.toml`. Without `--config` no file \
           is read. See `dunlin.toml`(5)."
            .to_owned()],
    );
    page.see_also(&["dunlin.toml(5)", "dunlin-loadgen(1)", "systemctl(1)", "sysctl.d(5)"]);
    page.render()
}

fn configuration_page() -> String {
    let source = concat!("dunlin ", env!("CARGO_PKG_VERSION"));
    let mut page = Page::new("dunlin.toml", "5", source, "configuration of the Dunlin MQTT broker");
    page.section("DESCRIPTION");
    page.paragraph(
        "A TOML file that `dunlin`(1) reads with `--config`, or that the environment variable `DUNLIN_CONFIG` names. Each \
         key may also stand in the environment: `DUNLIN_MQTT__MAX_INFLIGHT` for `mqtt.max_inflight`, with two underscores \
         after the section. Flags win over the environment, which wins over the file, which wins over the defaults.",
    );
    page.paragraph(
        "Unknown keys and values out of range are errors that name the place; all of them are reported at once. \
         `dunlin check --config FILE` tries a file without starting the broker, and `dunlin --config FILE --print-config` \
         prints what is in force and where each value comes from. On SIGHUP the broker reads the file again; a file with an \
         error changes nothing.",
    );
    page.paragraph(
        "Durations are written `15s`, `2h`, `1d12h`, `250ms`; sizes `512KB`, `1MB` (powers of 1,024).",
    );
    page.section("KEYS");
    let (defaults, mut section) = (Settings::default(), "");
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            page.subsection(&format!("[{section}]"));
        }
        page.item(
            &format!("`{}` = {}", setting.name, (setting.show)(&defaults)),
            &[setting.meaning.to_owned(), particulars(setting)],
        );
    }
    page.section("EXAMPLES");
    page.paragraph("A broker in a private network, open to all who reach it:");
    page.example(EXAMPLE);
    page.see_also(&["dunlin(1)", "dunlin-loadgen(1)"]);
    page.render()
}

const EXAMPLE: &str = "\
[server]
listen = [\"mqtt://0.0.0.0:1883\"]
max_connections = 200000

[auth]
allow_anonymous = true
";

/// What a key takes, when a change acts, and where else it can be set.
fn particulars(setting: &Setting) -> String {
    let flag = setting.flag.map(|flag| format!(" Flag: `{flag}`.")).unwrap_or_default();
    format!("Takes {}. {}.{flag}", (setting.takes)(), acts(setting))
}

const fn acts(setting: &Setting) -> &'static str {
    match setting.reload {
        Reload::Live => "A reload applies it",
        Reload::Restart => "Needs a restart",
    }
}

/// A configuration file in which each key stands as a comment, with its default.
fn default_file() -> String {
    let mut text = String::new();
    for paragraph in HEAD {
        add_comment(&mut text, paragraph);
        text.push_str("#\n");
    }
    text.truncate(text.len() - 2);
    let (defaults, mut section) = (Settings::default(), "");
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        add_comment(&mut text, &setting.meaning.replace('`', "'"));
        add_comment(&mut text, &format!("Takes {}. {}.", (setting.takes)(), acts(setting)));
        text.push_str(&format!("#{} = {}\n", setting.key(), (setting.show)(&defaults)));
    }
    text
}

const HEAD: [&str; 3] = [
    "Configuration of the Dunlin MQTT broker, see dunlin.toml(5).",
    "Every key stands here as a comment with its built-in default. To change one, remove the # in front of it. \
     'dunlin check --config FILE' tries the file, 'systemctl reload dunlin' applies what needs no restart.",
    "Out of the box only programs on this host can connect. There is no authentication in this version: opening a \
     listener to other hosts needs auth.allow_anonymous = true and lets in everybody who reaches it.",
];

/// Adds text as comment lines of at most [`COLUMNS`] characters.
fn add_comment(text: &mut String, comment: &str) {
    let mut line = "#".to_owned();
    for word in comment.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            text.push_str(&line);
            text.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

fn settings_of(text: &str) -> Settings {
    let mut problems = Vec::new();
    let flags = file::parse(Path::new("dunlin.toml"), text, &mut problems);
    assert_eq!(problems, Vec::<String>::new());
    load(&Sources { flags, ..Sources::default() }).expect("a configuration").settings
}

#[test]
fn the_packaged_manual_is_current() {
    let files = [
        ("man/dunlin.1", program_page()),
        ("man/dunlin.toml.5", configuration_page()),
        ("completions/dunlin", bash_completion(Cli::command())),
        ("dunlin.toml", default_file()),
    ];
    for (file, wanted) in files {
        check(&package(file), &wanted).unwrap_or_else(|problem| panic!("{problem}"));
    }
}

#[test]
fn the_page_of_the_file_has_every_key() {
    let page = configuration_page();
    for setting in SETTINGS {
        assert!(page.contains(&format!("\\fB{}\\fR", setting.name)), "{} is not on the page", setting.name);
    }
}

#[test]
fn the_packaged_configuration_is_the_built_in_one() {
    let file = default_file();
    assert_eq!(settings_of(&file), Settings::default());
    let mut keys = 0;
    let opened: Vec<&str> = file
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|letter: char| letter.is_ascii_lowercase()) => {
                keys += 1;
                key
            }
            _ => line,
        })
        .collect();
    assert_eq!(keys, SETTINGS.len());
    assert_eq!(settings_of(&opened.join("\n")), Settings::default());
}

//! `dunlin store`, as the shipped program does it, on a data directory that persist's golden test keeps.
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A folder of a test, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dunlin-store-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    /// A data directory of two shards that format 1 has written.
    fn with_data() -> Self {
        let folder = Self::new();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../persist/tests/formats/v1/data"), &folder.data());
        folder
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn segment(&self) -> PathBuf {
        self.data().join("epoch-00000001/shard-0000/00000000000000000001.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).expect("a copy");
        }
    }
}

fn store(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    command.arg("store").args(args).arg("--data-dir").arg(data).env_clear();
    command.output().expect("the program")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}

#[test]
fn a_sound_directory_is_sound_and_counted_and_not_changed() {
    let folder = Folder::with_data();
    let before = fs::read(folder.segment()).expect("a segment");
    let check = store(&folder.data(), &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}{}", out(&check), err(&check));
    assert!(out(&check).ends_with("sound\n"), "{}", out(&check));
    let check = json(&store(&folder.data(), &["check", "--json"]));
    assert_eq!((check["sound"].as_bool(), check["online"].as_bool()), (Some(true), Some(false)));
    let stats = json(&store(&folder.data(), &["stats", "--json"]));
    assert_eq!((stats["sessions"].as_u64(), stats["retained"].as_u64()), (Some(8), Some(2)));
    assert!(stats["messages"].as_u64().is_some_and(|messages| messages > 0));
    let text = out(&store(&folder.data(), &["stats"]));
    assert!(text.contains("longest queues") && text.contains("client-"), "{text}");
    assert_eq!(fs::read(folder.segment()).expect("a segment"), before);
}

#[test]
fn records_are_shown_in_order_and_by_client() {
    let folder = Folder::with_data();
    let all = out(&store(&folder.data(), &["dump"]));
    assert!(all.lines().count() > 50, "{all}");
    assert!(all.contains("subscribed \"a/+/#\"") && all.contains("PUBREC of 1"), "{all}");
    let first = out(&store(&folder.data(), &["dump", "--shard", "1", "--limit", "3", "--json"]));
    let kinds: Vec<Value> = first.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(kinds.len(), 3);
    assert!(kinds.iter().all(|one| one["kind"] == "attached" && one["shard"] == 1), "{first}");
    let name = kinds[0]["record"]["client_id"].as_str().expect("a name").to_owned();
    let ofclient = out(&store(&folder.data(), &["dump", "--client", &name]));
    assert!(
        ofclient.lines().count() > 5 && ofclient.lines().all(|line| line.starts_with("1/")),
        "{ofclient}"
    );
    let no_shard = store(&folder.data(), &["dump", "--shard", "2"]);
    assert_eq!(no_shard.status.code(), Some(1));
    assert!(err(&no_shard).contains("the directory has 2"), "{}", err(&no_shard));
}

#[test]
fn damage_is_found_and_the_exit_code_says_so() {
    let folder = Folder::with_data();
    let mut bytes = fs::read(folder.segment()).expect("a segment");
    bytes[200] ^= 1;
    fs::write(folder.segment(), bytes).expect("the spoiled segment");
    let check = store(&folder.data(), &["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(out(&check).contains("DAMAGED: epoch-00000001/shard-0000/"), "{}", out(&check));
    let check = json(&store(&folder.data(), &["check", "--json"]));
    assert_eq!(check["sound"].as_bool(), Some(false));
    assert_eq!(check["shards"][0]["damaged"][0]["lost_records"].as_u64(), Some(1));
}

#[test]
fn what_is_exported_is_imported_and_exported_again_the_same() {
    let folder = Folder::with_data();
    let file = folder.0.join("all.jsonl");
    let name = file.to_str().expect("a name");
    let export = store(&folder.data(), &["export", "--output", name]);
    assert_eq!(export.status.code(), Some(0), "{}", err(&export));
    assert!(err(&export).contains("8 sessions"), "{}", err(&export));
    let again = store(&folder.data(), &["export", "--output", name]);
    assert_eq!(again.status.code(), Some(1), "a file that is there is not overwritten");

    let new = folder.0.join("new");
    let import = store(&new, &["import", name, "--json"]);
    assert_eq!(import.status.code(), Some(0), "{}", err(&import));
    assert_eq!(json(&import)["sessions"].as_u64(), Some(8));
    assert_eq!(store(&new, &["check"]).status.code(), Some(0));
    let (first, second) = (content(&folder.data()), content(&new));
    assert_eq!(first, second);
    // Twice into one directory is refused.
    let twice = store(&new, &["import", name]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(err(&twice).contains("import fills an empty one"), "{}", err(&twice));
    // Another number of shards holds the same.
    let three = folder.0.join("three");
    assert_eq!(store(&three, &["import", name, "--shards", "3"]).status.code(), Some(0));
    let stats = json(&store(&three, &["stats", "--json"]));
    assert_eq!((stats["sessions"].as_u64(), stats["shards"].as_array().map(Vec::len)), (Some(8), Some(3)));
}

/// An export without the names of messages, which import gives anew: each session with the bodies that it waits for.
fn content(data: &Path) -> Vec<String> {
    let lines: Vec<Value> = out(&store(data, &["export"]))
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let body = |name: &Value| {
        let found = lines.iter().find(|line| line["type"] == "message" && line["id"] == *name);
        found.map(|line| line["message"].clone()).expect("each message that is waited for has a line")
    };
    let mut content = Vec::new();
    for line in lines.iter().filter(|line| line["type"] != "message") {
        let mut line = line.clone();
        for list in ["queue", "outgoing"] {
            for one in line[list].as_array_mut().into_iter().flatten() {
                if one["message"].is_string() {
                    one["message"] = body(&one["message"]);
                }
            }
        }
        // Who was connected when the directory was written counts as disconnected when it is read.
        if line["detached_at_ms"].as_u64().is_some_and(|at_ms| at_ms < 1_999_999_000_000) {
            line["detached_at_ms"] = Value::Null;
        }
        content.push(line.to_string());
    }
    content.sort();
    content
}

#[test]
fn an_export_that_was_cut_or_is_none_is_refused() {
    let folder = Folder::with_data();
    let export = out(&store(&folder.data(), &["export"]));
    let cut: Vec<&str> = export.lines().collect();
    let cases = [
        (cut[..cut.len() - 1].join("\n"), "it was cut short"),
        (
            cut.iter()
                .filter(|line| !line.contains("\"type\":\"message\""))
                .copied()
                .collect::<Vec<_>>()
                .join("\n"),
            "lacks",
        ),
        ("{\"type\":\"other\"}".to_owned(), "no export of dunlin"),
        (String::new(), "no export of dunlin"),
        (cut[0].replace("\"format\":1", "\"format\":2"), "reads format 1"),
        (format!("{}\nnonsense", cut[0]), "line 2"),
    ];
    for (index, (text, wanted)) in cases.into_iter().enumerate() {
        let file = folder.0.join(format!("case-{index}"));
        fs::write(&file, text).expect("a file");
        let import =
            store(&folder.0.join(format!("to-{index}")), &["import", file.to_str().expect("a name")]);
        assert_eq!(import.status.code(), Some(1), "case {index}");
        assert!(err(&import).contains(wanted), "case {index}: {}", err(&import));
    }
}

#[test]
fn compacting_keeps_everything() {
    let folder = Folder::with_data();
    let before = content(&folder.data());
    let compact = store(&folder.data(), &["compact", "--json"]);
    assert_eq!(compact.status.code(), Some(0), "{}", err(&compact));
    assert!(json(&compact)["bytes_before"].as_u64().is_some_and(|bytes| bytes > 0));
    assert_eq!(content(&folder.data()), before);
    assert_eq!(store(&folder.data(), &["check"]).status.code(), Some(0));
}

/// A directory that somebody has locked is looked at, and not changed.
#[test]
fn beside_a_broker_only_looking_is_allowed() {
    let folder = Folder::with_data();
    let lock = fs::File::create(folder.data().join("lock")).expect("a lock");
    lock.try_lock().expect("nobody else has it");
    for command in ["check", "stats", "dump"] {
        let looked = store(&folder.data(), &[command]);
        assert_eq!(looked.status.code(), Some(0), "{command}: {}", err(&looked));
    }
    assert_eq!(json(&store(&folder.data(), &["check", "--json"]))["online"].as_bool(), Some(true));
    for args in [&["compact"][..], &["export"], &["import", "/dev/null"]] {
        let refused = store(&folder.data(), args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
    }
    let refused = err(&store(&folder.data(), &["compact"]));
    assert!(refused.contains("is in use by a broker: stop it first"), "{refused}");
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let folder = Folder::new();
    for command in ["check", "stats", "dump", "compact", "export"] {
        let output = store(&folder.data(), &[command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(err(&output).contains("is not there: name another with --data-dir"), "{}", err(&output));
    }
    assert!(!folder.data().exists());
}

#[test]
fn the_command_teaches_itself() {
    let program = env!("CARGO_BIN_EXE_dunlin");
    let help = Command::new(program).args(["store", "--help"]).output().expect("the program");
    for word in ["check", "stats", "dump", "compact", "export", "import", "Exit codes"] {
        assert!(out(&help).contains(word), "{word}: {}", out(&help));
    }
}

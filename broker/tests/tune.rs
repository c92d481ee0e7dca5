//! `dunlin tune` and the notes to systemd, as the shipped program does them.
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A folder of a test, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dunlin-tune-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("for everybody");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn tune(args: &[&str], root: &Folder) -> Output {
    let program = env!("CARGO_BIN_EXE_dunlin");
    Command::new(program).arg("tune").args(args).arg("--root").arg(&root.0).output().expect("the program")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_image_is_checked_changed_and_changed_back() {
    let image = Folder::new();
    let before = tune(&["check", "--profile", "edge"], &image);
    assert_eq!(before.status.code(), Some(1), "{}", out(&before));
    assert!(out(&before).contains("differs  net.core.somaxconn"), "{}", out(&before));
    let dry = tune(&["apply", "--profile", "edge", "--dry-run"], &image);
    assert_eq!(dry.status.code(), Some(0));
    assert!(out(&dry).contains("nothing was touched"), "{}", out(&dry));
    assert_eq!(fs::read_dir(&image.0).expect("the folder").count(), 0);
    let applied = tune(&["apply", "--profile", "edge"], &image);
    assert_eq!(applied.status.code(), Some(0), "{}", err(&applied));
    assert!(out(&applied).contains("/etc/sysctl.d/90-dunlin.conf: absent →"), "{}", out(&applied));
    // Without a name it is the profile that was applied.
    let after = tune(&["check", "--json"], &image);
    let report: serde_json::Value = serde_json::from_slice(&after.stdout).expect("JSON");
    assert_eq!(
        (after.status.code(), &report["profile"], &report["ok"]),
        (Some(0), &"edge".into(), &true.into())
    );
    assert_eq!(out(&tune(&["apply"], &image)), "nothing to change\n");
    let back = tune(&["revert", "--json"], &image);
    let report: serde_json::Value = serde_json::from_slice(&back.stdout).expect("JSON");
    assert_eq!(report["changes"][0]["outcome"], "done", "{}", out(&back));
    assert!(!image.0.join("etc/sysctl.d/90-dunlin.conf").exists());
    let again = tune(&["revert"], &image);
    assert_eq!(again.status.code(), Some(0));
    assert!(out(&again).contains("nothing to revert"), "{}", out(&again));
}

#[test]
fn mistakes_say_what_there_is() {
    let image = Folder::new();
    let profile = tune(&["check", "--profile", "fast"], &image);
    assert_eq!(profile.status.code(), Some(1));
    assert!(
        err(&profile).contains("no profile is called \"fast\"; there are: throughput, latency"),
        "{}",
        err(&profile)
    );
    fs::create_dir_all(image.0.join("var/lib/dunlin")).expect("a folder");
    fs::write(image.0.join("var/lib/dunlin/tune.json"), "{\"version\": 1, \"prof").expect("a torn file");
    let torn = tune(&["apply", "--profile", "edge"], &image);
    assert_eq!(torn.status.code(), Some(1));
    assert!(err(&torn).contains("is damaged") && err(&torn).contains("move it away"), "{}", err(&torn));
    fs::remove_dir_all(&image.0).expect("the folder");
    let nowhere = tune(&["check"], &image);
    assert!(err(&nowhere).contains("--root takes the folder of an image"), "{}", err(&nowhere));
}

#[test]
fn without_root_apply_says_what_to_run() {
    let folder = Folder::new();
    // A copy, because the user may not reach the folder of the build.
    let program = folder.0.join("dunlin");
    fs::copy(env!("CARGO_BIN_EXE_dunlin"), &program).expect("a copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("to be run");
    let is_root = fs::metadata(&folder.0).map(|folder| std::os::unix::fs::MetadataExt::uid(&folder) == 0);
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).current_dir("/");
        if is_root.as_ref().is_ok_and(|is_root| *is_root) {
            command.uid(65_534);
        }
        command.output().expect("the program")
    };
    let refused = run(&["tune", "apply", "--profile", "edge"]);
    assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
    assert!(err(&refused).contains("Run: sudo dunlin tune apply --profile edge"), "{}", err(&refused));
    assert!(err(&run(&["tune", "revert"])).contains("Run: sudo dunlin tune revert"));
    let dry = run(&["tune", "apply", "--profile", "edge", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", err(&dry));
    let check = run(&["tune", "check", "--profile", "edge"]);
    assert!(out(&check).contains("as wanted"), "{}", out(&check));
}

#[test]
fn explain_teaches_one_setting_or_all() {
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_dunlin"))
            .args(["tune", "explain"])
            .args(args)
            .output()
            .expect("it runs")
    };
    let one = out(&run(&["net.ipv4.tcp_fin_timeout"]));
    for part in ["why", "without", "costs", "undo", "source", "wanted", "here"] {
        assert!(one.lines().any(|line| line.split_whitespace().next() == Some(part)), "{part} in\n{one}");
    }
    let all = run(&["--all", "--json"]);
    let lessons: serde_json::Value = serde_json::from_slice(&all.stdout).expect("JSON");
    assert!(lessons.as_array().is_some_and(|lessons| lessons.len() > 50));
    assert_eq!(run(&[]).status.code(), Some(2), "a setting or --all");
}

#[test]
fn systemd_hears_when_the_broker_is_ready_and_when_it_stops() {
    let folder = Folder::new();
    let socket = folder.0.join("notify");
    let heard = UnixDatagram::bind(&socket).expect("a socket");
    heard.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    let next = || {
        let mut bytes = [0; 512];
        let length = heard.recv(&mut bytes).expect("a note within the time limit");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut broker = Command::new(env!("CARGO_BIN_EXE_dunlin"))
        .args(["--listen", "mqtt://127.0.0.1:0", "--shards", "1", "--memory-only"])
        .env("NOTIFY_SOCKET", &socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let ready = next();
    assert!(ready.starts_with("READY=1\nSTATUS=listening on mqtt://127.0.0.1:"), "{ready}");
    let killed = Command::new("kill").args(["-TERM", &broker.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    assert!(next().starts_with("STOPPING=1\n"));
    assert_eq!(broker.wait().expect("its end").code(), Some(0));
}

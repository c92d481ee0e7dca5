//! The commands that measure, with programs that pretend to be the broker and the generator, so that what they are
//! started with and what is made of their figures can be seen.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![expect(clippy::disallowed_methods, reason = "a test reads and writes files")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with the tool in `bin/`, and programs that pretend.
struct Stage {
    folder: PathBuf,
}

impl Stage {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("dunlin-sides-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_dunlin-perf"), folder.join("bin/dunlin-perf")).unwrap();
        let stage = Self { folder };
        // What listens accepts every client, and says nothing else.
        stage.program("broker", BROKER);
        stage.generator("{ \"per_second\": 1000.0, \"broker_cpu_us\": 5.0 }", 0);
        stage
    }

    /// The generator gives this report from now on.
    fn generator(&self, report: &str, code: i32) {
        self.program("generator", &format!("echo \"$@\" >>\"$here/driven\"\necho '{report}'\nexit {code}\n"));
    }

    fn program(&self, name: &str, script: &str) {
        let file = self.folder.join(name);
        std::fs::write(&file, format!("#!/bin/sh\nhere='{}'\n{script}", self.folder.display())).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Command::new(self.folder.join("bin/dunlin-perf"))
            .args(arguments)
            .args(["--no-build", "--no-install", "--port", &port.to_string()])
            .arg("--dunlin")
            .arg(self.folder.join("broker"))
            .arg("--loadgen")
            .arg(self.folder.join("generator"))
            .output()
            .unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Notes what it was started with, then listens.
const BROKER: &str = r#"
[ "$1" = --version ] && { echo dunlin of the test; exit 0; }
{ echo "$@"; grep Cpus_allowed_list /proc/self/status; } >>"$here/started"
exec python3 -c '
import socket, sys
host, port = sys.argv[1].split(":")
listener = socket.create_server((host, int(port)))
while True:
    client = listener.accept()[0]
    if client.recv(100):
        client.sendall(b"\x20\x02\x00\x00")
    client.close()
' "${2#mqtt://}"
"#;

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The cores that the host has, of the first two.
fn first_two() -> &'static str {
    if Path::new("/sys/devices/system/cpu/cpu1").is_dir() { "0-1" } else { "0" }
}

#[test]
fn two_shards_may_use_the_two_cores_that_they_are_given() {
    let stage = Stage::new("cores");
    let two = ["--shards", "2", "--dunlin-cores", "0,1"];
    let arguments = [&["compare", "--scenario", "p2p0", "--only", "dunlin", "-n", "1"], &two[..]].concat();
    succeeded(&stage.run(&arguments));
    let started = stage.read("started");
    assert!(started.contains("--shards 2 --memory-only --cores 0,1"), "{started}");
    assert!(started.trim_end().ends_with(&format!("\t{}", first_two())), "{started}");
}

#[test]
fn the_rows_with_two_shards_take_both_cores_and_the_others_one() {
    let stage = Stage::new("rows");
    succeeded(&stage.run(&["sheet", "--scenario", "p2p0", "p2p0x2", "--only", "dunlin", "-n", "1"]));
    let started: Vec<String> = stage.read("started").lines().map(str::to_owned).collect();
    assert!(started[0].contains("--shards 1 --memory-only --cores 0"), "{started:?}");
    assert!(started[1].ends_with("\t0"), "{started:?}");
    assert!(started[2].contains("--shards 2 --memory-only --cores 0,1"), "{started:?}");
    assert!(started[3].ends_with(&format!("\t{}", first_two())), "{started:?}");
}

#[test]
fn half_load_is_half_of_what_was_reached() {
    let stage = Stage::new("half");
    succeeded(&stage.run(&["sheet", "--scenario", "half0", "--only", "dunlin", "-n", "1"]));
    let driven: Vec<String> = stage.read("driven").lines().map(str::to_owned).collect();
    assert!(driven[0].starts_with("p2p ") && !driven[0].contains("--rate"), "{driven:?}");
    assert!(driven[1].starts_with("lat ") && driven[1].ends_with("--rate 500"), "{driven:?}");
}

#[test]
fn a_rival_that_can_not_be_installed_is_named_and_costs_no_exit_code() {
    let stage = Stage::new("absent");
    let page = succeeded(&stage.run(&["sheet", "--scenario", "p2p0", "--only", "dunlin,rumqttd", "-n", "1"]));
    assert!(page.contains("**not installed**: not installed, and --no-install was given"), "{page}");
    assert!(page.contains("| dunlin | 5.00 | 1,000 |"), "{page}");
}

#[test]
fn a_run_with_losses_is_no_figure_and_fails() {
    let stage = Stage::new("losses");
    stage.generator("{ \"per_second\": 1000.0, \"broker_cpu_us\": 5.0, \"violations\": { \"lost\": 3 } }", 1);
    let output = stage.run(&["sheet", "--scenario", "p2p0", "--only", "dunlin", "-n", "2"]);
    let page = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(page.contains("**dunlin failed** in 2 of 2: lost 3"), "{page}");
    assert!(!page.contains("| dunlin | 5.00"), "{page}");
}

#[test]
fn an_old_and_a_new_result_are_told_apart() {
    let stage = Stage::new("drift");
    let (old, new) = (stage.path("old.json"), stage.path("new.json"));
    let run = |out: &str| {
        let three = ["--scenario", "p2p0", "--only", "dunlin", "-n", "3", "--out", out];
        succeeded(&stage.run(&[&["sheet"], &three[..]].concat()));
    };
    run(&old);
    stage.generator("{ \"per_second\": 1000.0, \"broker_cpu_us\": 6.0 }", 0);
    run(&new);
    let compare = |arguments: &[&str]| {
        let tool = stage.folder.join("bin/dunlin-perf");
        Command::new(tool).arg("compare").args(arguments).output().unwrap()
    };
    let table = succeeded(&compare(&[&old, &new]));
    assert!(table.contains("1.200") && table.contains("WORSE"), "{table}");
    assert_eq!(compare(&[&old, &new, "--check"]).status.code(), Some(1));
    assert_eq!(compare(&[&new, &old, "--check"]).status.code(), Some(0));
    assert_eq!(compare(&[&old, &new, "--check", "--tolerance", "0.25"]).status.code(), Some(0));
    let again = succeeded(&compare(&[&old, &old, "--check"]));
    assert!(again.contains("same"), "{again}");
}

//! Eclipse Paho's Python client and MQTT.js, each in 3.1, 3.1.1 and 5. The cases are in `interop/`.
//!
//! They use nothing that the standards do not define: [MQTT311-7.0.0-2].

use dunlin_e2e::folder::Folder;
use dunlin_e2e::program::Program;
use dunlin_e2e::{Broker, Start};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SUITE_TIME: Duration = Duration::from_secs(240);

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tool(path: &str) -> PathBuf {
    let tool = package().join(".tools").join(path);
    assert!(tool.exists(), "{path} is missing; `tests/all tools` installs it");
    tool
}

fn run_suite(command: &mut Command, broker: &Broker, version: &str, cases_min: usize) {
    let ended = Program::start(command.args(["127.0.0.1", &broker.port(), version])).end_within(SUITE_TIME);
    let passed = ended.out.lines().filter(|line| line.starts_with("ok ")).count();
    let ended = ended.ok();
    assert!(passed >= cases_min, "only {passed} cases ran\n{}", ended.out);
}

fn paho(version: &str, cases_min: usize) {
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards);
        let mut command = Command::new(tool("python/bin/python"));
        run_suite(command.arg(package().join("interop/paho_suite.py")), &broker, version, cases_min);
    }
}

fn mqttjs(version: &str, cases_min: usize) {
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards);
        let mut command = Command::new("node");
        command.env("NODE_PATH", tool("node/node_modules")).arg(package().join("interop/mqttjs_suite.js"));
        run_suite(&mut command, &broker, version, cases_min);
    }
}

#[test]
fn paho_speaks_3_1() {
    paho("3.1", 10);
}

#[test]
fn paho_speaks_3_1_1() {
    paho("3.1.1", 10);
}

#[test]
fn paho_speaks_5() {
    paho("5", 15);
}

#[test]
fn mqttjs_speaks_3_1() {
    mqttjs("3.1", 8);
}

#[test]
fn mqttjs_speaks_3_1_1() {
    mqttjs("3.1.1", 8);
}

#[test]
fn mqttjs_speaks_5() {
    mqttjs("5", 12);
}

/// Kills the broker under Paho's clients again and again.
fn paho_over_kills(version: &str) {
    let folder = Folder::new();
    let start = || Start::new().shards(2).data_dir(&folder.path().join("data"));
    let mut broker = start().start();
    let mut command = Command::new(tool("python/bin/python"));
    command.arg(package().join("interop/paho_restart.py")).args(["127.0.0.1", &broker.port(), version]);
    let mut clients = Program::start(&mut command);
    for sent in ["sent 50", "sent 100", "sent 150", "sent 200"] {
        clients.line(sent, |line| line == sent);
        let port = broker.address().port();
        broker.kill();
        broker = start().port(port).start();
    }
    let ended = clients.end_within(SUITE_TIME).ok();
    assert!(ended.out.contains("ok 200 messages"), "{}", ended.out);
}

#[test]
fn paho_loses_nothing_over_kills_with_3_1_1() {
    paho_over_kills("3.1.1");
}

#[test]
fn paho_loses_nothing_over_kills_with_5() {
    paho_over_kills("5");
}

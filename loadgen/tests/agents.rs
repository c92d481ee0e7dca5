//! A run over two agents, as processes on the loopback device.

#![expect(clippy::disallowed_methods, reason = "a listener with blocking sockets needs threads")]
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at what it did not expect"
)]

mod listener;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use listener::listen;
use serde_json::Value;

/// An agent that ends with its test.
struct Agent {
    process: Child,
    address: String,
}

impl Agent {
    fn start(options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
            .args(["agent", "--listen", "127.0.0.1:0"])
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        address.parse::<SocketAddr>().unwrap_or_else(|_| panic!("{line}"));
        // What it says later is read, so that it never waits for somebody to read it.
        std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
        Self { process, address }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn coordinator(agents: &[&Agent], arguments: &str) -> Command {
    let list: Vec<&str> = agents.iter().map(|agent| agent.address.as_str()).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"));
    command.args([
        "idle",
        "--keep-alive",
        "0",
        "--settle",
        "0",
        "--warm-up",
        "0",
        "--agents",
        &list.join(","),
    ]);
    command.args(arguments.split(' '));
    command
}

fn run(agents: &[&Agent], arguments: &str) -> Output {
    coordinator(agents, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn two_agents_share_the_clients_each_in_a_world_of_its_own() {
    let (broker, _peers, filters) = listen("127.0.0.1:0", false);
    let (one, two) = (Agent::start(&[]), Agent::start(&[]));
    let output = run(&[&one, &two], &format!("-n 11 --seconds 0.2 --target {broker} --json"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["total"]["connections"].as_f64(), Some(11.0), "{report}");
    for agent in report["agents"].as_array().unwrap() {
        let clock = &agent["clock"];
        let offset = clock["offset_ns"].as_i64().unwrap().unsigned_abs();
        assert!(offset <= clock["uncertainty_ns"].as_u64().unwrap(), "both have one clock: {agent}");
        assert!(agent["started_late_ns"].as_i64().unwrap() < 1_000_000_000, "{agent}");
    }
    let mut filters: Vec<String> = filters.try_iter().collect();
    filters.sort();
    assert_eq!(filters.iter().filter(|filter| filter.starts_with("a1/device/")).count(), 5, "{filters:?}");
    assert_eq!(filters.iter().filter(|filter| filter.starts_with("a2/device/")).count(), 6, "{filters:?}");
}

#[test]
fn an_agent_serves_one_run_after_the_other_and_says_how_it_ended() {
    let (broker, ..) = listen("127.0.0.1:0", false);
    let agent = Agent::start(&[]);
    for _ in 0..2 {
        let output = run(&[&agent], &format!("-n 3 --seconds 0.1 --target {broker}"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("exit code 0"), "{}", text(&output.stdout));
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&[&agent], &format!("-n 3 --seconds 0.1 --patience 1 --target {nobody}"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("without progress"), "{}", text(&output.stderr));
}

#[test]
fn what_an_agent_runs_serves_its_figures_where_the_agent_says() {
    let (broker, ..) = listen("127.0.0.1:0", false);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let agent = Agent::start(&["--prometheus", &free.to_string()]);
    let mut running = coordinator(&[&agent], &format!("-n 3 --seconds 4 --target {broker}"));
    let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut figures = String::new();
    while running.try_wait().unwrap().is_none() && !figures.contains("connections_open 3") {
        if let Ok(mut stream) = TcpStream::connect(free) {
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            // A run that ends while it answers is asked no more.
            drop(stream.read_to_string(&mut answer));
            figures = answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(running.wait().unwrap().success());
    assert!(figures.contains("connections_open 3"), "{figures}");
    let output = run(&[&agent], &format!("-n 3 --target {broker} --prometheus {free}"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("agent --prometheus"), "{}", text(&output.stderr));
}

#[test]
fn a_lost_agent_ends_the_run_unless_it_may_go_on() {
    for (policy, code) in [("end", 2), ("continue", 1)] {
        let (broker, _peers, filters) = listen("127.0.0.1:0", false);
        let (one, mut two) = (Agent::start(&[]), Agent::start(&[]));
        let arguments = format!("-n 4 --seconds 3 --target {broker} --on-agent-loss {policy}");
        let coordinator = coordinator(&[&one, &two], &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        for _ in 0..4 {
            filters.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        two.process.kill().unwrap();
        let output = coordinator.wait_with_output().unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(&format!("{} ", two.address)) && said.contains("lost"), "{said}");
    }
}

#[test]
fn tokens_must_be_the_same() {
    let file = |name: &str, token: &str| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, token).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "0123456789abcdef0\n"), file("wrong", "0123456789abcdef1\n"));
    let (broker, ..) = listen("127.0.0.1:0", false);
    let agent = Agent::start(&["--token", &right]);
    for (options, code) in [(format!("--token {right}"), 0), (format!("--token {wrong}"), 2)] {
        let output = run(&[&agent], &format!("-n 2 --seconds 0.1 --target {broker} {options}"));
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        if code == 2 {
            assert!(text(&output.stderr).contains("tokens differ"), "{}", text(&output.stderr));
        }
    }
    let without = run(&[&agent], &format!("-n 2 --target {broker}"));
    assert!(text(&without.stderr).contains("tokens differ"), "{}", text(&without.stderr));
}

#[test]
fn an_agent_that_others_can_reach_wants_a_token() {
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(["agent", "--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--token"), "{}", text(&output.stderr));
}

/// Clients whose filters have names from a file.
const NAMED: &str = r#"
    version = 1
    name = "named"
    about = "Clients with names from a file."
    [data.people]
    file = "people/names.csv"
    [[group]]
    name = "listeners"
    count = 4
    protocol = "3.1.1"
    data = "people"
    subscribe = [{ filter = "to/{data.name}" }]
    [[stage]]
    name = "connect"
    start = ["listeners"]
    until = "subscribed"
    timeout = "10s"
    measure = true
"#;

#[test]
fn a_scenario_travels_with_its_files_and_each_share_has_rows_of_its_own() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("travels");
    std::fs::create_dir_all(folder.join("people")).unwrap();
    std::fs::write(folder.join("people/names.csv"), "name\nann\nbob\ncleo\ndan\n").unwrap();
    let plan = folder.join("named.toml");
    std::fs::write(&plan, NAMED).unwrap();
    let (broker, _peers, filters) = listen("127.0.0.1:0", false);
    let (one, two) = (Agent::start(&[]), Agent::start(&[]));
    let run = |plan: &PathBuf| {
        Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
            .args(["run", plan.to_str().unwrap(), "--target", &broker.to_string()])
            .args(["--agents", &format!("{},{}", one.address, two.address)])
            .args(["--out", folder.join("out").to_str().unwrap()])
            .output()
            .unwrap()
    };
    let output = run(&plan);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut filters: Vec<String> = filters.try_iter().collect();
    filters.sort();
    assert_eq!(filters, ["a1/to/ann", "a1/to/bob", "a2/to/cleo", "a2/to/dan"]);
    let outcome = std::fs::read(folder.join("out/outcome.json")).unwrap();
    let outcome: Value = serde_json::from_slice(&outcome).unwrap();
    assert_eq!(outcome["counters"]["connects"], 4, "of both agents together");

    std::fs::write(
        &plan,
        NAMED.replace("people/names.csv", folder.join("people/names.csv").to_str().unwrap()),
    )
    .unwrap();
    let output = run(&plan);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("can't be sent to agents"), "{}", text(&output.stderr));
}

#[test]
fn nothing_is_served_to_prometheus_while_agents_run() {
    let agent = Agent::start(&[]);
    let output = run(&[&agent], "-n 2 --prometheus 127.0.0.1:0");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--prometheus with --agents"), "{}", text(&output.stderr));
}

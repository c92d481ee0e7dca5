//! The command line: what it prints, what it refuses, and with which exit code.

use dunlin_e2e::broker::dunlin;
use dunlin_e2e::folder::{Folder, read};
use dunlin_e2e::program::{Program, run};
use dunlin_e2e::{Client, Start};
use dunlin_wire::Version;

#[test]
fn help_and_version_end_well() {
    let help = run(dunlin().arg("--help")).ok();
    for flag in [
        "--listen",
        "--shards",
        "--cores",
        "--data-dir",
        "--memory-only",
        "--durability",
        "--allow-anonymous",
        "--config",
        "--log-level",
        "--log-format",
        "--print-config",
    ] {
        assert!(help.out.contains(flag), "{flag} is not in the help");
    }
    let version = run(dunlin().arg("--version")).ok();
    assert!(version.out.starts_with("dunlin "));
}

#[test]
fn print_config_is_a_file_that_can_be_read_again() {
    let folder = Folder::new();
    let printed = run(dunlin().args(["--shards", "3", "--print-config"])).ok();
    assert!(printed.out.contains("shards = 3"), "{}", printed.out);
    let file = folder.write("dunlin.toml", &printed.out);
    let again = run(dunlin().arg("--config").arg(&file).arg("--print-config")).ok();
    assert!(again.out.contains("shards = 3"));
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let folder = Folder::new();
    let file = folder
        .write("dunlin.toml", "[server]\nshards = 2\n\n[mqtt]\nmax_inflight = 5\nmax_topic_levels = 6\n");
    let printed = run(dunlin()
        .arg("--config")
        .arg(&file)
        .args(["--shards", "4", "--print-config"])
        .env("DUNLIN_SERVER__SHARDS", "3")
        .env("DUNLIN_MQTT__MAX_INFLIGHT", "7"))
    .ok();
    for line in ["shards = 4", "max_inflight = 7", "max_topic_levels = 6"] {
        assert!(printed.out.contains(line), "{line} is not in\n{}", printed.out);
    }
}

#[test]
fn bad_flags_and_values_are_refused_with_what_to_do() {
    let folder = Folder::new();
    let unknown = folder.write("unknown.toml", "[mqtt]\nmax_inflihgt = 5\n");
    let broken = folder.write("broken.toml", "[mqtt\n");
    let wrong = folder.write("wrong.toml", "[mqtt]\nmax_inflight = \"many\"\n");
    let cases: [(&[&str], &str); 8] = [
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--shards", "0"], "shards"),
        (&["--shards", "many"], "shards"),
        (&["--listen", "127.0.0.1:1883"], "mqtt://"),
        (&["--listen", "mqtt://127.0.0.1:99999"], "99999"),
        (&["--log-level", "loud"], "loud"),
        (&["--config", "does-not-exist.toml"], "does-not-exist.toml"),
        (&["nonsense"], "nonsense"),
    ];
    for (arguments, named) in cases {
        let ended = run(dunlin().args(arguments).current_dir(folder.path()));
        assert!(!ended.status.success(), "{arguments:?}");
        assert!(ended.status.code().is_some(), "{arguments:?} died: {}", ended.err);
        assert!(ended.err.contains(named), "{arguments:?}: {}", ended.err);
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
    }
    for (file, named) in [(unknown, "max_inflight"), (broken, "broken.toml"), (wrong, "max_inflight")] {
        let ended = run(dunlin().arg("--config").arg(&file));
        assert!(!ended.status.success());
        assert!(ended.err.contains(named), "{}", ended.err);
    }
}

#[test]
fn other_hosts_need_authentication_or_permission_by_name() {
    let ended = run(dunlin().args(["--listen", "mqtt://0.0.0.0:0", "--shards", "1"]));
    assert!(!ended.status.success());
    assert!(ended.err.contains("--allow-anonymous"), "{}", ended.err);

    let folder = Folder::new();
    let mut program = Program::start(
        dunlin()
            .args(["--listen", "mqtt://0.0.0.0:0", "--shards", "1", "--allow-anonymous", "--memory-only"])
            .current_dir(folder.path()),
    );
    program.line("line that says where it listens", |line| line.contains("mqtt://0.0.0.0:"));
}

#[test]
fn the_start_tells_listeners_shards_and_cores() {
    let mut broker = Start::new().shards(2).start();
    let text = broker.program().text();
    assert!(text.contains("mqtt://127.0.0.1:"), "{text}");
    assert!(text.contains("shard"), "{text}");
    assert!(text.contains("core") || text.contains("CPU") || text.contains("cpu"), "{text}");
}

#[test]
fn an_address_in_use_is_told() {
    let broker = dunlin_e2e::Broker::start();
    let url = format!("mqtt://{}", broker.address());
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("mqtt://{}", holder.local_addr().unwrap());
    for url in [url, taken] {
        let ended = run(dunlin().args(["--listen", &url, "--shards", "1", "--memory-only"]));
        assert!(!ended.status.success());
        let port = url.rsplit(':').next().unwrap();
        assert!(ended.err.contains(port), "{}", ended.err);
    }
}

#[test]
fn check_tells_whether_the_configuration_and_the_host_are_fine() {
    let folder = Folder::new();
    let good = run(dunlin()
        .args(["check", "--listen", "mqtt://127.0.0.1:0", "--shards", "1"])
        .current_dir(folder.path()));
    assert!(good.status.success(), "{}\n{}", good.out, good.err);
    let file = folder.write("bad.toml", "[mqtt]\nmax_inflight = 0\n");
    let bad = run(dunlin().arg("check").arg("--config").arg(&file));
    assert!(!bad.status.success());
    assert!(format!("{}{}", bad.out, bad.err).contains("max_inflight"));
}

#[test]
fn several_listeners_are_served() {
    let folder = Folder::new();
    let mut program = Program::start(
        dunlin()
            .args([
                "--listen",
                "mqtt://127.0.0.1:0",
                "--listen",
                "mqtt://[::1]:0",
                "--shards",
                "2",
                "--memory-only",
            ])
            .current_dir(folder.path()),
    );
    program.line("line about the first listener", |line| {
        line.contains("listen") && line.contains("mqtt://127.0.0.1:")
    });
    let text = program.text();
    if !text.contains("mqtt://[::1]:") {
        program.line("line about the second listener", |line| line.contains("mqtt://[::1]:"));
    }
}

#[test]
fn json_logs_are_json() {
    let broker = Start::new().argument("--log-format").argument("json").start();
    Client::connect(&broker, Version::V5, "json").goodbye();
    broker.signal("TERM");
    let ended = broker.end().ok();
    assert!(!ended.err.is_empty(), "nothing was logged");
    for line in ended.err.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
}

#[test]
fn a_host_without_sys_binds_its_shards_to_cores_all_the_same() {
    let script = "mount -t tmpfs none /sys && exec \"$@\"";
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    let mut broker = Start::new().shards(2).under(&unshare).argument("--cores").argument("0").start();
    let _client = Client::connect(&broker, Version::V5, "c");
    let tasks = format!("/proc/{}/task", broker.program().id());
    let is_bound = |task: &std::fs::DirEntry| {
        let status = String::from_utf8(read(&task.path().join("status"))).unwrap();
        // A shard has a second thread, which does nothing.
        status.contains("Name:\tshard-") && status.contains("Cpus_allowed_list:\t0\n")
    };
    let bound = std::fs::read_dir(tasks).unwrap().filter(|task| is_bound(task.as_ref().unwrap()));
    assert_eq!(bound.count(), 2);
}

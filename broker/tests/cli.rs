//! The command line as users see it: texts and exit codes of the real program.

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "tests write configuration files")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the program to its end in a clean environment.
fn dunlin(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    command.env_clear().args(args).envs(env.iter().copied());
    command.output().expect("the program runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A configuration file with this text, in the test's own folder.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the test folder is writable");
    path
}

#[test]
fn the_version_and_the_help_are_there() {
    let version = dunlin(&["--version"], &[]);
    assert_eq!(out(&version), format!("dunlin {}\n", env!("CARGO_PKG_VERSION")));
    let help = dunlin(&["--help"], &[]);
    assert!(help.status.success());
    for flag in [
        "--listen",
        "--shards",
        "--cores",
        "--max-connections",
        "--data-dir",
        "--memory-only",
        "--durability",
        "--allow-anonymous",
        "--config",
        "--log-level",
        "--log-format",
        "--print-config",
    ] {
        assert!(out(&help).contains(flag), "{flag}");
    }
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2() {
    let output = dunlin(&["--lisen", "mqtt://127.0.0.1:0"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("--listen"), "{}", err(&output));
}

#[test]
fn a_listener_for_other_hosts_is_refused_without_authentication() {
    let output = dunlin(&["--listen", "mqtt://0.0.0.0:0"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "dunlin: flag --listen: server.listen has mqtt://0.0.0.0:0, which other hosts can reach, but no authentication is \
         configured. Listen on a loopback address such as mqtt://127.0.0.1:0, or let everybody in with --allow-anonymous \
         (auth.allow_anonymous = true).\n"
    );
    assert_eq!(out(&output), "");
}

#[test]
fn transports_that_come_later_say_so() {
    for url in ["mqtts://127.0.0.1:8883", "ws://127.0.0.1:8083/mqtt"] {
        let output = dunlin(&["--listen", url], &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains("which this version does not serve yet"), "{}", err(&output));
    }
}

#[test]
fn the_layers_win_in_order_and_the_print_says_which_did() {
    let path =
        file("layers.toml", "[mqtt]\nmax_inflight = 5\nmax_awaiting_rel = 6\nretry_interval = \"40s\"\n");
    let path = path.to_str().expect("a path of text");
    let env = [("DUNLIN_MQTT__MAX_AWAITING_REL", "7"), ("DUNLIN_LOG__LEVEL", "warn")];
    let output = dunlin(&["--config", path, "--log-level", "error", "--print-config"], &env);
    assert!(output.status.success(), "{}", err(&output));
    let text = out(&output);
    for line in [
        format!("max_inflight = 5  # {path}:2"),
        "max_awaiting_rel = 7  # environment DUNLIN_MQTT__MAX_AWAITING_REL".to_owned(),
        format!("retry_interval = \"40s\"  # {path}:4"),
        "level = \"error\"  # flag --log-level".to_owned(),
        "max_mqueue_len = 1000  # default".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_printed_configuration_is_a_configuration() {
    let first =
        dunlin(&["--print-config", "--cores", "0", "--listen", "mqtt://127.0.0.1:0", "mqtt://[::1]:0"], &[]);
    let path = file("printed.toml", &out(&first));
    let second = dunlin(&["--print-config"], &[("DUNLIN_CONFIG", path.to_str().expect("text"))]);
    assert!(second.status.success(), "{}", err(&second));
    let values = |output: &Output| -> Vec<String> {
        out(output).lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn the_data_directory_in_force_is_printed() {
    let told = |args: &[&str], env: &[(&str, &str)]| {
        let text = out(&dunlin(&[args, &["--print-config"]].concat(), env));
        text.lines().find(|line| line.starts_with("data_dir = ")).expect("the key").to_owned()
    };
    let usual = told(&[], &[("STATE_DIRECTORY", "/given")]);
    assert_eq!(usual, "data_dir = \"auto\"  # default: /given");
    let named = told(&["--data-dir", "/named"], &[("STATE_DIRECTORY", "/given")]);
    assert_eq!(named, "data_dir = \"/named\"  # flag --data-dir");
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = "[mqtt]\nmax_paket_size = \"1MB\"\nmax_qos_allowed = 4\n[log]\nlevel = \"loud\"\n";
    let path = file("mistakes.toml", text);
    let path = path.to_str().expect("a path of text");
    let output = dunlin(&["--config", path], &[("DUNLIN_MQTT__IDLE_TIMEOUT", "15")]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    for line in [
        format!("dunlin: {path}:2: there is no key mqtt.max_paket_size; did you mean mqtt.max_packet_size?"),
        format!("dunlin: {path}:3: mqtt.max_qos_allowed = 4 is not a QoS; it takes 0, 1 or 2."),
        format!(
            "dunlin: {path}:5: log.level = \"loud\" is not one of the words that it takes; it takes error, warn, info, debug."
        ),
        "dunlin: environment DUNLIN_MQTT__IDLE_TIMEOUT: mqtt.idle_timeout = \"15\" has no unit; it takes a duration from \
         100ms to 1h."
            .to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let output = dunlin(&["--config", "/nowhere/dunlin.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("dunlin: /nowhere/dunlin.toml: cannot be read: "), "{}", err(&output));
}

#[test]
fn an_ipv6_address_needs_its_brackets() {
    let output = dunlin(&["--listen", "mqtt://::1:1884"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("write mqtt://[::1]:1884"), "{}", err(&output));
}

#[test]
fn flags_in_the_wrong_place_are_told_where_they_belong() {
    for args in [&["--shards", "2", "check"][..], &["--allow-anonymous", "true"]] {
        let output = dunlin(args, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains("tip: flags stand after the command"), "{}", err(&output));
    }
}

/// Runs the program with one limit of the process lowered.
fn limited(limit: &str, args: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_dunlin");
    let command =
        format!("ulimit {limit} && exec {program} --listen mqtt://127.0.0.1:0 --memory-only {args}");
    Command::new("sh").args(["-c", &command]).env_clear().output().expect("a shell")
}

#[test]
fn limits_of_the_process_that_are_too_low_are_named_with_what_to_set() {
    let memlock = limited("-l 64", "");
    assert_eq!(memlock.status.code(), Some(1));
    let text = err(&memlock);
    assert!(
        text.contains("memlock: RLIMIT_MEMLOCK is 65536 bytes") && text.contains("LimitMEMLOCK=infinity"),
        "{text}"
    );
    let nofile = limited("-n 256", "--shards 1 --max-connections 100");
    assert_eq!(nofile.status.code(), Some(1));
    let text = err(&nofile);
    assert!(text.contains("nofile: RLIMIT_NOFILE is 256, and 100 connections on 1 shard need 273"), "{text}");
    assert!(text.contains("`ulimit -n 273`; LimitNOFILE=273"), "{text}");
    assert!(text.contains("`dunlin check` shows all"), "{text}");
}

#[test]
fn check_reports_the_host_as_a_table_and_as_json() {
    let table = dunlin(&["check"], &[]);
    let text = out(&table);
    for subject in ["config", "storage", "kernel", "io_uring", "memlock", "nofile", "cores", "tuning"] {
        assert!(
            text.lines().any(|line| line.split_whitespace().nth(1) == Some(subject)),
            "{subject} is not in\n{text}"
        );
    }
    let json = dunlin(&["check", "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(table.status.code(), json.status.code());
    let failed = report["verdict"] == "fail";
    assert_eq!(json.status.code(), Some(i32::from(failed)));
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(text.lines().count() - 1));
}

#[test]
fn check_fails_on_a_configuration_that_cannot_run() {
    let output = dunlin(&["check", "--json", "--listen", "mqtt://0.0.0.0:1883"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["findings"][0]["subject"], "config");
    assert_eq!(report["findings"][0]["verdict"], "fail");
    let cores = dunlin(&["check", "--cores", "8000"], &[]);
    assert_eq!(cores.status.code(), Some(1));
    assert!(out(&cores).contains("server.cores names core 8000"), "{}", out(&cores));
}

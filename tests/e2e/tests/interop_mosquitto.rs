//! Mosquitto's command-line clients, in 3.1, 3.1.1 and 5.
//!
//! They use nothing that the standards do not define: [MQTT311-7.0.0-2].

use dunlin_e2e::folder::Folder;
use dunlin_e2e::program::{Program, run};
use dunlin_e2e::{Broker, Start};
use std::process::Command;

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

fn client(program: &str, broker: &Broker, version: &str) -> Command {
    // Line by line, although its output is no terminal.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program, "-h", "127.0.0.1", "-p", &broker.port(), "-V", version]);
    command
}

/// Starts mosquitto_sub and waits until the broker has acknowledged its subscription.
fn subscribe(broker: &Broker, version: &str, arguments: &[&str]) -> Program {
    let mut command = client("mosquitto_sub", broker, version);
    let mut program = Program::start(command.arg("-d").args(arguments));
    program.line("acknowledged subscription", |line| line.contains("Subscribed (mid"));
    program
}

fn publish(broker: &Broker, version: &str, arguments: &[&str]) {
    let _ended = run(client("mosquitto_pub", broker, version).args(arguments)).ok();
}

#[test]
fn publish_and_subscribe_with_every_version_and_qos() {
    let broker = Broker::start();
    for from in VERSIONS {
        for to in VERSIONS {
            for qos in ["0", "1", "2"] {
                let subscriber = subscribe(
                    &broker,
                    to,
                    &["-t", "mosquitto/+", "-q", qos, "-C", "1", "-F", "got %t %q %p"],
                );
                publish(&broker, from, &["-t", "mosquitto/x", "-q", qos, "-m", "hello"]);
                let ended = subscriber.end().ok();
                assert!(
                    ended.out.lines().any(|line| line == format!("got mosquitto/x {qos} hello")),
                    "{from} to {to}: {}",
                    ended.out
                );
            }
        }
    }
}

#[test]
fn a_file_of_lines_arrives_in_order() {
    let broker = Broker::start();
    for version in VERSIONS {
        let subscriber =
            subscribe(&broker, version, &["-t", "lines", "-q", "2", "-C", "200", "-F", "line %p"]);
        let folder = Folder::new();
        let lines: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let file = folder.write("lines", &(lines.join("\n") + "\n"));
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec mosquitto_pub -h 127.0.0.1 -p \"$1\" -V \"$2\" -t lines -q 2 -l < \"$3\"",
            "sh",
        ]);
        let _ended = run(command.args([&broker.port(), version]).arg(&file)).ok();
        let ended = subscriber.end().ok();
        let got: Vec<&str> = ended.out.lines().filter_map(|line| line.strip_prefix("line ")).collect();
        assert_eq!(got, lines, "{version}");
    }
}

#[test]
fn retained_messages_and_their_removal() {
    let broker = Broker::start();
    for version in VERSIONS {
        publish(&broker, version, &["-t", "retained", "-q", "1", "-r", "-m", "kept"]);
        let mut command = client("mosquitto_sub", &broker, version);
        let ended = run(command.args(["-t", "retained", "-C", "1", "-F", "%r %p"])).ok();
        assert_eq!(ended.out, "1 kept\n");
        publish(&broker, version, &["-t", "retained", "-q", "1", "-r", "-n"]);
        // Nothing is there: the client gives up after a second and says so with its exit code.
        let mut command = client("mosquitto_sub", &broker, version);
        let ended = run(command.args(["-t", "retained", "-C", "1", "-W", "1"]));
        assert_eq!((ended.out.as_str(), ended.status.code()), ("", Some(27)));
    }
}

#[test]
fn a_killed_client_leaves_its_will() {
    let broker = Broker::start();
    for version in VERSIONS {
        let watcher = subscribe(&broker, version, &["-t", "will/#", "-C", "1", "-F", "will %t %p"]);
        let dying = subscribe(
            &broker,
            version,
            &["-t", "other", "--will-topic", "will/x", "--will-payload", "gone", "--will-qos", "1"],
        );
        dying.signal("KILL");
        let ended = watcher.end().ok();
        assert!(ended.out.contains("will will/x gone"), "{version}: {}", ended.out);
    }
}

#[test]
fn a_lasting_session_collects_messages() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("lasting-{version}");
        let mut arguments = vec!["-t", "lasting", "-q", "1", "-i", &id, "-c", "-F", "kept %p"];
        if version == "mqttv5" {
            arguments.extend(["-x", "600"]);
        }
        let mut first = arguments.clone();
        first.push("-E");
        let _ended = run(client("mosquitto_sub", &broker, version).args(&first)).ok();
        for payload in ["1", "2", "3"] {
            publish(&broker, version, &["-t", "lasting", "-q", "1", "-m", payload]);
        }
        arguments.extend(["-C", "3"]);
        let ended = run(client("mosquitto_sub", &broker, version).args(&arguments)).ok();
        assert_eq!(ended.out, "kept 1\nkept 2\nkept 3\n", "{version}");
    }
}

#[test]
fn a_lasting_session_collects_messages_over_kills() {
    for version in VERSIONS {
        let folder = Folder::new();
        let start = || Start::new().shards(2).data_dir(&folder.path().join("data")).start();
        let mut arguments = vec!["-t", "lasting/#", "-q", "2", "-i", "lasting", "-c", "-F", "kept %r %q %p"];
        if version == "mqttv5" {
            arguments.extend(["-x", "600"]);
        }
        let mut broker = start();
        let mut first = arguments.clone();
        first.push("-E");
        let _ended = run(client("mosquitto_sub", &broker, version).args(&first)).ok();
        for payload in ["1", "2", "3"] {
            publish(&broker, version, &["-t", "lasting/x", "-q", "2", "-m", payload]);
            broker.kill();
            broker = start();
        }
        arguments.extend(["-C", "3"]);
        let ended = run(client("mosquitto_sub", &broker, version).args(&arguments)).ok();
        assert_eq!(ended.out, "kept 0 2 1\nkept 0 2 2\nkept 0 2 3\n", "{version}");
    }
}

#[test]
fn retained_messages_are_there_after_a_kill() {
    let folder = Folder::new();
    let start = || Start::new().shards(2).data_dir(&folder.path().join("data")).start();
    let broker = start();
    for version in VERSIONS {
        let topic = format!("retained/{version}");
        publish(&broker, version, &["-t", &topic, "-q", "1", "-r", "-m", "kept"]);
    }
    broker.kill();
    let broker = start();
    for version in VERSIONS {
        let topic = format!("retained/{version}");
        let mut command = client("mosquitto_sub", &broker, version);
        let ended = run(command.args(["-t", &topic, "-C", "1", "-F", "%r %p"])).ok();
        assert_eq!(ended.out, "1 kept\n");
    }
}

#[test]
fn properties_of_5_travel() {
    let broker = Broker::start();
    let subscriber = subscribe(
        &broker,
        "mqttv5",
        &[
            "-t",
            "props",
            "-q",
            "1",
            "-C",
            "1",
            "-F",
            "props|%C|%D|%R|%P|%p",
            "-D",
            "subscribe",
            "subscription-identifier",
            "9",
        ],
    );
    publish(
        &broker,
        "mqttv5",
        &[
            "-t",
            "props",
            "-q",
            "1",
            "-m",
            "x",
            "-D",
            "publish",
            "content-type",
            "text/plain",
            "-D",
            "publish",
            "response-topic",
            "answer",
            "-D",
            "publish",
            "correlation-data",
            "abc",
            "-D",
            "publish",
            "user-property",
            "key",
            "value",
        ],
    );
    let ended = subscriber.end().ok();
    let line = ended.out.lines().find(|line| line.starts_with("props|")).unwrap();
    for part in ["text/plain", "abc", "answer", "key:value", "|x"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn request_and_response_find_each_other() {
    let broker = Broker::start();
    // Answers every request on the topic that the request names.
    let mut answering = subscribe(&broker, "mqttv5", &["-t", "request", "-C", "1", "-F", "ask %R"]);
    let mut command = client("mosquitto_rr", &broker, "mqttv5");
    command.args(["-t", "request", "-e", "response/1", "-m", "question", "-W", "20", "-d"]);
    let asking = Program::start(&mut command);
    let line = answering.line("request", |line| line.starts_with("ask "));
    publish(&broker, "mqttv5", &["-t", line.trim_start_matches("ask "), "-m", "answer"]);
    let ended = asking.end().ok();
    assert!(ended.out.lines().any(|line| line == "answer"), "{}", ended.out);
}

#[test]
fn a_shared_subscription_gives_each_message_once() {
    let broker = Broker::start();
    for filter in ["$share/group/shared", "$queue/shared"] {
        let members: Vec<Program> = (0..2)
            .map(|_| {
                subscribe(&broker, "mqttv5", &["-t", filter, "-t", "done", "-q", "1", "-F", "part %t %p"])
            })
            .collect();
        for number in 0..20 {
            publish(&broker, "mqttv5", &["-t", "shared", "-q", "1", "-m", &number.to_string()]);
        }
        publish(&broker, "mqttv5", &["-t", "done", "-q", "1", "-m", "done"]);
        let mut got = Vec::new();
        for mut member in members {
            member.line("end mark", |line| line == "part done done");
            let text = member.text();
            got.extend(
                text.lines().filter_map(|line| line.strip_prefix("part shared ")?.parse::<u32>().ok()),
            );
        }
        got.sort_unstable();
        assert_eq!(got, (0..20).collect::<Vec<u32>>(), "{filter}");
    }
}

#[test]
fn a_megabyte_less_a_bit_arrives_whole() {
    let broker = Broker::start();
    let folder = Folder::new();
    let text = "0123456789abcdef".repeat(60_000);
    let file = folder.write("payload", &text);
    for version in VERSIONS {
        let subscriber = subscribe(&broker, version, &["-t", "large", "-q", "2", "-C", "1", "-F", "%l"]);
        let mut command = client("mosquitto_pub", &broker, version);
        let _ended = run(command.args(["-t", "large", "-q", "2", "-f"]).arg(&file)).ok();
        let ended = subscriber.end().ok();
        assert!(ended.out.lines().any(|line| line == text.len().to_string()), "{version}: {}", ended.out);
    }
}

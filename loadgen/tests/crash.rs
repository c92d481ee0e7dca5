//! The crash checker against a durable broker with planted faults: each must be found, and nothing else.
//!
//! The broker (`journal/mod.rs`) is this very test program, started anew with the name of a fault in its environment.

#![expect(clippy::disallowed_methods, reason = "a broker with blocking sockets needs threads")]
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::exit,
    reason = "a test stops at what it did not expect"
)]

mod journal;

use std::path::Path;
use std::process::Command;

use journal::Fault;
use serde_json::Value;

/// The broker's process; without a fault in the environment, a check that it is one.
#[test]
fn broker() {
    if let (Ok(fault), Ok(port), Ok(folder)) =
        (std::env::var("JOURNAL_FAULT"), std::env::var("JOURNAL_PORT"), std::env::var("JOURNAL_FOLDER"))
    {
        journal::serve(Fault::named(&fault), port.parse().unwrap(), Path::new(&folder));
        return;
    }
    let (code, findings) = run(Fault::None, &["--cycles", "1"]);
    assert_eq!((code, &findings["kills"]), (0, &Value::from(1)), "{findings}");
}

/// Runs the checker on a broker with this fault; returns its exit code and findings.
fn run(fault: Fault, further: &[&str]) -> (i32, Value) {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(["crash", "--json", "--patience", "1", "--audit-every", "4"])
        .args(if further.contains(&"--kill-after") { [].as_slice() } else { &["--kill-after", "30-150"] })
        .args(["--publishers", "4", "--window", "6", "--backlog", "100"])
        .args(further)
        .args([
            "--",
            "env",
            &format!("JOURNAL_FAULT={fault:?}"),
            "JOURNAL_PORT={port}",
            "JOURNAL_FOLDER={dir}",
        ])
        .arg(own)
        .args(["--exact", "broker", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let findings: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr));
    });
    if let Some(folder) = findings["folder"].as_str() {
        std::fs::remove_dir_all(folder).unwrap();
    }
    (output.status.code().unwrap(), findings)
}

/// Expects that the fault shows as (at least) this violation, and as none but the ones named.
#[track_caller]
fn check(fault: Fault, expected: &str, also: &[&str]) {
    check_with(fault, &["--cycles", "10"], expected, also);
}

#[track_caller]
fn check_with(fault: Fault, further: &[&str], expected: &str, also: &[&str]) {
    let (code, findings) = run(fault, further);
    let violations: Vec<(String, u64)> = serde_json::from_value(findings["violations"].clone()).unwrap();
    for (name, count) in violations {
        if name == expected {
            assert!(count > 0, "{fault:?} was not found as {name}: {findings:#}");
        } else if !also.contains(&name.as_str()) {
            assert_eq!(count, 0, "{fault:?} was found as {name}: {findings:#}");
        }
    }
    assert_eq!(code, 1, "{findings:#}");
}

/// Where recovery sends more or fewer messages than before, their packet ids shift, and recovered acknowledgements end the
/// wrong exchanges.
const SHIFTED: [&str; 6] = ["lost", "duplicated", "out_of_order", "protocol", "will_lost", "shared_twice"];
/// Where sessions are gone, so are their subscriptions and Wills.
const WITH_SESSIONS: [&str; 8] = [
    "lost",
    "duplicated",
    "out_of_order",
    "protocol",
    "will_lost",
    "shared_twice",
    "will_unexpected",
    "subscription_lost",
];

#[test]
fn a_broker_that_keeps_its_word_passes() {
    let (code, findings) = run(Fault::None, &["--cycles", "20"]);
    assert_eq!(code, 0, "{findings:#}");
    let count = |name: &str| findings[name].as_u64().unwrap();
    assert_eq!(count("kills"), 20);
    for name in ["acknowledged_qos_1", "acknowledged_qos_2", "delivered", "repeated_qos_1", "retained_read"] {
        assert!(count(name) > 0, "{name}: {findings:#}");
    }
    for name in ["delivered_shared", "wills_due", "wills_void", "wills_delivered", "sessions_expired"] {
        assert!(count(name) > 0, "{name}: {findings:#}");
    }
    for name in ["takeovers", "clean_starts", "sent_again", "sessions_resumed", "subscriptions_confirmed"] {
        assert!(count(name) > 0, "{name}: {findings:#}");
    }
}

#[test]
fn orderly_restarts_pass_too() {
    let (code, findings) = run(Fault::None, &["--cycles", "3", "--signal", "term"]);
    assert_eq!((code, &findings["kills"]), (0, &Value::from(3)), "{findings:#}");
}

#[test]
fn answers_before_writing_lose_messages() {
    // What else is forgotten with the tail of the journal depends on the moment.
    let also = ["duplicated", "out_of_order", "foreign", "stale_retained", "missing_retained", "protocol"];
    check(
        Fault::AnswersFirst,
        "lost",
        &[&also[..], &WITH_SESSIONS[..], &["session_lost", "session_unexpected", "unserved"]].concat(),
    );
}

#[test]
fn messages_that_recovery_skips_are_lost() {
    check(Fault::SkipsMessages, "lost", &[&SHIFTED[..], &["stale_retained", "missing_retained"]].concat());
}

#[test]
fn forgotten_packet_ids_duplicate_messages() {
    check(Fault::ForgetsReceived, "duplicated", &SHIFTED);
}

#[test]
fn queues_in_the_wrong_order_are_found() {
    check(Fault::Reverses, "out_of_order", &[]);
}

#[test]
fn old_retained_messages_are_found() {
    check(Fault::StaleRetained, "stale_retained", &["missing_retained"]);
}

#[test]
fn lost_retained_messages_are_found() {
    check(Fault::NoRetained, "missing_retained", &[]);
}

#[test]
fn removed_retained_messages_that_come_back_are_found() {
    check(Fault::KeepsRemoved, "stale_retained", &[]);
}

#[test]
fn lost_sessions_are_found() {
    check(Fault::ForgetsSessions, "session_lost", &WITH_SESSIONS);
}

#[test]
fn forgotten_unsubscriptions_are_found() {
    check(Fault::ForgetsUnsubscribes, "foreign", &SHIFTED);
}

#[test]
fn forgotten_subscriptions_lose_messages() {
    check(Fault::ForgetsSubscribes, "lost", &WITH_SESSIONS);
    check_with(Fault::ForgetsSubscribes, &["--cycles", "20"], "subscription_lost", &WITH_SESSIONS);
}

#[test]
fn sessions_that_come_back_after_a_clean_start_are_found() {
    check(Fault::ForgetsCleanStarts, "foreign", &[&SHIFTED[..], &["session_unexpected"]].concat());
}

#[test]
fn damaged_messages_are_found() {
    // The sound copy of a message that was damaged comes late when its publisher sends it again.
    check(Fault::Corrupts, "corrupted", &["lost", "out_of_order", "missing_retained"]);
}

#[test]
fn a_connection_that_outlives_its_takeover_is_found() {
    check(Fault::KeepsBoth, "not_taken_over", &[]);
}

#[test]
fn a_broker_that_ends_by_itself_is_found() {
    // Nobody knows the moment: clients that ask for what they are owed are not served, and a goodbye that was sent may not have been read.
    check(Fault::Dies, "broker_ended", &["unserved", "will_unexpected"]);
}

#[test]
fn forgotten_wills_are_found() {
    check(Fault::ForgetsWills, "will_lost", &SHIFTED);
}

#[test]
fn wills_that_come_after_a_goodbye_are_found() {
    check(Fault::KeepsWills, "will_unexpected", &SHIFTED);
}

#[test]
fn delayed_wills_of_clients_that_are_back_in_time_are_found() {
    check(Fault::WillsOfTheReturned, "will_unexpected", &[]);
}

#[test]
fn sessions_whose_end_is_counted_anew_at_each_start_are_found() {
    // Its Wills come at other moments than before, so that packet ids shift as well.
    let slow = ["--cycles", "8", "--kill-after", "300-500", "--mortals", "12"];
    check_with(Fault::CountsAnew, &slow, "session_unexpected", &[&WITH_SESSIONS[..], &["foreign"]].concat());
}

#[test]
fn sessions_that_end_before_their_time_are_found() {
    check(Fault::EndsEarly, "session_lost", &WITH_SESSIONS);
}

#[test]
fn messages_that_a_shared_group_does_not_get_are_lost() {
    check(Fault::DropsShared, "lost", &SHIFTED);
}

#[test]
fn messages_that_end_with_a_members_session_are_lost() {
    check(Fault::DropsOrphans, "lost", &[]);
}

#[test]
fn messages_that_a_shared_group_gets_twice_are_found() {
    check(Fault::SharesTwice, "shared_twice", &[]);
}

#[test]
fn acknowledgements_out_of_order_are_found() {
    // A publisher whose last message is held back waits for it in vain.
    check(Fault::AnswersLate, "ack_order", &["unserved"]);
}

/// Its output says which process the broker is, and its command where its folder.
#[test]
fn a_checker_that_is_ended_ends_its_broker_and_removes_its_folder() {
    for signal in ["TERM", "INT", "KILL"] {
        let parent = std::env::temp_dir().join(format!("dunlin-crash-ended-{}-{signal}", std::process::id()));
        let own = std::env::current_exe().unwrap();
        let mut checker = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
            .args(["crash", "--cycles", "1000", "--kill-after", "60000", "--folder"])
            .arg(&parent)
            .args(["--", "sh", "-c"])
            .arg(format!(
                "echo $$ > {}/broker; JOURNAL_FAULT=None JOURNAL_PORT={{port}} JOURNAL_FOLDER={{dir}} exec {} --exact broker",
                parent.display(),
                own.display()
            ))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let journal = parent.join(format!("dunlin-crash-{}/data/journal", checker.id()));
        wait_for("the broker to serve", || journal.metadata().is_ok_and(|file| file.len() > 10_000));
        let broker = std::fs::read_to_string(parent.join("broker")).unwrap();
        let process = Path::new("/proc").join(broker.trim());
        assert!(process.exists());
        let status = Command::new("kill").arg(format!("-{signal}")).arg(checker.id().to_string()).status();
        assert!(status.unwrap().success());
        checker.wait().unwrap();
        let folder = parent.join(format!("dunlin-crash-{}", checker.id()));
        wait_for("the folder to go", || !folder.exists());
        // Nobody may have buried it yet.
        let is_gone = || std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.is_empty());
        wait_for("the broker to go", || !process.exists() || is_gone());
        std::fs::remove_dir_all(&parent).unwrap();
    }
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !is_there() {
        assert!(since.elapsed().as_secs() < 30, "waited too long for {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_program_that_is_no_broker_is_refused_with_what_it_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_dunlin-loadgen"))
        .args(["crash", "--target", "127.0.0.1:9", "--", "sh", "-c", "echo no such option >&2; exit 3"])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.contains("no such option") && complaint.contains("never served a client"),
        "{complaint}"
    );
}

//! The index beside the logs as operators meet it: broken, of another directory, behind after a kill; and what it knows of a log that
//! has lost something. Whatever is in it, a start is right.

use dunlin_e2e::broker::dunlin;
use dunlin_e2e::folder::{Folder, change, files, find};
use dunlin_e2e::program::run;
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::Connect;
use dunlin_wire::{QoS, ReasonCode, Version};
use std::path::Path;
use std::process::Command;

fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = login(Version::V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(600);
    connect
}

fn leave_session(broker: &Broker, client_id: &str, filter: &str) {
    let (mut client, _) = Client::connect_with(broker, lasting(client_id));
    client.subscribe(filter, QoS::AtLeastOnce);
    client.goodbye();
}

/// Five sessions, three messages for each.
fn fill(broker: &Broker) {
    for number in 0..5 {
        leave_session(broker, &format!("away-{number}"), "t");
    }
    let mut publisher = Client::connect(broker, Version::V5, "pub");
    for _ in 0..3 {
        assert_eq!(publisher.publish("t", b"x", QoS::AtLeastOnce), ReasonCode::Success);
    }
}

/// The line of the program's log that has these words, waiting for it.
fn told(broker: &mut Broker, words: &str) -> String {
    let is_it = |line: &str| line.contains(words);
    let so_far = broker.program().text();
    match so_far.lines().find(|line| is_it(line)) {
        Some(line) => line.to_owned(),
        None => broker.program().line(words, is_it),
    }
}

/// All five sessions are there with their messages, which stay.
fn assert_complete(broker: &Broker) {
    for number in 0..5 {
        let id = format!("away-{number}");
        let (mut client, answer) = Client::connect_with(broker, lasting(&id));
        assert!(answer.connack().session_present, "{id}");
        assert_eq!(client.message().publish().payload, b"x", "{id}");
    }
}

fn stats(data: &Path, client: &str) -> (String, bool) {
    let mut command = dunlin();
    let ended = run(command.args(["store", "stats", "--client", client, "--data-dir"]).arg(data));
    (ended.out.clone(), ended.status.success())
}

fn assert_found(data: &Path, client: &str, how: &str) {
    let (page, is_found) = stats(data, client);
    assert!(is_found, "{page}");
    for part in ["\"t\", QoS 1", "3 in the queue", how] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

#[test]
fn a_client_is_found_by_it_and_without_it() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let mut broker = Start::new().shards(2).data_dir(&data).start();
    told(&mut broker, "built from the log: 0 sessions");
    fill(&broker);
    assert_found(&data, "away-3", "a broker has the index");
    let _ended = broker.stop();
    assert_found(&data, "away-3", "the index said where to begin");
    let (page, is_found) = stats(&data, "nobody");
    assert!(!is_found && page.contains("none is stored"), "{page}");
    std::fs::remove_dir_all(data.join("index")).unwrap();
    assert_found(&data, "away-3", "there is no index");
}

#[test]
fn a_killed_brokers_index_is_behind_and_nothing_is_wrong() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let broker = Start::new().data_dir(&data).start();
    leave_session(&broker, "before", "u");
    let _ended = broker.stop();
    let broker = Start::new().data_dir(&data).start();
    fill(&broker);
    broker.kill();
    assert_found(&data, "away-2", "the index said where to begin");
    let mut broker = Start::new().data_dir(&data).start();
    told(&mut broker, "took over");
    assert_complete(&broker);
    broker.stop();
    assert!(stats(&data, "before").1);
}

#[test]
fn a_broken_index_is_moved_aside_and_built_again() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let broker = Start::new().data_dir(&data).start();
    fill(&broker);
    let _ended = broker.stop();
    let spoiled = files(&data.join("index"));
    assert!(!spoiled.is_empty());
    for file in spoiled {
        change(&file, |bytes| bytes.fill(0xA5));
    }
    assert_found(&data, "away-1", "without the index");
    let mut broker = Start::new().data_dir(&data).start();
    let line = told(&mut broker, "moved to damaged/index-1");
    assert!(line.contains("warn") && line.contains("Nothing is lost"), "{line}");
    told(&mut broker, "built from the log: 5 sessions");
    assert!(data.join("damaged/index-1").is_dir());
    assert_complete(&broker);
    let _ended = broker.stop();
    let (page, _) = stats(&data, "away-1");
    assert!(page.contains("the index said where to begin"), "{page}");
}

#[test]
fn an_index_of_another_directory_is_of_no_use_and_no_harm() {
    let folder = Folder::new();
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let broker = Start::new().data_dir(&data).start();
    fill(&broker);
    let _ended = broker.stop();
    let broker = Start::new().data_dir(&other).start();
    leave_session(&broker, "away-0", "not t");
    let _ended = broker.stop();
    std::fs::remove_dir_all(data.join("index")).unwrap();
    std::fs::rename(other.join("index"), data.join("index")).unwrap();
    assert_found(&data, "away-0", "it is of other logs");
    let mut broker = Start::new().data_dir(&data).start();
    told(&mut broker, "built from the log: 5 sessions");
    assert_complete(&broker);
    // Neither does another number of shards alarm anybody.
    let _ended = broker.stop();
    let mut broker = Start::new().shards(2).data_dir(&data).start();
    told(&mut broker, "built from the log: 5 sessions");
    assert_complete(&broker);
    assert!(!data.join("damaged").exists());
}

/// A session that the first segment alone knows, then several segments of messages for another.
fn fill_segments(broker: &Broker) {
    leave_session(broker, "early", "nothing");
    leave_session(broker, "away", "t");
    let mut publisher = Client::connect(broker, Version::V5, "pub");
    for number in 0..700 {
        let mut payload = format!("payload-{number:03}-end").into_bytes();
        payload.resize(16 << 10, b'x');
        assert_eq!(publisher.publish("t", &payload, QoS::AtLeastOnce), ReasonCode::Success);
    }
}

#[test]
fn a_segment_that_somebody_removed_is_missed() {
    for (part, words) in [(&b"payload-699-end"[..], "records are missing"), (b"payload-000-end", "early")] {
        let folder = Folder::new();
        let data = folder.path().join("data");
        let broker = Start::new().data_dir(&data).start();
        fill_segments(&broker);
        let _ended = broker.stop();
        let (segment, _) = find(&data, part);
        std::fs::remove_file(segment).unwrap();
        let mut broker = Start::new().data_dir(&data).start();
        let line = told(&mut broker, "the log has lost records");
        assert!(line.contains("error") && line.contains(words), "{line}");
        told(&mut broker, "built from the log");
        broker.assert_alive();
        // It is told once.
        let _ended = broker.stop();
        let mut broker = Start::new().data_dir(&data).start();
        leave_session(&broker, "after", "t");
        assert!(!broker.program().text().contains("the log has lost records"));
    }
}

/// A disk that is full but for the log's own segments: the index ends, the broker does not.
#[test]
fn a_disk_without_room_for_it_ends_the_index_and_nothing_else() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let script = format!("mount -t tmpfs -o size=24m,mode=700 none '{}' && exec \"$@\"", data.display());
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let config = "[sys_topics]\nsys_msg_interval = \"1s\"\n";
    let mut broker = Start::new().under(&unshare).data_dir(&data).config(config).start();
    told(&mut broker, "built from the log: 0 sessions");
    let root = format!("/proc/{}/root{}", broker.program().id(), data.display());
    let filled = run(Command::new("sh").args(["-c", "cat /dev/zero > \"$0\"", &format!("{root}/ballast")]));
    assert!(filled.err.contains("No space left"), "{}", filled.err);
    for number in 0..2_000 {
        leave_session(&broker, &format!("some-client-with-a-long-name-{number:08}"), "t");
    }
    let line = told(&mut broker, "follows the log no more");
    assert!(line.contains("warn"), "{line}");
    let mut watcher = Client::connect(&broker, Version::V5, "watcher");
    watcher.subscribe("$SYS/brokers/+/metrics/store/index_stopped", QoS::AtMostOnce);
    assert_eq!(watcher.message().publish().payload, b"1");
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    assert_eq!(publisher.publish("t", b"x", QoS::AtLeastOnce), ReasonCode::Success);
    let (_client, answer) = Client::connect_with(&broker, lasting("some-client-with-a-long-name-00000007"));
    assert!(answer.connack().session_present);
}

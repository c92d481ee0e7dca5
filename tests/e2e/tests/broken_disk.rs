//! A disk that fails: syncs that return an error, on a real file system, under the shipped program.
//!
//! The data directory is on ext4 on a loop device, whose own file lies on a memory file system. When that is full, what is
//! written back to the loop device finds no place: the kernel drops the pages and the sync fails. It needs root and loop devices.

use dunlin_e2e::folder::Folder;
use dunlin_e2e::program::{Program, run};
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::Connect;
use dunlin_wire::{QoS, ReasonCode, Version};
use std::path::PathBuf;
use std::process::Command;

/// A name space of mounts with the failing disk in it; both end with this value.
struct Disk {
    _folder: Folder,
    holder: Program,
    root: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = Folder::new();
        let root = folder.path().to_owned();
        let script = "set -e; cd \"$1\"; mkdir below data; mount -t tmpfs -o size=48m none below
            truncate -s 256M below/disk; mkfs.ext4 -q -F -m 0 -O ^has_journal below/disk
            mount -o loop below/disk data; echo mounted; exec sleep 600";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&root);
        let mut holder = Program::start(&mut command);
        holder.line("mounted disk", |line| line == "mounted");
        Self { _folder: folder, holder, root }
    }

    /// A broker whose data directory is on it.
    fn broker(&self) -> Broker {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        Start::new().under(&["nsenter", &mounts]).data_dir(&self.root.join("data/dunlin")).start()
    }

    /// Runs a script where the disk can be seen.
    fn run(&self, script: &str) {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        let mut command = Command::new("nsenter");
        command.args([&mounts, "sh", "-c", &format!("set -e; cd \"$1\"; {script}"), "sh"]).arg(&self.root);
        let _done = run(&mut command).ok();
    }

    /// From here on nothing can be written back, also not over what is there already: the loop device's file loses its
    /// blocks, and the file system below has no others. What it held is kept aside.
    fn fails(&self) {
        self.run(
            "sync -f data; cp --sparse=always below/disk kept; truncate -s 0 below/disk; truncate -s 256M below/disk
            dd if=/dev/zero of=below/ballast bs=64k 2>/dev/null || true",
        );
    }

    /// The disk is as it was before it failed.
    fn is_mended(&self) {
        self.run("umount data; rm below/ballast; cp --sparse=always kept below/disk; mount -o loop below/disk data");
    }
}

fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = login(Version::V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(600);
    connect
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_a_restart_has_all_that_was() {
    let disk = Disk::new();
    let mut broker = disk.broker();
    let (mut away, _) = Client::connect_with(&broker, lasting("away"));
    away.subscribe("t", QoS::AtLeastOnce);
    away.goodbye();
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    let payload = |number: u32| [number.to_le_bytes().as_slice(), &[b'x'; 8 << 10]].concat();
    for number in 0..50 {
        assert_eq!(publisher.publish("t", &payload(number), QoS::AtLeastOnce), ReasonCode::Success);
    }
    disk.fails();
    let refused = (50..60).find_map(|number| {
        let code = publisher.publish("t", &payload(number), QoS::AtLeastOnce);
        (code != ReasonCode::Success).then_some((number, code))
    });
    let (taken, code) = refused.expect("a sync that fails");
    let line = broker.program().line("line about the failed log", |line| line.contains("the log has failed"));
    assert!(line.contains("nothing that should outlive the process"), "{line}");
    assert_eq!((taken, code), (50, ReasonCode::ImplementationSpecificError), "the first one after it");
    for number in 51..54 {
        assert_ne!(publisher.publish("t", &payload(number), QoS::AtLeastOnce), ReasonCode::Success);
    }
    // What needs no disk goes on.
    let mut other = Client::connect(&broker, Version::V5, "other");
    other.subscribe("live", QoS::AtLeastOnce);
    publisher.publish("live", b"0", QoS::AtMostOnce);
    assert_eq!(other.message().publish().payload, b"0");
    broker.kill();

    disk.is_mended();
    let broker = disk.broker();
    let (mut away, answer) = Client::connect_with(&broker, lasting("away"));
    assert!(answer.connack().session_present);
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    assert_eq!(publisher.publish("t", b"again", QoS::AtLeastOnce), ReasonCode::Success);
    for number in 0..50 {
        assert_eq!(away.message().publish().payload, payload(number));
    }
    assert_eq!(away.message().publish().payload, b"again");
}

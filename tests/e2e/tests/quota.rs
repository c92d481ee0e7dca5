//! What may wait for one client that is away: bounded in messages and bytes, the oldest go first, and it is counted.

use dunlin_e2e::folder::Folder;
use dunlin_e2e::{Broker, Client, Start, login};
use dunlin_wire::packet::Connect;
use dunlin_wire::{QoS, ReasonCode, Version};

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

/// The first bytes of all messages that wait for a client.
fn waiting(broker: &Broker, client_id: &str) -> Vec<u8> {
    let (mut client, answer) = Client::connect_with(broker, lasting(client_id));
    assert!(answer.connack().session_present, "{client_id}");
    let first = |client: &mut Client| Some(client.message_if_any()?.publish().payload[0]);
    std::iter::from_fn(|| first(&mut client)).collect()
}

#[test]
fn bytes_that_wait_on_the_disk_are_bounded_for_each_session() {
    let folder = Folder::new();
    let data = folder.path().join("data");
    let config = "[mqtt]\nmax_mqueue_bytes = \"64KB\"\n";
    let start = || Start::new().shards(2).data_dir(&data).config(config).start();
    let mut broker = start();
    leave_session(&broker, "large", "large/#");
    leave_session(&broker, "small", "small/#");
    let mut publisher = Client::connect(&broker, Version::V5, "pub");
    for number in 1..=40 {
        let code = publisher.publish("large/t", &[number; 10_000], QoS::AtLeastOnce);
        assert_eq!(code, ReasonCode::Success, "a publisher does not suffer");
        publisher.publish("small/t", &[number], QoS::AtLeastOnce);
    }
    // Six messages of 10,000 bytes and what belongs to them fit into 65,536.
    broker.signal("USR1");
    let line = broker.program().line("counters", |line| line.contains("delivery.dropped.queue_full="));
    assert!(line.contains("delivery.dropped.queue_full=34"), "{line}");
    broker.kill();
    let broker = start();
    assert_eq!(waiting(&broker, "large"), (35..=40).collect::<Vec<u8>>());
    assert_eq!(waiting(&broker, "small"), (1..=40).collect::<Vec<u8>>(), "nobody else's messages went");
}

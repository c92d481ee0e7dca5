//! Several shards: an answer waits for all of them, and no two wait for each other.

use super::*;

#[test]
fn an_answer_waits_for_every_shard_that_the_message_reaches() {
    for (slow, level, name) in
        [(0, 1, "PUBACK 5"), (1, 1, "PUBACK 5"), (2, 1, "PUBACK 5"), (1, 2, "PUBREC 5")]
    {
        let mut world = World::durable(Mqtt::default(), 3);
        for shard in 0..3 {
            let subscriber = come(&mut world, Version::V5, &id_at(shard, 3, "s"));
            subscribe(&mut world, subscriber, "t", 2);
            world.drop_client(subscriber);
        }
        let publisher = come(&mut world, Version::V5, &id_at(0, 3, "p"));
        world.logs[slow].is_held = true;
        publish(&mut world, publisher, message("t", level, 5, "x"));
        assert!(heard(&mut world, publisher).is_empty(), "shard {slow} has not stored it");
        world.hold_syncs(false);
        assert_eq!(heard(&mut world, publisher), [name]);
        world.crash();
        for shard in 0..3 {
            let back = comes_back(&mut world, &id_at(shard, 3, "s"));
            assert_eq!(back, ["CONNACK success present".to_owned(), format!("PUBLISH t q{level} id=1 x")]);
        }
    }
}

#[test]
fn a_retained_message_waits_for_the_home_of_its_topic() {
    let mut world = World::durable(Mqtt::default(), 2);
    let publisher = world.join(Version::V5, &id_at(0, 2, "p"));
    let topic = (0..100).map(|n| format!("r{n}")).find(|topic| crate::home::shard_of_topic(topic, 2).0 == 1);
    let topic = topic.unwrap();
    world.logs[1].is_held = true;
    publish(&mut world, publisher, retained(&topic, 1, 5, "x"));
    assert!(heard(&mut world, publisher).is_empty());
    world.hold_syncs(false);
    assert_eq!(heard(&mut world, publisher), ["PUBACK 5 no_matching_subscribers"]);
}

#[test]
fn shards_that_send_to_each_other_at_once_do_not_wait_for_each_other() {
    let mut world = World::durable(Mqtt::default(), 3);
    let clients: Vec<Client> = (0..3)
        .map(|shard| {
            let client = come(&mut world, Version::V5, &id_at(shard, 3, "c"));
            subscribe(&mut world, client, "t", 1);
            subscribe(&mut world, client, "$share/g/u", 2);
            subscribe(&mut world, client, "$share/h/u", 1);
            client
        })
        .collect();
    world.hold_syncs(true);
    for round in 0..20 {
        for client in &clients {
            publish(
                &mut world,
                *client,
                message(if round % 2 == 0 { "t" } else { "u" }, 1 + round % 2, 1 + u16::from(round), "x"),
            );
        }
    }
    world.hold_syncs(false);
    for client in clients {
        let all = heard(&mut world, client);
        let acknowledged: Vec<&String> =
            all.iter().filter(|line| line.starts_with("PUBACK") || line.starts_with("PUBREC")).collect();
        assert_eq!(acknowledged.len(), 20, "{acknowledged:?}");
    }
    assert_nothing_is_owed(&world);
}

#[test]
fn a_qos_2_identifier_is_free_when_every_shard_has_forgotten_it() {
    let mut world = World::durable(Mqtt::default(), 2);
    let subscriber = come(&mut world, Version::V5, &id_at(1, 2, "s"));
    subscribe(&mut world, subscriber, "t", 2);
    let publisher = come(&mut world, Version::V5, &id_at(0, 2, "p"));
    for round in 0..3 {
        assert_eq!(published(&mut world, publisher, message("t", 2, 5, "x")), ["PUBREC 5"], "round {round}");
        world.logs[1].is_held = true;
        world.send(publisher, &Packet::PubRel(acked(5)));
        assert!(
            heard(&mut world, publisher).is_empty(),
            "the other shard may still take the next for this one"
        );
        world.hold_syncs(false);
        assert_eq!(heard(&mut world, publisher), ["PUBCOMP 5"]);
    }
    assert_eq!(heard(&mut world, subscriber).len(), 3, "three messages under one identifier");
}

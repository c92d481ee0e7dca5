//! Shared subscriptions: strategies, members that come and go, redelivery.

use super::*;
use crate::config::SharedStrategy;
use crate::metrics::Counter;

fn members(world: &mut World, count: usize, filter: &str) -> Vec<Client> {
    (0..count)
        .map(|n| {
            let client = keep(world, Version::V5, &format!("m{n}"));
            subscribe(world, client, filter, 2);
            client
        })
        .collect()
}

/// How many messages each member heard.
fn shares(world: &mut World, members: &[Client]) -> Vec<usize> {
    members.iter().map(|member| heard(world, *member).len()).collect()
}

#[test]
fn each_message_goes_to_one_member_by_the_strategy() {
    for strategy in [
        SharedStrategy::Random,
        SharedStrategy::RoundRobin,
        SharedStrategy::RoundRobinPerGroup,
        SharedStrategy::Sticky,
        SharedStrategy::Local,
        SharedStrategy::HashClientId,
        SharedStrategy::HashTopic,
    ] {
        let mut world = World::with(Mqtt { shared_subscription_strategy: strategy, ..Mqtt::default() });
        let members = members(&mut world, 3, "$share/g/t/+");
        let publisher = world.join(Version::V311, "p");
        for _ in 0..30 {
            publish(&mut world, publisher, message("t/1", 0, 0, "x"));
        }
        let mut counts = shares(&mut world, &members);
        assert_eq!(counts.iter().sum::<usize>(), 30, "{strategy:?}");
        counts.sort_unstable();
        match strategy {
            SharedStrategy::RoundRobin | SharedStrategy::RoundRobinPerGroup => assert_eq!(counts, [10; 3]),
            SharedStrategy::Sticky | SharedStrategy::HashClientId | SharedStrategy::HashTopic => {
                assert_eq!(counts, [0, 0, 30], "{strategy:?}");
            }
            SharedStrategy::Random | SharedStrategy::Local => {
                assert!(counts[0] > 1, "{strategy:?} {counts:?}")
            }
        }
    }
}

#[test]
fn groups_and_plain_subscribers_each_get_theirs() {
    // [MQTT5-4.8.2-3]
    let mut world = World::new();
    let [one, two] = ["one", "two"].map(|id| world.join(Version::V311, id));
    subscribe(&mut world, one, "$share/g/t", 0);
    subscribe(&mut world, one, "$queue/t", 1);
    subscribe(&mut world, two, "$share/h/t", 1);
    subscribe(&mut world, two, "t", 2);
    let publisher = world.join(Version::V311, "p");
    publish(&mut world, publisher, message("t", 1, 1, "x"));
    let mut first = heard(&mut world, one);
    first.sort();
    assert_eq!(first, ["PUBLISH t q0 x", "PUBLISH t q1 id=1 x"]);
    assert_eq!(heard(&mut world, two), ["PUBLISH t q1 id=1 x", "PUBLISH t q1 id=2 x"]);
}

#[test]
fn a_member_without_connection_is_passed_over_while_others_are_there() {
    let mut world = World::new();
    let members = members(&mut world, 2, "$share/g/t");
    let publisher = world.join(Version::V311, "p");
    world.drop_client(members[0]);
    for _ in 0..4 {
        publish(&mut world, publisher, message("t", 1, 1, "x"));
    }
    assert_eq!(heard(&mut world, members[1]).len(), 4);
    world.drop_client(members[1]);
    publish(&mut world, publisher, message("t", 1, 1, "y"));
    let back: usize = ["m0", "m1"]
        .map(|id| {
            let client = resume(&mut world, Version::V5, id);
            heard(&mut world, client).iter().filter(|packet| packet.ends_with(" y")).count()
        })
        .iter()
        .sum();
    assert_eq!(back, 1, "with nobody there it waits in one session");
}

#[test]
fn what_a_gone_member_did_not_acknowledge_goes_to_another_unless_it_was_qos_2() {
    // [MQTT5-4.8.2-4] [MQTT5-4.8.2-5]
    let mut world = World::new();
    let first = keep(&mut world, Version::V5, "first");
    subscribe(&mut world, first, "$share/g/t", 2);
    let publisher = world.join(Version::V311, "p");
    publish(&mut world, publisher, message("t", 1, 1, "one"));
    publish(&mut world, publisher, message("t", 2, 2, "two"));
    assert_eq!(heard(&mut world, first).len(), 2);
    let second = world.join(Version::V5, "second");
    subscribe(&mut world, second, "$share/g/t", 2);
    world.drop_client(first);
    assert!(heard(&mut world, second).is_empty(), "the session may come back");
    let first = resume(&mut world, Version::V5, "first");
    assert_eq!(heard(&mut world, first)[1..], ["PUBLISH t q1 id=1 dup one", "PUBLISH t q2 id=2 dup two"]);
    world.drop_client(first);
    world.advance(2_000);
    assert_eq!(heard(&mut world, second), ["PUBLISH t q1 id=1 one"]);
    assert_eq!(world.core().metrics().get(Counter::DeliveryRedispatched), 1);
}

#[test]
fn what_waited_for_a_member_goes_to_another_when_it_disconnects() {
    let mut world = World::with(Mqtt { max_inflight: 1, ..Mqtt::default() });
    let first = keep(&mut world, Version::V5, "first");
    subscribe(&mut world, first, "$share/g/t", 1);
    subscribe(&mut world, first, "own", 1);
    let publisher = world.join(Version::V311, "p");
    for topic in ["t", "t", "own", "t"] {
        publish(&mut world, publisher, message(topic, 1, 1, "x"));
    }
    assert_eq!(heard(&mut world, first), ["PUBLISH t q1 id=1 x"]);
    let second = world.join(Version::V5, "second");
    subscribe(&mut world, second, "$share/g/t", 0);
    world.drop_client(first);
    assert_eq!(heard(&mut world, second), ["PUBLISH t q0 x", "PUBLISH t q0 x"]);
    let first = resume(&mut world, Version::V5, "first");
    assert_eq!(heard(&mut world, first)[1..], ["PUBLISH t q1 id=1 dup x"]);
    puback(&mut world, first, 1);
    assert_eq!(heard(&mut world, first), ["PUBLISH own q1 id=2 x"]);
}

#[test]
fn a_refused_message_goes_to_nobody_else() {
    // [MQTT5-4.8.2-6]
    let mut world = World::new();
    let members = members(&mut world, 2, "$share/g/t");
    let publisher = world.join(Version::V311, "p");
    publish(&mut world, publisher, message("t", 1, 1, "x"));
    let taker = if heard(&mut world, members[0]).is_empty() { 1 } else { 0 };
    heard(&mut world, members[1]);
    let refusal = Ack::with_code(PacketId::FIRST, ReasonCode::UnspecifiedError);
    world.send(members[taker], &Packet::PubAck(refusal));
    world.drop_client(members[taker]);
    world.advance(2_000);
    assert!(heard(&mut world, members[1 - taker]).is_empty());
}

#[test]
fn a_group_ends_with_its_last_member() {
    let mut world = World::new();
    let members = members(&mut world, 2, "$share/g/t");
    for member in &members {
        unsubscribe(&mut world, *member, &["$share/g/t"]);
    }
    let publisher = world.join(Version::V5, "p");
    assert_eq!(
        published(&mut world, publisher, message("t", 1, 1, "x")),
        ["PUBACK 1 no_matching_subscribers"]
    );
    assert_eq!(world.core().gauges().subscriptions, 0);
}

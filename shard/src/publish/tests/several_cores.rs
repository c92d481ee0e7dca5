//! Two and three cores: clients at home on different ones.

use super::*;
use crate::event::Event;
use crate::ids::ShardId;
use crate::mesh::MeshMessage;

/// One client with its home on each core.
fn clients(world: &mut World, shards: u16, stem: &str) -> Vec<Client> {
    (0..shards)
        .map(|shard| {
            let client = keep(world, Version::V5, &id_at(shard, shards, stem));
            assert_eq!(world.shard_of(client), ShardId(shard));
            client
        })
        .collect()
}

#[test]
fn a_message_reaches_subscribers_on_all_cores_once() {
    for shards in 1..4_u16 {
        let mut world = world_of(usize::from(shards), Mqtt::default());
        let subscribers = clients(&mut world, shards, "s");
        let publishers = clients(&mut world, shards, "p");
        assert_eq!(
            published(&mut world, publishers[0], message("t/x", 1, 9, "y")),
            ["PUBACK 9 no_matching_subscribers"]
        );
        for subscriber in &subscribers {
            subscribe(&mut world, *subscriber, "t/+", 1);
        }
        for (publisher, id) in publishers.iter().zip(1..) {
            assert_eq!(
                published(&mut world, *publisher, message("t/x", 1, id, "y")),
                [format!("PUBACK {id}")]
            );
        }
        for subscriber in &subscribers {
            assert_eq!(heard(&mut world, *subscriber).len(), usize::from(shards), "of {shards}");
            assert_eq!(unsubscribe(&mut world, *subscriber, &["t/+"]), ["UNSUBACK 8 [success]"]);
        }
        for publisher in publishers {
            assert_eq!(
                published(&mut world, publisher, message("t/x", 1, 9, "y")),
                ["PUBACK 9 no_matching_subscribers"]
            );
        }
    }
}

#[test]
fn suback_waits_until_every_core_knows() {
    // [MQTT5-3.8.4-1]
    let mut world = world_of(3, Mqtt::default());
    let subscriber = clients(&mut world, 3, "s")[0];
    let conn = world.conn(subscriber);
    let mut bytes = Vec::new();
    let list = [Subscription { filter: "t", options: options(0) }];
    let packet = Subscribe {
        packet_id: PacketId::FIRST,
        properties: SubscribeProperties::default(),
        subscriptions: Subscriptions::from_slice(&list),
    };
    Packet::Subscribe(packet).encode(Version::V5, &mut bytes).unwrap();
    let now = world.now;
    let mut actions = crate::action::Actions::default();
    world.cores[0].handle(Event::Bytes { conn, bytes: &bytes }, now, &mut actions);
    assert!(actions.arena.is_empty(), "no SUBACK yet");
    let told = actions.list.iter().filter(|action| matches!(action, crate::Action::Mesh { .. })).count();
    assert_eq!(told, 2);
    actions.clear();
    for shard in [2, 1] {
        assert!(actions.arena.is_empty());
        let message = MeshMessage::InterestSeen { version: 1 };
        world.cores[0].handle(Event::Mesh { from: ShardId(shard), message }, now, &mut actions);
    }
    assert!(!actions.arena.is_empty());
}

#[test]
fn retained_messages_are_found_wherever_their_home_is() {
    for shards in 2..4_u16 {
        let mut world = world_of(usize::from(shards), Mqtt::default());
        let publishers = clients(&mut world, shards, "p");
        for n in 0..200 {
            let publisher = publishers[n % publishers.len()];
            publish(&mut world, publisher, retained(&format!("t/{n}"), 0, 0, "x"));
        }
        let kept: Vec<u64> = world.cores.iter().map(|core| core.gauges().retained).collect();
        assert_eq!(kept.iter().sum::<u64>(), 200);
        assert!(kept.iter().all(|count| *count > 20), "{kept:?}");
        for subscriber in clients(&mut world, shards, "s") {
            subscribe_as(&mut world, subscriber, &[("t/7", options(0))], 0);
            assert_eq!(heard(&mut world, subscriber)[1..], ["PUBLISH t/7 q0 retain x"]);
            subscribe_as(&mut world, subscriber, &[("t/#", options(0))], 0);
            let mut topics = heard(&mut world, subscriber);
            topics.sort();
            topics.dedup();
            assert_eq!(topics.len(), 201);
        }
    }
}

#[test]
fn a_group_spans_cores() {
    for shards in 1..4_u16 {
        let mut world = world_of(usize::from(shards), Mqtt::default());
        let members = clients(&mut world, shards, "m");
        for member in &members {
            subscribe(&mut world, *member, "$share/g/t", 1);
        }
        let publishers = clients(&mut world, shards, "p");
        for publisher in &publishers {
            for id in 1..13 {
                assert_eq!(published(&mut world, *publisher, message("t", 1, id, "x")).len(), 1);
            }
        }
        let counts: Vec<usize> = members.iter().map(|member| heard(&mut world, *member).len()).collect();
        assert_eq!(counts, vec![12; usize::from(shards)]);
        for (member, rest) in members.iter().zip((0..members.len()).rev()) {
            world.drop_client(*member);
            publish(&mut world, publishers[0], message("t", 1, 99, "later"));
            let got: usize = members.iter().map(|member| heard(&mut world, *member).len()).sum();
            assert_eq!(got, usize::from(rest > 0), "a connected member, if there is one");
        }
        // The sessions end: what is unacknowledged moves on until nobody is left.
        world.advance(5_000);
        for core in &world.cores {
            assert_eq!((core.gauges().subscriptions, core.routing.groups.len()), (0, 0));
        }
    }
}

#[test]
fn an_ended_session_gives_its_shared_messages_to_members_on_other_cores() {
    let mut world = world_of(3, Mqtt::default());
    let first = clients(&mut world, 3, "m")[0];
    subscribe(&mut world, first, "$share/g/t", 1);
    let publisher = clients(&mut world, 3, "p")[1];
    for id in 1..4 {
        publish(&mut world, publisher, message("t", 1, id, "x"));
    }
    assert_eq!(heard(&mut world, first).len(), 3);
    let second = world.join(Version::V5, &id_at(2, 3, "late"));
    subscribe(&mut world, second, "$share/g/t", 1);
    world.drop_client(first);
    world.advance(2_000);
    assert_eq!(heard(&mut world, second).len(), 3);
}

#[test]
fn exclusive_topics_are_exclusive_over_cores() {
    let mut world = world_of(3, Mqtt { exclusive_subscription: true, ..Mqtt::default() });
    let clients = clients(&mut world, 3, "c");
    for topic in ["a", "b", "c", "d"] {
        let filter = format!("$exclusive/{topic}");
        subscribe(&mut world, clients[0], &filter, 0);
        for other in &clients[1..] {
            subscribe_as(&mut world, *other, &[(&filter, options(0))], 0);
            assert_eq!(heard(&mut world, *other), ["SUBACK 9 [quota_exceeded]"]);
        }
        unsubscribe(&mut world, clients[0], &[&filter]);
        subscribe(&mut world, clients[2], &filter, 0);
    }
}

#[test]
fn a_flood_over_a_lane_is_credited_and_pauses_publishers_meanwhile() {
    let mut world = world_of(2, Mqtt::default());
    let subscriber = clients(&mut world, 2, "s")[1];
    subscribe(&mut world, subscriber, "t", 0);
    let publisher = clients(&mut world, 2, "p")[0];
    let conn = world.conn(publisher);
    let mut bytes = Vec::new();
    Packet::Publish(message("t", 0, 0, "x")).encode(Version::V5, &mut bytes).unwrap();
    let (now, mut actions) = (world.now, crate::action::Actions::default());
    let mut sent = Vec::new();
    let mut is_paused = false;
    for _ in 0..5_000 {
        world.cores[0].handle(Event::Bytes { conn, bytes: &bytes }, now, &mut actions);
        for action in actions.list.drain(..) {
            match action {
                crate::Action::Mesh { message, .. } => sent.push(message),
                crate::Action::PauseRead { .. } => is_paused = true,
                other => panic!("{other:?}"),
            }
        }
        if is_paused {
            break;
        }
    }
    assert!(is_paused, "nothing credits the lane");
    assert!(sent.len() > 1_000);
    let mut is_resumed = false;
    for message in sent {
        world.cores[1].handle(Event::Mesh { from: ShardId(0), message }, now, &mut actions);
        let credits: Vec<MeshMessage> = actions
            .list
            .drain(..)
            .filter_map(|action| match action {
                crate::Action::Mesh { message, .. } => Some(message),
                _ => None,
            })
            .collect();
        for message in credits {
            world.cores[0].handle(Event::Mesh { from: ShardId(1), message }, now, &mut actions);
        }
        is_resumed |= actions.list.iter().any(|action| matches!(action, crate::Action::ResumeRead { .. }));
        actions.clear();
    }
    assert!(is_resumed);
}

#[test]
fn wills_and_the_controls_messages_reach_all_cores() {
    let mut world = world_of(2, Mqtt::default());
    let subscribers = clients(&mut world, 2, "s");
    for subscriber in &subscribers {
        subscribe(&mut world, *subscriber, "will", 0);
    }
    let id = id_at(0, 2, "w");
    let mut packet = connect(Version::V311, &id);
    packet.will = Some(dunlin_wire::packet::Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "will",
        payload: b"gone",
        properties: dunlin_wire::packet::WillProperties::default(),
    });
    let (client, _) = world.connect(&packet);
    world.drop_client(client);
    for subscriber in subscribers {
        assert_eq!(heard(&mut world, subscriber), ["PUBLISH will q0 gone"]);
    }
}

#[test]
fn a_message_for_a_member_that_left_meanwhile_goes_to_another() {
    // [MQTT5-3.10.4-2]
    let mut world = world_of(2, Mqtt::default());
    let members = clients(&mut world, 2, "m");
    // A group whose home is not where the member that leaves is.
    let filter = (0..50)
        .map(|n| format!("$share/g/t{n}"))
        .find(|filter| {
            subscribe(&mut world, members[0], filter, 1);
            let is_elsewhere = world.cores[1].routing.groups.len() == 1;
            if !is_elsewhere {
                unsubscribe(&mut world, members[0], &[filter]);
            }
            is_elsewhere
        })
        .unwrap();
    let topic = filter.rsplit('/').next().unwrap();
    let publisher = clients(&mut world, 2, "p")[1];
    let conn = world.conn(publisher);
    let mut bytes = Vec::new();
    Packet::Publish(message(topic, 1, 1, "x")).encode(Version::V5, &mut bytes).unwrap();
    let (now, mut actions) = (world.now, crate::action::Actions::default());
    world.cores[1].handle(Event::Bytes { conn, bytes: &bytes }, now, &mut actions);
    let chosen = actions.list.drain(..).find_map(|action| match action {
        crate::Action::Mesh { message, .. } => Some(message),
        _ => None,
    });
    // It is on its way while the member leaves and another joins.
    assert_eq!(unsubscribe(&mut world, members[0], &[&filter]), ["UNSUBACK 8 [success]"]);
    subscribe(&mut world, members[1], &filter, 1);
    world.handle(ShardId(0), Event::Mesh { from: ShardId(1), message: chosen.unwrap() });
    assert!(heard(&mut world, members[0]).is_empty());
    assert_eq!(heard(&mut world, members[1]), [format!("PUBLISH {topic} q1 id=1 x")]);
}

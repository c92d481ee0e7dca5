//! Shared groups: membership and messages outlive restarts, and the end of a member.

use super::*;

fn lines(all: &[String], word: &str) -> Vec<String> {
    all.iter().filter(|line| line.starts_with(word)).cloned().collect()
}

#[test]
fn what_a_group_has_not_handed_out_survives() {
    for shards in 1..4 {
        let mut world = World::durable(Mqtt::default(), usize::from(shards));
        let id = id_at(shards - 1, shards, "m");
        let member = come(&mut world, Version::V5, &id);
        subscribe(&mut world, member, "$share/g/t", 1);
        world.drop_client(member);
        let publisher = come(&mut world, Version::V5, &id_at(0, shards, "p"));
        for n in 1..=3 {
            let answer = published(&mut world, publisher, message("t", 1, n, &n.to_string()));
            assert_eq!(answer, [format!("PUBACK {n}")]);
        }
        world.crash();
        let back = comes_back(&mut world, &id);
        assert_eq!(
            back[1..],
            ["PUBLISH t q1 id=1 1", "PUBLISH t q1 id=2 2", "PUBLISH t q1 id=3 3"],
            "{shards} shards"
        );
    }
}

#[test]
fn the_messages_of_a_member_that_ends_go_to_another() {
    // [MQTT5-4.8.2-5]
    for shards in 1..4 {
        for restarts in [0, 1] {
            let mut world = World::durable(Mqtt::default(), usize::from(shards));
            let (first, second) = (id_at(shards - 1, shards, "first"), id_at(0, shards, "second"));
            let member = come(&mut world, Version::V5, &first);
            subscribe(&mut world, member, "$share/g/t", 1);
            subscribe(&mut world, member, "own", 1);
            world.drop_client(member);
            let publisher = come(&mut world, Version::V5, &id_at(0, shards, "p"));
            for (n, topic) in (1..=80).map(|n| (n, if n % 8 == 0 { "own" } else { "t" })) {
                published(&mut world, publisher, message(topic, 1, n, &n.to_string()));
            }
            for _ in 0..restarts {
                world.crash();
            }
            // The first one's session ends; the second one is there by then.
            world.advance(900);
            let heir = come(&mut world, Version::V5, &second);
            subscribe(&mut world, heir, "$share/g/t", 1);
            world.advance(200);
            let mut got = Vec::new();
            loop {
                let all = lines(&heard(&mut world, heir), "PUBLISH t");
                if all.is_empty() {
                    break;
                }
                for line in all {
                    let words: Vec<&str> = line.split(' ').collect();
                    let id = words[3].trim_start_matches("id=").parse().unwrap();
                    got.push(words.last().unwrap().parse::<u16>().unwrap());
                    puback(&mut world, heir, id);
                }
            }
            let expected: Vec<u16> = (1..=80).filter(|n| n % 8 != 0).collect();
            assert_eq!(got, expected, "{shards} shards, {restarts} restarts");
            assert_nothing_is_owed(&world);
            world.crash();
            assert_eq!(comes_back(&mut world, &second), ["CONNACK success present"]);
        }
    }
}

#[test]
fn power_that_goes_while_messages_change_hands_loses_none() {
    for cut in 0..12 {
        let mut world = World::durable(Mqtt::default(), 2);
        let (first, second) = (id_at(0, 2, "first"), id_at(1, 2, "second"));
        let member = come(&mut world, Version::V5, &first);
        subscribe(&mut world, member, "$share/g/t", 1);
        let publisher = come(&mut world, Version::V5, &id_at(0, 2, "p"));
        world.drop_client(member);
        for n in 1..=3 {
            published(&mut world, publisher, message("t", 1, n, &n.to_string()));
        }
        let heir = come(&mut world, Version::V5, &second);
        subscribe(&mut world, heir, "$share/g/t", 1);
        world.drop_client(heir);
        for log in &mut world.logs {
            log.limit = Some(log.total() + cut);
        }
        // A clean start ends the first one's session.
        world.join(Version::V5, &first);
        world.crash();
        let mut all = Vec::new();
        for id in [&first, &second] {
            all.extend(lines(&comes_back(&mut world, id), "PUBLISH t"));
        }
        for n in 1..=3 {
            assert!(
                all.iter().any(|line| line.ends_with(&format!(" {n}"))),
                "cut {cut}: {n} is lost: {all:?}"
            );
        }
    }
}

#[test]
fn a_broker_that_stops_hands_no_stored_message_to_another_member() {
    // [MQTT5-4.8.2-5]: wherever the end of the process cuts that off, nobody gets a message twice.
    for records in 0..12 {
        let mut world = World::durable(Mqtt { max_inflight: 1, ..Mqtt::default() }, 2);
        let id = id_at(0, 2, "m");
        let member = come(&mut world, Version::V5, &id);
        for group in ["$share/a/t", "$share/b/t", "$share/c/t"] {
            subscribe(&mut world, member, group, 2);
        }
        let publisher = come(&mut world, Version::V5, &id_at(0, 2, "p"));
        published(&mut world, publisher, message("t", 2, 1, "x"));
        heard(&mut world, member);
        world.logs[0].limit = Some(world.logs[0].total() + records);
        for shard in [ShardId(0), ShardId(1)] {
            world.handle(shard, Event::Control(crate::control::Control::Stop));
        }
        world.advance_ms(1_000);
        world.crash();
        let member = come(&mut world, Version::V5, &id);
        let mut count = 0;
        for id in 1..10 {
            world.send(member, &Packet::PubRec(acked(id)));
            world.send(member, &Packet::PubComp(acked(id)));
            count += lines(&heard(&mut world, member), "PUBLISH t").len();
        }
        // The first is in flight and was heard before; `come` has heard it again.
        assert_eq!(count, 2, "cut after {records} records");
    }
}

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

/// How a member's session ends.
#[derive(Clone, Copy, Debug)]
enum End {
    CleanStart,
    Expiry,
    ExpiryWhileDown,
    Disconnect,
}

/// A member with messages that were sent, that wait in memory behind them or, if it is away, on the disk; and another member, who
/// has come later.
fn a_member_with_messages(world: &mut World, (shards, level): (u16, u8), is_away: bool) -> [String; 2] {
    let (first, second) = (id_at(shards - 1, shards, "first"), id_at(0, shards, "second"));
    let member = come(world, Version::V5, &first);
    subscribe(world, member, "$share/g/t", 2);
    let publisher = come(world, Version::V5, &id_at(0, shards, "p"));
    if is_away {
        world.drop_client(member);
    }
    for n in 1..=4 {
        published(world, publisher, message("t", level, n, &n.to_string()));
        world.send(publisher, &Packet::PubRel(acked(n)));
        heard(world, publisher);
    }
    let mut packet = connect(Version::V5, &second);
    packet.properties.session_expiry_interval = Some(5_000);
    let (heir, _) = world.connect(&packet);
    subscribe(world, heir, "$share/g/t", 2);
    world.drop_client(heir);
    [first, second]
}

fn end(world: &mut World, end: End, id: &str) {
    match end {
        End::CleanStart => {
            let mut packet = connect(Version::V5, id);
            packet.properties.session_expiry_interval = Some(5_000);
            world.connect(&packet);
        }
        End::Expiry => world.advance(1_001),
        End::ExpiryWhileDown => {}
        End::Disconnect => {
            let client = resume(world, Version::V5, id);
            let properties = dunlin_wire::packet::DisconnectProperties {
                session_expiry_interval: Some(0),
                ..dunlin_wire::packet::DisconnectProperties::default()
            };
            let code = dunlin_wire::reason::ReasonCode::Success;
            world.send(client, &Packet::Disconnect(dunlin_wire::packet::Disconnect { code, properties }));
        }
    }
}

/// All messages that a client gets as it acknowledges them, by number.
fn drained(world: &mut World, id: &str) -> Vec<u16> {
    let client = resume(world, Version::V5, id);
    let mut got = Vec::new();
    loop {
        let all = lines(&heard(world, client), "PUBLISH t");
        if all.is_empty() {
            return got;
        }
        for line in all {
            let words: Vec<&str> = line.split(' ').collect();
            let id = words.iter().find_map(|word| word.strip_prefix("id=")).unwrap().parse().unwrap();
            got.push(words.last().unwrap().parse().unwrap());
            if words.contains(&"q2") {
                world.send(client, &Packet::PubRec(acked(id)));
                world.send(client, &Packet::PubComp(acked(id)));
            } else {
                puback(world, client, id);
            }
        }
    }
}

#[test]
fn wherever_a_member_ends_and_the_power_goes_the_others_get_its_messages() {
    // [MQTT5-4.8.2-4] [MQTT5-4.8.2-5]
    for way in [End::CleanStart, End::Expiry, End::ExpiryWhileDown, End::Disconnect] {
        for (shards, level, is_away) in
            (1..=2).flat_map(|shards| [(shards, 1, true), (shards, 2, true), (shards, 1, false)])
        {
            for cut in 0..20 {
                let mut world = World::durable(Mqtt { max_inflight: 2, ..Mqtt::default() }, shards.into());
                let ids = a_member_with_messages(&mut world, (shards, level), is_away);
                for log in &mut world.logs {
                    log.limit = Some(log.total() + cut);
                }
                end(&mut world, way, &ids[0]);
                match way {
                    End::ExpiryWhileDown => world.crash_for(1_001),
                    End::CleanStart | End::Expiry | End::Disconnect => world.crash(),
                }
                // The disk takes so many again, while the messages of a member that had ended change hands.
                for log in &mut world.logs {
                    log.limit = Some(log.total() + cut);
                }
                world.advance(2);
                world.crash();
                world.advance(2);
                assert_nothing_is_owed(&world);
                let got: Vec<u16> = ids.iter().rev().flat_map(|id| drained(&mut world, id)).collect();
                for n in 1..=4 {
                    let context = format!("{way:?}, {shards} shards, QoS {level}, away {is_away}, cut {cut}");
                    // A QoS 2 message whose identifier the ended session had sent goes to nobody.
                    let was_sent = level == 2 && matches!(way, End::Disconnect) && n <= 2;
                    assert!(was_sent || got.contains(&n), "{context}: {n} is lost: {got:?}");
                }
            }
        }
    }
}

#[test]
fn messages_of_an_ended_member_outlive_the_part_of_the_log_that_names_it() {
    for shards in 1..=2 {
        let mut world = World::durable(Mqtt::default(), shards.into());
        let ids = a_member_with_messages(&mut world, (shards, 1), true);
        let home = usize::from(shards - 1);
        let log = world.logs[home].total();
        // It has ended, its messages are being read, and the log frees all that was said of it.
        let core = &mut world.cores[home];
        let session = core.sessions.find(&ids[0]).unwrap();
        let mut actions = crate::action::Actions::default();
        core.end_session(session, &mut actions);
        let number = core.durable.estates.keys().next().copied().unwrap();
        core.on_reclaim(Record::WillGone { session: number }, &mut actions);
        core.on_reclaim(Record::WillGone { session: number }, &mut actions);
        let images: Vec<_> = actions
            .list
            .into_iter()
            .filter_map(|action| match action {
                crate::action::Action::Append { record, .. } => Some(*record),
                _ => None,
            })
            .filter(|record| matches!(record, Record::Session(_)))
            .collect();
        assert_eq!(images.len(), 1, "once");
        world.logs[home].records.truncate(log);
        let is_its_begin =
            |record: &Record| matches!(record, Record::Attached(attached) if attached.session == number);
        let begin = world.logs[home].records.iter().position(is_its_begin).unwrap();
        world.logs[home].records.remove(begin);
        world.logs[home].records.extend(images);
        assert!(!world.logs[home].records.iter().any(is_its_begin));
        world.crash();
        world.advance(1);
        assert_nothing_is_owed(&world);
        assert_eq!(drained(&mut world, &ids[1]), [1, 2, 3, 4], "{shards} shards");
        assert_eq!(comes_back(&mut world, &ids[0]), ["CONNACK success"], "it had ended");
    }
}

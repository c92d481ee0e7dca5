//! The same broker with one, two and four shards: nobody can tell from outside.

use dunlin_e2e::{Broker, Client};
use dunlin_wire::{QoS, ReasonCode, Version};

#[test]
fn a_message_reaches_its_subscribers_on_all_shards() {
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        let mut subscribers: Vec<Client> = (0..40)
            .map(|number| {
                let version = Version::ALL[number % 3];
                let mut client = Client::connect(&broker, version, &format!("fan-{number}"));
                let filter = if number % 2 == 0 { "fan/+" } else { "fan/out" };
                client.subscribe(filter, QoS::ExactlyOnce);
                client
            })
            .collect();
        let mut publisher = Client::connect(&broker, Version::V5, "fan-pub");
        for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
            let payload = [u8::try_from(number).unwrap()];
            let code = publisher.publish("fan/out", &payload, qos);
            assert!(!code.is_error());
            assert_ne!(code, ReasonCode::NoMatchingSubscribers);
            for subscriber in &mut subscribers {
                let message = subscriber.message();
                assert_eq!(message.publish().payload, payload);
                assert_eq!(message.publish().qos, qos);
            }
        }
        for subscriber in &mut subscribers {
            subscriber.expect_quiet();
        }
    }
}

#[test]
fn a_subscription_counts_from_its_suback_on_all_shards() {
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        let mut publishers: Vec<Client> = (0..8)
            .map(|number| Client::connect(&broker, Version::V5, &format!("now-pub-{number}")))
            .collect();
        for round in 0..20 {
            let topic = format!("now/{round}");
            let mut subscriber = Client::connect(&broker, Version::V5, &format!("now-sub-{round}"));
            subscriber.subscribe(&topic, QoS::AtLeastOnce);
            for publisher in &mut publishers {
                let code = publisher.publish(&topic, b"x", QoS::AtLeastOnce);
                assert_eq!(code, ReasonCode::Success, "{shards} shards, round {round}");
            }
            for _ in 0..publishers.len() {
                subscriber.message();
            }
        }
    }
}

#[test]
fn many_publishers_reach_one_subscriber_without_loss() {
    for shards in [1, 2, 4] {
        let broker = Broker::with_shards(shards);
        let mut subscriber = Client::connect(&broker, Version::V5, "in-sub");
        subscriber.subscribe("in/#", QoS::AtLeastOnce);
        let mut publishers: Vec<Client> = (0..20)
            .map(|number| Client::connect(&broker, Version::V311, &format!("in-pub-{number}")))
            .collect();
        for round in 0..10_u8 {
            for (number, publisher) in publishers.iter_mut().enumerate() {
                publisher.publish(&format!("in/{number}"), &[round], QoS::AtLeastOnce);
            }
        }
        let mut next = vec![0_u8; publishers.len()];
        for _ in 0..200 {
            let message = subscriber.message();
            let publish = message.publish();
            let number: usize = publish.topic.trim_start_matches("in/").parse().unwrap();
            assert_eq!(publish.payload, [next[number]]);
            next[number] += 1;
        }
        assert!(next.iter().all(|count| *count == 10));
    }
}

#[test]
fn more_shards_than_cores_work() {
    let broker = Broker::with_shards(8);
    let mut subscriber = Client::connect(&broker, Version::V5, "eight-sub");
    subscriber.subscribe("eight", QoS::AtLeastOnce);
    for number in 0..32 {
        let mut publisher = Client::connect(&broker, Version::V5, &format!("eight-{number}"));
        publisher.publish("eight", b"x", QoS::AtLeastOnce);
        subscriber.message();
        publisher.goodbye();
    }
}

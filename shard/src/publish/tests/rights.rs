//! The authorizer, message hooks, and the broker's own topics.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::action::Arrival;
use crate::event::Event;
use crate::hooks::{Answer, HookOutcome, MessageHook, PublishVerdict};
use crate::ids::{ConnId, ListenerId, ShardId, Token};
use crate::message::{Message, MessageView};
use crate::peer::Peer;
use crate::testing::mechanism::Script;

#[test]
fn what_is_not_allowed_is_answered_so() {
    // [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT311-3.3.5-2]
    let (script, hooks) = Script::new(true);
    let mut world = World::with_hooks(Mqtt::default(), hooks);
    let client = world.join(Version::V5, "c");
    let old = world.join(Version::V311, "old");
    for (level, id, answer) in [(1, 1, "PUBACK 1 not_authorized"), (2, 2, "PUBREC 2 not_authorized")] {
        script.access(Answer::Now(false));
        assert_eq!(published(&mut world, client, message("t", level, id, "x")), [answer]);
    }
    script.access(Answer::Now(false));
    assert_eq!(published(&mut world, old, message("t", 1, 1, "x")), ["PUBACK 1"]);
    script.access(Answer::Now(false));
    subscribe_as(&mut world, client, &[("a", options(0)), ("b", options(1))], 0);
    assert_eq!(heard(&mut world, client), ["SUBACK 9 [not_authorized granted_qos_1]"]);
    // A refused QoS 2 message is through. [MQTT5-4.3.3-9]
    assert_eq!(published(&mut world, client, message("t", 2, 2, "x")), ["PUBREC 2 no_matching_subscribers"]);
}

#[test]
fn packets_wait_in_their_place_for_a_late_answer() {
    let (script, hooks) = Script::new(true);
    let mut world = World::with_hooks(Mqtt::default(), hooks);
    let client = world.join(Version::V5, "c");
    subscribe(&mut world, client, "t", 0);
    script.token();
    for allowed in [true, false] {
        script.access(Answer::Pending);
        publish(&mut world, client, message("t", 1, 1, "first"));
        assert!(world.is_paused(client));
        publish(&mut world, client, message("t", 1, 2, "second"));
        world.send(client, &Packet::PingReq);
        assert!(heard(&mut world, client).is_empty());
        world.hook_done(script.token(), HookOutcome::Access(allowed));
        let first: &[&str] =
            if allowed { &["PUBLISH t q0 first", "PUBACK 1"] } else { &["PUBACK 1 not_authorized"] };
        let expected = [first, &["PUBLISH t q0 second", "PUBACK 2", "PINGRESP"]].concat();
        assert_eq!(heard(&mut world, client), expected);
        assert!(!world.is_paused(client));
    }
}

#[test]
fn a_subscribe_waits_filter_by_filter() {
    let (script, hooks) = Script::new(true);
    let mut world = World::with_hooks(Mqtt::default(), hooks);
    let client = world.join(Version::V5, "c");
    for answer in [Answer::Pending, Answer::Now(true), Answer::Pending] {
        script.access(answer);
    }
    subscribe_as(&mut world, client, &[("a", options(0)), ("b", options(1)), ("c", options(2))], 0);
    world.hook_done(script.token(), HookOutcome::Access(true));
    assert!(heard(&mut world, client).is_empty());
    world.hook_done(script.token(), HookOutcome::Access(false));
    assert_eq!(heard(&mut world, client), ["SUBACK 9 [success granted_qos_1 not_authorized]"]);
    assert_eq!(world.core().gauges().subscriptions, 2);
}

#[test]
fn a_late_answer_to_nobody_changes_nothing() {
    let (script, hooks) = Script::new(true);
    let mut world = World::with_hooks(Mqtt::default(), hooks);
    for packet in 0..2 {
        let client = world.join(Version::V5, "c");
        script.access(Answer::Pending);
        if packet == 0 {
            publish(&mut world, client, message("t", 1, 1, "x"));
        } else {
            subscribe_as(&mut world, client, &[("a", options(0))], 0);
        }
        world.drop_client(client);
        world.hook_done(script.token(), HookOutcome::Access(true));
    }
    assert_eq!(world.core().gauges(), crate::metrics::Gauges::default());
    assert_eq!(
        world.core().routing.subscribing.open_count(),
        0,
        "nothing is kept for a connection that is gone"
    );
}

#[test]
fn the_brokers_own_topics_are_for_this_host_and_for_reading() {
    let mut world = World::new();
    let local = world.join(Version::V5, "local");
    subscribe(&mut world, local, "$SYS/#", 0);
    assert_eq!(published(&mut world, local, message("$SYS/x", 1, 1, "x")), ["PUBACK 1 not_authorized"]);
    let view = MessageView {
        topic: "$SYS/x",
        qos: QoS::AtMostOnce,
        retain: false,
        received_at: world.now.wall,
        expiry_seconds: None,
        publisher: "",
        properties: &[],
        payload: b"up",
    };
    world.control(crate::control::Control::Publish(view.to_message()));
    assert_eq!(heard(&mut world, local), ["PUBLISH $SYS/x q0 up"]);
}

#[test]
fn remote_clients_may_not_read_the_brokers_topics_unless_configured() {
    let peer = Peer::from(SocketAddr::from(([192, 0, 2, 1], 4_000)));
    for (sys_topics_remote, code) in [(false, ReasonCode::NotAuthorized), (true, ReasonCode::Success)] {
        let codes = [code];
        let mut world = World::with(Mqtt { sys_topics_remote, ..Mqtt::default() });
        let mut unread = Vec::new();
        Packet::Connect(connect(Version::V5, "far")).encode(Version::V5, &mut unread).unwrap();
        let list = [Subscription { filter: "$SYS/#", options: options(0) }];
        let subscribe = Subscribe {
            packet_id: PacketId::FIRST,
            properties: SubscribeProperties::default(),
            subscriptions: Subscriptions::from_slice(&list),
        };
        Packet::Subscribe(subscribe).encode(Version::V5, &mut unread).unwrap();
        let arrival = Arrival { peer, listener: ListenerId(0), opened_at: world.now.mono, unread };
        let mut actions = crate::action::Actions::default();
        let conn = ConnId { slot: 0, generation: 1 };
        let event = Event::Arrived { conn, arrival: Box::new(arrival) };
        let now = world.now;
        world.core().handle(event, now, &mut actions);
        let suback = Packet::SubAck(dunlin_wire::packet::SubAck {
            packet_id: PacketId::FIRST,
            properties: dunlin_wire::packet::ReasonProperties::NONE,
            codes: dunlin_wire::packet::ReasonCodes::from_slice(&codes),
        });
        let mut expected = Vec::new();
        suback.encode(Version::V5, &mut expected).unwrap();
        assert!(actions.arena.ends_with(&expected), "{code:?}");
    }
}

/// A message hook that does as told, and forbids deliveries to `nobody`.
struct Told {
    verdicts: Receiver<Answer<PublishVerdict>>,
    tokens: Sender<Token>,
}

impl MessageHook for Told {
    fn publish(&mut self, token: Token, _: &MessageView<'_>) -> Answer<PublishVerdict> {
        self.tokens.send(token).unwrap();
        self.verdicts.try_recv().unwrap_or(Answer::Now(PublishVerdict::Continue))
    }

    fn deliver(&mut self, client_id: &str, _: &MessageView<'_>) -> bool {
        client_id != "nobody"
    }
}

#[test]
fn a_message_hook_passes_changes_drops_and_delays() {
    let (verdicts, verdicts_end) = channel();
    let (tokens_end, tokens) = channel();
    let hook = Told { verdicts: verdicts_end, tokens: tokens_end };
    let hooks = Hooks { message: Some(Box::new(hook)), ..Hooks::default() };
    let mut world = World::with_hooks(Mqtt::default(), hooks);
    let client = world.join(Version::V5, "c");
    let nobody = world.join(Version::V5, "nobody");
    subscribe(&mut world, client, "#", 0);
    subscribe(&mut world, nobody, "#", 0);
    assert_eq!(published(&mut world, client, message("t", 1, 1, "a")), ["PUBLISH t q0 a", "PUBACK 1"]);
    let other: Message = MessageView {
        topic: "u",
        qos: QoS::AtMostOnce,
        retain: false,
        received_at: world.now.wall,
        expiry_seconds: None,
        publisher: "c",
        properties: &[],
        payload: b"changed",
    }
    .to_message();
    verdicts.send(Answer::Now(PublishVerdict::Replace(other))).unwrap();
    assert_eq!(published(&mut world, client, message("t", 2, 2, "b")), ["PUBLISH u q0 changed", "PUBREC 2"]);
    verdicts.send(Answer::Now(PublishVerdict::Drop(ReasonCode::PayloadFormatInvalid))).unwrap();
    assert_eq!(published(&mut world, client, message("t", 1, 3, "c")), ["PUBACK 3 payload_format_invalid"]);
    verdicts.send(Answer::Pending).unwrap();
    assert!(published(&mut world, client, message("t", 1, 4, "d")).is_empty());
    let token = tokens.try_iter().last().unwrap();
    world.hook_done(token, HookOutcome::Publish(PublishVerdict::Continue));
    assert_eq!(heard(&mut world, client), ["PUBLISH t q0 d", "PUBACK 4"]);
    assert!(heard(&mut world, nobody).is_empty());
    assert_eq!(world.shard_of(client), ShardId(0));
}

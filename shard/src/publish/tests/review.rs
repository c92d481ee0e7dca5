//! Rights at the moment of use: asked for again when a session is resumed, when rights change, and while retained messages
//! are handed out.

#![expect(clippy::disallowed_types, reason = "a test looks at what its hook saw")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::*;
use crate::control::Control;
use crate::hooks::{Access, AccessRequest, Answer, Authorizer, HookOutcome};
use crate::ids::{ShardId, Token};
use crate::limits::REVIEW_STEP_COUNT;
use crate::metrics::Counter;
use crate::testing::mechanism::Script;

/// Forbids the filters that a test names, and tells what it was asked.
#[derive(Clone, Default)]
struct Acl(Arc<Mutex<Rules>>);

#[derive(Default)]
struct Rules {
    forbidden: BTreeSet<String>,
    /// Answers come late.
    is_slow: bool,
    open: Vec<(Token, bool)>,
    asked: Vec<String>,
}

impl Acl {
    fn hooks(&self) -> Hooks {
        Hooks { authorizer: Some(Box::new(self.clone())), ..Hooks::default() }
    }

    fn forbid(&self, filter: &str) {
        self.0.lock().unwrap().forbidden.insert(filter.to_owned());
    }

    fn slow(&self, is_slow: bool) {
        self.0.lock().unwrap().is_slow = is_slow;
    }

    /// What it was asked since the test looked last.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    /// Gives the answers that are due, and those that are asked for after them.
    fn answer_all(&self, world: &mut World) {
        loop {
            let open = std::mem::take(&mut self.0.lock().unwrap().open);
            if open.is_empty() {
                return;
            }
            for (token, allowed) in open {
                world.hook_done(token, HookOutcome::Access(allowed));
            }
        }
    }
}

impl Authorizer for Acl {
    fn check(&mut self, request: &AccessRequest<'_>) -> Answer<bool> {
        let mut rules = self.0.lock().unwrap();
        let Access::Subscribe { qos } = request.access else { return Answer::Now(true) };
        let allowed = !rules.forbidden.contains(request.topic);
        rules.asked.push(format!("{} {} q{}", request.client_id, request.topic, qos.as_u8()));
        if rules.is_slow {
            rules.open.push((request.token, allowed));
            return Answer::Pending;
        }
        Answer::Now(allowed)
    }
}

fn count(world: &mut World, counter: Counter) -> u64 {
    world.core().metrics().get(counter)
}

/// A client with `a`, `b/+` and `b/#` at QoS 1 whose session is kept, and that is away.
fn away(acl: &Acl) -> World {
    let mut world = World::with_hooks(Mqtt::default(), acl.hooks());
    for (version, id) in [(Version::V5, "c"), (Version::V311, "old")] {
        let client = keep(&mut world, version, id);
        for filter in ["a", "b/+", "b/#"] {
            subscribe(&mut world, client, filter, 1);
        }
        world.drop_client(client);
    }
    acl.asked();
    world
}

#[test]
fn stored_subscriptions_are_asked_for_again_when_the_session_is_resumed() {
    for is_slow in [false, true] {
        let acl = Acl::default();
        let mut world = away(&acl);
        let other = world.join(Version::V5, "p");
        for (id, topic) in [(1, "a"), (2, "b/x"), (3, "b/x/y")] {
            published(&mut world, other, message(topic, 1, id, topic));
        }
        assert_eq!(world.core().gauges().queued, 6, "two clients have three messages waiting");
        acl.forbid("a");
        acl.forbid("b/#");
        acl.slow(is_slow);
        for (version, id) in [(Version::V5, "c"), (Version::V311, "old")] {
            let client = resume(&mut world, version, id);
            if is_slow {
                assert_eq!(heard(&mut world, client), ["CONNACK success present"]);
                // What comes before the answers waits with the rest.
                published(&mut world, other, message("b/z", 1, 4, "late"));
                assert!(heard(&mut world, client).is_empty());
                acl.answer_all(&mut world);
            }
            let mut expected = vec!["CONNACK success present", "PUBLISH b/x q1 id=1 b/x"];
            if is_slow {
                expected.remove(0);
                expected.push("PUBLISH b/z q1 id=2 late");
                if id == "old" {
                    // Also the one that came while it was away.
                    expected.push("PUBLISH b/z q1 id=3 late");
                }
            }
            assert_eq!(heard(&mut world, client), expected, "{version:?}");
            let mut asked = acl.asked();
            asked.sort();
            assert_eq!(asked, ["a", "b/#", "b/+"].map(|filter| format!("{id} {filter} q1")));
            // The subscriptions are gone, not only silent.
            for topic in ["a", "b/x/y"] {
                published(&mut world, other, message(topic, 0, 0, "no"));
            }
            assert!(heard(&mut world, client).is_empty());
            assert_eq!(unsubscribe(&mut world, client, &["a"]).len(), 1);
            world.drop_client(client);
        }
        assert_eq!(count(&mut world, Counter::SubscriptionsRevoked), 4);
        assert_eq!(count(&mut world, Counter::DeliveryDroppedNotAuthorized), 6);
        assert_eq!(world.core().gauges().subscriptions, 2);
        if !is_slow {
            assert_eq!(world.core().gauges().queued_bytes, 0);
        }
    }
}

#[test]
fn what_was_sent_is_completed_although_the_right_is_gone() {
    let acl = Acl::default();
    let mut world = World::with_hooks(Mqtt::default(), acl.hooks());
    let client = keep(&mut world, Version::V5, "c");
    subscribe(&mut world, client, "a", 1);
    publish(&mut world, client, message("a", 1, 1, "x"));
    assert_eq!(heard(&mut world, client), ["PUBLISH a q1 id=1 x", "PUBACK 1"]);
    world.drop_client(client);
    acl.forbid("a");
    let client = resume(&mut world, Version::V5, "c");
    assert_eq!(heard(&mut world, client), ["CONNACK success present", "PUBLISH a q1 id=1 dup x"]);
    puback(&mut world, client, 1);
    assert_eq!(world.core().gauges().subscriptions, 0);
}

#[test]
fn changed_rights_act_on_live_sessions_at_once() {
    for is_slow in [false, true] {
        for client_id in [None, Some("c")] {
            let acl = Acl::default();
            let mut world = World::with_hooks(Mqtt::default(), acl.hooks());
            let (client, other) = (world.join(Version::V5, "c"), world.join(Version::V311, "other"));
            for client in [client, other] {
                subscribe(&mut world, client, "a", 0);
                subscribe(&mut world, client, "b", 1);
            }
            acl.asked();
            acl.forbid("a");
            acl.slow(is_slow);
            world.control(Control::Reauthorize { client_id: client_id.map(Into::into) });
            world.advance_ms(20);
            acl.answer_all(&mut world);
            assert_eq!(acl.asked().len(), if client_id.is_some() { 2 } else { 4 });
            publish(&mut world, client, message("a", 0, 0, "x"));
            publish(&mut world, client, message("b", 0, 0, "y"));
            assert_eq!(heard(&mut world, client), ["PUBLISH b q0 y"]);
            let still: &[&str] = if client_id.is_some() { &["PUBLISH a q0 x"] } else { &[] };
            assert_eq!(heard(&mut world, other), [still, &["PUBLISH b q0 y"]].concat());
            assert!(world.core().reviews_are_idle());
        }
    }
}

#[test]
fn nothing_is_sent_between_the_question_and_the_answer() {
    let acl = Acl::default();
    let mut world = World::with_hooks(Mqtt::default(), acl.hooks());
    let client = world.join(Version::V5, "c");
    subscribe(&mut world, client, "a", 0);
    subscribe(&mut world, client, "b", 0);
    acl.slow(true);
    acl.forbid("a");
    let reauthorize = || Control::Reauthorize { client_id: Some("c".into()) };
    world.control(reauthorize());
    for topic in ["a", "b"] {
        publish(&mut world, client, message(topic, 0, 0, topic));
    }
    assert!(heard(&mut world, client).is_empty());
    assert_eq!(world.core().gauges().queued, 2);
    // Rights change again: the answers to the first questions count no more.
    world.control(reauthorize());
    acl.answer_all(&mut world);
    assert_eq!(heard(&mut world, client), ["PUBLISH b q0 b"]);
    assert_eq!(count(&mut world, Counter::DeliveryDroppedNotAuthorized), 1);
    // A client that goes takes its questions with it.
    world.control(reauthorize());
    world.drop_client(client);
    acl.answer_all(&mut world);
    assert!(world.core().questions.is_empty() && world.core().reviews_are_idle());
    assert_eq!(world.core().gauges(), crate::metrics::Gauges::default());
}

#[test]
fn many_subscriptions_are_asked_for_in_bounded_steps() {
    let acl = Acl::default();
    let mut world = World::with_hooks(Mqtt::default(), acl.hooks());
    let client = world.join(Version::V5, "c");
    let step = usize::try_from(REVIEW_STEP_COUNT).unwrap();
    let filters: Vec<String> = (0..step * 5 / 2).map(|n| format!("t/{n}")).collect();
    for some in filters.chunks(512) {
        let some: Vec<_> = some.iter().map(|filter| (filter.as_str(), options(0))).collect();
        subscribe_as(&mut world, client, &some, 0);
    }
    acl.asked();
    world.control(Control::Reauthorize { client_id: None });
    assert_eq!(acl.asked().len(), 0, "not with the word itself");
    let mut total = 0;
    for _ in 0..5 {
        world.now.mono = world.now.mono.plus_ms(10);
        world.handle(ShardId(0), crate::Event::Timer);
        let asked = acl.asked().len();
        assert!(asked <= step, "{asked} in one step");
        total += asked;
    }
    assert_eq!(total, step * 5 / 2);
    assert!(world.core().reviews_are_idle());
}

#[test]
fn superusers_are_not_asked_for() {
    let (script, hooks) = Script::new(true);
    let accepted = crate::hooks::Accepted { superuser: true, data: None };
    script.auth(Answer::Now(crate::hooks::AuthOutcome::Accept(accepted)));
    let mut world = World::with_hooks(Mqtt::default(), hooks);
    let client = world.join(Version::V5, "root");
    subscribe(&mut world, client, "a", 0);
    world.control(Control::Reauthorize { client_id: None });
    world.advance_ms(20);
    assert!(script.log().iter().all(|line| !line.starts_with("check")));
}

#[test]
fn members_and_holders_lose_what_they_may_not_have() {
    let acl = Acl::default();
    let mqtt = Mqtt { exclusive_subscription: true, ..Mqtt::default() };
    let mut world = World::with_hooks(mqtt, acl.hooks());
    let client = keep(&mut world, Version::V5, "c");
    for filter in ["$share/g/s", "$exclusive/e"] {
        subscribe(&mut world, client, filter, 1);
    }
    world.drop_client(client);
    let other = world.join(Version::V5, "other");
    published(&mut world, other, message("s", 1, 1, "for a member"));
    assert_eq!(world.core().gauges().queued, 1);
    subscribe(&mut world, other, "$share/g/s", 0);
    acl.asked();
    acl.forbid("s");
    acl.forbid("e");
    let client = resume(&mut world, Version::V5, "c");
    assert_eq!(heard(&mut world, client), ["CONNACK success present"]);
    assert_eq!(acl.asked(), ["c s q1", "c e q1"]);
    assert_eq!(heard(&mut world, other), ["PUBLISH s q0 for a member"], "another member has it");
    assert_eq!(count(&mut world, Counter::SubscriptionsRevoked), 2);
    assert_eq!(world.core().gauges().subscriptions, 1);
    // The exclusive topic is free.
    acl.0.lock().unwrap().forbidden.clear();
    subscribe(&mut world, other, "$exclusive/e", 0);
}

#[test]
fn other_shards_hear_of_a_filter_that_nobody_may_have() {
    let acl = Acl::default();
    let mut world = World::of_cores(Mqtt::default(), vec![acl.hooks(), acl.hooks()]);
    let (near, far) = (id_at(0, 2, "n"), id_at(1, 2, "f"));
    let publisher = world.join(Version::V5, &near);
    let subscriber = world.join(Version::V5, &far);
    subscribe(&mut world, subscriber, "a", 0);
    assert_eq!(published(&mut world, publisher, message("a", 1, 1, "x")), ["PUBACK 1"]);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH a q0 x"]);
    acl.forbid("a");
    world.handle(ShardId(1), crate::Event::Control(Control::Reauthorize { client_id: Some(far.into()) }));
    let answer = published(&mut world, publisher, message("a", 1, 2, "x"));
    assert_eq!(answer, ["PUBACK 2 no_matching_subscribers"]);
}

#[test]
fn retained_messages_are_asked_for_while_they_are_handed_out() {
    for (is_slow, allowed) in [(false, true), (false, false), (true, true), (true, false)] {
        let acl = Acl::default();
        let mqtt = Mqtt { outbound_bytes_high: 1_000, ..Mqtt::default() };
        let mut world = World::with_hooks(mqtt, acl.hooks());
        let client = world.join(Version::V5, "c");
        let payload = "x".repeat(600);
        for n in 0..5 {
            publish(&mut world, client, retained(&format!("r/{n}"), 0, 0, &payload));
        }
        world.clog(client, true);
        subscribe_as(&mut world, client, &[("r/+", options(0))], 0);
        let first = heard(&mut world, client).len();
        assert!(first > 1 && first < 6, "SUBACK and some of them: {first}");
        assert_eq!(acl.asked(), ["c r/+ q0"], "the SUBSCRIBE was asked for, nothing else");
        if !allowed {
            acl.forbid("r/+");
        }
        acl.slow(is_slow);
        world.advance_ms(10);
        world.clog(client, false);
        if is_slow {
            assert!(heard(&mut world, client).is_empty());
            acl.answer_all(&mut world);
        }
        let rest = heard(&mut world, client).len();
        assert_eq!(rest, if allowed { 6 - first } else { 0 });
        assert_eq!(acl.asked()[0], "c r/+ q0");
        assert_eq!(world.core().gauges().subscriptions, u64::from(allowed));
        assert_eq!(count(&mut world, Counter::SubscriptionsRevoked), u64::from(!allowed));
    }
}

#[test]
fn a_qos_2_message_is_used_when_it_comes_not_when_it_is_released() {
    // Its right is asked for with PUBLISH, and with PUBLISH it goes on its way: nothing is left for PUBREL to use.
    let (script, hooks) = Script::new(true);
    let mut world = World::with_hooks(Mqtt::default(), hooks);
    let client = world.join(Version::V5, "c");
    let subscriber = world.join(Version::V5, "s");
    subscribe(&mut world, subscriber, "t", 0);
    script.log();
    assert_eq!(published(&mut world, client, message("t", 2, 1, "x")), ["PUBREC 1"]);
    assert_eq!(heard(&mut world, subscriber), ["PUBLISH t q0 x"]);
    script.access(Answer::Now(false));
    // The right goes. Neither a repeat nor the release publishes anything.
    publish(&mut world, client, Publish { dup: true, ..message("t", 2, 1, "x") });
    world.send(client, &Packet::PubRel(acked(1)));
    assert_eq!(heard(&mut world, client), ["PUBREC 1", "PUBCOMP 1"]);
    assert!(heard(&mut world, subscriber).is_empty());
    assert_eq!(script.log().iter().filter(|line| line.starts_with("check")).count(), 1);
    assert_eq!(published(&mut world, client, message("t", 2, 1, "y")), ["PUBREC 1 not_authorized"]);
}

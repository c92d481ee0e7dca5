//! Random events into a few cores: nothing panics, cores name only what lives, and when all have left nothing is left.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use dunlin_persist::StoreState;
use dunlin_wire::packet::{
    Ack, Auth, AuthProperties, Connect, Disconnect, DisconnectProperties, Packet, Publish, PublishProperties,
    Subscribe, SubscribeProperties, Subscription, Subscriptions, TopicFilters, Unsubscribe, UserProperties,
    Will, WillProperties,
};
use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::{PacketId, QoS, SubscriptionOptions, Version};
use proptest::prelude::*;

use super::{Client, World, connect};
use crate::config::{Config, Durability, Mqtt};
use crate::control::Control;
use crate::event::Event;
use crate::hooks::{
    Accepted, AccessRequest, Answer, AuthOutcome, AuthRequest, Authenticator, Authorizer, HookOutcome, Hooks,
    MessageHook, PublishVerdict,
};
use crate::ids::{ShardId, Token};
use crate::message::MessageView;
use crate::random::Random;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Op {
    Open { shard: u16 },
    Join { shard: u16, who: u8, flags: u16, seconds: u32 },
    Connect { client: usize, who: u8, flags: u16, seconds: u32 },
    Packet { client: usize, kind: u8, id: u16, flags: u16 },
    Mutated { client: usize, kind: u8, flags: u16, at: usize, byte: u8 },
    Garbage { client: usize, bytes: Vec<u8> },
    Drop { client: usize },
    Clog { client: usize, is_clogged: bool },
    Advance { ms: u64 },
    Hook { question: usize, verdict: u8 },
    Kick { who: u8 },
    Reauthorize { who: Option<u8> },
    Reconfigure { max_packet_size: u32 },
    Stop { shard: u16 },
    Crash,
    Hold { is_held: bool },
    Reclaim { shard: u16, count: usize },
    StoreState { shard: u16, state: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..12_usize;
    let shard = 0..3_u16;
    let seconds = || prop_oneof![Just(0), Just(u32::MAX), 0..100_u32];
    prop_oneof![
        1 => shard.clone().prop_map(|shard| Op::Open { shard }),
        8 => (shard, 0..5_u8, any::<u16>(), seconds())
            .prop_map(|(shard, who, flags, seconds)| Op::Join { shard, who, flags, seconds }),
        1 => (client.clone(), 0..5_u8, any::<u16>(), seconds())
            .prop_map(|(client, who, flags, seconds)| Op::Connect { client, who, flags, seconds }),
        60 => (client.clone(), 0..14_u8, 0..6_u16, any::<u16>())
            .prop_map(|(client, kind, id, flags)| Op::Packet { client, kind, id, flags }),
        2 => (client.clone(), 0..14_u8, any::<u16>(), 0..60_usize, any::<u8>())
            .prop_map(|(client, kind, flags, at, byte)| Op::Mutated { client, kind, flags, at, byte }),
        1 => (client.clone(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(client, bytes)| Op::Garbage { client, bytes }),
        2 => client.clone().prop_map(|client| Op::Drop { client }),
        4 => (client, any::<bool>()).prop_map(|(client, is_clogged)| Op::Clog { client, is_clogged }),
        4 => prop_oneof![4 => 0..100_u64, 2 => 0..5_000_u64, 1 => 0..200_000_u64].prop_map(|ms| Op::Advance { ms }),
        6 => (0..4_usize, any::<u8>()).prop_map(|(question, verdict)| Op::Hook { question, verdict }),
        1 => (0..5_u8).prop_map(|who| Op::Kick { who }),
        2 => prop::option::of(0..5_u8).prop_map(|who| Op::Reauthorize { who }),
        1 => (20..3_000_u32).prop_map(|max_packet_size| Op::Reconfigure { max_packet_size }),
        1 => (0..60_u16).prop_map(|shard| Op::Stop { shard }),
        1 => Just(Op::Crash),
        4 => any::<bool>().prop_map(|is_held| Op::Hold { is_held }),
        3 => (0..3_u16, 1..40_usize).prop_map(|(shard, count)| Op::Reclaim { shard, count }),
        1 => (0..3_u16, 0..30_u8).prop_map(|(shard, state)| Op::StoreState { shard, state }),
    ]
}

/// A hook that answers by chance and tells the test which questions it left open.
struct Moody {
    shard: ShardId,
    random: Random,
    open: Sender<(ShardId, Token)>,
}

impl Moody {
    fn decide<T>(&mut self, token: Token, now: impl FnOnce(u32) -> T) -> Answer<T> {
        let mood = u32::try_from(self.random.next_u64() % 32).unwrap();
        if mood < 3 {
            self.open.send((self.shard, token)).unwrap_or_default();
            return Answer::Pending;
        }
        Answer::Now(now(mood))
    }
}

fn auth_outcome(mood: u32) -> AuthOutcome {
    match mood {
        0..5 => AuthOutcome::Refuse(ReasonCode::NotAuthorized),
        5..8 => AuthOutcome::Continue { data: Box::from(&b"more"[..]) },
        _ => AuthOutcome::Accept(Accepted { superuser: mood == 10, data: Some(Box::from(&b"done"[..])) }),
    }
}

impl Authenticator for Moody {
    fn begin(&mut self, request: &AuthRequest<'_>) -> Answer<AuthOutcome> {
        self.decide(request.token, auth_outcome)
    }

    fn proceed(&mut self, request: &AuthRequest<'_>) -> Answer<AuthOutcome> {
        self.decide(request.token, auth_outcome)
    }

    fn forget(&mut self, _: Token) {}
}

impl Authorizer for Moody {
    fn check(&mut self, request: &AccessRequest<'_>) -> Answer<bool> {
        self.decide(request.token, |mood| mood > 5)
    }
}

impl MessageHook for Moody {
    fn publish(&mut self, token: Token, message: &MessageView<'_>) -> Answer<PublishVerdict> {
        self.decide(token, |mood| match mood {
            4 => PublishVerdict::Drop(ReasonCode::QuotaExceeded),
            5 => PublishVerdict::Replace(message.to_message()),
            _ => PublishVerdict::Continue,
        })
    }
}

fn hooks(shard: u16, seed: u64, open: &Sender<(ShardId, Token)>) -> Hooks {
    let moody = |salt| {
        Box::new(Moody {
            shard: ShardId(shard),
            random: Random::new(seed ^ salt ^ u64::from(shard)),
            open: open.clone(),
        })
    };
    Hooks {
        authenticator: (seed & 1 != 0).then(|| moody(1) as Box<dyn Authenticator>),
        authorizer: (seed & 2 != 0).then(|| moody(2) as Box<dyn Authorizer>),
        message: (seed & 4 != 0).then(|| moody(3) as Box<dyn MessageHook>),
        session: None,
    }
}

fn settings(max_packet_size: u32) -> Mqtt {
    Mqtt {
        max_packet_size,
        session_expiry_interval: 500,
        max_session_expiry_interval: Some(1_000),
        max_mqueue_len: Some(5),
        max_inflight: 3,
        receive_maximum: 3,
        max_awaiting_rel: 2,
        max_topic_alias: 3,
        exclusive_subscription: true,
        outbound_bytes_high: 300,
        retry_interval_ms: Some(3_000),
        ..Mqtt::default()
    }
}

const IDS: [&str; 5] = ["", "a", "b", "c", "d"];
const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "$SYS/x", "x", "a/"];
const FILTERS: [&str; 8] = ["a", "a/+", "#", "+/b/#", "$share/g/a/#", "$queue/a", "$exclusive/a/b", "$SYS/#"];
const CODES: [ReasonCode; 4] = [
    ReasonCode::Success,
    ReasonCode::DisconnectWithWillMessage,
    ReasonCode::UnspecifiedError,
    ReasonCode::QuotaExceeded,
];

fn bit(flags: u16, number: u16) -> bool {
    flags >> number & 1 != 0
}

fn connect_of(who: u8, flags: u16, seconds: u32) -> Connect<'static> {
    let version = Version::ALL[usize::from(flags % 3)];
    let mut packet = connect(version, IDS[usize::from(who)]);
    packet.clean_start = bit(flags, 4);
    packet.keep_alive_seconds = (flags >> 12) * 20;
    if bit(flags, 5) {
        let mut properties = WillProperties::default();
        if version.is_v5() {
            properties.will_delay_interval = Some(seconds / 2);
        }
        let topic = TOPICS[usize::from(flags >> 8) % TOPICS.len()];
        packet.will =
            Some(Will { retain: bit(flags, 6), topic, payload: b"will", properties, ..Will::default() });
    }
    if version.is_v5() {
        packet.properties.session_expiry_interval = Some(seconds);
        packet.properties.authentication_method = bit(flags, 7).then_some("m");
        packet.properties.receive_maximum = NonZeroU16::new(flags >> 13);
        packet.properties.maximum_packet_size =
            bit(flags, 9).then(|| NonZeroU32::new(u32::from(flags >> 10) * 4 + 40)).flatten();
        packet.properties.topic_alias_maximum = Some(flags >> 14);
        packet.properties.request_problem_information = Some(bit(flags, 8));
    }
    packet
}

/// A PUBLISH made of chance.
fn publish_of(version: Version, packet_id: PacketId, flags: u16) -> Publish<'static> {
    let qos = QoS::from_u8(u8::try_from(flags >> 2 & 3).unwrap()).unwrap_or_default();
    let mut properties = PublishProperties::default();
    if version.is_v5() && bit(flags, 12) {
        properties.topic_alias = NonZeroU16::new(flags >> 14);
        properties.message_expiry_interval = bit(flags, 11).then_some(5);
    }
    let by_alias = properties.topic_alias.is_some() && bit(flags, 8);
    Publish {
        dup: bit(flags, 13) && qos > QoS::AtMostOnce,
        qos,
        retain: bit(flags, 7),
        topic: if by_alias { "" } else { TOPICS[usize::from(flags >> 4) % 6] },
        packet_id: (qos > QoS::AtMostOnce).then_some(packet_id),
        properties,
        payload: &[7; 200][..usize::from(flags >> 8) % 200],
    }
}

/// Two filters made of chance.
fn subscriptions_of(version: Version, flags: u16) -> [Subscription<'static>; 2] {
    let options = SubscriptionOptions {
        qos: QoS::from_u8(u8::try_from(flags % 3).unwrap()).unwrap(),
        no_local: version.is_v5() && bit(flags, 9),
        retain_as_published: version.is_v5() && bit(flags, 10),
        ..SubscriptionOptions::default()
    };
    [flags, flags >> 3].map(|n| Subscription { filter: FILTERS[usize::from(n) % 8], options })
}

/// Sends a packet of a kind; what the client's version cannot say is not sent.
fn send_kind(world: &mut World, client: Client, kind: u8, id: u16, flags: u16, change: Option<(usize, u8)>) {
    let version = world.version(client);
    let packet_id = PacketId::new(id + 1).unwrap();
    let code = CODES[usize::from(flags >> 8) % 4];
    let ack = Ack::with_code(packet_id, if bit(flags, 5) { code } else { ReasonCode::Success });
    let subscriptions = subscriptions_of(version, flags);
    let filters = subscriptions.map(|subscription| subscription.filter);
    let packet = match kind {
        4 | 5 => Packet::Subscribe(Subscribe {
            packet_id,
            properties: SubscribeProperties {
                subscription_identifier: (version.is_v5() && bit(flags, 6)).then_some(u32::from(id) + 1),
                user_properties: UserProperties::NONE,
            },
            subscriptions: Subscriptions::from_slice(&subscriptions),
        }),
        6 => Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user_properties: UserProperties::NONE,
            filters: TopicFilters::from_slice(&filters),
        }),
        7 => Packet::PubAck(ack),
        8 => Packet::PubRec(ack),
        9 => Packet::PubRel(Ack::success(packet_id)),
        10 => Packet::PubComp(Ack::success(packet_id)),
        11 => Packet::PingReq,
        12 if id == 0 => Packet::Disconnect(Disconnect {
            code: if version.is_v5() { code } else { ReasonCode::Success },
            properties: DisconnectProperties {
                session_expiry_interval: (version.is_v5() && bit(flags, 9)).then_some(u32::from(flags)),
                ..DisconnectProperties::default()
            },
        }),
        13 if id < 2 => Packet::Auth(Auth {
            code: if bit(flags, 1) { ReasonCode::ReAuthenticate } else { ReasonCode::ContinueAuthentication },
            properties: AuthProperties { authentication_method: Some("m"), ..AuthProperties::default() },
        }),
        _ => Packet::Publish(publish_of(version, packet_id, flags)),
    };
    let mut bytes = Vec::new();
    if packet.encode(version, &mut bytes).is_err() {
        return;
    }
    if let Some((at, byte)) = change {
        let at = at % bytes.len();
        bytes[at] = byte;
    }
    // Now and then the rest of a packet comes with the next one, or never.
    let cut = if flags.is_multiple_of(7) { usize::from(flags >> 5) % bytes.len() } else { bytes.len() };
    world.raw(client, &bytes[..cut]);
    if flags.is_multiple_of(14) {
        world.raw(client, &bytes[cut..]);
    }
}

fn apply(world: &mut World, clients: &mut Vec<Client>, questions: &mut Vec<(ShardId, Token)>, op: &Op) {
    let pick =
        |clients: &[Client], index: usize| (!clients.is_empty()).then(|| clients[index % clients.len()]);
    match op {
        Op::Open { shard } => clients.push(world.open_at(ShardId(*shard))),
        Op::Join { shard, who, flags, seconds } => {
            let client = world.open_at(ShardId(*shard));
            clients.push(client);
            world.send(client, &Packet::Connect(connect_of(*who, *flags, *seconds)));
        }
        Op::Connect { client, who, flags, seconds } => {
            if let Some(client) = pick(clients, *client) {
                world.send(client, &Packet::Connect(connect_of(*who, *flags, *seconds)));
            }
        }
        Op::Packet { client, kind, id, flags } => {
            if let Some(client) = pick(clients, *client) {
                send_kind(world, client, *kind, *id, *flags, None);
            }
        }
        Op::Mutated { client, kind, flags, at, byte } => {
            if let Some(client) = pick(clients, *client) {
                send_kind(world, client, *kind, 0, *flags, Some((*at, *byte)));
            }
        }
        Op::Garbage { client, bytes } => {
            if let Some(client) = pick(clients, *client) {
                world.raw(client, bytes);
            }
        }
        Op::Drop { client } => {
            if let Some(client) = pick(clients, *client) {
                world.drop_client(client);
                clients.retain(|other| *other != client);
            }
        }
        Op::Clog { client, is_clogged } => {
            if let Some(client) = pick(clients, *client) {
                world.clog(client, *is_clogged);
            }
        }
        Op::Advance { ms } => world.advance_ms(*ms),
        Op::Hook { question, verdict } => {
            if !questions.is_empty() {
                let (shard, token) = questions.remove(question % questions.len());
                answer(world, shard, token, *verdict);
            }
        }
        Op::Kick { who } => {
            for shard in 0..3 {
                let client_id = IDS[usize::from(*who)].into();
                world.handle(ShardId(shard), Event::Control(Control::Kick { client_id }));
            }
        }
        Op::Reauthorize { who } => {
            for shard in 0..3 {
                let client_id = who.map(|who| IDS[usize::from(who)].into());
                world.handle(ShardId(shard), Event::Control(Control::Reauthorize { client_id }));
            }
        }
        Op::Reconfigure { max_packet_size } => {
            let config = Arc::new(Config { mqtt: settings(*max_packet_size), ..Config::default() });
            world.handle(ShardId(0), Event::Control(Control::Reconfigure(config)));
        }
        Op::Stop { shard } => {
            if *shard < 3 {
                world.handle(ShardId(*shard), Event::Control(Control::Stop));
            }
        }
        Op::Crash | Op::Hold { .. } | Op::Reclaim { .. } | Op::StoreState { .. } => apply_to_disk(world, op),
    }
}

/// Something happens to the disk. Of a crash, only the caller has the hooks.
fn apply_to_disk(world: &mut World, op: &Op) {
    if let Op::Hold { is_held } = op {
        world.hold_syncs(*is_held);
    } else if let Op::Reclaim { shard, count } = op {
        world.reclaim(usize::from(*shard), *count);
    } else if let Op::StoreState { shard, state } = op {
        let state = match state {
            0..10 => StoreState::Full,
            10 => StoreState::Failed,
            _ => StoreState::Open,
        };
        world.handle(ShardId(*shard), Event::StoreState(state));
    }
}

impl Op {
    /// Whether it means something only where sessions are stored.
    const fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Crash | Self::Hold { .. } | Self::Reclaim { .. } | Self::StoreState { .. })
    }
}

/// Answers a question in every form: only the one that was asked for counts.
fn answer(world: &mut World, shard: ShardId, token: Token, verdict: u8) {
    for outcome in [
        HookOutcome::Auth(auth_outcome(u32::from(verdict % 32))),
        HookOutcome::Access(verdict > 60),
        HookOutcome::Publish(if verdict > 60 {
            PublishVerdict::Continue
        } else {
            PublishVerdict::Drop(ReasonCode::NotAuthorized)
        }),
    ] {
        world.handle(shard, Event::HookDone { token, outcome });
    }
}

/// Reads what a client was sent; an obliging one acknowledges as the standard says.
fn react(world: &mut World, client: Client, is_obliging: bool) {
    let heard = world.heard(client);
    for packet in heard.packets() {
        let answer = if let Packet::Publish(publish) = packet {
            publish.packet_id.map(|id| match publish.qos {
                QoS::ExactlyOnce => Packet::PubRec(Ack::success(id)),
                QoS::AtMostOnce | QoS::AtLeastOnce => Packet::PubAck(Ack::success(id)),
            })
        } else if let Packet::PubRel(ack) = packet {
            Some(Packet::PubComp(Ack::success(ack.packet_id)))
        } else {
            None
        };
        if let Some(answer) = answer.filter(|_| is_obliging) {
            world.send(client, &answer);
        }
    }
}

fn run(ops: &[Op], seed: u64, durability: Durability) {
    let (open, opened): (_, Receiver<(ShardId, Token)>) = channel();
    let all_hooks = || (0..3).map(|shard| hooks(shard, seed, &open)).collect();
    let config = Config { mqtt: settings(1_000), durability };
    let mut world = World::with_config(config, all_hooks());
    world.begin();
    let (mut clients, mut questions) = (Vec::new(), Vec::new());
    for op in ops {
        if op.is_of_the_disk() && durability == Durability::Memory {
            continue;
        }
        if matches!(op, Op::Crash) {
            world.kill(all_hooks());
            opened.try_iter().for_each(drop);
            questions.clear();
        }
        apply(&mut world, &mut clients, &mut questions, op);
        questions.extend(opened.try_iter());
        clients.retain(|client| !world.is_closed(*client));
        for (n, client) in clients.iter().enumerate() {
            react(&mut world, *client, n % 3 > 0);
        }
    }
    for client in clients {
        world.drop_client(client);
    }
    world.hold_syncs(false);
    // Wills and messages may ask again, and answers may come late.
    for _ in 0..50 {
        questions.extend(opened.try_iter());
        for (shard, token) in std::mem::take(&mut questions) {
            answer(&mut world, shard, token, 100);
        }
        world.advance(100);
    }
    for core in &world.cores {
        let gauges = core.gauges();
        assert_eq!(
            (gauges.connections, gauges.live_connections, gauges.sessions),
            (0, 0, 0),
            "all have left"
        );
        assert_eq!((core.held_bytes, core.greeting_pool_bytes), (0, 0), "nothing is held for nobody");
        assert_eq!(core.questions.len(), 0, "nobody is asked for an answer");
        assert_eq!(
            (gauges.subscriptions, gauges.queued, gauges.queued_bytes),
            (0, 0, 0),
            "sessions take their things with them"
        );
        assert!(core.reviews_are_idle());
        core.assert_nothing_is_owed();
    }
    world.kill(Vec::new());
    if world.cores.iter().all(|core| core.gauges().sessions == 0) {
        return;
    }
    // What a disk that failed, or had no room, did not hear of has ended as well.
    world.advance(5_000);
    let sessions: u64 = world.cores.iter().map(|core| core.gauges().sessions).sum();
    assert_eq!(sessions, 0, "the disk knows of no session that has ended");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn random_events_leave_nothing_behind(ops in prop::collection::vec(op(), 1..200), seed in any::<u64>()) {
        run(&ops, seed, Durability::Memory);
    }

    #[test]
    fn random_events_leave_nothing_behind_on_a_disk(ops in prop::collection::vec(op(), 1..200), seed in any::<u64>()) {
        run(&ops, seed, Durability::Commit);
    }
}

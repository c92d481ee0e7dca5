//! The Will: a message that the broker publishes for a client that has gone (§3.1.2.5, §MQTT5 3.1.3.2).

use dunlin_wire::packet;
use dunlin_wire::types::QoS;

use crate::action::Actions;
use crate::config::Mqtt;
use crate::connection::Refusal;
use crate::core::{Asker, ShardCore};
use crate::durable::{Owed, OwedWillNo, Promise};
use crate::hooks::{Access, AccessRequest, Answer};
use crate::ids::SessionId;
use crate::message::{Message, MessageView};
use crate::metrics::Counter;
use crate::peer::Peer;
use crate::time::WallMs;
use dunlin_wire::reason::ReasonCode;

/// A Will that waits for the end of its connection. `[MQTT5-3.1.2-7]` `[MQTT311-3.1.2-8]`
#[derive(Clone, Debug)]
pub(crate) struct Will {
    /// What to publish, as of the CONNECT.
    pub(crate) message: Message,
    /// Seconds between the end of the connection and the publication.
    pub(crate) delay_seconds: u32,
    /// Where the client was, for the authorizer.
    peer: Peer,
}

/// A Will whose time has come.
#[derive(Clone, Debug)]
pub(crate) struct DueWill {
    will: Will,
    user_name: Option<Box<str>>,
    /// Its name among those that the log keeps until they are published.
    owed: Option<OwedWillNo>,
}

impl DueWill {
    /// A Will that the log keeps, if `owed` names it there.
    pub(crate) const fn new(will: Will, user_name: Option<Box<str>>, owed: Option<OwedWillNo>) -> Self {
        Self { will, user_name, owed }
    }

    /// Its name among those that the log keeps until they are published.
    pub(crate) const fn owed(&self) -> Option<OwedWillNo> {
        self.owed
    }
}

impl Will {
    /// The Will of an accepted CONNECT. One allocation.
    pub(crate) fn of_connect(will: &packet::Will<'_>, client_id: &str, peer: Peer) -> Self {
        let mut properties = Vec::new();
        // [MQTT5-3.1.3-10]
        will.properties.write_forwardable(&mut properties);
        let message = MessageView {
            topic: will.topic,
            qos: will.qos,
            retain: will.retain,
            received_at: WallMs(0),
            expiry_seconds: will.properties.message_expiry_interval,
            publisher: client_id,
            properties: &properties,
            payload: will.payload,
        }
        .to_message();
        Self { message, delay_seconds: will.properties.will_delay_interval.unwrap_or(0), peer }
    }

    /// A Will that was recorded before a restart.
    pub(crate) const fn restored(message: Message, delay_seconds: u32, peer: Peer) -> Self {
        Self { message, delay_seconds, peer }
    }

    /// Whether a disk that is full would lose it for somebody.
    pub(crate) fn needs_room(&self) -> bool {
        let message = self.message.view();
        message.qos > QoS::AtMostOnce || message.retain
    }

    /// Where the client was.
    pub(crate) const fn peer(&self) -> Peer {
        self.peer
    }

    /// Whether a server with these settings takes the Will.
    pub(crate) fn check(will: &packet::Will<'_>, mqtt: &Mqtt) -> Result<(), Refusal> {
        // [MQTT5-3.2.2-12]
        if will.qos > mqtt.max_qos_allowed {
            return Err(Refusal::Will(ReasonCode::QoSNotSupported));
        }
        // [MQTT5-3.2.2-13]
        if will.retain && !mqtt.retain_available {
            return Err(Refusal::Will(ReasonCode::RetainNotSupported));
        }
        // The broker's own topics are not for clients.
        if will.topic.starts_with("$SYS/") {
            return Err(Refusal::Will(ReasonCode::TopicNameInvalid));
        }
        Ok(())
    }
}

impl ShardCore {
    /// Takes the Will of a session and has it published before the event is over.
    ///
    /// [MQTT5-3.1.2-10] [MQTT311-3.1.2-10]: it is removed from the session.
    pub(crate) fn release_will(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let user_name: Option<Box<str>> = session.user_name().map(Into::into);
        let number = session.number();
        if let Some(will) = session.take_will() {
            let owed = number.map(|number| self.durable.owe_will(number, &will, user_name.clone()));
            self.due_wills.push_back(DueWill::new(will, user_name, owed));
        }
    }

    /// Publishes a Will, if its client may (still) publish there.
    pub(crate) fn publish_will(&mut self, due: DueWill, actions: &mut Actions) {
        let token = self.draw_token();
        let Some(authorizer) = &mut self.hooks.authorizer else {
            self.publish_will_now(due, actions);
            return;
        };
        let message = due.will.message.view();
        let answer = authorizer.check(&AccessRequest {
            token,
            client_id: message.publisher,
            username: due.user_name.as_deref(),
            peer: due.will.peer,
            access: Access::Publish { qos: message.qos, retain: message.retain },
            topic: message.topic,
        });
        match answer {
            Answer::Now(allowed) => self.on_will_decided(due, allowed, actions),
            Answer::Pending => {
                self.questions.insert(token, Asker::Will(Box::new(due)));
            }
        }
    }

    /// The authorizer has decided about a Will.
    pub(crate) fn on_will_decided(&mut self, due: DueWill, allowed: bool, actions: &mut Actions) {
        if allowed {
            self.publish_will_now(due, actions);
        } else {
            self.metrics.count(Counter::WillNotAuthorized);
            self.answer_will(due, Promise::NONE, actions);
        }
    }

    /// [MQTT5-3.1.2-14] [MQTT5-3.1.2-15] [MQTT311-3.1.2-16] [MQTT311-3.1.2-17]: with the RETAIN flag of the CONNECT. Later, if there
    /// is no room for it now.
    fn publish_will_now(&mut self, due: DueWill, actions: &mut Actions) {
        if self.durable.is_on() && self.finds_no_room(&due.will) {
            self.wait_for_room(due);
            return;
        }
        self.metrics.count(Counter::WillPublished);
        // Its Message Expiry Interval begins now.
        let message = MessageView { received_at: self.now.wall, ..due.will.message.view() }.to_message();
        self.begin_promise();
        self.publish_internal(&message, actions);
        let promise = self.take_promise().of_other_shards();
        self.answer_will(due, promise, actions);
    }

    /// A Will is through when all who get it have it.
    fn answer_will(&mut self, due: DueWill, promise: Promise, actions: &mut Actions) {
        if self.durable.is_on() {
            self.answer(Owed::WillGone(Box::new(due)), promise, actions);
        }
    }
}

const _: () = assert!(QoS::ExactlyOnce as u8 == 2, "QoS values are ordered, so that they can be compared");

#[cfg(test)]
mod tests {
    use dunlin_wire::packet::{
        Connect, Disconnect, DisconnectProperties, Packet, UserProperties, WillProperties,
    };
    use dunlin_wire::types::Version;

    use super::*;
    use crate::hooks::HookOutcome;
    use crate::testing::mechanism::Script;
    use crate::testing::{Client, World, connect};

    fn leaving(version: Version, delay_seconds: u32) -> Connect<'static> {
        let properties = WillProperties {
            will_delay_interval: version.is_v5().then_some(delay_seconds),
            ..WillProperties::default()
        };
        let will = packet::Will { topic: "w", payload: b"gone", properties, ..packet::Will::default() };
        let mut connect = Connect { will: Some(will), ..connect(version, "c") };
        if version.is_v5() {
            connect.properties.session_expiry_interval = Some(100);
        }
        connect
    }

    fn goodbye(world: &mut World, client: Client, code: ReasonCode) {
        let properties = DisconnectProperties::default();
        world.send(client, &Packet::Disconnect(Disconnect { code, properties }));
    }

    fn published(world: &mut World) -> u64 {
        world.core().metrics().get(Counter::WillPublished)
    }

    #[test]
    fn a_normal_goodbye_removes_the_will() {
        // [MQTT5-3.14.4-3] [MQTT311-3.14.4-3] [MQTT5-3.1.2-10] [MQTT311-3.1.2-10] [MQTT5-3.1.2-8]
        for version in Version::ALL {
            let mut world = World::new();
            let (client, _) = world.connect(&leaving(version, 0));
            goodbye(&mut world, client, ReasonCode::NORMAL_DISCONNECTION);
            assert!(world.is_closed(client));
            world.advance(1_000);
            assert_eq!(published(&mut world), 0);
            assert_eq!(world.core().metrics().get(Counter::WillRemoved), 1);
        }
    }

    #[test]
    fn any_other_end_publishes_it_once() {
        // [MQTT5-3.1.2-7] [MQTT5-3.1.2-8] [MQTT311-3.1.2-8] [MQTT311-3.1.2-10]
        type Way = fn(&mut World, Client);
        let ways: [Way; 4] = [
            |world, client| world.drop_client(client),
            |world, client| world.raw(client, b"\x10"),
            |world, client| world.raw(client, b"\x00\x00"),
            |world, _| world.control(crate::Control::Kick { client_id: "c".into() }),
        ];
        for version in Version::ALL {
            for way in ways {
                let mut world = World::new();
                let (client, _) = world.connect(&leaving(version, 0));
                way(&mut world, client);
                if !world.is_closed(client) {
                    world.drop_client(client);
                }
                assert_eq!(published(&mut world), 1);
                world.advance(10_000);
                assert_eq!(published(&mut world), 1);
            }
        }
        let mut world = World::new();
        let (client, _) = world.connect(&leaving(Version::V5, 0));
        goodbye(&mut world, client, ReasonCode::DisconnectWithWillMessage);
        assert_eq!(published(&mut world), 1);
    }

    #[test]
    fn without_a_will_none_is_published() {
        // [MQTT311-3.1.2-12]
        for version in Version::ALL {
            let mut world = World::new();
            let client = world.join(version, "c");
            world.drop_client(client);
            world.advance(1_000);
            assert_eq!(published(&mut world), 0);
        }
    }

    #[test]
    fn a_delayed_will_waits_and_a_timely_return_removes_it() {
        // [MQTT5-3.1.3-9] [MQTT5-3.1.2-8]
        let mut world = World::new();
        let (client, _) = world.connect(&leaving(Version::V5, 30));
        world.drop_client(client);
        world.advance(29);
        assert_eq!(published(&mut world), 0);
        let mut back = leaving(Version::V5, 30);
        back.clean_start = false;
        let (client, heard) = world.connect(&back);
        assert!(heard.connack().session_present);
        world.advance(60);
        assert_eq!(published(&mut world), 0);
        world.drop_client(client);
        world.advance(31);
        assert_eq!(published(&mut world), 1, "the new connection left a Will of its own");
        world.advance(100);
        assert_eq!(published(&mut world), 1);
    }

    #[test]
    fn the_end_of_the_session_ends_the_wait() {
        // [MQTT5-3.1.2-8]
        let mut world = World::new();
        let (client, _) = world.connect(&leaving(Version::V5, 1_000));
        world.drop_client(client);
        world.advance(99);
        assert_eq!(published(&mut world), 0);
        world.advance(2);
        assert_eq!(published(&mut world), 1);
        assert_eq!(world.core().gauges().sessions, 0);
    }

    #[test]
    fn rights_are_asked_for_when_it_is_published() {
        for (answer, expected) in [(Answer::Now(true), 1), (Answer::Now(false), 0), (Answer::Pending, 1)] {
            let (script, hooks) = Script::new(true);
            let is_late = matches!(answer, Answer::Pending);
            script.access(answer);
            let mut world = World::with_hooks(Mqtt::default(), hooks);
            let (client, _) = world.connect(&leaving(Version::V5, 0));
            world.drop_client(client);
            if is_late {
                assert_eq!(published(&mut world), 0);
                world.hook_done(script.token(), HookOutcome::Access(true));
            }
            assert_eq!(published(&mut world), expected);
            assert_eq!(world.core().metrics().get(Counter::WillNotAuthorized), 1 - expected);
            let asked = script.log().into_iter().filter(|line| line.starts_with("check")).collect::<Vec<_>>();
            assert_eq!(asked, ["check c Publish { qos: AtMostOnce, retain: false } w"]);
        }
    }

    #[test]
    fn the_message_is_what_connect_said() {
        // [MQTT5-3.1.3-10] [MQTT5-3.1.2-14] [MQTT5-3.1.2-15] [MQTT311-3.1.2-16] [MQTT311-3.1.2-17]
        for retain in [false, true] {
            let pairs = [("b", "1"), ("a", "2"), ("b", "3")];
            let properties = WillProperties {
                will_delay_interval: Some(7),
                message_expiry_interval: Some(60),
                content_type: Some("text/plain"),
                user_properties: UserProperties::from_pairs(&pairs),
                ..WillProperties::default()
            };
            let will =
                packet::Will { qos: QoS::AtLeastOnce, retain, topic: "w/c", payload: b"gone", properties };
            let peer = Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
            let kept = Will::of_connect(&will, "c", peer);
            let view = kept.message.view();
            assert_eq!(kept.delay_seconds, 7);
            assert_eq!((view.topic, view.qos, view.retain), ("w/c", QoS::AtLeastOnce, retain));
            assert_eq!((view.publisher, view.payload, view.expiry_seconds), ("c", &b"gone"[..], Some(60)));
            let limits = dunlin_wire::Limits::SERVER;
            let read = packet::PublishProperties::parse(view.properties, &limits).unwrap();
            assert_eq!(read.content_type, Some("text/plain"));
            assert_eq!(read.user_properties.iter().collect::<Vec<_>>(), pairs);
        }
    }
}

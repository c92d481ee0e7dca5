//! The Will: a message that the broker publishes for a client that has gone (§3.1.2.5, §MQTT5 3.1.3.2).

use dunlin_wire::packet;
use dunlin_wire::types::QoS;

use crate::action::Actions;
use crate::config::Mqtt;
use crate::connection::Refusal;
use crate::core::{Asker, ShardCore};
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
        let user_name = session.user_name().map(Into::into);
        if let Some(will) = session.take_will() {
            self.due_wills.push_back(DueWill { will, user_name });
        }
    }

    /// Publishes a Will, if its client may (still) publish there.
    pub(crate) fn publish_will(&mut self, due: DueWill, actions: &mut Actions) {
        let token = self.draw_token();
        let Some(authorizer) = &mut self.hooks.authorizer else {
            self.publish_will_now(&due, actions);
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
            self.publish_will_now(&due, actions);
        } else {
            self.metrics.count(Counter::WillNotAuthorized);
        }
    }

    /// [MQTT5-3.1.2-14] [MQTT5-3.1.2-15] [MQTT311-3.1.2-16] [MQTT311-3.1.2-17]: with the RETAIN flag of the CONNECT.
    fn publish_will_now(&mut self, due: &DueWill, actions: &mut Actions) {
        self.metrics.count(Counter::WillPublished);
        // Its Message Expiry Interval begins now.
        let message = MessageView { received_at: self.now.wall, ..due.will.message.view() }.to_message();
        self.publish_internal(message, actions);
    }
}

const _: () = assert!(QoS::ExactlyOnce as u8 == 2, "QoS values are ordered, so that they can be compared");

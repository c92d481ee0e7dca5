//! What a shard begins with after a restart: sessions without connections, retained messages, numbers that go on counting.

use dunlin_persist::record;
use dunlin_persist::{MessageId, SessionNo};
use dunlin_wire::types::QoS;

use crate::action::Actions;
use crate::core::ShardCore;
use crate::message::{Message, MessageView};
use crate::time::{Now, WallMs};

impl ShardCore {
    /// Says which numbers are free. Before all other restoring.
    pub fn restore_ids(&mut self, next_session: SessionNo, next_message: MessageId) {
        self.durable.next_session = next_session;
        self.durable.next_message = next_message;
    }

    /// Takes a session back whose home is this shard. Its client is away; its messages stay in the log until it comes back.
    pub fn restore_session(&mut self, session: record::Session, now: Now) {
        self.now = now;
        drop(session);
    }

    /// Takes a retained message back whose topic has its home here.
    pub fn restore_retained(&mut self, message: &record::Message) {
        let kept = message_of(message);
        let bytes = u32::try_from(kept.bytes()).unwrap_or(u32::MAX);
        self.routing.retained.set(&message.topic, kept, bytes);
    }

    /// All is restored: other shards are told what this one wants. Clients are taken when every shard has said so; the edge
    /// may accept them before, they wait. Before the first event.
    pub fn finish_restore(&mut self, now: Now, actions: &mut Actions) {
        self.now = now;
        if self.durable.is_on() {
            self.announce(actions);
        }
    }
}

/// A recorded message as it is kept in memory.
fn message_of(message: &record::Message) -> Message {
    MessageView {
        topic: &message.topic,
        qos: QoS::from_u8(message.qos).unwrap_or_default(),
        retain: message.retain,
        received_at: WallMs(message.received_at_ms),
        expiry_seconds: message.expiry_seconds,
        publisher: &message.publisher,
        properties: &message.properties,
        payload: &message.payload,
    }
    .to_message()
}

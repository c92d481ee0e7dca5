//! The barest edge: one core, connections by slot, sockets that take everything at the end of a tick.

use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_shard::{
    Action, Actions, Config, ConnId, Event, Hooks, ListenerId, Mono, Now, Peer, Setup, ShardCore, ShardId,
    WallMs,
};
use dunlin_wire::packet::{
    Connect, ConnectProperties, Packet, Publish, Subscribe, SubscribeProperties, Subscription, Subscriptions,
};
use dunlin_wire::types::{PacketId, QoS, SubscriptionOptions, Version};

/// One core and its connections.
pub(crate) struct Bare {
    core: ShardCore,
    actions: Actions,
    now: Now,
    slots: u32,
    /// Bytes sent in this tick, by slot; and which slots have any.
    sent: Vec<u32>,
    touched: Vec<ConnId>,
    /// Sends since the start.
    pub(crate) send_count: u64,
}

impl Bare {
    /// An empty core with default settings.
    pub(crate) fn new() -> Self {
        let setup = Setup {
            shard: ShardId(0),
            shard_count: 1,
            config: Arc::new(Config::default()),
            hooks: Hooks::default(),
            seed: 1,
        };
        Self {
            core: ShardCore::new(setup),
            actions: Actions::default(),
            now: Now { mono: Mono(1_000_000_000), wall: WallMs(1_700_000_000_000) },
            slots: 0,
            sent: Vec::new(),
            touched: Vec::new(),
            send_count: 0,
        }
    }

    /// A client connects.
    pub(crate) fn join(&mut self, version: Version, client_id: &str) -> ConnId {
        let conn = ConnId { slot: self.slots, generation: 1 };
        self.slots += 1;
        self.sent.push(0);
        let peer = Peer::from(SocketAddr::from(([127, 0, 0, 1], 1_000)));
        let opened = Event::Opened { conn, peer, listener: ListenerId(0) };
        self.core.handle(opened, self.now, &mut self.actions);
        let connect = Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_seconds: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        self.send(conn, version, &Packet::Connect(connect));
        conn
    }

    /// A client subscribes to one filter.
    pub(crate) fn subscribe(&mut self, conn: ConnId, version: Version, filter: &str, qos: QoS) {
        let list = [Subscription { filter, options: SubscriptionOptions::with_qos(qos) }];
        let subscribe = Subscribe {
            packet_id: PacketId::FIRST,
            properties: SubscribeProperties::default(),
            subscriptions: Subscriptions::from_slice(&list),
        };
        self.send(conn, version, &Packet::Subscribe(subscribe));
    }

    fn send(&mut self, conn: ConnId, version: Version, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).expect("the packet keeps to the rules");
        self.bytes(conn, &bytes);
        self.tick();
    }

    /// Bytes arrive.
    pub(crate) fn bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        self.core.handle(Event::Bytes { conn, bytes }, self.now, &mut self.actions);
    }

    /// The end of a tick: all that was sent has left.
    pub(crate) fn tick(&mut self) {
        for action in self.actions.list.drain(..) {
            if let Action::Send { conn, head, payload } = action {
                let apart = payload.map_or(0, |message| message.payload().len());
                let bytes =
                    (head.end - head.start) + u32::try_from(apart).expect("a payload fits in a packet");
                self.send_count += 1;
                let sent = &mut self.sent[conn.slot as usize];
                if *sent == 0 {
                    self.touched.push(conn);
                }
                *sent += bytes;
            }
        }
        self.actions.clear();
        for conn in self.touched.drain(..) {
            let bytes = std::mem::take(&mut self.sent[conn.slot as usize]);
            self.core.handle(Event::Sent { conn, bytes }, self.now, &mut self.actions);
        }
    }
}

/// The bytes of a PUBLISH.
pub(crate) fn message(version: Version, topic: &str, qos: QoS, payload: &[u8]) -> Vec<u8> {
    let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::FIRST);
    let publish = Publish { qos, topic, packet_id, payload, ..Publish::default() };
    let mut bytes = Vec::new();
    Packet::Publish(publish).encode(version, &mut bytes).expect("the packet keeps to the rules");
    bytes
}

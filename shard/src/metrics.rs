//! Counters and gauges of one core: plain numbers without atomics, summed by whoever reads a snapshot.
//!
//! Names follow EMQX's where the thing counted is the same, so that an operator's dashboards keep their words; what only
//! Dunlin counts has names of its own. Each refusal and each drop has a counter that says why.

use dunlin_wire::reason::ReasonCode;
use dunlin_wire::types::PacketType;

/// Defines the counters: identifier and published name.
macro_rules! counters {
    ($($name:ident = $text:literal,)*) => {
        /// What is counted. The names are those of [`Counter::name`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the published names say it")]
        pub enum Counter {
            $($name,)*
        }

        impl Counter {
            /// All counters in the order in which they are published.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The published name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

counters! {
    BytesReceived = "bytes.received",
    BytesSent = "bytes.sent",
    PacketsReceived = "packets.received",
    PacketsSent = "packets.sent",
    ConnectReceived = "packets.connect.received",
    ConnackSent = "packets.connack.sent",
    ConnackError = "packets.connack.error",
    ConnackAuthError = "packets.connack.auth_error",
    PublishReceived = "packets.publish.received",
    PublishSent = "packets.publish.sent",
    PublishInuse = "packets.publish.inuse",
    PublishError = "packets.publish.error",
    PublishAuthError = "packets.publish.auth_error",
    PublishQuotaExceeded = "packets.publish.quota_exceeded",
    PubackReceived = "packets.puback.received",
    PubackSent = "packets.puback.sent",
    PubackMissed = "packets.puback.missed",
    PubrecReceived = "packets.pubrec.received",
    PubrecSent = "packets.pubrec.sent",
    PubrecInuse = "packets.pubrec.inuse",
    PubrecMissed = "packets.pubrec.missed",
    PubrelReceived = "packets.pubrel.received",
    PubrelSent = "packets.pubrel.sent",
    PubrelMissed = "packets.pubrel.missed",
    PubcompReceived = "packets.pubcomp.received",
    PubcompSent = "packets.pubcomp.sent",
    PubcompMissed = "packets.pubcomp.missed",
    SubscribeReceived = "packets.subscribe.received",
    SubscribeError = "packets.subscribe.error",
    SubscribeAuthError = "packets.subscribe.auth_error",
    SubackSent = "packets.suback.sent",
    UnsubscribeReceived = "packets.unsubscribe.received",
    UnsubscribeError = "packets.unsubscribe.error",
    UnsubackSent = "packets.unsuback.sent",
    PingreqReceived = "packets.pingreq.received",
    PingrespSent = "packets.pingresp.sent",
    DisconnectReceived = "packets.disconnect.received",
    DisconnectSent = "packets.disconnect.sent",
    AuthReceived = "packets.auth.received",
    AuthSent = "packets.auth.sent",
    MessagesReceived = "messages.received",
    MessagesSent = "messages.sent",
    MessagesPublish = "messages.publish",
    MessagesDelivered = "messages.delivered",
    MessagesAcked = "messages.acked",
    MessagesForward = "messages.forward",
    MessagesRetained = "messages.retained",
    MessagesQos0Received = "messages.qos0.received",
    MessagesQos1Received = "messages.qos1.received",
    MessagesQos2Received = "messages.qos2.received",
    MessagesQos0Sent = "messages.qos0.sent",
    MessagesQos1Sent = "messages.qos1.sent",
    MessagesQos2Sent = "messages.qos2.sent",
    MessagesDropped = "messages.dropped",
    MessagesDroppedAwaitPubrelTimeout = "messages.dropped.await_pubrel_timeout",
    MessagesDroppedNoSubscribers = "messages.dropped.no_subscribers",
    MessagesDroppedQuotaExceeded = "messages.dropped.quota_exceeded",
    MessagesDroppedReceiveMaximum = "messages.dropped.receive_maximum",
    MessagesDroppedHook = "messages.dropped.hook",
    MessagesDroppedExpired = "messages.dropped.expired",
    MessagesDroppedLaneFull = "messages.dropped.lane_full",
    MessagesDroppedRetainedFull = "messages.dropped.retained_full",
    MessagesDroppedStoreFull = "messages.dropped.store_full",
    DeliveryDropped = "delivery.dropped",
    DeliveryDroppedNoLocal = "delivery.dropped.no_local",
    DeliveryDroppedTooLarge = "delivery.dropped.too_large",
    DeliveryDroppedQos0Msg = "delivery.dropped.qos0_msg",
    DeliveryDroppedQueueFull = "delivery.dropped.queue_full",
    DeliveryDroppedExpired = "delivery.dropped.expired",
    DeliveryDroppedNotAuthorized = "delivery.dropped.not_authorized",
    DeliveryDroppedHook = "delivery.dropped.hook",
    DeliveryDroppedSessionEnded = "delivery.dropped.session_ended",
    DeliveryDroppedStoreFull = "delivery.dropped.store_full",
    DeliveryDroppedLost = "delivery.dropped.lost",
    DeliveryRefused = "delivery.refused",
    DeliveryRedispatched = "delivery.redispatched",
    ClientConnect = "client.connect",
    ClientConnack = "client.connack",
    ClientConnected = "client.connected",
    ClientDisconnected = "client.disconnected",
    ClientAuthenticate = "client.authenticate",
    ClientAuthAnonymous = "client.auth.anonymous",
    ClientReauthenticate = "client.reauthenticate",
    ClientAuthorize = "client.authorize",
    ClientSubscribe = "client.subscribe",
    ClientUnsubscribe = "client.unsubscribe",
    ClientPing = "client.ping",
    SubscriptionsRevoked = "subscriptions.revoked",
    SessionCreated = "session.created",
    SessionResumed = "session.resumed",
    SessionTakenover = "session.takenover",
    SessionDiscarded = "session.discarded",
    SessionTerminated = "session.terminated",
    SessionExpired = "session.expired",
    WillPublished = "will.published",
    WillDelayed = "will.delayed",
    WillRemoved = "will.removed",
    WillNotAuthorized = "will.not_authorized",
    AuthenticationSuccess = "authentication.success",
    AuthenticationSuccessAnonymous = "authentication.success.anonymous",
    AuthenticationFailure = "authentication.failure",
    AuthorizationAllow = "authorization.allow",
    AuthorizationDeny = "authorization.deny",
    AuthorizationSuperuser = "authorization.superuser",
    ConnectionsOpened = "connections.opened",
    ConnectionsHandedOff = "connections.handed_off",
    ConnectionsArrived = "connections.arrived",
    ConnectionsPeerClosed = "connections.peer_closed",
    ConnectionsClosed = "connections.closed",
    ConnectionsUnprocessedBytes = "connections.unprocessed_bytes",
    EventsLate = "events.late",
    StoreReclaimed = "store.reclaimed",
    RefusedMalformed = "refused.malformed",
    RefusedNotConnect = "refused.not_connect",
    RefusedSecondConnect = "refused.second_connect",
    RefusedPacketNotTaken = "refused.packet_not_taken",
    RefusedConnectTimeout = "refused.connect_timeout",
    RefusedConnectRate = "refused.connect_rate",
    RefusedGreetingCount = "refused.greeting_count",
    RefusedConnectMemory = "refused.connect_memory",
    RefusedUnsupportedVersion = "refused.unsupported_version",
    RefusedClientId = "refused.client_id",
    RefusedWill = "refused.will",
    RefusedAuthentication = "refused.authentication",
    RefusedAuthenticationMethod = "refused.authentication_method",
    RefusedAnswerTooLarge = "refused.answer_too_large",
    RefusedSessionExpiry = "refused.session_expiry",
    RefusedHeldBytes = "refused.held_bytes",
    RefusedStoreFull = "refused.store_full",
    RefusedStoreFailed = "refused.store_failed",
    EndedKeepAlive = "ended.keep_alive",
    EndedTakenOver = "ended.taken_over",
    EndedKicked = "ended.kicked",
    EndedStopping = "ended.stopping",
    EndedProtocol = "ended.protocol",
}

/// Counters since the start of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    counts: [u64; Counter::ALL.len()],
    /// CONNACK and DISCONNECT sent, and 3.x closes, by reason code.
    ended: [u64; ReasonCode::ALL.len()],
}

impl Metrics {
    /// Adds 1.
    #[inline]
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `amount`; wraps after 2⁶⁴.
    #[inline]
    pub fn add(&mut self, counter: Counter, amount: u64) {
        let slot = &mut self.counts[counter as usize];
        *slot = slot.wrapping_add(amount);
    }

    /// One counter. Totals of several kinds of drops are sums, so that a kind is never forgotten in them.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        if counter == Counter::MessagesDropped {
            self.sum(MESSAGE_DROPS)
        } else if counter == Counter::DeliveryDropped {
            self.sum(DELIVERY_DROPS)
        } else if counter == Counter::MessagesDelivered {
            // Each PUBLISH to a client delivers one message.
            self.counts[Counter::MessagesSent as usize]
        } else {
            self.counts[counter as usize]
        }
    }

    fn sum(&self, kinds: &[Counter]) -> u64 {
        kinds.iter().map(|kind| self.counts[*kind as usize]).sum()
    }

    /// Counts that this side ended a connection with this reason.
    pub fn count_ended(&mut self, reason: ReasonCode) {
        if let Ok(index) = ReasonCode::ALL.binary_search(&reason) {
            self.ended[index] = self.ended[index].wrapping_add(1);
        }
    }

    /// How many connections this side ended with this reason.
    #[must_use]
    pub fn ended(&self, reason: ReasonCode) -> u64 {
        ReasonCode::ALL.binary_search(&reason).map_or(0, |index| self.ended[index])
    }

    /// Counts a packet that was taken.
    #[inline]
    pub fn count_received(&mut self, packet: PacketType) {
        self.count(Counter::PacketsReceived);
        if let Some(counter) = received_counter(packet) {
            self.count(counter);
        }
    }

    /// Counts a packet that was sent.
    #[inline]
    pub fn count_sent(&mut self, packet: PacketType) {
        self.count(Counter::PacketsSent);
        if let Some(counter) = sent_counter(packet) {
            self.count(counter);
        }
    }

    /// All counters with their published names, in a fixed order.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|counter| (counter.name(), self.get(*counter)))
    }

    /// How many connections this side ended, by the names of the reason codes; only those that occurred.
    pub fn ended_entries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ReasonCode::ALL
            .iter()
            .zip(self.ended)
            .filter(|(_, count)| *count > 0)
            .map(|(code, count)| (code.name(), count))
    }

    /// Adds the counters of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.wrapping_add(theirs);
        }
        for (mine, theirs) in self.ended.iter_mut().zip(other.ended) {
            *mine = mine.wrapping_add(theirs);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { counts: [0; Counter::ALL.len()], ended: [0; ReasonCode::ALL.len()] }
    }
}

/// Which counter a taken packet has; the answers of a server are never taken.
const fn received_counter(packet: PacketType) -> Option<Counter> {
    Some(match packet {
        PacketType::Connect => Counter::ConnectReceived,
        PacketType::Publish => Counter::PublishReceived,
        PacketType::PubAck => Counter::PubackReceived,
        PacketType::PubRec => Counter::PubrecReceived,
        PacketType::PubRel => Counter::PubrelReceived,
        PacketType::PubComp => Counter::PubcompReceived,
        PacketType::Subscribe => Counter::SubscribeReceived,
        PacketType::Unsubscribe => Counter::UnsubscribeReceived,
        PacketType::PingReq => Counter::PingreqReceived,
        PacketType::Disconnect => Counter::DisconnectReceived,
        PacketType::Auth => Counter::AuthReceived,
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            return None;
        }
    })
}

/// Which counter a sent packet has; the requests of a client are never sent.
const fn sent_counter(packet: PacketType) -> Option<Counter> {
    Some(match packet {
        PacketType::ConnAck => Counter::ConnackSent,
        PacketType::Publish => Counter::PublishSent,
        PacketType::PubAck => Counter::PubackSent,
        PacketType::PubRec => Counter::PubrecSent,
        PacketType::PubRel => Counter::PubrelSent,
        PacketType::PubComp => Counter::PubcompSent,
        PacketType::SubAck => Counter::SubackSent,
        PacketType::UnsubAck => Counter::UnsubackSent,
        PacketType::PingResp => Counter::PingrespSent,
        PacketType::Disconnect => Counter::DisconnectSent,
        PacketType::Auth => Counter::AuthSent,
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => {
            return None;
        }
    })
}

/// Sizes of one shard at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Sessions, connected or kept.
    pub sessions: u64,
    /// Network connections, whether or not their CONNECT was accepted.
    pub connections: u64,
    /// Connections whose CONNECT was accepted.
    pub live_connections: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Those of them that are shared.
    pub subscriptions_shared: u64,
    /// Distinct filters in the topic index.
    pub topics: u64,
    /// Retained messages whose topic has its home here.
    pub retained: u64,
    /// Bytes that retained messages occupy.
    pub retained_bytes: u64,
    /// Messages waiting in sessions' queues.
    pub queued: u64,
    /// Bytes that they occupy.
    pub queued_bytes: u64,
    /// Bytes held of packets of which a part is missing, or which wait for an answer.
    pub held_bytes: u64,
}

impl Gauges {
    /// With messages that wait on the disk, of which only the names are in memory.
    #[must_use]
    pub(crate) const fn with_away(mut self, count: u64) -> Self {
        self.queued += count;
        self
    }

    /// All gauges with their published names, in a fixed order.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("connections.count", self.sessions),
            ("live_connections.count", self.live_connections),
            ("channels.count", self.connections),
            ("sessions.count", self.sessions),
            // There is one node, and what it holds in memory is all there is.
            ("cluster_sessions.count", self.sessions),
            ("topics.count", self.topics),
            ("routes.count", self.topics),
            ("subscriptions.count", self.subscriptions),
            ("subscribers.count", self.subscriptions),
            ("suboptions.count", self.subscriptions),
            ("subscriptions.shared.count", self.subscriptions_shared),
            ("durable_subscriptions.count", 0),
            ("retained.count", self.retained),
            ("delayed.count", 0),
            ("retained.bytes", self.retained_bytes),
            ("queued.count", self.queued),
            ("queued.bytes", self.queued_bytes),
            ("held.bytes", self.held_bytes),
        ]
        .into_iter()
    }

    /// Adds the gauges of another shard.
    pub const fn merge(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.connections += other.connections;
        self.live_connections += other.live_connections;
        self.subscriptions += other.subscriptions;
        self.subscriptions_shared += other.subscriptions_shared;
        self.topics += other.topics;
        self.retained += other.retained;
        self.retained_bytes += other.retained_bytes;
        self.queued += other.queued;
        self.queued_bytes += other.queued_bytes;
        self.held_bytes += other.held_bytes;
    }
}

/// The kinds of `messages.dropped`: messages that reached nobody.
const MESSAGE_DROPS: &[Counter] = &[
    Counter::MessagesDroppedAwaitPubrelTimeout,
    Counter::MessagesDroppedNoSubscribers,
    Counter::MessagesDroppedQuotaExceeded,
    Counter::MessagesDroppedReceiveMaximum,
    Counter::MessagesDroppedHook,
    Counter::MessagesDroppedExpired,
    Counter::MessagesDroppedLaneFull,
    Counter::MessagesDroppedRetainedFull,
    Counter::MessagesDroppedStoreFull,
];

/// The kinds of `delivery.dropped`: messages that did not reach one of their subscribers.
const DELIVERY_DROPS: &[Counter] = &[
    Counter::DeliveryDroppedNoLocal,
    Counter::DeliveryDroppedTooLarge,
    Counter::DeliveryDroppedQos0Msg,
    Counter::DeliveryDroppedQueueFull,
    Counter::DeliveryDroppedExpired,
    Counter::DeliveryDroppedNotAuthorized,
    Counter::DeliveryDroppedHook,
    Counter::DeliveryDroppedSessionEnded,
    Counter::DeliveryDroppedStoreFull,
    Counter::DeliveryDroppedLost,
];

const _: () = assert!(Counter::ALL.len() <= 256, "a counter's number is a byte");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Metrics::default().entries().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
    }

    #[test]
    fn each_kind_of_drop_is_in_its_total() {
        for counter in Counter::ALL {
            let mut metrics = Metrics::default();
            metrics.count(*counter);
            for (prefix, total) in [
                ("messages.dropped.", Counter::MessagesDropped),
                ("delivery.dropped.", Counter::DeliveryDropped),
            ] {
                let expected = u64::from(counter.name().starts_with(prefix));
                assert_eq!(metrics.get(total), expected, "{}", counter.name());
            }
        }
    }

    #[test]
    fn counters_add_up_over_shards() {
        let mut one = Metrics::default();
        one.count(Counter::ClientConnected);
        one.count_ended(ReasonCode::KeepAliveTimeout);
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!(sum.get(Counter::ClientConnected), 2);
        assert_eq!(sum.ended(ReasonCode::KeepAliveTimeout), 2);
        assert_eq!(sum.ended_entries().collect::<Vec<_>>(), [("keep_alive_timeout", 2)]);
    }

    #[test]
    fn each_packet_of_a_client_and_each_of_a_server_has_a_counter() {
        for packet in PacketType::ALL {
            let mut metrics = Metrics::default();
            metrics.count_received(packet);
            metrics.count_sent(packet);
            let counted = metrics.entries().filter(|(_, count)| *count > 0).count();
            assert!(counted >= 3, "{packet} is counted nowhere");
        }
    }
}

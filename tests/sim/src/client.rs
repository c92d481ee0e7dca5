//! A client model: speaks MQTT as a correct client does, records what it sees, and complains when the broker breaks the
//! protocol. It decides nothing by itself; [`crate::workload`] tells it what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroU32};

use dunlin_wire::decoder;
use dunlin_wire::packet::{
    Ack, ConnAck, Connect, ConnectProperties, Disconnect, Packet, Publish, PublishProperties, Subscribe,
    SubscribeProperties, Subscription, Subscriptions, TopicFilters, Unsubscribe, UserProperties, Will,
    WillProperties,
};
use dunlin_wire::{Limits, PacketId, QoS, ReasonCode, SubscriptionOptions, Version};

use crate::log::{Epoch, Log, Publication, Receipt, Subscribed, WillFate};
use crate::world::Fall;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No connection.
    Down,
    /// CONNECT was sent.
    Connecting,
    /// CONNACK with success came.
    Up,
}

/// A message on its way to the broker.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    packet_id: PacketId,
    publication: usize,
    /// PUBREC came; PUBREL was sent.
    released: bool,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) id: String,
    pub(crate) version: Version,
    /// Keeps its session over connections.
    pub(crate) persistent: bool,
    /// Receive Maximum that it announces (5.0).
    pub(crate) receive_maximum: u16,
    /// Maximum Packet Size that it announces (5.0).
    pub(crate) packet_bytes_max: Option<u32>,
    /// Topic Alias Maximum that it announces (5.0).
    pub(crate) alias_max: u16,
    pub(crate) state: State,
    pub(crate) link: Option<usize>,
    /// The link of its last CONNECT.
    pub(crate) last_link: Option<usize>,
    /// The session, if the client has one.
    pub(crate) epoch: Option<usize>,
    /// Filter → index into the log's subscriptions.
    pub(crate) filters: BTreeMap<String, usize>,
    /// Acknowledgements that it holds back for now.
    pub(crate) held: Vec<(QoS, PacketId)>,
    /// Requests may be refused, because the broker's disk may be full or fail.
    pub(crate) may_be_refused: bool,
    /// The broker's process has ended and kept nothing: the session ends with the connection.
    session_is_gone: bool,
    /// The last CONNECT asked for a clean session, and no CONNACK has answered it.
    asked_clean: bool,
    will: Option<usize>,
    /// That of the last CONNECT, its connection over or not: the one that the broker has recorded with the session.
    last_will: Option<usize>,
    buffer: Vec<u8>,
    out: Vec<Outgoing>,
    next_id: PacketId,
    subscribing: BTreeMap<PacketId, usize>,
    unsubscribing: BTreeMap<PacketId, usize>,
    /// QoS 1 and 2 messages received and not yet answered to the end: id → (publication, QoS).
    inbound: BTreeMap<PacketId, (usize, QoS)>,
    /// QoS 2 messages taken, waiting for PUBREL: over connections.
    taken: BTreeSet<PacketId>,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: BTreeMap<String, u16>,
    broker_receive_maximum: u16,
    broker_alias_max: u16,
    broker_qos_max: QoS,
}

impl Client {
    /// A client that has never connected.
    pub(crate) fn new(index: usize, id: String, version: Version, persistent: bool) -> Self {
        Self {
            index,
            id,
            version,
            persistent,
            receive_maximum: u16::MAX,
            packet_bytes_max: None,
            alias_max: 0,
            state: State::Down,
            link: None,
            last_link: None,
            epoch: None,
            filters: BTreeMap::new(),
            held: Vec::new(),
            may_be_refused: false,
            session_is_gone: false,
            asked_clean: false,
            will: None,
            last_will: None,
            buffer: Vec::new(),
            out: Vec::new(),
            next_id: PacketId::FIRST,
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            inbound: BTreeMap::new(),
            taken: BTreeSet::new(),
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            broker_receive_maximum: u16::MAX,
            broker_alias_max: 0,
            broker_qos_max: QoS::ExactlyOnce,
        }
    }

    /// Whether all that it sent is acknowledged and all that it received is answered. A weak broker may have forgotten what
    /// it sent.
    pub(crate) fn is_quiet(&self, is_weak: bool) -> bool {
        self.out.is_empty()
            && self.subscribing.is_empty()
            && self.unsubscribing.is_empty()
            && (is_weak || self.inbound.is_empty())
    }

    /// Whether a filter was asked for and granted.
    pub(crate) fn has_filter(&self, filter: &str, log: &Log) -> bool {
        self.filters.get(filter).is_some_and(|index| log.subscriptions[*index].acked_at.is_some())
    }

    /// Whether it may publish at this QoS now.
    pub(crate) fn may_publish(&self, qos: QoS) -> bool {
        let room = self.out.len() < usize::from(self.broker_receive_maximum.min(50));
        self.state == State::Up && qos <= self.broker_qos_max && (qos == QoS::AtMostOnce || room)
    }

    // ---- what the workload asks for

    /// Sends CONNECT over a fresh link. With `clean` the old session is given up.
    pub(crate) fn connect(&mut self, link: usize, clean: bool, will: Option<QoS>, log: &mut Log) -> Vec<u8> {
        self.link = Some(link);
        self.state = State::Connecting;
        self.buffer.clear();
        // What was asked and never answered is asked again.
        let clean = clean || self.asked_clean;
        self.asked_clean = clean;
        if clean || self.epoch.is_none() {
            self.begin_epoch(log);
        }
        let will = will.map(|qos| self.leave_will(qos, log));
        self.last_will = will.map(|(index, _)| index);
        let payload = will.map(|(index, _)| index.to_string()).unwrap_or_default();
        let topic = format!("will/{}", self.index);
        let v5 = self.version.is_v5();
        let packet = Packet::Connect(Connect {
            version: self.version,
            bridge: false,
            clean_start: clean || !self.persistent,
            keep_alive_seconds: KEEP_ALIVE_SECONDS,
            client_id: &self.id,
            will: will.map(|(_, qos)| Will {
                qos,
                retain: false,
                topic: &topic,
                payload: payload.as_bytes(),
                properties: WillProperties::default(),
            }),
            user_name: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval: (v5 && self.persistent).then_some(7_200),
                receive_maximum: if v5 { NonZeroU16::new(self.receive_maximum) } else { None },
                maximum_packet_size: if v5 { self.packet_bytes_max.and_then(NonZeroU32::new) } else { None },
                topic_alias_maximum: (v5 && self.alias_max > 0).then_some(self.alias_max),
                ..ConnectProperties::default()
            },
        });
        encoded(&packet, self.version)
    }

    /// Publishes a new message.
    pub(crate) fn publish(&mut self, message: &NewMessage, log: &mut Log) -> Vec<u8> {
        let sent_at = log.moment();
        let publication = log.publications.len();
        let payload = if message.clear {
            String::new()
        } else {
            format!("{publication} {}", "x".repeat(message.padding))
        };
        log.publications.push(Publication {
            publisher: self.index,
            topic: message.topic.clone(),
            qos: message.qos,
            retain: message.retain,
            sent_at,
            is_repeated: false,
            acked_at: None,
            payload_bytes: payload.len(),
            will: None,
        });
        if message.retain {
            let kept = (!message.clear).then_some(publication);
            log.retained.entry(message.topic.clone()).or_default().push((kept, publication));
        }
        let packet_id = (message.qos != QoS::AtMostOnce).then(|| {
            let packet_id = self.free_id();
            self.out.push(Outgoing { packet_id, publication, released: false });
            packet_id
        });
        let (alias, topic) = self.alias_for(&message.topic, message.alias);
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: &topic,
            packet_id,
            properties: PublishProperties { topic_alias: alias, ..PublishProperties::default() },
            payload: payload.as_bytes(),
        });
        encoded(&packet, self.version)
    }

    /// Subscribes to one filter.
    pub(crate) fn subscribe(&mut self, filter: &str, options: SubscriptionOptions, log: &mut Log) -> Vec<u8> {
        let options = if self.version.is_v5() { options } else { SubscriptionOptions::with_qos(options.qos) };
        let sent_at = log.moment();
        if let Some(&old) = self.filters.get(filter) {
            log.subscriptions[old].given_up_at.get_or_insert(sent_at);
        }
        let index = log.subscriptions.len();
        log.subscriptions.push(Subscribed {
            epoch: self.epoch.expect("subscribes only when connected"),
            filter: filter.to_owned(),
            qos: options.qos,
            options,
            sent_at,
            acked_at: None,
            given_up_at: None,
            gone_at: None,
        });
        self.filters.insert(filter.to_owned(), index);
        let packet_id = self.free_id();
        self.subscribing.insert(packet_id, index);
        let list = [Subscription { filter, options }];
        // Its place in the log is its Subscription Identifier, so that what comes back can be judged.
        let number = u32::try_from(index + 1).ok().filter(|_| self.version.is_v5());
        let packet = Packet::Subscribe(Subscribe {
            packet_id,
            properties: SubscribeProperties {
                subscription_identifier: number,
                ..SubscribeProperties::default()
            },
            subscriptions: Subscriptions::from_slice(&list),
        });
        encoded(&packet, self.version)
    }

    /// Gives up a filter.
    pub(crate) fn unsubscribe(&mut self, filter: &str, log: &mut Log) -> Vec<u8> {
        let Some(index) = self.filters.remove(filter) else { return Vec::new() };
        let moment = log.moment();
        log.subscriptions[index].given_up_at.get_or_insert(moment);
        let packet_id = self.free_id();
        self.unsubscribing.insert(packet_id, index);
        let list = [filter];
        let packet = Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user_properties: UserProperties::NONE,
            filters: TopicFilters::from_slice(&list),
        });
        encoded(&packet, self.version)
    }

    /// Sends PINGREQ.
    pub(crate) fn ping(&self) -> Vec<u8> {
        encoded(&Packet::PingReq, self.version)
    }

    /// Sends the acknowledgements that were held back.
    pub(crate) fn release_held(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (qos, packet_id) in std::mem::take(&mut self.held) {
            self.answer(qos, packet_id, &mut out);
        }
        out
    }

    /// Sends DISCONNECT; `with_will` asks for the Will (5.0).
    pub(crate) fn disconnect(&mut self, with_will: bool, log: &mut Log) -> Vec<u8> {
        let code = if with_will && self.version.is_v5() {
            ReasonCode::DisconnectWithWillMessage
        } else {
            self.settle_will(WillFate::Removed, log);
            ReasonCode::NORMAL_DISCONNECTION
        };
        encoded(&Packet::Disconnect(Disconnect { code, ..Disconnect::default() }), self.version)
    }

    /// The connection is gone, for whatever reason.
    pub(crate) fn lost(&mut self, log: &mut Log) {
        if self.state == State::Up {
            self.settle_will(WillFate::Due, log);
        }
        self.will = None;
        self.state = State::Down;
        self.link = None;
        self.buffer.clear();
        self.held.clear();
        self.subscribing.clear();
        self.unsubscribing.clear();
        self.aliases_in.clear();
        self.aliases_out.clear();
        self.inbound.retain(|_, (_, qos)| *qos == QoS::ExactlyOnce);
        let taken = &self.taken;
        self.inbound.retain(|id, _| taken.contains(id));
        if !self.persistent || self.session_is_gone {
            self.give_up_session(log);
        }
    }

    /// The broker's process has ended. What it did not say to this client may have come to pass or not.
    pub(crate) fn broker_fell(&mut self, fall: Fall, log: &mut Log) {
        if fall.forgets_sessions && self.epoch.is_some() {
            self.session_is_gone = true;
            if self.state == State::Down {
                self.give_up_session(log);
            }
        }
        // A CONNACK or an end may be on its way; what the client does from now on reaches nobody.
        let is_known =
            self.state == State::Up && (fall.is_graceful || (self.persistent && !fall.forgets_sessions));
        self.settle_will(if is_known { WillFate::Due } else { WillFate::Unknown }, log);
        for (index, publication) in log.publications.iter_mut().enumerate() {
            if publication.publisher != self.index {
                continue;
            }
            // A Will that waited for room was in memory only, unless it was the last of a session that is kept.
            let is_kept = self.persistent && !fall.forgets_sessions && self.last_will == Some(index);
            let is_open = match publication.will {
                // Whether DISCONNECT came in time and was recorded, nobody has said.
                Some(WillFate::Removed) => true,
                Some(WillFate::Due) => {
                    let forgets = !self.persistent || fall.forgets_sessions;
                    (!fall.is_graceful && forgets) || (fall.was_refusing && !is_kept)
                }
                Some(WillFate::Unknown) | None => false,
            };
            if is_open {
                publication.will = Some(WillFate::Unknown);
            }
        }
    }

    fn give_up_session(&mut self, log: &mut Log) {
        self.session_is_gone = false;
        if let Some(epoch) = self.epoch.take() {
            self.end_epoch(epoch, log);
        }
    }

    // ---- what the broker says

    /// Takes bytes; appends answers to `out`. `hold` keeps acknowledgements back. Returns `false` when the broker asked
    /// for the end of the connection.
    pub(crate) fn receive(&mut self, bytes: &[u8], hold: bool, out: &mut Vec<u8>, log: &mut Log) -> bool {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        let mut open = true;
        loop {
            match decoder::decode_one(&buffer[at..], self.version, &Limits::CLIENT) {
                Ok(Some((packet, used))) => {
                    let limit = self.packet_bytes_max.unwrap_or(u32::MAX) as usize;
                    if used > limit {
                        // [MQTT5-3.1.2-24]
                        log.violation(format!(
                            "{}: packet of {used} bytes over Maximum Packet Size {limit}",
                            self.id
                        ));
                    }
                    at += used;
                    open &= self.on_packet(&packet, hold, out, log);
                }
                Ok(None) => break,
                Err(error) => {
                    log.violation(format!("{}: the broker sent what is no packet: {error}", self.id));
                    return false;
                }
            }
        }
        self.buffer = buffer[at..].to_vec();
        open
    }

    fn on_packet(&mut self, packet: &Packet<'_>, hold: bool, out: &mut Vec<u8>, log: &mut Log) -> bool {
        if !matches!(packet, Packet::Publish(_)) {
            log.note(format!("{} reads {packet:?}", self.id));
        }
        match packet {
            Packet::ConnAck(connack) => self.on_connack(connack, out, log),
            Packet::Publish(publish) => {
                self.on_publish(publish, hold, out, log);
                true
            }
            Packet::PubAck(ack) => {
                self.finish(ack, log);
                true
            }
            Packet::PubRec(ack) => {
                self.on_pubrec(ack, out, log);
                true
            }
            Packet::PubRel(ack) => {
                self.taken.remove(&ack.packet_id);
                self.inbound.remove(&ack.packet_id);
                out.extend(encoded(&Packet::PubComp(Ack::success(ack.packet_id)), self.version));
                true
            }
            Packet::PubComp(ack) => {
                self.finish(ack, log);
                true
            }
            Packet::SubAck(suback) => {
                self.on_suback(suback.packet_id, suback.reason_codes().next(), log);
                true
            }
            Packet::UnsubAck(unsuback) => {
                let moment = log.moment();
                if let Some(index) = self.unsubscribing.remove(&unsuback.packet_id) {
                    log.subscriptions[index].gone_at = Some(moment);
                }
                true
            }
            Packet::PingResp => true,
            Packet::Disconnect(disconnect) => {
                log.note(format!("{} told to disconnect: {:?}", self.id, disconnect.code));
                let expected = matches!(
                    disconnect.code,
                    ReasonCode::SessionTakenOver
                        | ReasonCode::KeepAliveTimeout
                        | ReasonCode::AdministrativeAction
                        | ReasonCode::ServerShuttingDown
                );
                if !expected && !self.excuses(disconnect.code) {
                    log.complaint(format!("{}: told to disconnect with {:?}", self.id, disconnect.code));
                }
                false
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Auth(_) => {
                log.violation(format!("{}: the broker sent {:?}", self.id, packet.packet_type()));
                true
            }
        }
    }

    fn on_connack(&mut self, connack: &ConnAck<'_>, out: &mut Vec<u8>, log: &mut Log) -> bool {
        if connack.code != ReasonCode::Success {
            if !self.excuses(connack.code) {
                log.violation(format!("{}: refused with {:?}", self.id, connack.code));
            }
            return false;
        }
        if self.asked_clean && connack.session_present {
            // [MQTT5-3.2.2-2] [MQTT311-3.2.2-1]
            log.violation(format!("{}: a clean start, and a session is present", self.id));
        }
        self.asked_clean = false;
        self.state = State::Up;
        let properties = &connack.properties;
        self.broker_receive_maximum = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        self.broker_alias_max = properties.topic_alias_maximum.unwrap_or(0);
        self.broker_qos_max = properties.maximum_qos.unwrap_or(QoS::ExactlyOnce);
        let expected = self.expects_session(log);
        // 3.1 has no Session Present: its clients trust that the session they ask for is there.
        let present = connack.session_present || self.version == Version::V31;
        if expected && !present {
            if !self.was_kicked(log) {
                log.complaint(format!("{}: its session is lost", self.id));
            }
            self.begin_epoch(log);
        }
        let now = log.moment();
        if let Some(epoch) = self.epoch {
            log.epochs[epoch].begun_at.get_or_insert(now);
        }
        if !present {
            // The broker knows nothing: what was on the way is sent anew by a careful client; this one gives it up.
            self.out.clear();
            self.taken.clear();
            self.inbound.clear();
        }
        self.resend(out, log);
        true
    }

    /// Whether the broker has promised to keep this session.
    fn expects_session(&self, log: &Log) -> bool {
        self.persistent && self.epoch.is_some_and(|epoch| log.epochs[epoch].begun_at.is_some())
    }

    /// The operator discards the session and ends the connection, as soon as the broker hears of it: nothing is promised for this
    /// session any more.
    pub(crate) fn be_kicked(&self, log: &mut Log) {
        if let Some(epoch) = self.epoch {
            log.epochs[epoch].ended = true;
        }
    }

    /// Whether the session that the client has is one that the operator discards.
    fn was_kicked(&self, log: &Log) -> bool {
        self.epoch.is_some_and(|epoch| log.epochs[epoch].ended)
    }

    /// Whether a refusal is what may happen in this run.
    fn excuses(&self, code: ReasonCode) -> bool {
        let stops = matches!(code, ReasonCode::ServerUnavailable | ReasonCode::ServerShuttingDown);
        let no_room = matches!(
            code,
            ReasonCode::QuotaExceeded
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::UnspecifiedError
        );
        stops || (self.may_be_refused && no_room)
    }

    fn resend(&self, out: &mut Vec<u8>, log: &mut Log) {
        for outgoing in &self.out {
            if outgoing.released {
                out.extend(encoded(&Packet::PubRel(Ack::success(outgoing.packet_id)), self.version));
                continue;
            }
            let publication = &mut log.publications[outgoing.publication];
            publication.is_repeated = true;
            let padding =
                publication.payload_bytes.saturating_sub(format!("{} ", outgoing.publication).len());
            let payload = if publication.payload_bytes == 0 {
                String::new()
            } else {
                format!("{} {}", outgoing.publication, "x".repeat(padding))
            };
            let packet = Packet::Publish(Publish {
                dup: true,
                qos: publication.qos,
                retain: publication.retain,
                topic: &publication.topic,
                packet_id: Some(outgoing.packet_id),
                properties: PublishProperties::default(),
                payload: payload.as_bytes(),
            });
            out.extend(encoded(&packet, self.version));
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>, hold: bool, out: &mut Vec<u8>, log: &mut Log) {
        let Some(topic) = self.topic_of(publish, log) else { return };
        if publish.payload.is_empty() {
            // A retained message that clears; carries no index. Only its acknowledgement matters.
            if let Some(packet_id) = publish.packet_id {
                self.take_id(packet_id, usize::MAX, publish, log);
                self.answer(publish.qos, packet_id, out);
            }
            return;
        }
        let text = std::str::from_utf8(publish.payload).unwrap_or("");
        let index = text.split(' ').next().and_then(|number| number.parse::<usize>().ok());
        let Some(index) = index.filter(|index| *index < log.publications.len()) else {
            log.violation(format!("{}: payload {text:?} was never published", self.id));
            return;
        };
        if log.publications[index].topic != topic
            || log.publications[index].payload_bytes != publish.payload.len()
        {
            log.violation(format!("{}: message {index} came damaged on {topic}", self.id));
        }
        let fresh = publish.packet_id.is_none_or(|packet_id| self.take_id(packet_id, index, publish, log));
        if fresh {
            let at = log.moment();
            let epoch = self.epoch.expect("connected");
            log.note(format!("{} gets message {index} {:?}", self.id, publish.packet_id));
            log.receipts.push(Receipt {
                epoch,
                publication: index,
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup,
                subscription_ids: publish.properties.subscription_ids.iter().collect(),
                at,
            });
        }
        if let Some(packet_id) = publish.packet_id {
            if hold {
                self.held.push((publish.qos, packet_id));
            } else {
                self.answer(publish.qos, packet_id, out);
            }
        }
    }

    /// The topic of a PUBLISH, aliases resolved.
    fn topic_of(&mut self, publish: &Publish<'_>, log: &mut Log) -> Option<String> {
        let Some(alias) = publish.properties.topic_alias else { return Some(publish.topic.to_owned()) };
        // [MQTT5-3.3.2-10]: not above what this client announced.
        if alias.get() > self.alias_max {
            log.violation(format!("{}: topic alias {alias} above {}", self.id, self.alias_max));
        }
        if !publish.topic.is_empty() {
            self.aliases_in.insert(alias.get(), publish.topic.to_owned());
        }
        let topic = self.aliases_in.get(&alias.get()).cloned();
        if topic.is_none() {
            log.violation(format!("{}: topic alias {alias} stands for nothing", self.id));
        }
        topic
    }

    /// Checks the packet identifier of a delivery; `true` if the message is to be taken.
    fn take_id(&mut self, packet_id: PacketId, index: usize, publish: &Publish<'_>, log: &mut Log) -> bool {
        if log.is_weak() {
            // What the broker has forgotten it begins anew.
            self.inbound.insert(packet_id, (index, publish.qos));
            return publish.qos != QoS::ExactlyOnce || self.taken.insert(packet_id) || !publish.dup;
        }
        if self.taken.contains(&packet_id) {
            if !publish.dup || self.inbound.get(&packet_id).is_some_and(|(old, _)| *old != index) {
                // [MQTT5-2.2.1-4]
                log.violation(format!("{}: packet id {packet_id:?} used again before PUBCOMP", self.id));
            }
            return false;
        }
        if self.inbound.insert(packet_id, (index, publish.qos)).is_some() {
            log.violation(format!("{}: packet id {packet_id:?} used again while in flight", self.id));
        }
        // [MQTT5-3.3.4-9]: never more than Receive Maximum unacknowledged.
        if self.inbound.len() > usize::from(self.receive_maximum) {
            log.violation(format!(
                "{}: {} in flight, Receive Maximum {}",
                self.id,
                self.inbound.len(),
                self.receive_maximum
            ));
        }
        if publish.qos == QoS::ExactlyOnce {
            self.taken.insert(packet_id);
        }
        true
    }

    fn answer(&mut self, qos: QoS, packet_id: PacketId, out: &mut Vec<u8>) {
        let packet = if qos == QoS::ExactlyOnce {
            Packet::PubRec(Ack::success(packet_id))
        } else {
            self.inbound.remove(&packet_id);
            Packet::PubAck(Ack::success(packet_id))
        };
        out.extend(encoded(&packet, self.version));
    }

    fn on_pubrec(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>, log: &mut Log) {
        if ack.code.is_error() {
            if !self.excuses(ack.code) {
                log.violation(format!("{}: PUBREC {:?}", self.id, ack.code));
            }
            self.out.retain(|outgoing| outgoing.packet_id != ack.packet_id);
            return;
        }
        for outgoing in self.out.iter_mut().filter(|outgoing| outgoing.packet_id == ack.packet_id) {
            outgoing.released = true;
        }
        out.extend(encoded(&Packet::PubRel(Ack::success(ack.packet_id)), self.version));
    }

    fn finish(&mut self, ack: &Ack<'_>, log: &mut Log) {
        let at = log.moment();
        let Some(position) = self.out.iter().position(|outgoing| outgoing.packet_id == ack.packet_id) else {
            log.violation(format!(
                "{}: acknowledgement of {:?}, which is not on its way",
                self.id, ack.packet_id
            ));
            return;
        };
        let outgoing = self.out.remove(position);
        // A PUBREL that is sent again after its PUBCOMP was lost: the exchange is over (§MQTT5 3.7.2.1).
        let over = outgoing.released && ack.code == ReasonCode::PacketIdentifierNotFound;
        if ack.code.is_error() && !over {
            if !self.excuses(ack.code) {
                log.violation(format!(
                    "{}: message {} refused with {:?}",
                    self.id, outgoing.publication, ack.code
                ));
            }
        } else {
            log.publications[outgoing.publication].acked_at = Some(at);
        }
    }

    fn on_suback(&mut self, packet_id: PacketId, code: Option<ReasonCode>, log: &mut Log) {
        let at = log.moment();
        let Some(index) = self.subscribing.remove(&packet_id) else {
            log.violation(format!("{}: SUBACK for {packet_id:?}, which was not asked", self.id));
            return;
        };
        match code {
            Some(code) if !code.is_error() => {
                let granted = QoS::from_u8(code.as_u8()).unwrap_or(QoS::AtMostOnce);
                let subscribed = &mut log.subscriptions[index];
                subscribed.qos = subscribed.qos.min(granted);
                subscribed.acked_at = Some(at);
            }
            Some(code) if self.excuses(code) => {}
            other => log.violation(format!("{}: SUBACK {other:?}", self.id)),
        }
    }

    // ---- own state

    fn begin_epoch(&mut self, log: &mut Log) {
        if let Some(epoch) = self.epoch.take() {
            self.end_epoch(epoch, log);
        }
        self.epoch = Some(log.epochs.len());
        let asked_at = log.moment();
        log.epochs.push(Epoch {
            client: self.index,
            persistent: self.persistent,
            asked_at,
            begun_at: None,
            is_v5: self.version.is_v5(),
            ended: false,
            packet_bytes_max: self.packet_bytes_max.unwrap_or(u32::MAX) as usize,
        });
    }

    fn end_epoch(&mut self, epoch: usize, log: &mut Log) {
        log.epochs[epoch].ended = true;
        self.filters.clear();
        self.out.clear();
        self.inbound.clear();
        self.taken.clear();
        self.held.clear();
        self.subscribing.clear();
        self.unsubscribing.clear();
    }

    fn leave_will(&mut self, qos: QoS, log: &mut Log) -> (usize, QoS) {
        let index = log.publications.len();
        let sent_at = log.moment();
        log.publications.push(Publication {
            publisher: self.index,
            topic: format!("will/{}", self.index),
            qos,
            retain: false,
            sent_at,
            is_repeated: false,
            acked_at: None,
            payload_bytes: index.to_string().len(),
            will: Some(WillFate::Unknown),
        });
        self.will = Some(index);
        (index, qos)
    }

    fn settle_will(&mut self, fate: WillFate, log: &mut Log) {
        if let Some(index) = self.will.take() {
            log.publications[index].will = Some(fate);
        }
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            let id = self.next_id;
            self.next_id = id.next();
            let used = self.out.iter().any(|outgoing| outgoing.packet_id == id)
                || self.subscribing.contains_key(&id)
                || self.unsubscribing.contains_key(&id);
            if !used {
                return id;
            }
        }
    }

    /// Uses or makes a topic alias towards the broker.
    fn alias_for(&mut self, topic: &str, wanted: bool) -> (Option<NonZeroU16>, String) {
        if !wanted || self.broker_alias_max == 0 {
            return (None, topic.to_owned());
        }
        if let Some(&alias) = self.aliases_out.get(topic) {
            return (NonZeroU16::new(alias), String::new());
        }
        let next = u16::try_from(self.aliases_out.len() + 1).unwrap_or(u16::MAX);
        if next > self.broker_alias_max {
            return (None, topic.to_owned());
        }
        self.aliases_out.insert(topic.to_owned(), next);
        (NonZeroU16::new(next), topic.to_owned())
    }
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// A retained message with an empty payload.
    pub(crate) clear: bool,
    /// Use a topic alias if the broker takes one.
    pub(crate) alias: bool,
    /// Bytes beyond the index.
    pub(crate) padding: usize,
}

/// The packet's bytes.
fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("the model builds only packets that its version has");
    bytes
}

/// Keep Alive of all clients.
pub(crate) const KEEP_ALIVE_SECONDS: u16 = 20;

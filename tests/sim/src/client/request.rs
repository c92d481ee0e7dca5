//! What the client sends because the workload wants it.

use std::num::{NonZeroU16, NonZeroU32};

use dunlin_wire::packet::{
    Connect, ConnectProperties, Disconnect, Packet, Publish, PublishProperties, Subscribe,
    SubscribeProperties, Subscription, Subscriptions, TopicFilters, Unsubscribe, UserProperties, Will,
    WillProperties,
};
use dunlin_wire::{QoS, ReasonCode, SubscriptionOptions};

use super::{Client, KEEP_ALIVE_SECONDS, NewMessage, Outgoing, State, encoded};
use crate::log::{Log, Publication, Subscribed, WillFate};

impl Client {
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
            is_repeated_anew: false,
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

    /// Uses or makes a topic alias towards the broker.
    pub(super) fn alias_for(&mut self, topic: &str, wanted: bool) -> (Option<NonZeroU16>, String) {
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

//! The first packets of a connection: CONNECT and SUBSCRIBE as the plan wants them.

use std::num::NonZeroU16;

use dunlin_wire::packet::{Connect, ConnectProperties, Subscription, Will, WillProperties};
use dunlin_wire::{QoS, SubscriptionOptions, Version};

use super::cast::{Cast, GroupCast, MemberId};
use super::interests::Interest;
use super::ledger::{Kind, NewRoute, RouteId};
use super::payload::Body;
use super::postmark::Postmark;
use super::{Flag, Fleet, sparkplug};
use crate::clock::{Nanos, SECOND_NS};
use crate::engine::Outbox;
use crate::plan::Group;

/// A will as it is written into CONNECT.
struct Testament {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    delay_seconds: u32,
}

impl Fleet<'_> {
    /// Writes CONNECT.
    pub(super) fn greet(&mut self, member: MemberId, now: Nanos, outbox: &mut Outbox) {
        let group = self.group(member);
        let plan = group.plan;
        let client_id = self.cast.client_id(group, member);
        let testament = self.testament(group, member, &client_id, now);
        let token = self.token(group, member, &client_id, now);
        let text = |template: &Option<crate::plan::Template>| {
            let template = template.as_ref()?;
            let mut dice = self.cast.own_dice(member);
            let mut scope = self.cast.scope(group, member, &client_id, &mut dice);
            scope.time_ms = self.time_ms(now);
            scope.jwt = &token;
            Some(template.text(&mut scope))
        };
        let (user_name, password) = (text(&plan.username), text(&plan.password));
        let v5 = plan.protocol == Version::V5;
        let mut properties = ConnectProperties::default();
        if v5 {
            let expiry = plan.session_expiry_seconds();
            properties.session_expiry_interval = (expiry > 0).then_some(expiry);
            properties.receive_maximum =
                NonZeroU16::new(plan.receive_maximum).filter(|maximum| maximum.get() < u16::MAX);
        }
        let connect = Connect {
            version: plan.protocol,
            bridge: false,
            clean_start: self.is_clean(plan, member),
            keep_alive_seconds: plan.keep_alive_seconds(),
            client_id: &client_id,
            will: testament.as_ref().map(|will| will.packet(v5)),
            user_name: user_name.as_deref(),
            password: password.as_deref().map(str::as_bytes),
            properties,
        };
        let conn = self.conn(member);
        let written = self.clients[member.index()].greet(&connect, outbox.buffer(conn));
        if let Err(error) = written {
            let name = self.cast.name(member);
            self.recorder.fail("CONNECT can't be written", format_args!("{name}: {error}"));
            self.unhurry(member);
            self.member_mut(member).phase = super::Phase::Lost;
            outbox.close(conn);
        }
    }

    /// A token for one connection, if the group has any.
    fn token(&mut self, group: GroupCast<'_>, member: MemberId, client_id: &str, now: Nanos) -> String {
        let Some(jwt) = &group.plan.jwt else { return String::new() };
        let mut dice = self.cast.own_dice(member);
        let mut scope = self.cast.scope(group, member, client_id, &mut dice);
        scope.time_ms = self.time_ms(now);
        jwt.mint(&mut scope).unwrap_or_else(|why| {
            let name = self.cast.name(member);
            self.recorder.fail("a token can't be minted", format_args!("{name}: {why}"));
            String::new()
        })
    }

    /// Whether a client asks for a new session with its next CONNECT.
    pub(super) fn is_clean(&self, plan: &Group, member: MemberId) -> bool {
        let first = !self.has(member, Flag::Subscribed) && !self.has(member, Flag::Session);
        if plan.protocol == Version::V5 && Cast::keeps_session(plan) {
            return plan.clean_start && first;
        }
        plan.clean_start
    }

    /// Writes SUBSCRIBE for all that a client wants; returns how many packets that took.
    pub(super) fn subscribe(&mut self, member: MemberId, outbox: &mut Outbox) -> u16 {
        let group = self.group(member);
        let v5 = group.plan.protocol == Version::V5;
        let mut filters = Vec::new();
        for (subscription, entry) in group.plan.subscribe.iter().zip(0..) {
            let mut options = SubscriptionOptions::with_qos(subscription.qos);
            if v5 {
                options.no_local = subscription.no_local;
                options.retain_as_published = subscription.retain_as_published;
                options.retain_handling = subscription.retain_handling;
            }
            for n in 0..subscription.repeat {
                let mut filter = String::new();
                let interest = Interest { group: group.number, entry, n, member: Some(member) };
                self.cast.filter(member, interest, &mut filter);
                filters.push((filter, options));
            }
        }
        let conn = self.conn(member);
        let mut packets = 0;
        for chunk in filters.chunks(FILTERS_PER_PACKET) {
            let list: Vec<_> =
                chunk.iter().map(|(filter, options)| Subscription { filter, options: *options }).collect();
            let written = self.clients[member.index()].subscribe_to(&list, None, outbox.buffer(conn));
            match written {
                Ok(()) => packets += 1,
                Err(error) => {
                    let name = self.cast.name(member);
                    self.recorder.fail("SUBSCRIBE can't be written", format_args!("{name}: {error}"));
                }
            }
        }
        packets
    }

    /// What a client leaves behind; its stamp says for which of its connections.
    fn testament(
        &mut self,
        group: GroupCast<'_>,
        member: MemberId,
        client_id: &str,
        now: Nanos,
    ) -> Option<Testament> {
        let mut dice = self.cast.own_dice(member);
        let mut scope = self.cast.scope(group, member, client_id, &mut dice);
        let mut payload = Vec::new();
        let (topic, place, qos, retain, delay) = if let Some(sparkplug) = &group.plan.sparkplug {
            let life = u64::from(self.members[member.index()].life);
            let topic = sparkplug::topic(sparkplug, "NDEATH", None, &mut scope);
            let place = sparkplug::death(life, &mut payload);
            (topic, place, QoS::AtLeastOnce, false, 0)
        } else {
            let will = group.plan.will.as_ref()?;
            let topic = will.topic.text(&mut scope);
            let place = Body::of(&will.payload).render(&mut scope, &mut payload);
            (topic, place, will.qos, will.retain, will.delay.ns() / SECOND_NS)
        };
        let route = self.will_route(group, member, &topic, qos, retain);
        let sequence = self.ledger.route(route).map_or(0, |route| route.sent);
        let mark = Postmark { run: self.run, route, sequence, ticket: 0, intended: now, written: now };
        mark.seal(&mut payload, place, &mut self.scratch);
        let delay_seconds = u32::try_from(delay).unwrap_or(u32::MAX);
        Some(Testament { topic, payload, qos, retain, delay_seconds })
    }

    fn will_route(
        &mut self,
        group: GroupCast<'_>,
        member: MemberId,
        topic: &str,
        qos: QoS,
        retain: bool,
    ) -> RouteId {
        let place = (member.0 - group.first) as usize;
        let known = self.teams[usize::from(group.number)].wills.get(place).copied();
        if let Some(route) = known.filter(|route| *route != NO_ROUTE) {
            return RouteId(route);
        }
        let topic_hash = super::interests::hash_text(topic.as_bytes());
        let new = NewRoute {
            publisher: member,
            entry: u16::MAX,
            kind: Kind::Will,
            topic_hash,
            qos,
            retain,
            unchecked: self.is_indulged(self.cast.group_of(member)),
            fleeting: false,
        };
        let route = self.add_route(new, topic, false);
        let team = &mut self.teams[usize::from(group.number)];
        if team.wills.is_empty() {
            team.wills = vec![NO_ROUTE; group.count as usize];
        }
        team.wills[place] = route.0;
        route
    }

    /// The route of a client's will, if it has one.
    pub(super) fn will_of(&self, member: MemberId) -> Option<RouteId> {
        let group = self.cast.group_of(member);
        let wills = &self.teams[usize::from(group.number)].wills;
        let route = wills.get((member.0 - group.first) as usize).copied()?;
        (route != NO_ROUTE).then_some(RouteId(route))
    }

    /// The time for `{time}`.
    pub(super) const fn time_ms(&self, now: Nanos) -> u64 {
        self.unix_ms + now.0 / 1_000_000
    }
}

impl Testament {
    fn packet(&self, v5: bool) -> Will<'_> {
        let mut properties = WillProperties::default();
        if v5 && self.delay_seconds > 0 {
            properties.will_delay_interval = Some(self.delay_seconds);
        }
        Will { qos: self.qos, retain: self.retain, topic: &self.topic, payload: &self.payload, properties }
    }
}

const NO_ROUTE: u32 = u32::MAX;
/// Filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;

//! Shared subscriptions: members join and leave at the home of their group; the home chooses who gets a message.

use std::num::NonZeroU64;

use dunlin_persist::Record;
use dunlin_wire::topic::FilterKind;
use dunlin_wire::types::{QoS, SubscriptionOptions};

use super::delivery::{Delivery, Terms};
use super::publication::Publication;
use super::remote::{Question, Waiter};
use super::special::Special;
use crate::action::{Action, Actions};
use crate::core::ShardCore;
use crate::durable::Owed;
use crate::home;
use crate::ids::{SessionId, ShardId, Token};
use crate::mesh::{
    GroupJoin, GroupKey, GroupLeave, GroupPresence, GroupReturn, MemberDelivery, MeshMessage, Wanted,
};
use crate::message::Message;
use crate::metrics::Counter;
use crate::topics::{GroupId, HashKey, Member, MemberId, PickContext, Subscriber, Target};

impl ShardCore {
    /// Joins a session to a group, or changes its options there. If the home is another shard, the question that it will
    /// answer.
    pub(super) fn join_group(
        &mut self,
        session: SessionId,
        names: (&str, &str),
        written: &str,
        terms: (SubscriptionOptions, u32),
        actions: &mut Actions,
    ) -> Option<Token> {
        self.join_group_as(session, names, written, (terms.0, terms.1, true), actions)
    }

    /// As [`Self::join_group`], for a session that may be without a connection: the last of the terms.
    pub(crate) fn join_group_as(
        &mut self,
        session: SessionId,
        (group, filter): (&str, &str),
        written: &str,
        (options, subscription_id, is_connected): (SubscriptionOptions, u32, bool),
        actions: &mut Actions,
    ) -> Option<Token> {
        let key = group_key(self.routing.key, group, filter);
        self.routing.specials.insert(
            session.index,
            written,
            Special::Shared { key, options, subscription_id },
        );
        let home = self.group_home(key);
        if home == self.shard {
            let member = Member { id: self.member(session), options, subscription_id };
            self.join_here(group, filter, member, is_connected);
            return None;
        }
        let token = self.routing.questions.ask(Question::Join { subscribing: None });
        let join = GroupJoin {
            token,
            group: group.into(),
            filter: filter.into(),
            session,
            options,
            subscription_id,
            is_connected,
        };
        actions.list.push(Action::Mesh { to: home, message: MeshMessage::GroupJoin(Box::new(join)) });
        Some(token)
    }

    fn join_here(&mut self, group: &str, filter: &str, member: Member, is_connected: bool) {
        let joined = self.routing.groups.join(group, filter, member, is_connected);
        if joined.first_of_group
            && self.routing.index.subscribe(filter, Subscriber::group(joined.group)).first_of_filter
        {
            self.note_interest(filter, Wanted::Yes);
        }
    }

    /// A session of another shard joins a group whose home is here; answered when all shards know of the filter.
    pub(super) fn on_group_join(&mut self, from: ShardId, join: &GroupJoin, actions: &mut Actions) {
        let id = MemberId { shard: from, session: join.session };
        let member = Member { id, options: join.options, subscription_id: join.subscription_id };
        self.join_here(&join.group, &join.filter, member, join.is_connected);
        self.announce(actions);
        if self.routing.announcements.is_settled() {
            let message = MeshMessage::GroupJoined { token: join.token };
            actions.list.push(Action::Mesh { to: from, message });
        } else {
            self.routing.announcements.wait(Waiter::Join { from, token: join.token });
        }
    }

    /// A session leaves the group that it joined with this filter.
    pub(super) fn leave_group(&mut self, session: SessionId, written: &str, actions: &mut Actions) {
        let Ok(FilterKind::Shared { group, filter }) = FilterKind::parse(written) else { return };
        let home = self.group_home(group_key(self.routing.key, group, filter));
        if home == self.shard {
            let member = self.member(session);
            self.leave_here(group, filter, member);
            return;
        }
        let leave = GroupLeave { group: group.into(), filter: filter.into(), session };
        actions.list.push(Action::Mesh { to: home, message: MeshMessage::GroupLeave(Box::new(leave)) });
    }

    /// Takes a member out of a group whose home is here. The caller announces.
    pub(super) fn leave_here(&mut self, group: &str, filter: &str, member: MemberId) {
        let routing = &mut self.routing;
        let Some(id) = routing.groups.lookup(group, filter) else { return };
        let Some(left) = routing.groups.leave(id, member) else { return };
        if !left.last_of_group {
            return;
        }
        let gone =
            routing.index.lookup(filter).and_then(|at| routing.index.unsubscribe(at, Target::Group(id)));
        if gone.is_some_and(|gone| gone.last_of_filter) {
            self.note_interest(filter, Wanted::No);
        }
    }

    /// Tells the homes of a session's groups that its connection came or went.
    pub(super) fn tell_presence(&mut self, session: SessionId, is_connected: bool, actions: &mut Actions) {
        if self.routing.specials.count_of(session.index) == 0 {
            return;
        }
        let shared: Vec<(Box<str>, GroupKey)> = self
            .routing
            .specials
            .of(session.index)
            .filter_map(|(written, special)| match special {
                Special::Shared { key, .. } => Some((written.into(), *key)),
                Special::Exclusive { .. } => None,
            })
            .collect();
        for (written, key) in shared {
            let Ok(FilterKind::Shared { group, filter }) = FilterKind::parse(&written) else { continue };
            let home = self.group_home(key);
            if home == self.shard {
                let member = self.member(session);
                self.set_presence(group, filter, member, is_connected);
            } else {
                let presence =
                    GroupPresence { group: group.into(), filter: filter.into(), session, is_connected };
                let message = MeshMessage::GroupPresence(Box::new(presence));
                actions.list.push(Action::Mesh { to: home, message });
            }
        }
    }

    /// Notes at the home that a member's connection came or went.
    pub(super) fn set_presence(&mut self, group: &str, filter: &str, member: MemberId, is_connected: bool) {
        let groups = &mut self.routing.groups;
        if let Some(group) = groups.lookup(group, filter).and_then(|id| groups.group_mut(id)) {
            group.set_connected(member, is_connected);
        }
    }

    /// Gives a message to one member of a group whose home is here, `tried` ones passed over.
    pub(super) fn deliver_to_group(
        &mut self,
        id: GroupId,
        publication: &mut Publication<'_>,
        from: ShardId,
        tried: &[MemberId],
        actions: &mut Actions,
    ) {
        let view = *publication.view();
        let hash = self.routing.key;
        let context = PickContext {
            strategy: self.configs.current().shared_subscription_strategy,
            publisher_hash: hash.hash(view.publisher.as_bytes()),
            topic_hash: hash.hash(view.topic.as_bytes()),
            local: from,
            random: self.random.next_u64(),
        };
        let Some((group, filter)) = self.routing.groups.name(id) else { return };
        let key = group_key(hash, group, filter);
        let Some(group) = self.routing.groups.group_mut(id) else { return };
        // When nobody else is there, the one that was tried gets it back: it waits in its session.
        let Some(member) = group.pick(&context, tried).or_else(|| group.pick(&context, &[])) else {
            self.metrics.count(Counter::DeliveryDropped);
            return;
        };
        let delivery = MemberDelivery {
            session: member.id.session,
            group: key,
            group_id: id,
            options: member.options,
            subscription_id: member.subscription_id,
            asked: None,
            message: publication.keep(),
        };
        if member.id.shard == self.shard {
            self.deliver_to_member(self.shard, delivery, publication, actions);
        } else {
            let message = || MeshMessage::DeliverTo(Box::new(delivery));
            self.send_weighed(member.id.shard, view.qos, message, actions);
        }
    }

    /// Gives a message to a session that its group's home `from` has chosen. [MQTT5-4.8.2-3]
    pub(super) fn deliver_to_member(
        &mut self,
        from: ShardId,
        delivery: MemberDelivery,
        publication: &mut Publication<'_>,
        actions: &mut Actions,
    ) {
        let is_member = self.sessions.get(delivery.session).is_some()
            && (from == self.shard
                || self.routing.specials.membership(delivery.session.index, delivery.group).is_some());
        if !is_member {
            // It left meanwhile, which the home will hear before this comes back. [MQTT5-3.10.4-2]
            if from == self.shard {
                self.metrics.count(Counter::DeliveryDroppedSessionEnded);
            } else {
                let back = || MeshMessage::DeliverBack(Box::new(delivery));
                self.send_weighed(from, QoS::AtLeastOnce, back, actions);
            }
            return;
        }
        let mut rules = self.delivery_rules();
        let id = [delivery.subscription_id];
        let terms = Terms {
            qos: rules.qos(publication.view().qos, delivery.options.qos),
            retain: publication.view().retain && delivery.options.retain_as_published,
            ids: if delivery.subscription_id == 0 { &[] } else { &id },
            group: Some(delivery.group),
        };
        self.deliver(delivery.session.index, &terms, publication, &mut rules, actions);
        self.count_tally(rules.tally);
    }

    /// A member was gone when a message came for it: another one gets it.
    pub(super) fn on_deliver_back(&mut self, from: ShardId, back: &MemberDelivery, actions: &mut Actions) {
        let name = self.routing.groups.name(back.group_id);
        let is_same =
            name.is_some_and(|(group, filter)| group_key(self.routing.key, group, filter) == back.group);
        if !is_same {
            // The group ended with its last member.
            self.metrics.count(Counter::DeliveryDroppedSessionEnded);
            return;
        }
        self.metrics.count(Counter::DeliveryRedispatched);
        let tried = [MemberId { shard: from, session: back.session }];
        let mut publication = Publication::of_message(&back.message, self.now.wall);
        self.begin_promise();
        self.deliver_to_group(back.group_id, &mut publication, from, &tried, actions);
        if self.durable.is_on() {
            self.finish_taking(publication.view(), actions);
            let promise = self.take_promise();
            if let Some(asked) = back.asked {
                self.extend_promises(asked, &promise);
            }
        }
    }

    /// A message that was meant for a session of this shard goes back to its group, if the session is still a member.
    pub(super) fn return_to_group(&mut self, session: SessionId, delivery: &Delivery, actions: &mut Actions) {
        let membership =
            delivery.group().and_then(|group| self.routing.specials.membership(session.index, group));
        let Some(written) = membership.map(Box::<str>::from) else {
            let rules = self.delivery_rules();
            self.enqueue(session.index, delivery.clone(), &rules, actions);
            return;
        };
        self.return_stored(session, &written, delivery, actions);
    }

    /// Brings a message back to the home of its group. If it is stored here, it is kept until another member has it.
    pub(crate) fn return_stored(
        &mut self,
        session: SessionId,
        written: &str,
        delivery: &Delivery,
        actions: &mut Actions,
    ) {
        self.metrics.count(Counter::DeliveryRedispatched);
        let number = self.number_of(session.index);
        let (Some(message), Some(session_no)) = (delivery.id(), number) else {
            self.return_message(session, written, delivery.message.clone(), actions);
            return;
        };
        self.begin_promise();
        self.return_message(session, written, delivery.message.clone(), actions);
        let promise = self.take_promise().of_other_shards();
        let done = Record::Done { session: session_no, messages: vec![message] };
        self.answer(Owed::Record(Box::new(done)), promise, actions);
    }

    /// Brings a message back to the home of a group.
    pub(crate) fn return_message(
        &mut self,
        session: SessionId,
        written: &str,
        message: Message,
        actions: &mut Actions,
    ) {
        let Ok(FilterKind::Shared { group, filter }) = FilterKind::parse(written) else { return };
        let home = self.group_home(group_key(self.routing.key, group, filter));
        if home == self.shard {
            let member = self.member(session);
            self.redeliver(group, filter, member, &message, actions);
            return;
        }
        let returned = GroupReturn { group: group.into(), filter: filter.into(), session, message };
        let message = || MeshMessage::GroupReturn(Box::new(returned));
        self.send_weighed(home, QoS::AtLeastOnce, message, actions);
    }

    /// Gives a message that came back to another member.
    pub(super) fn redeliver(
        &mut self,
        group: &str,
        filter: &str,
        member: MemberId,
        message: &Message,
        actions: &mut Actions,
    ) {
        let Some(id) = self.routing.groups.lookup(group, filter) else {
            self.metrics.count(Counter::DeliveryDroppedSessionEnded);
            return;
        };
        let mut publication = Publication::of_message(message, self.now.wall);
        self.deliver_to_group(id, &mut publication, member.shard, &[member], actions);
        if self.durable.is_on() {
            self.finish_taking(publication.view(), actions);
        }
    }

    /// The group that a subscription as it was written is a membership of.
    pub(crate) fn group_of(&self, written: &str) -> Option<GroupKey> {
        match FilterKind::parse(written) {
            Ok(FilterKind::Shared { group, filter }) => Some(group_key(self.routing.key, group, filter)),
            Ok(FilterKind::Plain | FilterKind::Exclusive { .. }) | Err(_) => None,
        }
    }

    /// The home of a group: as predictable as its key, which is seeded.
    fn group_home(&self, key: GroupKey) -> ShardId {
        home::shard_of_hash(key.0.get(), self.shard_count)
    }
}

/// Names a group.
fn group_key(key: HashKey, group: &str, filter: &str) -> GroupKey {
    let both = key.hash(group.as_bytes()) ^ key.hash(filter.as_bytes()).rotate_left(32);
    GroupKey(NonZeroU64::new(key.mix(both)).unwrap_or(NonZeroU64::MIN))
}

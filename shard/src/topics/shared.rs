//! Shared subscriptions: groups of sessions of which one gets each message (§MQTT5 4.8.2).
//!
//! The strategies mean what they mean in EMQX. A group lives on its home shard and knows the members of all shards. Pure:
//! randomness is a number handed in.

use std::collections::BTreeMap;

use dunlin_wire::types::SubscriptionOptions;

use super::hash::HashKey;
use super::shapes::fingerprint;
use super::table::FingerTable;
use crate::config::SharedStrategy;
use crate::ids::{SessionId, ShardId};
use crate::slab::Slab;

/// A shared group of one shard: share name and filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// Names a member: a session and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// The session's home shard.
    pub shard: ShardId,
    /// The session there.
    pub session: SessionId,
}

/// One session in a group. 24 B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which session.
    pub id: MemberId,
    /// Its Subscription Options.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier, 0 for none.
    pub subscription_id: u32,
}

/// What a pick may depend on.
#[derive(Clone, Copy, Debug)]
pub struct PickContext {
    /// How the load is spread.
    pub strategy: SharedStrategy,
    /// Hash of the publisher's client id.
    pub publisher_hash: u64,
    /// Hash of the topic.
    pub topic_hash: u64,
    /// The publisher's shard.
    pub local: ShardId,
    /// A number from the caller's seeded generator.
    pub random: u64,
}

/// Members of one group and whose turn it is.
///
/// Join, leave and a change of connection are O(log members), a pick O(1) (O(members) for `local`).
#[derive(Debug, Default)]
pub struct Group {
    /// Connected members first.
    members: Vec<Member>,
    connected_count: usize,
    positions: BTreeMap<MemberId, u32>,
    /// The turn of the whole group.
    turn: u32,
    /// What each publisher remembers, by the hash of its client id; made when a strategy needs it.
    publishers: Option<Box<[Remembered; PUBLISHER_BUCKETS]>>,
}

/// What publishers of one bucket remember of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    turn: Option<u32>,
    sticky: Option<MemberId>,
}

impl Group {
    /// A group without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The members; those with a connection come first.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Adds a member, or replaces its options; the old one comes out.
    pub fn join(&mut self, member: Member, is_connected: bool) -> Option<Member> {
        if let Some(&at) = self.positions.get(&member.id) {
            let old = std::mem::replace(&mut self.members[at as usize], member);
            self.set_connected(member.id, is_connected);
            return Some(old);
        }
        self.members.push(member);
        self.positions.insert(member.id, position(self.members.len() - 1));
        self.set_connected(member.id, is_connected);
        None
    }

    /// Takes a member out.
    pub fn leave(&mut self, member: MemberId) -> Option<Member> {
        self.set_connected(member, false);
        let at = self.positions.remove(&member)?;
        let gone = self.members.swap_remove(at as usize);
        if let Some(moved) = self.members.get(at as usize) {
            self.positions.insert(moved.id, at);
        }
        Some(gone)
    }

    /// Notes that a member has got or lost its connection. False if there is no such member.
    pub fn set_connected(&mut self, member: MemberId, is_connected: bool) -> bool {
        let Some(&at) = self.positions.get(&member) else { return false };
        let at = at as usize;
        let border = self.connected_count;
        match (at < border, is_connected) {
            (false, true) => {
                self.swap(at, border);
                self.connected_count += 1;
            }
            (true, false) => {
                self.swap(at, border - 1);
                self.connected_count -= 1;
            }
            (true, true) | (false, false) => {}
        }
        true
    }

    /// Chooses who gets a message: a connected member by the strategy, or, if there is none, a member without connection,
    /// in whose session the message waits. Members in `tried` are passed over: the next in line is asked.
    /// `None` when all were tried.
    pub fn pick(&mut self, context: &PickContext, tried: &[MemberId]) -> Option<Member> {
        let connected = 0..self.connected_count;
        let waiting = self.connected_count..self.members.len();
        for range in [connected, waiting] {
            if range.is_empty() {
                continue;
            }
            let start = self.first_choice(context, range.clone());
            let found = (0..range.len())
                .map(|step| range.start + (start + step) % range.len())
                .map(|at| self.members[at])
                .find(|member| !tried.contains(&member.id));
            if let Some(member) = found {
                if context.strategy == SharedStrategy::Sticky {
                    self.remembered(context).sticky = Some(member.id);
                }
                return Some(member);
            }
        }
        None
    }

    /// Where the strategy points, as an offset into `range`, which is not empty.
    fn first_choice(&mut self, context: &PickContext, range: std::ops::Range<usize>) -> usize {
        let count = range.len();
        match context.strategy {
            SharedStrategy::Random => reduce(context.random, count),
            SharedStrategy::HashClientId => reduce(context.publisher_hash, count),
            SharedStrategy::HashTopic => reduce(context.topic_hash, count),
            SharedStrategy::RoundRobinPerGroup => {
                self.turn = self.turn.wrapping_add(1);
                self.turn as usize % count
            }
            SharedStrategy::RoundRobin => {
                let remembered = self.remembered(context);
                let turn =
                    remembered.turn.map_or_else(|| first_turn(context.random), |turn| turn.wrapping_add(1));
                remembered.turn = Some(turn);
                turn as usize % count
            }
            SharedStrategy::Sticky => {
                let sticky = self.remembered(context).sticky;
                let at = sticky.and_then(|member| self.positions.get(&member)).map(|at| *at as usize);
                match at {
                    Some(at) if range.contains(&at) => at - range.start,
                    Some(_) | None => reduce(context.random, count),
                }
            }
            SharedStrategy::Local => {
                let start = reduce(context.random, count);
                (0..count)
                    .map(|step| (start + step) % count)
                    .find(|offset| self.members[range.start + offset].id.shard == context.local)
                    .unwrap_or(start)
            }
        }
    }

    fn remembered(&mut self, context: &PickContext) -> &mut Remembered {
        let publishers =
            self.publishers.get_or_insert_with(|| Box::new([Remembered::default(); PUBLISHER_BUCKETS]));
        &mut publishers[reduce(context.publisher_hash, PUBLISHER_BUCKETS)]
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.members.swap(left, right);
        for at in [left, right] {
            self.positions.insert(self.members[at].id, position(at));
        }
    }
}

/// All shared groups of one shard, found by share name and filter. One per shard, on its core.
#[derive(Debug)]
pub struct SharedGroups {
    key: HashKey,
    by_name: FingerTable,
    groups: Slab<Named>,
}

#[derive(Debug)]
struct Named {
    share: Box<str>,
    filter: Box<str>,
    group: Group,
}

/// What a join did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The group: stable until its last member leaves.
    pub group: GroupId,
    /// The member's subscription that was there before.
    pub replaced: Option<Member>,
    /// Whether the group is new: its filter must be subscribed in the index.
    pub first_of_group: bool,
}

/// What a leave did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The member that left.
    pub member: Member,
    /// Whether it was the last: the group is gone.
    pub last_of_group: bool,
}

impl SharedGroups {
    /// No groups; hashes are keyed with a random `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { key: HashKey::new(seed), by_name: FingerTable::default(), groups: Slab::new() }
    }

    /// Adds a member to the group of this share name and filter, which is made if it is new.
    pub fn join(&mut self, share: &str, filter: &str, member: Member, is_connected: bool) -> Joined {
        let known = self.lookup(share, filter);
        let id = known.unwrap_or_else(|| {
            let named = Named { share: share.into(), filter: filter.into(), group: Group::new() };
            let index = self.groups.insert(named).index;
            self.by_name.insert(self.fingerprint(share, filter), index);
            GroupId(index)
        });
        let replaced = self.group_mut(id).and_then(|group| group.join(member, is_connected));
        Joined { group: id, replaced, first_of_group: known.is_none() }
    }

    /// Takes a member out of a group; with the last member the group goes too.
    pub fn leave(&mut self, group: GroupId, member: MemberId) -> Option<Left> {
        let named = self.groups.at_mut(group.0)?;
        let member = named.group.leave(member)?;
        let last_of_group = named.group.members.is_empty();
        if last_of_group {
            let named = self.groups.remove_at(group.0)?;
            self.by_name.remove(self.fingerprint(&named.share, &named.filter), group.0);
        }
        Some(Left { member, last_of_group })
    }

    /// The group of this share name and filter.
    #[must_use]
    pub fn lookup(&self, share: &str, filter: &str) -> Option<GroupId> {
        let is_it = |index| {
            self.groups.at(index).is_some_and(|named| *named.share == *share && *named.filter == *filter)
        };
        self.by_name.find(self.fingerprint(share, filter), is_it).map(GroupId)
    }

    /// A group.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.at(group.0).map(|named| &named.group)
    }

    /// A group, for picking and for connections that come and go.
    #[must_use]
    pub fn group_mut(&mut self, group: GroupId) -> Option<&mut Group> {
        self.groups.at_mut(group.0).map(|named| &mut named.group)
    }

    /// Share name and filter of a group.
    #[must_use]
    pub fn name(&self, group: GroupId) -> Option<(&str, &str)> {
        self.groups.at(group.0).map(|named| (&*named.share, &*named.filter))
    }

    /// How many groups there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All groups, by id.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &str, &str, &Group)> {
        self.groups
            .iter()
            .map(|(key, named)| (GroupId(key.index), &*named.share, &*named.filter, &named.group))
    }

    fn fingerprint(&self, share: &str, filter: &str) -> u32 {
        fingerprint(
            self.key.mix(self.key.hash(share.as_bytes()) ^ self.key.hash(filter.as_bytes()).rotate_left(32)),
        )
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("fewer members than sessions, whose indices are u32")
}

/// A number below `count` from a hash, without the bias and cost of a remainder.
#[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below count")]
fn reduce(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

/// Where a publisher's turns begin: anywhere, so that publishers do not all begin with the same member.
#[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
const fn first_turn(random: u64) -> u32 {
    random as u32
}

/// Publishers that `round_robin` and `sticky` tell apart in one group. Publishers of one bucket share turns, which is
/// still in turn; a record per publisher would grow without bound.
const PUBLISHER_BUCKETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(shard: u16, index: u32) -> Member {
        let session = SessionId { index, generation: 0 };
        let id = MemberId { shard: ShardId(shard), session };
        Member { id, options: SubscriptionOptions::default(), subscription_id: 0 }
    }

    fn group_of(count: u32) -> Group {
        let mut group = Group::new();
        for index in 0..count {
            assert_eq!(group.join(member(u16::try_from(index % 3).unwrap(), index), true), None);
        }
        group
    }

    fn context(strategy: SharedStrategy, publisher: u64, random: u64) -> PickContext {
        let spread = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (publisher_hash, random) = (spread(publisher), spread(random));
        PickContext { strategy, publisher_hash, topic_hash: spread(77), local: ShardId(1), random }
    }

    fn picks(group: &mut Group, strategy: SharedStrategy, publisher: u64, count: u64) -> Vec<u32> {
        (0..count)
            .map(|n| group.pick(&context(strategy, publisher, n), &[]).unwrap().id.session.index)
            .collect()
    }

    #[test]
    fn each_message_has_one_taker_and_each_strategy_its_way() {
        // [MQTT5-4.8.2-4]
        let mut turns = picks(&mut group_of(5), SharedStrategy::RoundRobinPerGroup, 1, 10);
        assert_eq!(turns[..5], turns[5..]);
        turns.truncate(5);
        turns.sort_unstable();
        assert_eq!(turns, [0, 1, 2, 3, 4]);

        let mut group = group_of(5);
        let mut first = picks(&mut group, SharedStrategy::RoundRobin, 1, 5);
        let mut second = picks(&mut group, SharedStrategy::RoundRobin, 2, 5);
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!((first, second), (vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]));

        for strategy in [SharedStrategy::Sticky, SharedStrategy::HashClientId, SharedStrategy::HashTopic] {
            let all = picks(&mut group_of(5), strategy, 1, 50);
            assert!(all.iter().all(|one| *one == all[0]), "{strategy:?} {all:?}");
        }
        let by_client: std::collections::BTreeSet<u32> = (0..100)
            .map(|publisher| picks(&mut group_of(5), SharedStrategy::HashClientId, publisher, 1)[0])
            .collect();
        assert_eq!(by_client.len(), 5);
        for strategy in [SharedStrategy::Random, SharedStrategy::Local] {
            let all: std::collections::BTreeSet<u32> =
                picks(&mut group_of(6), strategy, 1, 200).into_iter().collect();
            let expected: Vec<u32> =
                if strategy == SharedStrategy::Local { vec![1, 4] } else { (0..6).collect() };
            assert_eq!(all.into_iter().collect::<Vec<_>>(), expected, "{strategy:?}");
        }
    }

    #[test]
    fn sticky_stays_until_its_member_leaves() {
        let mut group = group_of(4);
        let first = picks(&mut group, SharedStrategy::Sticky, 1, 1)[0];
        group.join(member(0, 99), true);
        assert_eq!(picks(&mut group, SharedStrategy::Sticky, 1, 3), [first; 3]);
        let id = group.members().iter().find(|one| one.id.session.index == first).unwrap().id;
        assert!(group.leave(id).is_some());
        let next = picks(&mut group, SharedStrategy::Sticky, 1, 3);
        assert!(next[0] != first && next.iter().all(|one| *one == next[0]));
    }

    #[test]
    fn members_without_connection_come_last_and_the_next_is_asked_after_a_failure() {
        let mut group = group_of(3);
        for index in [0, 2] {
            assert!(group.set_connected(
                group.members().iter().find(|one| one.id.session.index == index).unwrap().id,
                false
            ));
        }
        for strategy in [
            SharedStrategy::Random,
            SharedStrategy::RoundRobin,
            SharedStrategy::Sticky,
            SharedStrategy::Local,
        ] {
            assert_eq!(picks(&mut group, strategy, 5, 10), [1; 10]);
        }
        let mut tried = Vec::new();
        while let Some(member) = group.pick(&context(SharedStrategy::Random, 5, 3), &tried) {
            tried.push(member.id);
        }
        assert_eq!(tried[0].session.index, 1);
        assert_eq!(tried.len(), 3);
        for id in tried {
            assert!(group.leave(id).is_some());
        }
        assert_eq!(group.pick(&context(SharedStrategy::Random, 5, 3), &[]), None);
    }

    #[test]
    fn groups_are_found_by_share_name_and_filter() {
        // [MQTT5-4.8.2-1]
        let mut groups = SharedGroups::new(3);
        let first = groups.join("g", "a/+", member(0, 1), true);
        assert!(first.first_of_group);
        assert!(!groups.join("g", "a/+", member(0, 2), true).first_of_group);
        assert!(groups.join("h", "a/+", member(0, 1), true).first_of_group);
        assert!(groups.join("g", "a/#", member(0, 1), true).first_of_group);
        assert_eq!(groups.len(), 3);
        assert_eq!(groups.lookup("g", "a/+"), Some(first.group));
        assert_eq!(groups.name(first.group), Some(("g", "a/+")));
        let again = groups.join("g", "a/+", Member { subscription_id: 7, ..member(0, 1) }, true);
        assert_eq!(again.replaced, Some(member(0, 1)));
        assert!(!groups.leave(first.group, member(0, 1).id).unwrap().last_of_group);
        assert_eq!(groups.leave(first.group, member(0, 1).id), None);
        assert!(groups.leave(first.group, member(0, 2).id).unwrap().last_of_group);
        assert_eq!(groups.lookup("g", "a/+"), None);
        assert_eq!(groups.len(), 2);
    }

    proptest! {
        #[test]
        fn picks_only_members_that_are_there_and_connected_ones_first(
            ops in proptest::collection::vec((0_u8..4, 0_u32..12, any::<bool>()), 1..200), random in any::<u64>(),
        ) {
            let mut group = Group::new();
            let mut model = BTreeMap::new();
            for (op, index, connected) in ops {
                let one = member(0, index);
                match op {
                    0 | 1 => {
                        prop_assert_eq!(group.join(one, connected).is_some(), model.insert(one.id, connected).is_some());
                    }
                    2 => prop_assert_eq!(group.leave(one.id).is_some(), model.remove(&one.id).is_some()),
                    _ => {
                        let known = model.get_mut(&one.id).map(|there| *there = connected).is_some();
                        prop_assert_eq!(group.set_connected(one.id, connected), known);
                    }
                }
                for strategy in [SharedStrategy::Random, SharedStrategy::RoundRobin, SharedStrategy::Sticky,
                    SharedStrategy::RoundRobinPerGroup, SharedStrategy::Local, SharedStrategy::HashClientId] {
                    let picked = group.pick(&context(strategy, random % 5, random), &[]).map(|one| one.id);
                    prop_assert_eq!(picked.is_some(), !model.is_empty());
                    if let Some(picked) = picked {
                        prop_assert_eq!(model[&picked], model.values().any(|connected| *connected));
                    }
                }
                prop_assert_eq!(group.members().len(), model.len());
            }
        }
    }
}

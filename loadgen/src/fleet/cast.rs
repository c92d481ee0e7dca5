//! Who takes part in a run: the clients of all groups by number, and the connections that they may have.

use dunlin_wire::Version;

use crate::dice::Dice;
use crate::engine::ConnId;
use crate::plan::{Group, Leave, Plan, Row, Scope, Variable};

use super::interests::Interest;

/// A client of the run, counted over all groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(pub(crate) u32);

impl MemberId {
    /// The client's number as an index.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which of the two connections of a client. Only groups with takeovers use the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    First,
    Second,
}

impl Side {
    /// The other one.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A group and the numbers of its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupCast<'plan> {
    pub(crate) plan: &'plan Group,
    /// Its number in the plan.
    pub(crate) number: u16,
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Where its second connections begin, if it has any.
    seconds: Option<u32>,
}

/// All groups.
#[derive(Debug)]
pub(crate) struct Cast<'plan> {
    plan: &'plan Plan,
    groups: Vec<GroupCast<'plan>>,
    member_count: u32,
    connection_count: u32,
    run: u32,
    seed: u64,
}

impl<'plan> Cast<'plan> {
    /// Numbers the clients of a plan.
    pub(crate) fn new(plan: &'plan Plan, run: u32, seed: u64) -> Self {
        let member_count = plan.groups.iter().map(|group| group.count).sum();
        let mut groups = Vec::with_capacity(plan.groups.len());
        let (mut first, mut connection_count) = (0, member_count);
        for (group, number) in plan.groups.iter().zip(0..) {
            let takes_over = group.lifecycle.is_some_and(|lifecycle| lifecycle.leave == Leave::Takeover);
            let seconds = takes_over.then_some(connection_count);
            connection_count += if takes_over { group.count } else { 0 };
            groups.push(GroupCast { plan: group, number, first, count: group.count, seconds });
            first += group.count;
        }
        Self { plan, groups, member_count, connection_count, run, seed }
    }

    /// All groups in the order of the plan.
    pub(crate) fn groups(&self) -> &[GroupCast<'plan>] {
        &self.groups
    }

    /// Clients of all groups.
    pub(crate) const fn member_count(&self) -> u32 {
        self.member_count
    }

    /// Connections that may exist at the same time.
    pub(crate) const fn connection_count(&self) -> u32 {
        self.connection_count
    }

    /// The group of this name.
    pub(crate) fn named(&self, name: &str) -> Option<GroupCast<'plan>> {
        self.groups.iter().find(|group| group.plan.name == name).copied()
    }

    /// The filter of a subscription of a client.
    pub(crate) fn filter(&self, member: MemberId, interest: Interest, out: &mut String) {
        let group = self.groups[usize::from(interest.group)];
        let subscription = &group.plan.subscribe[usize::from(interest.entry)];
        if subscription.filter.is_constant() {
            out.push_str(subscription.filter.source());
            return;
        }
        let client_id = if subscription.filter.uses(Variable::ClientId) {
            self.client_id(group, member)
        } else {
            String::new()
        };
        let mut dice = self.own_dice(member);
        for _ in 0..u32::from(interest.entry) + interest.n % 64 {
            dice.roll();
        }
        let mut scope = self.scope(group, member, &client_id, &mut dice);
        scope.n = interest.n;
        out.push_str(&subscription.filter.text(&mut scope));
    }

    /// Members of a group.
    pub(crate) fn members(group: GroupCast<'_>) -> impl Iterator<Item = MemberId> + use<> {
        (group.first..group.first + group.count).map(MemberId)
    }

    /// The group of a client.
    pub(crate) fn group_of(&self, member: MemberId) -> GroupCast<'plan> {
        let place = self.groups.partition_point(|group| group.first + group.count <= member.0);
        self.groups[place]
    }

    /// Whose connection this is, and which of the two.
    pub(crate) fn member_of(&self, conn: ConnId) -> (MemberId, Side) {
        if conn.0 < self.member_count {
            return (MemberId(conn.0), Side::First);
        }
        let group = self
            .groups
            .iter()
            .find(|group| group.seconds.is_some_and(|first| (first..first + group.count).contains(&conn.0)));
        let group = group.expect("every connection beyond the first ones belongs to a group with takeovers");
        let offset = conn.0 - group.seconds.unwrap_or(0);
        (MemberId(group.first + offset), Side::Second)
    }

    /// A connection of a client.
    pub(crate) fn conn(&self, member: MemberId, side: Side) -> ConnId {
        match side {
            Side::First => ConnId(member.0),
            Side::Second => {
                let group = self.group_of(member);
                let first = group.seconds.expect("only groups with takeovers have second connections");
                ConnId(first + member.0 - group.first)
            }
        }
    }

    /// What the templates of a client see. `dice` decides `{rand}`.
    pub(crate) fn scope<'scope>(
        &self,
        group: GroupCast<'plan>,
        member: MemberId,
        client_id: &'scope str,
        dice: &'scope mut Dice,
    ) -> Scope<'scope>
    where
        'plan: 'scope,
    {
        Scope {
            index: member.0 - group.first,
            n: 0,
            seq: 0,
            group: &group.plan.name,
            client_id,
            run: self.run,
            time_ms: 0,
            row: self.row(group, member),
            jwt: "",
            dice,
        }
    }

    /// The client id of a client.
    pub(crate) fn client_id(&self, group: GroupCast<'plan>, member: MemberId) -> String {
        let mut dice = self.own_dice(member);
        group.plan.client_id.text(&mut self.scope(group, member, "", &mut dice))
    }

    /// Dice that fall the same way each time for the same client: for what is rendered more than once.
    pub(crate) fn own_dice(&self, member: MemberId) -> Dice {
        Dice::new(self.seed ^ u64::from(member.0).wrapping_mul(0xD129_0C7E_3F6A_5B11))
    }

    /// Whether the broker keeps the session of a client of this group when the connection is gone.
    pub(crate) fn keeps_session(group: &Group) -> bool {
        if group.protocol == Version::V5 { group.session_expiry_seconds() > 0 } else { !group.clean_start }
    }

    /// What a person calls a client: its group and number.
    pub(crate) fn name(&self, member: MemberId) -> String {
        let group = self.group_of(member);
        format!("{}[{}]", group.plan.name, member.0 - group.first)
    }

    fn row(&self, group: GroupCast<'plan>, member: MemberId) -> Option<Row<'plan>> {
        let name = group.plan.data.as_ref()?;
        self.plan.data.get(name)?.row(member.0 - group.first)
    }
}

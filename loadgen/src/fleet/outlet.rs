//! A publish entry of a group while it runs: when its messages are due, who sends the next, and what waits.

use std::collections::{BTreeMap, HashMap, VecDeque};

use dunlin_wire::QoS;

use super::cast::{GroupCast, MemberId};
use super::ledger::RouteId;
use super::payload::Body;
use super::sparkplug::Node;
use super::timetable::Timetable;
use crate::clock::Nanos;
use crate::dice::Dice;
use crate::plan::{Arrivals, Expect, Factor, Pacing, Publish, Sparkplug, Variable};

/// What an outlet sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'plan> {
    /// A publish entry of the plan.
    Entry(&'plan Publish),
    /// Births and data of Sparkplug edge nodes.
    Sparkplug(&'plan Sparkplug),
}

impl<'plan> Content<'plan> {
    /// Whether a variable is in its templates.
    fn uses(self, variable: Variable) -> bool {
        match self {
            Self::Entry(publish) => {
                let text = publish.payload.text.as_ref();
                publish.topic.uses(variable) || text.is_some_and(|text| text.uses(variable))
            }
            Self::Sparkplug(plan) => plan.group_id.uses(variable) || plan.edge_node.uses(variable),
        }
    }

    /// What its messages hold; Sparkplug writes its own.
    fn body(self) -> Body<'plan> {
        match self {
            Self::Entry(publish) => Body::of(&publish.payload),
            Self::Sparkplug(_) => Body::Bytes(0),
        }
    }
}

/// A message's place in the window of a closed loop.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    ticket: u32,
    /// The ticket was the same when the window was last looked through.
    was_seen: bool,
    /// Arrivals and acknowledgements that are still to come.
    missing: u32,
}

/// A publish entry of a group.
#[derive(Debug)]
pub(crate) struct Outlet<'plan> {
    pub(crate) group: GroupCast<'plan>,
    /// Its number among the outlets of the group.
    pub(crate) entry: u16,
    pub(crate) content: Content<'plan>,
    pub(crate) name: String,
    /// The schedule of an open loop.
    pub(crate) table: Option<Timetable>,
    /// Messages that each client keeps under way, in a closed loop.
    window: u32,
    is_running: bool,
    /// A client that is away gives its turn to the next.
    passes_on: bool,
    arrivals: Arrivals,
    turn: u32,
    dice: Dice,
    /// Messages that the broker has not taken over yet.
    pub(crate) unacknowledged: u32,
    /// Messages sent, by client.
    pub(crate) counts: Vec<u32>,
    /// The route of each client, where its topic is always the same.
    routes: Vec<u32>,
    by_topic: HashMap<(MemberId, u64), RouteId>,
    topic_varies: bool,
    /// Whether `{client_id}` is in its templates.
    pub(crate) needs_client_id: bool,
    /// What its messages hold.
    pub(crate) body: Body<'plan>,
    /// The state of each Sparkplug node.
    pub(crate) nodes: Vec<Node>,
    slots: Vec<Slot>,
    tickets: Vec<u32>,
    /// Intended times of messages that must wait for the broker, by client.
    held: BTreeMap<MemberId, VecDeque<Nanos>>,
    held_count: usize,
}

const NO_ROUTE: u32 = u32::MAX;

impl<'plan> Outlet<'plan> {
    /// All outlets of a group: its publish entries, then its Sparkplug data.
    pub(crate) fn of_group(group: GroupCast<'plan>, dice: &mut Dice) -> Vec<Self> {
        let mut fork = || Dice::new(u64::from(dice.roll()) << 32 | u64::from(dice.roll()));
        let mut outlets = Vec::new();
        for (publish, entry) in group.plan.publish.iter().zip(0..) {
            let (table, window) = match publish.pacing(group.count) {
                Pacing::Open { rate } => {
                    (Some(Timetable::new(rate.per_second(), publish.arrivals, fork())), 0)
                }
                Pacing::Closed { window } => (None, u32::from(window)),
            };
            let varies = [Variable::Seq, Variable::Time, Variable::Rand];
            let topic_varies = varies.into_iter().any(|variable| publish.topic.uses(variable));
            let name = publish.name.clone().unwrap_or_default();
            let passes_on = publish.per_client.is_none();
            let content = Content::Entry(publish);
            let outlet = Self::new(group, entry, content, name, fork());
            outlets.push(
                Self { table, passes_on, topic_varies, arrivals: publish.arrivals, ..outlet }
                    .with_window(window),
            );
        }
        if let Some(sparkplug) = &group.plan.sparkplug {
            let rate = sparkplug.total_rate(group.count).per_second();
            let table = Some(Timetable::new(rate, sparkplug.arrivals, fork()));
            let entry = u16::try_from(outlets.len()).expect("a plan has few entries");
            let outlet =
                Self::new(group, entry, Content::Sparkplug(sparkplug), "sparkplug".to_owned(), fork());
            let passes_on = sparkplug.per_client.is_none();
            outlets.push(Self { table, passes_on, arrivals: sparkplug.arrivals, ..outlet });
        }
        outlets
    }

    fn new(group: GroupCast<'plan>, entry: u16, content: Content<'plan>, name: String, dice: Dice) -> Self {
        Self {
            group,
            entry,
            content,
            name,
            table: None,
            window: 0,
            is_running: false,
            passes_on: true,
            arrivals: Arrivals::Constant,
            turn: 0,
            dice,
            unacknowledged: 0,
            counts: vec![0; group.count as usize],
            routes: vec![NO_ROUTE; group.count as usize],
            by_topic: HashMap::new(),
            topic_varies: true,
            needs_client_id: content.uses(Variable::ClientId),
            body: content.body(),
            nodes: match content {
                Content::Sparkplug(_) => vec![Node::default(); group.count as usize],
                Content::Entry(_) => Vec::new(),
            },
            slots: Vec::new(),
            tickets: Vec::new(),
            held: BTreeMap::new(),
            held_count: 0,
        }
    }

    fn with_window(mut self, window: u32) -> Self {
        self.window = window;
        if window > 0 {
            self.slots = vec![Slot::default(); self.group.count as usize * window as usize];
            self.tickets = vec![0; self.group.count as usize];
        }
        self
    }

    /// The QoS of its messages.
    pub(crate) const fn qos(&self) -> QoS {
        match self.content {
            Content::Entry(publish) => publish.qos,
            Content::Sparkplug(sparkplug) => sparkplug.qos,
        }
    }

    /// Whether its messages are retained.
    pub(crate) const fn retain(&self) -> bool {
        matches!(self.content, Content::Entry(publish) if publish.retain)
    }

    /// Who must receive its messages.
    pub(crate) const fn expect(&self) -> Expect {
        match self.content {
            Content::Entry(publish) => publish.expect,
            Content::Sparkplug(_) => Expect::Matching,
        }
    }

    /// Message Expiry Interval of its messages in seconds.
    pub(crate) fn expiry_seconds(&self) -> Option<u32> {
        let Content::Entry(publish) = self.content else { return None };
        let expiry = publish.message_expiry?;
        Some(u32::try_from(expiry.ns() / crate::clock::SECOND_NS).unwrap_or(u32::MAX))
    }

    /// Sets by what the rate is multiplied. A closed loop only knows running and standing.
    pub(crate) fn set_factor(&mut self, factor: Factor, ramp_seconds: f64, now: Nanos) {
        self.is_running = !factor.is_zero();
        if let Some(table) = &mut self.table {
            table.set_factor(factor, ramp_seconds, now);
        }
    }

    /// Whether it is a closed loop that runs.
    pub(crate) const fn loops(&self) -> bool {
        self.window > 0 && self.is_running
    }

    /// Messages that each client keeps under way in a closed loop, else 0.
    pub(crate) const fn window(&self) -> u32 {
        self.window
    }

    /// Whether a client has sent all it is to send.
    pub(crate) fn is_done(&self, member: MemberId) -> bool {
        let Content::Entry(Publish { messages: Some(most), .. }) = self.content else { return false };
        self.counts[self.place(member)] >= *most
    }

    /// Whether all clients have sent all they are to send; `None` if there is no bound.
    pub(crate) fn all_done(&self) -> Option<bool> {
        let Content::Entry(Publish { messages: Some(most), .. }) = self.content else { return None };
        Some(self.counts.iter().all(|count| count >= most))
    }

    /// Whose turn it is to send. `may` says who can.
    pub(crate) fn next_sender(&mut self, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        let count = self.group.count;
        if self.arrivals == Arrivals::Poisson {
            self.turn = self.dice.below(count);
        }
        for _ in 0..count.min(TURNS_MAX) {
            let member = MemberId(self.group.first + self.turn);
            self.turn = (self.turn + 1) % count;
            if may(member) && !self.is_done(member) {
                return Some(member);
            }
            if !self.passes_on {
                break;
            }
        }
        None
    }

    /// The route that is known for a client and topic.
    pub(crate) fn route(&self, member: MemberId, topic_hash: u64) -> Option<RouteId> {
        if self.topic_varies {
            return self.by_topic.get(&(member, topic_hash)).copied();
        }
        let route = self.routes[self.place(member)];
        (route != NO_ROUTE).then_some(RouteId(route))
    }

    /// Remembers the route of a client and topic.
    pub(crate) fn remember(&mut self, member: MemberId, topic_hash: u64, route: RouteId) {
        if self.topic_varies {
            self.by_topic.insert((member, topic_hash), route);
        } else {
            let place = self.place(member);
            self.routes[place] = route.0;
        }
    }

    /// Enters a message of a closed loop that needs `missing` events until it is done; returns its ticket.
    pub(crate) fn enter(&mut self, member: MemberId, missing: u32) -> u32 {
        if self.window == 0 {
            return 0;
        }
        let place = self.place(member);
        let ticket = self.tickets[place];
        self.tickets[place] = ticket.wrapping_add(1);
        let slot = place * self.window as usize + (ticket % self.window) as usize;
        self.slots[slot] = Slot { ticket, missing, was_seen: false };
        ticket
    }

    /// One of the events of a message has happened; whether the message is done with it.
    pub(crate) fn advance(&mut self, member: MemberId, ticket: u32) -> bool {
        if self.window == 0 {
            return false;
        }
        let slot = self.place(member) * self.window as usize + (ticket % self.window) as usize;
        let slot = &mut self.slots[slot];
        if slot.ticket != ticket || slot.missing == 0 {
            return false;
        }
        slot.missing -= 1;
        slot.missing == 0
    }

    /// Whether every message of a client in a closed loop is done.
    pub(crate) fn is_still(&self, member: MemberId) -> bool {
        let from = self.place(member) * self.window as usize;
        self.slots[from..from + self.window as usize].iter().all(|slot| slot.missing == 0)
    }

    /// Gives up messages of a client that were under way when this was asked before: what they wait for will not come.
    /// Returns how many may be sent in their place.
    pub(crate) fn give_up_stuck(&mut self, member: MemberId) -> u32 {
        let from = self.place(member) * self.window as usize;
        let mut given_up = 0;
        for slot in &mut self.slots[from..from + self.window as usize] {
            if slot.missing > 0 && std::mem::replace(&mut slot.was_seen, true) {
                slot.missing = 0;
                given_up += 1;
            }
        }
        given_up
    }

    /// Keeps a message for later; false if too many wait already.
    pub(crate) fn hold(&mut self, member: MemberId, intended: Nanos) -> bool {
        if self.held_count >= HELD_MAX {
            return false;
        }
        self.held_count += 1;
        self.held.entry(member).or_default().push_back(intended);
        true
    }

    /// Takes the oldest message that waits for a client.
    pub(crate) fn take_held(&mut self, member: MemberId) -> Option<Nanos> {
        let queue = self.held.get_mut(&member)?;
        let intended = queue.pop_front();
        if queue.is_empty() {
            self.held.remove(&member);
        }
        self.held_count -= usize::from(intended.is_some());
        intended
    }

    /// Whether messages wait for a client: the next must wait behind them.
    pub(crate) fn is_holding(&self, member: MemberId) -> bool {
        self.held_count > 0 && self.held.contains_key(&member)
    }

    /// Whom messages wait for.
    pub(crate) fn held_for(&self) -> impl Iterator<Item = MemberId> {
        self.held.keys().copied()
    }

    /// Messages that wait.
    pub(crate) const fn held_count(&self) -> usize {
        self.held_count
    }

    /// Forgets what waits for a client; how much it was.
    pub(crate) fn forget_held(&mut self, member: MemberId) -> usize {
        let count = self.held.remove(&member).map_or(0, |queue| queue.len());
        self.held_count -= count;
        count
    }

    /// The number of a client in the outlet's lists.
    pub(crate) const fn place(&self, member: MemberId) -> usize {
        (member.0 - self.group.first) as usize
    }
}

/// Clients that are asked in a row whether they can send.
const TURNS_MAX: u32 = 256;
/// Messages that may wait in an outlet: 8 bytes each. What is beyond is counted and not sent.
const HELD_MAX: usize = 4_000_000;

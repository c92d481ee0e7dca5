//! Runs a plan: groups of clients through stages, with an oracle that knows who is owed what.
//!
//! Reading order: `cast.rs` (who takes part), `member.rs` (where each stands), `stages.rs` (what happens when), `coming.rs`
//! and `going.rs` (connections), `sending.rs` and `receiving.rs` (messages), `interests.rs`, `ledger.rs` and `shared.rs`
//! (the oracle), `timetable.rs` and `agenda.rs` (time), `run.rs` (all of it together).
//!
//! One thread drives all clients over the engine. What a client costs while it is idle is an entry in a few arrays:
//! 40 bytes here, 16 in `client.rs`, 8 in the ledger, 20 and its place in a table for a subscription of its own.

mod agenda;
mod cast;
mod coming;
mod costs;
mod findings;
mod going;
mod greeting;
mod interests;
mod ledger;
mod malformed;
mod member;
mod outlet;
mod payload;
mod postmark;
mod receiving;
mod round;
mod run;
mod sending;
mod shared;
mod slips;
mod sparkplug;
mod stages;
mod timetable;

use std::collections::BTreeMap;

use agenda::Agenda;
use cast::{Cast, GroupCast, MemberId, Side};
use coming::Arrivals;
use findings::Findings;
use interests::{Interests, ShareId};
use ledger::Ledger;
use malformed::Tricks;
use member::{Flag, Member, Phase};
use outlet::Outlet;
use round::Round;
use slips::Slips;

use crate::client::Client;
use crate::clock::Nanos;
use crate::dice::Dice;
use crate::engine::ConnId;
use crate::plan::Plan;
use crate::record::Recorder;

pub(crate) use run::run;

/// Everything that a run of a plan knows.
pub(crate) struct Fleet<'run> {
    plan: &'run Plan,
    cast: Cast<'run>,
    members: Vec<Member>,
    clients: Vec<Client>,
    /// By group.
    teams: Vec<Team>,
    agenda: Agenda,
    /// Publish entries of all groups, in the order of the plan.
    outlets: Vec<Outlet<'run>>,
    interests: Interests,
    /// Who of each shared subscription is here.
    share_states: Vec<ShareState>,
    /// The shared subscriptions of each client that has any.
    shares_of: BTreeMap<MemberId, Vec<ShareId>>,
    ledger: Ledger,
    slips: Slips,
    findings: Findings,
    recorder: Recorder,
    tricks: Tricks,
    run: u32,
    dice: Dice,
    /// Connections that are being opened without a rate, and how many may be.
    opening_count: u32,
    concurrency: u32,
    /// The broker is expected to go away: connections that end are no failure.
    awaits_fall: bool,
    /// Connections that have ended without our doing since the stage began.
    fallen_count: u32,
    /// Messages that were due and could not be sent before their client was gone, or while too many waited.
    abandoned: u64,
    /// Messages that were due while nobody could send them.
    skipped: u64,
    /// Connections that were open when the stage began.
    open_at_stage: u64,
    /// Messages of earlier runs that came, retained or from the queue of a session.
    foreign: u64,
    /// When clients that wait are looked through again.
    next_sweep: Nanos,
    /// When closed loops give up what is under way for too long.
    next_revival: Nanos,
    /// The end of the run has begun; nobody comes back.
    is_ending: bool,
    /// Unix time in milliseconds at the start of the clock, for `{time}`.
    unix_ms: u64,
    topic: Vec<u8>,
    payload: Vec<u8>,
    scratch: Vec<u8>,
}

/// A group while it runs.
#[derive(Debug)]
struct Team {
    is_started: bool,
    is_stopped: bool,
    /// Its lifecycle runs.
    churns: bool,
    arrivals: Arrivals,
    keep_alives: Option<Round>,
    /// Clients that are connected (CONNACK) and have not left.
    connected: u32,
    /// Clients that have all that they asked for.
    up: u32,
    /// Clients that have fallen silent with their connection open.
    silent: u32,
    /// The first of its outlets, and how many it has.
    first_outlet: usize,
    outlet_count: usize,
    /// The routes of its clients' wills.
    wills: Vec<u32>,
}

/// Who of a shared subscription is here.
#[derive(Clone, Copy, Debug, Default)]
struct ShareState {
    here: u32,
    /// Members that are away while the broker keeps their sessions, and may give messages to them.
    asleep: u32,
    /// A member reads slowly or falls silent: nothing is missed.
    is_indulged: bool,
}

impl ShareState {
    /// Whether every message must come to one of the members.
    const fn is_owed(self) -> bool {
        self.here > 0 && self.asleep == 0 && !self.is_indulged
    }
}

impl<'run> Fleet<'run> {
    fn member(&self, member: MemberId) -> &Member {
        &self.members[member.index()]
    }

    fn member_mut(&mut self, member: MemberId) -> &mut Member {
        &mut self.members[member.index()]
    }

    fn group(&self, member: MemberId) -> GroupCast<'run> {
        self.cast.group_of(member)
    }

    /// The connection that a client speaks on.
    fn conn(&self, member: MemberId) -> ConnId {
        self.cast.conn(member, self.member(member).side())
    }

    /// Whether a connection is the one that its client speaks on.
    fn is_live(&self, member: MemberId, side: Side) -> bool {
        self.member(member).side() == side
    }

    fn team(&mut self, group: GroupCast<'_>) -> &mut Team {
        &mut self.teams[usize::from(group.number)]
    }

    fn is_up(&self, member: MemberId) -> bool {
        self.member(member).phase == Phase::Up
    }

    /// Whether nothing is missed when it does not come: the client is not one that reads all it is sent.
    fn is_indulged(&self, group: GroupCast<'run>) -> bool {
        !matches!(group.plan.behaviour, crate::plan::Behaviour::Normal)
    }

    fn has(&self, member: MemberId, flag: Flag) -> bool {
        self.member(member).has(flag)
    }
}

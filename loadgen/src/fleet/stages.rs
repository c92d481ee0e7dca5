//! The stages of a plan: what begins and ends with each, and when it is over.

use super::agenda::{Entry, Errand};
use super::cast::{Cast, GroupCast, MemberId};
use super::timetable::seconds;
use super::{Flag, Fleet, Phase};
use crate::clock::{MILLISECOND_NS, Nanos, SECOND_NS};
use crate::engine::Outbox;
use crate::plan::{Behaviour, Factor, Fall, Stage, Until};

/// A stage under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running<'plan> {
    pub(crate) stage: &'plan Stage,
    began: Nanos,
    /// When it is over, or has lasted too long.
    pub(crate) ends_at: Nanos,
    next_look: Nanos,
    /// How far it had come when it last moved, and when that was.
    seen: u64,
    moved_at: Nanos,
}

/// Whether a stage is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not yet.
    Goes,
    /// It has lasted as long as it should, or what it waited for has happened.
    Over,
    /// What it waited for has not happened. The run is over too.
    Failed(String),
}

impl<'run> Fleet<'run> {
    /// Begins a stage.
    pub(super) fn begin_stage(
        &mut self,
        stage: &'run Stage,
        now: Nanos,
        outbox: &mut Outbox,
    ) -> Running<'run> {
        self.recorder.begin_stage(now, &stage.name, stage.measure);
        self.fallen_count = 0;
        self.open_at_stage = self.recorder.open();
        self.awaits_fall = stage.until == Some(Until::Disconnected);
        let named = |fleet: &Self, names: &[String]| -> Vec<GroupCast<'run>> {
            names.iter().filter_map(|name| fleet.cast.named(name)).collect()
        };
        for group in named(self, &stage.stop) {
            self.stop_group(usize::from(group.number), now, outbox);
        }
        for group in named(self, &stage.start) {
            self.start_group(group, now);
        }
        self.set_churn(stage, now, outbox);
        for fall in &stage.drop {
            self.plan_falls(fall, now);
        }
        let length = stage.duration.or(stage.timeout).map_or(TIMEOUT_NS, |period| period.ns());
        let ramp = stage.duration.map_or(0.0, |duration| duration.seconds());
        for number in 0..self.outlets.len() {
            self.set_rate(number, stage, ramp, now, outbox);
        }
        let ends_at = now.after(length);
        Running { stage, began: now, ends_at, next_look: now, seen: 0, moved_at: now }
    }

    /// Lifecycles begin to run, go on, or end with those who are away coming back.
    fn set_churn(&mut self, stage: &Stage, now: Nanos, outbox: &mut Outbox) {
        for number in 0..self.teams.len() {
            let group = self.cast.groups()[number];
            let churns = stage.churn.contains(&group.plan.name);
            if !churns {
                self.end_churn(number, now, outbox);
            } else if !std::mem::replace(&mut self.teams[number].churns, true) {
                for member in Cast::members(group) {
                    if self.is_up(member) {
                        self.plan_leave(member, now);
                    }
                }
            }
        }
    }

    fn set_rate(&mut self, number: usize, stage: &Stage, ramp: f64, now: Nanos, outbox: &mut Outbox) {
        let outlet = &self.outlets[number];
        let group = outlet.group;
        let of_entry = || stage.rates.get(&format!("{}.{}", group.plan.name, outlet.name));
        let factor = of_entry().or_else(|| stage.rates.get(&group.plan.name)).copied();
        self.outlets[number].set_factor(factor.unwrap_or(stage.rate), ramp, now);
        if self.outlets[number].loops() {
            for member in Cast::members(group) {
                if self.is_up(member) && self.outlets[number].is_still(member) {
                    self.fill_window(number, member, now, outbox);
                }
            }
        }
    }

    /// Picks who falls, among those who are connected.
    fn plan_falls(&mut self, fall: &Fall, now: Nanos) {
        let Some(group) = self.cast.named(&fall.group) else { return };
        let mut connected: Vec<MemberId> =
            Cast::members(group).filter(|member| self.member(*member).is_connected()).collect();
        let count = u32::try_from(connected.len()).unwrap_or(u32::MAX);
        for picked in 0..fall.share.of(count) {
            let other = picked + self.dice.below(count - picked);
            connected.swap(picked as usize, other as usize);
            let member = connected[picked as usize];
            let at = now.after(fall.within.draw_ns(&mut self.dice));
            let life = self.member(member).life;
            self.agenda.add(Entry { at, member, life, errand: Errand::Fall });
        }
    }

    /// Looks whether a stage is over.
    pub(super) fn judge_stage(&mut self, running: &mut Running<'run>, now: Nanos) -> Verdict {
        let Some(until) = running.stage.until else {
            return if now >= running.ends_at { Verdict::Over } else { Verdict::Goes };
        };
        if now < running.next_look && now < running.ends_at {
            return Verdict::Goes;
        }
        running.next_look = now.after(LOOK_NS);
        let (done, wanted) = self.progress(until, running.began, now);
        self.recorder.set_progress(done, wanted);
        if done >= wanted {
            return Verdict::Over;
        }
        if done != running.seen {
            running.seen = done;
            running.moved_at = now;
        }
        let name = &running.stage.name;
        if now >= running.ends_at {
            if until == Until::Drained {
                // What has not come by now counts as lost.
                return Verdict::Over;
            }
            let waited = seconds(now.since(running.began));
            return Verdict::Failed(format!(
                "stage {name:?}: {done} of {wanted} {until} after {waited:.1} s"
            ));
        }
        let hopeless = matches!(until, Until::Connected | Until::Subscribed)
            && now.since(running.moved_at) > SECOND_NS
            && !self.somebody_comes();
        if hopeless {
            return Verdict::Failed(format!(
                "stage {name:?}: {done} of {wanted} {until}, and nobody is on the way any more"
            ));
        }
        Verdict::Goes
    }

    /// Ends a stage.
    pub(super) fn end_stage(&mut self, running: &Running<'run>) {
        if running.stage.until == Some(Until::Disconnected) {
            // The broker was away: whatever it had, it may have forgotten.
            self.ledger.excuse_all();
            for member in &mut self.members {
                member.set(Flag::Doubtful);
            }
        }
    }

    /// How much of what a stage waits for has happened, and how much there is.
    fn progress(&self, until: Until, began: Nanos, now: Nanos) -> (u64, u64) {
        match until {
            Until::Connected => self.count(|team| team.connected),
            Until::Subscribed => self.count(|team| team.up + team.silent),
            Until::Published => {
                let bounded = self.outlets.iter().filter_map(|outlet| Some((outlet, outlet.all_done()?)));
                bounded.fold((0, 0), |(done, wanted), (outlet, all)| {
                    (done + u64::from(all && outlet.unacknowledged == 0), wanted + 1)
                })
            }
            Until::Drained => {
                // What was written in the last moment has not had the time to come.
                if now.since(began) < LOOK_NS {
                    return (0, 1);
                }
                // Who is still to come brings retained messages and queues with it.
                (0, self.pending() + u64::from(self.somebody_comes()))
            }
            Until::Disconnected => (u64::from(self.fallen_count), self.open_at_stage.div_ceil(2).max(1)),
        }
    }

    /// Everything that is under way.
    pub(super) fn pending(&self) -> u64 {
        let held: usize = self.outlets.iter().map(super::Outlet::held_count).sum();
        let owed = self.ledger.pending(|member| self.is_up(member));
        owed + held as u64
            + self.unacknowledged_here()
            + self.ledger.missing_replays().1
            + self.tricks_under_way()
    }

    /// Messages that the broker has not taken over, of clients who are here.
    fn unacknowledged_here(&self) -> u64 {
        let of_all: u64 = self.outlets.iter().map(|outlet| u64::from(outlet.unacknowledged)).sum();
        if of_all == 0 {
            return 0;
        }
        self.slips.iter().filter(|slip| self.is_up(slip.member)).count() as u64
    }

    fn count(&self, here: impl Fn(&super::Team) -> u32) -> (u64, u64) {
        let groups = self.cast.groups().iter().zip(&self.teams);
        groups
            .filter(|(group, team)| {
                let malformed = matches!(group.plan.behaviour, Behaviour::Malformed { .. });
                team.is_started && !team.is_stopped && !malformed
            })
            .fold((0, 0), |(done, wanted), (group, team)| {
                (done + u64::from(here(team)), wanted + u64::from(group.count))
            })
    }

    /// Whether not all who were started are up.
    pub(super) fn is_somebody_missing(&self) -> bool {
        let (here, wanted) = self.count(|team| team.up + team.silent);
        here < wanted
    }

    /// Whether anybody is on the way, or has planned to come.
    fn somebody_comes(&self) -> bool {
        let on_the_way = self.cast.groups().iter().zip(&self.teams).any(|(group, team)| {
            let counts = team.is_started && !team.is_stopped;
            counts
                && !matches!(group.plan.behaviour, Behaviour::Malformed { .. })
                && (!team.arrivals.is_through(group.count)
                    || Cast::members(*group).any(|member| self.member(member).is_coming()))
        });
        on_the_way || self.agenda.has_comings()
    }

    /// Stops all publishing.
    pub(super) fn fall_quiet(&mut self, now: Nanos, outbox: &mut Outbox) {
        for number in 0..self.teams.len() {
            self.end_churn(number, now, outbox);
        }
        for outlet in &mut self.outlets {
            outlet.set_factor(Factor::constant(0.0), 0.0, now);
        }
    }

    /// Says goodbye to the broker on every connection.
    pub(super) fn dismiss_all(&mut self, now: Nanos, outbox: &mut Outbox) {
        self.is_ending = true;
        for number in 0..self.teams.len() {
            self.stop_group(number, now, outbox);
        }
    }

    /// Whether a connection of anybody is still open.
    pub(super) fn is_anybody_leaving(&self) -> bool {
        self.members.iter().any(|member| member.phase == Phase::Leaving)
    }
}

/// The longest that a stage waits when the plan says nothing.
const TIMEOUT_NS: u64 = 60 * SECOND_NS;
/// How often the end of a stage is looked for.
const LOOK_NS: u64 = 50 * MILLISECOND_NS;

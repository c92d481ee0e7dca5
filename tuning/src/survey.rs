//! What a profile wants compared with what a host has: the one list that check, apply and the generated files read.

use crate::catalogue::Profile;
use crate::facts::Facts;
use crate::host::Host;
use crate::places::{self, Spot, Target};
use crate::rule::{Comparison, Rule, Wanted, in_force, same};
use crate::setting::{Form, Place, Setting};

/// One place of one setting, judged.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// The setting.
    pub setting: &'a Setting,
    /// Which of its places, if it has several.
    pub spot: Option<String>,
    /// How it is changed; `None` where it does not apply.
    pub target: Option<Target>,
    /// How its values are written.
    pub form: Form,
    /// What is in force.
    pub current: Option<String>,
    /// What is wanted.
    pub wanted: Option<Wanted>,
    /// The judgement.
    pub status: Status,
    /// Why it does not apply, or what to do.
    pub note: String,
}

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As wanted.
    Ok,
    /// A number, and too small.
    Low,
    /// Not as wanted.
    Differs,
    /// Written down, but in force only after a restart of the host.
    Waits,
    /// Not applicable here.
    NotHere,
}

impl Status {
    /// The word for tables and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Low => "low",
            Self::Differs => "differs",
            Self::Waits => "restart",
            Self::NotHere => "n/a",
        }
    }

    /// Whether the host is not as the profile wants it.
    #[must_use]
    pub const fn is_unmet(self) -> bool {
        matches!(self, Self::Low | Self::Differs | Self::Waits)
    }
}

impl Item<'_> {
    /// Its name in the state file: the key, and `@` with the place where there are several.
    #[must_use]
    pub fn id(&self) -> String {
        id(self.setting, self.spot.as_deref())
    }
}

/// The name of a place in the state file.
#[must_use]
pub fn id(setting: &Setting, spot: Option<&str>) -> String {
    spot.map_or_else(|| setting.key.clone(), |spot| format!("{}@{spot}", setting.key))
}

/// Compares a host with a profile, in the order of the catalogue. Reads one file per place.
#[must_use]
pub fn survey<'a>(host: &Host, profile: &'a Profile, facts: &Facts) -> Vec<Item<'a>> {
    profile.wants().flat_map(|(setting, rule)| items(host, setting, rule, facts)).collect()
}

fn items<'a>(host: &Host, setting: &'a Setting, rule: &Rule, facts: &Facts) -> Vec<Item<'a>> {
    let spots = match places::spots(host, setting) {
        Ok(spots) => spots,
        Err(why) => return vec![not_here(setting, None, why)],
    };
    let mut items: Vec<Item<'a>> =
        spots.into_iter().filter_map(|spot| judge(setting, spot, rule, facts)).collect();
    if items.is_empty() {
        let why = format!("no idle state takes longer to leave than wanted ({})", rule.words());
        items.push(not_here(setting, None, why));
    }
    items
}

/// Judges one place; `None` when it is of no interest.
fn judge<'a>(setting: &'a Setting, spot: Spot, rule: &Rule, facts: &Facts) -> Option<Item<'a>> {
    let wanted = if setting.place == Place::IdleStates {
        let Rule::AtMost(limit) = rule else {
            return Some(not_here(setting, spot.name, "its rule is not a bound".to_owned()));
        };
        if spot.latency_us.is_none_or(|latency| latency <= limit.on(facts)) {
            return None;
        }
        Ok(Wanted::Exactly("1".to_owned()))
    } else {
        rule.on(facts, spot.queue, spot.form)
    };
    let wanted = match (wanted, spot.unless) {
        (Err(why), _) | (Ok(_), Some(why)) => return Some(not_here(setting, spot.name, why)),
        (Ok(wanted), None) => wanted.capped(spot.most),
    };
    let current = match spot.current {
        Ok(current) => current,
        Err(why) => return Some(not_here(setting, spot.name, why)),
    };
    if let (Wanted::Exactly(value), Some(choices)) = (&wanted, &spot.choices)
        && !choices.is_empty()
        && !choices.contains(value)
    {
        let why = format!("{value} is not offered here, only {}", choices.join(", "));
        return Some(not_here(setting, spot.name, why));
    }
    let form = spot.form;
    let status = match current.as_deref().map(|current| wanted.compare(current, form)) {
        Some(Comparison::Ok) => Status::Ok,
        _ if spot.waits.is_some_and(|waits| same(&waits, &wanted.value(), form)) => Status::Waits,
        Some(Comparison::Low) => Status::Low,
        Some(Comparison::Differs) | None => Status::Differs,
    };
    let note = note(setting, status, &spot.target);
    let current = current.map(|current| in_force(&current, form));
    let (spot, target) = (spot.name, Some(spot.target));
    Some(Item { setting, spot, target, form, current, wanted: Some(wanted), status, note })
}

fn note(setting: &Setting, status: Status, target: &Target) -> String {
    match (status, target) {
        (Status::Waits, _) => "written down; in force after `update-grub` and a restart".to_owned(),
        (Status::Low | Status::Differs, Target::Advice(advice)) => format!("not changed by us: {advice}"),
        (Status::Low | Status::Differs, _) if setting.needs_restart() => "takes a restart".to_owned(),
        _ => String::new(),
    }
}

fn not_here(setting: &Setting, spot: Option<String>, why: String) -> Item<'_> {
    Item {
        setting,
        spot,
        target: None,
        form: Form::Plain,
        current: None,
        wanted: None,
        status: Status::NotHere,
        note: why,
    }
}

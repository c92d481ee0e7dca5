//! What a plan must keep that no single type can check. Everything that is wrong is told, not only the first.

mod groups;
mod sessions;
mod stages;
mod traffic;

use super::document::{Document, Step, steps};
use super::error::Problem;
use super::limits::{CLIENT_COUNT_MAX, GROUP_COUNT_MAX, STAGE_COUNT_MAX};
use super::schema::{Group, Plan};
use super::template::Scope;
use crate::dice::Dice;

/// Everything that is wrong with a plan whose files have been loaded.
pub(crate) fn check(plan: &Plan, document: &Document<'_>) -> Vec<Problem> {
    let mut findings = Findings { plan, document, problems: Vec::new() };
    findings.whole();
    for (at, group) in plan.groups.iter().enumerate() {
        groups::check(&mut findings, at, group);
        sessions::check(&mut findings, at, group);
        traffic::check(&mut findings, at, group);
    }
    groups::check_client_ids(&mut findings);
    stages::check(&mut findings);
    findings.problems
}

/// What has been found so far.
struct Findings<'a> {
    plan: &'a Plan,
    document: &'a Document<'a>,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    /// Notes a problem with the value at `path`.
    fn add(&mut self, path: &[Step], place: String, what: impl Into<String>) {
        let line = self.document.line(path);
        self.problems.push(Problem { line, place, what: what.into() });
    }

    /// Notes a problem with `key` of a group.
    fn group(&mut self, at: usize, key: &str, what: impl Into<String>) {
        let name = self.plan.groups.get(at).map_or("", |group| &group.name);
        let place = format!("group {name:?}, {key}");
        // A value that came from the defaults is told where it stands.
        let own = self.document.line(&steps!["group", at, key]);
        let around = self.document.line(&steps!["group", at]);
        let default = self.document.line(&steps!["defaults", key]);
        if own == around && default > self.document.line(&steps!["defaults"]) {
            self.add(&steps!["defaults", key], place, what);
        } else {
            self.add(&steps!["group", at, key], place, what);
        }
    }

    /// Notes a problem with `key` of an entry in one of a group's lists.
    fn entry(&mut self, at: usize, list: &str, number: usize, key: &str, what: impl Into<String>) {
        let name = self.plan.groups.get(at).map_or("", |group| &group.name);
        let place = format!("group {name:?}, {list} {}, {key}", number + 1);
        self.add(&steps!["group", at, list, number, key], place, what);
    }

    fn whole(&mut self) {
        let plan = self.plan;
        if plan.version != 1 {
            let what = format!("this program reads version 1, and the file says {}", plan.version);
            self.add(&steps!["version"], "version".to_owned(), what);
        }
        if plan.name.trim().is_empty() {
            self.add(&steps!["name"], "name".to_owned(), "give the scenario a name, for its reports");
        }
        if plan.about.contains('\n') {
            self.add(&steps!["about"], "about".to_owned(), "one line, please; the rest belongs in a comment");
        }
        for (count, most, list) in
            [(plan.groups.len(), GROUP_COUNT_MAX, "group"), (plan.stages.len(), STAGE_COUNT_MAX, "stage")]
        {
            if count == 0 || count > most {
                let what = format!("there must be 1 to {most} [[{list}]] tables, and there are {count}");
                self.add(&steps![list], list.to_owned(), what);
            }
        }
        let clients = plan.client_count();
        if clients > CLIENT_COUNT_MAX {
            let what = format!(
                "all groups together have {clients} clients; at most {CLIENT_COUNT_MAX} can be counted"
            );
            self.add(&steps!["group"], "group".to_owned(), what);
        }
        let is_used = |name: &String| plan.groups.iter().any(|group| group.data.as_ref() == Some(name));
        for name in plan.data.keys().filter(|name| !is_used(name)) {
            let what = "no group takes its rows; write data = \"…\" in a group, or leave the file out";
            self.add(&steps!["data", name.as_str()], format!("data {name:?}"), what);
        }
    }
}

/// Calls `look` with the variables of a client as a sample; `n` and `seq` are as given.
fn with_sample<T>(
    plan: &Plan,
    group: &Group,
    index: u32,
    n: u32,
    look: impl FnOnce(&mut Scope<'_>) -> T,
) -> T {
    let mut dice = Dice::new(u64::from(index) << 32 | u64::from(n));
    let row = group.data.as_ref().and_then(|name| plan.data.get(name)).and_then(|data| data.row(index));
    let mut scope = Scope {
        index,
        n,
        seq: 0,
        group: &group.name,
        client_id: "",
        run: 1,
        time_ms: SAMPLE_TIME_MS,
        row,
        jwt: "jwt",
        dice: &mut dice,
    };
    let client_id = group.client_id.text(&mut scope);
    let mut dice = Dice::new(u64::from(index));
    look(&mut Scope { client_id: &client_id, dice: &mut dice, ..scope })
}

/// Some time with as many digits as times have.
const SAMPLE_TIME_MS: u64 = 1_700_000_000_000;

#[cfg(test)]
mod tests;

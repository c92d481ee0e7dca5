//! Changes a host into what a profile wants, and remembers what was there.
//!
//! The state file is written before each change, so that a crash at any moment leaves a way back.

use std::collections::BTreeSet;
use std::io;

use crate::catalogue::{Catalogue, Profile};
use crate::facts::Facts;
use crate::host::Host;
use crate::owned::Owned;
use crate::places::{Spot, Target, spots};
use crate::rule::{Comparison, in_force, same};
use crate::setting::{Form, Place, Setting};
use crate::state::{State, StateError};
use crate::survey::{Item, Status, id, survey};

/// What was done to a host, or would be.
#[derive(Debug, Default)]
pub struct Report {
    /// Each change, in order.
    pub changes: Vec<Change>,
    /// What remains to be done by hand.
    pub advice: Vec<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The place of a setting, or the path of a file.
    pub id: String,
    /// What it was.
    pub from: String,
    /// What it is to be.
    pub to: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How a change went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was touched: a dry run.
    Would,
    /// It is so now.
    Done,
    /// It is not, and why.
    Failed(String),
    /// There is nothing to change back any more, and why.
    Gone(String),
}

impl Report {
    /// Whether something was not done.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.outcome, Outcome::Failed(_)))
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All settings that there are.
    pub catalogue: &'a Catalogue,
    /// What the host should be like.
    pub profile: &'a Profile,
    /// What the host is.
    pub facts: &'a Facts,
    /// The connections that the operator named.
    pub connections: Option<u64>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Applies a profile. What fails is reported, and the rest goes on. A second time it changes nothing.
///
/// # Errors
/// When the state file cannot be read or written; see [`StateError`].
pub fn apply(host: &Host, request: Request<'_>) -> Result<Report, StateError> {
    let state = State::load(host, request.catalogue)?;
    let mut run = Run {
        host,
        request,
        before: state.clone(),
        state: state.unwrap_or_else(|| State::new(request.profile.name)),
        report: Report::default(),
        failed: BTreeSet::new(),
    };
    request.profile.name.clone_into(&mut run.state.profile);
    run.state.connections = request.connections;
    // A card that has been given more queues has other places, which show only afterwards.
    for _ in 0..PASSES_MAX {
        if run.leave_what_is_not_wanted()? + run.pass()? == 0 || request.dry_run {
            break;
        }
    }
    run.files()?;
    if !request.dry_run && run.before.as_ref() != Some(&run.state) {
        run.state.save(host)?;
    }
    Ok(run.report)
}

struct Run<'a> {
    host: &'a Host,
    request: Request<'a>,
    before: Option<State>,
    state: State,
    report: Report,
    failed: BTreeSet<String>,
}

impl Run<'_> {
    /// Puts back what another profile wanted and this one does not; tells how many places.
    fn leave_what_is_not_wanted(&mut self) -> Result<usize, StateError> {
        let items = survey(self.host, self.request.profile, self.request.facts);
        let wanted: BTreeSet<String> =
            items.iter().filter(|item| item.target.is_some()).map(Item::id).collect();
        let mut left = self.state.values().to_vec();
        left.retain(|value| !wanted.contains(&value.id) && !self.failed.contains(&value.id));
        for value in &left {
            let Request { catalogue, dry_run, .. } = self.request;
            let change = put_back(self.host, catalogue, &value.id, &value.value, dry_run);
            match change.outcome {
                Outcome::Done | Outcome::Gone(_) => self.state.forget(&value.id),
                Outcome::Failed(_) => {
                    self.failed.insert(value.id.clone());
                }
                Outcome::Would => {}
            }
            self.report.changes.push(change);
        }
        if !left.is_empty() && !self.request.dry_run {
            self.state.save(self.host)?;
        }
        Ok(left.len())
    }

    /// Changes every place that is not as wanted; tells how many.
    fn pass(&mut self) -> Result<usize, StateError> {
        let items = survey(self.host, self.request.profile, self.request.facts);
        let steps: Vec<&Item<'_>> = items.iter().filter(|item| self.is_step(item)).collect();
        if self.request.dry_run {
            self.report.changes.extend(steps.iter().map(|item| change_of(item, Outcome::Would)));
            return Ok(steps.len());
        }
        let mut new = BTreeSet::new();
        for item in &steps {
            if self.state.remember(&item.id(), item.current.as_deref().unwrap_or_default()) {
                new.insert(item.id());
            }
        }
        if !new.is_empty() {
            self.state.save(self.host)?;
        }
        for item in &steps {
            let outcome = self.perform(item);
            if matches!(outcome, Outcome::Failed(_)) {
                self.failed.insert(item.id());
                // What failed halfway still has to be put back.
                if new.contains(&item.id()) && self.is_untouched(item) {
                    self.state.forget(&item.id());
                }
            }
            self.report.changes.push(change_of(item, outcome));
        }
        Ok(steps.len())
    }

    fn is_step(&self, item: &Item<'_>) -> bool {
        let ours = matches!(item.target, Some(Target::Kernel { .. } | Target::Ethtool { .. }));
        ours && matches!(item.status, Status::Low | Status::Differs) && !self.failed.contains(&item.id())
    }

    fn perform(&self, item: &Item<'_>) -> Outcome {
        let (Some(target), Some(wanted)) = (&item.target, &item.wanted) else {
            return Outcome::Failed("it does not apply here".to_owned());
        };
        if let Err(why) = set(self.host, target, &wanted.value()) {
            return Outcome::Failed(why);
        }
        // The kernel may round a number; what counts is the rule.
        shown(self.current(item, target), |found| wanted.compare(found, item.form) == Comparison::Ok)
    }

    /// What a place has now.
    fn current(&self, item: &Item<'_>, target: &Target) -> Result<Option<String>, String> {
        if let Target::Kernel { path } = target {
            return self.host.read(path).map(Some).map_err(|error| error.to_string());
        }
        find(self.host, self.request.catalogue, &item.id()).and_then(|spot| spot.current)
    }

    fn is_untouched(&self, item: &Item<'_>) -> bool {
        let current = item.target.as_ref().and_then(|target| self.current(item, target).ok().flatten());
        let before = item.current.as_deref().unwrap_or_default();
        current.is_some_and(|current| same(&current, before, item.form))
    }

    /// Brings the files that Dunlin owns up to date.
    fn files(&mut self) -> Result<(), StateError> {
        let items = survey(self.host, self.request.profile, self.request.facts);
        for file in Owned::ALL {
            let lines: Vec<(&Setting, String)> =
                items.iter().filter(|item| self.belongs(item, file)).filter_map(kept).collect();
            let existing = match self.host.read_text(file.path(), crate::limits::STATE_BYTES_MAX) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    self.note_file(file, Outcome::Failed(error.to_string()), (None, None));
                    continue;
                }
            };
            let text = file.text(self.request.profile.name, &lines);
            // Without lines the file becomes what it was before us, which is nothing if we never touched it.
            let text = match text {
                Some(text) => Some(text),
                None => match self.state.file(file) {
                    Some(before) => before.map(str::to_owned),
                    None => continue,
                },
            };
            if text != existing {
                self.write(file, existing, text, !lines.is_empty())?;
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        file: Owned,
        from: Option<String>,
        to: Option<String>,
        keeps_lines: bool,
    ) -> Result<(), StateError> {
        if self.request.dry_run {
            self.note_file(file, Outcome::Would, (from, to));
            return Ok(());
        }
        let new = self.state.remember_file(file, from.clone());
        if new {
            self.state.save(self.host)?;
        }
        let outcome = match self.host.replace(file.path(), to.as_deref()) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(explain(&error)),
        };
        if (new && outcome != Outcome::Done) || (!keeps_lines && outcome == Outcome::Done) {
            self.state.forget_file(file);
        }
        self.note_file(file, outcome, (from, to));
        Ok(())
    }

    fn note_file(&mut self, file: Owned, outcome: Outcome, (from, to): (Option<String>, Option<String>)) {
        if self.host.is_this_machine() && outcome == Outcome::Done {
            self.report.advice.extend(file.advice().map(str::to_owned));
        }
        let (from, to) = (described(from.as_deref()), described(to.as_deref()));
        self.report.changes.push(Change { id: file.path().to_owned(), from, to, outcome });
    }

    fn belongs(&self, item: &Item<'_>, file: Owned) -> bool {
        let here = item.target.is_some() && !self.failed.contains(&item.id());
        here && match &item.setting.place {
            Place::Sysctl => file == Owned::Sysctl,
            Place::Service { .. } => file == Owned::DropIn,
            Place::KernelArgument { .. } => item.target == Some(Target::Line(file)),
            Place::File { .. }
            | Place::IdleStates
            | Place::NicInterrupts
            | Place::Ethtool { .. }
            | Place::Absent { .. } => false,
        }
    }
}

/// The line of an item in a file.
fn kept<'a>(item: &Item<'a>) -> Option<(&'a Setting, String)> {
    let wanted = item.wanted.as_ref()?;
    Some((item.setting, wanted.to_keep(item.current.as_deref(), item.form)))
}

fn change_of(item: &Item<'_>, outcome: Outcome) -> Change {
    let to = item.wanted.as_ref().map(crate::rule::Wanted::value).unwrap_or_default();
    Change { id: item.id(), from: item.current.clone().unwrap_or_default(), to, outcome }
}

/// Brings back a value that the state file remembers.
pub(crate) fn put_back(
    host: &Host,
    catalogue: &Catalogue,
    place: &str,
    value: &str,
    dry_run: bool,
) -> Change {
    let change = |from: &str, outcome| Change {
        id: place.to_owned(),
        from: from.to_owned(),
        to: value.to_owned(),
        outcome,
    };
    let spot = match find(host, catalogue, place) {
        Ok(spot) => spot,
        Err(why) => return change("", Outcome::Gone(why)),
    };
    let from = match &spot.current {
        Ok(current) => in_force(current.as_deref().unwrap_or_default(), spot.form),
        Err(why) => return change("", Outcome::Failed(why.clone())),
    };
    let outcome = if dry_run {
        Outcome::Would
    } else if same(&from, value, spot.form) {
        Outcome::Done
    } else {
        match set(host, &spot.target, value) {
            Ok(()) => {
                let now = find(host, catalogue, place).and_then(|spot| spot.current);
                shown(now, |found| same(found, value, spot.form))
            }
            Err(why) => Outcome::Failed(why),
        }
    };
    change(&from, outcome)
}

/// The place of this name.
fn find(host: &Host, catalogue: &Catalogue, place: &str) -> Result<Spot, String> {
    let key = place.split('@').next().unwrap_or_default();
    let setting = catalogue.setting(key).ok_or_else(|| format!("{key} is no setting any more"))?;
    let found = spots(host, setting)?.into_iter().find(|spot| id(setting, spot.name.as_deref()) == place);
    found.ok_or_else(|| "it is no longer there".to_owned())
}

/// Looks whether a place shows what it was given: the kernel bounds numbers, and cards agree to what they do not do.
fn shown(now: Result<Option<String>, String>, is_good: impl Fn(&str) -> bool) -> Outcome {
    match now {
        Ok(Some(found)) if is_good(&found) => Outcome::Done,
        Ok(found) => Outcome::Failed(format!(
            "it was accepted and is {} all the same",
            found.map_or_else(|| "nothing".to_owned(), |found| in_force(&found, Form::Choice))
        )),
        Err(why) => Outcome::Failed(format!("it was accepted, and then: {why}")),
    }
}

/// Gives a place a value.
fn set(host: &Host, target: &Target, value: &str) -> Result<(), String> {
    match target {
        Target::Kernel { path } => host.set(path, value).map_err(|error| explain(&error)),
        Target::Ethtool { nic, option, argument } => {
            match host.ethtool(&[&format!("-{option}"), nic, argument, value]) {
                Some(Ok(_)) => Ok(()),
                Some(Err(problem)) => Err(format!("ethtool says: {problem}")),
                None => Err("the program ethtool is not installed".to_owned()),
            }
        }
        Target::Line(_) | Target::Advice(_) => Err("it is not a value of the kernel".to_owned()),
    }
}

/// What an error of the kernel means for a setting.
pub(crate) fn explain(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::PermissionDenied {
        format!("not permitted ({error}): run it as root; in a container the host must set it")
    } else if kind == io::ErrorKind::ReadOnlyFilesystem {
        "read-only here: the host must set it (for a pod, securityContext.sysctls or its node)".to_owned()
    } else if kind == io::ErrorKind::InvalidInput {
        "this kernel does not take the value".to_owned()
    } else {
        error.to_string()
    }
}

fn described(text: Option<&str>) -> String {
    let Some(text) = text else {
        return "absent".to_owned();
    };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])).count();
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

/// The second pass sees what the first brought about; a third is for a card that needs it twice.
const PASSES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let text = |kind: io::ErrorKind| explain(&kind.into());
        assert!(text(io::ErrorKind::PermissionDenied).contains("as root"));
        assert!(text(io::ErrorKind::ReadOnlyFilesystem).contains("securityContext"));
        assert!(text(io::ErrorKind::InvalidInput).contains("does not take"));
    }

    #[test]
    fn files_are_described_by_their_lines() {
        assert_eq!(described(None), "absent");
        assert_eq!(described(Some("# x\n[Service]\na=1\n")), "1 line");
        assert_eq!(described(Some("a=1\n\nb=2\n")), "2 lines");
    }
}

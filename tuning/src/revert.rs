//! Changes a host back into what it was before it was tuned.

use crate::apply::{Change, Outcome, Report, explain, put_back};
use crate::catalogue::Catalogue;
use crate::host::Host;
use crate::owned::Owned;
use crate::state::{State, StateError};

/// Puts back every value and file that the state file remembers, the last change first, and forgets them. `None` when
/// nothing is remembered. What fails stays remembered, and the rest goes on.
///
/// # Errors
/// When the state file cannot be read or written; see [`StateError`].
pub fn revert(host: &Host, catalogue: &Catalogue, dry_run: bool) -> Result<Option<Report>, StateError> {
    let Some(mut state) = State::load(host, catalogue)? else {
        return Ok(None);
    };
    let mut report = Report::default();
    for file in Owned::ALL {
        let Some(text) = state.file(file) else {
            continue;
        };
        let to = if text.is_some() { "as it was" } else { "absent" };
        let outcome = if dry_run {
            Outcome::Would
        } else {
            match host.replace(file.path(), text) {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(explain(&error)),
            }
        };
        if outcome == Outcome::Done {
            state.forget_file(file);
            report.advice.extend(file.advice().filter(|_| host.is_this_machine()).map(str::to_owned));
        }
        let (id, from) = (file.path().to_owned(), "ours".to_owned());
        report.changes.push(Change { id, from, to: to.to_owned(), outcome });
    }
    for value in state.values().iter().rev().cloned().collect::<Vec<_>>() {
        let change = put_back(host, catalogue, &value.id, &value.value, dry_run);
        if matches!(change.outcome, Outcome::Done | Outcome::Gone(_)) {
            state.forget(&value.id);
        }
        report.changes.push(change);
    }
    if !dry_run {
        state.save(host)?;
    }
    Ok(Some(report))
}

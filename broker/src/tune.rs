//! `dunlin tune`: compares this host with a profile, changes it, changes it back, and teaches why.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use dunlin_shard::runtime::selfcheck::{Finding, Verdict};
use dunlin_tuning::apply::{Report, Request, apply};
use dunlin_tuning::catalogue::{CATALOGUE, Profile};
use dunlin_tuning::facts::Facts;
use dunlin_tuning::host::{Host, effective_user};
use dunlin_tuning::page::{self, Counts};
use dunlin_tuning::revert::revert;
use dunlin_tuning::setting::{Place, Setting};
use dunlin_tuning::state::{self, State};
use dunlin_tuning::survey::{Item, survey};

use crate::boot::say;
use crate::cli::{TuneApply, TuneCommand, TuneExplain, TuneFlags, TuneRevert};

/// `dunlin tune …`: 0 when all is as wanted (check) or all was done, 1 when not, 2 for a wrong command line.
pub(crate) fn tune(command: TuneCommand) -> ExitCode {
    let outcome = match command {
        TuneCommand::Check(flags) => check(&flags),
        TuneCommand::Apply(flags) => apply_profile(&flags),
        TuneCommand::Revert(flags) => go_back(&flags),
        TuneCommand::Explain(flags) => explain(&flags),
    };
    match outcome {
        Ok(code) => code,
        Err(problem) => {
            crate::boot::complain_of(&problem);
            ExitCode::FAILURE
        }
    }
}

fn check(flags: &TuneFlags) -> Result<ExitCode, String> {
    let tuned = Tuned::of(flags)?;
    let items = survey(&tuned.host, tuned.profile, &tuned.facts);
    say(&if flags.json {
        page::table_json(tuned.profile, tuned.facts.connections, &items)
    } else {
        page::table(tuned.profile, &items)
    });
    Ok(code(!items.iter().any(|item| item.status.is_unmet())))
}

fn apply_profile(TuneApply { flags, dry_run }: &TuneApply) -> Result<ExitCode, String> {
    let (dry_run, tuned) = (*dry_run, Tuned::of(flags)?);
    let name = tuned.profile.name;
    if !dry_run {
        need_root(&tuned.host, &format!("dunlin tune apply --profile {name}"))?;
    }
    let request = Request {
        catalogue: &CATALOGUE,
        profile: tuned.profile,
        facts: &tuned.facts,
        connections: flags.connections,
        dry_run,
    };
    let report = apply(&tuned.host, request).map_err(|error| error.to_string())?;
    say(&if flags.json {
        page::changes_json(Some(name), dry_run, &report)
    } else {
        let mut text = page::changes(&report);
        text.push_str(&remark(&report, &survey(&tuned.host, tuned.profile, &tuned.facts), dry_run));
        text
    });
    Ok(code(!report.has_failed()))
}

/// What an apply leaves to say.
fn remark(report: &Report, items: &[Item<'_>], dry_run: bool) -> String {
    let mut text = String::new();
    if report.has_failed() {
        text.push_str("what FAILED was left as it was; the rest is done\n");
    }
    if dry_run {
        text.push_str("nothing was touched (--dry-run)\n");
        return text;
    }
    for item in items.iter().filter(|item| matches!(item.setting.place, Place::Absent { .. })) {
        if item.status.is_unmet() {
            writeln!(text, "{}: {}; {}", item.id(), item.current.as_deref().unwrap_or("-"), item.note)
                .expect("writing to a String does not fail");
        }
    }
    text
}

fn go_back(flags: &TuneRevert) -> Result<ExitCode, String> {
    let host = host(flags.root.as_deref())?;
    if !flags.dry_run {
        need_root(&host, "dunlin tune revert")?;
    }
    let report = revert(&host, &CATALOGUE, flags.dry_run).map_err(|error| error.to_string())?;
    let report = match (report, flags.json) {
        (Some(report), _) => report,
        (None, true) => Report::default(),
        (None, false) => {
            say(&format!("nothing to revert: {} does not exist, so nothing is changed\n", state::PATH));
            return Ok(ExitCode::SUCCESS);
        }
    };
    say(&if flags.json { page::changes_json(None, flags.dry_run, &report) } else { page::changes(&report) });
    Ok(code(!report.has_failed()))
}

fn explain(flags: &TuneExplain) -> Result<ExitCode, String> {
    let all = || CATALOGUE.settings.iter().collect::<Vec<_>>();
    let settings = match &flags.setting {
        Some(key) => named(key)?,
        None => all(),
    };
    if flags.json {
        say(&page::lessons_json(&CATALOGUE, &settings));
        return Ok(ExitCode::SUCCESS);
    }
    let host = host(None)?;
    let profile = match &flags.profile {
        Some(name) => named_profile(name)?,
        None => remembered(&host).0,
    };
    let facts = Facts::of(&host, profile.connections, profile.housekeeping);
    let items = survey(&host, profile, &facts);
    let lessons: Vec<String> = settings
        .iter()
        .map(|setting| {
            let here: Vec<Item<'_>> =
                items.iter().filter(|item| item.setting.key == setting.key).cloned().collect();
            page::lesson(&CATALOGUE, setting, &here)
        })
        .collect();
    say(&lessons.join("\n"));
    Ok(ExitCode::SUCCESS)
}

/// The settings whose key is or holds this text.
fn named(text: &str) -> Result<Vec<&'static Setting>, String> {
    if let Some(setting) = CATALOGUE.setting(text) {
        return Ok(vec![setting]);
    }
    let like: Vec<&Setting> =
        CATALOGUE.settings.iter().filter(|setting| setting.key.contains(text)).collect();
    if like.is_empty() {
        let keys: Vec<&str> = CATALOGUE.settings.iter().map(|setting| setting.key.as_str()).collect();
        return Err(format!("no setting is called {text:?}; there are: {}", keys.join(", ")));
    }
    Ok(like)
}

/// A host, a profile, and what the profile depends on.
struct Tuned {
    host: Host,
    profile: &'static Profile,
    facts: Facts,
}

impl Tuned {
    fn of(flags: &TuneFlags) -> Result<Self, String> {
        let host = host(flags.root.as_deref())?;
        let (profile, connections) = match &flags.profile {
            Some(name) => (named_profile(name)?, None),
            None => remembered(&host),
        };
        let connections = flags.connections.or(connections).unwrap_or(profile.connections);
        let facts = Facts::of(&host, connections, profile.housekeeping);
        Ok(Self { host, profile, facts })
    }
}

fn host(root: Option<&Path>) -> Result<Host, String> {
    Host::at(root.unwrap_or_else(|| Path::new("/"))).map_err(|error| error.to_string())
}

/// The profile that was applied to a host, with its connections; else density.
fn remembered(host: &Host) -> (&'static Profile, Option<u64>) {
    let state = State::load(host, &CATALOGUE).ok().flatten();
    let found = state.and_then(|state| Some((CATALOGUE.profile(&state.profile)?, state.connections)));
    found.unwrap_or_else(|| (CATALOGUE.profile(PROFILE).expect("density is shipped; a test says so"), None))
}

fn named_profile(name: &str) -> Result<&'static Profile, String> {
    CATALOGUE.profile(name).ok_or_else(|| {
        let names: Vec<&str> = CATALOGUE.profiles.iter().map(|profile| profile.name).collect();
        format!("no profile is called {name:?}; there are: {}", names.join(", "))
    })
}

fn need_root(host: &Host, command: &str) -> Result<(), String> {
    if host.is_this_machine() && effective_user().is_some_and(|user| user != 0) {
        return Err(format!(
            "the kernel's settings are root's; nothing was changed. Run: sudo {command}\n(with --dry-run it shows what it \
             would change, without root)"
        ));
    }
    Ok(())
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `dunlin check` says of the host's settings: each that is not as wanted, and a line about the rest.
pub(crate) fn findings() -> Vec<Finding> {
    let Ok(host) = host(None) else {
        return Vec::new();
    };
    let (profile, connections) = remembered(&host);
    let facts = Facts::of(&host, connections.unwrap_or(profile.connections), profile.housekeeping);
    let items = survey(&host, profile, &facts);
    let mut findings: Vec<Finding> = Vec::new();
    for item in items.iter().filter(|item| item.status.is_unmet()) {
        // One line per setting, however many cards and CPUs.
        if findings.last().is_some_and(|finding| finding.subject == item.setting.key) {
            continue;
        }
        findings.push(finding(item));
    }
    let counts = Counts::of(&items);
    let text = format!(
        "profile {}: {} settings as wanted, {} not, {} do not apply here; `dunlin tune check` shows all",
        profile.name, counts.ok, counts.unmet, counts.not_here
    );
    findings.push(Finding { subject: "tuning", verdict: Verdict::Good, text });
    findings
}

fn finding(item: &Item<'static>) -> Finding {
    let wanted = item.wanted.as_ref().map(dunlin_tuning::rule::Wanted::words).unwrap_or_default();
    let mut text = format!("is {}, wanted {wanted}", item.current.as_deref().unwrap_or("not set"));
    if !item.note.is_empty() {
        text.push_str(&format!(" ({})", item.note));
    }
    Finding { subject: &item.setting.key, verdict: Verdict::Warning, text }
}

/// What a host is compared with when nobody has said otherwise.
const PROFILE: &str = "density";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_finds_settings() {
        assert_eq!(named("net.core.somaxconn").map(|found| found.len()), Ok(1));
        assert!(named("conntrack").is_ok_and(|found| found.len() >= 3));
        assert!(named("nothing-like-it").is_err_and(|problem| problem.contains("net.core.somaxconn")));
        assert!(named_profile("fast").is_err_and(|problem| problem.contains("throughput, latency, density")));
        assert_eq!(named_profile(PROFILE).map(|profile| profile.name), Ok("density"));
    }

    #[test]
    fn this_host_is_compared_without_an_error() {
        let findings = findings();
        let last = findings.last().expect("a line about the rest");
        assert_eq!(last.subject, "tuning");
        assert!(last.text.contains("as wanted"), "{}", last.text);
        assert!(findings.iter().all(|finding| finding.verdict != Verdict::Fatal));
    }
}

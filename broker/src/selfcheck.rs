//! `dunlin check`: configuration and host, as a table or as JSON, with what to change.
//!
//! The runtime knows what it cannot do without, and `tune.rs` what would be better; this file adds the listeners and
//! writes the page.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use dunlin_shard::config::Durability;
use dunlin_shard::runtime::selfcheck::{Finding, Verdict, worst};

use crate::config::Effective;
use crate::config::listen::ListenerUrl;
use crate::recovery::RecoveryError;

/// Whether each listener could be bound now. Binds it for a moment.
pub(crate) fn listeners(urls: &[ListenerUrl]) -> Vec<Finding> {
    urls.iter().map(|url| judge_listener(url, TcpListener::bind(url.address).map(drop))).collect()
}

fn judge_listener(url: &ListenerUrl, bound: io::Result<()>) -> Finding {
    let (verdict, text) = match bound {
        Ok(()) => (Verdict::Good, format!("{url} is free")),
        // A warning, because it may be this broker that runs already.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            (Verdict::Warning, format!("{url} {}", why_unbound(&error, url.address)))
        }
        Err(error) => (Verdict::Fatal, format!("{url} {}", why_unbound(&error, url.address))),
    };
    Finding { subject: "listen", verdict, text }
}

/// Whether this user can write the data directory, or make it. Leaves nothing behind.
pub(crate) fn storage(effective: &Effective) -> Finding {
    let (verdict, text) = if effective.settings.durability() == Durability::Memory {
        (Verdict::Good, "sessions and messages are kept in memory only".to_owned())
    } else if let Some(path) = &effective.data_dir {
        judge_data_dir(path)
    } else {
        (Verdict::Fatal, RecoveryError::Nowhere.to_string())
    };
    Finding { subject: "storage", verdict, text }
}

#[expect(clippy::disallowed_methods, reason = "the operator asked to try the folder")]
fn judge_data_dir(path: &Path) -> (Verdict, String) {
    let shown = path.display();
    // What is missing would be made in the nearest folder that is there.
    let there = path.ancestors().find(|folder| folder.exists()).unwrap_or_else(|| Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let trial = there.join(format!(".dunlin-check-{}", std::process::id()));
    match std::fs::write(&trial, b"").and_then(|()| std::fs::remove_file(&trial)) {
        Ok(()) if there == path => (Verdict::Good, format!("{shown} can be written")),
        Ok(()) => (Verdict::Good, format!("{shown} is not there yet and can be made")),
        Err(error) => (
            Verdict::Fatal,
            format!(
                "{shown} cannot be written: {}: {error}; let this user write it, name another folder with --data-dir, or keep \
                 everything in memory with --memory-only",
                there.display()
            ),
        ),
    }
}

/// Why an address cannot be listened on and what to do, as the end of a sentence.
pub(crate) fn why_unbound(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        format!(
            "is in use: another program listens there (`ss -ltnp 'sport = :{port}'` names it); stop it, or choose another \
             port with --listen"
        )
    } else if kind == io::ErrorKind::PermissionDenied {
        "may not be bound by this user: low ports are privileged; take one from 1024 on, or grant CAP_NET_BIND_SERVICE \
         (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)"
            .to_owned()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "is no address of this host; `ip address` lists them".to_owned()
    } else {
        format!("cannot be bound: {error}")
    }
}

/// The findings as a table for people.
pub(crate) fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!(
            "{:<7} {:<width$}  {}\n",
            word(finding.verdict),
            finding.subject,
            finding.text
        ));
    }
    text.push_str(match worst(findings) {
        Verdict::Good => "The broker can run here as configured.\n",
        Verdict::Warning => "The broker can run here; the warnings say what would be better.\n",
        Verdict::Fatal => {
            "The broker cannot run here like this; the lines marked 'fail' say what to change.\n"
        }
    });
    text
}

/// The findings as JSON for programs.
pub(crate) fn json(findings: &[Finding]) -> String {
    let rows: Vec<serde_json::Value> = findings
        .iter()
        .map(|finding| {
            serde_json::json!({ "subject": finding.subject, "verdict": word(finding.verdict), "text": finding.text })
        })
        .collect();
    format!("{:#}\n", serde_json::json!({ "verdict": word(worst(findings)), "findings": rows }))
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Warning => "warn",
        Verdict::Fatal => "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_cannot_be_bound_says_why() {
        let url = |text| ListenerUrl::parse(text).unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(listeners(&[url("mqtt://127.0.0.1:0")])[0].verdict, Verdict::Good);
        let elsewhere = &listeners(&[url("mqtt://192.0.2.1:1883")])[0];
        assert_eq!(elsewhere.verdict, Verdict::Fatal);
        assert!(
            elsewhere.text.contains("mqtt://192.0.2.1:1883 is no address of this host"),
            "{}",
            elsewhere.text
        );
        let judged = |kind: io::ErrorKind| judge_listener(&url("mqtt://127.0.0.1:80"), Err(kind.into()));
        assert_eq!(judged(io::ErrorKind::AddrInUse).verdict, Verdict::Warning);
        assert!(judged(io::ErrorKind::PermissionDenied).text.contains("CAP_NET_BIND_SERVICE"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let good = judge_data_dir(&std::env::temp_dir().join("dunlin-not-there/data"));
        assert_eq!(good.0, Verdict::Good);
        assert!(good.1.contains("can be made"), "{}", good.1);
        let bad = judge_data_dir(Path::new("/proc/version/data"));
        assert_eq!(bad.0, Verdict::Fatal);
        assert!(bad.1.starts_with("/proc/version/data cannot be written: "), "{}", bad.1);
        assert!(bad.1.contains("--data-dir"), "{}", bad.1);
    }

    #[test]
    fn both_forms_tell_the_worst() {
        let findings = [
            Finding { subject: "kernel", verdict: Verdict::Good, text: "Linux 6.18".to_owned() },
            Finding { subject: "io_uring", verdict: Verdict::Fatal, text: "is \"off\"".to_owned() },
        ];
        let text = table(&findings);
        assert!(
            text.contains(
                "ok      kernel    Linux 6.18\nfail    io_uring  is \"off\"\nThe broker cannot run"
            )
        );
        let json: serde_json::Value = serde_json::from_str(&json(&findings)).expect("JSON");
        assert_eq!(json["verdict"], "fail");
        assert_eq!(json["findings"][1]["text"], "is \"off\"");
    }
}

//! The data directory at the start: opened, read back, and told in words.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dunlin_persist::index::{self, Line, LineEnd, Logs, Notice, Writer, open_beside};
use dunlin_persist::report::Phase;
use dunlin_persist::{OpenError, Options, Progress, RealDisk, Report, SyncMode};
use dunlin_shard::config::Durability;
use dunlin_shard::home::{shard_of_client, shard_of_topic};
use dunlin_shard::runtime::ShardLog;

use crate::clock;
use crate::config::{Effective, Settings};
use crate::log::Log;
use crate::notify::Notify;

/// What the shards begin with, and what the start page says of it.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// One per shard, or none at level `memory`.
    pub(crate) logs: Vec<ShardLog>,
    /// Whole lines.
    pub(crate) page: String,
    /// The thread that writes the index; `None` at level `memory`.
    pub(crate) index: Option<Writer>,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    /// Neither a setting nor the environment names one.
    #[error(
        "nobody says where sessions and messages are to be kept: this user has no HOME. Name a folder with --data-dir, or keep \
         them in memory only with --memory-only"
    )]
    Nowhere,
    /// It is named, and does not open.
    #[error("{}: {source}{}", path.display(), advice(source))]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: OpenError,
    },
    /// Another broker has it; the error names the folder and says what to do.
    #[error(transparent)]
    InUse(OpenError),
    /// The folders above it cannot be made.
    #[error("{}: cannot make the folder: {source}{}", path.display(), advice_on(source.kind()))]
    Unmade {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

impl RecoveryError {
    fn of(path: &Path, source: OpenError) -> Self {
        if let OpenError::InUse { .. } = source {
            return Self::InUse(source);
        }
        Self::Unusable { path: path.to_owned(), source }
    }
}

/// Opens the data directory for so many shards and reads back what is there. Blocks for as long as it takes; progress goes to the
/// log and to systemd.
///
/// # Errors
/// When it cannot be used; nothing in it has changed then.
pub(crate) fn recover(
    effective: &Effective,
    shard_count: u16,
    log: &Log,
    notify: &Notify,
) -> Result<Recovery, RecoveryError> {
    let settings = &effective.settings;
    if settings.durability() == Durability::Memory {
        return Ok(Recovery { logs: Vec::new(), page: level_line(settings, Path::new("")), index: None });
    }
    let path = effective.data_dir.clone().ok_or(RecoveryError::Nowhere)?;
    make_parent(&path).map_err(|source| RecoveryError::Unmade { path: path.clone(), source })?;
    let began = clock::now();
    let mut told = Telling { log, notify, began, next: began + PROGRESS_AFTER };
    let (line, end) = index::line(shard_count);
    let opened = RealDisk::open(&path)
        .and_then(|disk| {
            let options = Options { index: Some(line.clone()), ..options(settings, shard_count) };
            dunlin_persist::open(Arc::new(disk), &options, &mut |progress| told.tell(progress))
        })
        .map_err(|source| RecoveryError::of(&path, source))?;
    let took = clock::now().duration_since(began);
    let mut page = level_line(settings, &path);
    page.push_str(&found(&opened.report, took));
    log_report(&opened.report, &path, took, log);
    let pairs = opened.stores.into_iter().zip(opened.recovered);
    let logs = pairs.map(|(store, recovered)| ShardLog { store, recovered }).collect();
    let index = start_index(&path, (line, end), opened.logs, log);
    Ok(Recovery { logs, page, index })
}

/// Starts the thread that brings the index up to date and then writes it. Nothing waits for it.
fn start_index(path: &Path, ends: (Line, LineEnd), logs: Logs, log: &Log) -> Option<Writer> {
    let (path, teller) = (path.to_owned(), log.clone());
    let writer = Writer::start(
        ends,
        move |opening| open_beside(&path, &logs, opening),
        move |notice| tell_of_index(&notice, &teller),
    );
    writer.map_err(|error| tell_of_index(&Notice::Without { why: error.to_string() }, log)).ok()
}

fn tell_of_index(notice: &Notice, log: &Log) {
    let found = ("found", notice.to_string().into());
    match notice {
        Notice::LogLacks { .. } => log.error("the log has lost records", &[found]),
        Notice::MovedAside { .. } | Notice::Without { .. } | Notice::Stopped { .. } => {
            log.warn("index", &[found])
        }
        Notice::Built { .. } | Notice::CaughtUp { .. } => log.info("index", &[found]),
    }
}

/// Makes the folder above, for everybody to pass as usual: only the data directory itself is for its owner alone.
fn make_parent(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|error| {
        // It says so of a file that stands where a folder should.
        if error.kind() == ErrorKind::AlreadyExists { ErrorKind::NotADirectory.into() } else { error }
    })
}

/// How the logs are kept.
fn options(settings: &Settings, shard_count: u16) -> Options {
    let usual = Options::new(
        shard_count,
        |name, shard_count| shard_of_client(name, shard_count).0,
        |topic, shard_count| shard_of_topic(topic, shard_count).0,
    );
    Options {
        now_ms: clock::wall().0,
        segment_bytes: settings.storage.segment_bytes.unwrap_or(usual.segment_bytes),
        quota_bytes: settings.storage.max_bytes,
        sync_mode: SyncMode::Threads,
        ..usual
    }
}

/// What the level in force promises, and where.
fn level_line(settings: &Settings, path: &Path) -> String {
    let path = path.display();
    match settings.durability() {
        Durability::Commit => {
            format!("durability commit: what is acknowledged is on the disk, in {path}\n")
        }
        Durability::Interval => format!(
            "durability interval: what is acknowledged is on the disk after {} ms, in {path}\n",
            settings.durability.interval_ms
        ),
        Durability::Memory => {
            "durability memory: sessions and messages end with the process, as asked\n".to_owned()
        }
    }
}

/// What was found, in one line and, where something was wrong, a second one.
fn found(report: &Report, took: Duration) -> String {
    if *report == Report::default() {
        return "the data directory is new\n".to_owned();
    }
    let mut text = format!(
        "recovered {}, {} and {} from {} of log in {} ms\n",
        count(report.sessions, "session"),
        count(report.retained, "retained message"),
        count(report.queued, "waiting message"),
        megabytes(report.bytes),
        took.as_millis()
    );
    if let Some(before) = report.rehomed_from {
        text.push_str(&format!("sessions were moved to their new homes: {before} shards before\n"));
    }
    if !report.torn.is_empty() {
        let ends = count(report.torn.len() as u64, "unfinished end");
        text.push_str(&format!("{ends} of a log was cut: nothing in it is known to have been on the disk\n"));
    }
    if !report.damaged.is_empty() {
        let lost: u64 = report.damaged.iter().map(|damage| damage.lost_records).sum();
        let places = count(report.damaged.len() as u64, "place");
        text.push_str(&format!(
            "DAMAGED: {places} of the log cannot be read, {} lost; the log names them. Check the disk\n",
            count(lost, "record")
        ));
    }
    text
}

/// The same for the log, each finding with its file.
fn log_report(report: &Report, path: &Path, took: Duration, log: &Log) {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    log.info(
        "data directory opened",
        &[
            ("path", path.display().to_string().into()),
            ("sessions", report.sessions.into()),
            ("retained", report.retained.into()),
            ("queued", report.queued.into()),
            ("records", report.records.into()),
            ("bytes", report.bytes.into()),
            ("cut_off_sessions", report.cut_off_sessions.into()),
            ("expired_sessions", report.expired_sessions.into()),
            ("ms", ms.into()),
        ],
    );
    for torn in &report.torn {
        log.warn("unfinished end of a log", &[("found", torn.to_string().into())]);
    }
    for damage in &report.damaged {
        log.error("damaged log", &[("found", damage.to_string().into())]);
    }
}

/// Tells of a long recovery once a second.
struct Telling<'a> {
    log: &'a Log,
    notify: &'a Notify,
    began: Instant,
    next: Instant,
}

impl Telling<'_> {
    fn tell(&mut self, progress: Progress) {
        let now = clock::now();
        if now < self.next {
            return;
        }
        self.next = now + PROGRESS_EVERY;
        let event = match progress.phase {
            Phase::Reading => "reading the data directory",
            Phase::Rehoming => "moving sessions to their new shards",
        };
        let percent = progress.done_bytes.saturating_mul(100) / progress.total_bytes.max(1);
        let status = format!("{event}: {percent} % of {}", megabytes(progress.total_bytes));
        // A service manager that does not hear it ends the process when its own time is over, as it would have without.
        drop(self.notify.patience(&status, PATIENCE_ASKED));
        let seconds = now.duration_since(self.began).as_secs();
        self.log.info(
            event,
            &[
                ("percent", percent.into()),
                ("of_bytes", progress.total_bytes.into()),
                ("seconds", seconds.into()),
            ],
        );
    }
}

/// What to do, where the error itself does not say it.
fn advice(error: &OpenError) -> &'static str {
    if let OpenError::Io { source, .. } = error { advice_on(source.kind()) } else { "" }
}

fn advice_on(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::PermissionDenied {
        ". Let the user that the broker runs as write there, name another folder with --data-dir, or keep everything in memory \
         with --memory-only"
    } else if matches!(
        kind,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory | ErrorKind::AlreadyExists
    ) {
        ". Name another folder with --data-dir, or keep everything in memory with --memory-only"
    } else if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        ". Make room on that disk, or name a folder on another one with --data-dir"
    } else {
        ". If it is the disk, check it (dmesg); name another folder with --data-dir to start without what is stored"
    }
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / 1_000_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

/// A recovery that takes longer says how far it is.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What a service manager is asked for each time: so long without a word means that something hangs.
const PATIENCE_ASKED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use dunlin_persist::report::{Damage, Torn};

    use super::*;

    #[test]
    fn the_page_says_what_was_found() {
        let took = Duration::from_millis(12);
        assert_eq!(found(&Report::default(), took), "the data directory is new\n");
        let report = Report {
            segments: 1,
            bytes: 1_250_000,
            sessions: 1,
            retained: 2,
            queued: 30,
            ..Report::default()
        };
        let line =
            "recovered 1 session, 2 retained messages and 30 waiting messages from 1.2 MB of log in 12 ms\n";
        assert_eq!(found(&report, took), line);
        let torn = Torn { path: "0/1.log".to_owned(), offset: 9, dropped_records: 0 };
        let damage =
            Damage { path: "0/1.log".to_owned(), offset: 9, bytes: 8, lost_records: 3, kept_as: None };
        let worse = Report { rehomed_from: Some(4), torn: vec![torn], damaged: vec![damage], ..report };
        let text = found(&worse, took);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].contains("4 shards before"), "{text}");
        assert!(lines[2].contains("nothing in it is known to have been on the disk"), "{text}");
        assert!(lines[3].starts_with("DAMAGED: 1 place of the log cannot be read, 3 records lost"), "{text}");
    }

    #[test]
    fn each_level_says_what_it_promises() {
        let mut settings = Settings::default();
        let line = |settings: &Settings| level_line(settings, Path::new("/d"));
        assert_eq!(line(&settings), "durability commit: what is acknowledged is on the disk, in /d\n");
        settings.durability.level = Durability::Interval;
        assert!(line(&settings).contains("after 100 ms, in /d"));
        settings.storage.memory_only = true;
        assert!(line(&settings).starts_with("durability memory: sessions and messages end with the process"));
    }

    #[test]
    fn an_error_says_what_to_do() {
        let of_disk =
            |kind: ErrorKind| OpenError::Io { action: "create", path: "x".to_owned(), source: kind.into() };
        for (kind, word) in [
            (ErrorKind::PermissionDenied, "--memory-only"),
            (ErrorKind::NotADirectory, "--data-dir"),
            (ErrorKind::StorageFull, "Make room"),
            (ErrorKind::Other, "dmesg"),
        ] {
            let error = RecoveryError::of(Path::new("/d"), of_disk(kind));
            let text = error.to_string();
            assert!(text.starts_with("/d: ") && text.contains(word), "{text}");
        }
    }
}

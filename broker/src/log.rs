//! The log: one event per line on standard error, as text or JSON.
//!
//! A record is data. It goes through a bounded channel to one writer thread that formats and writes it, so that whoever
//! logs is never held up by a slow terminal or pipe. What does not fit is dropped, counted, and the count is logged.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use dunlin_shard::WallMs;

use crate::clock;
use crate::config::LogFormat;
use crate::config::value::quote;

/// How much an event matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// Something that was promised is not kept; somebody must act.
    Error = 0,
    /// Something is not as it should be; the line says what to change.
    Warn = 1,
    /// A step of the process's life.
    #[default]
    Info = 2,
    /// For those who look for a fault.
    Debug = 3,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

/// A name and a value.
pub(crate) type Field = (&'static str, Value);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    at: WallMs,
    level: Level,
    event: &'static str,
    fields: Vec<Field>,
}

/// The way into the log for any thread. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    records: Sender<Letter>,
    shared: Arc<Shared>,
}

/// What all ends of the log share.
#[derive(Debug)]
struct Shared {
    level: AtomicU8,
    dropped: AtomicU64,
}

/// What goes to the writer.
#[derive(Debug)]
enum Letter {
    Record(Record),
    Close,
}

impl Log {
    /// Something that was promised is not kept.
    pub(crate) fn error(&self, event: &'static str, fields: &[Field]) {
        self.record(Level::Error, event, fields);
    }

    /// Something is not as it should be.
    pub(crate) fn warn(&self, event: &'static str, fields: &[Field]) {
        self.record(Level::Warn, event, fields);
    }

    /// A step of the process's life.
    pub(crate) fn info(&self, event: &'static str, fields: &[Field]) {
        self.record(Level::Info, event, fields);
    }

    /// For those who look for a fault.
    pub(crate) fn debug(&self, event: &'static str, fields: &[Field]) {
        self.record(Level::Debug, event, fields);
    }

    /// Changes the lowest level that is written.
    pub(crate) fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    fn record(&self, level: Level, event: &'static str, fields: &[Field]) {
        if level as u8 > self.shared.level.load(Ordering::Relaxed) {
            return;
        }
        let record = Record { at: clock::wall(), level, event, fields: fields.to_vec() };
        if self.records.try_send(Letter::Record(record)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The writer thread's other end: ends it at the close of the process.
#[derive(Debug)]
pub(crate) struct LogWriter {
    records: Sender<Letter>,
    done: Receiver<()>,
}

impl LogWriter {
    /// Waits until what was logged is written, at most [`CLOSE_MAX`]: a pipe that nobody reads must not hold up the end.
    pub(crate) fn close(self) {
        let closing = self.records.send_timeout(Letter::Close, CLOSE_MAX);
        if closing.is_ok() {
            // Either the writer is done, or it is stuck and the process ends without it.
            let _either_way = self.done.recv_timeout(CLOSE_MAX);
        }
    }
}

/// Starts the writer thread on standard error.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(format: LogFormat, level: Level) -> std::io::Result<(Log, LogWriter)> {
    start_on(std::io::stderr(), format, level)
}

fn start_on(
    out: impl Write + Send + 'static,
    format: LogFormat,
    level: Level,
) -> std::io::Result<(Log, LogWriter)> {
    let (records, letters) = bounded(RECORDS_MAX);
    let (finished, done) = bounded(1);
    let shared = Arc::new(Shared { level: AtomicU8::new(level as u8), dropped: AtomicU64::new(0) });
    let log = Log { records: records.clone(), shared: Arc::clone(&shared) };
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        write_all(out, &letters, &shared, format);
        drop(finished);
    })?;
    Ok((log, LogWriter { records, done }))
}

/// The writer thread: one line per record, one write per line.
fn write_all(mut out: impl Write, letters: &Receiver<Letter>, shared: &Shared, format: LogFormat) {
    let mut line = String::new();
    for letter in letters {
        let Letter::Record(record) = letter else {
            return;
        };
        write_line(&mut out, &mut line, &record, format);
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let fields = vec![("count", Value::Number(dropped))];
            let record =
                Record { at: clock::wall(), level: Level::Warn, event: "log lines were dropped", fields };
            write_line(&mut out, &mut line, &record, format);
        }
    }
}

fn write_line(out: &mut impl Write, line: &mut String, record: &Record, format: LogFormat) {
    line.clear();
    let formatted = match format {
        LogFormat::Text => text_line(line, record),
        LogFormat::Json => json_line(line, record),
    };
    formatted.expect("writing to a String does not fail");
    line.push('\n');
    // A log that cannot be written has nowhere to say so.
    drop(out.write_all(line.as_bytes()));
}

/// `TIME LEVEL EVENT key=value …`
fn text_line(line: &mut String, record: &Record) -> std::fmt::Result {
    write!(line, "{} {:<5} {}", clock::rfc3339(record.at), record.level.name(), record.event)?;
    for (name, value) in &record.fields {
        match value {
            Value::Number(number) => write!(line, " {name}={number}")?,
            Value::Text(text) if is_plain(text) => write!(line, " {name}={text}")?,
            Value::Text(text) => write!(line, " {name}={}", quote(text))?,
        }
    }
    Ok(())
}

/// `{"time":…,"level":…,"event":…,"key":value,…}`
fn json_line(line: &mut String, record: &Record) -> std::fmt::Result {
    let (time, level) = (clock::rfc3339(record.at), record.level.name());
    write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"event\":{}", quote(record.event))?;
    for (name, value) in &record.fields {
        match value {
            Value::Number(number) => write!(line, ",\"{name}\":{number}")?,
            Value::Text(text) => write!(line, ",\"{name}\":{}", quote(text))?,
        }
    }
    line.write_char('}')
}

/// Whether a text can stand in a line without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\'))
}

/// Records that may wait for the writer: a burst of a few hundred kilobytes.
const RECORDS_MAX: usize = 4_096;

/// How long the end of the process waits for the writer, each of two times.
const CLOSE_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends what is written to a channel, one write at a time.
    struct Pipe(Sender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
            self.0.send(text).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line_of(format: LogFormat) -> String {
        let fields: Vec<Field> = vec![
            ("url", "mqtt://127.0.0.1:1".into()),
            ("count", 3_u64.into()),
            ("why", "it said \"no\"\nand went".into()),
        ];
        let record = Record { at: WallMs(0), level: Level::Warn, event: "something happened", fields };
        let mut line = String::new();
        let formatted = match format {
            LogFormat::Text => text_line(&mut line, &record),
            LogFormat::Json => json_line(&mut line, &record),
        };
        formatted.expect("a line");
        line
    }

    #[test]
    fn a_text_line_is_one_line_with_fields() {
        assert_eq!(
            line_of(LogFormat::Text),
            r#"1970-01-01T00:00:00.000Z warn  something happened url=mqtt://127.0.0.1:1 count=3 why="it said \"no\"\nand went""#
        );
    }

    #[test]
    fn a_json_line_is_an_object() {
        let line: serde_json::Value = serde_json::from_str(&line_of(LogFormat::Json)).expect("JSON");
        assert_eq!(line["level"], "warn");
        assert_eq!(line["event"], "something happened");
        assert_eq!(line["count"], 3);
        assert_eq!(line["why"], "it said \"no\"\nand went");
    }

    #[test]
    fn what_is_below_the_level_is_not_written() {
        let (lines, written) = bounded(10);
        let (log, writer) = start_on(Pipe(lines), LogFormat::Text, Level::Warn).expect("a thread");
        log.info("not this", &[]);
        log.error("but this", &[]);
        log.set_level(Level::Debug);
        log.debug("and this", &[]);
        writer.close();
        let lines: Vec<String> = written.try_iter().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("error but this") && lines[1].contains("debug and this"));
    }

    #[test]
    fn a_stuck_writer_holds_nobody_up_and_what_is_lost_is_counted() {
        let (lines, written) = bounded(0);
        let (log, writer) = start_on(Pipe(lines), LogFormat::Text, Level::Info).expect("a thread");
        let sent = RECORDS_MAX + 100;
        for _ in 0..sent {
            log.info("flood", &[]);
        }
        let mut flood = 0;
        let dropped = loop {
            let line = written.recv().expect("the writer goes on");
            match line.split_once("log lines were dropped count=") {
                Some((_, count)) => break count.trim().parse::<usize>().expect("a number"),
                None => flood += 1,
            }
        };
        drop(written);
        writer.close();
        assert!(
            dropped >= 99,
            "one record may be in the writer's hand, the channel holds the others: {dropped}"
        );
        assert!(flood <= sent - dropped);
    }
}

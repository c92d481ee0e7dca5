//! Programs of others: started, read line by line, waited for with a deadline, and ended with the test.

use crate::DEADLINE;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// A running program with its output as lines.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    lines: Receiver<Line>,
    seen: Vec<Line>,
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// From standard output.
    Out(String),
    /// From standard error.
    Err(String),
}

impl Line {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Out(text) | Self::Err(text) => text,
        }
    }
}

/// What a program left when it ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub out: String,
    /// All of its standard error.
    pub err: String,
}

impl Ended {
    /// Fails unless the program ended well.
    pub fn ok(self) -> Self {
        assert!(
            self.status.success(),
            "ended with {}\n--- out\n{}--- err\n{}",
            self.status,
            self.out,
            self.err
        );
        self
    }
}

impl Program {
    /// Starts `command` with its output read in the background.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} can't be started ({error}); tests/all installs what is needed")
            });
        let (sender, lines) = channel();
        let out = child.stdout.take().expect("standard output is piped");
        let err = child.stderr.take().expect("standard error is piped");
        read_lines(out, sender.clone(), Line::Out);
        read_lines(err, sender, Line::Err);
        Self { name, child, lines, seen: Vec::new() }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that `wanted` accepts, among those not waited for yet, and returns its text.
    pub fn line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.line_or_end(what, wanted).unwrap_or_else(|| self.fail(&format!("ended without {what}")))
    }

    /// As [`Self::line`]; `None` if the program ends without it.
    pub fn line_or_end(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(line.text()) {
                        return Some(line.text().to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("no {what} in time")),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Sends the signal with this name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.id().to_string())
            .status()
            .expect("kill can be run");
        assert!(status.success(), "kill -{name} {} failed", self.id());
    }

    /// Waits until the program has ended, at most [`DEADLINE`].
    #[must_use]
    pub fn end(self) -> Ended {
        self.end_within(DEADLINE)
    }

    /// Waits until the program has ended, at most `time`.
    #[must_use]
    pub fn end_within(mut self, time: Duration) -> Ended {
        let until = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => self.fail("did not end in time"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait().expect("the program's end");
        let text = |pick: fn(&Line) -> Option<&String>| {
            self.seen.iter().filter_map(pick).fold(String::new(), |all, line| all + line + "\n")
        };
        Ended {
            status,
            out: text(|line| if let Line::Out(text) = line { Some(text) } else { None }),
            err: text(|line| if let Line::Err(text) = line { Some(text) } else { None }),
        }
    }

    fn fail(&mut self, what: &str) -> ! {
        let text = self.text();
        panic!("{}: {what}\n{text}", self.name);
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// All lines seen so far, also those that came in since the last wait.
    pub fn text(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().fold(String::new(), |all, line| all + line.text() + "\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when the program has ended already.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs `command` to its end.
#[must_use]
pub fn run(command: &mut Command) -> Ended {
    Program::start(command).end()
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<Line>, kind: fn(String) -> Line) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(bytes) = line else { break };
            let text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
            if to.send(kind(text)).is_err() {
                break;
            }
        }
    });
}

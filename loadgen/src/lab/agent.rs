//! An agent: waits for a coordinator, runs what it is given as a process of its own, and sends back what comes out.
//!
//! It serves one coordinator at a time and survives all of them. If the coordinator falls silent, its process is ended:
//! a load that nobody watches is an attack.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::message::{Line, Message, VERSION};
use super::parcel::Parcel;
use super::secret::{Role, Token, challenge};
use super::{LabError, wall_ns};

/// What an agent decides for itself about the runs that it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct House {
    /// Says what is wrong with a command line before it is run.
    pub(crate) check: fn(&[String]) -> Result<(), String>,
    /// Where a run serves its figures to Prometheus while it is under way: the operator of this host says it, not the coordinator.
    pub(crate) prometheus: Option<SocketAddr>,
}

/// Serves coordinators on `address` for ever.
///
/// # Errors
/// When the address can't be listened on.
pub(crate) fn serve(address: SocketAddr, token: &Token, house: &House) -> Result<(), LabError> {
    let network = |source| LabError::Network { who: format!("listening on {address}"), source };
    let listener = TcpListener::bind(address).map_err(network)?;
    let address = listener.local_addr().map_err(network)?;
    say(&format!("agent {} listens on {address}", env!("CARGO_PKG_VERSION")));
    loop {
        let (stream, peer) = listener.accept().map_err(network)?;
        let ended = Line::new(stream).and_then(|line| attend(line, token, house));
        match ended {
            Ok(what) => say(&format!("{peer}: {what}")),
            Err(error) => say(&format!("{peer}: {error}")),
        }
    }
}

/// One coordinator, from its greeting to its end.
fn attend(mut line: Line, token: &Token, house: &House) -> io::Result<String> {
    let ours = challenge()?;
    line.say(&Message::Hello {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        challenge: ours.clone(),
    })?;
    let Some(Message::Hello { version, program, challenge: theirs }) = line.hear(GREETING_PATIENCE)? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no greeting came"));
    };
    let Some(Message::Proof { proof }) = line.hear(GREETING_PATIENCE)? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no proof came"));
    };
    if !token.proves(Role::Coordinator, [&theirs, &ours], &proof) {
        line.say(&Message::Refused {
            why: "the tokens differ; give both sides the same --token FILE".to_owned(),
        })?;
        return Ok("refused: its token is another".to_owned());
    }
    if version != VERSION || program != env!("CARGO_PKG_VERSION") {
        let why = format!(
            "versions differ: the agent is {} (conversation {VERSION}), the coordinator {program} ({version})",
            env!("CARGO_PKG_VERSION")
        );
        line.say(&Message::Refused { why: why.clone() })?;
        return Ok(why);
    }
    line.say(&Message::Proof { proof: token.proof(Role::Agent, [&theirs, &ours]) })?;
    line.trust();
    Shift { line, heard_at: now(), job: None }.work(house)
}

/// The conversation after the greeting.
struct Shift {
    line: Line,
    heard_at: Instant,
    job: Option<Job>,
}

impl Shift {
    fn work(mut self, house: &House) -> io::Result<String> {
        loop {
            match self.line.hear(TURN) {
                Ok(Some(message)) => {
                    self.heard_at = now();
                    if let Some(end) = self.answer(message, house)? {
                        return Ok(end);
                    }
                }
                Ok(None) if now().duration_since(self.heard_at) > SILENCE => {
                    return Ok("fell silent; its run was ended".to_owned());
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok("has gone".to_owned());
                }
                Err(error) => return Err(error),
            }
            if let Some(job) = &mut self.job
                && let Some(done) = job.tend(&mut self.line)?
            {
                self.job = None;
                self.line.say(&done)?;
            }
        }
    }

    /// Deals with a message; returns how the conversation ended, if it did.
    fn answer(&mut self, message: Message, house: &House) -> io::Result<Option<String>> {
        match message {
            Message::Ping { asked } => self.line.say(&Message::Pong { asked, seen: wall_ns() })?,
            Message::Run { arguments, parcel, start_ns } if self.job.is_none() => {
                match Job::begin(arguments, parcel.as_ref(), start_ns, house) {
                    Ok(job) => self.job = Some(job),
                    Err(why) => self.line.say(&Message::Refused { why })?,
                }
            }
            Message::Stop => return Ok(Some("ended the run".to_owned())),
            Message::Hello { .. }
            | Message::Proof { .. }
            | Message::Refused { .. }
            | Message::Pong { .. }
            | Message::Run { .. }
            | Message::Started { .. }
            | Message::Line { .. }
            | Message::Done { .. } => {
                let why = "this message is not an agent's to get now".to_owned();
                self.line.say(&Message::Refused { why })?;
            }
        }
        Ok(None)
    }
}

/// A command line that waits for its time, then runs. Dropping it ends the process.
struct Job {
    command: Command,
    start_ns: i64,
    running: Option<Running>,
    folder: Option<PathBuf>,
}

struct Running {
    child: Child,
    lines: Receiver<String>,
    output: Receiver<io::Result<String>>,
}

impl Job {
    fn begin(
        mut arguments: Vec<String>,
        parcel: Option<&Parcel>,
        start_ns: i64,
        house: &House,
    ) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("finding the program: {error}"))?;
        // From here on dropping it removes the folder.
        let mut job = Self {
            command: Command::new(program),
            start_ns,
            running: None,
            folder: parcel.map(|_| Parcel::folder(wall_ns())),
        };
        if let Some((parcel, folder)) = parcel.zip(job.folder.as_ref()) {
            let laid_out = parcel.lay_out(folder, &mut arguments);
            laid_out.map_err(|error| format!("keeping the scenario's files: {error}"))?;
        }
        (house.check)(&arguments)?;
        if let Some(address) = house.prometheus {
            arguments.extend(["--prometheus".to_owned(), address.to_string()]);
        }
        job.command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(job)
    }

    /// Starts the process when it is time, and passes on what it says; returns the last message when it has ended.
    fn tend(&mut self, line: &mut Line) -> io::Result<Option<Message>> {
        let Some(running) = &mut self.running else {
            let wait_ns = self.start_ns.saturating_sub(wall_ns());
            if wait_ns > TURN_NS {
                return Ok(None);
            }
            // The last stretch is slept through, so that all agents begin within a fraction of a millisecond.
            std::thread::park_timeout(Duration::from_nanos(wait_ns.max(0).unsigned_abs()));
            self.running = Some(start(&mut self.command)?);
            line.say(&Message::Started { late_ns: wall_ns().saturating_sub(self.start_ns) })?;
            return Ok(None);
        };
        while let Ok(text) = running.lines.try_recv() {
            line.say(&Message::Line { text })?;
        }
        let Some(status) = running.child.try_wait()? else { return Ok(None) };
        let output = running.output.recv_timeout(GREETING_PATIENCE).map_err(io::Error::other)??;
        while let Ok(text) = running.lines.recv_timeout(TURN) {
            line.say(&Message::Line { text })?;
        }
        Ok(Some(Message::Done { code: status.code(), output }))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            // Fails only if the process has ended already.
            drop(running.child.kill());
            drop(running.child.wait());
        }
        if let Some(folder) = &self.folder {
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

/// Starts the process and two threads that read what it writes.
#[expect(
    clippy::disallowed_methods,
    reason = "reading two pipes at once takes threads; an agent drives no load itself"
)]
fn start(command: &mut Command) -> io::Result<Running> {
    let mut child = command.spawn()?;
    let missing = || io::Error::other("the process has no pipe");
    let (stdout, stderr) =
        (child.stdout.take().ok_or_else(missing)?, child.stderr.take().ok_or_else(missing)?);
    let (tell_line, lines) = channel();
    std::thread::spawn(move || {
        for text in BufReader::new(stderr).lines().map_while(Result::ok) {
            if tell_line.send(text).is_err() {
                return;
            }
        }
    });
    let (tell_output, output) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.take(OUTPUT_BYTES_MAX).read_to_string(&mut text).map(|_| text);
        // Nobody waits for the output of a run that was ended.
        drop(tell_output.send(read));
    });
    Ok(Running { child, lines, output })
}

fn say(text: &str) {
    // There is nobody else to tell if the standard error stream is closed.
    drop(writeln!(io::stderr(), "{text}"));
}

#[expect(clippy::disallowed_methods, reason = "the generator's edge to the clock")]
fn now() -> Instant {
    Instant::now()
}

/// How often a running process is looked at.
const TURN: Duration = Duration::from_millis(20);
const TURN_NS: i64 = 20_000_000;
/// How long a greeting may take.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// A coordinator that says nothing for so long has gone: it asks for the time twice a second.
const SILENCE: Duration = Duration::from_secs(10);
/// What a process may print.
const OUTPUT_BYTES_MAX: u64 = 48 << 20;

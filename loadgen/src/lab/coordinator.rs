//! The coordinator: greets all agents, compares clocks, hands out shares, and gathers what comes back.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::message::{Line, Message, VERSION};
use super::offset::{ClockWatch, ROUNDS_PER_GROUP, Round};
use super::parcel::Parcel;
use super::result::{AgentEnd, AgentResult, LabReport};
use super::secret::{Role, Token, challenge};
use super::share::{SHARES_MAX, Share};
use super::{LabError, is_run, wall_ns};
use crate::cli::LabArgs;
use crate::plan::Source;

/// What happens to a run that loses an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LossPolicy {
    /// It is ended on all agents, and there is no result.
    #[default]
    End,
    /// It goes on with the others; the result says who is missing and is not clean.
    Continue,
}

/// A run over several agents.
#[derive(Clone, Debug)]
pub(crate) struct LabPlan {
    /// The agents; each gets an equal share.
    pub(crate) agents: Vec<SocketAddr>,
    pub(crate) token: Token,
    pub(crate) on_loss: LossPolicy,
    /// The command line without the program's name, and without what names the agents.
    pub(crate) arguments: Vec<String>,
    /// The scenario file with its own files, if it is one of this host.
    pub(crate) parcel: Option<Parcel>,
}

impl LabPlan {
    /// The plan for `own`, the coordinator's own command line without the program's name.
    ///
    /// # Errors
    /// When there are too many agents, the command line is no run, or the scenario's files can't be sent.
    pub(crate) fn new(
        arguments: &LabArgs,
        own: &[String],
        scenario: Option<&Source>,
        token: Token,
    ) -> Result<Self, LabError> {
        let agents = arguments.agents.clone();
        if agents.len() > SHARES_MAX as usize {
            let why = format!("{} agents are more than {SHARES_MAX}", agents.len());
            return Err(LabError::Refused { who: "--agents".to_owned(), why });
        }
        let on_loss = arguments.on_agent_loss;
        let arguments = Self::without_agents(own);
        is_run(&arguments).map_err(|why| LabError::Refused { who: "--agents".to_owned(), why })?;
        let parcel = scenario.map(|source| Parcel::pack(source, &arguments)).transpose();
        let parcel =
            parcel.map_err(|why| LabError::Refused { who: "the scenario file".to_owned(), why })?.flatten();
        Ok(Self { agents, token, on_loss, arguments, parcel })
    }

    /// A command line without what is the coordinator's.
    fn without_agents(own: &[String]) -> Vec<String> {
        let mut kept = Vec::new();
        let mut words = own.iter();
        while let Some(word) = words.next() {
            let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
            if COORDINATORS_OPTIONS.contains(&name) {
                if name.len() == word.len() {
                    words.next();
                }
            } else if word != "--json" {
                kept.push(word.clone());
            }
        }
        kept
    }
}

/// Runs a command line on all agents at the same time.
///
/// # Errors
/// When an agent can't be used, or is lost and the run is to end then.
pub(crate) fn run(plan: &LabPlan) -> Result<LabReport, LabError> {
    let mut agents = Vec::new();
    for (address, number) in plan.agents.iter().zip(1_u32..) {
        agents.push(Agent::greet(*address, number, &plan.token)?);
    }
    let of = u32::try_from(agents.len()).expect("the command line bounds the agents");
    let start_ns = wall_ns().saturating_add(LEAD_NS);
    for agent in &mut agents {
        agent.hand_out(plan, of, start_ns)?;
    }
    let began = now();
    let ended = AtomicBool::new(false);
    let results: Vec<AgentResult> = std::thread::scope(|scope| {
        let ended = &ended;
        let threads: Vec<_> = agents
            .into_iter()
            .map(|agent| scope.spawn(move || agent.attend(began, plan.on_loss, ended)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an agent's thread does not panic")).collect()
    });
    if plan.on_loss == LossPolicy::End
        && let Some((agent, why, seconds)) = results.iter().find_map(|result| match &result.end {
            AgentEnd::Lost { why, seconds } => Some((result.agent, why, *seconds)),
            AgentEnd::Done { .. } | AgentEnd::Ended => None,
        })
    {
        return Err(LabError::Lost { lost: agent.to_string(), seconds, why: why.clone() });
    }
    Ok(LabReport::of(results))
}

/// One agent, from here.
struct Agent {
    address: SocketAddr,
    number: u32,
    line: Line,
    clock: ClockWatch,
}

impl Agent {
    /// Connects, proves and demands proof, and compares clocks.
    fn greet(address: SocketAddr, number: u32, token: &Token) -> Result<Self, LabError> {
        let network = |source| LabError::Network { who: format!("agent {address}"), source };
        let refused = |why: &str| LabError::Refused { who: format!("agent {address}"), why: why.to_owned() };
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(network)?;
        let mut line = Line::new(stream).map_err(network)?;
        let ours = challenge().map_err(network)?;
        let greeting = line.hear(PATIENCE).map_err(network)?;
        let Some(Message::Hello { challenge: theirs, .. }) = greeting else {
            return Err(refused(
                "no greeting came; is it a dunlin-loadgen agent, and not busy with another run?",
            ));
        };
        let hello = Message::Hello {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            challenge: ours.clone(),
        };
        line.say(&hello).map_err(network)?;
        let proof = token.proof(Role::Coordinator, [&ours, &theirs]);
        line.say(&Message::Proof { proof }).map_err(network)?;
        match line.hear(PATIENCE).map_err(network)? {
            Some(Message::Proof { proof }) if token.proves(Role::Agent, [&ours, &theirs], &proof) => {}
            Some(Message::Refused { why }) => return Err(refused(&why)),
            Some(_) | None => return Err(refused("it did not prove that it has the token")),
        }
        line.trust();
        let mut agent = Self { address, number, line, clock: ClockWatch::default() };
        for _ in 0..ROUNDS_PER_GROUP {
            agent.line.say(&Message::Ping { asked: wall_ns() }).map_err(network)?;
            match agent.line.hear(PATIENCE).map_err(network)? {
                Some(Message::Pong { asked, seen }) => {
                    agent.clock.add(Round { asked, seen, answered: wall_ns() });
                }
                Some(_) | None => return Err(refused("it did not say what time it is")),
            }
        }
        Ok(agent)
    }

    fn hand_out(&mut self, plan: &LabPlan, of: u32, start_ns: i64) -> Result<(), LabError> {
        let mut arguments = plan.arguments.clone();
        let share = Share::new(self.number, of);
        arguments.extend(["--share".to_owned(), share.to_string(), "--json".to_owned()]);
        let start_ns = start_ns.saturating_add(self.clock.offset().offset_ns);
        let order = Message::Run { arguments, parcel: plan.parcel.clone(), start_ns };
        self.line
            .say(&order)
            .map_err(|source| LabError::Network { who: format!("agent {}", self.address), source })
    }

    /// Listens until the agent is done, lost, or the run is ended.
    fn attend(mut self, began: Instant, on_loss: LossPolicy, ended: &AtomicBool) -> AgentResult {
        let mut late_ns = None;
        let end = match self.listen(ended, &mut late_ns) {
            Ok(end) => end,
            Err(error) => {
                if on_loss == LossPolicy::End {
                    ended.store(true, Ordering::Relaxed);
                }
                let seconds = now().duration_since(began).as_secs();
                say(&format!("{}: lost after {seconds} s: {error}", self.address));
                AgentEnd::Lost { why: error.to_string(), seconds }
            }
        };
        AgentResult {
            agent: self.address,
            clock: self.clock.offset(),
            drift_ns: self.clock.drift_ns(),
            started_late_ns: late_ns,
            end,
        }
    }

    fn listen(&mut self, ended: &AtomicBool, late_ns: &mut Option<i64>) -> io::Result<AgentEnd> {
        let mut heard_at = now();
        let mut asked_at = heard_at;
        loop {
            if ended.load(Ordering::Relaxed) {
                self.line.say(&Message::Stop)?;
                return Ok(AgentEnd::Ended);
            }
            if now().duration_since(asked_at) > ASK_EVERY {
                asked_at = now();
                self.line.say(&Message::Ping { asked: wall_ns() })?;
            }
            let heard = self.line.hear(TURN)?;
            if heard.is_some() {
                heard_at = now();
            }
            match heard {
                None if now().duration_since(heard_at) > SILENCE => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing any more"));
                }
                None => {}
                Some(Message::Pong { asked, seen }) => {
                    self.clock.add(Round { asked, seen, answered: wall_ns() });
                }
                Some(Message::Started { late_ns: late }) => *late_ns = Some(late),
                Some(Message::Line { text }) => say(&format!("{}: {text}", self.address)),
                Some(Message::Done { code, output }) => return Ok(AgentEnd::Done { code, output }),
                Some(Message::Refused { why }) => return Err(io::Error::other(why)),
                Some(
                    Message::Hello { .. }
                    | Message::Proof { .. }
                    | Message::Ping { .. }
                    | Message::Run { .. }
                    | Message::Stop,
                ) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it speaks as a coordinator does",
                    ));
                }
            }
        }
    }
}

fn say(text: &str) {
    // There is nobody else to tell if the standard error stream is closed.
    drop(writeln!(io::stderr(), "{text}"));
}

#[expect(clippy::disallowed_methods, reason = "the generator's edge to the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Options with a value that agents don't get.
const COORDINATORS_OPTIONS: [&str; 5] = ["--agents", "--token", "--on-agent-loss", "--share", "--out"];
/// How long connecting and each answer of a greeting may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// From the last greeting to the common start.
const LEAD_NS: i64 = 300_000_000;
/// Pause between two looks at whether the run was ended.
const TURN: Duration = Duration::from_millis(100);
/// How often clocks are compared, which also tells that both sides live.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// An agent that says nothing for so long is lost: it answers four times a second.
const SILENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_get_the_command_line_without_what_names_them() {
        let own = "p2p --agents a:1,b:2 -n 10 --token=f --json --on-agent-loss end --target x:1 --agents=c:3 --out f";
        let own: Vec<String> = own.split(' ').map(str::to_owned).collect();
        assert_eq!(LabPlan::without_agents(&own), ["p2p", "-n", "10", "--target", "x:1"]);
    }
}

//! `dunlin-loadgen crash`: kills a broker again and again and accounts for every message.
//!
//! The checker knows nothing of the broker but the standard. It starts it with a command line, loads it with clients of
//! all habits (`cast.rs`), kills it at a random moment, starts it again, resumes all sessions (`party.rs`) and keeps
//! books of everything that was acknowledged (`books.rs`, `stream.rs`, `kept.rs`). Every so often it waits until all
//! that is owed has come; what has not is lost.
//!
//! Reading order: `arguments.rs`, `cast.rs`, `stream.rs`, `pool.rs` (shared groups), `books.rs`, `kept.rs`, `absence.rs`, `party.rs`,
//! `stage.rs` (what happens to clients), `returning.rs` (when they come back), `receiving.rs` (what they are given),
//! `moves.rs` (what they do), `run.rs` (the cycles), `broker.rs` and `guard.rs` (the process), `findings.rs`.

mod absence;
mod arguments;
mod books;
mod broker;
mod cast;
mod findings;
mod flaw;
mod guard;
mod kept;
mod moves;
mod party;
mod pool;
mod receiving;
mod returning;
mod run;
mod stage;
mod stream;

use std::net::TcpStream;

pub(crate) use arguments::CrashArgs;
use broker::{Broker, Folder};
use cast::Cast;
pub(crate) use findings::Findings;
pub(crate) use run::CrashError;
use run::Run;
use stage::Stage;

use crate::engine::EngineConfig;
use crate::scenario::Settings;

/// Carries out a run.
///
/// # Errors
/// When the broker can't be started or the host refuses something.
pub(crate) fn run(arguments: &CrashArgs, settings: &Settings) -> Result<Findings, CrashError> {
    let host = |doing: &str| {
        let doing = doing.to_owned();
        move |source| CrashError::Host { doing, source }
    };
    let mut route = settings.route.clone();
    if arguments.command.iter().any(|part| part.contains("{port}")) {
        route.targets = vec![broker::free_address().map_err(host("looking for a free port"))?];
    }
    route.targets.truncate(1);
    let target = route.targets[0];
    if TcpStream::connect(target).is_ok() {
        return Err(CrashError::Taken(target));
    }
    let folder = Folder::new(arguments.folder.as_deref()).map_err(host("making the run's folder"))?;
    let broker = Broker::new(&arguments.command, &folder.path, target.port())
        .map_err(host("starting the shell that cleans up after a run that is broken off"))?;
    let cast = Cast::new(arguments, settings.run);
    let connections =
        u32::try_from(cast.roles.len() * 2).expect("the command line allows some thousand clients");
    let config = EngineConfig {
        route,
        transport: settings.transport.clone(),
        connections,
        per_ring: settings.per_ring,
        one_answer: false,
    };
    let patience_ns = settings.patience_seconds.max(1).saturating_mul(crate::clock::SECOND_NS);
    let mut run = Run::new(arguments, patience_ns, broker, Stage::new(cast, settings.seed), config)?;
    run.play()?;
    let mut findings = Findings::of(&run, settings.seed);
    run.broker.dismiss_guard();
    drop(run);
    if arguments.keep || !findings.clean {
        findings.folder = Some(folder.path.display().to_string());
    } else {
        folder.remove();
    }
    Ok(findings)
}

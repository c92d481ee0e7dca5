//! The gate of benchmark CI: instructions of the hot paths, counted by callgrind and held against a baseline.
//!
//! Time varies with who else runs; the number of instructions hardly does, so a change of two percent can be seen on any
//! machine. It says nothing of cache misses and of the kernel: `dunlin-perf compare` does.

mod baseline;
mod callgrind;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use baseline::{Baseline, Finding, Line, table};
use callgrind::{Error, Program, baseline_path, compiler};

/// Options of the instruction gate.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Benchmarks whose names contain one of these; all when absent.
    names: Vec<String>,
    /// Fail if a count differs from the baseline by more than its tolerance.
    #[arg(long)]
    check: bool,
    /// Accept the counts: write them into the baseline.
    #[arg(long, conflicts_with = "check")]
    record: bool,
    /// The baseline; perf/baselines/icount.json when absent.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Name the benchmarks and count nothing.
    #[arg(long)]
    list: bool,
}

/// Counts and compares.
///
/// # Errors
/// When nothing could be counted, in words.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    gate(options).map_err(|Error(text)| text)
}

fn gate(options: &Options) -> Result<ExitCode, Error> {
    let program = Program::build()?;
    let all = program.names()?;
    let wanted: Vec<&String> = all.iter().filter(|name| is_wanted(name, &options.names)).collect();
    if options.list {
        say(&wanted.iter().map(|name| format!("{name}\n")).collect::<String>());
        return Ok(ExitCode::SUCCESS);
    }
    if wanted.is_empty() {
        return Err(Error(format!("no benchmark is called {:?}; --list names them", options.names)));
    }
    let path = options.baseline.clone().unwrap_or_else(baseline_path);
    let mut baseline = load(&path)?;
    let mut counts = Vec::new();
    for name in &wanted {
        counts.push(((*name).clone(), program.count(name)?));
    }
    let mut lines = baseline.compare(&counts);
    // What was not asked for is not gone.
    lines.retain(|line| line.finding != Finding::Gone || is_wanted(&line.name, &options.names));
    say(&table(&lines));
    let compiler = compiler();
    if options.record {
        baseline.record(compiler, &counts, options.names.is_empty());
        store(&path, &baseline)?;
        say(&format!("\nwritten to {}\n", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let changed: Vec<&Line> = lines.iter().filter(|line| line.finding != Finding::Same).collect();
    if changed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "\n{} of {} differ from the baseline by more than their tolerance.\n",
        changed.len(),
        lines.len()
    ));
    if baseline.compiler != compiler {
        say(&format!("The baseline was counted with {}; this is {compiler}.\n", baseline.compiler));
    }
    say("If that is meant, accept it in a commit of its own that says why: cargo perf icount --record\n");
    Ok(if options.check { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn is_wanted(name: &str, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()))
}

fn say(text: &str) {
    // Nobody is there to be told that nobody listens.
    drop(io::stdout().write_all(text.as_bytes()));
}

/// A baseline that is not there is empty: all benchmarks are new.
#[expect(clippy::disallowed_methods, reason = "a tool reads its file")]
fn load(path: &Path) -> Result<Baseline, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Error(format!("{}: {error}; put it right or record it anew", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Baseline::default()),
        Err(error) => Err(Error(format!("{}: {error}", path.display()))),
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool writes its file")]
fn store(path: &Path, baseline: &Baseline) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(baseline).expect("strings and finite numbers");
    text.push('\n');
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error(format!("{}: {error}", folder.display())))?;
    }
    std::fs::write(path, text).map_err(|error| Error(format!("{}: {error}", path.display())))
}

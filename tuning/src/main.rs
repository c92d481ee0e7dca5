//! `cargo run -p dunlin-tuning` writes the files of `tuning/` that are made from the catalogue.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use dunlin_tuning::catalogue::CATALOGUE;
use dunlin_tuning::shipped;

#[expect(clippy::disallowed_methods, reason = "a tool for the tree, not the broker")]
fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in shipped::files(&CATALOGUE) {
        let target = folder.join(&path);
        let written = target.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = written.and_then(|()| std::fs::write(&target, text)) {
            drop(writeln!(std::io::stderr(), "{}: {error}", target.display()));
            return ExitCode::FAILURE;
        }
        drop(writeln!(std::io::stdout(), "tuning/{path}"));
    }
    ExitCode::SUCCESS
}

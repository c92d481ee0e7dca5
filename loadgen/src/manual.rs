//! The manual page and the completion that the package ships. Exists in tests only, which compare them with the files
//! in `tuning/package/`.

use std::path::Path;

use clap::CommandFactory as _;
use dunlin_manual::{Program, bash_completion, check};

use crate::cli::Cli;

fn page() -> String {
    let mut page = Program::new(Cli::command()).page();
    page.see_also(&["dunlin(1)", "mosquitto(8)"]);
    page.render()
}

#[test]
fn the_packaged_manual_is_current() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/package");
    for (file, wanted) in
        [("man/dunlin-loadgen.1", page()), ("completions/dunlin-loadgen", bash_completion(Cli::command()))]
    {
        check(&package.join(file), &wanted).unwrap_or_else(|problem| panic!("{problem}"));
    }
}

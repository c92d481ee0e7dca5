//! The files in the tree are those that the catalogue makes.

use std::path::Path;

use dunlin_tuning::catalogue::CATALOGUE;
use dunlin_tuning::shipped;

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads the tree")]
fn shipped_files_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text) in shipped::files(&CATALOGUE) {
        let found = std::fs::read_to_string(folder.join(&path)).unwrap_or_default();
        assert!(
            found == text,
            "tuning/{path} is not what the catalogue makes; run `cargo run -p dunlin-tuning`"
        );
    }
}

//! The page of benchmarks is what the tool writes from the stored record, so that nobody edits it by hand.

#![expect(clippy::disallowed_methods, reason = "a test reads and writes files")]

use std::path::Path;
use std::process::Command;

#[test]
fn the_page_is_what_the_tool_writes_from_its_record() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(top.join("docs/benchmarks.md")).unwrap();
    let (_, rest) = page.split_once("--from ").expect("the page names its record in its first line");
    let record = rest.split_ascii_whitespace().next().unwrap();
    let again = std::env::temp_dir().join(format!("dunlin-benchmarks-{}.md", std::process::id()));
    let status = Command::new(env!("CARGO_BIN_EXE_dunlin-perf"))
        .args(["sheet", "--from", record, "--page"])
        .arg(&again)
        .current_dir(top)
        .status()
        .unwrap();
    assert!(status.success() || status.code() == Some(1), "{status}");
    let written = std::fs::read_to_string(&again).unwrap();
    std::fs::remove_file(&again).unwrap();
    let differs = page.lines().zip(written.lines()).find(|(page, tool)| page != tool);
    assert!(
        page == written,
        "docs/benchmarks.md is not what the tool writes; run: cargo perf sheet --from {record} --page \
         docs/benchmarks.md\nfirst difference: {differs:?}"
    );
}

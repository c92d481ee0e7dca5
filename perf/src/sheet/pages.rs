//! The page of benchmarks: the report of a record, with what else lies in the record's folder.

use std::path::Path;

use super::markdown;
use super::report::Report;
use crate::error::Error;
use crate::files;

/// The page of a record. Other Markdown files in the record's folder, which other tools have written there, follow in
/// the order of their names.
///
/// # Errors
/// When the record's folder can't be read.
pub(crate) fn page(report: &Report, record: &Path) -> Result<String, Error> {
    let record_name = record.display();
    let note = format!(
        "<!-- Written by: cargo perf sheet --from {record_name} --page docs/benchmarks.md\n     \
         A test holds this page against what the tool writes; change the tool or the record, not the page. -->\n\n"
    );
    let mut text = note + &markdown::text(report);
    let reading = |source| Error::host(format!("reading beside {record_name}"), source);
    let folder =
        record.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut others = Vec::new();
    for entry in folder.read_dir().map_err(reading)? {
        let path = entry.map_err(reading)?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            others.push(path);
        }
    }
    others.sort();
    for other in others {
        text.push('\n');
        text.push_str(files::read(&other).map_err(reading)?.trim_end());
        text.push('\n');
    }
    text.push_str(&format!(
        "\n## Raw figures\n\nEvery run with the generator's whole report is in `{record_name}`.\n"
    ));
    Ok(text)
}

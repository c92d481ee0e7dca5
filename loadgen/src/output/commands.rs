//! `report` and `merge`: what can be done with the files of runs that are over.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::hlog::Log;
use super::{OutputError, csv, files, html, markdown, text, trials};
use crate::record::{Outcome, Standard};

/// Options of `report`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// Outcomes of runs (outcome.json of `--out FOLDER`); several are shown side by side.
    #[arg(required = true, value_name = "FILE.json")]
    pub(crate) files: Vec<PathBuf>,
    /// Write one page with plots that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the run second by second; the percentiles go to a file beside it (FILE-percentiles.csv), what a
    /// search has tried to another (FILE-trials.csv).
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write tables in Markdown.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// Options of `merge`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MergeArgs {
    /// Parts of one run: all .hlog, or all outcome.json.
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// File to write, of the same kind.
    #[arg(long, short, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

/// Makes reports of outcomes; returns what to print. The table of each is printed when no file was asked for.
///
/// # Errors
/// When a file can't be read or written, or is something else.
pub(crate) fn report(arguments: &ReportArgs) -> Result<String, OutputError> {
    let outcomes: Vec<Outcome> =
        arguments.files.iter().map(|path| files::read_outcome(path)).collect::<Result<_, _>>()?;
    let mut written: Vec<PathBuf> = Vec::new();
    let mut save = |path: &Path, text: String| {
        written.push(path.to_owned());
        files::write(path, text.as_bytes())
    };
    if let Some(path) = &arguments.html {
        save(path, html::page(&outcomes))?;
    }
    if let Some(path) = &arguments.csv {
        save(path, csv::series(&outcomes))?;
        save(&beside(path, "percentiles"), csv::percentiles(&outcomes))?;
        if let Some(table) = trials::table(&outcomes) {
            save(&beside(path, "trials"), table)?;
        }
    }
    if let Some(path) = &arguments.markdown {
        save(path, markdown::document(&outcomes))?;
    }
    if written.is_empty() {
        return Ok(outcomes.iter().map(text::table).collect::<Vec<_>>().join("\n"));
    }
    Ok(written.iter().map(|path| format!("wrote {}\n", path.display())).collect())
}

/// `x.csv` becomes `x-percentiles.csv`, for example.
fn beside(path: &Path, what: &str) -> PathBuf {
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or("report");
    path.with_file_name(format!("{stem}-{what}.csv"))
}

/// Joins the parts of a run without losing a sample; returns what to print.
///
/// # Errors
/// When a file can't be read or written, is something else, or belongs to another run.
pub(crate) fn merge(arguments: &MergeArgs) -> Result<String, OutputError> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "hlog");
    let logs = arguments.files.iter().filter(|path| is_log(path)).count();
    let bytes = if logs == arguments.files.len() {
        merge_logs(&arguments.files)?
    } else if logs == 0 {
        merge_outcomes(&arguments.files)?
    } else {
        let text = "some files are .hlog and some are not: merge the one kind, then the other";
        return Err(OutputError::Mismatch(text.to_owned()));
    };
    files::write(&arguments.output, &bytes)?;
    Ok(format!("merged {} files into {}\n", arguments.files.len(), arguments.output.display()))
}

fn merge_logs(paths: &[PathBuf]) -> Result<Vec<u8>, OutputError> {
    let mut merged: Option<Log> = None;
    for path in paths {
        let malformed = |reason| OutputError::Malformed { path: path.clone(), reason };
        let log = Log::parse(&files::read(path)?).map_err(malformed)?;
        match &mut merged {
            Some(merged) => merged.merge(&log),
            None => merged = Some(log),
        }
    }
    Ok(merged.unwrap_or_default().bytes())
}

fn merge_outcomes(paths: &[PathBuf]) -> Result<Vec<u8>, OutputError> {
    let mut outcomes: Vec<(&PathBuf, Outcome)> = paths
        .iter()
        .map(|path| Ok((path, files::read_outcome(path)?)))
        .collect::<Result<_, OutputError>>()?;
    outcomes.sort_by_key(|(_, outcome)| outcome.environment.started_unix_ms);
    let mut parts = outcomes.into_iter();
    let Some((first, mut merged)) = parts.next() else { return Ok(Vec::new()) };
    for (path, mut part) in parts {
        if part.plan.name != merged.plan.name {
            return Err(OutputError::Mismatch(format!(
                "{} is of the plan {:?} and {} of {:?}: only parts of one run can be merged; to compare runs use \
                 `dunlin-loadgen report A B --html F`",
                first.display(),
                merged.plan.name,
                path.display(),
                part.plan.name
            )));
        }
        if merged.search.is_some() || part.search.is_some() {
            return Err(OutputError::Mismatch(format!(
                "{} and {} are searches, which are not parts of one run: to see them side by side use `dunlin-loadgen \
                 report A B --html F`",
                first.display(),
                path.display()
            )));
        }
        let later_ms = part.environment.started_unix_ms - merged.environment.started_unix_ms;
        part.delay(Duration::from_millis(later_ms));
        merged.merge(&part);
    }
    merged.judge(&Standard::default());
    Ok(files::json(&merged).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::html::tests::sample;
    use super::*;
    use crate::record::Leg;

    /// A folder of its own for a test, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("dunlin-output-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn outcome(&self, name: &str, outcome: &Outcome) -> PathBuf {
            let folder = self.0.join(name);
            files::write_all(&folder, outcome).unwrap();
            folder.join("outcome.json")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn outcomes_become_reports_and_merge() {
        let folder = Folder::new("merge");
        let (mut one, mut two) = (sample("p2p"), sample("p2p"));
        (one.search, two.search) = (None, None);
        two.environment.started_unix_ms += 2_400;
        let files = vec![folder.outcome("two", &two), folder.outcome("one", &one)];
        let output = folder.0.join("all.json");
        merge(&MergeArgs { files: files.clone(), output: output.clone() }).unwrap();
        let merged = files::read_outcome(&output).unwrap();
        let samples = |outcome: &Outcome| outcome.legs.of(Leg::Deliver).unwrap().raw.samples();
        assert_eq!(samples(&merged), 2 * samples(&one));
        assert_eq!(merged.counters.sent, 2 * one.counters.sent);
        assert_eq!(merged.series.points().len(), one.series.points().len() + 2);

        let csv = folder.0.join("x.csv");
        let wanted = ReportArgs {
            files: files.clone(),
            html: Some(folder.0.join("x.html")),
            csv: Some(csv.clone()),
            markdown: Some(folder.0.join("x.md")),
        };
        assert_eq!(report(&wanted).unwrap().lines().count(), 4);
        assert!(beside(&csv, "percentiles").exists() && !beside(&csv, "trials").exists());
        let table = report(&ReportArgs { html: None, csv: None, markdown: None, ..wanted }).unwrap();
        assert_eq!(table.matches("FAILED").count(), 2);

        let logs: Vec<PathBuf> = files.iter().map(|path| path.with_file_name("times.hlog")).collect();
        let output = folder.0.join("all.hlog");
        merge(&MergeArgs { files: logs.clone(), output: output.clone() }).unwrap();
        assert!(Log::parse(&files::read(&output).unwrap()).is_ok());
        let mixed = MergeArgs { files: vec![logs[0].clone(), files[0].clone()], output };
        assert!(merge(&mixed).unwrap_err().to_string().contains("some files"));
    }

    #[test]
    fn searches_have_a_table_of_trials_and_are_not_merged() {
        let folder = Folder::new("trials");
        let files = vec![folder.outcome("one", &sample("a")), folder.outcome("two", &sample("a"))];
        assert!(files[0].with_file_name("trials.csv").exists());
        let csv = folder.0.join("x.csv");
        let wanted = ReportArgs { files: files.clone(), html: None, csv: Some(csv.clone()), markdown: None };
        assert_eq!(report(&wanted).unwrap().lines().count(), 3);
        assert_eq!(
            String::from_utf8(files::read(&beside(&csv, "trials")).unwrap()).unwrap().lines().count(),
            5
        );
        let error = merge(&MergeArgs { files, output: folder.0.join("x.json") }).unwrap_err().to_string();
        assert!(error.contains("are searches"), "{error}");
    }

    #[test]
    fn different_plans_are_not_merged() {
        let folder = Folder::new("plans");
        let files = vec![folder.outcome("a", &sample("a")), folder.outcome("b", &sample("b"))];
        let error = merge(&MergeArgs { files, output: folder.0.join("x.json") }).unwrap_err().to_string();
        assert!(error.contains("only parts of one run"), "{error}");
        let absent =
            ReportArgs { files: vec![folder.0.join("none.json")], html: None, csv: None, markdown: None };
        assert!(report(&absent).unwrap_err().to_string().contains("none.json"));
    }
}

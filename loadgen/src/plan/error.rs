//! Why a scenario can't be used: where, what, and what to do.

use std::fmt;

/// Why a scenario can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PlanError {
    /// Neither a file nor a scenario of the library.
    #[error(
        "{name:?} is neither a file nor a scenario of the library; `dunlin-loadgen scenarios` lists those{}",
        nearest.as_ref().map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The scenario whose name comes close.
        nearest: Option<String>,
    },
    /// A file can't be read.
    #[error("{file}: {error}; check the path, and that you may read it")]
    Unreadable {
        /// Which file.
        file: String,
        /// What the host says.
        error: std::io::Error,
    },
    /// A value given on the command line doesn't fit.
    #[error("{0}")]
    Override(String),
    /// The file says something that can't be done.
    #[error("{}", list(file, problems))]
    Invalid {
        /// Which file, or which scenario of the library.
        file: String,
        /// All that is wrong, in the order of the file.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong in a scenario file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The line, from 1; 0 if no single line is to blame.
    pub(crate) line: usize,
    /// What it is about, such as `group "pumps", topic`.
    pub(crate) place: String,
    /// What is wrong and what to do.
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            formatter.write_str(&self.what)
        } else {
            write!(formatter, "{}: {}", self.place, self.what)
        }
    }
}

/// One line per problem, each beginning with `file:line:` as compilers print it.
fn list(file: &str, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| match problem.line {
            0 => format!("{file}: {problem}"),
            line => format!("{file}:{line}: {problem}"),
        })
        .collect();
    lines.join("\n")
}

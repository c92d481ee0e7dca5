//! Why a command could not be carried out.

use std::io;

/// Why a command could not be carried out.
#[derive(Debug)]
pub(crate) enum Error {
    /// The host refused something.
    Host {
        /// What was being done.
        doing: String,
        /// The answer.
        source: io::Error,
    },
    /// Something that the operator can change.
    Advice(String),
}

impl Error {
    /// An error of the host while doing something.
    pub(crate) fn host(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Host { doing: doing.into(), source }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host { doing, source } => write!(formatter, "{doing}: {source}"),
            Self::Advice(text) => formatter.write_str(text),
        }
    }
}

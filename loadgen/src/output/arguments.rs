//! What a run can be told about its output.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{files, prometheus::Prometheus, terminal::Terminal};
use crate::record::{Outcome, Watch};

/// Options of all commands that run something.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Folder for everything that the run finds: outcome.json, report.html, report.md, series.csv, percentiles.csv and
    /// times.hlog; of a search trials.csv too.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Serve the figures of the running second to Prometheus on this address, under /metrics.
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) prometheus: Option<SocketAddr>,
    /// Do not show how the run is going.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

impl OutputArgs {
    /// Those who look on while the run is under way.
    ///
    /// # Errors
    /// When the address for Prometheus can't be listened on.
    pub(crate) fn watch(&self) -> Result<Box<dyn Watch>, OutputError> {
        let mut watches: Vec<Box<dyn Watch>> = Vec::new();
        if !self.quiet {
            watches.push(Box::new(Terminal::stderr()));
        }
        if let Some(address) = self.prometheus {
            let served = Prometheus::serve(address);
            watches.push(Box::new(served.map_err(|source| OutputError::Listen { address, source })?));
        }
        Ok(Box::new(watches))
    }

    /// Writes the files that were asked for; returns what was written.
    ///
    /// # Errors
    /// When one can't be written.
    pub(crate) fn write(&self, outcome: &Outcome) -> Result<Vec<PathBuf>, OutputError> {
        self.out.as_deref().map_or_else(|| Ok(Vec::new()), |folder| files::write_all(folder, outcome))
    }
}

/// Why an output could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// A file can't be read or written.
    #[error("{doing} {path}: {source}", path = path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file has something else in it than it should.
    #[error("{path}: {reason}", path = path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Files were given that do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// The address for Prometheus is not to be had.
    #[error("--prometheus {address}: {source}; is another run serving there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl OutputError {
    /// Adds what was being done to which file to the kernel's answer.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}

//! What leaves the program: files, pages, the terminal, Prometheus.
//!
//! Reading order: `arguments.rs` (what can be asked for), `files.rs` (writing and reading outcomes), then one file per
//! form: `text.rs` with `trials.rs`, `markdown.rs`, `csv.rs`, `hlog.rs`, `html.rs` with `plot.rs`, `charts.rs` and `sections.rs`; while
//! running `terminal.rs` and `prometheus.rs`; `commands.rs` has `report` and `merge`.

mod arguments;
mod charts;
mod commands;
mod csv;
mod figures;
mod files;
mod hlog;
mod html;
mod markdown;
mod plot;
mod prometheus;
mod sections;
mod terminal;
mod text;
mod trials;

pub(crate) use arguments::{OutputArgs, OutputError};
pub(crate) use commands::{MergeArgs, ReportArgs, merge, report};
pub(crate) use figures::time as span;
pub(crate) use text::table;
pub(crate) use trials::{TRIALS_HEAD, trial_line};

//! What a run finds, while it runs and afterwards.
//!
//! Reading order: `leg.rs` (what is timed), `times.rs` (two histograms per leg), `counters.rs` and `violations.rs`
//! (what is counted), `recorder.rs` (what a running thread writes to), `series.rs` (second by second, in
//! bounded memory), `watch.rs` and `live.rs` (who looks on), `outcome.rs` (everything at the end, with `plan_note.rs`,
//! `environment.rs` and `resources.rs`), `verdict.rs` (what it is worth).

mod counters;
mod environment;
mod leg;
mod live;
mod outcome;
mod recorder;
mod resources;
mod series;
mod times;
mod verdict;
mod violations;
mod watch;

pub(crate) use counters::{Counters, FailureCounts};
pub(crate) use environment::Environment;
pub(crate) use leg::Leg;
pub(crate) use live::Live;
pub(crate) use outcome::{FORMAT_VERSION, Outcome, PlanNote, Search, Stage, Trial, Value};
pub(crate) use recorder::Recorder;
pub(crate) use resources::{PerConnection, ResourcePoint, Resources};
pub(crate) use series::{Point, Series};
pub(crate) use times::{Legs, Summary, Times};
pub(crate) use verdict::{Standard, Verdict};
pub(crate) use violations::{Violation, Violations};
#[cfg(test)]
pub(crate) use watch::{Blind, LegNow};
pub(crate) use watch::{Snapshot, Watch};

//! `dunlin store compact`: the logs are written anew without what nobody needs any more.

use std::process::ExitCode;

use dunlin_persist::inspect;
use dunlin_persist::report::Phase;
use serde_json::json;

use super::flags::CompactFlags;
use super::place::{Place, existing};
use super::progress::{ProgressLine, size};
use crate::boot::say;

pub(super) fn compact(flags: &CompactFlags) -> Result<ExitCode, String> {
    let path = existing(&flags.place)?;
    let place = Place::to_change(&path)?;
    let before = inspect::disk_bytes(place.disk.as_ref()).map_err(|error| error.to_string())?;
    let mut line = ProgressLine::new();
    let report = dunlin_persist::compact(&place.disk, &super::options(1), &mut |progress| {
        let what = match progress.phase {
            Phase::Reading => "reading",
            Phase::Rehoming => "writing",
        };
        line.at(what, progress.done_bytes, progress.total_bytes);
    });
    line.end();
    let report = report.map_err(|error| error.to_string())?;
    let after = inspect::disk_bytes(place.disk.as_ref()).map_err(|error| error.to_string())?;
    let Some(report) = report else {
        return Err(format!("{}: never used, there is nothing to compact", path.display()));
    };
    for damage in &report.damaged {
        crate::boot::complain_of(&damage.to_string());
    }
    say(&if flags.json {
        format!(
            "{}\n",
            json!({"directory": path, "bytes_before": before, "bytes_after": after, "damaged": report.damaged.len()})
        )
    } else {
        format!("{}: {} before, {} now\n", path.display(), size(before), size(after))
    });
    Ok(if report.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

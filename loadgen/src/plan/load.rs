//! From a name or a path to a plan.

use std::path::Path;

use super::error::{PlanError, Problem};
use super::schema::Plan;

/// What the command line changes in a plan.
#[derive(Clone, Debug)]
pub(crate) struct Overrides {
    /// Parameters by name, as given with `--set name=value`.
    pub(crate) parameters: Vec<(String, String)>,
    /// By what every `count`, and every rate over a whole group, is multiplied; a group keeps at least one client.
    pub(crate) scale: f64,
}

impl Default for Overrides {
    fn default() -> Self {
        Self { parameters: Vec::new(), scale: 1.0 }
    }
}

/// Loads the scenario file at this path, or the scenario of the library with this name.
///
/// # Errors
/// [`PlanError`] says what is wrong, in which line, and what to do.
pub(crate) fn load(name_or_path: &str, overrides: &Overrides) -> Result<Plan, PlanError> {
    let text = read(name_or_path)?;
    parse(name_or_path, &text, overrides)
}

#[expect(clippy::disallowed_methods, reason = "a tool reads the files that it is given")]
fn read(path: &str) -> Result<String, PlanError> {
    std::fs::read_to_string(Path::new(path))
        .map_err(|error| PlanError::Unreadable { file: path.to_owned(), error })
}

/// Reads a plan from text; `file` is its name in messages.
fn parse(file: &str, text: &str, _overrides: &Overrides) -> Result<Plan, PlanError> {
    let invalid = |error: &toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        let problem = Problem { line, place: String::new(), what: error.message().to_owned() };
        PlanError::Invalid { file: file.to_owned(), problems: vec![problem] }
    };
    toml::from_str(text).map_err(|error| invalid(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
version = 1
name = "small"
about = "Two pumps report to one dashboard."

[[group]]
name = "dashboard"
count = 1
subscribe = [{ filter = "plant/+/state", qos = 1 }]

[[group]]
name = "pumps"
count = 2
client_id = "pump-{index}"
keep_alive = "30s"
connect = { rate = 100, arrivals = { burst = 10 } }
behaviour = { slow_reader = { bytes_per_second = 100 } }

[[group.publish]]
topic = "plant/{index}/state"
qos = 1
payload = { text = '{"t": {rand:18.0:24.0}, "s": "{stamp}"}' }
per_client = "1/s"

[[stage]]
name = "come up"
start = ["dashboard", "pumps"]
until = "subscribed"
timeout = "10s"

[[stage]]
name = "work"
duration = "10s"
rate = { from = 0.5, to = 1 }
measure = true

[verify]
loss = { off = "pumps are slow" }
"#;

    #[test]
    fn a_plan_is_read_and_survives_being_written() {
        let plan = parse("small.toml", SMALL, &Overrides::default()).unwrap();
        let written = toml::to_string(&plan).unwrap();
        assert_eq!(toml::from_str::<Plan>(&written).unwrap(), plan, "{written}");
    }
}

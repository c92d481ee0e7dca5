//! The commands `scenarios` and `explain`, and the arguments of `run`.

use clap::Args;

use super::error::PlanError;
use super::explain::explain;
use super::library::{self, SCENARIOS};
use super::load::{Overrides, SCALE_MAX, load};

/// Which scenario `run` and `explain` are about, and how it is changed.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    /// A scenario file, or the name of a scenario of the library (`dunlin-loadgen scenarios` lists them).
    #[arg(value_name = "FILE|NAME")]
    pub(crate) scenario: String,
    /// Give a parameter of the scenario another value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,
    /// Multiply the clients of every group, and every rate over a whole group.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    pub(crate) scale: f64,
}

impl PlanArgs {
    /// What they change.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { parameters: self.set.clone(), scale: self.scale }
    }
}

/// A factor that a plan can be scaled by.
fn scale(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if value > 0.0 && value <= SCALE_MAX {
        Ok(value)
    } else {
        Err(format!("must be above 0 and at most {SCALE_MAX:.0}"))
    }
}

/// `name=value` as a pair.
fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// What `explain` prints.
///
/// # Errors
/// As [`load`].
pub(crate) fn explain_command(arguments: &PlanArgs) -> Result<String, PlanError> {
    load(&arguments.scenario, &arguments.overrides()).map(|plan| explain(&plan))
}

/// What `scenarios` prints: a line for each, or the file of one.
///
/// # Errors
/// If there is no scenario of this name.
pub(crate) fn scenarios_command(name: Option<&str>) -> Result<String, PlanError> {
    if let Some(name) = name {
        return library::find(name)
            .map(str::to_owned)
            .ok_or_else(|| PlanError::Unknown { name: name.to_owned(), nearest: library::nearest(name) });
    }
    let mut out = String::new();
    for (name, text) in SCENARIOS {
        out.push_str(&format!("{name:18}  {}\n", library::about(text)));
    }
    out.push_str(
        "\nexplain one:  dunlin-loadgen explain NAME\n\
         run one:      dunlin-loadgen run NAME\n\
         begin a file: dunlin-loadgen scenarios NAME > mine.toml\n",
    );
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_its_line_and_its_file() {
        let list = scenarios_command(None).unwrap();
        for (name, text) in SCENARIOS {
            let line = list.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            assert!(line.len() > 40 && line.len() < 120, "{line}");
            assert_eq!(scenarios_command(Some(name)).unwrap(), text);
            assert!(text.starts_with("# "), "{name} says what it shows first");
        }
        assert!(scenarios_command(Some("wils")).unwrap_err().to_string().contains("did you mean \"wills\"?"));
    }

    #[test]
    fn values_are_given_as_pairs() {
        assert_eq!(assignment("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(assignment("a").is_err());
    }
}

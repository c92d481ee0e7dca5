//! From a name or a path to a plan.
//!
//! In this order: the text is parsed, parameters are filled in (no line moves), the types are read, the defaults are put
//! into the groups, the scale is applied, the files are loaded, and everything is checked.

use std::collections::BTreeMap;

use super::data::Rows;
use super::document::{Document, Step, problem_of, steps};
use super::error::{PlanError, Problem};
use super::jwt::Minter;
use super::parameters::Parameters;
use super::quantity::Rate;
use super::schema::{Behaviour, Group, Plan};
use super::source::Source;
use super::validate;

/// What the command line changes in a plan.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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
    load_from(Source::open(name_or_path)?, overrides)
}

/// Loads a scenario that has been opened already, here or on another host. The plan keeps the source, with its files.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_from(mut source: Source, overrides: &Overrides) -> Result<Plan, PlanError> {
    let text = filled_in(&source, overrides)?;
    let invalid = |problems| PlanError::Invalid { file: source.name.clone(), problems };
    let document = Document::parse(&text.0).map_err(|problem| invalid(vec![problem]))?;
    let mut plan = read(&text.0, &document).map_err(invalid)?;
    plan.parameters = text.1;
    if !(overrides.scale > 0.0 && overrides.scale <= SCALE_MAX) {
        return Err(PlanError::Override(format!(
            "--scale {}: the scale must be above 0 and at most {SCALE_MAX:.0}",
            overrides.scale
        )));
    }
    scale(&mut plan, overrides.scale);
    let mut problems = bind(&mut plan, &document);
    problems.extend(load_files(&mut plan, &mut source, &document));
    problems.extend(validate::check(&plan, &document));
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() {
        plan.source = source;
        Ok(plan)
    } else {
        Err(PlanError::Invalid { file: source.name, problems })
    }
}

/// The largest scale: enough to make a thousand clients a million.
pub(crate) const SCALE_MAX: f64 = 1e4;

/// The text with parameters filled in, and the values that they have.
fn filled_in(
    source: &Source,
    overrides: &Overrides,
) -> Result<(String, BTreeMap<String, toml::Value>), PlanError> {
    let invalid = |problem| PlanError::Invalid { file: source.name.clone(), problems: vec![problem] };
    let document = Document::parse(&source.text).map_err(invalid)?;
    let mut parameters = Parameters::default();
    for (name, value) in document.parameters() {
        parameters.define(name, value).map_err(|what| {
            invalid(Problem { line: document.line(&steps!["parameters", name]), place: String::new(), what })
        })?;
    }
    for (name, text) in &overrides.parameters {
        parameters.set(name, text).map_err(PlanError::Override)?;
    }
    let text = parameters
        .fill_in(&document)
        .map_err(|what| invalid(Problem { line: 0, place: "parameters".to_owned(), what }))?;
    Ok((text, parameters.values()))
}

/// The types, with the defaults in the groups.
fn read(text: &str, document: &Document<'_>) -> Result<Plan, Vec<Problem>> {
    // Read as it stands first: these errors know their lines.
    let plain: Plan = toml::from_str(text).map_err(|error| vec![problem_of(text, &error)])?;
    let Some(defaults) = plain.defaults.clone() else { return Ok(plain) };
    let problems = check_defaults(&defaults, document);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut table: toml::Table = toml::from_str(text).map_err(|error| vec![problem_of(text, &error)])?;
    table.remove("defaults");
    let groups = table.get_mut("group").and_then(toml::Value::as_array_mut);
    for group in groups.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
        for (key, value) in &defaults {
            group.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let whole = |error: toml::de::Error| {
        vec![Problem { line: 0, place: "defaults".to_owned(), what: error.message().to_owned() }]
    };
    Plan::deserialize_table(table).map_err(whole)
}

/// Each default by itself must be a key that a group may have.
fn check_defaults(defaults: &toml::Table, document: &Document<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, value) in defaults {
        let problem = |what: String| Problem {
            line: document.line(&steps!["defaults", key.as_str()]),
            place: format!("defaults, {key}"),
            what,
        };
        if matches!(key.as_str(), "name" | "count") {
            problems.push(problem("every group has its own; write it there".to_owned()));
            continue;
        }
        let mut sample = toml::Table::new();
        sample.insert("name".to_owned(), "sample".into());
        sample.insert("count".to_owned(), 1.into());
        sample.insert(key.clone(), value.clone());
        let read: Result<Group, toml::de::Error> = sample.try_into();
        problems.extend(read.err().map(|error| problem(error.message().trim_end().replace('\n', ", "))));
    }
    problems
}

/// Multiplies what counts clients, and what is a rate over all of them.
fn scale(plan: &mut Plan, factor: f64) {
    let times = |rate: &mut Option<Rate>| *rate = rate.map(|rate| rate.times(factor));
    for group in &mut plan.groups {
        if group.count > 0 {
            group.count = scaled_count(group.count, factor);
        }
        times(&mut group.connect.rate);
        for publish in &mut group.publish {
            times(&mut publish.rate);
        }
        if let Some(sparkplug) = &mut group.sparkplug {
            times(&mut sparkplug.rate);
        }
        if let Behaviour::Malformed { rate, .. } = &mut group.behaviour {
            *rate = rate.times(factor);
        }
    }
}

/// At least one, and no more than can be counted.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
fn scaled_count(count: u32, factor: f64) -> u32 {
    (f64::from(count) * factor).round().clamp(1.0, f64::from(u32::MAX)) as u32
}

/// Tells templates how many clients each group has; returns those that name a group that is not there.
fn bind(plan: &mut Plan, document: &Document<'_>) -> Vec<Problem> {
    let counts: BTreeMap<String, u32> =
        plan.groups.iter().map(|group| (group.name.clone(), group.count)).collect();
    let mut problems = Vec::new();
    for (at, group) in plan.groups.iter_mut().enumerate() {
        let place = format!("group {:?}", group.name);
        for template in group.templates_mut() {
            if let Err(name) = template.bind(|name| counts.get(name).copied()) {
                let what = format!("{{any.{name}}}: there is no group {name:?}");
                problems.push(Problem {
                    line: document.line(&steps!["group", at]),
                    place: place.clone(),
                    what,
                });
            }
        }
    }
    problems
}

/// Loads data files, keys and payloads; returns what could not be.
fn load_files(plan: &mut Plan, source: &mut Source, document: &Document<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, data) in &mut plan.data {
        match source.file(&data.file).and_then(Rows::parse) {
            Ok(rows) => data.rows = rows,
            Err(what) => problems.push(Problem {
                line: document.line(&steps!["data", name.as_str(), "file"]),
                place: format!("data {name:?}"),
                what,
            }),
        }
    }
    for (at, group) in plan.groups.iter_mut().enumerate() {
        let place = format!("group {:?}", group.name);
        let mut wrong = |at: &[Step], what| {
            problems.push(Problem { line: document.line(at), place: place.clone(), what });
        };
        if let Some(jwt) = &mut group.jwt {
            let key = jwt.key_file.as_ref().map(|path| source.file(path).map(<[u8]>::to_vec)).transpose();
            match key.and_then(|key| Minter::new(jwt, key.as_deref())) {
                Ok(minter) => jwt.minter = Some(minter),
                Err(what) => wrong(&steps!["group", at, "jwt"], what),
            }
        }
        for (number, publish) in group.publish.iter_mut().enumerate() {
            if let Err(what) = publish.payload.load(source) {
                wrong(&steps!["group", at, "publish", number, "payload", "file"], what);
            }
        }
        if let Some(will) = &mut group.will
            && let Err(what) = will.payload.load(source)
        {
            wrong(&steps!["group", at, "will", "payload", "file"], what);
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
version = 1
name = "small"
about = "Two pumps report to one dashboard."

[parameters]
pumps = 200
site = "north"

[defaults]
protocol = "3.1.1"
keep_alive = "30s"

[[group]]
name = "dashboard"
count = 1
subscribe = [{ filter = "{site}/+/state", qos = 1 }]

[[group]]
name = "pumps"
count = "{pumps}"
client_id = "pump-{index}"
keep_alive = "45s"
connect = { rate = 100, arrivals = { burst = 10 } }
behaviour = { slow_reader = { bytes_per_second = 100 } }

[[group.publish]]
topic = "{site}/{index}/state"
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

    fn loaded(text: &str, overrides: &Overrides) -> Result<Plan, PlanError> {
        load_from(Source::of_text("small.toml", text), overrides)
    }

    #[test]
    fn a_plan_is_read_and_survives_being_written() {
        let plan = loaded(SMALL, &Overrides::default()).unwrap();
        let written = toml::to_string(&plan).unwrap();
        let again = Plan { source: plan.source.clone(), ..toml::from_str(&written).unwrap() };
        assert_eq!(again, plan, "{written}");
    }

    #[test]
    fn defaults_are_in_the_groups_and_parameters_are_filled_in() {
        let overrides = Overrides {
            parameters: vec![
                ("pumps".to_owned(), "1000".to_owned()),
                ("site".to_owned(), "south".to_owned()),
            ],
            scale: 0.02,
        };
        let plan = loaded(SMALL, &overrides).unwrap();
        let [dashboard, pumps] = plan.groups.as_slice() else { panic!("two groups") };
        assert_eq!(dashboard.protocol, dunlin_wire::Version::V311);
        assert_eq!((dashboard.count, dashboard.keep_alive_seconds()), (1, 30));
        assert_eq!((pumps.count, pumps.keep_alive_seconds()), (20, 45));
        assert_eq!(pumps.connect.rate.map(Rate::per_second), Some(2.0));
        assert_eq!(pumps.publish[0].topic.source(), "south/{index}/state");
        assert_eq!(plan.parameters["pumps"], toml::Value::Integer(1_000));
    }

    #[test]
    fn a_source_can_be_sent_and_read_elsewhere() {
        let plan = loaded(SMALL, &Overrides::default()).unwrap();
        let sent = serde_json::to_string(&plan.source).unwrap();
        let source: Source = serde_json::from_str(&sent).unwrap();
        assert_eq!(load_from(source, &Overrides::default()).unwrap().groups, plan.groups);
    }

    #[test]
    fn what_can_not_be_read_is_told_with_its_line() {
        for (old, new, expected) in [
            ("count = 1\n", "count = -1\n", "small.toml:16: "),
            ("count = 1\n", "count = 1\nspeed = 9\n", "small.toml:17: unknown field `speed`"),
            (
                "protocol = \"3.1.1\"",
                "protocol = \"4\"",
                "small.toml:11: defaults, protocol: \"4\" is not one of",
            ),
            ("keep_alive = \"30s\"", "keepalive = 1", "small.toml:12: defaults, keepalive: unknown field"),
            ("keep_alive = \"30s\"", "count = 1", "small.toml:12: defaults, count: every group has its own"),
            ("{pumps}", "{pumps *}", "small.toml: parameters: {pumps *} can't be calculated"),
            ("duration = \"10s\"", "duration = 10", "small.toml:41: 10 has no unit; write \"10s\""),
            (
                "{ off = \"pumps are slow\" }",
                "false",
                "small.toml:46: a check is only left out with its reason",
            ),
            ("pumps = 200", "group = 200", "small.toml:7: parameter \"group\": templates use this name"),
        ] {
            let text = SMALL.replacen(old, new, 1);
            let error = loaded(&text, &Overrides::default()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{new}: {error}");
        }
    }

    #[test]
    fn a_scale_must_be_a_scale() {
        for scale in [0.0, -1.0, f64::NAN, 1e9] {
            let overrides = Overrides { scale, ..Overrides::default() };
            assert!(loaded(SMALL, &overrides).unwrap_err().to_string().contains("--scale"), "{scale}");
        }
    }
}

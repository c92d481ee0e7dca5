//! One table of mistakes, and what is said about each.

use proptest::prelude::*;

use super::super::error::PlanError;
use super::super::load::{Overrides, load_from};
use super::super::source::Source;

/// A plan without a mistake. Line 1 is `version`.
const GOOD: &str = r#"version = 1
name = "good"
about = "Nothing is wrong here."

[data.devices]
file = "devices.csv"

[[group]]
name = "backend"
count = 2
subscribe = [{ filter = "$share/b/t/#", qos = 1 }]

[[group]]
name = "devices"
count = 3
data = "devices"
username = "{data.serial}"
password = "{jwt}"
jwt = { algorithm = "HS256", secret = "not a secret" }
lifecycle = { online = "10s", offline = "1s" }
reconnect = { delay = "1s" }
will = { topic = "t/{index}/gone" }

[[group.publish]]
topic = "t/{data.serial}"
per_client = 1

[[stage]]
name = "connect"
start = ["backend", "devices"]
until = "subscribed"
timeout = "10s"

[[stage]]
name = "work"
duration = "10s"
rate = 1.0
measure = true
churn = ["devices"]

[[stage]]
name = "fall"
duration = "10s"
drop = [{ group = "devices", share = "50%" }]

[[stage]]
name = "drain"
until = "drained"
timeout = "10s"
"#;

fn complaint(text: &str) -> String {
    let mut source = Source::of_text("x.toml", text);
    source.files.insert("devices.csv".to_owned(), b"serial,site\na,n\nb,s\nc,s\n".to_vec());
    source.files.insert("short.csv".to_owned(), b"serial\na\n".to_vec());
    source.files.insert("bad.csv".to_owned(), b"serial\na#\nb\nc\n".to_vec());
    source.files.insert("key.pem".to_owned(), b"no key".to_vec());
    match load_from(source, &Overrides::default()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// Each change, and what must be said: the line, and a part of the text.
#[track_caller]
fn check(table: &[(&str, &str, usize, &str)]) {
    assert_eq!(complaint(GOOD), "");
    for (old, new, line, part) in table {
        assert!(GOOD.contains(old), "{old:?} is not in the good plan");
        let error = complaint(&GOOD.replacen(old, new, 1));
        let at = if *line == 0 { "x.toml: ".to_owned() } else { format!("x.toml:{line}: ") };
        let is_told = error.lines().any(|told| told.starts_with(&at) && told.contains(part));
        assert!(is_told, "{new:?} must be told as {at:?} … {part:?}:\n{error}");
    }
}

#[test]
fn the_plan_as_a_whole() {
    check(&[
        ("version = 1", "version = 2", 1, "reads version 1"),
        ("\"good\"", "\" \"", 2, "give the scenario a name"),
        ("wrong here.", "wrong\\nhere.", 3, "one line"),
        (
            "data = \"devices\"\nusername = \"{data.serial}\"",
            "username = \"x\"",
            5,
            "no group takes its rows",
        ),
        ("measure = true", "", 28, "no stage is measured"),
        ("count = 2", "count = 4_000_000_000", 8, "clients"),
        ("devices.csv", "missing.csv", 6, "not part of this scenario"),
        ("devices.csv", "short.csv", 16, "has 1 rows for 3 clients"),
    ]);
}

#[test]
fn groups() {
    check(&[
        ("name = \"backend\"", "name = \"back end\"", 9, "letters, digits"),
        ("name = \"backend\"", "name = \"devices\"", 14, "there is another group"),
        ("count = 2", "count = 0", 10, "leave the group out"),
        ("count = 2", "count = 2\nclient_id = \"b\"", 11, "end the other's connection"),
        ("count = 2", "count = 2\nclient_id = \"{seq}\"", 11, "{seq} has no value here"),
        ("count = 2", "count = 2\nclient_id = \"\"", 11, "it is empty"),
        ("count = 2", "count = 2\nclient_id = \"devices-{index}\"", 14, "end the other's connection"),
        (
            "count = 2",
            "count = 2\nprotocol = \"3.1\"\nclient_id = \"{index}-aaaaaaaaaaaaaaaaaaaaaaaa\"",
            12,
            "1 to 23 bytes",
        ),
        ("delay = \"1s\"", "delay = \"1s\", backoff = 0.5", 21, "backoff must lie between"),
        ("online = \"10s\"", "online = \"0s\"", 20, "never be there"),
        ("count = 2", "count = 2\nconnect = { rate = 1, arrivals = { burst = 0 } }", 11, "a burst of 0"),
        ("count = 2", "count = 2\nusername = \"{data.x}\"", 8, "the group has no data file"),
        ("data = \"devices\"", "data = \"other\"", 16, "there is no [data.other]"),
        ("{data.serial}\"\npass", "{data.colour}\"\npass", 16, "its columns are serial, site"),
        (
            "count = 2",
            "count = 2\nbehaviour = { slow_reader = { bytes_per_second = 0 } }",
            11,
            "use half_open",
        ),
        (
            "count = 2",
            "count = 2\nbehaviour = { malformed = { kinds = [], rate = 1 } }",
            11,
            "kinds is empty",
        ),
        (
            "count = 2",
            "count = 2\nbehaviour = { malformed = { kinds = [\"garbage\"], rate = 1 } }",
            11,
            "do nothing else",
        ),
        (
            "count = 3",
            "count = 3\nbehaviour = { half_open = { after = \"1s\" } }",
            21,
            "leave one of the two out",
        ),
    ]);
}

#[test]
fn connections_and_sessions() {
    check(&[
        ("count = 2", "count = 2\nkeep_alive = \"1500ms\"", 11, "MQTT counts in seconds"),
        ("count = 2", "count = 2\nkeep_alive = \"20h\"", 11, "at most 65535s"),
        ("count = 2", "count = 2\nreceive_maximum = 0", 11, "1 to 65535"),
        (
            "count = 2",
            "count = 2\nprotocol = \"3.1.1\"\nsession_expiry = \"1h\"",
            12,
            "set protocol = \"5.0\"",
        ),
        ("count = 2", "count = 2\nprotocol = \"3.1.1\"\npassword = \"x\"", 12, "needs a username"),
        ("count = 2", "count = 2\nusername = \"{seq}\"", 11, "{seq} has no value here"),
        ("jwt = {", "#", 13, "{jwt} is used"),
        ("password = \"{jwt}\"", "", 19, "nothing uses the token"),
        (", secret = \"not a secret\"", "", 19, "needs a secret"),
        ("secret = \"not a secret\"", "secret = \"a\", key_file = \"key.pem\"", 19, "exclude each other"),
        ("\"HS256\", secret = \"not a secret\"", "\"ES256\"", 19, "signs with a private key"),
        (
            "\"HS256\", secret = \"not a secret\"",
            "\"RS256\", key_file = \"key.pem\"",
            19,
            "not a private key",
        ),
        ("\"not a secret\"", "\"a\", claims = \"[]\"", 19, "not a JSON object"),
        ("\"not a secret\"", "\"a\", claims = '{\"n\": {seq}}'", 19, "{seq} has no value in claims"),
        ("t/{index}/gone", "t/+/gone", 22, "a topic to publish to has no +"),
        ("t/{index}/gone", "t/{seq}/gone", 22, "{seq} has no value in a will"),
        ("t/{index}/gone\"", "t\", payload = { bytes = 70_000 }", 22, "at most 65535 bytes"),
        ("t/{index}/gone\"", "t\", delay = \"1ms\"", 22, "MQTT counts in seconds"),
    ]);
}

#[test]
fn subscriptions_and_messages() {
    check(&[
        ("t/#", "t/#/x", 11, "# the whole last one"),
        ("t/#", "t/{seq}", 11, "{seq} has no value in a filter"),
        ("$share/b/t/#", "$share/b", 11, "$share/group/filter"),
        ("qos = 1 }", "qos = 1, no_local = true }", 11, "forbids No Local"),
        ("qos = 1 }", "repeat = 0 }", 11, "it must be 1 to"),
        ("qos = 1 }", "repeat = 2 }", 11, "put {n} into it"),
        ("qos = 1 }", "qos = 3 }", 11, "3 is not a QoS"),
        ("\"t/{data.serial}\"", "\"t/{n}\"", 25, "{n} has no value in a topic"),
        ("\"t/{data.serial}\"", "\"t/{any.pumps}\"", 13, "there is no group \"pumps\""),
        ("\"t/{data.serial}\"", "\"\"", 25, "write at least one character"),
        ("devices.csv", "bad.csv", 25, "\"t/a#\" is no valid topic"),
        ("per_client = 1", "", 24, "nothing says how fast"),
        ("per_client = 1", "per_client = 0", 26, "a rate of 0 never sends"),
        ("per_client = 1", "per_client = 1\nrate = 1", 27, "exclude each other"),
        ("per_client = 1", "window = 0", 26, "1 to 65535"),
        ("per_client = 1", "window = 1\narrivals = \"poisson\"", 27, "no schedule"),
        ("per_client = 1", "window = 1\nexpect = \"nobody\"", 27, "waits for deliveries"),
        ("per_client = 1", "per_client = 1\narrivals = { burst = 0 }", 27, "a burst of 0"),
        ("per_client = 1", "per_client = 1\nmessages = 0", 27, "leave the entry out"),
        ("per_client = 1", "per_client = 1\nmessage_expiry = \"0s\"", 27, "at least 1"),
        (
            "per_client = 1",
            "per_client = 1\npayload = { bytes = 16 }",
            27,
            "no room for the stamp of 32 bytes",
        ),
        ("per_client = 1", "per_client = 1\npayload = { bytes = 99_000_000 }", 27, "is more than"),
        (
            "per_client = 1",
            "per_client = 1\npayload = { bytes = 64, text = \"x\" }",
            27,
            "exclude each other",
        ),
        ("per_client = 1", "per_client = 1\npayload = { text = \"{stamp}{stamp}\" }", 27, "one is enough"),
        ("per_client = 1", "per_client = 1\npayload = { text = \"{n}\" }", 27, "{seq} counts"),
        (
            "per_client = 1",
            "per_client = 1\npayload = { text = \"{jwt}\" }",
            27,
            "username and password only",
        ),
        (
            "per_client = 1",
            "per_client = 1\npayload = { text = \"{unknown}\" }",
            27,
            "neither a variable nor a parameter",
        ),
        ("per_client = 1", "per_client = 1\npayload = { file = \"none\" }", 27, "not part of this scenario"),
        (
            "per_client = 1",
            "per_client = 1\n[[group.publish]]\ntopic = \"u\"\nrate = 1",
            24,
            "give each a name",
        ),
        ("per_client = 1", "per_client = 1\nname = \"a.b\"", 27, "no dot"),
    ]);
}

#[test]
fn sparkplug_groups() {
    let with = |rest: &str| {
        let nodes = format!(
            "[[group]]\nname = \"s\"\ncount = 1\n{rest}\n[[stage]]\nname = \"connect\"\nstart = [\"s\", "
        );
        complaint(&GOOD.replacen("[[stage]]\nname = \"connect\"\nstart = [", &nodes, 1))
    };
    assert_eq!(with("sparkplug = { group_id = \"g\", rate = 1 }"), "");
    for (rest, part) in [
        ("sparkplug = { group_id = \"g\" }", "write rate"),
        ("sparkplug = { group_id = \"g\", rate = 1, per_client = 1 }", "exclude each other"),
        ("sparkplug = { group_id = \"g/h\", rate = 1 }", "one level of a topic"),
        ("sparkplug = { group_id = \"{seq}\", rate = 1 }", "{seq} has no value in group_id"),
        ("sparkplug = { group_id = \"g\", rate = 1, metrics = 0 }", "metrics must be"),
        ("sparkplug = { group_id = \"g\", rate = 1, changing = 11 }", "changing must be"),
        ("sparkplug = { group_id = \"g\", rate = 1, devices = 2_000 }", "devices must be"),
        ("sparkplug = { group_id = \"g\", rate = 1 }\nwill = { topic = \"t\" }", "is its NDEATH"),
        (
            "sparkplug = { group_id = \"g\", rate = 1 }\npublish = [{ topic = \"t\", rate = 1 }]",
            "move publish",
        ),
    ] {
        let error = with(rest);
        assert!(error.contains(part), "{rest}: {error}");
    }
}

#[test]
fn stages() {
    check(&[
        ("name = \"work\"", "name = \"connect\"", 35, "there is another stage"),
        ("timeout = \"10s\"", "", 31, "may never end"),
        ("timeout = \"10s\"", "timeout = \"0s\"", 32, "always fails"),
        ("duration = \"10s\"", "", 34, "the stage never ends"),
        ("duration = \"10s\"", "duration = \"0s\"", 36, "does nothing"),
        ("duration = \"10s\"", "duration = \"10s\"\ntimeout = \"1s\"", 37, "ends by itself"),
        ("duration = \"10s\"", "duration = \"10s\"\nuntil = \"drained\"", 37, "exclude each other"),
        (
            "[\"backend\", \"devices\"]",
            "[\"backend\", \"device\"]",
            30,
            "there is no group \"device\"; the groups are backend, devices",
        ),
        ("[\"backend\", \"devices\"]", "[\"devices\"]", 9, "no stage starts this group"),
        ("measure = true", "start = [\"backend\"]\nmeasure = true", 38, "is running already"),
        (
            "measure = true",
            "measure = true\nstop = [\"devices\"]",
            40,
            "group \"devices\" is not running here",
        ),
        ("churn = [\"devices\"]", "", 20, "no stage lets it run"),
        ("churn = [\"devices\"]", "churn = [\"backend\"]", 39, "has no lifecycle"),
        ("until = \"subscribed\"", "until = \"subscribed\"\nchurn = [\"devices\"]", 32, "hardly ever there"),
        ("share = \"50%\"", "share = 0", 44, "drops nobody"),
        ("share = \"50%\" }", "share = 0.5 }, { group = \"devices\" }", 44, "is there twice"),
        ("rate = 1.0", "rates = { backend = 1 }", 37, "neither a group that publishes"),
        ("rate = 1.0", "", 25, "no stage has a rate for it"),
        ("rate = 1.0", "rate = { from = 1 }", 37, "needs both its ends"),
        ("rate = 1.0", "rate = -1", 37, "must lie between 0"),
        ("until = \"drained\"", "until = \"drained\"\nrate = 1.0", 49, "never drained"),
        ("until = \"drained\"", "until = \"published\"", 48, "no publish entry has an end"),
        (
            "until = \"subscribed\"",
            "until = \"subscribed\"\nrate = { from = 0, to = 1 }",
            32,
            "needs a duration",
        ),
    ]);
}

#[test]
fn everything_that_is_wrong_is_told_in_order() {
    let text = GOOD.replacen("count = 2", "count = 0", 1).replacen("\"50%\"", "0", 1);
    let error = complaint(&text);
    let lines: Vec<&str> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["x.toml:10", "x.toml:44"], "{error}");
}

#[test]
fn an_unknown_name_is_told_with_what_is_near() {
    let error = Source::open("fanout-5-10000").unwrap_err();
    assert!(
        matches!(&error, PlanError::Unknown { nearest: Some(near), .. } if near == "fanout-5-1000"),
        "{error}"
    );
    assert!(Source::open("nothing like it at all").unwrap_err().to_string().contains("neither a file"));
}

proptest! {
    #[test]
    fn any_text_is_a_plan_or_an_error(text in "\\PC{0,200}") {
        complaint(&text);
    }

    /// Pieces of scenarios in any order come closer to the later checks than any text does.
    #[test]
    fn any_mixture_of_lines_is_a_plan_or_an_error(picks in prop::collection::vec(0..1_000_usize, 0..40)) {
        let lines: Vec<&str> = GOOD.lines().collect();
        let text: Vec<&str> = picks.iter().map(|pick| lines[pick % lines.len()]).collect();
        complaint(&text.join("\n"));
    }

    /// One piece of a good plan is replaced by another piece, or by something that is likely to hurt.
    #[test]
    fn any_damage_is_a_plan_or_an_error(at in 0..GOOD.len(), length in 0..20_usize, with in prop::sample::select(DAMAGE)) {
        let end = (at + length).min(GOOD.len());
        complaint(&format!("{}{with}{}", &GOOD[..at], &GOOD[end..]));
    }
}

const DAMAGE: &[&str] = &[
    "",
    "0",
    "-1",
    "1e308",
    "nan",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    "=",
    "\n",
    "{index",
    "{rand:0:9223372036854775807}",
    "{rand:-9223372036854775808:9223372036854775807}",
    "\"{x}\"",
    "18446744073709551616",
    "\u{0}",
    "é",
    "$share/",
    "/#",
];

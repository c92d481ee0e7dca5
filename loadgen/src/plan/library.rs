//! The scenarios that the program brings along.

/// Each scenario by name, with its text. In the order in which they are listed.
pub(crate) const SCENARIOS: [(&str, &str); 18] = [
    ("p2p-50k-50k", include_str!("../../scenarios/p2p-50k-50k.toml")),
    ("fanout-5-1000", include_str!("../../scenarios/fanout-5-1000.toml")),
    ("sharedsub-50k-500", include_str!("../../scenarios/sharedsub-50k-500.toml")),
    ("conn-tcp-1m-5k", include_str!("../../scenarios/conn-tcp-1m-5k.toml")),
    ("fanout-3m", include_str!("../../scenarios/fanout-3m.toml")),
    ("connect-storm", include_str!("../../scenarios/connect-storm.toml")),
    ("reconnect-storm", include_str!("../../scenarios/reconnect-storm.toml")),
    ("retained-storm", include_str!("../../scenarios/retained-storm.toml")),
    ("wildcard-heavy", include_str!("../../scenarios/wildcard-heavy.toml")),
    ("share-churn", include_str!("../../scenarios/share-churn.toml")),
    ("mixed-day", include_str!("../../scenarios/mixed-day.toml")),
    ("slow-readers", include_str!("../../scenarios/slow-readers.toml")),
    ("half-open", include_str!("../../scenarios/half-open.toml")),
    ("malformed", include_str!("../../scenarios/malformed.toml")),
    ("takeover-storm", include_str!("../../scenarios/takeover-storm.toml")),
    ("wills", include_str!("../../scenarios/wills.toml")),
    ("sparkplug", include_str!("../../scenarios/sparkplug.toml")),
    ("idle-million", include_str!("../../scenarios/idle-million.toml")),
];

/// The text of the scenario with this name.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    SCENARIOS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The line that says what a scenario shows.
pub(crate) fn about(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("about = \"")?.strip_suffix('"')).unwrap_or_default()
}

/// The name that is nearest to a mistyped one, if one is near.
pub(crate) fn nearest(name: &str) -> Option<String> {
    let distance = |known: &str| distance(name, known);
    let (known, _) = SCENARIOS.iter().min_by_key(|(known, _)| distance(known))?;
    (distance(known) <= known.len() / 3).then(|| (*known).to_owned())
}

/// Letters to change, insert or remove, to make one name of the other.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, a) in left.bytes().take(NAME_BYTES_MAX).enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, b) in right.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// No longer name is compared.
const NAME_BYTES_MAX: usize = 64;

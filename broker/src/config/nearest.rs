//! The known word that an unknown word was probably meant to be.

/// The candidate that is closest to `word`, if one is close enough to be worth naming. A candidate whose part after the
/// last dot is the same wins, so that a key in the wrong section is found.
///
/// Costs `word × candidates` characters; for messages only.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = last_part(word);
    candidates
        .map(|candidate| {
            let by_last = if last_part(candidate) == last { 1 } else { usize::MAX };
            (distance(word, candidate).min(by_last), candidate)
        })
        .min()
        .filter(|(distance, candidate)| {
            *distance <= (candidate.len() / 3).max(1 + usize::from(candidate.len() > 5))
        })
        .map(|(_, candidate)| candidate)
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (restricted Damerau-Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(WORD_CHARS_MAX).collect();
    let b: Vec<char> = b.chars().take(WORD_CHARS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let replace = above[j] + usize::from(ca != cb);
            let mut cost = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Longer words are compared by their beginning.
const WORD_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["mqtt.max_packet_size", "mqtt.max_inflight", "log.level", "server.listen"];

    #[test]
    fn a_slip_is_recognised() {
        for (word, meant) in [
            ("mqtt.max_paket_size", Some("mqtt.max_packet_size")),
            ("mqtt.max_packet_szie", Some("mqtt.max_packet_size")),
            ("log.levle", Some("log.level")),
            ("broker.max_inflight", Some("mqtt.max_inflight")),
            ("listen", Some("server.listen")),
            ("completely.different", None),
        ] {
            assert_eq!(nearest(word, KEYS.into_iter()), meant, "{word}");
        }
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in [("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}

//! What the program ethtool prints about rings, channels and coalescing.

/// One item of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value in force.
    pub current: String,
    /// The most that the hardware can, where it is shown.
    pub most: Option<u64>,
}

/// Finds an item such as `RX`, `Combined`, `rx-usecs` or `Adaptive RX`.
///
/// # Errors
/// That this card does not have it, as a clause.
pub fn find(output: &str, item: &str) -> Result<Item, String> {
    let (maxima, current) = match output.split_once("Current hardware settings:") {
        Some((maxima, current)) => (maxima, current),
        None => ("", output),
    };
    let current = value(current, item).ok_or_else(|| format!("the card does not have {item:?}"))?;
    let most = value(maxima, item).and_then(|text| text.parse().ok());
    Ok(Item { current, most })
}

/// The word after `ITEM:` on a line of its own, or in `Adaptive RX: off  TX: on`. Nothing where the card says `n/a`.
fn value(text: &str, item: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(item)?.strip_prefix(':'))?;
    line.split_whitespace().next().filter(|word| *word != "n/a").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RINGS: &str = "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\nTX:\t\t4096\n\
                         Current hardware settings:\nRX:\t\t256\nRX Mini:\tn/a\nTX:\t\t512\n";
    const COALESCING: &str =
        "Coalesce parameters for eth0:\nAdaptive RX: off  TX: n/a\nrx-usecs: 3\ntx-usecs: n/a\n";

    #[test]
    fn rings_have_a_value_and_a_bound() {
        assert_eq!(find(RINGS, "RX"), Ok(Item { current: "256".to_owned(), most: Some(4_096) }));
        assert_eq!(find(RINGS, "TX").map(|item| item.current), Ok("512".to_owned()));
        assert!(find(RINGS, "RX Mini").is_err());
        assert!(find(RINGS, "Combined").is_err());
    }

    #[test]
    fn coalescing_has_only_a_value() {
        assert_eq!(find(COALESCING, "Adaptive RX"), Ok(Item { current: "off".to_owned(), most: None }));
        assert_eq!(find(COALESCING, "rx-usecs").map(|item| item.current), Ok("3".to_owned()));
        assert!(find(COALESCING, "tx-usecs").is_err());
        assert!(find("", "rx-usecs").is_err());
    }
}

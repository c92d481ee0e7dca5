//! A target with a planted bug: whoever runs the fuzzers must find it, or their run is worth nothing.

/// A careless reader of SUBSCRIBE: its check of a filter's length is off by one.
///
/// No seed reaches the bug; it takes a filter that claims just one byte more than the packet has.
///
/// # Panics
/// On the planted bug.
pub fn canary(data: &[u8]) {
    let [0x82, _, body @ ..] = data else { return };
    let mut at = 2;
    while let Some(length) = body.get(at..at + 2) {
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        at += 2;
        // The bug: it should be `>` without the one.
        if at + length > body.len() + 1 {
            return;
        }
        let filter = &body[at..at + length];
        assert_eq!(filter.len(), length);
        at += length + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_seed_reaches_the_bug() {
        for (_, bytes) in crate::seeds::vectors() {
            canary(&bytes);
        }
    }
}

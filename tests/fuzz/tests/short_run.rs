//! Runs each target over its seeds and then over mutations of them, for `FUZZ_SECONDS` (default 2) each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use dunlin_fuzz::mutate::Mutator;
use dunlin_fuzz::{TARGETS, Target, canary, seeds};

/// One test, so that the canary's silence about its own panic hides no other.
#[test]
fn no_target_breaks_and_the_canary_is_found() {
    for (name, target) in TARGETS {
        let (count, broken) = run(name, target, seconds());
        println!("{name}: {count} inputs");
        assert!(count > 1_000, "{name}: only {count} inputs in the time");
        if let Some(input) = broken {
            panic!("{name} breaks on {}", hex(&input));
        }
    }
    // The planted bug is found, so the mutations are worth something.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (count, broken) = run("canary", canary, seconds().max(5));
    std::panic::set_hook(loud);
    assert!(broken.is_some(), "{count} inputs did not find the planted bug");
    println!("canary: found after {count} inputs");
}

/// Runs a target; returns how many inputs it took and the one that broke it.
fn run(name: &str, target: Target, seconds: u64) -> (usize, Option<Vec<u8>>) {
    let mut pool: Vec<Vec<u8>> = seeds::vectors().into_iter().map(|(_, bytes)| bytes).collect();
    // Streams of several packets, filters and topics for topic_match, choices for wire_roundtrip.
    pool.push(pool.concat().into_iter().take(4_096).collect());
    pool.push(b"$share/g/a/+/#\na/b/c".to_vec());
    pool.push(b"+/b/#\n$SYS/b/c/d".to_vec());
    pool.extend(seeds::noise());
    pool.extend(seeds::regressions(name));
    for (count, input) in pool.iter().enumerate() {
        if breaks(target, input) {
            return (count, Some(input.clone()));
        }
    }
    let mut count = pool.len();
    let mut mutator = Mutator::new(0x00DD_BA11, pool);
    let end = now() + Duration::from_secs(seconds);
    while now() < end {
        for _ in 0..500 {
            let input = mutator.input();
            count += 1;
            if breaks(target, &input) {
                return (count, Some(input));
            }
        }
    }
    (count, None)
}

fn breaks(target: Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| target(input))).is_err()
}

fn seconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the length of a run is its caller's choice")]
    let wanted = std::env::var("FUZZ_SECONDS");
    wanted.ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a run is bounded in time")]
    Instant::now()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

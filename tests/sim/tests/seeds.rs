//! The simulator as a test: a handful of seeds, the failures of the past, determinism, and the canaries.

use dunlin_sim::canary::{CANARIES, Canary};
use dunlin_sim::run::run;

fn assert_clean(seed: u64) {
    let outcome = run(seed, Canary::None);
    assert!(
        outcome.violations.is_empty(),
        "seed {seed:#x}: {:#?}\nreplay: cargo sim --seed {seed:#x}",
        outcome.violations
    );
}

#[test]
fn a_handful_of_seeds_keeps_the_rules() {
    for seed in 0..25 {
        assert_clean(seed);
    }
}

#[test]
fn seeds_that_once_failed_stay_mended() {
    for line in include_str!("../seeds/regressions.txt").lines() {
        let Some(seed) = line.split_whitespace().next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let hex = seed.strip_prefix("0x").expect("seeds are written as 0x…");
        assert_clean(u64::from_str_radix(hex, 16).expect("a hexadecimal seed"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        assert_eq!(run(seed, Canary::None).trace, run(seed, Canary::None).trace, "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for name in CANARIES {
        let found = (0..200).any(|seed| {
            let canary = Canary::named(name, seed).expect("the name of a canary");
            !run(seed, canary).violations.is_empty()
        });
        assert!(found, "the canary {name} was not found: the simulator is blind");
    }
}

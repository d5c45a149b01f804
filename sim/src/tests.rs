//! The simulation as a test: a few hundred seeds, those that failed once, and proof that seeds decide everything.

use crate::regressions::SEEDS;
use crate::{run_many, run_seed, transcript};

#[test]
fn a_few_hundred_seeds_pass() {
    let summary = run_many(1..301);
    assert_eq!(summary.failed, []);
    assert_eq!(summary.passed, 300);
}

#[test]
fn seeds_that_failed_once_pass() {
    for seed in SEEDS {
        assert_eq!(run_seed(*seed).violation, None, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    for seed in [1, 2, 3, 1_000_003] {
        assert!(transcript(seed) == transcript(seed), "seed {seed} went two ways");
    }
}

//! Scenarios of the machine: events as text in, a transcript of the actions out.
//!
//! Every event is followed by a check of the invariants. The transcript names each event that led to actions, and
//! lists its actions below it. [`scenario`] describes the words of a scenario.

mod adapt;
mod admission;
mod liveness;
mod outgrown;
mod placement;
mod repair;
mod reports;
mod results;
mod scenario;
mod varying;

/// Runs a scenario and compares its transcript with `expected`. Indentation and empty lines do not count.
#[track_caller]
fn check(scenario: &str, expected: &str) {
    let transcript = scenario::run(scenario);
    let trim = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(
        trim(&transcript) == trim(expected),
        "the transcript is\n\n{transcript}\nand was to be\n\n{}\n",
        trim(expected)
    );
}

//! `hwacha-sim`: runs seeds of the simulation, or prints the transcript of one seed.

use std::process::ExitCode;
use std::time::Instant;

use hwacha_sim::{Sight, Summary, run_many, transcript};

/// With at least this number of seeds, a path that no seed takes counts as a failure. Fewer seeds may miss rare paths.
const SEEDS_FOR_ALL_SIGHTS: u64 = 2_000;

const HELP: &str = "\
Simulates the scheduler's machine with faults, thousands of times.

Usage: hwacha-sim [OPTIONS]

Options:
  --seeds N       How many seeds to run (default 1000)
  --first-seed N  The first of them (default 1)
  --seed N        Run this seed alone and print all that happens
  --help          Print this text

The exit code is 0 if every seed passed, 1 if one failed, 2 if the arguments are wrong.
";

enum Order {
    Help,
    Replay { seed: u64 },
    Run { first: u64, count: u64 },
}

fn main() -> ExitCode {
    match order(std::env::args().skip(1)) {
        Ok(Order::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Order::Replay { seed }) => replay(seed),
        Ok(Order::Run { first, count }) => run(first, count),
        Err(wrong) => {
            eprintln!("error: {wrong}\nTry `hwacha-sim --help`.");
            ExitCode::from(2)
        }
    }
}

fn order(mut arguments: impl Iterator<Item = String>) -> Result<Order, String> {
    let (mut first, mut count, mut seed) = (None, None, None);
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let place = match name.as_str() {
            "--help" | "-h" => return Ok(Order::Help),
            "--seeds" => &mut count,
            "--first-seed" => &mut first,
            "--seed" => &mut seed,
            other => return Err(format!("there is no option `{other}`")),
        };
        let value = value.or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a number"))?;
        let number = value.parse::<u64>().map_err(|_| format!("{name} needs a number, not `{value}`"))?;
        *place = Some(number);
    }
    match (seed, first, count) {
        (Some(seed), None, None) => Ok(Order::Replay { seed }),
        (Some(_), _, _) => Err("--seed runs one seed alone: it goes with no other option".to_owned()),
        (None, first, count) => Ok(Order::Run { first: first.unwrap_or(1), count: count.unwrap_or(1_000) }),
    }
}

fn replay(seed: u64) -> ExitCode {
    let (text, outcome) = transcript(seed);
    print!("{text}");
    match outcome.violation {
        Some(violation) => {
            println!("\nseed {seed} failed: {violation}");
            ExitCode::FAILURE
        }
        None => {
            println!("\nseed {seed} passed");
            ExitCode::SUCCESS
        }
    }
}

fn run(first: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    let summary = run_many(first..first.saturating_add(count));
    let unseen = unseen(&summary, count);
    println!("seen:");
    for (sight, times) in summary.sights.iter() {
        println!("  {times:>8} {sight:?}");
    }
    for (seed, violation) in summary.failed.iter().take(20) {
        println!("seed {seed} failed: {violation}");
    }
    if let Some((seed, _)) = summary.failed.first() {
        println!("to see all that happened: cargo run -p hwacha-sim -- --seed {seed}");
    }
    for sight in &unseen {
        println!("no seed came to see {sight:?}");
    }
    println!("{count} seeds in {:.1} s", began.elapsed().as_secs_f64());
    // A path that was never taken counts as a failure.
    let failed = summary.failed.len() + unseen.len();
    println!("{} passed, {failed} failed", summary.passed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Paths that were never taken, if there were enough seeds to expect it.
fn unseen(summary: &Summary, count: u64) -> Vec<Sight> {
    if count < SEEDS_FOR_ALL_SIGHTS {
        return vec![];
    }
    summary.sights.iter().filter(|(_, times)| *times == 0).map(|(sight, _)| sight).collect()
}

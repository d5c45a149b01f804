//! Simulates one seed, or many seeds on all cores.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::sights::Sights;
use crate::transcript::Transcript;
use crate::world::World;

/// The outcome of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The message of the check that failed, if one did.
    pub violation: Option<String>,
    pub sights: Sights,
}

/// The outcome of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub passed: u64,
    /// Failed seeds with the messages of the failed checks, in the order of the seeds.
    pub failed: Vec<(u64, String)>,
    pub sights: Sights,
}

/// Simulates one seed.
pub fn run_seed(seed: u64) -> Outcome {
    let mut world = World::new(seed, Transcript::default());
    world.run();
    Outcome { violation: world.violation, sights: world.sights }
}

/// Simulates one seed and returns the transcript of all events and actions.
pub fn transcript(seed: u64) -> (String, Outcome) {
    let mut world = World::new(seed, Transcript::kept());
    world.run();
    (world.transcript.into_text(), Outcome { violation: world.violation, sights: world.sights })
}

/// Simulates all seeds of a range on all cores.
pub fn run_many(seeds: Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut summary = Summary::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&next, seeds.end))).collect();
        for worker in workers {
            let part = worker.join().expect("violations are returned, so a panic is a defect of the simulation");
            summary.passed += part.passed;
            summary.failed.extend(part.failed);
            summary.sights.add(&part.sights);
        }
    });
    summary.failed.sort();
    summary
}

fn work(next: &AtomicU64, end: u64) -> Summary {
    let mut summary = Summary::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return summary;
        }
        // A panic of the machine counts as a failure of the seed.
        match std::panic::catch_unwind(|| run_seed(seed)) {
            Ok(outcome) => {
                summary.sights.add(&outcome.sights);
                match outcome.violation {
                    Some(violation) => summary.failed.push((seed, violation)),
                    None => summary.passed += 1,
                }
            }
            Err(_) => summary.failed.push((seed, "panicked".to_owned())),
        }
    }
}

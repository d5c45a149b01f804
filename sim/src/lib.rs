//! Seeded simulation of the scheduler's machine: thousands of small clusters in which everything goes wrong.
//!
//! ```text
//!   workload ──> world (time, queue of things to come)
//!                  ├── scheduler   the event loop: machine, invariants, actions
//!                  ├── process     executors: connections, reports, crashes   (task: attempts, exchange)
//!                  ├── query       clients: result readers, checks at the end (answer: versions of outputs)
//!                  └── sights      paths that must be taken sometimes
//! ```
//!
//! [`fleet`] is the other kind: one large cluster in which nothing goes wrong, to measure what decisions cost.
//!
//! A seed decides everything, so a seed that fails fails again. What is checked: the invariants after every event; once
//! faults stop, every query ends; it fails only for a reason; its rows are all there, once, and of one version.

mod answer;
pub mod fleet;
mod process;
mod query;
pub mod regressions;
mod rng;
mod run;
mod scheduler;
mod sights;
mod task;
mod transcript;
mod workload;
mod world;

#[cfg(test)]
mod tests;

pub use run::{Outcome, Summary, run_many, run_seed, transcript};
pub use sights::{Sight, Sights};

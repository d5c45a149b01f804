//! Seeded simulation of the scheduler's machine: thousands of small clusters in which everything goes wrong.
//!
//! ```text
//!   workload ──> world (state, time, queue of things to come: host, query, past)
//!                  ├── story       takes the next item, until every query has ended
//!                  ├── scheduler   the event loop: machine, invariants, actions
//!                  ├── process     executors: connections, reports, crashes   (task: attempts, exchange)
//!                  ├── client      result readers, checks at the end          (answer: versions of outputs)
//!                  └── sights      paths that must be taken sometimes
//! ```
//!
//! [`fleet`] is the other kind: one large cluster in which nothing goes wrong, to measure what decisions cost.
//!
//! A seed decides everything, so a seed that fails fails again. What is checked: the invariants after every event; once
//! faults stop, every query ends; it fails only for a reason; its rows are all there, once, and of one version.

mod answer;
mod client;
pub mod fleet;
mod host;
mod past;
mod process;
mod query;
pub mod regressions;
mod rng;
mod run;
mod scheduler;
mod sights;
mod story;
mod task;
mod transcript;
mod workload;
mod world;

#[cfg(test)]
mod tests;

pub use run::{Outcome, Summary, run_many, run_seed, transcript};
pub use sights::{Sight, Sights};

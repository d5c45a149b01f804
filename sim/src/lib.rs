//! Seeded simulation of the scheduler's machine: thousands of small clusters with many faults.
//!
//! ```text
//!   workload ──> world (state, time, queue of coming items: host, query, past)
//!                  ├── story       takes the next item, until every query has ended
//!                  ├── scheduler   the event loop: machine, invariants, actions
//!                  ├── process     executors: connections, reports, crashes   (task: attempts, exchange)
//!                  ├── client      result readers, checks at the end          (answer: versions of outputs)
//!                  └── sights      paths that must be taken sometimes
//! ```
//!
//! [`fleet`] simulates one large cluster without faults, to measure the cost of the machine's decisions.
//!
//! A seed decides everything, so a failed seed fails again when it is replayed. The simulation checks that
//! - the invariants hold after every event,
//! - every query ends once faults have stopped,
//! - a query fails only for a known reason,
//! - a successful answer has all rows, each once, and all of one version.

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

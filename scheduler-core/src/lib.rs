//! Decisions without I/O: which query is planned, which task runs where, what must run again. Events in, actions out.
//!
//! ```text
//!            Event                               Action
//!   event loop --> Machine::handle(now, event) --> next_action() --> event loop
//!                    | admission   which query is planned next
//!                    | adapt       what changes about a stage before it starts
//!                    | placement   which executor gets a task
//!                    | retry       whether a failed task runs again
//!                    | repair      which tasks run again after a loss
//!                    | liveness    which executors are usable, suspected or lost
//!                    + invariants  checks of the state after each event, for tests
//! ```
//!
//! There is no clock, randomness, thread or socket here: the same events at the same times give the same actions.

mod action;
mod adapt;
mod admission;
mod config;
mod event;
mod executor;
pub mod invariants;
mod liveness;
mod machine;
mod placement;
mod query;
mod repair;
mod reports;
mod retry;
mod status;

#[cfg(test)]
mod tests;

pub use action::Action;
pub use config::Config;
pub use event::Event;
pub use executor::ExecutorState;
pub use machine::Machine;
pub use query::QueryState;
pub use status::{ExecutorStatus, QueryStatus, StageStatus};

//! The basis that plans are made and run on: settings, memory, stacks, limits, and the failure that an error means.
//!
//! Nothing here knows an operator or a rule.

pub mod counted_memory;
pub mod failure;
pub mod planning_budget;
pub mod session;
pub mod stack;
pub mod stop;

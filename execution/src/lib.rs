//! The common basis of planning and execution: settings, memory counts, stacks, limits, and the failures that errors
//! become.
//!
//! Nothing here depends on an operator or a rule.

pub mod counted_memory;
pub mod failure;
pub mod planning_budget;
pub mod session;
pub mod stack;
pub mod stop;

//! What plans are made and run under: settings, memory, stacks, limits, and the failures that errors mean.
//!
//! Nothing here knows an operator or a rule.

pub mod counted_memory;
pub mod failure;
pub mod planning_budget;
pub mod session;
pub mod stack;
pub mod stop;

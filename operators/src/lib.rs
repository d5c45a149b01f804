//! Operators, aggregates and functions that plans have in addition to DataFusion's own: both ends of an exchange,
//! run-time filters, and scans of a task's own files.
//!
//! ```text
//!   ExchangeSinkExec            writes partitions to the task's output, collects keys for run-time filters
//!     AggregateExec             DataFusion's operator; its functions may come from `aggregates`
//!       ExchangeSourceExec      reads the outputs of another stage's tasks
//!       DataSourceExec          reads the task's own files (`scan`), tests run-time filters
//! ```

pub mod aggregates;
pub mod compact_views;
#[cfg(test)]
mod containers;
pub mod determinism;
pub mod exchange;
pub mod functions;
pub mod grouping_gate;
pub mod key_ranges;
pub mod localize;
pub mod lossy_casts;
pub mod metrics;
pub mod pass_through;
pub mod runtime_filter;
pub mod scalars;
pub mod scan;
pub mod sendable;
pub mod stoppable_joins;
pub mod tree;
pub mod types;
pub mod whole_numbers;

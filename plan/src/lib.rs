//! Chooses a physical plan for a cluster and cuts it into stages.
//!
//! ```text
//!   DataFusion physical plan        stages
//!     SortPreservingMerge      ->   2: sink(result) <- SortPreservingMerge <- source(1, merge)
//!       Sort                        1: sink(merge) <- SortPreservingMerge <- Sort <- Aggregate <- source(0, hash)
//!         Aggregate final
//!           Repartition hash
//!             Aggregate partial     0: sink(hash) <- Aggregate <- scan
//!               scan
//! ```
//!
//! The rules in [`rules`] change the plan, and after each rule the plan is still valid in one process. [`split`] cuts
//! the plan into stages. The rules and [`split`] use the same estimates.

pub mod explain;
pub mod rules;
pub mod tuning;

mod build_keys;
mod cluster;
mod estimate;
mod footers;
mod mark;
mod splitter;

pub use cluster::{AdaptiveLimits, Cluster};
pub use estimate::{foreseen_rows, scanned_bytes};
pub use footers::column_statistics;
pub use splitter::{QueryPlan, ResultOrder, ResultShape, StagePlan, split};

//! The DataFusion side of Hwacha: cuts a physical plan into stages and gives the pieces that executors run.
//!
//! ```text
//!   DataFusion physical plan           stages
//!     SortPreservingMerge        ->    2: SortPreservingMerge <- source(1, merge)
//!       Sort                           1: sink(merge) <- Sort <- Aggregate <- source(0, hash)
//!         Aggregate final
//!           Repartition hash
//!             Aggregate partial        0: sink(hash) <- Aggregate <- scan
//!               scan
//! ```
//!
//! Everything before [`split`] is a valid plan for one process; everything after it is text on the wire ([`codec`]).

pub mod arrow_files;
pub mod bounded;
pub mod codec;
pub mod compact_views;
pub mod counted_memory;
pub mod exchange;
pub mod explain;
pub mod failure;
pub mod file_error;
pub mod local_files;
pub mod localize;
pub mod metrics;
pub mod order_key;
pub mod planning_budget;
pub mod rules;
pub mod runtime_filter;
pub mod sendable;
pub mod session;
pub mod stack;
pub mod stop;
pub mod stoppable_joins;
pub mod types;
pub mod wide_dictionaries;

mod build_keys;
mod checked_expr;
mod checked_sum;
mod constant_arithmetic;
mod determinism;
mod estimate;
mod float_extreme;
mod footers;
mod grouping_gate;
mod inexact;
mod integer_range;
mod kept_columns;
mod key_ranges;
mod local_time;
mod lossy_casts;
mod mark;
mod merged;
mod opaque;
mod page_indexes;
mod pass_through;
mod planned_files;
mod resumed;
mod splitter;
mod task_source;
mod tree;

pub use estimate::{foreseen_rows, scanned_bytes};
pub use exchange::{ExchangeSinkExec, ExchangeSourceExec, TaskExchange};
pub use footers::column_statistics;
pub use splitter::{AdaptiveLimits, Cluster, QueryPlan, ResultOrder, ResultShape, StagePlan, split};

//! Cuts a decoded stage plan down to one task: only the files of this task stay in the plan.
//!
//! DataFusion lets the partitions of a scan take files from each other. If a task's plan had files of another task,
//! both tasks would read them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::ExecutionPlan;

use crate::determinism::is_repeatable;
use crate::exchange::ExchangeSinkExec;
use crate::scan::PlacedScanExec;

/// The part of `plan` that task `task` of `tasks` runs. Footers of Parquet files are kept in `footers`.
pub fn localize(
    plan: Arc<dyn ExecutionPlan>,
    task: usize,
    tasks: usize,
    footers: Option<&Arc<FileMetadataCache>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let repeats = must_repeat(&plan)?;
    plan.transform_up(|node| match node.downcast_ref::<PlacedScanExec>() {
        Some(scan) => scan.of_task(task, tasks, repeats, footers).map(Transformed::yes),
        None => Ok(Transformed::no(node)),
    })
    .data()
}

/// Whether each attempt at this stage must write its rows in the same order.
fn must_repeat(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    match plan.downcast_ref::<ExchangeSinkExec>() {
        Some(sink) if sink.is_repeatable() => match is_repeatable(sink.input())? {
            true => Ok(true),
            false => internal_err!("the stage has to give its rows in the same order again, and would not"),
        },
        _ => Ok(false),
    }
}

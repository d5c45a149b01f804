//! Cuts a decoded stage plan down to one task's share: its own files and nobody else's.
//!
//! DataFusion lets the partitions of a scan steal files from each other, so a plan that still held other tasks' files
//! would read them twice.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;

use crate::determinism::is_repeatable;
use crate::exchange::ExchangeSinkExec;
use crate::scan::PlacedScanExec;

/// The part of `plan` that task `task` of `tasks` runs.
pub fn localize(plan: Arc<dyn ExecutionPlan>, task: usize, tasks: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let repeats = must_repeat(&plan)?;
    plan.transform_up(|node| match node.downcast_ref::<PlacedScanExec>() {
        Some(scan) => scan.of_task(task, tasks, repeats).map(Transformed::yes),
        None => Ok(Transformed::no(node)),
    })
    .data()
}

/// Whether the plan is a stage whose rows have to come in the same order again.
fn must_repeat(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    match plan.downcast_ref::<ExchangeSinkExec>() {
        Some(sink) if sink.is_repeatable() => match is_repeatable(sink.input())? {
            true => Ok(true),
            false => internal_err!("the stage has to give its rows in the same order again, and would not"),
        },
        _ => Ok(false),
    }
}

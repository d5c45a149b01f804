//! What DataFusion 55's encoding of plans leaves out, to be sent beside them.
//!
//! Both sides walk the plan from its root, so what belongs to an operator is known by its place among those of its kind.

mod groups;
mod limits;
mod windows;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use hwacha_proto::exchange::{SinkNode, WindowFunctionRest};

pub(super) use groups::empty_grouping_sets;
pub(super) use limits::limits;
#[cfg(test)]
pub(super) use windows::functions as functions_of_windows;
pub(super) use windows::window_functions;

/// Gives the decoded plan below a sink back what its encoding left out.
pub(super) fn restore(sink: &SinkNode, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = restore_limits(sink, plan)?;
    let mut functions = sink.window_functions.iter();
    let mut counts = sink.empty_grouping_sets.iter();
    plan.transform_down(|node| {
        if let Some(found) = windows::functions(&node) {
            let rests: Vec<_> = functions.by_ref().take(found.len()).collect();
            if rests.iter().any(|rest| **rest != WindowFunctionRest::default()) {
                return windows::with_rests(&node, found, &rests).map(Transformed::yes);
            }
        } else if let Some(aggregate) = node.downcast_ref::<AggregateExec>()
            && let Some(count) = counts.next().filter(|count| **count > 0)
        {
            return groups::with_empty_grouping_sets(aggregate, *count as usize).map(Transformed::yes);
        }
        Ok(Transformed::no(node))
    })
    .data()
}

fn restore_limits(sink: &SinkNode, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut rests = sink.limits.iter();
    plan.transform_down(|node| match limits::limit(&node).and_then(|_| rests.next()) {
        Some(rest) => limits::with_rest(&node, rest).map(Transformed::yes),
        None => Ok(Transformed::no(node)),
    })
    .data()
}

//! Encodes the properties of operators that DataFusion 55's encoding of plans leaves out. The encoded sink of the stage
//! contains these properties as lists.
//!
//! The encoder and the decoder walk the plan in the same order, from its root. So the n-th entry of a list belongs to
//! the n-th operator of its kind, or to the n-th window function.

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

/// Restores the properties that DataFusion's encoding has left out. `plan` is the decoded plan below the sink.
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

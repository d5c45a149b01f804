//! Aggregations whose grouping sets all have no columns, such as `GROUP BY GROUPING SETS ((), ())`.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};

/// One entry per aggregation of the plan: the number of its grouping sets if all of them are empty, else 0. The list
/// is empty if all entries are 0.
pub(crate) fn empty_grouping_sets(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<u32>> {
    let mut counts = vec![];
    plan.apply(|node| {
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            let groups = aggregate.group_expr();
            let are_empty = groups.has_grouping_set() && groups.expr().is_empty();
            counts.push(if are_empty { groups.groups().len() as u32 } else { 0 });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let nothing = counts.iter().all(|count| *count == 0);
    Ok(if nothing { vec![] } else { counts })
}

pub(super) fn with_empty_grouping_sets(aggregate: &AggregateExec, count: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let groups = PhysicalGroupBy::new(vec![], vec![], vec![vec![]; count], true);
    Ok(Arc::new(AggregateExec::try_new(
        *aggregate.mode(),
        groups,
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        Arc::clone(aggregate.input()),
        aggregate.input_schema(),
    )?))
}

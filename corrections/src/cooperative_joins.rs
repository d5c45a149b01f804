//! Makes joins yield to tokio while they produce rows. DataFusion yields only where input is read, and a join with
//! many matches turns few input batches into very many output batches. Such a join could not be canceled.
//!
//! Tokio gives a task a budget of 128 units each time it polls the task. A join that yields takes one unit before it
//! asks its input for rows. With 128 such joins above each other, every poll would use up its budget before the lowest
//! join reads anything, and the query would never end. So at most [`MOST_ON_A_WAY`] joins yield on each path from the
//! root to a leaf, evenly spread.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use hwacha_operators::tree::with_children;

/// Most joins that yield on one path from the root to a leaf (64: half of tokio's budget of 128 units).
const MOST_ON_A_WAY: usize = 64;

/// Makes joins yield while they produce rows.
#[derive(Debug)]
pub struct CooperativeJoinsRule;

impl PhysicalOptimizerRule for CooperativeJoinsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let every = joins_on_a_way(&plan).div_ceil(MOST_ON_A_WAY);
        Ok(cooperative(&plan, every)?.0)
    }

    fn name(&self) -> &str {
        "cooperative_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan in which a join yields if its height is a multiple of `every`, and the height of `node`. The height is the
/// largest number of joins on a path down to a leaf, `node` included.
fn cooperative(node: &Arc<dyn ExecutionPlan>, every: usize) -> Result<(Arc<dyn ExecutionPlan>, usize)> {
    let (mut children, mut joins) = (vec![], 0);
    for child in node.children() {
        let (child, below) = cooperative(child, every)?;
        children.push(child);
        joins = joins.max(below);
    }
    let same = node.children().iter().zip(&children).all(|(old, new)| Arc::ptr_eq(old, new));
    let node = if same { Arc::clone(node) } else { with_children(node, children)? };
    if !is_join(&node) {
        return Ok((node, joins));
    }
    joins += 1;
    Ok(if joins % every == 0 { (Arc::new(CooperativeExec::new(node)), joins) } else { (node, joins) })
}

fn joins_on_a_way(node: &Arc<dyn ExecutionPlan>) -> usize {
    let below = node.children().into_iter().map(joins_on_a_way).max().unwrap_or(0);
    below + usize::from(is_join(node))
}

fn is_join(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<HashJoinExec>() || node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;

    use super::*;

    fn yielding(node: &Arc<dyn ExecutionPlan>) -> usize {
        let below = node.children().into_iter().map(yielding).max().unwrap_or(0);
        below + usize::from(node.is::<CooperativeExec>())
    }

    #[test]
    fn chains_of_joins_yield_and_get_to_their_rows() {
        for (joins, yields) in [(1, 1), (64, 64), (65, 32), (1000, 62)] {
            let row = || Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty()))) as Arc<dyn ExecutionPlan>;
            let chain = (0..joins).fold(row(), |chain, _| Arc::new(CrossJoinExec::new(chain, row())));
            let plan = CooperativeJoinsRule.optimize(chain, &ConfigOptions::new()).expect("it is a plan");
            assert_eq!(yielding(&plan), yields, "of {joins}");
        }
    }
}

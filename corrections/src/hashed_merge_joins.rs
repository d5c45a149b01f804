//! Replaces sort-merge joins that would panic by hash joins.
//!
//! In DataFusion 55.2 a full outer sort-merge join with a filter in addition to its equality keys panics (index out of
//! bounds, `sort_merge_join/filter.rs`). Semi and anti joins panic with batches of three rows. So a join stays a
//! sort-merge join only if it has no filter and outputs the columns of both sides.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};

/// Replaces sort-merge joins with a filter, and semi, anti and mark joins, by hash joins. Runs before DataFusion adds
/// sorts below joins.
#[derive(Debug)]
pub struct HashedMergeJoinsRule;

impl PhysicalOptimizerRule for HashedMergeJoinsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<SortMergeJoinExec>() {
            Some(join) if !is_right(join) => Ok(Transformed::yes(hashed(join)?)),
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "hashed_merge_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn is_right(join: &SortMergeJoinExec) -> bool {
    let keeps_both = matches!(join.join_type(), JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full);
    keeps_both && join.filter().is_none()
}

fn hashed(join: &SortMergeJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(HashJoinExec::try_new(
        Arc::clone(join.left()),
        Arc::clone(join.right()),
        join.on().to_vec(),
        join.filter().clone(),
        &join.join_type(),
        None,
        PartitionMode::Auto,
        join.null_equality(),
        false,
    )?))
}

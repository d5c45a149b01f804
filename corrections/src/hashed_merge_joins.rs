//! Sort-merge joins that fail are planned as hash joins.
//!
//! In DataFusion 55.2 a full outer sort-merge join with a condition beside its equal keys panics (index out of bounds,
//! `sort_merge_join/filter.rs`), and semi and anti joins panic in batches of three rows. Only joins that have no such
//! condition and give the columns of both sides stay sort-merge joins.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};

/// Turns them into hash joins. Runs before sorts are put below joins.
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

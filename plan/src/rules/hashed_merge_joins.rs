//! Sort-merge joins that give other rows are hash joins.
//!
//! Of 55.2's sort-merge joins, full outer ones with a condition beside the equal keys panic or answer with rows that are
//! not joined twice (`sort_merge_join/filter.rs`), and semi and anti joins differ where rows of a key fill several batches.
//! Only those without such a condition that keep the columns of both sides stay.

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

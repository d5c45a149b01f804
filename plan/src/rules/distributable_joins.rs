//! Keeps joins correct when they are spread over tasks.
//!
//! If each task collects the build side of a join that emits build rows (a left join), several tasks may emit the same
//! row. So both sides are hashed instead. A plan for one task keeps DataFusion's choice.
//!
//! ```text
//!   HashJoin: CollectLeft, Left    ->    HashJoin: Partitioned, Left
//! ```

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};

use crate::cluster::Cluster;

/// Hashes both sides of a join that emits build rows, instead of collecting the build side.
#[derive(Debug)]
pub struct DistributableJoinsRule {
    pub cluster: Cluster,
}

impl PhysicalOptimizerRule for DistributableJoinsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if self.cluster.tasks == 1 {
            return Ok(plan);
        }
        plan.transform_up(|node| match node.downcast_ref::<HashJoinExec>() {
            Some(join) if must_partition(join) => {
                let join = join.builder().with_partition_mode(PartitionMode::Partitioned).build_exec()?;
                Ok(Transformed::yes(join))
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "distributable_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn must_partition(join: &HashJoinExec) -> bool {
    *join.partition_mode() == PartitionMode::CollectLeft
        && emits_build_rows(*join.join_type())
        && !join.null_aware
        && !join.on().is_empty()
}

/// Whether a join must know all right rows before it can emit a left row. Such a join is wrong if each task has all
/// left rows but only a part of the right rows. Example: each task of a left join would emit the left rows without a
/// partner in this task, so a left row could be emitted several times.
pub fn emits_build_rows(join_type: JoinType) -> bool {
    match join_type {
        JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => true,
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => false,
    }
}

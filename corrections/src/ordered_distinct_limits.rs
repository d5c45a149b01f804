//! Removes the limit of an aggregation if later rules have ordered its groups (apache/datafusion#25350).
//!
//! For DISTINCT with LIMIT 10, DataFusion lets an aggregation without aggregate functions stop after 10 groups. It
//! decides this before it adds sorts for windows. If such a sort orders the groups, the aggregation treats its limit as
//! the limit of an ORDER BY with LIMIT. It finds no sort direction and fails: "Ordering direction required for DISTINCT
//! with limit". The limit is only a hint, because a LIMIT stands above the aggregation. So the hint is removed here.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;

/// Removes limits without a sort direction from aggregations that output ordered groups.
#[derive(Debug)]
pub struct OrderedDistinctLimitsRule;

impl PhysicalOptimizerRule for OrderedDistinctLimitsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<AggregateExec>() {
            Some(aggregate) if is_mistaken(aggregate) => {
                Ok(Transformed::yes(Arc::new(aggregate.with_new_limit_options(None)) as Arc<dyn ExecutionPlan>))
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "ordered_distinct_limits"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn is_mistaken(aggregate: &AggregateExec) -> bool {
    let has_hint = aggregate.limit_options().is_some_and(|limit| limit.descending().is_none());
    has_hint && !aggregate.is_unordered_unfiltered_group_by_distinct()
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use crate::corrected_rules;

    #[tokio::test]
    async fn distinct_rows_of_a_window_are_limited() {
        let state = SessionStateBuilder::new()
            .with_config(SessionConfig::new().with_target_partitions(3))
            .with_default_features()
            .with_physical_optimizer_rules(corrected_rules())
            .build();
        let context = SessionContext::new_with_state(state);
        let sql =
            "SELECT DISTINCT g, sum(v) OVER (PARTITION BY g) AS s FROM (VALUES (1, 2), (1, 3), (2, 4)) AS t(g, v)";
        for (limit, rows) in [(1, 1), (2, 2), (30, 2)] {
            let frame = context.sql(&format!("{sql} LIMIT {limit}")).await.expect("it plans");
            assert_eq!(frame.count().await.expect("it runs"), rows);
            let frame = context.sql(&format!("{sql} LIMIT {limit}")).await.expect("it plans");
            let batches = frame.collect().await.expect("it runs");
            assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), rows);
        }
    }
}

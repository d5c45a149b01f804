//! Puts a gate above each aggregation with grouping sets. DataFusion copies properties of such an aggregation's input
//! to its output, although they do not hold there (apache/datafusion#16965). In the example, the input has the constant
//! `a = 0`, but the output also has rows with NULL in `a`. The gate hides the copied properties from later rules; see
//! [`hwacha_operators::grouping_gate`].
//!
//! ```text
//!   Aggregate final: a, __grouping_id          Aggregate final: a, __grouping_id
//!     Aggregate partial: (NULL), (a)      ->     GroupingGate
//!       Filter: a = 0                              Aggregate partial: (NULL), (a)
//!                                                    Filter: a = 0
//! ```

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use hwacha_operators::grouping_gate::{GroupingGate, GroupingGateExec};

/// Puts gates above grouping sets. It must run before all rules that sort, partition or aggregate.
#[derive(Debug)]
pub struct GatedGroupingSetsRule;

impl PhysicalOptimizerRule for GatedGroupingSetsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let aggregate = node.downcast_ref::<AggregateExec>();
            Ok(match aggregate.is_some_and(|aggregate| aggregate.group_expr().has_grouping_set()) {
                true => Transformed::yes(Arc::new(GroupingGateExec::new(node, GroupingGate)) as Arc<dyn ExecutionPlan>),
                false => Transformed::no(node),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "gated_grouping_sets"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use crate::corrected_rules;

    fn context(partitions: usize) -> SessionContext {
        let state = SessionStateBuilder::new()
            .with_config(SessionConfig::new().with_target_partitions(partitions))
            .with_default_features()
            .with_physical_optimizer_rules(corrected_rules())
            .build();
        SessionContext::new_with_state(state)
    }

    const TABLE: &str = "(VALUES (0, 1), (0, 2), (0, 1), (1, 1)) AS t(a, b)";

    #[tokio::test]
    async fn totals_of_a_constant_are_sorted_among_the_others() {
        let cases = [("FIRST", "|   |"), ("LAST", "| 0 |")].into_iter().flat_map(|case| [(1, case), (3, case)]);
        for (partitions, (nulls, first)) in cases {
            let sql =
                format!("SELECT a, count(*) FROM {TABLE} WHERE a = 0 GROUP BY ROLLUP (a) ORDER BY a NULLS {nulls}");
            let rows = context(partitions).sql(&sql).await.expect("it plans").collect().await.expect("it runs");
            let rows = pretty_format_batches(&rows).expect("rows").to_string();
            let rows: Vec<_> = rows.lines().filter(|line| line.ends_with("3        |")).collect();
            assert_eq!(rows.len(), 2, "{rows:?}");
            assert!(rows[0].starts_with(first), "{sql} on {partitions}: {rows:?}");
        }
    }

    #[tokio::test]
    async fn no_order_is_claimed_of_grouping_sets() {
        for sql in [
            format!("SELECT a, count(*) FROM {TABLE} WHERE a = 0 GROUP BY CUBE (a, b)"),
            format!("SELECT a, count(*) FROM (SELECT * FROM {TABLE} ORDER BY a LIMIT 9) GROUP BY ROLLUP (a)"),
            format!("SELECT a, b FROM {TABLE} WHERE a = b GROUP BY GROUPING SETS ((a), (b))"),
        ] {
            let plan = context(3).sql(&sql).await.expect("it plans").create_physical_plan().await.expect("it plans");
            let plan = displayable(plan.as_ref()).indent(false).to_string();
            let final_line = plan.lines().find(|line| line.contains("mode=Final")).unwrap_or_default();
            assert!(plan.contains("GroupingGateExec"), "{plan}");
            assert!(!final_line.contains("ordering_mode="), "{plan}");
        }
    }
}

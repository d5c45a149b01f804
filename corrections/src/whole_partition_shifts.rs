//! Evaluates LEAD and LAG with IGNORE NULLS on whole partitions (apache/datafusion#25471).
//!
//! `BoundedWindowAggExec` evaluates these functions row by row and miscounts values after consecutive NULLs. Example:
//! in 30, 40, NULL, NULL, 70, `lead(v, 2) IGNORE NULLS` of 30 is 70, but the operator gives NULL. `WindowAggExec`
//! evaluates a whole partition at once, with other code, which is right. Both operators require the same input order.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};
use hwacha_operators::tree::{WindowWalk, window_function};

/// Replaces `BoundedWindowAggExec` by `WindowAggExec` for LEAD and LAG with IGNORE NULLS.
#[derive(Debug)]
pub struct WholePartitionShiftsRule;

impl PhysicalOptimizerRule for WholePartitionShiftsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match node.downcast_ref::<BoundedWindowAggExec>() {
            Some(window) if passes_nulls_by(window.window_expr())? => Ok(Transformed::yes(by_partitions(window)?)),
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "whole_partition_shifts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether one of the window functions is LEAD or LAG with IGNORE NULLS. Both can look ahead: LAG does so with a
/// negative offset, or if DataFusion evaluates it in reverse order.
fn passes_nulls_by(functions: &[Arc<dyn WindowExpr>]) -> Result<bool> {
    let shifts = functions.iter().filter_map(|function| window_function(function.as_ref()));
    let mut shifts = shifts.filter(|shift| ["lag", "lead"].contains(&shift.fun().name()));
    shifts.try_fold(false, |found, shift| Ok(found || WindowWalk::of(shift)?.ignores_nulls))
}

fn by_partitions(window: &BoundedWindowAggExec) -> Result<Arc<dyn ExecutionPlan>> {
    if window.input_order_mode != InputOrderMode::Sorted {
        // DataFusion plans windows over unsorted rows only if the input is unbounded. No table is unbounded.
        return internal_err!("the rows of a window with IGNORE NULLS are not sorted");
    }
    let (functions, is_parallel) = (window.window_expr().to_vec(), !window.partition_keys().is_empty());
    Ok(Arc::new(WindowAggExec::try_new(functions, Arc::clone(window.input()), is_parallel)?))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::SessionContext;

    use crate::corrected_rules;

    #[tokio::test]
    async fn only_shifts_that_ignore_nulls_change() {
        let state =
            SessionStateBuilder::new().with_default_features().with_physical_optimizer_rules(corrected_rules()).build();
        let context = SessionContext::new_with_state(state);
        for (function, is_bounded) in [
            ("lead(v, 2) IGNORE NULLS OVER (ORDER BY id)", false),
            ("lag(v) IGNORE NULLS OVER (PARTITION BY v ORDER BY id)", false),
            ("lead(v) OVER (ORDER BY id)", true),
            ("last_value(v) IGNORE NULLS OVER (ORDER BY id)", true),
            ("sum(v) OVER (ORDER BY id)", true),
        ] {
            let sql = format!("SELECT {function} FROM (VALUES (1, 2), (2, NULL)) AS t(id, v)");
            let plan = context.sql(&sql).await.expect("it plans").create_physical_plan().await.expect("it plans");
            let plan = displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(plan.contains("BoundedWindowAggExec"), is_bounded, "{sql}\n{plan}");
        }
    }
}

//! Pushes a LIMIT below windows only if DataFusion knows how far they look ahead (apache/datafusion#18028,
//! apache/datafusion#25471).
//!
//! DataFusion limits the sort below a window to the rows of the LIMIT above the window, plus the rows by which the
//! window's functions look ahead: LIMIT 3 over `lead(v, 2)` sorts 5 rows. The number is too small in two cases:
//!
//! - DataFusion assumes that LAG looks back. With a negative offset, LAG looks ahead: for LIMIT 3, `lag(v, -2)` of row
//!   3 is the value of row 5. LAG also looks ahead if DataFusion evaluates it in reverse order.
//! - If the frames of two windows look ahead and one window reads the other's rows, DataFusion takes the larger
//!   look-ahead instead of the sum. Example: if each frame is the current row and the next 2 rows, 4 more rows are
//!   needed, not 2.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::WindowFrameBound;
use datafusion::physical_expr::window::{StandardWindowFunctionExpr, WindowExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::windows::BoundedWindowAggExec;
use hwacha_operators::tree::window_function;

/// DataFusion's `LimitPushPastWindows`, skipped for plans with windows that it would judge wrongly.
#[derive(Debug)]
pub struct SafeWindowLimitsRule(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for SafeWindowLimitsRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match is_misjudged(&plan)? {
            true => Ok(plan),
            false => self.0.optimize(plan, config),
        }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Whether some LAG looks ahead, or at least two windows look ahead. In the second case, one window may read the output
/// of the other.
fn is_misjudged(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let (mut ahead, mut hidden) = (0, false);
    plan.apply(|node| {
        if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
            let mut looks_ahead = false;
            for function in window.window_expr() {
                let is_hidden = is_hidden_lead(function.as_ref())?;
                hidden |= is_hidden;
                looks_ahead |= is_hidden || may_look_ahead(function.as_ref());
            }
            ahead += usize::from(looks_ahead);
        }
        Ok(if hidden || ahead > 1 { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(hidden || ahead > 1)
}

fn is_hidden_lead(function: &dyn WindowExpr) -> Result<bool> {
    match window_function(function).filter(|function| function.fun().name() == "lag") {
        // A LAG with offset 0 also counts as looking ahead. That is harmless.
        Some(lag) => Ok(!lag.create_evaluator()?.is_causal()),
        None => Ok(false),
    }
}

fn may_look_ahead(function: &dyn WindowExpr) -> bool {
    let is_lead = window_function(function).is_some_and(|function| function.fun().name() == "lead");
    is_lead || matches!(function.get_window_frame().end_bound, WindowFrameBound::Following(_))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::SessionContext;

    use crate::corrected_rules;

    const FRAME: &str = "OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)";
    const AHEAD: &str = "OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND 2 FOLLOWING)";

    #[tokio::test]
    async fn a_limit_goes_below_windows_that_are_judged_right() {
        let state =
            SessionStateBuilder::new().with_default_features().with_physical_optimizer_rules(corrected_rules()).build();
        let context = SessionContext::new_with_state(state);
        let table = "(VALUES (1, 2), (2, NULL)) AS t(id, v)";
        for (query, is_limited) in [
            (format!("SELECT id, lead(v, 2) {FRAME} FROM {table}"), true),
            (format!("SELECT id, lag(v, 2) {FRAME} FROM {table}"), true),
            (format!("SELECT id, sum(v) {AHEAD} FROM {table}"), true),
            (format!("SELECT id, lag(v, -2) {FRAME} FROM {table}"), false),
            (format!("SELECT id, lead(v) IGNORE NULLS {FRAME} FROM {table}"), false),
            (format!("SELECT id, sum(s) {AHEAD} FROM (SELECT id, sum(v) {AHEAD} AS s FROM {table})"), false),
        ] {
            let sql = format!("{query} ORDER BY id LIMIT 3");
            let plan = context.sql(&sql).await.expect("it plans").create_physical_plan().await.expect("it plans");
            let plan = displayable(plan.as_ref()).indent(false).to_string();
            assert_eq!(plan.contains("TopK(fetch="), is_limited, "{sql}\n{plan}");
        }
    }
}

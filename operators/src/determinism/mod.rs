//! Decides whether a second attempt at a stage puts the same rows into the same partitions.

mod inexact;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use hwacha_model::Determinism;

use self::inexact::inexact_floats_decide;
use crate::aggregates::order_insensitive::is_order_insensitive;
use crate::aggregates::own_name;
use crate::scan::file_scan;

/// The class of a stage plan. A plan is varying if it has a limit, a window, a volatile expression or an aggregate that
/// is not known to ignore the order of rows, or if the last digits of floats decide about rows.
pub fn determinism(plan: &Arc<dyn ExecutionPlan>) -> Result<Determinism> {
    let varies =
        plan.exists(|node| Ok(picks_rows(node) || depends_on_order(node) || has_volatile_expression(node)?))?;
    Ok(if varies || inexact_floats_decide(plan)? { Determinism::Varying } else { Determinism::Reproducible })
}

/// Whether a second attempt at a query's last stage gives the rows of each output partition in the same order. Then the
/// second attempt can continue where the first attempt ended. This holds if each partition reads its own files one
/// after the other and every operator works row by row. A plan counts as not repeatable unless this is known.
pub fn is_repeatable(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let may_differ = plan.exists(|node| Ok(!keeps_rows_in_order(node) || has_volatile_expression(node)?))?;
    Ok(!may_differ)
}

fn keeps_rows_in_order(node: &Arc<dyn ExecutionPlan>) -> bool {
    let scans = file_scan(node).is_some_and(|scan| scan.output_partitioning.is_none());
    scans
        || node.is::<FilterExec>()
        || node.is::<ProjectionExec>()
        || node.is::<CooperativeExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<UnnestExec>()
        || node.is::<UnionExec>()
}

/// Whether any expression of `plan` may have another value at each evaluation.
pub fn is_volatile_plan(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(has_volatile_expression)
}

/// Whether the node has a limit. A limit keeps the rows or groups that come first.
fn picks_rows(node: &Arc<dyn ExecutionPlan>) -> bool {
    let limits_groups = |aggregate: &AggregateExec| aggregate.limit_options().is_some();
    node.fetch().is_some()
        || file_scan(node).is_some_and(|scan| scan.limit.is_some())
        || node.downcast_ref::<AggregateExec>().is_some_and(limits_groups)
}

fn depends_on_order(node: &Arc<dyn ExecutionPlan>) -> bool {
    if node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() {
        return true;
    }
    let is_sensitive = |aggregate: &AggregateExec| {
        aggregate.aggr_expr().iter().any(|expr| !is_order_insensitive(own_name(expr.fun())))
    };
    node.downcast_ref::<AggregateExec>().is_some_and(is_sensitive)
}

fn has_volatile_expression(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut volatile = false;
    node.apply_expressions(&mut |expr| {
        volatile |= is_volatile(expr);
        Ok(if volatile { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(volatile)
}

//! Decides whether a second attempt at a stage puts the same rows into the same partitions.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use hwacha_model::{Determinism, OutputKind};

use crate::exchange::{ExchangeSinkExec, ExchangeSourceExec};
use crate::localize::file_scan;
use crate::merged::MergedAggregate;

/// Aggregates whose value does not depend on the order of their rows, but for the last digits of floats.
const ORDER_INSENSITIVE: &[&str] = &[
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "grouping",
    "max",
    "median",
    "min",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "var",
    "var_pop",
    "var_samp",
];

/// Whether an aggregate is the same in whatever order its rows come, but for the last digits of floats.
pub(crate) fn is_order_insensitive(aggregate: &str) -> bool {
    ORDER_INSENSITIVE.contains(&aggregate)
}

/// The class of a stage plan. Whatever is not known to be reproducible varies.
pub(crate) fn determinism(plan: &Arc<dyn ExecutionPlan>) -> Result<Determinism> {
    let varies =
        plan.exists(|node| Ok(picks_rows(node) || depends_on_order(node) || has_volatile_expression(node)?))?;
    let varies = varies || inexact(plan)?.is_none();
    Ok(if varies { Determinism::Varying } else { Determinism::Reproducible })
}

/// Whether any expression of `plan` may have another value each time.
pub(crate) fn is_volatile_plan(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(has_volatile_expression)
}

/// The name of the function whose states `function` merges, or its own.
fn own_name(function: &AggregateUDF) -> &str {
    function.inner().downcast_ref::<MergedAggregate>().map_or(function.name(), MergedAggregate::function)
}

/// Limits keep whichever rows come first.
fn picks_rows(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.fetch().is_some() || file_scan(node).is_some_and(|scan| scan.limit.is_some())
}

fn depends_on_order(node: &Arc<dyn ExecutionPlan>) -> bool {
    if node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>() {
        return true;
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return aggregate.aggr_expr().iter().any(|expr| !is_order_insensitive(own_name(expr.fun())));
    }
    // Float sums differ in their last digits from run to run, which sends their rows elsewhere.
    let schema = node.schema();
    node.downcast_ref::<ExchangeSinkExec>().is_some_and(|sink| {
        sink.keys().iter().any(|key| key.data_type(&schema).map_or(true, |data_type| data_type.is_floating()))
    })
}

/// What another attempt may give otherwise, since sums of floats depend on the order in which rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Inexact {
    Nothing,
    /// The last digits of floats.
    Floats,
    /// Also what was made of such floats, such as a rounded number.
    More,
}

/// What is inexact in the rows of `node`; `None` where that decides which rows there are, or where they go.
fn inexact(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Inexact>> {
    let schema = node.schema();
    let has_floats = schema.fields().iter().any(|field| field.data_type().is_floating());
    if node.is::<ExchangeSourceExec>() {
        // Whether they were sums is not asked.
        return Ok(Some(if has_floats { Inexact::Floats } else { Inexact::Nothing }));
    }
    let mut found = Inexact::Nothing;
    for child in node.children() {
        match inexact(child)? {
            Some(below) => found = found.max(below),
            None => return Ok(None),
        }
    }
    if let Some(sink) = node.downcast_ref::<ExchangeSinkExec>() {
        // Who reads does not ask either.
        let is_passed_on = found == Inexact::More && sink.kind() != OutputKind::Result;
        return Ok((!is_passed_on).then_some(found));
    }
    let only_orders = node.is::<SortExec>() || node.is::<SortPreservingMergeExec>();
    if found != Inexact::Nothing && !only_orders && decides(node, found)? {
        if !node.is::<ProjectionExec>() {
            return Ok(None);
        }
        found = Inexact::More;
    }
    if node.is::<AggregateExec>() && has_floats {
        found = found.max(Inexact::Floats);
    }
    Ok(Some(if found == Inexact::Floats && !has_floats { Inexact::Nothing } else { found }))
}

/// Whether the expressions of `node` decide something by what is inexact in its inputs.
fn decides(node: &Arc<dyn ExecutionPlan>, input: Inexact) -> Result<bool> {
    let mut exprs = vec![];
    node.apply_expressions(&mut |expr| {
        exprs.push(Arc::clone(expr));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if input == Inexact::More {
        return Ok(!exprs.is_empty());
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let (left, right) = (join.left().schema(), join.right().schema());
        let by_key = |(one, other): &(_, _)| is_told_apart(one, &left) || is_told_apart(other, &right);
        return Ok(join.on().iter().any(by_key)
            || join.filter().is_some_and(|filter| judges(filter.expression(), filter.schema())));
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let schema = aggregate.input().schema();
        let takes_rows = aggregate.mode().input_mode() == AggregateInputMode::Raw;
        return Ok(aggregate.group_expr().expr().iter().any(|(group, _)| is_told_apart(group, &schema))
            || takes_rows && exprs.iter().any(|expr| judges(expr, &schema)));
    }
    match node.children()[..] {
        [child] => Ok(exprs.iter().any(|expr| judges(expr, &child.schema()))),
        _ => Ok(!exprs.is_empty()),
    }
}

/// Whether rows with different floats have different keys.
fn is_told_apart(key: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    is_float(key, schema) || judges(key, schema)
}

/// Whether an expression makes something else of a float, such as a truth value or a whole number.
fn judges(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let children = expr.children();
    children.iter().any(|child| judges(child, schema))
        || !is_float(expr, schema) && children.into_iter().any(|child| is_float(child, schema))
}

/// Whether it is a float that columns have or that was computed of some. What is not known may be one.
fn is_float(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let is_of_floats =
        |column: Column| schema.fields().get(column.index()).is_none_or(|field| field.data_type().is_floating());
    expr.data_type(schema).map_or(true, |data_type| data_type.is_floating())
        && collect_columns(expr).into_iter().any(is_of_floats)
}

fn has_volatile_expression(node: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut volatile = false;
    node.apply_expressions(&mut |expr| {
        volatile |= is_volatile(expr);
        Ok(if volatile { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(volatile)
}

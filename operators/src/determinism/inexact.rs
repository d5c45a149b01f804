//! Finds plans in which the last digits of floats decide which rows there are or where rows go. A sum of floats depends
//! on the order of its rows, so another attempt at a stage may give other last digits. This is harmless if the digits
//! are only shown.
//!
//! ```text
//! projection: sum(x) * 2                 digits are only shown: harmless
//! filter: sum(x) > 10                    digits decide whether a row passes
//! sink: hash(sum(x))                     digits decide the partition of a row
//! projection: CAST(sum(x) AS BIGINT)     decides if an operator or stage above reads the number
//! ```

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, IsNotNullExpr, IsNullExpr};
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use hwacha_model::OutputKind;

use crate::aggregates::own_name;
use crate::exchange::{ExchangeSinkExec, ExchangeSourceExec};
use crate::functions::order_key::holds_floats;

/// Aggregates that return a float of one of their rows unchanged.
const EXACT: [&str; 2] = ["max", "min"];

/// Whether another attempt at `plan` may give other rows, or send rows elsewhere, because floats have other last
/// digits.
pub(crate) fn inexact_floats_decide(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    Ok(inexact(plan)?.is_none())
}

/// Which values of the rows may differ in another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Inexact {
    Nothing,
    /// The last digits of floats.
    Floats,
    /// Also values of other types that were made of such floats, such as whole numbers.
    Derived,
}

/// Which values in the rows of `node` are inexact; `None` if they decide which rows there are or where rows go.
fn inexact(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Inexact>> {
    let schema = node.schema();
    let has_floats = schema.fields().iter().any(|field| holds_floats(field.data_type()));
    if node.is::<ExchangeSourceExec>() {
        // All floats from another stage count as inexact, whether they are sums or not.
        return Ok(Some(if has_floats { Inexact::Floats } else { Inexact::Nothing }));
    }
    let mut found = Inexact::Nothing;
    for child in node.children() {
        match inexact(child)? {
            Some(below) => found = found.max(below),
            None => return Ok(None),
        }
    }
    let exprs = expressions(node)?;
    if exprs.iter().any(reads_floats_of_a_subquery) {
        found = found.max(Inexact::Floats);
    }
    if let Some(sink) = node.downcast_ref::<ExchangeSinkExec>() {
        // The consumer only counts floats as inexact, so derived values must not leave the stage, except in the
        // result.
        let is_passed_on = found == Inexact::Derived && sink.kind() != OutputKind::Result;
        let is_key = found != Inexact::Nothing && sink.keys().iter().any(|key| key_decides(key, &schema));
        return Ok((!is_passed_on && !is_key).then_some(found));
    }
    let only_orders = node.is::<SortExec>() || node.is::<SortPreservingMergeExec>();
    if found != Inexact::Nothing && !only_orders && node_decides(node, &exprs, found) {
        if !node.is::<ProjectionExec>() {
            return Ok(None);
        }
        found = Inexact::Derived;
    }
    if node.downcast_ref::<AggregateExec>().is_some_and(sums_floats) {
        found = found.max(Inexact::Floats);
    }
    Ok(Some(if found == Inexact::Floats && !has_floats { Inexact::Nothing } else { found }))
}

fn expressions(node: &Arc<dyn ExecutionPlan>) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let mut exprs = vec![];
    node.apply_expressions(&mut |expr| {
        exprs.push(Arc::clone(expr));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(exprs)
}

/// Whether an aggregation makes floats that depend on the order of its input rows.
fn sums_floats(aggregate: &AggregateExec) -> bool {
    let schema = aggregate.schema();
    let made = schema.fields().iter().skip(aggregate.group_expr().num_group_exprs());
    let is_exact = |name: &str| EXACT.contains(&name);
    made.map(|field| field.data_type()).any(holds_floats)
        && aggregate.aggr_expr().iter().any(|expr| !is_exact(own_name(expr.fun())))
}

/// Whether the expressions of `node` decide something by the inexact values of its inputs.
fn node_decides(node: &Arc<dyn ExecutionPlan>, exprs: &[Arc<dyn PhysicalExpr>], input: Inexact) -> bool {
    if input == Inexact::Derived {
        return !exprs.is_empty();
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let (left, right) = (join.left().schema(), join.right().schema());
        let by_key = |(one, other): &(_, _)| key_decides(one, &left) || key_decides(other, &right);
        let filter = join.filter().is_some_and(|filter| expr_decides(filter.expression(), filter.schema()));
        return filter || join.on().iter().any(by_key);
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        return join.filter().is_some_and(|filter| expr_decides(filter.expression(), filter.schema()));
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return aggregate_decides(aggregate, exprs);
    }
    match node.children()[..] {
        [child] => exprs.iter().any(|expr| expr_decides(expr, &child.schema())),
        _ => !exprs.is_empty(),
    }
}

fn aggregate_decides(aggregate: &AggregateExec, exprs: &[Arc<dyn PhysicalExpr>]) -> bool {
    let schema = aggregate.input().schema();
    let by_group = aggregate.group_expr().expr().iter().any(|(group, _)| key_decides(group, &schema));
    // An aggregation of states has expressions over the raw rows, which are not in its input.
    let takes_rows = aggregate.mode().input_mode() == AggregateInputMode::Raw;
    let mut distinct = aggregate.aggr_expr().iter().filter(|expr| expr.is_distinct());
    let by_value = distinct.any(|expr| expr.expressions().iter().any(|value| key_decides(value, &schema)));
    by_group || takes_rows && (by_value || exprs.iter().any(|expr| expr_decides(expr, &schema)))
}

/// Whether other last digits of floats may change the key.
fn key_decides(key: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    is_inexact(key, schema) || expr_decides(key, schema)
}

/// Whether an expression turns a float into another type, such as a truth value or a whole number.
fn expr_decides(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    // A dynamic filter only drops rows without effect on the result. Whether a value is NULL does not depend on its
    // digits.
    if expr.is::<DynamicFilterPhysicalExpr>() || expr.is::<IsNullExpr>() || expr.is::<IsNotNullExpr>() {
        return false;
    }
    let children = expr.children();
    children.iter().any(|child| expr_decides(child, schema))
        || !is_inexact(expr, schema) && children.into_iter().any(|child| is_inexact(child, schema))
}

/// Whether an expression is a float made of float columns or of a subquery. An unknown type counts as a float.
fn is_inexact(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let is_of_floats =
        |column: Column| schema.fields().get(column.index()).is_none_or(|field| holds_floats(field.data_type()));
    expr.data_type(schema).map_or(true, |data_type| holds_floats(&data_type))
        && (collect_columns(expr).into_iter().any(is_of_floats) || reads_floats_of_a_subquery(expr))
}

fn reads_floats_of_a_subquery(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let is_float = expr.data_type(&Schema::empty()).map_or(true, |data_type| holds_floats(&data_type));
    expr.is::<ScalarSubqueryExpr>() && is_float || expr.children().into_iter().any(reads_floats_of_a_subquery)
}

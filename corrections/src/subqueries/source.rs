//! Finds a plan that can run twice, for the domain of a subquery.
//!
//! The plan of the outer rows runs once for the query and once for the domain. The domain must have every value of the
//! outer rows: if a value is missing, the subquery looks empty for the outer rows with that value. Additional values do
//! no harm. So a node that may give other rows the second time, such as a LIMIT, is left out if its input has all
//! needed columns.
//!
//! ```text
//!   Limit: 10                          Projection: k
//!     Projection: k, x          ->       TableScan: t
//!       TableScan: t
//! ```

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable, Filter, Join, JoinType, Limit, LogicalPlan, Sort, Window, WindowFrameUnits,
    WindowFunctionDefinition,
};

use super::references::provides;

/// Aggregate functions whose value does not depend on the order of the rows, unless the value is a float.
const EXACT: [&str; 10] = ["avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "count", "max", "min", "sum"];

/// A plan that has the same rows each time it runs, and the names that `columns` have in that plan. Each of them has at
/// least the values that it has in `plan`. `None` if there is no such plan.
pub(super) fn readable_again(plan: &LogicalPlan, columns: Vec<Column>) -> Result<Option<(LogicalPlan, Vec<Column>)>> {
    if is_reproducible(plan)? {
        return Ok(Some((plan.clone(), columns)));
    }
    match below(plan, columns) {
        Some((input, columns)) => readable_again(input, columns),
        None => Ok(None),
    }
}

/// An input of the plan's root that has all values of `columns`, and the names of these columns in the input.
fn below(plan: &LogicalPlan, columns: Vec<Column>) -> Option<(&LogicalPlan, Vec<Column>)> {
    match plan {
        LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::Sort(Sort { input, .. })
        | LogicalPlan::Limit(Limit { input, .. })
        | LogicalPlan::Window(Window { input, .. })
        | LogicalPlan::Distinct(Distinct::All(input)) => {
            columns.iter().all(|column| provides(input.schema(), column)).then_some((input.as_ref(), columns))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let below = |column: &Column| {
                let index = alias.schema.maybe_index_of_column(column)?;
                Some(Column::from(alias.input.schema().qualified_field(index)))
            };
            Some((alias.input.as_ref(), columns.iter().map(below).collect::<Option<_>>()?))
        }
        LogicalPlan::Projection(projection) => {
            Some((projection.input.as_ref(), unnamed(&projection.expr, &projection.schema, &columns)?))
        }
        LogicalPlan::Aggregate(aggregate) => {
            Some((aggregate.input.as_ref(), unnamed(&aggregate.group_expr, &aggregate.schema, &columns)?))
        }
        LogicalPlan::Join(join) => side(join, columns),
        _ => None,
    }
}

/// The input columns that the output columns `columns` pass on, possibly under another name; `None` if an expression
/// computes one of them.
fn unnamed(exprs: &[Expr], schema: &DFSchema, columns: &[Column]) -> Option<Vec<Column>> {
    let below = |column: &Column| bare(exprs.get(schema.maybe_index_of_column(column)?)?).cloned();
    columns.iter().map(below).collect()
}

fn bare(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => bare(&alias.expr),
        _ => None,
    }
}

/// The side of a join that has all `columns`, if the join adds no NULLs to that side.
fn side(join: &Join, columns: Vec<Column>) -> Option<(&LogicalPlan, Vec<Column>)> {
    let (left, right) = passed_sides(join.join_type);
    let has_all = |side: &LogicalPlan| columns.iter().all(|column| provides(side.schema(), column));
    let side = match (left && has_all(&join.left), right && has_all(&join.right)) {
        (true, _) => &join.left,
        (false, true) => &join.right,
        (false, false) => return None,
    };
    Some((side.as_ref(), columns))
}

/// Whether a plan has the same rows each time it runs.
pub(super) fn is_reproducible(plan: &LogicalPlan) -> Result<bool> {
    let mut is_reproducible = true;
    plan.apply_with_subqueries(|node| {
        is_reproducible = is_reproducible && is_node_reproducible(node)?;
        Ok(if is_reproducible { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_reproducible)
}

fn is_node_reproducible(node: &LogicalPlan) -> Result<bool> {
    if node.expressions().iter().any(Expr::is_volatile) {
        return Ok(false);
    }
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Values(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Unnest(_) => Ok(true),
        LogicalPlan::TableScan(scan) => Ok(scan.fetch.is_none()),
        LogicalPlan::Sort(sort) => Ok(sort.fetch.is_none()),
        LogicalPlan::Limit(limit) => Ok(is_total_order(&limit.input)),
        LogicalPlan::Aggregate(aggregate) => all_exact(&aggregate.aggr_expr, aggregate.input.schema()),
        LogicalPlan::Window(window) => all_exact(&window.window_expr, window.input.schema()),
        _ => Ok(false),
    }
}

/// Whether rows are sorted by all their columns. Then each position has the same row each time.
fn is_total_order(plan: &LogicalPlan) -> bool {
    let LogicalPlan::Sort(Sort { expr, input, fetch: None }) = plan else { return false };
    let is_key = |column: Column| expr.iter().any(|key| bare(&key.expr) == Some(&column));
    input.schema().columns().into_iter().all(is_key)
}

fn all_exact(calls: &[Expr], schema: &DFSchema) -> Result<bool> {
    for call in calls {
        if call.get_type(schema)?.is_floating() || !is_exact(call) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_exact(call: &Expr) -> bool {
    match call {
        Expr::Alias(alias) => is_exact(&alias.expr),
        Expr::AggregateFunction(aggregate) => EXACT.contains(&aggregate.func.name()),
        Expr::WindowFunction(window) => {
            let WindowFunction { fun, params } = window.as_ref();
            match fun {
                WindowFunctionDefinition::WindowUDF(function) => matches!(function.name(), "rank" | "dense_rank"),
                // In a RANGE frame, rows with equal sort keys have the same frame. In a ROWS frame they do not.
                WindowFunctionDefinition::AggregateUDF(function) => {
                    EXACT.contains(&function.name())
                        && (params.order_by.is_empty() || params.window_frame.units == WindowFrameUnits::Range)
                }
            }
        }
        _ => false,
    }
}

/// Whether a condition may be moved above a join from the left side, and from the right side.
pub(super) fn passed_sides(join_type: JoinType) -> (bool, bool) {
    match join_type {
        JoinType::Inner => (true, true),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
        JoinType::Full => (false, false),
    }
}

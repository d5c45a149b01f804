//! Finds the subqueries that DataFusion's decorrelation gets right. They keep DataFusion's plans.
//!
//! DataFusion moves each condition that refers to an outer column up to the root of the subquery, where it becomes a
//! join condition. On the way it adds the columns of the condition to the projections and groups. This is right if
//!
//! - the condition may pass every node on the way: no LIMIT, no window, no set operation, no join; and an aggregation
//!   only if the condition fixes one group for every outer row;
//! - DataFusion finds the added columns again. It looks them up by name without the table, so
//!   `EXISTS (SELECT * FROM a, b WHERE a.k = o.k AND b.k = o.x)` compares one `k` twice.
//!
//! Everything else is for [`super::unnest`].

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::can_hash;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::membership::may_be_null;
use super::path::{Asked, Walk};
use super::references::{becomes_join, free_references, has, has_subquery, is_correlated, provides};

/// Whether DataFusion gives the right rows for a filter's condition that contains subqueries.
pub(super) fn is_kept(test: &Expr, input: &LogicalPlan) -> Result<bool> {
    // DataFusion would replace the subqueries of the condition by columns of joins, and then move the whole condition
    // up, including these columns.
    if test.contains_outer() {
        return Ok(false);
    }
    match test {
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Exists(exists) => keeps(&exists.subquery.subquery, input.schema(), Asked::Existence),
            Expr::InSubquery(membership) => {
                let InSubquery { expr, subquery, negated } = membership;
                is_kept(&Expr::InSubquery(InSubquery::new(expr.clone(), subquery.clone(), !negated)), input)
            }
            _ => is_kept_within(test, input),
        },
        Expr::Exists(exists) => keeps(&exists.subquery.subquery, input.schema(), Asked::Existence),
        Expr::InSubquery(membership) if membership.negated => is_null_aware(membership, input),
        _ => is_kept_within(test, input),
    }
}

/// [`is_kept`] for a subquery inside a larger expression. DataFusion replaces it by the mark of a mark join, and a mark
/// is never NULL. For an IN, this is right only below AND and OR, where FALSE and NULL both drop the row.
fn is_kept_within(test: &Expr, input: &LogicalPlan) -> Result<bool> {
    match test {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            Ok(is_kept_within(left, input)? && is_kept_within(right, input)?)
        }
        Expr::InSubquery(membership) => Ok(!membership.negated
            && is_plain_operand(&membership.expr)
            && keeps(&membership.subquery.subquery, input.schema(), Asked::Existence)?),
        _ => Ok(!has(test, |part| !is_kept_part(part, input))),
    }
}

fn is_kept_part(part: &Expr, input: &LogicalPlan) -> bool {
    match part {
        // DataFusion would plan an uncorrelated EXISTS as a nested loop join over all rows of the subquery.
        Expr::Exists(Exists { subquery, .. }) => {
            is_correlated(&subquery.subquery)
                && keeps(&subquery.subquery, input.schema(), Asked::Existence).unwrap_or(false)
        }
        Expr::ScalarSubquery(subquery) => keeps(&subquery.subquery, input.schema(), Asked::Value).unwrap_or(false),
        other => !becomes_join(other),
    }
}

/// Whether the left side of an IN may be evaluated in any place, as often as needed.
pub(super) fn is_plain_operand(operand: &Expr) -> bool {
    !operand.is_volatile() && !has_subquery(operand)
}

/// Whether DataFusion turns a NOT IN into a null-aware anti join, or the NOT IN needs none because neither side can be
/// NULL.
///
/// The null-aware anti join has exactly one key, so the subquery must not be correlated, and the key must contain a
/// column. DataFusion makes this join if the subquery's column or a column of the left side may be NULL. It does not
/// look at the left side as a whole: `nullif(x, 2)` may be NULL where `x` never is
/// (<https://github.com/apache/datafusion/issues/25473>).
fn is_null_aware(membership: &InSubquery, input: &LogicalPlan) -> Result<bool> {
    let InSubquery { expr, subquery, .. } = membership;
    let (plan, schema) = (subquery.subquery.as_ref(), input.schema().as_ref());
    if is_correlated(plan) || !is_plain_operand(expr) || !expr.any_column_refs() {
        return Ok(false);
    }
    let mut awaits_null = plan.schema().field(0).is_nullable();
    for column in expr.column_refs() {
        awaits_null |= schema.qualified_field_from_column(column).map_or(true, |(_, field)| field.is_nullable());
    }
    let is_never_null = !expr.nullable(schema)? && !may_be_null(plan);
    Ok(can_hash(&expr.get_type(schema)?) && (awaits_null || is_never_null))
}

/// Whether DataFusion gives the right rows for a subquery whose outer rows have the schema `outer`.
pub(super) fn keeps(subquery: &LogicalPlan, outer: &DFSchema, asked: Asked) -> Result<bool> {
    let free = free_references(subquery)?;
    if free.is_empty() {
        return Ok(true);
    }
    let path = if free.iter().all(|reference| provides(outer, &reference.column)) {
        Walk { asked }.walk(subquery)?
    } else {
        None
    };
    // DataFusion must know that a scalar subquery has one value. It knows this only of an aggregation.
    Ok(path.is_some_and(|path| path.is_aggregated || asked != Asked::Value))
}

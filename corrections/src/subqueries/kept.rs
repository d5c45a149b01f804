//! Which subqueries DataFusion's decorrelation gets right, so that they keep the plans that it gives them.
//!
//! It moves each condition that refers to an outer column up to the root, where the subquery is joined, and adds the
//! columns that the condition needs to what is selected on the way. That is right if
//!
//! - the condition may pass every node on the way: no LIMIT, no window, no set operation, no join; and an aggregation
//!   only if the condition fixes one group for every outer row;
//! - the added columns are found again: DataFusion finds them by their bare names, so
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

/// Whether a condition of a filter, with subqueries in it, keeps its meaning in DataFusion's hands.
pub(super) fn is_kept(test: &Expr, input: &LogicalPlan) -> Result<bool> {
    // DataFusion would move the whole condition up, with the columns that its subqueries have become.
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

/// The same for a part of a condition that subqueries are only a part of: DataFusion makes mark joins of them, whose
/// marks are never NULL. Where an IN may as well be FALSE as NULL, below AND and OR alone, that is right.
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
        // An uncorrelated one would be a nested loop join over all rows of the subquery.
        Expr::Exists(Exists { subquery, .. }) => {
            is_correlated(&subquery.subquery)
                && keeps(&subquery.subquery, input.schema(), Asked::Existence).unwrap_or(false)
        }
        Expr::ScalarSubquery(subquery) => keeps(&subquery.subquery, input.schema(), Asked::Value).unwrap_or(false),
        other => !becomes_join(other),
    }
}

/// Whether the left side of an IN may be evaluated wherever the join wants it.
pub(super) fn is_plain_operand(operand: &Expr) -> bool {
    !operand.is_volatile() && !has_subquery(operand)
}

/// Whether a NOT IN becomes DataFusion's null-aware anti join, or none is needed.
///
/// That join knows one key alone, so nothing may be correlated, and it needs a column in the key. Whether it is taken
/// depends on the columns in the left side, not on what is made of them: `nullif(x, 2)` may be NULL where `x` never is
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

/// Whether DataFusion gives a subquery of rows of the schema `outer` its meaning.
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
    // Without an aggregation DataFusion cannot know that there is one value.
    Ok(path.is_some_and(|path| path.is_aggregated || asked != Asked::Value))
}

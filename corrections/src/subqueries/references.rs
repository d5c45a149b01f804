//! Finds the columns of outer queries that a plan refers to.
//!
//! DataFusion stores an outer reference as a qualified name, without the query that it belongs to. As in SQL, the name
//! refers to the innermost enclosing query that has a column of this name. So a reference is *free* in a plan if no
//! node of the plan binds it. A node binds a reference if one of its subqueries contains the reference and one of its
//! inputs has the column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery, SubqueryAlias};

/// A column of an outer query that a plan refers to.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) column: Column,
    pub(super) field: FieldRef,
}

/// The free references of `plan`, each once, in the order in which they are found.
pub(super) fn free_references(plan: &LogicalPlan) -> Result<Vec<Reference>> {
    let mut free = vec![];
    collect(plan, &mut free)?;
    Ok(free)
}

/// Whether `expr`, an expression of a node with these inputs, refers to columns of an outer query.
pub(super) fn reaches_out(expr: &Expr, inputs: &[&LogicalPlan]) -> Result<bool> {
    let mut free = vec![];
    collect_from(expr, inputs, &mut free)?;
    Ok(!free.is_empty())
}

fn collect(plan: &LogicalPlan, free: &mut Vec<Reference>) -> Result<()> {
    let inputs = plan.inputs();
    plan.apply_expressions(|expr| {
        collect_from(expr, &inputs, free)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    match plan {
        // A LATERAL subquery sees the columns of the left side.
        LogicalPlan::Join(join) if lateral(&join.right).is_some() => {
            collect(&join.left, free)?;
            for reference in free_references(&join.right)? {
                if !provides(join.left.schema(), &reference.column) {
                    add(reference, free);
                }
            }
        }
        _ => {
            for input in inputs {
                collect(input, free)?;
            }
        }
    }
    Ok(())
}

fn collect_from(expr: &Expr, inputs: &[&LogicalPlan], free: &mut Vec<Reference>) -> Result<()> {
    expr.apply(|expr| {
        if let Expr::OuterReferenceColumn(field, column) = expr {
            add(Reference { column: column.clone(), field: Arc::clone(field) }, free);
        }
        if let Some(subquery) = subquery_of(expr) {
            for reference in free_references(&subquery.subquery)? {
                if !inputs.iter().any(|input| provides(input.schema(), &reference.column)) {
                    add(reference, free);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn add(reference: Reference, free: &mut Vec<Reference>) {
    if free.iter().all(|known| known.column != reference.column) {
        free.push(reference);
    }
}

/// Whether a schema has exactly this column: an unqualified name does not match a qualified column.
pub(super) fn provides(schema: &DFSchema, column: &Column) -> bool {
    schema.iter().any(|(qualifier, field)| qualifier == column.relation.as_ref() && *field.name() == column.name)
}

/// The LATERAL subquery that is the right side of a join, with its name.
pub(super) fn lateral(right: &LogicalPlan) -> Option<(&Subquery, Option<&TableReference>)> {
    match right {
        LogicalPlan::Subquery(subquery) => Some((subquery, None)),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => match input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((subquery, Some(alias))),
            _ => None,
        },
        _ => None,
    }
}

/// The subquery of `expr`, if `expr` is EXISTS, IN, a comparison with ANY or ALL, or a scalar subquery.
pub(super) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// Whether an expression is a subquery that has to become a join. A scalar subquery without free references needs no
/// join: it runs once.
pub(super) fn becomes_join(expr: &Expr) -> bool {
    match expr {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => true,
        Expr::ScalarSubquery(subquery) => is_correlated(&subquery.subquery),
        _ => false,
    }
}

pub(super) fn is_correlated(plan: &LogicalPlan) -> bool {
    free_references(plan).map_or(true, |free| !free.is_empty())
}

/// Whether `expr` or a part of it passes `test`.
pub(super) fn has(expr: &Expr, test: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|part| Ok(test(part))).unwrap_or(true)
}

pub(super) fn has_subquery(expr: &Expr) -> bool {
    has(expr, |part| subquery_of(part).is_some())
}

/// Whether a plan has a scalar subquery anywhere. The value of such a subquery is NULL if it has no rows, even if
/// DataFusion declares it as not nullable.
pub(super) fn has_value_subquery(plan: &LogicalPlan) -> bool {
    let mut is_found = false;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            is_found |= has(expr, |part| matches!(part, Expr::ScalarSubquery(_)));
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if is_found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    is_found || visited.is_err()
}

/// Turns the columns of `expr` into outer references. The result can be used in a subquery whose outer rows have
/// `schema`.
pub(super) fn as_outer(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    expr.transform(|part| match part {
        Expr::Column(column) => {
            let field = Arc::clone(schema.qualified_field_from_column(&column)?.1);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Turns each outer reference in `expr` that means a column of `schema` into a plain column: the reverse of
/// [`as_outer`].
pub(super) fn as_inner(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    expr.transform(|part| match part {
        Expr::OuterReferenceColumn(_, column) if provides(schema, &column) => {
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Replaces columns in expressions by their new names.
pub(super) fn renamed(exprs: Vec<Expr>, names: &HashMap<Column, Column>) -> Result<Vec<Expr>> {
    let rename = |part: Expr| -> Result<Transformed<Expr>> {
        Ok(match part {
            Expr::Column(column) => match names.get(&column) {
                Some(name) => Transformed::yes(Expr::Column(name.clone())),
                None => Transformed::no(Expr::Column(column)),
            },
            other => Transformed::no(other),
        })
    };
    exprs.into_iter().map(|expr| expr.transform(rename).data()).collect()
}

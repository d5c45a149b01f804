//! A comparison with a decimal number that was cast to fewer digits after its point keeps the cast.
//!
//! DataFusion moves the cast of a column to the literal that the column is compared with: `CAST(d AS INT) = 5` becomes
//! `d = 5.00`. That is right only if the cast loses nothing: 5.10 as an INT is 5, and its row is lost. Casts of dates
//! and timestamps are left alone where they lose something; those of decimals are not (`unwrap_cast.rs`, 55.2).
//!
//! Here such a cast gets a CASE around it whose branches are alike, which DataFusion does not look into:
//! `CASE d IS NULL WHEN true THEN CAST(d AS INT) ELSE CAST(d AS INT) END = 5`.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Case, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, lit,
};
use datafusion::optimizer::AnalyzerRule;

const COMPARISONS: [Operator; 8] = [
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
];

/// Keeps casts that shorten decimal numbers where these are compared.
#[derive(Debug)]
pub struct NarrowedDecimalsRule;

impl AnalyzerRule for NarrowedDecimalsRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            // Groups are known to others by how they are written.
            if matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::TableScan(_)) {
                return Ok(Transformed::no(node));
            }
            let (names, schema) = (NamePreserver::new(&node), merge_schema(&node.inputs()));
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let kept = expr.transform_up(|expr| compared(expr, &schema))?;
                Ok(kept.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "narrowed_decimals"
    }
}

fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if COMPARISONS.contains(&op) => {
            let (left, right) = (kept(*left, schema)?, kept(*right, schema)?);
            let is_changed = left.transformed || right.transformed;
            let (left, right) = (Box::new(left.data), Box::new(right.data));
            Ok(Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), is_changed))
        }
        Expr::InList(InList { expr, list, negated }) => {
            Ok(kept(*expr, schema)?.update_data(|expr| Expr::InList(InList { expr: Box::new(expr), list, negated })))
        }
        Expr::Between(Between { expr, negated, low, high }) => Ok(kept(*expr, schema)?
            .update_data(|expr| Expr::Between(Between { expr: Box::new(expr), negated, low, high }))),
        other => Ok(Transformed::no(other)),
    }
}

/// `expr` with its cast out of sight of what would move it. Casts to a common type may stand around it.
fn kept(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (Expr::Cast(Cast { expr: inner, field }) | Expr::TryCast(TryCast { expr: inner, field })) = &expr else {
        return Ok(Transformed::no(expr));
    };
    if matches!(inner.as_ref(), Expr::Literal(..)) {
        return Ok(Transformed::no(expr));
    }
    if !inner.get_type(schema).is_ok_and(|from| shortens(&from, field.data_type())) {
        return expr.map_children(|inner| kept(inner, schema));
    }
    let is_null = Some(Box::new(Expr::IsNull(inner.clone())));
    let branch = (Box::new(lit(true)), Box::new(expr.clone()));
    Ok(Transformed::yes(Expr::Case(Case::new(is_null, vec![branch], Some(Box::new(expr))))))
}

fn shortens(from: &DataType, to: &DataType) -> bool {
    match (scale(from), scale(to)) {
        (Some(own), Some(kept)) => own > kept,
        (Some(own), None) => own > 0 && to.is_integer(),
        _ => false,
    }
}

/// How many digits a decimal number has after its point.
fn scale(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn digits_are_lost_before_numbers_are_compared() {
        let builder = SessionStateBuilder::new().with_default_features();
        let context =
            SessionContext::new_with_state(builder.with_analyzer_rule(Arc::new(NarrowedDecimalsRule)).build());
        let table = "(SELECT CAST(column1 AS DECIMAL(10, 2)) AS d FROM (VALUES (5.1), (5.0), (5.99), (6.5), (NULL)))";
        for (condition, rows) in [
            ("CAST(d AS INT) = 5", 3),
            ("CAST(d AS INT) > 5", 1),
            ("TRY_CAST(d AS INT) IN (5, 7)", 3),
            ("CAST(d AS DECIMAL(10, 1)) = 6.0", 1),
            ("CAST(d AS DECIMAL(12, 3)) BETWEEN 5.0 AND 5.5", 2),
        ] {
            let frame = context.sql(&format!("SELECT d FROM {table} WHERE {condition}")).await.expect("it plans");
            assert_eq!(frame.count().await.expect("it runs"), rows, "{condition}");
        }
    }
}

//! Adds the casts that type coercion leaves out where timestamps of different zones, or with and without one, meet:
//!
//! - in a difference. Of one unit, DataFusion subtracts the numbers that are stored, so that the difference between a time in
//!   Berlin and the same without a zone is two hours in summer; of two units and zones it refuses it;
//! - in the default of `lag` and `lead`, which DataFusion casts when it plans the operator, after all rules.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use super::session_zone::has_no_zone;

/// Adds casts where zones meet. Runs before type coercion.
#[derive(Debug)]
pub struct MetZonesRule;

impl AnalyzerRule for MetZonesRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let (names, schema) = (NamePreserver::new(&node), merge_schema(&node.inputs()));
            let has_suspects =
                |expr: &Expr| expr.exists(|part| Ok(is_difference(part) || shift_default(part).is_some()));
            let met = node.map_expressions(|expr| {
                if !has_suspects(&expr)? {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                let met = expr.transform_up(|expr| with_casts(expr, &schema))?;
                Ok(if met.transformed { met.update_data(|expr| name.restore(expr)) } else { met })
            })?;
            if met.transformed { met.map_data(LogicalPlan::recompute_schema) } else { Ok(met) }
        })
        .data()
    }

    fn name(&self) -> &str {
        "met_zones"
    }
}

fn is_difference(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::Minus, .. }))
}

/// The value and the default of a call of `lag` or `lead`.
fn shift_default(expr: &Expr) -> Option<(&Expr, &Expr)> {
    let Expr::WindowFunction(window) = expr else { return None };
    match &window.params.args[..] {
        [value, _, default] if ["lag", "lead"].contains(&window.fun.name()) => Some((value, default)),
        _ => None,
    }
}

fn with_casts(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let met = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => met(left, right, schema),
        other => shift_default(other).and_then(|(value, default)| met_by(value, default, schema)),
    };
    let Some((is_first, to)) = met else { return Ok(Transformed::no(expr)) };
    let cast = |side: &mut Expr| *side = Expr::Cast(Cast::new(Box::new(std::mem::take(side)), to));
    match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => cast(if is_first { left } else { right }),
        Expr::WindowFunction(window) => cast(&mut window.params.args[2]),
        _ => return Ok(Transformed::no(expr)),
    }
    Ok(Transformed::yes(expr))
}

/// Which side of a difference is cast, the first or the other one, and to which type.
fn met(left: &Expr, right: &Expr, schema: &DFSchema) -> Option<(bool, DataType)> {
    met_by(left, right, schema).or_else(|| {
        let (from, to) = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
        let meets = matches!(to, DataType::Timestamp(_, Some(_))) && has_no_zone(&from) && !from.is_string();
        meets.then_some((true, to))
    })
}

/// The type of `value`, if it has a zone and `other` has another or none.
fn met_by(value: &Expr, other: &Expr, schema: &DFSchema) -> Option<(bool, DataType)> {
    let (to, from) = (value.get_type(schema).ok()?, other.get_type(schema).ok()?);
    let DataType::Timestamp(_, Some(zone)) = &to else { return None };
    let meets = match &from {
        DataType::Timestamp(_, Some(other)) => other != zone,
        other => has_no_zone(other) && !other.is_string(),
    };
    meets.then_some((false, to))
}

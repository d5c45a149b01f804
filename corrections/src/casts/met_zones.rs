//! Adds casts between timestamps with different zones, or with and without a zone, where type coercion adds none:
//!
//! - The difference of two timestamps. If both have the same unit, DataFusion subtracts the stored numbers. The
//!   difference between 12:00 in Berlin and 12:00 without a zone is then two hours in summer. If both have zones and
//!   the zones differ, DataFusion refuses the statement while it plans it, before any rule runs.
//! - The default value of `lag` and `lead`. DataFusion casts it when it plans the operator, after all rules.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::session_zone::has_no_zone;

/// Plans the difference of two timestamps with different zones, or with and without a zone: `a - b` becomes
/// `a - CAST(b AS type of a)` if `a` has a zone, else `CAST(a AS type of b) - b`.
#[derive(Debug)]
pub struct ZonedDifferences;

impl ExprPlanner for ZonedDifferences {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if raw.op != BinaryOperator::Minus {
            return Ok(PlannerResult::Original(raw));
        }
        let RawBinaryExpr { op, left, right } = raw;
        let (of_left, of_right) = (left.get_type(schema), right.get_type(schema));
        let (left, right) = match (of_left, of_right) {
            (Ok(of_left), Ok(of_right)) if needs_zone(&of_right, &of_left) => (left, cast(right, of_left)),
            (Ok(of_left), Ok(of_right)) if needs_zone(&of_left, &of_right) => (cast(left, of_right), right),
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        let (left, right) = (Box::new(left), Box::new(right));
        Ok(PlannerResult::Planned(Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right })))
    }
}

/// Casts the default value of `lag` and `lead` to the type of their first argument, if that type has a zone. Runs
/// before type coercion.
#[derive(Debug)]
pub struct ZonedShiftsRule;

impl AnalyzerRule for ZonedShiftsRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Window(_) = &node else { return Ok(Transformed::no(node)) };
            let (names, schema) = (NamePreserver::new(&node), merge_schema(&node.inputs()));
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let shift = expr.transform_up(|expr| with_zoned_default(expr, &schema))?;
                Ok(if shift.transformed { shift.update_data(|expr| name.restore(expr)) } else { shift })
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "zoned_shifts"
    }
}

fn with_zoned_default(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(window) = &mut expr else { return Ok(Transformed::no(expr)) };
    let is_shift = ["lag", "lead"].contains(&window.fun.name());
    let [value, _, default] = &mut window.params.args[..] else { return Ok(Transformed::no(expr)) };
    let to = value.get_type(schema)?;
    if !is_shift || !needs_zone(&default.get_type(schema)?, &to) {
        return Ok(Transformed::no(expr));
    }
    *default = cast(std::mem::take(default), to);
    Ok(Transformed::yes(expr))
}

fn cast(expr: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), to))
}

/// Whether `to` is a timestamp with a zone, and `from` has another zone or none. Texts do not count: type coercion
/// casts them.
fn needs_zone(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Timestamp(_, Some(own)), DataType::Timestamp(_, Some(zone))) => own != zone,
        (from, DataType::Timestamp(_, Some(_))) => has_no_zone(from) && !from.is_string(),
        _ => false,
    }
}

//! Constants that a query compares with floats or intervals.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use hwacha_operators::functions::order_key::{holds_keyed, key_of};

use super::exprs::{call_of_key, with_operands};

/// Replaces each constant float or interval in a comparison by its key, before DataFusion's optimizer folds constants:
/// `x > 0.0 / 0.0` becomes `x > order_key(0.0 / 0.0)`, which the optimizer folds to `x > NaN`.
#[derive(Debug)]
pub struct KeyedConstantsRule;

impl AnalyzerRule for KeyedConstantsRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let has_expressions = matches!(
                node,
                LogicalPlan::Aggregate(_)
                    | LogicalPlan::Filter(_)
                    | LogicalPlan::Join(_)
                    | LogicalPlan::Projection(_)
                    | LogicalPlan::Sort(_)
                    | LogicalPlan::Values(_)
                    | LogicalPlan::Window(_)
            );
            if !has_expressions {
                return Ok(Transformed::no(node));
            }
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                // A grouping set must not get an alias.
                if matches!(expr, Expr::GroupingSet(_)) {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                let keyed = expr.transform_up(|expr| with_operands(expr, &constant_key))?;
                Ok(keyed.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "keyed_constants"
    }
}

/// The key of a constant. Any other expression stays as it is.
fn constant_key(expr: Expr) -> Result<Expr> {
    if let Expr::Literal(value, metadata) = expr {
        return Ok(Expr::Literal(key_of(value)?, metadata));
    }
    let is_part_of_constant = |part: &Expr| {
        matches!(
            part,
            Expr::Literal(..)
                | Expr::Alias(_)
                | Expr::BinaryExpr(_)
                | Expr::Cast(_)
                | Expr::Negative(_)
                | Expr::ScalarFunction(_)
                | Expr::TryCast(_)
        )
    };
    let is_constant = !expr.exists(|part| Ok(!is_part_of_constant(part)))? && !expr.is_volatile();
    let is_keyed = || expr.get_type(&DFSchema::empty()).is_ok_and(|data_type| holds_keyed(&data_type));
    Ok(if is_constant && is_keyed() { call_of_key(expr) } else { expr })
}

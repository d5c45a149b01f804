//! Keeps DataFusion from folding constants into numbers that have wrapped around.
//!
//! Before DataFusion's rule for constants runs, integer arithmetic that the rule could fold is replaced by calls of a
//! function that fails on overflow. The rule then folds these calls:
//!
//! ```text
//!   a + 1, 2 * 3, 9223372036854775807 + 1
//!   a + 1, checked_multiply(2, 3), checked_add(9223372036854775807, 1)     hidden
//!   a + 1, 6,                      checked_add(9223372036854775807, 1)     folded
//! ```
//!
//! Afterwards, calls that read columns become operators again, which executors check for overflow. If a call over
//! constants is left, it overflows, so the rule could not fold it. The call fails when it is evaluated: in VALUES while
//! DataFusion makes the physical plan, elsewhere on the executors. `a + 1` is never replaced, because the rule cannot
//! fold an operator with a column as an operand.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use hwacha_execution::session::hwacha_options;
use hwacha_operators::functions::constant_arithmetic::{ConstantArithmetic, wraps};

/// DataFusion's `simplify_expressions`, run on a plan whose constant arithmetic is replaced by functions that fail on
/// overflow.
#[derive(Debug)]
pub struct CheckedConstantsRule(pub Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for CheckedConstantsRule {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !can_fold_arithmetic(&plan)? || !hwacha_options(&config.options()).execution.checked_arithmetic {
            return self.0.rewrite(plan, config);
        }
        let schema = input_schema(&plan)?;
        let hidden = plan.map_expressions(|expr| expr.transform_up(|expr| hidden(expr, &schema)))?.data;
        self.0.rewrite(hidden, config)?.map_data(|plan| {
            // DataFusion's rule may put a projection above an aggregation. Then both nodes have expressions of the
            // original aggregation, so calls are replaced in the whole plan.
            let shown = plan.transform_up(|node| node.map_expressions(|expr| expr.transform_up(shown)))?;
            Ok(shown.data)
        })
    }
}

/// The columns that the expressions of a node can read.
fn input_schema(plan: &LogicalPlan) -> Result<DFSchema> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())
        }
        _ => Ok(merge_schema(&plan.inputs())),
    }
}

fn can_fold_arithmetic(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found = found || expr.exists(|expr| Ok(matches!(expr, Expr::BinaryExpr(binary) if can_fold(binary))))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether an operator wraps around on overflow and both operands may simplify to constants.
fn can_fold(binary: &BinaryExpr) -> bool {
    wraps(binary.op) && !holds_a_column(&binary.left) && !holds_a_column(&binary.right)
}

/// Whether an expression reads a column that no simplification removes. False for a product: `a * 0` may become 0.
fn holds_a_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::OuterReferenceColumn(..) => true,
        Expr::Cast(cast) => holds_a_column(&cast.expr),
        Expr::Negative(expr) => holds_a_column(expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) => {
            holds_a_column(left) || holds_a_column(right)
        }
        _ => false,
    }
}

fn hidden(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::BinaryExpr(binary) = expr else { return Ok(Transformed::no(expr)) };
    if !can_fold(&binary) {
        return Ok(Transformed::no(Expr::BinaryExpr(binary)));
    }
    let right = integer_type(&binary.right, schema);
    let data_type = integer_type(&binary.left, schema).filter(|left| right.as_ref() == Some(left));
    match data_type.and_then(|data_type| ConstantArithmetic::new(binary.op, data_type)) {
        Some(function) => Ok(Transformed::yes(ScalarUDF::from(function).call(vec![*binary.left, *binary.right]))),
        None => Ok(Transformed::no(Expr::BinaryExpr(binary))),
    }
}

/// The type of an expression if it is an integer type. The function that replaces an operator stores the type, so the
/// operands of a replaced operator are not visited again.
fn integer_type(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    match function(expr) {
        Some(function) => Some(function.data_type().clone()),
        None => expr.get_type(schema).ok().filter(DataType::is_integer),
    }
}

fn function(expr: &Expr) -> Option<&ConstantArithmetic> {
    let Expr::ScalarFunction(call) = expr else { return None };
    call.func.inner().downcast_ref()
}

fn shown(expr: Expr) -> Result<Transformed<Expr>> {
    let Some(operator) = function(&expr).map(ConstantArithmetic::operator) else { return Ok(Transformed::no(expr)) };
    if !reads_rows(&expr)? {
        return Ok(Transformed::no(expr));
    }
    let Expr::ScalarFunction(call) = expr else { return internal_err!("a function is called by a call") };
    let Ok([left, right]) = <[Expr; 2]>::try_from(call.args) else {
        return internal_err!("an operator has two operands");
    };
    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))))
}

/// Whether an expression depends on rows, or on a value that is not known while planning, such as a placeholder.
fn reads_rows(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::Placeholder(_)
                | Expr::ScalarVariable(..)
                | Expr::LambdaVariable(_)
                | Expr::Unnest(_)
        ))
    })
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::optimizer_rules;
    use hwacha_execution::session::session_config;

    fn context(checks: bool) -> SessionContext {
        let mut config = session_config().with_create_default_catalog_and_schema(true);
        let value = checks.to_string();
        config.options_mut().set("hwacha.execution.checked_arithmetic", &value).expect("a setting");
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_optimizer_rules(optimizer_rules())
            .build();
        SessionContext::new_with_state(state)
    }

    async fn optimized(sql: &str, checks: bool) -> LogicalPlan {
        let frame = context(checks).sql(sql).await.expect("it plans");
        frame.into_optimized_plan().expect("it is optimized")
    }

    const TABLE: &str = "(SELECT column1 AS a, column2 AS b FROM (VALUES (1, 2), (3, 4)))";

    /// Expressions whose constants overflow.
    const OVERFLOWS: [&str; 8] = [
        "9223372036854775807 + 1",
        "-9223372036854775807 - 2",
        "9223372036854775807 * 2",
        "(CASE WHEN true THEN 9223372036854775807 ELSE a END) + 1",
        "coalesce(NULL, 9223372036854775807) + 1",
        "arrow_cast(200, 'UInt8') + arrow_cast(100, 'UInt8')",
        "arrow_cast(1, 'UInt64') - arrow_cast(2, 'UInt64')",
        "a * 0 + 9223372036854775807 + 1",
    ];

    #[tokio::test]
    async fn constants_that_overflow_stay_calls_and_fail() {
        for expr in OVERFLOWS {
            let sql = format!("SELECT {expr} AS x FROM {TABLE}");
            let plan = optimized(&sql, true).await.display_indent().to_string();
            assert!(plan.contains("checked_") || plan.contains("* Int64(0)"), "{expr}: {plan}");
        }
        let failed = context(true).sql("SELECT 9223372036854775807 + 1").await.expect("it plans").collect().await;
        assert!(failed.expect_err("it overflows").to_string().contains("9223372036854775807 + 1"));
    }

    #[tokio::test]
    async fn values_fail_while_they_are_planned() {
        let frame = context(true).sql("VALUES (1), (9223372036854775807 + 1)").await.expect("it plans");
        frame.collect().await.expect_err("it overflows");
    }

    #[tokio::test]
    async fn without_checks_they_wrap_around() {
        let plan = optimized("SELECT 9223372036854775807 + 1 AS x", false).await.display_indent().to_string();
        assert!(plan.contains("Int64(-9223372036854775808)"), "{plan}");
    }

    #[tokio::test]
    async fn what_is_not_reached_does_not_fail() {
        let sql = "SELECT CASE WHEN 1 > 2 THEN 9223372036854775807 + 1 ELSE 5 END AS x";
        let plan = optimized(sql, true).await.display_indent().to_string();
        assert!(plan.contains("Int64(5) AS x"), "{plan}");
    }

    #[tokio::test]
    async fn everything_else_is_planned_as_without_checks() {
        for query in [
            "SELECT 1 + 2 * 3 AS x, a + 1 - 2, a * b + 5, (a + b) * (a - b)".to_owned() + &format!(" FROM {TABLE}"),
            format!("SELECT coalesce(a, 0) + coalesce(b, 0), nullif(a, 1) * 2 FROM {TABLE}"),
            format!("SELECT a FROM {TABLE} WHERE a * 2 + b * 3 > 10 + 20 AND a + NULL > 5"),
            format!(
                "SELECT sum(a + 1), sum(a + 2), sum(coalesce(a, 0) + 3) FROM {TABLE} GROUP BY a + b, coalesce(a, 1) + 2"
            ),
            format!("SELECT a + (SELECT max(b) + 1 FROM {TABLE}) FROM {TABLE} ORDER BY 2 - a LIMIT 1 + 2"),
            format!("SELECT 1.5 + 2.5, 'a' || 'b', date '2000-01-01' + interval '1 day', a / 2, a % 3 FROM {TABLE}"),
        ] {
            let (checked, unchecked) = (optimized(&query, true).await, optimized(&query, false).await);
            assert_eq!(checked.display_indent().to_string(), unchecked.display_indent().to_string(), "{query}");
            assert_eq!(checked.schema(), unchecked.schema(), "{query}");
        }
    }
}

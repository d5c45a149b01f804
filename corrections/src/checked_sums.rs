//! Makes `sum` fail if its total does not fit into its type, unless `hwacha.execution.checked_arithmetic` is off.
//!
//! DataFusion's `sum` wraps around (apache/datafusion#17539). This rule replaces the function in the plan, not in the
//! session's functions: a view is analyzed when it is opened, and again in the session that reads it. The setting of
//! the reading session decides.

use std::sync::{Arc, LazyLock};

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::functions_aggregate::sum::{Sum, sum_udaf};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, WindowFunctionDefinition};
use datafusion::optimizer::AnalyzerRule;
use hwacha_execution::session::hwacha_options;
use hwacha_operators::aggregates::checked_sum::CheckedSum;

static CHECKED: LazyLock<Arc<AggregateUDF>> =
    LazyLock::new(|| Arc::new(AggregateUDF::new_from_impl(CheckedSum::default())));

/// Replaces `sum` by [`CheckedSum`], or [`CheckedSum`] by `sum` if checked arithmetic is off.
#[derive(Debug)]
pub struct CheckedSumsRule;

impl AnalyzerRule for CheckedSumsRule {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let checks = hwacha_options(config).execution.checked_arithmetic;
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
                node.map_expressions(|expr| expr.transform_up(|expr| Ok(exchanged(expr, checks))))
            }
            _ => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "checked_sums"
    }
}

fn exchanged(mut expr: Expr, checks: bool) -> Transformed<Expr> {
    let function = match &mut expr {
        Expr::AggregateFunction(call) => &mut call.func,
        Expr::WindowFunction(call) => match &mut call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => function,
            WindowFunctionDefinition::WindowUDF(_) => return Transformed::no(expr),
        },
        _ => return Transformed::no(expr),
    };
    let other = match checks {
        true if function.inner().is::<Sum>() => Arc::clone(&CHECKED),
        false if function.inner().is::<CheckedSum>() => sum_udaf(),
        _ => return Transformed::no(expr),
    };
    *function = other;
    Transformed::yes(expr)
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;
    use hwacha_execution::session::session_config;

    fn context(checks: bool) -> SessionContext {
        let mut config = session_config().with_create_default_catalog_and_schema(true).with_target_partitions(2);
        let value = checks.to_string();
        config.options_mut().set("hwacha.execution.checked_arithmetic", &value).expect("a setting");
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_analyzer_rule(Arc::new(CheckedSumsRule))
            .build();
        SessionContext::new_with_state(state)
    }

    async fn run(sql: &str, checks: bool) -> Result<Vec<String>> {
        let batches = context(checks).sql(sql).await?.collect().await?;
        let text = pretty_format_batches(&batches)?.to_string();
        let cells = text.lines().filter(|line| line.starts_with('|')).skip(1);
        Ok(cells.map(|line| line.trim_matches(['|', ' ']).to_owned()).collect())
    }

    const MAX: &str = "(VALUES (1, 9223372036854775807), (1, 1), (1, NULL), (2, 5)) t(k, a)";

    #[tokio::test]
    async fn totals_that_do_not_fit_are_errors() {
        for sql in [
            format!("SELECT sum(a) FROM {MAX}"),
            format!("SELECT k, sum(a) FROM {MAX} GROUP BY k"),
            format!("SELECT sum(DISTINCT a) FROM {MAX}"),
            format!("SELECT sum(DISTINCT a), count(DISTINCT k) FROM {MAX}"),
            format!("SELECT sum(a) OVER () FROM {MAX}"),
            format!("SELECT sum(a) OVER (ORDER BY a DESC ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM {MAX} WHERE a IS NOT NULL"),
            format!("SELECT sum(a) FILTER (WHERE k = 1) FROM {MAX}"),
            format!("SELECT sum(DISTINCT a) OVER (ORDER BY a DESC ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM {MAX} WHERE a > 0"),
            "SELECT sum(arrow_cast(a, 'UInt64')) FROM (VALUES ('18446744073709551615'), ('1')) t(a)".to_owned(),
            "SELECT sum(arrow_cast(a, 'Decimal32(9, 0)')) FROM (VALUES (999999999), (1)) t(a)".to_owned(),
            "SELECT sum(arrow_cast(a, 'Decimal128(38, 0)')) FROM (VALUES ('99999999999999999999999999999999999999'), ('1')) t(a)".to_owned(),
            "SELECT sum(arrow_cast(a, 'Decimal128(38, 0)')) FROM (VALUES ('90000000000000000000000000000000000000'), ('90000000000000000000000000000000000000')) t(a)".to_owned(),
            "SELECT sum(arrow_cast(a, 'Duration(Second)')) FROM (VALUES (9223372036854775807), (1)) t(a)".to_owned(),
            "SELECT sum(a) FROM (VALUES (interval '2147483647 days'), (interval '1 day')) t(a)".to_owned(),
        ] {
            let text = run(&sql, true).await.expect_err(&sql).strip_backtrace();
            assert!(text.contains("sum does not fit into"), "{sql}: {text}");
            run(&sql, false).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    #[tokio::test]
    async fn totals_that_fit_are_right_in_any_order() {
        let big =
            "(VALUES (1, 9223372036854775807), (1, 9223372036854775807), (1, -9223372036854775807), (2, NULL)) t(k, a)";
        for (sql, expected) in [
            (format!("SELECT sum(a) FROM {big}"), vec!["9223372036854775807"]),
            (format!("SELECT sum(a) FROM {big} GROUP BY k ORDER BY k"), vec!["9223372036854775807", ""]),
            (format!("SELECT sum(DISTINCT a) FROM {big}"), vec!["0"]),
            (format!("SELECT sum(a) FROM {big} WHERE k > 5"), vec![""]),
            (format!("SELECT arrow_typeof(sum(a)) FROM {big}"), vec!["Int64"]),
            ("SELECT sum(a) FROM (VALUES (1.5), (2.5)) t(a)".to_owned(), vec!["4.0"]),
            ("SELECT sum(a) FROM (VALUES (interval '1 day'), (interval '2 days')) t(a)".to_owned(), vec!["3 days"]),
            (
                "SELECT sum(arrow_cast(a, 'Decimal128(10, 2)')) FROM (VALUES (1.25), (2.50)) t(a)".to_owned(),
                vec!["3.75"],
            ),
            (
                "SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s \
                 FROM (VALUES (1), (2), (NULL), (4)) t(a) ORDER BY a"
                    .to_owned(),
                vec!["1", "3", "6", "4"],
            ),
            (
                "SELECT sum(DISTINCT a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s \
                 FROM (VALUES (1, 1), (1, 2), (2, 3)) t(a, b) ORDER BY b"
                    .to_owned(),
                vec!["1", "1", "3"],
            ),
        ] {
            for checks in [true, false] {
                assert_eq!(run(&sql, checks).await.expect(&sql), expected, "{sql}, checked: {checks}");
            }
        }
    }

    #[tokio::test]
    async fn names_and_the_sums_of_linear_expressions_stay() {
        let sql = "SELECT sum(a + 1), sum(a + 2) FROM (VALUES (1), (2)) t(a)";
        let plan = context(true).sql(sql).await.expect("it plans").into_optimized_plan().expect("it is optimized");
        let text = plan.display_indent().to_string();
        assert!(text.contains("sum(t.a)") && text.contains("count(t.a)"), "{text}");
        let names: Vec<_> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["sum(t.a + Int64(1))", "sum(t.a + Int64(2))"]);
    }
}

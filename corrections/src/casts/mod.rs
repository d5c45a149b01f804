//! Corrects casts:
//!
//! - [`session_zone`]: a time without a zone is in the session's zone;
//! - [`kept`]: a lossy cast is not moved to the literal of its comparison;
//! - [`met_zones`]: adds casts that type coercion leaves out.

mod kept;
mod met_zones;
mod session_zone;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, TryCast};
use datafusion::optimizer::AnalyzerRule;
use hwacha_execution::session::UTC;

use self::kept::kept;
pub use self::met_zones::{ZonedDifferences, ZonedShiftsRule};
pub use self::session_zone::keep_zones;
use self::session_zone::{reads_seconds, through_session_zone};

/// A function that casts to the type that its second argument names. The optimizer replaces it by a `Cast`.
const CAST_FUNCTION: &str = "arrow_cast";
/// The function that the optimizer replaces by a `TryCast`, which gives NULL for a value that does not fit.
const TRY_CAST_FUNCTION: &str = "arrow_try_cast";

/// Corrects casts. Runs after type coercion, because type coercion adds casts.
#[derive(Debug)]
pub struct CastsRule;

impl AnalyzerRule for CastsRule {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref().unwrap_or(UTC);
        with_mended_casts(plan, &|expr, schema| {
            // The second walk sees the casts that the first one adds.
            through_session_zone(expr, schema, zone)?
                .transform_data(|expr| expr.transform_up(|expr| kept(expr, schema)))
        })
    }

    fn name(&self) -> &str {
        "casts"
    }
}

/// Applies `mend` to the expressions of each node that has casts or functions of seconds (`to_timestamp`,
/// `from_unixtime`). The expressions keep their names.
fn with_mended_casts(
    plan: LogicalPlan,
    mend: &impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        if !has_suspects(&node)? {
            return Ok(Transformed::no(node));
        }
        let (names, schema) = (NamePreserver::new(&node), merge_schema(&node.inputs()));
        let mended = node.map_expressions(|expr| named(expr, &names, &|expr| mend(expr, &schema)))?;
        if mended.transformed { mended.map_data(LogicalPlan::recompute_schema) } else { Ok(mended) }
    })
    .data()
}

/// A quick test without types: whether the node has casts or functions of seconds.
fn has_suspects(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(cast_value(part).is_some() || reads_seconds(part)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// `expr` changed by `mend`, under its old name.
fn named(
    expr: Expr,
    names: &NamePreserver,
    mend: &impl Fn(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<Expr>> {
    if matches!(expr, Expr::GroupingSet(_)) {
        // A grouping set has no name; the expressions in it do.
        return expr.map_children(|expr| named(expr, names, mend));
    }
    let name = names.save(&expr);
    let mended = mend(expr)?;
    Ok(if mended.transformed { mended.update_data(|expr| name.restore(expr)) } else { mended })
}

/// The operand of the cast, if `expr` is a cast.
fn cast_value(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => Some(expr),
        Expr::ScalarFunction(ScalarFunction { func, args })
            if [CAST_FUNCTION, TRY_CAST_FUNCTION].contains(&func.name()) =>
        {
            args.first()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::functions::all_default_functions;
    use datafusion::prelude::SessionContext;

    use super::*;
    use hwacha_execution::session::{functions_of_settings, session_config};

    fn context(zone: &str) -> SessionContext {
        let mut config = session_config().with_create_default_catalog_and_schema(true);
        config.options_mut().execution.time_zone = Some(zone.to_owned());
        let functions = functions_of_settings(&all_default_functions(), config.options());
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_analyzer_rule(Arc::new(CastsRule))
            .build();
        let context = SessionContext::new_with_state(state);
        functions.into_iter().for_each(|function| context.register_udf(function.as_ref().clone()));
        context
    }

    async fn count(zone: &str, sql: &str) -> usize {
        context(zone).sql(sql).await.expect(sql).count().await.expect(sql)
    }

    #[tokio::test]
    async fn digits_are_lost_before_numbers_are_compared() {
        let table = "(SELECT CAST(column1 AS DECIMAL(10, 2)) AS d FROM (VALUES (5.1), (5.0), (5.99), (6.5), (NULL)))";
        for (condition, rows) in [
            ("CAST(d AS INT) = 5", 3),
            ("CAST(d AS INT) > 5", 1),
            ("TRY_CAST(d AS INT) IN (5, 7)", 3),
            ("CAST(d AS DECIMAL(10, 1)) = 6.0", 1),
            ("CAST(d AS DECIMAL(12, 3)) BETWEEN 5.0 AND 5.5", 2),
            ("arrow_cast(d, 'Int32') = 5", 3),
            ("TRY_CAST(d AS DECIMAL(3, 2)) <> 1", 4),
            ("CASE WHEN d > 5 THEN CAST(d AS INT) ELSE 0 END = 5", 2),
        ] {
            assert_eq!(count("UTC", &format!("SELECT d FROM {table} WHERE {condition}")).await, rows, "{condition}");
        }
        for (apart, rows) in [
            ("SELECT * FROM (SELECT CAST(d AS INT) AS i FROM x) WHERE i = 5", 3),
            ("SELECT CAST(d AS INT), count(*) FROM x GROUP BY CAST(d AS INT) HAVING CAST(d AS INT) = 5 AND count(*) = 3", 1),
            ("SELECT i, count(*) FROM (SELECT CAST(d AS INT) AS i FROM x) GROUP BY i HAVING i = 5 AND count(*) = 3", 1),
            ("SELECT CAST(d AS INT), abs(d), count(*) FROM x GROUP BY GROUPING SETS ((CAST(d AS INT)), (CAST(d AS INT), abs(d)))
              HAVING CAST(d AS INT) = 5", 4),
        ] {
            assert_eq!(count("UTC", &format!("WITH x AS {table} {apart}")).await, rows, "{apart}");
        }
    }

    #[tokio::test]
    async fn numbers_that_do_not_fit_are_null_before_they_are_compared() {
        for (condition, rows) in [
            ("TRY_CAST(i AS TINYINT) <> 5", 1),
            ("TRY_CAST(i AS TINYINT) = 5 IS NULL", 1),
            ("NOT arrow_try_cast(i, 'Int8') = 5", 1),
        ] {
            let sql = format!("SELECT i FROM (VALUES (5), (6), (1000)) x(i) WHERE {condition}");
            assert_eq!(count("UTC", &sql).await, rows, "{condition}");
        }
    }

    /// The times are the hours from 20:00 to 03:00 in UTC. Berlin is two hours ahead, New York four hours behind.
    #[tokio::test]
    async fn times_without_a_zone_are_of_the_sessions_zone() {
        let table = "(SELECT n, arrow_cast(arrow_cast(n, 'Timestamp(ns, \"UTC\")'), 'Timestamp(ns, \"Europe/Berlin\")') AS b
                      FROM generate_series(TIMESTAMP '2024-03-31 20:00:00', TIMESTAMP '2024-04-01 03:00:00', INTERVAL '1 hour') x(n))";
        for (condition, in_utc, in_new_york) in [
            ("b >= TIMESTAMPTZ '2024-04-01 00:00:00+02'", 6, 6),
            ("b >= TIMESTAMPTZ '2024-04-01 00:00:00'", 4, 0),
            ("b >= TIMESTAMP '2024-04-01 00:00:00'", 4, 0),
            ("b >= TIMESTAMP '2024-03-31 20:00:00'", 8, 4),
            ("b >= '2024-04-01 00:00:00'", 4, 0),
            ("b >= DATE '2024-04-01'", 4, 0),
            ("b IN ('2024-04-01', '2024-03-31 20:00:00')", 2, 1),
            ("b BETWEEN TIMESTAMP '2024-03-31 17:00:00' AND '2024-03-31 22:30:00'", 3, 6),
            ("b = n", 8, 0),
            ("b = CAST(n AS TIMESTAMPTZ)", 8, 0),
            ("CAST(n AS TIMESTAMPTZ) >= TIMESTAMPTZ '2024-04-01 00:00:00'", 4, 4),
            ("CAST(n AS TIMESTAMPTZ) >= TIMESTAMPTZ '2024-04-01 00:00:00Z'", 4, 8),
            ("b = CAST(b AS TIMESTAMPTZ)", 8, 8),
            ("b >= to_timestamp('2024-03-31T22:00:00Z')", 6, 6),
            ("b >= to_timestamp(1711922400)", 6, 6),
            ("b < now()", 8, 8),
            ("CAST(b AS TIMESTAMP) >= TIMESTAMP '2024-04-01 00:00:00'", 4, 0),
            ("CAST(CAST(b AS TIMESTAMP) AS TIMESTAMPTZ) = b", 8, 8),
            (
                "arrow_cast(n, 'Timestamp(s, \"Europe/Berlin\")') >= arrow_cast('2024-04-01', 'Timestamp(s, \"Europe/Berlin\")')",
                4,
                4,
            ),
            ("coalesce(NULL, b, n) = b", 8, 8),
            (
                "b IN (SELECT n FROM generate_series(TIMESTAMP '2024-03-31 20:00:00', TIMESTAMP '2024-04-01', INTERVAL '1 hour') y(n))",
                5,
                4,
            ),
        ] {
            for (zone, rows) in [("UTC", in_utc), ("America/New_York", in_new_york)] {
                let sql = format!("SELECT n FROM {table} WHERE {condition}");
                assert_eq!(count(zone, &sql).await, rows, "{condition} in {zone}");
            }
        }
        let union = format!("SELECT b FROM {table} UNION SELECT n FROM {table}");
        assert_eq!(count("UTC", &union).await, 8);
        let apart =
            format!("SELECT * FROM (SELECT CAST(b AS TIMESTAMP) c FROM {table}) WHERE c >= TIMESTAMP '2024-04-01'");
        assert_eq!(count("UTC", &apart).await, 4);
    }
}

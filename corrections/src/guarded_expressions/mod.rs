//! Guards expressions that can fail: they are evaluated only for rows that pass the conditions next to them
//! (apache/datafusion#24443, apache/datafusion#24507, apache/datafusion#12901).
//!
//! DataFusion evaluates the arguments of an aggregate for all rows of a batch before it evaluates the aggregate's
//! FILTER. It may evaluate both sides of AND and OR for all rows, in any order, and it turns a CASE with Boolean
//! results into AND and OR. So `sum(10 / v) FILTER (WHERE v <> 0)` and `v <> 0 AND 10 / v > 2` can divide by zero.
//!
//! Here such an expression becomes a branch of a CASE. DataFusion evaluates a branch only for the rows of that branch:
//!
//! ```text
//!   sum(10 / v) FILTER (WHERE v <> 0)  ->  sum(CASE WHEN v <> 0 THEN 10 / v ELSE 0 END) FILTER (WHERE v <> 0)
//!   WHERE v <> 0 AND 10 / v > 2        ->  WHERE v <> 0 AND CASE WHEN v <> 0 THEN 10 / v ELSE 0 END > 2
//!   WHERE v = 0 OR 10 / v > 2          ->  WHERE v = 0 OR CASE WHEN v = 0 IS NOT TRUE THEN 10 / v ELSE 0 END > 2
//! ```
//!
//! The value of the ELSE does not matter: if the condition does not hold, the condition alone decides the result. Only
//! the expression that can fail is wrapped, not the comparison around it. An equality of a join therefore stays an
//! equality. Expressions that cannot fail ([`risk`]) or that have no guards are not changed. No query of TPC-H is
//! changed.
//!
//! Two rules do this. [`GuardedExpressionsRule`] runs before the optimizer, because the optimizer moves the conditions
//! of one filter to different nodes. [`GuardedPredicatesRule`] runs in the optimizer, after the filters of subqueries
//! and outer queries have been merged.

mod guard;
mod risk;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Aggregate, Expr, Filter, Join, LogicalPlan};
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};

use guard::{guarded_predicate, guarded_value};
use risk::is_suspect;

/// Guards the expressions of a query before the optimizer changes them.
#[derive(Debug)]
pub struct GuardedExpressionsRule;

impl AnalyzerRule for GuardedExpressionsRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(guarded).data()
    }

    fn name(&self) -> &str {
        "guarded_expressions"
    }
}

/// Guards the conditions of filters and joins that the optimizer has merged.
#[derive(Debug)]
pub struct GuardedPredicatesRule;

impl OptimizerRule for GuardedPredicatesRule {
    fn name(&self) -> &str {
        "guarded_predicates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) => guarded(plan),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn guarded(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !has_suspects(&node)? {
        return Ok(Transformed::no(node));
    }
    let schema = merge_schema(&node.inputs());
    match node {
        LogicalPlan::Filter(filter) => guarded_filter(filter, &schema),
        LogicalPlan::Join(join) => guarded_join(join, &schema),
        LogicalPlan::Aggregate(aggregate) => guarded_aggregate(aggregate, &schema),
        LogicalPlan::Projection(_) | LogicalPlan::Window(_) => {
            let names = NamePreserver::new(&node);
            let changed = node.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(guarded_value(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?;
            if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
        }
        LogicalPlan::Sort(_) => node.map_expressions(|expr| guarded_value(expr, &schema)),
        other => Ok(Transformed::no(other)),
    }
}

/// A quick test without types: whether some expression of the node may be able to fail.
fn has_suspects(node: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|part| Ok(is_suspect(part)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn guarded_filter(filter: Filter, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let Filter { predicate, input, .. } = filter;
    guarded_predicate(predicate, schema)?
        .map_data(|predicate| Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
}

fn guarded_join(mut join: Join, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let Some(filter) = join.filter.take() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let guarded = guarded_predicate(filter, schema)?;
    Ok(guarded.update_data(|filter| LogicalPlan::Join(Join { filter: Some(filter), ..join })))
}

/// Guards the calls of an aggregation. Its group expressions stay as they are: the nodes above refer to them by name.
fn guarded_aggregate(aggregate: Aggregate, schema: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new_for_projection();
    let mut is_changed = false;
    let calls = aggregate.aggr_expr.iter().map(|call| {
        let name = names.save(call);
        let guarded = guarded_value(call.clone(), schema)?;
        is_changed |= guarded.transformed;
        Ok(name.restore(guarded.data))
    });
    let calls = calls.collect::<Result<Vec<Expr>>>()?;
    if !is_changed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let guarded = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr, calls)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(guarded)))
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::optimizer_rules;

    /// For the ids 0, 2 and 4, `v` is 0 and `s` is not a number.
    const TABLES: &str =
        "WITH z(id, g, v, s) AS (VALUES (0, 0, 0, 'x'), (1, 1, 2, '1'), (2, 0, 0, 'x'), (3, 1, 2, '3'),
        (4, 0, 0, 'y'), (5, NULL, NULL, NULL), (6, 1, 5, '7')), y(k, d) AS (VALUES (0, 0), (1, 2), (2, 0), (3, 4)) ";

    fn context() -> SessionContext {
        let state = SessionStateBuilder::new()
            .with_config(SessionConfig::new().with_target_partitions(3))
            .with_default_features()
            .with_analyzer_rule(Arc::new(GuardedExpressionsRule))
            .with_optimizer_rules(optimizer_rules())
            .build();
        SessionContext::new_with_state(state)
    }

    async fn rows(sql: &str) -> Result<Vec<RecordBatch>> {
        context().sql(&format!("{TABLES}{sql}")).await?.collect().await
    }

    /// Checks that a query has the rows `expected`, sorted as text. Each row is its values, joined by a space.
    async fn check(sql: &str, expected: &[&str]) {
        let batches = rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = pretty_format_batches(&batches).expect("rows").to_string();
        let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
        let words = lines.map(|line| line.split_whitespace().filter(|word| *word != "|").collect::<Vec<_>>());
        let mut found: Vec<_> = words.map(|words| words.join(" ")).collect();
        found.sort();
        assert_eq!(found, expected, "{sql}");
    }

    #[tokio::test]
    async fn arguments_are_guarded_by_their_filter() {
        check("SELECT g, sum(10 / v) FILTER (WHERE v <> 0) FROM z WHERE g IS NOT NULL GROUP BY g", &["0", "1 12"])
            .await;
        check("SELECT count(DISTINCT 10 / v) FILTER (WHERE v <> 0), sum(v) FROM z GROUP BY g IS NULL", &["0", "2 9"])
            .await;
        check("SELECT bool_or(10 / v > 3) FILTER (WHERE v <> 0) FROM z GROUP BY g", &["", "", "true"]).await;
        check("SELECT sum(10 / v) FILTER (WHERE v <> 0), sum(10 / v + 1) FILTER (WHERE v <> 0) FROM z", &["12 15"])
            .await;
        check("SELECT array_agg(id ORDER BY 10 / v, id) FILTER (WHERE v <> 0) FROM z", &["[6, 1, 3]"]).await;
        check("SELECT sum(CAST(s AS INT)) FILTER (WHERE s < 'a') FROM z GROUP BY g", &["", "", "11"]).await;
    }

    #[tokio::test]
    async fn conditions_are_guarded_by_those_beside_them() {
        check("SELECT id FROM z WHERE v <> 0 AND 100 / v > 20", &["1", "3"]).await;
        check("SELECT id FROM z WHERE v = 0 OR 100 / v > 20", &["0", "1", "2", "3", "4"]).await;
        check("SELECT id FROM z WHERE NOT (v = 0 OR 100 / v > 20)", &["6"]).await;
        check("SELECT id FROM z WHERE v <> 0 AND (id > 100 OR 100 / v > 20)", &["1", "3"]).await;
        check("SELECT id FROM z WHERE CAST(s AS INT) > 1 AND g = 1", &["3", "6"]).await;
        check("SELECT v <> 0 AND 100 / v > 20 FROM z WHERE id < 2", &["false", "true"]).await;
        check("SELECT g FROM z GROUP BY g HAVING min(v) > 0 AND 10 / min(v) > 0", &["1"]).await;
        let sum = context().sql(&format!("{TABLES}SELECT id FROM z WHERE g = 1 AND v + 1 > 2")).await;
        let plan = sum.expect("it plans").into_optimized_plan().expect("it is optimized").to_string();
        assert!(plan.contains("+ Int64(1) ELSE Int64(0) END > Int64(2)"), "{plan}");
    }

    #[tokio::test]
    async fn truth_values_of_cases_are_guarded_by_their_conditions() {
        check("SELECT id FROM z WHERE CASE WHEN v <> 0 THEN 100 / v > 20 ELSE false END", &["1", "3"]).await;
        check("SELECT id FROM z WHERE CASE WHEN v = 0 THEN true ELSE 100 / v < 30 END", &["0", "2", "4", "6"]).await;
        let two = "SELECT id FROM z WHERE CASE WHEN v IS NULL THEN false WHEN v <> 0 THEN 100 / v > 20 ELSE id = 4 END";
        check(two, &["1", "3", "4"]).await;
    }

    #[tokio::test]
    async fn conditions_of_joins_are_guarded() {
        check("SELECT z.id FROM z JOIN y ON z.id = y.k AND y.d <> 0 AND 100 / y.d > 20", &["1", "3"]).await;
        check("SELECT z.id FROM z JOIN y ON z.id = y.k WHERE y.d <> 0 AND z.id / y.d >= 0", &["1", "3"]).await;
        check(
            "SELECT z.id, y.d FROM z LEFT JOIN y ON z.id = y.k AND y.d <> 0 AND 100 / y.d > 30 WHERE z.id < 4",
            &["0", "1 2", "2", "3"],
        )
        .await;
        let exists = "SELECT id FROM z WHERE EXISTS (SELECT 1 FROM y WHERE k = id AND d <> 0 AND 100 / d > 20)";
        check(exists, &["1", "3"]).await;
    }

    #[tokio::test]
    async fn filters_that_become_one_are_guarded() {
        check("SELECT id FROM (SELECT * FROM z WHERE v <> 0) WHERE 100 / v > 20 AND 100 / v < 90", &["1", "3"]).await;
        check("SELECT id FROM (SELECT * FROM z WHERE v <> 0) WHERE 100 / v > 20 AND id > 1", &["3"]).await;
        check("SELECT id, c FROM (SELECT id, CAST(s AS INT) AS c FROM z WHERE g = 1) WHERE c > 1", &["3 3", "6 7"])
            .await;
    }

    #[tokio::test]
    async fn guarding_twice_changes_nothing() {
        let sql = format!(
            "{TABLES}SELECT sum(10 / v) FILTER (WHERE v <> 0) FROM z WHERE g = 1 AND CAST(s AS INT) > 0 AND 10 / v > 0
                AND (v = 0 OR 10 % v < 9) AND CASE WHEN v <> 0 THEN CAST(s AS BOOLEAN) OR 10 / v > 1 ELSE false END"
        );
        let plan = context().sql(&sql).await.expect("it plans").into_unoptimized_plan();
        let state = context().state();
        let once = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).expect("it is analyzed");
        let twice = guarded(once.clone()).expect("it is guarded");
        let again = GuardedExpressionsRule.analyze(once.clone(), state.config_options()).expect("it is guarded");
        assert!(!twice.transformed);
        assert_eq!(again, once);
    }

    #[tokio::test]
    async fn equalities_of_joins_stay_equalities() {
        let sql = format!("{TABLES}SELECT id FROM z JOIN y ON z.g = 1 AND CAST(z.s AS INT) = y.k");
        let plan = context().sql(&sql).await.expect("it plans").into_optimized_plan().expect("it is optimized");
        // Without an equality, the join would have only a filter.
        assert!(
            plan.to_string().contains("Inner Join: CAST(CASE WHEN z.g = Int64(1) THEN CAST(z.s AS Int32)"),
            "{plan}"
        );
    }

    #[tokio::test]
    async fn what_cannot_fail_stays_as_it_is() {
        for sql in [
            "SELECT id FROM z WHERE v > 1 AND v / 2 > 0 AND v * 0.5 < 10",
            "SELECT sum(v / 2) FILTER (WHERE v > 0) FROM z",
            "SELECT id FROM z WHERE g = 1 AND CAST(v AS DOUBLE) / g > 1",
            "SELECT CASE WHEN v <> 0 THEN 10 / v END FROM z WHERE g = 1",
        ] {
            let plan = context().sql(&format!("{TABLES}{sql}")).await.expect("it plans").into_unoptimized_plan();
            let state = context().state();
            let guarded = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {});
            let plain = SessionContext::new().state();
            let analyzed = plain.analyzer().execute_and_check(plan, plain.config_options(), |_, _| {});
            assert_eq!(guarded.expect("it is analyzed"), analyzed.expect("it is analyzed"), "{sql}");
        }
    }
}

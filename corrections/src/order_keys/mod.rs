//! Compares floats and intervals by one rule each: -0.0 equals 0.0, NaN equals NaN and is the greatest value, and 36
//! hours are more than a day ([`hwacha_operators::functions::order_key`]).
//!
//! DataFusion compares the bits of floats in most places and treats -0.0 as 0.0 in some
//! (<https://github.com/apache/datafusion/issues/22826>). It also treats Parquet statistics as bounds of all values,
//! although they leave NaN out (<https://github.com/apache/datafusion/pull/24804>). Here the function `order_key` is
//! put around each float or interval that a plan compares, as Spark does with its rule NormalizeFloatingNumbers:
//!
//! ```text
//!   Sort: x DESC                            Sort: order_key(x) DESC
//!     Aggregate: GROUP BY x, max(y)    ->     Aggregate: GROUP BY order_key(x) AS x, float_max(order_key(y)) AS max(y)
//!       Filter: y > 2.0                         Filter: order_key(y) > 2.0
//!         TableScan: filters y > 2.0              TableScan: filters order_key(y) > 2.0
//! ```
//!
//! Everything that DataFusion derives from such expressions is then right too: hashes, run-time filters, bounds of
//! dynamic filters, merges. DataFusion prunes nothing by a predicate with an unknown function, so
//! [`super::FloatBoundsRule`] adds bounds that statistics can decide.
//!
//! [`key_order`] must run after DataFusion's optimizer. To decorrelate an aggregation, the optimizer needs conditions
//! such as `a = outer(b)`, in which one side is a column or a cast of a column. [`KeyedConstantsRule`] must run before
//! the optimizer, because the optimizer folds constants.

mod constants;
mod exprs;

use std::mem::take;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, Expr, GroupingSet, Join, LogicalPlan, Projection, RecursiveQuery, Sort, SortExpr,
};
use hwacha_operators::functions::order_key::{ORDER_KEY, holds_keyed};

pub use constants::KeyedConstantsRule;

use self::exprs::OrderKeys;

/// Makes an optimized plan compare all floats and intervals by their keys. The plan keeps its schema.
pub fn key_order(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        Ok(Transformed::yes(match node {
            LogicalPlan::Aggregate(aggregate) => LogicalPlan::Aggregate(keyed_aggregate(aggregate)?),
            LogicalPlan::Join(join) => LogicalPlan::Join(keyed_join(join)?),
            LogicalPlan::Sort(sort) => LogicalPlan::Sort(keyed_sort(sort)?),
            LogicalPlan::RecursiveQuery(query) if query.is_distinct => {
                LogicalPlan::RecursiveQuery(keyed_recursion(query)?)
            }
            LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::Window(_) => return keyed_expressions(node),
            other => return Ok(Transformed::no(other)),
        }))
    })
    .data()
}

/// Puts keys into the expressions of a node, and keeps their names.
fn keyed_expressions(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = input_schema(&node)?;
    let keys = OrderKeys { schema: &schema };
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|expr| keys.keyed(expr))?.update_data(|expr| name.restore(expr)))
    })
}

/// The columns that the expressions of a node can read. The filters of a scan can read all columns of its table, not
/// only the projected ones.
fn input_schema(node: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&node.inputs());
    if let LogicalPlan::TableScan(scan) = node {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    Ok(schema)
}

fn keyed_aggregate(aggregate: Aggregate) -> Result<Aggregate> {
    let input = Arc::clone(&aggregate.input);
    let keys = OrderKeys { schema: input.schema() };
    let each = |exprs: &[Expr]| exprs.iter().map(|expr| keys.named_key(expr)).collect::<Result<Vec<_>>>();
    let groups = aggregate.group_expr.iter().map(|expr| {
        Ok(match expr {
            Expr::GroupingSet(GroupingSet::Rollup(exprs)) => Expr::GroupingSet(GroupingSet::Rollup(each(exprs)?)),
            Expr::GroupingSet(GroupingSet::Cube(exprs)) => Expr::GroupingSet(GroupingSet::Cube(each(exprs)?)),
            Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
                let sets = sets.iter().map(|set| each(set)).collect::<Result<_>>()?;
                Expr::GroupingSet(GroupingSet::GroupingSets(sets))
            }
            expr => keys.named_key(expr)?,
        })
    });
    let groups = groups.collect::<Result<Vec<_>>>()?;
    let names = NamePreserver::new_for_projection();
    let calls = aggregate.aggr_expr.iter().map(|call| Ok(names.save(call).restore(keys.compared(call.clone())?)));
    let calls = calls.collect::<Result<Vec<_>>>()?;
    Aggregate::try_new_with_schema(aggregate.input, groups, calls, aggregate.schema)
}

fn keyed_join(mut join: Join) -> Result<Join> {
    let (left, right) = (Arc::clone(&join.left), Arc::clone(&join.right));
    let pairs = take(&mut join.on).into_iter().map(|(one, other)| {
        let of_left = OrderKeys { schema: left.schema() };
        let of_right = OrderKeys { schema: right.schema() };
        Ok((named_apart(of_left.key(of_left.compared(one)?)?), named_apart(of_right.key(of_right.compared(other)?)?)))
    });
    join.on = pairs.collect::<Result<_>>()?;
    let both = merge_schema(&[&left, &right]);
    join.filter = join.filter.map(|filter| OrderKeys { schema: &both }.compared(filter)).transpose()?;
    Ok(join)
}

/// Gives a join key a name that no other key has. Without the alias, the keys of `x` and `CAST(x AS REAL)` would both
/// be named `order_key(x)`.
fn named_apart(key: Expr) -> Expr {
    match &key {
        Expr::ScalarFunction(call) if call.func.name() == ORDER_KEY => {
            let name = key.to_string();
            key.alias(name)
        }
        _ => key,
    }
}

fn keyed_sort(mut sort: Sort) -> Result<Sort> {
    let input = Arc::clone(&sort.input);
    let keys = OrderKeys { schema: input.schema() };
    let sorts = take(&mut sort.expr).into_iter();
    let sorts = sorts.map(|sort| Ok(SortExpr { expr: keys.compared(sort.expr)?, ..sort })).collect::<Result<_>>()?;
    sort.expr = keys.sorts(sorts)?;
    Ok(sort)
}

/// A recursive query with UNION drops rows that it already has, so it compares whole rows. Both of its terms therefore
/// output keys instead of the plain values.
fn keyed_recursion(mut query: RecursiveQuery) -> Result<RecursiveQuery> {
    if query.schema.fields().iter().any(|field| holds_keyed(field.data_type())) {
        query.static_term = Arc::new(keyed_rows(query.static_term)?);
        query.recursive_term = Arc::new(keyed_rows(query.recursive_term)?);
    }
    Ok(query)
}

/// The rows of `plan` with keys in place of floats and intervals.
fn keyed_rows(plan: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let keys = OrderKeys { schema: plan.schema() };
    let columns = plan.schema().columns().into_iter().map(|column| keys.named_key(&Expr::Column(column)));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, plan)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// The numbers in the first column of a query's answer. The query is over the table `t`, which has seven rows.
    async fn answer(sql: &str) -> Vec<i64> {
        let signed_nan = f64::from_bits(0xfff8_0000_0000_0000);
        let values =
            [Some(-0.0), Some(0.0), Some(f64::NAN), Some(signed_nan), Some(1.0), Some(f64::NEG_INFINITY), None];
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let batch = RecordBatch::try_from_iter([("id", numbers), ("x", values)]).expect("two columns");
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3));
        context.add_analyzer_rule(Arc::new(KeyedConstantsRule));
        context.register_batch("t", batch).expect("a new table");
        let plan = context.sql(sql).await.expect("valid SQL").into_optimized_plan().expect("it is optimized");
        let schema = Arc::clone(plan.schema());
        let plan = key_order(plan).expect("floats have keys");
        assert_eq!(plan.schema(), &schema, "{sql}");
        let state = context.state();
        let plan = state.query_planner().create_physical_plan(&plan, &state).await.expect("it is planned");
        let batches = collect(plan, context.task_ctx()).await.expect("it runs");
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[tokio::test]
    async fn comparisons_follow_the_rule() {
        let tests: [(&str, &[i64]); 14] = [
            ("x = 0.0", &[0, 1]),
            ("x <> 0.0", &[2, 3, 4, 5]),
            ("x > 1.0", &[2, 3]),
            ("x <= 1.0", &[0, 1, 4, 5]),
            ("x = 'NaN'::double", &[2, 3]),
            ("x BETWEEN -0.0 AND 1.0", &[0, 1, 4]),
            ("x IN (-0.0, 'NaN'::double)", &[0, 1, 2, 3]),
            ("x IS NOT DISTINCT FROM 'NaN'::double", &[2, 3]),
            ("CASE x WHEN -0.0 THEN true ELSE false END", &[0, 1]),
            ("nullif(x, 0.0) IS NULL", &[0, 1, 6]),
            ("array_has([x], -0.0)", &[0, 1]),
            ("x - x > 1.0", &[2, 3, 5]),
            ("0.0 / 0.0 > x", &[0, 1, 4, 5]),
            ("(SELECT count(*) FROM t AS u WHERE u.x = t.x) = 2", &[0, 1, 2, 3]),
        ];
        for (test, expected) in tests {
            assert_eq!(answer(&format!("SELECT id FROM t WHERE {test} ORDER BY id")).await, expected, "{test}");
        }
    }

    #[tokio::test]
    async fn orders_and_windows_follow_the_rule() {
        assert_eq!(answer("SELECT id FROM t ORDER BY x, id").await, [5, 0, 1, 4, 2, 3, 6]);
        assert_eq!(answer("SELECT id FROM t ORDER BY x DESC NULLS LAST, id LIMIT 3").await, [2, 3, 4]);
        assert_eq!(answer("SELECT count(*) OVER (PARTITION BY x) FROM t ORDER BY id").await, [2, 2, 2, 2, 1, 1, 1]);
        assert_eq!(answer("SELECT count(*) OVER (ORDER BY x) FROM t ORDER BY id").await, [3, 3, 6, 6, 4, 1, 7]);
    }

    #[tokio::test]
    async fn joins_groups_and_sets_follow_the_rule() {
        let counts = [
            ("t AS a JOIN t AS b ON a.x = b.x", 10),
            ("t AS a LEFT JOIN t AS b ON a.x = b.x AND a.id <> b.id WHERE b.id IS NULL", 3),
            ("(SELECT DISTINCT x FROM t)", 5),
            ("(SELECT x, count(*) FROM t GROUP BY x HAVING count(*) = 2)", 2),
            ("(SELECT x, count(*) FROM t GROUP BY ROLLUP (x))", 6),
            ("(SELECT x FROM t INTERSECT SELECT x FROM t WHERE id IN (1, 3))", 2),
            ("(SELECT x FROM t EXCEPT SELECT x FROM t WHERE id IN (1, 3))", 3),
            ("(SELECT x FROM t UNION SELECT -x FROM t)", 7),
            ("t WHERE x IN (SELECT x FROM t WHERE id IN (1, 3))", 4),
            ("(SELECT max(x) AS most FROM t WHERE id IN (3, 4) GROUP BY id / 10) WHERE most > 5.0", 1),
            ("(SELECT min(x) AS least FROM t WHERE id IN (3, 4) GROUP BY id / 10) WHERE least = 1.0", 1),
            ("(SELECT max(x) AS most FROM t WHERE id = 5 GROUP BY id / 10) WHERE most = '-infinity'::double", 1),
            ("(WITH RECURSIVE r AS (SELECT x FROM t UNION SELECT -x FROM r) SELECT x FROM r)", 7),
        ];
        for (from, expected) in counts {
            assert_eq!(answer(&format!("SELECT count(*) FROM {from}")).await, [expected], "{from}");
        }
        assert_eq!(answer("SELECT count(DISTINCT x) FROM t").await, [4]);
    }
}

//! INTERSECT ALL and EXCEPT ALL count copies (apache/datafusion#12955, apache/datafusion#12956).
//!
//! DataFusion plans both as a semi or an anti join over all columns, which keeps or drops all copies of a row together.
//! Here each copy of a left row gets a number, and the copies of each right row are counted:
//!
//! ```text
//!   LeftAnti Join: l.x = r.x        Projection: l.x
//!     TableScan: l             ->     LeftAnti Join: l.x = key_0, Filter: number <= copies
//!     TableScan: r                      Window: row_number() PARTITION BY l.x AS number
//!                                         TableScan: l
//!                                       Aggregate: groupBy=[key_0], aggr=[count(1) AS copies]
//!                                         Projection: r.x AS key_0
//!                                           TableScan: r
//! ```
//!
//! Example: with 3 copies of a row on the left and 2 on the right, the left copies 1 and 2 have a match and copy 3 has
//! none. INTERSECT ALL keeps the copies with a match, min(3, 2) = 2. EXCEPT ALL keeps the others, 3 - 2 = 1.
//!
//! The join keeps its null equality: NULLs are equal, as in PARTITION BY and GROUP BY.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result, plan_err};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    Distinct, Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder, Operator, cast, lit,
};

/// Makes the INTERSECT ALL and EXCEPT ALL of `plan` count copies.
///
/// `plan` must come from DataFusion's SQL planner and not be optimized yet: after optimization, a decorrelated EXISTS
/// can have the same form as an INTERSECT ALL. A second call changes nothing, for example on the plan of a view.
pub fn count_copies(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_all_operation(&join) => counted(join).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// Whether the SQL planner made this join for INTERSECT ALL or EXCEPT ALL. Without ALL, the planner makes the left
/// rows distinct. If the query itself makes the left rows distinct, each row has one copy, and the plain join is
/// right.
fn is_all_operation(join: &Join) -> bool {
    let (left, right) = (join.left.schema(), join.right.schema());
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && !join.null_aware
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
        && join.on.len() == left.fields().len()
        && join.on.len() == right.fields().len()
        && join.on.iter().enumerate().all(|(place, (one, other))| is_at(one, left, place) && is_at(other, right, place))
}

fn is_at(key: &Expr, schema: &DFSchema, place: usize) -> bool {
    key.try_as_col().is_some_and(|column| schema.index_of_column(column).is_ok_and(|index| index == place))
}

/// The same operation with a filter that compares the number of a left copy with the count of right copies.
fn counted(join: Join) -> Result<LogicalPlan> {
    if reads_outside(&join.left)? || reads_outside(&join.right)? {
        return plan_err!("INTERSECT ALL and EXCEPT ALL cannot use columns of an outer query; use a join instead");
    }
    let names = Names::unlike(join.left.schema());
    let (left_keys, right_keys) = keys(&join)?;
    let columns: Vec<_> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let number = row_number().partition_by(left_keys.clone()).build()?.alias(&names.number);
    let left = LogicalPlanBuilder::from(Arc::unwrap_or_clone(join.left)).window([number])?.build()?;
    let named = right_keys.into_iter().enumerate().map(|(place, key)| key.alias(names.key(place)));
    let named: Vec<Expr> = named.collect();
    let right_keys: Vec<Expr> = (0..named.len()).map(|place| unqualified(&names.key(place))).collect();
    let right = LogicalPlanBuilder::from(Arc::unwrap_or_clone(join.right))
        .project(named)?
        .aggregate(right_keys.clone(), [count(lit(1_i64)).alias(&names.copies)])?
        .build()?;
    // `row_number` gives UInt64 and `count` gives Int64.
    let number = cast(unqualified(&names.number), DataType::Int64);
    let counted = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        left_keys.into_iter().zip(right_keys).collect(),
        Some(number.lt_eq(unqualified(&names.copies))),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(counted)).project(columns)?.build()
}

/// The keys of both sides, each pair cast to one type. Copies are counted in that type: a FLOAT 1.0 and an INT 1 are
/// equal.
fn keys(join: &Join) -> Result<(Vec<Expr>, Vec<Expr>)> {
    let pairs = join.on.iter().enumerate().map(|(place, (left, right))| {
        let (from_left, from_right) = (join.left.schema().field(place), join.right.schema().field(place));
        let (from_left, from_right) = (from_left.data_type(), from_right.data_type());
        let (to_left, to_right) = BinaryTypeCoercer::new(from_left, &Operator::Eq, from_right).get_input_types()?;
        Ok((converted(left, from_left, to_left), converted(right, from_right, to_right)))
    });
    pairs.collect()
}

fn converted(key: &Expr, from: &DataType, to: DataType) -> Expr {
    if *from == to { key.clone() } else { cast(key.clone(), to) }
}

fn unqualified(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// Whether the plan uses columns of an outer query.
fn reads_outside(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(is_from_outside(expr, node)))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(found)
    })
}

/// Whether an expression is an outer reference, or a subquery with an outer reference that the inputs of `node` do not
/// provide.
fn is_from_outside(expr: &Expr, node: &LogicalPlan) -> bool {
    let subquery = match expr {
        Expr::OuterReferenceColumn(..) => return true,
        Expr::Exists(exists) => &exists.subquery,
        Expr::InSubquery(membership) => &membership.subquery,
        Expr::SetComparison(comparison) => &comparison.subquery,
        Expr::ScalarSubquery(subquery) => subquery,
        _ => return false,
    };
    let is_own = |column: &Column| node.inputs().iter().any(|input| input.schema().has_column(column));
    let mut outer = subquery.outer_ref_columns.iter();
    outer.any(|expr| !matches!(expr, Expr::OuterReferenceColumn(_, column) if is_own(column)))
}

/// Names of the added columns. They differ from all names of the left side.
struct Names {
    number: String,
    copies: String,
    key: String,
}

impl Names {
    fn unlike(schema: &DFSchema) -> Self {
        let mut start = "__copy".to_owned();
        while schema.fields().iter().any(|field| field.name().starts_with(&start)) {
            start.insert(0, '_');
        }
        Self { number: format!("{start}_number"), copies: format!("{start}_count"), key: format!("{start}_key_") }
    }

    fn key(&self, place: usize) -> String {
        format!("{}{place}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    const TABLES: &str = "WITH l(x, y) AS (VALUES (1, 2)), r(x, y) AS (VALUES (1, 2)) ";

    async fn planned(sql: &str) -> Result<String> {
        let plan = SessionContext::new().state().create_logical_plan(&format!("{TABLES}{sql}")).await?;
        let changed = count_copies(plan.clone())?;
        assert_eq!(changed.schema().fields(), plan.schema().fields(), "{sql}");
        assert_eq!(count_copies(changed.clone())?.to_string(), changed.to_string(), "{sql}: once is enough");
        Ok(changed.to_string())
    }

    #[tokio::test]
    async fn only_operations_with_all_count_copies() {
        for (sql, operations) in [
            ("SELECT * FROM l INTERSECT ALL SELECT * FROM r", 1),
            ("SELECT x FROM l EXCEPT ALL SELECT x FROM r", 1),
            ("SELECT x FROM l EXCEPT ALL SELECT x FROM r INTERSECT ALL SELECT x FROM l", 2),
            ("SELECT x FROM l WHERE x IN (SELECT x FROM r INTERSECT ALL SELECT x FROM l)", 1),
            ("SELECT x FROM l INTERSECT SELECT x FROM r", 0),
            ("SELECT x FROM l EXCEPT SELECT x FROM r", 0),
            ("SELECT x FROM l UNION ALL SELECT x FROM r", 0),
            ("SELECT l.x FROM l LEFT SEMI JOIN r ON l.x = r.x", 0),
        ] {
            let plan = planned(sql).await.expect("it plans");
            assert_eq!(plan.matches("<= __copy_count").count(), operations, "{sql}\n{plan}");
        }
    }

    #[tokio::test]
    async fn copies_of_an_outer_row_are_refused() {
        let sql = "SELECT x FROM l WHERE EXISTS (SELECT y FROM r WHERE r.x = l.x INTERSECT ALL SELECT y FROM r)";
        let error = planned(sql).await.expect_err("correlated").to_string();
        assert!(error.contains("cannot use columns of an outer query"), "{error}");
        let own = "SELECT x FROM l INTERSECT ALL SELECT x FROM r WHERE EXISTS (SELECT 1 FROM l WHERE l.y = r.y)";
        planned(own).await.expect("the subquery uses columns of the operation itself");
    }

    #[tokio::test]
    async fn keys_are_compared_as_one_type() {
        let plan = planned("SELECT x FROM l EXCEPT ALL SELECT x + 0.5 FROM r").await.expect("it plans");
        assert!(plan.contains("PARTITION BY [CAST("), "{plan}");
    }
}

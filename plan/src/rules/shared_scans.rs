//! Reads a table once for several aggregations of all rows that pass one test or another, such as scalar subqueries that
//! count one table's rows by different conditions.
//!
//! ```text
//!   Aggregate: avg(x)           Projection: avg(x) FILTER (WHERE test 0)
//!     Filter: k < 5        ->     Aggregate: avg(x) FILTER (WHERE test 0), count(1) FILTER (WHERE test 1)
//!       TableScan: k, x             Projection: k, x, k < 5 AS test 0, k > 9 AS test 1
//!                                     TableScan: k, x
//!   Aggregate: count(1)         Projection: count(1) FILTER (WHERE test 1)
//!     Filter: k > 9        ->     the same Aggregate
//!       TableScan: k
//! ```
//!
//! What is the same runs once ([`super::SharedSubplansRule`]). DataFusion's optimizer must have ended: it would take from each
//! copy what the others need.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::{conjunction, disjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Cast, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Projection, TableScan,
    TableScanBuilder,
};

/// More conditions on one table are not tested of every row.
const MOST_TESTS: usize = 32;

/// `plan`, optimized, with the aggregations in it that can share a scan over the same one.
pub fn share_scans(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut tables: Vec<Vec<Reading>> = vec![];
    plan.apply_with_subqueries(|node| {
        if let Some(reading) = Reading::of(node) {
            match tables.iter_mut().find(|table| table[0].is_of_same_table(&reading)) {
                Some(table) if table.contains(&reading) => {}
                Some(table) => table.push(reading),
                None => tables.push(vec![reading]),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let shared = tables.iter().filter(|table| table.len() > 1).map(|table| shared(table));
    let shared: Vec<_> = shared.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    if shared.is_empty() {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|node| {
        let new = match &node {
            LogicalPlan::Aggregate(aggregate) => shared.iter().find(|(old, _)| old == aggregate),
            _ => None,
        };
        Ok(match new {
            Some((_, new)) => Transformed::yes(LogicalPlan::Projection(new.clone())),
            None => Transformed::no(node),
        })
    })
    .data()
}

/// An aggregation of all rows of a table that pass a test.
#[derive(PartialEq)]
struct Reading {
    aggregate: Aggregate,
    scan: TableScan,
    test: Expr,
}

impl Reading {
    fn of(plan: &LogicalPlan) -> Option<Self> {
        let LogicalPlan::Aggregate(aggregate) = plan else { return None };
        let mut input = aggregate.input.as_ref();
        if let LogicalPlan::Projection(projection) = input {
            input = projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))).then_some(&projection.input)?;
        }
        let LogicalPlan::Filter(Filter { predicate, input, .. }) = input else { return None };
        let LogicalPlan::TableScan(scan) = input.as_ref() else { return None };
        // What the table is asked to test may be tested nowhere else.
        let mut tests: Vec<Expr> = split_conjunction(predicate).into_iter().cloned().collect();
        for filter in scan.filters.iter().flat_map(split_conjunction) {
            if !tests.contains(filter) {
                tests.push(filter.clone());
            }
        }
        let is_subquery = |expr: &Expr| {
            Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
        };
        let is_steady =
            |test: &Expr| !test.is_volatile() && !test.contains_outer() && !test.exists(is_subquery).unwrap_or(true);
        let shares = aggregate.group_expr.is_empty()
            && aggregate.aggr_expr.iter().all(|call| is_simple(call, aggregate.input.schema()))
            && !aggregate.aggr_expr.iter().all(is_extreme)
            && scan.fetch.is_none()
            && tests.iter().all(is_steady);
        let test = conjunction(tests).filter(|_| shares)?;
        Some(Self { aggregate: aggregate.clone(), scan: scan.clone(), test })
    }

    fn is_of_same_table(&self, other: &Self) -> bool {
        self.scan.table_name == other.scan.table_name && self.scan.source.schema() == other.scan.source.schema()
    }
}

/// Whether an aggregate function is over columns as they are, of which no row can make it fail.
fn is_simple(call: &Expr, columns: &DFSchema) -> bool {
    let Expr::AggregateFunction(AggregateFunction { params, .. }) = call else { return false };
    let is_plain = |expr: &Expr| match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Cast(Cast { expr, field }) => {
            let from = expr.get_type(columns).unwrap_or(DataType::Null);
            matches!(expr.as_ref(), Expr::Column(_)) && from.is_numeric() && widest(&from, field.data_type())
        }
        _ => false,
    };
    params.filter.is_none() && params.order_by.is_empty() && params.args.iter().all(is_plain)
}

/// Whether the numbers of a type are all among those of the widest type, which functions ask for.
fn widest(from: &DataType, to: &DataType) -> bool {
    match to {
        DataType::Float64 => true,
        DataType::Int64 => from.is_signed_integer(),
        DataType::UInt64 => from.is_unsigned_integer(),
        _ => false,
    }
}

/// A scan for least and greatest values skips most rows by those that it has found.
fn is_extreme(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(call) if ["min", "max"].contains(&call.func.name()))
}

/// Each reading's aggregation, and what gives the same rows from the one that all share.
fn shared(readings: &[Reading]) -> Result<Vec<(Aggregate, Projection)>> {
    let mut tests: Vec<&Expr> = vec![];
    let mut columns = BTreeSet::new();
    for Reading { scan, test, .. } in readings {
        if !tests.contains(&test) {
            tests.push(test);
        }
        let all = 0..scan.source.schema().fields().len();
        columns.extend(scan.projection.clone().unwrap_or_else(|| all.collect()));
    }
    if tests.len() > MOST_TESTS {
        return Ok(vec![]);
    }
    let scan = &readings[0].scan;
    let any = disjunction(tests.iter().map(|test| (*test).clone()));
    let scan = TableScanBuilder::new(scan.table_name.clone(), Arc::clone(&scan.source))
        .with_projection(Some(columns.into_iter().collect()))
        .with_filters(any.into_iter().collect())
        .build()?;
    let name = |number: usize| format!("__test_{number}");
    let columns = scan.projected_schema.columns().into_iter().map(Expr::Column);
    let tested = tests.iter().enumerate().map(|(number, test)| (*test).clone().alias(name(number)));
    let exprs: Vec<Expr> = columns.chain(tested).collect();
    let calls = |reading: &Reading| {
        let number = tests.iter().position(|test| **test == reading.test).expect("all tests were taken up");
        let filtered = move |call: &Expr| match call.clone() {
            Expr::AggregateFunction(mut call) => {
                call.params.filter = Some(Box::new(Expr::Column(Column::new_unqualified(name(number)))));
                Expr::AggregateFunction(call)
            }
            other => other,
        };
        reading.aggregate.aggr_expr.iter().map(filtered).collect::<Vec<_>>()
    };
    let mut all: Vec<Expr> = vec![];
    for call in readings.iter().flat_map(calls) {
        if !all.contains(&call) {
            all.push(call);
        }
    }
    let none: [Expr; 0] = [];
    let common = LogicalPlanBuilder::from(LogicalPlan::TableScan(scan)).project(exprs)?.aggregate(none, all)?;
    let common = Arc::new(common.build()?);
    let own = |reading: &Reading| {
        let schema = Arc::clone(&reading.aggregate.schema);
        let columns = calls(reading).into_iter().zip(schema.iter()).map(|(call, (qualifier, field))| {
            let column = Expr::Column(Column::new_unqualified(call.schema_name().to_string()));
            column.alias_qualified(qualifier.cloned(), field.name())
        });
        let projection = Projection::try_new_with_schema(columns.collect(), Arc::clone(&common), schema)?;
        Ok((reading.aggregate.clone(), projection))
    };
    readings.iter().map(own).collect()
}

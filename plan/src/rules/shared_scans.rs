//! Reads a table once for several aggregations under different conditions. Example: scalar subqueries that count the
//! rows of one table under different conditions.
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
//! The equal Aggregates run once ([`super::SharedSubplansRule`]). The rewrite must come after DataFusion's optimizer,
//! which would remove from each copy the columns that only other copies need. The copies would then differ.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::tuning::SHARED_SCAN_TESTS;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, disjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Cast, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Projection, TableScan,
    TableScanBuilder,
};
use datafusion::physical_expr::create_physical_expr;
use hwacha_corrections::total::is_total;

/// Prefix of the names of shared aggregate function calls. Example: `__call_0`.
const CALL_NAME: &str = "__call_";

/// Rewrites `plan`, which must be optimized already, so that aggregations of one table share a scan.
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
    let mut shared = vec![];
    for table in tables.into_iter().filter(|table| table.len() > 1) {
        let projections = projections(&table)?;
        shared.extend(table.into_iter().zip(projections));
    }
    if shared.is_empty() {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|node| {
        let reading = Reading::of(&node);
        let is_it = |(old, _): &&(Reading, Projection)| {
            reading.as_ref().is_some_and(|reading| old.is_of_same_table(reading) && old == reading)
        };
        Ok(match shared.iter().find(is_it) {
            Some((_, new)) => Transformed::yes(LogicalPlan::Projection(new.clone())),
            None => Transformed::no(node),
        })
    })
    .data()
}

/// An aggregation without GROUP BY over those rows of a table that pass a test.
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
        // The Filter above may lack filters of the scan, so they are added to the test.
        let mut tests: Vec<Expr> = split_conjunction(predicate).into_iter().cloned().collect();
        for filter in scan.filters.iter().flat_map(split_conjunction) {
            if !tests.contains(filter) {
                tests.push(filter.clone());
            }
        }
        let table = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema()).ok()?;
        let shares = aggregate.group_expr.is_empty()
            && aggregate.aggr_expr.iter().all(|call| is_simple(call, aggregate.input.schema()))
            && scan.fetch.is_none()
            && tests.iter().all(|test| is_harmless(test, &table));
        let test = conjunction(tests).filter(|_| shares)?;
        Some(Self { aggregate: aggregate.clone(), scan: scan.clone(), test })
    }

    /// Whether both scans read the same table. The name is not enough: calls of a table function with different
    /// arguments have the same name.
    fn is_of_same_table(&self, other: &Self) -> bool {
        let provider = |reading: &Self| source_as_provider(&reading.scan.source).ok();
        let providers = provider(self).zip(provider(other));
        let is_same = providers.is_some_and(|(one, other)| Arc::ptr_eq(&one, &other));
        is_same && self.scan.table_name == other.scan.table_name
    }

    /// The positions of the table's columns that are read or tested.
    fn columns(&self) -> Result<BTreeSet<usize>> {
        let schema = self.scan.source.schema();
        let mut columns: BTreeSet<_> = match &self.scan.projection {
            Some(projection) => projection.iter().copied().collect(),
            None => (0..schema.fields().len()).collect(),
        };
        for column in self.test.column_refs() {
            columns.insert(schema.index_of(column.name())?);
        }
        Ok(columns)
    }
}

/// Whether a test is not volatile and cannot fail. After the rewrite, each test runs on all rows that pass any of the
/// tests.
fn is_harmless(test: &Expr, columns: &DFSchema) -> bool {
    let physical = create_physical_expr(test, columns, &ExecutionProps::new(), &PhysicalPlanningContext::default());
    !test.is_volatile() && physical.is_ok_and(|test| is_total(&test, columns.as_arrow()))
}

/// Whether an aggregate function has no FILTER, no ORDER BY and only arguments that cannot fail: columns, constants and
/// widening casts of numeric columns.
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

/// Whether `to` is the widest type for numbers of type `from`, so that a cast to it cannot fail. Aggregate functions
/// ask for such casts: `avg` of an Int32 column casts it to Float64.
fn widest(from: &DataType, to: &DataType) -> bool {
    match to {
        DataType::Float64 => true,
        DataType::Int64 => from.is_signed_integer(),
        DataType::UInt64 => from.is_unsigned_integer(),
        _ => false,
    }
}

/// One projection for each of `readings`, over one aggregation that all of them share. Empty if there are more than
/// `SHARED_SCAN_TESTS` different tests.
fn projections(readings: &[Reading]) -> Result<Vec<Projection>> {
    let mut tests: Vec<&Expr> = vec![];
    let mut columns = BTreeSet::new();
    for reading in readings {
        position(&mut tests, &reading.test);
        columns.extend(reading.columns()?);
    }
    if tests.len() > SHARED_SCAN_TESTS {
        return Ok(vec![]);
    }
    let scan = &readings[0].scan;
    let any = disjunction(tests.iter().map(|test| (*test).clone()));
    let mut test_name = "__test_".to_string();
    while scan.source.schema().fields().iter().any(|field| field.name().starts_with(&test_name)) {
        test_name.insert(0, '_');
    }
    let scan = TableScanBuilder::new(scan.table_name.clone(), Arc::clone(&scan.source))
        .with_projection(Some(columns.into_iter().collect()))
        .with_filters(any.into_iter().collect())
        .build()?;
    let column = |name: &str, number: usize| Expr::Column(Column::new_unqualified(format!("{name}{number}")));
    let mut calls: Vec<Expr> = vec![];
    let own = readings.iter().map(|reading| {
        let number = position(&mut tests, &reading.test);
        let own = reading.aggregate.aggr_expr.iter().map(|call| {
            let mut call = call.clone();
            if let Expr::AggregateFunction(call) = &mut call {
                call.params.filter = Some(Box::new(column(&test_name, number)));
            }
            position(&mut calls, call)
        });
        own.collect::<Vec<_>>()
    });
    let own: Vec<_> = own.collect();
    let columns = scan.projected_schema.columns().into_iter().map(Expr::Column);
    let tested = tests.iter().enumerate().map(|(number, test)| (*test).clone().alias(format!("{test_name}{number}")));
    let exprs: Vec<Expr> = columns.chain(tested).collect();
    let calls = calls.into_iter().enumerate().map(|(number, call)| call.alias(format!("{CALL_NAME}{number}")));
    let none: [Expr; 0] = [];
    let common = LogicalPlanBuilder::from(LogicalPlan::TableScan(scan)).project(exprs)?.aggregate(none, calls)?;
    let common = Arc::new(common.build()?);
    let projection = |(reading, own): (&Reading, Vec<usize>)| {
        let schema = Arc::clone(&reading.aggregate.schema);
        let columns = own.into_iter().zip(schema.iter()).map(|(number, (qualifier, field))| {
            column(CALL_NAME, number).alias_qualified(qualifier.cloned(), field.name())
        });
        Projection::try_new_with_schema(columns.collect(), Arc::clone(&common), schema)
    };
    readings.iter().zip(own).map(projection).collect()
}

/// The position of `item` in `items`. A missing item is added.
fn position<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|known| *known == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}

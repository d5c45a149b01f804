//! Takes from scans the filters of joins, sorts and aggregations that got to the wrong columns.
//!
//! DataFusion pushes such a filter down from node to node by its columns' names, and takes the first of that name. Where
//! two tables of a join have columns of one name, the keys of one drop rows of the other:
//!
//! ```text
//!   Join: e.g = b.g            filter on column 3, g
//!     Scan: e
//!     Join: c.k = a.k          filter on column 3, g, which below is the first g: column 1
//!       Scan: c
//!       Join: a.id = b.id      columns a.g, b.g
//!         Scan: a              g in the keys of e
//! ```
//!
//! Here each filter is followed by its columns' positions. Scans keep those that are over the same expressions by either
//! way; others are only lost time.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, JoinType, Result};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::utils::{conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::joins::utils::build_join_schema;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;

use crate::localize::file_scan;
use crate::tree::{unprojected, with_children};

/// Filters that are about the columns that they were made for.
#[derive(Debug)]
pub struct VerifiedFiltersRule;

impl PhysicalOptimizerRule for VerifiedFiltersRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        below(&plan, &[])
    }

    fn name(&self) -> &str {
        "verified_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A filter on its way down.
struct Test {
    id: u64,
    /// What it tests, over the columns of the node that it has come to.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

/// `plan`, to which `tests` have come.
fn below(plan: &Arc<dyn ExecutionPlan>, tests: &[Test]) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(scan) = file_scan(plan) {
        return Ok(verified(scan, tests)?.unwrap_or_else(|| Arc::clone(plan)));
    }
    let old = plan.children();
    let mut new = Vec::with_capacity(old.len());
    for (index, child) in old.iter().enumerate() {
        let mut inner = vec![];
        for test in tests {
            inner.extend(test.below(plan, index)?);
        }
        // A join makes them for its probe side.
        if index + 1 == old.len() {
            inner.extend(made_by(plan));
        }
        new.push(below(child, &inner)?);
    }
    match new.iter().zip(old).all(|(new, old)| Arc::ptr_eq(new, old)) {
        true => Ok(Arc::clone(plan)),
        false => with_children(plan, new),
    }
}

/// Over the columns of the node's last input.
fn made_by(plan: &Arc<dyn ExecutionPlan>) -> Vec<Test> {
    let made = plan.dynamic_expressions_produced();
    let tests = made.iter().filter_map(|filter| {
        let exprs = filter.children().into_iter().cloned().collect();
        Some(Test { id: filter.expression_id()?, exprs })
    });
    tests.collect()
}

impl Test {
    /// The same over the columns of an input of `plan`, if all that it looks at comes from there.
    fn below(&self, plan: &Arc<dyn ExecutionPlan>, child: usize) -> Result<Option<Self>> {
        let exprs = self.exprs.iter().map(|expr| over(expr, |column| input(plan, child, column)));
        Ok(exprs.collect::<Result<Option<_>>>()?.map(|exprs| Self { id: self.id, exprs }))
    }
}

/// `expr` with what `place` gives for its columns; `None` if it gives nothing for one of them.
fn over(
    expr: &Arc<dyn PhysicalExpr>,
    place: impl Fn(usize) -> Option<Arc<dyn PhysicalExpr>>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let mut all_known = true;
    let over = Arc::clone(expr).transform_up(|node| {
        let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
        Ok(match place(column.index()) {
            Some(expr) => Transformed::yes(expr),
            None => {
                all_known = false;
                Transformed::new(node, false, TreeNodeRecursion::Stop)
            }
        })
    })?;
    Ok(all_known.then_some(over.data))
}

/// What a column of `plan` is, over the columns of one of its inputs.
fn input(plan: &Arc<dyn ExecutionPlan>, child: usize, column: usize) -> Option<Arc<dyn PhysicalExpr>> {
    let index = if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return input_of_join(join, child, column);
    } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        return Some(Arc::clone(&projection.expr().get(column)?.expr));
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        return Some(Arc::clone(&aggregate.group_expr().expr().get(column)?.0));
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        unprojected(filter.projection().as_deref(), column)
    } else {
        keeps_columns(plan).then_some(column)?
    };
    Some(column_of(plan.children()[child], index))
}

fn column_of(plan: &Arc<dyn ExecutionPlan>, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(plan.schema().field(index).name(), index))
}

/// Whether the columns of a node are those of its inputs.
fn keeps_columns(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<BufferExec>()
        || plan.is::<SortExec>()
        || plan.is::<UnionExec>()
}

fn input_of_join(join: &HashJoinExec, child: usize, column: usize) -> Option<Arc<dyn PhysicalExpr>> {
    let (_, columns) = build_join_schema(&join.left().schema(), &join.right().schema(), join.join_type());
    let column = &columns[unprojected(join.projection.as_deref(), column)];
    let (input, side) = if child == 0 { (join.left(), JoinSide::Left) } else { (join.right(), JoinSide::Right) };
    if column.side == side {
        return Some(column_of(input, column.index));
    }
    // A row has its partner's keys.
    let is_it = |key: &Arc<dyn PhysicalExpr>| key.downcast_ref::<Column>().is_some_and(|it| it.index() == column.index);
    let keys = join.on().iter().find_map(|(left, right)| match column.side {
        JoinSide::Left => is_it(left).then_some(right),
        JoinSide::Right => is_it(right).then_some(left),
        JoinSide::None => None,
    });
    keys.filter(|_| matches!(join.join_type(), JoinType::LeftSemi | JoinType::RightSemi)).cloned()
}

/// The scan with only those filters that are among `tests`, if it has others.
fn verified(scan: &FileScanConfig, tests: &[Test]) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(source) = scan.file_source().downcast_ref::<ParquetSource>() else { return Ok(None) };
    let Some(predicate) = source.filter() else { return Ok(None) };
    let parts = split_conjunction(&predicate);
    let mut kept = vec![];
    for part in &parts {
        if is_known(part, source, tests)? {
            kept.push(Arc::clone(part));
        }
    }
    if kept.len() == parts.len() {
        return Ok(None);
    }
    let source = source.with_predicate(conjunction(kept));
    let scan = FileScanConfigBuilder::from(scan.clone()).with_source(Arc::new(source)).build();
    Ok(Some(DataSourceExec::from_data_source(scan)))
}

/// Whether a part of a scan's predicate is the query's own, or one of `tests` that has come by positions.
fn is_known(part: &Arc<dyn PhysicalExpr>, source: &ParquetSource, tests: &[Test]) -> Result<bool> {
    let Some(filter) = part.downcast_ref::<DynamicFilterPhysicalExpr>() else { return Ok(true) };
    let test = tests.iter().find(|test| filter.expression_id() == Some(test.id));
    let Some(test) = test else { return Ok(false) };
    // The predicate is over the table's columns, whatever the scan makes of them.
    let table = source.table_schema().table_schema();
    let of_table = |index: usize| Some(Arc::new(Column::new(table.field(index).name(), index)) as _);
    let read = |column: usize| match source.projection() {
        Some(projection) => projection.as_ref().get(column).map(|read| Arc::clone(&read.expr)),
        None => of_table(column),
    };
    for (expr, found) in test.exprs.iter().zip(filter.children()) {
        let expected = over(expr, read)?;
        let found = over(found, of_table)?;
        if expected.is_none() || expected != found {
            return Ok(false);
        }
    }
    Ok(true)
}

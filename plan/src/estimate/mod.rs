//! Estimates the row count of a plan and the statistics of its columns.
//!
//! Estimates only choose between correct plans, so a wrong estimate costs time but never gives wrong rows. They start
//! from the statistics of the files. The row count of a file without statistics is its size divided by the width of
//! its columns.

mod columns;
mod selectivity;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

use crate::tuning::{UNKNOWN_FRACTION, UNKNOWN_ROWS};
pub(crate) use columns::{ColumnEstimate, number};
use hwacha_operators::scan::{file_bytes, file_scan, group_bytes};
use selectivity::filtered;
pub(crate) use selectivity::selectivity;

/// Estimated bytes that the plan's scans read. Example: a scan of 3 of a table's 12 columns reads a quarter of the
/// bytes of its files.
pub fn scanned_bytes(plan: &Arc<dyn ExecutionPlan>) -> Result<u64> {
    let mut bytes = 0;
    plan.apply(|node| {
        if let Some(scan) = file_scan(node) {
            let whole: u64 = scan.file_groups.iter().map(group_bytes).sum();
            let (read, all) =
                (scan.projected_schema()?.fields().len() as u64, scan.file_schema().fields().len() as u64);
            bytes += whole * read.min(all) / all.max(1);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes)
}

/// A generous estimate of the output rows of all operators of `plan` together: scanned rows times number of operators.
/// The real sum is larger only if operators such as joins multiply rows, or if files have more rows than estimated.
pub fn foreseen_rows(plan: &Arc<dyn ExecutionPlan>) -> Result<f64> {
    let (mut scanned, mut operators) = (0.0, 0.0);
    plan.apply(|node| {
        operators += 1.0;
        if node.children().is_empty() {
            scanned += estimate_leaf(node)?.rows * file_scan(node).map_or(1.0, share_read);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scanned * operators)
}

/// The share of the bytes of its files that a scan reads.
fn share_read(scan: &FileScanConfig) -> f64 {
    let parts = || scan.file_groups.iter().flat_map(FileGroup::iter);
    let files: HashMap<_, _> = parts().map(|part| (&part.object_meta.location, part.object_meta.size)).collect();
    let read: u64 = parts().map(file_bytes).sum();
    (read as f64 / files.values().sum::<u64>().max(1) as f64).min(1.0)
}

/// The estimated output of a plan, over all its partitions.
#[derive(Clone, Debug)]
pub(crate) struct Estimate {
    pub rows: f64,
    pub columns: Vec<ColumnEstimate>,
}

impl Estimate {
    pub(crate) fn row_bytes(&self) -> f64 {
        self.columns.iter().map(|column| column.bytes).sum::<f64>().max(1.0)
    }

    /// The number of columns whose values have variable length.
    pub(crate) fn texts(&self) -> f64 {
        self.columns.iter().filter(|column| column.is_text).count() as f64
    }

    pub(crate) fn bytes(&self) -> f64 {
        self.rows * self.row_bytes()
    }

    /// The number of distinct combinations of the expressions' values, at most the row count.
    pub(crate) fn distinct<'a>(&self, exprs: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>) -> f64 {
        let product: f64 = exprs.into_iter().map(|expr| self.distinct_of(expr)).product();
        product.min(self.rows).max(1.0)
    }

    fn distinct_of(&self, expr: &Arc<dyn PhysicalExpr>) -> f64 {
        let columns = collect_columns(expr);
        columns.iter().filter_map(|column| self.columns.get(column.index())).map(|column| column.distinct).product()
    }

    /// The smallest and the largest value of an expression, if they are known and are numbers.
    pub(crate) fn range(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<(f64, f64)> {
        self.columns.get(columns::column_of(expr)?)?.range
    }

    /// The estimate for a random `fraction` of the rows.
    pub(crate) fn scaled(&self, fraction: f64) -> Self {
        self.limited(self.rows * fraction)
    }

    fn limited(&self, rows: f64) -> Self {
        let rows = rows.min(self.rows).max(0.0);
        let columns = self.columns.iter().map(|column| column.of_fewer_rows(self.rows, rows)).collect();
        Self { rows, columns }
    }

    fn projected(&self, projection: Option<&[usize]>) -> Self {
        match projection {
            None => self.clone(),
            Some(indices) => {
                let column = |index: &usize| self.columns.get(*index).cloned().unwrap_or_default();
                Self { rows: self.rows, columns: indices.iter().map(column).collect() }
            }
        }
    }

    fn column(&self, expr: &Arc<dyn PhysicalExpr>) -> ColumnEstimate {
        match columns::column_of(expr).and_then(|index| self.columns.get(index)) {
            Some(column) => column.clone(),
            None => ColumnEstimate { distinct: self.distinct([expr]), ..ColumnEstimate::default() },
        }
    }
}

pub(crate) fn estimate(plan: &Arc<dyn ExecutionPlan>) -> Result<Estimate> {
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let input = estimate(filter.input())?;
        let kept = filtered(filter.predicate(), &input);
        return Ok(kept.projected(filter.projection().as_deref()));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let input = estimate(projection.input())?;
        let columns = projection.expr().iter().map(|column| input.column(&column.expr)).collect();
        return Ok(Estimate { rows: input.rows, columns });
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        return estimate_groups(aggregate);
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let (left, right) = (estimate(join.left())?, estimate(join.right())?);
        let joined = estimate_join(&left, &right, join.on(), *join.join_type(), join.filter().is_some());
        return Ok(joined.projected(join.projection.as_deref()));
    }
    if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
        let (left, right) = (estimate(join.left())?, estimate(join.right())?);
        return Ok(estimate_join(&left, &right, join.on(), join.join_type(), join.filter().is_some()));
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        let (left, right) = (estimate(join.left())?, estimate(join.right())?);
        let joined = estimate_join(&left, &right, &[], *join.join_type(), join.filter().is_some());
        return Ok(joined.projected(join.projection().as_deref()));
    }
    if let Some(join) = plan.downcast_ref::<CrossJoinExec>() {
        return Ok(estimate_join(&estimate(join.left())?, &estimate(join.right())?, &[], JoinType::Inner, false));
    }
    if plan.is::<UnionExec>() || plan.is::<InterleaveExec>() {
        return estimate_union(plan);
    }
    if let Some(subqueries) = plan.downcast_ref::<ScalarSubqueryExec>() {
        return estimate(subqueries.input());
    }
    match plan.children()[..] {
        [] => estimate_leaf(plan),
        [input] => {
            let mut given = estimate(input)?;
            if let Some(fetch) = fetch(plan) {
                given = given.limited(fetch as f64);
            }
            let windows = plan.is::<WindowAggExec>() || plan.is::<BoundedWindowAggExec>();
            let unknown = ColumnEstimate { distinct: given.rows, ..ColumnEstimate::default() };
            if windows || given.columns.len() != plan.schema().fields().len() {
                given.columns.resize(plan.schema().fields().len(), unknown);
            }
            Ok(given)
        }
        _ => estimate_leaf(plan),
    }
}

fn fetch(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    if let Some(limit) = plan.downcast_ref::<GlobalLimitExec>() {
        return limit.fetch();
    }
    if let Some(limit) = plan.downcast_ref::<LocalLimitExec>() {
        return Some(limit.fetch());
    }
    plan.fetch()
}

/// The estimate from DataFusion's statistics, for a plan without inputs or an unknown operator with several inputs.
fn estimate_leaf(plan: &Arc<dyn ExecutionPlan>) -> Result<Estimate> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new())?;
    let rows = match (statistics.num_rows.get_value(), file_scan(plan)) {
        (Some(rows), _) => *rows as f64,
        (None, Some(scan)) => rows_by_size(scan),
        (None, None) => {
            let inputs = plan.children().into_iter().map(|input| Ok(estimate(input)?.rows));
            inputs.collect::<Result<Vec<_>>>()?.into_iter().fold(UNKNOWN_ROWS, f64::max)
        }
    };
    let known = |index: usize| statistics.column_statistics.get(index);
    let schema = plan.schema();
    let fields = schema.fields().iter().enumerate();
    let columns = fields.map(|(index, field)| ColumnEstimate::new(field.data_type(), known(index), rows)).collect();
    Ok(Estimate { rows, columns })
}

/// The row count of files without statistics: their bytes divided by the width of a row. This suits text formats,
/// where a value takes about as many bytes as in memory.
fn rows_by_size(scan: &FileScanConfig) -> f64 {
    let row_bytes: f64 = scan.file_schema().fields().iter().map(|field| columns::width(field.data_type())).sum();
    let bytes: u64 = scan.file_groups.iter().map(group_bytes).sum();
    bytes as f64 / row_bytes.max(1.0)
}

fn estimate_groups(aggregate: &AggregateExec) -> Result<Estimate> {
    let input = estimate(aggregate.input())?;
    let keys = aggregate.group_expr().expr();
    let rows = match keys {
        [] => 1.0,
        keys => {
            let sets = aggregate.group_expr().groups().len().max(1) as f64;
            input.distinct(keys.iter().map(|(expr, _)| expr)) * sets
        }
    };
    let mut columns: Vec<_> = keys.iter().map(|(expr, _)| input.column(expr)).collect();
    columns.resize(
        aggregate.schema().fields().len().max(columns.len()),
        ColumnEstimate { distinct: rows, ..ColumnEstimate::default() },
    );
    Ok(Estimate { rows, columns })
}

fn estimate_union(plan: &Arc<dyn ExecutionPlan>) -> Result<Estimate> {
    let mut inputs = plan.children().into_iter().map(estimate);
    let mut all = inputs.next().transpose()?.unwrap_or(Estimate { rows: 0.0, columns: vec![] });
    for input in inputs {
        let input = input?;
        all.rows += input.rows;
        for (column, more) in all.columns.iter_mut().zip(input.columns) {
            column.distinct += more.distinct;
            column.range = column.range.zip(more.range).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        }
    }
    Ok(all)
}

/// The share of one side's rows that find a partner in an equality join. `distinct` is the number of distinct keys of
/// this side, `other` of the other side. The smaller set of keys is assumed to be a subset of the larger set. Example:
/// `distinct` 100 and `other` 20 give 0.2.
pub(crate) fn matching_fraction(distinct: f64, other: f64) -> f64 {
    (other / distinct.max(1.0)).min(1.0)
}

fn estimate_join(
    left: &Estimate,
    right: &Estimate,
    on: &[(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)],
    join_type: JoinType,
    filtered: bool,
) -> Estimate {
    let residual = if filtered { UNKNOWN_FRACTION } else { 1.0 };
    let left_keys = left.distinct(on.iter().map(|(left, _)| left));
    let right_keys = right.distinct(on.iter().map(|(_, right)| right));
    let pairs = match on {
        [] => left.rows * right.rows * residual,
        _ => left.rows * right.rows / left_keys.max(right_keys) * residual,
    };
    let left_matching = matching_fraction(left_keys, right_keys);
    let right_matching = matching_fraction(right_keys, left_keys);
    let unmatched = |matching: f64| (1.0 - matching).max(0.1);
    // If an outer join keeps a row without a partner, the columns of the other side are NULL in this row.
    let both = |rows: f64, left_nulls: f64, right_nulls: f64| {
        let sides = [(left, left_nulls), (right, right_nulls)];
        let columns = sides.iter().flat_map(|(side, nulls)| {
            side.columns.iter().map(|column| ColumnEstimate { nulls: column.nulls.max(*nulls), ..column.at_most(rows) })
        });
        Estimate { rows, columns: columns.collect() }
    };
    match join_type {
        JoinType::Inner => both(pairs, 0.0, 0.0),
        JoinType::Left => both(pairs.max(left.rows), 0.0, unmatched(left_matching)),
        JoinType::Right => both(pairs.max(right.rows), unmatched(right_matching), 0.0),
        JoinType::Full => {
            both(pairs.max(left.rows).max(right.rows), unmatched(right_matching), unmatched(left_matching))
        }
        JoinType::LeftSemi => left.scaled(left_matching),
        JoinType::RightSemi => right.scaled(right_matching),
        JoinType::LeftAnti => left.scaled(unmatched(left_matching)),
        JoinType::RightAnti => right.scaled(unmatched(right_matching)),
        JoinType::LeftMark => marked(left),
        JoinType::RightMark => marked(right),
    }
}

fn marked(outer: &Estimate) -> Estimate {
    let mut marked = outer.clone();
    marked.columns.push(ColumnEstimate { distinct: 2.0, ..ColumnEstimate::default() });
    marked
}

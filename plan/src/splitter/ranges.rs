//! Sorts and windows over all rows that tasks share by ranges of keys.
//!
//! ```text
//!   Window: row_number() ORDER BY k              Projection: row_number + rows before
//!     SortPreservingMerge: k                       Window: row_number() ORDER BY k
//!       Sort: k                           ->         ExchangeSource: range
//!         rows                                     ExchangeSink: range(k)
//!                                                    SortPreservingMerge: k
//!                                                      Sort: k
//!                                                        rows
//! ```
//!
//! What DataFusion planned as one sorted partition is then many, in the order of their numbers. Few operators may see
//! that: those that look at each row by itself, and the end of the query, whose rows are read in that order. All others
//! get one partition again.

use std::sync::Arc;

use datafusion::common::{Result, internal_datafusion_err};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowUDFExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_model::OutputKind;

use super::exchanges::SourceShape;
use super::{Segment, Splitter, Spread, passes_rows_on, run, stage_of};
use crate::estimate::estimate;
use crate::exchange::{ROWS_BEFORE, can_cut};
use crate::tree::with_children;

/// Functions of a row's place among all that are, over a range, less by the number of rows before it.
const COUNTED: [&str; 2] = ["row_number", "rank"];

impl Splitter {
    /// The segment that computes the whole query: its rows are read in order.
    pub(super) fn root(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        if passes_rows_on(plan) {
            let child = self.root(plan.children()[0])?;
            return Ok(Segment { plan: with_children(plan, vec![Arc::clone(&child.plan)])?, ..child });
        }
        if let Some(subqueries) = plan.downcast_ref::<ScalarSubqueryExec>() {
            return self.scalar_subqueries(subqueries, Self::root);
        }
        match self.sort_in_ranges(plan, false)? {
            Some(ranges) => Ok(ranges),
            None => self.segment_in_ranges(plan),
        }
    }

    /// An operator that passes rows on, over ranges as long as their order can still be told.
    pub(super) fn passed_on(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        let child = self.segment_in_ranges(plan.children()[0])?;
        let over = with_children(plan, vec![Arc::clone(&child.plan)])?;
        if child.in_ranges && over.output_ordering().is_none() {
            let child = self.settled(child)?;
            return Ok(Segment::new(with_children(plan, vec![child.plan])?, child.spread));
        }
        Ok(Segment { plan: over, ..child })
    }

    /// Makes one partition of ranges.
    pub(super) fn settled(&mut self, segment: Segment) -> Result<Segment> {
        if !segment.in_ranges {
            return Ok(segment);
        }
        let ordering = segment.plan.output_ordering().cloned();
        let ordering = ordering.ok_or_else(|| internal_datafusion_err!("ranges have lost their order"))?;
        Ok(self.merged(segment, &ordering, None))
    }

    /// Windows over all rows, where each range can be worked on by itself.
    pub(super) fn windows_in_ranges(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Segment>> {
        let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() else { return Ok(None) };
        if !window.partition_keys().is_empty() || !window.window_expr().iter().all(is_counted) {
            return Ok(None);
        }
        let Some(child) = self.sort_in_ranges(window.input(), true)? else { return Ok(None) };
        let over = with_children(plan, vec![Arc::clone(&child.plan)])?;
        let plan = if child.in_ranges { with_rows_added(plan, over)? } else { over };
        Ok(Some(Segment { plan, ..child }))
    }

    /// A sort, or one of all rows that were in ranges of other keys.
    pub(super) fn sort(&mut self, plan: &Arc<dyn ExecutionPlan>, sort: &SortExec) -> Result<Segment> {
        let child = self.segment_in_ranges(sort.input())?;
        if !child.in_ranges {
            return self.over(plan, child);
        }
        Ok(self.merged(sorted_by_partition(sort, child), sort.expr(), sort.fetch()))
    }

    /// The rows of a sort of all rows in ranges, if that is one and large enough; in one partition where there was but
    /// one before.
    fn sort_in_ranges(&mut self, plan: &Arc<dyn ExecutionPlan>, counts_rows_before: bool) -> Result<Option<Segment>> {
        let Some(min_bytes) = self.cluster.min_range_bytes else { return Ok(None) };
        let sort = plan.downcast_ref::<SortExec>().filter(|sort| !sort.preserve_partitioning());
        let merge = plan.downcast_ref::<SortPreservingMergeExec>();
        let ordering = sort.map(SortExec::expr).or(merge.map(SortPreservingMergeExec::expr));
        let Some(ordering) = ordering.filter(|_| plan.fetch().is_none()) else { return Ok(None) };
        let rows = plan.children()[0];
        let expected = estimate(rows)?;
        if expected.bytes() < min_bytes as f64 || !can_cut(ordering, &plan.schema())? {
            return Ok(None);
        }
        let child = self.segment_in_ranges(rows)?.without_order();
        if child.spread == Spread::One {
            return Ok(Some(Segment::single(with_children(plan, vec![child.plan])?)));
        }
        let sorted = match sort {
            Some(sort) => sorted_by_partition(sort, child),
            None => child,
        };
        let shape = SourceShape {
            partitions: self.cluster.partitions_per_task,
            ordering: Some(ordering.clone()),
            counts_rows_before,
            ..SourceShape::of(OutputKind::Range)
        };
        let source = self.source(run(sorted, ordering, None), shape);
        self.stages[stage_of(&source)].expected = Some(expected);
        Ok(Some(Segment { in_ranges: true, ..Segment::spread(source) }))
    }
}

/// A sort of all rows as one of each partition.
fn sorted_by_partition(sort: &SortExec, rows: Segment) -> Segment {
    let sorted = SortExec::new(sort.expr().clone(), rows.plan).with_fetch(sort.fetch());
    Segment::spread(Arc::new(sorted.with_preserve_partitioning(true)))
}

/// Whether a window function of all rows is one of its range and a number.
fn is_counted(function: &Arc<dyn WindowExpr>) -> bool {
    let standard = function.as_any().downcast_ref::<StandardWindowExpr>();
    let function = standard.and_then(|standard| {
        standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>().map(|function| function.fun().name())
    });
    function.is_some_and(|name| COUNTED.contains(&name))
}

/// The columns of `window`, computed by `over` for its range and the rows before it, which are its input's last column.
fn with_rows_added(window: &Arc<dyn ExecutionPlan>, over: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = window.schema();
    let inputs = window.children()[0].schema().fields().len();
    let rows_before = Arc::new(Column::new(ROWS_BEFORE, inputs)) as Arc<dyn PhysicalExpr>;
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let expr: Arc<dyn PhysicalExpr> = match index < inputs {
            true => Arc::new(Column::new(field.name(), index)),
            false => {
                let within = Arc::new(Column::new(field.name(), index + 1));
                Arc::new(BinaryExpr::new(within, Operator::Plus, Arc::clone(&rows_before)))
            }
        };
        ProjectionExpr::new(expr, field.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), over)?))
}

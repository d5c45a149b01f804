//! Global sorts and windows without PARTITION BY, computed by all tasks together: each partition gets a range of
//! keys.
//!
//! ```text
//!   Window: row_number() ORDER BY k,             Projection: row_number + count, sum
//!           sum(v) ORDER BY k                      Window: row_number() ORDER BY k,
//!     SortPreservingMerge: k                               resumed(v, sum of v) ORDER BY k
//!       Sort: k                           ->         ExchangeSource: range, with count and sum(v) of the ranges before
//!         rows                                     ExchangeSink: range(k)
//!                                                    SortPreservingMerge: k
//!                                                      Sort: k
//!                                                        rows
//! ```
//!
//! DataFusion planned one sorted partition. With ranges there are many partitions: each is sorted, and all keys of
//! partition 0 come before the keys of partition 1. Only the end of the query, windows without PARTITION BY, other
//! sorts and operators that work row by row may read them. All other operators get one merged partition.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue, internal_datafusion_err, internal_err};
use datafusion::logical_expr::{AggregateUDF, Operator, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, cast};
use datafusion::physical_expr::window::{PlainAggregateWindowExpr, WindowExpr};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, create_window_expr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_model::OutputKind;
use hwacha_operators::aggregates::resumed::{ResumedAggregate, registered_name, resumable};
use hwacha_operators::exchange::{EarlierAggregate, can_cut};
use hwacha_operators::tree::{reads_a_scalar_subquery, window_function, with_children};

use super::exchanges::SourceShape;
use super::{Segment, Splitter, Spread, passes_rows_on, run, stage_of};
use crate::estimate::estimate;

/// Window functions whose value is their value within a range plus the row count of all earlier ranges. Example: the
/// third row of a range after 100 earlier rows has `row_number` 103.
const ROW_NUMBER: &str = "row_number";
const RANK: &str = "rank";

impl Splitter {
    /// The segment that computes the whole query. It may be in ranges, because the partitions of the result are read
    /// one after the other.
    pub(super) fn root(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        if passes_rows_on(plan) {
            let child = self.root(plan.children()[0])?;
            return Ok(Segment { plan: with_children(plan, vec![Arc::clone(&child.plan)])?, ..child });
        }
        if let Some(subqueries) = plan.downcast_ref::<ScalarSubqueryExec>() {
            return self.scalar_subqueries(subqueries, Self::root);
        }
        match self.sort_in_ranges(plan, &[])? {
            Some(ranges) => Ok(ranges),
            None => self.segment_in_ranges(plan),
        }
    }

    /// An operator that passes rows on. Its input stays in ranges if the output still has a known order. Otherwise
    /// the ranges are merged first, for example if a projection drops the sort key.
    pub(super) fn passed_on(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        let child = self.segment_in_ranges(plan.children()[0])?;
        let over = with_children(plan, vec![Arc::clone(&child.plan)])?;
        if child.in_ranges && over.output_ordering().is_none() {
            let child = self.settled(child)?;
            return Ok(Segment::new(with_children(plan, vec![child.plan])?, child.spread));
        }
        Ok(Segment { plan: over, ..child })
    }

    /// Merges a segment in ranges into one partition. Any other segment stays as it is.
    pub(super) fn settled(&mut self, segment: Segment) -> Result<Segment> {
        if !segment.in_ranges {
            return Ok(segment);
        }
        let ordering = segment.plan.output_ordering().cloned();
        let ordering = ordering.ok_or_else(|| internal_datafusion_err!("ranges have lost their order"))?;
        self.merged(segment, &ordering, None)
    }

    /// Replaces a window operator without PARTITION BY by one that each partition computes over its own range of the sort
    /// key. A partition adds the aggregates of all rows in earlier ranges. Example: `sum(v)` of a partition starts at the
    /// sum of all earlier ranges. `None` if a function needs other rows of earlier ranges, or if the input is too small.
    pub(super) fn windows_in_ranges(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Segment>> {
        let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() else { return Ok(None) };
        if !window.partition_keys().is_empty() {
            return Ok(None);
        }
        let Some(windows) = RangeWindows::of(window)? else { return Ok(None) };
        if windows.see_peers() && !windows.order_by_all_of(window.input().output_ordering()) {
            return Ok(None);
        }
        let Some(child) = self.sort_in_ranges(window.input(), &windows.earlier)? else { return Ok(None) };
        let plan = match child.in_ranges {
            true => windows.over(Arc::clone(&child.plan))?,
            false => with_children(plan, vec![Arc::clone(&child.plan)])?,
        };
        Ok(Some(Segment { plan, ..child }))
    }

    /// A sort. If its input is in ranges of other keys, each partition is sorted and one task merges them.
    pub(super) fn sort(&mut self, plan: &Arc<dyn ExecutionPlan>, sort: &SortExec) -> Result<Segment> {
        let child = self.segment_in_ranges(sort.input())?;
        if !child.in_ranges {
            return self.over(plan, child);
        }
        self.merged(sorted_by_partition(sort, child), sort.expr(), sort.fetch())
    }

    /// The sorted rows of `plan` in ranges of the sort key. `None` if `plan` is no sort or merge of all rows, has a
    /// limit, has keys that cannot be cut into ranges, or has an input below `min_range_bytes`. If one task computes
    /// the input, the result is a single sorted partition.
    fn sort_in_ranges(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        earlier: &[EarlierAggregate],
    ) -> Result<Option<Segment>> {
        let Some(min_bytes) = self.cluster.min_range_bytes else { return Ok(None) };
        let sort = plan.downcast_ref::<SortExec>().filter(|sort| !sort.preserve_partitioning());
        let merge = plan.downcast_ref::<SortPreservingMergeExec>();
        let ordering = sort.map(SortExec::expr).or(merge.map(SortPreservingMergeExec::expr));
        let Some(ordering) = ordering.filter(|_| plan.fetch().is_none()) else { return Ok(None) };
        let rows = plan.children()[0];
        let expected = estimate(rows)?;
        if reads_a_scalar_subquery(ordering.iter().map(|sort| &sort.expr))? {
            return Ok(None);
        }
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
            orderings: vec![ordering.clone()],
            earlier: earlier.to_vec(),
            ..SourceShape::of(OutputKind::Range)
        };
        let source = self.source(run(sorted, ordering, None), shape);
        self.stages[stage_of(&source)].expected = Some(expected);
        Ok(Some(Segment { in_ranges: true, ..Segment::spread(source) }))
    }
}

/// Sorts each partition of `rows` separately.
fn sorted_by_partition(sort: &SortExec, rows: Segment) -> Segment {
    let sorted = SortExec::new(sort.expr().clone(), rows.plan).with_fetch(sort.fetch());
    Segment::spread(Arc::new(sorted.with_preserve_partitioning(true)))
}

/// A window operator without PARTITION BY whose functions can be computed range by range.
struct RangeWindows<'a> {
    window: &'a BoundedWindowAggExec,
    functions: Vec<RangeFunction>,
    /// The aggregates that the functions need over the rows before a range.
    earlier: Vec<EarlierAggregate>,
}

/// How a window function is computed over a range. The number is an index into `RangeWindows::earlier`.
#[derive(Clone, Copy)]
enum RangeFunction {
    /// Adds the count of earlier rows. Example: `row_number` 3 in a range after 100 earlier rows is 103.
    Counted(usize),
    /// Starts from the state of the earlier rows. Example: `sum` starts from their sum.
    Resumed(usize),
}

impl<'a> RangeWindows<'a> {
    /// `None` if a function cannot be computed from the rows of its range and a small aggregate state of the earlier
    /// rows.
    fn of(window: &'a BoundedWindowAggExec) -> Result<Option<Self>> {
        let mut windows = Self { window, functions: vec![], earlier: vec![] };
        let rows = window.input().schema();
        for function in window.window_expr() {
            let (earlier, as_function): (_, fn(usize) -> RangeFunction) = if is_counted(function) {
                let one = Arc::new(Literal::new(ScalarValue::from(1_i64)));
                (EarlierAggregate::new("count", vec![one], &rows)?, RangeFunction::Counted)
            } else if let Some(aggregate) = running_aggregate(function)? {
                let function = registered_name(aggregate.fun());
                (EarlierAggregate::new(function, aggregate.expressions(), &rows)?, RangeFunction::Resumed)
            } else {
                return Ok(None);
            };
            if !earlier.is_small() {
                return Ok(None);
            }
            let function = as_function(windows.earlier(earlier));
            windows.functions.push(function);
        }
        Ok(Some(windows))
    }

    /// The index of `aggregate` in `earlier`. Functions that need the same aggregate share one entry.
    fn earlier(&mut self, aggregate: EarlierAggregate) -> usize {
        let known = self.earlier.iter().position(|known| known.is_same(&aggregate));
        known.unwrap_or_else(|| {
            self.earlier.push(aggregate);
            self.earlier.len() - 1
        })
    }

    /// Whether a function depends on the peers of a row (the rows with equal sort keys). All peers must then be in
    /// one range.
    fn see_peers(&self) -> bool {
        self.window.window_expr().iter().any(|function| match window_function(function.as_ref()) {
            Some(function) => function.fun().name() != ROW_NUMBER,
            None => function.get_window_frame().units != WindowFrameUnits::Rows,
        })
    }

    /// Whether all functions have exactly the order `sorted`, by which ranges are cut. Example: if rows are sorted by
    /// k, v, the peers of `rank() OVER (ORDER BY k)` may lie in two ranges.
    fn order_by_all_of(&self, sorted: Option<&LexOrdering>) -> bool {
        let functions = self.window.window_expr();
        functions.iter().all(|function| sorted.is_some_and(|sorted| function.order_by() == &sorted[..]))
    }

    /// The columns of the original window operator, computed over `ranges`. After the columns of the original input,
    /// each row of `ranges` has the states of the earlier rows.
    fn over(&self, ranges: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = ranges.schema();
        let functions = self.functions.iter().zip(self.window.window_expr());
        let functions = functions.map(|(function, original)| match function {
            RangeFunction::Counted(_) => Ok(Arc::clone(original)),
            RangeFunction::Resumed(earlier) => self.resumed(original, *earlier, &schema),
        });
        let (functions, order) = (functions.collect::<Result<Vec<_>>>()?, self.window.input_order_mode.clone());
        let window = Arc::new(BoundedWindowAggExec::try_new(functions, ranges, order, false)?);
        let (own, all) = (self.window.input().schema(), schema.fields().len());
        let own = own.fields().iter().enumerate().map(|(index, field)| {
            ProjectionExpr::new(Arc::new(Column::new(field.name(), index)) as _, field.name().clone())
        });
        let mut columns: Vec<_> = own.collect();
        for (index, (function, original)) in self.functions.iter().zip(self.window.window_expr()).enumerate() {
            let within: Arc<dyn PhysicalExpr> = Arc::new(Column::new(original.name(), all + index));
            let expr = match function {
                RangeFunction::Resumed(_) => within,
                RangeFunction::Counted(earlier) => {
                    let [rows] = &self.states(*earlier, &schema)[..] else {
                        return internal_err!("a count has one state");
                    };
                    let rows = cast(Arc::clone(rows), &schema, original.field()?.data_type().clone())?;
                    Arc::new(BinaryExpr::new(within, Operator::Plus, rows))
                }
            };
            columns.push(ProjectionExpr::new(expr, original.name().to_owned()));
        }
        Ok(Arc::new(ProjectionExec::try_new(columns, window)?))
    }

    /// A running aggregate that starts from the state of the earlier rows.
    fn resumed(&self, original: &Arc<dyn WindowExpr>, earlier: usize, rows: &SchemaRef) -> Result<Arc<dyn WindowExpr>> {
        let aggregate = &self.earlier[earlier];
        let mut arguments = aggregate.arguments();
        let function = ResumedAggregate::new(aggregate.function(), arguments.len())?;
        arguments.extend(self.states(earlier, rows));
        create_window_expr(
            &WindowFunctionDefinition::AggregateUDF(Arc::new(AggregateUDF::new_from_impl(function))),
            original.name().to_owned(),
            &arguments,
            &[],
            original.order_by(),
            Arc::clone(original.get_window_frame()),
            Arc::clone(rows),
            false,
            false,
            None,
        )
    }

    /// The columns that hold the state of the aggregate with index `earlier`.
    fn states(&self, earlier: usize, rows: &SchemaRef) -> Vec<Arc<dyn PhysicalExpr>> {
        let before: usize = self.earlier[..earlier].iter().map(EarlierAggregate::columns).sum();
        let first = self.window.input().schema().fields().len() + before;
        let column = |index: usize| Arc::new(Column::new(rows.field(index).name(), index)) as _;
        (first..first + self.earlier[earlier].columns()).map(column).collect()
    }
}

/// Whether the value of a window function is its value within the range plus the count of earlier rows.
fn is_counted(function: &Arc<dyn WindowExpr>) -> bool {
    window_function(function.as_ref()).is_some_and(|function| [ROW_NUMBER, RANK].contains(&function.fun().name()))
}

/// The aggregate of a window function over all rows up to the current one; `None` if it cannot start from a state.
/// Its FILTER is already a part of its arguments (`EncodableWindowFiltersRule`).
fn running_aggregate(function: &Arc<dyn WindowExpr>) -> Result<Option<&AggregateFunctionExpr>> {
    let Some(plain) = function.as_any().downcast_ref::<PlainAggregateWindowExpr>() else { return Ok(None) };
    let (aggregate, frame) = (plain.get_aggregate_expr(), plain.get_window_frame());
    let is_running = frame.start_bound.is_unbounded() && frame.end_bound == WindowFrameBound::CurrentRow;
    let is_plain = !aggregate.is_distinct() && !aggregate.ignore_nulls() && aggregate.order_bys().is_empty();
    if !is_running || !is_plain || resumable(registered_name(aggregate.fun())).is_none() {
        return Ok(None);
    }
    // The sink and the window both compute the arguments, so both must get the same values.
    let arguments = aggregate.expressions();
    let is_alike = !arguments.iter().any(is_volatile) && !reads_a_scalar_subquery(&arguments)?;
    Ok(is_alike.then_some(aggregate))
}

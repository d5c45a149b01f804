//! Sorts and windows over all rows that tasks share by ranges of keys.
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
//! What DataFusion planned as one sorted partition is then many, in the order of their numbers. Few operators may see
//! that: those that look at each row by itself, and the end of the query, whose rows are read in that order. All others
//! get one partition again.

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

/// Functions of a row's place among all that are, over a range, less by the number of rows before that.
const ROW_NUMBER: &str = "row_number";
const RANK: &str = "rank";

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
        match self.sort_in_ranges(plan, &[])? {
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
        self.merged(segment, &ordering, None)
    }

    /// Windows over all rows, where each range can be worked on by itself, once it is told of those before it.
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

    /// A sort, or one of all rows that were in ranges of other keys.
    pub(super) fn sort(&mut self, plan: &Arc<dyn ExecutionPlan>, sort: &SortExec) -> Result<Segment> {
        let child = self.segment_in_ranges(sort.input())?;
        if !child.in_ranges {
            return self.over(plan, child);
        }
        self.merged(sorted_by_partition(sort, child), sort.expr(), sort.fetch())
    }

    /// The rows of a sort of all rows in ranges, if that is one and large enough; in one partition where there was but
    /// one before.
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

/// A sort of all rows as one of each partition.
fn sorted_by_partition(sort: &SortExec, rows: Segment) -> Segment {
    let sorted = SortExec::new(sort.expr().clone(), rows.plan).with_fetch(sort.fetch());
    Segment::spread(Arc::new(sorted.with_preserve_partitioning(true)))
}

/// Windows over all rows that can be worked on range by range.
struct RangeWindows<'a> {
    window: &'a BoundedWindowAggExec,
    functions: Vec<RangeFunction>,
    /// What they need to know of earlier rows.
    earlier: Vec<EarlierAggregate>,
}

/// How a window function of all rows comes from that of a range.
#[derive(Clone, Copy)]
enum RangeFunction {
    /// By adding the state of the earlier aggregate of that number: a count of rows.
    Counted(usize),
    /// By going on from the state of the earlier aggregate of that number.
    Resumed(usize),
}

impl<'a> RangeWindows<'a> {
    /// `None` if one of the functions needs more than is known of earlier rows.
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

    /// The number of an earlier aggregate, which others may have asked for.
    fn earlier(&mut self, aggregate: EarlierAggregate) -> usize {
        let known = self.earlier.iter().position(|known| known.is_same(&aggregate));
        known.unwrap_or_else(|| {
            self.earlier.push(aggregate);
            self.earlier.len() - 1
        })
    }

    /// Whether what a function gives depends on which rows come at the same place: all of them must be in one range.
    fn see_peers(&self) -> bool {
        self.window.window_expr().iter().any(|function| match window_function(function.as_ref()) {
            Some(function) => function.fun().name() != ROW_NUMBER,
            None => function.get_window_frame().units != WindowFrameUnits::Rows,
        })
    }

    /// Whether the functions order rows by just what they are sorted by: ranges are cut by all of that.
    fn order_by_all_of(&self, sorted: Option<&LexOrdering>) -> bool {
        let functions = self.window.window_expr();
        functions.iter().all(|function| sorted.is_some_and(|sorted| function.order_by() == &sorted[..]))
    }

    /// The columns of the windows, over ranges that come with what is known of earlier rows.
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

    /// A running aggregate that goes on from that of earlier rows.
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

    /// The columns of an earlier aggregate's state.
    fn states(&self, earlier: usize, rows: &SchemaRef) -> Vec<Arc<dyn PhysicalExpr>> {
        let before: usize = self.earlier[..earlier].iter().map(EarlierAggregate::columns).sum();
        let first = self.window.input().schema().fields().len() + before;
        let column = |index: usize| Arc::new(Column::new(rows.field(index).name(), index)) as _;
        (first..first + self.earlier[earlier].columns()).map(column).collect()
    }
}

/// Whether a window function of all rows is one of its range and a number.
fn is_counted(function: &Arc<dyn WindowExpr>) -> bool {
    window_function(function.as_ref()).is_some_and(|function| [ROW_NUMBER, RANK].contains(&function.fun().name()))
}

/// The aggregate of all rows up to the present one that a window function is, if it can be gone on with. A filter of it has
/// become a part of its arguments when it was planned.
fn running_aggregate(function: &Arc<dyn WindowExpr>) -> Result<Option<&AggregateFunctionExpr>> {
    let Some(plain) = function.as_any().downcast_ref::<PlainAggregateWindowExpr>() else { return Ok(None) };
    let (aggregate, frame) = (plain.get_aggregate_expr(), plain.get_window_frame());
    let is_running = frame.start_bound.is_unbounded() && frame.end_bound == WindowFrameBound::CurrentRow;
    let is_plain = !aggregate.is_distinct() && !aggregate.ignore_nulls() && aggregate.order_bys().is_empty();
    if !is_running || !is_plain || resumable(registered_name(aggregate.fun())).is_none() {
        return Ok(None);
    }
    // What it adds up is found out by several operators, each for itself.
    let arguments = aggregate.expressions();
    let is_alike = !arguments.iter().any(is_volatile) && !reads_a_scalar_subquery(&arguments)?;
    Ok(is_alike.then_some(aggregate))
}

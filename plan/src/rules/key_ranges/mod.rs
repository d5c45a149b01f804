//! Leaves the rows of tables whose files lie in the order of a key where they are read, for joins and aggregations by it.
//!
//! DataFusion hashes both sides of a join to partitions. Where footers tell that the row groups of a table hold one range
//! of the key after the other, each partition reads a range instead, and its rows need not move; what is joined with them
//! goes where its keys are. A *region* of the plan is what lies between exchanges: all rows that come into it must be
//! partitioned alike, so it is changed as a whole or not at all.

mod known;
mod layout;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use hwacha_execution::session::hwacha_options;
use hwacha_operators::grouping_gate::GroupingGateExec;
use hwacha_operators::key_ranges::KeyRanges;
use hwacha_operators::scan::{file_scan, laid_out};
use hwacha_operators::tree::{left_columns, unprojected, with_children};
use hwacha_operators::whole_numbers::is_whole_number;

use self::known::{Known, are_even, new_bounds};
use self::layout::KeyLayout;
use crate::cluster::Cluster;
use crate::footers::Footers;
use crate::mark::{Mark, MarkExec};
use crate::rules::emits_build_rows;

/// At least this share of the bytes that come into a region should not have to move.
const STAYING: f64 = 0.5;

/// Reads tables by ranges of the keys that they are joined and aggregated by.
#[derive(Debug)]
pub struct KeyRangesRule {
    pub cluster: Cluster,
    pub footers: Footers,
}

impl PhysicalOptimizerRule for KeyRangesRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match self.cluster.tasks > 1 && hwacha_options(config).optimizer.key_ranges {
            true => self.region(&plan, config),
            false => Ok(plan),
        }
    }

    fn name(&self) -> &str {
        "key_ranges"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Rows that come into a region by a hash of `keys`.
struct Input<'a> {
    rows: &'a Arc<dyn ExecutionPlan>,
    keys: &'a [Arc<dyn PhysicalExpr>],
}

/// How a region will be partitioned.
struct Choice {
    /// The position of the key among those that each input is hashed by.
    key: usize,
    bounds: Arc<[i64]>,
}

impl Choice {
    fn ranges(&self, keys: &[Arc<dyn PhysicalExpr>]) -> KeyRanges {
        KeyRanges { key: Arc::clone(&keys[self.key]), bounds: Arc::clone(&self.bounds) }
    }
}

impl KeyRangesRule {
    /// The region whose top is `plan`, and all regions below it, changed where that is worth it.
    fn region(&self, plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.over_regions(plan, config)?;
        let mut inputs = vec![];
        let choice = if self.collect(&plan, &mut inputs) { self.choose(&inputs)? } else { None };
        match choice {
            Some(choice) => self.by_ranges(&plan, &choice, config),
            None => Ok(plan),
        }
    }

    /// The part of a region at `plan`, and what is below the region changed.
    fn over_regions(&self, plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        over_children(plan, |number, child| match is_top(plan, number) {
            true => self.region(child, config),
            false => self.over_regions(child, config),
        })
    }

    /// Collects what comes into the region that has `plan`; `false` if that is not all hashed.
    fn collect<'a>(&self, plan: &'a Arc<dyn ExecutionPlan>, inputs: &mut Vec<Input<'a>>) -> bool {
        if let Some(input) = self.hashed(plan) {
            inputs.push(input);
            return true;
        }
        let Some(join) = plan.downcast_ref::<HashJoinExec>() else {
            return stays_in_partition(plan) && self.collect(plan.children()[0], inputs);
        };
        let builds = match join.partition_mode() {
            PartitionMode::Partitioned => self.collect(join.left(), inputs),
            mode => *mode == PartitionMode::CollectLeft && !emits_build_rows(*join.join_type()),
        };
        builds && self.collect(join.right(), inputs)
    }

    /// What a plan hashes to the partitions of all tasks, and by what.
    fn hashed<'a>(&self, plan: &'a Arc<dyn ExecutionPlan>) -> Option<Input<'a>> {
        let repartition = plan.downcast_ref::<RepartitionExec>()?;
        match repartition.partitioning() {
            Partitioning::Hash(keys, count) if *count == self.cluster.partitions() && !repartition.preserve_order() => {
                Some(Input { rows: repartition.input(), keys })
            }
            _ => None,
        }
    }

    /// The part of a region at `plan`, partitioned so.
    fn by_ranges(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        choice: &Choice,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(Input { rows, keys }) = self.hashed(plan) {
            let ranges = choice.ranges(keys);
            let stays = Known::of(rows, &ranges.key, &self.footers)?.is_some_and(|rows| rows.stay(&ranges.bounds));
            let read = match column(&ranges.key).filter(|_| stays) {
                Some(column) => self.read_by_ranges(rows, column, &ranges.bounds)?,
                None => None,
            };
            let exchange = with_children(plan, vec![read.unwrap_or_else(|| Arc::clone(rows))])?;
            return Ok(Arc::new(MarkExec::new(exchange, Mark::ByRanges(ranges))));
        }
        let plan = over_children(plan, |number, child| match is_top(plan, number) {
            true => Ok(Arc::clone(child)),
            false => self.by_ranges(child, choice, config),
        })?;
        if plan.is::<AggregateExec>() {
            at_once(plan, config)
        } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            self.hashed_for(join, &plan)
        } else {
            Ok(plan)
        }
    }

    /// A join over inputs that are hashed as it wants them: aggregations at once have left theirs in ranges.
    fn hashed_for(&self, join: &HashJoinExec, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if *join.partition_mode() != PartitionMode::Partitioned {
            return Ok(Arc::clone(plan));
        }
        let (left, right): (Vec<_>, Vec<_>) = join.on().iter().cloned().unzip();
        over_children(plan, |number, child| {
            let Some(ranges) = KeyRanges::of_rows(child) else { return Ok(Arc::clone(child)) };
            let keys = if number == 0 { &left } else { &right };
            let hash = Partitioning::Hash(keys.clone(), self.cluster.partitions());
            let exchange = RepartitionExec::try_new(Arc::clone(child), hash)?;
            Ok(Arc::new(MarkExec::new(Arc::new(exchange), Mark::ByRanges(ranges))))
        })
    }

    /// `plan` over a scan by ranges of that column; `None` if it cannot be read so.
    fn read_by_ranges(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        column: usize,
        bounds: &Arc<[i64]>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if file_scan(plan).is_some() {
            let Some((key, layout)) = KeyLayout::of(plan, column, &self.footers) else { return Ok(None) };
            let ranges = KeyRanges { key: Arc::new(key), bounds: Arc::clone(bounds) };
            return laid_out(plan, layout.by_ranges(ranges)).map(Some);
        }
        let Some((child, column)) = below(plan, column) else { return Ok(None) };
        let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
        match self.read_by_ranges(&children[child], column, bounds)? {
            Some(read) => children[child] = read,
            None => return Ok(None),
        }
        with_children(plan, children).map(Some)
    }

    /// The first key by whose ranges most rows stay where they are, and its bounds.
    fn choose(&self, inputs: &[Input<'_>]) -> Result<Option<Choice>> {
        let keys = inputs.iter().map(|input| input.keys.len()).min().unwrap_or(0);
        if inputs.iter().any(|input| input.keys.len() != keys) {
            return Ok(None);
        }
        for key in 0..keys {
            if let Some(bounds) = self.bounds(inputs, key)? {
                return Ok(Some(Choice { key, bounds }));
            }
        }
        Ok(None)
    }

    /// The bounds of ranges of that key, even ones where there are none yet, if it is worth it that rows lie in them.
    fn bounds(&self, inputs: &[Input<'_>], key: usize) -> Result<Option<Arc<[i64]>>> {
        let types = inputs.iter().map(|input| input.keys[key].data_type(&input.rows.schema()));
        let types = types.collect::<Result<Vec<_>>>()?;
        if !types.iter().all(|data_type| is_whole_number(data_type) && *data_type == types[0]) {
            return Ok(None);
        }
        let known = inputs.iter().map(|input| Known::of(input.rows, &input.keys[key], &self.footers));
        let Some(known) = known.collect::<Result<Option<Vec<_>>>>()? else { return Ok(None) };
        let there = known.iter().find_map(|rows| rows.there.clone());
        let Some(bounds) = there.or_else(|| new_bounds(&known, self.cluster.partitions())) else { return Ok(None) };
        let all: f64 = known.iter().map(|rows| rows.bytes).sum();
        let staying: f64 = known.iter().filter(|rows| rows.stay(&bounds)).map(|rows| rows.bytes).sum();
        Ok(Some(bounds).filter(|bounds| staying >= STAYING * all && are_even(&known, bounds)))
    }
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// Whether rows come out of a plan in the partitions in which they came into its only input.
fn stays_in_partition(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<AggregateExec>()
        || plan.is::<GroupingGateExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>()
        || plan.downcast_ref::<SortExec>().is_some_and(SortExec::preserve_partitioning)
}

/// Whether the child of that number is the top of another region than `plan` is in.
fn is_top(plan: &Arc<dyn ExecutionPlan>, child: usize) -> bool {
    plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || child == 0 && is_collected(plan)
}

/// The same plan over its children as `change` makes them.
fn over_children(
    plan: &Arc<dyn ExecutionPlan>,
    change: impl Fn(usize, &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let children = plan.children().into_iter().enumerate().map(|(number, child)| change(number, child));
    let children = children.collect::<Result<Vec<_>>>()?;
    if children.iter().zip(plan.children()).all(|(new, old)| Arc::ptr_eq(new, old)) {
        return Ok(Arc::clone(plan));
    }
    with_children(plan, children)
}

/// Whether the first input of a plan is collected by all of its partitions.
fn is_collected(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft)
}

/// Where a column of a plan comes from, row by row in the same partition: the number of the child, and its column.
fn below(plan: &Arc<dyn ExecutionPlan>, at: usize) -> Option<(usize, usize)> {
    if plan.is::<CooperativeExec>() {
        Some((0, at))
    } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        Some((0, unprojected(filter.projection().as_deref(), at)))
    } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        Some((0, column(&projection.expr()[at].expr)?))
    } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let groups = aggregate.group_expr();
        let is_partial = *aggregate.mode() == AggregateMode::Partial && !groups.has_grouping_set();
        Some((0, column(&groups.expr().get(at).filter(|_| is_partial)?.0)?))
    } else if let Some(join) =
        plan.downcast_ref::<HashJoinExec>().filter(|join| is_collected(plan) && !emits_build_rows(*join.join_type()))
    {
        let at = unprojected(join.projection.as_deref(), at);
        Some((1, at.checked_sub(left_columns(join)?)?))
    } else {
        None
    }
}

/// An aggregation over what comes into its region, without an exchange between its two halves if rows lie in the right
/// partitions before.
fn at_once(plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
    let partial = plan.children()[0].downcast_ref::<MarkExec>().and_then(|marked| {
        let Mark::ByRanges(ranges) = marked.kind() else { return None };
        let rows = marked.input().children()[0];
        let are_there = KeyRanges::of_rows(rows).is_some_and(|there| there == *ranges);
        let partial = rows.downcast_ref::<AggregateExec>()?;
        (*partial.mode() == AggregateMode::Partial && are_there).then(|| Arc::clone(rows))
    });
    match partial {
        Some(partial) => CombinePartialFinalAggregate::new().optimize(with_children(&plan, vec![partial])?, config),
        None => Ok(plan),
    }
}

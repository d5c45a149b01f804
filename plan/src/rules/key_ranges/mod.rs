//! If a table is clustered by a key, joins and aggregations by this key read the table in key ranges. The rows of the
//! table then stay on the executor that reads them.
//!
//! DataFusion hashes both sides of a join to partitions. If the footers show that each row group of a table has a short
//! range of keys, each partition reads one key range instead. Rows of other inputs go to the partition of their key's
//! range:
//!
//! ```text
//!   before:  lineitem  -- hash(l_orderkey) -->  join  <-- hash(o_orderkey) --    orders
//!   after:   lineitem  -- forward          -->  join  <-- ranges(o_orderkey) --  orders
//! ```
//!
//! A *region* is the part of a plan between exchanges. All its inputs must be partitioned in the same way, so the
//! rule changes all inputs of a region or none.

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
use crate::tuning::STAYING_SHARE;

/// Reads tables by ranges of the keys by which they are joined and aggregated.
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

/// An input of a region, which is hashed by `keys`.
struct Input<'a> {
    rows: &'a Arc<dyn ExecutionPlan>,
    keys: &'a [Arc<dyn PhysicalExpr>],
}

/// How a region will be partitioned.
struct Choice {
    /// The position of the key among the hash keys of each input.
    key: usize,
    bounds: Arc<[i64]>,
}

impl Choice {
    fn ranges(&self, keys: &[Arc<dyn PhysicalExpr>]) -> KeyRanges {
        KeyRanges { key: Arc::clone(&keys[self.key]), bounds: Arc::clone(&self.bounds) }
    }
}

impl KeyRangesRule {
    /// Changes the region with the top `plan`, and all regions below it, if that is worth it.
    fn region(&self, plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.over_regions(plan, config)?;
        let mut inputs = vec![];
        let choice = if self.collect(&plan, &mut inputs) { self.choose(&inputs)? } else { None };
        match choice {
            Some(choice) => self.by_ranges(&plan, &choice, config),
            None => Ok(plan),
        }
    }

    /// Changes the regions below the region of `plan`.
    fn over_regions(&self, plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        over_children(plan, |number, child| match is_top(plan, number) {
            true => self.region(child, config),
            false => self.over_regions(child, config),
        })
    }

    /// Collects the inputs of the region below `plan`. `false` if an input is not hashed, or if an operator moves
    /// rows to other partitions.
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

    /// The input and the keys of `plan` if it is a repartition that hashes rows to the partitions of all tasks.
    fn hashed<'a>(&self, plan: &'a Arc<dyn ExecutionPlan>) -> Option<Input<'a>> {
        let repartition = plan.downcast_ref::<RepartitionExec>()?;
        match repartition.partitioning() {
            Partitioning::Hash(keys, count) if *count == self.cluster.partitions() && !repartition.preserve_order() => {
                Some(Input { rows: repartition.input(), keys })
            }
            _ => None,
        }
    }

    /// Partitions `plan` and the nodes below it in its region by the ranges of `choice`.
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

    /// Adds an exchange above each input of a partitioned join that is in ranges but has lost its exchange ([`at_once`]
    /// removes exchanges), because DataFusion requires hashed inputs for the join. The new exchange is marked, so the
    /// rows stay in place.
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

    /// `plan` with its scan changed to ranges of the column from which `column` comes. `None` if that cannot be done.
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

    /// The first key for which [`Self::bounds`] finds bounds, and these bounds.
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

    /// The bounds of the key ranges for one of the keys. `key` is its position among the keys of each input. If an
    /// input is already partitioned by ranges of this key, its bounds are returned. Otherwise the bounds give each
    /// range about the same number of rows.
    ///
    /// `None` for example if less than [`STAYING_SHARE`] of the bytes would stay where they are read, or if one range
    /// would have far more bytes than the others ([`are_even`]).
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
        Ok(Some(bounds).filter(|bounds| staying >= STAYING_SHARE * all && are_even(&known, bounds)))
    }
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// Whether an operator with one input leaves each row in its partition.
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

/// Whether child number `child` of `plan` is the top of another region.
fn is_top(plan: &Arc<dyn ExecutionPlan>, child: usize) -> bool {
    plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || child == 0 && is_collected(plan)
}

/// `plan` with each child replaced by the result of `change`, which gets the number of the child and the child.
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

/// Whether `plan` is a join whose partitions all read the whole build side.
fn is_collected(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft)
}

/// The number of the child of `plan` from which column `at` is copied, and the column's position in the child's output.
/// `None` if the column is computed or if rows may move to other partitions.
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

/// Combines a final aggregation with the partial aggregation below its exchange, if the rows are already in the ranges
/// of the exchange. Removes the exchange between the two.
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

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{ParquetReadOptions, SessionContext};
    use hwacha_execution::session::session_config;
    use hwacha_model::Delivery;

    use super::*;
    use crate::rules::physical_rules;

    #[tokio::test]
    async fn a_plan_by_ranges_is_right_in_one_process() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("t.parquet").display().to_string();
        let plain = SessionContext::new();
        for statement in [
            "SET datafusion.execution.target_partitions = 1".to_owned(),
            "SET datafusion.execution.parquet.max_row_group_size = 1000".to_owned(),
            "SET datafusion.execution.parquet.allow_single_file_parallelism = false".to_owned(),
            // Two rows of each key, and no range begins where a row group does. The CASE hides from DataFusion that
            // the rows are in order.
            format!("COPY (SELECT CASE WHEN i >= 0 THEN i / 2 END AS k FROM range(0, 20000) AS t(i)) TO '{file}'"),
        ] {
            plain.sql(&statement).await.expect("it plans").collect().await.expect("it runs");
        }
        let cluster = Cluster {
            tasks: 3,
            partitions_per_task: 1,
            delivery: Delivery::Streaming,
            adaptive: None,
            min_range_bytes: None,
            shares_stages: false,
            deals_out: false,
        };
        let mut config = session_config().with_target_partitions(3).with_create_default_catalog_and_schema(true);
        config.options_mut().optimizer.repartition_file_min_size = 1;
        let runtime = Arc::<RuntimeEnv>::default();
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_physical_optimizer_rules(physical_rules(cluster, footers))
            .build();
        let session = SessionContext::new_with_state(state);
        session.register_parquet("t", &file, ParquetReadOptions::default()).await.expect("the file is there");
        let frame = session.sql("SELECT k, count(*) AS rows FROM t GROUP BY k").await.expect("it plans");
        let plan = frame.create_physical_plan().await.expect("it plans");
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert!(text.contains("ranges of k@0 from") && text.contains("(rows in range)"), "{text}");
        let groups = collect(plan, session.task_ctx()).await.expect("it runs");
        let counts: Vec<_> =
            groups.iter().flat_map(|batch| batch.column(1).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!((counts.len(), counts.iter().min(), counts.iter().max()), (10_000, Some(&2), Some(&2)));
    }
}

//! Cuts a physical plan into stages at the places where rows must change executors.
//!
//! The walk is bottom-up. Each subtree becomes a [`Segment`]: a plan piece that runs either on one task or spread
//! over all tasks. A plan is spread only if the answer is provably the same. The subtree of an unknown operator runs on
//! one task as DataFusion planned it.

mod adaptivity;
mod cached_reads;
mod check;
mod equal_stages;
mod exchanges;
mod filters;
mod joins;
mod order;
mod ranges;
mod unions;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, LexOrdering, Partitioning, PhysicalExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::{ScalarSubqueryExec, ScalarSubqueryLink};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_model::{OutputKind, StageGraph};
use hwacha_operators::determinism::is_repeatable;
use hwacha_operators::exchange::{ExchangeSinkExec, ExchangeSourceExec};
use hwacha_operators::grouping_gate::GroupingGateExec;
use hwacha_operators::scan::{file_scan, scan_ranges};
use hwacha_operators::tree::{reads_a_scalar_subquery, reads_scalar_subquery, with_children};

use self::check::unmet_requirement;
use self::equal_stages::merged;
use self::exchanges::{FinishedStage, SourceShape, describe};
use self::order::RequiredOrder;
use crate::cluster::Cluster;
use crate::mark::{Mark, MarkExec, without_marks};
use crate::rules::emits_build_rows;

/// A stage's plan; its root is an [`ExchangeSinkExec`].
pub type StagePlan = Arc<dyn ExecutionPlan>;

/// A query cut into stages: `stages[i]` is the plan of `StageId(i)`.
#[derive(Clone, Debug)]
pub struct QueryPlan {
    pub graph: StageGraph,
    pub stages: Vec<StagePlan>,
    pub result: ResultShape,
    /// The most rows that all operators of the one task may emit together. Beyond this limit the query is planned
    /// again for all executors. `None` if there is no limit.
    pub max_rows: Option<u64>,
    /// The requirement that a plan for several tasks would not meet. If set, the plan runs on one task.
    pub unmet: Option<String>,
}

/// The partitions and the order of the last stage's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultShape {
    /// Partitions that each task writes.
    pub partitions: usize,
    pub order: ResultOrder,
}

/// The order in which the rows of the last stage must be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultOrder {
    /// In any order. A task that runs again may write its rows in another order.
    Any,
    /// In any order, but a task that runs again writes the same rows in the same order to each partition.
    Repeatable,
    /// One task after the other, and within a task one partition after the other.
    ByTask,
}

/// Most partitions per task of a repeatable result. The scheduler reads each over its own stream (256: a wide UNION ALL
/// would have thousands).
const MAX_REPEATABLE_PARTITIONS: usize = 256;

/// Cuts `plan` into stages. The plan must be made for `cluster.partitions()` partitions. If an operator of a stage
/// would not get the order or the partitioning that it requires, the whole plan runs on one task as DataFusion planned
/// it.
pub fn split(plan: Arc<dyn ExecutionPlan>, cluster: Cluster) -> Result<QueryPlan> {
    if cluster.tasks > 1 {
        match Cut::spread(&plan, cluster) {
            Ok(Ok(cut)) => return cut.into_query(cluster, None),
            Ok(Err(unmet)) => return Cut::single(&plan, cluster)?.into_query(cluster, Some(unmet)),
            // Operators also refuse inputs while the stages are built, before the check.
            Err(error) if is_refusal(&error) => {
                let unmet = error.strip_backtrace();
                return Cut::single(&plan, cluster)?.into_query(cluster, Some(unmet));
            }
            Err(error) => return Err(error),
        }
    }
    Cut::single(&plan, cluster)?.into_query(cluster, None)
}

/// Whether an operator refused its inputs. Any other error ends planning, for example a spent budget.
fn is_refusal(error: &DataFusionError) -> bool {
    use DataFusionError::{Internal, NotImplemented, Plan};
    matches!(error.find_root(), Plan(_) | Internal(_) | NotImplemented(_))
}

struct Cut {
    stages: Vec<FinishedStage>,
    result: ResultShape,
}

impl Cut {
    /// Cuts `plan` for all tasks. The inner error names a requirement that is not met.
    fn spread(plan: &Arc<dyn ExecutionPlan>, cluster: Cluster) -> Result<Result<Self, String>> {
        let mut splitter = Splitter::new(plan, cluster);
        let root = splitter.root(plan)?;
        let cut = splitter.ended(root)?;
        Ok(match unmet_requirement(&cut.stages)? {
            Some(unmet) => Err(unmet),
            None => Ok(cut),
        })
    }

    fn single(plan: &Arc<dyn ExecutionPlan>, cluster: Cluster) -> Result<Self> {
        let mut splitter = Splitter::new(plan, cluster);
        let root = Segment::single(splitter.whole(plan)?);
        let cut = splitter.ended(root)?;
        match unmet_requirement(&cut.stages)? {
            Some(unmet) => internal_err!("the plan is not valid: {unmet}; this is a bug"),
            None => Ok(cut),
        }
    }

    fn into_query(self, cluster: Cluster, unmet: Option<String>) -> Result<QueryPlan> {
        let Self { stages, result } = self;
        let graph = (0..stages.len()).map(|number| describe(&stages, number, &cluster)).collect::<Result<_>>()?;
        match StageGraph::new(graph) {
            Ok(graph) => {
                let stages = stages.into_iter().map(|finished| finished.plan).collect();
                Ok(QueryPlan { graph, stages, result, max_rows: None, unmet })
            }
            Err(error) => internal_err!("the plan was cut into stages that cannot run: {error}"),
        }
    }
}

/// How many tasks run a plan piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    One,
    All,
}

/// A plan piece between exchanges that still grows upwards.
struct Segment {
    plan: Arc<dyn ExecutionPlan>,
    spread: Spread,
    /// Whether the segment is spread and its partitions, read one after the other, have the order of the single
    /// partition that DataFusion planned.
    in_ranges: bool,
}

impl Segment {
    fn new(plan: Arc<dyn ExecutionPlan>, spread: Spread) -> Self {
        Self { plan, spread, in_ranges: false }
    }

    fn single(plan: Arc<dyn ExecutionPlan>) -> Self {
        Self::new(plan, Spread::One)
    }

    fn spread(plan: Arc<dyn ExecutionPlan>) -> Self {
        Self::new(plan, Spread::All)
    }

    /// The same segment for a consumer that needs no order across partitions.
    fn without_order(self) -> Self {
        Self { in_ranges: false, ..self }
    }
}

struct Splitter {
    cluster: Cluster,
    stages: Vec<FinishedStage>,
    /// The shared parts of the plan that are stages already, by the numbers of their marks.
    shared: HashMap<usize, SharedStage>,
    required_order: RequiredOrder,
}

struct SharedStage {
    source: Arc<dyn ExecutionPlan>,
    spread: Spread,
}

impl Splitter {
    fn new(plan: &Arc<dyn ExecutionPlan>, cluster: Cluster) -> Self {
        Self { cluster, stages: vec![], shared: HashMap::new(), required_order: RequiredOrder::of(plan) }
    }

    /// Finishes the last stage, whose rows are the result of the query.
    fn ended(mut self, root: Segment) -> Result<Cut> {
        let (partitions, order) = match (root.in_ranges, is_repeatable(&root.plan)?) {
            (true, _) => (self.cluster.partitions_per_task, ResultOrder::ByTask),
            // Each partition needs its own output: in a common output the rows would be in another order each time.
            (false, true) => match self.partitions_of_task(&root)? {
                many if many > MAX_REPEATABLE_PARTITIONS => (1, ResultOrder::Any),
                partitions => (partitions, ResultOrder::Repeatable),
            },
            (false, false) => (1, ResultOrder::Any),
        };
        let sink = ExchangeSinkExec::new(root.plan, OutputKind::Result, partitions, vec![]);
        self.finish(sink.with_repeatable(order == ResultOrder::Repeatable), root.spread);
        let stages = self.stages.into_iter().map(FinishedStage::laid_out).collect::<Result<_>>()?;
        let stages = if self.cluster.shares_stages { merged(stages)? } else { stages };
        Ok(Cut { stages, result: ResultShape { partitions, order } })
    }

    /// The segment that computes `plan`. Ranges are merged into one partition. The stages that the segment reads are
    /// added to `stages`.
    fn segment(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        let segment = self.segment_in_ranges(plan)?;
        self.settled(segment)
    }

    /// The segment that computes `plan`, which may be in ranges.
    fn segment_in_ranges(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        let finished = self.stages.len();
        match self.try_segment(plan)? {
            Some(segment) => Ok(segment),
            None => {
                self.stages.truncate(finished);
                self.shared.retain(|_, shared| stage_of(&shared.source) < finished);
                Ok(Segment::single(without_marks(Arc::clone(plan))?))
            }
        }
    }

    /// `plan` for one task. It is cut only at shared parts.
    fn whole(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(marked) = plan.downcast_ref::<MarkExec>() {
            let input = self.whole(marked.input())?;
            let Mark::Shared(number) = marked.kind() else { return Ok(input) };
            if !self.shared.contains_key(number) {
                self.share(*number, Segment::single(input))?;
            }
            return Ok(Arc::clone(&self.shared[number].source));
        }
        let children = plan.children().into_iter().map(|child| self.whole(child)).collect::<Result<Vec<_>>>()?;
        if children.is_empty() { Ok(Arc::clone(plan)) } else { with_children(plan, children) }
    }

    fn marked(&mut self, marked: &MarkExec) -> Result<Option<Segment>> {
        match marked.kind() {
            Mark::Shared(number) => self.shared(*number, marked.input()).map(Some),
            Mark::ByRanges(ranges) => self.by_ranges(ranges, marked.input()),
        }
    }

    /// A shared part of the plan. Its first copy becomes a stage, and the other copies read the same stage.
    fn shared(&mut self, number: usize, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        if !self.shared.contains_key(&number) {
            let input = self.segment(plan)?;
            self.share(number, input)?;
        }
        let stage = &self.shared[&number];
        Ok(Segment::new(Arc::clone(&stage.source), stage.spread))
    }

    fn share(&mut self, number: usize, input: Segment) -> Result<()> {
        let spread = input.spread;
        let keeps_order = self.required_order.is_of_shared(number);
        let source = match input.plan.is::<ExchangeSourceExec>() {
            true => input.plan,
            false if keeps_order => self.forward_in_order(input)?,
            false => self.forward(input)?,
        };
        self.shared.insert(number, SharedStage { source, spread });
        Ok(())
    }

    /// `None` if the subtree must run on one task without a cut.
    fn try_segment(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Segment>> {
        if plan.children().is_empty() {
            return Ok(Some(self.leaf(plan)));
        }
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
            self.repartition(repartition)
        } else if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
            self.coalesce(plan, coalesce).map(Some)
        } else if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
            self.merge(plan, merge).map(Some)
        } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            let joined = match join.partition_mode() {
                PartitionMode::Partitioned => self.partitioned_join(plan)?,
                PartitionMode::CollectLeft => {
                    self.collected_join(plan, emits_build_rows(*join.join_type()) || join.null_aware)?
                }
                PartitionMode::Auto => None,
            };
            if let Some(joined) = &joined {
                self.tap(join, joined.plan.children()[0])?;
            }
            Ok(joined)
        } else if plan.downcast_ref::<SortMergeJoinExec>().is_some() {
            self.partitioned_join(plan)
        } else if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
            self.collected_join(plan, emits_build_rows(*join.join_type()))
        } else if plan.downcast_ref::<CrossJoinExec>().is_some() {
            self.collected_join(plan, false)
        } else if plan.downcast_ref::<UnionExec>().is_some() {
            self.union(plan)
        } else if plan.downcast_ref::<InterleaveExec>().is_some() {
            self.interleave(plan)
        } else if let Some(marked) = plan.downcast_ref::<MarkExec>() {
            self.marked(marked)
        } else if let Some(subqueries) = plan.downcast_ref::<ScalarSubqueryExec>() {
            self.scalar_subqueries(subqueries, Self::segment).map(Some)
        } else if passes_rows_on(plan) {
            self.passed_on(plan).map(Some)
        } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
            self.sort(plan, sort).map(Some)
        } else if let Some(windows) = self.windows_in_ranges(plan)? {
            Ok(Some(windows))
        } else if works_on_each_partition(plan) {
            self.unary(plan).map(Some)
        } else {
            Ok(None)
        }
    }

    /// All tasks share a file scan if it has several partitions and declares no partitioning. A scan in key ranges is
    /// shared only if it has one range for each partition of the cluster. Any other leaf runs on one task.
    fn leaf(&self, plan: &Arc<dyn ExecutionPlan>) -> Segment {
        let is_shared = file_scan(plan).is_some_and(|scan| match scan_ranges(plan) {
            Some(ranges) => ranges.count() == self.cluster.partitions(),
            None => scan.file_groups.len() > 1 && scan.output_partitioning.is_none(),
        });
        let spread = if is_shared { Spread::All } else { Spread::One };
        Segment::new(Arc::clone(plan), spread)
    }

    /// An operator with one input that works on each partition alone or requires a single partition.
    fn unary(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Segment> {
        let child = self.segment(plan.children()[0])?;
        self.over(plan, child)
    }

    /// The operator `plan` over `child`. If `plan` requires a single partition, the rows of `child` are gathered first.
    fn over(&mut self, plan: &Arc<dyn ExecutionPlan>, mut child: Segment) -> Result<Segment> {
        let wants_one = plan
            .input_distribution_requirements()
            .per_child_distributions()
            .any(|distribution| matches!(distribution, Distribution::SinglePartition));
        // `WindowLimitsRule` puts a window over several partitions on purpose: each partition is ranked by itself.
        let has_one = plan.children()[0].output_partitioning().partition_count() == 1;
        if wants_one && has_one && child.spread == Spread::All {
            child = self.gather(child, None)?;
        }
        Ok(Segment::new(with_children(plan, vec![child.plan])?, child.spread))
    }

    fn repartition(&mut self, repartition: &RepartitionExec) -> Result<Option<Segment>> {
        if repartition.preserve_order() {
            return Ok(None);
        }
        let per_task = self.cluster.partitions_per_task;
        match repartition.partitioning() {
            Partitioning::Hash(keys, partitions) if *partitions == self.cluster.partitions() => {
                let (child, orderings) = self.dealt(repartition)?;
                let shape = SourceShape {
                    partitions: per_task,
                    keys: keys.clone(),
                    orderings,
                    ..SourceShape::of(OutputKind::Hash)
                };
                let source = self.source(child, shape);
                self.partitioned(source, repartition).map(Some)
            }
            Partitioning::RoundRobinBatch(_) => {
                let (child, orderings) = self.dealt(repartition)?;
                let keys = if self.cluster.deals_out { hashable_columns(&child.plan) } else { vec![] };
                if !keys.is_empty() {
                    let partitions = per_task;
                    let shape = SourceShape { partitions, keys, orderings, ..SourceShape::of(OutputKind::Hash) };
                    return Ok(Some(Segment::spread(self.source(child, shape))));
                }
                if child.spread == Spread::All && child.plan.output_partitioning().partition_count() >= per_task {
                    return Ok(Some(child));
                }
                let balanced = RepartitionExec::try_new(child.plan, Partitioning::RoundRobinBatch(per_task))?;
                Ok(Some(Segment::new(Arc::new(balanced), child.spread)))
            }
            _ => Ok(None),
        }
    }

    fn coalesce(&mut self, plan: &Arc<dyn ExecutionPlan>, coalesce: &CoalescePartitionsExec) -> Result<Segment> {
        let child = self.segment(coalesce.input())?;
        match child.spread {
            Spread::One => Ok(Segment::single(with_children(plan, vec![child.plan])?)),
            Spread::All => self.gather(child, coalesce.fetch()),
        }
    }

    /// Brings a spread segment's rows to one task, at most `fetch` of them.
    fn gather(&mut self, child: Segment, fetch: Option<usize>) -> Result<Segment> {
        let limited = match fetch {
            Some(fetch) => Arc::new(LocalLimitExec::new(child.plan, fetch)) as Arc<dyn ExecutionPlan>,
            None => child.plan,
        };
        let child = Segment::new(limited, child.spread);
        let source = self.source(child, SourceShape::of(OutputKind::Gather));
        Ok(Segment::single(match fetch {
            Some(_) => Arc::new(GlobalLimitExec::new(source, 0, fetch)),
            None => source,
        }))
    }

    fn merge(&mut self, plan: &Arc<dyn ExecutionPlan>, merge: &SortPreservingMergeExec) -> Result<Segment> {
        let child = self.segment(merge.input())?;
        if child.spread == Spread::One {
            return Ok(Segment::single(with_children(plan, vec![child.plan])?));
        }
        self.merged(child, merge.expr(), merge.fetch())
    }

    /// Merges sorted partitions on one task.
    fn merged(&mut self, segment: Segment, ordering: &LexOrdering, fetch: Option<usize>) -> Result<Segment> {
        if reads_a_scalar_subquery(ordering.iter().map(|sort| &sort.expr))? {
            // An exchange does not have the value of a scalar subquery, so it cannot merge by a key that uses it. One
            // task gathers and sorts the rows.
            let gathered = self.gather(segment, None)?.plan;
            let sort = SortExec::new(ordering.clone(), Arc::new(CoalescePartitionsExec::new(gathered)));
            return Ok(Segment::single(Arc::new(sort.with_fetch(fetch))));
        }
        let shape = SourceShape {
            partitions: self.cluster.tasks,
            orderings: vec![ordering.clone()],
            ..SourceShape::of(OutputKind::Merge)
        };
        let source = self.source(run(segment, ordering, fetch), shape);
        Ok(Segment::single(Arc::new(SortPreservingMergeExec::new(ordering.clone(), source).with_fetch(fetch))))
    }

    /// Makes each subquery a stage. Its row is broadcast to every stage with an expression that reads a subquery.
    fn scalar_subqueries(
        &mut self,
        node: &ScalarSubqueryExec,
        segment: fn(&mut Self, &Arc<dyn ExecutionPlan>) -> Result<Segment>,
    ) -> Result<Segment> {
        let links = node
            .subqueries()
            .iter()
            .map(|link| {
                let subquery = self.segment(&link.plan)?;
                let plan = self.broadcast(subquery);
                Ok(ScalarSubqueryLink { plan, index: link.index })
            })
            .collect::<Result<Vec<_>>>()?;
        let wrap = |plan: Arc<dyn ExecutionPlan>| -> Result<Arc<dyn ExecutionPlan>> {
            if !reads_scalar_subquery(&plan)? {
                return Ok(plan);
            }
            Ok(Arc::new(ScalarSubqueryExec::new(plan, links.clone(), node.results().clone())))
        };
        let first = self.stages.len();
        let segment = segment(self, node.input())?;
        for stage in &mut self.stages[first..] {
            let below = wrap(Arc::clone(stage.plan.children()[0]))?;
            stage.plan = with_children(&stage.plan, vec![below])?;
        }
        Ok(Segment { plan: wrap(Arc::clone(&segment.plan))?, ..segment })
    }
}

/// The columns that can be hashed: all columns without nested types. A hash sends a row to the same partition in each
/// attempt. Round robin does not.
fn hashable_columns(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn PhysicalExpr>> {
    let schema = plan.schema();
    let fields = schema.fields().iter().enumerate().filter(|(_, field)| !field.data_type().is_nested());
    fields.map(|(index, field)| Arc::new(Column::new(field.name(), index)) as _).collect()
}

/// Whether `plan` is an operator with one input that either works on each partition alone or requires a single
/// partition.
fn works_on_each_partition(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<FilterExec>()
        || plan.is::<AggregateExec>()
        || plan.is::<GroupingGateExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>()
        || plan.is::<UnnestExec>()
}

/// Whether `plan` is an operator that works row by row and keeps the order of the rows. It may drop rows.
fn passes_rows_on(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let passes = plan.is::<FilterExec>() || plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>();
    passes && plan.fetch().is_none()
}

/// Merges the partitions of each task into one sorted run.
fn run(segment: Segment, ordering: &LexOrdering, fetch: Option<usize>) -> Segment {
    Segment::spread(Arc::new(SortPreservingMergeExec::new(ordering.clone(), segment.plan).with_fetch(fetch)))
}

fn stage_of(source: &Arc<dyn ExecutionPlan>) -> usize {
    let source = source.downcast_ref::<ExchangeSourceExec>().expect("shared parts are read by sources");
    source.spec().stage.0 as usize
}

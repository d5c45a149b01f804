//! Ends stages with sinks, and makes the sources that read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::equivalence::AcrossPartitions;
use datafusion::physical_expr::expressions::{BinaryExpr, lit};
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_model::{Adaptivity, Delivery, Determinism, Input, JoinSplit, JoinSwitch, OutputKind, Stage, StageId};
use hwacha_operators::determinism::determinism;
use hwacha_operators::exchange::{
    EarlierAggregate, ExchangeSinkExec, ExchangeSourceExec, RANGE_OUTPUTS, SourceSpec, with_earlier,
};
use hwacha_operators::key_ranges::KeyRanges;
use hwacha_operators::localize::localize;
use hwacha_operators::runtime_filter::FilterTap;
use hwacha_operators::scan::{laid_out, scan_layout};

use super::adaptivity::{free_join, is_shrinkable, only_sources, sources, vital_inputs};
use super::cached_reads::cached_reads;
use super::order::orderings;
use super::{Segment, Splitter, Spread, StagePlan, stage_of};
use crate::cluster::Cluster;
use crate::estimate::{Estimate, estimate};
use crate::tuning::REREAD_BYTES;

/// A part of the plan that ends in a sink.
pub(super) struct FinishedStage {
    pub plan: StagePlan,
    /// Stages that must finish before this stage starts, because this stage tests rows by their run-time filters.
    pub after: BTreeSet<StageId>,
    /// The estimate of the rows that the stage writes, if one was made.
    pub expected: Option<Estimate>,
    pub tasks: usize,
    output: OutputKind,
}

impl FinishedStage {
    pub(super) fn sink(&self) -> &ExchangeSinkExec {
        self.plan.downcast_ref().expect("every stage ends in a sink")
    }

    /// Assigns the partitions of its scans to its tasks.
    pub(super) fn laid_out(self) -> Result<Self> {
        Ok(Self { plan: laid_out_for(self.plan, self.tasks)?, ..self })
    }

    /// Makes its sink collect keys for more run-time filters.
    pub(super) fn add_taps(&mut self, more: impl IntoIterator<Item = FilterTap>) {
        let sink = self.sink();
        let taps: Vec<_> = sink.taps().cloned().chain(more).collect();
        self.plan = Arc::new(sink.over(Arc::clone(sink.input())).with_taps(taps));
    }

    /// Its plan without run-time filters in the sink.
    pub(super) fn without_taps(&self) -> StagePlan {
        let sink = self.sink();
        Arc::new(sink.over(Arc::clone(sink.input())).with_taps([]))
    }
}

/// Stage `number` as the scheduler's machine sees it.
pub(super) fn describe(stages: &[FinishedStage], number: usize, cluster: &Cluster) -> Result<Stage> {
    let stage = &stages[number];
    let input = &stage.plan.children()[0];
    let sources = sources(input);
    let ordered = sources.iter().any(|spec| spec.keeps_order());
    let limits = cluster.adaptive.filter(|_| stage.tasks > 1 && !ordered);
    let bytes_per_task = limits.filter(|_| is_shrinkable(input, stage.output)).map(|limits| limits.bytes_per_task);
    let join = limits.and_then(|limits| switchable_join(stages, number, limits.max_build_bytes));
    let min_split_bytes = limits.and_then(|limits| limits.min_split_bytes);
    let split = min_split_bytes.and_then(|min_bytes| splittable_join(stages, number, min_bytes));
    let vital = if cluster.adaptive.is_some() { vital_inputs(input) } else { BTreeSet::new() };
    // If fewer tasks are likely to be enough, the stage waits until the sizes of its inputs are known.
    let bytes = |spec: &&SourceSpec| stages[spec.stage.0 as usize].expected.as_ref().map(Estimate::bytes);
    let expected: Option<f64> = sources.iter().map(bytes).sum();
    let enough = bytes_per_task.map(|bytes| (bytes * stage.tasks as u64) as f64);
    let waits = expected.zip(enough).is_some_and(|(expected, enough)| expected < enough);
    let is_split = |input: StageId| split.is_some_and(|split| split.build == input || split.probe == input);
    let is_cut = |input: StageId| sources.iter().any(|spec| spec.stage == input && spec.kind == OutputKind::Range);
    let is_complete = |input: StageId| waits || is_split(input) || is_cut(input);
    let delivery = |input| if is_complete(input) { Delivery::Complete } else { cluster.delivery };
    let inputs: BTreeSet<StageId> = sources.iter().map(|spec| spec.stage).collect();
    let at = |id: StageId| &stages[id.0 as usize];
    let read = |stage| Input { stage, delivery: delivery(stage), vital: vital.contains(&stage) };
    Ok(Stage {
        inputs: inputs.into_iter().map(read).collect(),
        after: stage.after.iter().copied().collect(),
        tasks: stage.tasks as u32,
        reads: cached_reads(&|id| (Arc::clone(&at(id).plan), at(id).tasks), StageId(number as u32)),
        output: stage.output,
        determinism: match stage.sink().is_repeatable() {
            true => Determinism::Repeatable,
            false => determinism(&stage.plan)?,
        },
        wavable: stage.tasks > 1 && !matches!(stage.output, OutputKind::Merge | OutputKind::Range) && is_wavable(input),
        adaptivity: Adaptivity { bytes_per_task, join, split },
    })
}

/// Whether a task can read its input in several passes (waves). The keys of a row from a hashed source decide its wave.
/// The rows of a broadcast are read in every wave.
fn is_wavable(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let sources = sources(plan);
    only_sources(plan)
        && sources.iter().any(|spec| spec.is_hashed())
        && sources.iter().all(|spec| spec.is_hashed() || spec.kind == OutputKind::Broadcast)
}

/// A join of the stage that may switch to a broadcast: each task reads the whole build side, and the rows of the
/// probe side need not move. Only this stage may read the probe side, and both stages must have the same number of
/// tasks.
///
/// The first task reads the build side anyway. All other tasks together may read as many bytes of it as the probe side
/// is expected to have, or `REREAD_BYTES` if that is more. Example: with 4 tasks and a probe side of 300 MB, 3 tasks
/// may each read 100 MB again. So the build side may have 100 MB, or `max_build_bytes` if that is less.
fn switchable_join(stages: &[FinishedStage], number: usize, max_build_bytes: u64) -> Option<JoinSwitch> {
    let stage = &stages[number];
    let (build, probe) = free_join(&stage.plan, stage.output)?;
    let readers = stages.iter().flat_map(|other| sources(&other.plan)).filter(|spec| spec.stage == probe).count();
    let alike = stages[probe.0 as usize].tasks == stage.tasks;
    let moved = stages[probe.0 as usize].expected.as_ref().map_or(f64::INFINITY, Estimate::bytes);
    let worthwhile = moved.max(REREAD_BYTES) / (stage.tasks as f64 - 1.0).max(1.0);
    let max_build_bytes = max_build_bytes.min(worthwhile as u64);
    (readers == 1 && alike).then_some(JoinSwitch { build, probe, max_build_bytes })
}

/// A join of the stage whose heavy partitions all tasks may share. A shared join starts only when both inputs have
/// finished. So the probe side must be expected to have at least `min_bytes`, and the client must not wait for the
/// join's first rows.
fn splittable_join(stages: &[FinishedStage], number: usize, min_bytes: u64) -> Option<JoinSplit> {
    let (build, probe) = free_join(&stages[number].plan, stages[number].output)?;
    let (exchange, expected) = (stages[probe.0 as usize].sink(), stages[probe.0 as usize].expected.as_ref()?);
    let is_large = expected.bytes() >= min_bytes as f64 && exchange.partitions() > 1;
    let split = JoinSplit { build, probe, partitions: exchange.partitions() as u32, min_bytes };
    (is_large && !is_awaited(stages, number)).then_some(split)
}

/// Whether the client can get rows before the stage has read all its input. This needs a path from the stage to the end
/// of the query on which no stage holds back its rows until its input ends, as an aggregation does.
fn is_awaited(stages: &[FinishedStage], number: usize) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![number]);
    while let Some(number) = next.pop() {
        let holds_back = stages[number].plan.children()[0].pipeline_behavior() == EmissionType::Final;
        if holds_back || !seen.insert(number) {
            continue;
        }
        let reads = |other: &FinishedStage| sources(&other.plan).iter().any(|spec| spec.stage.0 as usize == number);
        let readers: Vec<_> = (number + 1..stages.len()).filter(|reader| reads(&stages[*reader])).collect();
        if readers.is_empty() {
            return true;
        }
        next.extend(readers);
    }
    false
}

impl Splitter {
    /// The segment of `source`, which replaces `exchange`. Records the estimate of its rows in the producer stage.
    pub(super) fn partitioned(
        &mut self,
        source: Arc<dyn ExecutionPlan>,
        exchange: &RepartitionExec,
    ) -> Result<Segment> {
        let producer = &mut self.stages[stage_of(&source)];
        producer.expected = Some(estimate(exchange.input())?);
        Ok(Segment::spread(source))
    }

    /// Replaces the hash repartition `plan` by an exchange that sends rows to key ranges. Rows that are already in
    /// these ranges stay in place (forward). `None` if `plan` is no repartition.
    pub(super) fn by_ranges(&mut self, ranges: &KeyRanges, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Segment>> {
        let Some(exchange) = plan.downcast_ref::<RepartitionExec>() else { return Ok(None) };
        let (child, orderings) = self.dealt(exchange)?;
        let are_there = KeyRanges::of_rows(&child.plan).is_some_and(|there| there == *ranges);
        let source = match child.spread == Spread::All && are_there {
            true => self.forward(child)?,
            false => self.source(
                child,
                SourceShape {
                    partitions: self.cluster.partitions_per_task,
                    keys: vec![Arc::clone(&ranges.key)],
                    bounds: Arc::clone(&ranges.bounds),
                    orderings,
                    ..SourceShape::of(OutputKind::Hash)
                },
            ),
        };
        self.partitioned(source, exchange).map(Some)
    }

    /// Sends a segment's rows to every task. If the segment only gathers the rows of a stage, that stage broadcasts
    /// them itself:
    ///
    /// ```text
    ///   before: stage 0 -- gather --> one task -- broadcast --> all tasks
    ///   after:  stage 0 -- broadcast --> all tasks
    /// ```
    pub(super) fn broadcast(&mut self, segment: Segment) -> Arc<dyn ExecutionPlan> {
        let gathered = segment.plan.downcast_ref::<ExchangeSourceExec>().map(ExchangeSourceExec::spec);
        let Some(spec) = gathered.filter(|spec| spec.kind == OutputKind::Gather && !spec.first_task_only) else {
            return self.source(segment, SourceShape::of(OutputKind::Broadcast));
        };
        let stage = &mut self.stages[spec.stage.0 as usize];
        let (rows, taps) = (Arc::clone(stage.plan.children()[0]), stage.sink().taps().cloned());
        stage.plan = Arc::new(ExchangeSinkExec::new(rows, OutputKind::Broadcast, 1, vec![]).with_taps(taps));
        stage.output = OutputKind::Broadcast;
        Arc::new(ExchangeSourceExec::new(SourceSpec { kind: OutputKind::Broadcast, ..spec.clone() }))
    }

    pub(super) fn first_task_only(&mut self, segment: Segment) -> Arc<dyn ExecutionPlan> {
        let kind = OutputKind::Gather;
        self.source(segment, SourceShape { first_task_only: true, ..SourceShape::of(kind) })
    }

    /// Ends a segment with an exchange that keeps rows in their partitions. Returns the source of the exchange.
    pub(super) fn forward(&mut self, segment: Segment) -> Result<Arc<dyn ExecutionPlan>> {
        self.forwarded(segment, vec![])
    }

    /// Like [`Self::forward`], but rows also keep their order: one partition of one task writes each output partition.
    pub(super) fn forward_in_order(&mut self, segment: Segment) -> Result<Arc<dyn ExecutionPlan>> {
        let orderings = orderings(&segment.plan);
        self.forwarded(segment, orderings)
    }

    fn forwarded(&mut self, segment: Segment, orderings: Vec<LexOrdering>) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = match segment.spread {
            Spread::All if orderings.is_empty() => self.cluster.partitions_per_task,
            // One output partition per input partition: two inputs in one output would mix their rows.
            Spread::All | Spread::One => self.partitions_of_task(&segment)?,
        };
        let keys = match segment.plan.output_partitioning() {
            Partitioning::Hash(keys, count) if *count == partitions => keys.clone(),
            _ => KeyRanges::of_rows(&segment.plan).map(|ranges| ranges.key).into_iter().collect(),
        };
        let kind = OutputKind::Forward;
        Ok(self.source(segment, SourceShape { partitions, keys, orderings, ..SourceShape::of(kind) }))
    }

    pub(super) fn partitions_of_task(&self, segment: &Segment) -> Result<usize> {
        let tasks = self.tasks(segment.spread);
        let own = localize(laid_out_for(Arc::clone(&segment.plan), tasks)?, 0, tasks, None)?;
        Ok(own.output_partitioning().partition_count())
    }

    /// Ends a segment with an exchange. Returns the source of the exchange.
    pub(super) fn source(&mut self, segment: Segment, shape: SourceShape) -> Arc<dyn ExecutionPlan> {
        let schema = with_earlier(segment.plan.schema(), &shape.earlier);
        let constants = uniform_constants(&segment.plan);
        let outputs = match shape.kind {
            OutputKind::Hash => self.cluster.partitions(),
            OutputKind::Forward => shape.partitions * self.tasks(segment.spread),
            OutputKind::Range => RANGE_OUTPUTS,
            OutputKind::Broadcast | OutputKind::Gather | OutputKind::Merge | OutputKind::Result => 1,
        };
        let keys = match shape.kind {
            OutputKind::Hash => shape.keys.clone(),
            OutputKind::Range => shape.orderings.iter().flatten().map(|sort| Arc::clone(&sort.expr)).collect(),
            _ => vec![],
        };
        let sink = ExchangeSinkExec::new(segment.plan, shape.kind, outputs, keys)
            .with_bounds(shape.bounds)
            .with_earlier(shape.earlier.clone());
        let stage = self.finish(sink, segment.spread);
        Arc::new(ExchangeSourceExec::new(SourceSpec {
            stage,
            kind: shape.kind,
            partitions: shape.partitions,
            schema,
            keys: shape.keys,
            orderings: shape.orderings,
            constants,
            first_task_only: shape.first_task_only,
            earlier: shape.earlier,
        }))
    }

    fn tasks(&self, spread: Spread) -> usize {
        match spread {
            Spread::One => 1,
            Spread::All => self.cluster.tasks,
        }
    }

    pub(super) fn finish(&mut self, sink: ExchangeSinkExec, spread: Spread) -> StageId {
        let (tasks, output, plan) = (self.tasks(spread), sink.kind(), Arc::new(sink));
        self.stages.push(FinishedStage { plan, after: BTreeSet::new(), expected: None, tasks, output });
        StageId(self.stages.len() as u32 - 1)
    }
}

/// `plan` with the partitions of each scan assigned to `tasks` tasks.
fn laid_out_for(plan: Arc<dyn ExecutionPlan>, tasks: usize) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| match scan_layout(&node) {
        Some(layout) => laid_out(&node, layout.shared_by(tasks)?).map(Transformed::yes),
        None => Ok(Transformed::no(node)),
    })
    .data()
}

/// The properties of an exchange for the task that reads it.
pub(super) struct SourceShape {
    pub kind: OutputKind,
    pub partitions: usize,
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// If rows go to key ranges: the first key of each range except the first range. Otherwise empty. Example: the
    /// bounds 10 and 25 give the ranges up to 9, from 10 to 24, and from 25.
    pub bounds: Arc<[i64]>,
    /// The alternative orders within each partition.
    pub orderings: Vec<LexOrdering>,
    pub first_task_only: bool,
    pub earlier: Vec<EarlierAggregate>,
}

impl SourceShape {
    /// A shape with one partition and no order.
    pub(super) fn of(kind: OutputKind) -> Self {
        let (keys, earlier, bounds) = (vec![], vec![], [].into());
        Self { kind, partitions: 1, keys, bounds, orderings: vec![], first_task_only: false, earlier }
    }
}

/// The columns of a segment that have one value in all rows of all partitions: `x = 5` if the value is known, otherwise
/// the column `x`. DataFusion relied on these constants when it planned the windows and sorts above.
fn uniform_constants(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn PhysicalExpr>> {
    plan.equivalence_properties()
        .constants()
        .into_iter()
        .filter(|constant| hwacha_operators::exchange::is_column(&constant.expr))
        .filter_map(|constant| match constant.across_partitions {
            AcrossPartitions::Uniform(Some(value)) => {
                Some(Arc::new(BinaryExpr::new(constant.expr, Operator::Eq, lit(value))) as _)
            }
            AcrossPartitions::Uniform(None) => Some(constant.expr),
            AcrossPartitions::Heterogeneous => None,
        })
        .collect()
}

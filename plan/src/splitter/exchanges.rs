//! The ends of stages: sinks, and the sources that read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::equivalence::AcrossPartitions;
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use hwacha_model::{Delivery, Input, OutputKind, Stage, StageId};

use super::{Segment, Splitter, Spread, StagePlan};
use crate::determinism::determinism;
use crate::exchange::{ExchangeSinkExec, ExchangeSourceExec, SourceSpec};

/// A plan piece that has its sink.
pub(super) struct FinishedStage {
    pub plan: StagePlan,
    /// The stages whose keys its scans test.
    pub after: BTreeSet<StageId>,
    tasks: usize,
    output: OutputKind,
}

impl FinishedStage {
    pub(super) fn describe(&self, delivery: Delivery) -> Result<Stage> {
        let mut inputs: Vec<Input> = vec![];
        let mut wavable = self.tasks > 1 && self.output != OutputKind::Merge;
        let mut hashed = false;
        self.plan.apply(|node| {
            if let Some(source) = node.downcast_ref::<ExchangeSourceExec>() {
                let spec = source.spec();
                if inputs.iter().all(|input| input.stage != spec.stage) {
                    inputs.push(Input { stage: spec.stage, delivery });
                }
                hashed |= spec.is_hashed();
                wavable &= spec.is_hashed() || spec.kind == OutputKind::Broadcast;
            } else if node.children().is_empty() {
                wavable = false;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Stage {
            inputs,
            after: self.after.iter().copied().collect(),
            tasks: self.tasks as u32,
            output: self.output,
            determinism: determinism(&self.plan)?,
            wavable: wavable && hashed,
        })
    }
}

impl Splitter {
    /// Ends a segment with an exchange and gives the source that reads it.
    pub(super) fn exchange(
        &mut self,
        segment: Segment,
        kind: OutputKind,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        ordering: Option<LexOrdering>,
    ) -> Arc<dyn ExecutionPlan> {
        let partitions = match kind {
            OutputKind::Hash | OutputKind::Forward => self.cluster.partitions_per_task,
            OutputKind::Merge => self.cluster.tasks,
            OutputKind::Broadcast | OutputKind::Gather | OutputKind::Result => 1,
        };
        self.source(segment, SourceShape { kind, partitions, keys, ordering, first_task_only: false })
    }

    /// Sends a segment's rows to every task. Rows that were gathered for nothing else come from their producers at once.
    pub(super) fn broadcast(&mut self, segment: Segment) -> Arc<dyn ExecutionPlan> {
        let gathered = segment.plan.downcast_ref::<ExchangeSourceExec>().map(ExchangeSourceExec::spec);
        let Some(spec) = gathered.filter(|spec| spec.kind == OutputKind::Gather && !spec.first_task_only) else {
            return self.exchange(segment, OutputKind::Broadcast, vec![], None);
        };
        let stage = &mut self.stages[spec.stage.0 as usize];
        let rows = Arc::clone(stage.plan.children()[0]);
        stage.plan = Arc::new(ExchangeSinkExec::new(rows, OutputKind::Broadcast, 1, vec![]));
        stage.output = OutputKind::Broadcast;
        Arc::new(ExchangeSourceExec::new(SourceSpec { kind: OutputKind::Broadcast, ..spec.clone() }))
    }

    pub(super) fn first_task_only(&mut self, segment: Segment) -> Arc<dyn ExecutionPlan> {
        let kind = OutputKind::Gather;
        self.source(segment, SourceShape { kind, partitions: 1, keys: vec![], ordering: None, first_task_only: true })
    }

    /// Ends a segment whose rows stay in their partitions, and gives the source that reads it.
    pub(super) fn forward(&mut self, segment: Segment) -> Arc<dyn ExecutionPlan> {
        let per_task = self.cluster.partitions_per_task;
        let partitions = match segment.spread {
            Spread::One => segment.plan.output_partitioning().partition_count(),
            Spread::All => per_task,
        };
        let keys = match segment.plan.output_partitioning() {
            Partitioning::Hash(keys, count) if *count == partitions => keys.clone(),
            _ => vec![],
        };
        let kind = OutputKind::Forward;
        self.source(segment, SourceShape { kind, partitions, keys, ordering: None, first_task_only: false })
    }

    fn source(&mut self, segment: Segment, shape: SourceShape) -> Arc<dyn ExecutionPlan> {
        let schema = segment.plan.schema();
        let constants = uniform_constants(&segment.plan);
        let outputs = match shape.kind {
            OutputKind::Hash => self.cluster.partitions(),
            OutputKind::Forward => shape.partitions * self.tasks(segment.spread),
            OutputKind::Broadcast | OutputKind::Gather | OutputKind::Merge | OutputKind::Result => 1,
        };
        let hashed = if shape.kind == OutputKind::Hash { shape.keys.clone() } else { vec![] };
        let stage = self.finish(segment, shape.kind, outputs, hashed);
        Arc::new(ExchangeSourceExec::new(SourceSpec {
            stage,
            kind: shape.kind,
            partitions: shape.partitions,
            schema,
            keys: shape.keys,
            ordering: shape.ordering,
            constants,
            first_task_only: shape.first_task_only,
        }))
    }

    fn tasks(&self, spread: Spread) -> usize {
        match spread {
            Spread::One => 1,
            Spread::All => self.cluster.tasks,
        }
    }

    pub(super) fn finish(
        &mut self,
        segment: Segment,
        output: OutputKind,
        outputs: usize,
        keys: Vec<Arc<dyn PhysicalExpr>>,
    ) -> StageId {
        let tasks = self.tasks(segment.spread);
        let plan = Arc::new(ExchangeSinkExec::new(segment.plan, output, outputs, keys));
        self.stages.push(FinishedStage { plan, after: BTreeSet::new(), tasks, output });
        StageId(self.stages.len() as u32 - 1)
    }
}

/// What a source looks like to one task.
struct SourceShape {
    kind: OutputKind,
    partitions: usize,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    ordering: Option<LexOrdering>,
    first_task_only: bool,
}

/// Columns that hold one value over all of a segment's partitions: windows and sorts above were planned with that known.
fn uniform_constants(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn PhysicalExpr>> {
    plan.equivalence_properties()
        .constants()
        .into_iter()
        .filter(|constant| matches!(constant.across_partitions, AcrossPartitions::Uniform(_)))
        .map(|constant| constant.expr)
        .filter(crate::exchange::is_column)
        .collect()
}

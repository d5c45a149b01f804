//! The leaf of a stage that reads this task's share of an exchange.

use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::equivalence::{AcrossPartitions, ConstExpr};
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{EmptyRecordBatchStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use hwacha_model::{OutputKind, StageId};

use super::earlier::EarlierAggregate;
use super::range::{self, RangeReader};
use super::{Slice, TaskExchange, task_exchange};
use crate::compact_views::without_waste;

/// Seed of the hash that divides a task's rows into waves. It differs from the seed that chooses partitions;
/// otherwise some waves would be empty.
const WAVE_SEED: u64 = 0x6877_6163_6861;

/// What a source reads, and which properties its rows have.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The stage that writes the exchange.
    pub stage: StageId,
    pub kind: OutputKind,
    /// Number of partitions that the source has in one task: the partitions of the task for `Hash`, `Forward` and
    /// `Range`, one per producer task for `Merge`, otherwise one.
    pub partitions: usize,
    pub schema: SchemaRef,
    /// Keys that decide the partition of a row, by their hash or by ranges; empty if partitions say nothing about
    /// keys. The producers partition the rows by these keys for `Hash`. For `Forward` the rows were partitioned
    /// before they reached the producers, and stay in place.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The orders that each partition has. `Merge` and `Range` have one order. Other kinds have orders only if an
    /// operator above the exchange requires one.
    pub orderings: Vec<LexOrdering>,
    /// Columns with one value in all rows: `column = literal` where the value is known, else the column.
    pub constants: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether only task 0 reads the rows. The source has no rows in other tasks.
    pub first_task_only: bool,
    /// Aggregates over the rows of all earlier ranges, only for `Range`. Their states are the last columns, which the
    /// source adds. Producers do not write these columns.
    pub earlier: Vec<EarlierAggregate>,
}

impl SourceSpec {
    /// Whether the keys of a row decide its partition.
    pub fn is_hashed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether each partition must be read in the order in which its only producer wrote it.
    pub fn keeps_order(&self) -> bool {
        matches!(self.kind, OutputKind::Hash | OutputKind::Forward) && !self.orderings.is_empty()
    }
}

/// Reads this task's share of an exchange.
#[derive(Debug)]
pub struct ExchangeSourceExec {
    spec: SourceSpec,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExchangeSourceExec {
    /// A source for `spec`. The exchange itself comes with the task's context.
    pub fn new(spec: SourceSpec) -> Self {
        let mut equivalences = EquivalenceProperties::new(Arc::clone(&spec.schema));
        // If a constant is not a valid expression any more, the source claims no constants.
        if add_constants(&mut equivalences, &spec.constants).is_err() {
            equivalences = EquivalenceProperties::new(Arc::clone(&spec.schema));
        }
        equivalences.add_orderings(spec.orderings.iter().cloned());
        let partitioning = match spec.is_hashed() {
            true => Partitioning::Hash(spec.keys.clone(), spec.partitions),
            false => Partitioning::UnknownPartitioning(spec.partitions),
        };
        let properties =
            PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded)
                .with_scheduling_type(SchedulingType::Cooperative);
        Self { spec, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// What the source reads, and how.
    pub fn spec(&self) -> &SourceSpec {
        &self.spec
    }

    /// Streams that one instance of the plan reads from each producer.
    pub fn reads_per_producer(&self) -> usize {
        match self.spec.kind {
            OutputKind::Hash | OutputKind::Forward => self.spec.partitions,
            OutputKind::Range => self.spec.partitions * range::READS,
            OutputKind::Broadcast | OutputKind::Gather | OutputKind::Merge | OutputKind::Result => 1,
        }
    }
}

impl ExchangeSourceExec {
    fn range(
        &self,
        partition: usize,
        exchange: Arc<dyn TaskExchange>,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let (share, partitions) = (exchange.share(), self.spec.partitions);
        let consumer = MemoryConsumer::new("ExchangeSourceExec");
        let reader = RangeReader {
            exchange,
            spec: self.spec.clone(),
            range: share.task * partitions + partition,
            ranges: share.tasks * partitions,
            batch_rows: context.session_config().batch_size(),
            memory: consumer.register(context.memory_pool()),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), reader.rows())))
    }
}

impl DisplayAs for ExchangeSourceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.spec.kind {
            OutputKind::Hash => "hash",
            OutputKind::Forward => "forward",
            OutputKind::Broadcast => "broadcast",
            OutputKind::Gather => "gather",
            OutputKind::Merge => "merge",
            OutputKind::Range => "range",
            OutputKind::Result => "result",
        };
        write!(f, "ExchangeSourceExec: stage={}, {kind}", self.spec.stage)
    }
}

impl ExecutionPlan for ExchangeSourceExec {
    fn name(&self) -> &str {
        "ExchangeSourceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for key in &self.spec.keys {
            if f(key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !children.is_empty() {
            return internal_err!("ExchangeSourceExec has no inputs");
        }
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let exchange = task_exchange(&context)?;
        let (wave, waves) = exchange.wave();
        if self.spec.first_task_only && exchange.share().task != 0 {
            return Ok(Box::pin(EmptyRecordBatchStream::new(self.schema())));
        }
        let rows = match self.spec.kind {
            OutputKind::Hash | OutputKind::Forward => {
                exchange.read_share(self.spec.stage, partition, self.spec.partitions)?
            }
            OutputKind::Broadcast | OutputKind::Gather | OutputKind::Result => exchange.read(self.spec.stage)?,
            OutputKind::Merge => exchange.read_run(self.spec.stage, partition, Slice::whole(0..1))?,
            OutputKind::Range => return self.range(partition, exchange, &context),
        };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let filter = (waves > 1 && self.spec.is_hashed()).then(|| WaveFilter {
            keys: self.spec.keys.clone(),
            wave: wave as u64,
            waves: waves as u64,
        });
        let rows = rows.map(move |batch| {
            let batch = match &filter {
                Some(filter) => filter.apply(&batch?)?,
                None => batch?,
            };
            baseline.output_rows().add(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Keeps the rows of one wave. Rows with equal keys are in the same wave in every source of the stage.
struct WaveFilter {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    wave: u64,
    waves: u64,
}

impl WaveFilter {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys = self
            .keys
            .iter()
            .map(|key| key.evaluate(batch)?.into_array(batch.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        let mut hashes = vec![0; batch.num_rows()];
        create_hashes(&keys, &RandomState::with_seed(WAVE_SEED), &mut hashes)?;
        // The high half of the hash chooses the wave. The low half may be correlated with the hash that chose the
        // partition.
        let keep: BooleanArray = hashes.iter().map(|hash| Some((hash >> 32) % self.waves == self.wave)).collect();
        // Without a copy, the rows of one wave would keep the text of all waves in memory.
        without_waste(filter_record_batch(batch, &keep)?)
    }
}

fn add_constants(equivalences: &mut EquivalenceProperties, constants: &[Arc<dyn PhysicalExpr>]) -> Result<()> {
    for constant in constants {
        match constant.downcast_ref::<BinaryExpr>() {
            // Joins keep a constant only if the column equals a literal.
            Some(equality) => {
                equivalences.add_equal_conditions(Arc::clone(equality.left()), Arc::clone(equality.right()))?;
            }
            None => {
                equivalences.add_constants([ConstExpr::new(Arc::clone(constant), AcrossPartitions::Uniform(None))])?
            }
        }
    }
    Ok(())
}

/// Whether an expression is a plain column. Constants of other expressions are not worth sending.
pub fn is_column(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use arrow::array::{ArrayRef, AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{col, lit};
    use datafusion::physical_plan::joins::CrossJoinExec;

    use super::*;

    #[test]
    fn joins_know_that_a_column_equals_a_literal() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let column = col("a", &schema).expect("there is one");
        let source = |constants| {
            Arc::new(ExchangeSourceExec::new(SourceSpec {
                stage: StageId(0),
                kind: OutputKind::Gather,
                partitions: 1,
                schema: Arc::clone(&schema),
                keys: vec![],
                orderings: vec![],
                constants,
                first_task_only: false,
                earlier: vec![],
            })) as Arc<dyn ExecutionPlan>
        };
        let is_one = Arc::new(BinaryExpr::new(column, Operator::Eq, lit(1i64)));
        let join = CrossJoinExec::new(source(vec![]), source(vec![is_one]));
        let joined: Arc<dyn PhysicalExpr> = Arc::new(Column::new("a", 1));
        let constant = join.properties().equivalence_properties().is_expr_constant(&joined);
        assert_eq!(constant, Some(AcrossPartitions::Uniform(Some(ScalarValue::Int64(Some(1))))));
    }

    #[test]
    fn a_wave_does_not_hold_on_to_the_text_of_the_others() {
        let texts = || (0..3000).map(|row| format!("the text of the row of number {row}"));
        let column: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts()));
        let batch = RecordBatch::try_from_iter([("t", column)]).expect("a batch");
        let keys = vec![col("t", &batch.schema()).expect("there is one")];
        let kept = WaveFilter { keys, wave: 5, waves: 64 }.apply(&batch).expect("it is filtered");
        assert!((1..300).contains(&kept.num_rows()), "{} rows", kept.num_rows());
        let (part, whole) = (kept.get_array_memory_size(), batch.get_array_memory_size());
        assert!(part < whole / 8, "{part} of {whole} bytes");
        let kept: HashSet<_> = kept.column(0).as_string_view().iter().flatten().map(str::to_owned).collect();
        assert!(kept.is_subset(&texts().collect()));
    }

    #[test]
    fn every_row_is_in_one_wave_with_all_of_its_key() {
        let keys = Int64Array::from_iter((0..3000).map(|row| (row % 10 > 0).then_some(row % 500)));
        let batch = RecordBatch::try_from_iter([("k", Arc::new(keys) as ArrayRef)]).expect("a batch");
        let keys = vec![col("k", &batch.schema()).expect("there is one")];
        let wave = |wave| {
            let kept = WaveFilter { keys: keys.clone(), wave, waves: 3 }.apply(&batch).expect("it is filtered");
            kept.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
        };
        let waves = [wave(0), wave(1), wave(2)];
        assert_eq!(waves.iter().map(Vec::len).sum::<usize>(), 3000);
        assert!(waves.iter().all(|wave| wave.len() > 500), "each has some of them");
        for key in waves[0].iter().chain(&waves[1]) {
            assert_eq!(waves.iter().filter(|wave| wave.contains(key)).count(), 1, "{key:?}");
        }
    }
}

//! The root of a stage: partitions rows, gathers them into large batches and appends them to the task's output.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, EvaluationType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::repartition::BatchPartitioner;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;
use hwacha_model::OutputKind;

use super::earlier::EarlierAggregate;
use super::range::{self, IndexWriter};
use super::{TaskExchange, task_exchange};
use crate::compact_views::without_waste;
use crate::key_ranges::KeyRanges;
use crate::runtime_filter::{FilterTap, KeyCollector, RuntimeFilter};
use crate::tree::only_input;

/// Writes its input to the task's output. The stream of each partition yields no rows and ends when all rows of this
/// partition are written.
#[derive(Debug)]
pub struct ExchangeSinkExec {
    input: Arc<dyn ExecutionPlan>,
    kind: OutputKind,
    /// Number of output partitions of the stage, for all consumers together.
    partitions: usize,
    /// Whether each attempt must write the rows of each partition in the same order.
    is_repeatable: bool,
    /// The keys that `Hash` partitions by, or the keys that the runs of `Range` are sorted by. Empty for other kinds.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The first key of each range except the first range, if `Hash` partitions by ranges of its one key. Empty if it
    /// hashes.
    bounds: Arc<[i64]>,
    /// Aggregates whose states over each batch go into the index of `Range`.
    earlier: Vec<EarlierAggregate>,
    /// Collectors of keys for run-time filters.
    collectors: Vec<Arc<KeyCollector>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExchangeSinkExec {
    /// A sink of `kind` with `partitions` output partitions: any number for `Hash` and `Forward`; 2 for `Range`; the
    /// number of input partitions for a `Result` whose partitions must not mix, because their rows are ordered or
    /// repeatable; 1 otherwise.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        kind: OutputKind,
        partitions: usize,
        keys: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative)
        .with_evaluation_type(EvaluationType::Eager);
        Self {
            input,
            kind,
            partitions,
            is_repeatable: false,
            keys,
            bounds: [].into(),
            earlier: vec![],
            collectors: vec![],
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same sink over another input.
    pub fn over(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self::new(input, self.kind, self.partitions, self.keys.clone())
            .with_repeatable(self.is_repeatable)
            .with_bounds(Arc::clone(&self.bounds))
            .with_earlier(self.earlier.clone())
            .with_taps(self.taps().cloned())
    }

    /// The same sink. `is_repeatable` says whether each attempt must write the rows in the same order.
    pub fn with_repeatable(self, is_repeatable: bool) -> Self {
        Self { is_repeatable, ..self }
    }

    /// The same sink, which partitions rows by ranges of its one key with these bounds.
    pub fn with_bounds(self, bounds: Arc<[i64]>) -> Self {
        Self { bounds, ..self }
    }

    /// The same sink, whose index also has the states of these aggregates.
    pub fn with_earlier(self, earlier: Vec<EarlierAggregate>) -> Self {
        Self { earlier, ..self }
    }

    /// The same sink, which collects keys for exactly these filters.
    pub fn with_taps(mut self, taps: impl IntoIterator<Item = FilterTap>) -> Self {
        self.collectors = taps.into_iter().map(|tap| Arc::new(KeyCollector::new(tap))).collect();
        self
    }

    /// The filters that the sink collects keys for.
    pub fn taps(&self) -> impl Iterator<Item = &FilterTap> {
        self.collectors.iter().map(|collector| collector.tap())
    }

    /// The filters with the keys collected so far, by their ids.
    pub fn filters(&self) -> Vec<(u64, RuntimeFilter)> {
        self.collectors.iter().map(|collector| (collector.tap().id, collector.filter())).collect()
    }

    /// The plan whose rows the sink writes.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// How rows are distributed to consumers.
    pub fn kind(&self) -> OutputKind {
        self.kind
    }

    /// Number of output partitions for all consumers together.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Whether another attempt writes the rows of each partition in the same order.
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// The keys that rows are partitioned or sorted by; empty for kinds other than `Hash` and `Range`.
    pub fn keys(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.keys
    }

    /// The first key of each range except the first range, if the sink partitions by ranges of its key. Otherwise
    /// empty.
    pub fn bounds(&self) -> &[i64] {
        &self.bounds
    }

    /// Aggregates whose states are in the index of `Range`, in addition to the keys.
    pub fn earlier(&self) -> &[EarlierAggregate] {
        &self.earlier
    }

    fn writer(&self, partition: usize, context: &TaskContext) -> Result<PartitionedWriter> {
        let time = MetricBuilder::new(&self.metrics).subset_time("partition_time", partition);
        let exchange = task_exchange(context)?;
        let share = exchange.share();
        let partitioner = match self.kind {
            OutputKind::Hash if self.partitions > 1 && !share.unhashed => {
                Some(Partitioner::new(&self.keys, &self.bounds, self.partitions, &time)?)
            }
            _ => None,
        };
        let batch_rows = context.session_config().batch_size();
        let own_output = match self.kind {
            OutputKind::Forward => share.own_output(partition, self.partitions),
            OutputKind::Hash if share.unhashed => share.own_output(partition, self.partitions),
            OutputKind::Result if self.partitions > 1 => partition,
            OutputKind::Range => range::ROWS,
            _ => 0,
        };
        Ok(PartitionedWriter {
            exchange,
            own_output,
            partitioner,
            index: (self.kind == OutputKind::Range).then(|| IndexWriter::new(self.keys.clone(), self.earlier.clone())),
            collectors: self.collectors.clone(),
            outputs: (0..self.partitions).map(|_| None).collect(),
            schema: self.input.schema(),
            batch_rows,
            rows: MetricBuilder::new(&self.metrics).output_rows(partition),
            bytes: MetricBuilder::new(&self.metrics).counter("exchange_bytes", partition),
            time,
        })
    }
}

impl DisplayAs for ExchangeSinkExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OutputKind::Hash => {
                let by = if self.bounds.is_empty() { "hash" } else { "ranges" };
                write!(f, "ExchangeSinkExec: {by}({}, {})", list(&self.keys), self.partitions)?;
            }
            OutputKind::Forward => f.write_str("ExchangeSinkExec: forward")?,
            OutputKind::Broadcast => f.write_str("ExchangeSinkExec: broadcast")?,
            OutputKind::Gather => f.write_str("ExchangeSinkExec: gather")?,
            OutputKind::Merge => f.write_str("ExchangeSinkExec: merge")?,
            OutputKind::Range => write!(f, "ExchangeSinkExec: range({})", list(&self.keys))?,
            OutputKind::Result => f.write_str("ExchangeSinkExec: result")?,
        }
        self.taps().try_for_each(|tap| write!(f, ", filter={}", list(&tap.keys)))
    }
}

fn list(exprs: &[Arc<dyn PhysicalExpr>]) -> String {
    let exprs: Vec<_> = exprs.iter().map(ToString::to_string).collect();
    format!("[{}]", exprs.join(", "))
}

impl ExecutionPlan for ExchangeSinkExec {
    fn name(&self) -> &str {
        "ExchangeSinkExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for key in self.keys.iter().chain(self.taps().flat_map(|tap| &tap.keys)) {
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
        Ok(Arc::new(self.over(only_input(&*self, children)?)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut writer = self.writer(partition, &context)?;
        let mut input = self.input.execute(partition, context)?;
        let drive = async move {
            while let Some(batch) = input.next().await {
                writer.exchange.ready(writer.own_output).await;
                writer.write(batch?)?;
            }
            writer.finish()
        };
        // The stream has no rows. It ends once the input has been written, or with the first error.
        let rows = futures::stream::once(drive).filter_map(|done| async move { done.err().map(Err) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Finds the output partitions of rows.
enum Partitioner {
    Hash(BatchPartitioner),
    Ranges(KeyRanges, Time),
}

impl Partitioner {
    fn new(keys: &[Arc<dyn PhysicalExpr>], bounds: &Arc<[i64]>, partitions: usize, time: &Time) -> Result<Self> {
        match keys {
            [key] if bounds.len() + 1 == partitions => {
                Ok(Self::Ranges(KeyRanges { key: Arc::clone(key), bounds: Arc::clone(bounds) }, time.clone()))
            }
            _ if !bounds.is_empty() => {
                internal_err!("{} ranges of {} keys are not {partitions} partitions", bounds.len() + 1, keys.len())
            }
            _ => Ok(Self::Hash(BatchPartitioner::new_hash_partitioner(keys.to_vec(), partitions, time.clone())?)),
        }
    }

    /// Splits a batch by output partition. Calls `push` for each partition that has rows in the batch.
    fn partition(&mut self, batch: RecordBatch, mut push: impl FnMut(usize, RecordBatch) -> Result<()>) -> Result<()> {
        match self {
            Self::Hash(partitioner) => partitioner.partition(batch, push),
            Self::Ranges(ranges, time) => {
                let parts = {
                    let _timer = time.timer();
                    ranges.parts(&batch)?
                };
                parts.into_iter().try_for_each(|(partition, rows)| push(partition, rows))
            }
        }
    }
}

/// Routes the rows of one input partition to output partitions, in batches of the session's batch size. The last
/// batch may be smaller.
struct PartitionedWriter {
    exchange: Arc<dyn TaskExchange>,
    /// Output partition of rows that are not partitioned.
    own_output: usize,
    partitioner: Option<Partitioner>,
    /// Makes the index of the run. Only for the kind `Range`.
    index: Option<IndexWriter>,
    collectors: Vec<Arc<KeyCollector>>,
    outputs: Vec<Option<BatchCoalescer>>,
    schema: SchemaRef,
    batch_rows: usize,
    rows: Count,
    bytes: Count,
    time: Time,
}

impl PartitionedWriter {
    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows.add(batch.num_rows());
        for collector in &self.collectors {
            collector.collect(&batch)?;
        }
        match self.partitioner.take() {
            None => self.push(self.own_output, batch),
            Some(mut partitioner) => {
                let routed = partitioner.partition(batch, |partition, rows| self.push(partition, rows));
                self.partitioner = Some(partitioner);
                routed
            }
        }
    }

    fn push(&mut self, partition: usize, batch: RecordBatch) -> Result<()> {
        if batch.num_columns() == 0 {
            return self.append(partition, batch);
        }
        let time = self.time.clone();
        let _timer = time.timer();
        let mut output = self.outputs[partition]
            .take()
            .unwrap_or_else(|| BatchCoalescer::new(Arc::clone(&self.schema), self.batch_rows));
        output.push_batch(batch)?;
        while let Some(full) = output.next_completed_batch() {
            self.append(partition, full)?;
        }
        self.outputs[partition] = Some(output);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for partition in 0..self.outputs.len() {
            if let Some(mut output) = self.outputs[partition].take() {
                output.finish_buffered_batch()?;
                while let Some(last) = output.next_completed_batch() {
                    self.append(partition, shrunk(last)?)?;
                }
            }
        }
        match self.index.take().map(IndexWriter::finish).transpose()?.flatten() {
            Some(index) => self.exchange.append(range::INDEX, index),
            None => Ok(()),
        }
    }

    fn append(&mut self, partition: usize, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = without_waste(batch)?;
        if let Some(index) = &mut self.index {
            index.add(&batch)?;
        }
        self.bytes.add(batch.get_array_memory_size());
        self.exchange.append(partition, batch)
    }
}

/// Frees the unused capacity of a batch. The last batch was allocated for the full batch size, and the output would
/// keep the whole allocation.
fn shrunk(batch: RecordBatch) -> Result<RecordBatch> {
    let (schema, mut columns, rows) = batch.into_parts();
    columns.iter_mut().for_each(Array::shrink_to_fit);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn the_last_batch_takes_what_its_rows_take() {
        let numbers = Int64Array::from(vec![1, 2, 3]);
        let words = StringArray::from(vec![Some("one"), None, Some("three")]);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("w", Arc::new(words) as _)]);
        let batch = batch.expect("a batch");
        let mut coalescer = BatchCoalescer::new(batch.schema(), 8192);
        coalescer.push_batch(batch.clone()).expect("the same schema");
        coalescer.finish_buffered_batch().expect("memory");
        let last = coalescer.next_completed_batch().expect("three rows");
        assert!(last.get_array_memory_size() > 8192 * size_of::<i64>());
        let last = shrunk(last).expect("a batch");
        assert!(last.get_array_memory_size() < 2048, "{}", last.get_array_memory_size());
        assert_eq!(last, batch);
    }
}

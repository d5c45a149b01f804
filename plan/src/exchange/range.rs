//! The range exchange: each producer writes one sorted run and an index of it, and each partition of a consumer reads the
//! rows between two keys of all runs, merged.
//!
//! ```text
//!   run of task 0:  [ a a b | b c d | d d e ]   index: a 0, b 3, d 6
//!   run of task 1:  [ b b c | c c e | f ]       index: b 0, c 3, f 6
//!   bounds of two ranges: the middle of all keys in the indexes, c
//!   range 0: a a b b b b            range 1: c c c c d d d e e f, with 6 rows before it
//! ```
//!
//! Bounds are found by the consumers, each for itself, and are the same for all of them: they follow from the indexes
//! alone, and an index from the keys of the rows, since batches have the same number of rows each time. So rows whose
//! producer runs again are still read once. Rows with equal keys are in one range.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::row::{OwnedRow, Row, RowConverter, Rows, SortField};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};

use super::{Slice, SourceSpec, TaskExchange};
use crate::compact_views::without_waste;

/// The partitions of a producer's output: its run, and the index.
pub(super) const ROWS: usize = 0;
pub(super) const INDEX: usize = 1;
/// How many there are.
pub const RANGE_OUTPUTS: usize = 2;
/// How often a consumer's partition reads of each producer.
pub(super) const READS: usize = 2;

/// What the source of a range exchange calls the number of rows in the ranges before.
pub const ROWS_BEFORE: &str = "__rows_before";

/// Whether runs sorted so can be cut: their keys have a form in which bytes compare as they do.
pub fn can_cut(ordering: &LexOrdering, schema: &Schema) -> Result<bool> {
    Ok(RowConverter::supports_fields(&sort_fields(ordering, schema)?))
}

fn sort_fields(ordering: &LexOrdering, schema: &Schema) -> Result<Vec<SortField>> {
    let field = |sort: &datafusion::physical_expr::PhysicalSortExpr| {
        Ok(SortField::new_with_options(sort.expr.data_type(schema)?, sort.options))
    };
    ordering.iter().map(field).collect()
}

/// Makes the index of a run: the keys of each batch's first row, and how many rows come before it.
pub(super) struct IndexWriter {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    rows: u64,
    entries: Vec<RecordBatch>,
}

impl IndexWriter {
    pub(super) fn new(keys: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { keys, rows: 0, entries: vec![] }
    }

    /// Takes note of the next batch, which has rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        // Copied, or the whole batch would stay in memory.
        let first = take_record_batch(batch, &UInt64Array::from(vec![0]))?;
        let keys = evaluate(&self.keys, &first)?;
        let columns = keys.into_iter().chain([Arc::new(UInt64Array::from(vec![self.rows])) as ArrayRef]);
        let columns: Vec<_> = columns.collect();
        let fields = columns.iter().map(|column| Field::new("", column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.entries.push(without_waste(RecordBatch::try_new(schema, columns)?)?);
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The index, if there were rows.
    pub(super) fn finish(self) -> Result<Option<RecordBatch>> {
        let first = self.entries.first();
        Ok(first.map(|first| concat_batches(&first.schema(), &self.entries)).transpose()?)
    }
}

fn evaluate(keys: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    keys.iter().map(|key| key.evaluate(batch)?.into_array(batch.num_rows())).collect()
}

/// Reads one range.
pub(super) struct RangeReader {
    pub exchange: Arc<dyn TaskExchange>,
    pub spec: SourceSpec,
    /// Which of the ranges.
    pub range: usize,
    pub ranges: usize,
    pub batch_rows: usize,
    pub memory: MemoryReservation,
    pub metrics: BaselineMetrics,
}

impl RangeReader {
    /// Its rows in their order.
    pub(super) fn rows(self) -> impl Stream<Item = Result<RecordBatch>> + Send {
        stream::once(self.open()).try_flatten()
    }

    async fn open(self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let ordering = self.spec.ordering.clone();
        let ordering = ordering.ok_or_else(|| internal_datafusion_err!("a range exchange has no order"))?;
        let converter = RowConverter::new(sort_fields(&ordering, &self.spec.schema)?)?;
        let producers = 0..self.exchange.producers(self.spec.stage)?;
        let indexes = try_join_all(producers.map(|producer| self.index(producer, &converter))).await?;
        let keys = ordering.iter().map(|sort| Arc::clone(&sort.expr)).collect();
        let cut = Arc::new(Cut::new(keys, converter, &indexes, self.range, self.ranges));
        let runs = indexes.iter().enumerate().map(|(producer, index)| self.run(producer, index, &cut));
        let runs = try_join_all(runs).await?;
        let rows_before = runs.iter().map(|run| run.rows_before).sum();
        self.merged(&ordering, runs, rows_before)
    }

    async fn index(&self, producer: usize, converter: &RowConverter) -> Result<RunIndex> {
        let rows = self.exchange.read_run(self.spec.stage, producer, Slice::whole(INDEX..INDEX + 1))?;
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        RunIndex::new(&batches, converter)
    }

    /// What one producer has of the range. Its first batch is read at once: it tells how many rows come before.
    async fn run(&self, producer: usize, index: &RunIndex, cut: &Arc<Cut>) -> Result<Run> {
        let batches = cut.batches(&index.keys);
        let (skipped_batches, last) = (batches.start, batches.len().saturating_sub(1));
        let slice = Slice { partitions: ROWS..ROWS + 1, batches };
        let mut rows = self.exchange.read_run(self.spec.stage, producer, slice)?;
        let first = match rows.try_next().await? {
            Some(first) => first,
            None => return Ok(Run { rows_before: 0, rows: stream::empty().boxed() }),
        };
        let low = cut.rows_below_low(&first)?;
        let rows_before = index.rows_before[skipped_batches] + low as u64;
        let first = first.slice(low, first.num_rows() - low);
        let cut = Arc::clone(cut);
        let rows = stream::once(async move { Ok(first) }).chain(rows).enumerate();
        let rows = rows.map(move |(position, batch)| if position == last { cut.below_high(batch?) } else { batch });
        Ok(Run { rows_before, rows: rows.boxed() })
    }

    fn merged(
        self,
        ordering: &LexOrdering,
        runs: Vec<Run>,
        rows_before: u64,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let written = written_schema(&self.spec);
        let stream = |run: Run| Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&written), run.rows)) as _;
        let streams: Vec<SendableRecordBatchStream> = runs.into_iter().map(stream).collect();
        let merged = StreamingMergeBuilder::new()
            .with_streams(streams)
            .with_schema(Arc::clone(&written))
            .with_expressions(ordering)
            .with_metrics(self.metrics)
            .with_batch_size(self.batch_rows)
            .with_reservation(self.memory)
            .build()?;
        if !self.spec.counts_rows_before {
            return Ok(merged.boxed());
        }
        let schema = Arc::clone(&self.spec.schema);
        let counted = move |batch: RecordBatch| {
            let before: ArrayRef = Arc::new(UInt64Array::from_value(rows_before, batch.num_rows()));
            let columns = batch.columns().iter().cloned().chain(iter::once(before)).collect();
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        };
        Ok(merged.map(move |batch| counted(batch?)).boxed())
    }
}

/// What producers write, which is less than the source gives where that counts rows.
fn written_schema(spec: &SourceSpec) -> SchemaRef {
    if !spec.counts_rows_before {
        return Arc::clone(&spec.schema);
    }
    let fields = &spec.schema.fields()[..spec.schema.fields().len() - 1];
    Arc::new(Schema::new_with_metadata(fields.to_vec(), spec.schema.metadata().clone()))
}

/// A schema with the column that [`SourceSpec::counts_rows_before`] adds.
pub fn with_rows_before(schema: &Schema) -> SchemaRef {
    let counted = Arc::new(Field::new(ROWS_BEFORE, DataType::UInt64, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([counted]).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// What one producer has of a range.
struct Run {
    /// How many of its rows are in the ranges before.
    rows_before: u64,
    rows: BoxStream<'static, Result<RecordBatch>>,
}

/// The index of one run, by batch.
struct RunIndex {
    keys: Rows,
    rows_before: Vec<u64>,
}

impl RunIndex {
    fn new(batches: &[RecordBatch], converter: &RowConverter) -> Result<Self> {
        let mut index = Self { keys: converter.empty_rows(0, 0), rows_before: vec![] };
        for batch in batches {
            let [keys @ .., rows_before] = batch.columns() else { continue };
            converter.append(&mut index.keys, keys)?;
            index.rows_before.extend(rows_before.as_primitive::<UInt64Type>().values());
        }
        Ok(index)
    }
}

/// Where a range begins and ends.
struct Cut {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
    /// The least key that is in it; none for the first range.
    low: Option<OwnedRow>,
    /// The least key that is beyond it; none for the last range.
    high: Option<OwnedRow>,
}

impl Cut {
    fn new(
        keys: Vec<Arc<dyn PhysicalExpr>>,
        converter: RowConverter,
        indexes: &[RunIndex],
        range: usize,
        ranges: usize,
    ) -> Self {
        let mut all: Vec<Row<'_>> = indexes.iter().flat_map(|index| &index.keys).collect();
        all.sort_unstable();
        let bound = |range: usize| all.get(range * all.len() / ranges).map(Row::owned);
        let low = if range > 0 { bound(range) } else { None };
        let high = if range + 1 < ranges { bound(range + 1) } else { None };
        Self { keys, converter, low, high }
    }

    /// The batches of a run that may have rows of the range, by their first keys; the one where it begins is among them,
    /// if the run has any.
    fn batches(&self, first_keys: &Rows) -> Range<usize> {
        let start = self.low.as_ref().map_or(0, |low| keys_below(low, first_keys).saturating_sub(1));
        let end = self.high.as_ref().map_or(first_keys.num_rows(), |high| keys_below(high, first_keys));
        start..end.max(start)
    }

    fn rows_below_low(&self, batch: &RecordBatch) -> Result<usize> {
        match &self.low {
            Some(low) => self.rows_below(low, batch),
            None => Ok(0),
        }
    }

    /// The rows of a batch that are not beyond the range.
    fn below_high(&self, batch: RecordBatch) -> Result<RecordBatch> {
        match &self.high {
            Some(high) => Ok(batch.slice(0, self.rows_below(high, &batch)?)),
            None => Ok(batch),
        }
    }

    fn rows_below(&self, bound: &OwnedRow, batch: &RecordBatch) -> Result<usize> {
        Ok(keys_below(bound, &self.converter.convert_columns(&evaluate(&self.keys, batch)?)?))
    }
}

/// How many of the sorted keys are less than the bound.
fn keys_below(bound: &OwnedRow, keys: &Rows) -> usize {
    keys.iter().collect::<Vec<_>>().partition_point(|key| *key < bound.row())
}

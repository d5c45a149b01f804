//! The range exchange: each producer writes one sorted run and an index of the run. Each partition of a consumer
//! reads the rows between two keys from all runs and merges them.
//!
//! ```text
//!   run of task 0:  [ a a b | b c d | d d e ]   index: a, b, d
//!   run of task 1:  [ b b c | c c e | f ]       index: b, c, f
//!   bounds of two ranges: the middle of all keys in the indexes, c
//!   range 0: a a b b b b            range 1: c c c c d d d e e f
//! ```
//!
//! The index also has the states of aggregates over each batch. From these a consumer computes the aggregates over
//! all rows before its range ([`super::earlier`]).
//!
//! Each consumer computes the bounds itself. All consumers find the same bounds, because the bounds follow from the
//! indexes alone. If a producer runs again, it writes the same index, because its batches have the same number of
//! rows each time. So each row is still read once. Rows with equal keys are in one range.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Field, Schema};
use arrow::row::{OwnedRow, Row, RowConverter, Rows, SortField};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};

use super::earlier::{EarlierAggregate, State, states};
use super::{Slice, SourceSpec, TaskExchange, evaluate};
use crate::compact_views::without_waste;

/// The partitions of a producer's output: its run, and the index of the run.
pub(super) const ROWS: usize = 0;
pub(super) const INDEX: usize = 1;
/// How many output partitions a producer has.
pub const RANGE_OUTPUTS: usize = 2;
/// Streams that one partition of a consumer reads from each producer: the index and the run.
pub(super) const READS: usize = 2;

/// Whether runs that are sorted by `ordering` can be cut into ranges: Arrow's row format, whose bytes compare like the
/// keys, must support the types of the keys.
pub fn can_cut(ordering: &LexOrdering, schema: &Schema) -> Result<bool> {
    Ok(RowConverter::supports_fields(&sort_fields(ordering, schema)?))
}

fn sort_fields(ordering: &LexOrdering, schema: &Schema) -> Result<Vec<SortField>> {
    let field = |sort: &datafusion::physical_expr::PhysicalSortExpr| {
        Ok(SortField::new_with_options(sort.expr.data_type(schema)?, sort.options))
    };
    ordering.iter().map(field).collect()
}

/// Makes the index of a run: the keys of each batch's first row, and the states of aggregates over the batch.
pub(super) struct IndexWriter {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    earlier: Vec<EarlierAggregate>,
    entries: Vec<RecordBatch>,
}

impl IndexWriter {
    pub(super) fn new(keys: Vec<Arc<dyn PhysicalExpr>>, earlier: Vec<EarlierAggregate>) -> Self {
        Self { keys, earlier, entries: vec![] }
    }

    /// Adds an entry for the next batch, which must have rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        // The row is copied, because a slice would keep the whole batch in memory.
        let first = take_record_batch(batch, &UInt64Array::from(vec![0]))?;
        let mut columns = evaluate(&self.keys, &first)?;
        columns.extend(states(&self.earlier, batch)?);
        let fields = columns.iter().map(|column| Field::new("", column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.entries.push(without_waste(RecordBatch::try_new(schema, columns)?)?);
        Ok(())
    }

    /// The index; `None` if the run has no rows.
    pub(super) fn finish(self) -> Result<Option<RecordBatch>> {
        let first = self.entries.first();
        Ok(first.map(|first| concat_batches(&first.schema(), &self.entries)).transpose()?)
    }
}

/// Reads the rows of one range from all producers.
pub(super) struct RangeReader {
    pub exchange: Arc<dyn TaskExchange>,
    pub spec: SourceSpec,
    /// The number of the range.
    pub range: usize,
    pub ranges: usize,
    pub batch_rows: usize,
    pub memory: MemoryReservation,
    pub metrics: BaselineMetrics,
}

impl RangeReader {
    /// The rows of the range in their order.
    pub(super) fn rows(self) -> impl Stream<Item = Result<RecordBatch>> + Send {
        stream::once(self.open()).try_flatten()
    }

    async fn open(self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let ordering = self.spec.orderings.first().cloned();
        let ordering = ordering.ok_or_else(|| internal_datafusion_err!("a range exchange has no order"))?;
        let converter = RowConverter::new(sort_fields(&ordering, &self.spec.schema)?)?;
        let producers = 0..self.exchange.producers(self.spec.stage)?;
        let indexes = try_join_all(producers.map(|producer| self.index(producer, ordering.len(), &converter))).await?;
        let keys = ordering.iter().map(|sort| Arc::clone(&sort.expr)).collect();
        let cut = Arc::new(Cut::new(keys, converter, &indexes, self.range, self.ranges));
        let runs = indexes.iter().enumerate().map(|(producer, index)| self.run(producer, index, &cut));
        let runs = try_join_all(runs).await?;
        let earlier = self.earlier(&indexes, &runs)?;
        self.merged(&ordering, runs, earlier)
    }

    async fn index(&self, producer: usize, keys: usize, converter: &RowConverter) -> Result<RunIndex> {
        let rows = self.exchange.read_run(self.spec.stage, producer, Slice::whole(INDEX..INDEX + 1))?;
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        RunIndex::new(&batches, keys, converter)
    }

    /// The rows of one producer in the range. Reads up to the first row of the range and keeps the rows before it,
    /// which the aggregates over earlier rows need. A batch may come in several pieces.
    async fn run(&self, producer: usize, index: &RunIndex, cut: &Arc<Cut>) -> Result<Run> {
        let batches = cut.batches(&index.keys);
        let skipped_batches = batches.start;
        let slice = Slice { partitions: ROWS..ROWS + 1, batches };
        let mut pieces = self.exchange.read_run(self.spec.stage, producer, slice)?;
        let (mut first, mut skipped_rows) = (None, vec![]);
        while first.is_none()
            && let Some(piece) = pieces.try_next().await?
        {
            let low = cut.rows_below_low(&piece)?;
            skipped_rows.push(piece.slice(0, low));
            first = Some(piece.slice(low, piece.num_rows() - low)).filter(|rows| rows.num_rows() > 0);
        }
        let cut = Arc::clone(cut);
        let rows = stream::iter(first.map(Ok)).chain(pieces).map(move |piece| cut.below_high(piece?));
        Ok(Run { skipped_batches, skipped_rows, rows: rows.boxed() })
    }

    /// The states of the aggregates over the rows of all earlier ranges.
    fn earlier(&self, indexes: &[RunIndex], runs: &[Run]) -> Result<Vec<ScalarValue>> {
        let (mut earlier, mut column) = (vec![], 0);
        for aggregate in &self.spec.earlier {
            let mut state = State::new(aggregate)?;
            let columns = column..column + aggregate.columns();
            column = columns.end;
            for (index, run) in indexes.iter().zip(runs) {
                state.add_states(&index.states(columns.clone(), run.skipped_batches))?;
                run.skipped_rows.iter().try_for_each(|rows| state.add_rows(rows))?;
            }
            earlier.extend(state.scalars()?);
        }
        Ok(earlier)
    }

    fn merged(
        self,
        ordering: &LexOrdering,
        runs: Vec<Run>,
        earlier: Vec<ScalarValue>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let schema = Arc::clone(&self.spec.schema);
        // Producers write the columns of the source without the states of earlier rows.
        let fields = schema.fields()[..schema.fields().len() - earlier.len()].to_vec();
        let written = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
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
        if earlier.is_empty() {
            return Ok(merged.boxed());
        }
        let told = move |batch: RecordBatch| {
            let mut columns = batch.columns().to_vec();
            for state in &earlier {
                columns.push(state.to_array_of_size(batch.num_rows())?);
            }
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        };
        Ok(merged.map(move |batch| told(batch?)).boxed())
    }
}

/// The rows of one producer in a range.
struct Run {
    /// Number of the run's first batches that are not read, because they lie wholly before the range.
    skipped_batches: usize,
    /// The rows before the range in the batches that are read.
    skipped_rows: Vec<RecordBatch>,
    rows: BoxStream<'static, Result<RecordBatch>>,
}

/// The index of one run, with one entry per batch.
struct RunIndex {
    keys: Rows,
    /// State columns of all aggregates, one aggregate after the other. Empty if the run is empty.
    states: Vec<ArrayRef>,
}

impl RunIndex {
    fn new(batches: &[RecordBatch], keys: usize, converter: &RowConverter) -> Result<Self> {
        let mut index = Self { keys: converter.empty_rows(0, 0), states: vec![] };
        if let Some(first) = batches.first() {
            let all = concat_batches(&first.schema(), batches)?;
            let (keys, states) = all.columns().split_at(keys);
            converter.append(&mut index.keys, keys)?;
            index.states = states.to_vec();
        }
        Ok(index)
    }

    /// The states in `columns` over each of the first `batches` batches.
    fn states(&self, columns: Range<usize>, batches: usize) -> Vec<ArrayRef> {
        self.states.get(columns).unwrap_or_default().iter().map(|state| state.slice(0, batches)).collect()
    }
}

/// The bounds of a range.
struct Cut {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
    /// The least key of the range; `None` for the first range.
    low: Option<OwnedRow>,
    /// The least key beyond the range; `None` for the last range.
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

    /// The batches of a run that may have rows of the range, found by their first keys. The last batch whose first key
    /// is below the range is included, because the range may begin within it.
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

    /// The rows of a sorted batch that are not beyond the range. In most batches these are all rows, so the last row
    /// is tested first.
    fn below_high(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let Some((high, last)) = self.high.as_ref().zip(batch.num_rows().checked_sub(1)) else { return Ok(batch) };
        if self.rows_below(high, &batch.slice(last, 1))? == 1 {
            return Ok(batch);
        }
        Ok(batch.slice(0, self.rows_below(high, &batch)?))
    }

    fn rows_below(&self, bound: &OwnedRow, batch: &RecordBatch) -> Result<usize> {
        Ok(keys_below(bound, &self.converter.convert_columns(&evaluate(&self.keys, batch)?)?))
    }
}

/// Number of sorted keys that are less than the bound.
fn keys_below(bound: &OwnedRow, keys: &Rows) -> usize {
    keys.iter().collect::<Vec<_>>().partition_point(|key| *key < bound.row())
}

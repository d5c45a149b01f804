//! Finds out the keys of the rows that a sink writes.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::NullBuffer;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{MaxAccumulator, MinAccumulator};
use datafusion::logical_expr::Accumulator;

use super::{FilterTap, RuntimeFilter, widened};

/// Collects keys for one filter; the partitions of a task share it.
#[derive(Debug)]
pub(crate) struct KeyCollector {
    tap: FilterTap,
    filter: Mutex<RuntimeFilter>,
}

impl KeyCollector {
    pub(crate) fn new(tap: FilterTap) -> Self {
        let filter = Mutex::new(RuntimeFilter::new(&tap));
        Self { tap, filter }
    }

    pub(crate) fn tap(&self) -> &FilterTap {
        &self.tap
    }

    /// Adds the keys of `batch`. Rows with a NULL among their keys match nothing.
    pub(crate) fn collect(&self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let keys = self.tap.keys.iter().map(|key| key.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let bounds: Vec<_> = keys.iter().map(bounds).collect();
        let valid =
            keys.iter().fold(None, |valid, key| NullBuffer::union(valid.as_ref(), key.logical_nulls().as_ref()));
        let mut filter = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = filter.is_empty;
        for (columns, set) in &mut filter.sets {
            let keys: Vec<_> = columns.iter().map(|column| Arc::clone(&keys[*column])).collect();
            Arc::make_mut(set).insert(&keys, valid.as_ref())?;
        }
        filter.is_empty &= valid.map_or(rows, |valid| rows - valid.null_count()) == 0;
        if filter.is_empty {
            return Ok(());
        }
        for (mine, more) in filter.bounds.iter_mut().zip(bounds) {
            *mine = match (mine.take(), more) {
                (None, more) if was_empty => more,
                (Some(mine), Some(more)) => widened(mine, &more),
                _ => None,
            };
        }
        Ok(())
    }

    /// What has been collected.
    pub(crate) fn filter(&self) -> RuntimeFilter {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The least and greatest value; `None` where values have no order, or there are none but NULL.
fn bounds(values: &ArrayRef) -> Option<(ScalarValue, ScalarValue)> {
    let (mut least, mut greatest) =
        (MinAccumulator::try_new(values.data_type()).ok()?, MaxAccumulator::try_new(values.data_type()).ok()?);
    least.update_batch(std::slice::from_ref(values)).ok()?;
    greatest.update_batch(std::slice::from_ref(values)).ok()?;
    let (least, greatest) = (least.evaluate().ok()?, greatest.evaluate().ok()?);
    let known = !least.is_null() && !greatest.is_null() && least.data_type() == *values.data_type();
    known.then_some((least, greatest))
}

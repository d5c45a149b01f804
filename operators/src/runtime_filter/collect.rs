//! Collects the keys of the rows that a sink writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::NullBuffer;
use datafusion::common::Result;

use super::{FilterTap, RuntimeFilter};

/// Collects keys for one filter. All partitions of a task share the collector.
#[derive(Debug)]
pub struct KeyCollector {
    tap: FilterTap,
    filter: Mutex<RuntimeFilter>,
}

impl KeyCollector {
    /// A collector without keys.
    pub fn new(tap: FilterTap) -> Self {
        let filter = Mutex::new(RuntimeFilter::new(&tap));
        Self { tap, filter }
    }

    pub(crate) fn tap(&self) -> &FilterTap {
        &self.tap
    }

    /// Adds the keys of `batch`. A set gets the rows that have no NULL in any key. If NULLs match each other, it gets
    /// the rows that have no NULL in its own columns.
    pub fn collect(&self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let keys = self.tap.keys.iter().map(|key| key.evaluate(batch)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let valid = valid(&keys);
        let mut columns = self.lock().columns.clone();
        columns.iter_mut().zip(&keys).for_each(|(column, keys)| column.add(keys));
        let filter = &mut *self.lock();
        filter.columns.iter_mut().zip(&columns).for_each(|(mine, all)| mine.merge(all));
        for (columns, set) in &mut filter.sets {
            let keys: Vec<_> = columns.iter().map(|column| Arc::clone(&keys[*column])).collect();
            let own_valid = if filter.nulls_match { self::valid(&keys) } else { valid.clone() };
            Arc::make_mut(set).insert(&keys, own_valid.as_ref())?;
        }
        let unmatched = valid.filter(|_| !filter.nulls_match).map_or(0, |valid| valid.null_count());
        filter.is_empty &= unmatched == rows;
        Ok(())
    }

    /// The keys collected so far.
    pub fn filter(&self) -> RuntimeFilter {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, RuntimeFilter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which rows have no NULL in any of the columns; `None` if all.
fn valid(columns: &[ArrayRef]) -> Option<NullBuffer> {
    columns.iter().fold(None, |valid, column| NullBuffer::union(valid.as_ref(), column.logical_nulls().as_ref()))
}

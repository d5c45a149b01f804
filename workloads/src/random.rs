//! Columns of random values. The seed is fixed, so every run makes the same values.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;

use crate::files::{BATCH_ROWS, Rows};

/// A source of random values. A fraction `nulls` of the values in a column is NULL.
pub(crate) struct Random {
    values: fastrand::Rng,
    nulls: f64,
}

impl Random {
    pub(crate) fn new(seed: u64, nulls: f64) -> Self {
        Self { values: fastrand::Rng::with_seed(seed), nulls }
    }

    /// A number below `count`. All numbers have the same probability.
    pub(crate) fn uniform(&mut self, count: u64) -> u64 {
        self.values.u64(..count)
    }

    /// A number below `count`. Small numbers are far more frequent: with a `count` of 1,000, about one in six is 0.
    pub(crate) fn skewed(&mut self, count: u64) -> u64 {
        ((count as f64 * self.values.f64().powi(4)) as u64).min(count - 1)
    }

    pub(crate) fn chance(&mut self, of_one: f64) -> bool {
        self.values.f64() < of_one
    }

    /// A number of at least 0 and less than 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.values.f64()
    }

    pub(crate) fn numbers<T: ArrowPrimitiveType>(
        &mut self,
        rows: usize,
        mut value: impl FnMut(&mut Self) -> T::Native,
    ) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter((0..rows).map(|_| self.nullable(&mut value))))
    }

    pub(crate) fn texts(&mut self, rows: usize, mut value: impl FnMut(&mut Self) -> String) -> ArrayRef {
        Arc::new(StringArray::from_iter((0..rows).map(|_| self.nullable(&mut value))))
    }

    fn nullable<T>(&mut self, value: &mut impl FnMut(&mut Self) -> T) -> Option<T> {
        (!self.chance(self.nulls)).then(|| value(self))
    }
}

/// A table of `rows` rows. `columns` gets the number of a batch's first row and the row count of the batch, and makes
/// the columns of the batch.
pub(crate) fn table(
    schema: SchemaRef,
    rows: usize,
    mut columns: impl FnMut(usize, usize) -> Vec<ArrayRef> + 'static,
) -> Rows {
    let batch_schema = Arc::clone(&schema);
    let batches = (0..rows).step_by(BATCH_ROWS).map(move |first| {
        RecordBatch::try_new(Arc::clone(&batch_schema), columns(first, BATCH_ROWS.min(rows - first)))
    });
    Rows { schema, batches: Box::new(batches) }
}

//! One total of a type without a wider type: it fails as soon as it overflows.

use std::fmt::Debug;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowNumericType, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::overflow;

/// The total of all rows, or of those in a window.
#[derive(Debug)]
pub(super) struct FailingSum<T: ArrowNumericType> {
    total: T::Native,
    /// Number of added values that are not NULL. If states were added, the number of states that are not NULL.
    values: u64,
    data_type: DataType,
}

impl<T: ArrowNumericType> FailingSum<T> {
    pub(super) fn new(data_type: DataType) -> Self {
        Self { total: T::Native::ZERO, values: 0, data_type }
    }
}

impl<T: ArrowNumericType + Debug> Accumulator for FailingSum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        for value in values.iter().flatten() {
            self.total = self.total.add_checked(value).map_err(|_| overflow(&self.data_type))?;
        }
        self.values += (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        for value in values.iter().flatten() {
            self.total = self.total.sub_checked(value).map_err(|_| overflow(&self.data_type))?;
        }
        self.values -= (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<T>((self.values > 0).then_some(self.total), &self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

//! The sum of distinct values.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

use super::exact::narrowed;
use super::total;

/// DataFusion's accumulator of distinct values. It provides the set of values; its own sum would wrap around.
#[derive(Debug)]
pub(super) struct DistinctSum {
    values: Box<dyn Accumulator>,
    data_type: DataType,
}

impl DistinctSum {
    pub(super) fn new(values: Box<dyn Accumulator>, data_type: DataType) -> Self {
        Self { values, data_type }
    }
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.values.state()?;
        match (&state[..], total(&self.data_type)) {
            ([ScalarValue::List(values)], Some(mut total)) => {
                total.update_batch(&[values.value(0)])?;
                total.evaluate()
            }
            _ => internal_err!("different values of {} are not one list", self.data_type),
        }
    }

    fn size(&self) -> usize {
        self.values.size() + size_of_val(self)
    }
}

/// The sum of the distinct values in a window. It is updated as rows enter and leave the window.
#[derive(Debug, Default)]
pub(super) struct SlidingDistinctSum {
    /// How often each value is in the window.
    counts: HashMap<i64, u64>,
    total: i128,
}

impl Accumulator for SlidingDistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            let count = self.counts.entry(value).or_default();
            if *count == 0 {
                self.total += i128::from(value);
            }
            *count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            let Some(count) = self.counts.get_mut(&value) else {
                return internal_err!("{value} leaves a window that it is not in");
            };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&value);
                self.total -= i128::from(value);
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    /// A window has no states to merge.
    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("windows are not merged")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("windows are not merged")
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.counts.is_empty() {
            true => Ok(ScalarValue::Int64(None)),
            false => Ok(ScalarValue::Int64(Some(narrowed(self.total, &DataType::Int64)?))),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i64, u64)>()
    }
}

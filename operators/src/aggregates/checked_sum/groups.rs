//! The totals of many groups, each added up in 128 bits.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNumericType, AsArray, BooleanArray, Decimal128Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::accumulate::NullState;

use super::exact::{Summand, narrowed};
use super::{STATE, overflow};

/// A total for each group.
#[derive(Debug)]
pub(super) struct ExactSums<T> {
    totals: Vec<i128>,
    /// Which groups have had a value.
    seen: NullState,
    data_type: DataType,
    of: PhantomData<fn() -> T>,
}

impl<T: ArrowNumericType> ExactSums<T>
where
    T::Native: Summand,
{
    pub(super) fn new(data_type: DataType) -> Self {
        Self { totals: vec![], seen: NullState::new(), data_type, of: PhantomData }
    }

    fn add<S: ArrowNumericType + Send>(
        &mut self,
        values: &PrimitiveArray<S>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        all_groups: usize,
    ) -> Result<()>
    where
        S::Native: Summand,
    {
        self.totals.resize(all_groups, 0);
        let (totals, mut overflowed) = (&mut self.totals, false);
        self.seen.accumulate(groups, values, filter, all_groups, |group, value| {
            let (total, is_wrong) = totals[group].overflowing_add(value.into());
            totals[group] = total;
            overflowed |= is_wrong;
        });
        if overflowed { Err(overflow(&self.data_type)) } else { Ok(()) }
    }
}

impl<T: ArrowNumericType + Send> GroupsAccumulator for ExactSums<T>
where
    T::Native: Summand,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        all_groups: usize,
    ) -> Result<()> {
        self.add(values[0].as_primitive::<T>(), groups, filter, all_groups)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], all_groups: usize) -> Result<()> {
        self.add(states[0].as_primitive::<Decimal128Type>(), groups, None, all_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (totals, nulls) = (emit_to.take_needed(&mut self.totals), self.seen.build(emit_to));
        let is_null = |group: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(group));
        let values = totals.iter().enumerate().map(|(group, total)| match is_null(group) {
            true => Ok(T::default_value()),
            false => narrowed(*total, &self.data_type),
        });
        let values: Vec<T::Native> = values.collect::<Result<_>>()?;
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(self.data_type.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (totals, nulls) = (emit_to.take_needed(&mut self.totals), self.seen.build(emit_to));
        Ok(vec![Arc::new(Decimal128Array::new(totals.into(), nulls).with_data_type(STATE))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let passing = filter.map(|filter| {
            let passes = match filter.nulls() {
                Some(nulls) => nulls.inner() & filter.values(),
                None => filter.values().clone(),
            };
            NullBuffer::new(passes)
        });
        let nulls = NullBuffer::union(values.nulls(), passing.as_ref());
        let totals: Vec<i128> = values.values().iter().map(|value| (*value).into()).collect();
        Ok(vec![Arc::new(Decimal128Array::new(totals.into(), nulls).with_data_type(STATE))])
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<i128>() + self.seen.size()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;

    use super::*;

    fn numbers(values: Vec<Option<i64>>) -> [ArrayRef; 1] {
        [Arc::new(Int64Array::from(values))]
    }

    fn sums() -> ExactSums<Int64Type> {
        ExactSums::new(DataType::Int64)
    }

    #[test]
    fn groups_without_values_are_null_and_filters_are_heeded() {
        let mut sums = sums();
        let filter = BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]);
        let values = numbers(vec![Some(1), Some(2), Some(4), None]);
        sums.update_batch(&values, &[0, 0, 1, 2], Some(&filter), 3).expect("it adds");
        let first = sums.evaluate(EmitTo::First(1)).expect("it fits");
        assert_eq!(first.as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(1)]));
        sums.update_batch(&numbers(vec![Some(5)]), &[1], None, 2).expect("it adds");
        let rest = sums.evaluate(EmitTo::All).expect("it fits");
        assert_eq!(rest.as_primitive::<Int64Type>(), &Int64Array::from(vec![None, Some(5)]));
    }

    #[test]
    fn states_hold_what_does_not_fit() {
        let (mut partial, mut last) = (sums(), sums());
        partial.update_batch(&numbers(vec![Some(i64::MAX), Some(1), Some(7)]), &[0, 0, 1], None, 2).expect("it adds");
        let states = partial.state(EmitTo::All).expect("states");
        assert_eq!(states[0].data_type(), &STATE);
        last.merge_batch(&states, &[0, 1], 2).expect("it adds");
        let passed_on = partial.convert_to_state(&numbers(vec![Some(-1), None]), None).expect("states");
        last.merge_batch(&passed_on, &[0, 1], 2).expect("it adds");
        let totals = last.evaluate(EmitTo::All).expect("it fits");
        assert_eq!(totals.as_primitive::<Int64Type>(), &Int64Array::from(vec![i64::MAX, 7]));
        last.merge_batch(&states, &[0, 1], 2).expect("it adds");
        last.evaluate(EmitTo::All).expect_err("it does not fit");
    }

    #[test]
    fn rows_that_do_not_pass_become_states_of_nothing() {
        let filter = BooleanArray::from(vec![Some(true), Some(false), None]);
        let values = numbers(vec![Some(1), Some(2), Some(3)]);
        let states = sums().convert_to_state(&values, Some(&filter)).expect("states");
        let states = states[0].as_primitive::<Decimal128Type>();
        assert_eq!(states.iter().collect::<Vec<_>>(), [Some(1), None, None]);
    }
}

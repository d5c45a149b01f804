//! One total that is added up in 128 bits.

use std::fmt::Debug;
use std::marker::PhantomData;

use arrow::array::{Array, ArrayRef, ArrowNumericType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DataType, Decimal128Type,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::overflow;

/// Values that [`Summand::total`] adds before it widens the sum (2^30: their 32-bit halves add up to less than 2^63).
const MOST_VALUES: usize = 1 << 30;

/// A number that can be added up in 128 bits.
pub(super) trait Summand: Copy + Into<i128> + TryFrom<i128> {
    /// The total of some numbers; `None` if it has more than 128 bits.
    fn total(numbers: &[Self]) -> Option<i128>;
}

impl Summand for i32 {
    fn total(numbers: &[Self]) -> Option<i128> {
        let total = |numbers: &[Self]| numbers.iter().map(|number| i64::from(*number)).sum::<i64>();
        Some(numbers.chunks(MOST_VALUES).map(|numbers| i128::from(total(numbers))).sum())
    }
}

/// Adds the high halves and the low halves separately, in 64 bits, which the compiler vectorizes.
impl Summand for i64 {
    fn total(numbers: &[Self]) -> Option<i128> {
        let total = |numbers: &[Self]| {
            let high: i64 = numbers.iter().map(|number| number >> 32).sum();
            let low: u64 = numbers.iter().map(|number| *number as u64 & 0xffff_ffff).sum();
            (i128::from(high) << 32) + i128::from(low)
        };
        Some(numbers.chunks(MOST_VALUES).map(total).sum())
    }
}

impl Summand for u64 {
    fn total(numbers: &[Self]) -> Option<i128> {
        let total = |numbers: &[Self]| {
            let high: u64 = numbers.iter().map(|number| number >> 32).sum();
            let low: u64 = numbers.iter().map(|number| number & 0xffff_ffff).sum();
            (i128::from(high) << 32) + i128::from(low)
        };
        Some(numbers.chunks(MOST_VALUES).map(total).sum())
    }
}

impl Summand for i128 {
    fn total(numbers: &[Self]) -> Option<i128> {
        numbers.iter().try_fold(0_i128, |total, number| total.checked_add(*number))
    }
}

/// The total of the values that are not NULL.
fn total<T: ArrowNumericType>(values: &PrimitiveArray<T>) -> Option<i128>
where
    T::Native: Summand,
{
    match values.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => T::Native::total(values.values()),
        Some(nulls) => nulls.valid_slices().try_fold(0_i128, |sum, (start, end)| {
            let part = T::Native::total(&values.values()[start..end])?;
            sum.checked_add(part)
        }),
    }
}

/// A total as a value of the type; an error if it does not fit.
pub(super) fn narrowed<N: Summand>(total: i128, data_type: &DataType) -> Result<N> {
    // The limit is the number of digits that the width can hold, not the declared precision, which is only ten digits
    // more than the precision of the argument.
    let digits = match data_type {
        DataType::Decimal32(..) => Some(DECIMAL32_MAX_PRECISION),
        DataType::Decimal64(..) => Some(DECIMAL64_MAX_PRECISION),
        DataType::Decimal128(..) => Some(DECIMAL128_MAX_PRECISION),
        _ => None,
    };
    let has_room = digits.is_none_or(|digits| total.unsigned_abs() < 10_u128.pow(u32::from(digits)));
    N::try_from(total).ok().filter(|_| has_room).ok_or_else(|| overflow(data_type))
}

/// The total of all rows, or of those in a window.
#[derive(Debug)]
pub(super) struct ExactSum<T> {
    total: i128,
    /// Number of added values that are not NULL. If states were added, the number of states that are not NULL.
    values: u64,
    data_type: DataType,
    of: PhantomData<fn() -> T>,
}

impl<T: ArrowNumericType> ExactSum<T>
where
    T::Native: Summand,
{
    pub(super) fn new(data_type: DataType) -> Self {
        Self { total: 0, values: 0, data_type, of: PhantomData }
    }

    fn add(&mut self, total: Option<i128>, values: usize) -> Result<()> {
        let sum = total.and_then(|total| self.total.checked_add(total));
        self.total = sum.ok_or_else(|| overflow(&self.data_type))?;
        self.values += values as u64;
        Ok(())
    }
}

impl<T: ArrowNumericType + Debug> Accumulator for ExactSum<T>
where
    T::Native: Summand,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        self.add(total(values), values.len() - values.null_count())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let totals = states[0].as_primitive::<Decimal128Type>();
        self.add(total(totals), totals.len() - totals.null_count())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<T>();
        let rest = total(values).and_then(|total| self.total.checked_sub(total));
        self.total = rest.ok_or_else(|| overflow(&self.data_type))?;
        self.values -= (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let total = (self.values > 0).then_some(self.total);
        Ok(vec![ScalarValue::Decimal128(total, DECIMAL128_MAX_PRECISION, 0)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = match self.values {
            0 => None,
            _ => Some(narrowed(self.total, &self.data_type)?),
        };
        ScalarValue::new_primitive::<T>(total, &self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn halves_add_up() {
        let numbers: [i64; 9] = [i64::MIN, i64::MAX, -1, 0, 1, 5_000_000_000, -5_000_000_001, i64::MIN, i64::MIN];
        let expected: i128 = numbers.iter().map(|number| i128::from(*number)).sum();
        assert_eq!(i64::total(&numbers), Some(expected));
        let numbers = [u64::MAX, u64::MAX, 1, 1 << 40];
        let expected: i128 = numbers.iter().map(|number| i128::from(*number)).sum();
        assert_eq!(u64::total(&numbers), Some(expected));
        assert_eq!(i32::total(&[i32::MIN, i32::MIN, 1]), Some(-4_294_967_295));
        assert_eq!(i128::total(&[i128::MAX, 1]), None);
    }

    #[test]
    fn only_the_last_total_must_fit() {
        let mut sum = ExactSum::<Int64Type>::new(DataType::Int64);
        let batch = |values: Vec<Option<i64>>| -> [ArrayRef; 1] { [Arc::new(Int64Array::from(values))] };
        assert_eq!(sum.evaluate().expect("NULL"), ScalarValue::Int64(None));
        sum.update_batch(&batch(vec![Some(i64::MAX), None, Some(1)])).expect("it is in 128 bits");
        assert!(sum.evaluate().is_err());
        let state = sum.state().expect("a state");
        assert_eq!(state, [ScalarValue::Decimal128(Some(1 << 63), 38, 0)]);
        sum.update_batch(&batch(vec![Some(-1)])).expect("it is in 128 bits");
        assert_eq!(sum.evaluate().expect("it fits"), ScalarValue::Int64(Some(i64::MAX)));
        sum.retract_batch(&batch(vec![Some(i64::MAX), None, Some(1), Some(-1)])).expect("it is in 128 bits");
        assert_eq!(sum.evaluate().expect("NULL"), ScalarValue::Int64(None));
    }

    #[test]
    fn decimals_have_as_many_digits_as_their_width() {
        let data_type = DataType::Decimal128(38, 2);
        let nines = 10_i128.pow(38) - 1;
        assert_eq!(narrowed::<i128>(nines, &data_type).expect("38 digits"), nines);
        assert!(narrowed::<i128>(nines + 1, &data_type).is_err());
        assert!(narrowed::<i128>(-nines - 1, &data_type).is_err());
        assert!(narrowed::<i32>(1_000_000_000, &DataType::Decimal32(9, 0)).is_err());
        let mut sum = ExactSum::<Decimal128Type>::new(data_type);
        let values = Decimal128Array::from(vec![nines, nines]).with_precision_and_scale(38, 2).expect("38 digits");
        sum.update_batch(&[Arc::new(values)]).expect_err("it has more than 128 bits");
    }
}

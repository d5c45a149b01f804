//! The rules of equality and order for floats and intervals. Arrow and DataFusion compare bits or fields instead.
//!
//! Floats: -0.0 equals 0.0. Every NaN equals every other NaN and is greater than all numbers. DuckDB and PostgreSQL
//! have the same rule. By IEEE 754's total order, -0.0 is less than 0.0, and a NaN with a sign bit (which an x86
//! processor gives for 0/0) is less than all numbers.
//!
//! Intervals: a month has 30 days, and a day has 24 hours, as in DuckDB and PostgreSQL. Arrow compares months, then
//! days, then nanoseconds. So no number of hours is more than a day, and `now() - t > INTERVAL '1 day'` is never
//! true.
//!
//! The function `order_key` maps all values that are equal by the rule to one value. The order of these values is the
//! order of the rule:
//!
//! ```text
//!   value       -NaN   -Infinity   -1.0   -0.0   0.0   1.0   Infinity   NaN      36 hours           1 day   24 hours
//!   order_key    NaN   -Infinity   -1.0    0.0   0.0   1.0   Infinity   NaN      1 day 12 hours     1 day   1 day
//! ```
//!
//! `key_order` in `corrections` puts the function around each float or interval that a plan compares.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, make_array};
use arrow::datatypes::{
    ArrowNativeTypeOp, ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type, IntervalDayTime,
    IntervalDayTimeType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::utils::take_function_args;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::types::holds;

/// The name of the function, by which plans on the wire know it.
pub const ORDER_KEY: &str = "order_key";

static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(OrderKey::new())));

/// The 16-bit float type that Arrow uses.
type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// The function `order_key`. Its argument has any type, and its result has the same type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct OrderKey {
    signature: Signature,
}

impl OrderKey {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OrderKey {
    fn name(&self) -> &str {
        ORDER_KEY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [data_type] = take_function_args(ORDER_KEY, types)?;
        Ok(data_type.clone())
    }

    /// The key is NULL exactly where the value is NULL, so a column stays as nullable as it is.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [field] = take_function_args(ORDER_KEY, args.arg_fields)?;
        Ok(Arc::new(field.as_ref().clone().with_name(ORDER_KEY)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = take_function_args(ORDER_KEY, args.args)?;
        Ok(match value {
            ColumnarValue::Array(values) => ColumnarValue::Array(keys(&values)?),
            ColumnarValue::Scalar(value) => ColumnarValue::Scalar(key_of(value)?),
        })
    }
}

/// The function `order_key`.
pub fn order_key() -> Arc<ScalarUDF> {
    Arc::clone(&FUNCTION)
}

/// The argument of `expr`, if `expr` is a call of `order_key`.
pub fn keyed_value(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    ScalarFunctionExpr::try_downcast_func::<OrderKey>(expr.as_ref())?.args().first()
}

/// Whether values of this type are floats or contain floats.
pub fn holds_floats(data_type: &DataType) -> bool {
    holds(data_type, &DataType::is_floating)
}

/// Whether values of this type are or contain floats or intervals with several fields, which have keys.
pub fn holds_keyed(data_type: &DataType) -> bool {
    holds(data_type, &is_keyed)
}

fn is_keyed(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano))
        || data_type.is_floating()
}

/// The key of one value.
pub fn key_of(value: ScalarValue) -> Result<ScalarValue> {
    if !holds_keyed(&value.data_type()) {
        return Ok(value);
    }
    ScalarValue::try_from_array(&keys(&value.to_array()?)?, 0)
}

/// The keys of an array. If each value is its own key, which is nearly always so, this is the array itself.
pub(crate) fn keys(values: &ArrayRef) -> Result<ArrayRef> {
    Ok(match values.data_type() {
        DataType::Float16 => keys_of::<Float16Type>(values, half_key),
        DataType::Float32 => keys_of::<Float32Type>(values, single_key),
        DataType::Float64 => keys_of::<Float64Type>(values, double_key),
        DataType::Interval(IntervalUnit::DayTime) => keys_of::<IntervalDayTimeType>(values, day_time_key),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            keys_of::<IntervalMonthDayNanoType>(values, month_day_nano_key)
        }
        other if holds_keyed(other) => make_array(nested_keys(values.to_data())?),
        _ => Arc::clone(values),
    })
}

fn keys_of<T: ArrowPrimitiveType>(values: &ArrayRef, key: fn(T::Native) -> T::Native) -> ArrayRef {
    let own = values.as_primitive::<T>();
    // The loop has no early exit, so the compiler can vectorize it.
    let differ = own.values().iter().fold(false, |differ, value| differ | !value.is_eq(key(*value)));
    match differ {
        true => Arc::new(own.unary::<_, T>(key)),
        false => Arc::clone(values),
    }
}

/// Replaces the floats and intervals in the children of a nested array, such as the values of a list.
fn nested_keys(data: ArrayData) -> Result<ArrayData> {
    if is_keyed(data.data_type()) {
        return Ok(keys(&make_array(data))?.to_data());
    }
    if !holds_keyed(data.data_type()) {
        return Ok(data);
    }
    let children = data.child_data().iter().map(|child| nested_keys(child.clone())).collect::<Result<Vec<_>>>()?;
    Ok(data.into_builder().child_data(children).build()?)
}

fn half_key(value: Half) -> Half {
    const NEGATIVE_ZERO: u16 = 0x8000;
    match value.to_bits() {
        NEGATIVE_ZERO => Half::from_bits(0),
        _ if value.is_nan() => Half::from_bits(0x7e00),
        _ => value,
    }
}

/// The sum of -0.0 and 0.0 is 0.0; any other number plus 0.0 is itself.
fn single_key(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(0x7fc0_0000) } else { value + 0.0 }
}

fn double_key(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { value + 0.0 }
}

fn day_time_key(value: IntervalDayTime) -> IntervalDayTime {
    const DAY: i64 = 86_400_000;
    let total = i64::from(value.days) * DAY + i64::from(value.milliseconds);
    IntervalDayTime::new(saturated(total.div_euclid(DAY).into()), total.rem_euclid(DAY) as i32)
}

fn month_day_nano_key(value: IntervalMonthDayNano) -> IntervalMonthDayNano {
    const DAY: i128 = 86_400_000_000_000;
    const MONTH: i128 = 30 * DAY;
    let total = i128::from(value.months) * MONTH + i128::from(value.days) * DAY + i128::from(value.nanoseconds);
    let (months, rest) = (total.div_euclid(MONTH), total.rem_euclid(MONTH));
    IntervalMonthDayNano::new(saturated(months), (rest / DAY) as i32, (rest % DAY) as i64)
}

fn saturated(number: i128) -> i32 {
    number.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        DictionaryArray, Float16Array, Float32Array, Float64Array, Int32Array, ListArray, StringArray, StructArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    const NAN: u64 = 0x7ff8_0000_0000_0000;
    const SIGNED_NAN: u64 = 0xfff8_0000_0000_0000;
    const OTHER_NAN: u64 = 0x7ff0_0000_0000_0007;

    fn doubles(values: &[Option<u64>]) -> ArrayRef {
        Arc::new(values.iter().map(|bits| bits.map(f64::from_bits)).collect::<Float64Array>())
    }

    fn bits(values: &ArrayRef) -> Vec<Option<u64>> {
        values.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect()
    }

    #[test]
    fn equal_doubles_have_one_key() {
        let (zero, one, least) = (0.0f64.to_bits(), 1.0f64.to_bits(), f64::NEG_INFINITY.to_bits());
        let tiny = 1u64;
        let values = [(-0.0f64).to_bits(), zero, SIGNED_NAN, NAN, OTHER_NAN, one, least, tiny].map(Some);
        let keyed = keys(&doubles(&[&values[..], &[None]].concat())).expect("doubles have keys");
        let expected = [zero, zero, NAN, NAN, NAN, one, least, tiny].map(Some);
        assert_eq!(bits(&keyed), [&expected[..], &[None]].concat());
    }

    #[test]
    fn intervals_are_ordered_by_their_length() {
        let hour = 3_600_000_000_000;
        let of = |months, days, hours: i64| IntervalMonthDayNano::new(months, days, hours * hour);
        let ascending = [
            of(0, -1, -1),
            of(0, -1, 1),
            of(0, 0, 24),
            of(0, 0, 36),
            of(0, 29, 23),
            of(1, -1, 24),
            of(0, 31, 0),
            of(2, 0, -1),
        ];
        let keyed = ascending.map(month_day_nano_key);
        assert!(keyed.is_sorted_by(|one, other| one < other), "{keyed:?}");
        assert_eq!(month_day_nano_key(of(1, 0, 0)), month_day_nano_key(of(0, 29, 24)));
        assert_eq!(month_day_nano_key(of(i32::MAX, i32::MAX, 0)).months, i32::MAX);
        assert_eq!(day_time_key(IntervalDayTime::new(0, 129_600_000)), IntervalDayTime::new(1, 43_200_000));
        assert_eq!(day_time_key(IntervalDayTime::new(0, -1)), IntervalDayTime::new(-1, 86_399_999));
    }

    #[test]
    fn arrays_of_keys_are_not_copied() {
        let values = doubles(&[Some(0.0f64.to_bits()), Some(NAN), None]);
        assert!(Arc::ptr_eq(&keys(&values).expect("doubles have keys"), &values));
        let words: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        assert!(Arc::ptr_eq(&keys(&words).expect("no floats"), &words));
    }

    #[test]
    fn narrower_floats_have_keys_too() {
        let singles = [-0.0f32, 0.0, f32::from_bits(0xffc0_0000), f32::from_bits(0x7f80_0001), -1.5];
        let keyed = keys(&(Arc::new(Float32Array::from(singles.to_vec())) as ArrayRef)).expect("floats have keys");
        let keyed: Vec<_> = keyed.as_primitive::<Float32Type>().values().iter().map(|value| value.to_bits()).collect();
        assert_eq!(keyed, [0, 0, 0x7fc0_0000, 0x7fc0_0000, (-1.5f32).to_bits()]);
        let halves = [0x8000, 0, 0xfe00, 0x7c01, 0xbc00].map(Half::from_bits);
        let keyed = keys(&(Arc::new(Float16Array::from(halves.to_vec())) as ArrayRef)).expect("floats have keys");
        let keyed: Vec<_> = keyed.as_primitive::<Float16Type>().values().iter().map(|value| value.to_bits()).collect();
        assert_eq!(keyed, [0, 0, 0x7e00, 0x7e00, 0xbc00]);
    }

    #[test]
    fn floats_in_nested_values_are_replaced() {
        let zeros = doubles(&[Some((-0.0f64).to_bits()), Some(0.0f64.to_bits()), Some(SIGNED_NAN), None]);
        let expected = vec![Some(0), Some(0), Some(NAN), None];
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        let list = ListArray::new(item, OffsetBuffer::from_lengths([1, 0, 3]), Arc::clone(&zeros), None);
        let keyed = keys(&(Arc::new(list) as ArrayRef)).expect("lists have keys");
        assert_eq!(bits(keyed.as_list::<i32>().values()), expected);
        let fields = vec![
            (Arc::new(Field::new("x", DataType::Float64, true)), Arc::clone(&zeros)),
            (
                Arc::new(Field::new("n", DataType::Int32, false)),
                Arc::new(Int32Array::from(vec![1, 2, 3, 4])) as ArrayRef,
            ),
        ];
        // A slice with the last three rows.
        let structs: ArrayRef = Arc::new(StructArray::from(fields).slice(1, 3));
        let keyed = keys(&structs).expect("structs have keys");
        assert_eq!(bits(keyed.as_struct().column(0)), expected[1..]);
        assert_eq!(keyed.as_struct().column(1).as_primitive::<Int32Type>().values()[..], [2, 3, 4]);
        let dictionary = DictionaryArray::new(Int32Array::from(vec![2, 0, 1]), zeros);
        let keyed = keys(&(Arc::new(dictionary) as ArrayRef)).expect("dictionaries have keys");
        assert_eq!(bits(keyed.as_dictionary::<Int32Type>().values()), expected);
    }

    #[test]
    fn a_value_alone_has_the_key_that_it_has_in_an_array() {
        assert_eq!(key_of(ScalarValue::Float64(Some(-0.0))).expect("a key"), ScalarValue::Float64(Some(0.0)));
        assert_eq!(key_of(ScalarValue::Float64(None)).expect("a key"), ScalarValue::Float64(None));
        assert_eq!(key_of(ScalarValue::Int64(Some(7))).expect("a key"), ScalarValue::Int64(Some(7)));
        let signed = ScalarValue::Float64(Some(f64::from_bits(SIGNED_NAN)));
        assert_eq!(key_of(signed).expect("a key"), ScalarValue::Float64(Some(f64::from_bits(NAN))));
    }

    #[test]
    fn the_order_of_keys_is_the_rule() {
        let rising = [f64::NEG_INFINITY, -1.0, 0.0, f64::MIN_POSITIVE, 1.0, f64::INFINITY, f64::NAN].map(double_key);
        assert!(rising.is_sorted_by(|one, next| one.compare(*next).is_lt()));
    }
}

//! How large the arguments of a call are, row by row.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// Assumed bytes of a value whose size is not known, and the least bytes of a list element without a fixed width.
const PLAIN_BYTES: u64 = 16;

/// Gives a value for each row of a call. Its argument is the number of the row.
pub(super) type OfRow<'a, T> = Box<dyn Fn(usize) -> T + 'a>;

/// Whether any argument is a column. Otherwise the call is evaluated once.
pub(super) fn has_columns(args: &ScalarFunctionArgs) -> bool {
    args.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_)))
}

/// The call over some of its rows.
pub(super) fn rows_of(args: &ScalarFunctionArgs, start: usize, rows: usize) -> ScalarFunctionArgs {
    let of_rows = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, rows)),
        ColumnarValue::Scalar(scalar) => ColumnarValue::Scalar(scalar.clone()),
    };
    ScalarFunctionArgs { args: args.args.iter().map(of_rows).collect(), number_rows: rows, ..args.clone() }
}

/// The bytes of a constant; 0 for a column. Many functions copy a constant for each row.
pub(super) fn constant_bytes(arg: &ColumnarValue) -> u64 {
    match arg {
        ColumnarValue::Scalar(scalar) => scalar_bytes(scalar),
        ColumnarValue::Array(_) => 0,
    }
}

fn scalar_bytes(scalar: &ScalarValue) -> u64 {
    match (scalar.try_as_str(), scalar.data_type().primitive_width()) {
        (Some(text), _) => text.map_or(0, |text| text.len() as u64),
        (None, Some(width)) => width as u64,
        (None, None) => scalar.size() as u64,
    }
}

/// The bytes of each value; 0 for NULL in a column and for NULL as a text constant.
pub(super) fn value_bytes(arg: &ColumnarValue) -> OfRow<'_, u64> {
    match arg {
        ColumnarValue::Scalar(scalar) => {
            let bytes = scalar_bytes(scalar);
            Box::new(move |_| bytes)
        }
        ColumnarValue::Array(array) => Box::new(move |row| bytes_in(array, row)),
    }
}

fn bytes_in(array: &dyn Array, row: usize) -> u64 {
    if array.is_null(row) {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_length(row) as u64,
        DataType::LargeUtf8 => array.as_string::<i64>().value_length(row) as u64,
        DataType::Binary => array.as_binary::<i32>().value_length(row) as u64,
        DataType::LargeBinary => array.as_binary::<i64>().value_length(row) as u64,
        // The low 32 bits of a view are the length of its text.
        DataType::Utf8View => u64::from(array.as_string_view().views()[row] as u32),
        DataType::BinaryView => u64::from(array.as_binary_view().views()[row] as u32),
        DataType::List(_) => elements_bytes(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => elements_bytes(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => elements_bytes(&array.as_fixed_size_list().value(row)),
        DataType::Map(..) => elements_bytes(&array.as_map().value(row)),
        DataType::Dictionary(..) => {
            let own = array.slice(row, 1);
            let own = own.as_any_dictionary();
            bytes_in(own.values(), own.normalized_keys()[0])
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| bytes_in(column, row)).sum(),
        other => other.primitive_width().map_or(PLAIN_BYTES, |width| width as u64),
    }
}

fn elements_bytes(elements: &dyn Array) -> u64 {
    match elements.data_type().primitive_width() {
        Some(width) => (elements.len() * width) as u64,
        None => (0..elements.len()).map(|row| bytes_in(elements, row).max(PLAIN_BYTES)).sum(),
    }
}

/// How many elements each list has; 0 for NULL.
pub(super) fn list_lengths(arg: &ColumnarValue) -> OfRow<'_, u64> {
    let elements = match arg {
        ColumnarValue::Array(array) => return Box::new(move |row| list_length(array, row)),
        ColumnarValue::Scalar(ScalarValue::List(list)) => list_length(list.as_ref(), 0),
        ColumnarValue::Scalar(ScalarValue::LargeList(list)) => list_length(list.as_ref(), 0),
        ColumnarValue::Scalar(ScalarValue::FixedSizeList(list)) => list_length(list.as_ref(), 0),
        ColumnarValue::Scalar(_) => 0,
    };
    Box::new(move |_| elements)
}

fn list_length(list: &dyn Array, row: usize) -> u64 {
    if list.is_null(row) {
        return 0;
    }
    match list.data_type() {
        DataType::List(_) => list.as_list::<i32>().value_length(row) as u64,
        DataType::LargeList(_) => list.as_list::<i64>().value_length(row) as u64,
        DataType::FixedSizeList(_, length) => *length as u64,
        _ => 0,
    }
}

/// A value for each row, which `of` reads from the row's scalar.
pub(super) fn scalars<'a, T: Copy + 'a>(
    arg: &'a ColumnarValue,
    of: impl Fn(&ScalarValue) -> Option<T> + 'a,
) -> OfRow<'a, Option<T>> {
    match arg {
        ColumnarValue::Scalar(scalar) => {
            let value = of(scalar);
            Box::new(move |_| value)
        }
        ColumnarValue::Array(array) => {
            Box::new(move |row| ScalarValue::try_from_array(array, row).ok().as_ref().and_then(&of))
        }
    }
}

/// Each whole number; `None` for NULL. The bounded functions take no other type of number than Int64.
pub(super) fn numbers(arg: &ColumnarValue) -> OfRow<'_, Option<i64>> {
    scalars(arg, |scalar| match scalar {
        ScalarValue::Int64(number) => *number,
        _ => None,
    })
}

//! Keys that are whole numbers or days, as 64-bit numbers.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;

/// Whether keys of that type are days or integers that fit into signed 64-bit numbers. UInt64 does not fit.
pub fn is_whole_number(data_type: &DataType) -> bool {
    data_type.is_integer() && *data_type != DataType::UInt64 || *data_type == DataType::Date32
}

/// Keys as 64-bit numbers. A day becomes its distance in days from 1970-01-01.
pub fn numbers(keys: &ArrayRef) -> Result<Int64Array> {
    let numbers = match keys.data_type() {
        DataType::Date32 => cast(&cast(keys, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(keys, &DataType::Int64)?,
    };
    Ok(numbers.as_primitive::<Int64Type>().clone())
}

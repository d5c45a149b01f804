//! Casts that lose information, change the order of values or shift a time, although DataFusion treats them as safe.

use arrow::datatypes::DataType;
use hwacha_execution::session::is_utc;

/// Whether the cast from `from` to `to` is one of these casts. Examples: DECIMAL(10, 2) to INT turns 5.10 into 5. A
/// timestamp to TIME makes 20:00 of one day greater than 07:00 of the next day. False for DOUBLE to INT, because
/// DataFusion does not treat it as safe.
pub fn loses(from: &DataType, to: &DataType) -> bool {
    match (plain(from), plain(to)) {
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(zone))) => !is_utc(zone),
        (DataType::Timestamp(..), DataType::Time32(_) | DataType::Time64(_)) => true,
        (from, DataType::Boolean) => from.is_numeric(),
        (from, to) => match (decimal_scale(from), decimal_scale(to)) {
            (Some(own), Some(kept)) => own > kept,
            (Some(own), None) => own > 0 && to.is_integer(),
            _ => false,
        },
    }
}

/// The type of a dictionary's values. Other types are returned unchanged.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// Number of digits after the decimal point of a decimal type; `None` for other types.
pub fn decimal_scale(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    }
}

//! Estimates for one column: distinct values, width, range and share of NULLs.

use std::sync::Arc;

use crate::tuning::{VARIABLE_BYTES, VIEW_BYTES};
use arrow::datatypes::DataType;
use datafusion::common::{ColumnStatistics, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use hwacha_operators::functions::opaque::opaque_physical_value;
use hwacha_operators::functions::order_key::keyed_value;

#[derive(Clone, Debug)]
pub(crate) struct ColumnEstimate {
    /// Number of distinct values; infinite if unknown.
    pub distinct: f64,
    /// Bytes of one value in memory.
    pub bytes: f64,
    /// The smallest and the largest value, if they are known and are numbers.
    pub range: Option<(f64, f64)>,
    /// The share of NULLs among the rows.
    pub nulls: f64,
    /// Whether the values are text or binary.
    pub is_text: bool,
}

impl Default for ColumnEstimate {
    fn default() -> Self {
        Self { distinct: f64::INFINITY, bytes: VARIABLE_BYTES / 2.0, range: None, nulls: 0.0, is_text: false }
    }
}

impl ColumnEstimate {
    pub(crate) fn new(data_type: &DataType, statistics: Option<&ColumnStatistics>, rows: f64) -> Self {
        let bound = |value: Option<&ScalarValue>| value.and_then(number);
        let range =
            statistics.and_then(|known| bound(known.min_value.get_value()).zip(bound(known.max_value.get_value())));
        let counted = statistics.and_then(|known| known.distinct_count.get_value()).map(|count| *count as f64);
        let spanned = range.filter(|_| is_discrete(data_type)).map(|(least, greatest)| greatest - least + 1.0);
        let distinct = counted.unwrap_or(rows).min(spanned.unwrap_or(f64::INFINITY)).min(rows).max(1.0);
        let nulls = statistics.and_then(|known| known.null_count.get_value()).map_or(0.0, |nulls| *nulls as f64);
        let read = statistics.and_then(|known| known.byte_size.get_value()).map(|bytes| *bytes as f64 / rows.max(1.0));
        let bytes = match read.filter(|_| is_text(data_type)) {
            Some(read) => VIEW_BYTES + read,
            None => width(data_type),
        };
        let nulls = (nulls / rows.max(1.0)).min(1.0);
        Self { distinct, bytes, range, nulls, is_text: is_text(data_type) }
    }

    /// The column if `kept` of `rows` rows are kept at random. A value is left if one of its rows is left. Example: 100
    /// of 1,000 rows are kept, and each of 100 values has 10 rows. A value loses all rows with probability 0.9^10 =
    /// 0.35, so 65 values are left.
    pub(super) fn of_fewer_rows(&self, rows: f64, kept: f64) -> Self {
        let mut column = self.clone();
        if kept < rows && self.distinct.is_finite() {
            let rows_per_value = rows / self.distinct.max(1.0);
            let gone = (1.0 - kept / rows.max(1.0)).powf(rows_per_value);
            column.distinct = (self.distinct * (1.0 - gone)).max(1.0);
        }
        column.at_most(kept)
    }

    /// Leaves only values from `low` to `high`. `all` is the same column before the filter. If `all` has 100 values
    /// from 1 to 200, at most 10 are left from 1 to 20.
    pub(super) fn narrow(&mut self, low: f64, high: f64, all: &Self) {
        let (Some((least, greatest)), Some((all_least, all_greatest))) = (self.range, all.range) else { return };
        let (low, high) = (low.max(least), high.min(greatest));
        if low <= high {
            let share = (high - low + 1.0) / (all_greatest - all_least + 1.0);
            self.distinct = self.distinct.min(all.distinct * share).max(1.0);
            self.range = Some((low, high));
        }
    }

    pub(super) fn at_most(&self, rows: f64) -> Self {
        Self { distinct: self.distinct.min(rows.max(1.0)), ..self.clone() }
    }
}

/// The column that an expression reads, if it is a plain column or a column below casts, `order_key` or `opaque`.
pub(super) fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let inner = expr.downcast_ref::<CastExpr>().map(CastExpr::expr);
    match inner.or_else(|| keyed_value(expr)).or_else(|| opaque_physical_value(expr)) {
        Some(inner) => column_of(inner),
        None => expr.downcast_ref::<Column>().map(Column::index),
    }
}

pub(super) fn width(data_type: &DataType) -> f64 {
    match data_type {
        DataType::Boolean => 1.0,
        DataType::Dictionary(key, _) => width(key),
        other => other.primitive_width().map_or(VARIABLE_BYTES, |bytes| bytes as f64),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    )
}

fn is_discrete(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Date32)
}

/// A value as a finite number whose differences have a meaning: a Date32 as its day, a timestamp in its own unit.
/// `None` for NULL and for values such as text.
pub(crate) fn number(value: &ScalarValue) -> Option<f64> {
    if value.is_null() {
        return None;
    }
    let integer = match value.data_type() {
        DataType::Date32 => DataType::Int32,
        DataType::Date64 | DataType::Timestamp(..) | DataType::Time64(_) | DataType::Duration(_) => DataType::Int64,
        other if other.is_numeric() => other,
        _ => return None,
    };
    let value = value.cast_to(&integer).ok()?.cast_to(&DataType::Float64).ok()?;
    match value {
        ScalarValue::Float64(number) => number.filter(|number| number.is_finite()),
        _ => None,
    }
}

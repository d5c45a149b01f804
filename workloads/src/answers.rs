//! Compares answers as multisets of rows. Numbers may differ by the error that [`Likeness`] allows.

use std::cmp::Ordering;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The kind of engine that an answer is compared with. It decides how values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// The same engine, or an engine with the same arithmetic. Floats may differ because of the order of a sum.
    SameEngine,
    /// An engine with other number types. Numbers are compared by value. DataFusion truncates quotients of decimals,
    /// but never before the sixth digit. The other engine does not truncate them: 2/3 is 0.666666 or
    /// 0.6666666666666666.
    OtherTypes,
    /// An engine that chooses the types of numbers and the digits of quotients in its own way.
    OtherEngine,
}

impl Likeness {
    /// The allowed difference of two numbers.
    fn tolerance(self) -> Tolerance {
        match self {
            Self::SameEngine => Tolerance { relative: 1e-9, absolute: 0.0 },
            // TPC-DS q58 multiplies a quotient cut off after six digits by 100, an error of up to 1e-4. The tolerance
            // of 2e-4 allows it, and a wrong cent is still found.
            Self::OtherTypes => Tolerance { relative: 1e-9, absolute: 2e-4 },
            Self::OtherEngine => Tolerance { relative: 1e-4, absolute: 0.0 },
        }
    }
}

/// The allowed difference of two numbers: the sum of both parts.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    /// As a fraction of the larger absolute value.
    relative: f64,
    absolute: f64,
}

/// One value, in the form in which answers are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Float(f64),
    Text(String),
}

/// The rows of an answer.
pub fn rows(batches: &[RecordBatch], likeness: Likeness) -> Result<Vec<Vec<Cell>>, ArrowError> {
    let mut rows = vec![];
    for batch in batches {
        let columns =
            batch.columns().iter().map(|column| cells(column.as_ref(), likeness)).collect::<Result<Vec<_>, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
    }
    Ok(rows)
}

fn cells(column: &dyn Array, likeness: Likeness) -> Result<Vec<Cell>, ArrowError> {
    let data_type = column.data_type();
    if data_type.is_floating() || likeness != Likeness::SameEngine && data_type.is_numeric() {
        let floats = cast(column, &DataType::Float64)?;
        let floats = floats.as_primitive::<Float64Type>();
        return Ok(floats.iter().map(|value| value.map_or(Cell::Null, Cell::Float)).collect());
    }
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    let cell = |row: usize| match column.is_null(row) {
        true => Ok(Cell::Null),
        false if likeness != Likeness::SameEngine => {
            let text = formatter.value(row).try_to_string()?;
            // Some engines return a date as a timestamp at midnight.
            Ok(Cell::Text(text.trim_end_matches("T00:00:00").trim_end().to_owned()))
        }
        false => formatter.value(row).try_to_string().map(Cell::Text),
    };
    (0..column.len()).map(cell).collect()
}

/// Describes a difference between two answers as multisets of rows. `None` if they are equal.
pub fn difference(expected: &[RecordBatch], actual: &[RecordBatch]) -> Result<Option<String>, ArrowError> {
    let likeness = Likeness::SameEngine;
    let (mut expected, mut actual) = (rows(expected, likeness)?, rows(actual, likeness)?);
    if expected.len() != actual.len() {
        return Ok(Some(format!("{} rows were expected, {} came", expected.len(), actual.len())));
    }
    expected.sort_by(|a, b| compare_rows(a, b));
    actual.sort_by(|a, b| compare_rows(a, b));
    let differing = expected.iter().zip(&actual).find(|(expected, actual)| !same_row(expected, actual, likeness));
    Ok(differing.map(|(expected, actual)| format!("expected {expected:?}, came {actual:?}")))
}

/// Orders rows by their texts first, then by their floats. So floats that differ in their last digits seldom change the
/// order. Example: ("a", 1.0) comes before ("b", 0.9).
pub(crate) fn compare_rows(a: &[Cell], b: &[Cell]) -> Ordering {
    let texts = a.iter().zip(b).map(|(a, b)| match (a, b) {
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    });
    let floats = a.iter().zip(b).map(|(a, b)| match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
        _ => Ordering::Equal,
    });
    texts.chain(floats).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn rank(cell: &Cell) -> u8 {
    match cell {
        Cell::Null => 0,
        Cell::Float(_) => 1,
        Cell::Text(_) => 2,
    }
}

pub(crate) fn same_row(a: &[Cell], b: &[Cell], likeness: Likeness) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_cell(a, b, likeness.tolerance()))
}

fn same_cell(a: &Cell, b: &Cell, tolerance: Tolerance) -> bool {
    match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => {
            let allowed = tolerance.relative * a.abs().max(b.abs()) + tolerance.absolute;
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= allowed
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray};

    use super::*;

    fn batch(rows: &[(&str, f64)]) -> RecordBatch {
        let words = StringArray::from_iter_values(rows.iter().map(|row| row.0));
        let floats = Float64Array::from_iter_values(rows.iter().map(|row| row.1));
        RecordBatch::try_from_iter([("w", Arc::new(words) as _), ("f", Arc::new(floats) as _)]).expect("a batch")
    }

    #[test]
    fn order_and_last_digits_do_not_matter() {
        let expected = batch(&[("a", 1.0), ("b", 2.0)]);
        let actual = batch(&[("b", 2.0 + 1e-12), ("a", 1.0)]);
        assert_eq!(difference(&[expected], &[actual]).expect("comparable"), None);
    }

    #[test]
    fn multiplicities_and_values_matter() {
        let expected = batch(&[("a", 1.0), ("a", 1.0), ("b", 2.0)]);
        for wrong in [
            batch(&[("a", 1.0), ("b", 2.0), ("b", 2.0)]),
            batch(&[("a", 1.0), ("b", 2.0)]),
            batch(&[("a", 1.0), ("a", 1.0), ("b", 2.1)]),
        ] {
            assert!(difference(std::slice::from_ref(&expected), &[wrong]).expect("comparable").is_some());
        }
    }

    #[test]
    fn numbers_of_other_types_are_compared_by_value() {
        let decimals = |values: Vec<i128>, scale: i8| {
            let decimals = Decimal128Array::from(values).with_precision_and_scale(38, scale).expect("they fit");
            RecordBatch::try_from_iter([("n", Arc::new(decimals) as _)]).expect("a batch")
        };
        let floats = |value: f64| {
            RecordBatch::try_from_iter([("n", Arc::new(Float64Array::from(vec![value])) as _)]).expect("a batch")
        };
        let whole = |value: i64| {
            RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![value])) as _)]).expect("a batch")
        };
        let same = |a: &RecordBatch, b: &RecordBatch| {
            let likeness = Likeness::OtherTypes;
            let rows = |batch: &RecordBatch| rows(std::slice::from_ref(batch), likeness).expect("comparable");
            same_row(&rows(a)[0], &rows(b)[0], likeness)
        };
        assert!(same(&decimals(vec![150], 2), &decimals(vec![15], 1)));
        assert!(same(&decimals(vec![7], 0), &whole(7)));
        assert!(same(&decimals(vec![666_666], 6), &floats(2.0 / 3.0)));
        assert!(!same(&decimals(vec![666_666], 6), &floats(0.667)));
        assert!(!same(&whole(1_000_000), &whole(1_000_001)));
        // Other engines may differ by a ten-thousandth of the number.
        assert!(same_row(&[Cell::Float(1e6)], &[Cell::Float(1e6 + 1.0)], Likeness::OtherEngine));
    }
}

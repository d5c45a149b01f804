//! Judges answers: the same rows, as often, in any order; floats within a relative error of 1e-9.

use std::cmp::Ordering;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

const FLOAT_TOLERANCE: f64 = 1e-9;

/// One value, in the form in which answers are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Float(f64),
    Text(String),
}

/// The rows of an answer.
pub fn rows(batches: &[RecordBatch]) -> Result<Vec<Vec<Cell>>, ArrowError> {
    let mut rows = vec![];
    for batch in batches {
        let columns = batch.columns().iter().map(|column| cells(column.as_ref())).collect::<Result<Vec<_>, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
    }
    Ok(rows)
}

fn cells(column: &dyn Array) -> Result<Vec<Cell>, ArrowError> {
    if column.data_type().is_floating() {
        let floats = cast(column, &DataType::Float64)?;
        let floats = floats.as_primitive::<Float64Type>();
        return Ok(floats.iter().map(|value| value.map_or(Cell::Null, Cell::Float)).collect());
    }
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
    let cell = |row: usize| match column.is_null(row) {
        true => Ok(Cell::Null),
        false => formatter.value(row).try_to_string().map(Cell::Text),
    };
    (0..column.len()).map(cell).collect()
}

/// Says how two answers differ as multisets, if they do.
pub fn difference(expected: &[RecordBatch], actual: &[RecordBatch]) -> Result<Option<String>, ArrowError> {
    let (mut expected, mut actual) = (rows(expected)?, rows(actual)?);
    if expected.len() != actual.len() {
        return Ok(Some(format!("{} rows were expected, {} came", expected.len(), actual.len())));
    }
    expected.sort_by(|a, b| compare_rows(a, b));
    actual.sort_by(|a, b| compare_rows(a, b));
    let differing = expected.iter().zip(&actual).find(|(expected, actual)| !same_row(expected, actual));
    Ok(differing.map(|(expected, actual)| format!("expected {expected:?}, came {actual:?}")))
}

/// Texts decide before floats, so that floats which differ in their last digits do not change the order much.
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

pub(crate) fn same_row(a: &[Cell], b: &[Cell]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_cell(a, b))
}

fn same_cell(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= FLOAT_TOLERANCE * a.abs().max(b.abs())
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};

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
}

//! ClickBench: the 43 queries, and a generated table `hits`. It has the columns and types of the real table, skewed
//! values and NULLs.

mod columns;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, PrimitiveArray};
use arrow::datatypes::{DataType, Field, Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampSecondType};

use self::columns::{COLUMNS, Values};
use crate::files::{self, Error, Rows};
use crate::random::{Random, table};

/// The queries, each ended by `;` at the end of a line.
pub const QUERIES: &str = include_str!("../../queries/clickbench/queries.sql");
/// The only table.
pub const TABLE: &str = "hits";

const SEED: u64 = 43;
const NULLS: f64 = 0.01;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// The first of July 2013, in days since 1970.
const FIRST_DAY: i64 = 15_887;
const DAYS: i64 = 31;

/// Writes the table if it is missing in `directory`.
pub fn generate(directory: &Path, rows: usize) -> Result<(), Error> {
    let scale = rows as f64 / 1e6;
    files::create_directory(directory, scale)?;
    files::write(directory, TABLE, scale, || hits(rows), |_| {})
}

fn hits(rows: usize) -> Rows {
    let fields = COLUMNS.iter().map(|(name, values)| Field::new(*name, data_type(*values), is_nullable(*values)));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut random = Random::new(SEED, NULLS);
    table(schema, rows, move |first, length| {
        // Rows are in the order of their times, spread evenly over the month.
        let second = |row: usize| FIRST_DAY * DAY_SECONDS + ((first + row) as i64 * DAYS * DAY_SECONDS) / rows as i64;
        let times: Vec<i64> = (0..length).map(second).collect();
        COLUMNS.iter().map(|(_, values)| column(*values, &mut random, first, &times)).collect()
    })
}

fn is_nullable(values: Values) -> bool {
    !matches!(values, Values::Count | Values::Time | Values::Date)
}

fn data_type(values: Values) -> DataType {
    match values {
        Values::Short(..) => DataType::Int16,
        Values::Number(..) => DataType::Int32,
        Values::Hash(..) | Values::Count => DataType::Int64,
        Values::Time => DataType::Timestamp(TimeUnit::Second, None),
        Values::Date => DataType::Date32,
        Values::Letter | Values::Text(..) => DataType::Utf8,
    }
}

fn column(values: Values, random: &mut Random, first: usize, times: &[i64]) -> ArrayRef {
    let rows = times.len();
    match values {
        Values::Short(from, count) => random.numbers::<Int16Type>(rows, |random| from + random.skewed(count) as i16),
        Values::Number(from, count) => random.numbers::<Int32Type>(rows, |random| from + random.skewed(count) as i32),
        Values::Hash(from, count) => {
            random.numbers::<Int64Type>(rows, |random| from ^ scattered(random.skewed(count) as i64))
        }
        Values::Count => Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(
            (first..first + rows).map(|row| scattered(row as i64 + 1)),
        )),
        Values::Time => Arc::new(PrimitiveArray::<TimestampSecondType>::from_iter_values(times.iter().copied())),
        Values::Date => Arc::new(Date32Array::from_iter_values(times.iter().map(|time| (time / DAY_SECONDS) as i32))),
        Values::Letter => random.texts(rows, |random| char::from(b'A' + random.skewed(26) as u8).to_string()),
        Values::Text(patterns, count, empty) => random.texts(rows, |random| {
            if random.chance(f64::from(empty) / 100.0) {
                return String::new();
            }
            let number = random.skewed(count);
            patterns[number as usize % patterns.len()].replace("{}", &number.to_string())
        }),
    }
}

/// Maps consecutive numbers to numbers that are far apart, and 0 to 0.
fn scattered(number: i64) -> i64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) & i64::MAX
}

//! The group-by and join queries of the h2o data-frame benchmark, and its generated tables. `x` is grouped. `y` is
//! joined with `small`, `medium` and `large`. One of twenty values is NULL.

use std::path::Path;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};

use crate::files::{self, Error, Rows};
use crate::random::{Random, table};

/// The queries, each ended by `;` at the end of a line: ten group-by queries, then five joins.
pub const QUERIES: &str = include_str!("../queries/h2o/queries.sql");

/// The tables: `x` is grouped, the others are joined.
pub const TABLES: [&str; 5] = ["x", "y", "small", "medium", "large"];

/// Fraction of NULLs in each column.
const NULLS: f64 = 0.05;
/// Number of distinct values in a column with few distinct values.
const GROUPS: u64 = 100;
/// Fraction of the keys that come from the range common to all tables. The other keys have no match.
const MATCHED: f64 = 0.9;

/// Writes the tables that are missing in `directory`. `x`, `y` and `large` have `rows` rows.
pub fn generate(directory: &Path, rows: usize) -> Result<(), Error> {
    let scale = rows as f64 / 1e6;
    files::create_directory(directory, scale)?;
    for name in TABLES {
        let make = || match name {
            "x" => grouped(rows),
            "y" => joined(rows, Sizes::new(rows), 2, rows),
            "small" => joined(Sizes::new(rows).small, Sizes::new(rows), 3, rows),
            "medium" => joined(Sizes::new(rows).medium, Sizes::new(rows), 4, rows),
            _ => joined(rows, Sizes::new(rows), 5, rows),
        };
        files::write(directory, name, scale, make, |_| {})?;
    }
    Ok(())
}

/// The number of distinct keys in the first two join columns. The third join column has as many distinct keys as the
/// largest table has rows.
#[derive(Clone, Copy)]
struct Sizes {
    small: usize,
    medium: usize,
}

impl Sizes {
    fn new(rows: usize) -> Self {
        Self { small: (rows / 10_000).max(10), medium: (rows / 100).max(100) }
    }
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn grouped(rows: usize) -> Rows {
    use DataType::{Float64, Int64, Utf8};
    let schema = schema(&[
        ("id1", Utf8),
        ("id2", Utf8),
        ("id3", Utf8),
        ("id4", Int64),
        ("id5", Int64),
        ("id6", Int64),
        ("v1", Int64),
        ("v2", Int64),
        ("v3", Float64),
    ]);
    let many = (rows as u64 / GROUPS).max(1);
    let mut random = Random::new(1, NULLS);
    table(schema, rows, move |_, rows| {
        let mut columns: Vec<ArrayRef> = [GROUPS, GROUPS]
            .map(|count| random.texts(rows, |random| format!("id{:03}", 1 + random.uniform(count))))
            .into();
        columns.push(random.texts(rows, |random| format!("id{:010}", 1 + random.uniform(many))));
        let counts = [GROUPS, GROUPS, many, 5, 15];
        columns
            .extend(counts.map(|count| random.numbers::<Int64Type>(rows, |random| 1 + random.uniform(count) as i64)));
        columns.push(random.numbers::<Float64Type>(rows, |random| (random.fraction() * 1e8).round() / 1e6));
        columns
    })
}

/// A table with three join keys that are numbers and three that are texts. Both kinds have `sizes.small`,
/// `sizes.medium` and `large` distinct keys in the common range.
fn joined(rows: usize, sizes: Sizes, seed: u64, large: usize) -> Rows {
    use DataType::{Float64, Int64, Utf8};
    let schema = schema(&[
        ("id1", Int64),
        ("id2", Int64),
        ("id3", Int64),
        ("id4", Utf8),
        ("id5", Utf8),
        ("id6", Utf8),
        ("v1", Float64),
        ("v2", Float64),
    ]);
    let counts = [sizes.small, sizes.medium, large].map(|count| count as u64);
    // Keys without a match are above the common range. Their range depends on the seed, which is different for each
    // table.
    let key = move |random: &mut Random, count: u64| match random.chance(MATCHED) {
        true => 1 + random.uniform(count),
        false => 1 + random.uniform(count) + seed * count,
    };
    let mut random = Random::new(seed, NULLS);
    table(schema, rows, move |_, rows| {
        let numbers = counts.map(|count| random.numbers::<Int64Type>(rows, |random| key(random, count) as i64));
        let texts = counts.map(|count| random.texts(rows, |random| format!("id{}", key(random, count))));
        let values =
            [(); 2].map(|()| random.numbers::<Float64Type>(rows, |random| (random.fraction() * 1e8).round() / 1e6));
        [numbers.as_slice(), &texts, &values].concat()
    })
}

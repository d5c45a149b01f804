//! TPC-H: its tables as Parquet files, generated once per directory, and its 22 queries.

use std::path::{Path, PathBuf};

use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow,
    SupplierArrow,
};

use crate::files::{self, BATCH_ROWS, Error, Rows};

/// The tables, largest first.
pub const TABLES: [&str; 8] = ["lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region"];

macro_rules! queries {
    ($($number:literal),*) => { [$(include_str!(concat!("../queries/tpch/q", $number, ".sql"))),*] };
}

/// The texts of the 22 queries, in order, with the validation parameters of the specification.
pub const QUERIES: [&str; 22] = queries!(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22);

/// The row count of a table at a scale. The count of `lineitem` is approximate.
pub fn rows(table: &str, scale: f64) -> u64 {
    let at_scale_1 = match table {
        "lineitem" => 6_001_215.0,
        "orders" => 1_500_000.0,
        "partsupp" => 800_000.0,
        "part" => 200_000.0,
        "customer" => 150_000.0,
        "supplier" => 10_000.0,
        "nation" => return 25,
        _ => return 5,
    };
    (at_scale_1 * scale) as u64
}

/// The file of a table.
pub fn path(directory: &Path, table: &str) -> PathBuf {
    files::path(directory, table)
}

/// The statement that defines a table over its file.
pub fn create_table(directory: &Path, table: &str) -> String {
    files::create_external_table(table, &path(directory, table))
}

/// Writes the tables that are missing in `directory`, two at a time. `progress` gets the row count of each written
/// batch.
pub fn generate(directory: &Path, scale: f64, progress: impl Fn(u64) + Sync) -> Result<(), Error> {
    files::create_directory(directory, scale)?;
    let (first, rest) = TABLES.split_at(1);
    let write =
        |tables: &[&str]| tables.iter().try_for_each(|table| generate_table(directory, table, scale, &progress));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| write(rest));
        write(first)?;
        other.join().expect("generating does not panic")
    })
}

fn generate_table(directory: &Path, table: &str, scale: f64, progress: &impl Fn(u64)) -> Result<(), Error> {
    if path(directory, table).exists() {
        progress(rows(table, scale));
        return Ok(());
    }
    let rows = || {
        let batches = batches(table, scale);
        Rows { schema: batches.schema().clone(), batches: Box::new(batches.map(Ok)) }
    };
    files::write(directory, table, scale, rows, progress)
}

fn batches(table: &str, scale: f64) -> Box<dyn RecordBatchIterator> {
    match table {
        "lineitem" => Box::new(LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
        "orders" => Box::new(OrderArrow::new(OrderGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
        "partsupp" => Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
        "part" => Box::new(PartArrow::new(PartGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
        "customer" => Box::new(CustomerArrow::new(CustomerGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
        "supplier" => Box::new(SupplierArrow::new(SupplierGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS)),
        "nation" => Box::new(NationArrow::new(NationGenerator::new(scale, 1, 1))),
        _ => Box::new(RegionArrow::new(RegionGenerator::new(scale, 1, 1))),
    }
}

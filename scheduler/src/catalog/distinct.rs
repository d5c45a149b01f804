//! Estimates the number of distinct values of each column of a Parquet file from its footer alone.
//!
//! Few writers store distinct counts, and only per row group. But a column chunk whose pages all use its dictionary
//! has as many distinct values as the dictionary, and the footer gives the size of the dictionary.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::common::ScalarValue;
use parquet::basic::{Encoding, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

/// Approximate bytes of the page header in front of a dictionary's values (14).
const PAGE_HEADER_BYTES: f64 = 14.0;
/// An integer or date column counts as having all values of its range if the estimate is at least this share of the
/// range (0.5). Example: 600 estimated values between 1 and 1,000 are taken as 1,000.
const FILLED: f64 = 0.5;
/// Upper limit of the assumed compression ratio of a dictionary (4). The ratio of the whole column chunk may be
/// higher.
const MAX_COMPRESSION: f64 = 4.0;

/// The estimated distinct count of each column of `schema`; `None` if the footer has no statistics of the column.
pub(super) fn distinct_values(metadata: &ParquetMetaData, schema: &Schema) -> Vec<Option<usize>> {
    let column = |field: &Field| {
        let converter = hwacha_plan::column_statistics(metadata, field)?;
        let index = converter.parquet_column_index()?;
        let groups = metadata.row_groups();
        let least = converter.row_group_mins(groups).ok()?;
        let greatest = converter.row_group_maxes(groups).ok()?;
        combined(groups, index, &least, &greatest)
    };
    schema.fields().iter().map(|field| column(field)).collect()
}

/// Combines the counts of the row groups of one column.
///
/// If the value ranges of most row groups do not overlap, as in a sorted column, the counts are added. Otherwise all
/// row groups are taken as random draws from one domain. The size of the domain follows from how often values repeat
/// within a row group. Example: ten row groups of 20,000 values with 4,908 distinct values each give a domain of
/// about 5,000 values, so the column has about 5,000 distinct values and not 49,080.
fn combined(groups: &[RowGroupMetaData], column: usize, least: &ArrayRef, greatest: &ArrayRef) -> Option<usize> {
    let chunks: Vec<_> = groups.iter().map(|group| group.column(column)).filter(|it| it.num_values() > 0).collect();
    let values: f64 = chunks.iter().map(|chunk| chunk.num_values() as f64).sum();
    let distinct: Vec<f64> = chunks.iter().map(|chunk| distinct_in_chunk(chunk)).collect();
    let total: f64 = distinct.iter().sum();
    let (first, most) = (distinct.first()?, distinct.iter().copied().fold(0.0, f64::max));
    let count = match chunks.len() {
        1 => *first,
        _ if are_apart(least, greatest) => total,
        groups => {
            let groups = groups as f64;
            let domain = domain(values / groups, total / groups);
            drawn(domain, values).max(most)
        }
    };
    // The estimate from a compressed dictionary is often too low, so a range that is half filled counts as filled.
    let count = match span(least, greatest) {
        Some(span) if count >= span * FILLED => span,
        _ => count,
    };
    Some(count.clamp(1.0, values.max(1.0)) as usize)
}

/// The number of integers or days from the minimum to the maximum; `None` for other types.
fn span(least: &ArrayRef, greatest: &ArrayRef) -> Option<f64> {
    let numbers = |array: &ArrayRef| {
        let is_discrete = array.data_type().is_integer() || *array.data_type() == DataType::Date32;
        let days = cast(array, &DataType::Int32).ok().filter(|_| *array.data_type() == DataType::Date32);
        let numbers = cast(days.as_ref().unwrap_or(array), &DataType::Float64).ok().filter(|_| is_discrete)?;
        Some(numbers.as_primitive::<Float64Type>().clone())
    };
    Some(max(&numbers(greatest)?)? - min(&numbers(least)?)? + 1.0)
}

fn distinct_in_chunk(chunk: &ColumnChunkMetaData) -> f64 {
    let values = chunk.num_values() as f64;
    if let Some(counted) = chunk.statistics().and_then(|known| known.distinct_count_opt()) {
        return (counted as f64).min(values);
    }
    let in_dictionary = chunk
        .page_encoding_stats_mask()
        .is_some_and(|mask| mask.is_only(Encoding::PLAIN_DICTIONARY) || mask.is_only(Encoding::RLE_DICTIONARY));
    let (Some(start), true) = (chunk.dictionary_page_offset(), in_dictionary) else { return values };
    let compression = chunk.uncompressed_size() as f64 / chunk.compressed_size().max(1) as f64;
    let bytes = (chunk.data_page_offset() - start) as f64 - PAGE_HEADER_BYTES;
    (bytes * compression.clamp(1.0, MAX_COMPRESSION) / value_bytes(chunk)).clamp(1.0, values)
}

/// Bytes of one value in a dictionary.
fn value_bytes(chunk: &ColumnChunkMetaData) -> f64 {
    match chunk.column_type() {
        Type::BOOLEAN => 1.0,
        Type::INT32 | Type::FLOAT => 4.0,
        Type::INT64 | Type::DOUBLE => 8.0,
        Type::INT96 => 12.0,
        Type::FIXED_LEN_BYTE_ARRAY => f64::from(chunk.column_descr().type_length().max(1)),
        Type::BYTE_ARRAY => {
            let length_bytes = 4.0;
            let sampled = chunk.statistics().and_then(|known| known.max_bytes_opt()).map_or(16, <[u8]>::len) as f64;
            let mean = chunk.unencoded_byte_array_data_bytes();
            length_bytes + mean.map_or(sampled, |bytes| bytes as f64 / chunk.num_values().max(1) as f64)
        }
    }
}

/// Whether the value ranges of most row groups do not overlap: in the order of their minima, at least half of the row
/// groups after the first begin at or above the maximum of the row group before them.
fn are_apart(least: &ArrayRef, greatest: &ArrayRef) -> bool {
    let bound = |array: &ArrayRef, index| ScalarValue::try_from_array(array, index).ok();
    let known = (0..least.len()).filter(|index| least.is_valid(*index) && greatest.is_valid(*index));
    let mut ranges: Vec<_> = known.filter_map(|index| bound(least, index).zip(bound(greatest, index))).collect();
    ranges.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
    let apart = ranges.windows(2).filter(|pair| pair[0].1.partial_cmp(&pair[1].0) != Some(Ordering::Greater)).count();
    ranges.len() > 1 && apart * 2 >= ranges.len() - 1
}

/// The expected number of distinct values in `draws` random draws from a domain of `domain` values.
fn drawn(domain: f64, draws: f64) -> f64 {
    domain * (1.0 - (-draws / domain).exp())
}

/// The domain size for which `draws` random draws are expected to give `distinct` distinct values.
fn domain(draws: f64, distinct: f64) -> f64 {
    let (mut low, mut high) = (distinct, draws * draws);
    for _ in 0..64 {
        let middle = (low * high).sqrt();
        if drawn(middle, draws) < distinct { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::file::properties::WriterProperties;

    use super::*;

    const ROWS: i64 = 200_000;

    /// The estimates for a file with these columns in ten row groups.
    fn found(columns: Vec<(&str, ArrayRef)>) -> Vec<Option<usize>> {
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROWS as usize / 10)).build();
        let mut writer = ArrowWriter::try_new(vec![], batch.schema(), Some(properties)).expect("a schema");
        writer.write(&batch).expect("memory");
        let file = Bytes::from(writer.into_inner().expect("memory"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a file");
        distinct_values(reader.metadata(), &batch.schema())
    }

    fn numbers(value: impl Fn(i64) -> i64) -> ArrayRef {
        Arc::new((0..ROWS).map(value).collect::<Int64Array>())
    }

    /// Scatters numbers without a pattern.
    fn scattered(row: i64, values: i64) -> i64 {
        (row.wrapping_mul(0x5851_f42d_4c95_7f2d) >> 33).rem_euclid(values)
    }

    #[test]
    fn footers_tell_how_many_values_there_are() {
        let words = (0..ROWS).map(|row| Some(format!("word number {}", scattered(row, 150))));
        let found = found(vec![
            ("sorted in fours", numbers(|row| row / 4)),
            ("few", numbers(|row| scattered(row, 7))),
            ("far apart", numbers(|row| scattered(row, 40) * 1000)),
            ("many", numbers(|row| scattered(row, 5_000))),
            ("unique", numbers(|row| row * 7919 % 200_003)),
            ("words", Arc::new(words.collect::<StringArray>())),
        ]);
        let expected = [50_000.0, 7.0, 40.0, 5_000.0, 200_000.0, 150.0];
        for (found, expected) in found.into_iter().zip(expected) {
            let found = found.expect("statistics are written") as f64;
            assert!(found <= 2.0 * expected && found >= expected / 2.0, "found {found}, not about {expected}");
        }
    }
}

//! The footers of Parquet files that planning has opened: their columns' statistics, and which of their row groups a scan
//! reads.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::{ProjectionMask, parquet_to_arrow_schema_by_columns};
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use hwacha_operators::scan::FilePart;

/// What is known of files since they were planned.
#[derive(Clone)]
pub struct Footers(pub Arc<FileMetadataCache>);

impl Footers {
    pub(crate) fn get(&self, file: &PartitionedFile) -> Option<Arc<ParquetMetaData>> {
        let known = self.0.get(&file.object_meta.location).filter(|known| {
            known.meta.size == file.object_meta.size && known.meta.last_modified == file.object_meta.last_modified
        })?;
        let footer = known.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
        Some(Arc::clone(footer.parquet_metadata()))
    }
}

impl std::fmt::Debug for Footers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Footers").finish_non_exhaustive()
    }
}

/// The statistics of a table's column in one of its files, as values of the column's type; `None` if the file has no such
/// column. The file's columns can lie in another order than the table's, so they are found by name.
pub fn column_statistics<'a>(footer: &'a ParquetMetaData, field: &'a Field) -> Option<StatisticsConverter<'a>> {
    let schema = footer.file_metadata().schema_descr();
    let column = schema.columns().iter().position(|column| column.path().parts() == [field.name().as_str()])?;
    StatisticsConverter::from_column_index(column, field, schema).ok()
}

/// Whether a file has a column in the type that the table has it in: else its values change as they are read.
pub(crate) fn is_stored_as_it_is(footer: &ParquetMetaData, column: usize, field: &Field) -> bool {
    let schema = footer.file_metadata().schema_descr();
    let stored = parquet_to_arrow_schema_by_columns(schema, ProjectionMask::leaves(schema, [column]), None);
    stored.is_ok_and(|stored| kind(stored.field(0).data_type()) == kind(field.data_type()))
}

/// A type, or the one that has the same values and lies otherwise in memory.
fn kind(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => &DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => &DataType::Binary,
        other => other,
    }
}

/// Whether one of the parts of a file has a row group.
pub(crate) fn contain(file: &PartitionedFile, parts: &[&FilePart], row_group: &RowGroupMetaData) -> bool {
    let within = |begin: i64| move |part: &&FilePart| part.rows.bytes(file.object_meta.size).contains(&begin);
    begin(row_group).is_some_and(|begin| parts.iter().any(within(begin)))
}

/// Where a row group begins, as its reader sees it.
pub(crate) fn begin(row_group: &RowGroupMetaData) -> Option<i64> {
    let column = row_group.columns().first()?;
    Some(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
}

/// Where a row group of a file ends: where the next begins.
pub(crate) fn end_of(file: &PartitionedFile, row_groups: &[RowGroupMetaData], number: usize) -> Option<i64> {
    row_groups.get(number + 1).map_or(Some(file.object_meta.size as i64), begin)
}

/// Whether rows can be skipped unread: an index tells where pages are. Without their bounds it is read again and again.
pub(crate) fn has_pages(row_group: &RowGroupMetaData) -> bool {
    let mut columns = row_group.columns().iter();
    columns.all(|column| column.offset_index_offset().is_some() && column.column_index_offset().is_some())
}

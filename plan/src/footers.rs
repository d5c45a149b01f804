//! The footers of Parquet files that planning has opened: the statistics of columns, and the row groups that a scan
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

/// DataFusion's cache of footers. A cached footer is used only if the size and the modification time of the file are
/// the same as in the plan.
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

/// The statistics of a table's column in one of its files, as values of the column's type; `None` if the file has no
/// such column. The file may have its columns in another order than the table, so they are found by name.
pub fn column_statistics<'a>(footer: &'a ParquetMetaData, field: &'a Field) -> Option<StatisticsConverter<'a>> {
    let schema = footer.file_metadata().schema_descr();
    let column = schema.columns().iter().position(|column| column.path().parts() == [field.name().as_str()])?;
    StatisticsConverter::from_column_index(column, field, schema).ok()
}

/// Whether a file stores a column in the type of the table. Otherwise values are converted when they are read, and
/// the statistics may not hold for the converted values.
pub(crate) fn is_stored_as_it_is(footer: &ParquetMetaData, column: usize, field: &Field) -> bool {
    let schema = footer.file_metadata().schema_descr();
    let stored = parquet_to_arrow_schema_by_columns(schema, ProjectionMask::leaves(schema, [column]), None);
    stored.is_ok_and(|stored| kind(stored.field(0).data_type()) == kind(field.data_type()))
}

/// One type for all types with the same values and different memory layouts. Example: Utf8 for Utf8View.
fn kind(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => &DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => &DataType::Binary,
        other => other,
    }
}

/// Whether one of `parts` of a file reads the row group, that is, the row group begins within the bytes of the part.
pub(crate) fn contain(file: &PartitionedFile, parts: &[&FilePart], row_group: &RowGroupMetaData) -> bool {
    let within = |begin: i64| move |part: &&FilePart| part.rows.bytes(file.object_meta.size).contains(&begin);
    begin(row_group).is_some_and(|begin| parts.iter().any(within(begin)))
}

/// The byte offset at which a row group begins for its reader: the first page of its first column.
pub(crate) fn begin(row_group: &RowGroupMetaData) -> Option<i64> {
    let column = row_group.columns().first()?;
    Some(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
}

/// The byte offset at which row group `number` ends: the start of the next row group, or the end of the file.
pub(crate) fn end_of(file: &PartitionedFile, row_groups: &[RowGroupMetaData], number: usize) -> Option<i64> {
    row_groups.get(number + 1).map_or(Some(file.object_meta.size as i64), begin)
}

/// Whether pages of the row group can be skipped unread. This needs the offset index of all columns. The column index
/// is required too: if it is missing, DataFusion reads the page index again whenever it opens a part of the file.
pub(crate) fn has_pages(row_group: &RowGroupMetaData) -> bool {
    let mut columns = row_group.columns().iter();
    columns.all(|column| column.offset_index_offset().is_some() && column.column_index_offset().is_some())
}

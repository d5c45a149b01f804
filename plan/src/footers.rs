//! The footers of Parquet files that planning has opened: their columns' statistics, and which of their row groups a scan
//! reads.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

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

/// The parts of files that a scan reads, in order, those of one file together.
pub(crate) fn parts_of_files<'a>(parts: &mut [&'a PartitionedFile]) -> impl Iterator<Item = Vec<&'a PartitionedFile>> {
    parts.sort_by_key(|file| (file.object_meta.location.clone(), file.range().0));
    parts.chunk_by(|one, next| one.object_meta.location == next.object_meta.location).map(<[_]>::to_vec)
}

/// Whether one of the parts of a file has a row group.
pub(crate) fn contain(parts: &[&PartitionedFile], row_group: &RowGroupMetaData) -> bool {
    let within = |begin: i64| {
        move |part: &&PartitionedFile| {
            let (start, end) = part.range();
            (start as i64..end as i64).contains(&begin)
        }
    };
    begin(row_group).is_some_and(|begin| parts.iter().any(within(begin)))
}

/// Where a row group begins, as its reader sees it.
pub(crate) fn begin(row_group: &RowGroupMetaData) -> Option<i64> {
    let column = row_group.columns().first()?;
    Some(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
}

/// Whether rows can be skipped unread: an index tells where pages are. Without their bounds it is read again and again.
pub(crate) fn has_pages(row_group: &RowGroupMetaData) -> bool {
    let mut columns = row_group.columns().iter();
    columns.all(|column| column.offset_index_offset().is_some() && column.column_index_offset().is_some())
}

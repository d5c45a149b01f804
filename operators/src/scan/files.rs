//! What is known of a scan of files without its layout: bytes, columns, and whether it may be laid out anew.

use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileSource, ParquetSource};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

/// Where a scan puts a column of its table.
pub fn read_position(source: &ParquetSource, column: usize) -> Option<usize> {
    let Some(projection) = source.projection() else { return Some(column) };
    let is_it = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().is_some_and(|it| it.index() == column);
    projection.iter().position(|read| is_it(&read.expr))
}

/// Whether nobody counts on which rows a scan has in which partition; their order aside.
pub fn is_free(scan: &FileScanConfig) -> bool {
    scan.output_partitioning.is_none() && scan.limit.is_none()
}

/// Bytes of files that a group reads.
pub fn group_bytes(group: &FileGroup) -> u64 {
    group.iter().map(file_bytes).sum()
}

/// Bytes of a file that are read; of a selection of its rows, their share.
pub fn file_bytes(file: &PartitionedFile) -> u64 {
    let (start, end) = file.range();
    let bytes = end.saturating_sub(start);
    let Some(rows) = file.extension::<ParquetRowSelection>().map(ParquetRowSelection::selection) else {
        return bytes;
    };
    let all = rows.row_count() + rows.skipped_row_count();
    (bytes as f64 * rows.row_count() as f64 / all.max(1) as f64) as u64
}

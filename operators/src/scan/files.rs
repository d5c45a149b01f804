//! Properties of a file scan in DataFusion's form: bytes, column positions, and whether it may get another layout.

use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileSource, ParquetSource};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

/// The position of a table's column in the rows of a scan; `None` if the scan does not read the column.
pub fn read_position(source: &ParquetSource, column: usize) -> Option<usize> {
    let Some(projection) = source.projection() else { return Some(column) };
    let is_it = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().is_some_and(|it| it.index() == column);
    projection.iter().position(|read| is_it(&read.expr))
}

/// Whether a scan may get another layout: no operator relies on the partition in which a row is. Operators may still
/// rely on the row order.
pub fn is_free(scan: &FileScanConfig) -> bool {
    scan.output_partitioning.is_none() && scan.limit.is_none()
}

/// Bytes that a file group reads.
pub fn group_bytes(group: &FileGroup) -> u64 {
    group.iter().map(file_bytes).sum()
}

/// Bytes of a file that a scan reads. Example: if 10 of 100 rows are selected, a tenth of the file's bytes.
pub fn file_bytes(file: &PartitionedFile) -> u64 {
    let (start, end) = file.range();
    let bytes = end.saturating_sub(start);
    let Some(rows) = file.extension::<ParquetRowSelection>().map(ParquetRowSelection::selection) else {
        return bytes;
    };
    let all = rows.row_count() + rows.skipped_row_count();
    (bytes as f64 * rows.row_count() as f64 / all.max(1) as f64) as u64
}

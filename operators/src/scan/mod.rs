//! Scans of files: the rows that each task reads ([`ScanLayout`]), the readers of files, and errors with file names.
//!
//! ```text
//! DataSourceExec  ──rules of the scheduler──>  PlacedScanExec ──codec──> PlacedScanExec ──of_task──> DataSourceExec
//! as DataFusion plans it                       with its layout           on an executor              of own files
//! ```

pub mod arrow_files;
mod files;
mod kept_columns;
mod layout;
mod placed;
mod planned_files;
mod read_ahead;
mod readers;
mod remote_file;
mod task_source;
pub mod wide_dictionaries;

use std::sync::Arc;

use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

pub use files::{file_bytes, group_bytes, is_free, read_position};
pub use layout::{FilePart, FileRows, ScanLayout};
pub use placed::PlacedScanExec;

use crate::key_ranges::KeyRanges;

/// `node` as a scan of files; `None` for other operators.
pub fn file_scan(node: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    match node.downcast_ref::<PlacedScanExec>() {
        Some(placed) => Some(placed.scan()),
        None => node.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>(),
    }
}

/// The layout of `node` if it is a scan of files; `None` for other operators.
pub fn scan_layout(node: &Arc<dyn ExecutionPlan>) -> Option<ScanLayout> {
    match node.downcast_ref::<PlacedScanExec>() {
        Some(placed) => Some(placed.layout().clone()),
        None => file_scan(node).map(ScanLayout::of),
    }
}

/// The key ranges of `node` if it is a scan of files whose partitions are ranges of a key.
pub fn scan_ranges(node: &Arc<dyn ExecutionPlan>) -> Option<&KeyRanges> {
    node.downcast_ref::<PlacedScanExec>()?.layout().ranges.as_ref()
}

/// The scan `node` with this layout.
///
/// # Errors
///
/// `node` is no scan of files, or the ranges of the layout are not over a column of its table.
pub fn laid_out(node: &Arc<dyn ExecutionPlan>, layout: ScanLayout) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = file_scan(node).ok_or_else(|| internal_datafusion_err!("{} is no scan of files", node.name()))?;
    Ok(Arc::new(PlacedScanExec::new(scan, layout)?))
}

/// The scan `node`, configured by `scan`, with another file source.
///
/// # Errors
///
/// The layout has ranges over a column that the table of `source` lacks.
pub fn with_source(
    node: &Arc<dyn ExecutionPlan>,
    scan: &FileScanConfig,
    source: Arc<dyn FileSource>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = FileScanConfigBuilder::from(scan.clone()).with_source(source).build();
    Ok(match node.downcast_ref::<PlacedScanExec>() {
        Some(placed) => Arc::new(PlacedScanExec::new(&scan, placed.layout().clone())?),
        None => DataSourceExec::from_data_source(scan),
    })
}

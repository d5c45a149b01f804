//! Scans of files: compression, the terminator of CSV lines, Arrow data without a footer, rows of Parquet files, and
//! the order in which files are read.
//!
//! Values of partition columns that DataFusion's encoding alters are refused: no type that can be declared has any.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{GetExt, Result, internal_err, not_impl_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::physical_plan::ExecutionPlan;
use hwacha_operators::file_scan::file_scan;
use hwacha_operators::key_ranges::RangeEdge;
use hwacha_operators::scalars::survives;
use hwacha_operators::scan::page_indexes::PageIndexes;
use hwacha_proto::exchange::{FileRows, ScanRest};

/// One entry per scan of files; none when nothing is left out.
pub(crate) fn scans(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<ScanRest>> {
    let mut rests = vec![];
    plan.apply(|node| {
        if let Some(scan) = file_scan(node) {
            check_partition_values(scan)?;
            rests.push(rest(scan));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let nothing = rests.iter().all(|rest| *rest == ScanRest::default());
    Ok(if nothing { vec![] } else { rests })
}

/// What the source of Arrow data without a footer calls itself.
const ARROW_STREAM: &str = "arrow_stream";

/// Fails if a file would get another value of a partition column than its directory says.
fn check_partition_values(scan: &FileScanConfig) -> Result<()> {
    let files = scan.file_groups.iter().flat_map(FileGroup::iter);
    match files.flat_map(|file| &file.partition_values).find(|value| !survives(value)) {
        Some(value) => not_impl_err!("partition columns of type {} are not supported", value.data_type()),
        None => Ok(()),
    }
}

fn rest(scan: &FileScanConfig) -> ScanRest {
    let source = scan.file_source();
    ScanRest {
        compression: scan.file_compression_type.get_ext().trim_start_matches('.').to_owned(),
        csv_terminator: source.downcast_ref::<CsvSource>().and_then(CsvSource::terminator).map(u32::from),
        arrow_stream: source.file_type() == ARROW_STREAM,
        rows: rows(scan),
        // With a known order of rows it is so anyway.
        keeps_order: scan.preserve_order && scan.output_ordering.is_empty(),
    }
}

fn rows(scan: &FileScanConfig) -> Vec<FileRows> {
    let files = scan.file_groups.iter().flat_map(FileGroup::iter);
    let rows: Vec<_> = files.map(rows_of).collect();
    let nothing = rows.iter().all(|rows| *rows == FileRows::default());
    if nothing { vec![] } else { rows }
}

fn rows_of(file: &PartitionedFile) -> FileRows {
    FileRows {
        runs: file.extension::<ParquetRowSelection>().map(runs).unwrap_or_default(),
        range_edge: file.extension::<RangeEdge>().is_some(),
    }
}

fn runs(rows: &ParquetRowSelection) -> Vec<u64> {
    let mut runs = vec![0];
    for run in rows.selection().iter() {
        if run.skip != (runs.len() % 2 == 1) {
            runs.push(0);
        }
        *runs.last_mut().expect("there is one from the start") += run.row_count as u64;
    }
    runs
}

/// The groups with their files cut down to the rows that are read.
fn with_rows(groups: &[FileGroup], rows: &[FileRows]) -> Result<Vec<FileGroup>> {
    let files: usize = groups.iter().map(FileGroup::len).sum();
    if files != rows.len() {
        return internal_err!("a scan of {files} files came with rows of {}", rows.len());
    }
    let mut rows = rows.iter();
    let mut cut = |file: &PartitionedFile| {
        let (mut file, rows) = (file.clone(), rows.next().expect("there are as many"));
        if !rows.runs.is_empty() {
            file = file.with_extension(selection(rows));
        }
        if rows.range_edge { file.with_extension(RangeEdge) } else { file }
    };
    Ok(groups.iter().map(|group| FileGroup::new(group.iter().map(&mut cut).collect())).collect())
}

fn selection(rows: &FileRows) -> ParquetRowSelection {
    let run = |(index, rows): (usize, &u64)| RowSelector { row_count: *rows as usize, skip: index % 2 == 0 };
    ParquetRowSelection::new(RowSelection::from(rows.runs.iter().enumerate().map(run).collect::<Vec<_>>()))
}

pub(super) fn with_rest(scan: &FileScanConfig, rest: &ScanRest) -> Result<Arc<dyn ExecutionPlan>> {
    let mut source = Arc::clone(scan.file_source());
    if let Some(csv) = source.downcast_ref::<CsvSource>() {
        source = Arc::new(csv.with_terminator(rest.csv_terminator.map(|byte| byte as u8)));
    } else if rest.arrow_stream {
        let stream = ArrowSource::new_stream_file_source(source.table_schema().clone());
        source = match source.projection() {
            Some(projection) => stream.try_pushdown_projection(projection)?.unwrap_or_else(|| Arc::new(stream)),
            None => Arc::new(stream),
        };
    } else if let Some(parquet) = source.downcast_ref::<ParquetSource>().filter(|_| !rest.rows.is_empty())
        && let Some(readers) = parquet.parquet_file_reader_factory()
    {
        let readers = Arc::new(PageIndexes(Arc::clone(readers)));
        source = Arc::new(parquet.clone().with_parquet_file_reader_factory(readers));
    }
    let mut builder = FileScanConfigBuilder::from(scan.clone())
        .with_source(source)
        .with_preserve_order(scan.preserve_order || rest.keeps_order)
        .with_file_compression_type(FileCompressionType::from_str(&rest.compression)?);
    if !rest.rows.is_empty() {
        builder = builder.with_file_groups(with_rows(&scan.file_groups, &rest.rows)?);
    }
    Ok(DataSourceExec::from_data_source(builder.build()))
}

//! Scans of files: compression, the terminator of CSV lines, and Arrow data without a footer.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{GetExt, Result};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use hwacha_proto::exchange::ScanRest;

use crate::localize::file_scan;

/// One entry per scan of files; none when nothing is left out.
pub(in crate::codec) fn scans(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<ScanRest>> {
    let mut rests = vec![];
    plan.apply(|node| {
        rests.extend(file_scan(node).map(rest));
        Ok(TreeNodeRecursion::Continue)
    })?;
    let nothing = rests.iter().all(|rest| *rest == ScanRest::default());
    Ok(if nothing { vec![] } else { rests })
}

/// What the source of Arrow data without a footer calls itself.
const ARROW_STREAM: &str = "arrow_stream";

fn rest(scan: &FileScanConfig) -> ScanRest {
    let source = scan.file_source();
    ScanRest {
        compression: scan.file_compression_type.get_ext().trim_start_matches('.').to_owned(),
        csv_terminator: source.downcast_ref::<CsvSource>().and_then(CsvSource::terminator).map(u32::from),
        arrow_stream: source.file_type() == ARROW_STREAM,
    }
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
    }
    let scan = FileScanConfigBuilder::from(scan.clone())
        .with_source(source)
        .with_file_compression_type(FileCompressionType::from_str(&rest.compression)?)
        .build();
    Ok(DataSourceExec::from_data_source(scan))
}

//! Gives each partition of a spread scan row groups from all over a file.
//!
//! DataFusion cuts files into runs, one for each partition. Rows often lie in a file in the order in which they came to be,
//! so that a year that is asked for lies in one run, and one executor alone has work. Within a process partitions steal
//! from each other; executors cannot.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::file::metadata::RowGroupMetaData;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::localize::{file_bytes, file_scan, group_bytes};
use crate::session::hwacha_options;
use crate::splitter::Cluster;

/// How many pieces of files a partition reads, as a rule: each is opened by itself, which takes some time.
const PIECES: u64 = 4;

/// Deals row groups out to the partitions of scans that several tasks share.
pub struct InterleavedScansRule {
    pub cluster: Cluster,
    /// Where planning has left the footers of files.
    pub footers: Arc<FileMetadataCache>,
}

impl std::fmt::Debug for InterleavedScansRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InterleavedScansRule").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl PhysicalOptimizerRule for InterleavedScansRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if self.cluster.tasks == 1 || !hwacha_options(config).optimizer.interleaved_scans {
            return Ok(plan);
        }
        plan.transform_up(|node| match file_scan(&node).filter(|scan| is_unordered(scan)) {
            Some(scan) => {
                let groups = self.interleaved(&scan.file_groups, config.optimizer.repartition_file_min_size as u64);
                let scan = FileScanConfigBuilder::from(scan.clone()).with_file_groups(groups).build();
                Ok(Transformed::yes(DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>))
            }
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "interleaved_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether nobody counts on which rows are in which partition, nor on their order.
fn is_unordered(scan: &FileScanConfig) -> bool {
    scan.file_groups.len() > 1
        && scan.output_ordering.is_empty()
        && scan.output_partitioning.is_none()
        && scan.limit.is_none()
        && scan.file_source().is::<ParquetSource>()
}

impl InterleavedScansRule {
    /// The same files in as many groups: each piece goes to the group that has least. Pieces have at least `least` bytes.
    fn interleaved(&self, groups: &[FileGroup], least: u64) -> Vec<FileGroup> {
        let bytes: u64 = groups.iter().map(group_bytes).sum();
        let least = (bytes / (groups.len() as u64 * PIECES)).max(least);
        let mut dealt = vec![(0, vec![]); groups.len()];
        for piece in groups.iter().flat_map(FileGroup::iter).flat_map(|file| self.pieces(file, least)) {
            let (bytes, files) = dealt.iter_mut().min_by_key(|(bytes, _)| *bytes).expect("there are groups");
            *bytes += file_bytes(&piece);
            files.push(piece);
        }
        dealt.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
    }

    /// A file, or the part of one, cut between row groups into pieces of at least so many bytes.
    fn pieces(&self, file: &PartitionedFile, least: u64) -> Vec<PartitionedFile> {
        let (start, end) = (file.range().0 as i64, file.range().1 as i64);
        let mut cuts = vec![start];
        for row_group in self.row_groups(file) {
            if row_group - cuts[cuts.len() - 1] >= least.max(1) as i64 && row_group < end {
                cuts.push(row_group);
            }
        }
        if cuts.len() == 1 {
            return vec![file.clone()];
        }
        cuts.push(end);
        // What is known of the whole file is known of it where it is opened.
        let piece = PartitionedFile { statistics: None, ..file.clone() };
        cuts.windows(2).map(|cut| piece.clone().with_range(cut[0], cut[1])).collect()
    }

    /// Where the row groups of a file begin, as its reader sees it; none if its footer is not at hand.
    fn row_groups(&self, file: &PartitionedFile) -> Vec<i64> {
        let known = self.footers.get(&file.object_meta.location).filter(|known| {
            known.meta.size == file.object_meta.size && known.meta.last_modified == file.object_meta.last_modified
        });
        let footer = known.and_then(|known| {
            let footer = known.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
            Some(Arc::clone(footer.parquet_metadata()))
        });
        footer.map(|footer| footer.row_groups().iter().filter_map(begin).collect()).unwrap_or_default()
    }
}

fn begin(row_group: &RowGroupMetaData) -> Option<i64> {
    let column = row_group.columns().first()?;
    Some(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
}

//! Gives each partition of a spread scan rows from all over a file.
//!
//! DataFusion cuts files into runs of row groups, one for each partition. Rows often lie in a file in the order in which
//! they came to be, so that a year that is asked for lies in one run, and one executor alone has work. Within a process
//! partitions steal from each other; executors cannot. A file with few row groups cannot be cut evenly at all, so that
//! large ones are shared.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::localize::{file_bytes, file_scan, group_bytes};
use crate::session::hwacha_options;
use crate::splitter::Cluster;

/// How many pieces of files a partition reads, as a rule. Those of one file are opened together.
const PIECES: u64 = 16;
/// The least rows of a piece of a shared row group, if its sharers have several: pages of 20,000 rows are usual, and those
/// at a piece's ends are read by two.
const TURN_ROWS: usize = 32_768;
/// In how many parts a partition opens what it has of a file when others may take parts from it.
const STOLEN_PIECES: usize = 4;

/// Deals rows out to the partitions of scans that several tasks share.
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
    /// The same files in as many groups. No two groups share less than `least` bytes of a row group.
    fn interleaved(&self, groups: &[FileGroup], least: u64) -> Vec<FileGroup> {
        let bytes: u64 = groups.iter().map(group_bytes).sum();
        let piece = (bytes / (groups.len() as u64 * PIECES)).max(1);
        let mut deal = Deal { piece, least: least.max(1), dealt: vec![Share::default(); groups.len()] };
        let mut files: Vec<_> = groups.iter().flat_map(FileGroup::iter).collect();
        files.sort_by_key(|file| (&file.object_meta.location, file.range().0));
        for parts in files.chunk_by(|one, next| one.object_meta.location == next.object_meta.location) {
            match self.footer(parts[0]) {
                Some(footer) => deal.file(parts, footer.row_groups(), self.cluster.partitions_per_task),
                None => parts.iter().for_each(|part| deal.whole(part)),
            }
        }
        deal.dealt.into_iter().map(|share| FileGroup::new(share.files)).collect()
    }

    /// What is known of a file since it was planned.
    fn footer(&self, file: &PartitionedFile) -> Option<Arc<ParquetMetaData>> {
        let known = self.footers.get(&file.object_meta.location).filter(|known| {
            known.meta.size == file.object_meta.size && known.meta.last_modified == file.object_meta.last_modified
        })?;
        let footer = known.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?;
        Some(Arc::clone(footer.parquet_metadata()))
    }
}

/// What each partition has been dealt.
struct Deal {
    /// Bytes that are dealt at once, if they can be.
    piece: u64,
    least: u64,
    dealt: Vec<Share>,
}

#[derive(Clone, Default)]
struct Share {
    bytes: u64,
    files: Vec<PartitionedFile>,
    /// Rows of the file that is being dealt, in order.
    rows: Vec<Range<usize>>,
}

impl Deal {
    fn whole(&mut self, file: &PartitionedFile) {
        let share = self.poorest(1)[0];
        self.dealt[share].bytes += file_bytes(file);
        self.dealt[share].files.push(file.clone());
    }

    /// A file of which `parts` are read, none of them twice.
    fn file(&mut self, parts: &[&PartitionedFile], row_groups: &[RowGroupMetaData], partitions_per_task: usize) {
        let mut open: Option<Piece> = None;
        let mut row = 0;
        for row_group in row_groups {
            let rows = row..row + row_group.num_rows() as usize;
            row = rows.end;
            if !begin(row_group).is_some_and(|begin| parts.iter().any(|part| contains(part, begin))) {
                continue;
            }
            let bytes = row_group.compressed_size().max(0) as u64;
            let sharers = self.sharers(bytes, row_group);
            if sharers > 1 {
                self.shared(&rows, bytes, sharers);
                continue;
            }
            let piece = match open.take() {
                Some(piece) if piece.rows.end == rows.start => {
                    Piece { rows: piece.rows.start..rows.end, bytes: piece.bytes + bytes }
                }
                before => {
                    before.into_iter().for_each(|piece| self.piece(piece));
                    Piece { rows, bytes }
                }
            };
            match piece.bytes >= self.piece {
                true => self.piece(piece),
                false => open = Some(piece),
            }
        }
        open.into_iter().for_each(|piece| self.piece(piece));
        // What a task's partitions have they may take from each other, file by file.
        let files = if partitions_per_task > 1 { STOLEN_PIECES } else { 1 };
        for share in &mut self.dealt {
            let rows = std::mem::take(&mut share.rows);
            let runs = rows.len().div_ceil(files).max(1);
            share.files.extend(rows.chunks(runs).map(|rows| only(parts[0], rows, row)));
        }
    }

    /// How many partitions read of a row group. Rows can only be skipped unread where an index tells their pages.
    fn sharers(&self, bytes: u64, row_group: &RowGroupMetaData) -> usize {
        if row_group.columns().iter().any(|column| column.offset_index_offset().is_none()) {
            return 1;
        }
        let wanted = bytes.div_ceil(self.piece).min(bytes / self.least);
        wanted.clamp(1, self.dealt.len() as u64) as usize
    }

    fn piece(&mut self, piece: Piece) {
        let share = self.poorest(1)[0];
        self.dealt[share].take(piece);
    }

    /// A row group's rows, in turns.
    fn shared(&mut self, rows: &Range<usize>, bytes: u64, sharers: usize) {
        let turns = bytes.div_ceil(self.piece * sharers as u64) as usize;
        let cuts = turns.min(rows.len() / TURN_ROWS / sharers).max(1) * sharers;
        let cut = |index: usize| rows.start + rows.len() * index / cuts;
        let shares = self.poorest(sharers);
        for (index, share) in (0..cuts).zip(shares.into_iter().cycle()) {
            self.dealt[share].take(Piece { rows: cut(index)..cut(index + 1), bytes: bytes / cuts as u64 });
        }
    }

    /// Those that have least.
    fn poorest(&self, count: usize) -> Vec<usize> {
        let mut shares: Vec<_> = (0..self.dealt.len()).collect();
        shares.sort_by_key(|share| self.dealt[*share].bytes);
        shares.truncate(count);
        shares
    }
}

struct Piece {
    rows: Range<usize>,
    bytes: u64,
}

impl Share {
    fn take(&mut self, piece: Piece) {
        self.bytes += piece.bytes;
        match self.rows.last_mut() {
            Some(last) if last.end == piece.rows.start => last.end = piece.rows.end,
            _ => self.rows.push(piece.rows),
        }
    }
}

/// These rows of a file, which has `all`.
fn only(file: &PartitionedFile, rows: &[Range<usize>], all: usize) -> PartitionedFile {
    let whole = PartitionedFile { range: None, ..file.clone() };
    if rows.len() == 1 && rows[0] == (0..all) {
        return whole;
    }
    // What is known of the whole file is known of it where it is opened.
    let part = PartitionedFile { statistics: None, ..whole };
    part.with_extension(ParquetRowSelection::new(RowSelection::from_consecutive_ranges(rows.iter().cloned(), all)))
}

fn contains(part: &PartitionedFile, begin: i64) -> bool {
    let (start, end) = part.range();
    (start as i64..end as i64).contains(&begin)
}

/// Where a row group begins, as its reader sees it.
fn begin(row_group: &RowGroupMetaData) -> Option<i64> {
    let column = row_group.columns().first()?;
    Some(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
}

//! Gives each partition of a spread scan rows from all over a file.
//!
//! DataFusion cuts a file into contiguous runs of row groups, one run per partition. Rows often lie in a file in the
//! order of their creation. If a query reads one year, all its rows may lie in one run, and only one executor has
//! work. Partitions of one process take files from each other, but executors cannot. So each row group goes to the
//! partition with the fewest bytes so far. If there are few row groups, partitions share them:
//!
//! ```text
//!   8 row groups, 2 partitions     before: 0 1 2 3 | 4 5 6 7     after: 0 2 4 6 | 1 3 5 7
//!   3 row groups, 2 partitions     before: 0 1 | 2               after: half of each | half of each
//! ```

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::parquet::file::metadata::RowGroupMetaData;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use hwacha_execution::session::hwacha_options;
use hwacha_operators::scan::{FilePart, FileRows, ScanLayout, file_scan, is_free, laid_out, scan_layout};
use object_store::path::Path;

use crate::cluster::Cluster;
use crate::footers::{Footers, contain, has_pages};
use crate::tuning::{OPENED_PARTS, PAGE_ROWS, READ_ROW_GROUPS, SHARER_TURNS, UNEVEN_SHARE};

/// Deals out the rows of a scan to its partitions, in plans for several tasks.
#[derive(Debug)]
pub struct InterleavedScansRule {
    pub cluster: Cluster,
    pub footers: Footers,
}

impl PhysicalOptimizerRule for InterleavedScansRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if self.cluster.tasks == 1 || !hwacha_options(config).optimizer.interleaved_scans {
            return Ok(plan);
        }
        let least = config.optimizer.repartition_file_min_size as u64;
        let mut tables = vec![];
        plan.transform_up(|node| match file_scan(&node).filter(is_unordered).and_then(|_| scan_layout(&node)) {
            Some(layout) => {
                let table = number(&mut tables, &layout);
                laid_out(&node, self.interleaved(layout, least, table)).map(Transformed::yes)
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

/// The number of the table that a scan reads. Tables are numbered in the order in which the plan first reads them.
/// The alphabetically first path identifies a table.
fn number(tables: &mut Vec<Option<Path>>, layout: &ScanLayout) -> usize {
    let first = layout.parts().map(|(file, _)| file.object_meta.location.clone()).min();
    tables.iter().position(|table| *table == first).unwrap_or_else(|| {
        tables.push(first);
        tables.len() - 1
    })
}

/// Whether the scan reads Parquet files in several partitions, and no operator relies on its partitioning or order.
fn is_unordered(scan: &&FileScanConfig) -> bool {
    scan.file_groups.len() > 1
        && is_free(scan)
        && scan.output_ordering.is_empty()
        && scan.file_source().is::<ParquetSource>()
}

impl InterleavedScansRule {
    /// Deals out the rows of `layout` to the same number of partitions. The partitions that share a row group read at
    /// least `least` bytes of it on average. Tables too small to share go to different tasks, chosen by `table`.
    fn interleaved(&self, layout: ScanLayout, least: u64, table: usize) -> ScanLayout {
        let partitions = layout.partitions.len();
        let bytes: u64 = layout.parts().map(|(file, part)| part.bytes(file)).sum();
        let even = bytes as f64 / partitions as f64;
        let files = layout.parts_by_file().into_iter();
        let files: Vec<_> = files.map(|(file, parts)| (file, parts, self.footers.get(file))).collect();
        let mut row_groups = 0;
        for (file, parts, footer) in &files {
            let all = footer.iter().flat_map(|footer| footer.row_groups());
            row_groups += all.filter(|row_group| contain(file, parts, row_group)).count();
        }
        let sharers = (partitions * READ_ROW_GROUPS).div_ceil(row_groups.max(1));
        let first = table * self.cluster.partitions_per_task % partitions;
        let mut deal = Deal { even, least: least.max(1), sharers, first, dealt: vec![Share::default(); partitions] };
        for (file, parts, footer) in files {
            match footer {
                Some(footer) => deal.file(file, &parts, footer.row_groups(), self.cluster.partitions_per_task),
                None => parts.iter().for_each(|part| deal.whole(file, part)),
            }
        }
        let dealt = deal.dealt.into_iter().map(|share| share.parts).collect();
        layout.with_partitions(dealt)
    }
}

struct Deal {
    /// Bytes that each partition reads if the scan is split evenly.
    even: f64,
    /// Least bytes that the partitions read of a shared row group on average.
    least: u64,
    /// Least number of partitions that share a row group. Fewer share it if they would read fewer than `least` bytes or
    /// less than a page on average.
    sharers: usize,
    /// The partition that comes first among partitions with equal bytes.
    first: usize,
    dealt: Vec<Share>,
}

#[derive(Clone, Default)]
struct Share {
    bytes: u64,
    parts: Vec<FilePart>,
    /// Rows of whole row groups of the current file, as ascending runs of row numbers.
    rows: Vec<Range<usize>>,
    /// Rows of shared row groups of the current file: a list of runs for each row group.
    pieces: Vec<Vec<Range<usize>>>,
}

impl Deal {
    fn whole(&mut self, file: &PartitionedFile, part: &FilePart) {
        let share = self.poorest()[0];
        self.dealt[share].bytes += part.bytes(file);
        self.dealt[share].parts.push(part.clone());
    }

    /// Deals out the row groups of a file that `parts` read. No row group is in two parts.
    fn file(
        &mut self,
        file: &PartitionedFile,
        parts: &[&FilePart],
        row_groups: &[RowGroupMetaData],
        partitions_per_task: usize,
    ) {
        let mut row = 0;
        for row_group in row_groups {
            let rows = row..row + row_group.num_rows() as usize;
            row = rows.end;
            if contain(file, parts, row_group) {
                self.row_group(rows, row_group);
            }
        }
        // A partition that has finished takes reads from other partitions of its task. So the rows of each partition
        // are divided into several reads.
        let opened = if partitions_per_task > 1 { OPENED_PARTS } else { 1 };
        for share in &mut self.dealt {
            let (rows, pieces) = (std::mem::take(&mut share.rows), std::mem::take(&mut share.pieces));
            let runs = rows.len().div_ceil(opened).max(1);
            // DataFusion cannot skip a row group for a TopK if the read has a row selection. So parts of row groups
            // are read separately, after the whole row groups.
            let opened = rows.chunks(runs).chain(pieces.iter().map(Vec::as_slice)).filter(|rows| !rows.is_empty());
            share.parts.extend(opened.map(|rows| FilePart::new(parts[0].file, only(rows, row))));
        }
    }

    /// Gives a row group to the partition with the fewest bytes, or divides it between several partitions with few
    /// bytes. These sharers take runs of pages in turn.
    fn row_group(&mut self, rows: Range<usize>, row_group: &RowGroupMetaData) {
        let bytes = row_group.compressed_size().max(0) as u64;
        let poorest = self.poorest();
        let level = match has_pages(row_group) {
            true => self.level(&poorest, bytes, rows.len()),
            false => Level { sharers: 1, bytes: f64::MAX },
        };
        if level.sharers == 1 {
            let share = &mut self.dealt[poorest[0]];
            share.bytes += bytes;
            return append(&mut share.rows, rows);
        }
        let room = |of: usize| (level.bytes - self.dealt[of].bytes as f64).max(0.0);
        let all: f64 = poorest[..level.sharers].iter().map(|of| room(*of)).sum();
        let shares: Vec<_> = poorest[..level.sharers].iter().map(|of| (*of, room(*of) / all)).collect();
        shares.iter().for_each(|(of, _)| self.dealt[*of].pieces.push(vec![]));
        let turns = (rows.len() / PAGE_ROWS / level.sharers).clamp(1, SHARER_TURNS);
        let (mut start, mut dealt) = (rows.start, 0.0);
        for (turn, (of, share)) in (0..turns).flat_map(|turn| shares.iter().map(move |share| (turn, *share))) {
            dealt += share / turns as f64;
            let is_last = turn + 1 == turns && of == shares[shares.len() - 1].0;
            let end =
                if is_last { rows.len() } else { whole_pages((rows.len() as f64 * dealt) as usize).min(rows.len()) };
            let piece = start..(rows.start + end).max(start);
            start = piece.end;
            let piece_bytes = bytes as f64 * piece.len() as f64 / rows.len() as f64;
            let share = &mut self.dealt[of];
            share.bytes += piece_bytes as u64;
            share.pieces.last_mut().into_iter().for_each(|pieces| append(pieces, piece.clone()));
        }
    }

    /// How many of the partitions with the fewest bytes share a row group of `bytes` bytes, and the bytes that each
    /// of them has afterwards. `poorest` has the partitions in ascending order of their bytes.
    ///
    /// Example: three partitions have 0, 10 and 50 bytes, the row group has 60, and the even share is 40. The first
    /// two partitions share the row group and then have 35 bytes each.
    fn level(&self, poorest: &[usize], bytes: u64, rows: usize) -> Level {
        let most = (bytes / self.least).min((rows / PAGE_ROWS) as u64).min(poorest.len() as u64).max(1) as usize;
        let (mut level, mut all) = (Level { sharers: 0, bytes: 0.0 }, bytes as f64);
        for (index, of) in poorest[..most].iter().enumerate() {
            all += self.dealt[*of].bytes as f64;
            level = Level { sharers: index + 1, bytes: all / (index + 1) as f64 };
            let next = poorest.get(index + 1).map_or(f64::MAX, |next| self.dealt[*next].bytes as f64);
            if level.sharers >= self.sharers && level.bytes <= next.max(self.even * UNEVEN_SHARE) {
                break;
            }
        }
        level
    }

    /// The partitions in ascending order of their bytes.
    fn poorest(&self) -> Vec<usize> {
        let mut shares: Vec<_> = (0..self.dealt.len()).collect();
        shares.rotate_left(self.first);
        shares.sort_by_key(|share| self.dealt[*share].bytes);
        shares
    }
}

/// The number of partitions that share a row group, and the bytes that each of them has afterwards.
struct Level {
    sharers: usize,
    bytes: f64,
}

/// Appends rows to runs that end before them. Adjacent runs become one run.
fn append(rows: &mut Vec<Range<usize>>, next: Range<usize>) {
    match rows.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ if next.is_empty() => {}
        _ => rows.push(next),
    }
}

fn whole_pages(rows: usize) -> usize {
    (rows + PAGE_ROWS / 2) / PAGE_ROWS * PAGE_ROWS
}

/// The runs `rows` of a file with `of` rows.
fn only(rows: &[Range<usize>], of: usize) -> FileRows {
    match rows {
        [rows] if *rows == (0..of) => FileRows::All,
        rows => FileRows::Numbers { runs: rows.to_vec(), of },
    }
}

#[cfg(test)]
mod tests {
    use datafusion::parquet::basic::Type as PhysicalType;
    use datafusion::parquet::file::metadata::ColumnChunkMetaData;
    use datafusion::parquet::schema::types::{SchemaDescriptor, Type};

    use super::*;

    /// Adjacent row groups of one column. Each of `sizes` is the row count of a row group and also its bytes.
    fn row_groups(sizes: &[i64]) -> Vec<RowGroupMetaData> {
        let column = Type::primitive_type_builder("n", PhysicalType::INT64).build().expect("a type");
        let schema = Type::group_type_builder("t").with_fields(vec![Arc::new(column)]).build().expect("a type");
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema)));
        let mut offset = 4;
        let row_group = |size: &i64| {
            let chunk = ColumnChunkMetaData::builder(schema.column(0))
                .set_data_page_offset(offset)
                .set_total_compressed_size(*size)
                .set_offset_index_offset(Some(1))
                .set_column_index_offset(Some(1));
            offset += size;
            RowGroupMetaData::builder(Arc::clone(&schema))
                .set_num_rows(*size)
                .set_column_metadata(vec![chunk.build().expect("a chunk")])
                .build()
                .expect("a row group")
        };
        sizes.iter().map(row_group).collect()
    }

    #[test]
    fn every_row_is_dealt_once_and_evenly() {
        let sizes: [&[i64]; 6] = [
            &[262_144, 262_144, 200_000],
            &[1, 300_000, 300_000, 1, 300_000, 2, 90_000],
            &[1_000_000],
            &[50_000; 40],
            &[30_000, 10],
            &[0, 45_000, 0],
        ];
        let cases = sizes.into_iter().flat_map(|sizes| [2, 3, 8].map(|partitions| (sizes, partitions)));
        for ((sizes, partitions), sharers) in cases.flat_map(|case| [1, 2, 3].map(|sharers| (case, sharers))) {
            let rows: i64 = sizes.iter().sum();
            let file = PartitionedFile::new("f", rows as u64 + 4);
            let all = FilePart::new(0, FileRows::All);
            let even = rows as f64 / partitions as f64;
            let mut deal =
                Deal { even, least: 1, sharers, first: partitions - 1, dealt: vec![Share::default(); partitions] };
            deal.file(&file, &[&all], &row_groups(sizes), 1);
            let mut read = vec![0; rows as usize];
            let mut most = 0;
            for share in &deal.dealt {
                let dealt: Vec<_> = share.parts.iter().flat_map(|part| rows_of(part, rows as usize)).collect();
                most = most.max(dealt.iter().map(Range::len).sum());
                dealt.into_iter().flatten().for_each(|row| read[row] += 1);
            }
            assert!(read.iter().all(|read| *read == 1), "{sizes:?} on {partitions}");
            let slack = (2 * PAGE_ROWS) as f64;
            assert!(most as f64 <= even * UNEVEN_SHARE + slack, "{most} of {sizes:?} on {partitions}");
        }
    }

    /// The runs of rows of a part, in a file with `all` rows.
    fn rows_of(part: &FilePart, all: usize) -> Vec<Range<usize>> {
        match &part.rows {
            FileRows::All => std::iter::once(0..all).collect(),
            FileRows::Numbers { runs, of } if *of == all => runs.clone(),
            other => panic!("{other:?} of {all}"),
        }
    }

    #[test]
    fn parts_of_a_row_group_are_opened_after_whole_ones_by_themselves() {
        let sizes = [100_000; 9];
        let mut deal = Deal { even: 225_000.0, least: 1, sharers: 1, first: 0, dealt: vec![Share::default(); 4] };
        let (file, all) = (PartitionedFile::new("f", 900_004), FilePart::new(0, FileRows::All));
        deal.file(&file, &[&all], &row_groups(&sizes), 1);
        for share in &deal.dealt {
            let opened: Vec<_> = share.parts.iter().map(|part| rows_of(part, 900_000)).collect();
            assert_eq!(opened.len(), 2, "{opened:?}");
            let is_cut = |row: usize| !row.is_multiple_of(100_000);
            assert!(opened[0].iter().all(|rows| !is_cut(rows.start) && !is_cut(rows.end)), "{opened:?}");
            assert!(opened[1].iter().all(|rows| rows.start >= 800_000), "{opened:?}");
        }
    }

    #[test]
    fn what_cannot_be_shared_goes_to_another_partition_for_each_table() {
        for first in 0..3 {
            let mut deal = Deal { even: 3.0, least: 1, sharers: 3, first, dealt: vec![Share::default(); 3] };
            let all = FilePart::new(0, FileRows::All);
            deal.file(&PartitionedFile::new("f", 14), &[&all], &row_groups(&[10]), 1);
            let files: Vec<_> = deal.dealt.iter().map(|share| share.parts.len()).collect();
            assert_eq!((files[first], files.iter().sum()), (1, 1), "{files:?}");
        }
    }
}

//! Which partition of which task reads which rows of which file.
//!
//! The scheduler computes the layout of each scan, sends it with the scan, and shows it in EXPLAIN. Example: two
//! tasks with two partitions each read a table that is clustered by `l_orderkey`. Row groups begin at bytes 4, 573119
//! and 1145750. The first row group has keys of the first two ranges:
//!
//! ```text
//!   task 0  partition 0  lineitem.parquet:4..573119 (rows in range)
//!           partition 1  lineitem.parquet:4..573119 (rows in range), lineitem.parquet:573119..1145750
//!   task 1  partition 2  lineitem.parquet:1145750..1726117
//!           partition 3  nothing
//! ```

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::parquet::arrow::arrow_reader::RowSelection;

use crate::key_ranges::KeyRanges;

/// Most partitions, parts of a partition, runs of rows and bounds that EXPLAIN shows (5: as DataFusion does).
const SHOWN: usize = 5;

/// The layout of one scan.
#[derive(Clone, Debug)]
pub struct ScanLayout {
    /// Each file once, without a byte range.
    pub files: Vec<PartitionedFile>,
    /// What each partition reads, in order. The partitions of task 0 come first, then those of task 1.
    pub partitions: Vec<Vec<FilePart>>,
    /// Number of tasks that share the partitions. Each task has the same number of partitions.
    pub tasks: usize,
    /// The key ranges over a column of the table, one per partition; `None` if partitions are not ranges.
    pub ranges: Option<KeyRanges>,
}

/// Rows of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePart {
    /// The index of the file in [`ScanLayout::files`].
    pub file: usize,
    pub rows: FileRows,
    /// Whether some of the rows have keys in the ranges of other partitions. The reader drops these rows.
    pub has_other_keys: bool,
}

/// Which rows of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum FileRows {
    All,
    /// The row groups of a Parquet file, or the lines of a text file, that begin within these bytes.
    Bytes(Range<i64>),
    /// Runs of row numbers of a Parquet file, and the row count of the file.
    Numbers {
        runs: Vec<Range<usize>>,
        of: usize,
    },
}

/// A file extension that marks a part with [`FilePart::has_other_keys`] for the reader of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherKeys;

impl FilePart {
    pub fn new(file: usize, rows: FileRows) -> Self {
        Self { file, rows, has_other_keys: false }
    }

    /// Approximate number of bytes that a scan reads for this part. `file` is the file of the part.
    pub fn bytes(&self, file: &PartitionedFile) -> u64 {
        let size = file.object_meta.size;
        match &self.rows {
            FileRows::All => size,
            FileRows::Bytes(bytes) => (bytes.end - bytes.start).max(0) as u64,
            FileRows::Numbers { runs, of } => {
                let read: usize = runs.iter().map(Range::len).sum();
                (size as f64 * read as f64 / (*of).max(1) as f64) as u64
            }
        }
    }
}

impl ScanLayout {
    /// The layout of a scan as DataFusion planned it: all partitions belong to one task.
    pub fn of(scan: &FileScanConfig) -> Self {
        let mut files: Vec<PartitionedFile> = vec![];
        let mut places = HashMap::new();
        let mut part = |part: &PartitionedFile| {
            let place = *places.entry(part.object_meta.location.clone()).or_insert_with(|| {
                files.push(PartitionedFile { range: None, ..part.clone() });
                files.len() - 1
            });
            let rows = part.range.as_ref().map_or(FileRows::All, |range| FileRows::Bytes(range.start..range.end));
            FilePart::new(place, rows)
        };
        let partitions = scan.file_groups.iter().map(|group| group.iter().map(&mut part).collect()).collect();
        Self { files, partitions, tasks: 1, ranges: None }
    }

    /// The same rows in other partitions.
    pub fn with_partitions(self, partitions: Vec<Vec<FilePart>>) -> Self {
        Self { partitions, ..self }
    }

    /// All parts with their files.
    pub fn parts(&self) -> impl Iterator<Item = (&PartitionedFile, &FilePart)> {
        self.partitions.iter().flatten().map(|part| (&self.files[part.file], part))
    }

    /// The files that are read, in the order of their names, each with its parts in the order of their bytes.
    pub fn parts_by_file(&self) -> Vec<(&PartitionedFile, Vec<&FilePart>)> {
        let mut files: Vec<_> = self.files.iter().map(|file| (file, vec![])).collect();
        self.partitions.iter().flatten().for_each(|part| files[part.file].1.push(part));
        files.retain(|(_, parts)| !parts.is_empty());
        files.sort_by_key(|(file, _)| &file.object_meta.location);
        files.iter_mut().for_each(|(_, parts)| parts.sort_by_key(|part| part.rows.first_byte()));
        files
    }

    /// Assigns the partitions to `tasks` tasks. Each task gets the same number of partitions and, as far as that
    /// allows, the same number of bytes. The largest partition goes first, to the task with the fewest bytes that has
    /// room. Between tasks with equal bytes, a partition stays in its place. Partitions that are key ranges keep
    /// their order.
    ///
    /// Example: partitions of 10, 70, 30, 50 and 40 bytes on two tasks. Task 0 gets 70, 30 and an empty partition.
    /// Task 1 gets 10, 50 and 40.
    ///
    /// # Errors
    ///
    /// The number of key ranges differs from the number of partitions, or is not a multiple of `tasks`.
    pub fn shared_by(self, tasks: usize) -> Result<Self> {
        let count = self.partitions.len();
        if let Some(ranges) = &self.ranges {
            if count != ranges.count() || !count.is_multiple_of(tasks) {
                return internal_err!("{count} ranges of {} cannot be shared by {tasks} tasks", ranges.key);
            }
            return Ok(Self { tasks, ..self }.without_unread());
        }
        let room = count.div_ceil(tasks);
        let bytes = |parts: &Vec<FilePart>| parts.iter().map(|part| part.bytes(&self.files[part.file])).sum::<u64>();
        let mut order: Vec<_> = self.partitions.iter().map(bytes).enumerate().collect();
        order.sort_by_key(|&(partition, bytes)| (Reverse(bytes), partition));
        let mut shares = vec![(0u64, Vec::new()); tasks];
        for (partition, bytes) in order {
            let with_room = shares.iter_mut().enumerate().filter(|(_, (_, partitions))| partitions.len() < room);
            let least = with_room.min_by_key(|(task, (total, _))| (*total, *task != partition / room));
            let (_, least) = least.expect("the rooms of all tasks hold all partitions");
            least.0 += bytes;
            least.1.push(partition);
        }
        let mut all = self.partitions;
        let mut partitions = Vec::with_capacity(room * tasks);
        for (task, (_, mut own)) in shares.into_iter().enumerate() {
            own.sort_unstable();
            partitions.extend(own.into_iter().map(|partition| std::mem::take(&mut all[partition])));
            partitions.resize_with((task + 1) * room, Vec::new);
        }
        Ok(Self { partitions, tasks, files: self.files, ranges: None }.without_unread())
    }

    /// The same layout without files that no partition reads.
    fn without_unread(self) -> Self {
        let Self { files: all, mut partitions, tasks, ranges } = self;
        let (mut files, mut places) = (vec![], vec![None; all.len()]);
        for part in partitions.iter_mut().flatten() {
            part.file = *places[part.file].get_or_insert_with(|| {
                files.push(all[part.file].clone());
                files.len() - 1
            });
        }
        Self { files, partitions, tasks, ranges }
    }

    /// The partitions of a task.
    pub fn of_task(&self, task: usize) -> Range<usize> {
        let room = self.partitions.len() / self.tasks;
        task * room..(task + 1) * room
    }

    /// Partitions in DataFusion's form.
    pub(super) fn file_groups(&self, partitions: Range<usize>) -> Vec<FileGroup> {
        let group = |parts: &Vec<FilePart>| FileGroup::new(parts.iter().map(|part| self.file(part)).collect());
        self.partitions[partitions].iter().map(group).collect()
    }

    fn file(&self, part: &FilePart) -> PartitionedFile {
        let whole = self.files[part.file].clone();
        let file = match &part.rows {
            FileRows::All => whole,
            // The statistics describe the whole file. The reader of a part takes statistics from the footer.
            FileRows::Bytes(bytes) => {
                let range = FileRange { start: bytes.start, end: bytes.end };
                PartitionedFile { range: Some(range), statistics: None, ..whole }
            }
            FileRows::Numbers { runs, of } => {
                let rows = RowSelection::from_consecutive_ranges(runs.iter().cloned(), *of);
                PartitionedFile { statistics: None, ..whole }.with_extension(ParquetRowSelection::new(rows))
            }
        };
        if part.has_other_keys { file.with_extension(OtherKeys) } else { file }
    }
}

impl FileRows {
    /// The byte range in which the row groups with these rows begin, in a file of `size` bytes.
    pub fn bytes(&self, size: u64) -> Range<i64> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::All | Self::Numbers { .. } => 0..size as i64,
        }
    }

    fn first_byte(&self) -> i64 {
        self.bytes(0).start
    }
}

/// Example: `task 0: [a.parquet:4..100, b.parquet rows 0..20000], []; task 1: …; ranges of l_orderkey@0 from 15019`.
impl fmt::Display for ScanLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = (self.partitions.len() / self.tasks).max(1);
        for (partition, parts) in self.partitions.iter().take(SHOWN).enumerate() {
            match (partition % room, partition) {
                (0, 0) => write!(f, "task 0: ")?,
                (0, _) => write!(f, "; task {}: ", partition / room)?,
                _ => write!(f, ", ")?,
            }
            let shown: Vec<_> = parts.iter().take(SHOWN).map(|part| self.shown(part)).collect();
            let more = if parts.len() > SHOWN { ", …" } else { "" };
            write!(f, "[{}{more}]", shown.join(", "))?;
        }
        if self.partitions.len() > SHOWN {
            write!(f, ", …")?;
        }
        if let Some(ranges) = &self.ranges {
            let bounds: Vec<_> = ranges.bounds.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = if ranges.bounds.len() > SHOWN { ", …" } else { "" };
            write!(f, "; ranges of {} from {}{more}", ranges.key, bounds.join(", "))?;
        }
        Ok(())
    }
}

impl ScanLayout {
    fn shown(&self, part: &FilePart) -> String {
        let name = &self.files[part.file].object_meta.location;
        let own = if part.has_other_keys { " (rows in range)" } else { "" };
        match &part.rows {
            FileRows::All => format!("{name}{own}"),
            FileRows::Bytes(bytes) => format!("{name}:{}..{}{own}", bytes.start, bytes.end),
            FileRows::Numbers { runs, .. } => {
                let shown: Vec<_> = runs.iter().take(SHOWN).map(|run| format!("{}..{}", run.start, run.end)).collect();
                let more = if runs.len() > SHOWN { " …" } else { "" };
                format!("{name} rows {}{more}{own}", shown.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_goes_to_one_task_and_bytes_are_even() {
        let sizes = [10, 70, 30, 50, 40];
        let files = sizes.iter().map(|bytes| PartitionedFile::new(format!("f{bytes}"), *bytes)).collect();
        let partitions = (0..sizes.len()).map(|file| vec![FilePart::new(file, FileRows::All)]).collect();
        let layout =
            ScanLayout { files, partitions, tasks: 1, ranges: None }.shared_by(2).expect("there are no ranges");
        assert_eq!(layout.to_string(), "task 0: [f70], [f30], []; task 1: [f10], [f50], …");
        assert_eq!([layout.of_task(0), layout.of_task(1)], [0..3, 3..6]);
    }

    #[test]
    fn files_that_nobody_reads_are_not_sent() {
        let files = ["a", "b", "c"].map(|name| PartitionedFile::new(name, 10)).to_vec();
        let partitions =
            vec![vec![FilePart::new(2, FileRows::Bytes(0..5))], vec![FilePart::new(2, FileRows::Bytes(5..10))]];
        let layout =
            ScanLayout { files, partitions, tasks: 1, ranges: None }.shared_by(2).expect("there are no ranges");
        assert_eq!(layout.to_string(), "task 0: [c:0..5]; task 1: [c:5..10]");
        assert_eq!(layout.files.len(), 1);
    }
}

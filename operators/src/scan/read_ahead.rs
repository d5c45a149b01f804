//! Reads row groups of a remote Parquet file before the decoder asks for them.
//!
//! A store takes tens of milliseconds to begin an answer, and then sends less than a thread decodes. So while one row
//! group is decoded, the same column chunks of the next row groups are on their way. Example: a scan reads columns 0
//! and 4 of row groups 2 to 19. When it asks for row group 2, the two chunks of row groups 3 to 6 are requested as well.
//! When it then asks for row group 3, those up to row group 11 are requested, and so on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use futures::future::{try_join, try_join_all};
use object_store::{Error, Result};
use tokio::sync::OwnedSemaphorePermit;

use super::remote_file::RemoteFile;

/// Most row groups that are read ahead (8: at 30 ms to the first byte and 80 MB/s per request, row groups of 4 MB then
/// arrive at 400 MB/s, which is more than a thread decodes).
const MOST_AHEAD: usize = 8;
/// Row groups that are read ahead at first (4).
const FIRST_AHEAD: usize = 4;
/// Quarters of a chunk: it is requested ahead if the decoder asked for at least so much of the same column's chunk before
/// (3). The decoder asks for pages if it skips some of them, or if tasks share a row group.
const ENOUGH: u64 = 3;

/// Reads the column chunks of one file, some of them ahead.
pub(super) struct ReadAhead {
    file: RemoteFile,
    footer: Arc<ParquetMetaData>,
    /// The row groups that the decoder is expected to ask for after the current one, in this order.
    coming: VecDeque<usize>,
    /// The row group that the decoder asked for last.
    current: Option<usize>,
    /// The columns of which the decoder has asked for most bytes in the current row group.
    asked: Vec<usize>,
    /// The columns of which the decoder asked for most bytes in the row group before.
    expected: Vec<usize>,
    /// Row groups to read ahead. It doubles with each row group that was needed, and falls to 1 if one was not.
    depth: usize,
    requested: Vec<Requested>,
    /// Chunks of the current row group that were read ahead, by column. Their first bytes are at these places.
    ready: HashMap<usize, (u64, Bytes)>,
}

/// Column chunks of one row group that were requested ahead.
struct Requested {
    group: usize,
    columns: Vec<usize>,
    ranges: Vec<Range<u64>>,
    chunks: SpawnedTask<Result<Vec<Bytes>>>,
    _budget: OwnedSemaphorePermit,
}

impl ReadAhead {
    /// The decoder reads the row groups `coming` of `file`, or some of them.
    pub(super) fn new(file: RemoteFile, footer: Arc<ParquetMetaData>, coming: VecDeque<usize>) -> Self {
        let (asked, expected, requested, ready) = (vec![], vec![], vec![], HashMap::new());
        Self { file, footer, coming, current: None, asked, expected, depth: FIRST_AHEAD, requested, ready }
    }

    /// The bytes of `ranges`, in their order.
    pub(super) async fn get(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let Some((group, columns)) = self.columns(ranges) else { return self.file.get(ranges).await };
        if self.current != Some(group) {
            self.arrive(group);
        }
        self.expect(group, ranges, &columns);
        let arriving: Vec<_> = self.requested.extract_if(.., |requested| requested.group == group).collect();
        self.request_coming();

        let is_ahead = |column| {
            self.ready.contains_key(column) || arriving.iter().any(|requested| requested.columns.contains(column))
        };
        let missing = columns.iter().zip(ranges).filter(|(column, _)| !is_ahead(column));
        let missing: Vec<_> = missing.map(|(_, range)| range.clone()).collect();
        let (missing, arrived) =
            try_join(self.file.get(&missing), try_join_all(arriving.into_iter().map(Requested::chunks))).await?;
        self.ready.extend(arrived.into_iter().flatten());
        let mut missing = missing.into_iter();
        let bytes = columns.iter().zip(ranges).map(|(column, range)| match self.ready.get(column) {
            Some((start, chunk)) => chunk.slice((range.start - start) as usize..(range.end - start) as usize),
            None => missing.next().expect("it was read"),
        });
        Ok(bytes.collect())
    }

    /// The row group, and for each range the column in whose chunk it lies; `None` if the ranges are not all in one of
    /// the row groups that are expected.
    fn columns(&self, ranges: &[Range<u64>]) -> Option<(usize, Vec<usize>)> {
        let first = ranges.first()?;
        let mut groups = self.current.iter().chain(&self.coming);
        let column = |group: usize, range: &Range<u64>| {
            let mut chunks = self.footer.row_group(group).columns().iter().map(chunk_bytes);
            chunks.position(|chunk| chunk.start <= range.start && range.end <= chunk.end)
        };
        let group = *groups.find(|group| column(**group, first).is_some())?;
        Some((group, ranges.iter().map(|range| column(group, range)).collect::<Option<Vec<_>>>()?))
    }

    /// Notes the columns whose chunks are to be requested ahead.
    fn expect(&mut self, group: usize, ranges: &[Range<u64>], columns: &[usize]) {
        let mut asked: BTreeMap<usize, u64> = BTreeMap::new();
        for (column, range) in columns.iter().zip(ranges) {
            *asked.entry(*column).or_default() += range.end - range.start;
        }
        for (column, bytes) in asked {
            let chunk = chunk_bytes(self.footer.row_group(group).column(column));
            if 4 * bytes >= ENOUGH * (chunk.end - chunk.start) && !self.asked.contains(&column) {
                self.asked.push(column);
            }
        }
    }

    /// The decoder has come to `group`.
    fn arrive(&mut self, group: usize) {
        if let Some(place) = self.coming.iter().position(|coming| *coming == group) {
            self.coming.drain(..=place);
        }
        let count = self.requested.len();
        self.requested.retain(|requested| requested.group == group || self.coming.contains(&requested.group));
        self.depth = match self.current {
            Some(_) if self.requested.len() < count => 1,
            Some(_) => MOST_AHEAD.min(2 * self.depth),
            None => self.depth,
        };
        self.current = Some(group);
        self.expected = std::mem::take(&mut self.asked);
        self.ready.clear();
    }

    /// Requests the same columns of the next row groups, as far as the budget allows.
    fn request_coming(&mut self) {
        let mut columns: Vec<usize> = self.expected.iter().chain(&self.asked).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        for &group in self.coming.iter().take(self.depth) {
            let mut columns = columns.clone();
            for requested in self.requested.iter().filter(|requested| requested.group == group) {
                columns.retain(|column| !requested.columns.contains(column));
            }
            if columns.is_empty() {
                continue;
            }
            let chunks = columns.iter().map(|column| chunk_bytes(self.footer.row_group(group).column(*column)));
            let ranges: Vec<_> = chunks.collect();
            let bytes = ranges.iter().map(|range| range.end - range.start).sum();
            let Some(budget) = self.file.reads.ahead(bytes) else { return };
            let (file, chunks) = (self.file.clone(), ranges.clone());
            let chunks = SpawnedTask::spawn(async move { file.get(&chunks).await });
            self.requested.push(Requested { group, columns, ranges, chunks, _budget: budget });
        }
    }
}

impl Requested {
    /// The chunks, by column, and where each begins.
    async fn chunks(self) -> Result<Vec<(usize, (u64, Bytes))>> {
        let chunks = self.chunks.join().await.map_err(|source| Error::JoinError { source })??;
        let starts = self.ranges.iter().map(|range| range.start);
        Ok(self.columns.into_iter().zip(starts.zip(chunks)).collect())
    }
}

/// Where a column chunk is in its file.
fn chunk_bytes(chunk: &ColumnChunkMetaData) -> Range<u64> {
    let (start, bytes) = chunk.byte_range();
    start..start + bytes
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::file::metadata::ParquetMetaDataReader;
    use datafusion::parquet::file::properties::WriterProperties;
    use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::super::remote_file::RemoteReads;
    use super::*;

    const GROUPS: usize = 20;

    /// A file with two columns and 20 row groups, its bytes, and what is read ahead of it.
    async fn opened(is_limited: bool) -> (Bytes, ReadAhead) {
        let rows = 1000;
        let column = |salt: i64| {
            let numbers: Int64Array = (0..rows * GROUPS as i64).map(|row| row * 7919 + salt).collect();
            Arc::new(numbers) as ArrayRef
        };
        let batch = RecordBatch::try_from_iter([("a", column(0)), ("b", column(1))]).expect("two columns");
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows as usize)).build();
        let mut bytes = vec![];
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a file");
        writer.write(&batch).expect("rows");
        writer.close().expect("a footer");
        let bytes = Bytes::from(bytes);
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).expect("a footer");
        let (store, location): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), Path::from("f"));
        store.put(&location, bytes.clone().into()).await.expect("it is stored");
        let reads = RemoteReads::new(&ExecutionPlanMetricsSet::new(), is_limited);
        let file = RemoteFile { store, location, reads };
        (bytes, ReadAhead::new(file, Arc::new(footer), (0..GROUPS).collect()))
    }

    impl ReadAhead {
        fn chunk(&self, group: usize, column: usize) -> Range<u64> {
            chunk_bytes(self.footer.row_group(group).column(column))
        }

        /// The row groups that are requested, each with its columns.
        fn ahead(&self) -> Vec<(usize, &[usize])> {
            self.requested.iter().map(|requested| (requested.group, &requested.columns[..])).collect()
        }

        async fn checked(&mut self, bytes: &Bytes, ranges: &[Range<u64>]) {
            let read = self.get(ranges).await.expect("it is read");
            for (range, read) in ranges.iter().zip(read) {
                assert_eq!(read, bytes.slice(range.start as usize..range.end as usize));
            }
        }
    }

    #[tokio::test]
    async fn the_same_columns_of_the_next_row_groups_are_requested() {
        let (bytes, mut ahead) = opened(false).await;
        let both = [ahead.chunk(0, 0), ahead.chunk(0, 1)];
        ahead.checked(&bytes, &both[1..]).await;
        assert_eq!(ahead.ahead(), [1, 2, 3, 4].map(|group| (group, &[1][..])));
        // A predicate on the second column let rows pass, so the first one is needed too.
        ahead.checked(&bytes, &both[..1]).await;
        assert_eq!(ahead.ahead()[4..], [1, 2, 3, 4].map(|group| (group, &[0][..])));
        ahead.checked(&bytes, &[ahead.chunk(1, 0), ahead.chunk(1, 1)]).await;
        assert_eq!(ahead.ahead().last(), Some(&(9, &[0, 1][..])));
        // Row groups 2 to 5 are skipped, so less is read ahead.
        ahead.checked(&bytes, &[ahead.chunk(6, 1)]).await;
        assert_eq!((ahead.depth, ahead.ahead()[0].0), (1, 7));
        for group in 7..GROUPS {
            ahead.checked(&bytes, &[ahead.chunk(group, 0), ahead.chunk(group, 1)]).await;
        }
        assert_eq!(ahead.ahead(), []);
    }

    #[tokio::test]
    async fn pages_are_parts_of_what_was_read_ahead() {
        let (bytes, mut ahead) = opened(false).await;
        let most = |chunk: Range<u64>| [chunk.start..chunk.start + 5, chunk.start + 10..chunk.end];
        ahead.checked(&bytes, &most(ahead.chunk(0, 1))).await;
        assert_eq!(ahead.ahead().len(), FIRST_AHEAD);
        ahead.checked(&bytes, &most(ahead.chunk(1, 1))).await;
        // Few pages do not tell that the next row groups are needed.
        let (_, mut ahead) = opened(false).await;
        let few = ahead.chunk(0, 1).start..ahead.chunk(0, 1).start + 5;
        ahead.checked(&bytes, &[few]).await;
        assert_eq!(ahead.ahead(), []);
    }

    #[tokio::test]
    async fn a_scan_with_a_limit_reads_nothing_ahead() {
        let (bytes, mut ahead) = opened(true).await;
        ahead.checked(&bytes, &[ahead.chunk(0, 0)]).await;
        assert_eq!(ahead.ahead(), []);
    }
}

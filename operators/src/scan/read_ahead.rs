//! Reads row groups of a remote Parquet file before the decoder asks for them.
//!
//! A store takes tens of milliseconds to begin an answer, and then sends less than a thread decodes. So while one row
//! group is decoded, the same column chunks of the next row groups are on their way. Example: a scan reads columns 0
//! and 4 of row groups 2 to 9. When it asks for row group 2, the two chunks of row group 3 are requested as well. When
//! it then asks for row group 3, row groups 4 and 5 are requested, and so on, up to 8 row groups ahead.

use std::collections::{HashMap, VecDeque};
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

/// Reads the column chunks of one file, some of them ahead.
pub(super) struct ReadAhead {
    file: RemoteFile,
    footer: Arc<ParquetMetaData>,
    /// The row groups that the decoder is expected to ask for after the current one, in this order.
    coming: VecDeque<usize>,
    /// The row group that the decoder asked for last.
    current: Option<usize>,
    /// The columns that the decoder has asked for in the current row group.
    asked: Vec<usize>,
    /// The columns that the decoder asked for in the row group before.
    expected: Vec<usize>,
    /// Row groups to read ahead. It doubles with each row group that was needed, and falls to 1 if one was not.
    depth: usize,
    requested: Vec<Requested>,
    /// Chunks of the current row group that were read ahead, by column.
    ready: HashMap<usize, Bytes>,
}

/// Column chunks of one row group that were requested ahead.
struct Requested {
    group: usize,
    columns: Vec<usize>,
    chunks: SpawnedTask<Result<Vec<Bytes>>>,
    _budget: OwnedSemaphorePermit,
}

impl ReadAhead {
    /// The decoder reads the row groups `coming` of `file`, or some of them.
    pub(super) fn new(file: RemoteFile, footer: Arc<ParquetMetaData>, coming: VecDeque<usize>) -> Self {
        let (asked, expected, requested, ready) = (vec![], vec![], vec![], HashMap::new());
        Self { file, footer, coming, current: None, asked, expected, depth: 1, requested, ready }
    }

    /// The bytes of `ranges`, in their order.
    pub(super) async fn get(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // Ranges within chunks, such as pages, differ between row groups, so they are not foreseen.
        let Some((group, columns)) = self.chunks(ranges) else { return self.file.get(ranges).await };
        if self.current != Some(group) {
            self.arrive(group);
        }
        self.asked.extend(&columns);
        let arriving: Vec<_> = self.requested.extract_if(.., |requested| requested.group == group).collect();
        self.request_coming();

        let is_ahead = |column| {
            self.ready.contains_key(column) || arriving.iter().any(|requested| requested.columns.contains(column))
        };
        let missing = columns.iter().zip(ranges).filter(|(column, _)| !is_ahead(column));
        let (missing_columns, missing): (Vec<usize>, Vec<_>) =
            missing.map(|(column, range)| (*column, range.clone())).unzip();
        let (missing, arrived) =
            try_join(self.file.get(&missing), try_join_all(arriving.into_iter().map(Requested::chunks))).await?;
        self.ready.extend(missing_columns.into_iter().zip(missing));
        self.ready.extend(arrived.into_iter().flatten());
        Ok(columns.iter().map(|column| self.ready.remove(column).expect("it was read")).collect())
    }

    /// The row group and the columns whose chunks are `ranges`; `None` if they are no chunks of one row group.
    fn chunks(&self, ranges: &[Range<u64>]) -> Option<(usize, Vec<usize>)> {
        let mut groups = self.current.iter().chain(&self.coming);
        groups.find_map(|group| {
            let group_of = self.footer.row_group(*group);
            let column = |range: &Range<u64>| group_of.columns().iter().position(|chunk| chunk_bytes(chunk) == *range);
            Some((*group, ranges.iter().map(column).collect::<Option<Vec<_>>>()?)).filter(|_| !ranges.is_empty())
        })
    }

    /// The decoder has come to `group`.
    fn arrive(&mut self, group: usize) {
        if let Some(place) = self.coming.iter().position(|coming| *coming == group) {
            self.coming.drain(..=place);
        }
        let count = self.requested.len();
        self.requested.retain(|requested| requested.group == group || self.coming.contains(&requested.group));
        let was_in_vain = self.requested.len() < count || !self.ready.is_empty();
        self.depth = match self.current {
            Some(_) if !was_in_vain => MOST_AHEAD.min(2 * self.depth),
            _ => 1,
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
            let file = self.file.clone();
            let chunks = SpawnedTask::spawn(async move { file.get(&ranges).await });
            self.requested.push(Requested { group, columns, chunks, _budget: budget });
        }
    }
}

impl Requested {
    /// The chunks, by column.
    async fn chunks(self) -> Result<Vec<(usize, Bytes)>> {
        let chunks = self.chunks.join().await.map_err(|source| Error::JoinError { source })??;
        Ok(self.columns.into_iter().zip(chunks).collect())
    }
}

/// Where a column chunk is in its file.
fn chunk_bytes(chunk: &ColumnChunkMetaData) -> Range<u64> {
    let (start, bytes) = chunk.byte_range();
    start..start + bytes
}

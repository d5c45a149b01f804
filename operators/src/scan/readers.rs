//! Reads a task's Parquet files.
//!
//! - Errors keep their types. DataFusion's reader turns an error of a footer into text, so an executor could not tell a
//!   store that does not answer from a damaged file.
//! - If rows are read by number, the page index is loaded together with the footer, so only pages with these rows are
//!   fetched. DataFusion loads a page index only if a predicate may skip pages. Without the index, a scan fetches all
//!   pages and skips rows afterwards.
//! - Dictionaries get wide keys ([`super::wide_dictionaries`]).
//! - Files without a tag that requests can name are checked after each read ([`PlannedFile`]).

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::datatypes::DataType;
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    ParquetAccessPlan, ParquetFileMetrics, ParquetRowSelection, RowGroupAccessPlanFilter,
};
use datafusion::datasource::physical_plan::{FileSource, ParquetFileReaderFactory, ParquetSource};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, Time};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::planned_files::{PlannedFile, strong_tag};
use super::read_ahead::ReadAhead;
use super::remote_file::{RemoteFile, RemoteReads};
use super::wide_dictionaries::with_wide_types;
use crate::types::holds;

/// Bytes at the end of a remote file that are read first (512 KiB, as DataFusion's planning does). Mostly they have the
/// footer and the page index, which then take one request instead of three.
const FOOTER_BYTES: usize = 512 << 10;

/// Where a scan reads its files.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    pub store: Arc<dyn ObjectStore>,
    /// Footers that were read before.
    pub footers: Option<Arc<FileMetadataCache>>,
    /// `None` for local files.
    pub remote: Option<RemoteReads>,
}

impl Readers {
    /// `source` with these readers, if its files are Parquet. Sources of other formats stay as they are.
    pub(super) fn of(&self, source: &Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        let Some(parquet) = source.downcast_ref::<ParquetSource>() else { return Arc::clone(source) };
        let is_dictionary = |part: &DataType| matches!(part, DataType::Dictionary(..));
        let mut fields = parquet.table_schema().file_schema().fields().iter();
        let has_dictionaries = fields.any(|field| holds(field.data_type(), &is_dictionary));
        let schema = parquet.table_schema();
        let predicate = self.remote.as_ref().and(parquet.filter()).and_then(|predicate| {
            // Only what is read ahead depends on it. Without it, all row groups are expected to be read.
            let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema.table_schema()));
            builder.build(predicate)
        });
        let readers = ParquetReaders { readers: self.clone(), has_dictionaries, predicate, opened: Opened::default() };
        Arc::new(parquet.clone().with_parquet_file_reader_factory(Arc::new(readers)))
    }
}

#[derive(Debug)]
struct ParquetReaders {
    readers: Readers,
    has_dictionaries: bool,
    /// Skips row groups.
    predicate: Option<Arc<PruningPredicate>>,
    opened: Opened,
}

/// The footers of remote files of which no row group has been read yet. DataFusion may read the footer and the row groups
/// of a file by two readers. The decoder holds the footer until then.
type Opened = Arc<Mutex<HashMap<Path, Weak<ParquetMetaData>>>>;

impl ParquetFileReaderFactory for ParquetReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let Readers { store, footers, remote } = self.readers.clone();
        let location = file.object_meta.location.clone();
        let remote = remote.map(|reads| RemoteFile { store: Arc::clone(&store), location, reads });
        Ok(Box::new(Reader {
            metrics: ParquetFileMetrics::new(partition, file.object_meta.location.as_ref(), metrics),
            planned: (remote.is_none() || strong_tag(&file.object_meta).is_none())
                .then(|| PlannedFile::new(Arc::clone(&store), file.object_meta.clone())),
            has_dictionaries: self.has_dictionaries,
            predicate: self.predicate.clone(),
            opened: Arc::clone(&self.opened),
            ahead: None,
            remote,
            store,
            file,
            footers,
            footer_bytes,
        }))
    }
}

struct Reader {
    store: Arc<dyn ObjectStore>,
    file: PartitionedFile,
    metrics: ParquetFileMetrics,
    /// The planned file if reads do not name its tag.
    planned: Option<PlannedFile>,
    has_dictionaries: bool,
    remote: Option<RemoteFile>,
    /// Skips row groups.
    predicate: Option<Arc<PruningPredicate>>,
    opened: Opened,
    /// What is read ahead of a remote file, from its first row group on.
    ahead: Option<ReadAhead>,
    footers: Option<Arc<FileMetadataCache>>,
    /// Bytes at the end of the file that are expected to contain the footer.
    footer_bytes: Option<usize>,
}

impl Reader {
    /// Returns `read` if it came from the planned file.
    async fn checked<T>(planned: &mut Option<PlannedFile>, read: T) -> ParquetResult<T> {
        if let Some(planned) = planned {
            planned.check().await.map_err(external)?;
        }
        Ok(read)
    }

    fn count(&self, bytes: u64) {
        self.metrics.bytes_scanned.add(bytes as usize);
    }

    /// The metric for the time that the scan waits for a remote store.
    fn wait(&self) -> Option<Time> {
        self.remote.as_ref().map(|remote| remote.reads.usage.wait().clone())
    }

    /// Begins to read ahead, if the file is remote and its footer is known.
    fn begin_ahead(&mut self) {
        let Some(remote) = self.remote.as_ref().filter(|_| self.ahead.is_none()) else { return };
        let footer = self.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.file.object_meta.location);
        self.ahead = footer.and_then(|footer| footer.upgrade()).map(|footer| {
            let coming = self.row_groups(&footer);
            ReadAhead::new(remote.clone(), footer, coming)
        });
    }

    /// The row groups that the scan is expected to read: those of this part that the predicate does not skip.
    fn row_groups(&self, footer: &ParquetMetaData) -> VecDeque<usize> {
        let groups = footer.row_groups();
        let plan = match self.file.extension::<ParquetRowSelection>().map(ParquetRowSelection::selection) {
            Some(rows) => ParquetAccessPlan::try_new_from_overall_row_selection(rows.clone(), groups),
            None => Ok(ParquetAccessPlan::new_all(groups.len())),
        };
        // A selection that does not fit the file is an error of the scan itself.
        let Ok(plan) = plan else { return VecDeque::new() };
        let mut read = RowGroupAccessPlanFilter::new(plan);
        if let Some(range) = &self.file.range {
            read.prune_by_range(groups, range);
        }
        if let Some(predicate) = &self.predicate {
            let metrics = ParquetFileMetrics::new(0, "", &ExecutionPlanMetricsSet::new());
            let schema = footer.file_metadata().schema_descr();
            read.prune_by_statistics(predicate.schema(), schema, groups, predicate, &metrics);
        }
        read.row_group_indexes().collect()
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.count(range.end - range.start);
        async move {
            let wait = self.wait();
            let _timer = wait.as_ref().map(Time::timer);
            let read = self.store.get_range(&self.file.object_meta.location, range).await.map_err(external)?;
            Self::checked(&mut self.planned, read).await
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.count(ranges.iter().map(|range| range.end - range.start).sum());
        self.begin_ahead();
        async move {
            let wait = self.wait();
            let _timer = wait.as_ref().map(Time::timer);
            let read = match (&mut self.ahead, &self.remote) {
                (Some(ahead), _) => ahead.get(&ranges).await,
                (None, Some(remote)) => remote.get(&ranges).await,
                (None, None) => self.store.get_ranges(&self.file.object_meta.location, &ranges).await,
            };
            let read = read.map_err(external)?;
            Self::checked(&mut self.planned, read).await
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let reads_numbers = self.file.extension::<ParquetRowSelection>().is_some();
        let policy = options.map(ArrowReaderOptions::column_index_policy);
        // The first read of a remote file mostly has the page index too. DataFusion would read it by another request.
        let has_index = reads_numbers || self.remote.is_some() && self.predicate.is_some();
        let policy = if has_index { Some(PageIndexPolicy::Optional) } else { policy };
        async move {
            let wait = self.wait();
            let _timer = wait.as_ref().map(Time::timer);
            let footer = DFParquetMetadata::new(&self.store, &self.file.object_meta)
                .with_file_metadata_cache(self.footers.clone())
                .with_metadata_size_hint(self.footer_bytes.or(self.remote.as_ref().map(|_| FOOTER_BYTES)))
                .with_page_index_policy(policy)
                .fetch_metadata()
                .await
                .map_err(external)?;
            let footer = if self.has_dictionaries { with_wide_types(footer)? } else { footer };
            if self.remote.is_some() {
                let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
                opened.insert(self.file.object_meta.location.clone(), Arc::downgrade(&footer));
            }
            Self::checked(&mut self.planned, footer).await
        }
        .boxed()
    }
}

impl Drop for Reader {
    /// Adds the share of the file that was read, as DataFusion's reader does.
    fn drop(&mut self) {
        let ratio = &self.metrics.scan_efficiency_ratio;
        ratio.add_part(self.metrics.bytes_scanned.value());
        ratio.set_total(self.file.object_meta.size as usize);
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

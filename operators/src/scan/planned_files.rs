//! A query reads local files as they were at planning, or fails. Otherwise rows of a replacement would mix with rows
//! of the planned file.
//!
//! Each read is followed by a look at the file's size and time. If both are as planned, the bytes came from the
//! planned file.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileSource, ParquetFileReaderFactory, ParquetSource};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// Nanoseconds by which the times of one file may differ between two hosts (1 s: the hash of the entity tag, which is
/// part of the time, is less than that; see [`PlannedFile::check`]).
const CLOCKS_APART_NANOS: u64 = 1_000_000_000;

/// A file that a plan names.
#[derive(Clone, Debug)]
pub(crate) struct PlannedFile {
    store: Arc<dyn ObjectStore>,
    planned: ObjectMeta,
    is_known: bool,
}

impl PlannedFile {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, planned: ObjectMeta) -> Self {
        Self { store, planned, is_known: false }
    }

    /// Fails if another file has taken its place.
    ///
    /// The entity tag of a file is part of its time ([`hwacha_storage::local_files`]). Two hosts may give different
    /// tags to one file. So the first check accepts the planned size and a time within one second of the planned
    /// time. Later checks accept only the time that the first check saw.
    pub(super) async fn check(&mut self) -> object_store::Result<()> {
        let now = self.store.head(&self.planned.location).await?;
        let apart = (now.last_modified - self.planned.last_modified).num_nanoseconds().map(i64::unsigned_abs);
        let allowed = if self.is_known { 0 } else { CLOCKS_APART_NANOS };
        if now.size != self.planned.size || apart.is_none_or(|apart| apart > allowed) {
            let source = "another file has taken its place".into();
            return Err(object_store::Error::Precondition { path: now.location.to_string(), source });
        }
        (self.planned, self.is_known) = (now, true);
        Ok(())
    }
}

/// A source whose Parquet readers check the file after each read.
pub(crate) fn read_as_planned(source: &Arc<dyn FileSource>, store: &Arc<dyn ObjectStore>) -> Arc<dyn FileSource> {
    let Some(parquet) = source.downcast_ref::<ParquetSource>() else { return Arc::clone(source) };
    let Some(readers) = parquet.parquet_file_reader_factory() else { return Arc::clone(source) };
    let readers = PlannedReaders { readers: Arc::clone(readers), store: Arc::clone(store) };
    Arc::new(parquet.clone().with_parquet_file_reader_factory(Arc::new(readers)))
}

#[derive(Debug)]
struct PlannedReaders {
    readers: Arc<dyn ParquetFileReaderFactory>,
    store: Arc<dyn ObjectStore>,
}

impl ParquetFileReaderFactory for PlannedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let planned = PlannedFile::new(Arc::clone(&self.store), file.object_meta.clone());
        let reader = self.readers.create_reader(partition, file, footer_bytes, metrics)?;
        Ok(Box::new(PlannedReader { reader, planned }))
    }
}

struct PlannedReader {
    reader: Box<dyn AsyncFileReader + Send>,
    planned: PlannedFile,
}

impl PlannedReader {
    async fn checked<T>(planned: &mut PlannedFile, read: T) -> ParquetResult<T> {
        planned.check().await.map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(read)
    }
}

impl AsyncFileReader for PlannedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { Self::checked(&mut self.planned, self.reader.get_bytes(range).await?).await }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { Self::checked(&mut self.planned, self.reader.get_byte_ranges(ranges).await?).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { Self::checked(&mut self.planned, self.reader.get_metadata(options).await?).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;
    use hwacha_storage::local_files::LocalFiles;

    #[tokio::test]
    async fn a_file_in_anothers_place_is_noticed() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let place = root.path().join("f");
        std::fs::write(&place, "old").expect("a file");
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFiles::default());
        let path = Path::from_absolute_path(&place).expect("a path");
        let planned = PlannedFile::new(Arc::clone(&store), store.head(&path).await.expect("it is there"));
        let mut reading = planned.clone();
        reading.check().await.expect("nothing has changed");
        std::fs::write(root.path().join("next"), "new").expect("a file");
        std::fs::rename(root.path().join("next"), &place).expect("it takes its place");
        let error = reading.check().await.expect_err("of the same size and almost the same time").to_string();
        assert!(error.contains("another file"), "{error}");
        std::fs::write(&place, "newer").expect("a file");
        planned.clone().check().await.expect_err("of another size");
    }
}

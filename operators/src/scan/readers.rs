//! The readers of a task's Parquet files. They wrap DataFusion's readers, which cache footers.
//!
//! - If rows are read by number, the page index is loaded together with the footer, so only pages with these rows are
//!   fetched. DataFusion loads a page index only if a predicate may skip pages. Without the index, a scan fetches all
//!   pages and skips rows afterwards.
//! - Dictionaries get wide keys ([`super::wide_dictionaries`]).
//! - Files are checked after each read ([`PlannedFile`]).

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::DataType;
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileSource, ParquetFileReaderFactory, ParquetSource};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;

use super::planned_files::PlannedFile;
use super::wide_dictionaries::with_wide_types;
use crate::types::holds;

/// `source` with these readers of files in `store`. Sources of other formats stay as they are.
pub(super) fn with_readers(source: &Arc<dyn FileSource>, store: &Arc<dyn ObjectStore>) -> Arc<dyn FileSource> {
    let parquet = source.downcast_ref::<ParquetSource>();
    let Some((parquet, inner)) = parquet.and_then(|it| Some((it, it.parquet_file_reader_factory()?))) else {
        return Arc::clone(source);
    };
    let is_dictionary = |part: &DataType| matches!(part, DataType::Dictionary(..));
    let mut fields = parquet.table_schema().file_schema().fields().iter();
    let has_dictionaries = fields.any(|field| holds(field.data_type(), &is_dictionary));
    let readers = Readers { inner: Arc::clone(inner), has_dictionaries, store: Arc::clone(store) };
    Arc::new(parquet.clone().with_parquet_file_reader_factory(Arc::new(readers)))
}

#[derive(Debug)]
struct Readers {
    inner: Arc<dyn ParquetFileReaderFactory>,
    has_dictionaries: bool,
    store: Arc<dyn ObjectStore>,
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        Ok(Box::new(Reader {
            reads_numbers: file.extension::<ParquetRowSelection>().is_some(),
            has_dictionaries: self.has_dictionaries,
            planned: PlannedFile::new(Arc::clone(&self.store), file.object_meta.clone()),
            inner: self.inner.create_reader(partition, file, footer_bytes, metrics)?,
        }))
    }
}

struct Reader {
    inner: Box<dyn AsyncFileReader + Send>,
    /// Whether rows are read by number.
    reads_numbers: bool,
    has_dictionaries: bool,
    planned: PlannedFile,
}

impl Reader {
    /// Returns `read` if it came from the planned file.
    async fn checked<T>(planned: &mut PlannedFile, read: T) -> ParquetResult<T> {
        planned.check().await.map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(read)
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { Self::checked(&mut self.planned, self.inner.get_bytes(range).await?).await }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { Self::checked(&mut self.planned, self.inner.get_byte_ranges(ranges).await?).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let mut options = options.cloned();
        if self.reads_numbers {
            options = Some(options.unwrap_or_default().with_page_index_policy(PageIndexPolicy::Optional));
        }
        async move {
            let footer = self.inner.get_metadata(options.as_ref()).await?;
            let footer = if self.has_dictionaries { with_wide_types(footer)? } else { footer };
            Self::checked(&mut self.planned, footer).await
        }
        .boxed()
    }
}

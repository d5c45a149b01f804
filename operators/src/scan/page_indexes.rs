//! Loads the page index of a file whose rows are read by number. The scan then fetches only pages with these rows.
//!
//! DataFusion loads a page index only if a predicate may skip pages. Without the index, a scan fetches all pages and
//! skips rows afterwards.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileSource, ParquetFileReaderFactory, ParquetSource};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;

/// A source whose readers load the page index together with the footer if a file has a row selection.
pub(super) fn with_page_indexes(source: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
    let parquet = source.downcast_ref::<ParquetSource>();
    match parquet.and_then(|parquet| Some((parquet, parquet.parquet_file_reader_factory()?))) {
        Some((parquet, readers)) => {
            let readers = Arc::new(PageIndexes(Arc::clone(readers)));
            Arc::new(parquet.clone().with_parquet_file_reader_factory(readers))
        }
        None => source,
    }
}

#[derive(Debug)]
struct PageIndexes(Arc<dyn ParquetFileReaderFactory>);

impl ParquetFileReaderFactory for PageIndexes {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let selected = file.extension::<ParquetRowSelection>().is_some();
        let reader = self.0.create_reader(partition, file, footer_bytes, metrics)?;
        Ok(if selected { Box::new(IndexedReader(reader)) } else { reader })
    }
}

struct IndexedReader(Box<dyn AsyncFileReader + Send>);

impl AsyncFileReader for IndexedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.0.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.0.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let options = options.cloned().unwrap_or_default().with_page_index_policy(PageIndexPolicy::Optional);
        async move { self.0.get_metadata(Some(&options)).await }.boxed()
    }
}

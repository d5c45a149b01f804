//! Reads Arrow files by the names and types of their tables' columns.
//!
//! DataFusion 55 takes the columns of an Arrow file by their position in the table and does not convert them
//! (`ArrowSource`; not reported upstream so far). If two files have the same columns in different orders, it swaps
//! the values. Files that lack a column fail. Here the schema of each file decides where a column is. A column that
//! the file lacks is NULL.
//!
//! Example: the table is `t (a, b, c)`, and a file has the columns `b, a`. Its rows are read as `a, b, NULL`.
//!
//! Dictionaries are read as their values. A dictionary of an Arrow file may have NULL among its values, and many
//! functions do not see such a NULL. The dictionaries of two batches may have too many values for one dictionary with
//! their key type (`wide_dictionaries`).

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{StreamReader, read_footer_length};
use arrow::ipc::root_as_footer;
use datafusion::common::nested_struct::cast_column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    ArrowSource, FileOpenFuture, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::projection::{ProjectionOpener, SplitProjection};
use futures::{FutureExt, StreamExt};
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt};

use crate::types::{converted, replaced};

/// Bytes at the end of an Arrow file (10: the length of the footer in 4 bytes, and the magic `ARROW1` in 6 bytes).
const TRAILER_BYTES: u64 = 10;

/// The type as which a dictionary of an Arrow file is read: the type of its values. `None` for other types.
pub fn plain(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Dictionary(_, values) => Some(DataType::clone(values)),
        _ => None,
    }
}

/// Wraps a source of Arrow files: the wrapper finds columns by name. Other sources stay as they are.
pub(crate) fn read_by_name(source: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
    if source.is::<ArrowSource>() { Arc::new(NamedColumns(source)) } else { source }
}

struct NamedColumns(Arc<dyn FileSource>);

impl FileSource for NamedColumns {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let table = self.table_schema().file_schema();
        let projection = match self.projection() {
            Some(projection) => SplitProjection::new(table, projection),
            None => SplitProjection::unprojected(self.table_schema()),
        };
        let columns = Arc::new(table.project(&projection.file_indices)?);
        let opener = NamedOpener { columns, store, url: config.object_store_url.clone(), partition };
        ProjectionOpener::try_new(projection, Arc::new(opener), table)
    }

    fn table_schema(&self) -> &TableSchema {
        self.0.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self(self.0.with_batch_size(batch_size)))
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.0.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.0.metrics()
    }

    fn file_type(&self) -> &str {
        self.0.file_type()
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt_extra(kind, f)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.0.apply_expressions(f)
    }
}

/// Opens files and gives their rows with these columns of the table.
struct NamedOpener {
    columns: SchemaRef,
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    partition: usize,
}

impl FileOpener for NamedOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (columns, store, url) = (Arc::clone(&self.columns), Arc::clone(&self.store), self.url.clone());
        let partition = self.partition;
        Ok(async move {
            let (schema, source) = source_of(store.as_ref(), &file).await?;
            let places: Vec<_> = columns.fields().iter().map(|field| schema.index_of(field.name()).ok()).collect();
            let read: Vec<_> = places.iter().flatten().copied().collect();
            let Some(source) = source.try_pushdown_projection(&ProjectionExprs::from_indices(&read, &schema))? else {
                return internal_err!("Arrow files are read column by column");
            };
            let config = FileScanConfigBuilder::new(url, Arc::clone(&source)).build();
            let rows = source.create_file_opener(store, &config, partition)?.open(file)?.await?;
            let is_there = places.iter().map(Option::is_some).collect::<Vec<_>>();
            Ok(rows.map(move |batch| as_declared(&batch?, &columns, &is_there)).boxed())
        }
        .boxed())
    }
}

/// The schema of a file, and a source that reads all its columns.
async fn source_of(store: &dyn ObjectStore, file: &PartitionedFile) -> Result<(SchemaRef, ArrowSource)> {
    let location = &file.object_meta.location;
    let suffix = |bytes| GetOptions { range: Some(GetRange::Suffix(bytes)), ..GetOptions::default() };
    let trailer = store.get_opts(location, suffix(TRAILER_BYTES)).await?.bytes().await?;
    let Some(length) = trailer[..].try_into().ok().and_then(|trailer| read_footer_length(trailer).ok()) else {
        // A file without a footer is an Arrow stream or no Arrow file. If it is no Arrow file, opening it fails here.
        let schema = match store.get(location).await?.payload {
            GetResultPayload::File(opened, _) => StreamReader::try_new(opened, None)?.schema(),
            GetResultPayload::Stream(_) => {
                let bytes = store.get(location).await?.bytes().await?;
                StreamReader::try_new(&bytes[..], None)?.schema()
            }
        };
        return Ok((Arc::clone(&schema), ArrowSource::new_stream_file_source(schema)));
    };
    let footer = store.get_opts(location, suffix(TRAILER_BYTES + length as u64)).await?.bytes().await?;
    let damaged = || exec_datafusion_err!("the footer of the Arrow file is damaged");
    let footer = root_as_footer(footer.get(..length).ok_or_else(damaged)?).map_err(|_| damaged())?;
    let schema = Arc::new(fb_to_schema(footer.schema().ok_or_else(damaged)?));
    Ok((Arc::clone(&schema), ArrowSource::new_file_source(schema)))
}

/// The rows of a file as rows of `columns`. `is_there` says for each column whether the file has it. `batch` has
/// these columns in the order of `columns`.
fn as_declared(batch: &RecordBatch, columns: &SchemaRef, is_there: &[bool]) -> Result<RecordBatch> {
    let mut found = batch.columns().iter();
    let arrays = columns.fields().iter().zip(is_there).map(|(field, is_there)| {
        let column = if *is_there { found.next() } else { None };
        match column {
            Some(column) => as_type(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    });
    let arrays = arrays.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(columns), arrays, &options)?)
}

fn as_type(column: &ArrayRef, declared: &DataType) -> Result<ArrayRef> {
    if column.data_type() == declared {
        return Ok(Arc::clone(column));
    }
    let column = converted(column, &replaced(column.data_type(), &plain))?;
    match column.data_type() == declared {
        true => Ok(column),
        false => cast_column(&column, declared, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use arrow::array::{AsArray, DictionaryArray, Int8Array, Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Int64Type, Schema};
    use arrow::ipc::writer::{FileWriter, StreamWriter};
    use datafusion::common::ScalarValue;
    use object_store::local::LocalFileSystem;
    use object_store::path::Path;

    use super::*;

    fn numbers(numbers: [i64; 2]) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(numbers))
    }

    fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("a batch")
    }

    fn table(columns: &[(&str, DataType)]) -> SchemaRef {
        let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// Writes `batch` to a file and reads it back as rows of `table`, as a task does.
    async fn read(batch: &RecordBatch, is_stream: bool, table: TableSchema) -> RecordBatch {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("f.arrow");
        let file = File::create(&path).expect("a file");
        if is_stream {
            let mut writer = StreamWriter::try_new(file, &batch.schema()).expect("a writer");
            writer.write(batch).and_then(|()| writer.finish()).expect("space");
        } else {
            let mut writer = FileWriter::try_new(file, &batch.schema()).expect("a writer");
            writer.write(batch).and_then(|()| writer.finish()).expect("space");
        }
        let store = Arc::new(LocalFileSystem::new_with_prefix(directory.path()).expect("a store"));
        let meta = store.head(&Path::from("f.arrow")).await.expect("it is there");
        let mut file = PartitionedFile::new_from_meta(meta);
        file.partition_values = vec![ScalarValue::from("p"); table.table_partition_cols().len()];
        let source = read_by_name(Arc::new(ArrowSource::new_file_source(table)));
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::clone(&source)).build();
        let opener = source.create_file_opener(store, &config, 0).expect("an opener");
        let mut rows = opener.open(file).expect("it can be opened").await.expect("it is open");
        let batch = rows.next().await.expect("a batch").expect("rows");
        assert!(rows.next().await.is_none());
        batch
    }

    #[tokio::test]
    async fn columns_are_found_by_their_names() {
        let file = batch([("b", numbers([10, 20])), ("a", numbers([1, 2]))]);
        let wanted = table(&[("a", DataType::Int64), ("b", DataType::Int64), ("c", DataType::Utf8)]);
        for is_stream in [false, true] {
            let rows = read(&file, is_stream, TableSchema::from(&wanted)).await;
            let [a, b] = [numbers([1, 2]), numbers([10, 20])];
            let expected = batch([("a", a), ("b", b), ("c", new_null_array(&DataType::Utf8, 2))]);
            assert_eq!(rows, expected, "stream: {is_stream}");
        }
    }

    #[tokio::test]
    async fn values_have_the_declared_types_and_partitions_theirs() {
        let small: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
        let wanted = TableSchema::builder(table(&[("n", DataType::Int64)]))
            .with_table_partition_cols(vec![Arc::new(Field::new("p", DataType::Utf8, true))])
            .build();
        let rows = read(&batch([("n", small)]), false, wanted).await;
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[7, 8]);
        assert_eq!(rows.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("p"); 2]);
    }

    #[tokio::test]
    async fn dictionaries_are_read_as_values_and_null_among_them_as_null() {
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
        let words: ArrayRef = Arc::new(DictionaryArray::new(Int8Array::from(vec![0, 1, 0]), words));
        let rows = read(&batch([("d", words)]), false, TableSchema::from(table(&[("d", DataType::Utf8)]))).await;
        assert_eq!(rows.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("x"), None, Some("x")]);
    }

    #[tokio::test]
    async fn rows_are_counted_where_no_column_is_read() {
        let rows = read(&batch([("n", numbers([1, 2]))]), false, TableSchema::from(table(&[]))).await;
        assert_eq!((rows.num_rows(), rows.num_columns()), (2, 0));
    }
}

//! File formats whose errors name the file: a table may have thousands of files, and DataFusion does not say which
//! one is wrong.
//!
//! For Parquet files the formats also estimate the distinct counts of columns (`distinct.rs`). Some column types of
//! files are replaced by others (`table_types.rs`).

use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, GetExt, Result, Statistics, plan_datafusion_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::{JsonFormat, JsonFormatFactory};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory, FileMeta};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::SessionStateDefaults;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use hwacha_execution::failure::FileError;
use hwacha_operators::functions::order_key::holds_floats;

use super::distinct::distinct_values;
use super::table_types::{TableTypes, change_of};

/// Maximum number of files that are opened one by one to name the wrong file, after the schema of a table could not
/// be inferred (1,000). If the wrong file comes later, the error does not name it.
const MAX_SUSPECTS: usize = 1000;

/// Endings of newline-delimited JSON files beside `json`.
const JSON_ENDINGS: [&str; 2] = ["ndjson", "jsonl"];

/// The formats that a server reads.
pub(crate) fn file_formats() -> Vec<Arc<dyn FileFormatFactory>> {
    let formats = SessionStateDefaults::default_file_formats().into_iter().map(|inner| (inner.get_ext(), inner));
    let json = JSON_ENDINGS.map(|ending| (ending.to_owned(), Arc::new(JsonFormatFactory::new()) as _));
    formats.chain(json).map(|(ending, inner)| Arc::new(NamingFactory { ending, inner }) as _).collect()
}

#[derive(Debug)]
struct NamingFactory {
    ending: String,
    inner: Arc<dyn FileFormatFactory>,
}

impl GetExt for NamingFactory {
    fn get_ext(&self) -> String {
        self.ending.clone()
    }
}

impl FileFormatFactory for NamingFactory {
    fn create(&self, state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        let format = self.inner.create(state, options)?;
        // The encoded plan leaves out whether a JSON file is one array, so executors would read it as lines.
        if format.downcast_ref::<JsonFormat>().is_some_and(|json| !json.options().newline_delimited) {
            return plan_err!(
                "JSON arrays are not supported; write one object per line, and leave out newline_delimited"
            );
        }
        Ok(Arc::new(NamingFormat::new(format)))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(NamingFormat::new(self.inner.default()))
    }
}

/// Wraps a format. It names the file in errors and replaces the types of some columns (`types`).
#[derive(Debug)]
pub(super) struct NamingFormat {
    inner: Arc<dyn FileFormat>,
    pub types: TableTypes,
}

#[async_trait]
impl FileFormat for NamingFormat {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.inner.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.inner.compression_type()
    }

    async fn infer_schema(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        let error = match self.inner.infer_schema(state, store, objects).await {
            Ok(schema) => return Ok(self.types.in_place_of(schema, &self.inner)),
            Err(error) => error,
        };
        match self.merged(state, store, objects).await {
            Some(schema) => Ok(schema),
            None => Err(self.culprit(state, store, objects).await.unwrap_or(error)),
        }
    }

    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        let statistics = self.inner.infer_stats(state, store, Arc::clone(&schema), object).await;
        let mut statistics = statistics.map_err(|error| self.blame(object, error))?;
        doubt_float_bounds(&mut statistics, &schema);
        self.with_distinct_values(statistics, state, store, &schema, object).await
    }

    async fn infer_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Option<LexOrdering>> {
        let ordering = self.inner.infer_ordering(state, store, schema, object).await;
        ordering.map_err(|error| self.blame(object, error))
    }

    async fn infer_stats_and_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<FileMeta> {
        let meta = self.inner.infer_stats_and_ordering(state, store, Arc::clone(&schema), object).await;
        let mut meta = meta.map_err(|error| self.blame(object, error))?;
        doubt_float_bounds(&mut meta.statistics, &schema);
        meta.statistics = self.with_distinct_values(meta.statistics, state, store, &schema, object).await?;
        Ok(meta)
    }

    async fn create_physical_plan(&self, state: &dyn Session, scan: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.create_physical_plan(state, scan).await
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        self.inner.file_source(schema)
    }
}

impl NamingFormat {
    pub(super) fn new(inner: Arc<dyn FileFormat>) -> Self {
        Self { inner, types: TableTypes::default() }
    }

    /// The schema of files whose declared types differ, but whose table types are equal. Example: the keys of a
    /// dictionary are `Int8` in one Parquet file and `Int16` in another, and `Int32` in the table.
    async fn merged(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Option<SchemaRef> {
        change_of(&self.inner)?;
        let mut objects: Vec<_> = objects.iter().collect();
        objects.sort_by_key(|object| &object.location);
        let mut schemas = vec![];
        for object in objects {
            let schema = self.inner.infer_schema(state, store, std::slice::from_ref(object)).await.ok()?;
            schemas.push(Arc::unwrap_or_clone(self.types.in_place_of(schema, &self.inner)));
        }
        Some(Arc::new(Schema::try_merge(schemas).ok()?))
    }

    fn blame(&self, object: &ObjectMeta, error: DataFusionError) -> DataFusionError {
        FileError::blame(&path(object), &self.get_ext(), error)
    }

    /// Adds estimated distinct counts of the columns. The footer is in the metadata cache by now.
    async fn with_distinct_values(
        &self,
        mut statistics: Statistics,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        schema: &Schema,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        if !self.inner.is::<ParquetFormat>() {
            return Ok(statistics);
        }
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let footer = DFParquetMetadata::new(store, object).with_file_metadata_cache(Some(cache)).fetch_metadata().await;
        // The query is correct without distinct counts; only its plan may be worse.
        let Ok(footer) = footer else { return Ok(statistics) };
        for (column, count) in statistics.column_statistics.iter_mut().zip(distinct_values(&footer, schema)) {
            // An inexact count of DataFusion is the largest count of one row group, so the estimate replaces it.
            if let (Precision::Absent | Precision::Inexact(_), Some(count)) = (&column.distinct_count, count) {
                column.distinct_count = Precision::Inexact(count);
            }
        }
        Ok(statistics)
    }

    /// The error that names the first file that cannot be read, or that declares another type for a column than a
    /// file before it. The files are taken in the order of their paths.
    async fn culprit(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Option<DataFusionError> {
        let mut objects: Vec<_> = objects.iter().collect();
        objects.sort_by_key(|object| &object.location);
        let mut columns: HashMap<String, (FieldRef, &ObjectMeta)> = HashMap::new();
        for object in objects.into_iter().take(MAX_SUSPECTS) {
            let schema = match self.inner.infer_schema(state, store, std::slice::from_ref(object)).await {
                Ok(schema) => schema,
                Err(error) => return Some(self.blame(object, error)),
            };
            for field in schema.fields() {
                let (first, file) = columns.entry(field.name().clone()).or_insert_with(|| (Arc::clone(field), object));
                if Schema::try_merge([first, field].map(|field| Schema::new(vec![Arc::clone(field)]))).is_err() {
                    return Some(plan_datafusion_err!(
                        "the column \"{}\" is {} in {} and {} in {}; files of one table must agree",
                        field.name(),
                        first.data_type(),
                        path(file),
                        field.data_type(),
                        path(object)
                    ));
                }
            }
        }
        None
    }
}

/// Marks the minimum and maximum of float columns as inexact, since Parquet files leave NaN out of them. DataFusion
/// relies on exact bounds: if the minimum and the maximum of a file are both 1.0, it returns 1.0 for each row and
/// does not read the column (<https://github.com/apache/datafusion/pull/24804>).
fn doubt_float_bounds(statistics: &mut Statistics, schema: &Schema) {
    let columns = statistics.column_statistics.iter_mut().zip(schema.fields());
    for (column, _) in columns.filter(|(_, field)| holds_floats(field.data_type())) {
        column.min_value = take(&mut column.min_value).to_inexact();
        column.max_value = take(&mut column.max_value).to_inexact();
    }
}

fn path(object: &ObjectMeta) -> String {
    format!("/{}", object.location)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::common::{ColumnStatistics, ScalarValue};

    use super::*;

    #[test]
    fn bounds_of_floats_are_estimates_and_others_are_not() {
        let schema =
            Schema::new(vec![Field::new("x", DataType::Float64, true), Field::new("n", DataType::Int64, true)]);
        let bound = |value: ScalarValue| ColumnStatistics {
            min_value: Precision::Exact(value.clone()),
            max_value: Precision::Exact(value),
            null_count: Precision::Exact(0),
            ..ColumnStatistics::new_unknown()
        };
        let columns = vec![bound(ScalarValue::Float64(Some(1.0))), bound(ScalarValue::Int64(Some(1)))];
        let mut statistics = Statistics { column_statistics: columns, ..Statistics::new_unknown(&schema) };
        doubt_float_bounds(&mut statistics, &schema);
        let [floats, integers] = &statistics.column_statistics[..] else { panic!("two columns") };
        assert_eq!(floats.min_value, Precision::Inexact(ScalarValue::Float64(Some(1.0))));
        assert_eq!(floats.max_value, Precision::Inexact(ScalarValue::Float64(Some(1.0))));
        assert_eq!(floats.null_count, Precision::Exact(0));
        assert_eq!(*integers, bound(ScalarValue::Int64(Some(1))));
    }
}

//! Tables whose directories are named after values (`city=Seoul/day=2026-01-31`), as Hive and Spark write them. The
//! name `__HIVE_DEFAULT_PARTITION__` means NULL.
//!
//! DataFusion 55 reads that name as a text, or fails to read it as a number (apache/datafusion#18083). It assumes
//! that no directory value is NULL. If a filter names a value, DataFusion looks only into the directory that it would
//! have written for that value: `month = 1` does not find `month=01`, and `city = 'k=v'` does not find `city=k%3Dv`
//! (apache/datafusion#19650). Here all directories are listed, and filters are evaluated on the parsed values of
//! their names.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{
    ColumnStatistics, Constraints, DFSchema, Result, ScalarValue, Statistics, plan_datafusion_err, plan_err,
    project_schema,
};
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::listing::{ListingTable, ListingTableConfig, PartitionedFile};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileStatisticsCache;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion_datasource::compute_all_files_statistics;

/// The directory value of rows whose column is NULL.
const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";
/// Number of files for which a filter is evaluated in one batch (8,192: their values fit into a dictionary with keys
/// of two bytes).
const FILES_AT_ONCE: usize = 8192;

/// A table over directories that are named after values.
#[derive(Debug)]
pub(crate) struct HiveTable {
    /// The table as DataFusion has opened it.
    pub(super) table: ListingTable,
    /// The same files, with the directory values as text columns.
    texts: ListingTable,
    file_schema: SchemaRef,
    /// The columns of the files, then the directory columns, which are nullable.
    schema: SchemaRef,
}

/// Wraps `table` in a [`HiveTable`] if it has directory columns.
pub(super) fn with_directories(
    table: Arc<dyn TableProvider>,
    statistics: Option<Arc<FileStatisticsCache>>,
) -> Result<Arc<dyn TableProvider>> {
    match table.downcast_ref::<ListingTable>() {
        Some(listing) if !listing.options().table_partition_cols.is_empty() => {
            Ok(Arc::new(HiveTable::new(listing.clone(), statistics)?))
        }
        _ => Ok(table),
    }
}

impl HiveTable {
    fn new(table: ListingTable, statistics: Option<Arc<FileStatisticsCache>>) -> Result<Self> {
        let schema = table.schema();
        let files = schema.fields().len() - table.options().table_partition_cols.len();
        let file_schema = Arc::new(schema.project(&(0..files).collect::<Vec<_>>())?);
        let mut options = table.options().clone();
        options.table_partition_cols.iter_mut().for_each(|(_, data_type)| *data_type = DataType::Utf8);
        let config = ListingTableConfig::new_with_multi_paths(table.table_paths().clone())
            .with_listing_options(options)
            .with_schema(Arc::clone(&file_schema));
        let texts = ListingTable::try_new(config)?.with_cache(statistics);
        let nullable = |(place, field): (usize, &FieldRef)| match place < files {
            true => Arc::clone(field),
            false => Arc::new(Field::clone(field).with_nullable(true)),
        };
        let fields: Fields = schema.fields().iter().enumerate().map(nullable).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Self { table, texts, file_schema, schema })
    }

    /// The columns whose values are in the names of directories.
    fn directory_fields(&self) -> &[FieldRef] {
        &self.schema.fields()[self.file_schema.fields().len()..]
    }

    /// Whether a filter uses only directory columns. Then the directory values of a file decide it, without reading
    /// the file.
    fn is_about_directories(&self, filter: &Expr) -> bool {
        let names: Vec<_> = self.directory_fields().iter().map(|field| field.name().as_str()).collect();
        let is_open = |part: &Expr| {
            matches!(
                part,
                Expr::OuterReferenceColumn(..)
                    | Expr::ScalarVariable(..)
                    | Expr::Placeholder(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::ScalarSubquery(_)
                    | Expr::SetComparison(_)
            )
        };
        expr_applicable_for_cols(&names, filter) && !filter.exists(|part| Ok(is_open(part))).unwrap_or(true)
    }

    /// The file with its directory values in the types of the table.
    fn with_values(&self, mut file: PartitionedFile) -> Result<PartitionedFile> {
        let mut values = vec![];
        for (field, text) in self.directory_fields().iter().zip(&file.partition_values) {
            values.push(value(text, field).map_err(|_| {
                plan_datafusion_err!(
                    "the path /{} has the value \"{text}\" for partition column \"{}\", which is not a valid {}; \
                     rename the directory, or declare the column as VARCHAR",
                    file.object_meta.location,
                    field.name(),
                    field.data_type()
                )
            })?);
        }
        let mut statistics = match &file.statistics {
            Some(known) => Statistics::clone(known),
            None => Statistics::new_unknown(&self.file_schema),
        };
        statistics.column_statistics.truncate(self.file_schema.fields().len());
        file.partition_values = values;
        file = file.with_statistics(Arc::new(statistics));
        file.statistics = file.statistics.map(|known| Arc::new(self.with_nulls(&known, &file.partition_values)));
        Ok(file)
    }

    /// Corrects the statistics of directory columns whose value is NULL: each row of the file has NULL there.
    /// DataFusion assumes that no directory value is NULL.
    fn with_nulls(&self, statistics: &Statistics, values: &[ScalarValue]) -> Statistics {
        let mut statistics = statistics.clone();
        let columns = &mut statistics.column_statistics[self.file_schema.fields().len()..];
        for (column, _) in columns.iter_mut().zip(values).filter(|(_, value)| value.is_null()) {
            *column = ColumnStatistics::new_unknown();
            column.null_count = statistics.num_rows;
        }
        statistics
    }

    /// The files whose directory values pass all `filters`. A filter is evaluated only for files that pass the
    /// filters before it: with `p <> 0 AND 10 / p > 5` no directory `p=0` causes a division by zero.
    fn pruned(
        &self,
        state: &dyn Session,
        mut files: Vec<PartitionedFile>,
        filters: &[Expr],
    ) -> Result<Vec<PartitionedFile>> {
        let schema = Arc::new(Schema::new(self.directory_fields().to_vec()));
        let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
        for filter in filters {
            let filter = state.create_physical_expr(filter.clone(), &df_schema)?;
            let mut holds = vec![];
            for files in files.chunks(FILES_AT_ONCE) {
                let answer = filter.evaluate(&values_of(files, &schema)?)?.into_array(files.len())?;
                holds.extend(cast(&answer, &DataType::Boolean)?.as_boolean().iter().map(|holds| holds == Some(true)));
            }
            let mut holds = holds.into_iter();
            files.retain(|_| holds.next() == Some(true));
        }
        Ok(files)
    }
}

/// The value of a directory. `text` is the part of its name behind the equals sign: `01` of `month=01` is the integer
/// 1.
fn value(text: &ScalarValue, field: &Field) -> Result<ScalarValue> {
    match text.try_as_str().flatten() {
        None | Some(NULL_DIRECTORY) => ScalarValue::try_from(field.data_type()),
        Some(text) => ScalarValue::try_from_string(text.to_owned(), field.data_type()),
    }
}

/// The directory values of `files`, one row for each file.
fn values_of(files: &[PartitionedFile], schema: &SchemaRef) -> Result<RecordBatch> {
    let column =
        |place: usize| ScalarValue::iter_to_array(files.iter().map(|file| file.partition_values[place].clone()));
    let columns: Vec<ArrayRef> = (0..schema.fields().len()).map(column).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

#[async_trait]
impl TableProvider for HiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.table.constraints()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.table.get_table_definition()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.table.get_column_default(column)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.is_about_directories(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // The limit ends the listing only if there are no filters. With filters, the rows of the first files may all
        // be filtered out.
        let few = limit.filter(|_| filters.is_empty());
        let filters: Vec<_> = filters.iter().filter(|filter| self.is_about_directories(filter)).cloned().collect();
        let listed = self.texts.list_files_for_scan(state, &[], few).await?;
        let is_whole = few.is_none() || matches!(listed.statistics.num_rows, Precision::Exact(_));
        let files = listed.file_groups.into_iter().flat_map(FileGroup::into_inner);
        let files = files.map(|file| self.with_values(file)).collect::<Result<Vec<_>>>()?;
        let files = self.pruned(state, files, &filters)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let is_counted = state.config().collect_statistics();
        let (groups, statistics) =
            compute_all_files_statistics(groups, Arc::clone(&self.schema), is_counted, !is_whole)?;
        let Some(path) = self.table.table_paths().first() else {
            return plan_err!("the table has no location");
        };
        let ordering = self.table.try_create_output_ordering(state.execution_props(), &groups)?;
        let schema = TableSchema::builder(Arc::clone(&self.file_schema))
            .with_table_partition_cols(self.directory_fields().to_vec())
            .build();
        let format = &self.table.options().format;
        let scan = FileScanConfigBuilder::new(path.object_store(), format.file_source(schema))
            .with_file_groups(groups)
            .with_constraints(self.table.constraints().cloned().unwrap_or_default())
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_output_ordering(ordering)
            .build();
        format.create_physical_plan(state, scan).await
    }

    async fn scan_with_args<'a>(&self, state: &dyn Session, args: ScanArgs<'a>) -> Result<ScanResult> {
        let projection = args.projection().map(<[usize]>::to_vec);
        let filters = args.filters().unwrap_or_default();
        Ok(self.scan(state, projection.as_ref(), filters, args.limit()).await?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, create_dir_all};

    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;
    use datafusion::datasource::file_format::parquet::ParquetFormat;
    use datafusion::datasource::listing::{ListingOptions, ListingTableUrl};
    use datafusion::prelude::SessionContext;
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// A table `t` with a file in each directory, whose column `v` is the directory's number, counted from 1.
    async fn context(root: &tempfile::TempDir, directories: &[&str], data_type: DataType) -> SessionContext {
        for (number, directory) in (1..).zip(directories) {
            let directory = root.path().join(directory);
            create_dir_all(&directory).expect("a directory");
            let column: ArrayRef = Arc::new(Int64Array::from(vec![number]));
            let batch = RecordBatch::try_from_iter([("v", column)]).expect("a batch");
            let file = File::create(directory.join("f.parquet")).expect("a file");
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
            writer.write(&batch).expect("space");
            writer.close().expect("space");
        }
        let context = SessionContext::new();
        let url = ListingTableUrl::parse(format!("{}/", root.path().display())).expect("a location");
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
            .with_file_extension(".parquet")
            .with_table_partition_cols(vec![("p".to_owned(), data_type)]);
        let config = ListingTableConfig::new(url).with_listing_options(options);
        let config = config.infer_schema(&context.state()).await.expect("files");
        let table = ListingTable::try_new(config).expect("a table");
        let table = with_directories(Arc::new(table), None).expect("a table");
        context.register_table("t", table).expect("a free name");
        context
    }

    async fn numbers(context: &SessionContext, rest: &str) -> Vec<i64> {
        let frame = context.sql(&format!("select v from t {rest}")).await.expect(rest);
        let batches = frame.collect().await.expect(rest);
        let mut numbers: Vec<_> =
            batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        numbers.sort_unstable();
        numbers
    }

    async fn count(context: &SessionContext, what: &str) -> i64 {
        let frame = context.sql(&format!("select count({what}) from t")).await.expect(what);
        frame.collect().await.expect(what)[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    #[tokio::test]
    async fn texts_are_decoded_and_the_default_directory_is_null() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directories = ["p=Seoul", "p=Sao%20Paulo", "p=a%2Fb", "p=__HIVE_DEFAULT_PARTITION__", "p=k%3Dv"];
        let context = context(&root, &directories, DataType::Utf8).await;
        assert_eq!(numbers(&context, "where p is null").await, [4]);
        assert_eq!(numbers(&context, "where p = 'k=v'").await, [5]);
        assert_eq!(numbers(&context, "where p in ('a/b', 'Sao Paulo') and v < 3").await, [2]);
        assert_eq!(numbers(&context, "where p <> 'Seoul'").await, [2, 3, 5]);
        assert_eq!(numbers(&context, "where coalesce(p, 'none') = 'none'").await, [4]);
        assert_eq!(numbers(&context, "where p = '__HIVE_DEFAULT_PARTITION__'").await, [0_i64; 0]);
        assert_eq!((count(&context, "*").await, count(&context, "p").await), (5, 4));
        assert_eq!(numbers(&context, "limit 3").await.len(), 3);
    }

    #[tokio::test]
    async fn numbers_are_read_as_numbers() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directories = ["p=01", "p=2", "p=__HIVE_DEFAULT_PARTITION__", "p=0"];
        let context = context(&root, &directories, DataType::Int32).await;
        assert_eq!(numbers(&context, "where p = 1").await, [1]);
        assert_eq!(numbers(&context, "where p is null").await, [3]);
        assert_eq!(numbers(&context, "where p <> 0 and 10 / p > 5").await, [1]);
        assert_eq!(numbers(&context, "where p is distinct from 2").await, [1, 3, 4]);
        assert_eq!(numbers(&context, "where p + v = 4").await, [2, 4]);
        assert_eq!(count(&context, "p").await, 3);
    }

    #[tokio::test]
    async fn dictionaries_may_stand_for_directories() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let data_type = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
        let context = context(&root, &["p=a", "p=__HIVE_DEFAULT_PARTITION__", "p=b"], data_type).await;
        assert_eq!(numbers(&context, "where p is null").await, [2]);
        assert_eq!(numbers(&context, "where p > 'a'").await, [3]);
        assert_eq!(numbers(&context, "").await, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_directory_of_no_value_is_named() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let context = context(&root, &["p=1", "p=x"], DataType::Int32).await;
        let error = context.sql("select * from t").await.expect("a plan").collect().await.expect_err("x is no number");
        let error = error.to_string();
        let reason = "p=x/f.parquet has the value \"x\" for partition column \"p\", which is not a valid Int32";
        assert!(error.contains(reason), "{error}");
    }
}

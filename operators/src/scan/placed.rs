//! A scan of files with its layout.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::conjunction;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use super::arrow_files::read_by_name;
use super::files::read_position;
use super::kept_columns::KeptColumns;
use super::layout::ScanLayout;
use super::remote_file::RemoteReads;
use super::task_source::{Edges, TaskSource};
use crate::key_ranges::{KeyRanges, OwnRange};

/// Reads the partitions of a layout. In the plan of a stage it stands for the scans of all tasks.
#[derive(Debug)]
pub struct PlacedScanExec {
    /// The scan with the layout in DataFusion's form.
    plain: Arc<DataSourceExec>,
    layout: ScanLayout,
    /// The scan of all partitions in this process, made when a partition is executed.
    reading: OnceLock<Arc<dyn ExecutionPlan>>,
}

impl PlacedScanExec {
    /// `scan` with `layout`, which replaces its file groups.
    ///
    /// # Errors
    ///
    /// The ranges of the layout are not over a column of the table.
    pub fn new(scan: &FileScanConfig, layout: ScanLayout) -> Result<Self> {
        let groups = layout.file_groups(0..layout.partitions.len());
        let mut builder = FileScanConfigBuilder::from(scan.clone()).with_file_groups(groups);
        if let Some(ranges) = &layout.ranges {
            let data_type = ranges.key.data_type(scan.file_source().table_schema().table_schema())?;
            builder = builder.with_output_partitioning(Some(ranges.partitioning(&data_type)?));
        }
        let plain = DataSourceExec::from_data_source(builder.build());
        Ok(Self { plain, layout, reading: OnceLock::new() })
    }

    pub fn layout(&self) -> &ScanLayout {
        &self.layout
    }

    pub fn scan(&self) -> &FileScanConfig {
        let scan = self.plain.data_source().downcast_ref();
        scan.expect("it was made from a scan of files")
    }

    /// The scan of the partitions of `task`. Its errors name the file. With `repeats`, partitions do not take files
    /// from each other, so each attempt reads the same rows in the same partition. Footers of Parquet files are kept in
    /// `footers`.
    ///
    /// # Errors
    ///
    /// The layout is for another number of tasks.
    pub fn of_task(
        &self,
        task: usize,
        tasks: usize,
        repeats: bool,
        footers: Option<&Arc<FileMetadataCache>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if tasks != self.layout.tasks {
            return internal_err!("a scan that is laid out for {} tasks cannot be read by {tasks}", self.layout.tasks);
        }
        let scan = self.scan();
        let own = self.layout.of_task(task);
        let inner = read_by_name(Arc::clone(scan.file_source()));
        let edges = self.layout.ranges.as_ref().map(|ranges| edges(&inner, ranges, own.clone())).transpose()?;
        // DataFusion's partitions do not take files from each other if the scan declares a partitioning.
        let partitioning = match repeats || edges.is_some() {
            true => Some(Partitioning::UnknownPartitioning(own.len())),
            false => scan.output_partitioning.clone(),
        };
        let is_local = scan.object_store_url == ObjectStoreUrl::local_filesystem();
        let remote = (!is_local).then(|| RemoteReads::new(inner.metrics(), scan.limit.is_some()));
        let scan = FileScanConfigBuilder::from(scan.clone())
            .with_source(Arc::new(TaskSource { inner, edges, footers: footers.map(Arc::clone), remote }))
            .with_file_groups(self.layout.file_groups(own))
            .with_output_partitioning(partitioning)
            .with_expr_adapter(Some(Arc::new(KeptColumns)))
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

/// How the partitions `own` of a task drop rows with keys of other ranges.
fn edges(source: &Arc<dyn FileSource>, ranges: &KeyRanges, own: std::ops::Range<usize>) -> Result<Edges> {
    let (Some(parquet), Some(key)) = (source.downcast_ref::<ParquetSource>(), ranges.key.downcast_ref::<Column>())
    else {
        return internal_err!("only columns of Parquet files are read by ranges, not {}", ranges.key);
    };
    let Some(column) = read_position(parquet, key.index()) else {
        return internal_err!("{key} is not read, whose ranges tell what is read");
    };
    // Parts with keys of other tasks are read with a predicate on this task's key range, which skips pages.
    let tests = OwnRange::of(&ranges.bounds, own.clone()).tests(key, parquet.table_schema().table_schema())?;
    let source = Arc::new(parquet.with_predicate(conjunction(parquet.filter().into_iter().chain(tests))));
    Ok(Edges { source, column, ranges: own.map(|range| OwnRange::of(&ranges.bounds, range..range + 1)).collect() })
}

/// Shows the scan like the [`DataSourceExec`] of a task, with the layout in place of the file groups.
impl DisplayAs for PlacedScanExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scan = self.scan();
        write!(f, "DataSourceExec: layout={{{}}}", self.layout)?;
        if let Some(projection) = scan.file_source().projection() {
            let named =
                |expr: &datafusion::physical_expr::projection::ProjectionExpr| match expr.expr.downcast_ref::<Column>()
                {
                    Some(column) if column.name() == expr.alias => expr.alias.clone(),
                    _ => format!("{} as {}", expr.expr, expr.alias),
                };
            let exprs: Vec<_> = projection.iter().map(named).collect();
            write!(f, ", projection=[{}]", exprs.join(", "))?;
        }
        if let Some(limit) = scan.limit {
            write!(f, ", limit={limit}")?;
        }
        for ordering in &scan.output_ordering {
            write!(f, ", output_ordering=[{ordering}]")?;
        }
        write!(f, ", file_type={}", scan.file_source().file_type())?;
        scan.file_source().fmt_extra(kind, f)
    }
}

impl ExecutionPlan for PlacedScanExec {
    fn name(&self) -> &str {
        "PlacedScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plain.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.plain.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a scan reads files, not {} inputs", children.len()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    /// Reads a partition in one process. All partitions then belong to one task.
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reading = match self.reading.get() {
            Some(reading) => reading,
            None => {
                let footers = context.runtime_env().cache_manager.get_file_metadata_cache();
                let layout = ScanLayout { tasks: 1, ..self.layout.clone() };
                let all = Self::new(self.scan(), layout)?.of_task(0, 1, false, Some(&footers))?;
                self.reading.get_or_init(|| all)
            }
        };
        reading.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.reading.get()?.metrics()
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        self.plain.statistics_from_inputs(inputs, args)
    }

    fn fetch(&self) -> Option<usize> {
        self.plain.fetch()
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let scan = FileScanConfigBuilder::from(self.scan().clone()).with_limit(limit).build();
        Some(Arc::new(Self::new(&scan, self.layout.clone()).ok()?))
    }
}

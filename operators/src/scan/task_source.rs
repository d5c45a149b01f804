//! Wraps the file source of a task.
//!
//! - Errors name the file. DataFusion's errors do not.
//! - If a part of a file also has keys of other ranges, only the rows of the partition's own range pass.
//! - Files must still be the files that were planned.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use hwacha_execution::failure::FileError;
use object_store::ObjectStore;

use super::layout::OtherKeys;
use super::planned_files::{PlannedFile, PlannedStore, file_name, strong_tag};
use super::readers::Readers;
use super::remote_file::RemoteReads;
use crate::key_ranges::OwnRange;

/// Reads like `inner`, for the partitions of one task.
pub(crate) struct TaskSource {
    pub inner: Arc<dyn FileSource>,
    /// How parts with keys of other ranges are read; `None` if partitions are not key ranges.
    pub edges: Option<Edges>,
    /// Footers of Parquet files that were read before.
    pub footers: Option<Arc<FileMetadataCache>>,
    /// `None` for local files.
    pub remote: Option<RemoteReads>,
}

/// How each partition finds the rows of its own key range in a part with keys of other ranges.
#[derive(Clone)]
pub(crate) struct Edges {
    /// The file source with a predicate on the key ranges of the task.
    pub source: Arc<dyn FileSource>,
    /// The position of the key in the rows that are read.
    pub column: usize,
    /// The key range of each partition.
    pub ranges: Vec<OwnRange>,
}

impl FileSource for TaskSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        if self.edges.is_some() {
            return internal_err!("files that are read by ranges of keys are read in morsels");
        }
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let store = match &self.remote {
            Some(remote) => Arc::new(PlannedStore::new(store, &config.file_groups, remote.usage.clone())),
            None => store,
        };
        let (footers, remote) = (self.footers.clone(), self.remote.clone());
        let readers = Readers { store: Arc::clone(&store), footers, remote };
        let morselizer =
            |source: &Arc<dyn FileSource>| readers.of(source).create_morselizer(Arc::clone(&store), config, partition);
        let edge = |edges: &Edges| -> Result<Edge> {
            Ok(Edge { inner: morselizer(&edges.source)?, column: edges.column, range: edges.ranges[partition] })
        };
        // Parquet readers check the file after each read.
        let is_checked = self.inner.downcast_ref::<ParquetSource>().is_some();
        Ok(Box::new(TaskMorselizer {
            inner: morselizer(&self.inner)?,
            edge: self.edges.as_ref().map(edge).transpose()?,
            checked_in: (!is_checked).then(|| Arc::clone(&store)),
            is_local: self.remote.is_none(),
            store: config.object_store_url.clone(),
            file_type: self.file_type().into(),
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        let edges = self.edges.as_ref().map(|edges| {
            let source = edges.source.with_batch_size(batch_size);
            Edges { source, ..edges.clone() }
        });
        let (footers, remote) = (self.footers.clone(), self.remote.clone());
        Arc::new(Self { inner: self.inner.with_batch_size(batch_size), edges, footers, remote })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_extra(kind, f)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

/// The file that is being read.
#[derive(Clone, Debug)]
struct OpenFile {
    /// A path on this machine, or a URL.
    file: Arc<str>,
    file_type: Arc<str>,
    /// The planned file, which is checked before the first and after the last row. `None` for Parquet files, whose
    /// readers check them, and for remote files that are read only while they have the planned tag.
    planned: Option<PlannedFile>,
    /// The position of the key and the partition's own range, if the part also has keys of other ranges.
    range: Option<(usize, OwnRange)>,
}

impl OpenFile {
    fn new(morselizer: &TaskMorselizer, file: &PartitionedFile) -> Self {
        let checked_in = morselizer.checked_in.as_ref();
        let has_no_tag = morselizer.is_local || strong_tag(&file.object_meta).is_none();
        let planned = checked_in
            .filter(|_| has_no_tag)
            .map(|store| PlannedFile::new(Arc::clone(store), file.object_meta.clone()));
        let file = file_name(morselizer.store.as_str(), &file.object_meta.location);
        Self { file: file.into(), file_type: Arc::clone(&morselizer.file_type), planned, range: None }
    }

    /// The rows of `read` that belong to the partition. An error names the file.
    fn own(&self, read: Result<RecordBatch>) -> Result<RecordBatch> {
        let batch = read.map_err(|error| self.blame(error))?;
        match &self.range {
            Some((column, range)) => range.rows(batch, *column),
            None => Ok(batch),
        }
    }

    fn blame(&self, error: DataFusionError) -> DataFusionError {
        FileError::blame(&self.file, &self.file_type, error)
    }
}

#[derive(Debug)]
struct TaskMorselizer {
    inner: Box<dyn Morselizer>,
    /// The store in which files are checked at their start and end; `None` for Parquet files.
    checked_in: Option<Arc<dyn ObjectStore>>,
    is_local: bool,
    store: ObjectStoreUrl,
    file_type: Arc<str>,
    edge: Option<Edge>,
}

#[derive(Debug)]
struct Edge {
    inner: Box<dyn Morselizer>,
    column: usize,
    range: OwnRange,
}

impl Morselizer for TaskMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let edge = self.edge.as_ref().filter(|_| file.extension::<OtherKeys>().is_some());
        let range = edge.map(|edge| (edge.column, edge.range));
        let open = OpenFile { range, ..OpenFile::new(self, &file) };
        let inner = edge.map_or(&self.inner, |edge| &edge.inner).plan_file(file).map_err(|error| open.blame(error))?;
        Ok(Box::new(TaskPlanner { inner, open }))
    }
}

#[derive(Debug)]
struct TaskPlanner {
    inner: Box<dyn MorselPlanner>,
    open: OpenFile,
}

impl MorselPlanner for TaskPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, open } = *self;
        let Some(mut plan) = inner.plan().map_err(|error| open.blame(error))? else {
            return Ok(None);
        };
        let wrap = {
            let open = open.clone();
            move |inner| Box::new(Self { inner, open: open.clone() }) as Box<dyn MorselPlanner>
        };
        let morsels = plan.take_morsels().into_iter();
        let morsels = morsels.map(|inner| Box::new(TaskMorsel { inner, open: open.clone() }) as Box<dyn Morsel>);
        let mut whole = MorselPlan::new()
            .with_morsels(morsels.collect())
            .with_planners(plan.take_ready_planners().into_iter().map(&wrap).collect());
        if let Some(pending) = plan.take_pending_planner() {
            whole.set_pending_planner(pending.map(move |next| match next {
                Ok(next) => Ok(wrap(next)),
                Err(error) => Err(open.blame(error)),
            }));
        }
        Ok(Some(whole))
    }
}

/// Returns `planned`, or an error if another file has taken its place.
async fn checked(mut planned: PlannedFile) -> Result<PlannedFile> {
    planned.check().await?;
    Ok(planned)
}

#[derive(Debug)]
struct TaskMorsel {
    inner: Box<dyn Morsel>,
    open: OpenFile,
}

impl Morsel for TaskMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, mut open } = *self;
        let Some(planned) = open.planned.take() else {
            return inner.into_stream().map(move |read| open.own(read)).boxed();
        };
        let first = checked(planned).map_ok(move |planned| {
            let end = stream::once(checked(planned)).try_filter_map(|_| std::future::ready(Ok(None)));
            inner.into_stream().map(move |read| open.own(read)).chain(end)
        });
        stream::once(first).try_flatten().boxed()
    }
}

//! Names the file in the errors of a scan. DataFusion says what is wrong with a file, but not with which.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::ObjectStore;

use crate::failure::Root;

/// Reading a file failed. The error below is not its `source`, so that searches for a root stop here.
#[derive(Debug, thiserror::Error)]
#[error("the file {file} cannot be read: {error}")]
pub struct FileError {
    pub file: String,
    pub error: DataFusionError,
}

impl FileError {
    /// Names the file in `error` if the error is the file's fault. Scans compute as well, and an expression that fails
    /// is not; errors of object stores name the file already.
    pub fn blame(file: &str, file_type: &str, error: DataFusionError) -> DataFusionError {
        let of_the_file = match Root::of(&error) {
            Root::Arrow(error) => match error {
                ArrowError::CsvError(_)
                | ArrowError::JsonError(_)
                | ArrowError::AvroError(_)
                | ArrowError::IoError(..)
                | ArrowError::IpcError(_)
                | ArrowError::ParquetError(_) => true,
                ArrowError::ParseError(_) | ArrowError::CastError(_) => matches!(file_type, "csv" | "json"),
                _ => false,
            },
            Root::Engine(error) => matches!(error, DataFusionError::ParquetError(_) | DataFusionError::IoError(_)),
            Root::Exchange(_) | Root::File(_) | Root::Store(_) => false,
        };
        match of_the_file {
            true => Self { file: file.to_owned(), error }.into(),
            false => error,
        }
    }

    /// Whether the error comes from a file that it names.
    pub fn is_in(error: &DataFusionError) -> bool {
        matches!(Root::of(error), Root::File(_))
    }
}

impl From<FileError> for DataFusionError {
    fn from(error: FileError) -> Self {
        Self::External(Box::new(error))
    }
}

/// A file source that reads as another does, and whose errors name the file.
pub(crate) struct NamingSource(pub(crate) Arc<dyn FileSource>);

impl FileSource for NamingSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.0.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let inner = self.0.create_morselizer(store, config, partition)?;
        Ok(Box::new(NamingMorselizer {
            inner,
            store: config.object_store_url.clone(),
            file_type: self.file_type().into(),
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.0.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self(self.0.with_batch_size(batch_size)))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.0.filter()
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

/// The file that is being read.
#[derive(Clone, Debug)]
struct Named {
    /// A path on this machine, or a URL.
    file: Arc<str>,
    file_type: Arc<str>,
}

impl Named {
    fn new(store: &ObjectStoreUrl, file: &PartitionedFile, file_type: &Arc<str>) -> Self {
        let store = store.as_str().strip_prefix("file://").unwrap_or(store.as_str());
        let file = format!("{}/{}", store.trim_end_matches('/'), file.object_meta.location);
        Self { file: file.into(), file_type: Arc::clone(file_type) }
    }

    fn blame(&self, error: DataFusionError) -> DataFusionError {
        FileError::blame(&self.file, &self.file_type, error)
    }
}

#[derive(Debug)]
struct NamingMorselizer {
    inner: Box<dyn Morselizer>,
    store: ObjectStoreUrl,
    file_type: Arc<str>,
}

impl Morselizer for NamingMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let named = Named::new(&self.store, &file, &self.file_type);
        let inner = self.inner.plan_file(file).map_err(|error| named.blame(error))?;
        Ok(Box::new(NamingPlanner { inner, named }))
    }
}

#[derive(Debug)]
struct NamingPlanner {
    inner: Box<dyn MorselPlanner>,
    named: Named,
}

impl MorselPlanner for NamingPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, named } = *self;
        let Some(mut plan) = inner.plan().map_err(|error| named.blame(error))? else {
            return Ok(None);
        };
        let wrap = {
            let named = named.clone();
            move |inner| Box::new(Self { inner, named: named.clone() }) as Box<dyn MorselPlanner>
        };
        let morsels = plan.take_morsels().into_iter();
        let morsels = morsels.map(|inner| Box::new(NamingMorsel { inner, named: named.clone() }) as Box<dyn Morsel>);
        let mut whole = MorselPlan::new()
            .with_morsels(morsels.collect())
            .with_planners(plan.take_ready_planners().into_iter().map(&wrap).collect());
        if let Some(pending) = plan.take_pending_planner() {
            whole.set_pending_planner(pending.map(move |next| match next {
                Ok(next) => Ok(wrap(next)),
                Err(error) => Err(named.blame(error)),
            }));
        }
        Ok(Some(whole))
    }
}

#[derive(Debug)]
struct NamingMorsel {
    inner: Box<dyn Morsel>,
    named: Named,
}

impl Morsel for NamingMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, named } = *self;
        inner.into_stream().map(move |batch| batch.map_err(|error| named.blame(error))).boxed()
    }
}

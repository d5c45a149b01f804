//! Caches the plans of queries by text, settings, definitions and files.
//!
//! A cached plan is used only if the files of its tables are still the same. The check lists the files, and planning
//! would begin with this listing too. The encoded stages are cached too, for the cluster shape and size of the last
//! physical plan.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use futures::{StreamExt, TryStreamExt, stream};
use hwacha_proto::control;

use crate::catalog::{Catalog, listing_table};
use crate::query::{ClusterShape, PlannedQuery, Size};
use crate::session::{Session, Snapshot};
use crate::wire_schema::wire_schema;

/// Maximum number of cached plans (512: a plan takes about 0.4 MB). A new plan replaces the plan that was unused for
/// longest.
const MAX_PLANS: usize = 512;
/// Maximum bytes of the text of a cached plan (64 KiB). Larger texts are planned each time.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Maximum bytes of the cached stages of a query (256 KiB). For a query with larger stages only the logical plan is
/// cached.
const MAX_STAGE_BYTES: usize = 256 << 10;
/// Locations of a query's tables that are listed at the same time (32: the round trips of a store add up otherwise).
const LISTINGS_AT_ONCE: usize = 32;

/// Everything that a plan depends on, except files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PlanKey {
    sql: String,
    /// The values with their types: timestamps with different time zones can be equal as values.
    parameters: Vec<(DataType, ScalarValue)>,
    settings: Vec<control::Setting>,
    /// Only for EXECUTE: the number of the session, and its count of successful PREPAREs and DEALLOCATEs.
    session: Option<(u64, u64)>,
    catalog: u64,
}

impl PlanKey {
    /// The key of a text that means the same in every session with these settings. `None` if the text is too large to
    /// be cached.
    pub(crate) fn new(sql: &str, parameters: &[ScalarValue], snapshot: &Snapshot, catalog: &Catalog) -> Option<Self> {
        let (settings, catalog) = (snapshot.settings.clone(), catalog.version());
        let sql = sql.trim().to_owned();
        let parameters = parameters.iter().map(|value| (value.data_type(), value.clone())).collect();
        (sql.len() <= MAX_TEXT_BYTES).then_some(Self { sql, parameters, settings, session: None, catalog })
    }

    /// The key of a text that is an EXECUTE. It must be made before the prepared statement is looked up. If the name
    /// is prepared again in between, the key is outdated and is never looked up again.
    pub(crate) fn of_session(self, session: &Session) -> Self {
        Self { session: Some((session.number, session.prepared_changes())), ..self }
    }
}

/// The files of a query's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableFiles {
    /// Hash of their paths, sizes, times, entity tags and versions.
    hash: u64,
    /// Bytes of all files, before pruning.
    pub bytes: u64,
}

/// An optimized query, and its stages for one shape of the cluster.
#[derive(Debug)]
pub(crate) struct ReusablePlan {
    pub logical: LogicalPlan,
    /// The schema of its rows in wire form.
    pub schema: SchemaRef,
    /// All tables that the query names, also those that the optimized plan does not read.
    tables: Vec<Arc<dyn TableProvider>>,
    /// The files at the time when the plan was made.
    pub files: TableFiles,
    physical: Mutex<Option<((ClusterShape, Size), Arc<PlannedQuery>)>>,
    /// Whether the query has outgrown a plan for one task.
    is_large: AtomicBool,
}

impl ReusablePlan {
    pub(crate) fn new(logical: LogicalPlan, tables: Vec<Arc<dyn TableProvider>>, files: TableFiles) -> Self {
        let schema = wire_schema(logical.schema().as_arrow());
        Self { logical, schema, tables, files, physical: Mutex::default(), is_large: AtomicBool::new(false) }
    }

    /// Remembers whether the query has outgrown a plan for one task. Returns the size to plan for. A lack of memory
    /// is not remembered, since the free memory changes.
    pub(crate) fn learn(&self, size: Size) -> Size {
        let was_large = self.is_large.fetch_or(size == Size::Large, Ordering::Relaxed);
        if was_large && size == Size::Estimated { Size::Large } else { size }
    }

    /// The stages for this shape of the cluster and this size of the query, if they are cached.
    pub(crate) fn physical(&self, shape: ClusterShape, size: Size) -> Option<Arc<PlannedQuery>> {
        let physical = self.physical.lock().unwrap_or_else(PoisonError::into_inner);
        physical.as_ref().filter(|(made_for, _)| *made_for == (shape, size)).map(|(_, planned)| Arc::clone(planned))
    }

    pub(crate) fn keep_physical(&self, shape: ClusterShape, size: Size, planned: &Arc<PlannedQuery>) {
        let bytes: usize = planned.stages.iter().map(|stage| stage.plan.len()).sum();
        if bytes <= MAX_STAGE_BYTES {
            let mut physical = self.physical.lock().unwrap_or_else(PoisonError::into_inner);
            *physical = Some(((shape, size), Arc::clone(planned)));
        }
    }
}

/// The plans of all sessions.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    plans: Mutex<HashMap<PlanKey, (Arc<ReusablePlan>, Instant)>>,
}

impl PlanCache {
    /// The plan of that key, if its files have not changed.
    pub(crate) async fn find(&self, key: &PlanKey, state: &SessionState) -> Option<Arc<ReusablePlan>> {
        let plan = {
            let mut plans = self.lock();
            let (plan, used) = plans.get_mut(key)?;
            *used = Instant::now();
            Arc::clone(plan)
        };
        // If files cannot be listed, the query is planned again, and planning gives the reason.
        match files(&plan.tables, state).await {
            Ok(Some(files)) if files == plan.files => Some(plan),
            _ => {
                self.lock().remove(key);
                None
            }
        }
    }

    pub(crate) fn keep(&self, key: PlanKey, plan: &Arc<ReusablePlan>) {
        let mut plans = self.lock();
        if plans.len() >= MAX_PLANS {
            let oldest = plans.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            plans.remove(&oldest.expect("there are plans"));
        }
        plans.insert(key, (Arc::clone(plan), Instant::now()));
    }

    /// Drops the plans of catalog versions before `catalog`.
    pub(crate) fn forget_before(&self, catalog: u64) {
        self.lock().retain(|key, _| key.catalog >= catalog);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PlanKey, (Arc<ReusablePlan>, Instant)>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the plan of `query` may be used again. It may not if `query` calls a scalar function that is not immutable,
/// such as `now()`, or describes a table. `query` must not be optimized yet: constant folding removes calls of `now()`.
pub(crate) fn is_reusable(query: &LogicalPlan) -> Result<bool> {
    let mut reusable = true;
    query.apply_with_subqueries(|node| {
        reusable &= !matches!(node, LogicalPlan::DescribeTable(_));
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr {
                    reusable &= call.func.signature().volatility == Volatility::Immutable;
                }
                Ok(if reusable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })
    })?;
    Ok(reusable)
}

/// The tables that `query` names. `query` must not be optimized yet: the optimizer may remove a table, but the result
/// still depends on the columns of that table.
pub(crate) fn tables(query: &LogicalPlan) -> Result<Vec<Arc<dyn TableProvider>>> {
    let mut tables = vec![];
    query.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.push(source_as_provider(&scan.source)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// The present files of all tables; `None` if a table does not consist of files.
pub(crate) async fn files(tables: &[Arc<dyn TableProvider>], state: &SessionState) -> Result<Option<TableFiles>> {
    let Some(tables) = tables.iter().map(listing_table).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let listings = tables.iter().flat_map(|table| {
        table.table_paths().iter().map(async |path| {
            let store = state.runtime_env().object_store(path)?;
            let listed = path.list_all_files(state, store.as_ref(), &table.options().file_extension).await?;
            let mut found: Vec<_> = listed.try_collect().await?;
            found.sort_by(|one, other| one.location.cmp(&other.location));
            Ok::<_, DataFusionError>(found)
        })
    });
    let (mut hasher, mut bytes) = (DefaultHasher::new(), 0);
    let mut listings = stream::iter(listings.collect::<Vec<_>>()).buffered(LISTINGS_AT_ONCE);
    while let Some(found) = listings.try_next().await? {
        for file in found {
            bytes += file.size;
            (file.location.as_ref(), file.size, file.last_modified, file.e_tag, file.version).hash(&mut hasher);
        }
    }
    Ok(Some(TableFiles { hash: hasher.finish(), bytes }))
}

//! Plans of queries that come again: the same text with the same settings over the same definitions and files.
//!
//! A plan that was found is used only if its tables' files are still those that it was made for: listing them is what
//! planning would do first. The bytes for the executors are kept too, for as long as the cluster has the same shape.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use futures::TryStreamExt;
use hwacha_proto::control;

use crate::catalog::{Catalog, listing_table};
use crate::query::{ClusterShape, PlannedQuery, Size};
use crate::session::{Session, Snapshot};
use crate::wire_schema::wire_schema;

/// Plans at once; the one unused for longest makes room.
const MAX_PLANS: usize = 512;
/// Larger texts are planned each time.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Plans whose bytes for the executors are more are planned each time.
const MAX_STAGE_BYTES: usize = 256 << 10;

/// What a plan depends on, beside files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PlanKey {
    sql: String,
    /// Their types tell those apart that are equal but for a time zone.
    parameters: Vec<(DataType, ScalarValue)>,
    settings: Vec<control::Setting>,
    /// For a text that names what only one session has: the session, and a number for what its names mean.
    session: Option<(u64, u64)>,
    catalog: u64,
}

impl PlanKey {
    /// The key of a text that means the same in every session with these settings; `None` for texts that are too large to
    /// be kept.
    pub(crate) fn new(sql: &str, parameters: &[ScalarValue], snapshot: &Snapshot, catalog: &Catalog) -> Option<Self> {
        let (settings, catalog) = (snapshot.settings.clone(), catalog.version());
        let sql = sql.trim().to_owned();
        let parameters = parameters.iter().map(|value| (value.data_type(), value.clone())).collect();
        (sql.len() <= MAX_TEXT_BYTES).then_some(Self { sql, parameters, settings, session: None, catalog })
    }

    /// The key of the same text where it names a prepared statement. To be made before the statement is looked up: a name
    /// that comes to mean something else meanwhile leaves a key that is never asked for again.
    pub(crate) fn of_session(self, session: &Session) -> Self {
        Self { session: Some((session.number, session.prepared_changes())), ..self }
    }
}

/// The files of a query's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableFiles {
    /// Of their names, sizes and versions.
    hash: u64,
    /// Of all of them, before any are pruned.
    pub bytes: u64,
}

/// An optimized query, and how it runs on a cluster of one shape.
#[derive(Debug)]
pub(crate) struct ReusablePlan {
    pub logical: LogicalPlan,
    /// Of its rows, in wire form.
    pub schema: SchemaRef,
    /// All that the query names, those too that the plan does not read.
    tables: Vec<Arc<dyn TableProvider>>,
    /// Those that there were when it was made.
    pub files: TableFiles,
    physical: Mutex<Option<((ClusterShape, Size), Arc<PlannedQuery>)>>,
    /// Whether it has outgrown a plan for one task once.
    is_large: AtomicBool,
}

impl ReusablePlan {
    pub(crate) fn new(logical: LogicalPlan, tables: Vec<Arc<dyn TableProvider>>, files: TableFiles) -> Self {
        let schema = wire_schema(logical.schema().as_arrow());
        Self { logical, schema, tables, files, physical: Mutex::default(), is_large: AtomicBool::new(false) }
    }

    /// Notes what somebody knows of its size; gives what is known altogether. What memory has room for changes.
    pub(crate) fn learn(&self, size: Size) -> Size {
        let was_large = self.is_large.fetch_or(size == Size::Large, Ordering::Relaxed);
        if was_large && size == Size::Estimated { Size::Large } else { size }
    }

    /// How it runs on such a cluster when it is of that size, if that is known.
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
    /// The plan of that key, if its files are what they were.
    pub(crate) async fn find(&self, key: &PlanKey, state: &SessionState) -> Option<Arc<ReusablePlan>> {
        let plan = {
            let mut plans = self.lock();
            let (plan, used) = plans.get_mut(key)?;
            *used = Instant::now();
            Arc::clone(plan)
        };
        // What cannot be listed is planned again, which says why.
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

    /// Forgets the plans for catalogs before that version.
    pub(crate) fn forget_before(&self, catalog: u64) {
        self.lock().retain(|key, _| key.catalog >= catalog);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PlanKey, (Arc<ReusablePlan>, Instant)>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the plan of `query`, as it is before constants are folded, holds the next time too: `now()` does not, nor do the
/// columns of a table that is described.
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

/// The tables that `query` names, as it is before it is optimized: whatever is not read after all has its columns still.
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

/// The files that tables have now; `None` where one is something else.
pub(crate) async fn files(tables: &[Arc<dyn TableProvider>], state: &SessionState) -> Result<Option<TableFiles>> {
    let (mut hasher, mut bytes) = (DefaultHasher::new(), 0);
    for table in tables {
        let Some(table) = listing_table(table) else { return Ok(None) };
        for path in table.table_paths() {
            let store = state.runtime_env().object_store(path)?;
            let listed = path.list_all_files(state, store.as_ref(), &table.options().file_extension).await?;
            let mut found: Vec<_> = listed.try_collect().await?;
            found.sort_by(|one, other| one.location.cmp(&other.location));
            for file in found {
                bytes += file.size;
                (file.location.as_ref(), file.size, file.last_modified, file.e_tag, file.version).hash(&mut hasher);
            }
        }
    }
    Ok(Some(TableFiles { hash: hasher.finish(), bytes }))
}

//! From a logical plan to stages: DataFusion's physical plan, Hwacha's rules, the splitter, and the bytes of each
//! stage.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, exec_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::StreamingTableExec;
use hwacha_corrections::key_order;
use hwacha_execution::failure::classify;
use hwacha_execution::session::{hwacha_options, planning_config};
use hwacha_operators::scan::file_scan;
use hwacha_plan::rules::{physical_rules, share_scans};
use hwacha_plan::tuning::{NARROWEST_ROW_BYTES, OUTGROWN_FACTOR, USUAL_READ_FRACTION};
use hwacha_plan::{AdaptiveLimits, Cluster, QueryPlan, foreseen_rows, scanned_bytes, split};
use hwacha_proto::control;
use hwacha_storage::{Location, Stores};
use tokio::runtime::Handle;

use crate::catalog::check_presence;
use crate::plan_cache::{ReusablePlan, TableFiles};
use crate::planning::PlanningThreads;
use crate::query::{ClusterShape, PlannedQuery, Planner, Size, delivery};

/// Maximum bytes of all encoded stages of a query (64 MiB: a quarter of the largest message between scheduler and
/// executors).
const MAX_PLAN_BYTES: usize = 64 << 20;

/// The planner of an optimized query in the session `state`. The event loop calls it when the executors are known.
pub(crate) fn planner(state: SessionState, threads: PlanningThreads, query: Arc<ReusablePlan>) -> Planner {
    Box::new(move |shape, size| {
        let (state, threads, query) = (state.clone(), threads.clone(), Arc::clone(&query));
        Box::pin(async move {
            let size = query.learn(size);
            if let Some(planned) = query.physical(shape, size) {
                return Ok(planned);
            }
            let (io, plan) = (Handle::current(), Arc::clone(&query));
            let planned = threads.run(move || io.block_on(plan_and_encode(&state, &plan, shape, size))).await?;
            let planned = planned.map_err(|error| classify(&error))?;
            let planned = Arc::new(planned);
            query.keep_physical(shape, size, &planned);
            Ok(planned)
        })
    })
}

async fn plan_and_encode(
    state: &SessionState,
    query: &ReusablePlan,
    shape: ClusterShape,
    size: Size,
) -> Result<PlannedQuery> {
    let plan = plan(state, &query.logical, query.files, shape, size).await?;
    if let Some(unmet) = &plan.unmet {
        tracing::warn!(unmet, "a query runs as one task, since the plan for several tasks does not meet a requirement");
    }
    let max_rows = plan.max_rows.unwrap_or(0);
    let stages = plan.graph.iter().map(|(id, stage)| {
        let bytes = hwacha_codec::encode(&plan.stages[id.0 as usize])?;
        Ok(control::StagePlan { stage: id.0, tasks: stage.tasks, plan: bytes, max_rows })
    });
    let stages = stages.collect::<Result<Vec<_>>>()?;
    let bytes: usize = stages.iter().map(|stage| stage.plan.len()).sum();
    if bytes > MAX_PLAN_BYTES {
        return exec_err!(
            "the plan of the query has {bytes} bytes, the limit is {MAX_PLAN_BYTES}; load long constants and lists from files"
        );
    }
    let replannable = size == Size::Estimated && may_replan(state);
    let stores = table_stores(state, plan.stages.iter().map(|stage| Arc::clone(stage) as _))?;
    Ok(PlannedQuery { plan, replannable, stages, stores })
}

/// The stores that tables of the plans describe in their options.
fn table_stores(
    state: &SessionState,
    plans: impl Iterator<Item = Arc<dyn ExecutionPlan>>,
) -> Result<Vec<control::TableStore>> {
    let mut names = BTreeSet::new();
    for plan in plans {
        plan.apply(|node| {
            names.extend(file_scan(node).and_then(|scan| Location::of(scan.object_store_url.as_ref()).ok()?.table));
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    let stores = state.config().get_extension::<Stores>();
    let store = |name: String| {
        let store = stores.as_ref()?.table(&name)?.to_text();
        Some(control::TableStore { name, store })
    };
    Ok(names.into_iter().filter_map(store).collect())
}

/// Plans `logical` for one task if its scans read less than `single_task_bytes`, if there is one executor, or if
/// `distributed` is off. Otherwise plans for all executors, also after a first plan has failed (`size`).
pub(crate) async fn plan(
    state: &SessionState,
    logical: &LogicalPlan,
    files: TableFiles,
    shape: ClusterShape,
    size: Size,
) -> Result<QueryPlan> {
    let hwacha = hwacha_options(state.config_options());
    let (options, delivery) = (hwacha.optimizer, delivery(hwacha.exchange.pipelined));
    let adaptive = options.adaptive.then_some(AdaptiveLimits {
        bytes_per_task: options.adaptive_task_bytes as u64,
        // Each partition of a task would hold the build side, so the limit is divided by the cores.
        max_build_bytes: (options.broadcast_bytes / shape.cores) as u64,
        min_split_bytes: options.split_partitions.then_some(options.split_partition_bytes as u64),
    });
    let single = Cluster {
        tasks: 1,
        partitions_per_task: shape.cores,
        delivery,
        adaptive,
        min_range_bytes: options.ranges.then_some(options.range_bytes as u64),
        shares_stages: options.shared_subplans,
        deals_out: false,
    };
    let spread = Cluster { tasks: shape.executors, ..single };
    if size != Size::Estimated && may_replan(state) {
        // The first plan was made for too few rows or bytes, so estimates choose no broadcast in this plan. It has at
        // least two tasks, also on one executor: spread stages can run in waves when memory is short.
        let tasks = shape.executors.max(2);
        let (state, cluster) =
            (without_broadcasts(state)?, Cluster { tasks, adaptive: None, deals_out: true, ..spread });
        return split(physical_plan(&state, logical, cluster).await?, cluster);
    }
    let may_spread = shape.executors > 1 && options.distributed;
    // If the files are large, the plan for all executors is likely to be used, so it is made first. Then no plan for
    // one task is made in most cases.
    if may_spread && files.bytes >= USUAL_READ_FRACTION * options.single_task_bytes as u64 {
        let whole = physical_plan(state, logical, spread).await?;
        if scanned_bytes(&whole)? >= options.single_task_bytes as u64 {
            return split(whole, spread);
        }
    }
    let whole = physical_plan(state, logical, single).await?;
    if !may_spread {
        return split(whole, single);
    }
    if scanned_bytes(&whole)? < options.single_task_bytes as u64 {
        let foreseen = foreseen_rows(&whole)?.max((options.single_task_bytes / NARROWEST_ROW_BYTES) as f64);
        let max_rows = options.replan.then_some((foreseen * OUTGROWN_FACTOR) as u64);
        return Ok(QueryPlan { max_rows, ..split(whole, single)? });
    }
    split(physical_plan(state, logical, spread).await?, spread)
}

fn may_replan(state: &SessionState) -> bool {
    let options = hwacha_options(state.config_options()).optimizer;
    options.replan && options.distributed
}

fn without_broadcasts(state: &SessionState) -> Result<SessionState> {
    let mut config = state.config().clone();
    for limit in ["hwacha.optimizer.broadcast_bytes", "hwacha.optimizer.broadcast_rows"] {
        config.options_mut().set(limit, "0")?;
    }
    Ok(SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build())
}

/// The physical plan of `logical`, valid in one process, with as many partitions as the cluster has.
async fn physical_plan(
    state: &SessionState,
    logical: &LogicalPlan,
    cluster: Cluster,
) -> Result<Arc<dyn ExecutionPlan>> {
    let config = planning_config(state.config().clone(), cluster.partitions(), cluster.tasks);
    let options = hwacha_options(state.config_options()).optimizer;
    let logical = match options.shared_scans && options.shared_subplans {
        true => share_scans(logical.clone())?,
        false => logical.clone(),
    };
    let logical = key_order(logical)?;
    let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
    let state = SessionStateBuilder::new_from_existing(state.clone())
        .with_config(config)
        .with_physical_optimizer_rules(physical_rules(cluster, footers))
        .build();
    let plan = state.query_planner().create_physical_plan(&logical, &state).await?;
    check_presence(&logical)?;
    materialize_system_tables(plan, &state).await
}

/// Replaces scans of information_schema, which only this process can run, by their rows.
async fn materialize_system_tables(
    plan: Arc<dyn ExecutionPlan>,
    state: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut tables = vec![];
    plan.apply(|node| {
        if node.is::<StreamingTableExec>() {
            tables.push(Arc::clone(node));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if tables.is_empty() {
        return Ok(plan);
    }
    let mut rows = vec![];
    for table in tables {
        let batches = datafusion::physical_plan::collect(Arc::clone(&table), state.task_ctx()).await?;
        rows.push(MemorySourceConfig::try_new_exec(&[batches], table.schema(), None)?);
    }
    let mut rows = rows.into_iter();
    plan.transform(|node| match node.is::<StreamingTableExec>() {
        true => Ok(Transformed::yes(rows.next().expect("as many as were found") as Arc<dyn ExecutionPlan>)),
        false => Ok(Transformed::no(node)),
    })
    .data()
}

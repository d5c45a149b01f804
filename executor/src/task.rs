//! Runs one attempt: decodes the stage's plan, cuts it down to the task's share, drives all its partitions.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datafusion::common::runtime::JoinSet;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionConfig;
use futures::{FutureExt, StreamExt};
use hwacha_execution::failure::{classify, panicked};
use hwacha_execution::session::{functions_of_settings, hwacha_options};
use hwacha_execution::stack::on_large_stack;
use hwacha_model::{Failure, FailureKind, OutputKind, Reading, StageId, StoreUse, TaskId, TaskStats};
use hwacha_operators::compact_views::compact_build_sides;
use hwacha_operators::exchange::{ExchangeSinkExec, ExchangeSourceExec};
use hwacha_operators::exchange::{TaskShare, with_task_exchange};
use hwacha_operators::localize::localize;
use hwacha_operators::metrics::{Cost, given_rows, operator_metrics};
use hwacha_operators::runtime_filter::{Filters, RuntimeFilter, apply};
use hwacha_operators::stoppable_joins::stoppable_joins;
use hwacha_proto::control::OperatorMetrics;
use tokio::runtime::Handle;

use crate::exchange::{BoundInput, BoundProducer, OnRead, Output, Peers, TaskReader};

/// Interval at which the rows of operators are counted (20 ms: little work is lost if the task has outgrown its
/// plan).
const ROWS_COUNTED_EVERY: Duration = Duration::from_millis(20);

/// The parts of the process that a task uses.
#[derive(Clone)]
pub(crate) struct TaskEnvironment {
    /// The context in which plans are decoded: functions by name, and `runtime`. Made once, because there are
    /// hundreds of functions.
    pub decoding: Arc<TaskContext>,
    /// Memory, disk and caches; shared by all tasks.
    pub runtime: Arc<RuntimeEnv>,
    pub peers: Arc<Peers>,
    /// The runtime on which operators compute.
    pub cpu: Handle,
}

/// One attempt with everything that the scheduler sent for it.
pub(crate) struct TaskRun {
    pub attempt: TaskId,
    pub share: TaskShare,
    pub plan: Bytes,
    pub producers: HashMap<StageId, Vec<BoundProducer>>,
    /// How the task reads each input stage.
    pub readings: HashMap<StageId, Reading>,
    pub waves: usize,
    /// Rows that all operators may emit together before any row has left the task. Beyond this the task fails as
    /// outgrown.
    pub max_rows: Option<u64>,
    /// The run-time filters of the task's scans: the keys of build sides.
    pub filters: Arc<Filters>,
    pub config: SessionConfig,
    pub collect_metrics: bool,
    pub on_read: OnRead,
}

/// The statistics, measurements and filters of a finished attempt.
pub(crate) struct TaskResult {
    pub stats: TaskStats,
    pub operators: Vec<OperatorMetrics>,
    pub elapsed: Duration,
    /// The run-time filters that the task's sink collected.
    pub filters: Vec<(u64, RuntimeFilter)>,
}

/// Runs an attempt to its end. `create_output` makes the output, whose kind and number of partitions come from the
/// decoded plan.
pub(crate) async fn run(
    run: TaskRun,
    environment: TaskEnvironment,
    create_output: impl FnOnce(OutputKind, usize) -> Arc<Output>,
) -> Result<TaskResult, Failure> {
    let attempt = run.attempt;
    match AssertUnwindSafe(waves(run, environment, create_output)).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(panicked(attempt, panic.as_ref())),
    }
}

/// Runs all waves. Each wave decodes the plan, drives it to its end, and adds its cost to the account.
async fn waves(
    run: TaskRun,
    environment: TaskEnvironment,
    create_output: impl FnOnce(OutputKind, usize) -> Arc<Output>,
) -> Result<TaskResult, Failure> {
    let started = Instant::now();
    let mut plan = decode(&run, &environment).await?;
    let root = sink(&plan)?;
    let kind = root.kind();
    // The client may have rows of an earlier attempt of a repeatable stage. Only the same plan can continue after them.
    let max_rows = run.max_rows.filter(|_| run.attempt.attempt == 0 || !root.is_repeatable());
    let options = hwacha_options(run.config.options());
    let first = TaskReader {
        output: create_output(kind, root.partitions()),
        inputs: Arc::new(bind_inputs(&plan, &run)?),
        peers: Arc::clone(&environment.peers),
        on_read: Arc::clone(&run.on_read),
        received_bytes: Arc::default(),
        compress: options.exchange.compression,
        share: run.share,
        wave: 0,
        waves: run.waves,
    };
    let mut account = Account::default();
    for wave in 0..run.waves {
        if wave > 0 {
            plan = decode(&run, &environment).await?;
        }
        let context = context(&run, &environment, Arc::new(TaskReader { wave, ..first.clone() }));
        tokio::select! {
            driven = drive(&plan, context, &environment.cpu, run.attempt) => driven?,
            failure = outgrown(&plan, &first.output, max_rows) => return Err(failure),
        }
        account.add(&plan, run.collect_metrics)?;
    }
    first.output.complete();
    let heavy = match kind {
        OutputKind::Hash => first.output.heavy_partitions(options.optimizer.split_partition_bytes / run.share.tasks),
        _ => vec![],
    };
    let stats = TaskStats {
        output_rows: first.output.rows(),
        output_bytes: first.output.bytes(),
        heavy,
        received_bytes: first.received_bytes.load(Ordering::Relaxed),
        spilled_bytes: account.cost.spilled_bytes + first.output.spilled_bytes(),
        compute_nanos: account.cost.compute_nanos,
        store: account.cost.store,
    };
    let Account { operators, filters, .. } = account;
    Ok(TaskResult { stats, operators, elapsed: started.elapsed(), filters })
}

/// The cost, the metrics and the run-time filter keys of the waves so far.
#[derive(Default)]
struct Account {
    cost: Cost,
    operators: Vec<OperatorMetrics>,
    filters: Vec<(u64, RuntimeFilter)>,
}

impl Account {
    /// Adds a wave whose plan has been driven to its end.
    fn add(&mut self, plan: &Arc<dyn ExecutionPlan>, collect_metrics: bool) -> Result<(), Failure> {
        self.cost = self.cost.with(Cost::of(plan));
        add_filters(&mut self.filters, sink(plan)?.filters());
        if collect_metrics {
            add_metrics(&mut self.operators, operator_metrics(plan));
        }
        Ok(())
    }
}

/// Decoding recurses as deep as the plan's expressions, so it has a large stack.
async fn decode(run: &TaskRun, environment: &TaskEnvironment) -> Result<Arc<dyn ExecutionPlan>, Failure> {
    let (bytes, decoding) = (run.plan.clone(), decoding(run, environment).map_err(|error| classify(&error))?);
    let TaskShare { task, planned_tasks, .. } = run.share;
    let filters = Arc::clone(&run.filters);
    let decode = move || {
        let plan = apply(hwacha_codec::decode(&bytes, &decoding)?, &filters)?;
        let footers = decoding.runtime_env().cache_manager.get_file_metadata_cache();
        stoppable_joins(compact_build_sides(localize(plan, task, planned_tasks, Some(&footers))?)?)
    };
    on_large_stack(decode)
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?
        .map_err(|error| classify(&error))
}

/// The context in which the plan is decoded: the known functions, changed by the query's settings.
fn decoding(run: &TaskRun, environment: &TaskEnvironment) -> Result<TaskContext> {
    let known = &environment.decoding;
    let mut context = TaskContext::new(
        None,
        known.session_id(),
        run.config.clone(),
        known.scalar_functions().clone(),
        known.higher_order_functions().clone(),
        known.aggregate_functions().clone(),
        known.window_functions().clone(),
        known.runtime_env(),
    );
    for function in functions_of_settings(known.scalar_functions().values(), run.config.options()) {
        context.register_udf(function)?;
    }
    Ok(context)
}

fn sink(plan: &Arc<dyn ExecutionPlan>) -> Result<&ExchangeSinkExec, Failure> {
    plan.downcast_ref::<ExchangeSinkExec>()
        .ok_or_else(|| Failure::new(FailureKind::Internal, "a stage's plan has no exchange sink at its root"))
}

/// Binds each input of the plan to its producers, and counts how often each producer will be read.
fn bind_inputs(plan: &Arc<dyn ExecutionPlan>, run: &TaskRun) -> Result<HashMap<StageId, BoundInput>, Failure> {
    let mut inputs = HashMap::new();
    plan.apply(|node| {
        if let Some(source) = node.downcast_ref::<ExchangeSourceExec>() {
            let spec = source.spec();
            let producers = run
                .producers
                .get(&spec.stage)
                .ok_or_else(|| internal_datafusion_err!("nobody was named who produces stage {}", spec.stage))?;
            let reads = run.waves * source.reads_per_producer();
            let input = inputs.entry(spec.stage).or_insert_with(|| BoundInput {
                producers: producers.clone(),
                schema: Arc::clone(&spec.schema),
                reading: run.readings.get(&spec.stage).cloned().unwrap_or_default(),
                unread: producers.iter().map(|_| AtomicUsize::new(0)).collect(),
            });
            for unread in &input.unread {
                unread.fetch_add(reads, Ordering::Relaxed);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(|error| classify(&error))?;
    Ok(inputs)
}

/// The context in which operators run. It has no functions, because the operators of a decoded plan hold theirs.
fn context(run: &TaskRun, environment: &TaskEnvironment, reader: Arc<TaskReader>) -> Arc<TaskContext> {
    let (attempt, config) = (run.attempt.to_string(), with_task_exchange(run.config.clone(), reader));
    let runtime = Arc::clone(&environment.runtime);
    Arc::new(TaskContext::new(
        Some(attempt),
        environment.decoding.session_id(),
        config,
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        runtime,
    ))
}

/// Drives all partitions together, because their operators wait for each other.
async fn drive(
    plan: &Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    cpu: &Handle,
    attempt: TaskId,
) -> Result<(), Failure> {
    let mut partitions = JoinSet::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        let (plan, context) = (Arc::clone(plan), Arc::clone(&context));
        let drain = async move {
            let mut rows = plan.execute(partition, context)?;
            while let Some(batch) = rows.next().await {
                batch?;
            }
            Result::<()>::Ok(())
        };
        partitions.spawn_on(drain, cpu);
    }
    while let Some(partition) = partitions.join_next().await {
        match partition {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(classify(&error)),
            Err(error) if error.is_panic() => return Err(panicked(attempt, error.into_panic().as_ref())),
            Err(_) => return Err(Failure::new(FailureKind::Canceled, "the task was stopped")),
        }
    }
    Ok(())
}

/// Resolves when the operators have emitted more than `max_rows` rows and no row has left the task. Otherwise it
/// never resolves.
async fn outgrown(plan: &Arc<dyn ExecutionPlan>, output: &Output, max_rows: Option<u64>) -> Failure {
    let Some(max_rows) = max_rows else { return std::future::pending().await };
    while given_rows(plan) <= max_rows {
        tokio::time::sleep(ROWS_COUNTED_EVERY).await;
    }
    if !output.withdraw() {
        return std::future::pending().await;
    }
    Failure::new(FailureKind::Outgrown, format!("the query's operators gave more than {max_rows} rows on one executor"))
}

fn add_filters(total: &mut Vec<(u64, RuntimeFilter)>, wave: Vec<(u64, RuntimeFilter)>) {
    if total.is_empty() {
        *total = wave;
        return;
    }
    for ((_, total), (_, wave)) in total.iter_mut().zip(wave) {
        total.merge(&wave);
    }
}

fn add_metrics(total: &mut Vec<OperatorMetrics>, wave: Vec<OperatorMetrics>) {
    if total.is_empty() {
        *total = wave;
        return;
    }
    for (total, wave) in total.iter_mut().zip(wave) {
        total.output_rows += wave.output_rows;
        total.output_bytes += wave.output_bytes;
        total.compute_nanos += wave.compute_nanos;
        total.spilled_bytes += wave.spilled_bytes;
        if let Some(used) = wave.store {
            total.store = Some(StoreUse::from(used).with(total.store.unwrap_or_default().into()).into());
        }
    }
}

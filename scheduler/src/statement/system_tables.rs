//! Runs queries that read only information_schema, in this process. They have threads and a memory limit of their own,
//! so a cross join of such tables does not take the threads and memory of all connections.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use datafusion::common::{Result, resources_err};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use hwacha_corrections::CooperativeJoinsRule;
use hwacha_execution::counted_memory::tell_process;
use tokio::runtime::{Builder, Handle, Runtime};

/// Maximum time to compute the next batch of a query (60 s). Then the query fails.
const TIME: Duration = Duration::from_secs(60);
/// Maximum bytes that all queries on system tables together reserve (256 MiB).
const MEMORY_BYTES: usize = 256 << 20;
const STACK_BYTES: usize = 32 << 20;
/// Batches of one query that wait for the client (2).
const WAITING_BATCHES: usize = 2;

struct Place {
    runtime: Runtime,
    memory: Arc<GreedyMemoryPool>,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| Place {
    runtime: Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("system-tables")
        // Deep expressions are evaluated recursively and need a large stack.
        .thread_stack_size(STACK_BYTES)
        .on_thread_stop(tell_process)
        .enable_all()
        .build()
        .expect("the process can start threads"),
    memory: Arc::new(GreedyMemoryPool::new(MEMORY_BYTES)),
});

/// The physical plan of a query. Must run on a planning thread.
pub(super) fn plan(state: &SessionState, query: &LogicalPlan, io: &Handle) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = io.block_on(state.create_physical_plan(query))?;
    CooperativeJoinsRule.optimize(plan, state.config_options())
}

/// Runs a plan and returns its rows. Dropping the stream stops the plan.
pub(super) fn run(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<SendableRecordBatchStream> {
    let memory = Arc::clone(&PLACE.memory);
    let runtime = RuntimeEnvBuilder::from_runtime_env(state.runtime_env()).with_memory_pool(memory).build_arc()?;
    let context = Arc::new(TaskContext::from(state).with_runtime(runtime));
    let mut builder = RecordBatchReceiverStream::builder(plan.schema(), WAITING_BATCHES);
    let rows = builder.tx();
    let work = async move {
        let mut computed = execute_stream(plan, context)?;
        loop {
            let Ok(next) = tokio::time::timeout(TIME, computed.next()).await else {
                return resources_err!(
                    "the query on information_schema returned no rows for {} s, which is the limit; add a filter, or \
                     read fewer of its tables",
                    TIME.as_secs()
                );
            };
            let Some(batch) = next else { return Ok(()) };
            if rows.send(batch).await.is_err() {
                return Ok(());
            }
        }
    };
    builder.spawn_on(work, PLACE.runtime.handle());
    Ok(builder.build())
}

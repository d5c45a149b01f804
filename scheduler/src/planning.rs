//! Planning runs on its own threads, few at once, within a budget of time and memory, and only while somebody waits for
//! the plan.
//!
//! A session plans few statements at once, so one client cannot take all threads. When nobody waits for a plan any
//! more, planning ends at the next check of its budget. Until then its thread counts against the limits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hwacha_execution::planning_budget::PlanningBudget;
use hwacha_execution::stack::on_large_stack;
use hwacha_model::{Failure, FailureKind};
use tokio::sync::Semaphore;

/// Maximum time of one step of planning (60 s).
const TIME: Duration = Duration::from_secs(60);
/// Time beyond `TIME` that a caller waits for a step (5 s). Then the statement fails, even if a rule never checks its
/// budget.
const GRACE: Duration = Duration::from_secs(5);
/// Maximum bytes that one step of planning may allocate and keep (512 MiB).
const MEMORY_BYTES: usize = 512 << 20;
/// Maximum steps of planning that one session runs at once (4). Further steps wait.
const OF_SESSION: usize = 4;
/// Maximum steps of planning that run at once, for each core of the machine (4). Further steps wait.
const PER_CORE: usize = 4;

static THREADS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(PER_CORE * cores))
});

/// One session's share of the planning threads.
#[derive(Clone, Debug)]
pub(crate) struct PlanningThreads(Arc<Semaphore>);

impl Default for PlanningThreads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(OF_SESSION)))
    }
}

impl PlanningThreads {
    /// Does `work` on a planning thread. Dropping the future cancels the work.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let own = Arc::clone(&self.0).acquire_owned().await.expect("it is never closed");
        let all = Arc::clone(&THREADS).acquire_owned().await.expect("it is never closed");
        let is_canceled = Arc::new(AtomicBool::new(false));
        let budget = PlanningBudget { time: TIME, memory_bytes: MEMORY_BYTES, is_canceled: Arc::clone(&is_canceled) };
        let _cancel = CancelOnDrop(is_canceled);
        let planning = on_large_stack(move || {
            let _threads = (own, all);
            budget.spend(work)
        });
        match tokio::time::timeout(TIME + GRACE, planning).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Failure::new(FailureKind::Internal, error.to_string())),
            Err(_) => Err(Failure::new(
                FailureKind::ResourcesExhausted,
                format!("planning took longer than {} s; make the statement smaller", TIME.as_secs()),
            )),
        }
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

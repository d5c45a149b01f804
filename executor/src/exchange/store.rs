//! All outputs that an executor holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hwacha_model::{ExecutorId, OutputKind, QueryId, TaskId};
use tokio::sync::watch;

use super::budget::Budget;
use super::output::Output;
use crate::memory::Work;

/// How long a reader waits for an output whose launch is still on its way (20 s).
const RENDEZVOUS: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct ExchangeStore {
    executor: ExecutorId,
    outputs: Mutex<BTreeMap<TaskId, Arc<Output>>>,
    /// Grows with each new output. This wakes readers whose output did not exist yet.
    version: watch::Sender<u64>,
    budget: Arc<Budget>,
}

/// The stores of this process. Readers in the process take batches from them without encoding.
static LOCAL: LazyLock<Mutex<HashMap<ExecutorId, Weak<ExchangeStore>>>> = LazyLock::new(Default::default);

/// The store of an executor; `None` if the executor runs in another process.
pub(crate) fn local_store(executor: ExecutorId) -> Option<Arc<ExchangeStore>> {
    LOCAL.lock().unwrap_or_else(PoisonError::into_inner).get(&executor)?.upgrade()
}

impl ExchangeStore {
    pub(crate) fn new(executor: ExecutorId, budget: Budget) -> Arc<Self> {
        let store = Arc::new(Self {
            executor,
            outputs: Mutex::default(),
            version: watch::Sender::new(0),
            budget: Arc::new(budget),
        });
        LOCAL.lock().unwrap_or_else(PoisonError::into_inner).insert(executor, Arc::downgrade(&store));
        store
    }

    pub(crate) fn executor(&self) -> ExecutorId {
        self.executor
    }

    /// Creates the empty output of an attempt.
    pub(crate) fn create(&self, attempt: TaskId, kind: OutputKind, partitions: usize, work: Arc<Work>) -> Arc<Output> {
        let output = Arc::new(Output::new(attempt, kind, partitions, Arc::clone(&self.budget), work));
        self.lock().insert(attempt, Arc::clone(&output));
        self.version.send_modify(|version| *version += 1);
        output
    }

    /// The output of an attempt. Waits up to `RENDEZVOUS` if the attempt has no output yet.
    pub(crate) async fn find(&self, attempt: TaskId) -> Option<Arc<Output>> {
        let mut version = self.version.subscribe();
        let wait = async {
            loop {
                let found = self.lock().get(&attempt).cloned();
                if found.is_some() || version.changed().await.is_err() {
                    return found;
                }
            }
        };
        tokio::time::timeout(RENDEZVOUS, wait).await.ok().flatten()
    }

    /// The attempts whose outputs are here.
    pub(crate) fn attempts(&self) -> Vec<TaskId> {
        self.lock().keys().copied().collect()
    }

    /// Drops an attempt's output; readers of it get an error.
    pub(crate) fn drop_output(&self, attempt: TaskId) {
        self.drop_where(|other| *other == attempt);
    }

    pub(crate) fn drop_query(&self, query: QueryId) {
        self.drop_where(|attempt| attempt.query == query);
    }

    pub(crate) fn clear(&self) {
        self.drop_where(|_| true);
    }

    fn drop_where(&self, dropped: impl Fn(&TaskId) -> bool) {
        let outputs: Vec<_> = self.lock().extract_if(.., |attempt, _| dropped(attempt)).collect();
        for (_, output) in &outputs {
            output.break_off();
        }
        // Outside of the lock, because this may free gigabytes and delete files.
        drop(outputs);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Arc<Output>>> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ExchangeStore {
    fn drop(&mut self) {
        LOCAL.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.executor);
    }
}

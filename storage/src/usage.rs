//! What a scan asks of its store. Each request of the scan carries its [`Usage`] as an extension of its options.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};

/// Retries that a scan has from its start (20). Each request adds one. A store that fails half of all requests is
/// overloaded, and more retries would keep it so.
const FREE_RETRIES: usize = 20;
/// Bytes between two ranges up to which they are read by one request, until the store has been measured (1 MiB).
const FIRST_GAP: u64 = 1 << 20;

/// Marks a request as an extension of its options: the reader needs all bytes at once, so they are received as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

/// Counts the requests of one scan of one task.
#[derive(Clone, Debug)]
pub struct Usage {
    requests: Count,
    retries: Count,
    bytes: Count,
    cached: Count,
    wait: Time,
    gap: Arc<AtomicU64>,
}

impl Usage {
    /// Counters among the metrics of a scan: `store_requests`, `store_retries`, `store_bytes`, `cached_bytes` and
    /// `store_wait`.
    pub fn new(metrics: &ExecutionPlanMetricsSet) -> Self {
        let counter = |name| MetricBuilder::new(metrics).global_counter(name);
        Self {
            requests: counter("store_requests"),
            retries: counter("store_retries"),
            bytes: counter("store_bytes"),
            cached: counter("cached_bytes"),
            wait: MetricBuilder::new(metrics).subset_time("store_wait", 0),
            gap: Arc::new(AtomicU64::new(FIRST_GAP)),
        }
    }

    /// The time that partitions waited for the store. Requests that were sent ahead do not count until they are needed.
    pub fn wait(&self) -> &Time {
        &self.wait
    }

    /// Bytes between two ranges up to which both are read by one request. Measured for each store.
    pub fn gap(&self) -> u64 {
        self.gap.load(Ordering::Relaxed)
    }

    pub(crate) fn set_gap(&self, gap: u64) {
        self.gap.store(gap, Ordering::Relaxed);
    }

    pub(crate) fn add_request(&self) {
        self.requests.add(1);
    }

    pub(crate) fn add_bytes(&self, bytes: usize) {
        self.bytes.add(bytes);
    }

    pub(crate) fn add_cached(&self, bytes: usize) {
        self.cached.add(bytes);
    }

    /// Counts a retry; `false` if the scan has no retries left.
    pub(crate) fn retry(&self) -> bool {
        let allowed = FREE_RETRIES + self.requests.value();
        let has_left = self.retries.value() < allowed;
        if has_left {
            self.retries.add(1);
        }
        has_left
    }
}

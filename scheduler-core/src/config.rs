//! The machine's limits and delays.

use std::time::Duration;

/// Limits and delays of the machine. The defaults, in parentheses, suit a fleet and a laptop alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// An executor is lost if no heartbeat of it arrives for this time (10 s; it sends one each second).
    pub lost_after: Duration,
    /// An executor whose connection broke is lost if it does not attach again within this time (2 s).
    pub reattach_within: Duration,
    /// A query that waits for executors fails if none was usable for this time (30 s).
    pub executor_wait: Duration,
    /// Time after which an attempt that the executor does not list is launched again, or fails if it had begun (3 s).
    pub relaunch_after: Duration,
    /// Heartbeats of an executor after which an attempt that it has not begun is taken back (20: a launch takes
    /// milliseconds, and heartbeats come each second). The executor is then excluded, unless it is the only usable one.
    pub start_within_heartbeats: u32,
    /// Time for which an excluded executor gets no task (60 s).
    pub excluded_for: Duration,
    /// Maximum number of queries that run at once (64). Further queries wait.
    pub max_running: usize,
    /// Maximum number of queries that wait (512). Further queries are refused.
    pub max_queued: usize,
    /// Maximum number of stalled queries (their clients take no rows) that do not count as running (1,024). Further
    /// stalled queries count as running.
    pub max_stalled: usize,
    /// Attempts of one task that end as `Unavailable` or `ExecutorLost` before the query fails (4).
    pub max_attempts: u32,
    /// Lost executors that may be blamed on a query (3). With more, it is stopped as the likely cause. A loss counts in
    /// full for a query that ran alone on the executor. Queries that ran there together share the loss.
    pub max_executor_losses: u32,
    /// Maximum number of waves that a task is cut into when memory runs out (64).
    pub max_waves: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lost_after: Duration::from_secs(10),
            reattach_within: Duration::from_secs(2),
            executor_wait: Duration::from_secs(30),
            relaunch_after: Duration::from_secs(3),
            start_within_heartbeats: 20,
            excluded_for: Duration::from_secs(60),
            max_running: 64,
            max_queued: 512,
            max_stalled: 1024,
            max_attempts: 4,
            max_executor_losses: 3,
            max_waves: 64,
        }
    }
}

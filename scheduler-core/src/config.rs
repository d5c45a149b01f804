//! The machine's limits and delays.

use std::time::Duration;

/// Limits and delays of the machine. The defaults suit a fleet and a laptop alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// An executor that has been silent for so long is lost.
    pub lost_after: Duration,
    /// An executor whose connection broke and that has not attached again for so long is lost.
    pub reattach_within: Duration,
    /// A query that has had no executor for so long fails.
    pub executor_wait: Duration,
    /// A launch that the executor does not know after so long is sent again.
    pub relaunch_after: Duration,
    /// An attempt that an executor has not begun after so many of its heartbeats is taken from it, and the executor gets no
    /// task for some time. (20: a launch takes milliseconds, and heartbeats come each second.)
    pub start_within_heartbeats: u32,
    /// How long such an executor gets no task.
    pub excluded_for: Duration,
    /// How many queries run at once; more wait.
    pub max_running: usize,
    /// How many queries wait; more are refused.
    pub max_queued: usize,
    /// How many queries whose clients take no rows do not count as running; further ones do.
    pub max_stalled: usize,
    /// How many attempts a task has for failures that blame the attempt.
    pub max_attempts: u32,
    /// Losses that a query may cause before it is stopped as the likely cause. A loss counts whole for a query that
    /// ran alone there; queries that ran together share it.
    pub max_executor_losses: u32,
    /// The most waves a task is cut into when memory runs out.
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

//! The number of executors that a plan is made for, and the limits within which its stages may change at run time.

use hwacha_model::Delivery;

/// The cluster that a plan is made for and cut into stages for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Tasks of a spread stage: the number of executors, or 1 in a plan that runs as one task. At least 2 if the
    /// query is planned again.
    pub tasks: usize,
    /// Partitions that one task drives.
    pub partitions_per_task: usize,
    /// Whether a consumer starts before its producers have ended.
    pub delivery: Delivery,
    /// The limits for changes of a stage once its inputs' sizes are known; `None` if stages never change.
    pub adaptive: Option<AdaptiveLimits>,
    /// Minimum estimated input bytes of a global sort or window that tasks share by key ranges. One task merges
    /// smaller inputs. `None` if ranges are off.
    pub min_range_bytes: Option<u64>,
    /// Whether equal stages run once.
    pub shares_stages: bool,
    /// Whether a round robin repartition sends rows to all tasks by a hash of their columns, instead of moving them
    /// only within a task. Set when a query is planned again, because few input rows may then cause much work.
    pub deals_out: bool,
}

/// The sizes in bytes that decide which stages change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveLimits {
    /// Input bytes per task. Example: with 4 MiB per task, a stage with 5 MiB of input runs at most 2 tasks.
    pub bytes_per_task: u64,
    /// The largest build side of a hashed join that every task may read whole.
    pub max_build_bytes: u64,
    /// The smallest partition of a join's probe side that all tasks may share; `None` if they never share one.
    pub min_split_bytes: Option<u64>,
}

impl Cluster {
    /// Partitions of a plan for this cluster, over all tasks.
    pub fn partitions(&self) -> usize {
        self.tasks * self.partitions_per_task
    }
}

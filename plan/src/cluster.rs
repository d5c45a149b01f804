//! The executors that a plan is made for, and how its stages may change while it runs.

use hwacha_model::Delivery;

/// What a plan is cut for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many tasks share a spread stage: the number of executors.
    pub tasks: usize,
    /// How many partitions a task drives.
    pub partitions_per_task: usize,
    /// When consumers may start.
    pub delivery: Delivery,
    /// Whether stages may change once their inputs' sizes are known.
    pub adaptive: Option<AdaptiveLimits>,
    /// The least bytes of a sort or a window over all rows that tasks share by ranges of keys.
    pub min_range_bytes: Option<u64>,
    /// Whether stages that are equal run once.
    pub shares_stages: bool,
    /// Whether few rows turned out to make much work: then they are dealt out to all tasks first.
    pub deals_out: bool,
}

/// The sizes that decide how stages change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveLimits {
    /// How many bytes of input are worth a task.
    pub bytes_per_task: u64,
    /// The largest build side of a join that every task reads whole.
    pub max_build_bytes: u64,
    /// The smallest partition of a join's probe side that all tasks may share.
    pub min_split_bytes: Option<u64>,
}

impl Cluster {
    /// How many partitions a plan for this cluster has.
    pub fn partitions(&self) -> usize {
        self.tasks * self.partitions_per_task
    }
}

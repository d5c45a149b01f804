//! The tasks that executors are told to run, and the statistics that they report.

use crate::ids::{ExecutorId, StageId, TaskId};

/// One producer attempt and the executor that has its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub attempt: TaskId,
    pub executor: ExecutorId,
}

/// The attempts from which a consumer reads one input: exactly one per producer task, in task order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputBinding {
    pub stage: StageId,
    pub producers: Vec<Producer>,
    pub reading: Reading,
}

/// Which partitions of an exchange a task reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// The task's own partitions, which have consecutive numbers.
    #[default]
    Share,
    /// Each partition of the task reads all partitions: the build side of a join that was switched to a broadcast.
    Whole,
    /// The task's own partitions and all rows of these heavy partitions: the build side of a shared join.
    Copied(Vec<u32>),
    /// The task's own partitions, but only a part of these heavy partitions: the rows of each producer `p` for which
    /// `p % tasks` is this task. This is the probe side of a shared join. Example: with 2 tasks and 4 producers, task 0
    /// reads the heavy partitions of producers 0 and 2, and task 1 of producers 1 and 3.
    Dealt(Vec<u32>),
}

/// One attempt, the inputs that it reads, and how it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub attempt: TaskId,
    /// The number of tasks that share the stage's work: the planned number, or fewer.
    pub tasks: u32,
    pub inputs: Vec<InputBinding>,
    /// Whether rows stay in the task's partitions although the plan hashes them.
    pub unhashed: bool,
    /// The number of waves (passes over the inputs). It is 1 unless an earlier attempt of the task ran out of memory.
    pub waves: u32,
}

/// What a finished attempt produced and cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskStats {
    pub output_rows: u64,
    pub output_bytes: u64,
    /// The heaviest partitions of a hashed output. Empty if no partition is clearly larger than the mean.
    pub heavy: Vec<HeavyPartition>,
    /// Bytes that came from another process over the network.
    pub received_bytes: u64,
    /// Bytes that the attempt wrote to spill files, operators and exchange together.
    pub spilled_bytes: u64,
    /// Compute time of the attempt's operators, summed over all cores.
    pub compute_nanos: u64,
    pub store: StoreUse,
}

/// What scans asked of the stores of remote files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUse {
    /// Reads of one range of bytes each. A retry is not another read.
    pub requests: u64,
    pub retries: u64,
    /// Bytes that the stores sent.
    pub bytes: u64,
    /// Bytes that came from the cache of the executor.
    pub cached_bytes: u64,
    /// Time that scans waited for the stores, summed over all partitions.
    pub wait_nanos: u64,
}

impl StoreUse {
    /// The sum of both.
    pub fn with(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            retries: self.retries + other.retries,
            bytes: self.bytes + other.bytes,
            cached_bytes: self.cached_bytes + other.cached_bytes,
            wait_nanos: self.wait_nanos + other.wait_nanos,
        }
    }
}

/// A partition of an output with clearly more bytes than the mean partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeavyPartition {
    pub partition: u32,
    pub bytes: u64,
}

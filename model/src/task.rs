//! What an executor is told to run and what it says afterwards.

use crate::ids::{ExecutorId, StageId, TaskId};

/// One producer attempt and where its output lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub attempt: TaskId,
    pub executor: ExecutorId,
}

/// From which attempts a consumer reads one input: exactly one per producer task, in task order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputBinding {
    pub stage: StageId,
    pub producers: Vec<Producer>,
    pub reading: Reading,
}

/// Which partitions of an exchange a task reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// A run of them, its share.
    #[default]
    Share,
    /// All of them in each of its own: a join's build side that is everywhere.
    Whole,
    /// Its share, and all rows of these besides: the build side of heavy partitions.
    Copied(Vec<u32>),
    /// Its share, but of these what some of the producers wrote, each of whom is read by one task: the probe side of
    /// heavy partitions.
    Dealt(Vec<u32>),
}

/// One attempt with all that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub attempt: TaskId,
    /// How many tasks share the stage's work: as many as planned, or fewer.
    pub tasks: u32,
    pub inputs: Vec<InputBinding>,
    /// Whether rows stay in the task's partitions although the plan hashes them.
    pub unhashed: bool,
    /// How many waves the task works its partitions through in; 1 unless memory ran out before.
    pub waves: u32,
}

/// What a finished attempt produced and cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskStats {
    pub output_rows: u64,
    pub output_bytes: u64,
    /// The heaviest of its output's partitions, if some are much heavier than others.
    pub heavy: Vec<HeavyPartition>,
    /// Bytes that came from another process over the network.
    pub received_bytes: u64,
    /// Bytes that the attempt wrote to spill files, operators and exchange together.
    pub spilled_bytes: u64,
    /// How long its operators computed, on all cores together.
    pub compute_nanos: u64,
}

/// A partition of an output that has more than its share of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeavyPartition {
    pub partition: u32,
    pub bytes: u64,
}

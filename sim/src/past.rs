//! The history of attempts and executors in a simulation, for its checks and for the counts of its paths.

use std::collections::{BTreeMap, BTreeSet};

use hwacha_model::{ExecutorId, TaskId, Timestamp};

/// The history of attempts and executors in one simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// How often each attempt was launched.
    pub launched: BTreeMap<TaskId, u32>,
    /// Attempts that were reported as finished, and their executors.
    pub finished: BTreeMap<TaskId, ExecutorId>,
    pub attached: BTreeMap<ExecutorId, u32>,
    pub lost: BTreeSet<ExecutorId>,
    /// Time of the last heartbeat or registration of each executor, by the world's clock.
    pub heard: BTreeMap<ExecutorId, Timestamp>,
    pub jumped: bool,
    pub jumped_badly: bool,
}

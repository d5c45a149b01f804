//! What the simulation remembers of attempts and executors in order to know what it sees.

use std::collections::{BTreeMap, BTreeSet};

use hwacha_model::{ExecutorId, TaskId, Timestamp};

/// What the simulation remembers of attempts in order to know what it sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// How often each attempt was launched.
    pub launched: BTreeMap<TaskId, u32>,
    /// Attempts that said they had finished.
    pub finished: BTreeMap<TaskId, ExecutorId>,
    pub attached: BTreeMap<ExecutorId, u32>,
    pub lost: BTreeSet<ExecutorId>,
    /// When each executor was heard last, by the world's time.
    pub heard: BTreeMap<ExecutorId, Timestamp>,
    pub jumped: bool,
    pub jumped_badly: bool,
}

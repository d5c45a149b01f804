//! Identities. Every one is a newtype, so that a stage number never stands where a task number is meant.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A query, numbered by the scheduler: epoch times a million plus a counter, so never used twice on one data directory.
    QueryId(u64)
);
id!(
    /// A stage within its query; producers have lower numbers than their consumers.
    StageId(u32)
);
id!(
    /// A task's place among the tasks of its stage, from 0.
    TaskIndex(u32)
);
id!(
    /// One start of one executor process, drawn at random by that process and never used again.
    ExecutorId(u64)
);

/// One attempt at one task. Names outputs, files and reports, so that a late attempt can never be taken for a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub query: QueryId,
    pub stage: StageId,
    pub task: TaskIndex,
    pub attempt: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.query, self.stage, self.task, self.attempt)
    }
}

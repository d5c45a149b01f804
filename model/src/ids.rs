//! Ids. Each is a newtype, so the compiler rejects a stage number where a task number is expected.

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
    /// A query, numbered by the scheduler: its epoch times 2^40 plus a counter. No number is used twice on one data
    /// directory.
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
    /// One start of an executor: a random number. An executor that starts again draws a new number.
    ExecutorId(u64)
);

/// One attempt at one task. Outputs, files and reports carry this id, so a late attempt is never mistaken for a newer
/// one.
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

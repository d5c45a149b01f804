//! Why an attempt or a query failed. Only the kind decides what happens next. The text is for people.

use std::fmt;

use crate::ids::TaskId;

/// The kind of a failure, which decides about retries and about the caller's reaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The statement or its data is wrong: division by zero, a missing file. Never retried.
    UserError,
    /// Memory, spill space or another quota ran out. The task is retried, in more waves if possible. Then the query is
    /// planned again (once) or fails.
    ResourcesExhausted,
    /// The executor that ran the attempt is gone. Retried elsewhere.
    ExecutorLost,
    /// The output of `producer` could not be read. Producer and reader run again. The reader is not blamed.
    ExchangeLost { producer: TaskId },
    /// A local file could not be accessed, no executor joined in time, or delivered rows cannot be repeated. Tasks are
    /// retried elsewhere. The caller may submit the query again.
    Unavailable,
    /// A store did not answer within the deadline of its requests, which were tried again until then. Not retried
    /// elsewhere: each attempt would take as long. The caller may submit the query again.
    StoreUnavailable,
    /// The attempt's operators emitted far more rows than the planner expected, and no row has left the task. The
    /// query is planned again for all executors.
    Outgrown,
    /// The user or the client canceled the query.
    Canceled,
    /// A defect: a panic, a broken plan. Retried once elsewhere in case the executor is at fault.
    Internal,
}

/// A failure: its kind for machines and one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    /// A failure with a message for people.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

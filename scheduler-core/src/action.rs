//! Everything the machine can ask for. Each action says what the event loop must do and which event reports back.

use hwacha_model::{Adaptation, Assignment, ExecutorId, Failure, FailureKind, Producer, QueryId, StageId, TaskId};

/// One thing for the event loop to do, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Plan the query for these executors, in this order. `anew` is the failure of the query's first plan, if it had
    /// one; the second plan must avoid this failure. Reported by `QueryPlanned` or `PlanFailed`.
    Plan { query: QueryId, executors: Vec<ExecutorId>, anew: Option<FailureKind> },
    /// Send the assignment to the executor; sending it twice does no harm. Reported by `Started`, `InputRead`,
    /// `Finished` and `Failed`.
    Launch { executor: ExecutorId, assignment: Assignment },
    /// Record for EXPLAIN ANALYZE that a stage does not run as planned. Nothing reports back.
    Adapted { query: QueryId, stage: StageId, adaptation: Adaptation },
    /// Stop the attempt and drop its output. Nothing reports back.
    Abort { executor: ExecutorId, attempt: TaskId },
    /// Stop everything of the query on this executor and drop its outputs. Nothing reports back.
    Release { executor: ExecutorId, query: QueryId },
    /// Read the query's rows from these root attempts, in task order. A root task that is not placed yet is missing;
    /// a later `ResultSource` names it. Each `ResultSource` replaces the one before. Reported by `ResultBegun`,
    /// `ResultStalled`, `ResultRead` and `ResultLost`.
    ResultSource { query: QueryId, producers: Vec<Producer> },
    /// The query has ended: `Ok` when every row has been read. The machine has forgotten the query.
    End { query: QueryId, outcome: Result<(), Failure> },
    /// The executor is declared lost: close its connection and refuse its id from now on. Nothing reports back.
    Evict { executor: ExecutorId },
}

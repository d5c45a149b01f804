//! Everything the machine can be told. The event loop makes these from RPCs, timers and its own work.

use hwacha_model::{ExecutorId, Failure, QueryId, StageGraph, TaskId, TaskStats};

/// One fact from outside. Facts may arrive late, twice or out of order; the machine copes.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An executor registered, or attached again after its connection broke. `known` are the attempts it is running or
    /// has reports about that were not acknowledged.
    ExecutorJoined { executor: ExecutorId, slots: u32, known: Vec<TaskId> },
    /// An executor is alive and works on `known`. `blocked_slots` are those whose cores have not come back from attempts that
    /// were stopped.
    Heartbeat { executor: ExecutorId, known: Vec<TaskId>, blocked_slots: u32 },
    /// The executor's connection broke. Suspicion, not yet loss.
    ExecutorDisconnected { executor: ExecutorId },
    /// The executor wants to stop: it finishes what it has and takes nothing new.
    ExecutorDraining { executor: ExecutorId },
    /// A client submitted a query. `session` is what admission is fair between.
    QuerySubmitted { query: QueryId, session: u64 },
    /// The plan that `Action::Plan` asked for.
    QueryPlanned { query: QueryId, graph: StageGraph, replannable: bool },
    /// Planning ended without a plan.
    PlanFailed { query: QueryId, failure: Failure },
    /// The client, a user or the event loop takes the query back; `failure` is what the query ends with.
    CancelRequested { query: QueryId, failure: Failure },
    /// The executor has begun the attempt.
    Started { executor: ExecutorId, attempt: TaskId },
    /// The attempt has read all that `producer` wrote for it.
    InputRead { executor: ExecutorId, attempt: TaskId, producer: TaskId },
    /// The attempt has written its whole output.
    Finished { executor: ExecutorId, attempt: TaskId, stats: TaskStats },
    /// The attempt ended without its output.
    Failed { executor: ExecutorId, attempt: TaskId, failure: Failure },
    /// The first rows of a root attempt are on their way to the client: they cannot be taken back.
    ResultBegun { attempt: TaskId },
    /// The client takes no rows at present.
    ResultStalled { query: QueryId },
    /// A root attempt's rows have all been read.
    ResultRead { attempt: TaskId },
    /// A root attempt's rows could not be read from its executor.
    ResultLost { attempt: TaskId },
    /// Time has passed; deadlines are looked at.
    Tick,
}

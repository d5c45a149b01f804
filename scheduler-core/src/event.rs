//! Everything the machine can be told. The event loop makes these from RPCs, timers and its own work.

use hwacha_model::{ExecutorId, Failure, QueryId, StageGraph, TaskId, TaskStats};

/// One fact from outside. Facts may arrive late, twice or out of order; the machine copes.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An executor registered, or attached again after its connection broke. `known` lists the attempts that it runs,
    /// has unacknowledged reports about, or holds outputs of.
    ExecutorJoined { executor: ExecutorId, slots: u32, cache: Option<u64>, known: Vec<TaskId> },
    /// An executor is alive. `known` lists the attempts that it runs or has unacknowledged reports about. The cores
    /// of `blocked_slots` slots still compute attempts that were stopped.
    Heartbeat { executor: ExecutorId, known: Vec<TaskId>, blocked_slots: u32 },
    /// The executor's connection broke. The executor is suspected, but not lost yet.
    ExecutorDisconnected { executor: ExecutorId },
    /// The executor wants to stop: it finishes the tasks that it has and takes no new ones.
    ExecutorDraining { executor: ExecutorId },
    /// A client submitted a query. Admission is fair between sessions.
    QuerySubmitted { query: QueryId, session: u64 },
    /// The plan that `Action::Plan` asked for. `replannable` allows a second plan if the query outgrows this one or
    /// runs out of memory.
    QueryPlanned { query: QueryId, graph: StageGraph, replannable: bool },
    /// Planning ended without a plan.
    PlanFailed { query: QueryId, failure: Failure },
    /// The client, a user or the event loop cancels the query. The query ends with `failure`.
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
    /// The client has taken no rows of the query for a while.
    ResultStalled { query: QueryId },
    /// A root attempt's rows have all been read.
    ResultRead { attempt: TaskId },
    /// A root attempt's rows could not be read from its executor.
    ResultLost { attempt: TaskId },
    /// Time has passed; the machine checks its deadlines.
    Tick,
}

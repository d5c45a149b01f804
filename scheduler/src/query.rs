//! Types of one query that the event loop and the front door share.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use hwacha_model::{Adaptation, Delivery, ExecutorId, Failure, QueryId, StageId, TaskId};
use hwacha_plan::explain::{PlannedAnew, TaskMetrics};
use hwacha_plan::{QueryPlan, ResultShape};
use hwacha_proto::{Progress, control};
use tokio::sync::watch;

/// The executors that a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterShape {
    pub executors: usize,
    /// The cores of the executor with the most cores.
    pub cores: usize,
}

/// Makes the plan once the executors are known.
pub(crate) type Planner =
    Box<dyn Fn(ClusterShape, Size) -> BoxFuture<'static, Result<Arc<PlannedQuery>, Failure>> + Send>;

/// What is known about a query's size when it is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Only the estimates of the optimizer.
    Estimated,
    /// The query has more rows than estimated: it has outgrown a plan for one task.
    Large,
    /// The query has run out of memory. The plan cache does not remember this.
    TooLarge,
}

/// A plan with its stages as bytes.
#[derive(Debug)]
pub(crate) struct PlannedQuery {
    pub plan: QueryPlan,
    /// Whether the query can be planned again if it has more rows than this plan allows, or runs out of memory.
    pub replannable: bool,
    pub stages: Vec<control::StagePlan>,
    /// The stores that tables of the query describe in their options.
    pub stores: Vec<control::TableStore>,
}

/// A query that the front door hands to the event loop.
pub(crate) struct Submission {
    /// The number of the session. Admission is fair between sessions.
    pub session: u64,
    pub settings: Vec<control::Setting>,
    pub planner: Planner,
    pub collect_metrics: bool,
}

/// An attempt of the last stage, and the executor that holds its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultProducer {
    pub attempt: TaskId,
    pub executor: ExecutorId,
    pub address: String,
}

/// Where a query's rows are read.
#[derive(Debug)]
pub(crate) struct ResultSource {
    /// Ordered by task. A task that has not been placed yet is missing.
    pub producers: Vec<ResultProducer>,
    pub shape: ResultShape,
}

/// The state of a query, as the reader of its result sees it.
#[derive(Clone, Debug, Default)]
pub(crate) enum Phase {
    /// No task of the last stage has been placed.
    #[default]
    Waiting,
    Readable(Arc<ResultSource>),
    Ended(Result<Arc<EndedQuery>, Failure>),
}

/// The plan, measurements and changes of a query that has succeeded.
#[derive(Debug, Default)]
pub(crate) struct EndedQuery {
    pub plan: Option<Arc<PlannedQuery>>,
    /// By stage, then task.
    pub metrics: Vec<Vec<TaskMetrics>>,
    /// The changes to planned stages, in the order in which they were decided.
    pub adaptations: Vec<(StageId, Adaptation)>,
    /// Why the query was planned again, if it was.
    pub planned_anew: Option<PlannedAnew>,
}

/// The front door's handle of a query.
#[derive(Clone, Debug)]
pub(crate) struct QueryTicket {
    pub query: QueryId,
    pub phase: watch::Receiver<Phase>,
}

/// The progress of the queries that ended last.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<(QueryId, Progress)>);

/// Maximum number of ended queries that are remembered (1,000).
const HISTORY: usize = 1000;

impl History {
    pub(crate) fn add(&mut self, query: QueryId, progress: Progress) {
        if self.0.len() == HISTORY {
            self.0.pop_front();
        }
        self.0.push_back((query, progress));
    }

    pub(crate) fn find(&self, query: QueryId) -> Option<Progress> {
        self.0.iter().find(|(id, _)| *id == query).map(|(_, progress)| progress.clone())
    }
}

/// When consumers start, by the setting `hwacha.exchange.pipelined`: with the first rows of their inputs
/// (`Streaming`) or when their inputs are complete.
pub(crate) fn delivery(pipelined: bool) -> Delivery {
    if pipelined { Delivery::Streaming } else { Delivery::Complete }
}

//! What the event loop and the front door share about one query.

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
    pub cores: usize,
}

/// Makes the plan once the executors are known.
pub(crate) type Planner =
    Box<dyn Fn(ClusterShape, Size) -> BoxFuture<'static, Result<Arc<PlannedQuery>, Failure>> + Send>;

/// What is known of a query's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// What estimates say.
    Estimated,
    /// More than estimates say: it has outgrown a plan for one task.
    Large,
    /// More than memory had room for, this time.
    TooLarge,
}

/// A plan with its stages as bytes.
#[derive(Debug)]
pub(crate) struct PlannedQuery {
    pub plan: QueryPlan,
    /// Whether there is another plan for when this one proves to be for too few rows.
    pub replannable: bool,
    pub stages: Vec<control::StagePlan>,
}

/// A query that the front door hands to the event loop.
pub(crate) struct Submission {
    /// What admission is fair between.
    pub session: u64,
    pub settings: Vec<control::Setting>,
    pub planner: Planner,
    pub collect_metrics: bool,
}

/// A root attempt and where its rows are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultProducer {
    pub attempt: TaskId,
    pub executor: ExecutorId,
    pub address: String,
}

/// Where a query's rows are read.
#[derive(Debug)]
pub(crate) struct ResultSource {
    /// In the order of their tasks, some of which may not be there yet.
    pub producers: Vec<ResultProducer>,
    pub shape: ResultShape,
}

/// How a query stands, as its result's reader sees it.
#[derive(Clone, Debug, Default)]
pub(crate) enum Phase {
    /// No root attempt has been placed.
    #[default]
    Waiting,
    Readable(Arc<ResultSource>),
    Ended(Result<Arc<EndedQuery>, Failure>),
}

/// What is left of a query that has ended well.
#[derive(Debug, Default)]
pub(crate) struct EndedQuery {
    pub plan: Option<Arc<PlannedQuery>>,
    /// By stage, then task.
    pub metrics: Vec<Vec<TaskMetrics>>,
    /// Where stages did not run as planned, in the order in which that was decided.
    pub adaptations: Vec<(StageId, Adaptation)>,
    /// Why the plan is not its first, if it is not.
    pub planned_anew: Option<PlannedAnew>,
}

/// The front door's hold on a query.
#[derive(Clone, Debug)]
pub(crate) struct QueryTicket {
    pub query: QueryId,
    pub phase: watch::Receiver<Phase>,
}

/// The progress of the queries that ended last.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<(QueryId, Progress)>);

/// How many ended queries are remembered.
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

/// When consumers start, as the setting says.
pub(crate) fn delivery(pipelined: bool) -> Delivery {
    if pipelined { Delivery::Streaming } else { Delivery::Complete }
}

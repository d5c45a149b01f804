//! The event loop's state of a running query: its plan, the changes to its stages, and the measurements of its tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use hwacha_model::{Adaptation, FailureKind, StageGraph, StageId, TaskId};
use hwacha_plan::explain::{PlannedAnew, TaskMetrics};
use hwacha_proto::{Progress, control};
use hwacha_scheduler_core::QueryStatus;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::filters::FilterBook;
use crate::query::{EndedQuery, Phase, PlannedQuery, Planner, Submission};

pub(crate) struct RunningQuery {
    pub planner: Planner,
    /// Handle of the latest planning task.
    pub planning: Option<AbortHandle>,
    pub plan: Option<Arc<PlannedQuery>>,
    /// The stages with the task counts that run, which adaptations may have changed. `None` until the query is
    /// planned.
    pub graph: Option<StageGraph>,
    adaptations: Vec<(StageId, Adaptation)>,
    planned_anew: Option<PlannedAnew>,
    pub settings: Vec<control::Setting>,
    pub collect_metrics: bool,
    pub phase: watch::Sender<Phase>,
    pub metrics: BTreeMap<TaskId, TaskMetrics>,
    pub filters: Arc<FilterBook>,
}

impl RunningQuery {
    pub(crate) fn new(submission: Submission, phase: watch::Sender<Phase>) -> Self {
        Self {
            planner: submission.planner,
            planning: None,
            plan: None,
            graph: None,
            adaptations: vec![],
            planned_anew: None,
            settings: submission.settings,
            collect_metrics: submission.collect_metrics,
            phase,
            metrics: BTreeMap::new(),
            filters: Arc::default(),
        }
    }

    /// Forgets the plan and everything that depends on it, so the query can be planned again. `failure` says why: the
    /// query had more rows than the plan allows, or ran out of memory.
    pub(crate) fn forget_plan(&mut self, failure: &FailureKind) {
        let max_rows = self.plan.take().and_then(|plan| plan.plan.max_rows);
        self.planned_anew = Some(match max_rows.filter(|_| *failure == FailureKind::Outgrown) {
            Some(max_rows) => PlannedAnew::Outgrown { max_rows },
            None => PlannedAnew::OutOfMemory,
        });
        self.graph = None;
        self.adaptations.clear();
        self.metrics.clear();
        self.filters = Arc::default();
    }

    pub(crate) fn adapt(&mut self, stage: StageId, adaptation: Adaptation) {
        if let (Some(tasks), Some(graph)) = (adaptation.tasks(), &mut self.graph) {
            graph.resize(stage, tasks);
        }
        self.adaptations.push((stage, adaptation));
    }

    /// The progress of the query. `status` is the machine's view of it.
    pub(crate) fn progress(&self, status: Option<QueryStatus>) -> Progress {
        let mut progress = Progress {
            state: status.as_ref().map_or("Queued", |status| status.state.name()).to_owned(),
            waiting_for_executors: status.as_ref().is_some_and(|status| status.waiting_for_executors),
            distributed: self.plan.as_ref().is_some_and(|plan| plan.plan.stages.len() > 1),
            ..Progress::default()
        };
        if let Some(graph) = &self.graph {
            progress.stages = graph.iter().count() as u64;
            progress.tasks = graph.total_tasks() as u64;
        }
        for stage in status.iter().flat_map(|status| &status.stages) {
            progress.finished_stages += u64::from(stage.finished == stage.tasks);
            progress.finished_tasks += u64::from(stage.finished);
        }
        self.add_measurements(&mut progress);
        progress
    }

    fn add_measurements(&self, progress: &mut Progress) {
        let root = self.graph.as_ref().map(StageGraph::root);
        let mut busiest: BTreeMap<StageId, u64> = BTreeMap::new();
        for (attempt, task) in self.latest_attempts() {
            if Some(attempt.stage) == root {
                progress.rows += task.stats.output_rows;
            } else {
                progress.exchange_bytes += task.stats.output_bytes;
            }
            progress.spilled_bytes += task.stats.spilled_bytes;
            progress.compute_nanos += task.stats.compute_nanos;
            progress.store_requests += task.stats.store.requests;
            progress.store_retries += task.stats.store.retries;
            progress.store_bytes += task.stats.store.bytes;
            progress.cached_bytes += task.stats.store.cached_bytes;
            progress.store_wait_nanos += task.stats.store.wait_nanos;
            let busiest = busiest.entry(attempt.stage).or_default();
            *busiest = task.stats.compute_nanos.max(*busiest);
        }
        progress.busiest_nanos = busiest.into_values().sum();
    }

    /// The measurements of each task's newest attempt.
    fn latest_attempts(&self) -> impl Iterator<Item = (&TaskId, &TaskMetrics)> {
        let newest = self.metrics.iter().map(|(attempt, metrics)| ((attempt.stage, attempt.task), (attempt, metrics)));
        newest.collect::<BTreeMap<_, _>>().into_values()
    }

    /// The plan, measurements and changes, when the query has succeeded.
    pub(crate) fn ended(&self) -> EndedQuery {
        let stages = self.plan.as_ref().map_or(0, |plan| plan.plan.stages.len());
        let mut metrics = vec![vec![]; stages];
        for (attempt, task) in self.latest_attempts() {
            metrics[attempt.stage.0 as usize].push(task.clone());
        }
        let adaptations = self.adaptations.clone();
        EndedQuery { plan: self.plan.clone(), metrics, adaptations, planned_anew: self.planned_anew }
    }
}

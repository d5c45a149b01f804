//! The machine: the state of all queries and executors. Only `handle` changes this state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hwacha_model::{ExecutorId, Failure, Producer, QueryId, StageGraph, TaskId, Timestamp};

use crate::action::Action;
use crate::config::Config;
use crate::event::Event;
use crate::executor::Executor;
use crate::query::{Query, QueryState};

/// All state of the scheduler's decisions: queries, executors, and the actions that the event loop must still do.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) config: Config,
    pub(crate) now: Timestamp,
    pub(crate) executors: BTreeMap<ExecutorId, Executor>,
    /// The time at which each executor is lost if it sends nothing more. `change_executor` keeps it up to date.
    pub(crate) loss_deadlines: BTreeSet<(Timestamp, ExecutorId)>,
    /// Executors that were declared lost. An executor draws its id at random when it starts, so a new one has none of
    /// these.
    pub(crate) evicted: BTreeSet<ExecutorId>,
    /// Since when there has been no usable executor.
    pub(crate) without_executors: Option<Timestamp>,
    pub(crate) queries: BTreeMap<QueryId, Query>,
    /// Queries that wait to be planned, oldest first.
    pub(crate) queue: BTreeSet<QueryId>,
    /// Queries whose client once took no rows for a while. They do not count as running any more.
    pub(crate) stalled: BTreeSet<QueryId>,
    /// Running queries that may have pending tasks.
    pub(crate) unplaced: BTreeSet<QueryId>,
    /// Whether a change since the last placement may let a pending task run.
    pub(crate) placement_due: bool,
    /// Queries whose root tasks have changed in this call of `handle`.
    pub(crate) touched: BTreeSet<QueryId>,
    /// Queries whose rows were all delivered and that only wait for reports.
    delivered: BTreeSet<QueryId>,
    pub(crate) actions: VecDeque<Action>,
}

impl Machine {
    /// A machine without executors and queries.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Timestamp::default(),
            executors: BTreeMap::new(),
            loss_deadlines: BTreeSet::new(),
            evicted: BTreeSet::new(),
            without_executors: Some(Timestamp::default()),
            queries: BTreeMap::new(),
            queue: BTreeSet::new(),
            stalled: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            placement_due: false,
            touched: BTreeSet::new(),
            delivered: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Handles one event. If `now` is before the time of the last event, the time of the last event counts.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        self.advance(self.now.max(now));
        self.take_in(event);
        self.declare_losses();
        self.end_done();
        self.end_starved();
        self.admit();
        self.place();
        self.announce_results();
    }

    /// The next thing that the event loop must do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::ExecutorJoined { executor, slots, cache, known } => {
                self.executor_joined(executor, slots, cache, &known);
            }
            Event::Heartbeat { executor, known, blocked_slots } => self.heartbeat(executor, &known, blocked_slots),
            Event::ExecutorDisconnected { executor } => self.executor_disconnected(executor),
            Event::ExecutorDraining { executor } => self.executor_draining(executor),
            Event::QuerySubmitted { query, session } => self.query_submitted(query, session),
            Event::QueryPlanned { query, graph, replannable } => self.query_planned(query, graph, replannable),
            Event::PlanFailed { query, failure } => self.plan_failed(query, failure),
            Event::CancelRequested { query, failure } => self.end(query, Err(failure)),
            Event::Started { executor, attempt } => self.started(executor, attempt),
            Event::InputRead { executor, attempt, producer } => self.input_read(executor, attempt, producer),
            Event::Finished { executor, attempt, stats } => self.finished(executor, attempt, stats),
            Event::Failed { executor, attempt, failure } => self.failed(executor, attempt, failure),
            Event::ResultBegun { attempt } => self.result_begun(attempt),
            Event::ResultStalled { query } => self.result_stalled(query),
            Event::ResultRead { attempt } => self.result_read(attempt),
            Event::ResultLost { attempt } => self.result_lost(attempt),
            Event::Tick => {}
        }
    }

    fn query_planned(&mut self, id: QueryId, graph: StageGraph, replannable: bool) {
        let Some(query) = self.queries.get_mut(&id).filter(|query| query.state == QueryState::Planning) else { return };
        query.start(graph);
        query.replannable = replannable && !query.is_planned_anew();
        self.unplaced.insert(id);
        self.placement_due = true;
    }

    fn plan_failed(&mut self, id: QueryId, failure: Failure) {
        if self.queries.get(&id).is_some_and(|query| query.state == QueryState::Planning) {
            self.end(id, Err(failure));
        }
    }

    /// Ends a query: frees its slots, tells its executors, forgets it.
    pub(crate) fn end(&mut self, id: QueryId, outcome: Result<(), Failure>) {
        let Some(query) = self.queries.remove(&id) else { return };
        self.queue.remove(&id);
        self.stalled.remove(&id);
        self.unplaced.remove(&id);
        self.placement_due = true;
        for attempt in query.attempts() {
            if let Some(executor) = self.executors.get_mut(&attempt.executor) {
                executor.forget(attempt.id());
            }
        }
        for executor in query.executors {
            if self.executors.contains_key(&executor) {
                self.actions.push_back(Action::Release { executor, query: id });
            }
        }
        self.actions.push_back(Action::End { query: id, outcome });
    }

    /// Marks an attempt as finished and frees its slot. Does nothing if the attempt does not count or has finished
    /// before.
    pub(crate) fn finish(&mut self, id: TaskId) {
        let Some(query) = self.queries.get_mut(&id.query) else { return };
        let Some(executor) = query.current(id).filter(|attempt| attempt.is_live()).map(|attempt| attempt.executor)
        else {
            return;
        };
        query.finish(id);
        if query.is_root(id.stage) {
            self.touched.insert(id.query);
        }
        if let Some(executor) = self.executors.get_mut(&executor) {
            executor.finish(id);
        }
        self.placement_due = true;
        if self.queries[&id.query].stage(id.stage).is_finished() {
            self.adapt_to_end(id.query, id.stage);
        }
    }

    /// Ends queries whose rows were all delivered. If the root stage has read a producer whole, waits for the report
    /// that the producer has finished.
    fn end_done(&mut self) {
        let delivered = |id: &&QueryId| self.queries.get(id).is_some_and(Query::is_delivered);
        self.delivered.extend(self.touched.iter().filter(delivered));
        let reported = |id: &QueryId| self.queries.get(id).is_none_or(|query| !query.awaits_reports());
        for id in self.delivered.extract_if(.., |id| reported(id)).collect::<Vec<_>>() {
            self.end(id, Ok(()));
        }
    }

    /// Adds the action `ResultSource` for each query whose root attempts have changed.
    fn announce_results(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let Some(query) = self.queries.get_mut(&id).filter(|query| query.state == QueryState::Running) else {
                continue;
            };
            // Placed root tasks are read at once. Other root tasks may be waiting for the slots of these tasks.
            let producers: Vec<_> = query.stage(query.graph().root()).attempts().map(Producer::from).collect();
            if !producers.is_empty() && producers != query.source {
                query.source.clone_from(&producers);
                self.actions.push_back(Action::ResultSource { query: id, producers });
            }
        }
    }
}

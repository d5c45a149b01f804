//! The machine: all state, and the one entrance to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hwacha_model::{ExecutorId, Failure, QueryId, TaskId, Timestamp};

use crate::action::Action;
use crate::config::Config;
use crate::event::Event;
use crate::executor::Executor;
use crate::query::{Query, QueryState};

/// Queries, executors and what is to be done about them.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) config: Config,
    pub(crate) now: Timestamp,
    pub(crate) executors: BTreeMap<ExecutorId, Executor>,
    /// Executors that were declared lost. Their ids are drawn at random, so they never come back rightly.
    pub(crate) evicted: BTreeSet<ExecutorId>,
    /// Since when there has been no usable executor.
    pub(crate) without_executors: Option<Timestamp>,
    pub(crate) queries: BTreeMap<QueryId, Query>,
    /// Queries that wait to be planned, oldest first.
    pub(crate) queue: BTreeSet<QueryId>,
    /// Running queries that have pending tasks.
    pub(crate) unplaced: BTreeSet<QueryId>,
    /// Queries whose ends or results are to be looked at in this turn.
    pub(crate) touched: BTreeSet<QueryId>,
    pub(crate) actions: VecDeque<Action>,
}

impl Machine {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Timestamp::default(),
            executors: BTreeMap::new(),
            evicted: BTreeSet::new(),
            without_executors: Some(Timestamp::default()),
            queries: BTreeMap::new(),
            queue: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            touched: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes in one event. A time before the last one's counts as the last one's.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        self.now = self.now.max(now);
        match event {
            Event::ExecutorJoined { executor, slots, known } => self.executor_joined(executor, slots, &known),
            Event::Heartbeat { executor, known } => self.heartbeat(executor, &known),
            Event::ExecutorDisconnected { executor } => self.executor_disconnected(executor),
            Event::ExecutorDraining { executor } => self.executor_draining(executor),
            Event::QuerySubmitted { query, session } => self.query_submitted(query, session),
            Event::QueryPlanned { query, graph } => self.query_planned(query, graph),
            Event::PlanFailed { query, failure } | Event::CancelRequested { query, failure } => {
                self.end(query, Err(failure));
            }
            Event::Started { executor, attempt } => self.started(executor, attempt),
            Event::InputRead { executor, attempt, producer } => self.input_read(executor, attempt, producer),
            Event::Finished { executor, attempt, stats } => self.finished(executor, attempt, stats),
            Event::Failed { executor, attempt, failure } => self.failed(executor, attempt, failure),
            Event::ResultBegun { attempt } => self.result_begun(attempt),
            Event::ResultRead { attempt } => self.result_read(attempt),
            Event::ResultLost { attempt } => self.result_lost(attempt),
            Event::Tick => {}
        }
        self.declare_losses();
        self.admit();
        self.place();
        self.settle();
        self.fail_starved();
    }

    /// The next thing that the event loop must do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Ends a query: frees its slots, tells its executors, forgets it.
    pub(crate) fn end(&mut self, query: QueryId, outcome: Result<(), Failure>) {
        let Some(ended) = self.queries.remove(&query) else { return };
        self.queue.remove(&query);
        self.unplaced.remove(&query);
        for attempt in ended.attempts() {
            if let Some(executor) = self.executors.get_mut(&attempt.executor) {
                executor.live.remove(&attempt.id());
                executor.finished.remove(&attempt.id());
            }
        }
        for executor in ended.executors {
            if self.executors.contains_key(&executor) {
                self.actions.push_back(Action::Release { executor, query });
            }
        }
        self.actions.push_back(Action::End { query, outcome });
    }

    fn query_planned(&mut self, id: QueryId, graph: hwacha_model::StageGraph) {
        let Some(query) = self.queries.get_mut(&id).filter(|query| query.state == QueryState::Planning) else { return };
        query.start(graph);
        self.unplaced.insert(id);
    }

    /// Ends queries that are done and tells readers of results where they lie.
    fn settle(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let Some(query) = self.queries.get_mut(&id) else { continue };
            if query.is_done() {
                self.end(id, Ok(()));
                continue;
            }
            if query.state != QueryState::Running {
                continue;
            }
            let Some(producers) = query.producers(query.graph().root()) else { continue };
            if producers != query.source {
                query.source.clone_from(&producers);
                self.actions.push_back(Action::ResultSource { query: id, producers });
            }
        }
    }

    /// Frees the slot of an attempt that counts no more.
    pub(crate) fn free_slot(&mut self, executor: ExecutorId, attempt: TaskId) {
        if let Some(executor) = self.executors.get_mut(&executor) {
            executor.live.remove(&attempt);
            executor.finished.remove(&attempt);
        }
    }
}

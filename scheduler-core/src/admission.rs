//! Which queries are accepted, and which is planned next.

use std::collections::BTreeMap;

use hwacha_model::{ExecutorId, Failure, FailureKind, QueryId};

use crate::action::Action;
use crate::executor::Executor;
use crate::machine::Machine;
use crate::query::{Attempt, Query, QueryState};

impl Machine {
    /// Queues a query, or refuses it if the queue is full. A known id is a repeated event: the event loop never
    /// reuses an id.
    pub(crate) fn query_submitted(&mut self, id: QueryId, session: u64) {
        if self.queries.contains_key(&id) {
            return;
        }
        self.queries.insert(id, Query::new(session, self.now));
        self.queue.insert(id);
        self.admit();
        let limit = self.config.max_queued;
        if self.queue.len() > limit && self.queue.contains(&id) {
            let text = format!("too many queries are waiting (the limit is {limit}); try again later");
            self.end(id, Err(Failure::new(FailureKind::ResourcesExhausted, text)));
        }
    }

    /// Takes queries from the queue and has them planned, while fewer than `max_running` run and an executor is
    /// usable.
    pub(crate) fn admit(&mut self) {
        while self.queries.len() - self.queue.len() - self.stalled.len() < self.config.max_running {
            let Some(id) = self.next_admitted() else { return };
            let executors = self.usable_executors();
            if executors.is_empty() {
                return;
            }
            self.queue.remove(&id);
            self.queries.get_mut(&id).expect("queued queries exist").state = QueryState::Planning;
            self.actions.push_back(Action::Plan { query: id, executors, anew: None });
        }
    }

    /// Discards all attempts of a query and has it planned again. `failure` is the failure of the first plan.
    pub(crate) fn plan_anew(&mut self, id: QueryId, failure: FailureKind) {
        let attempts: Vec<_> = self.queries[&id].attempts().map(Attempt::id).collect();
        for attempt in attempts.into_iter().rev() {
            self.discard(attempt);
        }
        self.queries.get_mut(&id).expect("running queries exist").forget_plan();
        self.unplaced.remove(&id);
        self.placement_due = true;
        let executors = self.usable_executors();
        self.actions.push_back(Action::Plan { query: id, executors, anew: Some(failure) });
    }

    fn usable_executors(&self) -> Vec<ExecutorId> {
        self.executors.iter().filter(|(_, executor)| executor.is_usable()).map(|(id, _)| *id).collect()
    }

    /// The oldest queued query of the session with the fewest admitted queries.
    fn next_admitted(&self) -> Option<QueryId> {
        if self.queue.len() <= 1 {
            return self.queue.first().copied();
        }
        let mut admitted: BTreeMap<u64, usize> = BTreeMap::new();
        for query in self.queries.values().filter(|query| query.state != QueryState::Queued) {
            *admitted.entry(query.session).or_default() += 1;
        }
        let load = |id: &QueryId| admitted.get(&self.queries[id].session).copied().unwrap_or(0);
        self.queue.iter().copied().min_by_key(|id| (load(id), *id))
    }

    /// Ends queries that have waited for executors for longer than `executor_wait`.
    pub(crate) fn end_starved(&mut self) {
        let Some(since) = self.without_executors else { return };
        let wait = self.config.executor_wait;
        let starved: Vec<_> = self
            .queries
            .iter()
            .filter(|(_, query)| query.waits_for_executors() && self.now.since(since.max(query.submitted)) >= wait)
            .map(|(id, _)| *id)
            .collect();
        for id in starved {
            let seconds = wait.as_secs();
            let are_blocked = !self.executors.is_empty() && self.executors.values().all(Executor::is_blocked);
            let text = match are_blocked {
                true => format!(
                    "no executor could run the query for {seconds} s: all of them still compute tasks that were stopped; restart them or start others, then submit the query again"
                ),
                false => format!(
                    "no executor has been connected for {seconds} s; start one with `hwacha executor --scheduler URL`, \
                     then submit the query again"
                ),
            };
            self.end(id, Err(Failure::new(FailureKind::Unavailable, text)));
        }
    }
}

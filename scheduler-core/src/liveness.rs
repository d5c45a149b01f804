//! Who is there, who is suspected, who is lost; and whether executors and machine agree on what runs.

use std::collections::BTreeSet;
use std::time::Duration;

use hwacha_model::{ExecutorId, Failure, FailureKind, QueryId, TaskId, Timestamp};

use crate::action::Action;
use crate::executor::Executor;
use crate::machine::Machine;
use crate::query::AttemptState;

impl Machine {
    /// When something happens by itself if nothing else does.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let losses = self.executors.values().map(|executor| self.loss_deadline(executor));
        let starved = self.without_executors.into_iter().flat_map(|since| {
            let waiting = self.queries.values().filter(|query| query.waits_for_executors());
            waiting.map(move |query| since.max(query.submitted) + self.config.executor_wait)
        });
        losses.chain(starved).min()
    }

    fn loss_deadline(&self, executor: &Executor) -> Timestamp {
        let silence = executor.last_heard + self.config.lost_after;
        match executor.disconnected {
            // Who leaves while draining has said so.
            Some(since) if executor.draining => since,
            Some(since) => silence.min(since + self.config.reattach_within),
            None => silence,
        }
    }

    pub(crate) fn executor_joined(&mut self, id: ExecutorId, slots: u32, known: &[TaskId]) {
        if self.evicted.contains(&id) {
            return self.actions.push_back(Action::Evict { executor: id });
        }
        let now = self.now;
        let executor = self.executors.entry(id).or_insert_with(|| Executor::new(slots, now));
        executor.slots = slots;
        executor.last_heard = now;
        executor.disconnected = None;
        executor.draining = false;
        self.without_executors = None;
        // What was on its way on the old connection is lost.
        self.reconcile(id, known, Duration::ZERO);
    }

    pub(crate) fn heartbeat(&mut self, id: ExecutorId, known: &[TaskId]) {
        let now = self.now;
        let Some(executor) = self.executors.get_mut(&id) else { return };
        executor.last_heard = now;
        self.reconcile(id, known, self.config.relaunch_after);
    }

    pub(crate) fn executor_disconnected(&mut self, id: ExecutorId) {
        let now = self.now;
        if let Some(executor) = self.executors.get_mut(&id) {
            executor.disconnected.get_or_insert(now);
        }
        self.note_usable();
    }

    pub(crate) fn executor_draining(&mut self, id: ExecutorId) {
        if let Some(executor) = self.executors.get_mut(&id) {
            executor.draining = true;
        }
        self.note_usable();
    }

    fn note_usable(&mut self) {
        if self.executors.values().any(Executor::is_usable) {
            self.without_executors = None;
        } else {
            self.without_executors.get_or_insert(self.now);
        }
    }

    /// Declares executors lost whose time is up.
    pub(crate) fn declare_losses(&mut self) {
        let lost: Vec<_> = self
            .executors
            .iter()
            .filter(|(_, executor)| self.loss_deadline(executor) <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.executor_lost(id);
        }
    }

    fn executor_lost(&mut self, id: ExecutorId) {
        let Some(executor) = self.executors.remove(&id) else { return };
        self.evicted.insert(id);
        self.note_usable();
        self.actions.push_back(Action::Evict { executor: id });
        let blamed: BTreeSet<QueryId> = executor.live.iter().map(|attempt| attempt.query).collect();
        let affected: BTreeSet<QueryId> =
            executor.live.iter().chain(&executor.finished).map(|attempt| attempt.query).collect();
        for query in affected {
            let lost: Vec<TaskId> = executor
                .live
                .iter()
                .chain(&executor.finished)
                .filter(|attempt| attempt.query == query)
                .copied()
                .collect();
            self.lose(query, &lost);
            if blamed.contains(&query) {
                self.blame(query);
            }
        }
    }

    /// Counts a loss against a query that was running there.
    fn blame(&mut self, id: QueryId) {
        let limit = self.config.max_executor_losses;
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.executor_losses += 1;
        if query.executor_losses > limit {
            let text = format!(
                "stopped after {} executors were lost while running this query; it is the likely cause",
                query.executor_losses
            );
            self.end(id, Err(Failure::new(FailureKind::Internal, text)));
        }
    }

    /// Compares what an executor knows with what it should know. Attempts assigned less than `grace` ago may not have
    /// reached it yet.
    fn reconcile(&mut self, id: ExecutorId, known: &[TaskId], grace: Duration) {
        let known: BTreeSet<_> = known.iter().copied().collect();
        let live = self.executors[&id].live.clone();
        for attempt in live.difference(&known) {
            self.unknown_to_executor(id, *attempt, grace);
        }
        let mut released = BTreeSet::new();
        for attempt in known {
            match self.queries.get(&attempt.query) {
                Some(query) if query.current(attempt).is_some_and(|current| current.executor == id) => {}
                Some(_) => self.actions.push_back(Action::Abort { executor: id, attempt }),
                None if released.insert(attempt.query) => {
                    self.actions.push_back(Action::Release { executor: id, query: attempt.query });
                }
                None => {}
            }
        }
    }

    fn unknown_to_executor(&mut self, executor: ExecutorId, id: TaskId, grace: Duration) {
        let now = self.now;
        let Some(attempt) = self.queries.get_mut(&id.query).and_then(|query| query.current_mut(id)) else { return };
        if now.since(attempt.assigned) < grace {
            return;
        }
        match attempt.state {
            AttemptState::Assigned => {
                attempt.assigned = now;
                let assignment = attempt.assignment.clone();
                self.actions.push_back(Action::Launch { executor, assignment });
            }
            AttemptState::Running => {
                let text = format!("the executor no longer knows task {id}");
                self.failed(executor, id, Failure::new(FailureKind::Internal, text));
            }
            AttemptState::Finished => {}
        }
    }
}

//! Which executors are usable, suspected or lost, and whether an executor and the machine agree on the attempts that
//! run.

use std::collections::BTreeSet;
use std::time::Duration;

use hwacha_model::{ExecutorId, Failure, FailureKind, QueryId, TaskId, Timestamp};

use crate::action::Action;
use crate::executor::Executor;
use crate::machine::Machine;
use crate::query::AttemptState;

/// If a deadline is handled later than this (200 ms), the machine assumes that its own process has slept.
const LATE: Duration = Duration::from_millis(200);

/// Blame points for one lost executor (6: divisible by two and by three queries).
const BLAME_OF_LOSS: u32 = 6;
/// Maximum number of queries among which the blame for a loss is divided (3). Among more queries each gets a third. If
/// `max_executor_losses` is 3, a query that ran on ten lost executors is stopped, or one that ran with it.
const MOST_SHARES: u32 = 3;

impl Machine {
    /// The time at which the next executor is lost, or the next query fails for lack of executors, if no event comes
    /// before.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let loss = self.loss_deadlines.first().map(|(deadline, _)| *deadline);
        let starved = self.without_executors.into_iter().flat_map(|since| {
            let waiting = self.queries.values().filter(|query| query.waits_for_executors());
            waiting.map(move |query| since.max(query.submitted) + self.config.executor_wait)
        });
        loss.into_iter().chain(starved).min()
    }

    /// Moves the time forward. If a deadline is handled late, this process or its clock stood still. Then silence
    /// proves nothing, and every executor gets `reattach_within` to send a heartbeat.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let slept = self.next_deadline().is_some_and(|deadline| now.since(deadline) > LATE);
        self.now = now;
        if slept {
            self.spare_all();
        }
    }

    /// Spares each executor only once between two of its heartbeats. Otherwise a machine that is always late would
    /// never declare a dead executor lost.
    fn spare_all(&mut self) {
        let until = self.now + self.config.reattach_within;
        let spare = |executor: &mut Executor| {
            if executor.spared_until <= executor.last_heard {
                executor.spared_until = until;
            }
        };
        for id in self.executors.keys().copied().collect::<Vec<_>>() {
            self.change_executor(id, spare);
        }
        self.without_executors = self.without_executors.map(|_| self.now);
    }

    /// Changes an executor and its loss deadline. Every change that affects the deadline must be made here.
    fn change_executor(&mut self, id: ExecutorId, change: impl FnOnce(&mut Executor)) {
        let Some(executor) = self.executors.get_mut(&id) else { return };
        self.loss_deadlines.remove(&(executor.loss_deadline(&self.config), id));
        change(executor);
        self.loss_deadlines.insert((executor.loss_deadline(&self.config), id));
    }

    /// Adds an executor, or attaches a known one again. A process does not change its slots and its cache, so only the
    /// first ones count.
    pub(crate) fn executor_joined(&mut self, id: ExecutorId, slots: u32, cache: Option<u64>, known: &[TaskId]) {
        if self.evicted.contains(&id) {
            return self.actions.push_back(Action::Evict { executor: id });
        }
        let now = self.now;
        self.executors.entry(id).or_insert_with(|| Executor::new(slots, cache, now));
        self.change_executor(id, |executor| {
            executor.heard(now);
            executor.disconnected = None;
        });
        self.note_usable();
        self.placement_due = true;
        // Launches on the old connection are lost, so they are repeated without a grace time.
        self.reconcile(id, known, Duration::ZERO);
    }

    pub(crate) fn heartbeat(&mut self, id: ExecutorId, known: &[TaskId], blocked_slots: u32) {
        let Some(executor) = self.executors.get(&id) else { return };
        self.placement_due |=
            executor.unreadable || executor.excluded_until.is_some() || executor.blocked_slots > blocked_slots;
        let now = self.now;
        self.change_executor(id, |executor| {
            executor.heard(now);
            executor.note_blocked(blocked_slots);
        });
        self.note_usable();
        self.reconcile(id, known, self.config.relaunch_after);
        self.take_back_hopeless(id);
    }

    pub(crate) fn executor_disconnected(&mut self, id: ExecutorId) {
        let now = self.now;
        self.change_executor(id, |executor| {
            executor.disconnected.get_or_insert(now);
        });
        self.note_usable();
    }

    pub(crate) fn executor_draining(&mut self, id: ExecutorId) {
        self.change_executor(id, |executor| executor.draining = true);
        self.note_usable();
    }

    /// Gives the executor no more tasks until its next heartbeat or registration.
    pub(crate) fn executor_unreadable(&mut self, id: ExecutorId) {
        self.change_executor(id, |executor| executor.unreadable = true);
        self.note_usable();
    }

    fn note_usable(&mut self) {
        if self.executors.values().any(Executor::is_usable) {
            self.without_executors = None;
        } else {
            self.without_executors.get_or_insert(self.now);
        }
    }

    /// Declares executors lost whose deadline has passed.
    pub(crate) fn declare_losses(&mut self) {
        while let Some((deadline, id)) = self.loss_deadlines.first().copied()
            && deadline <= self.now
        {
            self.executor_lost(id, deadline);
        }
    }

    fn executor_lost(&mut self, id: ExecutorId, deadline: Timestamp) {
        self.loss_deadlines.remove(&(deadline, id));
        let executor = self.executors.remove(&id).expect("only executors that are there have deadlines");
        self.evicted.insert(id);
        self.note_usable();
        self.actions.push_back(Action::Evict { executor: id });
        let held: BTreeSet<TaskId> = executor.live.union(&executor.finished).copied().collect();
        let affected: BTreeSet<QueryId> = held.iter().map(|attempt| attempt.query).collect();
        // Counted before `lose` ends some of these queries, because an ended query may be the cause too.
        let suspects = executor.ran.iter().filter(|query| self.queries.contains_key(query)).count();
        for query in affected {
            let lost: Vec<_> = held.iter().copied().filter(|attempt| attempt.query == query).collect();
            self.lose(query, &lost, &format!("executor {id} was lost"));
        }
        // An executor that leaves while draining was sent away, not killed.
        if !executor.draining {
            self.blame(&executor.ran, suspects);
        }
    }

    /// Divides the blame for a loss among the `suspects` queries that ran on the executor. If one of these queries
    /// then has too many points, the query with the most points is stopped (the youngest, if several have the most).
    /// The points of the others return to 0, because they may come from losses that the stopped query caused.
    fn blame(&mut self, ran: &BTreeSet<QueryId>, suspects: usize) {
        let share = BLAME_OF_LOSS / (suspects as u32).clamp(1, MOST_SHARES);
        let suspects: Vec<QueryId> = ran.iter().copied().filter(|query| self.queries.contains_key(query)).collect();
        for id in &suspects {
            let query = self.queries.get_mut(id).expect("filtered above");
            query.executor_losses += 1;
            query.blame += share;
        }
        let blame = |id: &QueryId| (self.queries[id].blame, *id);
        let Some(most) = suspects.iter().copied().max_by_key(blame) else { return };
        if self.queries[&most].blame <= self.config.max_executor_losses.saturating_mul(BLAME_OF_LOSS) {
            return;
        }
        for id in &suspects {
            self.queries.get_mut(id).expect("filtered above").blame = 0;
        }
        let losses = self.queries[&most].executor_losses;
        let text = format!(
            "the query was stopped, because it is the likely cause of the loss of {losses} of its executors; check the \
             logs of the executors"
        );
        self.end(most, Err(Failure::new(FailureKind::Internal, text)));
    }

    /// Compares the attempts that an executor knows with the attempts that were assigned to it. Launches that were sent
    /// less than `grace` ago may not have reached it yet.
    fn reconcile(&mut self, id: ExecutorId, known: &[TaskId], grace: Duration) {
        let known: BTreeSet<_> = known.iter().copied().collect();
        for attempt in self.executors[&id].live.iter().copied().collect::<Vec<_>>() {
            if !known.contains(&attempt) {
                self.unknown_to_executor(id, attempt, grace);
            } else if let Some(attempt) =
                self.queries.get_mut(&attempt.query).and_then(|query| query.current_mut(attempt))
            {
                attempt.missing = None;
            }
        }
        self.stop_zombies(id, known);
    }

    /// Takes back attempts that the executor has not begun within `start_within_heartbeats` heartbeats. If all its
    /// cores have hung for as long and another executor is usable, takes back running attempts of that age too.
    fn take_back_hopeless(&mut self, id: ExecutorId) {
        let limit = self.config.start_within_heartbeats;
        let has_others = self.executors.iter().any(|(other, executor)| *other != id && executor.is_usable());
        let is_blocked = has_others && self.executors[&id].blocked_heartbeats >= limit;
        let mut late = vec![];
        for id in self.executors[&id].live.iter().copied().collect::<Vec<_>>() {
            let Some(attempt) = self.queries.get_mut(&id.query).and_then(|query| query.current_mut(id)) else {
                continue;
            };
            attempt.heartbeats += 1;
            if attempt.heartbeats >= limit && (is_blocked || attempt.state == AttemptState::Assigned) {
                late.push(id);
            }
        }
        if late.is_empty() {
            return;
        }
        // The only usable executor is not excluded: no other could run the task.
        if has_others {
            let until = self.now + self.config.excluded_for;
            self.change_executor(id, |executor| executor.excluded_until = Some(until));
            self.note_usable();
        }
        for attempt in late {
            let text = match is_blocked {
                true => format!("all cores of executor {id} hang in tasks that were stopped; start it again"),
                false => format!(
                    "executor {id} has not begun task {attempt}, although it reported {limit} times since; look at its log"
                ),
            };
            self.failed(id, attempt, Failure::new(FailureKind::Unavailable, text));
        }
    }

    /// Stops attempts that the executor knows but that do not count.
    fn stop_zombies(&mut self, id: ExecutorId, known: BTreeSet<TaskId>) {
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
        match attempt.state {
            AttemptState::Assigned if now.since(attempt.assigned) >= grace => {
                attempt.assigned = now;
                let assignment = attempt.assignment.clone();
                self.actions.push_back(Action::Launch { executor, assignment });
            }
            // The executor has begun the attempt. One heartbeat without it may have been sent before the start, but
            // not all heartbeats of `relaunch_after`.
            AttemptState::Running => {
                let missing = *attempt.missing.get_or_insert(now);
                if now.since(missing) >= self.config.relaunch_after {
                    let text = format!("executor {executor} no longer knows task {id}");
                    self.failed(executor, id, Failure::new(FailureKind::Internal, text));
                }
            }
            AttemptState::Assigned | AttemptState::Finished => {}
        }
    }
}

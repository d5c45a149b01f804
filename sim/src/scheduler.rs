//! The event loop of the simulation: passes events to the machine, checks it, and carries out its actions.

use std::time::Duration;

use hwacha_model::{
    Adaptation, Assignment, Delivery, ExecutorId, Failure, FailureKind, OutputKind, QueryId, Reading, StageId, TaskId,
    Timestamp,
};
use hwacha_scheduler_core::{Action, Event, ExecutorState, invariants};

use crate::host::Command;
use crate::sights::Sight;
use crate::workload::Trouble;
use crate::world::{Item, World};

/// An executor whose last heartbeat or registration is less than this time ago is alive (2 s; it sends a heartbeat each
/// second).
const ALIVE: Duration = Duration::from_secs(2);

impl World {
    /// The scheduler's clock.
    pub(crate) fn scheduler_time(&self) -> Timestamp {
        self.now + self.jumped
    }

    /// Passes a report to the machine and acknowledges it.
    pub(crate) fn reported(&mut self, executor: ExecutorId, number: u64, event: Event) {
        if let Some(delay) = self.transit() {
            self.after(delay, Item::Acknowledge { executor, number });
        }
        self.tell(event);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let now = self.scheduler_time();
        self.transcript.event(self.now, &event);
        self.look_at_event(&event);
        self.machine.handle(now, event.clone());
        while let Some(action) = self.machine.next_action() {
            self.transcript.action(self.now, &action);
            self.look_at_action(&event, &action);
            self.carry_out(action);
        }
        if self.machine.executors().any(|executor| executor.state == ExecutorState::Usable) {
            self.last_usable = now;
        }
        if let Err(broken) = invariants::check(&self.machine) {
            self.violation.get_or_insert(broken);
        }
    }

    /// Whether no executor has been usable for `executor_wait`, the time that queries wait for one.
    pub(crate) fn is_starved(&self) -> bool {
        self.scheduler_time().since(self.last_usable) >= self.config.executor_wait
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Plan { query, anew, .. } => self.plan(query, anew.as_ref()),
            Action::Launch { executor, assignment } => {
                let query = &self.queries[&assignment.attempt.query];
                if query.outcome.is_some() {
                    self.violation = Some(format!("{} is launched after its query has ended", assignment.attempt));
                }
                self.check_inputs(&assignment);
                self.check_layout(&assignment);
                self.command(executor, Command::Launch(assignment));
            }
            Action::Adapted { query, stage, adaptation } => self.check_adaptation(query, stage, adaptation),
            Action::Abort { executor, attempt } => self.command(executor, Command::Abort(attempt)),
            Action::Release { executor, query } => self.command(executor, Command::Release(query)),
            Action::ResultSource { query, producers } => self.result_at(query, producers),
            Action::End { query, outcome } => self.ended(query, outcome),
            Action::Evict { executor } => self.evict(executor),
        }
    }

    /// Checks that all producers of a complete input have reported that they finished.
    fn check_inputs(&mut self, assignment: &Assignment) {
        let stage = self.queries[&assignment.attempt.query].stage(assignment.attempt.stage);
        let complete =
            stage.inputs.iter().zip(&assignment.inputs).filter(|(input, _)| input.delivery == Delivery::Complete);
        let mut producers = complete.flat_map(|(_, bound)| &bound.producers);
        if let Some(early) = producers.find(|producer| !self.past.finished.contains_key(&producer.attempt)) {
            self.violation = Some(format!("{} is launched before {} has finished", assignment.attempt, early.attempt));
        }
    }

    /// Checks the layout of a forward exchange. Its readers expect certain rows from certain tasks, by hash or by
    /// ranges of keys. So its stage must run with the planned number of tasks, each with its own share of the rows.
    /// This also holds when a lost output is made again.
    fn check_layout(&mut self, assignment: &Assignment) {
        let attempt = assignment.attempt;
        let stage = self.queries[&attempt.query].stage(attempt.stage);
        if stage.output != OutputKind::Forward {
            return;
        }
        let shared = assignment.inputs.iter().all(|input| input.reading == Reading::Share) && !assignment.unhashed;
        if !shared || assignment.tasks != stage.tasks {
            self.violation = Some(format!("{attempt} is launched for rows that its readers do not expect of it"));
        } else if attempt.attempt > self.queries[&attempt.query].first_attempt {
            self.sights.see(Sight::LayoutMadeAgain);
        }
    }

    /// Checks that a stage is skipped only if it cannot have rows: a vital input is empty or was skipped itself.
    fn check_adaptation(&mut self, query: QueryId, stage: StageId, adaptation: Adaptation) {
        let run = self.queries.get_mut(&query).expect("the query was submitted");
        let sight = match adaptation {
            Adaptation::Empty { input } => {
                let vital = run.stage(stage).inputs.iter().any(|read| read.stage == input && read.vital);
                if !vital || !run.plan.empty.contains(&input) && !run.skipped.contains(&input) {
                    self.violation = Some(format!("query {query} does not run stage {stage}, which may have rows"));
                }
                run.skipped.insert(stage);
                Sight::EmptyStageSkipped
            }
            Adaptation::Shrunk { .. } => Sight::StageShrunk,
            Adaptation::Unread | Adaptation::Stopped => Sight::UnreadStageStopped,
            Adaptation::Broadcast { .. } | Adaptation::Unhashed { .. } => Sight::JoinSwitched,
            Adaptation::Split { .. } => Sight::PartitionsSplit,
        };
        self.sights.see(sight);
    }

    fn plan(&mut self, id: QueryId, anew: Option<&FailureKind>) {
        let query = self.queries.get_mut(&id).expect("the query was submitted");
        if let Some(failure) = anew {
            query.outgrows = false;
            query.source.clear();
            query.skipped.clear();
            let launched = self.past.launched.keys().filter(|attempt| attempt.query == id);
            query.first_attempt = launched.map(|attempt| attempt.attempt + 1).max().unwrap_or(0);
            let is_memory = *failure == FailureKind::ResourcesExhausted;
            if is_memory && self.rng.percent(70) {
                // The tasks of the new plan have enough memory.
                query.plan.troubles.retain(|_, trouble| !matches!(trouble, Trouble::Memory { .. }));
            }
            self.sights.see(if is_memory { Sight::PlannedForMemory } else { Sight::PlannedAnew });
        }
        query.graph = query.plan.graph(anew.is_some());
        let event = match query.plan.plan_fails {
            true => Event::PlanFailed { query: id, failure: Failure::new(FailureKind::UserError, "no such table") },
            false => Event::QueryPlanned { query: id, graph: query.graph.clone(), replannable: query.plan.replannable },
        };
        let delay = self.rng.millis(1, 200);
        self.after(delay, Item::Tell(event));
    }

    /// Tells the executor that it is evicted and closes its connection. The executor then exits.
    fn evict(&mut self, executor: ExecutorId) {
        let delay = self.rng.millis(1, 30);
        if let Some(connection) = self.attached.remove(&executor) {
            self.after(delay, Item::Command { executor, connection, command: Command::Evicted });
        }
    }

    /// Checks that an executor is not declared lost while it is connected and its last heartbeat is less than [`ALIVE`]
    /// ago. This must hold even if the scheduler's clock jumps, unless the jump looks like silence.
    fn check_eviction(&mut self, executor: ExecutorId) {
        let silence = self.now.since(self.past.heard.get(&executor).copied().unwrap_or_default());
        if self.attached.contains_key(&executor) && silence < ALIVE && !self.past.jumped_badly {
            self.violation = Some(format!("executor {executor} is declared lost {silence:?} after it was heard"));
        }
    }

    pub(crate) fn jump(&mut self, by: Duration) {
        self.jumped += by;
        self.sights.see(Sight::ClockJumped);
        // The machine cannot distinguish a jump of about `lost_after` from a silence of that length. The same is true
        // for two jumps in a row.
        let looks_like_silence = by + ALIVE >= self.config.lost_after && by < self.config.lost_after + ALIVE / 4;
        self.past.jumped_badly |= looks_like_silence || self.past.jumped;
        self.past.jumped = true;
    }

    fn look_at_event(&mut self, event: &Event) {
        match event {
            Event::QuerySubmitted { query, .. } => {
                let evicted = self.evicted;
                self.queries.get_mut(query).expect("the query is planned for").evicted_before = evicted;
            }
            Event::Finished { executor, attempt, .. } => {
                self.past.finished.insert(*attempt, *executor);
            }
            Event::Failed { attempt, failure: Failure { kind: FailureKind::ExchangeLost { .. }, .. }, .. }
            | Event::ResultLost { attempt } => {
                self.queries.get_mut(&attempt.query).expect("attempts belong to queries").exchange_losses += 1;
                self.sights.see(Sight::ExchangeLost);
            }
            Event::Heartbeat { executor, .. } => {
                self.past.heard.insert(*executor, self.now);
            }
            Event::ExecutorJoined { executor, .. } => {
                self.past.heard.insert(*executor, self.now);
                let times = self.past.attached.entry(*executor).or_default();
                *times += 1;
                if *times > 1 {
                    self.sights.see(Sight::ExecutorReattached);
                }
            }
            _ => {}
        }
    }

    fn look_at_action(&mut self, event: &Event, action: &Action) {
        match (event, action) {
            (_, Action::Launch { assignment, .. }) => {
                let attempt = assignment.attempt;
                let times = self.past.launched.entry(attempt).or_default();
                *times += 1;
                // Only attempts under the latest plan count. Under an earlier plan, the task id meant another task.
                let first = self.queries[&attempt.query].first_attempt;
                let earlier =
                    (first..attempt.attempt).next_back().map(|earlier| TaskId { attempt: earlier, ..attempt });
                let seen = [
                    (*times > 1, Sight::Relaunched),
                    (assignment.waves > 1, Sight::MoreWaves),
                    (
                        *times == 1 && earlier.is_some_and(|earlier| self.past.finished.contains_key(&earlier)),
                        Sight::OutputMadeAgain,
                    ),
                ];
                seen.into_iter().filter(|(seen, _)| *seen).for_each(|(_, sight)| self.sights.see(sight));
            }
            (Event::Heartbeat { executor, known, .. } | Event::ExecutorJoined { executor, known, .. }, action) => {
                match action {
                    Action::Abort { executor: at, attempt } if at == executor => {
                        if known.contains(attempt) {
                            self.sights.see(Sight::ZombieAborted);
                        }
                        // The newest attempt is taken back from an executor that hangs.
                        let next = TaskId { attempt: attempt.attempt + 1, ..*attempt };
                        let is_newest = !self.past.launched.contains_key(&next);
                        if let Some(query) = self.queries.get_mut(&attempt.query).filter(|_| is_newest) {
                            query.taken_back += 1;
                        }
                    }
                    Action::Release { executor: at, .. } if at == executor => {
                        self.sights.see(Sight::ForgottenQueryReleased);
                    }
                    Action::Evict { executor: lost } => self.lost(*lost, matches!(event, Event::ExecutorJoined { .. })),
                    _ => {}
                }
            }
            (Event::Failed { failure, attempt, .. }, Action::Abort { attempt: aborted, .. }) => {
                if failure.kind == FailureKind::Internal && attempt == aborted {
                    self.sights.see(Sight::RetriedAfterDefect);
                }
                // An aborted attempt that had finished, and that is neither the failed attempt nor in an earlier
                // stage, is a reader that starts again. After a lack of memory it does not count: the query may be
                // planned again, which aborts all of its attempts.
                let plan_stays = failure.kind != FailureKind::ResourcesExhausted;
                let is_reader = aborted.stage >= attempt.stage && attempt != aborted;
                if plan_stays && is_reader && self.past.finished.contains_key(aborted) {
                    self.sights.see(Sight::FinishedReaderRestarted);
                }
            }
            (Event::ExecutorDisconnected { executor }, Action::Evict { executor: lost }) if executor == lost => {
                self.sights.see(Sight::DrainedExecutorLeft);
                self.lost(*lost, false);
            }
            (_, Action::Evict { executor }) => self.lost(*executor, false),
            _ => {}
        }
    }

    fn lost(&mut self, executor: ExecutorId, joining: bool) {
        let is_new = self.past.lost.insert(executor);
        if is_new {
            self.check_eviction(executor);
        }
        self.evicted += u64::from(is_new);
        self.sights.see(if is_new || !joining { Sight::ExecutorLost } else { Sight::LostExecutorRefused });
    }
}

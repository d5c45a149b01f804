//! What a loss makes necessary: which attempts no longer count, which tasks run again, which queries cannot go on.
//!
//! Three rules, applied until nothing changes:
//!
//! 1. If a producer attempt is lost, each live attempt that still reads it is lost too. So a running attempt only waits
//!    for attempts that hold a slot or have finished, and slots cannot deadlock.
//! 2. A task without an attempt runs again if the client, or a task that runs again, needs its output. An output that
//!    nobody needs stays lost.
//! 3. If a task of a [`Determinism::Varying`] stage runs again, all attempts downstream of the stage are lost,
//!    finished or not, because two consumers must not see different versions of its rows. Every task of a consumer
//!    reads every task of its producer, so this rule applies to whole stages.
//!
//! Example: stage 1 reads stage 0, which varies. Task 0 of stage 0 is lost. Task 0 of stage 1 still reads it, and
//! task 1 of stage 1 has read it whole. Rule 1 loses task 0 of stage 1. Rule 2 runs both lost tasks again. Rule 3
//! loses task 1 of stage 1 too.

use std::collections::BTreeSet;

use hwacha_model::{Determinism, Failure, FailureKind, QueryId, StageId, TaskId, TaskIndex};

use crate::action::Action;
use crate::machine::Machine;
use crate::query::Query;

/// The changes that a loss makes necessary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    /// Attempts that no longer count.
    pub gone: BTreeSet<TaskId>,
    /// Tasks that must run, producers first.
    pub pending: BTreeSet<(StageId, TaskIndex)>,
}

impl Machine {
    /// Handles the loss of attempts of one query and of all that depend on them. A lost attempt that the client has
    /// read whole counts as finished. `why` is a clause for the error message.
    pub(crate) fn lose(&mut self, id: QueryId, lost: &[TaskId], why: &str) {
        let Some(query) = self.queries.get(&id) else { return };
        let (read, lost): (Vec<TaskId>, Vec<TaskId>) =
            lost.iter().partition(|attempt| query.reading(**attempt).is_at_end());
        for attempt in read {
            self.finish(attempt);
        }
        let query = &self.queries[&id];
        match repair(query, &lost) {
            Ok(repair) => self.carry_out(id, repair),
            Err(_) => {
                let text = format!(
                    "part of the result had already been delivered when {why}; the query may be submitted again"
                );
                self.end(id, Err(Failure::new(FailureKind::Unavailable, text)));
            }
        }
    }

    fn carry_out(&mut self, id: QueryId, repair: Repair) {
        // Consumers first, so no reader outlives its producer.
        for attempt in repair.gone.into_iter().rev() {
            self.discard(attempt);
        }
        self.queries.get_mut(&id).expect("repaired queries exist").pending = repair.pending;
        self.unplaced.insert(id);
        self.placement_due = true;
    }

    /// Removes one attempt. Aborts it on its executor, unless the executor is lost.
    pub(crate) fn discard(&mut self, id: TaskId) {
        let query = self.queries.get_mut(&id.query).expect("attempts belong to queries");
        let Some(attempt) = query.take_attempt(id) else { return };
        if let Some(executor) = self.executors.get_mut(&attempt.executor) {
            executor.forget(id);
            self.actions.push_back(Action::Abort { executor: attempt.executor, attempt: id });
        }
    }
}

/// Decides which tasks run again after the attempts `lost` were lost. Fails with the id of a root attempt if the client
/// has some of its rows and the next attempt would deliver them a second time.
pub(crate) fn repair(query: &Query, lost: &[TaskId]) -> Result<Repair, TaskId> {
    let mut gone: BTreeSet<TaskId> = lost.iter().copied().filter(|attempt| query.current(*attempt).is_some()).collect();
    loop {
        let before = gone.len();
        add_stranded(query, &mut gone);
        let pending = needed(query, &gone);
        add_outdated(query, &pending, &mut gone);
        if let Some(root) = gone.iter().find(|attempt| is_delivered(query, **attempt)) {
            return Err(*root);
        }
        if gone.len() == before {
            return Ok(Repair { gone, pending });
        }
    }
}

/// Rule 1. One pass from producers to consumers is enough.
fn add_stranded(query: &Query, gone: &mut BTreeSet<TaskId>) {
    for (id, stage) in query.graph().iter() {
        let of_inputs: BTreeSet<StageId> = stage.inputs.iter().map(|input| input.stage).collect();
        let lost: Vec<TaskId> = gone.iter().copied().filter(|attempt| of_inputs.contains(&attempt.stage)).collect();
        if lost.is_empty() {
            continue;
        }
        let stranded = query.stage(id).attempts().filter(|reader| lost.iter().any(|lost| reader.still_reads(*lost)));
        let unread = stranded.map(|reader| reader.id()).filter(|reader| !query.reading(*reader).is_at_end());
        gone.extend(unread);
    }
}

/// Rule 2: the tasks that must run if the attempts in `gone` are lost.
pub(crate) fn needed(query: &Query, gone: &BTreeSet<TaskId>) -> BTreeSet<(StageId, TaskIndex)> {
    let mut pending = BTreeSet::new();
    let mut must_run = vec![false; query.stages.len()];
    for (id, _) in query.graph().iter().rev() {
        if !query.is_root(id) && !query.graph().consumers(id).any(|(consumer, _)| must_run[consumer.0 as usize]) {
            continue;
        }
        for (index, task) in query.stage(id).tasks.iter().enumerate() {
            if task.attempt.as_ref().is_none_or(|attempt| gone.contains(&attempt.id())) {
                pending.insert((id, TaskIndex(index as u32)));
                must_run[id.0 as usize] = true;
            }
        }
    }
    pending
}

/// Rule 3: adds the attempts downstream of varying stages that run again.
fn add_outdated(query: &Query, pending: &BTreeSet<(StageId, TaskIndex)>, gone: &mut BTreeSet<TaskId>) {
    let graph = query.graph();
    let runs_again = |(stage, task): &(StageId, TaskIndex)| query.task(*stage, *task).is_some_and(|task| task.has_run);
    let mut changed = vec![false; query.stages.len()];
    for (stage, _) in pending.iter().filter(|task| runs_again(task)) {
        changed[stage.0 as usize] |= graph.stage(*stage).determinism == Determinism::Varying;
    }
    for (id, stage) in graph.iter() {
        if stage.inputs.iter().any(|input| changed[input.stage.0 as usize]) {
            changed[id.0 as usize] = true;
            gone.extend(query.stage(id).attempts().map(|attempt| attempt.id()));
        }
    }
}

/// Whether rows of the attempt have reached the client and the next attempt cannot continue after them. An attempt
/// that the client has read whole is lost only by rule 3 (see [`Machine::lose`]).
fn is_delivered(query: &Query, attempt: TaskId) -> bool {
    query.reading(attempt).has_rows() && !query.is_repeatable(attempt.stage)
}

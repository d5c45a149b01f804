//! What a loss makes necessary: which attempts no longer count, which tasks run again, which queries cannot go on.
//!
//! A lost attempt takes with it every attempt that still needed its output. Where a second attempt may put other rows in
//! other places ([`Determinism::Varying`]), it takes everything that had read any of it, finished or not, because no two
//! consumers may see two versions. What then remains without an attempt runs again only if something needs it.

use std::collections::{BTreeMap, VecDeque};

use hwacha_model::{Determinism, Failure, FailureKind, QueryId, TaskId};

use crate::action::Action;
use crate::machine::Machine;
use crate::query::{Attempt, AttemptState, Query};

/// Why an attempt no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// Its output is gone, but a second attempt gives the same.
    Gone,
    /// What it read has changed, so its output will.
    Changed,
}

impl Machine {
    /// Takes attempts of one query out of account, with all that depends on them.
    pub(crate) fn lose(&mut self, id: QueryId, attempts: &[TaskId]) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        match doomed(query, attempts) {
            Ok(doomed) => {
                for attempt in doomed {
                    self.discard(attempt);
                }
                let query = self.queries.get_mut(&id).expect("is still there");
                query.find_pending();
                if !query.pending.is_empty() {
                    self.unplaced.insert(id);
                }
                self.touched.insert(id);
            }
            Err(delivered) => {
                let text = format!(
                    "rows of task {delivered} had been delivered when its output was lost; submit the query again"
                );
                self.end(id, Err(Failure::new(FailureKind::Unavailable, text)));
            }
        }
    }

    /// Takes one attempt out of account and tells its executor, if that is there.
    fn discard(&mut self, id: TaskId) {
        let query = self.queries.get_mut(&id.query).expect("doomed attempts belong to queries");
        let task = query.task_mut(id.stage, id.task).expect("doomed attempts belong to tasks");
        let Some(attempt) = task.attempt.take() else { return };
        self.free_slot(attempt.executor, id);
        if self.executors.contains_key(&attempt.executor) {
            self.actions.push_back(Action::Abort { executor: attempt.executor, attempt: id });
        }
    }
}

/// All attempts that no longer count when `lost` are gone. An error names a root attempt whose rows were delivered.
fn doomed(query: &mut Query, lost: &[TaskId]) -> Result<Vec<TaskId>, TaskId> {
    let mut doomed: BTreeMap<TaskId, Cause> = BTreeMap::new();
    let mut queue: VecDeque<(TaskId, Cause)> = lost.iter().map(|id| (*id, Cause::Gone)).collect();
    while let Some((id, cause)) = queue.pop_front() {
        if doomed.get(&id).is_some_and(|known| *known >= cause) || query.current(id).is_none() {
            continue;
        }
        if is_root(query, id) && !may_restart(query, id, cause)? {
            continue;
        }
        doomed.insert(id, cause);
        let varying = query.graph().stage(id.stage).determinism == Determinism::Varying;
        let spreads = if varying { Cause::Changed } else { cause };
        queue.extend(readers(query, id, spreads).map(|reader| (reader.id(), spreads)));
    }
    Ok(doomed.into_keys().collect())
}

fn is_root(query: &Query, id: TaskId) -> bool {
    id.stage == query.graph().root()
}

/// Whether a root attempt is to start again: not when the client has all its rows, and never after some.
fn may_restart(query: &mut Query, id: TaskId, cause: Cause) -> Result<bool, TaskId> {
    let task = query.task_mut(id.stage, id.task).expect("current attempts belong to tasks");
    match (task.read, task.begun, cause) {
        (true, _, Cause::Gone) => {
            // That all rows were read proves that it finished, whether its report comes or not.
            let attempt = task.attempt.as_mut().expect("the attempt is current");
            attempt.state = AttemptState::Finished;
            Ok(false)
        }
        (true, _, Cause::Changed) | (false, true, _) => Err(id),
        (false, false, _) => Ok(true),
    }
}

/// The attempts that a loss of `producer` concerns.
fn readers(query: &Query, producer: TaskId, cause: Cause) -> impl Iterator<Item = &Attempt> {
    query
        .graph()
        .consumers(producer.stage)
        .flat_map(|(consumer, _)| query.stage_tasks(consumer))
        .filter_map(|task| task.attempt.as_ref())
        .filter(move |reader| reader.is_bound_to(producer))
        .filter(move |reader| match cause {
            Cause::Changed => true,
            Cause::Gone => reader.is_live() && !reader.read.contains(&producer),
        })
}

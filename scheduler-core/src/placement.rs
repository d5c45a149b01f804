//! Which executor gets a task.

use hwacha_model::{ExecutorId, QueryId, StageId, TaskIndex};

use crate::action::Action;
use crate::machine::Machine;

/// An executor that could take a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub executor: ExecutorId,
    pub free_slots: u32,
}

/// Chooses among candidates, which are in order of their ids. Task `i` of a query prefers the same executor in all its
/// stages, so that partitions that belong together stay together; else the one with the most free slots takes it.
pub(crate) fn choose(
    query: QueryId,
    task: TaskIndex,
    avoid: Option<ExecutorId>,
    candidates: &[Candidate],
) -> Option<ExecutorId> {
    let preferred = (query.0 as usize).wrapping_add(task.0 as usize) % candidates.len().max(1);
    let has_choice = candidates.len() > 1;
    let takes = |candidate: &&Candidate| {
        candidate.free_slots > 0 && !(has_choice && avoid == Some(candidate.executor))
    };
    let preferred = candidates.get(preferred).filter(takes);
    let roomiest = || candidates.iter().rev().filter(takes).max_by_key(|candidate| candidate.free_slots);
    preferred.or_else(roomiest).map(|candidate| candidate.executor)
}

impl Machine {
    /// Launches pending tasks whose inputs are ready, older queries and producers first, while there are free slots.
    pub(crate) fn place(&mut self) {
        if self.unplaced.is_empty() {
            return;
        }
        let mut candidates: Vec<_> = self
            .executors
            .iter()
            .filter(|(_, executor)| executor.is_usable())
            .map(|(id, executor)| Candidate { executor: *id, free_slots: executor.free_slots() })
            .collect();
        for id in self.unplaced.iter().copied().collect::<Vec<_>>() {
            if candidates.iter().all(|candidate| candidate.free_slots == 0) {
                return;
            }
            self.place_query(id, &mut candidates);
        }
    }

    fn place_query(&mut self, id: QueryId, candidates: &mut [Candidate]) {
        let query = self.queries.get_mut(&id).expect("unplaced queries exist");
        // Producers come first, so a consumer may become ready within one pass.
        let mut ready: Option<(StageId, bool)> = None;
        for (stage, task) in query.pending.iter().copied().collect::<Vec<_>>() {
            let is_ready = match ready {
                Some((known, is_ready)) if known == stage => is_ready,
                _ => query.inputs_ready(stage),
            };
            ready = Some((stage, is_ready));
            if !is_ready {
                continue;
            }
            let avoid = query.task(stage, task).and_then(|task| task.avoid);
            let Some(executor) = choose(id, task, avoid, candidates) else { continue };
            let assignment = query.assign(id, stage, task, executor, self.now);
            self.executors.get_mut(&executor).expect("candidates exist").live.insert(assignment.attempt);
            let candidate = candidates.iter_mut().find(|candidate| candidate.executor == executor);
            candidate.expect("was chosen from them").free_slots -= 1;
            self.actions.push_back(Action::Launch { executor, assignment });
        }
        self.touched.insert(id);
        if query.pending.is_empty() {
            self.unplaced.remove(&id);
        }
    }
}

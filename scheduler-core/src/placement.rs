//! Which executor gets a task.

use std::borrow::Cow;

use hwacha_model::{ExecutorId, QueryId, StageId, TaskIndex};

use crate::action::Action;
use crate::machine::Machine;

/// An executor that could take a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub executor: ExecutorId,
    pub free_slots: u32,
}

/// Chooses an executor for a task: an index into `candidates`, which are sorted by id, or `None` if the task must
/// wait. Task `i` of a query prefers the same executor in all stages, so its partitions stay on one executor. If the
/// preferred executor is full, the candidate with the most free slots gets the task. The executor `avoid` gets the
/// task only if it is the only candidate.
///
/// Example: task 1 of query 7 with 3 candidates prefers index (7 + 1) % 3 = 2.
pub(crate) fn choose(
    query: QueryId,
    task: TaskIndex,
    avoid: Option<ExecutorId>,
    candidates: &[Candidate],
) -> Option<usize> {
    let has_choice = candidates.len() > 1;
    let takes = |index: &usize| {
        let candidate = &candidates[*index];
        candidate.free_slots > 0 && !(has_choice && avoid == Some(candidate.executor))
    };
    let preferred = query.0.wrapping_add(u64::from(task.0)) % (candidates.len() as u64).max(1);
    let preferred = Some(preferred as usize).filter(|index| *index < candidates.len()).filter(takes);
    // If several have the most free slots, the first of them.
    let roomiest = || (0..candidates.len()).rev().filter(takes).max_by_key(|index| candidates[*index].free_slots);
    preferred.or_else(roomiest)
}

/// The usable executors of one pass and how many slots they have left together.
struct Room {
    candidates: Vec<Candidate>,
    free_slots: u32,
}

impl Room {
    /// The candidates, where the executors in `full` have no free slots.
    fn without(&self, full: &[ExecutorId]) -> Cow<'_, [Candidate]> {
        if full.is_empty() {
            return Cow::Borrowed(&self.candidates);
        }
        let free = |candidate: &Candidate| if full.contains(&candidate.executor) { 0 } else { candidate.free_slots };
        self.candidates.iter().map(|candidate| Candidate { free_slots: free(candidate), ..*candidate }).collect()
    }
}

impl Machine {
    /// Launches pending tasks whose inputs are ready, older queries and producers first, while there are free slots.
    pub(crate) fn place(&mut self) {
        if !std::mem::take(&mut self.placement_due) || self.unplaced.is_empty() {
            return;
        }
        let mut room = self.room();
        for id in self.unplaced.iter().copied().collect::<Vec<_>>() {
            if room.free_slots == 0 {
                return;
            }
            self.place_query(id, &mut room);
        }
    }

    fn room(&self) -> Room {
        let usable = self.executors.iter().filter(|(_, executor)| executor.is_usable());
        let candidates: Vec<_> =
            usable.map(|(id, executor)| Candidate { executor: *id, free_slots: executor.free_slots() }).collect();
        Room { free_slots: candidates.iter().map(|candidate| candidate.free_slots).sum(), candidates }
    }

    fn place_query(&mut self, id: QueryId, room: &mut Room) {
        // Placing a stage can make a later one ready within the same pass.
        let mut from = Some(StageId(0));
        while let Some(stage) = from {
            let query = &self.queries[&id];
            let next = query.pending.range((stage, TaskIndex(0))..).next().map(|(stage, _)| *stage);
            let Some(stage) = next else { break };
            if query.inputs_ready(stage) {
                self.adapt_to_sizes(id, stage);
                self.place_stage(id, stage, room);
            }
            from = stage.0.checked_add(1).map(StageId).filter(|_| room.free_slots > 0);
        }
        if self.queries[&id].pending.is_empty() {
            self.unplaced.remove(&id);
        }
    }

    fn place_stage(&mut self, id: QueryId, stage: StageId, room: &mut Room) {
        let query = self.queries.get_mut(&id).expect("unplaced queries exist");
        if query.is_root(stage) {
            self.touched.insert(id);
        }
        let mut from = TaskIndex(0);
        while room.free_slots > 0
            && let Some((found, task)) = query.pending.range((stage, from)..).next().copied()
            && found == stage
        {
            from = TaskIndex(task.0 + 1);
            let waiting = query.task(stage, task).expect("pending tasks exist");
            // A task that ran out of memory runs on an executor without other tasks of its stage: it waits until they
            // end. Root tasks do not wait for each other. Example: the client reads task 0 before task 1, so task 1
            // cannot end first.
            let waits = waiting.record.is_short_of_memory() && !query.is_root(stage);
            let crowded = if waits { query.live_executors(stage) } else { vec![] };
            let Some(chosen) = choose(id, task, waiting.avoid, &room.without(&crowded)) else { continue };
            let executor = room.candidates[chosen].executor;
            let assignment = query.assign(query.next_attempt(id, stage, task), executor, self.now);
            let state = self.executors.get_mut(&executor).expect("candidates exist");
            state.assign(assignment.attempt);
            if query.is_root(stage) && self.stalled.contains(&id) {
                // The new attempt will wait for the client like the attempts before it.
                state.parked.insert(assignment.attempt);
            } else {
                room.candidates[chosen].free_slots -= 1;
                room.free_slots -= 1;
            }
            self.actions.push_back(Action::Launch { executor, assignment });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index that is chosen for a task of query 0. `free` has the free slots of executors 0, 1, ... in order.
    fn chosen(task: u32, avoid: Option<u64>, free: &[u32]) -> Option<usize> {
        let candidate = |(id, free)| Candidate { executor: ExecutorId(id), free_slots: free };
        let candidates: Vec<_> = (0..).zip(free.iter().copied()).map(candidate).collect();
        choose(QueryId(0), TaskIndex(task), avoid.map(ExecutorId), &candidates)
    }

    #[test]
    fn a_task_goes_to_its_own_executor_or_to_the_roomiest() {
        let cases: [(u32, Option<u64>, &[u32], Option<usize>); 9] = [
            (0, None, &[], None),
            (0, None, &[1, 9], Some(0)),
            (1, None, &[1, 9], Some(1)),
            (2, None, &[1, 9], Some(0)),
            (0, None, &[0, 2, 3], Some(2)),
            (0, None, &[0, 3, 3], Some(1)),
            (0, None, &[0, 0], None),
            (0, Some(0), &[9, 0], None),
            (0, Some(0), &[9], Some(0)),
        ];
        for (task, avoid, free, expected) in cases {
            assert_eq!(chosen(task, avoid, free), expected, "task {task}, avoid {avoid:?}, free {free:?}");
        }
    }
}

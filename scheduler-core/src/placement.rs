//! Which executor gets a task.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hwacha_model::{ExecutorId, QueryId, StageId, TaskIndex};

use crate::action::Action;
use crate::machine::Machine;
use crate::query::Query;

/// An executor that could take a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub executor: ExecutorId,
    pub cache: Option<u64>,
    pub free_slots: u32,
}

/// Chooses an executor for a task: an index into `candidates`, which are sorted by id, or `None` if the task must
/// wait. A task that reads remote files (`reads`) prefers the executor whose cache has them. While the candidates stay
/// the same, any other task `i` prefers the same executor in all stages of a query, so its partitions stay there. If the
/// preferred executor is full, the candidate with the most free slots gets the task. The executor `avoid` gets the task
/// only if it is the only candidate.
///
/// Example: task 1 of query 7 with 3 candidates prefers index (7 + 1) % 3 = 2.
pub(crate) fn choose(
    query: QueryId,
    task: TaskIndex,
    reads: Option<&Cached>,
    avoid: Option<ExecutorId>,
    candidates: &[Candidate],
) -> Option<usize> {
    let has_choice = candidates.len() > 1;
    let takes = |index: &usize| {
        let candidate = &candidates[*index];
        candidate.free_slots > 0 && !(has_choice && avoid == Some(candidate.executor))
    };
    let in_turn = || query.0.wrapping_add(u64::from(task.0)).checked_rem(candidates.len() as u64).map(|it| it as usize);
    let preferred = reads.and_then(|reads| with_cache(reads, candidates)).or_else(in_turn).filter(takes);
    // `max_by_key` returns the last maximum. The reversed order makes it the candidate with the lowest index.
    let roomiest = || (0..candidates.len()).rev().filter(takes).max_by_key(|index| candidates[*index].free_slots);
    preferred.or_else(roomiest)
}

/// The remote files of a task.
pub(crate) struct Cached {
    /// A number that stands for the files.
    files: u64,
    /// Executors that have their share of the stage's tasks already.
    crowded: Vec<ExecutorId>,
}

/// The candidate whose cache gets the files `reads`: the one with the greatest hash of the files and its cache, of those
/// that are not crowded. So when an executor comes or goes, few other files move (rendezvous hashing). `None` if no such
/// candidate has a cache.
fn with_cache(reads: &Cached, candidates: &[Candidate]) -> Option<usize> {
    let weight = |cache: u64| {
        let mut hasher = DefaultHasher::new();
        (reads.files, cache).hash(&mut hasher);
        hasher.finish()
    };
    let allowed = candidates.iter().enumerate().filter(|(_, candidate)| !reads.crowded.contains(&candidate.executor));
    let caches = allowed.filter_map(|(index, candidate)| Some((index, candidate.cache?)));
    Some(caches.max_by_key(|(_, cache)| weight(*cache))?.0)
}

/// The usable executors of one placement pass, and the total of their free slots.
struct Room {
    candidates: Vec<Candidate>,
    free_slots: u32,
}

impl Room {
    /// The candidates, with 0 free slots for the executors in `full`.
    fn without(&self, full: &[ExecutorId]) -> Cow<'_, [Candidate]> {
        if full.is_empty() {
            return Cow::Borrowed(&self.candidates);
        }
        let free = |candidate: &Candidate| if full.contains(&candidate.executor) { 0 } else { candidate.free_slots };
        self.candidates.iter().map(|candidate| Candidate { free_slots: free(candidate), ..*candidate }).collect()
    }
}

impl Room {
    /// Executors that run as many tasks of the stage as each executor with a cache would have if all had the same number.
    fn with_share(&self, query: &Query, stage: StageId) -> Vec<ExecutorId> {
        let caches = self.candidates.iter().filter(|candidate| candidate.cache.is_some()).count();
        let share = (query.graph().stage(stage).tasks as usize).div_ceil(caches.max(1));
        let mut counts: BTreeMap<ExecutorId, usize> = BTreeMap::new();
        query.live_executors(stage).into_iter().for_each(|executor| *counts.entry(executor).or_default() += 1);
        counts.into_iter().filter(|(_, count)| *count >= share).map(|(executor, _)| executor).collect()
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
        let candidates: Vec<_> = usable
            .map(|(id, executor)| Candidate { executor: *id, cache: executor.cache, free_slots: executor.free_slots() })
            .collect();
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
            let reads = query.reads(stage, task).map(|files| Cached { files, crowded: room.with_share(query, stage) });
            let Some(chosen) = choose(id, task, reads.as_ref(), waiting.avoid, &room.without(&crowded)) else {
                continue;
            };
            let executor = room.candidates[chosen].executor;
            let assignment = query.assign(query.next_attempt(id, stage, task), executor, self.now);
            let state = self.executors.get_mut(&executor).expect("candidates exist");
            state.assign(assignment.attempt);
            if query.is_root(stage) && self.stalled.contains(&id) {
                // The client takes no rows, so the new attempt will wait for it and holds no slot.
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
        let candidate = |(id, free)| Candidate { executor: ExecutorId(id), cache: None, free_slots: free };
        let candidates: Vec<_> = (0..).zip(free.iter().copied()).map(candidate).collect();
        choose(QueryId(0), TaskIndex(task), None, avoid.map(ExecutorId), &candidates)
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

    /// The cache that gets each of the files 0 to 99, of executors with these caches. All have free slots.
    fn caches(caches: &[Option<u64>]) -> Vec<Option<u64>> {
        let candidate =
            |(id, cache): (u64, &Option<u64>)| Candidate { executor: ExecutorId(id), cache: *cache, free_slots: 1 };
        let candidates: Vec<_> = (0..).zip(caches).map(candidate).collect();
        let chosen = |files| {
            let reads = Cached { files, crowded: vec![] };
            choose(QueryId(0), TaskIndex(0), Some(&reads), None, &candidates).expect("there is room")
        };
        (0..100).map(|files| candidates[chosen(files)].cache).collect()
    }

    #[test]
    fn only_the_files_of_an_executor_that_leaves_move() {
        let before = caches(&[Some(7), None, Some(8), Some(9)]);
        let after = caches(&[Some(8), Some(7)]);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *before == Some(9), "{before:?} became {after:?}");
        }
        assert!([7, 8, 9].iter().all(|cache| before.iter().filter(|it| **it == Some(*cache)).count() > 20));
        assert_eq!(caches(&[None, None]), [None; 100]);
    }

    #[test]
    fn a_file_goes_elsewhere_if_its_executor_is_full() {
        let candidate = |id, free_slots| Candidate { executor: ExecutorId(id), cache: Some(id), free_slots };
        let chosen = |free: [u32; 2], crowded: &[u64]| {
            let candidates = [candidate(0, free[0]), candidate(1, free[1])];
            let reads = Cached { files: 3, crowded: crowded.iter().copied().map(ExecutorId).collect() };
            choose(QueryId(0), TaskIndex(0), Some(&reads), None, &candidates)
        };
        let own = chosen([1, 1], &[]).expect("there is room");
        let mut free = [1, 1];
        free[own] = 0;
        assert_eq!(chosen(free, &[]), Some(1 - own));
        // The same if it has its share of the stage's tasks.
        assert_eq!(chosen([1, 1], &[own as u64]), Some(1 - own));
    }
}

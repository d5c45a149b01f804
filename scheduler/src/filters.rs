//! The run-time filters of one query: what each task found out about a build side, and what the scans of the probe side
//! are told once all tasks have said it.
//!
//! A filter may have 16 MiB. So the executors' connections decode and merge filters. The connection that reports the last task
//! of a stage also encodes the result. The event loop only copies encoded filters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hwacha_model::{StageGraph, StageId, TaskId, TaskIndex};
use hwacha_operators::runtime_filter::RuntimeFilter;
use hwacha_proto::control;

/// Filters by the stage whose sinks make them.
#[derive(Debug, Default)]
pub(crate) struct FilterBook {
    found: Mutex<BTreeMap<StageId, Found>>,
    /// The encoded filters of stages whose tasks all reported. The event loop takes only this lock.
    ready: Mutex<BTreeMap<StageId, Vec<control::RuntimeFilter>>>,
}

/// What the tasks of one stage have found.
#[derive(Debug, Default)]
struct Found {
    tasks: BTreeSet<TaskIndex>,
    /// By the filter's id: how many tasks have made it, and all their keys.
    filters: BTreeMap<u64, (u32, RuntimeFilter)>,
}

impl FilterBook {
    /// Adds what a task of a stage of `tasks` tasks has found. Another attempt at a task finds the same keys and is not heard.
    pub(crate) fn add(&self, attempt: TaskId, tasks: u32, filters: &[control::RuntimeFilter]) {
        let mut stages = lock(&self.found);
        let found = stages.entry(attempt.stage).or_default();
        if !found.tasks.insert(attempt.task) {
            return;
        }
        for filter in filters {
            // A filter that cannot be decoded is counted for one task less, so it is not used.
            let Ok(keys) = RuntimeFilter::decode(&filter.filter) else { continue };
            match found.filters.get_mut(&filter.id) {
                None => drop(found.filters.insert(filter.id, (1, keys))),
                Some((tasks, all)) => {
                    // It is counted last: after a panic in the merge it must not seem whole.
                    all.merge(&keys);
                    *tasks += 1;
                }
            }
        }
        if found.tasks.len() == tasks as usize {
            let encoded = std::mem::take(&mut found.filters).into_iter().filter_map(encoded(tasks)).collect();
            lock(&self.ready).insert(attempt.stage, encoded);
        }
    }

    /// What tasks of `stages` are told: the keys of the stages that they have waited for.
    pub(crate) fn of(&self, graph: &StageGraph, stages: &[u32]) -> Vec<control::RuntimeFilter> {
        let waited: BTreeSet<StageId> =
            stages.iter().flat_map(|stage| &graph.stage(StageId(*stage)).after).copied().collect();
        let ready = lock(&self.ready);
        waited.iter().filter_map(|stage| ready.get(stage)).flatten().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic during a merge, the stage has no complete filters and sends none.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Encodes a filter that all `tasks` have made; `None` for others, which would drop rows.
fn encoded(tasks: u32) -> impl Fn((u64, (u32, RuntimeFilter))) -> Option<control::RuntimeFilter> {
    move |(id, (made, keys))| {
        let is_whole = made == tasks && !keys.is_useless();
        is_whole
            .then(|| keys.encode().ok())
            .flatten()
            .map(|filter| control::RuntimeFilter { id, filter: filter.into() })
    }
}

#[cfg(test)]
mod tests {
    use hwacha_model::{Adaptivity, Delivery, Determinism, Input, OutputKind, QueryId, Stage};
    use hwacha_proto::exchange::{KeyBitmap, KeyFilter, KeySet, key_set};
    use prost::Message;

    use super::*;

    /// The probe side waits for the build side, which has two tasks; a join reads both.
    fn graph() -> StageGraph {
        let stage = |inputs: &[u32], after: &[u32], tasks| Stage {
            inputs: inputs
                .iter()
                .map(|stage| Input { stage: StageId(*stage), delivery: Delivery::Streaming, vital: false })
                .collect(),
            after: after.iter().map(|stage| StageId(*stage)).collect(),
            tasks,
            output: OutputKind::Hash,
            determinism: Determinism::Reproducible,
            wavable: false,
            adaptivity: Adaptivity::default(),
        };
        StageGraph::new(vec![stage(&[], &[], 2), stage(&[], &[0], 1), stage(&[0, 1], &[], 1)]).expect("a graph")
    }

    fn attempt(task: u32, attempt: u32) -> TaskId {
        TaskId { query: QueryId(1), stage: StageId(0), task: TaskIndex(task), attempt }
    }

    /// A filter of the keys below 64 that have a bit.
    fn keys(id: u64, bits: u64) -> control::RuntimeFilter {
        let words = bits.to_le_bytes().to_vec();
        let bitmap = KeyBitmap { values: 64, words, ..Default::default() };
        let set = KeySet { columns: vec![0], keys: Some(key_set::Keys::Bitmap(bitmap)) };
        let filter = KeyFilter { columns: vec![Default::default()], sets: vec![set], ..Default::default() };
        control::RuntimeFilter { id, filter: filter.encode_to_vec().into() }
    }

    fn told(book: &FilterBook) -> Vec<(u64, RuntimeFilter)> {
        let told = book.of(&graph(), &[1]);
        told.iter().map(|told| (told.id, RuntimeFilter::decode(&told.filter).expect("it is read"))).collect()
    }

    #[test]
    fn scans_are_told_the_keys_of_all_tasks_together() {
        let book = FilterBook::default();
        book.add(attempt(0, 0), 2, &[keys(5, 0b0011)]);
        book.add(attempt(1, 0), 2, &[keys(5, 0b0100)]);
        let expected = RuntimeFilter::decode(&keys(5, 0b0111).filter).expect("it is read");
        let told = told(&book);
        assert_eq!((told.len(), told[0].0), (1, 5));
        assert_eq!(told[0].1.encode().expect("it is encoded"), expected.encode().expect("it is encoded"));
        // Only who waited is told.
        assert!(book.of(&graph(), &[0, 2]).is_empty());
    }

    #[test]
    fn a_filter_that_some_tasks_have_not_made_hides_no_rows() {
        let book = FilterBook::default();
        book.add(attempt(0, 0), 2, &[keys(5, 0b0011), keys(6, 0b0001)]);
        // The other task's keys for one of them were of no use.
        book.add(attempt(1, 0), 2, &[keys(6, 0b0010)]);
        let ids: Vec<_> = told(&book).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [6]);
    }

    #[test]
    fn another_attempt_does_not_stand_in_for_another_task() {
        let book = FilterBook::default();
        book.add(attempt(0, 0), 2, &[keys(5, 0b0011)]);
        book.add(attempt(0, 1), 2, &[keys(5, 0b0011)]);
        assert!(told(&book).is_empty());
    }
}

//! The run-time filters of one query. The tasks of a build side report their keys. When all tasks have reported, the
//! scans of the probe side get the merged keys.
//!
//! A filter may have a bitmap of 16 MiB. So each executor's connection decodes and merges the filters that it receives.
//! The connection that reports the last task of a stage also encodes the result. The event loop only copies encoded
//! filters.

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

/// The filters that the tasks of one stage have reported.
#[derive(Debug, Default)]
struct Found {
    tasks: BTreeSet<TaskIndex>,
    /// By filter id: the number of tasks that reported the filter, and the merged keys of these tasks.
    filters: BTreeMap<u64, (u32, RuntimeFilter)>,
}

impl FilterBook {
    /// Adds the filters of a task. Its stage has `tasks` tasks. A second attempt at a task has the same keys and is
    /// ignored.
    pub(crate) fn add(&self, attempt: TaskId, tasks: u32, filters: &[control::RuntimeFilter]) {
        let mut stages = lock(&self.found);
        let found = stages.entry(attempt.stage).or_default();
        if !found.tasks.insert(attempt.task) {
            return;
        }
        for filter in filters {
            // A filter that cannot be decoded is not counted for this task, so it stays incomplete and is not used.
            let Ok(keys) = RuntimeFilter::decode(&filter.filter) else { continue };
            match found.filters.get_mut(&filter.id) {
                None => drop(found.filters.insert(filter.id, (1, keys))),
                Some((tasks, all)) => {
                    // The task is counted after the merge: if the merge panics, the filter must not seem complete.
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

    /// The filters for tasks of `stages`. They come from the stages that these tasks have waited for (`after`).
    pub(crate) fn of(&self, graph: &StageGraph, stages: &[u32]) -> Vec<control::RuntimeFilter> {
        let waited: BTreeSet<StageId> =
            stages.iter().flat_map(|stage| &graph.stage(StageId(*stage)).after).copied().collect();
        let ready = lock(&self.ready);
        waited.iter().filter_map(|stage| ready.get(stage)).flatten().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A filter whose merge panicked is not counted for its task, so it stays incomplete and is not used.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Encodes a filter that all `tasks` tasks have reported. `None` for an incomplete filter, which would drop rows, and
/// for a filter that excludes too few rows.
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
            reads: vec![],
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

    /// A filter with the keys below 64 whose bit is set.
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
        // Only stages that have waited get filters.
        assert!(book.of(&graph(), &[0, 2]).is_empty());
    }

    #[test]
    fn a_filter_that_some_tasks_have_not_made_hides_no_rows() {
        let book = FilterBook::default();
        book.add(attempt(0, 0), 2, &[keys(5, 0b0011), keys(6, 0b0001)]);
        // The other task reports only one of the two filters.
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

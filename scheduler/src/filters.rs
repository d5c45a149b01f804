//! The run-time filters of one query: what each task found out about a build side, and what the scans of the probe side
//! are told once all tasks have said it.

use std::collections::{BTreeMap, BTreeSet};

use hwacha_model::{StageGraph, StageId, TaskId, TaskIndex};
use hwacha_plan::runtime_filter::RuntimeFilter;
use hwacha_proto::control;

/// Filters by the stage whose sinks make them.
#[derive(Debug, Default)]
pub(crate) struct FilterBook {
    found: BTreeMap<StageId, Found>,
}

/// What the tasks of one stage have found.
#[derive(Debug, Default)]
struct Found {
    tasks: BTreeSet<TaskIndex>,
    /// By the filter's id: how many tasks have made it, and all their keys.
    filters: BTreeMap<u64, (u32, RuntimeFilter)>,
    /// As they are sent, once they have been asked for.
    encoded: Option<Vec<control::RuntimeFilter>>,
}

impl FilterBook {
    /// Adds what a task has found. Another attempt at a task finds the same keys and is not heard.
    pub(crate) fn add(&mut self, attempt: TaskId, filters: &[control::RuntimeFilter]) {
        let found = self.found.entry(attempt.stage).or_default();
        if found.tasks.insert(attempt.task) {
            for filter in filters {
                // What cannot be read is missing below, and not used.
                let Ok(keys) = RuntimeFilter::decode(&filter.filter) else { continue };
                match found.filters.get_mut(&filter.id) {
                    None => drop(found.filters.insert(filter.id, (1, keys))),
                    Some((tasks, all)) => {
                        *tasks += 1;
                        all.merge(&keys);
                    }
                }
            }
        }
    }

    /// What tasks of `stages` are told: the keys of the stages that they have waited for.
    pub(crate) fn of(&mut self, graph: &StageGraph, stages: &[u32]) -> Vec<control::RuntimeFilter> {
        let waited: BTreeSet<StageId> =
            stages.iter().flat_map(|stage| &graph.stage(StageId(*stage)).after).copied().collect();
        let found = waited.into_iter().filter_map(|stage| {
            let tasks = graph.stage(stage).tasks;
            Some(self.found.get_mut(&stage)?.encoded(tasks).to_vec())
        });
        found.flatten().collect()
    }
}

impl Found {
    /// The filters that all `tasks` have made; others would hide rows.
    fn encoded(&mut self, tasks: u32) -> &[control::RuntimeFilter] {
        let whole = self.filters.iter().filter(|(_, (made, keys))| *made == tasks && !keys.is_useless());
        self.encoded.get_or_insert_with(|| {
            whole
                .filter_map(|(id, (_, keys))| {
                    Some(control::RuntimeFilter { id: *id, filter: keys.encode().ok()?.into() })
                })
                .collect()
        })
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

    fn told(book: &mut FilterBook) -> Vec<(u64, RuntimeFilter)> {
        let told = book.of(&graph(), &[1]);
        told.iter().map(|told| (told.id, RuntimeFilter::decode(&told.filter).expect("it is read"))).collect()
    }

    #[test]
    fn scans_are_told_the_keys_of_all_tasks_together() {
        let mut book = FilterBook::default();
        book.add(attempt(0, 0), &[keys(5, 0b0011)]);
        book.add(attempt(1, 0), &[keys(5, 0b0100)]);
        let expected = RuntimeFilter::decode(&keys(5, 0b0111).filter).expect("it is read");
        let told = told(&mut book);
        assert_eq!((told.len(), told[0].0), (1, 5));
        assert_eq!(told[0].1.encode().expect("it is encoded"), expected.encode().expect("it is encoded"));
        // Only who waited is told.
        assert!(book.of(&graph(), &[0, 2]).is_empty());
    }

    #[test]
    fn a_filter_that_some_tasks_have_not_made_hides_no_rows() {
        let mut book = FilterBook::default();
        book.add(attempt(0, 0), &[keys(5, 0b0011), keys(6, 0b0001)]);
        // The other task's keys for one of them were of no use.
        book.add(attempt(1, 0), &[keys(6, 0b0010)]);
        let ids: Vec<_> = told(&mut book).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [6]);
    }

    #[test]
    fn another_attempt_does_not_stand_in_for_another_task() {
        let mut book = FilterBook::default();
        book.add(attempt(0, 0), &[keys(5, 0b0011)]);
        book.add(attempt(0, 1), &[keys(5, 0b0011)]);
        assert!(told(&mut book).is_empty());
    }
}

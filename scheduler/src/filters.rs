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

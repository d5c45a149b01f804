//! What attempts produce, as values that give away a mixture of versions.
//!
//! An output's content is derived from its task, how the stage's work is shared, and all that the attempt read; where a
//! stage is varying, also from the attempt's number. Its lineage names the content of every output that it descends from. Two outputs fit together
//! only if their lineages agree wherever they meet: then no two parts of the answer saw different versions of a producer.

use std::collections::BTreeMap;
use std::rc::Rc;

use hwacha_model::{Assignment, Determinism, Reading, StageId, TaskId, TaskIndex};

use crate::rng::mix;

/// The contents that something descends from.
pub(crate) type Lineage = BTreeMap<(StageId, TaskIndex), u64>;

/// The output of a finished attempt.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub content: u64,
    pub lineage: Lineage,
    /// The task of which two versions came together, if that happened.
    pub mixed: Option<(StageId, TaskIndex)>,
}

impl Output {
    /// What an attempt makes of what it read.
    pub(crate) fn derive(
        assignment: &Assignment,
        determinism: Determinism,
        read: &BTreeMap<TaskId, Rc<Output>>,
    ) -> Self {
        let attempt = assignment.attempt;
        let mut content = mix(u64::from(attempt.stage.0) << 32 | u64::from(attempt.task.0));
        content = mix(content ^ u64::from(assignment.tasks) << 1 ^ u64::from(assignment.unhashed));
        for input in &assignment.inputs {
            content = mix(content ^ reading(&input.reading));
        }
        for input in read.values() {
            content = mix(content ^ input.content);
        }
        if determinism == Determinism::Varying {
            content = mix(content ^ u64::from(attempt.attempt).wrapping_add(1));
        }
        let (mut lineage, mixed) = merge(read.values().map(Rc::as_ref));
        lineage.insert((attempt.stage, attempt.task), content);
        Self { content, lineage, mixed }
    }
}

/// Brings lineages together and says of which task they hold two versions.
pub(crate) fn merge<'a>(outputs: impl Iterator<Item = &'a Output>) -> (Lineage, Option<(StageId, TaskIndex)>) {
    let mut merged = Lineage::new();
    let mut mixed = None;
    for output in outputs {
        mixed = mixed.or(output.mixed);
        for (task, content) in &output.lineage {
            if *merged.entry(*task).or_insert(*content) != *content {
                mixed = mixed.or(Some(*task));
            }
        }
    }
    (merged, mixed)
}

/// A number that tells ways of reading an input apart.
fn reading(reading: &Reading) -> u64 {
    let (kind, partitions): (u64, &[u32]) = match reading {
        Reading::Share => (0, &[]),
        Reading::Whole => (1, &[]),
        Reading::Copied(partitions) => (2, partitions),
        Reading::Dealt(partitions) => (3, partitions),
    };
    partitions.iter().fold(kind, |number, partition| mix(number ^ u64::from(*partition)))
}

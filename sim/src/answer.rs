//! The outputs of attempts, as values that show whether an answer mixes two versions of a task's output.
//!
//! The content of an output is a hash of its task, of how the stage's work is shared, and of the contents that the
//! attempt read. In a varying stage, the hash includes the attempt number. The lineage of an output holds the content
//! of every output that it descends from. Two outputs fit together only if their lineages have the same content for
//! each task that both contain.
//!
//! Example: stage 0 is varying and its task 0 runs twice, with contents 17 and 42. Task 0 of stage 1 reads 17 and
//! task 1 reads 42. Their lineages differ in task 0 of stage 0, so an answer with rows of both is mixed.

use std::collections::BTreeMap;
use std::rc::Rc;

use hwacha_model::{Assignment, Determinism, Reading, StageId, TaskId, TaskIndex};

use crate::rng::mix;

/// The content of each task's output that a value descends from.
pub(crate) type Lineage = BTreeMap<(StageId, TaskIndex), u64>;

/// The output of a finished attempt.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub content: u64,
    pub lineage: Lineage,
    /// A task of which this output mixes two versions, if there is one.
    pub mixed: Option<(StageId, TaskIndex)>,
}

impl Output {
    /// The output of an attempt that has read the outputs in `read`.
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

/// Merges the lineages of outputs. Also returns a task of which they hold two versions, if there is one.
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

/// A number that differs between different ways to read an input.
fn reading(reading: &Reading) -> u64 {
    let (kind, partitions): (u64, &[u32]) = match reading {
        Reading::Share => (0, &[]),
        Reading::Whole => (1, &[]),
        Reading::Copied(partitions) => (2, partitions),
        Reading::Dealt(partitions) => (3, partitions),
    };
    partitions.iter().fold(kind, |number, partition| mix(number ^ u64::from(*partition)))
}

//! The two operators at the ends of an exchange, and what they need from the process that runs them.
//!
//! [`ExchangeSinkExec`] is the root of every stage, [`ExchangeSourceExec`] stands where an input comes in. Both reach the
//! executor's store through the [`TaskExchange`] that the task's `TaskContext` carries, so operators know neither
//! sockets nor files.

mod earlier;
mod range;
mod sink;
mod source;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::iter;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionConfig;
use futures::future::BoxFuture;
use hwacha_model::{Reading, StageId};

pub use earlier::EarlierAggregate;
pub use earlier::with_earlier;
pub use range::{RANGE_OUTPUTS, can_cut};
pub use sink::ExchangeSinkExec;
pub use source::{ExchangeSourceExec, SourceSpec, is_column};

/// Which part of its stage's work a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskShare {
    /// Which of the stage's tasks this is.
    pub task: usize,
    /// How many tasks share the work.
    pub tasks: usize,
    /// How many were planned: no fewer.
    pub planned_tasks: usize,
    /// Whether rows stay in the task's partitions although the plan hashes them.
    pub unhashed: bool,
}

impl TaskShare {
    /// Which of the exchange's partitions a partition of the task reads, out of as many of the task: those of its number of
    /// each planned task whose work this one does. The same for every input, so rows that belong together stay together.
    ///
    /// However many tasks share the work, partition `p` has the rows whose hash is `p` modulo `of`: a partitioned join
    /// asks the keys of just that partition whether a row of its probe side has a match.
    pub fn inputs(&self, partition: usize, of: usize) -> impl Iterator<Item = usize> + use<> {
        let start = |task: usize| task * self.planned_tasks / self.tasks;
        (start(self.task)..start(self.task + 1)).map(move |planned| planned * of + partition)
    }

    /// Which of an exchange's partitions a partition of the task reads of one producer, out of as many of the task. What
    /// is not just its share falls to the same partition of the task in every input.
    pub fn reads(&self, reading: &Reading, partition: usize, of: usize, producer: usize) -> Vec<Range<usize>> {
        let one = |one| one..one + 1;
        let share = self.inputs(partition, of);
        let (heavy, is_here) = match reading {
            Reading::Share => return share.map(one).collect(),
            Reading::Whole => return iter::once(0..self.planned_tasks * of).collect(),
            Reading::Copied(heavy) => (heavy, true),
            Reading::Dealt(heavy) => (heavy, producer % self.tasks == self.task),
        };
        let heavy: BTreeSet<usize> = heavy.iter().map(|heavy| *heavy as usize).collect();
        let falls_here = |heavy: &usize| is_here && heavy % of == partition;
        let light = share.filter(|partition| !heavy.contains(partition));
        light.chain(heavy.iter().copied().filter(falls_here)).map(one).collect()
    }

    /// Where a partition of the task writes rows that stay where they are; `partitions` are those of all tasks.
    pub fn own_output(&self, partition: usize, partitions: usize) -> usize {
        let per_task = partitions / self.planned_tasks;
        self.task * per_task + partition % per_task
    }
}

/// What is read of an output: some of its partitions, one after the other, and some of each one's batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub partitions: Range<usize>,
    pub batches: Range<usize>,
}

impl Slice {
    /// All of some partitions.
    pub fn whole(partitions: Range<usize>) -> Self {
        Self { partitions, batches: 0..usize::MAX }
    }
}

/// What one task's sink and sources reach the rest of the cluster through.
pub trait TaskExchange: Debug + Send + Sync + 'static {
    /// Which part of its stage's work the task does.
    fn share(&self) -> TaskShare;

    /// Which wave this plan instance works on, and how many there are.
    fn wave(&self) -> (usize, usize);

    /// The rows that one of the task's partitions reads of a partitioned input, out of as many of the task.
    fn read_share(&self, stage: StageId, partition: usize, of: usize) -> Result<SendableRecordBatchStream>;

    /// The rows of an input that has one partition, from all its producers.
    fn read(&self, stage: StageId) -> Result<SendableRecordBatchStream>;

    /// Some of the rows that one producer task wrote, in their order; none where a stage has fewer tasks.
    fn read_run(&self, stage: StageId, producer: usize, slice: Slice) -> Result<SendableRecordBatchStream>;

    /// How many tasks produce an input.
    fn producers(&self, stage: StageId) -> Result<usize>;

    /// Waits until a partition of the task's output takes more rows: at once, unless it is the result and its reader is
    /// slow.
    fn ready(&self, partition: usize) -> BoxFuture<'_, ()>;

    /// Appends rows to a partition of the task's output. Does not wait for consumers.
    fn append(&self, partition: usize, batch: RecordBatch) -> Result<()>;
}

/// Carries a [`TaskExchange`] inside a `SessionConfig`.
#[derive(Debug)]
struct TaskExchangeExtension(Arc<dyn TaskExchange>);

/// A configuration whose plans read and write through `exchange`.
pub fn with_task_exchange(config: SessionConfig, exchange: Arc<dyn TaskExchange>) -> SessionConfig {
    config.with_extension(Arc::new(TaskExchangeExtension(exchange)))
}

fn task_exchange(context: &TaskContext) -> Result<Arc<dyn TaskExchange>> {
    context
        .session_config()
        .get_extension::<TaskExchangeExtension>()
        .map(|extension| Arc::clone(&extension.0))
        .ok_or_else(|| internal_datafusion_err!("an exchange operator was run outside a task"))
}

/// The values of `exprs` over the rows of `batch`.
fn evaluate(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_tasks_that_there_are_read_every_partition_once() {
        for (tasks, planned_tasks, of) in [(4, 4, 2), (3, 4, 2), (1, 4, 2), (2, 5, 3), (1, 1, 1)] {
            let share = |task| TaskShare { task, tasks, planned_tasks, unhashed: false };
            let mut read = vec![];
            for (task, partition) in (0..tasks).flat_map(|task| (0..of).map(move |partition| (task, partition))) {
                let inputs: Vec<_> = share(task).inputs(partition, of).collect();
                assert!(inputs.iter().all(|input| input % of == partition), "keys are where a join looks for them");
                read.extend(inputs);
            }
            read.sort_unstable();
            assert!(read.into_iter().eq(0..planned_tasks * of), "{tasks} of {planned_tasks} tasks, {of} partitions");
        }
    }

    #[test]
    fn what_stays_is_found_by_the_task_of_the_same_number() {
        let share = TaskShare { task: 1, tasks: 3, planned_tasks: 3, unhashed: true };
        let outputs: Vec<_> = (0..5).map(|partition| share.own_output(partition, 12)).collect();
        assert_eq!(outputs, [4, 5, 6, 7, 4]);
        assert_eq!((0..4).flat_map(|partition| share.inputs(partition, 4)).collect::<Vec<_>>(), [4, 5, 6, 7]);
    }

    #[test]
    fn heavy_partitions_are_joined_whole_by_all_tasks_together() {
        let (tasks, of, producers) = (3, 2, 4);
        for heavy in [vec![], vec![3], vec![0, 4, 5]] {
            let mut read = BTreeMap::new();
            for (task, partition) in (0..tasks).flat_map(|task| (0..of).map(move |partition| (task, partition))) {
                let share = TaskShare { task, tasks, planned_tasks: tasks, unhashed: false };
                let reads = |reading, producer| share.reads(reading, partition, of, producer).into_iter().flatten();
                let all = |reading| -> BTreeSet<_> {
                    (0..producers)
                        .flat_map(|producer| reads(reading, producer).map(move |read| (read, producer)))
                        .collect()
                };
                let (build, probe) = (all(&Reading::Copied(heavy.clone())), all(&Reading::Dealt(heavy.clone())));
                for (partition, producer) in probe {
                    assert!(
                        (0..producers).all(|builder| build.contains(&(partition, builder))),
                        "rows meet all theirs"
                    );
                    *read.entry((partition, producer)).or_insert(0) += 1;
                }
            }
            let once = (0..tasks * of).flat_map(|read| (0..producers).map(move |producer| ((read, producer), 1)));
            assert!(read.into_iter().eq(once), "rows of the probe side are read once with {heavy:?}");
        }
    }
}

//! The two operators at the ends of an exchange, and what they need from the process that runs them.
//!
//! [`ExchangeSinkExec`] is the root of every stage. [`ExchangeSourceExec`] is a leaf that reads one input of a stage.
//! Both reach the executor's store through the [`TaskExchange`] in the task's `TaskContext`, so operators know
//! neither sockets nor files.

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

/// The part of its stage's work that a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskShare {
    /// The number of this task within the stage.
    pub task: usize,
    /// How many tasks share the work.
    pub tasks: usize,
    /// How many tasks were planned: at least `tasks`.
    pub planned_tasks: usize,
    /// Whether rows stay in the task's partitions although the plan hashes them, because the build side of their join
    /// turned out to be small (docs/decisions/020).
    pub unhashed: bool,
}

impl TaskShare {
    /// The partitions of an exchange that one partition of this task reads. This task and each planned task have `of`
    /// partitions. Partition `p` of this task reads partition `p` of each planned task whose work this task does. The
    /// result is the same for every input, so rows with equal keys stay together.
    ///
    /// Example: 4 planned tasks with 2 partitions each are shrunk to 2 tasks. Partition 1 of task 0 reads the
    /// partitions 1 and 3, and partition 1 of task 1 reads 5 and 7.
    ///
    /// For any number of tasks, partition `p` has the rows whose hash is `p` modulo `of`. A partitioned hash join
    /// looks for the match of a probe row only in the keys of that partition.
    pub fn inputs(&self, partition: usize, of: usize) -> impl Iterator<Item = usize> + use<> {
        let start = |task: usize| task * self.planned_tasks / self.tasks;
        (start(self.task)..start(self.task + 1)).map(move |planned| planned * of + partition)
    }

    /// The partitions of one producer that one partition of this task reads. The task has `of` partitions. A heavy
    /// partition `h` is read by the partition `h % of` of every task (`Copied`, a build side), or of one task per
    /// producer (`Dealt`, a probe side). So each probe row of `h` meets all build rows of `h`.
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

    /// The output partition for rows that stay where they are. `partitions` counts the output partitions of all
    /// tasks. Example: of 12 output partitions of 3 tasks, task 1 writes to the partitions 4 to 7.
    pub fn own_output(&self, partition: usize, partitions: usize) -> usize {
        let per_task = partitions / self.planned_tasks;
        self.task * per_task + partition % per_task
    }
}

/// The part of an output that is read: a run of its partitions, one after the other, and a run of batches in each of
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub partitions: Range<usize>,
    pub batches: Range<usize>,
}

impl Slice {
    /// All batches of some partitions.
    pub fn whole(partitions: Range<usize>) -> Self {
        Self { partitions, batches: 0..usize::MAX }
    }
}

/// The connection of a task's sink and sources to the rest of the cluster.
pub trait TaskExchange: Debug + Send + Sync + 'static {
    /// The part of its stage's work that the task does.
    fn share(&self) -> TaskShare;

    /// The wave that this instance of the plan works on, and the number of waves. Each wave reads the inputs again
    /// and keeps the rows of some of the keys (docs/decisions/031).
    fn wave(&self) -> (usize, usize);

    /// The rows that one partition of the task reads from a partitioned input. The task has `of` partitions.
    fn read_share(&self, stage: StageId, partition: usize, of: usize) -> Result<SendableRecordBatchStream>;

    /// The rows of an input that has one partition, from all its producers.
    fn read(&self, stage: StageId) -> Result<SendableRecordBatchStream>;

    /// The rows of `slice` that one producer task wrote, in their order. No rows if the input has no task with this
    /// number.
    fn read_run(&self, stage: StageId, producer: usize, slice: Slice) -> Result<SendableRecordBatchStream>;

    /// Number of tasks that produce an input.
    fn producers(&self, stage: StageId) -> Result<usize>;

    /// Waits until a partition of the task's output takes more rows. Only the task that writes the query's result ever
    /// waits, if the reader of the result is slow.
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

//! The output of one attempt: batches by partition, in memory until the budget is used up, then in spill files.
//! Readers follow while the sink writes.
//!
//! The result of a query is read once: its writer waits for the reader, and rows that were read are dropped. All
//! other outputs stay until the attempt is aborted or the query ends, so a consumer can run again. Their writers never
//! wait, so two stages never wait for each other.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, exec_err, internal_err};
use hwacha_model::{HeavyPartition, OutputKind, TaskId};
use hwacha_operators::compact_views::without_any_waste;
use hwacha_proto::MAX_MESSAGE_BYTES;
use tokio::sync::Notify;

use super::budget::{Budget, Held};
use super::contents::{Chunk, Contents, End, Leaving, Position, Spilled};
use super::encode::bytes_in_rows;
use super::spill::ExchangeSpill;
use crate::memory::{Work, uncounted};

/// Bytes of a result's spill file after which a new file is begun (64 MiB).
const RESULT_FILE_BYTES: u64 = 64 << 20;

/// Maximum bytes of a message besides the values of its rows (1 MiB).
const MESSAGE_OVERHEAD_BYTES: usize = 1 << 20;

/// A task reports a partition with more than this multiple of the mean bytes (1.2). This is less than the 1.5 at
/// which the scheduler acts, because the scheduler judges the sum over all tasks.
const HEAVY: f64 = 1.2;

/// Maximum number of heavy partitions that a task reports.
const HEAVY_TOLD: usize = 8;

/// One attempt's output. Dropping it frees its memory and its spill files.
#[derive(Debug)]
pub(crate) struct Output {
    attempt: TaskId,
    is_result: bool,
    contents: Mutex<Contents>,
    /// One per partition. Wakes the partition's readers when a batch is appended or the output ends, and the writer
    /// of a result when a batch is read. Readers of other partitions are not woken: with many executors an output has
    /// many readers.
    changed: Vec<Notify>,
    budget: Arc<Budget>,
    /// The file that is being written. Lock order: `spill` before `contents`. `contents` is not locked during a disk
    /// write, so readers do not wait for the disk.
    spill: Mutex<Option<ExchangeSpill>>,
    /// Counts the query's memory. The thread that reads a batch of a result subtracts its bytes.
    work: Arc<Work>,
    rows: AtomicU64,
    bytes: AtomicU64,
    spilled_bytes: AtomicU64,
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error("its attempt failed or was taken back")]
    Broken,
    #[error("it has been read before")]
    Gone,
    #[error("it has no partition {0}")]
    NoPartition(usize),
    #[error(transparent)]
    Spill(datafusion::error::DataFusionError),
}

impl Output {
    /// An empty output of an attempt that does `work`.
    pub(crate) fn new(
        attempt: TaskId,
        kind: OutputKind,
        partitions: usize,
        budget: Arc<Budget>,
        work: Arc<Work>,
    ) -> Self {
        let contents = Contents::new(partitions, Held::nothing(Arc::clone(&budget)));
        Self {
            attempt,
            is_result: kind == OutputKind::Result,
            contents: Mutex::new(contents),
            changed: (0..partitions).map(|_| Notify::new()).collect(),
            budget,
            spill: Mutex::default(),
            work,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            spilled_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn attempt(&self) -> TaskId {
        self.attempt
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The partitions with at least `min_bytes` and more than `HEAVY` times the mean bytes, the heaviest first.
    pub(crate) fn heavy_partitions(&self, min_bytes: usize) -> Vec<HeavyPartition> {
        let sizes: Vec<usize> =
            self.lock().partitions.iter().map(|chunks| chunks.iter().map(Chunk::bytes).sum()).collect();
        let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        let is_heavy = |(_, bytes): &(usize, usize)| *bytes >= min_bytes && *bytes as f64 > mean * HEAVY;
        let mut heavy: Vec<_> = sizes.into_iter().enumerate().filter(is_heavy).collect();
        heavy.sort_unstable_by_key(|(partition, bytes)| (Reverse(*bytes), *partition));
        heavy.truncate(HEAVY_TOLD);
        let told = |(partition, bytes)| HeavyPartition { partition: partition as u32, bytes: bytes as u64 };
        heavy.into_iter().map(told).collect()
    }

    pub(crate) fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes.load(Ordering::Relaxed)
    }

    /// Waits until the reader of a result has caught up in a partition (see `has_backlog`). Each partition has its
    /// own share of the backlog, because the reader may read the partitions one after the other.
    pub(crate) async fn ready(&self, partition: usize) {
        if !self.is_result {
            return;
        }
        loop {
            let changed = self.changed[partition].notified();
            if !self.lock().has_backlog(partition) {
                return;
            }
            changed.await;
        }
    }

    /// Appends a batch. When the budget is used up, this output's batches in memory move to the spill file.
    pub(crate) fn append(&self, partition: usize, batch: RecordBatch) -> Result<()> {
        let bytes = batch.get_array_memory_size();
        if bytes > MAX_MESSAGE_BYTES {
            check_rows(&batch)?;
        }
        let mut contents = self.lock();
        if contents.end == End::Withdrawn {
            return internal_err!("the attempt has been given up");
        }
        self.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let position = (partition, contents.partitions[partition].len());
        contents.partitions[partition].push(Chunk::Memory(batch));
        contents.resident.push(position);
        contents.unread_bytes[partition] += bytes;
        let batches = if contents.held.try_grow(bytes) {
            vec![]
        } else {
            contents.held.grow(bytes);
            contents.leave_memory()
        };
        drop(contents);
        self.changed[partition].notify_waiters();
        self.spill(batches)
    }

    /// Writes batches to the spill file and frees their memory.
    fn spill(&self, batches: Vec<(Position, RecordBatch)>) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        // A panic while writing fails the attempt; extents that were written stay readable.
        let mut file = self.spill.lock().unwrap_or_else(PoisonError::into_inner);
        for (position, batch) in batches {
            match self.lock().state_of(position) {
                Leaving::Wanted => {}
                // The reader has subtracted the bytes of the batch.
                Leaving::Read => {
                    uncounted(|| drop(batch));
                    continue;
                }
                Leaving::InVain => return internal_err!("the attempt has been given up"),
            }
            if self.is_result {
                // A new file is begun. The old one is deleted when the last unread chunk in it has been read.
                file.take_if(|file| file.bytes() > RESULT_FILE_BYTES);
            }
            let file = match &mut *file {
                Some(file) => file,
                none => none.insert(ExchangeSpill::create(self.budget.disk())?),
            };
            let extent = file.append(&batch)?;
            self.spilled_bytes.fetch_add(extent.bytes(), Ordering::Relaxed);
            let bytes = batch.get_array_memory_size();
            let spilled = Spilled { reader: file.reader(), extent, bytes };
            if !self.lock().move_to_file(position, spilled) {
                uncounted(|| drop(batch));
            }
        }
        Ok(())
    }

    /// Forbids all later appends. Returns false, and does nothing, if a batch was appended before or the output has
    /// ended.
    pub(crate) fn withdraw(&self) -> bool {
        let mut contents = self.lock();
        let in_time = contents.end == End::Open && contents.partitions.iter().all(Vec::is_empty);
        if in_time {
            contents.end = End::Withdrawn;
        }
        in_time
    }

    /// Marks the output as complete: readers end after the last batch.
    pub(crate) fn complete(&self) {
        self.end(End::Complete);
    }

    /// Marks the output as unusable: readers get an error.
    pub(crate) fn break_off(&self) {
        self.end(End::Broken);
    }

    fn end(&self, end: End) {
        let mut contents = self.lock();
        if contents.end == End::Open || end == End::Broken {
            contents.end = end;
        }
        drop(contents);
        self.changed.iter().for_each(Notify::notify_waiters);
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // A panic while appending fails the attempt. The batches that were appended before are complete.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch at `position` of a partition: waits for it while the attempt runs; `None` after the last.
    pub(crate) async fn read(&self, partition: usize, position: usize) -> Result<Option<RecordBatch>, OutputError> {
        let changed = self.changed.get(partition).ok_or(OutputError::NoPartition(partition))?;
        loop {
            // Created before the check, so a change between the check and the wait is not missed.
            let changed = changed.notified();
            match self.poll_read(partition, position)? {
                Found::Memory(batch) => return Ok(Some(batch)),
                Found::Spilled(Spilled { reader, extent, .. }) => {
                    let read = SpawnedTask::spawn_blocking(move || reader.read(extent)).await;
                    return match read {
                        Ok(batch) => batch.map(Some).map_err(OutputError::Spill),
                        Err(_) => Err(OutputError::Broken),
                    };
                }
                Found::End => return Ok(None),
                Found::NotYet => {}
            }
            changed.await;
        }
    }

    fn poll_read(&self, partition: usize, position: usize) -> Result<Found, OutputError> {
        let mut contents = self.lock();
        let chunks = contents.partitions.get(partition).ok_or(OutputError::NoPartition(partition))?;
        let found = match (contents.end, chunks.get(position)) {
            (End::Broken, _) => return Err(OutputError::Broken),
            (_, Some(Chunk::Gone)) => return Err(OutputError::Gone),
            (_, Some(Chunk::Memory(batch) | Chunk::Leaving(batch))) => Found::Memory(batch.clone()),
            (_, Some(Chunk::Spilled(spilled))) => Found::Spilled(spilled.clone()),
            (End::Complete, None) => return Ok(Found::End),
            (End::Open | End::Withdrawn, None) => return Ok(Found::NotYet),
        };
        if self.is_result {
            let had_spilled = contents.unread_spilled > 0;
            let bytes = contents.forget(partition, position);
            let has_spilled = contents.unread_spilled > 0;
            drop(contents);
            self.work.memory().add(-(bytes as i64));
            // If the lock is taken, a writer uses the file.
            if !has_spilled && let Ok(mut file) = self.spill.try_lock() {
                *file = None;
            }
            // After the last spilled chunk was read, the writers of all partitions may go on.
            let woken =
                if had_spilled && !has_spilled { &self.changed[..] } else { &self.changed[partition..=partition] };
            woken.iter().for_each(Notify::notify_waiters);
        }
        Ok(found)
    }
}

enum Found {
    Memory(RecordBatch),
    Spilled(Spilled),
    End,
    NotYet,
}

/// The last reference may be dropped on a thread of other work; the freed bytes are still counted for this query.
impl Drop for Output {
    fn drop(&mut self) {
        let contents = self.contents.get_mut().unwrap_or_else(PoisonError::into_inner);
        let partitions = std::mem::take(&mut contents.partitions);
        self.work.run(|| drop(partitions));
    }
}

/// Fails if one row, or the values of one dictionary, exceed a message (256 MiB). A consumer could never read them,
/// so the task must not be tried again.
fn check_rows(batch: &RecordBatch) -> Result<()> {
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let bytes = column.as_any_dictionary_opt().map_or(0, |column| column.values().get_array_memory_size());
        if bytes > MAX_MESSAGE_BYTES - MESSAGE_OVERHEAD_BYTES {
            return exec_err!(
                "the dictionary of column \"{}\" has {} MiB of values, and the limit is {} MiB; cast the column \
                 to VARCHAR",
                field.name(),
                bytes >> 20,
                MAX_MESSAGE_BYTES >> 20
            );
        }
    }
    for row in 0..batch.num_rows() {
        let alone = take_record_batch(&batch.slice(row, 1), &UInt32Array::from(vec![0]))?;
        let bytes = bytes_in_rows(&without_any_waste(alone)?);
        if bytes > MAX_MESSAGE_BYTES - MESSAGE_OVERHEAD_BYTES {
            return exec_err!(
                "one row of the query has {} MiB, and the limit is {} MiB; select fewer columns, or shorten the values",
                bytes >> 20,
                MAX_MESSAGE_BYTES >> 20
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use futures::FutureExt;
    use hwacha_model::{QueryId, StageId, TaskIndex};

    use super::*;
    use crate::exchange::contents::RESULT_UNREAD_BYTES;

    /// Rows of a batch that takes a little less than half of `RESULT_UNREAD_BYTES`.
    const ROWS: usize = RESULT_UNREAD_BYTES / 2 / size_of::<i64>() - 1024;

    fn output(kind: OutputKind, pool_bytes: usize) -> Output {
        let attempt = TaskId { query: QueryId(1), stage: StageId(0), task: TaskIndex(0), attempt: 0 };
        Output::new(attempt, kind, 1, budget(pool_bytes), Arc::default())
    }

    fn budget(pool_bytes: usize) -> Arc<Budget> {
        let runtime = RuntimeEnv::default();
        Arc::new(Budget::new(runtime.memory_pool, runtime.disk_manager, pool_bytes))
    }

    fn batch() -> RecordBatch {
        let numbers = Int64Array::from(vec![7; ROWS]);
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).expect("a batch")
    }

    fn is_ready(output: &Output) -> bool {
        output.ready(0).now_or_never().is_some()
    }

    #[tokio::test]
    async fn a_result_waits_for_its_reader_and_is_read_once() {
        let output = output(OutputKind::Result, 1 << 40);
        for _ in 0..3 {
            output.append(0, batch()).expect("there is memory");
        }
        assert!(!is_ready(&output));
        assert_eq!(output.read(0, 0).await.expect("in memory"), Some(batch()));
        assert!(is_ready(&output), "a backlog within the bound");
        assert!(matches!(output.read(0, 0).await, Err(OutputError::Gone)));
    }

    #[tokio::test]
    async fn partitions_of_a_result_that_are_read_last_do_not_hold_up_the_first() {
        let attempt = output(OutputKind::Result, 0).attempt();
        let output = Output::new(attempt, OutputKind::Result, 2, budget(1 << 40), Arc::default());
        for _ in 0..2 {
            output.append(1, batch()).expect("there is memory");
        }
        assert!(output.ready(1).now_or_never().is_none(), "its share of the backlog is used up");
        assert!(output.ready(0).now_or_never().is_some());
        output.append(0, batch()).expect("there is memory");
        assert_eq!(output.read(0, 0).await.expect("in memory"), Some(batch()));
        assert!(output.ready(1).now_or_never().is_none());
        assert_eq!(output.read(1, 0).await.expect("in memory"), Some(batch()));
        assert!(output.ready(1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_spilled_result_is_read_before_more_is_written_and_its_file_goes() {
        let output = output(OutputKind::Result, 1 << 20);
        output.append(0, batch()).expect("there is disk");
        assert!(!is_ready(&output));
        let spilled = output.spilled_bytes();
        assert!(spilled > 0);
        assert_eq!(output.read(0, 0).await.expect("in the file"), Some(batch()));
        assert!(is_ready(&output));
        assert!(output.spill.lock().expect("no panic").is_none());
        assert_eq!(output.spilled_bytes(), spilled, "what was spilled before counts");
    }

    #[tokio::test]
    async fn a_result_is_withdrawn_before_its_first_batch_or_not_at_all() {
        let begun = output(OutputKind::Result, 1 << 40);
        begun.append(0, batch()).expect("there is memory");
        assert!(!begun.withdraw());
        begun.append(0, batch()).expect("it goes on");

        let withdrawn = output(OutputKind::Result, 1 << 40);
        assert!(withdrawn.withdraw());
        withdrawn.append(0, batch()).expect_err("nothing is written any more");
        assert!(withdrawn.read(0, 0).now_or_never().is_none(), "its reader waits for what the scheduler decides");
    }

    #[test]
    fn heavy_partitions_are_told_of_and_no_others() {
        let attempt = output(OutputKind::Hash, 0).attempt();
        let output = Output::new(attempt, OutputKind::Hash, 4, budget(1 << 40), Arc::default());
        for partition in [0, 1, 2, 2, 2, 3] {
            output.append(partition, batch()).expect("there is memory");
        }
        let bytes = 3 * batch().get_array_memory_size();
        assert_eq!(output.heavy_partitions(bytes), [HeavyPartition { partition: 2, bytes: bytes as u64 }]);
        assert_eq!(output.heavy_partitions(bytes + 1), []);
    }

    #[tokio::test]
    async fn other_outputs_never_wait_and_are_read_again() {
        let output = output(OutputKind::Gather, 1 << 40);
        for _ in 0..3 {
            output.append(0, batch()).expect("there is memory");
        }
        assert!(is_ready(&output));
        for _ in 0..2 {
            assert_eq!(output.read(0, 0).await.expect("in memory"), Some(batch()));
        }
    }
}

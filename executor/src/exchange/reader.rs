//! How a task reads its inputs: directly from stores of this process, and over Flight from other executors.
//!
//! Each remote slice (one producer task, usually one partition) is an HTTP/2 stream of its own. The window of the
//! stream limits the unread bytes, so a slow reader of one slice never blocks the others.

use std::collections::HashMap;
use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use hwacha_execution::failure::ExchangeReadError;
use hwacha_model::{ExecutorId, Reading, StageId, TaskId};
use hwacha_operators::exchange::{Slice, TaskExchange, TaskShare};
use hwacha_operators::sendable::received;
use hwacha_proto::convert::ExchangeRead;

use super::output::Output;
use super::peers::Peers;
use super::store::local_store;

/// One producer of one input, with its address.
#[derive(Clone, Debug)]
pub(crate) struct BoundProducer {
    pub attempt: TaskId,
    pub executor: ExecutorId,
    pub address: String,
}

/// One input: its producers, the schema of its rows, and how the task reads it.
#[derive(Debug)]
pub(crate) struct BoundInput {
    pub producers: Vec<BoundProducer>,
    pub schema: SchemaRef,
    pub reading: Reading,
    /// For each producer, how many streams of it have not ended yet. At 0 it has been read whole.
    pub unread: Vec<AtomicUsize>,
}

/// Called with each producer that has been read whole.
pub(crate) type OnRead = Arc<dyn Fn(TaskId) + Send + Sync>;

/// The exchange as one wave of one attempt sees it.
#[derive(Clone)]
pub(crate) struct TaskReader {
    pub output: Arc<Output>,
    pub inputs: Arc<HashMap<StageId, BoundInput>>,
    pub peers: Arc<Peers>,
    pub on_read: OnRead,
    pub received_bytes: Arc<AtomicU64>,
    /// Whether rows are requested compressed if the network is slow.
    pub compress: bool,
    pub share: TaskShare,
    pub wave: usize,
    pub waves: usize,
}

impl std::fmt::Debug for TaskReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskReader").field("attempt", &self.output.attempt()).field("wave", &self.wave).finish()
    }
}

impl TaskExchange for TaskReader {
    fn share(&self) -> TaskShare {
        self.share
    }

    fn wave(&self) -> (usize, usize) {
        (self.wave, self.waves)
    }

    fn read_share(&self, stage: StageId, partition: usize, of: usize) -> Result<SendableRecordBatchStream> {
        let reading = &self.input(stage)?.reading;
        let slices = |producer| self.share.reads(reading, partition, of, producer).into_iter().map(Slice::whole);
        self.merged(stage, |producer| slices(producer).collect())
    }

    fn read(&self, stage: StageId) -> Result<SendableRecordBatchStream> {
        self.merged(stage, |_| iter::once(Slice::whole(0..1)).collect())
    }

    fn read_run(&self, stage: StageId, producer: usize, slice: Slice) -> Result<SendableRecordBatchStream> {
        let input = self.input(stage)?;
        let rows = match producer < input.producers.len() {
            true => self.stream(stage, producer, vec![slice]),
            false => stream::empty().boxed(),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&input.schema), rows)))
    }

    fn producers(&self, stage: StageId) -> Result<usize> {
        Ok(self.input(stage)?.producers.len())
    }

    fn ready(&self, partition: usize) -> BoxFuture<'_, ()> {
        self.output.ready(partition).boxed()
    }

    fn append(&self, partition: usize, batch: RecordBatch) -> Result<()> {
        self.output.append(partition, batch)
    }
}

impl TaskReader {
    fn input(&self, stage: StageId) -> Result<&BoundInput> {
        self.inputs.get(&stage).ok_or_else(|| internal_datafusion_err!("the task has no input from stage {stage}"))
    }

    /// The rows that `slices` selects from all producers, in the order in which they arrive.
    fn merged(&self, stage: StageId, slices: impl Fn(usize) -> Vec<Slice>) -> Result<SendableRecordBatchStream> {
        let input = self.input(stage)?;
        let streams: Vec<_> =
            (0..input.producers.len()).map(|producer| self.stream(stage, producer, slices(producer))).collect();
        let rows = stream::select_all(streams);
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&input.schema), rows)))
    }

    /// The rows of some slices of one producer. After the last row, the producer's count in `unread` falls by one.
    fn stream(&self, stage: StageId, index: usize, mut slices: Vec<Slice>) -> BoxStream<'static, Result<RecordBatch>> {
        slices.retain(|slice| !slice.batches.is_empty());
        let inputs = Arc::clone(&self.inputs);
        let producer = inputs[&stage].producers[index].clone();
        let attempt = producer.attempt;
        let rows = match local_store(producer.executor) {
            Some(store) => stream::once(async move {
                let output = store.find(attempt).await.ok_or_else(|| lost(attempt, "the executor does not have it"))?;
                Result::<_>::Ok(local_rows(output, slices))
            })
            .try_flatten()
            .boxed(),
            None => {
                let (peers, compress) = (Arc::clone(&self.peers), self.compress);
                let received = Arc::clone(&self.received_bytes);
                let read = move |slice| {
                    let (peers, producer, received) = (Arc::clone(&peers), producer.clone(), Arc::clone(&received));
                    remote_rows(peers, producer, slice, compress, received)
                };
                stream::iter(slices).then(read).try_flatten().boxed()
            }
        };
        let schema = Arc::clone(&inputs[&stage].schema);
        let rows = rows.map(move |batch| received(batch?, &schema));
        let on_read = Arc::clone(&self.on_read);
        let end = stream::once(async move {
            if inputs[&stage].unread[index].fetch_sub(1, Ordering::AcqRel) == 1 {
                on_read(attempt);
            }
            None
        });
        rows.map(Some).chain(end).filter_map(|row| async move { row }).boxed()
    }
}

/// The rows of some slices of an output in this process, one slice after the other.
pub(super) fn local_rows(output: Arc<Output>, slices: Vec<Slice>) -> BoxStream<'static, Result<RecordBatch>> {
    let partitions = |Slice { partitions, batches }| partitions.map(move |partition| (partition, batches.clone()));
    let rows = move |(partition, batches): (usize, Range<usize>)| {
        let end = batches.end;
        stream::try_unfold((Arc::clone(&output), batches.start), move |(output, position)| async move {
            if position >= end {
                return Ok(None);
            }
            match output.read(partition, position).await {
                Ok(batch) => Ok(batch.map(|batch| (batch, (output, position + 1)))),
                Err(error) => Err(lost(output.attempt(), error).into()),
            }
        })
    };
    stream::iter(slices.into_iter().flat_map(partitions)).flat_map(rows).boxed()
}

pub(super) async fn remote_rows(
    peers: Arc<Peers>,
    producer: BoundProducer,
    slice: Slice,
    compress: bool,
    received: Arc<AtomicU64>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let attempt = producer.attempt;
    let partitions = slice.partitions.start as u32..slice.partitions.end as u32;
    let batches = slice.batches.start as u64..slice.batches.end as u64;
    let peer = peers.peer(&producer.address).map_err(|error| lost(attempt, error))?;
    let compressed = compress && peer.is_slow();
    let read = ExchangeRead { executor: producer.executor, producer: attempt, partitions, batches, compressed };
    let messages = peer.read(read.to_ticket().into()).await.map_err(|status| lost(attempt, status.message()))?;
    let messages = messages.map_err(Into::into).inspect_ok(move |data| {
        let bytes = data.data_body.len() as u64;
        received.fetch_add(bytes, Ordering::Relaxed);
        peers.received(&peer, bytes);
    });
    Ok(FlightRecordBatchStream::new_from_flight_data(messages)
        .map_err(move |error| lost(attempt, error).into())
        .boxed())
}

fn lost(producer: TaskId, reason: impl ToString) -> ExchangeReadError {
    ExchangeReadError { producer, reason: reason.to_string() }
}

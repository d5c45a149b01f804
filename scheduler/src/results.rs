//! Reads a query's rows from the executors that hold them. Each row is delivered once, or the query fails.
//!
//! A result is repeatable if a second attempt of its task writes the same rows in the same order. A repeatable result
//! survives the loss of an executor even after rows were delivered: the next attempt is read from its beginning, and
//! the rows of each partition that were delivered are left out.
//!
//! ```text
//!   task 3, attempt 0, partition 1:  1000 rows delivered, executor lost
//!   task 3, attempt 1, partition 1:  1000 rows left out, the rest delivered
//! ```
//!
//! All other results are buffered here: the client gets a task's rows after the task's last row has arrived, or as
//! soon as the buffer exceeds 8 MiB or all buffers together exceed 256 MiB. While no row was delivered, a new attempt
//! can replace a lost one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use datafusion::common::runtime::SpawnedTask;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use hwacha_model::{Failure, FailureKind, TaskId, TaskIndex};
use hwacha_plan::{ResultOrder, ResultShape};
use hwacha_proto::MAX_MESSAGE_BYTES;
use hwacha_proto::convert::ExchangeRead;
use hwacha_scheduler_core::Event;
use tokio::sync::mpsc;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::error::Error;
use crate::event_loop::{EventLoopHandle, Input};
use crate::query::{EndedQuery, Phase, QueryTicket, ResultProducer, ResultSource};

/// Batches that wait in the scheduler for a slow client (4). The other rows wait at the executors.
const QUEUE: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Buffered bytes of one result before its rows are delivered (8 MiB: more than a person reads).
const HELD_BACK_BYTES: usize = 8 << 20;
/// Buffered bytes of all results together (256 MiB: 32 results of 8 MiB).
const ALL_HELD_BACK_BYTES: usize = 256 << 20;
/// Interval of HTTP/2 pings to an executor, and how long an answer may take (5 s). Then the connection counts as
/// broken.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long the reader waits for the last reports (500 ms: a stopped task sends none).
const REPORTS: Duration = Duration::from_millis(500);
const REPORTS_EVERY: Duration = Duration::from_millis(5);
/// Time after which a client that takes no batch has stalled (1 s).
const STALLED: Duration = Duration::from_secs(1);

/// A running query. Dropping the guard before the query has ended cancels the query.
#[derive(Debug)]
pub(crate) struct QueryGuard {
    event_loop: EventLoopHandle,
    ticket: QueryTicket,
    ended: bool,
}

impl QueryGuard {
    pub(crate) fn new(event_loop: EventLoopHandle, ticket: QueryTicket) -> Self {
        Self { event_loop, ticket, ended: false }
    }

    pub(crate) fn ticket(&self) -> &QueryTicket {
        &self.ticket
    }

    /// Waits for the query's end.
    async fn end(&mut self) -> Result<Arc<EndedQuery>, Error> {
        let ended = loop {
            if let Phase::Ended(outcome) = &*self.ticket.phase.borrow_and_update() {
                break outcome.clone();
            }
            if self.ticket.phase.changed().await.is_err() {
                return Err(Error::Stopping);
            }
        };
        self.ended = true;
        Ok(ended?)
    }
}

impl Drop for QueryGuard {
    fn drop(&mut self) {
        if !self.ended {
            let failure =
                Failure::new(FailureKind::Canceled, "the query was canceled: nobody reads its result any more");
            self.event_loop.cancel(self.ticket.query, failure);
        }
    }
}

/// The rows of a query as they come. Dropping the stream cancels the query.
pub(crate) fn rows(guard: QueryGuard) -> impl Stream<Item = Result<RecordBatch, Error>> + Send + use<> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reading = SpawnedTask::spawn(async move {
        let mut reader = Reader::new(guard, sender);
        let ended = reader.run().await;
        let Reader { guard, sender, .. } = reader;
        if let Err(error) = ended {
            // Cancels the query first, since sending the error may wait for a client that takes no rows.
            drop(guard);
            // Sending fails only if the client is gone.
            let _ = sender.send(Err(error)).await;
        }
    });
    // The rows also end if the reader has panicked. Then an error follows them, so the rows do not seem complete.
    let end = stream::once(reading.join()).filter_map(|ended| async move { ended.err().map(|_| Err(panicked())) });
    ReceiverStream::new(receiver).chain(end)
}

fn panicked() -> Error {
    Error::Failed(Failure::new(FailureKind::Internal, "the reader of the result panicked; this is a bug"))
}

/// Reads a query to its end, drops its rows, and returns its measurements.
pub(crate) async fn drain(guard: QueryGuard) -> Result<Arc<EndedQuery>, Error> {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    let mut reader = Reader::new(guard, sender);
    reader.waits_for_reports = true;
    let drop_rows = async {
        while receiver.recv().await.is_some() {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = reader.run() => ended,
        () = drop_rows => Err(Error::Stopping),
    }
}

struct Reader {
    guard: QueryGuard,
    sender: mpsc::Sender<Result<RecordBatch, Error>>,
    /// The streams of the last stage's attempts that are being read.
    streams: StreamMap<TaskId, BoxStream<'static, Received>>,
    /// Row counts delivered to the client, by task and partition. Only kept for repeatable results.
    delivered: BTreeMap<TaskIndex, Vec<usize>>,
    held_back: HeldBack,
    /// Attempts whose first rows have been delivered or are being delivered.
    begun: BTreeSet<TaskId>,
    /// Attempts that have been read to their end.
    read: BTreeSet<TaskId>,
    /// Attempts that have been reported lost.
    lost: BTreeSet<TaskId>,
    source: Option<Arc<ResultSource>>,
    /// Whether the reader waits for the measurements of all tasks before the query ends.
    waits_for_reports: bool,
}

impl Reader {
    fn new(guard: QueryGuard, sender: mpsc::Sender<Result<RecordBatch, Error>>) -> Self {
        Self {
            guard,
            sender,
            streams: StreamMap::new(),
            delivered: BTreeMap::new(),
            held_back: HeldBack::default(),
            begun: BTreeSet::new(),
            read: BTreeSet::new(),
            lost: BTreeSet::new(),
            source: None,
            waits_for_reports: false,
        }
    }

    async fn run(&mut self) -> Result<Arc<EndedQuery>, Error> {
        let mut phase = self.guard.ticket.phase.clone();
        phase.mark_changed();
        loop {
            tokio::select! {
                // The phase is polled first, so no rows of an attempt that is known to be replaced are delivered.
                biased;
                changed = phase.changed() => {
                    changed.map_err(|_| Error::Stopping)?;
                    let now = phase.borrow_and_update().clone();
                    match now {
                        Phase::Waiting => {}
                        Phase::Readable(source) => self.follow(source)?,
                        Phase::Ended(_) => return self.guard.end().await,
                    }
                }
                Some((attempt, row)) = self.streams.next(), if !self.streams.is_empty() => {
                    self.receive(attempt, row).await?;
                }
            }
        }
    }

    /// Starts to read new producers and stops reading replaced ones.
    fn follow(&mut self, source: Arc<ResultSource>) -> Result<(), Error> {
        let current: BTreeSet<_> = source.producers.iter().map(|producer| producer.attempt).collect();
        self.read.retain(|attempt| current.contains(attempt));
        if source.shape.order == ResultOrder::Repeatable {
            self.begun.retain(|attempt| current.contains(attempt));
        } else if !self.begun.is_subset(&current) {
            return Err(Error::Failed(Failure::new(
                FailureKind::Unavailable,
                "an executor was lost after part of the result had been delivered; submit the query again",
            )));
        }
        let replaced: Vec<_> = self.streams.keys().filter(|attempt| !current.contains(attempt)).copied().collect();
        for attempt in replaced {
            self.streams.remove(&attempt);
            self.held_back.forget(attempt);
        }
        self.source = Some(source);
        self.open_streams();
        Ok(())
    }

    /// Reads from all producers at once. If their order matters, reads only the first unread task, and only if all
    /// tasks before it have been placed.
    fn open_streams(&mut self) {
        let Some(source) = &self.source else { return };
        let ordered = source.shape.order == ResultOrder::ByTask;
        let at_once = if ordered { 1 } else { source.producers.len() };
        let in_order = source.producers.iter().zip(0..);
        let in_turn = in_order.take_while(|(producer, place)| !ordered || producer.attempt.task.0 == *place);
        let unread = in_turn.map(|(producer, _)| producer).filter(|producer| !self.read.contains(&producer.attempt));
        for producer in unread.take(at_once) {
            let attempt = producer.attempt;
            if !self.lost.contains(&attempt) && !self.streams.contains_key(&attempt) {
                let known = self.delivered.get(&attempt.task).cloned();
                let delivered = known.unwrap_or_else(|| vec![0; source.shape.partitions]);
                self.streams.insert(attempt, read(producer.clone(), source.shape, delivered));
            }
        }
    }

    async fn receive(&mut self, attempt: TaskId, received: Received) -> Result<(), Error> {
        match received {
            Received::Batch(partition, batch) => self.receive_batch(attempt, partition, batch).await,
            Received::End => {
                self.release(attempt).await?;
                self.read.insert(attempt);
                self.open_streams();
                let is_last = self.source.as_ref().is_some_and(|source| source.producers.len() == self.read.len());
                if self.waits_for_reports && is_last {
                    let _ = tokio::time::timeout(REPORTS, self.reports()).await;
                }
                self.tell(Event::ResultRead { attempt }).await
            }
            Received::Lost(status) => {
                tracing::info!(%attempt, reason = status.message(), "result lost");
                self.lost.insert(attempt);
                self.held_back.forget(attempt);
                self.tell(Event::ResultLost { attempt }).await
            }
            Received::Differs => Err(Error::Failed(Failure::new(
                FailureKind::Internal,
                format!(
                    "task {attempt} gave fewer rows than an attempt before it; this is a bug, submit the query again"
                ),
            ))),
        }
    }

    /// Waits until all tasks have reported. The rows of a task may be read before its report arrives.
    async fn reports(&mut self) -> Result<(), Error> {
        while let Some(progress) = self.guard.event_loop.progress(self.guard.ticket.query).await?
            && progress.finished_tasks < progress.tasks
        {
            tokio::time::sleep(REPORTS_EVERY).await;
        }
        Ok(())
    }

    async fn receive_batch(&mut self, attempt: TaskId, partition: usize, batch: RecordBatch) -> Result<(), Error> {
        let shape = self.source.as_ref().map(|source| source.shape);
        if let Some(ResultShape { order: ResultOrder::Repeatable, partitions }) = shape {
            let delivered = self.delivered.entry(attempt.task).or_insert_with(|| vec![0; partitions]);
            delivered[partition] += batch.num_rows();
            self.held_back.push(attempt, batch);
            return self.release(attempt).await;
        }
        self.held_back.push(attempt, batch);
        match self.begun.contains(&attempt) || self.held_back.is_much() {
            true => self.release(attempt).await,
            false => Ok(()),
        }
    }

    /// Delivers the buffered rows of an attempt to the client.
    async fn release(&mut self, attempt: TaskId) -> Result<(), Error> {
        while let Some(batch) = self.held_back.first(attempt) {
            if self.begun.insert(attempt) {
                self.tell(Event::ResultBegun { attempt }).await?;
            }
            self.deliver(batch).await?;
            self.held_back.pop(attempt);
        }
        Ok(())
    }

    /// Delivers a batch to the client. If the client takes nothing for `STALLED`, the machine is told that the query
    /// has stalled. If it takes nothing for `result_ttl` after that, the query is canceled.
    async fn deliver(&mut self, batch: RecordBatch) -> Result<(), Error> {
        let sender = self.sender.clone();
        let mut sending = pin!(sender.send(Ok(batch)));
        if let Ok(sent) = tokio::time::timeout(STALLED, &mut sending).await {
            return sent.map_err(|_| Error::Stopping);
        }
        self.tell(Event::ResultStalled { query: self.guard.ticket.query }).await?;
        let limit = self.guard.event_loop.result_ttl();
        match tokio::time::timeout(limit, sending).await {
            Ok(sent) => sent.map_err(|_| Error::Stopping),
            Err(_) => Err(Error::Failed(Failure::new(
                FailureKind::Canceled,
                format!(
                    "the query was canceled, because its client fetched no rows for {} s (--result-ttl); run the query \
                     again and fetch its rows without long pauses",
                    limit.as_secs()
                ),
            ))),
        }
    }

    async fn tell(&mut self, event: Event) -> Result<(), Error> {
        self.guard.event_loop.send(Input::Machine(event)).await
    }
}

/// Rows of a result that have arrived and are not delivered yet, by attempt.
#[derive(Default)]
struct HeldBack {
    batches: BTreeMap<TaskId, VecDeque<RecordBatch>>,
    bytes: usize,
}

/// Buffered bytes of all results.
static HELD_BACK: AtomicUsize = AtomicUsize::new(0);

impl HeldBack {
    fn push(&mut self, attempt: TaskId, batch: RecordBatch) {
        let bytes = batch.get_array_memory_size();
        self.bytes += bytes;
        HELD_BACK.fetch_add(bytes, Ordering::Relaxed);
        self.batches.entry(attempt).or_default().push_back(batch);
    }

    fn first(&self, attempt: TaskId) -> Option<RecordBatch> {
        self.batches.get(&attempt)?.front().cloned()
    }

    fn pop(&mut self, attempt: TaskId) {
        let batch = self.batches.get_mut(&attempt).and_then(VecDeque::pop_front);
        self.freed(batch);
    }

    fn forget(&mut self, attempt: TaskId) {
        let batches = self.batches.remove(&attempt);
        self.freed(batches.into_iter().flatten());
    }

    fn freed(&mut self, batches: impl IntoIterator<Item = RecordBatch>) {
        let bytes = batches.into_iter().map(|batch| batch.get_array_memory_size()).sum();
        self.bytes -= bytes;
        HELD_BACK.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether the buffer of this result or of all results exceeds its limit. Then its rows must be delivered.
    fn is_much(&self) -> bool {
        self.bytes > HELD_BACK_BYTES || HELD_BACK.load(Ordering::Relaxed) > ALL_HELD_BACK_BYTES
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        HELD_BACK.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One item from an attempt: first batches, then `End`, `Lost` or `Differs`.
enum Received {
    /// The number of a partition, and some of its rows.
    Batch(usize, RecordBatch),
    End,
    Lost(tonic::Status),
    /// The attempt ended with fewer rows than an earlier attempt had delivered.
    Differs,
}

/// Reads an attempt to its end and leaves out the first `delivered` rows of each partition.
fn read(producer: ResultProducer, shape: ResultShape, delivered: Vec<usize>) -> BoxStream<'static, Received> {
    // A repeatable result has a stream for each partition. Any other result has one stream, in which the executor
    // sends the partitions one after the other.
    let streams: Vec<Range<usize>> = match shape.order {
        ResultOrder::Repeatable => (0..shape.partitions).map(|partition| partition..partition + 1).collect(),
        ResultOrder::Any | ResultOrder::ByTask => std::iter::once(0..shape.partitions).collect(),
    };
    let rows = async move {
        let client = connect(&producer).await?;
        let streams = streams.into_iter().map(|partitions| {
            let left_out = delivered[partitions.start];
            rows_after(left_out, client.clone(), &producer, partitions)
        });
        Ok::<_, tonic::Status>(stream::select_all(streams))
    };
    stream::once(rows)
        .try_flatten()
        .chain(stream::once(async { Ok(Received::End) }))
        .scan(false, |lost, row| {
            // After a loss, `End` must not follow.
            let next = (!*lost).then(|| row.unwrap_or_else(Received::Lost));
            *lost = matches!(next, Some(Received::Lost(_)));
            std::future::ready(next)
        })
        .boxed()
}

/// The rows of some partitions without the first `left_out` rows. Ends with `Differs` if there are fewer than
/// `left_out` rows.
fn rows_after(
    mut left_out: usize,
    client: FlightServiceClient<Channel>,
    producer: &ResultProducer,
    partitions: Range<usize>,
) -> BoxStream<'static, Result<Received, tonic::Status>> {
    let first = partitions.start;
    let batches = stream::once(open(client, producer.clone(), partitions)).try_flatten().map_ok(Some);
    let mut rest = move |batch: Option<RecordBatch>| match batch {
        Some(batch) => {
            let rows = batch.num_rows().min(left_out);
            left_out -= rows;
            (rows < batch.num_rows()).then(|| Received::Batch(first, batch.slice(rows, batch.num_rows() - rows)))
        }
        None => (left_out > 0).then_some(Received::Differs),
    };
    let end = stream::once(async { Ok(None) });
    batches.chain(end).try_filter_map(move |batch| std::future::ready(Ok(rest(batch)))).boxed()
}

async fn connect(producer: &ResultProducer) -> Result<FlightServiceClient<Channel>, tonic::Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", producer.address))
        .map_err(|error| tonic::Status::internal(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    // The timeout of the endpoint does not cover the resolution of the name.
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
    let connected =
        connected.map_err(|_| tonic::Status::unavailable(format!("{} does not answer", producer.address)))?;
    let channel = connected.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    Ok(FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

async fn open(
    mut client: FlightServiceClient<Channel>,
    producer: ResultProducer,
    partitions: Range<usize>,
) -> Result<BoxStream<'static, Result<RecordBatch, tonic::Status>>, tonic::Status> {
    let read = ExchangeRead {
        executor: producer.executor,
        producer: producer.attempt,
        partitions: partitions.start as u32..partitions.end as u32,
        batches: 0..u64::MAX,
        compressed: false,
    };
    let messages = client.do_get(Ticket::new(read.to_ticket())).await?.into_inner();
    Ok(FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into)).map_err(tonic::Status::from).boxed())
}

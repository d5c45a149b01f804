//! The control service for executors: translates the messages of an executor's connection into events.

use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::runtime::SpawnedTask;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use hwacha_model::{ExecutorId, Failure, TaskId, TaskStats};
use hwacha_plan::explain::TaskMetrics;
use hwacha_proto::control::control_server::Control;
use hwacha_proto::control::executor_message::Message as Up;
use hwacha_proto::control::report::Outcome;
use hwacha_proto::control::scheduler_message::Message as Down;
use hwacha_proto::control::{self, ExecutorMessage, SchedulerMessage};
use hwacha_scheduler_core::Event;
use hwacha_storage::StorageConfig;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::event_loop::{EventLoopHandle, Input};
use crate::flight_sql::Peer;

/// Commands that wait for one executor (1,024). If there are more, the event loop closes the connection.
const QUEUE: usize = 1024;
/// Maximum cores of one executor (1,024: a task has one partition per core).
const MAX_CORES: u32 = 1024;
/// Maximum tasks that one executor runs at once (65,536).
const MAX_SLOTS: u32 = 65_536;

/// The control service of the scheduler.
#[derive(Debug)]
pub(crate) struct ControlService {
    event_loop: EventLoopHandle,
    /// The build that executors must have.
    build: String,
    /// The storage configuration, which executors get when they register.
    storage: StorageConfig,
    connections: AtomicU64,
}

impl ControlService {
    pub(crate) fn new(event_loop: EventLoopHandle, build: String, storage: StorageConfig) -> Self {
        Self { event_loop, build, storage, connections: AtomicU64::new(0) }
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type AttachStream = BoxStream<'static, Result<SchedulerMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<ExecutorMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let is_private = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_on_this_machine);
        let mut messages = request.into_inner();
        let register = registration(messages.message().await?, &self.build)?;
        let (executor, address) = (ExecutorId(register.executor), register.address.clone());
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (commands, receiver) = mpsc::channel(QUEUE);
        // Only the event loop holds a strong sender, so it can end the stream.
        let weak = commands.downgrade();
        self.event_loop.send(Input::Attach { register, connection, commands }).await?;
        let receive = Connection { event_loop: self.event_loop.clone(), executor, connection, commands: weak };
        // The stream of the response owns the receiving task. tonic drops the stream when the connection breaks, and
        // the task ends with it.
        let receiving = SpawnedTask::spawn(receive.run(messages));
        let storage = self.sections(&address, is_private);
        let commands = owning(ReceiverStream::new(receiver), receiving);
        Ok(Response::new(commands.map(move |command| Ok(with_storage(command, &storage, is_private))).boxed()))
    }
}

impl ControlService {
    /// The storage sections for an executor at `address`. They have secrets only if the executor is on this machine
    /// (`is_private`).
    fn sections(&self, address: &str, is_private: bool) -> Vec<control::StorageSection> {
        if !is_private && self.storage.has_secrets() {
            tracing::warn!(
                executor = address,
                "the secrets of [storage] are not sent, since the connection is not encrypted; give the executor the \
                 variables or files that the sections name"
            );
        }
        let section = |(location, settings)| control::StorageSection { location, settings };
        self.storage.to_wire(is_private).into_iter().map(section).collect()
    }
}

/// `command`, with the storage sections if it is `Registered`. Stores of tables are left out of a `Launch` unless the
/// connection stays on this machine (`is_private`), since they have secrets.
fn with_storage(command: SchedulerMessage, storage: &[control::StorageSection], is_private: bool) -> SchedulerMessage {
    match command.message {
        Some(Down::Registered(registered)) => {
            let registered = control::Registered { storage: storage.to_vec(), ..registered };
            SchedulerMessage { message: Some(Down::Registered(registered)) }
        }
        Some(Down::Launch(launch)) if !is_private && !launch.stores.is_empty() => {
            tracing::warn!(
                query = launch.query,
                "the options of tables about their stores are not sent, since the connection is not encrypted; describe \
                 the store in a [storage] section"
            );
            SchedulerMessage { message: Some(Down::Launch(control::Launch { stores: vec![], ..launch })) }
        }
        message => SchedulerMessage { message },
    }
}

fn registration(message: Option<ExecutorMessage>, build: &str) -> Result<control::Register, Status> {
    let Some(ExecutorMessage { message: Some(Up::Register(register)) }) = message else {
        return Err(Status::invalid_argument("the first message of an executor must register it"));
    };
    if register.build != build {
        return Err(Status::failed_precondition(format!(
            "its build is {}, but the build of the scheduler is {build}; run the same build on all machines",
            register.build
        )));
    }
    let limits = [("cores", register.cores, MAX_CORES), ("slots", register.slots, MAX_SLOTS)];
    match limits.iter().find(|(_, offered, most)| offered > most) {
        Some((what, offered, most)) => Err(Status::failed_precondition(format!(
            "it offers {offered} {what}, and the limit is {most}; start several executors with fewer {what} each"
        ))),
        None => Ok(register),
    }
}

/// A stream that keeps `owned` alive until the stream is dropped.
fn owning<T>(stream: impl Stream<Item = T>, owned: impl Send) -> impl Stream<Item = T> {
    stream.map(move |item| {
        let _ = &owned;
        item
    })
}

/// One executor's connection, seen from the receiving side.
struct Connection {
    event_loop: EventLoopHandle,
    executor: ExecutorId,
    connection: u64,
    commands: mpsc::WeakSender<SchedulerMessage>,
}

impl Connection {
    async fn run(self, mut messages: Streaming<ExecutorMessage>) {
        while let Ok(Some(message)) = messages.try_next().await {
            let Some(message) = message.message else { continue };
            if self.receive(message).await.is_err() {
                return;
            }
        }
    }

    async fn receive(&self, message: Up) -> Result<(), crate::error::Error> {
        let executor = self.executor;
        match message {
            // `attach` has handled the `Register` that opened the connection. Any later one is ignored.
            Up::Register(_) => Ok(()),
            Up::Heartbeat(heartbeat) => {
                let known = heartbeat.known.into_iter().map(TaskId::from).collect();
                let blocked_slots = heartbeat.blocked_slots;
                self.event_loop.send(Input::Machine(Event::Heartbeat { executor, known, blocked_slots })).await
            }
            Up::Drain(_) => self.event_loop.send(Input::Machine(Event::ExecutorDraining { executor })).await,
            Up::Reports(reports) => {
                let mut numbers = vec![];
                for report in reports.reports {
                    numbers.push(report.number);
                    self.report(report).await?;
                }
                let acknowledge = Down::Acknowledge(control::Acknowledge { numbers });
                // An executor that gets no acknowledgment sends its reports again.
                if let Some(commands) = self.commands.upgrade() {
                    let _ = commands.try_send(SchedulerMessage { message: Some(acknowledge) });
                }
                Ok(())
            }
        }
    }

    async fn report(&self, report: control::Report) -> Result<(), crate::error::Error> {
        let executor = self.executor;
        let (Some(attempt), Some(outcome)) = (report.attempt.map(TaskId::from), report.outcome) else {
            return Ok(());
        };
        let event = match outcome {
            Outcome::Started(_) => Event::Started { executor, attempt },
            Outcome::InputRead(read) => match read.producer {
                Some(producer) => Event::InputRead { executor, attempt, producer: producer.into() },
                None => return Ok(()),
            },
            Outcome::Finished(finished) => {
                let stats = TaskStats::from(finished.stats.unwrap_or_default());
                let metrics = TaskMetrics {
                    stats: stats.clone(),
                    elapsed_nanos: finished.elapsed_nanos,
                    operators: finished.operators,
                };
                self.event_loop.send(Input::Metrics { attempt, metrics }).await?;
                if !finished.filters.is_empty() {
                    self.event_loop.add_filters(attempt, finished.filters).await?;
                }
                Event::Finished { executor, attempt, stats }
            }
            Outcome::Failed(failure) => match Failure::try_from(failure) {
                Ok(failure) => Event::Failed { executor, attempt, failure },
                Err(_) => return Ok(()),
            },
        };
        self.event_loop.send(Input::Machine(event)).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.event_loop.detach(self.executor, self.connection);
    }
}
